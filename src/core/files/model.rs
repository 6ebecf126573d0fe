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
        if let Some(bytes) = self.inode(from).map(|inode| inode.bytes.clone()) {
            self.create(to, &bytes);
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
                self.delete(&rotated(3));
                self.rename(&rotated(2), &rotated(3));
                self.rename(&rotated(1), &rotated(2));
                if let Action::CopyTruncate(count) = action {
                    self.copy(name, &rotated(1));
                    self.act(base, Action::Append(count));
                    self.set(name, b"");
                } else {
                    self.rename(name, &rotated(1));
                    self.create(name, b"");
                }
            }
            Action::Rename | Action::CopyTruncate(_) => {}
            Action::DeleteCreate => {
                self.delete(name);
                self.create(name, b"");
            }
            Action::Late if self.names.contains_key(&rotated(1)) => {
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
        Stat { file, size, modified_ns, is_linked: inode.links > 0, packed }
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
