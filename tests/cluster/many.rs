//! Many watches at once: few connections, every change, and what happens when a connection is lost.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use secretfs::object::{Kind, ObjectId};
use secretfs::source::Source;

use super::{Secrets, Site, stage};
use crate::support::cluster::{Cluster, Namespace};
use crate::support::kubeconfig::Context;
use crate::support::library::{Library, id};
use crate::support::server::Server;
use crate::support::succeed;
use crate::support::wire::Wire;

/// Secrets, each watched for itself.
struct Crowd {
    secrets: Secrets,
    wire: Wire,
    library: Library,
    ids: Vec<ObjectId>,
    round: u32,
}

/// Waits for something that takes as long as a watch lasts, or as it takes to notice that nothing comes any more.
#[track_caller]
fn wait_long(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Crowd {
    fn new(secrets: Secrets, cluster: &Cluster, size: usize) -> Crowd {
        let wire = Wire::to(cluster);
        let (url, ca, token) = (wire.url.clone(), cluster.ca(), cluster.token());
        let namespace = secrets.namespace.clone();
        let site = Site::new(&[Context { name: "wire".into(), server: url, ca, token, namespace: namespace.clone() }]);
        let ids: Vec<_> = (0..size).map(|number| id(Kind::Secret, &namespace, &format!("s{number}"))).collect();
        ids.iter().for_each(|id| secrets.create(id.name.as_str(), &[("k", "0")]));
        let library = Library::new(&site.kubeconfig);
        let crowd = Crowd { secrets, wire, library, ids, round: 0 };
        let needs = crowd.ids.iter().map(|id| crowd.library.source.need(id.clone()));
        for answer in crowd.library.wait(join_all(needs)) {
            assert_eq!(answer.expect("a Secret").data().values().next().expect("a key").as_bytes(), b"0");
        }
        crowd.all_watched();
        crowd
    }

    #[track_caller]
    fn all_watched(&self) {
        let open = || self.library.source.status().requests.open_watches as usize;
        wait_long("all watches", || open() == self.ids.len());
    }

    /// Changes each Secret and waits until that has arrived.
    #[track_caller]
    fn change_all(&mut self) {
        self.round += 1;
        let value = self.round.to_string();
        self.ids.iter().for_each(|id| self.secrets.set(id.name.as_str(), &[("k", &value)]));
        self.wait_for_change();
    }

    #[track_caller]
    fn wait_for_change(&self) {
        let value = self.round.to_string();
        for id in &self.ids {
            wait_long(&format!("round {value} of {id}"), || {
                let Some(secretfs::store::Known::Loaded(object)) = self.library.store.get(id) else { return false };
                object.data().values().any(|known| known.as_bytes() == value.as_bytes())
            });
        }
    }
}

#[test]
fn three_hundred_watched_objects_share_a_few_connections() {
    let (_namespace, secrets): (Namespace, _) = stage();
    let mut crowd = Crowd::new(secrets, crate::support::cluster::cluster(), 300);
    // The first few had connections of their own.
    wait_long("at most 8 connections", || crowd.wire.open() <= 8);
    crowd.all_watched();
    // No crowd of connections on the way there: 8 fetches at once, for each of which hyper's pool may make a second one
    // (it connects while it waits for one that is not idle yet), the first 8 watches, and 8.
    assert!(crowd.wire.made() <= 32, "{}", crowd.wire.made());
    // Each object came twice: by a GET, and as its watch began.
    assert!(crowd.wire.received() < 300 * 4096, "{}", crowd.wire.received());
    crowd.change_all();
    assert!(crowd.wire.open() <= 8, "{}", crowd.wire.open());

    // One is lost: its watches find room elsewhere.
    crowd.wire.cut_one();
    crowd.change_all();
    crowd.all_watched();
    wait_long("at most 8 connections", || crowd.wire.open() <= 8);

    // All go dead without a word.
    crowd.wire.deaden();
    crowd.change_all();
    crowd.all_watched();
    wait_long("at most 8 connections", || crowd.wire.open() <= 8);
}

/// A server of the test's own and a namespace on it.
fn served(flags: &[&str]) -> (Server, Secrets) {
    let server = Server::with(flags);
    succeed(server.kubectl().args(["create", "namespace", "many"]));
    let secrets = Secrets::of(&server, "many");
    (server, secrets)
}

#[test]
fn a_server_that_takes_few_streams_and_sends_clients_away_is_obeyed() {
    let (server, secrets) = served(&["--http2-max-streams-per-connection=4", "--goaway-chance=0.02"]);
    let mut crowd = Crowd::new(secrets, &server, 40);
    for _ in 0..3 {
        crowd.change_all();
    }
    crowd.all_watched();
}

#[test]
fn a_server_without_http2_has_a_connection_for_each_watch() {
    let (server, secrets) = served(&["--disable-http2-serving"]);
    let mut crowd = Crowd::new(secrets, &server, 20);
    crowd.change_all();
    crowd.all_watched();
    assert!(crowd.wire.open() >= 20, "{}", crowd.wire.open());
}
