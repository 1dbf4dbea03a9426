//! How fresh it is what is known of an object or a list: what `status` shows.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::object::ObjectId;

/// What the knowledge is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing is known, because nobody has answered yet.
    Unknown,
    /// The user's rights do not cover it, or not any more.
    Forbidden,
    /// It is followed, but its source does not tell now: the last known content is shown.
    Stale,
    /// The source is sure that there is no such thing.
    Gone,
    /// It is followed, and its source would tell of a change.
    Live,
}

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    pub state: State,
    /// When the source last said that it is so: by an answer, an event, or a sign of life of a watch that would have told
    /// otherwise. By the clock that goes on while the machine sleeps.
    pub confirmed: Option<SystemTime>,
}

/// What a source knows, and how fresh that is.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    /// The lists of names. Objects that are only names are as fresh as their list.
    pub lists: Vec<(String, Freshness)>,
    /// The objects whose values are kept, or wanted.
    pub objects: Vec<(ObjectId, Freshness)>,
}

/// When something was last heard of.
#[derive(Debug, Default)]
pub struct Heard(AtomicU64);

impl Heard {
    pub fn now(&self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Milliseconds since 1970, never 0.
        self.0.store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1), Relaxed);
    }

    pub fn last(&self) -> Option<SystemTime> {
        match self.0.load(Relaxed) {
            0 => None,
            millis => Some(UNIX_EPOCH + Duration::from_millis(millis)),
        }
    }
}
