//! `..secretfs`: marks a directory as kept by a sync, and has the names that cannot be told by their form.
//!
//! The first line is `secretfs sync PID MODE UID GID`: who keeps it (ten digits, so that the next one can overwrite them on a
//! full file system), and what the directory was before. Each further line is `+PATH` before a name is made, or `-PATH`
//! after it was removed, as JSON strings. Paths say which objects there are, and nothing else.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::volume::{Attr, NewBody, NewNode};

/// The file's name: neither a key nor an object nor a file of the kubelet's layout.
pub(super) const NAME: &str = "..secretfs";
const HEAD: &str = "secretfs sync ";

pub(super) struct Record {
    file: File,
    paths: BTreeSet<String>,
    /// Who keeps the directory, or kept it last.
    pub(super) pid: u32,
    /// Mode and owner of the directory before anybody kept it.
    pub(super) before: Attr,
}

impl Record {
    /// Reads what an earlier process left. `None`: nobody has kept the directory.
    ///
    /// Errors: what is there is not ours, or cannot be read.
    pub fn read(dir: BorrowedFd<'_>) -> io::Result<Option<Record>> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::APPEND;
        let mut file = match rustix::fs::openat(dir, NAME, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&file)?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        // Who may write it could have us remove what is not ours.
        let safe =
            stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & 0o022 == 0 && stat.st_nlink == 1;
        let mut text = String::new();
        if !regular || !safe || file.read_to_string(&mut text).is_err() {
            return Err(io::Error::other(format!("{NAME} in it was not made by a secretfs sync of this user")));
        }
        let (pid, before) = head(&text).ok_or_else(|| io::Error::other(format!("{NAME} in it makes no sense")))?;
        let mut paths = BTreeSet::new();
        // A last line without its end was not written whole: what it names was not made.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        for line in whole.lines().skip(1) {
            let Some((sign, path)) = line.split_at_checked(1) else { continue };
            let Ok(path) = serde_json::from_str::<String>(path) else { continue };
            match sign {
                "+" => drop(paths.insert(path)),
                _ => drop(paths.remove(&path)),
            }
        }
        if whole.len() < text.len() {
            file.set_len(whole.len() as u64)?;
        }
        Ok(Some(Record { file, paths, pid, before }))
    }

    /// Marks a directory as kept by this process.
    pub fn create(dir: BorrowedFd<'_>, before: Attr) -> io::Result<Record> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::APPEND;
        let mut file = File::from(rustix::fs::openat(dir, NAME, flags, Mode::RUSR | Mode::WUSR)?);
        let pid = std::process::id();
        let Attr { mode, uid, gid } = before;
        let written = file.write_all(format!("{HEAD}{pid:010} {mode:o} {uid} {gid}\n").as_bytes());
        if let Err(error) = written {
            Record::remove(dir);
            return Err(error);
        }
        Ok(Record { file, paths: BTreeSet::new(), pid, before })
    }

    /// This process keeps the directory from now on.
    pub fn claim(&mut self, dir: BorrowedFd<'_>) -> io::Result<()> {
        self.pid = std::process::id();
        // What is open for appending is written at its end whatever the position (pwrite(2), BUGS).
        let file = File::from(rustix::fs::openat(
            dir,
            NAME,
            OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?);
        file.write_all_at(format!("{:010}", self.pid).as_bytes(), HEAD.len() as u64)
    }

    pub fn remove(dir: BorrowedFd<'_>) {
        let _ = rustix::fs::unlinkat(dir, NAME, AtFlags::empty());
    }

    pub fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// Writes down what is about to be made at `path`.
    pub fn will_make(&mut self, path: &str, node: &NewNode) -> io::Result<()> {
        let mut new = Vec::new();
        owned(path, node, &mut new);
        new.retain(|path| !self.paths.contains(path));
        self.append('+', &new)?;
        self.paths.extend(new);
        Ok(())
    }

    /// What was at `path` is gone.
    pub fn is_gone(&mut self, path: &str) {
        if self.paths.remove(path) {
            // At worst the name is taken for ours if somebody else makes it after a crash.
            let _ = self.append('-', &[path.to_owned()]);
        }
    }

    fn append(&mut self, sign: char, paths: &[String]) -> io::Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        for path in paths {
            text.push(sign);
            text.push_str(&serde_json::to_string(path)?);
            text.push('\n');
        }
        let before = self.file.metadata()?.len();
        let written = self.file.write_all(text.as_bytes());
        if written.is_err() {
            let _ = self.file.set_len(before);
        }
        written
    }
}

fn head(text: &str) -> Option<(u32, Attr)> {
    let mut words = text.lines().next()?.strip_prefix(HEAD)?.split(' ');
    let pid = words.next()?.parse().ok()?;
    let mode = u32::from_str_radix(words.next()?, 8).ok()?;
    let (uid, gid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((pid, Attr { mode, uid, gid }))
}

/// The paths of a new node that are not known by their form.
fn owned(path: &str, node: &NewNode, all: &mut Vec<String>) {
    let name = path.rsplit('/').next().unwrap_or_default();
    if name.starts_with("..") || matches!(node.body, NewBody::Link(_)) {
        return;
    }
    all.push(path.to_owned());
    if let NewBody::Dir(children) = &node.body {
        children.iter().for_each(|(name, child)| owned(&format!("{path}/{name}"), child, all));
    }
}
