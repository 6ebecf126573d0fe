//! What comes in with a message besides its payload, and the bounds on what an evaluation may do.

use std::cell::Cell;

use super::document::Document;
use super::problem::EvaluationError;
use super::value::Value;
use crate::mqtt::packet::PassedOn;

/// Steps of an evaluation at most. A step is an operation, an element that a query looks at, or 64 bytes of text.
pub const STEPS_MAX: u32 = 250_000;
/// Steps of all rules that look at one message or reading, the making of their results included.
pub const STEPS_TOGETHER_MAX: u32 = 1_000_000;
const STEP_BYTES: usize = 64;
/// Names of an object that are compared in a step.
const NAMES_A_STEP: usize = 16;
/// Of a topic that a message came by without a rule's filter: Basic Ingest names the rule, and the topic begins behind it.
const BASIC_INGEST: &str = "$aws/rules/";

/// Who sent a message, where to, and when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'v> {
    /// The topic, as it was published to.
    pub topic: Option<&'v str>,
    /// The MQTT client; `None` if the message came otherwise.
    pub client_id: Option<&'v str>,
    /// The user or the certificate that the client was admitted by.
    pub principal: Option<&'v str>,
    /// An id of the message.
    pub trace_id: Option<&'v str>,
    /// The client's address, without its port.
    pub source_ip: Option<&'v str>,
    /// The account, where one is configured.
    pub account_id: Option<&'v str>,
    /// Properties of MQTT 5, as they came: they are decoded where a function asks for them.
    pub properties: PassedOn<'v>,
    /// Now, in milliseconds since 1970.
    pub now_ms: i64,
    /// What `rand` and `newuuid` are made of: another one for each message and rule.
    pub seed: u64,
    /// What all rules that look at this message may take together; `None` if only one does.
    pub allowance: Option<&'v Allowance>,
}

/// Steps that are left for a message, whichever of its rules takes them: a thousand rules must not hold up the gateway a thousand times as
/// long as one may.
#[derive(Debug)]
pub struct Allowance {
    steps_left: Cell<u32>,
}

impl Default for Allowance {
    fn default() -> Allowance {
        Allowance { steps_left: Cell::new(STEPS_TOGETHER_MAX) }
    }
}

impl Allowance {
    /// Takes the steps for a result of so many bytes.
    ///
    /// # Errors
    ///
    /// If no more are left.
    pub fn take_bytes(&self, bytes: usize) -> Result<(), EvaluationError> {
        let left = self.steps_left.get().checked_sub(steps_of(bytes));
        self.steps_left.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or(EvaluationError::TooManyStepsTogether { max: STEPS_TOGETHER_MAX })
    }
}

impl<'v> Context<'v> {
    /// The topic as rules see it: without the name of a rule that it may begin with.
    pub fn visible_topic(&self) -> Option<&'v str> {
        let topic = self.topic?;
        match topic.strip_prefix(BASIC_INGEST) {
            Some(rest) => Some(rest.split_once('/').map_or("", |(_, rest)| rest)),
            None => Some(topic),
        }
    }
}

/// An id for a message, of its random number.
pub fn trace_id(seed: u64) -> String {
    format!("{:08x}-0000-4000-8000-{:012x}", seed >> 32, seed & 0xffff_ffff)
}

/// Whether a topic names a rule, and so needs no filter to match it.
pub fn is_basic_ingest(topic: &str) -> bool {
    topic.starts_with(BASIC_INGEST)
}

/// What the names of an expression stand for: fields of a payload, or the latest readings of a device.
pub trait Names {
    /// The value of a name that stands alone or before a dot.
    fn name<'v>(&'v self, name: &str) -> Value<'v>;

    /// What `*` stands for.
    fn whole(&self) -> Value<'_>;

    /// Steps that such a function takes besides those of any.
    fn steps(&self, _function: usize, _arguments: &[Value<'_>]) -> u32 {
        0
    }

    /// The result of a function that the expression was parsed with in addition to those of the language, by its place among them.
    fn call<'v>(&'v self, _function: usize, _arguments: &[Value<'v>]) -> Value<'v> {
        Value::Undefined
    }
}

/// The payload of a message, which all rules share: it is parsed when the first of them looks into it.
#[derive(Debug)]
pub struct Payload<'p> {
    bytes: &'p [u8],
    document: std::cell::OnceCell<Option<Document<'p>>>,
}

impl<'p> Payload<'p> {
    /// Of these bytes.
    pub fn new(bytes: &'p [u8]) -> Payload<'p> {
        Payload { bytes, document: std::cell::OnceCell::new() }
    }

    fn document(&self) -> Option<&Document<'p>> {
        self.document.get_or_init(|| Document::read_object(self.bytes)).as_ref()
    }
}

impl Names for Payload<'_> {
    fn name<'v>(&'v self, name: &str) -> Value<'v> {
        let member = self.document().and_then(|document| document.root().member(name));
        member.map_or(Value::Undefined, Value::from)
    }

    fn whole(&self) -> Value<'_> {
        self.document().map_or(Value::Bytes(self.bytes), |document| Value::Node(document.root()))
    }
}

/// Steps that are left, and the state of what is random.
#[derive(Debug)]
pub(super) struct Budget {
    steps_left: u32,
    random: u64,
    /// Other rules have used up so much that this one may take less than it otherwise could.
    is_cut: bool,
}

impl Budget {
    pub(super) fn new(context: &Context<'_>) -> Budget {
        let allowed = context.allowance.map_or(STEPS_MAX, |allowance| allowance.steps_left.get());
        Budget { steps_left: allowed.min(STEPS_MAX), random: context.seed, is_cut: allowed < STEPS_MAX }
    }

    /// The evaluation has ended: what it took is not there for others.
    pub(super) fn settle(&self, context: &Context<'_>) {
        if let Some(Allowance { steps_left }) = context.allowance {
            let had = steps_left.get().min(STEPS_MAX);
            steps_left.set(steps_left.get() - (had - self.steps_left.min(had)));
        }
    }

    /// Takes steps.
    pub(super) fn take(&mut self, steps: u32) -> Result<(), EvaluationError> {
        match self.steps_left.checked_sub(steps) {
            Some(left) => {
                self.steps_left = left;
                Ok(())
            }
            None => {
                // What it tried is what it took.
                self.steps_left = 0;
                Err(match self.is_cut {
                    true => EvaluationError::TooManyStepsTogether { max: STEPS_TOGETHER_MAX },
                    false => EvaluationError::TooManySteps { max: STEPS_MAX },
                })
            }
        }
    }

    /// Takes the steps for finding a name, or an element, among so many.
    pub(super) fn take_names(&mut self, count: usize) -> Result<(), EvaluationError> {
        self.take(u32::try_from(count / NAMES_A_STEP).unwrap_or(u32::MAX))
    }

    /// Takes the steps for so many bytes of text.
    pub(super) fn take_bytes(&mut self, bytes: usize) -> Result<(), EvaluationError> {
        self.take(steps_of(bytes))
    }

    /// The next random bits, by splitmix64.
    pub(super) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn steps_of(bytes: usize) -> u32 {
    u32::try_from(bytes / STEP_BYTES).unwrap_or(u32::MAX)
}
