//! First reads: a Secret in a cluster view that nobody has read, against a bare HTTPS GET on a warm connection and against
//! `kubectl get secret -o jsonpath | base64 -d`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bare::{Client, secret_path};
use crate::report::{Report, Rival, Unit};
use crate::rounds::{interleaved, interleaved_with, seconds};
use crate::support::cluster::{Cluster, cluster};
use crate::support::mount::Mount;
use crate::support::{subdir, succeed, tempdir, wait_until};

/// One at a time, as when somebody works in a shell: each contestant has its turn every 0.3 s.
const PACED: usize = 31;
const PAUSE: Duration = Duration::from_millis(150);
const KUBECTL: usize = 5;
/// Longer than a crawl may pause: docs/SEMANTICS.md.
const AFTER_CRAWL: Duration = Duration::from_millis(1500);
/// One after another, as a script does it.
const SERIES: usize = 5;
const LENGTH: usize = 100;
/// So few in each namespace, and so few of those that are there, that secretfs takes it for no crawl and makes a GET for
/// each.
const NEIGHBOURS: usize = 4;
const UNREAD: usize = 5;

const VALUE: &str = "correct horse battery staple";

/// Where Secrets are that are read one by one, and that are read all at once; each only once, or it would be no first read.
const ALONE: &str = "alone";
const CROWD: &str = "crowd";
const BARE: &str = "bare";

pub fn run(report: &mut Report) {
    let cluster = cluster();
    let mut client = Client::connect(cluster);
    // With the rounds that do not count.
    let alone = (PACED + 1) + (KUBECTL + 1) + (SERIES + 1) * LENGTH;
    let crowd = (SERIES + 1) * LENGTH;
    let mut alone = supply(&mut client, ALONE, alone, NEIGHBOURS, UNREAD).into_iter();
    let mut crowd = supply(&mut client, CROWD, crowd, LENGTH, 0).into_iter();
    let bare = (PACED + 1) + (KUBECTL + 1) + 2 * (SERIES + 1) * LENGTH;
    let mut bare = supply(&mut client, BARE, bare, LENGTH, 0).into_iter();
    let dir = tempdir();
    let mount = mount(cluster, &subdir(dir.path(), "k8s"));
    report.part("first-read", "the first read of a Secret in a view of the whole cluster");

    let mut read_alone = || read(&mount, &alone.next().expect("a Secret"));
    let mut get = |count: usize| {
        let paths: Vec<String> = bare.by_ref().take(count).map(|secret| secret.path()).collect();
        assert_eq!(paths.len(), count, "a Secret for each");
        paths.iter().map(|path| seconds(|| assert!(client.get(path).len() > VALUE.len()))).sum::<f64>()
    };
    let [ours, rival] = interleaved_with(PACED, PAUSE, [&mut read_alone, &mut || get(1)]);
    let rival = Rival { name: "bare GET, warm connection", value: rival.median() };
    report.against("one each 0.3 s", ours.median(), &rival, Some(1.5));

    let mut read_series = || (0..LENGTH).map(|_| read_alone()).sum();
    let [ours, rival] = interleaved(SERIES, [&mut read_series, &mut || get(LENGTH)]);
    let rival = Rival { name: "100 bare GETs", value: rival.median() };
    report.against("100 one after another, of 25 namespaces", ours.median(), &rival, Some(2.0));

    let mut read_crowd = || crowd.by_ref().take(LENGTH).map(|secret| read(&mount, &secret)).sum();
    let [ours, rival] = interleaved(SERIES, [&mut read_crowd, &mut || get(LENGTH)]);
    let rival = Rival { name: "100 bare GETs", value: rival.median() };
    report.against("100 one after another, of one namespace", ours.median(), &rival, Some(2.0));

    // Whoever works in a shell is no part of the crawl before.
    std::thread::sleep(AFTER_CRAWL);
    let mut kubectl = || kubectl_get(cluster, &bare.next().expect("a Secret"));
    let [ours, rival] = interleaved_with(KUBECTL, PAUSE, [&mut read_alone, &mut kubectl]);
    let rival = Rival { name: "kubectl get | base64 -d", value: rival.median() };
    report.against("now and then", ours.median(), &rival, None);

    assert!(alone.next().is_none() && crowd.next().is_none(), "all were read");
    count_requests(report, cluster);
}

/// A Secret that nobody has read.
struct Secret {
    namespace: String,
    name: String,
}

impl Secret {
    fn path(&self) -> String {
        secret_path(&self.namespace, &self.name)
    }
}

/// Makes `count` Secrets, so many in each namespace, and more beside them that are not given out.
fn supply(client: &mut Client, kind: &str, count: usize, in_each: usize, beside: usize) -> Vec<Secret> {
    let make = |number: usize| {
        let namespace = format!("{kind}-{:03}", number / in_each);
        if number.is_multiple_of(in_each) {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            client.create("/api/v1/namespaces", &object);
            for unread in 0..beside {
                client.create_secret(&namespace, &format!("unread-{unread}"), "key", VALUE);
            }
        }
        let name = format!("secret-{:03}", number % in_each);
        client.create_secret(&namespace, &name, "key", VALUE);
        Secret { namespace, name }
    };
    (0..count).map(make).collect()
}

fn mount(cluster: &Cluster, dir: &Path) -> Mount {
    Mount::with(&[], dir, |command| {
        command.env("KUBECONFIG", cluster.kubeconfig());
    })
}

fn read(mount: &Mount, secret: &Secret) -> f64 {
    let file = mount.dir.join(&secret.namespace).join(&secret.name).join("key");
    seconds(|| assert_eq!(std::fs::read_to_string(&file).expect("read"), VALUE))
}

fn kubectl_get(cluster: &Cluster, secret: &Secret) -> f64 {
    let kubectl = cluster.kubectl();
    let mut pipe = Command::new("sh");
    pipe.arg("-c").arg("\"$0\" -n \"$1\" get secret \"$2\" -o 'jsonpath={.data.key}' | base64 -d");
    pipe.arg(kubectl.get_program()).arg(&secret.namespace).arg(&secret.name);
    pipe.envs(kubectl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    seconds(|| assert_eq!(succeed(&mut pipe), VALUE))
}

/// What the API server was asked for, by its own log.
fn count_requests(report: &mut Report, cluster: &Cluster) {
    let alone = (PACED + 1) + (KUBECTL + 1) + (SERIES + 1) * LENGTH;
    let in_namespace = |entry: &Value, kind: &str| {
        let namespace = entry["objectRef"]["namespace"].as_str().unwrap_or_default();
        namespace.starts_with(kind) && entry["userAgent"].as_str().unwrap_or_default().starts_with("secretfs/")
    };
    let requests = |kind: &str| cluster.audit(|entry| in_namespace(entry, kind));
    wait_until("the audit log", || requests(ALONE).len() >= alone);
    let all = requests(ALONE);
    let is_get = |entry: &&Value| entry["verb"] == "get" && entry["objectRef"]["name"].is_string();
    let gets = all.iter().filter(is_get).count();
    report.exactly(&format!("GETs for {alone} that were read one by one"), gets as u64, alone as u64);
    report.exactly("  other requests in their namespaces", (all.len() - gets) as u64, 0);
    let crowd = (SERIES + 1) * LENGTH;
    let figure = format!("requests for {crowd} in {} namespaces", SERIES + 1);
    report.alone(Unit::Count, &figure, requests(CROWD).len() as f64, None);
}
