//! A thousand readers at once.

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Instant;

use super::fill::{self, PLANTED};
use super::{mount, requests};
use crate::report::{Report, Unit};
use crate::rounds::Samples;
use crate::support::cluster::Cluster;
use crate::support::{subdir, tempdir};

const READERS: usize = 1000;
const ROUNDS: usize = 100;

pub fn run(report: &mut Report, cluster: &Cluster) {
    report.part("readers", &format!("{READERS} readers at once, a thread each"));
    let dir = tempdir();
    let mount = mount(&subdir(dir.path(), "k8s"), &cluster.kubeconfig());
    let path = |namespace: usize, secret: usize| {
        mount.dir.join(fill::namespace(namespace)).join(fill::secret(secret)).join("password")
    };
    let own: Vec<PathBuf> = (0..READERS).map(|reader| path(reader / 10, reader % 10)).collect();
    // As yet no page has brought it.
    let before = requests(cluster);
    told(report, "first read of the same Secret by all", all_at_once(&vec![path(99, 99); READERS], 1));
    report.exactly("  GETs and LISTs for it", (requests(cluster) - before) as u64, 1);
    let before = requests(cluster);
    told(report, "first read of a Secret of its own", all_at_once(&own, 1));
    report.alone(Unit::Count, "  GETs and LISTs for it", (requests(cluster) - before) as f64, None);
    told(report, &format!("{ROUNDS} reads of the same file by each"), all_at_once(&own, ROUNDS));
}

/// How long each read took, and how many failed.
fn all_at_once(paths: &[PathBuf], times: usize) -> (Samples, usize) {
    let start = Barrier::new(paths.len());
    let done: Vec<_> = std::thread::scope(|scope| {
        let readers: Vec<_> = paths
            .iter()
            .map(|path| {
                let start = &start;
                let work = move || {
                    start.wait();
                    (0..times).map(|_| timed(path)).collect::<Vec<_>>()
                };
                std::thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, work).expect("a thread")
            })
            .collect();
        readers.into_iter().flat_map(|reader| reader.join().expect("a reader")).collect()
    });
    let errors = done.iter().filter(|read| read.is_err()).count();
    (Samples::new(done.into_iter().map(|read| read.unwrap_or_else(|seconds| seconds)).collect()), errors)
}

/// `Err`: it failed.
fn timed(path: &Path) -> Result<f64, f64> {
    let began = Instant::now();
    let read = std::fs::read(path);
    let took = began.elapsed().as_secs_f64();
    match read {
        Ok(value) if value.starts_with(PLANTED.as_bytes()) => Ok(took),
        _ => Err(took),
    }
}

fn told(report: &mut Report, what: &str, (times, errors): (Samples, usize)) {
    report.alone(Unit::Seconds, &format!("{what}, p50"), times.median(), None);
    report.alone(Unit::Seconds, "  p99", times.percentile(0.99), Some(1.0));
    report.alone(Unit::Seconds, "  longest", times.max(), None);
    report.exactly("  errors", errors as u64, 0);
}
