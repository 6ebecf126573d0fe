//! Reads the archive as a data engineer would.

use std::io::{BufRead, BufReader};
use std::path::Path;

/// Calls `each` with every line of a stream's finished files, in the order of their names.
pub fn read(root: &Path, stream: &str, mut each: impl FnMut(&str)) {
    let mut files = Vec::new();
    collect(&root.join(stream), ".ndjson.zst", &mut files);
    files.sort();
    for file in files {
        let decoder = zstd::Decoder::new(std::fs::File::open(&file).unwrap()).unwrap();
        for line in BufReader::new(decoder).lines() {
            each(&line.unwrap());
        }
    }
}

/// All records of a stream.
pub fn records(root: &Path, stream: &str) -> Vec<serde_json::Value> {
    let mut records = Vec::new();
    read(root, stream, |line| records.push(serde_json::from_str(line).unwrap()));
    records
}

/// Calls `each` with every complete line of the files that a kill left unfinished.
pub fn read_unfinished(root: &Path, stream: &str, mut each: impl FnMut(&str)) {
    let mut files = Vec::new();
    collect(&root.join(stream), ".unfinished", &mut files);
    for file in files {
        let mut decoder = BufReader::new(zstd::Decoder::new(std::fs::File::open(&file).unwrap()).unwrap());
        let mut line = String::new();
        // The decoder fails where the file breaks off.
        while decoder.read_line(&mut line).is_ok() && line.ends_with('\n') {
            each(&line);
            line.clear();
        }
    }
}

fn collect(folder: &Path, suffix: &str, files: &mut Vec<std::path::PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, suffix, files);
        } else if path.to_string_lossy().ends_with(suffix) {
            files.push(path);
        }
    }
}

/// The text of a field in a line written by the gateway; the order of fields is fixed, and this is faster than a parser.
pub fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let start = line.find(&format!("\"{name}\":")).unwrap_or_else(|| panic!("no {name} in {line}")) + name.len() + 3;
    let rest = &line[start..];
    let end = rest.find([',', '}']).unwrap();
    rest[..end].trim_matches('"')
}
