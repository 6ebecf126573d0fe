//! Any bytes as the payload of a stored batch give an error, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrider::core::batch::Decoder;

fuzz_target!(|payload: &[u8]| {
    if let Ok(decoder) = Decoder::new(payload) {
        decoder.take_while(Result::is_ok).for_each(drop);
    }
});
