//! CBOR into a document, without recursion: as JSON would have it. Byte strings become base64 (for URLs, unpadded), names that are integers
//! become texts, tags are ignored except those that say that bytes are a number, with which the payload is not read.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Builder, DEPTH_MAX, Document, Group, Node};

/// Tags of numbers that are written as bytes or as arrays.
const NUMBER_TAGS: std::ops::RangeInclusive<u64> = 2..=5;
const BREAK: u8 = 0xff;

/// Reads the payload; `None` if it is no CBOR, or too deep or too large.
pub(super) fn read(payload: &[u8]) -> Option<Document<'_>> {
    let mut reader = Reader { rest: payload, builder: Builder::new(payload), left: [None; DEPTH_MAX] };
    loop {
        reader.item()?;
        if !reader.after_item()? {
            break;
        }
    }
    reader.rest.is_empty().then_some(Document { nodes: reader.builder.nodes, raw: payload })
}

struct Reader<'p> {
    rest: &'p [u8],
    builder: Builder<'p>,
    /// Elements or members that follow in each open group; `None` if a break ends it.
    left: [Option<u64>; DEPTH_MAX],
}

/// The head of an item: its kind, its short value, and its argument, which is absent if the item has no definite length.
struct Head {
    major: u8,
    short: u8,
    argument: Option<u64>,
}

impl<'p> Reader<'p> {
    fn take(&mut self, len: u64) -> Option<&'p [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    fn head(&mut self) -> Option<Head> {
        let first = *self.take(1)?.first()?;
        let short = first & 0x1f;
        let argument = match short {
            0..=23 => Some(short.into()),
            24..=27 => {
                let bytes = self.take(1 << (short - 24))?;
                Some(bytes.iter().fold(0_u64, |argument, byte| (argument << 8) | u64::from(*byte)))
            }
            31 => None,
            _ => return None,
        };
        Some(Head { major: first >> 5, short, argument })
    }

    /// One value, or the beginning of a group.
    fn item(&mut self) -> Option<()> {
        let mut head = self.head()?;
        while head.major == 6 {
            if NUMBER_TAGS.contains(&head.argument?) {
                return None;
            }
            head = self.head()?;
        }
        match head.major {
            0 | 1 => {
                let text = integer(head.major, head.argument?);
                self.builder.push(Node::BinaryNumber(text))
            }
            2 => {
                let text = URL_SAFE_NO_PAD.encode(self.bytes(&head)?);
                self.builder.push(Node::Unescaped(text.into()))
            }
            3 => self.text(&head),
            4 => self.open(Node::Array(Group::default()), head.argument),
            5 => self.open(Node::Object(Group::default()), head.argument),
            _ => self.simple(&head),
        }
    }

    fn simple(&mut self, head: &Head) -> Option<()> {
        let double = match (head.short, head.argument?) {
            (20, _) => return self.builder.push(Node::Boolean(false)),
            (21, _) => return self.builder.push(Node::Boolean(true)),
            (22 | 23, _) => return self.builder.push(Node::Null),
            (25, bits) => half(bits as u16),
            (26, bits) => f32::from_bits(bits as u32).into(),
            (27, bits) => f64::from_bits(bits),
            _ => return None,
        };
        self.builder.push(match double.is_finite() {
            true => Node::BinaryNumber(ryu::Buffer::new().format_finite(double).into()),
            false => Node::Null,
        })
    }

    fn bytes(&mut self, head: &Head) -> Option<std::borrow::Cow<'p, [u8]>> {
        if let Some(len) = head.argument {
            return self.take(len).map(Into::into);
        }
        let mut all = Vec::new();
        while self.rest.first() != Some(&BREAK) {
            let part = self.head()?;
            if part.major != head.major {
                return None;
            }
            all.extend_from_slice(self.take(part.argument?)?);
        }
        self.take(1)?;
        Some(all.into())
    }

    fn text(&mut self, head: &Head) -> Option<()> {
        let node = match self.bytes(head)? {
            std::borrow::Cow::Borrowed(bytes) => Node::Text(std::str::from_utf8(bytes).ok()?),
            std::borrow::Cow::Owned(bytes) => Node::Unescaped(String::from_utf8(bytes).ok()?.into()),
        };
        self.builder.push(node)
    }

    fn open(&mut self, node: Node<'p>, left: Option<u64>) -> Option<()> {
        *self.left.get_mut(self.builder.open.depth)? = left;
        self.builder.open(node)
    }

    /// Closes what ends here and reads the name of what follows. Whether something follows.
    fn after_item(&mut self) -> Option<bool> {
        while let Some(depth) = self.builder.open.depth.checked_sub(1) {
            let left = self.left.get_mut(depth)?;
            let is_over = match left {
                Some(0) => true,
                Some(left) => {
                    *left -= 1;
                    false
                }
                None => self.rest.first() == Some(&BREAK),
            };
            if !is_over {
                self.builder.count()?;
                if self.builder.is_in_object() {
                    self.name()?;
                }
                return Some(true);
            }
            if left.is_none() {
                self.take(1)?;
            }
            self.builder.close()?;
        }
        Some(false)
    }

    fn name(&mut self) -> Option<()> {
        let head = self.head()?;
        match head.major {
            0 | 1 => {
                let text = integer(head.major, head.argument?);
                self.builder.push(Node::Unescaped(text))
            }
            3 => self.text(&head),
            _ => None,
        }
    }
}

fn integer(major: u8, argument: u64) -> Box<str> {
    let argument = i128::from(argument);
    itoa::Buffer::new().format(if major == 0 { argument } else { -1 - argument }).into()
}

/// A float of 16 bits.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    };
    if bits & 0x8000 == 0 { size } else { -size }
}
