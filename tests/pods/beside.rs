//! What secretfs shows of a pod, held beside what the kubelet's code and a container runtime make of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::case::{Case, Change};
use super::stage::{Moment, Witness};
use crate::support::mount::Mount;
use crate::support::snapshot::{Entry, differences, try_snapshot};
use crate::support::{PATIENCE, tempdir, token};

/// How long an update may take until it shows once a case has failed: it is made smaller and played again many times.
const IMPATIENCE: Duration = Duration::from_secs(3);
/// How long what must not change is looked at. Nothing tells that an update has come and changed nothing.
const SETTLE: Duration = Duration::from_millis(250);

/// Cases in which we differ on purpose, from which step on, each with its row of docs/SEMANTICS.md.
const DIFFERENT: [(&str, usize, &str); 6] = [
    ("layout::a-mount-point-whose-hidden-key-goes", 1, "A mount point stays"),
    ("layout::a-deep-mount-point-whose-hidden-key-goes-cannot-be-removed", 1, "A mount point stays"),
    (
        "lifecycle::a-config-map-that-cannot-be-written-empties-under-the-container",
        1,
        "A volume that cannot be written",
    ),
    ("lifecycle::a-secret-that-cannot-be-written-keeps-its-files-for-good", 2, "A volume that cannot be written"),
    ("writer::a-file-becomes-a-directory", 1, "A volume that cannot be written"),
    ("writer::a-directory-becomes-a-file", 2, "A volume that cannot be written"),
];

/// A mount of the case's pod.
pub struct Beside {
    kubeconfig: String,
    dir: tempfile::TempDir,
    mount: Option<Mount>,
    patience: Duration,
    /// What the containers of the moment before this one had.
    before: BTreeMap<String, BTreeMap<String, Entry>>,
    /// The mount points that were there, inside volumes, on the node.
    mount_points: BTreeSet<PathBuf>,
    has_lost: bool,
    /// Comparisons made so far.
    pub compared: usize,
}

impl Beside {
    pub fn new(kubeconfig: &Path) -> Beside {
        let kubeconfig = kubeconfig.to_str().expect("UTF-8").to_owned();
        Beside {
            kubeconfig,
            dir: tempdir(),
            mount: None,
            patience: PATIENCE,
            before: BTreeMap::new(),
            mount_points: BTreeSet::new(),
            has_lost: false,
            compared: 0,
        }
    }

    /// The case is over.
    pub fn end(&mut self) {
        self.leave();
        self.mount_points.clear();
        self.has_lost = false;
    }

    fn leave(&mut self) {
        self.mount = None;
        self.before.clear();
    }

    /// Whether the kubelet has taken a mount point away under a container: "A mount point stays" in docs/SEMANTICS.md.
    fn has_lost_mount_points(&mut self, now: &Moment<'_>) -> bool {
        let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
        self.has_lost |= !self.mount_points.iter().all(is_there);
        let inside = |inner: &str, outer: &str| Some(inner.strip_prefix(outer)?.strip_prefix('/')?.to_owned());
        for container in now.pod.containers.values() {
            for inner in &container.mounts {
                let outer = container.mounts.iter().filter(|outer| inside(&inner.path, &outer.path).is_some());
                let Some(outer) = outer.max_by_key(|outer| outer.path.len()) else { continue };
                let rest = inside(&inner.path, &outer.path).expect("it is inside");
                self.mount_points.insert(now.pod.volumes[&outer.volume].path.join(rest));
            }
        }
        self.mount_points.retain(is_there);
        self.has_lost
    }

    fn mount(&mut self, case: &Case) {
        self.leave();
        let text = |field: &str| case.pod["metadata"][field].as_str().expect("text");
        let source = format!("pod/{}", text("name"));
        let namespace = text("namespace");
        // A part of a volume stays what it was when the container began.
        let args =
            ["--kubeconfig", &self.kubeconfig, "-n", namespace, "--owner", "kubelet", "--strict-kubelet=subpath"];
        self.mount = Some(Mount::new(&[&args[..], &[source.as_str()]].concat(), self.dir.path()));
    }

    #[track_caller]
    fn compare(&mut self, now: &Moment<'_>) {
        let Some(mount) = &self.mount else { return };
        let running = now.pod.containers.iter().filter_map(|(name, one)| Some((name, one.root.as_ref().ok()?)));
        for (name, root) in running {
            // Two generations at once: the kubelet could not remove a mount point that hides a key, and is stuck.
            let Ok(expected) = try_snapshot(root) else { continue };
            let scope = Scope::of(now, name);
            let expected = scope.without_foreign(expected);
            let differences = || match try_snapshot(&mount.path(name)) {
                Ok(found) => scope.differences(&expected, found),
                Err(error) => vec![error],
            };
            let until = Instant::now() + self.patience;
            let mut last = differences();
            while !last.is_empty() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
                last = differences();
            }
            if last.is_empty() && self.before.get(name) == Some(&expected) {
                std::thread::sleep(SETTLE);
                last = differences();
            }
            self.compared += 1;
            self.before.insert(name.clone(), expected);
            if !last.is_empty() {
                self.patience = IMPATIENCE;
                let status = mount.status();
                panic!("{}, step {}, container {name}: {last:#?}\n{status:#}", now.case.name, now.number);
            }
        }
    }
}

/// Which mount of a container each name belongs to.
struct Scope {
    /// Paths of mounts, and whether their content is not the API server's to give: a runtime makes mount points there, and
    /// whatever else is there is the container's own.
    mounts: BTreeMap<String, bool>,
}

impl Scope {
    fn of(now: &Moment<'_>, container: &str) -> Scope {
        let volumes = now.case.pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        let given = ["secret", "configMap", "downwardAPI", "projected"];
        let is_foreign = |name: &str| {
            let volume = volumes.iter().find(|volume| volume["name"] == name);
            volume.is_some_and(|volume| given.iter().all(|kind| volume[kind].is_null()))
        };
        let mounts = &now.pod.containers[container].mounts;
        let mounts =
            mounts.iter().map(|mount| (mount.path.trim_start_matches('/').to_owned(), is_foreign(&mount.volume)));
        Scope { mounts: mounts.collect() }
    }

    /// Of storage that is not the API server's, only where it is mounted counts, and whose that directory is.
    fn without_foreign(&self, tree: BTreeMap<String, Entry>) -> BTreeMap<String, Entry> {
        let inside = |path: &str, mount: &str| {
            path == mount || path.strip_prefix(mount).is_some_and(|rest| rest.starts_with('/'))
        };
        let kept = tree.into_iter().filter_map(|(path, mut entry)| {
            let of = self.mounts.iter().filter(|(mount, _)| inside(&path, mount)).max_by_key(|(mount, _)| mount.len());
            match of {
                Some((mount, true)) if *mount != path => return None,
                Some((_, true)) => (entry.nlink, entry.size) = (0, 0),
                _ => {}
            }
            Some((path, entry))
        });
        kept.collect()
    }

    fn differences(&self, expected: &BTreeMap<String, Entry>, found: BTreeMap<String, Entry>) -> Vec<String> {
        let found = self.without_foreign(found);
        differences(&comparable(expected, expected), &comparable(&found, expected))
    }
}

/// What is allowed to differ: tokens by the time of their making, and the link counts of what a container has mounted and
/// the volume no longer has, which no file system but the volume's own can show.
fn comparable(tree: &BTreeMap<String, Entry>, expected: &BTreeMap<String, Entry>) -> BTreeMap<String, Entry> {
    let mut tree = tree.clone();
    // The kubelet has taken a volume of the node's disk away that it could not write, under the container.
    let is_gone = |(_, entry): &(&String, &Entry)| entry.nlink == 0 && entry.mode == 0o40777;
    for (gone, _) in expected.iter().filter(is_gone) {
        tree.retain(|name, _| !name.starts_with(gone.as_str()));
    }
    token::claims_for_tokens(&mut tree);
    for (name, entry) in &mut tree {
        if expected.get(name).is_some_and(|expected| expected.nlink == 0) {
            entry.nlink = 0;
        }
    }
    tree
}

impl Witness for Beside {
    fn look(&mut self, now: &Moment<'_>) {
        // The case before may have failed.
        if now.number == 0 {
            self.end();
        }
        let differs = |(name, from, _): &(&str, usize, &str)| *name == now.case.name && now.number >= *from;
        // Parts of volumes that are not there are made by the containers that mount them, in the order of their beginnings and
        // mounts, and stay when they begin anew. The named cases say what of this we do as well; see docs/SEMANTICS.md.
        let has_parts = now.case.pod["spec"].to_string().contains("\"subPath");
        let lost = self.has_lost_mount_points(now);
        if DIFFERENT.iter().any(differs) || (now.case.name == "generated" && (has_parts || lost)) {
            return;
        }
        let restarts = |change: &Change| matches!(change, Change::Restart(_));
        let begins = now.number == 0 || now.case.steps[now.number - 1].changes.iter().any(restarts);
        // A container that has begun anew has looked its parts up anew: so does a new mount.
        if begins {
            self.mount(now.case);
        }
        self.compare(now);
    }
}
