//! Batches of a damaged store, found by looking at each of its pages, so that it does not matter what became of the tree above them: a page
//! that lies in another's place, twice, or where it was before still has its rows.
//!
//! A row is believed only if its check agrees. Where several versions are found, what is committed comes first, and nothing that overlaps
//! it is taken beside it: the rest may be what a power cut left of a commit that never was.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::cell::{Cell, Value, cells};
use super::header::BatchHeader;
use super::held;
use super::log::HeldBatch;
use super::pages::{Pages, Place, View};
use super::reader::LogRun;
use super::runs::Run;
use super::streams::{self, KnownStreams};
use crate::core::identity::{Keep, RunId, Stream, StreamRow, Streams};
use crate::core::json;

/// Batches of which the places are in memory at a time. Where there are more, the pages are looked at again.
const WINDOW_BATCHES: usize = 32_768;
/// Versions of one batch that are tried.
const VERSIONS_MAX: usize = 8;

/// Where a row lies.
#[derive(Clone, Copy, Debug)]
struct Spot {
    view: View,
    place: Place,
    /// Among the cells of the page.
    cell: usize,
    count: u32,
}

/// Looks for the intact batches of a store.
#[derive(Debug)]
pub(super) struct Scan {
    pages: Pages,
    runs: HashMap<i64, Vec<Arc<LogRun>>>,
    window: Window,
    /// A batch whose records say that they are of another stream is of another store.
    streams: Option<Streams>,
}

/// Batches of a stream that were found intact: all of them behind a sequence, and up to another one.
#[derive(Debug)]
struct Window {
    stream: Stream,
    after: u64,
    /// `None` if there are no more behind these.
    through: Option<u64>,
    /// Last first.
    found: Vec<(i64, Spot)>,
}

impl Scan {
    /// `known`: runs by their numbers, from elsewhere, should their own rows be damaged.
    pub fn open(store: &Path, known: &[(i64, Run)]) -> io::Result<Scan> {
        let pages = Pages::open(store)?;
        let window = Window { stream: Stream::RAW, after: u64::MAX, through: None, found: Vec::new() };
        let mut scan = Scan { pages, runs: HashMap::new(), window, streams: None };
        known.iter().for_each(|(number, run)| scan.know_run(*number, run.clone()));
        scan.each_row(|scan, _, cell| {
            if let Some((number, run)) = run_of(&cell) {
                scan.know_run(number, run);
            }
        })?;
        Ok(scan)
    }

    /// Believes only batches of these streams.
    pub fn named(self, streams: &Streams) -> Scan {
        Scan { streams: Some(streams.clone()), ..self }
    }

    /// The same with all streams that are found: those that are not known have the name that their own records have for them.
    pub fn name_streams(mut self, mut known: KnownStreams) -> io::Result<(Streams, Scan)> {
        let mut found = BTreeSet::new();
        self.each_row(|_, _, cell| found.extend(header_of(&cell).and_then(|header| held::stream(header.id))))?;
        let mut last = Stream::ANOMALIES;
        for stream in found {
            // That it is intact shows that there is such a stream.
            let Some(batch) = self.next(stream, 0)? else { continue };
            last = last.max(stream);
            if let Some(name) = streams::named_by_records(&batch.payload).filter(|_| !known.has(stream)) {
                known.note(StreamRow { stream, name: name.into(), keep: Keep::default(), is_watched: false });
            }
        }
        let streams = known.through(last);
        let scan = self.named(&streams);
        Ok((streams, scan))
    }

    fn know_run(&mut self, number: i64, run: Run) {
        let known = self.runs.entry(number).or_default();
        if known.len() < VERSIONS_MAX && !known.iter().any(|known| known.run == run.run && known.gateway == run.gateway)
        {
            let Run { run, gateway, started_ms } = run;
            known.push(Arc::new(LogRun { run, gateway_json: json::escape(&gateway), gateway, started_ms }));
        }
    }

    /// The first intact batch of a stream that lies wholly behind `after`, or overlaps it.
    pub fn next(&mut self, stream: Stream, after: u64) -> io::Result<Option<HeldBatch>> {
        if self.window.stream != stream || self.window.after > after {
            self.look(stream, after)?;
        }
        loop {
            while let Some((id, spot)) = self.window.found.pop() {
                if held::sequence(id) <= after {
                    continue;
                }
                if let Some(batch) = self.load(id, spot)? {
                    return Ok(Some(batch));
                }
            }
            match self.window.through {
                Some(through) => self.look(stream, through)?,
                None => return Ok(None),
            }
        }
    }

    /// The last sequence of all that is found behind `after`; `after` itself if there is nothing.
    pub fn last_sequence(&mut self, stream: Stream, mut after: u64) -> io::Result<u64> {
        while let Some(batch) = self.next(stream, after)? {
            after = batch.last_sequence;
        }
        Ok(after)
    }

    fn look(&mut self, stream: Stream, after: u64) -> io::Result<()> {
        let wanted = held::behind(stream, after);
        let mut spots: BTreeMap<i64, Vec<Spot>> = BTreeMap::new();
        let mut is_cut = false;
        self.each_row(|_, (view, place, number), cell| {
            let Some(header) = header_of(&cell).filter(|header| wanted.contains(&header.id)) else { return };
            let versions = spots.entry(header.id).or_default();
            if versions.len() < VERSIONS_MAX {
                versions.push(Spot { view, place, cell: number, count: header.count });
            }
            if spots.len() > WINDOW_BATCHES {
                is_cut = true;
                spots.pop_last();
            }
        })?;
        let through = spots.last_key_value().map(|(last, _)| held::sequence(*last)).filter(|_| is_cut);
        let mut taken: BTreeMap<i64, Spot> = BTreeMap::new();
        for wanted_view in [View::Committed, View::File, View::Log] {
            for (id, versions) in &spots {
                for spot in versions.iter().filter(|spot| spot.view == wanted_view) {
                    if is_free(&taken, *id, spot.count) && self.load(*id, *spot)?.is_some() {
                        taken.insert(*id, *spot);
                    }
                }
            }
        }
        self.window = Window { stream, after, through, found: taken.into_iter().rev().collect() };
        Ok(())
    }

    /// The batch, if its check agrees: with the overflow pages as any of the views has them.
    fn load(&self, id: i64, spot: Spot) -> io::Result<Option<HeldBatch>> {
        let mut page = Vec::new();
        self.pages.read(spot.place, &mut page)?;
        let Some(cell) = cells(&page, matches!(spot.place, Place::File(1))).nth(spot.cell) else { return Ok(None) };
        let own = if spot.view == View::Log { View::Log } else { View::Committed };
        for view in [own, View::File, View::Log, View::Committed] {
            let record = self.record(&cell, view)?;
            if let Some(batch) = record.and_then(|record| self.batch_of(id, &record)) {
                return Ok(Some(batch).filter(|batch| self.is_of_its_stream(id, batch)));
            }
        }
        Ok(None)
    }

    /// The whole record of a cell; `None` where its overflow pages are not there.
    fn record(&self, cell: &Cell<'_>, view: View) -> io::Result<Option<Vec<u8>>> {
        let mut record = cell.local.to_vec();
        let (mut next, mut page) = (cell.overflow, Vec::new());
        while record.len() < cell.bytes {
            let Some(place) = self.pages.find(next, view) else { return Ok(None) };
            self.pages.read(place, &mut page)?;
            next = u32::from_be_bytes(page[..4].try_into().expect("four bytes"));
            let wanted = (cell.bytes - record.len()).min(page.len() - 4);
            record.extend_from_slice(&page[4..4 + wanted]);
        }
        Ok(Some(record))
    }

    fn batch_of(&self, id: i64, record: &[u8]) -> Option<HeldBatch> {
        let values = Value::all(record)?;
        let (run_number, check) = (values.get(1)?.number()?, values.get(8)?.number()?);
        let payload = values.get(9)?.bytes()?;
        let header = header_from(id, &values)?;
        let is_right = |run: &&Arc<LogRun>| {
            i64::from(BatchHeader { run: run.run, ..header }.check(&run.gateway, payload)) == check
        };
        let run = self.runs.get(&run_number)?.iter().find(is_right)?;
        HeldBatch::decompress(Arc::clone(run), &BatchHeader { run: run.run, ..header }, payload)
    }

    fn is_of_its_stream(&self, id: i64, batch: &HeldBatch) -> bool {
        let Some((stream, streams)) = held::stream(id).zip(self.streams.as_ref()) else { return true };
        let name = streams::named_by_records(&batch.payload);
        name.is_none_or(|name| streams.has(stream) && *name == **streams.name(stream))
    }

    /// Calls `each` with every cell of every page that is a leaf of a table, and where it lies.
    fn each_row(&mut self, mut each: impl FnMut(&mut Scan, (View, Place, usize), Cell<'_>)) -> io::Result<()> {
        let places: Vec<(View, Place)> = self.pages.all().collect();
        let mut page = Vec::new();
        for (view, place) in places {
            self.pages.read(place, &mut page)?;
            for (number, cell) in cells(&page, matches!(place, Place::File(1))).enumerate() {
                each(self, (view, place, number), cell);
            }
        }
        Ok(())
    }
}

/// A batch: its stream, the sequence of its last record, and its number of records.
pub type BatchName = (Stream, u64, u64);

/// Which batches have a part on each page of the file, from page 0 on. It says what damage to a page can cost.
///
/// # Errors
///
/// If the store cannot be read.
pub fn pages_of_batches(store: &Path) -> io::Result<HashMap<usize, Vec<BatchName>>> {
    let mut scan = Scan::open(store, &[])?;
    let mut by_page: HashMap<usize, Vec<BatchName>> = HashMap::new();
    let mut rows = Vec::new();
    scan.each_row(|_, (view, place, _), cell| {
        if let (View::Committed, Some(header)) = (view, header_of(&cell)) {
            rows.push((place, cell.overflow, cell.bytes - cell.local.len(), header));
        }
    })?;
    let mut page = Vec::new();
    for (mut place, mut next, mut left, header) in rows {
        let Some(stream) = held::stream(header.id) else { continue };
        loop {
            if let Place::File(number) = place {
                let batch = (stream, held::sequence(header.id), u64::from(header.count));
                by_page.entry(number as usize - 1).or_default().push(batch);
            }
            let Some(found) = scan.pages.find(next, View::Committed).filter(|_| left > 0) else { break };
            place = found;
            scan.pages.read(place, &mut page)?;
            next = u32::from_be_bytes(page[..4].try_into().expect("four bytes"));
            left = left.saturating_sub(page.len() - 4);
        }
    }
    Ok(by_page)
}

/// Whether no batch that is taken overlaps this one.
fn is_free(taken: &BTreeMap<i64, Spot>, id: i64, count: u32) -> bool {
    let before = taken.range(..=id).next_back().is_none_or(|(before, _)| before + i64::from(count) <= id);
    let behind = taken.range(id..).next().is_none_or(|(behind, spot)| behind - i64::from(spot.count) >= id);
    before && behind
}

/// The columns of a batch, as far as they are within the page; without its run.
fn header_of(cell: &Cell<'_>) -> Option<BatchHeader> {
    let values = Value::all_within(cell.local)?;
    (values.len() >= 9).then(|| header_from(cell.row_id, &values))?
}

/// Columns of a batch in the order of its table: id (which is the row's), run, first_position, count, first_ms, last_ms, raw_len, codec,
/// check, payload.
fn header_from(id: i64, values: &[Value<'_>]) -> Option<BatchHeader> {
    let number = |column: usize| values.get(column).and_then(Value::number);
    let count = u32::try_from(number(3)?).ok().filter(|count| u64::from(*count) <= held::sequence(id) && *count > 0)?;
    Some(BatchHeader {
        id,
        run: RunId::default(),
        first_position: number(2)?.cast_unsigned(),
        count,
        first_ms: number(4)?,
        last_ms: number(5)?,
        raw_len: number(6)?.cast_unsigned(),
        codec: number(7)?,
    })
}

/// A row of the table of runs: id, run, gateway, started_ms.
fn run_of(cell: &Cell<'_>) -> Option<(i64, Run)> {
    let values = Value::all(cell.local)?;
    let [_, run, gateway, started_ms] = values.as_slice() else { return None };
    let run = RunId(run.bytes()?.try_into().ok()?);
    Some((cell.row_id, Run { run, gateway: gateway.text()?.to_owned(), started_ms: started_ms.number()? }))
}

#[cfg(test)]
mod tests;
