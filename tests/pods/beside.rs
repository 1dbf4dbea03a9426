//! What secretfs shows of a pod, held beside what the kubelet's code and a container runtime make of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::case::{Case, Change};
use super::stage::{Moment, Witness};
use crate::support::mount::Mount;
use crate::support::snapshot::{Entry, differences, try_snapshot};
use crate::support::sync::{Sync, memory_dir};
use crate::support::tempdir;

/// How long an update may take until it shows. Almost always it is there before the kubelet's.
const PATIENCE: Duration = Duration::from_secs(5);

/// A mount of the case's pod, and the same as real files.
pub struct Beside {
    kubeconfig: String,
    dir: tempfile::TempDir,
    mount: Option<Mount>,
    memory: tempfile::TempDir,
    sync: Option<Sync>,
    /// Comparisons made so far.
    pub compared: usize,
}

impl Beside {
    pub fn new(kubeconfig: &Path) -> Beside {
        let kubeconfig = kubeconfig.to_str().expect("UTF-8").to_owned();
        Beside { kubeconfig, dir: tempdir(), mount: None, memory: memory_dir(), sync: None, compared: 0 }
    }

    /// The case is over.
    pub fn end(&mut self) {
        self.mount = None;
        self.sync = None;
    }

    fn mount(&mut self, case: &Case) {
        self.end();
        let text = |field: &str| case.pod["metadata"][field].as_str().expect("text");
        let source = format!("pod/{}", text("name"));
        let namespace = text("namespace");
        // A part of a volume stays what it was when the container began.
        let args =
            ["--kubeconfig", &self.kubeconfig, "-n", namespace, "--owner", "kubelet", "--strict-kubelet=subpath"];
        let args = [&args[..], &[source.as_str()]].concat();
        self.mount = Some(Mount::new(&args, self.dir.path()));
        self.sync = Some(Sync::new(&args, self.memory.path()));
    }

    #[track_caller]
    fn compare(&mut self, now: &Moment<'_>) {
        let (Some(mount), Some(sync)) = (&self.mount, &self.sync) else { return };
        let running = now.pod.containers.iter().filter_map(|(name, one)| Some((name, one.root.as_ref().ok()?)));
        for (name, root) in running {
            let expected = try_snapshot(root).unwrap_or_else(|error| panic!("{}: {error}", now.case.name));
            let expected = tokens_alike(&expected);
            let sides = [
                ("mount", mount.path(name), expected.clone()),
                ("sync", sync.path(name), for_nobody_else_to_write(expected)),
            ];
            for (side, dir, expected) in sides {
                let mut last;
                let until = Instant::now() + PATIENCE;
                loop {
                    last = match try_snapshot(&dir) {
                        Ok(found) => differences(&expected, &tokens_alike(&found)),
                        Err(error) => vec![error],
                    };
                    if last.is_empty() || Instant::now() > until {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                let Moment { case, number, .. } = now;
                assert!(last.is_empty(), "{}, step {number}, container {name}, {side}: {last:#?}", case.name);
            }
            self.compared += 1;
        }
    }
}

/// Directories of real files are writable for their owner only.
fn for_nobody_else_to_write(mut tree: BTreeMap<String, Entry>) -> BTreeMap<String, Entry> {
    tree.values_mut().filter(|entry| entry.mode & 0o170000 == 0o040000).for_each(|entry| entry.mode &= !0o022);
    tree
}

/// Each side has asked for tokens of its own, which differ in their times and signatures.
fn tokens_alike(tree: &BTreeMap<String, Entry>) -> BTreeMap<String, Entry> {
    let is_token = |entry: &Entry| entry.content.starts_with(b"eyJ");
    let alike = |(name, entry): (&String, &Entry)| {
        let mut entry = entry.clone();
        if is_token(&entry) {
            entry.content = b"a token".to_vec();
            entry.size = 0;
        }
        (name.clone(), entry)
    };
    tree.iter().map(alike).collect()
}

impl Witness for Beside {
    fn look(&mut self, now: &Moment<'_>) {
        let restarts = |change: &Change| matches!(change, Change::Restart(_));
        let begins = now.number == 0 || now.case.steps[now.number - 1].changes.iter().any(restarts);
        // A container that has begun anew has looked its parts up anew: so does a new mount.
        if begins {
            self.mount(now.case);
        }
        self.compare(now);
    }
}
