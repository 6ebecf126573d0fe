//! No statement of a commit is prepared again: SQLite does so in silence, and it costs more than to execute the statement.

use std::ffi::{CStr, c_int};

use rusqlite::config::DbConfig;
use rusqlite::ffi;

use super::*;
use crate::core::cursor::CursorState;
use crate::core::pipeline::{Pipeline, PipelineSettings};
use crate::core::reading::{Reading, Readings};
use crate::store::cursors::CursorChange;
use crate::store::retention::Capacity;

const RUN: RunId = RunId([7; 8]);

/// The statements that are kept, and how often each was prepared again.
fn prepared_again(writer: &Writer) -> Vec<(String, c_int)> {
    let mut found = Vec::new();
    // SAFETY: the connection is open, and no statement is finalized while its list is walked.
    unsafe {
        let db = writer.connection().handle();
        let mut statement = ffi::sqlite3_next_stmt(db, std::ptr::null_mut());
        while !statement.is_null() {
            let sql = CStr::from_ptr(ffi::sqlite3_sql(statement)).to_string_lossy().into_owned();
            found.push((sql, ffi::sqlite3_stmt_status(statement, ffi::SQLITE_STMTSTATUS_REPREPARE, 0)));
            statement = ffi::sqlite3_next_stmt(db, statement);
        }
    }
    found
}

/// A reading, and the delivery of all before it.
fn commit(at: u64, writer: &mut Writer, pipeline: &mut Pipeline) {
    let mut readings = Readings::default();
    readings.push(&Reading::at(at as i64, "tank", "temperature", 20.0));
    pipeline.take(&readings, Default::default());
    let cursor = CursorChange::to("cloud", Stream::RAW, CursorState::at(at - 1));
    let mut input = CommitInput { sealed: pipeline.seal(), cursors: vec![cursor], ..CommitInput::default() };
    input.sealed.snapshot_covers = at;
    writer.commit(&input).expect("a working disk");
}

/// The statements that twenty commits prepare again, more often than once.
fn prepared_in_commits(is_plan_stable: bool) -> Vec<(String, c_int)> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = WriterSettings { capacity: Capacity::new(64 << 20), ..WriterSettings::for_tests(folder.path()) };
    let mut writer = Writer::open(&settings, RUN).expect("a new store");
    writer
        .connection()
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, is_plan_stable)
        .expect("a setting that every connection has");
    let mut pipeline = Pipeline::new(PipelineSettings::new("g", RUN), &PerStream::default());
    writer.register_sink("cloud", Stream::RAW).expect("a cursor");
    (1..=20).for_each(|at| commit(at, &mut writer, &mut pipeline));
    let mut again = prepared_again(&writer);
    // The setting expires all statements once, and the pragma is prepared for each of its executions.
    again.retain(|(sql, times)| *times > 1 && sql != "PRAGMA page_count");
    again
}

#[test]
fn no_statement_of_a_commit_is_prepared_again() {
    assert_eq!(prepared_in_commits(true), []);
    assert!(!prepared_in_commits(false).is_empty(), "the control");
}
