//! What programs that watch a pod's files are told by a step, in each mount of each container.
//!
//! Every directory of a mount is watched. The order of all events of one mount counts, but for that of files which the
//! kubelet goes through as a Go map has them. Mounts are not compared with each other: the kubelet takes volumes one after
//! the other and shows each wherever it is mounted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::manifest::{self, below, is_ours};
use crate::pods::case::Change;
use crate::pods::stage::Moment;
use crate::support::events::{Event, Watcher};
use crate::support::snapshot::plain;

/// A mounted directory.
struct Place {
    container: String,
    path: String,
    volume: String,
    /// A part of the volume, not all of it.
    is_part: bool,
    /// A part of the volume is mounted somewhere, and keeps directories there that have no name any more, so that their end
    /// is not told: "What only a mount still holds" in docs/SEMANTICS.md.
    is_held: bool,
    /// Its volume names owners of files.
    has_users: bool,
}

/// Watches on both sides, set before a step.
pub struct Told {
    places: Vec<Place>,
    kubelets: Watcher,
    ours: Watcher,
    /// The kubelet sets attributes again that fsGroup asks for, and those of links that have an owner of their own: "Owners
    /// and modes that fsGroup, ..." in docs/SEMANTICS.md.
    has_group: bool,
}

impl Told {
    /// Watches what the next step may change. `ours` gives where we show the root of a container that is compared.
    pub fn before(now: &Moment<'_>, ours: impl Fn(&str) -> Option<PathBuf>) -> Told {
        let has_group = !now.case.pod["spec"]["securityContext"]["fsGroup"].is_null();
        let mut told = Told { places: Vec::new(), kubelets: Watcher::new(), ours: Watcher::new(), has_group };
        for (name, container) in &now.pod.containers {
            let (Ok(root), Some(ours)) = (&container.root, ours(name)) else { continue };
            for (number, mount) in container.mounts.iter().enumerate() {
                let is_covered = container.mounts[number + 1..].iter().any(|later| later.path == mount.path);
                let relative = mount.path.trim_start_matches('/');
                if is_covered || !is_ours(now.case, &mount.volume) || !root.join(relative).is_dir() {
                    continue;
                }
                let inner = container.mounts.iter().filter_map(|inner| below(&inner.path, &mount.path));
                let inner: BTreeSet<&str> = inner.collect();
                let label = told.places.len();
                for (watcher, root) in [(&mut told.kubelets, root), (&mut told.ours, &ours)] {
                    watch(watcher, label, &root.join(relative), "", &inner);
                }
                let mut all = manifest::containers(now.case).flat_map(manifest::wanted);
                let is_held = all.any(|one| one.volume == mount.volume && !one.part.is_empty());
                told.places.push(Place {
                    is_held,
                    has_users: manifest::has_users(now.case, &mount.volume),
                    container: name.clone(),
                    path: mount.path.clone(),
                    volume: mount.volume.clone(),
                    is_part: mount.sub_path,
                });
            }
        }
        told
    }

    /// Nothing may have happened since the last step, where it counts.
    pub fn late(&mut self, counts: impl Fn(&str) -> bool) -> Vec<String> {
        let late = self.ours.take(0);
        let mut late = self.sorted(late);
        late.retain(|number, _| counts(&self.places[*number].volume));
        late.into_iter().map(|(number, events)| format!("{}: {events:#?}", self.places[number].path)).collect()
    }

    /// Waits until as much has happened on our side as on the kubelet's, and compares: how many events there were. Where
    /// nothing is to happen, only what has happened by now is seen.
    pub fn compare(&mut self, counts: impl Fn(&str) -> bool, patience: Duration) -> Result<usize, Vec<String>> {
        let expected = self.kubelets.take(0);
        let expected = self.sorted(expected);
        let mut seen = Vec::new();
        let until = Instant::now() + patience;
        loop {
            seen.extend(self.ours.take(0));
            let found = self.sorted(seen.clone());
            let all = || self.places.iter().enumerate().filter(|(_, place)| counts(&place.volume));
            let of = |events: &BTreeMap<usize, Vec<Event>>, number| events.get(&number).cloned().unwrap_or_default();
            let wrong: Vec<_> = all().filter(|(number, _)| of(&expected, *number) != of(&found, *number)).collect();
            if wrong.is_empty() {
                return Ok(all().map(|(number, _)| of(&expected, number).len()).sum());
            }
            if Instant::now() > until {
                let differs = |(number, place): (usize, &Place)| {
                    format!(
                        "{}{}, volume {}: events {:#?}, not {:#?}",
                        place.container,
                        place.path,
                        place.volume,
                        of(&found, number),
                        of(&expected, number)
                    )
                };
                return Err(wrong.into_iter().map(differs).collect());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The events of each place in an order that compares.
    fn sorted(&self, events: Vec<Event>) -> BTreeMap<usize, Vec<Event>> {
        let mut by_place: BTreeMap<usize, Vec<Event>> = BTreeMap::new();
        for mut event in events {
            let (number, dir) = event.at.split_once('/').expect("a label");
            let number: usize = number.parse().expect("a number");
            if self.places[number].is_held && matches!(event.what.as_str(), "DELETE_SELF" | "IGNORED") {
                continue;
            }
            let is_link = dir.is_empty() && !event.name.is_empty() && event.name != "..TS";
            let is_set = self.has_group || (self.places[number].has_users && is_link);
            if is_set && event.what.starts_with("ATTRIB") {
                continue;
            }
            event.at = dir.to_owned();
            by_place.entry(number).or_default().push(event);
        }
        by_place.into_iter().map(|(number, events)| (number, without_map_order(&self.places[number], events))).collect()
    }
}

/// Watches a directory and all below it, but for what is mounted there.
fn watch(watcher: &mut Watcher, label: usize, dir: &Path, name: &str, inner: &BTreeSet<&str>) {
    watcher.follow(&format!("{label}/{name}"), dir);
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for entry in entries {
        let entry = entry.expect("an entry");
        let child = plain(entry.file_name().to_str().expect("UTF-8"));
        let child = if name.is_empty() { child } else { format!("{name}/{child}") };
        if entry.file_type().expect("a type").is_dir() && !inner.contains(child.as_str()) {
            watch(watcher, label, &entry.path(), &child, inner);
        }
    }
}

/// Whether what a step does can be told by the same events: with several changes we follow each, and the kubelet sees
/// them all together. A container that begins anew gets a mount of its own, which nobody watches.
pub fn is_compared(changes: &[Change]) -> bool {
    changes.len() <= 1 && !changes.iter().any(|change| matches!(change, Change::Restart(_)))
}

/// What the kubelet does to several names, in an order that is nobody's business.
#[derive(Clone, Copy, PartialEq)]
enum Task {
    /// Step 10 of `AtomicWriter.Write`.
    NewLinks,
    /// Step 11.
    OldLinks,
    /// Step 12, but for the generation's directory itself.
    OldFiles,
}

/// The task that an event of a place belongs to, and the path that it is about.
fn task(place: &Place, event: &Event) -> Option<(Task, String)> {
    let Event { at, what, name } = event;
    let path = [at.as_str(), name].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/");
    if place.is_part || at.split('/').next() == Some("..TS") {
        return Some((Task::OldFiles, path));
    }
    let is_link = at.is_empty() && !name.is_empty() && !matches!(name.as_str(), "..TS" | "..data" | "..data_tmp");
    match what.as_str() {
        "CREATE" if is_link => Some((Task::NewLinks, path)),
        "DELETE" if is_link => Some((Task::OldLinks, path)),
        _ => None,
    }
}

/// Sorts each run of events of one task by path. The order of one path's events stays, and so does that of the tasks.
fn without_map_order(place: &Place, events: Vec<Event>) -> Vec<Event> {
    let mut tagged: Vec<_> = events.into_iter().map(|event| (task(place, &event), event)).collect();
    let same_task = |a: &(Option<(Task, String)>, Event), b: &(Option<(Task, String)>, Event)| match (&a.0, &b.0) {
        (Some((a, _)), Some((b, _))) => a == b,
        _ => false,
    };
    for run in tagged.chunk_by_mut(same_task) {
        run.sort_by(|(a, _), (b, _)| a.as_ref().map(|(_, path)| path).cmp(&b.as_ref().map(|(_, path)| path)));
    }
    tagged.into_iter().map(|(_, event)| event).collect()
}
