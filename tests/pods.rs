//! Pods as the kubelet sets them up: cases that the tests of the pod view play, here against what is known of the
//! kubelet from its documentation and its own tests.
//!
//! `corpus/*.yaml` holds named cases, `generate` makes others from seeds.

mod case;
mod conformance;
mod generate;
mod stage;
mod written;

use case::Case;
use stage::{Moment, Stage, Witness};

/// The cases of one file of the corpus.
fn cases(file: &str) -> Vec<Case> {
    let path = format!("{}/tests/pods/corpus/{file}.yaml", env!("CARGO_MANIFEST_DIR"));
    written::cases(file, &std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")))
}

/// Plays all cases of one file, and tells which of them fail.
fn play(file: &str) {
    let stage = Stage::new();
    let began = std::time::Instant::now();
    let cases = cases(file);
    let fails = |case: &&Case| {
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.play(case, &mut ())));
        played.is_err()
    };
    let failed: Vec<&str> = cases.iter().filter(fails).map(|case| case.name.as_str()).collect();
    println!("{file}: {} cases in {:?}", cases.len(), began.elapsed());
    assert!(failed.is_empty(), "{} of {} cases fail: {failed:#?}", failed.len(), cases.len());
}

macro_rules! corpus {
    ($($file:ident)*) => {$(
        #[test]
        fn $file() {
            play(stringify!($file));
        }
    )*};
}

corpus! {
    layout modes users payload projected downward tokens bundles limits writer lifecycle subpaths containers
}

/// Generated cases of each of the two tests.
const GENERATED: usize = 100;

#[test]
fn generated_pods_of_fixed_seeds() {
    play_seeds(1);
}

#[test]
fn generated_pods_of_fresh_seeds() {
    play_seeds(crate::support::seed());
}

fn play_seeds(first: u64) {
    let stage = Stage::new();
    let began = std::time::Instant::now();
    let tally = std::cell::RefCell::new(Tally::default());
    generate::for_seeds((first..).take(GENERATED), |case| stage.play(case, &mut *tally.borrow_mut()));
    let tally = tally.into_inner();
    println!("{GENERATED} pods in {:?}: {tally:?}", began.elapsed());
    tally.must_be_varied();
}

/// What generated cases bring.
#[derive(Debug, Default)]
struct Tally {
    passes: usize,
    volumes: usize,
    refused: usize,
    mounts: usize,
    running: usize,
    stopped: usize,
}

impl Witness for Tally {
    fn look(&mut self, now: &Moment<'_>) {
        self.passes += 1;
        self.volumes += now.pod.volumes.len();
        self.refused += now.pod.refused().len();
        let (running, stopped): (Vec<_>, Vec<_>) = now.pod.containers.values().partition(|one| one.root.is_ok());
        self.running += running.len();
        self.stopped += stopped.len();
        self.mounts += running.iter().map(|one| one.mounts.len()).sum::<usize>();
    }
}

impl Tally {
    /// A generator whose pods hardly ever start, or never fail, shows nothing.
    fn must_be_varied(&self) {
        assert!(self.running > self.stopped && self.stopped > 0, "{self:?}");
        assert!(self.volumes > 4 * self.refused && self.refused > 0, "{self:?}");
        assert!(self.mounts > self.passes, "{self:?}");
    }
}
