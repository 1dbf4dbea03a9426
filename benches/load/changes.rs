//! A thousand updates a second to a hundred Secrets, all watched, some of them read all the time.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::bare::Client;
use crate::process::resident_bytes;
use crate::report::{Report, Unit};
use crate::rounds::Samples;
use crate::support::cluster::namespace;
use crate::support::mount::Mount;
use crate::support::{PATIENCE, subdir, tempdir};

const SECRETS: usize = 100;
/// Those that are read in a loop.
const READ: usize = 10;
const PER_SECOND: u32 = 1000;
const SECONDS: u32 = 30;
/// As many requests under way at once: a write waits for others more than it works.
const WRITERS: usize = 10;
/// Between two rounds of the loop that reads: without it, it would take one of two processors away from everybody else.
const PAUSE: Duration = Duration::from_millis(5);

/// What has been written to one Secret and what has been seen of it. Update N writes the number N.
#[derive(Default)]
struct Track {
    /// When each update was sent.
    sent: Vec<Instant>,
    seen: usize,
    /// Seconds from sending an update until it or a later one was seen.
    lags: Vec<f64>,
}

pub fn run(report: &mut Report) {
    report.part(
        "changes",
        &format!(
            "{PER_SECOND} updates a second for {SECONDS} s to {SECRETS} watched Secrets, {READ} of them read in a loop"
        ),
    );
    let namespace = namespace();
    let mut api = Client::connect(namespace.cluster);
    (0..SECRETS).for_each(|number| api.create_secret(&namespace.name, &name(number), "key", "0"));
    let dir = tempdir();
    let source = format!("ns/{}", namespace.name);
    let mount = Mount::with(&[&source], &subdir(dir.path(), "ns"), |command| {
        command.env("KUBECONFIG", namespace.cluster.kubeconfig());
    });
    let secrets: Vec<PathBuf> = (0..SECRETS).map(|number| mount.path(&name(number))).collect();
    assert!(secrets.iter().all(|secret| read(secret) == 0), "as they were made");
    let tracks: Vec<Mutex<Track>> = (0..SECRETS).map(|_| Mutex::default()).collect();
    let (over, reads, errors) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let before = resident_bytes(mount.pid());
    let (mut took, mut settled) = (0.0, 0.0);
    std::thread::scope(|scope| {
        scope.spawn(|| watch(&secrets, &tracks, &over));
        scope.spawn(|| read_in_a_loop(&secrets[..READ], &over, (&reads, &errors)));
        let began = Instant::now();
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (tracks, namespace) = (&tracks, &namespace.name);
                scope.spawn(move || {
                    write(&mut Client::connect(crate::support::cluster::cluster()), namespace, tracks, writer)
                });
            }
        });
        took = began.elapsed().as_secs_f64();
        let written = Instant::now();
        let all_seen = || tracks.iter().all(|track| is_seen(&track.lock().expect("a track")));
        while !all_seen() && written.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        settled = written.elapsed().as_secs_f64();
        over.store(true, Relaxed);
    });
    let after = resident_bytes(mount.pid());
    let tracks: Vec<Track> = tracks.into_iter().map(|track| track.into_inner().expect("a track")).collect();
    let updates: usize = tracks.iter().map(|track| track.sent.len()).sum();
    report.alone(Unit::Count, "updates a second that the server took", (updates as f64 / took).round(), None);
    let right = secrets.iter().zip(&tracks).filter(|(secret, track)| read(secret) == track.sent.len()).count();
    report.exactly("Secrets whose last state is shown", right as u64, SECRETS as u64);
    report.alone(Unit::Seconds, "  after the last write", settled, None);
    let lags = Samples::new(tracks.into_iter().flat_map(|track| track.lags).collect());
    report.alone(Unit::Seconds, "sent to seen by a watching program, p50", lags.median(), None);
    report.alone(Unit::Seconds, "  p99", lags.percentile(0.99), Some(0.5));
    report.alone(Unit::Seconds, "  longest", lags.max(), None);
    report.alone(Unit::Count, "reads meanwhile", reads.load(Relaxed) as f64, None);
    report.exactly("  errors, states out of order", errors.load(Relaxed) as u64, 0);
    report.alone(Unit::Bytes, "resident before", before, None);
    report.alone(Unit::Bytes, "resident after", after, None);
    report.alone(Unit::Bytes, "  grown by", after - before, Some(f64::from(8 << 20)));
}

fn name(number: usize) -> String {
    format!("s{number:03}")
}

fn is_seen(track: &Track) -> bool {
    track.seen == track.sent.len()
}

/// The number that a Secret shows.
fn read(secret: &Path) -> usize {
    loop {
        match std::fs::read_to_string(secret.join("key")) {
            Ok(text) => return text.parse().expect("a number"),
            // In the middle of a switch, as in a pod: docs/SEMANTICS.md.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("{}: {error}", secret.display()),
        }
    }
}

/// One writer's share of the Secrets, in turn, at its share of the pace.
fn write(api: &mut Client, namespace: &str, tracks: &[Mutex<Track>], writer: usize) {
    let began = Instant::now();
    let share = PER_SECOND / WRITERS as u32;
    for number in 0..share * SECONDS {
        let due = Duration::from_secs(number.into()) / share;
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let secret = writer + WRITERS * (number as usize % (SECRETS / WRITERS));
        let value = {
            let mut track = tracks[secret].lock().expect("a track");
            track.sent.push(Instant::now());
            track.sent.len()
        };
        api.set(namespace, &name(secret), "key", &value.to_string());
        // A server that cannot keep up sets the pace, for as long as was meant.
        if began.elapsed() > Duration::from_secs(SECONDS.into()) {
            return;
        }
    }
}

/// A program that watches all of them and reads what has changed.
fn watch(secrets: &[PathBuf], tracks: &[Mutex<Track>], over: &AtomicBool) {
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("inotify");
    let add = |path: &PathBuf| inotify::add_watch(&inotify, path, WatchFlags::MOVED_TO).expect("watch");
    let watches: Vec<i32> = secrets.iter().map(add).collect();
    let first = watches[0];
    assert!(watches.iter().enumerate().all(|(number, watch)| *watch == first + number as i32));
    let mut buffer = [std::mem::MaybeUninit::uninit(); 64 << 10];
    let mut reader = inotify::Reader::new(&inotify, &mut buffer);
    while !over.load(Relaxed) {
        match reader.next() {
            Ok(event) => {
                assert!(!event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW), "events were lost");
                if event.file_name().is_some_and(|name| name.to_bytes() == b"..data") {
                    let secret = (event.wd() - first) as usize;
                    let now = read(&secrets[secret]);
                    let mut track = tracks[secret].lock().expect("a track");
                    let at = Instant::now();
                    let new: Vec<f64> =
                        track.sent[track.seen.min(now)..now].iter().map(|sent| (at - *sent).as_secs_f64()).collect();
                    track.lags.extend(new);
                    track.seen = track.seen.max(now);
                }
            }
            Err(rustix::io::Errno::AGAIN) => {
                let timeout = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
                poll(&mut [PollFd::new(&inotify, PollFlags::IN)], Some(&timeout)).expect("poll");
            }
            Err(error) => panic!("inotify: {error}"),
        }
    }
}

/// Whoever reads all the time sees no state twice with another in between.
fn read_in_a_loop(secrets: &[PathBuf], over: &AtomicBool, (reads, errors): (&AtomicUsize, &AtomicUsize)) {
    let mut last = vec![0; secrets.len()];
    while !over.load(Relaxed) {
        for (secret, last) in secrets.iter().zip(&mut last) {
            let now = read(secret);
            reads.fetch_add(1, Relaxed);
            if now < *last {
                errors.fetch_add(1, Relaxed);
            }
            *last = now;
        }
        std::thread::sleep(PAUSE);
    }
}
