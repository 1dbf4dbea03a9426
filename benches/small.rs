//! Small things: start and size of the binary, the demo, and what an idle daemon costs; the start against `true`.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::bare::Client;
use crate::machine::field;
use crate::process::data_segments_in;
use crate::report::{Report, Rival, Unit};
use crate::rounds::{interleaved, seconds};
use crate::support::cluster::namespace;
use crate::support::mount::Mount;
use crate::support::{secretfs, subdir, tempdir};

const STARTS: usize = 50;
const DEMOS: usize = 5;
const IDLE: Duration = Duration::from_secs(20);
/// A daemon that has just started still has a thread that started it; it ends after 10 s.
const SETTLE: Duration = Duration::from_secs(12);

pub fn run(report: &mut Report) {
    report.part("small", "what it costs to have it");
    let [version, nothing] =
        interleaved(STARTS, [&mut || time(secretfs().arg("--version")), &mut || time(&mut Command::new("true"))]);
    let rival = Rival { name: "true", value: nothing.median() };
    report.against(&format!("--version, median of {STARTS}"), version.median(), &rival, None);
    report.alone(Unit::Seconds, "--version", version.median(), Some(0.010));
    let size = std::fs::metadata(secretfs().get_program()).expect("the binary").len();
    report.alone(Unit::Bytes, "size of the binary", size as f64, Some(f64::from(12 << 20)));
    let [demo] = interleaved(DEMOS, [&mut || time(secretfs().arg("demo"))]);
    report.alone(Unit::Seconds, &format!("demo, median of {DEMOS}"), demo.median(), Some(2.0));
    idle(report);
}

fn time(command: &mut Command) -> f64 {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    seconds(|| assert!(command.status().expect("run").success(), "{command:?} failed"))
}

/// A mount of manifests, one of a Secret in a cluster and a view of that cluster, all left alone at the same time.
fn idle(report: &mut Report) {
    let dir = tempdir();
    let manifest = dir.path().join("s.json");
    let secret = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"stringData":{"key":"value"}}"#;
    std::fs::write(&manifest, secret).expect("write");
    let namespace = namespace();
    Client::connect(namespace.cluster).create_secret(&namespace.name, "s", "key", "value");
    let manifest = manifest.to_str().expect("UTF-8").to_owned();
    let named = format!("{}/secret/s", namespace.name);
    let mounts: Vec<Mount> = [("manifests", vec!["-f", &manifest]), ("secret", vec![&*named]), ("view", vec![])]
        .into_iter()
        .map(|(name, args)| {
            Mount::with(&args, &subdir(dir.path(), name), |command| {
                command.env("KUBECONFIG", namespace.cluster.kubeconfig());
            })
        })
        .collect();
    let key = mounts[2].dir.join(&namespace.name).join("s/key");
    std::fs::read(&key).expect("read something in the view, so that it is followed");
    let pids: Vec<u32> = mounts.iter().map(Mount::pid).collect();
    std::thread::sleep(SETTLE);
    let before: Vec<Activity> = pids.iter().map(|pid| Activity::of(*pid)).collect();
    let mounts_changed = changes_of_the_mount_table(IDLE);
    for ((name, pid), before) in ["manifests", "a Secret", "the cluster"].into_iter().zip(pids).zip(before) {
        let after = Activity::of(pid);
        let wakeups = after.wakeups_since(&before);
        // Connections that were closed meanwhile take their counts with them.
        let segments = after.segments.saturating_sub(before.segments);
        let rival = format!("{segments} segments received, {mounts_changed} mounts changed");
        report.beside(&format!("idle 20 s, mount of {name}: wake-ups"), &wakeups.to_string(), &rival);
        report.exactly("  beyond the API server's own traffic", wakeups.saturating_sub(segments), 0);
    }
}

/// Waits, and counts meanwhile how often something is mounted or unmounted: every daemon of this host looks whether it was
/// its own mount.
fn changes_of_the_mount_table(time: Duration) -> usize {
    let table = std::fs::File::open("/proc/self/mountinfo").expect("mountinfo");
    let end = Instant::now() + time;
    let mut changes = 0;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        // The kernel says PRI and ERR once for each change; a first poll tells nothing but that it is watched from now on.
        if poll(&mut [PollFd::new(&table, PollFlags::PRI)], Some(&timeout)).expect("poll") == 0 {
            return changes;
        }
        changes += 1;
    }
}

/// What a process has done so far.
struct Activity {
    /// How often each thread has given the processor up by itself: it did so to wait, and was woken before.
    waits: HashMap<String, u64>,
    segments: u64,
}

impl Activity {
    fn of(pid: u32) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the daemon's threads");
        let waits = tasks.flatten().filter_map(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).ok()?;
            let count = field(&status, "voluntary_ctxt_switches", ':')?.parse().ok()?;
            Some((task.file_name().to_str()?.to_owned(), count))
        });
        Activity { waits: waits.collect(), segments: data_segments_in(pid) }
    }

    fn wakeups_since(&self, before: &Activity) -> u64 {
        let more = self.waits.iter().map(|(thread, count)| count - before.waits.get(thread).copied().unwrap_or(0));
        // A thread that has ended was woken for that.
        let ended = before.waits.keys().filter(|thread| !self.waits.contains_key(*thread)).count();
        more.sum::<u64>() + ended as u64
    }
}
