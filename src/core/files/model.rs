//! A file system in memory, with a writer that rotates its files in each of the ways that there are. Inodes are used again at once, as on ext4.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use super::{Fault, FileId, FileSystem, Print, Seen, Stat};

#[derive(Debug, Default, Clone)]
pub struct Inode {
    pub bytes: Vec<u8>,
    links: usize,
    opens: usize,
    modified_ns: i64,
    born_ns: i64,
    /// It is compressed, and this is what is in it.
    is_packed: bool,
    /// It was made by copying this one, so that nobody appends to it.
    copy_of: Option<u64>,
    /// What it is a copy of was written to before it was cut, perhaps in sight of the reader.
    is_overtaken: bool,
}

/// What a writer does.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Appends so many lines.
    Append(u8),
    /// Appends the first half of a line. The next action writes the rest.
    Half,
    Rename,
    /// This many lines are written between the copy and the cut: nobody can save them.
    CopyTruncate(u8),
    /// The first half of the same. What follows is written, looked at and read before the cut.
    Copy,
    Cut,
    DeleteCreate,
    /// The file that was rotated last gets another line.
    Late,
    /// The file that was rotated last is compressed. Whatever has the old one open may be in time to read it.
    Compress,
}

#[derive(Debug, Default)]
pub struct Disk {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    free: Vec<u64>,
    pub now_ns: i64,
    pub tells_births: bool,
    /// Of all lines ever written.
    pub written: BTreeSet<String>,
    /// Lines that no file has any more, which went away while the reader had no chance.
    pub lost: BTreeSet<String>,
    /// Done when so many calls more were made.
    pub planned: VecDeque<(u32, usize, Action)>,
    halves: BTreeMap<usize, String>,
    /// Files that are copied and not cut yet, with their copies.
    copied: BTreeMap<usize, u64>,
    /// Lines of copies that were overtaken and of which no place was stored when the reader was killed: nothing tells that they were read.
    pub perhaps_twice: BTreeSet<String>,
    /// The reader is being killed: what it held open goes away through no fault of its own.
    pub is_killing: bool,
    /// The reader may have so few files open that it closes one which it does not know to be deleted.
    pub is_narrow: bool,
    /// This file may not be opened.
    pub unreadable: Option<String>,
    /// What begins like this is not of the glob.
    pub hidden: Option<String>,
    /// How often something was read.
    pub reads: u64,
}

pub const NAMES: [&str; 2] = ["/d/a.log", "/d/b.log"];

impl Disk {
    pub fn create(&mut self, name: &str, bytes: &[u8]) {
        let inode = self.free.pop().unwrap_or(self.inodes.len() as u64 + 1);
        let new = Inode {
            bytes: bytes.to_vec(),
            links: 1,
            modified_ns: self.tick(),
            born_ns: self.now_ns,
            opens: 0,
            is_packed: name.ends_with(".gz"),
            ..Inode::default()
        };
        self.inodes.insert(inode, new);
        if let Some(old) = self.names.insert(name.to_owned(), inode) {
            self.release(old, |inode| inode.links -= 1);
        }
    }

    fn tick(&mut self) -> i64 {
        self.now_ns += 1;
        self.now_ns
    }

    pub fn delete(&mut self, name: &str) {
        if let Some(inode) = self.names.remove(name) {
            self.release(inode, |inode| inode.links -= 1);
        }
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        if let Some(inode) = self.names.remove(from)
            && let Some(old) = self.names.insert(to.to_owned(), inode)
        {
            self.release(old, |inode| inode.links -= 1);
        }
    }

    pub fn inode(&mut self, name: &str) -> Option<&mut Inode> {
        let inode = self.names.get(name)?;
        self.inodes.get_mut(inode)
    }

    pub fn append(&mut self, name: &str, bytes: &[u8]) {
        let now_ns = self.tick();
        if self.inode(name).is_none() {
            self.create(name, b"");
        }
        let inode = self.inode(name).expect("created");
        inode.bytes.extend_from_slice(bytes);
        inode.modified_ns = now_ns;
    }

    pub fn set(&mut self, name: &str, bytes: &[u8]) {
        let now_ns = self.tick();
        let inode = self.inode(name).expect("there");
        let before = std::mem::replace(&mut inode.bytes, bytes.to_vec());
        inode.modified_ns = now_ns;
        self.lose(&before);
    }

    pub fn copy(&mut self, from: &str, to: &str) {
        if let Some(number) = self.names.get(from).copied() {
            let original = self.inodes[&number].clone();
            self.create(to, &original.bytes);
            let copy_of = original.copy_of.unwrap_or(number);
            let copy = self.inode(to).expect("created");
            (copy.copy_of, copy.is_overtaken) = (Some(copy_of), original.is_overtaken);
        }
    }

    /// The reader is killed, and has places of the files of which this is true.
    pub fn kill(&mut self, has_place: impl Fn(&FileId, &[u8]) -> bool) {
        for (base, copy) in self.copied.clone() {
            self.overtake(base, copy);
        }
        let overtaken = self.inodes.iter().filter(|(_, inode)| inode.is_overtaken);
        for number in overtaken.map(|(number, _)| *number).collect::<Vec<_>>() {
            if !has_place(&self.stat_of(number).file, &self.inodes[&number].bytes) {
                self.perhaps_twice.extend(lines(&self.inodes[&number].bytes));
            }
        }
    }

    fn overtake(&mut self, base: usize, copy: u64) {
        let size = self.inode(NAMES[base]).map_or(0, |inode| inode.bytes.len());
        let copy = self.inodes.get_mut(&copy).expect("there");
        copy.is_overtaken |= size > copy.bytes.len();
    }

    fn shift(&mut self, name: &str) {
        self.delete(&format!("{name}.3"));
        for number in [2, 1] {
            self.rename(&format!("{name}.{number}"), &format!("{name}.{}", number + 1));
        }
    }

    fn release(&mut self, number: u64, change: impl Fn(&mut Inode)) {
        let inode = self.inodes.get_mut(&number).expect("there");
        let had_no_reader = inode.opens == 0;
        change(inode);
        if inode.links == 0 && inode.opens == 0 {
            let bytes = std::mem::take(&mut inode.bytes);
            self.free.push(number);
            if had_no_reader || self.is_killing || self.is_narrow {
                self.lose(&bytes);
            }
            // It may have been cut before, unseen because it was closed. Then it is known by its last place only.
            let is_copy = |inode: &&Inode| inode.copy_of == Some(number) && inode.is_overtaken;
            for copy in self.inodes.values().filter(|_| self.is_narrow).filter(is_copy) {
                self.perhaps_twice.extend(lines(&copy.bytes));
            }
        }
    }

    /// Lines that are nowhere else.
    fn lose(&mut self, bytes: &[u8]) {
        for line in lines(bytes) {
            let is_elsewhere = |inode: &Inode| inode.links + inode.opens > 0 && lines(&inode.bytes).contains(&line);
            if !self.inodes.values().any(is_elsewhere) {
                self.lost.insert(line);
            }
        }
    }

    fn new_line(&mut self, base: usize) -> String {
        let line = format!("{}{:05}", ["a", "b"][base], self.written.len());
        self.written.insert(line.clone());
        line
    }

    fn finish_half(&mut self, base: usize) {
        if let Some(rest) = self.halves.remove(&base) {
            self.append(NAMES[base], rest.as_bytes());
        }
    }

    pub fn finish_halves(&mut self) {
        self.finish_half(0);
        self.finish_half(1);
    }

    pub fn act(&mut self, base: usize, action: Action) {
        self.finish_half(base);
        let name = NAMES[base];
        let rotated = |number: usize| format!("{name}.{number}");
        // Nobody rotates a file a second time before it is cut.
        let is_rotation = |action: Action| !matches!(action, Action::Append(_) | Action::Half | Action::Late);
        if is_rotation(action)
            && let Some(copy) = self.copied.remove(&base)
        {
            self.overtake(base, copy);
            self.set(name, b"");
        }
        match action {
            Action::Append(count) => {
                for _ in 0..count {
                    let line = self.new_line(base);
                    self.append(name, format!("{line}\n").as_bytes());
                }
            }
            Action::Half => {
                let line = self.new_line(base) + "\n";
                let (first, rest) = line.split_at(3);
                self.append(name, first.as_bytes());
                self.halves.insert(base, rest.to_owned());
            }
            Action::Rename | Action::CopyTruncate(_) if self.names.contains_key(name) => {
                self.shift(name);
                if let Action::CopyTruncate(count) = action {
                    self.copy(name, &rotated(1));
                    self.act(base, Action::Append(count));
                    self.set(name, b"");
                } else {
                    self.rename(name, &rotated(1));
                    self.create(name, b"");
                }
            }
            Action::Copy if self.names.contains_key(name) => {
                self.shift(name);
                self.copy(name, &rotated(1));
                self.copied.insert(base, self.names[&rotated(1)]);
            }
            Action::Rename | Action::CopyTruncate(_) | Action::Copy | Action::Cut => {}
            Action::DeleteCreate => {
                self.delete(name);
                self.create(name, b"");
            }
            Action::Late if self.inode(&rotated(1)).is_some_and(|inode| inode.copy_of.is_none()) => {
                let line = self.new_line(base);
                self.append(&rotated(1), format!("{line}\n").as_bytes());
            }
            Action::Late => {}
            Action::Compress if self.names.contains_key(&rotated(1)) => {
                let packed = rotated(4) + ".gz";
                self.copy(&rotated(1), &packed);
                self.delete(&rotated(1));
            }
            Action::Compress => {}
        }
    }

    fn stat_of(&self, number: u64) -> Stat {
        let inode = &self.inodes[&number];
        let born_ns = self.tells_births.then_some(inode.born_ns);
        let file = FileId { device: 1, inode: number, born_ns };
        let packed = inode.is_packed.then(|| Print::of(&inode.bytes).hash);
        let (size, modified_ns) = (inode.bytes.len() as u64, inode.modified_ns);
        Stat { file, size, modified_ns, is_linked: inode.links > 0, packed, is_damaged: false }
    }

    fn called(&mut self) {
        let Some((calls, base, action)) = self.planned.front_mut() else { return };
        match calls {
            0 => {
                let (base, action) = (*base, *action);
                self.planned.pop_front();
                self.act(base, action);
            }
            _ => *calls -= 1,
        }
    }
}

pub fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(|line| line.trim().to_owned()).collect()
}

/// The disk as a reader sees it.
#[derive(Clone, Debug, Default)]
pub struct View(pub Rc<RefCell<Disk>>);

#[derive(Debug)]
pub struct Opened {
    inode: u64,
    disk: Rc<RefCell<Disk>>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.disk.borrow_mut().release(self.inode, |inode| inode.opens -= 1);
    }
}

impl FileSystem for View {
    type Handle = Opened;

    fn list(&mut self) -> Result<Vec<Seen>, Fault> {
        let mut disk = self.0.borrow_mut();
        disk.called();
        let seen = |(path, number): (&String, &u64)| Seen { path: path.clone(), stat: disk.stat_of(*number) };
        let is_hidden = |path: &str| disk.hidden.as_deref().is_some_and(|hidden| path.starts_with(hidden));
        Ok(disk.names.iter().filter(|(path, _)| !is_hidden(path)).map(seen).collect())
    }

    fn open(&mut self, path: &str) -> Result<Opened, Fault> {
        let mut disk = self.0.borrow_mut();
        disk.called();
        if disk.unreadable.as_deref() == Some(path) {
            return Err(Fault("permission denied".into()));
        }
        let inode = *disk.names.get(path).ok_or(Fault("no such file".into()))?;
        disk.inodes.get_mut(&inode).expect("there").opens += 1;
        Ok(Opened { inode, disk: Rc::clone(&self.0) })
    }

    fn stat(&mut self, handle: &Opened) -> Result<Stat, Fault> {
        let mut disk = self.0.borrow_mut();
        disk.called();
        Ok(disk.stat_of(handle.inode))
    }

    fn read_at(&mut self, handle: &Opened, offset: u64, buffer: &mut [u8]) -> Result<usize, Fault> {
        let mut disk = self.0.borrow_mut();
        disk.called();
        disk.reads += 1;
        let bytes = &disk.inodes[&handle.inode].bytes;
        let rest = bytes.get(usize::try_from(offset).expect("small")..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}
