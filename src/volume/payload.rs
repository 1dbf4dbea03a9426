//! The files of one volume: relative path -> bytes, mode, owner.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Clash, parents};
use crate::object::{Object, Value};

/// What a volume's `defaultMode` is when nobody sets it. Source: `SecretVolumeSourceDefaultMode`, pkg/apis/core/v1.
pub const DEFAULT_MODE: u32 = 0o644;

/// One file to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub bytes: Value,
    /// 0 to 0777.
    pub mode: u32,
    /// Set where the volume names the file's owner.
    pub uid: Option<u32>,
}

/// The files of one volume by their clean relative paths (`a/b`, no empty part, no `.` or `..`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    files: BTreeMap<Arc<str>, File>,
}

impl Payload {
    pub fn insert(&mut self, path: impl Into<Arc<str>>, file: File) {
        self.files.insert(path.into(), file);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &File)> {
        self.files.iter()
    }

    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The files below a directory, by the rest of their paths; "" is all of it.
    pub fn below(&self, dir: &str) -> Payload {
        if dir.is_empty() {
            return self.clone();
        }
        let rest = |path: &Arc<str>| Some(path.strip_prefix(dir)?.strip_prefix('/')?.into());
        Payload { files: self.files.iter().filter_map(|(path, file)| Some((rest(path)?, file.clone()))).collect() }
    }

    /// Whether a file system can hold it: no path needs a directory where another has its file.
    pub fn check(&self) -> Result<(), Clash> {
        let mut parents = self.files.keys().flat_map(|path| parents(path));
        let found = parents.find(|parent| self.files.contains_key(*parent));
        found.map_or(Ok(()), |path| Err(Clash { path: path.to_owned() }))
    }

    /// Whether it has the same paths with the same bytes, whatever the modes and owners.
    pub fn says_the_same(&self, other: &Payload) -> bool {
        let mut pairs = self.files.iter().zip(&other.files);
        self.files.len() == other.files.len() && pairs.all(|(a, b)| a.0 == b.0 && a.1.bytes == b.1.bytes)
    }

    /// The names that the volume's own directory shows: the first part of each path.
    pub fn top_names(&self) -> BTreeSet<Arc<str>> {
        self.files.keys().map(|path| path.split('/').next().unwrap_or_default().into()).collect()
    }
}

/// The whole object, each key a file of its name: a Secret or ConfigMap volume without `items`.
pub fn of_object(object: &Object) -> Payload {
    let mut payload = Payload::default();
    for (key, value) in object.data() {
        payload.insert(key.as_str(), File { bytes: value.clone(), mode: DEFAULT_MODE, uid: None });
    }
    payload
}
