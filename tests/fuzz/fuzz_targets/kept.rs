//! What the store has of sessions: whatever is there instead, it is read as something or left out, and keys are read as they are written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrider::core::mqtt::keeping::{self, Key, KeptFilter, KeptMessage, KeptProgress, KeptSession, KeptWill};

fuzz_target!(|bytes: &[u8]| {
    if let Some(key) = Key::from_bytes(bytes) {
        assert_eq!(key.to_bytes(), bytes);
    }
    let again = keeping::from_value::<KeptMessage>(bytes).map(|kept| keeping::to_value(&kept));
    assert!(again.is_none_or(|again| keeping::from_value::<KeptMessage>(&again).is_some()));
    let _ = keeping::from_value::<KeptSession>(bytes).map(|kept| kept.away_ms(i64::MAX));
    let _ = keeping::from_value::<KeptFilter>(bytes);
    let _ = keeping::from_value::<KeptProgress>(bytes);
    let _ = keeping::from_value::<KeptWill>(bytes);
});
