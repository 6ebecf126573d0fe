//! How an error is shown: with its causes, in one line. The texts of our errors leave out those of their sources.

use std::error::Error;
use std::iter::successors;

/// An error and what caused it, outermost first. SQLite's errors are last: what they give as their source is themselves in other words.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| error.source().filter(|_| !error.is::<rusqlite::Error>()))
}

/// The texts of an error and its causes.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("cannot read the store")]
        Sqlite(#[source] rusqlite::Error),
        #[error(transparent)]
        Same(Box<Outer>),
    }

    #[test]
    fn every_cause_is_said_once() {
        let damaged = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        let error = Outer::Sqlite(rusqlite::Error::SqliteFailure(damaged, Some("it is malformed".to_owned())));
        let error = Outer::Same(Box::new(error));
        assert_eq!(with_causes(&error), "cannot read the store: it is malformed");
    }
}
