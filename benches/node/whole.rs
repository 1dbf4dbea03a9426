//! From nothing until every file of every pod has been read, and what that has cost.

use std::path::Path;

use serde_json::{Value, json};

use super::stage::{NODE, Node};
use crate::bare::Client;
use crate::process::resident_bytes;
use crate::report::{Report, Rival, Unit};
use crate::rounds::{Samples, seconds};
use crate::support::cluster::Cluster;
use crate::support::kubeconfig::{Context, kubeconfig};
use crate::support::mount::Mount;
use crate::support::wire::Wire;
use crate::support::{subdir, tempdir, wait_until};

const ROUNDS: usize = 5;
const CONNECTIONS: f64 = 8.0;

pub fn run(report: &mut Report, cluster: &Cluster, node: &Node) {
    time(report, cluster, node);
    cost(report, cluster, node);
}

/// A view of the node with the kubelet's own kubeconfig.
pub fn mount(dir: &Path, kubeconfig: &Path) -> Mount {
    Mount::with(&[&format!("node/{NODE}")], dir, |command| {
        command.env("KUBECONFIG", kubeconfig);
    })
}

fn kubelet(url: &str, cluster: &Cluster) -> Context {
    let token = cluster.token_of(&format!("system:node:{NODE}"));
    Context { name: "kubelet".into(), server: url.to_owned(), ca: cluster.ca(), token, namespace: "default".into() }
}

/// Turn by turn; the first turns do not count.
fn time(report: &mut Report, cluster: &Cluster, node: &Node) {
    let dir = tempdir();
    let point = subdir(dir.path(), "node");
    let file = dir.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig(&[kubelet(&cluster.url, cluster)])).expect("write");
    let (mut mounted, mut whole, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let fetched = seconds(|| fetch(&mut bare_client(&cluster.url, cluster), node));
        let mut made = None;
        let mounted_after = seconds(|| made = Some(mount(&point, &file)));
        let mut files = 0;
        let read_after = mounted_after + seconds(|| files = read_all(&point));
        assert_eq!(files, node.files(), "all files at once, as soon as it is mounted");
        made.expect("just mounted").end();
        if round > 0 {
            mounted.push(mounted_after);
            whole.push(read_after);
            bare.push(fetched);
        }
    }
    let [mounted, whole, bare] = [mounted, whole, bare].map(|all| Samples::new(all).median());
    let rival = Rival { name: "bare client, one connection", value: bare };
    report.against("start to mounted", mounted, &rival, None);
    report.against("start to all files read", whole, &rival, Some(1.5));
}

/// Each through a wire that counts what comes.
fn cost(report: &mut Report, cluster: &Cluster, node: &Node) {
    let wire = Wire::to(cluster);
    fetch(&mut bare_client(&wire.url, cluster), node);
    let bare = wire.received() as f64;
    let wire = Wire::to(cluster);
    let dir = tempdir();
    let point = subdir(dir.path(), "node");
    let file = dir.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig(&[kubelet(&wire.url, cluster)])).expect("write");
    let before = requests(cluster).len();
    let mount = mount(&point, &file);
    assert_eq!(read_all(&point), node.files());
    let watches = || mount.status()["api"]["open_watches"].as_u64().expect("a number");
    wait_until("a watch of each object", || watches() > node.objects.len() as u64);
    let rival = Rival { name: "bare client", value: bare };
    report.against_in(Unit::Bytes, "received, all objects watched", wire.received() as f64, &rival, Some(3.0));
    report.alone(Unit::Bytes, "resident then", resident_bytes(mount.pid()), None);
    report.alone(Unit::Count, "watches open then", watches() as f64, None);
    report.alone(Unit::Count, "connections open then", wire.open() as f64, Some(CONNECTIONS));
    report.alone(Unit::Count, "  made until then", wire.made() as f64, None);
    let requests = requests(cluster).split_off(before);
    let count = |wanted: &dyn Fn(&Value) -> bool| requests.iter().filter(|entry| wanted(entry)).count() as u64;
    let of = |entry: &Value, resources: &[&str]| {
        resources.contains(&entry["objectRef"]["resource"].as_str().unwrap_or_default())
    };
    let values = |entry: &Value| of(entry, &["secrets", "configmaps"]);
    report.alone(Unit::Count, "requests", requests.len() as f64, None);
    let wanted = node.objects.len() as u64;
    report.exactly("  GETs of Secrets and ConfigMaps", count(&|entry| entry["verb"] == "get" && values(entry)), wanted);
    report.exactly("  lists of them", count(&|entry| entry["verb"] == "list" && values(entry)), 0);
    let wanted = node.pods.len() as u64;
    report.exactly("  tokens", count(&|entry| entry["objectRef"]["subresource"] == "token"), wanted);
    report.exactly("  refused", count(&|entry| entry["responseStatus"]["code"].as_u64() >= Some(400)), 0);
}

fn bare_client(url: &str, cluster: &Cluster) -> Client {
    Client::at(url, cluster, cluster.token_of(&format!("system:node:{NODE}")))
}

/// Gets what a view of the node needs: its pods, each object once, and a token for each pod.
fn fetch(client: &mut Client, node: &Node) {
    let pods = client.get(&format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE}"));
    let pods: Value = serde_json::from_slice(&pods).expect("a list of pods");
    let pods = pods["items"].as_array().expect("pods");
    assert_eq!(pods.len(), node.pods.len());
    for object in &node.objects {
        assert!(client.get(object).len() > 300);
    }
    for pod in pods {
        let metadata = &pod["metadata"];
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]});
        let namespace = metadata["namespace"].as_str().expect("a namespace");
        client.create(
            &format!("/api/v1/namespaces/{namespace}/serviceaccounts/default/token"),
            &json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                "spec": {"expirationSeconds": 3607, "boundObjectRef": bound},
            }),
        );
    }
}

/// Reads every file as programs do, by its name in the volume, and counts them.
fn read_all(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).expect("readdir").map(|entry| entry.expect("an entry"));
    let shown = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with(".."));
    shown
        .map(|entry| {
            if entry.file_type().expect("a type").is_dir() {
                return read_all(&entry.path());
            }
            assert!(!std::fs::read(entry.path()).expect("read").is_empty());
            1
        })
        .sum()
}

/// What the node's view has asked the API server for so far, each request once.
fn requests(cluster: &Cluster) -> Vec<Value> {
    let ours = |entry: &Value| {
        entry["userAgent"].as_str().unwrap_or_default().starts_with("secretfs/")
            // A watch has a line when its answer begins and one when it ends.
            && (entry["verb"] != "watch" || entry["stage"] == "ResponseStarted")
    };
    cluster.audit(ours)
}
