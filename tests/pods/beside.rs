//! What secretfs shows of a pod, held beside what the kubelet's code and a container runtime make of it: the trees, what
//! watching programs are told, and what is refused.

mod ledger;
mod manifest;
mod refusals;
mod scope;
mod told;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::case::Case;
use super::generate::GENERATED;
use super::stage::{Moment, Witness};
use crate::support::kubelet_pod::Container;
use crate::support::mount::Mount;
use crate::support::snapshot::{Entry, differences, try_snapshot};
use crate::support::{PATIENCE, tempdir, token};
use ledger::Ledger;
use manifest::is_ours;
use refusals::Asked;
use scope::Scope;
use told::Told;

/// How long an update may take until it shows once a case has failed: it is made smaller and played again many times.
const IMPATIENCE: Duration = Duration::from_secs(3);
/// How long what must not change is looked at. Nothing tells that an update has come and changed nothing.
const SETTLE: Duration = Duration::from_millis(250);
/// Of this many moments of generated cases at which the kubelet refuses nothing, one is checked.
const SAMPLED: usize = 3;

/// Cases in which we differ on purpose, from which step on, each with its row of docs/SEMANTICS.md.
const DIFFERENT: [(&str, usize, &str); 7] = [
    ("limits::path-of-4089-bytes-is-too-long-for-the-host", 0, "a path of nearly 4096 bytes"),
    ("layout::a-mount-point-whose-hidden-key-goes", 1, "A mount point stays"),
    ("layout::a-deep-mount-point-whose-hidden-key-goes-cannot-be-removed", 1, "A mount point stays"),
    (
        "lifecycle::a-config-map-that-cannot-be-written-empties-under-the-container",
        1,
        "A volume that cannot be written",
    ),
    ("lifecycle::a-secret-that-cannot-be-written-keeps-its-files-for-good", 2, "A volume that cannot be written"),
    ("writer::a-file-becomes-a-directory", 1, "A volume that cannot be written"),
    ("writer::a-directory-becomes-a-file", 2, "A volume that cannot be written"),
];

/// Mounts of the case's pod.
pub struct Beside {
    kubeconfig: String,
    dir: tempfile::TempDir,
    /// One from the beginning, and one for each time that containers with parts of volumes have begun since: a part stays
    /// what it was when its container began.
    mounts: Vec<Mount>,
    /// Which of them each container is compared with.
    of_container: BTreeMap<String, usize>,
    ledger: Ledger,
    told: Option<Told>,
    patience: Duration,
    /// What the containers of the moment before this one had.
    before: BTreeMap<String, BTreeMap<String, Entry>>,
    pub tally: Tally,
}

/// What has been compared.
#[derive(Debug, Default)]
pub struct Tally {
    moments: usize,
    /// Trees of containers.
    pub trees: usize,
    /// Volumes of pods of which no container could start.
    waiting: usize,
    steps_with_events: usize,
    events: usize,
    checks: usize,
    /// Moments of volumes, and those at which they were left out on purpose.
    volumes: usize,
    unlike: BTreeMap<&'static str, usize>,
}

impl Beside {
    pub fn new(kubeconfig: &Path) -> Beside {
        let kubeconfig = kubeconfig.to_str().expect("UTF-8").to_owned();
        Beside {
            kubeconfig,
            dir: tempdir(),
            mounts: Vec::new(),
            of_container: BTreeMap::new(),
            ledger: Ledger::default(),
            told: None,
            patience: PATIENCE,
            before: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// The case is over.
    pub fn end(&mut self) {
        self.told = None;
        self.mounts.clear();
        self.of_container.clear();
        self.before.clear();
        self.ledger = Ledger::default();
    }

    fn mount(&mut self, case: &Case) {
        let text = |field: &str| case.pod["metadata"][field].as_str().expect("text");
        let source = format!("pod/{}", text("name"));
        let namespace = text("namespace");
        let args =
            ["--kubeconfig", &self.kubeconfig, "-n", namespace, "--owner", "kubelet", "--strict-kubelet=subpath"];
        let dir = self.dir.path().join(self.mounts.len().to_string());
        std::fs::create_dir_all(&dir).expect("mkdir");
        self.mounts.push(Mount::new(&[&args[..], &[source.as_str()]].concat(), &dir));
    }

    /// Mounts where containers have begun.
    fn keep_up(&mut self, now: &Moment<'_>) {
        let has_begun = now.number > 0 && !self.ledger.fresh.is_empty() && manifest::has_parts(now.case);
        if self.mounts.is_empty() || has_begun {
            self.mount(now.case);
        }
        for name in now.pod.containers.keys() {
            if self.ledger.fresh.contains(name) && has_begun {
                self.of_container.insert(name.clone(), self.mounts.len() - 1);
            }
            self.of_container.entry(name.clone()).or_default();
        }
    }

    /// Where we show the root of a container.
    fn root(&self, container: &str) -> PathBuf {
        self.mounts[self.of_container[container]].path(container)
    }

    #[track_caller]
    fn fail(&mut self, now: &Moment<'_>, what: &str, differences: &[String]) {
        if !differences.is_empty() {
            self.patience = IMPATIENCE;
            let status: Vec<_> = self.mounts.iter().map(Mount::status).collect();
            panic!("{}, step {}, {what}: {differences:#?}\n{status:#?}", now.case.name, now.number);
        }
    }

    /// Events, before anything else: who looks at files holds them, and their end is told later.
    #[track_caller]
    fn compare_events(&mut self, now: &Moment<'_>) {
        let Some(mut told) = self.told.take() else { return };
        let counts = |volume: &str| !self.ledger.is_told_otherwise(now, volume);
        match told.compare(counts, self.patience) {
            Ok(events) => {
                self.tally.steps_with_events += 1;
                self.tally.events += events;
                self.told = Some(told);
            }
            Err(differences) => self.fail(now, "events", &differences),
        }
    }

    #[track_caller]
    fn compare_trees(&mut self, now: &Moment<'_>) {
        let mut trees = BTreeMap::new();
        let running = now.pod.containers.iter().filter_map(|(name, one)| Some((name, one.root.as_ref().ok()?)));
        for (name, root) in running {
            // Two generations at once: the kubelet could not remove a mount point that hides a key, and is stuck.
            let expected = match try_snapshot(root) {
                Ok(expected) => expected,
                Err(_) if !self.ledger.unlike.is_empty() => continue,
                Err(error) => panic!("{}, step {}, container {name}: {error}", now.case.name, now.number),
            };
            let scope = Scope::of(now, name, |volume| self.ledger.is_unlike(now, volume));
            trees.insert(name.clone(), (scope.cut(expected), scope));
        }
        let differences =
            |beside: &Beside, name: &str, expected: &BTreeMap<String, Entry>, scope: &Scope| match try_snapshot(
                &beside.root(name),
            ) {
                Ok(found) => scope.differences(expected, found),
                Err(error) => vec![error],
            };
        let until = Instant::now() + self.patience;
        for (name, (expected, scope)) in &trees {
            let mut last = differences(self, name, expected, scope);
            while !last.is_empty() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
                last = differences(self, name, expected, scope);
            }
            self.fail(now, &format!("container {name}"), &last);
            self.tally.trees += 1;
        }
        // What was to stay as it was.
        let is_same = |(name, (expected, _)): &(&String, &(BTreeMap<String, Entry>, Scope))| {
            self.before.get(*name) == Some(expected)
        };
        let same: Vec<_> = trees.iter().filter(is_same).collect();
        if !same.is_empty() {
            std::thread::sleep(SETTLE);
        }
        for (name, (expected, scope)) in same {
            let last = differences(self, name, expected, scope);
            self.fail(now, &format!("container {name}, after a while"), &last);
        }
        self.before = trees.into_iter().map(|(name, (expected, _))| (name, expected)).collect();
    }

    /// Volumes of a pod whose containers wait for others of its volumes: we show what there is.
    #[track_caller]
    fn compare_waiting(&mut self, now: &Moment<'_>) {
        let waiting = now.pod.containers.iter().filter(|(_, container)| container.is_waiting());
        let names: Vec<&str> = waiting.map(|(name, _)| name.as_str()).collect();
        for container in manifest::containers(now.case).filter(|one| names.contains(&manifest::name(one))) {
            let wanted = manifest::wanted(container);
            for mount in wanted.iter().filter(|mount| mount.part.is_empty() && is_ours(now.case, &mount.volume)) {
                let is_covered = wanted.iter().filter(|other| other.path == mount.path).count() > 1;
                // No container starts that has a mount below a file; what is below a directory shows when it does.
                let is_in_part = wanted
                    .iter()
                    .any(|outer| !outer.part.is_empty() && manifest::below(&mount.path, &outer.path).is_some());
                if is_covered || is_in_part || self.ledger.is_unlike(now, &mount.volume) {
                    continue;
                }
                let generation = |root: &Path| {
                    let mut tree = match root.join("..data").symlink_metadata() {
                        Ok(_) => try_snapshot(&root.join("..data/."))?,
                        Err(_) => BTreeMap::new(),
                    };
                    token::claims_for_tokens(&mut tree);
                    Ok::<_, String>(tree)
                };
                let kubelets = generation(&now.pod.volumes[&mount.volume].path);
                let place = self.root(manifest::name(container)).join(mount.path.trim_start_matches('/'));
                let until = Instant::now() + self.patience;
                while generation(&place) != kubelets && Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(5));
                }
                let differences = match (kubelets, generation(&place)) {
                    (Ok(kubelets), Ok(ours)) => differences(&kubelets, &ours),
                    (kubelets, ours) => vec![format!("{kubelets:?} and {ours:?}")],
                };
                self.fail(now, &format!("volume {}, whose pod waits, at {}", mount.volume, mount.path), &differences);
                self.tally.waiting += 1;
            }
        }
    }

    /// A check takes as long as all the rest of a moment. Whenever something is refused it is held beside that, and
    /// otherwise in all cases that somebody has thought out, and in some of the others.
    fn is_checked(&self, now: &Moment<'_>) -> bool {
        let stopped = |(name, one): (&String, &Container)| one.root.is_err() && self.ledger.fresh.contains(name);
        now.case.name != GENERATED
            || !now.pod.refused().is_empty()
            || now.pod.containers.iter().any(stopped)
            || self.tally.moments.is_multiple_of(SAMPLED)
    }
}

impl Witness for Beside {
    fn before_step(&mut self, now: &Moment<'_>) {
        if let Some(mut told) = self.told.take() {
            let late = told.late(|volume| !self.ledger.is_told_otherwise(now, volume));
            self.fail(now, "events after it", &late);
        }
        if told::is_compared(&now.case.steps[now.number].changes) && !is_different(now.case, now.number) {
            let running = |name: &str| self.of_container.contains_key(name).then(|| self.root(name));
            self.told = Some(Told::before(now, running));
        }
    }

    fn look(&mut self, now: &Moment<'_>) {
        // The case before may have failed.
        if now.number == 0 {
            self.end();
        }
        self.ledger.note(now);
        self.tally.count(now, &self.ledger);
        if is_different(now.case, now.number) {
            self.told = None;
            return;
        }
        self.keep_up(now);
        let asked = self.is_checked(now).then(|| Asked::about(now, &self.kubeconfig));
        self.compare_events(now);
        self.compare_trees(now);
        self.compare_waiting(now);
        if let Some(asked) = asked {
            self.tally.checks += 1;
            let differences = asked.differences(now, &self.ledger);
            self.fail(now, "check", &differences);
        }
    }
}

fn is_different(case: &Case, step: usize) -> bool {
    DIFFERENT.iter().any(|(name, from, _)| *name == case.name && step >= *from)
}

impl Tally {
    fn count(&mut self, now: &Moment<'_>, ledger: &Ledger) {
        self.moments += 1;
        self.volumes += now.pod.volumes.len();
        for row in ledger.unlike.values() {
            *self.unlike.entry(row).or_default() += 1;
        }
    }

    /// Comparisons that leave nearly all out show nothing.
    pub fn must_be_varied(&self) {
        let unlike: usize = self.unlike.values().sum();
        assert!(self.trees > self.moments / 2 && self.waiting > 0, "{self:?}");
        assert!(self.steps_with_events > self.moments / 4 && self.events > self.moments / 5, "{self:?}");
        assert!(self.checks > self.moments / 4, "{self:?}");
        assert!(self.volumes > 5 * unlike, "{self:?}");
    }
}
