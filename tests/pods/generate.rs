//! Pods that nobody would write: every kind of volume, source, container and mount that the API knows, with objects that
//! come and go. A failing case is made smaller as long as it fails.
//!
//! What is left out has more than one right answer with the kubelet: one path in two spellings, and one link for files
//! of several owners, where the order of a Go map decides.

mod objects;
mod updates;
mod volumes;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use serde_json::{Value, json};

use super::case::{Case, NODE};
use objects::{annotations, labels};
use volumes::Volume;

/// The name of all these cases.
pub const GENERATED: &str = "generated";

/// How often a failing case is tried in another form.
const SHRINKS: u32 = 40;

/// Plays the case of each seed; panics with the smallest one that fails.
pub fn for_seeds(seeds: impl Iterator<Item = u64>, test: impl Fn(&Case)) {
    for seed in seeds {
        let config = Config {
            cases: 1,
            failure_persistence: None,
            max_shrink_iters: SHRINKS,
            source_file: None,
            ..Config::default()
        };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let played = runner.run(&case(), |case| {
            test(&case);
            Ok::<(), TestCaseError>(())
        });
        match played {
            Ok(()) => {}
            Err(TestError::Fail(reason, case)) => panic!("SECRETFS_SEED={seed}: {reason}\nwith {case}"),
            Err(error) => panic!("SECRETFS_SEED={seed}: {error}"),
        }
    }
}

/// Any case. The API server accepts its pod.
pub fn case() -> impl Strategy<Value = Case> {
    let pod = (
        prop::collection::vec(volumes::volume(), 0..9),
        prop::collection::vec(container(), 1..5),
        prop::collection::vec((container(), any::<bool>()), 0..3),
        (labels(), annotations()),
        (option(id()), option(id()), any::<bool>()),
    );
    (objects::world(), pod, updates::steps()).prop_map(|(world, (volumes, containers, inits, metadata, ids), steps)| {
        let names: Vec<String> = (0..containers.len()).map(|number| format!("c{number}")).collect();
        let container = |name: &str, one: &Container| one.manifest(name, volumes.len());
        let containers: Vec<Value> = names.iter().zip(&containers).map(|(name, one)| container(name, one)).collect();
        let inits = inits.iter().enumerate().map(|(number, (one, stays))| {
            let mut init = container(&format!("i{number}"), one);
            if *stays {
                init["restartPolicy"] = "Always".into();
            }
            init
        });
        let (fs_group, run_as_user, automount) = ids;
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "any", "labels": metadata.0, "annotations": metadata.1},
            "spec": {
                "nodeName": NODE, "automountServiceAccountToken": automount, "terminationGracePeriodSeconds": 0,
                "securityContext": {"fsGroup": fs_group, "runAsUser": run_as_user},
                "volumes": volumes.iter().enumerate().map(|(n, one)| Volume::manifest(one, &name_of(n))).collect::<Value>(),
                "containers": containers, "initContainers": inits.collect::<Value>(),
            },
        });
        Case {
            name: GENERATED.into(),
            objects: world,
            pod,
            status: None,
            rejected: None,
            first: None,
            steps: updates::manifests(steps, &names, volumes.len()),
        }
    })
}

/// The name of the volume of this number.
fn name_of(number: usize) -> String {
    format!("v{number}")
}

fn option<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    prop::option::weighted(0.25, strategy)
}

/// A user or group.
fn id() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(1000), Just(2000), Just(65534)]
}

/// A mode, as the numbers that the API has.
fn mode() -> impl Strategy<Value = u32> {
    prop_oneof![4 => prop::sample::select(vec![0o400, 0o440, 0o600, 0o640, 0o755, 0o777, 0]), 1 => 0..0o1000u32]
}

#[derive(Clone, Debug)]
struct Container {
    mounts: Vec<Mount>,
    user: Option<i64>,
}

#[derive(Clone, Debug)]
struct Mount {
    /// Which of the pod's volumes.
    volume: prop::sample::Index,
    path: Vec<&'static str>,
    sub_path: SubPath,
    read_only: bool,
    recursive: Option<&'static str>,
    propagation: Option<&'static str>,
}

#[derive(Clone, Debug)]
enum SubPath {
    None,
    Plain(&'static str),
    /// By the variable SUB of the container's.
    Variable(&'static str),
}

fn container() -> impl Strategy<Value = Container> {
    (prop::collection::vec(mount(), 0..6), option(id())).prop_map(|(mounts, user)| Container { mounts, user })
}

/// Few names, so that mounts lie in each other, and on keys.
fn mount() -> impl Strategy<Value = Mount> {
    let path = prop::collection::vec(prop::sample::select(vec!["a", "b", "dir", "etc", "x.d"]), 1..4);
    let sub_paths = ["a", "b", "dir", "dir/a", "none", "none/deep", "..data", "..data/a"];
    let sub_path = prop_oneof![
        6 => Just(SubPath::None),
        2 => prop::sample::select(sub_paths.to_vec()).prop_map(SubPath::Plain),
        1 => prop::sample::select(sub_paths.to_vec()).prop_map(SubPath::Variable),
    ];
    let recursive = option(prop::sample::select(vec!["Disabled", "IfPossible", "Enabled"]));
    let propagation = option(prop::sample::select(vec!["None", "HostToContainer"]));
    (any::<prop::sample::Index>(), path, sub_path, any::<bool>(), recursive, propagation).prop_map(
        |(volume, path, sub_path, read_only, recursive, propagation)| Mount {
            volume,
            path,
            sub_path,
            read_only,
            recursive,
            propagation,
        },
    )
}

impl Container {
    fn manifest(&self, name: &str, volumes: usize) -> Value {
        let mut seen = Vec::new();
        let mut mounts = Vec::new();
        let mut variables = Vec::new();
        // One mount at each path.
        for mount in self.mounts.iter().filter(|_| volumes > 0) {
            let path = format!("/{}", mount.path.join("/"));
            if !seen.contains(&path) {
                mounts.push(mount.manifest(&path, volumes, &mut variables));
                seen.push(path);
            }
        }
        json!({
            "name": name, "image": "i", "securityContext": {"runAsUser": self.user},
            "volumeMounts": mounts, "env": variables,
        })
    }
}

impl Mount {
    fn manifest(&self, path: &str, volumes: usize, variables: &mut Vec<Value>) -> Value {
        let mut mount = json!({
            "name": name_of(self.volume.index(volumes)), "mountPath": path, "readOnly": self.read_only,
        });
        match self.sub_path {
            SubPath::None => {}
            SubPath::Plain(path) => mount["subPath"] = path.into(),
            SubPath::Variable(value) => {
                let variable = format!("SUB_{}", variables.len());
                mount["subPathExpr"] = format!("$({variable})").into();
                variables.push(json!({"name": variable, "value": value}));
            }
        }
        if self.read_only {
            mount["recursiveReadOnly"] = self.recursive.into();
        }
        // These two exclude each other.
        if !self.read_only || self.recursive.is_none() || self.recursive == Some("Disabled") {
            mount["mountPropagation"] = self.propagation.into();
        }
        mount
    }
}
