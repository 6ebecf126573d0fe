//! What a run of the simulation is made from, and how it went.

#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub devices: u64,
    pub shards: usize,
    pub single: bool,
    /// All devices share a partition key, and their lines have one order.
    pub is_one_key: bool,
    /// Bounds so small that they are met all the time.
    pub is_tight: bool,
    pub crashes: u32,
    pub has_poison: bool,
    /// One device's records all fail for a long time.
    pub has_sick_device: bool,
    pub sabotage: Option<Sabotage>,
}

/// A promise that the driver breaks, so that the checks can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    FailuresCountAsAccepted,
    /// As a client does that retries by itself.
    FailuresAreSentByTheSink,
    WholeRequestAgain,
    CursorBeyondWhatIsDone,
    ForgetsRanges,
    /// What is wrong with the settings is told as if it were wrong with the records.
    HaltsAreRefusals,
    /// A crash takes what is known of keys that are set aside.
    ForgetsKeysAside,
    /// The log is not read for keys that are set aside.
    SkipsLinesAside,
    /// One record of a key is stored after the next one.
    TwoRecordsAreSwapped,
    /// The time that the service asks for is kept from the delivery.
    NoTimeIsAskedFor,
    /// What is passed over is counted by the sink, and not with the cursor.
    PassedOverIsCountedApart,
}

/// How a run went; equal for equal seeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub crashes: u64,
    pub repeats: u64,
    pub refused: u64,
    pub halts: u64,
    pub throttled: u64,
    pub failed: u64,
    pub unanswered: u64,
    pub too_large: u64,
    /// Replies with a word to come again later, to whole requests and to single records.
    pub later_requests: u64,
    pub later_records: u64,
    pub set_aside: u64,
    pub trace: u64,
}

impl Summary {
    pub fn add(&mut self, other: &Summary) {
        self.crashes += other.crashes;
        self.repeats += other.repeats;
        self.refused += other.refused;
        self.halts += other.halts;
        self.throttled += other.throttled;
        self.failed += other.failed;
        self.unanswered += other.unanswered;
        self.too_large += other.too_large;
        self.later_requests += other.later_requests;
        self.later_records += other.later_records;
        self.set_aside += other.set_aside;
    }
}
