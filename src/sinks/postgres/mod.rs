//! PostgreSQL, and what is built on it: a row for each record of a stream, in a table that its users have made.
//!
//! A request is one statement, which is a transaction of its own: all of its rows are there, or none. What is repeated meets the identity of
//! its first time, `(gateway, run, position)`, by a unique index that the table must have, and adds nothing; so a reply that is lost, and a kill
//! on either side, cost a repeat on the way and no row.
//!
//! Where the server refuses a statement for what is in a row, halves of it are tried, down to single records; within one the delivery looks on.
//! The server is asked what the table has whenever a connection is made, once a minute, and before a refusal is believed; so a table may be
//! changed at any time.
//!
//! A connection is back in its place only when a statement has been answered in full: whatever becomes of a request in between, also that
//! nobody waits for it any more, no other one gets to hear its answer.

mod connection;
mod halving;
mod insertion;
mod login;
mod message;
mod outcome;
mod rows;
pub mod sink;
mod table;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod url;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::core::delivery::{Outcome, OutgoingRecord, Reply, RetryReason};
use crate::sinks::Sink;
use crate::sinks::status::ForwardStatus;
use connection::{Access, Connection};
use halving::{Halving, Outcomes};
use insertion::{Insertion, STATEMENTS};
use outcome::Verdict;
use table::{Server, Table, TableName};

/// A column that somebody adds is filled after so long at the latest.
const LOOK_PERIOD: Duration = Duration::from_secs(60);
/// The same words are not said more often.
const SAY_PERIOD: Duration = Duration::from_secs(600);

/// One table.
pub struct PostgresSink {
    /// Never contended: one request is under way at a time.
    session: Mutex<Session>,
}

/// Where records go.
pub struct PostgresTarget {
    pub sink: String,
    /// The stream that they are of.
    pub stream: Arc<str>,
    pub table: TableName,
    pub status: Arc<ForwardStatus>,
}

struct Session {
    access: Access,
    target: PostgresTarget,
    /// Nothing is under way on it.
    open: Option<Open>,
    look_period: Duration,
    /// What was said last of rows that wait, and when.
    said: Option<(String, Instant)>,
    /// What the log was told of the table last.
    warned: Vec<(String, &'static str)>,
}

/// A connection whose table is known.
struct Open {
    connection: Connection,
    insertion: Insertion,
    looked_at: Instant,
}

impl PostgresSink {
    /// Connects with the first request.
    pub fn new(access: Access, target: PostgresTarget) -> PostgresSink {
        let session = Session { access, target, open: None, look_period: LOOK_PERIOD, said: None, warned: Vec::new() };
        PostgresSink { session: Mutex::new(session) }
    }
}

impl Sink for PostgresSink {
    async fn send(&self, records: Vec<OutgoingRecord>) -> Reply {
        self.session.lock().await.send(&records).await
    }
}

/// What there is at the other end.
pub struct Found {
    pub server: Server,
    pub table: Table,
    pub insertion: Insertion,
}

impl Found {
    /// What may cost rows although the table takes them, each with what to do about it.
    pub fn warnings(&self) -> Vec<(String, &'static str)> {
        let Found { server, table, .. } = self;
        let mut warnings = Vec::new();
        if table.is_unlogged {
            warnings
                .push(("it is UNLOGGED, so a crash of the server empties it".to_owned(), "ALTER TABLE ... SET LOGGED"));
        }
        if !server.is_synced {
            warnings.push((
                "the server has fsync = off, so a crash may lose what it has taken".to_owned(),
                "set fsync = on in postgresql.conf",
            ));
        }
        warnings.extend(table.triggers.iter().map(|trigger| {
            let text = format!(
                "its trigger {trigger} may change, move or leave out a row before it is inserted, and a repeat of it"
            );
            (text, "let the trigger be AFTER INSERT, or be sure that it returns the row to this table")
        }));
        warnings
    }
}

/// Connects, and looks whether the table can take the records of a stream. Nothing is written.
pub async fn look(access: &Access, stream: &str, table: &TableName) -> Result<(Connection, Found), Outcome> {
    let mut connection = Connection::open(access).await?;
    let found = look_by(&mut connection, access, stream, table).await?;
    Ok((connection, found))
}

async fn look_by(
    connection: &mut Connection,
    access: &Access,
    stream: &str,
    table: &TableName,
) -> Result<Found, Outcome> {
    let questions = table::questions(table, access.statement_timeout_ms());
    let rows = connection.query(&questions, &format!("the table {table} cannot be looked at")).await?;
    let (server, found) = table::answers(&rows);
    if server.is_standby {
        let reason = format!("{} follows another server, and takes nothing itself", access.place);
        return Err(Outcome::Later { reason, after_us: None });
    }
    let database = &access.place.database;
    let Some(found) = found else {
        return Err(Outcome::Halt(format!("the database {database} has no table {table}; {STATEMENTS}")));
    };
    let insertion = Insertion::of(table, stream, &found).map_err(|problems| {
        Outcome::Halt(format!(
            "the table {table} cannot take the stream {stream}: {}; {STATEMENTS}",
            problems.join("; ")
        ))
    })?;
    Ok(Found { server, table: found, insertion })
}

impl Session {
    async fn send(&mut self, records: &[OutgoingRecord]) -> Reply {
        let mut is_looked_at = match self.prepare().await {
            Ok(is_looked_at) => is_looked_at,
            Err(outcome) => return Reply::whole(outcome, records.len()),
        };
        let mut halving = Halving::new(records.len());
        while let Some(range) = halving.next() {
            let mut verdict = self.insert(&records[range.clone()]).await;
            // Of a table that is another one by now, this says nothing about rows.
            if matches!(verdict, Verdict::Row(Outcome::Reject(_) | Outcome::Halt(_))) && !is_looked_at {
                is_looked_at = true;
                let reason = format!("the table {} was changed meanwhile", self.target.table);
                match self.is_as_it_was().await {
                    Ok(true) => {}
                    Ok(false) => verdict = Verdict::Whole(Outcome::Later { reason, after_us: None }),
                    Err(outcome) => verdict = Verdict::Whole(outcome),
                }
            }
            halving.answered(range, verdict);
        }
        let outcomes = halving.done();
        self.tell_of_waiting(&outcomes);
        outcomes.reply()
    }

    /// Whether the table was looked at just now.
    async fn prepare(&mut self) -> Result<bool, Outcome> {
        if self.open.as_mut().is_some_and(|open| !open.connection.is_alive()) {
            self.open = None;
        }
        let is_due = self.open.as_ref().is_some_and(|open| open.looked_at.elapsed() >= self.look_period);
        if is_due && self.is_as_it_was().await? {
            return Ok(true);
        }
        if self.open.is_some() {
            return Ok(false);
        }
        let (connection, found) = look(&self.access, &self.target.stream, &self.target.table).await?;
        self.warn(&found);
        self.open = Some(Open { connection, insertion: found.insertion, looked_at: Instant::now() });
        Ok(true)
    }

    /// Tells the log what may cost rows, once and when it is another thing: nobody may have asked `doctor`.
    fn warn(&mut self, found: &Found) {
        let warnings = found.warnings();
        if self.warned == warnings {
            return;
        }
        let PostgresTarget { sink, stream, table, .. } = &self.target;
        for (warning, remedy) in &warnings {
            tracing::warn!(sink, stream = &**stream, table = %table, remedy, "{warning}");
        }
        self.warned = warnings;
    }

    /// Looks again. If rows are to be inserted in another way now, that is for another connection.
    async fn is_as_it_was(&mut self) -> Result<bool, Outcome> {
        let Some(mut open) = self.open.take() else { return Ok(false) };
        let PostgresTarget { stream, table, .. } = &self.target;
        let found = look_by(&mut open.connection, &self.access, stream, table).await?;
        self.warn(&found);
        let is_same = found.insertion == open.insertion;
        if is_same {
            self.open = Some(Open { looked_at: Instant::now(), ..open });
        }
        Ok(is_same)
    }

    async fn insert(&mut self, records: &[OutgoingRecord]) -> Verdict {
        let Some(mut open) = self.open.take() else {
            return Verdict::Whole(Outcome::Retry(RetryReason::Connection));
        };
        let lines = records.iter().flat_map(|record| record.data.split_inclusive(|byte| *byte == b'\n'));
        let arrays = rows::arrays(lines, &open.insertion.columns, &self.target.stream);
        let what = format!("the table {} refuses rows", self.target.table);
        let (verdict, bytes) = open.connection.insert(&open.insertion.sql, arrays, &what).await;
        self.target.status.sent_bytes.add(bytes as u64);
        if !matches!(verdict, Verdict::Whole(_)) {
            self.open = Some(open);
        }
        verdict
    }

    /// The status names the keys that wait while others are taken, and not why they do.
    fn tell_of_waiting(&mut self, outcomes: &Outcomes) {
        let Some(reason) = outcomes.reason_of_waiting() else { return };
        let is_said = |(said, at): &(String, Instant)| said == reason && at.elapsed() < SAY_PERIOD;
        if !self.said.as_ref().is_some_and(is_said) {
            let (sink, stream) = (&*self.target.sink, &*self.target.stream);
            tracing::warn!(sink, stream, reason, "some devices wait, each by itself");
            self.said = Some((reason.to_owned(), Instant::now()));
        }
    }
}
