//! First reads: a Secret in a cluster view that nobody has read, against a bare HTTPS GET on a warm connection and against
//! `kubectl get secret -o jsonpath | base64 -d`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::bare::{Client, secret_path};
use crate::report::{Report, Rival};
use crate::rounds::{interleaved, interleaved_with, seconds};
use crate::support::cluster::{Cluster, Namespace, cluster, namespace};
use crate::support::mount::Mount;
use crate::support::{subdir, succeed, tempdir, wait_until};

/// One at a time, as when somebody works in a shell: each contestant has its turn every 0.3 s.
const PACED: usize = 31;
const PAUSE: Duration = Duration::from_millis(150);
/// One after another, as a script does it.
const SERIES: usize = 5;
const LENGTH: usize = 100;
const KUBECTL: usize = 5;

const VALUE: &str = "correct horse battery staple";

pub fn run(report: &mut Report) {
    let cluster = cluster();
    let namespace = namespace();
    let mut api = Client::connect(cluster);
    let supply = Supply::make(&mut api, &namespace.name);
    let dir = tempdir();
    let mount = mount(cluster, &subdir(dir.path(), "k8s"));
    let view = mount.path(&namespace.name);
    report.part("first-read", "the first read of a Secret in a view of the whole cluster");

    let mut ours = supply.names("ours");
    let mut bare = supply.names("bare");
    let mut read = || {
        let file = view.join(ours.next().expect("a Secret")).join("key");
        seconds(|| assert_eq!(std::fs::read_to_string(&file).expect("read"), VALUE))
    };
    let mut get = || {
        let path = secret_path(&namespace.name, &bare.next().expect("a Secret"));
        seconds(|| assert!(api.get(&path).len() > VALUE.len()))
    };
    let mut kubectl = supply.names("kubectl");
    let mut kubectl = || kubectl_get(&namespace, &kubectl.next().expect("a Secret"));

    let [one, bare_one] = interleaved_with(PACED, PAUSE, [&mut read, &mut get]);
    // Counted before the series, which is a crawl: that is served by pages, not by one GET each.
    let paced = requests(cluster, &namespace.name, PACED + 1);
    let [many, bare_many] = interleaved(
        SERIES,
        [&mut || (0..LENGTH).map(|_| read()).sum::<f64>(), &mut || (0..LENGTH).map(|_| get()).sum::<f64>()],
    );
    let [beside_kubectl, kubectl] = interleaved_with(KUBECTL, PAUSE, [&mut read, &mut kubectl]);

    let rival = Rival { name: "bare GET, warm connection", value: bare_one.median() };
    report.against("one each 0.3 s", one.median(), &rival, Some(1.5));
    let rival = Rival { name: "100 bare GETs", value: bare_many.median() };
    report.against("100 one after another", many.median(), &rival, Some(2.0));
    let rival = Rival { name: "kubectl get | base64 -d", value: kubectl.median() };
    report.against("now and then", beside_kubectl.median(), &rival, None);

    let reads = PACED + 1;
    report.exactly(&format!("GETs for the {reads} Secrets read one each 0.3 s"), paced.gets, reads as u64);
    report.exactly("other requests that name one of them", paced.others, 0);
}

/// A Secret for each read: a second read would not be a first one.
struct Supply;

impl Supply {
    fn make(api: &mut Client, namespace: &str) -> Self {
        for kind in ["ours", "bare", "kubectl"] {
            for name in Supply.names(kind) {
                api.create_secret(namespace, &name, "key", VALUE);
            }
        }
        Supply
    }

    /// With the rounds that do not count.
    fn count(&self, kind: &str) -> usize {
        let all = (PACED + 1) + (SERIES + 1) * LENGTH;
        match kind {
            "kubectl" => KUBECTL + 1,
            "ours" => all + KUBECTL + 1,
            _ => all,
        }
    }

    fn names(&self, kind: &'static str) -> impl Iterator<Item = String> + use<> {
        (0..self.count(kind)).map(move |number| format!("{kind}-{number:04}"))
    }
}

fn mount(cluster: &Cluster, dir: &Path) -> Mount {
    Mount::with(&[], dir, |command| {
        command.env("KUBECONFIG", cluster.kubeconfig());
    })
}

fn kubectl_get(namespace: &Namespace, name: &str) -> f64 {
    let kubectl = namespace.cluster.kubectl();
    let mut pipe = Command::new("sh");
    pipe.arg("-c").arg("\"$0\" -n \"$1\" get secret \"$2\" -o 'jsonpath={.data.key}' | base64 -d");
    pipe.arg(kubectl.get_program()).arg(&namespace.name).arg(name);
    pipe.envs(kubectl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    seconds(|| assert_eq!(succeed(&mut pipe), VALUE))
}

struct Requests {
    gets: u64,
    others: u64,
}

/// What the API server was asked about the Secrets that secretfs read; waits until its log has that many lines.
fn requests(cluster: &Cluster, namespace: &str, at_least: usize) -> Requests {
    let ours = |entry: &serde_json::Value| {
        let object = &entry["objectRef"];
        let named = object["name"].as_str().is_some_and(|name| name.starts_with("ours-"));
        named && object["namespace"] == namespace && entry["userAgent"] != "bare"
    };
    wait_until("the audit log", || cluster.audit(ours).len() >= at_least);
    let all = cluster.audit(ours);
    let gets = all.iter().filter(|entry| entry["verb"] == "get").count();
    Requests { gets: gets as u64, others: (all.len() - gets) as u64 }
}
