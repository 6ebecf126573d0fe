//! Limits that are defined in different places and have to fit each other, checked at compile time.

use crate::config::host::ID_BYTES_MAX;
use crate::core::batch::RECORD_BYTES_MAX;
use crate::core::delivery::PARTITION_KEY_BYTES_MAX;
use crate::core::mqtt::session::CLIENT_ID_BYTES_MAX;
use crate::core::mqtt::topic::TOPIC_BYTES_MAX;
use crate::ingest::{ATTRIBUTES_BYTES_MAX, NAME_BYTES_MAX};

/// `{gateway}/{device}` fits, whatever the names are.
const _: () = assert!(ID_BYTES_MAX + "/".len() + NAME_BYTES_MAX <= PARTITION_KEY_BYTES_MAX);

/// Percent-encoding may turn every byte of a name into three.
const ENCODED_BYTES_MAX: usize = 3 * NAME_BYTES_MAX;

/// `alerts/{device}/{metric}/{kind}/ack`: an alert can be published and acknowledged for every accepted name.
const _: () = assert!("alerts///anomaly/ack".len() + 2 * ENCODED_BYTES_MAX <= TOPIC_BYTES_MAX);

/// A device may have the same name as its client id.
const _: () = assert!(CLIENT_ID_BYTES_MAX <= NAME_BYTES_MAX);

/// An anomaly's record fits: a byte of a text may become six in JSON, and its numbers and its reason are short.
const _: () = assert!(6 * (ATTRIBUTES_BYTES_MAX + 2 * NAME_BYTES_MAX + ID_BYTES_MAX) + 4096 <= RECORD_BYTES_MAX);
