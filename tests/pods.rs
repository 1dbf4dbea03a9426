//! Pods as the kubelet sets them up: cases that the tests of the pod view play, here against what is known of the
//! kubelet from its documentation and its own tests.
//!
//! `corpus/*.yaml` holds named cases, `generate` makes others from seeds.

mod case;
mod conformance;
mod stage;
mod written;

use case::Case;
use stage::Stage;

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
