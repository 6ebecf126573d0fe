//! Who is asked before a request is sent.

use super::super::{Request, RequestId};
use crate::link::{Class, Permit};

/// Says whether a request may be sent.
pub trait Gate {
    /// Whether one of this class may be sent now, of which the first record has so many bytes. If so, the next word is [`Self::sent`] or
    /// [`Self::unused`].
    fn ask(&mut self, class: Class, first_bytes: usize, now_us: u64) -> Permit;
    /// One is sent.
    fn sent(&mut self, class: Class, request: &Request, now_us: u64);
    /// None is sent, although one might be.
    fn unused(&mut self, class: Class);
    /// One was answered.
    fn answered(&mut self, id: RequestId, now_us: u64);
    /// Nothing of this class is to be sent at present.
    fn wants_nothing(&mut self, class: Class);
}

/// A gate that is always open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

impl Gate for Open {
    fn ask(&mut self, _: Class, _: usize, _: u64) -> Permit {
        Permit::Go { bytes_max: usize::MAX }
    }

    fn sent(&mut self, _: Class, _: &Request, _: u64) {}

    fn unused(&mut self, _: Class) {}

    fn answered(&mut self, _: RequestId, _: u64) {}

    fn wants_nothing(&mut self, _: Class) {}
}
