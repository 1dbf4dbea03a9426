//! Load: a view of 10 000 Secrets in 100 namespaces, its names against a bare client's list of metadata, `grep -r` in it against
//! a bare client's list of everything and the same grep in an ordinary FUSE file system. Then many readers ([`readers`]), many
//! updates ([`changes`]), a list of everything that changes nothing ([`relist`]), and ten times as many names ([`huge`]).

mod changes;
mod fill;
mod huge;
mod names;
mod readers;
mod relist;

use std::path::Path;
use std::process::{Command, Stdio};

use fill::{PLANTED_BASE64, Size, fill};
use names::Limits;

use crate::bare::{Client, JSON};
use crate::ordinary::Ordinary;
use crate::report::{Report, Rival, Unit};
use crate::rounds::seconds;
use crate::support::cluster::{Cluster, cluster};
use crate::support::kubeconfig::kubeconfig;
use crate::support::mount::Mount;
use crate::support::proxy::Proxy;
use crate::support::{run as run_command, subdir, succeed, tempdir};

const SIZE: Size = Size { namespaces: 100, secrets: 100 };
const LIMITS: Limits = Limits { usable: 0.3, listed: Some(0.6), resident: 40 << 20 };
/// What kubectl asks for.
const PAGE: usize = 500;

pub fn run(report: &mut Report) {
    let cluster = cluster();
    report.part("load", &SIZE.describe());
    fill(report, cluster, SIZE);
    names::run(report, cluster, SIZE, &LIMITS);
    no_value_received(report, cluster);
    grep(report, cluster);
    readers::run(report, cluster);
    changes::run(report);
    relist::run(report);
    huge::run(report);
}

fn mount(dir: &Path, kubeconfig: &Path) -> Mount {
    Mount::with(&[], dir, |command| {
        command.env("KUBECONFIG", kubeconfig);
    })
}

/// Lists all namespaces and all names in them.
fn list(dir: &Path) -> usize {
    let namespaces = std::fs::read_dir(dir).expect("readdir").map(|entry| entry.expect("entry").path());
    namespaces.map(|namespace| std::fs::read_dir(namespace).expect("readdir").count()).sum()
}

/// Whether names alone are received for a listing, as a proxy sees it. Nothing is timed through it.
fn no_value_received(report: &mut Report, cluster: &Cluster) {
    let dir = tempdir();
    let proxy = Proxy::start(cluster);
    let through_proxy = dir.path().join("kubeconfig");
    std::fs::write(&through_proxy, kubeconfig(&[proxy.context("default")])).expect("write");
    let point = subdir(dir.path(), "k8s");
    let _mount = mount(&point, &through_proxy);
    list(&point);
    let bodies = || proxy.exchanges().into_iter().map(|exchange| exchange.body());
    let values = || bodies().map(|body| count(&body, PLANTED_BASE64)).sum::<usize>();
    report.alone(Unit::Bytes, "received until then", bodies().map(|body| body.len() as f64).sum(), None);
    report.exactly("values received until then", values() as u64, 0);
    std::fs::read(point.join("load-000/secret-000/url")).expect("read");
    assert!(values() >= 3, "the proxy sees the values of a Secret that is read");
}

fn count(text: &[u8], wanted: &[u8]) -> usize {
    text.windows(wanted.len()).filter(|window| window == &wanted).count()
}

/// A crawl through everything.
fn grep(report: &mut Report, cluster: &Cluster) {
    let dir = tempdir();
    let mount = mount(&subdir(dir.path(), "k8s"), &cluster.kubeconfig());
    let before = requests(cluster);
    let ours = seconds(|| grep_all(&mount.dir));
    let requests = requests(cluster) - before;
    let copy = subdir(dir.path(), "copy");
    succeed(Command::new("cp").arg("-a").arg(mount.path(".")).arg(&copy));
    let ordinary = Ordinary::mount(&copy, &subdir(dir.path(), "fuse"));
    let in_ordinary = seconds(|| grep_all(&ordinary.dir));
    let mut api = Client::connect(cluster);
    let mut bytes = 0;
    let listed = seconds(|| bytes = api.list_all("/api/v1/secrets", PAGE, JSON).1);
    report.say(format!(
        "  (the bare list of everything: {listed:.2} s for {} MB; grep in the ordinary one: {in_ordinary:.2} s)",
        bytes / 1_000_000
    ));
    let rival = Rival { name: "bare list + ordinary FUSE", value: listed + in_ordinary };
    report.against("grep -r of everything, first time", ours, &rival, Some(1.5));
    report.alone(Unit::Count, "  GETs and LISTs for it", requests as f64, Some(40.0));
}

fn grep_all(dir: &Path) {
    let mut command = Command::new("grep");
    command.args(["-r", "--count", "in load-042/042"]).arg(dir).stderr(Stdio::inherit());
    let output = run_command(&mut command);
    let hits = String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.ends_with(":1")).count();
    assert_eq!(hits, 3, "the three values of one Secret");
}

/// What secretfs has asked the API server for so far, watches left out: they go on whatever is read.
fn requests(cluster: &Cluster) -> usize {
    let ours = |entry: &serde_json::Value| {
        let agent = entry["userAgent"].as_str().unwrap_or_default();
        agent.starts_with("secretfs/") && entry["verb"] != "watch"
    };
    cluster.audit(ours).len()
}
