//! The payload of one stored batch: self-contained, versioned, compact.
//!
//! ```text
//! version u8 = 1
//! series:     count, then for each: device, metric      (texts with a length before them)
//! attributes: count, then for each: packed set           (see `reading::Attributes`)
//! records:    tag u8, body length, body                  (an unknown tag is carried along, never dropped)
//! ```
//! Integers are LEB128; differences are zigzag. Names and attribute sets stand once in a dictionary of the batch's own, so a
//! reading costs about 20 bytes however long its attributes are, and a batch can be read with nothing else at hand.

mod decode;
mod encode;
pub(super) mod varint;

pub use decode::{Damaged, Decoder, Stored};
pub use encode::BatchEncoder;

/// An open batch that holds so many bytes before compression is closed, and the next one begun. Small enough for a reader to hold one for
/// each sink and stream, and for the oldest to be dropped in small pieces; large enough that it is rarely reached.
pub const CLOSED_AT_BYTES: usize = 1 << 20;
/// Most bytes of one record.
pub const RECORD_BYTES_MAX: usize = 256 << 10;
/// A payload with more bytes is damaged, and must not become an allocation. Earlier versions did not close a batch by its bytes, hence the
/// size.
pub const PAYLOAD_BYTES_MAX: usize = 256 << 20;

/// Whatever is written can be read.
const _: () = assert!(CLOSED_AT_BYTES + 2 * RECORD_BYTES_MAX <= PAYLOAD_BYTES_MAX / 16);

const VERSION: u8 = 1;
const FLAG_SYNCED: u8 = 1;
const FLAG_SEQUENCE: u8 = 2;
/// The device's own time follows. A version that does not know this flag passes over the rest of the body.
const FLAG_DEVICE_TIME: u8 = 4;
/// What the value lacks of an integer follows, likewise.
const FLAG_ROUNDING: u8 = 8;

/// Which form a stored record has. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tag {
    /// A reading, in a form of its own.
    Reading = 1,
    /// A line of the second stream that tells of an anomaly.
    Anomaly = 2,
    /// A line of the second stream that tells of a change of an alert.
    Alert = 3,
    /// A record of the gateway about itself.
    Gateway = 4,
    /// A line of a stream that rules write to.
    Record = 5,
}

impl Tag {
    fn from_byte(byte: u8) -> Option<Tag> {
        [Tag::Reading, Tag::Anomaly, Tag::Alert, Tag::Gateway, Tag::Record].into_iter().find(|tag| *tag as u8 == byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{Attributes, ClockFault, DeviceTime, Reading, Rounding, TimeQuality, pack_attribute};
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    struct Owned {
        device: String,
        metric: String,
        value: f64,
        rounding: Option<Rounding>,
        measured_at_ms: i64,
        received_at_ms: i64,
        sequence: Option<u64>,
        synced: bool,
        device_time: Option<DeviceTime>,
        attributes: Vec<u8>,
    }

    impl Owned {
        fn borrow(&self) -> Reading<'_> {
            Reading {
                device: &self.device,
                metric: &self.metric,
                value: self.value,
                rounding: self.rounding,
                measured_at_ms: self.measured_at_ms,
                received_at_ms: self.received_at_ms,
                time_quality: if self.synced { TimeQuality::Synced } else { TimeQuality::Unsynced },
                device_time: self.device_time,
                sequence: self.sequence,
                attributes: Attributes::from_packed(&self.attributes).expect("packed by the test"),
            }
        }
    }

    fn owned() -> impl Strategy<Value = Owned> {
        let attributes = prop::collection::vec(("[a-c]{0,3}", "[a-cä]{0,9}"), 0..3).prop_map(|pairs| {
            let mut packed = Vec::new();
            pairs.iter().for_each(|(key, value)| pack_attribute(&mut packed, key, value));
            packed
        });
        let device_time = prop::option::of((1u8..4, any::<i64>()).prop_map(|(fault, device_ms)| DeviceTime {
            fault: ClockFault::from_byte(fault).expect("one of three"),
            device_ms,
        }));
        (
            "[a-b]{1,2}",
            "[x-y]{1,2}",
            (any::<f64>(), any::<Option<i16>>()),
            any::<i64>(),
            any::<i64>(),
            any::<Option<u64>>(),
            any::<bool>(),
            device_time,
            attributes,
        )
            .prop_map(
                |(
                    device,
                    metric,
                    (value, lacks),
                    measured_at_ms,
                    received_at_ms,
                    sequence,
                    synced,
                    device_time,
                    attributes,
                )| {
                    Owned {
                        device,
                        metric,
                        value,
                        rounding: lacks.and_then(|lacks| Rounding::from_lacks(lacks.into())),
                        measured_at_ms,
                        received_at_ms,
                        sequence,
                        synced,
                        device_time,
                        attributes,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(records in prop::collection::vec(owned(), 0..40)) {
            let mut encoder = BatchEncoder::default();
            for record in &records {
                encoder.push_reading(&record.borrow());
            }
            encoder.push_line(Tag::Alert, "tank", b"{}\n");
            let payload = encoder.finish();
            let mut decoder = Decoder::new(&payload).expect("just encoded");
            for record in &records {
                let Some(Ok(Stored::Reading(back))) = decoder.next() else { panic!("a reading is missing") };
                prop_assert_eq!(back.value.to_bits(), record.value.to_bits());
                prop_assert_eq!(Reading { value: 0.0, ..back }, Reading { value: 0.0, ..record.borrow() });
            }
            prop_assert_eq!(
                decoder.next(),
                Some(Ok(Stored::Line { tag: Tag::Alert as u8, device: "tank", line: b"{}\n" }))
            );
            prop_assert_eq!(decoder.next(), None);
        }

        #[test]
        fn damage_is_an_error_never_a_panic(noise in prop::collection::vec(any::<u8>(), 0..200), keep_version in any::<bool>()) {
            let mut noise = noise;
            if keep_version && !noise.is_empty() {
                noise[0] = VERSION;
            }
            if let Ok(decoder) = Decoder::new(&noise) {
                decoder.take_while(Result::is_ok).for_each(drop);
            }
        }
    }

    #[test]
    fn an_encoder_starts_afresh_after_finish() {
        let mut encoder = BatchEncoder::default();
        encoder.push_line(Tag::Gateway, "", b"{\"a\":1}\n");
        let first = encoder.finish();
        encoder.push_line(Tag::Gateway, "", b"{\"a\":1}\n");
        assert_eq!(first, encoder.finish());
        assert_eq!(encoder.count(), 0);
    }

    #[test]
    fn an_unknown_tag_is_carried_along() {
        let payload = [VERSION, 0, 0, 99, 3, 1, b'd', b'x'];
        let records: Vec<_> = Decoder::new(&payload).expect("well formed").collect();
        assert_eq!(records, [Ok(Stored::Line { tag: 99, device: "d", line: b"x" })]);
    }
}
