//! The volume against the kubelet's own code: the same objects, changed in the same ways, once mounted by secretfs, once
//! written by `secretfs sync`, and once set up by the kubelet's volume plugins. What both show, and what programs that watch are told, must be equal.
//!
//! No expectation is written down here: all of them come from the kubelet's code while the test runs. What is compared:
//! * the tree: names, types, link targets, modes, owners, link counts, sizes, blocks, bytes; initially and after each
//!   change;
//! * the events of each change, in one queue with watches on the root, `..data` and each key, both followed and not.
//!   Where the kubelet's own order is that of a Go map, the order of files is left out, and nothing else is;
//! * which names keep their inode and times through a change.
//!
//! The objects are generated from seeds, some always the same, some new each time. A failure shows the object, its
//! changes and its seed N; `SECRETFS_SEED=N ./test fresh_seeds` begins with it.

mod generate;
mod side;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::api::Api;
use crate::support::cluster::{Namespace, namespace};
use crate::support::mount::{Mount, Way};
use crate::support::referee::{self, Referee};
use crate::support::sync::{Sync, memory_dir};
use crate::support::{seed, subdir, tempdir};
use generate::{Case, Change, Kind, LIMIT, Object};
use side::{Side, Step};

/// Objects of one test.
const CASES: u64 = 20;

/// The first seed of those that never change.
const FIXED: u64 = 1;

#[test]
fn volumes_of_fixed_seeds_equal_the_kubelets() {
    Stage::new().play_all((FIXED..).take(CASES as usize).map(Case::new));
}

#[test]
fn volumes_of_fresh_seeds_equal_the_kubelets() {
    Stage::new().play_all((seed()..).take(CASES as usize).map(Case::new));
}

/// A volume whose object goes is emptied, and filled when the object comes back.
#[test]
fn a_deleted_object_leaves_what_the_kubelets_optional_volume_shows() {
    let cases = [Case::with_deletions(Kind::Secret, FIXED), Case::with_deletions(Kind::ConfigMap, FIXED)];
    Stage::new().play_all(cases.into_iter());
}

/// What the fixed seeds must bring; if the generator changes, others may have to be chosen.
#[test]
fn fixed_seeds_bring_every_form() {
    let cases: Vec<Case> = (FIXED..).take(CASES as usize).map(Case::new).collect();
    let states: Vec<&Object> = cases
        .iter()
        .flat_map(|case| std::iter::once(&case.first).chain(case.changes.iter().flat_map(|(_, to)| to)))
        .collect();
    for kind in [Kind::Secret, Kind::ConfigMap] {
        let states: Vec<&&Object> = states.iter().filter(|object| object.kind == kind).collect();
        let sizes: BTreeSet<usize> =
            states.iter().flat_map(|object| object.data.values()).map(|value| value.bytes().len()).collect();
        assert!(sizes.is_superset(&BTreeSet::from([0, 1, 4095, 4096, 4097])), "{kind:?}: {sizes:?}");
        assert!(sizes.last().is_some_and(|largest| *largest > 512 << 10), "{kind:?}: {sizes:?}");
        assert!(states.iter().any(|object| object.size() == LIMIT), "{kind:?} at the limit");
        assert!(states.iter().any(|object| object.data.is_empty()), "{kind:?} without keys");
        assert!(states.iter().any(|object| object.data.len() > 100), "{kind:?} with many keys");
        let keys: BTreeSet<&str> = states.iter().flat_map(|object| object.data.keys()).map(String::as_str).collect();
        assert!(keys.iter().any(|key| key.starts_with('.')), "{kind:?} with a dotfile");
        let lengths: BTreeSet<usize> = keys.iter().map(|key| key.len()).collect();
        assert!(lengths.is_superset(&BTreeSet::from([1, 120, 121, 253])), "{kind:?}: keys of {lengths:?}");
        assert!(keys.iter().any(|key| key.bytes().all(|byte| byte.is_ascii_digit())), "{kind:?} with digits as key");
        let binary = |object: &Object| object.data.values().any(|value| std::str::from_utf8(value.bytes()).is_err());
        assert!(states.iter().any(|object| binary(object)), "{kind:?} with a binary value");
    }
    let changes: BTreeSet<Change> = cases.iter().flat_map(|case| &case.changes).map(|(change, _)| *change).collect();
    assert_eq!(changes.len(), Change::WITH_CONTENT.len() + Change::WITHOUT.len(), "{changes:?}");
    assert!(states.iter().any(|object| object.name.len() == 253), "the longest name");
}

/// Where cases are played: a namespace of the API server and the kubelet's code reading it.
struct Stage {
    namespace: Namespace,
    api: Api,
    referee: Referee,
    dir: tempfile::TempDir,
    memory: tempfile::TempDir,
}

/// What has been compared.
#[derive(Debug, Default)]
struct Tally {
    objects: usize,
    changes: usize,
    names: usize,
    events: usize,
}

/// Shows a case that fails.
struct Told<'a>(&'a Case);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with seed {}: {:?}", self.0.seed, self.0);
        }
    }
}

impl Stage {
    fn new() -> Stage {
        let namespace = namespace();
        let api = Api::of(namespace.cluster);
        let referee = Referee::start(namespace.cluster);
        Stage { namespace, api, referee, dir: tempdir(), memory: memory_dir() }
    }

    fn play_all(&self, cases: impl Iterator<Item = Case>) {
        let mut tally = Tally::default();
        for case in cases {
            let _told = Told(&case);
            self.play(&case, &mut tally);
        }
        println!("compared: {tally:?}");
    }

    /// Takes one object through its life, and compares at each point.
    fn play(&self, case: &Case, tally: &mut Tally) {
        self.api.create(&self.manifest(&case.first));
        let file = self.write_file(Some(&case.first));
        let optional = case.changes.iter().any(|(change, _)| *change == Change::Delete);
        let pod = referee::pod(&self.namespace.name, &format!("pod-{}", case.seed), &case.first.volume(optional));
        let volume = self.referee.set_up(pod);
        let mounts = self.mounts(case, &file);

        let mut kubelets = Side::new("the kubelet's volume", &volume.root);
        let written = self.written(case);
        let mut ours: Vec<Side> = mounts.iter().map(|(what, mount)| Side::new(what, &mount.seen)).collect();
        ours.push(Side::written("the directory of secretfs sync", &written.dir));
        let first = kubelets.step(0);
        ours.iter_mut().for_each(|side| side.must_show(&first, "at first"));
        tally.count(&first);
        tally.objects += 1;

        let mut exists = true;
        for (number, (change, object)) in case.changes.iter().enumerate() {
            kubelets.watch();
            ours.iter_mut().for_each(Side::watch);
            match object {
                None => self.api.delete(&self.manifest(&case.first)),
                Some(object) if !exists => self.api.create(&self.manifest(object)),
                Some(object) => self.api.replace(&self.manifest(object)),
            }
            exists = object.is_some();
            self.write_file(object.as_ref());
            // This is complete when it returns; the mounts follow in their own time.
            volume.refresh();
            let expected = kubelets.step(0);
            let when = format!("after change {number}, {change:?}");
            ours.iter_mut().for_each(|side| side.must_show(&expected, &when));
            tally.count(&expected);
            tally.changes += 1;
        }
        ours.iter_mut().for_each(Side::must_be_silent);
    }

    fn manifest(&self, object: &Object) -> serde_json::Value {
        object.manifest(&self.namespace.name)
    }

    /// The manifest file, with one more object, so that there is something in it without this one.
    fn write_file(&self, object: Option<&Object>) -> PathBuf {
        let other = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other"}, "data": {"a": "AA=="}});
        let items: Vec<_> = object.map(|object| self.manifest(object)).into_iter().chain([other]).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        let (new, file) = (self.dir.path().join("new"), self.dir.path().join("objects.json"));
        std::fs::write(&new, list.to_string()).expect("write");
        std::fs::rename(new, &file).expect("rename");
        file
    }

    /// The object mounted by secretfs, from the API server and from the file, in ways that keep the kubelet's modes.
    fn mounts(&self, case: &Case, file: &Path) -> [(String, Mount); 2] {
        const WAYS: [Way; 3] = [Way::NewApi, Way::Classic, Way::Passed];
        let way = |offset: u64| WAYS[(case.seed + offset) as usize % WAYS.len()];
        let kubeconfig = self.namespace.cluster.kubeconfig();
        let source = case.first.source();
        let mount = |name: &str, way: Way, from: &[&str]| {
            let dir = subdir(self.dir.path(), &format!("{name}-{}-{:?}", case.seed, case.first.kind));
            let common = ["--owner", "kubelet", "-n", &self.namespace.name, &source];
            (format!("the mount of the {name} by {way:?}"), Mount::by(way, &[from, &common].concat(), &dir))
        };
        [
            mount("cluster", way(0), &["--kubeconfig", kubeconfig.to_str().expect("UTF-8")]),
            mount("manifest", way(1), &["-f", file.to_str().expect("UTF-8")]),
        ]
    }
}

impl Stage {
    /// The object as real files, from the API server.
    fn written(&self, case: &Case) -> Sync {
        let dir = subdir(self.memory.path(), &format!("{}-{:?}", case.seed, case.first.kind));
        let kubeconfig = self.namespace.cluster.kubeconfig();
        let kubeconfig = ["--kubeconfig", kubeconfig.to_str().expect("UTF-8")];
        let common = ["--owner", "kubelet", "-n", &self.namespace.name, &case.first.source()];
        Sync::new(&[&kubeconfig[..], &common].concat(), &dir)
    }
}

impl Tally {
    fn count(&mut self, step: &Step) {
        self.names += step.tree.len();
        self.events += step.events.len();
    }
}
