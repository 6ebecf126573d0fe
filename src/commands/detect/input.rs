//! Reads several files as if they were one: plain or compressed, and the folder of an archive file by file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Our archive has three levels; a folder deeper than this is none.
const DEPTH_MAX: usize = 8;
const ZSTD_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

pub struct Files {
    waiting: VecDeque<PathBuf>,
    /// The current file. The next one is opened only at its end: an archive may have more files than a process may open.
    open: Option<(PathBuf, Box<dyn Read>)>,
    pub bytes: u64,
}

impl Files {
    /// Finds all of them first, so that a wrong name is reported before anything is printed.
    pub fn find(paths: &[PathBuf]) -> io::Result<Files> {
        let mut files = Files { waiting: VecDeque::new(), open: None, bytes: 0 };
        for path in paths {
            files.add(path, 0).map_err(|error| named(path, &error))?;
        }
        Ok(files)
    }

    fn add(&mut self, path: &Path, depth: usize) -> io::Result<()> {
        // A pipe, such as a shell's <(...), is accepted too.
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_dir() {
            if depth == 0 {
                File::open(path)?;
            }
            self.bytes += metadata.len();
            self.waiting.push_back(path.to_owned());
            return Ok(());
        }
        let mut inside: Vec<PathBuf> =
            std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
        // The archive's folder and file names begin with their time, so sorting puts them in order.
        inside.sort();
        let is_data = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            [".ndjson", ".ndjson.zst", ".ndjson.gz", ".csv"].iter().any(|suffix| name.ends_with(suffix))
        };
        let before = self.waiting.len();
        for path in inside.iter().filter(|path| depth < DEPTH_MAX && (path.is_dir() || is_data(path))) {
            self.add(path, depth + 1)?;
        }
        if depth == 0 && self.waiting.len() == before {
            return Err(io::Error::other("no file in this folder ends in .ndjson, .ndjson.zst, .ndjson.gz or .csv"));
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
    if file.fill_buf()?.starts_with(&ZSTD_MAGIC) {
        return Ok(Box::new(zstd::stream::read::Decoder::with_buffer(file)?));
    }
    if file.fill_buf()?.starts_with(&GZIP_MAGIC) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(file)));
    }
    Ok(Box::new(file))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
}

impl Read for Files {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some((path, reader)) = &mut self.open {
                match reader.read(buffer).map_err(|error| named(path, &error))? {
                    0 => self.open = None,
                    count => return Ok(count),
                }
                // The last line of a file may lack its newline.
                if let Some(first) = buffer.first_mut() {
                    *first = b'\n';
                    return Ok(1);
                }
            }
            let Some(path) = self.waiting.pop_front() else { return Ok(0) };
            let reader = open(&path).map_err(|error| named(&path, &error))?;
            self.open = Some((path, reader));
        }
    }
}
