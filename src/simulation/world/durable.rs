//! What a power cut at this moment would leave.

use super::World;
use crate::core::identity::Stream;
use crate::simulation::scenario::SINKS;
use crate::store::held;
use crate::store::log::{Block, Entry};
use crate::store::reader::Reader;
use crate::store::schema::store_path;

/// One in so many acknowledgements is looked at; the others are looked at by the power cuts that come.
const LOOKED_AT: u64 = 40;

impl World {
    /// What a device is told to be stored would be found after a power cut, or has reached every sink already.
    pub(super) fn look_at_durable(&mut self, device: usize, number: usize) -> Result<(), String> {
        let has_expired =
            SINKS.iter().any(|sink| self.checks.line(sink, Stream::RAW).is_ok_and(|line| line.expired > 0));
        if !self.random.one_in(LOOKED_AT) || has_expired {
            return Ok(());
        }
        let key = (self.devices[device].name.clone(), number);
        if !self.config.sinks.is_empty()
            && self.config.sinks.iter().all(|sink| self.clouds[*sink].readings.contains(&key))
        {
            return Ok(());
        }
        self.disk.copy_durable(self.scratch.path());
        let mut found = self.find_in(self.scratch.path().to_owned(), &key);
        if found == Ok(false) {
            // What is set aside is still to be salvaged, and its names and files are durable.
            let aside = std::fs::read_dir(self.folder.path().join("set-aside"));
            let mut folders = aside.into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
            found = Ok(folders.any(|folder| self.find_in(folder, &key).is_ok_and(|found| found)));
        }
        for entry in std::fs::read_dir(self.scratch.path()).expect("a folder").filter_map(Result::ok) {
            std::fs::remove_file(entry.path()).expect("a file");
        }
        match found {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{key:?} is acknowledged, and a power cut would take it")),
            Err(error) => Err(format!("after a power cut the store cannot be read: {error}")),
        }
    }

    fn find_in(&mut self, folder: std::path::PathBuf, key: &(String, usize)) -> Result<bool, String> {
        let mut reader = Reader::open(&store_path(&folder), None).map_err(|error| error.to_string())?;
        let (mut after, mut block) = (0, Block::default());
        loop {
            if !reader.read(Stream::RAW, after, &mut block).map_err(|error| error.to_string())? {
                // Where something is still to be salvaged, a reader waits; there may be more behind it.
                let next = held::first_behind(reader.connection(), Stream::RAW, after);
                match next.map_err(|error| error.to_string())?.map(|batch| batch.before_first()) {
                    Some(before) if before > after => after = before,
                    _ => return Ok(false),
                }
                continue;
            }
            for entry in block.entries(after) {
                if let Entry::Record(record) = &entry
                    && record.stored.device() == key.0
                {
                    let mut text = Vec::new();
                    record.write(&mut text);
                    if self.lines.read(Stream::RAW, &text)?.number == Some(key.1) {
                        return Ok(true);
                    }
                }
            }
            after = block.last_sequence();
        }
    }
}
