//! A directory tree as comparable data.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// One name in a tree. Times and inode numbers are left out: no two trees share them.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u64,
    pub size: u64,
    pub blocks: u64,
    /// A link's target, or a file's bytes.
    pub content: Vec<u8>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { mode, uid, gid, nlink, size, blocks, content } = self;
        write!(f, "mode {mode:o} owner {uid}:{gid} nlink {nlink} size {size} blocks {blocks} {}", Brief(content))
    }
}

/// Bytes in messages: all of them, or the beginning and a sum by which to tell them apart.
pub struct Brief<'a>(pub &'a [u8]);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Brief(bytes) = self;
        let sum = bytes.iter().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        match bytes.len() {
            0..=40 => write!(f, "\"{}\"", bytes.escape_ascii()),
            len => write!(f, "\"{}\"... ({len} bytes, sum {sum:08x})", bytes[..20].escape_ascii()),
        }
    }
}

/// What distinguishes two trees, a line for each name, as far as somebody will read them; empty if nothing does.
pub fn differences<T: PartialEq + fmt::Debug>(
    expected: &BTreeMap<String, T>,
    found: &BTreeMap<String, T>,
) -> Vec<String> {
    let mut all = Vec::new();
    for (name, expected) in expected {
        match found.get(name) {
            None => all.push(format!("{name:?} is missing: {expected:?}")),
            Some(found) if found != expected => all.push(format!("{name:?}: {found:?}, not {expected:?}")),
            Some(_) => {}
        }
    }
    let only_found = found.iter().filter(|(name, _)| !expected.contains_key(*name));
    all.extend(only_found.map(|(name, found)| format!("{name:?} is too much: {found:?}")));
    if all.len() > 10 {
        let more = all.split_off(10).len();
        all.push(format!("and {more} more"));
    }
    all
}

/// Everything below `dir`, `dir` itself as "". Names of generations, which hold a time and a random number, become
/// `..TS` after their form has been checked.
#[track_caller]
pub fn snapshot(dir: &Path) -> BTreeMap<String, Entry> {
    try_snapshot(dir).unwrap_or_else(|error| panic!("{error}"))
}

/// The same of a tree that may change meanwhile.
pub fn try_snapshot(dir: &Path) -> Result<BTreeMap<String, Entry>, String> {
    let mut all = BTreeMap::new();
    add(dir, "", &mut all)?;
    Ok(all)
}

fn add(path: &Path, name: &str, all: &mut BTreeMap<String, Entry>) -> Result<(), String> {
    let because = |error: std::io::Error| format!("{}: {error}", path.display());
    let found = std::fs::symlink_metadata(path).map_err(because)?;
    let content = if found.is_symlink() {
        let target = std::fs::read_link(path).map_err(because)?;
        // Only a generation's name varies in length.
        assert_eq!(found.size(), target.as_os_str().len() as u64, "size of {}", path.display());
        plain(target.to_str().expect("UTF-8")).into_bytes()
    } else if found.is_file() {
        std::fs::read(path).map_err(because)?
    } else {
        Vec::new()
    };
    let entry = Entry {
        mode: found.mode(),
        uid: found.uid(),
        gid: found.gid(),
        nlink: found.nlink(),
        size: if found.is_symlink() && name.rsplit('/').next() == Some("..data") { 0 } else { found.size() },
        blocks: found.blocks(),
        content,
    };
    if all.insert(name.to_owned(), entry).is_some() {
        return Err(format!("{name} twice: two generations at once?"));
    }
    if found.is_dir() {
        for entry in std::fs::read_dir(path).map_err(because)? {
            let entry = entry.map_err(because)?;
            add(&entry.path(), &below(name, &entry), all)?;
        }
    }
    Ok(())
}

/// Which inode a name is, and when it was changed: what programs remember of a file that they poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub ino: u64,
    pub mtime: (i64, i64),
    pub ctime: (i64, i64),
}

/// The identities of everything below `dir`, under the names of [`snapshot`].
#[track_caller]
pub fn identities(dir: &Path) -> BTreeMap<String, Identity> {
    let mut all = BTreeMap::new();
    add_identity(dir, "", &mut all);
    all
}

fn add_identity(path: &Path, name: &str, all: &mut BTreeMap<String, Identity>) {
    let found = std::fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mtime = (found.mtime(), found.mtime_nsec());
    let ctime = (found.ctime(), found.ctime_nsec());
    all.insert(name.to_owned(), Identity { ino: found.ino(), mtime, ctime });
    if found.is_dir() {
        for entry in std::fs::read_dir(path).expect("readdir").flatten() {
            add_identity(&entry.path(), &below(name, &entry), all);
        }
    }
}

fn below(name: &str, entry: &std::fs::DirEntry) -> String {
    let below = plain(entry.file_name().to_str().expect("UTF-8"));
    if name.is_empty() { below } else { format!("{name}/{below}") }
}

/// A generation's name as `..TS`, anything else as it is.
pub fn plain(name: &str) -> String {
    if is_generation(name) { "..TS".into() } else { name.to_owned() }
}

/// `..YYYY_MM_DD_hh_mm_ss.N`, N of one to ten digits without leading zeros.
fn is_generation(name: &str) -> bool {
    let Some((date, number)) = name.strip_prefix("..").and_then(|rest| rest.split_once('.')) else { return false };
    let parts: Vec<&str> = date.split('_').collect();
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    parts.len() == 6
        && digits(parts[0], 4)
        && parts[1..].iter().all(|part| digits(part, 2))
        && number.parse::<u32>().is_ok_and(|parsed| parsed.to_string() == number)
}
