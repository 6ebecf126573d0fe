use super::super::known::line;
use super::*;
use crate::sinks::compression::Compression;

struct World {
    folder: tempfile::TempDir,
    saves: Arc<Saves>,
}

impl World {
    fn new() -> World {
        World { folder: tempfile::tempdir().unwrap(), saves: Arc::default() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("kafka.journal")
    }

    /// As after a kill: nothing of the former one is in memory any more.
    fn open(&mut self) -> (Journal, Left) {
        self.open_in(Scope::of("cluster", "topic", "form").unwrap())
    }

    fn open_in(&mut self, scope: Scope) -> (Journal, Left) {
        self.saves = Arc::default();
        Journal::open(self.path(), Some(scope), Arc::clone(&self.saves))
    }

    fn save(&self) {
        self.saves.begin().is_durable();
    }
}

fn begin(journal: &mut Journal, partition: i32, first_sequence: i32, data: &str) -> Doubt {
    let producer = ProducerId { id: 9, epoch: 0 };
    let record = (Bytes::from_static(b"g/tank"), Bytes::from(data.to_owned()));
    let batch = Batch::encode((partition, producer, first_sequence), [record], Compression::None, 1).unwrap();
    journal.begin(&batch, [("tank", data.as_bytes())].into_iter())
}

fn left(left: &Left, positions: &[u64]) -> usize {
    let data: String = positions.iter().map(|position| line("a", *position)).collect();
    left.known.left_of("tank", &data.into()).split(|byte| *byte == b'\n').count() - 1
}

#[test]
fn the_last_batch_of_each_partition_is_in_doubt_and_those_before_are_known() {
    let mut world = World::new();
    let (mut journal, _) = world.open();
    begin(&mut journal, 0, 0, &line("a", 1));
    begin(&mut journal, 0, 1, &line("a", 2));
    let last = begin(&mut journal, 1, 0, &line("a", 3));
    let (_, found) = world.open();
    let doubts: Vec<i32> = found.doubts.iter().map(|doubt| doubt.batch.partition).collect();
    assert_eq!(doubts, [0, 1]);
    assert_eq!(found.doubts[1].batch, last.batch, "byte for byte");
    assert_eq!((left(&found, &[1]), left(&found, &[2, 3])), (0, 2));
}

#[test]
fn what_was_dropped_is_neither_known_nor_in_doubt() {
    let mut world = World::new();
    let (mut journal, _) = world.open();
    let refused = begin(&mut journal, 0, 0, &line("a", 1));
    journal.dropped(refused.entry);
    begin(&mut journal, 0, 0, &line("a", 2));
    begin(&mut journal, 0, 1, &line("a", 3));
    let (_, found) = world.open();
    assert_eq!((found.doubts.len(), found.doubts[0].batch.first_sequence), (1, 1));
    assert_eq!(left(&found, &[1, 2, 3]), 2);
}

#[test]
fn an_entry_goes_once_a_save_that_began_later_is_durable() {
    let mut world = World::new();
    let (mut journal, _) = world.open();
    let batch = begin(&mut journal, 0, 0, &line("a", 1));
    let before = world.saves.begin();
    journal.stored(batch.entry);
    journal.settle();
    before.is_durable();
    journal.settle();
    assert_eq!(journal.entries.len(), 1, "that save may have begun before the delivery was told");
    world.save();
    journal.settle();
    assert!(journal.entries.is_empty());
}

#[test]
fn what_the_delivery_is_not_told_of_stays_over_several_kills() {
    let mut world = World::new();
    let (mut journal, _) = world.open();
    let batch = begin(&mut journal, 0, 0, &(line("a", 1) + &line("a", 2)));
    journal.stored(batch.entry);
    for _ in 0..3 {
        let (mut journal, mut found) = world.open();
        for doubt in found.doubts {
            journal.stored_untold(doubt.entry, &mut found.known);
        }
        world.save();
        journal.settle();
        assert_eq!(left(&Left { known: found.known, doubts: Vec::new() }, &[1, 2, 3]), 1);
    }
    let (mut journal, mut found) = world.open();
    assert!(found.doubts.is_empty(), "it was found to be stored");
    journal.told(found.known.told("tank", line("a", 2).as_bytes(), false));
    journal.settle();
    world.save();
    journal.settle();
    assert!(journal.entries.is_empty());
}

#[test]
fn a_journal_of_another_topic_or_another_start_of_the_system_is_not_used() {
    let mut world = World::new();
    let here = Scope::of("cluster", "topic", "form").unwrap();
    let others = [
        Scope { topic: "other".to_owned(), ..here.clone() },
        Scope { cluster: "other".to_owned(), ..here.clone() },
        Scope { boot: "other".to_owned(), ..here.clone() },
        Scope { form: "other".to_owned(), ..here.clone() },
    ];
    for other in others {
        let (mut journal, _) = world.open_in(here.clone());
        begin(&mut journal, 0, 0, &line("a", 1));
        begin(&mut journal, 0, 1, &line("a", 2));
        let (_, found) = world.open_in(other);
        assert!(found.doubts.is_empty() && left(&found, &[1]) == 1);
        let (_, found) = world.open_in(here.clone());
        assert!(found.doubts.is_empty(), "the other one has replaced it");
    }
}

#[test]
fn a_part_that_was_cut_off_was_not_sent() {
    let mut world = World::new();
    let (mut journal, _) = world.open();
    begin(&mut journal, 0, 0, &line("a", 1));
    let whole = fs::metadata(world.path()).unwrap().len();
    begin(&mut journal, 0, 1, &line("a", 2));
    let end = fs::metadata(world.path()).unwrap().len();
    let content = fs::read(world.path()).unwrap();
    for cut in whole..end {
        fs::write(world.path(), &content[..cut as usize]).unwrap();
        let (_, found) = world.open();
        assert_eq!((found.doubts.len(), found.doubts[0].batch.first_sequence), (1, 0), "cut at {cut}");
    }
    let mut damaged = content.clone();
    damaged[whole as usize + 40] ^= 1;
    fs::write(world.path(), &damaged).unwrap();
    assert_eq!(world.open().1.doubts[0].batch.first_sequence, 0);
}

#[test]
fn a_journal_does_not_grow_without_bound() {
    let mut world = World::new();
    let (mut journal, _) = world.open();
    for n in 0..5_000 {
        let batch = begin(&mut journal, 0, n, &line("a", n.unsigned_abs().into()));
        journal.stored(batch.entry);
        journal.settle();
        world.save();
    }
    journal.settle();
    assert!(fs::metadata(world.path()).unwrap().len() < 100_000);
    assert!(journal.entries.len() < 3);
    let (_, found) = world.open();
    assert!(found.doubts.is_empty(), "it is known that they are stored");
}

#[test]
fn where_it_cannot_be_written_none_is_left_behind() {
    let mut world = World::new();
    let (mut journal, _) = world.open();
    begin(&mut journal, 0, 0, &line("a", 1));
    journal.file = Some(File::open("/dev/null").unwrap());
    let batch = begin(&mut journal, 0, 1, &line("a", 2));
    assert!(!world.path().exists(), "it would claim that nothing came after the first");
    journal.stored(batch.entry);
    journal.settle();
    world.save();
    journal.settle();
}
