//! What others ask a writer: how the store stands for streams, sinks and links.

use super::*;

impl Writer {
    pub fn settings(&self) -> &WriterSettings {
        &self.settings
    }

    pub fn file(&self) -> Option<FileId> {
        FileId::of(&self.settings.path)
    }

    /// All streams of the store, whether or not they are still configured.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// The streams that sinks have to read: those that are configured, and others as long as the store holds anything of them, or may still
    /// take something over.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn streams_in_use(&self) -> rusqlite::Result<Vec<StreamRow>> {
        let is_configured = |row: &StreamRow| self.settings.streams.iter().any(|named| *named.name == *row.name);
        let mut in_use = Vec::new();
        for row in self.streams.rows() {
            if row.stream.is_built_in()
                || is_configured(row)
                || held::first_behind(&self.db, row.stream, 0)?.is_some()
                || held::salvaged_through(&self.db, row.stream)?.is_some()
            {
                in_use.push(row.clone());
            }
        }
        Ok(in_use)
    }

    /// Local sequence of the last record of a stream, even if it is no longer held.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn last_sequence(&self, stream: Stream) -> rusqlite::Result<u64> {
        held::last_sequence(&self.db, stream)
    }

    /// The same for every stream.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn last_sequences(&self) -> rusqlite::Result<PerStream<u64>> {
        let mut last_sequences = PerStream::default();
        for stream in self.streams.all() {
            *last_sequences.entry(stream) = self.last_sequence(stream)?;
        }
        Ok(last_sequences)
    }

    /// Makes sure that a sink has a cursor; a new one starts at the oldest held batch. Returns where it stands.
    ///
    /// # Errors
    ///
    /// If the store cannot be read or written.
    pub fn register_sink(&mut self, sink: &str, stream: Stream) -> rusqlite::Result<crate::core::cursor::CursorState> {
        self.cursors.register(&self.db, sink, stream)
    }

    /// Records of a stream that a sink did not take, and that are counted as delivered.
    pub fn passed_over(&self, sink: &str, stream: Stream) -> u64 {
        self.cursors.passed_over(sink, stream)
    }

    /// Up to which sequence of a stream this writer has given up what sinks had not got, to make room: it is counted as expired for them, so
    /// they are not to send what they have read of it. Told once it is durable.
    pub fn given_up(&self, stream: Stream) -> Arc<AtomicU64> {
        Arc::clone(self.given_up.of(stream))
    }

    /// The keys that a sink has set aside in a stream, and where each of them is.
    pub fn held_keys(&self, sink: &str, stream: Stream) -> Vec<(String, crate::core::cursor::CursorState)> {
        self.cursors.held_keys(sink, stream)
    }

    /// What was spent on a link, in the words of whoever counts it.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn link_state(&self, name: &str) -> rusqlite::Result<Option<links::StoredLink>> {
        links::load(&self.db, name)
    }

    /// Sinks that are no longer configured, and how many records wait for each.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn left_sinks(&self) -> rusqlite::Result<Vec<(String, u64)>> {
        self.cursors.left(&self.db)
    }

    /// What is kept for others.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn entries(&self) -> rusqlite::Result<Vec<Entry>> {
        entries::load(&self.db)
    }
}
