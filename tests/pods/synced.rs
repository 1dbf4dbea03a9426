//! What `secretfs sync` writes of a pod, held beside what the kubelet's code and a container runtime make of it.
//!
//! Its rules are those of a mount, which `beside` holds to all cases: here are those in which real files could differ.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::case::{Case, Change};
use super::cases;
use super::stage::{Moment, Stage, Witness};
use crate::support::snapshot::{Entry, differences, try_snapshot};
use crate::support::sync::{Sync, memory_dir};
use crate::support::{PATIENCE, token};

/// How long what must not change is looked at.
const SETTLE: Duration = Duration::from_millis(250);

/// The kubelet is stuck in these: "A volume that cannot be written" in docs/SEMANTICS.md.
const STUCK: [&str; 2] = [
    "lifecycle::a-config-map-that-cannot-be-written-empties-under-the-container",
    "lifecycle::a-secret-that-cannot-be-written-keeps-its-files-for-good",
];

/// Whether all that the pod's containers have is the API server's, as it is.
fn is_plain(case: &Case) -> bool {
    let volumes = case.pod["spec"]["volumes"].as_array().map_or(&[][..], Vec::as_slice);
    let given = ["secret", "configMap", "downwardAPI", "projected"];
    let has_files = |volume: &serde_json::Value| given.iter().any(|kind| !volume[kind].is_null());
    let text = case.pod["spec"].to_string();
    volumes.iter().all(has_files) && !text.contains("\"subPath") && !STUCK.contains(&case.name.as_str())
}

/// A directory that `secretfs sync` keeps of the case's pod.
struct Synced {
    kubeconfig: String,
    dir: tempfile::TempDir,
    sync: Option<Sync>,
    before: BTreeMap<String, BTreeMap<String, Entry>>,
    compared: usize,
}

impl Synced {
    fn new(stage: &Stage) -> Synced {
        let kubeconfig = stage.namespace.cluster.kubeconfig().to_str().expect("UTF-8").to_owned();
        Synced { kubeconfig, dir: memory_dir(), sync: None, before: BTreeMap::new(), compared: 0 }
    }

    fn end(&mut self) {
        if let Some(sync) = self.sync.take() {
            sync.end();
        }
        self.before.clear();
    }

    fn begin(&mut self, case: &Case) {
        self.end();
        let text = |field: &str| case.pod["metadata"][field].as_str().expect("text");
        let (namespace, source) = (text("namespace"), format!("pod/{}", text("name")));
        let args = ["--kubeconfig", &self.kubeconfig, "-n", namespace, "--owner", "kubelet", &source];
        self.sync = Some(Sync::new(&args, self.dir.path()));
    }
}

/// No directory is writable for others here, and its own size is that of whatever it lies on.
fn comparable(mut tree: BTreeMap<String, Entry>) -> BTreeMap<String, Entry> {
    token::claims_for_tokens(&mut tree);
    for entry in tree.values_mut().filter(|entry| entry.mode & libc::S_IFMT == libc::S_IFDIR) {
        entry.mode &= !0o022;
        (entry.size, entry.blocks) = (0, 0);
    }
    tree
}

impl Witness for Synced {
    fn look(&mut self, now: &Moment<'_>) {
        let restarts = |change: &Change| matches!(change, Change::Restart(_));
        if now.number == 0 || now.case.steps[now.number - 1].changes.iter().any(restarts) {
            self.begin(now.case);
        }
        let running = now.pod.containers.iter().filter_map(|(name, one)| Some((name, one.root.as_ref().ok()?)));
        for (name, root) in running {
            let expected = comparable(try_snapshot(root).expect("the kubelet's files"));
            let differences = || match try_snapshot(&self.dir.path().join(name)) {
                Ok(found) => differences(&expected, &comparable(found)),
                Err(error) => vec![error],
            };
            let until = Instant::now() + PATIENCE;
            let mut last = differences();
            while !last.is_empty() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
                last = differences();
            }
            if last.is_empty() && self.before.get(name) == Some(&expected) {
                std::thread::sleep(SETTLE);
                last = differences();
            }
            assert!(last.is_empty(), "{}, step {}, container {name}: {last:#?}", now.case.name, now.number);
            self.before.insert(name.clone(), expected);
            self.compared += 1;
        }
    }
}

#[test]
fn what_sync_writes_of_pods_is_what_the_kubelet_writes() {
    let files = ["modes", "users", "projected", "downward", "tokens", "lifecycle"];
    let all: Vec<Case> = files.into_iter().flat_map(cases).filter(is_plain).collect();
    let stage = Stage::new();
    let mut synced = Synced::new(&stage);
    let mut fails = |case: &&Case| {
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.play(case, &mut synced)));
        synced.end();
        played.is_err()
    };
    let failed: Vec<&str> = all.iter().filter(|case| fails(case)).map(|case| case.name.as_str()).collect();
    println!("{} cases, {} comparisons", all.len(), synced.compared);
    assert!(failed.is_empty(), "these cases fail: {failed:#?}");
    assert!(all.len() > 50 && synced.compared > all.len(), "{} cases, {} comparisons", all.len(), synced.compared);
}
