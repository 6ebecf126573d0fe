//! A file that is ready to be sent: its content, its digests, and how much of it is on its way.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::sinks::files::output::{Output, Sums, Target};

/// What is read of a file at one time.
const CHUNK_BYTES: u64 = 64 << 10;

#[derive(Clone, Debug)]
pub struct Upload {
    content: Content,
    pub bytes: u64,
    pub sums: Sums,
    /// How many bytes of it the connection has taken, over all attempts.
    taken: Arc<AtomicU64>,
    /// It could not be read.
    is_unreadable: Arc<AtomicBool>,
}

#[derive(Clone, Debug)]
enum Content {
    File(Arc<File>),
    Memory(Bytes),
}

impl Upload {
    /// Of an output that has taken digests.
    pub fn new(output: Output) -> Upload {
        let bytes = output.bytes;
        let (target, sums) = output.into_parts();
        let content = match target {
            Target::File(file) => Content::File(Arc::new(file)),
            Target::Memory(memory) => Content::Memory(Bytes::from(memory)),
        };
        Upload {
            content,
            bytes,
            sums: sums.expect("uploads have digests"),
            taken: Arc::default(),
            is_unreadable: Arc::default(),
        }
    }

    /// A body for one attempt.
    pub fn body(&self) -> UploadBody {
        UploadBody { upload: self.clone(), at: 0 }
    }

    pub fn is_unreadable(&self) -> bool {
        self.is_unreadable.load(Ordering::Relaxed)
    }

    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Reads the content as the connection takes it, so that a large file needs little memory.
pub struct UploadBody {
    upload: Upload,
    at: u64,
}

impl UploadBody {
    fn read(&self) -> io::Result<Bytes> {
        let end = (self.at + CHUNK_BYTES).min(self.upload.bytes);
        match &self.upload.content {
            Content::Memory(memory) => Ok(memory.slice(self.at as usize..end as usize)),
            Content::File(file) => {
                let mut chunk = vec![0; (end - self.at) as usize];
                file.read_exact_at(&mut chunk, self.at)?;
                Ok(Bytes::from(chunk))
            }
        }
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let read = self.read();
        self.upload.is_unreadable.fetch_or(read.is_err(), Ordering::Relaxed);
        Poll::Ready(Some(read.map(|chunk| {
            self.at += chunk.len() as u64;
            self.upload.taken.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            Frame::data(chunk)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.upload.bytes
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.upload.bytes - self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn every_attempt_gets_the_whole_content_of_a_file_and_of_memory() {
        let content: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        for target in [Target::Memory(Vec::new()), Target::File(tempfile::tempfile().expect("a file"))] {
            let mut output = Output::with_sums(target);
            output.write_all(&content).expect("room");
            let upload = Upload::new(output);
            assert!(!upload.is_unreadable());
            for attempt in 1..=2 {
                let sent = upload.body().collect().await.expect("readable").to_bytes();
                assert_eq!((sent[..] == content, upload.taken()), (true, attempt * upload.bytes));
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_any_more_says_so() {
        let file = tempfile::tempfile().expect("a file");
        let mut output = Output::with_sums(Target::File(file.try_clone().expect("a handle")));
        output.write_all(&[7; 100_000]).expect("room");
        let upload = Upload::new(output);
        file.set_len(70_000).expect("shorter");
        assert!(upload.body().collect().await.is_err() && upload.is_unreadable());
    }
}
