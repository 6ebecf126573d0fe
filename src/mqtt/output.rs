//! What a connection has to write, and how much of it is written. Both change together: what is left can always be asked for.

/// Bytes in order.
#[derive(Debug, Default)]
pub struct Output {
    /// To be appended to. What is written stays in it until all is.
    pub bytes: Vec<u8>,
    written: usize,
}

impl Output {
    pub fn of(bytes: Vec<u8>) -> Output {
        Output { bytes, written: 0 }
    }

    /// Whether all is written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn unwritten(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// So many bytes more are written. Once all are, room for no more than `kept` bytes is kept.
    pub fn wrote(&mut self, count: usize, kept: usize) {
        self.written += count;
        if self.unwritten().is_empty() {
            self.bytes.clear();
            self.written = 0;
            self.bytes.shrink_to(kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_behind_a_partial_write_is_all_that_is_left_once_that_is_written() {
        let mut output = Output::of(vec![1; 1_000]);
        output.wrote(600, 100);
        assert_eq!((output.unwritten().len(), output.is_empty()), (400, false));
        output.wrote(400, 100);
        assert!(output.is_empty() && output.bytes.capacity() < 1_000);
        output.bytes.extend_from_slice(b"goodbye");
        assert_eq!(output.unwritten(), b"goodbye");
    }
}
