//! What a volume remembers of the files it shows: enough to see what changed, and no values, which may have to go while the
//! files stay.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, OnceLock};

use super::{File, Payload};
use crate::object::Value;

/// Tells contents apart: two keyed hashes, whose keys are random and live as long as the process. They say nothing about a
/// value to whoever does not have the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    len: usize,
    hashes: [u64; 2],
}

impl Mark {
    fn of(value: &Value) -> Self {
        static KEYS: OnceLock<[RandomState; 2]> = OnceLock::new();
        let keys = KEYS.get_or_init(|| [RandomState::new(), RandomState::new()]);
        let hashes = [keys[0].hash_one(value.as_bytes()), keys[1].hash_one(value.as_bytes())];
        Mark { len: value.len(), hashes }
    }
}

/// The files of a payload by their paths, without their values. Modes and owners do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline(BTreeMap<Arc<str>, Mark>);

impl Outline {
    /// What is remembered of this payload.
    pub fn of(payload: &Payload) -> Self {
        Outline(payload.iter().map(|(path, file)| (path.clone(), Mark::of(&file.bytes))).collect())
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Whether the file at `path` has the same bytes.
    pub(super) fn has_same(&self, path: &str, file: &File) -> bool {
        self.0.get(path).is_some_and(|mark| *mark == Mark::of(&file.bytes))
    }

    /// The paths that are in one of them only, or have other bytes in the other, in order.
    pub(super) fn differences(&self, other: &Outline) -> Vec<Arc<str>> {
        let paths: BTreeSet<&Arc<str>> = self.paths().chain(other.paths()).collect();
        paths.into_iter().filter(|path| self.0.get(*path) != other.0.get(*path)).cloned().collect()
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.keys()
    }

    /// The names that the volume's own directory shows: the first part of each path.
    pub(super) fn top_names(&self) -> BTreeSet<Arc<str>> {
        self.paths().map(|path| path.split('/').next().unwrap_or_default().into()).collect()
    }
}
