//! A whole pod as the kubelet and a container runtime set it up: each container's root directory, without an image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::referee::Referee;

/// A pod run by the kubelet's code, taken away with this handle.
pub struct KubeletPod<'a> {
    referee: &'a Referee,
    namespace: String,
    name: String,
    /// What the latest pass has made of each volume that a container mounts.
    pub volumes: BTreeMap<String, Volume>,
    /// All containers: init, ordinary and ephemeral ones.
    pub containers: BTreeMap<String, Container>,
}

#[derive(Clone, Debug)]
pub struct Volume {
    /// On the node; nothing is there as long as it could never be set up.
    pub path: PathBuf,
    /// Why the kubelet could not set it up, or refresh it, this time.
    pub error: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Container {
    /// Its root directory, as the test sees it, or why it could not start. A container starts when all volumes of the
    /// pod have been set up once, and keeps its mounts from then on. One that fails then is tried again by a restart.
    pub root: Result<PathBuf, String>,
    /// As the container's volumeMounts, in that order.
    pub mounts: Vec<Mount>,
}

impl Container {
    /// Whether it has not tried to start yet, because volumes of the pod have never been set up.
    pub fn is_waiting(&self) -> bool {
        self.root.as_ref().is_err_and(|error| error.starts_with("waits for the volumes"))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The mountPath, absolute and clean.
    pub path: String,
    pub volume: String,
    pub sub_path: bool,
    pub read_only: bool,
}

impl Referee {
    /// Runs a pod of the API server.
    #[track_caller]
    pub fn pod(&self, namespace: &str, name: &str) -> KubeletPod<'_> {
        let mut pod = KubeletPod {
            referee: self,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            volumes: BTreeMap::new(),
            containers: BTreeMap::new(),
        };
        pod.refresh();
        pod
    }
}

impl KubeletPod<'_> {
    /// Does what the kubelet does about once a minute: reads the pod and its objects, rewrites volumes that differ, and
    /// starts containers that have not started. All of it, events included, has happened when this returns.
    #[track_caller]
    pub fn refresh(&mut self) {
        let request = json!({"op": "run", "namespace": self.namespace, "pod": self.name});
        self.take(&self.referee.ask(&request));
    }

    /// Ends a container and starts it again: its subPaths are looked up anew.
    #[track_caller]
    pub fn restart(&mut self, container: &str) {
        let request = json!({"op": "restart", "namespace": self.namespace, "pod": self.name, "container": container});
        self.take(&self.referee.ask(&request));
    }

    fn take(&mut self, answer: &Value) {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let all = |field: &Value| field.as_object().cloned().unwrap_or_default();
        let volume = |value: &Value| Volume {
            path: self.referee.seen(value["path"].as_str().unwrap_or_default()),
            error: text(&value["error"]),
        };
        self.volumes = all(&answer["volumes"]).iter().map(|(name, value)| (name.clone(), volume(value))).collect();
        let container = |value: &Value| Container {
            root: match value["error"].as_str() {
                Some(error) => Err(error.to_owned()),
                // The dot leads through the link: lstat of a root shows the root.
                None => Ok(Path::new(value["root"].as_str().expect("a root")).join(".")),
            },
            mounts: value["mounts"].as_array().map(|mounts| mounts.iter().map(mount).collect()).unwrap_or_default(),
        };
        let containers = all(&answer["containers"]);
        self.containers = containers.iter().map(|(name, value)| (name.clone(), container(value))).collect();
    }

    /// The root directory of a container that runs.
    #[track_caller]
    pub fn root(&self, container: &str) -> &Path {
        let found = self.containers.get(container).unwrap_or_else(|| panic!("no container {container}"));
        found.root.as_ref().unwrap_or_else(|error| panic!("container {container}: {error}"))
    }

    /// The volumes that the kubelet refused at the latest pass, and what it said.
    pub fn refused<'a>(&'a self) -> BTreeMap<&'a str, &'a str> {
        let refused = |(name, volume): (&'a String, &'a Volume)| Some((name.as_str(), volume.error.as_deref()?));
        self.volumes.iter().filter_map(refused).collect()
    }
}

fn mount(value: &Value) -> Mount {
    let text = |field: &str| value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}")).to_owned();
    Mount {
        path: text("path"),
        volume: text("volume"),
        sub_path: value["subPath"] == true,
        read_only: value["readOnly"] == true,
    }
}

impl Drop for KubeletPod<'_> {
    fn drop(&mut self) {
        let request = json!({"op": "teardown", "namespace": self.namespace, "pod": self.name});
        match self.referee.try_ask(&request) {
            Ok(_) => {}
            // A case that fails is tried again, smaller: its pod has to go. A referee that fails goes with all it has.
            Err(_) if std::thread::panicking() => {}
            Err(error) => panic!("{error}"),
        }
    }
}
