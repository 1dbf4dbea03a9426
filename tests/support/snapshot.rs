//! A directory tree as comparable data.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// One name in a tree. Times and inode numbers are left out: no two trees share them.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Everything below `dir`, `dir` itself as "". Names of generations, which hold a time and a random number, become
/// `..TS` after their form has been checked.
#[track_caller]
pub fn snapshot(dir: &Path) -> BTreeMap<String, Entry> {
    let mut all = BTreeMap::new();
    add(dir, "", &mut all);
    all
}

fn add(path: &Path, name: &str, all: &mut BTreeMap<String, Entry>) {
    let found = std::fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let content = if found.is_symlink() {
        let target = std::fs::read_link(path).expect("readlink");
        plain(target.to_str().expect("UTF-8")).into_bytes()
    } else if found.is_file() {
        std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    } else {
        Vec::new()
    };
    let entry = Entry {
        mode: found.mode(),
        uid: found.uid(),
        gid: found.gid(),
        nlink: found.nlink(),
        size: if found.is_symlink() && name == "..data" { 0 } else { found.size() },
        blocks: found.blocks(),
        content,
    };
    assert!(all.insert(name.to_owned(), entry).is_none(), "{name} twice: two generations at once?");
    if found.is_dir() {
        for entry in std::fs::read_dir(path).expect("readdir") {
            let entry = entry.expect("entry");
            let below = plain(entry.file_name().to_str().expect("UTF-8"));
            let below = if name.is_empty() { below } else { format!("{name}/{below}") };
            add(&entry.path(), &below, all);
        }
    }
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
