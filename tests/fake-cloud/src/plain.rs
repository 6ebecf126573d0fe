//! Data of records as consumers read it: decompressed if it is compressed.

use std::borrow::Cow;
use std::io::Read;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Data that cannot be decompressed is left as it is; it then parses as no known line.
pub fn plain(data: &[u8]) -> Cow<'_, [u8]> {
    let read = if data.starts_with(GZIP) {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(data).read_to_end(&mut plain).map(|_| plain)
    } else if data.starts_with(ZSTD) {
        zstd::decode_all(data)
    } else {
        return Cow::Borrowed(data);
    };
    read.map_or(Cow::Borrowed(data), Cow::Owned)
}
