//! One object that changes: what readers see next, and what watchers are told.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::{Mounted, Secrets, count, stage};
use crate::support::events::Watch;
use crate::support::{PATIENCE, run, succeed, wait_until};

#[test]
fn kubectl_edit_shows_in_the_next_cat_and_wakes_watchers() {
    use base64::Engine;
    let base64 = |text: &str| base64::prelude::BASE64_STANDARD.encode(text);
    let (namespace, secrets) = stage();
    secrets.create("mysecret", &[("key", "before"), ("other", "stays")]);
    let mounted = Mounted::new(namespace.context(), &["secret/mysecret"]);
    let cat = || run(Command::new("cat").arg(mounted.path("key"))).stdout;
    assert_eq!(cat(), b"before");
    let (mut root, mut key) = (Watch::new(&mounted.seen), Watch::new(&mounted.path("key")));

    let editor = format!("sed -i s,{},{},", base64("before"), base64("after the edit"));
    let mut edit = namespace.cluster.kubectl();
    succeed(edit.env("KUBE_EDITOR", editor).args(["-n", &namespace.name, "edit", "secret", "mysecret"]));
    // The event comes when the new content is there.
    root.wait_for("MOVED_TO ..data");
    assert_eq!(cat(), b"after the edit");
    assert_eq!(mounted.read("other"), "stays");
    assert_eq!(key.wait_for("IGNORED"), ["ATTRIB", "DELETE_SELF", "IGNORED"]);
    let seen = root.wait_for("DELETE|ISDIR ..TS");
    assert_eq!((count(&seen, "MOVED_TO ..data"), count(&seen, "CREATE|ISDIR ..TS")), (1, 1), "{seen:?}");
}

#[test]
fn a_write_that_changes_no_value_causes_no_event() {
    let (namespace, secrets) = stage();
    secrets.create("s", &[("k", "same")]);
    let mounted = Mounted::new(namespace.context(), &["secret/s"]);
    let mut root = Watch::new(&mounted.seen);
    namespace.kubectl(&["annotate", "secret", "s", "note=new"]);
    namespace.kubectl(&["label", "secret", "s", "label=new"]);
    // What comes after it has come alone.
    secrets.set("s", &[("k", "changed")]);
    let seen = root.wait_for("DELETE|ISDIR ..TS");
    assert_eq!(count(&seen, "CREATE|ISDIR ..TS"), 1, "{seen:?}");
    assert_eq!(mounted.read("k"), "changed");
}

#[test]
fn a_deleted_secret_empties_its_mount_and_a_new_one_fills_it_again() {
    let (namespace, secrets) = stage();
    secrets.create("s", &[("old", "1"), ("both", "2")]);
    let mounted = Mounted::new(namespace.context(), &["secret/s"]);
    assert_eq!(mounted.read("old"), "1");
    let mut root = Watch::new(&mounted.seen);

    namespace.kubectl(&["delete", "secret", "s"]);
    root.wait("both keys to go", |seen| count(seen, "DELETE old") == 1 && count(seen, "DELETE both") == 1);
    assert_eq!(mounted.try_read("old"), Err(libc::ENOENT));
    wait_until("nothing but the volume's own names", || mounted.names("").iter().all(|name| name.starts_with("..")));

    root.clear();
    namespace.kubectl(&["create", "secret", "generic", "s", "--from-literal=both=new", "--from-literal=more=3"]);
    root.wait("both keys to come", |seen| count(seen, "CREATE both") == 1 && count(seen, "CREATE more") == 1);
    assert_eq!((mounted.read("both"), mounted.read("more")), ("new".into(), "3".into()));
    assert_eq!(mounted.try_read("old"), Err(libc::ENOENT));

    // And it is followed as the first one was.
    secrets.set("s", &[("both", "newest")]);
    wait_until("an update of the new one", || mounted.try_read("both") == Ok("newest".into()));
}

#[test]
fn keys_come_and_go_with_the_secret() {
    let (namespace, secrets) = stage();
    secrets.create("s", &[("keep", "1"), ("gone", "2")]);
    let mounted = Mounted::new(namespace.context(), &["secret/s"]);
    assert_eq!(mounted.read("gone"), "2");
    // Asked for before it exists: its absence must not be remembered.
    assert_eq!(mounted.try_read("new"), Err(libc::ENOENT));
    let mut root = Watch::new(&mounted.seen);
    secrets.set("s", &[("keep", "1"), ("new", "3"), (".hidden", "4")]);
    let seen = root.wait_for("DELETE|ISDIR ..TS");
    for event in ["CREATE new", "CREATE .hidden", "DELETE gone"] {
        assert_eq!(count(&seen, event), 1, "{event}: {seen:?}");
    }
    assert!(!seen.iter().any(|event| event.ends_with(" keep")), "{seen:?}");
    assert_eq!(
        (mounted.read("new"), mounted.read(".hidden"), mounted.read("keep")),
        ("3".into(), "4".into(), "1".into())
    );
    assert_eq!(mounted.try_read("gone"), Err(libc::ENOENT));
}

/// The two keys of one generation; `None` if it was replaced while it was read.
fn generation(root: &Path) -> Option<(u64, u64)> {
    let generation = std::fs::canonicalize(root.join("..data")).ok()?;
    let number = |key| {
        let text = std::fs::read_to_string(generation.join(key)).ok()?;
        Some(text.split(' ').next().expect("a first word").parse().expect("a number"))
    };
    Some((number("left")?, number("right")?))
}

/// A program that waits for events and then reads. It sends what it has read, and ends when nobody wants to know it any
/// more or the mount is gone.
fn follow(root: PathBuf, mut watch: Watch, read: Sender<(u64, u64)>) {
    let mut handled = 0;
    while count(&watch.seen(), "UNMOUNT") == 0 {
        let seen = watch.seen();
        assert_eq!(count(&seen, "Q_OVERFLOW"), 0);
        let moves = count(&seen, "MOVED_TO ..data");
        if moves == handled {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        handled = moves;
        if generation(&root).is_some_and(|generation| read.send(generation).is_err()) {
            return;
        }
    }
}

#[test]
fn of_many_rapid_updates_each_state_is_whole_and_the_last_arrives() {
    const UPDATES: u64 = 200;
    let (namespace, secrets) = stage();
    // Large enough that keeping all of them would show in the daemon's memory.
    let padding = "x".repeat(60 << 10);
    let state = |number: u64| format!("{number} {padding}");
    let write = |secrets: &Secrets, number| {
        secrets.set("s", &[("left", &state(number)), ("right", &state(number))]);
    };
    secrets.create("s", &[("left", &state(0)), ("right", &state(0))]);
    let mounted = Mounted::new(namespace.context(), &["secret/s"]);
    assert_eq!(generation(&mounted.seen), Some((0, 0)));
    for number in 1..=20 {
        write(&secrets, number);
    }
    wait_until("the daemon to be warm", || generation(&mounted.seen) == Some((20, 20)));
    let before = resident(&mounted);

    let mut quiet = Watch::new(&mounted.seen);
    let (send, receive) = std::sync::mpsc::channel();
    let (root, watch) = (mounted.seen.clone(), Watch::new(&mounted.seen));
    std::thread::spawn(move || follow(root, watch, send));
    (21..=UPDATES).for_each(|number| write(&secrets, number));
    let mut read = Vec::new();
    while read.last() != Some(&(UPDATES, UPDATES)) {
        read.push(receive.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("waited in vain for the last: {read:?}")));
    }
    assert!(read.iter().all(|(left, right)| left == right), "half of one update: {read:?}");
    assert!(read.is_sorted(), "not in order: {read:?}");

    // Each generation that came has gone, but for the last.
    let seen = quiet
        .wait("the old generations to go", |seen| count(seen, "CREATE|ISDIR ..TS") == count(seen, "DELETE|ISDIR ..TS"));
    assert!(count(&seen, "CREATE|ISDIR ..TS") as u64 <= UPDATES - 20, "{seen:?}");
    assert_eq!(mounted.names("").len(), 4);
    let grown = resident(&mounted).saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB more after updates of 21 MiB in all");
}

/// Resident memory of the daemon in KiB.
fn resident(mounted: &Mounted) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", mounted.pid())).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
