//! The kinds of damage. Each is done to the files of a stopped or killed gateway, at a place that the seed chooses.

use std::path::Path;

use outrider::store::schema::store_path;

use crate::Random;
use crate::template::{Image, PAGE, Template, log_path};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    ZeroedSector,
    RandomSector,
    ZeroedHalfPage,
    RandomHalfPage,
    FlippedBitInFile,
    FlippedBitInHeader,
    ExchangedPages,
    DoubledPage,
    StalePage,
    CutFile,
    EmptyFile,
    DeletedFile,
    ZeroedSectorOfLog,
    FlippedBitInLog,
    CutLog,
    DeletedLog,
    ForeignLog,
}

const SECTOR: usize = 512;

impl Kind {
    pub const ALL: [Kind; 17] = [
        Kind::ZeroedSector,
        Kind::RandomSector,
        Kind::ZeroedHalfPage,
        Kind::RandomHalfPage,
        Kind::FlippedBitInFile,
        Kind::FlippedBitInHeader,
        Kind::ExchangedPages,
        Kind::DoubledPage,
        Kind::StalePage,
        Kind::CutFile,
        Kind::EmptyFile,
        Kind::DeletedFile,
        Kind::ZeroedSectorOfLog,
        Kind::FlippedBitInLog,
        Kind::CutLog,
        Kind::DeletedLog,
        Kind::ForeignLog,
    ];

    pub fn is_of_log(self) -> bool {
        use Kind::*;
        matches!(self, ZeroedSectorOfLog | FlippedBitInLog | CutLog | DeletedLog | ForeignLog)
    }

    /// A stopped gateway has no log.
    pub fn needs_log(self) -> bool {
        self.is_of_log()
    }

    pub fn is_of_sectors(self) -> bool {
        use Kind::*;
        matches!(
            self,
            ZeroedSector | RandomSector | ZeroedHalfPage | RandomHalfPage | FlippedBitInFile | ExchangedPages
        )
    }

    /// Damages the files, and says which pages of the file were hit, from 0 on.
    pub fn damage(self, folder: &Path, image: &Image, template: &Template, random: &mut Random) -> Vec<usize> {
        let store = store_path(folder);
        let path = if self.is_of_log() { log_path(folder) } else { store.clone() };
        let mut bytes = std::fs::read(&path).unwrap();
        // Where there is nothing yet, nothing can be damaged.
        let used = image.used_bytes(self.is_of_log());
        let pages = used / PAGE;
        let any_page = |random: &mut Random| random.below(pages as u64) as usize;
        let hit = match self {
            Kind::ZeroedSector | Kind::RandomSector => {
                let sector = random.below((used / SECTOR) as u64) as usize;
                fill(&mut bytes[sector * SECTOR..(sector + 1) * SECTOR], self == Kind::ZeroedSector, random);
                vec![sector * SECTOR / PAGE]
            }
            Kind::ZeroedHalfPage | Kind::RandomHalfPage => {
                let half = random.below(2 * pages as u64) as usize;
                fill(&mut bytes[half * PAGE / 2..(half + 1) * PAGE / 2], self == Kind::ZeroedHalfPage, random);
                vec![half / 2]
            }
            Kind::FlippedBitInFile => {
                let bit = random.below(8 * used as u64) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
                vec![bit / 8 / PAGE]
            }
            Kind::FlippedBitInHeader => {
                let bit = random.below(8 * 108) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
                vec![0]
            }
            Kind::ExchangedPages => {
                let (one, other) = (any_page(random), any_page(random));
                let page = bytes[one * PAGE..(one + 1) * PAGE].to_vec();
                bytes.copy_within(other * PAGE..(other + 1) * PAGE, one * PAGE);
                bytes[other * PAGE..(other + 1) * PAGE].copy_from_slice(&page);
                vec![one, other]
            }
            Kind::DoubledPage => {
                let (from, to) = (any_page(random), any_page(random));
                bytes.copy_within(from * PAGE..(from + 1) * PAGE, to * PAGE);
                vec![to]
            }
            Kind::StalePage => {
                let past = &template.past[random.below(template.past.len() as u64) as usize];
                let page = random.below((past.len().min(used) / PAGE) as u64) as usize;
                bytes[page * PAGE..(page + 1) * PAGE].copy_from_slice(&past[page * PAGE..(page + 1) * PAGE]);
                vec![page]
            }
            Kind::CutFile => {
                let left = used - 1 - random.below(used as u64 / 2) as usize;
                bytes.truncate(left);
                (left / PAGE..pages).collect()
            }
            Kind::EmptyFile => {
                bytes.clear();
                (0..pages).collect()
            }
            Kind::DeletedFile | Kind::DeletedLog => {
                std::fs::remove_file(&path).unwrap();
                return (0..pages).collect();
            }
            Kind::ZeroedSectorOfLog => {
                let sector = random.below((used / SECTOR) as u64) as usize;
                fill(&mut bytes[sector * SECTOR..(sector + 1) * SECTOR], true, random);
                Vec::new()
            }
            Kind::FlippedBitInLog => {
                let bit = random.below(8 * used as u64) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
                Vec::new()
            }
            Kind::CutLog => {
                bytes.truncate(random.below(used as u64) as usize);
                Vec::new()
            }
            Kind::ForeignLog => {
                bytes.clone_from(&template.foreign_log);
                Vec::new()
            }
        };
        std::fs::write(&path, bytes).unwrap();
        hit
    }
}

fn fill(bytes: &mut [u8], with_zeroes: bool, random: &mut Random) {
    bytes.iter_mut().for_each(|byte| *byte = if with_zeroes { 0 } else { random.below(256) as u8 });
}
