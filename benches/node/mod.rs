//! A node full of pods: a view of all of them with the kubelet's own rights, against a bare client that gets the same objects
//! ([`whole`]); and how long an update takes to reach a reader, against the kubelet's refresh of the same pod ([`updates`]).

mod stage;
mod updates;
mod whole;

use crate::report::Report;
use crate::support::server::Server;

pub fn run(report: &mut Report) {
    // Its own server: nothing else is on this node, and the audit log is short.
    let server = Server::start();
    let node = stage::Node::make(&server);
    report.part("node", &node.describe());
    whole::run(report, &server, &node);
    updates::run(report, &server, &node);
}
