//! PostgreSQL, and what is built on it: a row for each record of a stream, in a table that its users have made.
//!
//! A request is one statement, which is a transaction of its own: all of its rows are there, or none. What is repeated meets the identity of
//! its first time, `(gateway, run, position)`, by a unique index that the table must have, and adds nothing; so a reply that is lost, and a kill
//! on either side, cost a repeat on the way and no row.
//!
//! Where the server refuses a statement for what is in a row, halves of it are tried, down to single records; within one the delivery looks on.
//! The server is asked what the table has whenever a connection is made, and a connection is given up with every failure that is no row's
//! fault, so a table may be changed at any time.

mod connection;
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

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::core::delivery::{Outcome, OutgoingRecord, Reply, RetryReason, Scope};
use crate::sinks::Sink;
use crate::sinks::status::ForwardStatus;
use connection::{Access, Connection};
use insertion::{Insertion, STATEMENTS};
use outcome::Verdict;
use table::{Server, Table, TableName};

/// When so many records were refused one by one, and none was taken, it is not the fault of each.
const REFUSED_MAX: usize = 8;

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
    open: Option<Open>,
    /// What was said last of rows that wait.
    said: Option<String>,
}

/// A connection whose table is known.
struct Open {
    connection: Connection,
    insertion: Insertion,
    /// Nothing was inserted since the table was looked at.
    is_fresh: bool,
}

impl PostgresSink {
    /// Connects with the first request.
    pub fn new(access: Access, target: PostgresTarget) -> PostgresSink {
        PostgresSink { session: Mutex::new(Session { access, target, open: None, said: None }) }
    }
}

impl Sink for PostgresSink {
    async fn send(&self, records: Vec<OutgoingRecord>) -> Reply {
        self.session.lock().await.send(&records).await
    }
}

/// What there is at the other end.
pub struct Found {
    pub connection: Connection,
    pub server: Server,
    pub table: Table,
    pub insertion: Insertion,
}

/// Connects, and looks whether the table can take the records of a stream. Nothing is written.
pub async fn look(access: &Access, stream: &str, table: &TableName) -> Result<Found, Outcome> {
    let mut connection = Connection::open(access).await?;
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
    Ok(Found { connection, server, table: found, insertion })
}

impl Session {
    async fn send(&mut self, records: &[OutgoingRecord]) -> Reply {
        let outcomes = match self.prepare().await {
            Ok(()) => self.insert_all(records).await,
            Err(outcome) => return Reply::whole(outcome, records.len()),
        };
        let reply = reply(outcomes);
        self.tell_of_waiting(&reply);
        Reply { outcomes: reply.outcomes.into_iter().map(without_words(reply.scope)).collect(), ..reply }
    }

    async fn prepare(&mut self) -> Result<(), Outcome> {
        if self.open.as_mut().is_some_and(|open| !open.connection.is_alive()) {
            self.open = None;
        }
        if self.open.is_none() {
            let found = look(&self.access, &self.target.stream, &self.target.table).await?;
            self.open = Some(Open { connection: found.connection, insertion: found.insertion, is_fresh: true });
        }
        Ok(())
    }

    /// At once, and in halves what is refused for a row, until each record has an outcome.
    async fn insert_all(&mut self, records: &[OutgoingRecord]) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; records.len()];
        let everything = 0..records.len();
        let mut work: Vec<Range<usize>> = vec![everything];
        let (mut refused, mut is_any_stored) = (0, false);
        while let Some(range) = work.pop() {
            let outcome = match self.insert(&records[range.clone()]).await {
                Verdict::Stored => {
                    is_any_stored = true;
                    Outcome::Accepted { shard: None }
                }
                Verdict::Row(_) | Verdict::Lacking(_) if range.len() > 1 => {
                    let middle = range.start + range.len() / 2;
                    work.push(middle..range.end);
                    work.push(range.start..middle);
                    continue;
                }
                Verdict::Row(outcome) | Verdict::Lacking(outcome) => {
                    refused += 1;
                    if refused == REFUSED_MAX && !is_any_stored {
                        return vec![outcome; records.len()];
                    }
                    outcome
                }
                Verdict::Whole(outcome) => {
                    self.open = None;
                    let left = work.drain(..).chain([range]).flatten();
                    left.for_each(|at| outcomes[at] = Some(outcome.clone()));
                    continue;
                }
            };
            outcomes[range].fill(Some(outcome));
        }
        outcomes.into_iter().map(|outcome| outcome.expect("every record was in one range")).collect()
    }

    async fn insert(&mut self, records: &[OutgoingRecord]) -> Verdict {
        let Some(Open { connection, insertion, is_fresh }) = &mut self.open else {
            return Verdict::Whole(Outcome::Retry(RetryReason::Connection));
        };
        let lines = records.iter().flat_map(|record| record.data.split_inclusive(|byte| *byte == b'\n'));
        let arrays = rows::arrays(lines, &insertion.columns, &self.target.stream);
        let what = format!("the table {} refuses rows", self.target.table);
        let (verdict, bytes) = connection.insert(&insertion.sql, &arrays, &what).await;
        self.target.status.sent_bytes.add(bytes as u64);
        match verdict {
            Verdict::Lacking(outcome) if *is_fresh => Verdict::Row(outcome),
            Verdict::Lacking(Outcome::Reject(reason)) => Verdict::Whole(Outcome::Later { reason, after_us: None }),
            verdict => {
                *is_fresh &= verdict != Verdict::Stored;
                verdict
            }
        }
    }

    /// The status names the keys that wait while others are taken, and not why they do.
    fn tell_of_waiting(&mut self, reply: &Reply) {
        let reason = reply.outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Later { reason, .. } if reply.scope == Scope::Records => Some(reason),
            _ => None,
        });
        if let Some(reason) = reason
            && self.said.as_ref() != Some(reason)
        {
            let (sink, stream) = (&*self.target.sink, &*self.target.stream);
            tracing::warn!(sink, stream, reason, "some devices wait, and others go on");
            self.said = Some(reason.clone());
        }
    }
}

/// What the delivery hears. A refusal is to be believed if something was taken beside it, or if it was of everything.
fn reply(outcomes: Vec<Outcome>) -> Reply {
    if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Accepted { .. })) {
        return match outcomes.iter().all(|outcome| matches!(outcome, Outcome::Accepted { .. })) {
            true => Reply::whole(Outcome::Accepted { shard: None }, outcomes.len()),
            false => Reply { scope: Scope::Records, outcomes, passed_over: 0 },
        };
    }
    let is_failure = |outcome: &&Outcome| !matches!(outcome, Outcome::Reject(_));
    let outcome = outcomes.iter().find(is_failure).or(outcomes.first());
    Reply::whole(outcome.cloned().unwrap_or(Outcome::Retry(RetryReason::Internal)), outcomes.len())
}

/// A row that waits is no sign that the server has too much to do, as which the words would be taken.
fn without_words(scope: Scope) -> impl Fn(Outcome) -> Outcome {
    move |outcome| match outcome {
        Outcome::Later { .. } if scope == Scope::Records => Outcome::Retry(RetryReason::Internal),
        outcome => outcome,
    }
}
