//! The names of a whole cluster: how long until the mount is there and until all of them have been listed.

use super::fill::Size;
use super::{PAGE, list, mount};
use crate::bare::{Client, METADATA_LIST};
use crate::process::resident_bytes;
use crate::report::{Report, Rival, Unit};
use crate::rounds::{Samples, seconds};
use crate::support::cluster::Cluster;
use crate::support::{subdir, tempdir};

const ROUNDS: usize = 5;

/// Seconds and bytes that it may take at most.
pub struct Limits {
    pub usable: f64,
    pub listed: Option<f64>,
    pub resident: u32,
}

pub fn run(report: &mut Report, cluster: &Cluster, size: Size, limits: &Limits) {
    let dir = tempdir();
    let point = subdir(dir.path(), "k8s");
    let mut api = Client::connect(cluster);
    let (mut usable, mut listed, mut resident, mut bare) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut loaded, mut gets) = (0, 0);
    for _ in 0..ROUNDS {
        bare.push(seconds(|| _ = api.list_all("/api/v1/secrets", PAGE, METADATA_LIST)));
        let mut made = None;
        let usable_after = seconds(|| made = Some(mount(&point, &cluster.kubeconfig())));
        let made = made.expect("just mounted");
        let mut found = 0;
        let listed_after = usable_after + seconds(|| found = list(&point));
        assert!(found >= size.objects(), "{found} names");
        usable.push(usable_after);
        listed.push(listed_after);
        resident.push(resident_bytes(made.pid()));
        let status = made.status();
        loaded += status["loaded"].as_u64().expect("a number");
        gets += status["api"]["gets"].as_u64().expect("a number");
        made.end();
    }
    let [usable, listed, resident, bare] = [usable, listed, resident, bare].map(|all| Samples::new(all).median());
    let rival = Rival { name: "bare list of metadata", value: bare };
    report.against("start to usable", usable, &rival, None);
    report.against("start to all names listed", listed, &rival, None);
    report.alone(Unit::Seconds, "start to usable", usable, Some(limits.usable));
    if limits.listed.is_some() {
        report.alone(Unit::Seconds, "start to all names listed", listed, limits.listed);
    }
    report.alone(Unit::Bytes, "resident after all names were listed", resident, Some(limits.resident.into()));
    report.exactly("Secrets whose values were fetched", loaded, 0);
    report.exactly("GETs", gets, 0);
}
