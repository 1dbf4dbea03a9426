//! The kubelet's own volume code (tests/controlplane), which sets up the volumes that ours must equal.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::{tempdir, wait_until};

/// The name of the one volume of a [`pod`].
const VOLUME: &str = "v";

/// A running referee. It works in a mount namespace of its own, below a tmpfs that only that namespace has: whatever
/// happens to it or to the test, the kernel takes all its mounts away with it. The test looks in through /proc.
pub struct Referee {
    child: Child,
    pipes: RefCell<Option<(ChildStdin, BufReader<ChildStdout>)>>,
    _dir: tempfile::TempDir,
}

/// A pod with one volume, which its one container mounts. `source` is the volume's source as in a pod's manifest.
pub fn pod(namespace: &str, name: &str, source: &Value) -> Value {
    let mut volume = source.clone();
    volume["name"] = VOLUME.into();
    let container = json!({"name": "c", "image": "i", "volumeMounts": [{"name": VOLUME, "mountPath": "/v"}]});
    json!({
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [container], "volumes": [volume]}
    })
}

impl Referee {
    /// Starts a referee that reads objects from this cluster.
    pub fn start(cluster: &Cluster) -> Referee {
        let dir = tempdir();
        // ConfigMap volumes are plain directories: on tmpfs too, all sizes and link counts are tmpfs's.
        // Shared as everything is under systemd, which some containers' mountPropagation asks for.
        let script = r#"mount -t tmpfs tmpfs "$1" && mount --make-shared "$1" &&
            exec "$2" referee --kubeconfig "$3" --root "$1""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "referee"]);
        command.arg(dir.path()).arg(&cluster.binary).arg(cluster.kubeconfig());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
        let pipes = child.stdin.take().zip(child.stdout.take()).map(|(send, receive)| (send, BufReader::new(receive)));
        Referee { child, pipes: RefCell::new(pipes), _dir: dir }
    }

    /// One request and its answer.
    #[track_caller]
    pub(super) fn ask(&self, request: &Value) -> Value {
        self.try_ask(request).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) fn try_ask(&self, request: &Value) -> Result<Value, String> {
        let mut pipes = self.pipes.borrow_mut();
        let (send, receive) = pipes.as_mut().ok_or("the referee has ended")?;
        let mut line = String::new();
        let asked = writeln!(send, "{request}").and_then(|()| receive.read_line(&mut line));
        asked.map_err(|error| format!("the referee does not answer {request}: {error}"))?;
        let answer: Value = serde_json::from_str(&line).map_err(|error| format!("answer {line:?}: {error}"))?;
        if answer["error"].is_null() { Ok(answer) } else { Err(format!("the referee says {answer} to {request}")) }
    }

    /// The same path from where the test looks.
    pub(super) fn seen(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.child.id()))
    }

    /// Sets the volume of a [`pod`] up.
    #[track_caller]
    pub fn set_up(&self, pod: Value) -> KubeletVolume<'_> {
        let mut volume = KubeletVolume { referee: self, pod, root: PathBuf::new() };
        volume.root = volume.refresh();
        volume
    }
}

impl Drop for Referee {
    fn drop(&mut self) {
        // The end of its input is its sign to clear up and go.
        self.pipes.replace(None);
        if std::thread::panicking() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        } else {
            wait_until("the referee's end", || matches!(self.child.try_wait(), Ok(Some(_))));
        }
    }
}

/// A volume set up by the kubelet's code, taken away with this handle.
pub struct KubeletVolume<'a> {
    referee: &'a Referee,
    pod: Value,
    /// Where the test sees it.
    pub root: PathBuf,
}

impl KubeletVolume<'_> {
    /// Does what the kubelet does about once a minute: reads the objects and rewrites the volume if they have changed.
    /// All of it, events included, has happened when this returns. Returns the volume's root.
    #[track_caller]
    pub fn refresh(&self) -> PathBuf {
        let answer = self.referee.ask(&json!({"op": "setup", "podSpec": self.pod}));
        let volume = &answer["volumes"][VOLUME];
        assert!(volume["error"].is_null(), "the kubelet's code says {volume} to {}", self.pod);
        let path = volume["path"].as_str().unwrap_or_else(|| panic!("no volume in {answer}"));
        self.referee.seen(path)
    }
}

impl Drop for KubeletVolume<'_> {
    fn drop(&mut self) {
        // After a failure the referee itself goes, with all that it has.
        if !std::thread::panicking() {
            let metadata = &self.pod["metadata"];
            self.referee.ask(&json!({"op": "teardown", "namespace": metadata["namespace"], "pod": metadata["name"]}));
        }
    }
}
