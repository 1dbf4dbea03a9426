//! One of the volumes that are compared: what it shows, and what programs that watch it are told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::events::{Event, Watcher};
use crate::support::snapshot::{Entry, Identity, differences, identities, snapshot};

pub struct Side {
    what: String,
    root: PathBuf,
    watcher: Watcher,
    identities: BTreeMap<String, Identity>,
    /// Real files of `secretfs sync`.
    written: bool,
}

/// What one change, or the beginning, made of a volume.
pub struct Step {
    pub events: Vec<Event>,
    pub tree: BTreeMap<String, Entry>,
    kept: BTreeMap<String, Kept>,
}

/// What a name that was there before and is there now has kept.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    ino: bool,
    mtime: bool,
    ctime: bool,
}

impl Side {
    pub fn new(what: &str, root: &Path) -> Side {
        let mut watcher = Watcher::new();
        watcher.follow(".", root);
        Side { what: what.to_owned(), root: root.to_owned(), watcher, identities: BTreeMap::new(), written: false }
    }

    /// A directory that is kept by `secretfs sync`. It differs from the kubelet's in two things: nobody else may write into
    /// it, and it has a file that marks it.
    pub fn written(what: &str, root: &Path) -> Side {
        Side { written: true, ..Side::new(what, root) }
    }

    /// Watches all that there is now. The root stays watched from the beginning to the end: no event is lost there.
    pub fn watch(&mut self) {
        self.watcher.watch("..data", &self.root.join("..data"));
        self.watcher.follow("..data/.", &self.root.join("..data"));
        for entry in std::fs::read_dir(&self.root).expect("readdir") {
            let name = entry.expect("entry").file_name().into_string().expect("UTF-8");
            if !name.starts_with("..") {
                self.watcher.watch(&name, &self.root.join(&name));
                self.watcher.follow(&format!("..data/{name}"), &self.root.join(&name));
            }
        }
    }

    /// What has happened since the last step, once there are at least so many events.
    pub fn step(&mut self, events: usize) -> Step {
        let events = without_map_order(self.watcher.take(events));
        let mut tree = snapshot(&self.root);
        let mut now = identities(&self.root);
        if self.written {
            tree.remove("..secretfs").expect("the file that marks it");
            now.remove("..secretfs");
            // What a name takes in a directory of tmpfs (`BOGO_DIRENT_SIZE`, mm/shmem.c).
            tree.get_mut("").expect("the root").size -= 20;
        }
        let before = std::mem::replace(&mut self.identities, now);
        let kept = self.identities.iter().filter_map(|(name, now)| {
            let then = before.get(name)?;
            let kept =
                Kept { ino: now.ino == then.ino, mtime: now.mtime == then.mtime, ctime: now.ctime == then.ctime };
            Some((name.clone(), kept))
        });
        Step { events, tree, kept: kept.collect() }
    }

    /// Waits until as much has happened here as on the other side, and compares.
    pub fn must_show(&mut self, expected: &Step, when: &str) {
        let found = self.step(expected.events.len());
        let what = &self.what;
        assert!(
            found.events == expected.events,
            "{what} {when}: {}",
            first_difference(&expected.events, &found.events)
        );
        let mut wanted = expected.tree.clone();
        if self.written {
            wanted.get_mut("").expect("the root").mode &= !0o022;
        }
        let tree = differences(&wanted, &found.tree);
        assert!(tree.is_empty(), "{what} {when}: {tree:#?}");
        let kept = differences(&expected.kept, &found.kept);
        assert!(kept.is_empty(), "{what} {when}: what names have kept: {kept:#?}");
    }

    /// Nothing may have happened since the last step.
    pub fn must_be_silent(&mut self) {
        let seen = self.watcher.take(0);
        assert!(seen.is_empty(), "{}: events after the end: {seen:#?}", self.what);
    }
}

/// What the kubelet repeats for several names, in an order that is nobody's business.
#[derive(Clone, PartialEq)]
enum Part {
    /// Step 10 of `AtomicWriter.Write`.
    NewLinks,
    /// Step 11.
    OldLinks,
    /// Step 12, but for the directory itself.
    OldFiles,
}

/// The part that an event belongs to, and the name. The kubelet goes through names as a Go map gives them: at random.
fn part(event: &Event) -> Option<(Part, String)> {
    let Event { at, what, name } = event;
    let is_key = |name: &str| !name.is_empty() && !name.starts_with("..");
    match at.strip_prefix("..data/") {
        Some(".") => (what == "DELETE").then(|| (Part::OldFiles, name.clone())),
        Some(key) => Some((Part::OldFiles, key.to_owned())),
        None if at == "." && is_key(name) && what == "CREATE" => Some((Part::NewLinks, name.clone())),
        None if at == "." && is_key(name) && what == "DELETE" => Some((Part::OldLinks, name.clone())),
        None if is_key(at) && at != "." => Some((Part::OldLinks, at.clone())),
        None => None,
    }
}

/// Sorts each run of events of one part by name. The order of one name's events stays, and so does that of the parts.
fn without_map_order(events: Vec<Event>) -> Vec<Event> {
    let mut tagged: Vec<_> = events.into_iter().map(|event| (part(&event), event)).collect();
    let same_part = |a: &(Option<(Part, String)>, Event), b: &(Option<(Part, String)>, Event)| match (&a.0, &b.0) {
        (Some((a, _)), Some((b, _))) => a == b,
        _ => false,
    };
    for run in tagged.chunk_by_mut(same_part) {
        // Stable.
        run.sort_by(|(a, _), (b, _)| a.as_ref().map(|(_, name)| name).cmp(&b.as_ref().map(|(_, name)| name)));
    }
    tagged.into_iter().map(|(_, event)| event).collect()
}

fn first_difference(expected: &[Event], found: &[Event]) -> String {
    let place = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let around = |events: &[Event]| format!("{:#?}", &events[place.saturating_sub(3)..events.len().min(place + 6)]);
    format!("event {place} of {} differs: {}\n  expected: {}", expected.len(), around(found), around(expected))
}
