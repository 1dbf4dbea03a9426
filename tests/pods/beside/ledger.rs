//! What becomes of a case's volumes and containers, as far as it decides what can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::manifest::{self, below, is_ours, next_above, wanted};
use crate::pods::case::{Case, Change};
use crate::pods::generate::GENERATED;
use crate::pods::stage::Moment;

/// Rows of docs/SEMANTICS.md.
const PART: &str = "A part that is not there";
const INSIDE_PART: &str = "A mount inside a mounted part";
const MOUNT_POINT: &str = "A mount point stays";
const NOT_WRITTEN: &str = "A volume that cannot be written";
const USER: &str = "A token's owner and mode";
const DELAY: &str = "delay of an update";

/// What the kubelet says when it cannot write over what it has written before.
const CLASHES: [&str; 3] = ["not a directory", "is a directory", "file exists"];
const STUCK: &str = "directory not empty";

#[derive(Default)]
pub struct Ledger {
    /// Volumes that differ on purpose from some moment on, with the row of docs/SEMANTICS.md.
    pub unlike: BTreeMap<String, &'static str>,
    /// Volumes that were set up at any time.
    pub set_up: BTreeSet<String>,
    /// Containers that have tried to start since the moment before.
    pub fresh: BTreeSet<String>,
    tried: BTreeSet<String>,
    /// A projected volume has been refused: when it cannot be written, the kubelet forgets all tokens of the pod.
    renews_tokens: bool,
    /// Mount points inside volumes that were there, on the node, and whose they are.
    mount_points: BTreeMap<PathBuf, String>,
    /// For each volume, the parts that were made in it because they were not there.
    made: BTreeMap<String, BTreeSet<String>>,
}

impl Ledger {
    /// Takes note of a moment before anything is compared.
    pub fn note(&mut self, now: &Moment<'_>) {
        self.note_containers(now);
        self.note_refusals(now);
        self.note_mount_points(now);
        self.note_parts(now);
        self.note_users(now);
        let well = now.pod.volumes.iter().filter(|(_, volume)| volume.error.is_none());
        self.set_up.extend(well.map(|(name, _)| name.clone()));
    }

    /// Whether a volume of a generated pod is left out. Those of named cases have a list.
    pub fn is_unlike(&self, now: &Moment<'_>, volume: &str) -> bool {
        now.case.name == GENERATED && self.unlike.contains_key(volume)
    }

    /// Whether the events of a volume are left out.
    pub fn is_told_otherwise(&self, now: &Moment<'_>, volume: &str) -> bool {
        self.is_unlike(now, volume) || (self.renews_tokens && manifest::may_have_token(now.case, volume))
    }

    /// Whether the kubelet refuses a volume for what it or a runtime has written there before, which nobody knows who has not
    /// followed it.
    pub fn is_refused_for_its_past(&self, now: &Moment<'_>, volume: &str, error: &str) -> bool {
        let has_directories =
            || self.unlike.get(volume).is_some_and(|row| [PART, INSIDE_PART, MOUNT_POINT].contains(row));
        self.is_clash_with_its_past(volume, error)
            || (self.is_unlike(now, volume) && error.starts_with("remove ") && has_directories())
    }

    fn is_clash_with_its_past(&self, volume: &str, error: &str) -> bool {
        self.set_up.contains(volume) && (CLASHES.iter().any(|clash| error.contains(clash)) || error.contains(STUCK))
    }

    fn note_containers(&mut self, now: &Moment<'_>) {
        if let Some(step) = now.number.checked_sub(1).map(|last| &now.case.steps[last]) {
            for change in &step.changes {
                if let Change::Restart(container) = change {
                    self.tried.remove(container);
                }
            }
        }
        let has_tried = now.pod.containers.iter().filter(|(_, one)| !one.is_waiting());
        let tried: BTreeSet<String> = has_tried.map(|(name, _)| name.clone()).collect();
        self.fresh = tried.difference(&self.tried).cloned().collect();
        self.tried = tried;
    }

    fn note_refusals(&mut self, now: &Moment<'_>) {
        // We follow each change of several, and may show what there was in between.
        let several = now.number > 0 && now.case.steps[now.number - 1].changes.len() > 1;
        for (volume, error) in now.pod.refused() {
            self.renews_tokens |= manifest::is_projected(now.case, volume);
            if self.is_clash_with_its_past(volume, error) {
                let row = if error.contains(STUCK) { MOUNT_POINT } else { NOT_WRITTEN };
                self.unlike.insert(volume.to_owned(), row);
            } else if several {
                self.unlike.entry(volume.to_owned()).or_insert(DELAY);
            }
        }
    }

    /// Mount points that the kubelet has taken away under a container.
    fn note_mount_points(&mut self, now: &Moment<'_>) {
        let (there, lost): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.mount_points).into_iter().partition(|(path, _)| path.symlink_metadata().is_ok());
        self.mount_points = there;
        self.unlike.extend(lost.into_values().map(|volume| (volume, MOUNT_POINT)));
        // The kubelet makes those of containers that do not start too.
        for mounts in manifest::containers(now.case).map(wanted) {
            for outer in &mounts {
                let Some(volume) = now.pod.volumes.get(&outer.volume) else { continue };
                for rest in mounts.iter().filter_map(|inner| below(&inner.path, &outer.path)) {
                    let first = volume.path.join(rest.split('/').next().unwrap_or_default());
                    let path = volume.path.join(rest);
                    if !first.is_symlink() && path.symlink_metadata().is_ok() {
                        self.mount_points.insert(path, outer.volume.clone());
                    }
                }
            }
        }
    }

    /// A token's owner and mode are those that all containers' users have in common when it is written. A mount that begins
    /// after another container has joined finds others.
    fn note_users(&mut self, now: &Moment<'_>) {
        let steps = now.case.steps[..now.number].iter().flat_map(|step| &step.changes);
        let has_joined = steps.into_iter().any(|change| matches!(change, Change::Ephemeral(_)));
        if has_joined && (!self.fresh.is_empty() || self.renews_tokens) {
            let with_tokens = now.pod.volumes.keys().filter(|volume| manifest::may_have_token(now.case, volume));
            for volume in with_tokens {
                self.unlike.entry(volume.clone()).or_insert(USER);
            }
        }
    }

    fn note_parts(&mut self, now: &Moment<'_>) {
        let mut made: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for container in manifest::containers(now.case) {
            let mounts = wanted(container);
            for mount in mounts.iter().filter(|mount| is_ours(now.case, &mount.volume)) {
                let Some(volume) = now.pod.volumes.get(&mount.volume).filter(|volume| volume.path.exists()) else {
                    continue;
                };
                if mount.part.is_empty() {
                    continue;
                }
                let part = Part::of(&volume.path, &mount.part, has_nested(now.case, &mount.volume, &mount.part));
                // We make what is not there when we first show the volume, but nothing in a generation.
                let wrong =
                    part.is_made_in_generation || (!self.fresh.is_empty() && part.is_made == part.is_in_payload);
                if wrong {
                    self.unlike.insert(mount.volume.clone(), PART);
                }
                if part.is_made {
                    made.entry(mount.volume.clone()).or_default().insert(mount.part.clone());
                }
                let is_outer = mounts.iter().any(|inner| {
                    next_above(&inner.path, &mounts, |mount| &mount.path).is_some_and(|outer| outer.path == mount.path)
                });
                if is_outer && self.fresh.contains(manifest::name(container)) {
                    self.unlike.insert(mount.volume.clone(), INSIDE_PART);
                }
            }
        }
        for (volume, before) in &self.made {
            if made.get(volume) != Some(before) {
                self.unlike.insert(volume.clone(), PART);
            }
        }
        let is_new = |(volume, _): &(&String, &BTreeSet<String>)| !self.made.contains_key(*volume);
        // Made by a container that has begun later than others.
        if now.number > 0 && self.fresh.len() < self.tried.len() {
            self.unlike.extend(made.iter().filter(is_new).map(|(volume, _)| (volume.clone(), PART)));
        }
        self.made = made;
    }
}

/// Whether other mounts have the kubelet make a directory in the volume that begins as the part does, and hides what the volume
/// has there.
pub fn has_nested(case: &Case, volume: &str, part: &str) -> bool {
    let first = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    manifest::containers(case).map(wanted).any(|mounts| {
        let own = mounts.iter().filter(|mount| mount.volume == volume);
        own.flat_map(|own| mounts.iter().filter_map(|inner| below(&inner.path, &own.path)))
            .any(|nested| first(nested) == first(part))
    })
}

/// What there is of a part in what the kubelet has written, whatever hides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Something,
    Nothing,
    /// It leads below a file.
    NoDirectory,
}

impl Found {
    pub fn of(volume: &Path, part: &str) -> Found {
        let in_generation = if part == "..data" { "" } else { part.strip_prefix("..data/").unwrap_or(part) };
        let generation = volume.join("..data");
        if in_generation.is_empty() || holds_files(&generation.join(in_generation)) {
            return Found::Something;
        }
        let mut above = Path::new(in_generation).ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
        if above.any(|path| generation.join(path).is_file()) { Found::NoDirectory } else { Found::Nothing }
    }
}

/// What a part is in the kubelet's volume.
struct Part {
    is_in_payload: bool,
    /// A directory that was made for a container.
    is_made: bool,
    is_made_in_generation: bool,
}

impl Part {
    fn of(volume: &Path, part: &str, is_nested: bool) -> Part {
        let first = part.split('/').next().unwrap_or_default();
        let is_link = volume.join(first).is_symlink();
        let is_in_payload = (!is_nested || first == "..data") && Found::of(volume, part) != Found::Nothing;
        let is_dir = volume.join(part).is_dir();
        Part { is_in_payload, is_made: is_dir && !is_link, is_made_in_generation: is_dir && is_link && !is_in_payload }
    }
}

/// Directories of a payload always have a file in them.
fn holds_files(path: &Path) -> bool {
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().any(|entry| holds_files(&entry.path())),
        Err(_) => path.symlink_metadata().is_ok(),
    }
}
