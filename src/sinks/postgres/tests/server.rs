//! A server that speaks the protocol, and keeps rows in memory by their identity. It fails as it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::sinks::postgres::url::Place;

/// The columns of its table, in the order of a statement's parameters.
type Column = (&'static str, &'static str, &'static str);
const COLUMNS: [Column; 7] = [
    ("gateway", "25", "S"),
    ("run", "25", "S"),
    ("position", "20", "N"),
    ("device", "25", "S"),
    ("metric", "25", "S"),
    ("value", "701", "N"),
    ("measured_at", "1184", "D"),
];

/// What happens to the next statement that inserts.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The connection ends before the rows are there.
    Cut,
    /// They are there, and the connection ends.
    CutWhenStored,
    /// The server says this, and closes the connection.
    Fatal(&'static str),
    /// The server says this.
    Error(&'static str),
    /// No answer.
    Hang,
    /// The rows are there, and the answer is, when somebody lets it go.
    Late,
}

#[derive(Default)]
pub struct State {
    /// By identity, how often a statement has tried to insert the row.
    pub rows: BTreeMap<Vec<Option<String>>, usize>,
    pub faults: VecDeque<Fault>,
    pub has_no_table: bool,
    pub is_standby: bool,
    /// By device, the code with which its rows are refused.
    pub refused: BTreeMap<&'static str, &'static str>,
    /// Columns that somebody has added: as the catalog has them, and whether they are NOT NULL.
    pub added: Vec<(Column, bool)>,
    /// Of those that come before a row.
    pub triggers: Vec<&'static str>,
    /// An answer to what is asked about the table that never ends.
    pub is_endless: bool,
    pub connections: usize,
    pub statements: usize,
    /// Lets late answers go.
    pub release: Arc<tokio::sync::Notify>,
}

pub struct Server {
    pub state: Arc<Mutex<State>>,
    pub place: Place,
}

impl Server {
    pub async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                // A connection that breaks is the client's affair.
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Server { state, place: Place::parse(&format!("postgres://u@127.0.0.1:{port}/d")).unwrap() }
    }

    pub fn fail(&self, fault: Fault) {
        self.state.lock().unwrap().faults.push_back(fault);
    }

    /// Positions that are there, and how often each was brought.
    pub fn positions(&self) -> BTreeMap<u64, usize> {
        let state = self.state.lock().unwrap();
        state.rows.iter().map(|(row, times)| (row[2].as_ref().unwrap().parse().unwrap(), *times)).collect()
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) -> Option<()> {
    let length = stream.read_u32().await.ok()? as usize;
    stream.read_exact(&mut vec![0; length - 4]).await.ok()?;
    let mut out = Vec::new();
    say(&mut out, b'R', &[0; 4]);
    say(&mut out, b'Z', b"I");
    stream.write_all(&out).await.ok()?;
    let mut bound = Vec::new();
    loop {
        let tag = stream.read_u8().await.ok()?;
        let mut body = vec![0; stream.read_u32().await.ok()? as usize - 4];
        stream.read_exact(&mut body).await.ok()?;
        let mut out = Vec::new();
        match tag {
            b'Q' if state.lock().unwrap().is_endless => loop {
                out.clear();
                row(&mut out, &["x".repeat(1 << 16).as_str()]);
                stream.write_all(&out).await.ok()?;
            },
            b'Q' => describe(&mut out, &state.lock().unwrap()),
            b'P' => say(&mut out, b'1', b""),
            b'B' => bound = rows_of(&body),
            b'S' => {
                let fault = state.lock().unwrap().faults.pop_front();
                match fault {
                    Some(Fault::Cut) => return None,
                    Some(Fault::Hang) => std::future::pending().await,
                    Some(Fault::Fatal(code)) => {
                        error(&mut out, code);
                        let _ = stream.write_all(&out).await;
                        return None;
                    }
                    Some(Fault::Error(code)) => error(&mut out, code),
                    Some(Fault::Late) => {
                        let release = Arc::clone(&state.lock().unwrap().release);
                        release.notified().await;
                        insert(&mut out, &mut state.lock().unwrap(), &bound);
                    }
                    Some(Fault::CutWhenStored) | None => insert(&mut out, &mut state.lock().unwrap(), &bound),
                }
                if matches!(fault, Some(Fault::CutWhenStored)) {
                    return None;
                }
                say(&mut out, b'Z', b"I");
            }
            _ => {}
        }
        stream.write_all(&out).await.ok()?;
    }
}

fn insert(out: &mut Vec<u8>, state: &mut State, rows: &[Vec<Option<String>>]) {
    state.statements += 1;
    let code = rows.iter().find_map(|row| state.refused.get(row[3].as_deref()?).copied());
    match code {
        Some(code) => error(out, code),
        None => {
            rows.iter().for_each(|row| *state.rows.entry(row.clone()).or_default() += 1);
            say(out, b'C', b"INSERT 0 1\0");
        }
    }
}

fn describe(out: &mut Vec<u8>, state: &State) {
    row(out, &["server", "18.1", if state.is_standby { "t" } else { "f" }, "on"]);
    if !state.has_no_table {
        row(out, &["table", "r", "p"]);
        let added = state.added.iter().copied();
        for ((name, number, category), is_not_null) in COLUMNS.map(|column| (column, false)).into_iter().chain(added) {
            let is_not_null = if is_not_null { "t" } else { "f" };
            row(out, &["column", name, number, category, "it", is_not_null, "f", "f", "t", "t"]);
        }
        for name in ["gateway", "run", "position"] {
            row(out, &["unique", "1", name]);
        }
        state.triggers.iter().for_each(|name| row(out, &["trigger", name]));
    }
    say(out, b'Z', b"I");
}

fn row(out: &mut Vec<u8>, values: &[&str]) {
    let mut body = (values.len() as i16).to_be_bytes().to_vec();
    for value in values {
        body.extend((value.len() as i32).to_be_bytes());
        body.extend(value.as_bytes());
    }
    say(out, b'D', &body);
}

fn error(out: &mut Vec<u8>, code: &str) {
    say(out, b'E', format!("SERROR\0C{code}\0Mno\0\0").as_bytes());
}

fn say(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
}

/// The arrays of a statement, as rows.
fn rows_of(body: &[u8]) -> Vec<Vec<Option<String>>> {
    let names = body.iter().enumerate().filter(|(_, byte)| **byte == 0).nth(1).unwrap().0 + 1;
    let number = |at: usize| i32::from_be_bytes(body[at..at + 4].try_into().unwrap());
    let columns = usize::from(u16::from_be_bytes(body[names + 4..names + 6].try_into().unwrap()));
    let mut at = names + 6;
    let mut rows: Vec<Vec<Option<String>>> = Vec::new();
    for _ in 0..columns {
        let end = at + 4 + number(at) as usize;
        rows.resize(number(at + 16) as usize, Vec::new());
        at += 24;
        for row in &mut rows {
            let length = number(at);
            at += 4;
            let bytes = usize::try_from(length).ok().map(|length| &body[at..at + length]);
            row.push(bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()));
            at += bytes.map_or(0, <[u8]>::len);
        }
        assert_eq!(at, end);
    }
    rows
}
