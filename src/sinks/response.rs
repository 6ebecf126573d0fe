//! Reads the body of a response, and no more of it than was asked for: whoever is on the way may send one of any length.

use aws_smithy_types::body::SdkBody;
use http_body_util::BodyExt;

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Whole,
    /// The connection broke before it did.
    CutOff,
    /// It is longer than was to be read.
    TooLong,
}

/// The first bytes of a body. A short one is read to its end, so that the connection can be used again.
pub async fn read(body: &mut SdkBody, bytes_max: usize) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    loop {
        match body.frame().await {
            None => return (bytes, End::Whole),
            Some(Err(_)) => return (bytes, End::CutOff),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                let room = bytes_max - bytes.len();
                bytes.extend_from_slice(&data[..data.len().min(room)]);
                if data.len() > room {
                    return (bytes, End::TooLong);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use hyper::body::{Body, Frame};

    use super::*;

    /// Gives these pieces, and then breaks or ends.
    struct Pieces(Vec<&'static str>, bool);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            Poll::Ready(match (self.0.is_empty(), self.1) {
                (false, _) => Some(Ok(Frame::data(Bytes::from_static(self.0.remove(0).as_bytes())))),
                (true, true) => Some(Err(std::io::ErrorKind::ConnectionReset.into())),
                (true, false) => None,
            })
        }
    }

    #[tokio::test]
    async fn no_more_is_kept_than_was_asked_for_and_the_end_is_told() {
        for (pieces, is_broken, bytes_max, expected, end) in [
            (vec![], false, 4, "", End::Whole),
            (vec!["ab", "cd"], false, 4, "abcd", End::Whole),
            (vec!["ab", "cde"], false, 4, "abcd", End::TooLong),
            (vec!["abcd", "e"], false, 4, "abcd", End::TooLong),
            (vec!["ab"], true, 4, "ab", End::CutOff),
            (vec!["abcd"], true, 4, "abcd", End::CutOff),
            (vec!["a"], false, 0, "", End::TooLong),
        ] {
            let mut body = SdkBody::from_body_1_x(Pieces(pieces.clone(), is_broken));
            let (bytes, how) = read(&mut body, bytes_max).await;
            assert_eq!((std::str::from_utf8(&bytes), how), (Ok(expected), end), "{pieces:?}");
        }
    }
}
