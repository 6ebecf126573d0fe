//! The memory that the program's own code takes.

use std::ops::Range;
use std::path::Path;

/// Unmaps the code of this program and what is constant, which come back from its file, or from what the kernel keeps of it, as it runs on.
/// Afterwards only what a running gateway needs counts as its memory, without what only its start passed through.
pub fn give_back() {
    let (Ok(maps), Ok(program)) = (std::fs::read_to_string("/proc/self/smaps"), std::env::current_exe()) else {
        return;
    };
    for pages in unchanged(&maps, &program) {
        // SAFETY: a mapping of a file of which no page was ever written, and none may be: what is read there is the same before and after.
        unsafe { libc::madvise(pages.start as *mut libc::c_void, pages.len(), libc::MADV_DONTNEED) };
    }
}

/// The mappings of a program that are as they are in its file, by the kernel's list. Others hold what relocation wrote, and would lose it.
fn unchanged(maps: &str, program: &Path) -> Vec<Range<usize>> {
    let (mut found, mut mapping) = (Vec::new(), None);
    for line in maps.lines() {
        // What the kernel says of a mapping stands below its line.
        if let Some((name, value)) = line.split_once(':').filter(|(name, _)| !name.contains(' ')) {
            if matches!(name, "Anonymous" | "Swap") && value.trim() != "0 kB" {
                mapping = None;
            } else if name == "VmFlags" {
                found.extend(mapping.take());
            }
        } else {
            mapping = of_program(line, program);
        }
    }
    found
}

/// A mapping of the program that nobody may write to: addresses, rights, offset, device, inode, and the path, which may have spaces.
fn of_program(line: &str, program: &Path) -> Option<Range<usize>> {
    let (addresses, rest) = line.split_once(' ')?;
    let path = rest.split_once('/').map(|(_, path)| format!("/{path}"))?;
    if !(rest.starts_with("r-xp ") || rest.starts_with("r--p ")) || Path::new(&path) != program {
        return None;
    }
    let (start, end) = addresses.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_the_program_itself_is_given_back() {
        let mapping = |line: &str, anonymous: u32, swap: u32| {
            format!(
                "{line}\nSize: 4096 kB\nRss: 64 kB\nAnonymous: {anonymous:8} kB\nSwap: {swap:8} kB\nVmFlags: rd mr mw me\n"
            )
        };
        let program = "/opt/out rider/outrider";
        let maps = [
            mapping(&format!("00200000-00400000 r--p 00000000 fe:00 1234                       {program}"), 0, 0),
            mapping(&format!("00400000-00800000 r--p 00200000 fe:00 1234                       {program}"), 12, 0),
            mapping(&format!("00800000-01000000 r-xp 00400000 fe:00 1234                       {program}"), 0, 0),
            mapping(&format!("01000000-01100000 r--p 00c00000 fe:00 1234                       {program}"), 0, 8),
            mapping(&format!("01100000-01200000 rw-p 00d00000 fe:00 1234                       {program}"), 0, 0),
            mapping("70000000-70100000 r-xp 00000000 fe:00 99                         /usr/lib/libc.so.6", 0, 0),
            mapping("70200000-70201000 r-xp 00000000 00:00 0                          [vdso]", 0, 0),
        ];
        let found = unchanged(&maps.concat(), Path::new(program));
        assert_eq!(found, vec![0x0020_0000..0x0040_0000, 0x0080_0000..0x0100_0000]);
        assert!(unchanged(&maps.concat(), Path::new("/opt/outrider")).is_empty());
    }

    /// The control is in it: what relocation wrote would be lost with its pages, and the program with it.
    #[test]
    fn the_program_runs_on_without_its_pages() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
            let line = status.lines().find(|line| line.starts_with("RssFile:")).expect("a line").to_owned();
            line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("KiB")
        };
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("procfs");
        let program = std::env::current_exe().expect("a path");
        let all = maps.lines().filter_map(|line| of_program(line, &program)).count();
        let pages = unchanged(&maps, &program);
        assert!(!pages.is_empty() && pages.len() < all, "{maps}");
        let before = resident();
        give_back();
        assert!(resident() < before, "{before} KiB, and no less afterwards");
    }
}
