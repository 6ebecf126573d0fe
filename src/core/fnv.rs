//! The hash FNV-1a: not for keys that others choose, but the same on every machine and in every version.

use std::fmt;

/// Where the hash usually begins.
pub const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// Goes on with these bytes.
pub fn fold(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// Of what a value looks like as text: another number for each other value.
pub fn of_debug(value: &impl fmt::Debug) -> u64 {
    fold(BASIS, format!("{value:?}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fnv_1a() {
        assert_eq!((fold(BASIS, b""), fold(BASIS, b"a")), (0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c));
        assert_eq!(fold(fold(BASIS, b"foo"), b"bar"), 0x8594_4171_f739_67e8);
    }
}
