//! Any text as a path, and as a text with paths in it, is read or has a fault with its column; what is read is written back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrider::core::path::{Path, Text};

fuzz_target!(|text: &str| {
    match Path::parse(text) {
        Ok(path) => assert_eq!(Path::parse(&path.to_string()), Ok(path)),
        Err(error) => assert!(error.column >= 1 && error.column <= text.chars().count() + 1),
    }
    if let Err(error) = Text::parse(text) {
        assert!(error.column >= 1 && error.column <= text.chars().count() + 1);
    }
});
