//! Updates: from a write to the API server to a program's inotify event, against the raw watch event's arrival at a bare
//! client that watches the same Secret.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::bare::{Client, secret_path, version};
use crate::report::{Report, Rival, Unit};
use crate::rounds::Samples;
use crate::support::cluster::{cluster, namespace};
use crate::support::mount::Mount;
use crate::support::{PATIENCE, subdir, tempdir};

const UPDATES: usize = 1000;

pub fn run(report: &mut Report) {
    report.part("update", &format!("{UPDATES} updates of a Secret, one after another"));
    named(report);
    in_a_view(report);
}

/// A mount of the one Secret: its watch brings the new value along.
fn named(report: &mut Report) {
    let namespace = namespace();
    let mut api = Client::connect(namespace.cluster);
    api.create_secret(&namespace.name, "s", "key", "first");
    let dir = tempdir();
    let point = subdir(dir.path(), "s");
    let source = format!("{}/secret/s", namespace.name);
    let _mount = Mount::with(&[&source], &point, with_cluster);
    measure(report, "mount of the Secret", &mut api, &namespace.name, &point, Some(0.010));
}

/// A view of the cluster: its watch brings metadata only, and the new value costs a GET.
fn in_a_view(report: &mut Report) {
    let namespace = namespace();
    let mut api = Client::connect(namespace.cluster);
    api.create_secret(&namespace.name, "s", "key", "first");
    let dir = tempdir();
    let point = subdir(dir.path(), "k8s");
    let _mount = Mount::with(&[], &point, with_cluster);
    let secret = point.join(&namespace.name).join("s");
    std::fs::read(secret.join("key")).expect("read it once: from then on it is followed");
    measure(report, "view of the cluster", &mut api, &namespace.name, &secret, Some(0.010));
}

fn with_cluster(command: &mut std::process::Command) {
    command.env("KUBECONFIG", cluster().kubeconfig());
}

fn measure(report: &mut Report, how: &str, api: &mut Client, namespace: &str, dir: &Path, limit: Option<f64>) {
    let raw = raw_events(api, namespace);
    let events = program_events(dir);
    let (mut from_write, mut raw_from_write, mut from_raw) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..=UPDATES {
        let began = Instant::now();
        api.set(namespace, "s", "key", &format!("value {number}"));
        let raw = raw.recv_timeout(PATIENCE).expect("the raw event");
        let event = events.recv_timeout(PATIENCE).expect("the program's event");
        // The first one warms up.
        if number > 0 {
            from_write.push((event - began).as_secs_f64());
            raw_from_write.push((raw - began).as_secs_f64());
            from_raw.push(event.saturating_duration_since(raw).as_secs_f64());
        }
    }
    let content = std::fs::read_to_string(dir.join("key")).expect("read");
    assert_eq!(content, format!("value {UPDATES}"), "the last update must be there");
    let [from_write, raw_from_write, from_raw] = [from_write, raw_from_write, from_raw].map(Samples::new);
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        let rival = Rival { name: "raw watch event", value: raw_from_write.percentile(part) };
        report.against(&format!("write to event, {how}, {name}"), from_write.percentile(part), &rival, None);
    }
    report.alone(Unit::Seconds, "  event after the raw event, p50", from_raw.percentile(0.5), None);
    report.alone(Unit::Seconds, "  event after the raw event, p99", from_raw.percentile(0.99), limit);
    report.alone(Unit::Seconds, "  event after the raw event, longest", from_raw.max(), None);
}

/// When each event of the Secret arrived at a bare watcher.
fn raw_events(api: &mut Client, namespace: &str) -> Receiver<Instant> {
    let version = version(&api.get(&secret_path(namespace, "s")));
    let path = format!("/api/v1/namespaces/{namespace}/secrets?fieldSelector=metadata.name%3Ds");
    let mut watch = Client::connect(cluster()).watch(&path, &version);
    let (send, receive) = channel();
    // Ends with its channel, or with the process.
    std::thread::spawn(move || while send.send(watch.arrival()).is_ok() {});
    receive
}

/// When a program that watches the volume's directory learned of each new generation.
pub fn program_events(dir: &Path) -> Receiver<Instant> {
    let watch = inotify::init(CreateFlags::CLOEXEC).expect("inotify");
    inotify::add_watch(&watch, dir, WatchFlags::MOVED_TO).expect("watch");
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&watch, &mut buffer);
        while let Ok(event) = reader.next() {
            let at = Instant::now();
            let switched = event.file_name().is_some_and(|name| name.to_bytes() == b"..data");
            if switched && send.send(at).is_err() {
                break;
            }
        }
    });
    receive
}
