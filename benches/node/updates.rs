//! From the API server's answer to a change until a program that watches the volume learns of it: in the view of the node, and
//! in the same pod's volume set up by the kubelet's own code, which is told to refresh it at once. A kubelet does so only every
//! 60 to 90 s, so what a pod sees is later by that.

use std::time::Instant;

use super::stage::{CONTAINER, Node, OWN};
use super::whole::mount;
use crate::bare::Client;
use crate::report::{Report, Rival};
use crate::rounds::Samples;
use crate::support::cluster::Cluster;
use crate::support::referee::Referee;
use crate::support::{PATIENCE, subdir, tempdir};
use crate::update::program_events;

const UPDATES: usize = 200;

pub fn run(report: &mut Report, cluster: &Cluster, node: &Node) {
    let pod = &node.pods[node.pods.len() / 2];
    let dir = tempdir();
    let mount = mount(&subdir(dir.path(), "node"), &cluster.dir.join("node-n1.kubeconfig"));
    let ours = mount.dir.join(pod.in_view()).join(OWN);
    let referee = Referee::start(cluster);
    let mut kubelet = referee.pod(&pod.namespace, &pod.name);
    let theirs = kubelet.root(CONTAINER).join(OWN);
    let (our_events, their_events) = (program_events(&ours), program_events(&theirs));
    let mut api = Client::connect(cluster);
    let (mut of_view, mut of_refresh) = (Vec::new(), Vec::new());
    for number in 0..=UPDATES {
        let value = format!("value {number}");
        api.set(&pod.namespace, &pod.name, "url", &value);
        let answered = Instant::now();
        let seen = our_events.recv_timeout(PATIENCE).expect("the event in the view");
        let begun = Instant::now();
        kubelet.refresh();
        let refreshed = their_events.recv_timeout(PATIENCE).expect("the event in the kubelet's volume");
        for volume in [&ours, &theirs] {
            assert_eq!(std::fs::read_to_string(volume.join("url")).expect("read"), value);
        }
        // The first one warms up.
        if number > 0 {
            // Sometimes the watch is faster than the answer.
            of_view.push(seen.saturating_duration_since(answered).as_secs_f64());
            of_refresh.push((refreshed - begun).as_secs_f64());
        }
    }
    let [of_view, of_refresh] = [of_view, of_refresh].map(Samples::new);
    report.say(format!("  ({UPDATES} updates; a kubelet begins a refresh only every 60 to 90 s, which comes on top)"));
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        let rival = Rival { name: "the kubelet's refresh itself", value: of_refresh.percentile(part) };
        report.against(&format!("answer to event, {name}"), of_view.percentile(part), &rival, None);
    }
}
