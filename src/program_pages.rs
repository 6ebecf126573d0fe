//! The memory that the program's own code takes.

use std::ops::Range;
use std::path::Path;

/// Unmaps the code of this program, which comes back from its file, or from what the kernel keeps of it, as it runs on. Afterwards only
/// what a running gateway needs counts as its memory, without what only its start passed through.
pub fn give_back() {
    let (Ok(maps), Ok(program)) = (std::fs::read_to_string("/proc/self/maps"), std::env::current_exe()) else {
        return;
    };
    for pages in code(&maps, &program) {
        // SAFETY: a mapping of a file that may not be written to: what is read there is the same before and after.
        unsafe { libc::madvise(pages.start as *mut libc::c_void, pages.len(), libc::MADV_DONTNEED) };
    }
}

/// The mappings of a program's code, by the kernel's list. Others hold what relocation wrote, and would lose it.
fn code(maps: &str, program: &Path) -> Vec<Range<usize>> {
    let is_program = |path: &str| Path::new(path) == program;
    let of_line = |line: &str| {
        // Addresses, rights, offset, device, inode, and the path, which may have spaces.
        let (addresses, rest) = line.split_once(' ')?;
        let path = rest.split_once('/').map(|(_, path)| format!("/{path}"))?;
        if !rest.starts_with("r-xp ") || !is_program(&path) {
            return None;
        }
        let (start, end) = addresses.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        Some(address(start)?..address(end)?)
    };
    maps.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_itself_is_given_back() {
        let maps = "\
00400000-00800000 r--p 00000000 fe:00 1234                       /opt/out rider/outrider
00800000-01000000 r-xp 00400000 fe:00 1234                       /opt/out rider/outrider
01000000-01100000 rw-p 00c00000 fe:00 1234                       /opt/out rider/outrider
70000000-70100000 r-xp 00000000 fe:00 99                         /usr/lib/libc.so.6
70200000-70201000 r-xp 00000000 00:00 0                          [vdso]
";
        assert_eq!(code(maps, Path::new("/opt/out rider/outrider")), vec![0x0080_0000..0x0100_0000]);
        assert!(code(maps, Path::new("/opt/outrider")).is_empty());
    }

    #[test]
    fn the_program_runs_on_without_its_pages() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
            let line = status.lines().find(|line| line.starts_with("RssFile:")).expect("a line").to_owned();
            line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("KiB")
        };
        let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
        let pages = code(&maps, &std::env::current_exe().expect("a path"));
        assert!(!pages.is_empty(), "{maps}");
        let before = resident();
        give_back();
        assert!(resident() < before, "{before} KiB, and no less afterwards");
    }
}
