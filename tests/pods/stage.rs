//! Where cases are played: the API server, and the kubelet's code that runs the pods.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::StatVfsMountFlags;
use serde_json::json;

use super::case::{Case, Change, NODE, Outcome, reference};
use crate::support::api::Api;
use crate::support::cluster::{Namespace, namespace};
use crate::support::kubelet_pod::{KubeletPod, Mount};
use crate::support::referee::Referee;
use crate::support::snapshot::{Brief, plain};

/// A namespace in which pods can run, one case at a time.
pub struct Stage {
    pub namespace: Namespace,
    pub api: Api,
    pub referee: Referee,
}

/// A point in a pod's life at which the kubelet has done all that it does.
pub struct Moment<'a> {
    /// The case in the stage's namespace.
    pub case: &'a Case,
    /// 0 at first, then the number of steps taken.
    pub number: usize,
    pub pod: &'a KubeletPod<'a>,
}

/// Somebody who looks on while a case is played.
pub trait Witness {
    /// The next step is about to be taken.
    fn before_step(&mut self, _now: &Moment<'_>) {}
    /// The pod runs, or a step has been taken and the kubelet has followed.
    fn look(&mut self, _now: &Moment<'_>) {}
}

/// Nobody.
impl Witness for () {}

impl Stage {
    /// A stage in a new namespace that has what controllers give to each: the ServiceAccount "default" and the cluster's
    /// certificate authority.
    pub fn new() -> Stage {
        let namespace = namespace();
        let api = Api::of(namespace.cluster);
        for (kind, name) in [("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")] {
            let mut object = reference(kind, name);
            object["metadata"]["namespace"] = namespace.name.as_str().into();
            if kind == "ConfigMap" {
                object["data"]["ca.crt"] = namespace.cluster.ca().into();
            }
            api.create(&object);
        }
        make_node(&api);
        let referee = Referee::start(namespace.cluster);
        Stage { namespace, api, referee }
    }

    /// Takes a case from its beginning to its end, checks what is written in it, and leaves none of its objects.
    #[track_caller]
    pub fn play(&self, case: &Case, witness: &mut impl Witness) {
        let case = &case.within(&self.namespace.name);
        let _cleaner = Cleaner(self, case);
        if let Err(error) = self.make(case) {
            match &case.rejected {
                Some(expected) if error.contains(expected) => return,
                _ => panic!("{}: the API server says: {error}", case.name),
            }
        }
        assert!(case.rejected.is_none(), "{}: the API server accepts it", case.name);
        let name = case.pod["metadata"]["name"].as_str().expect("a name");
        let mut pod = self.referee.pod(&self.namespace.name, name);
        check(&Moment { case, number: 0, pod: &pod }, case.first.as_ref());
        witness.look(&Moment { case, number: 0, pod: &pod });
        for (number, step) in case.steps.iter().enumerate() {
            witness.before_step(&Moment { case, number, pod: &pod });
            let restarts: Vec<&String> = step.changes.iter().filter_map(|change| self.take(case, change)).collect();
            match restarts.as_slice() {
                [] => pod.refresh(),
                containers => containers.iter().for_each(|container| pod.restart(container)),
            }
            check(&Moment { case, number: number + 1, pod: &pod }, step.outcome.as_ref());
            witness.look(&Moment { case, number: number + 1, pod: &pod });
        }
    }

    fn make(&self, case: &Case) -> Result<(), String> {
        for object in &case.objects {
            self.api.try_create(object)?;
        }
        self.api.try_create(&case.pod)?;
        if let Some(status) = &case.status {
            self.api.merge_status(&case.pod, status);
        }
        Ok(())
    }

    /// Makes a change, or says which container it lets start again.
    fn take<'a>(&self, case: &Case, change: &'a Change) -> Option<&'a String> {
        match change {
            Change::Put(object) => self.api.put(object),
            Change::Delete(object) => self.api.ensure_gone(object),
            Change::Pod(patch) => self.api.merge(&case.pod, patch),
            Change::Ephemeral(container) => self.api.add_ephemeral(&case.pod, container),
            Change::Restart(container) => return Some(container),
        }
        None
    }
}

/// The node that pods are on. All stages of a test run have it in common.
fn make_node(api: &Api) {
    let node = reference("Node", NODE);
    // Another stage may have been first.
    let _ = api.try_create(&node);
    let resources = json!({"cpu": "2", "memory": "4Gi", "ephemeral-storage": "100Gi", "pods": "110"});
    let addresses = json!([{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": NODE}]);
    api.merge_status(&node, &json!({"allocatable": resources, "capacity": resources, "addresses": addresses}));
}

/// A stage that tests share which run at the same time: starting one costs more than playing a case.
pub fn on_shared_stage(work: impl FnOnce(&Stage)) {
    static SHARED: Mutex<Weak<Mutex<Stage>>> = Mutex::new(Weak::new());
    let stage = {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        // One on which a case has failed may be left in any state.
        let usable = shared.upgrade().filter(|stage| !stage.is_poisoned());
        usable.unwrap_or_else(|| {
            let stage = Arc::new(Mutex::new(Stage::new()));
            *shared = Arc::downgrade(&stage);
            stage
        })
    };
    let stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
    work(&stage);
}

/// Takes a case's objects away, whether it went well or not.
struct Cleaner<'a>(&'a Stage, &'a Case);

impl Drop for Cleaner<'_> {
    fn drop(&mut self) {
        let Cleaner(stage, case) = self;
        let id = |object: &&serde_json::Value| (object["kind"].to_string(), object["metadata"].to_string());
        let all: BTreeMap<_, _> = case.all_objects().into_iter().map(|object| (id(&object), object)).collect();
        std::iter::once(&case.pod).chain(all.into_values()).for_each(|object| stage.api.ensure_gone(object));
    }
}

/// Holds what the kubelet's code has made against what is written in the case.
#[track_caller]
fn check(now: &Moment<'_>, expected: Option<&Outcome>) {
    if now.number == 0 {
        starts_well(now);
    }
    let Some(expected) = expected else { return };
    let at = format!("{}, step {}", now.case.name, now.number);
    let stopped = now.pod.containers.iter();
    let stopped = stopped.filter_map(|(name, one)| Some((name.as_str(), one.root.as_ref().err()?.as_str()))).collect();
    said(&at, "volumes", &expected.refused, &now.pod.refused());
    // Where volumes have never been there, no container starts.
    if expected.refused.is_empty() || !expected.stopped.is_empty() {
        said(&at, "containers", &expected.stopped, &stopped);
    }
    let path = |path: &String| -> PathBuf {
        let (container, path) = path.split_once('/').unwrap_or((path, ""));
        now.pod.root(container).join(path)
    };
    for (name, bytes) in &expected.reads {
        let found = std::fs::read(path(name)).ok();
        let brief =
            |bytes: &Option<Vec<u8>>| bytes.as_deref().map_or("nothing".into(), |bytes| Brief(bytes).to_string());
        assert!(found == *bytes, "{at}: {name} reads {}, not {}", brief(&found), brief(bytes));
    }
    for (name, stat) in &expected.stats {
        assert_eq!(described(std::fs::metadata(path(name))), *stat, "{at}: stat of {name}");
    }
    for (name, stat) in &expected.lstats {
        assert_eq!(described(std::fs::symlink_metadata(path(name))), *stat, "{at}: lstat of {name}");
    }
    for (name, names) in &expected.lists {
        assert_eq!(listed(&path(name)), *names, "{at}: names in {name}");
    }
}

/// All that a container was to have is there when it starts, and nothing of a volume that could not be set up. (Later,
/// what hides a key goes with the key, even a mount.)
#[track_caller]
fn starts_well(now: &Moment<'_>) {
    let name = &now.case.name;
    for (volume, one) in now.pod.volumes.iter().filter(|(_, one)| one.error.is_some()) {
        let files = std::fs::read_dir(&one.path).map_or(0, Iterator::count);
        assert_eq!(files, 0, "{name}: volume {volume} is refused, and there");
    }
    for (container, one) in &now.pod.containers {
        let Ok(root) = &one.root else { continue };
        let path = |mount: &Mount| root.join(mount.path.trim_start_matches('/'));
        for (number, mount) in one.mounts.iter().enumerate() {
            let at = format!("{name}: {container}: {} of volume {}", mount.path, mount.volume);
            let found = std::fs::symlink_metadata(path(mount)).unwrap_or_else(|error| panic!("{at}: {error}"));
            assert!(found.is_dir() || mount.sub_path, "{at} is no directory");
            // Of two at one path the later shows.
            if one.mounts[number + 1..].iter().all(|later| later.path != mount.path) {
                let flags = rustix::fs::statvfs(path(mount)).expect("statvfs").f_flag;
                assert_eq!(flags.contains(StatVfsMountFlags::RDONLY), mount.read_only, "{at}: read-only");
            }
        }
    }
}

fn said(at: &str, what: &str, expected: &BTreeMap<String, String>, found: &BTreeMap<&str, &str>) {
    let same = expected.len() == found.len()
        && expected.iter().all(|(name, part)| found.get(name.as_str()).is_some_and(|said| said.contains(part)));
    assert!(same, "{at}: {what} with errors: {found:#?}, not {expected:#?}");
}

fn described(found: std::io::Result<std::fs::Metadata>) -> String {
    match found {
        Ok(found) => format!("{:04o} {}:{}", found.mode() & 0o7777, found.uid(), found.gid()),
        Err(error) => error.to_string(),
    }
}

fn listed(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut names: Vec<String> =
        entries.map(|entry| plain(&entry.expect("entry").file_name().to_string_lossy())).collect();
    names.sort();
    names
}
