//! The file system itself, once for every way of mounting: layout, hot reads, updates, events, refusals, the end.

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::support::events::Watch;
use crate::support::mount::{Mount, Way, is_mounted, is_running};
use crate::support::playground::{Playground, secret, secrets};
use crate::support::snapshot::snapshot;
use crate::support::{secretfs, succeed, wait_until};

/// One test function for each way and each of these statements.
macro_rules! for_every_way {
    ($($statement:ident),* $(,)?) => {
        mod by_new_api { $(#[test] fn $statement() { super::$statement(super::Way::NewApi) })* }
        mod by_classic_mount { $(#[test] fn $statement() { super::$statement(super::Way::Classic) })* }
        mod by_fusermount { $(#[test] fn $statement() { super::$statement(super::Way::Fusermount) })* }
        mod in_a_private_namespace { $(#[test] fn $statement() { super::$statement(super::Way::Private) })* }
        mod on_a_passed_descriptor { $(#[test] fn $statement() { super::$statement(super::Way::Passed) })* }
    };
}

for_every_way!(
    a_secret_looks_as_in_a_pod,
    hot_reads_send_no_request_before_and_after_an_update,
    an_update_switches_all_keys_and_tells_watchers,
    the_flat_layout_replaces_files_by_rename,
    names_that_come_and_go_are_announced,
    an_open_file_keeps_its_version,
    nobody_can_change_anything,
    it_ends_and_leaves_nothing,
);

/// A manifest with one Secret `s` of these keys.
fn manifest(keys: &[(&str, &str)]) -> String {
    secret("s", keys)
}

fn a_secret_looks_as_in_a_pod(way: Way) {
    let playground = Playground::new(way, &manifest(&[("a", "1"), (".b", ""), ("c", "x\n")]), &["secret/s"]);
    playground.does(|mount| {
        let seen = snapshot(&mount.seen);
        let names: Vec<&str> = seen.keys().map(String::as_str).collect();
        assert_eq!(names, ["", "..TS", "..TS/.b", "..TS/a", "..TS/c", "..data", ".b", "a", "c"]);
        assert_eq!(seen["a"].content, b"..data/a");
        assert_eq!(seen["..TS/c"].content, b"x\n");
        // Mine alone: the user who mounted, no bits for others, none to write.
        for (name, mode) in [("", 0o40700), ("..TS", 0o40700), ("a", 0o120777), ("..TS/a", 0o100400)] {
            assert_eq!(format!("{:o}", seen[name].mode), format!("{mode:o}"), "{name}");
            assert_eq!((seen[name].uid, seen[name].gid), (mount.user.uid, mount.user.gid), "{name}");
        }
        assert_eq!(std::fs::read(mount.path("c")).expect("read"), b"x\n");
    });
}

/// stat, open, read, close, readdir and readlink of everything.
fn round(root: &Path) {
    for name in ["a", "b"] {
        let path = root.join(name);
        std::fs::metadata(&path).expect("stat");
        std::fs::read_link(&path).expect("readlink");
        std::fs::read(&path).expect("read");
        assert_eq!(std::fs::metadata(root.join("no-such-key")).unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(std::fs::read_dir(root).expect("readdir").count(), 4);
}

fn hot_reads_send_no_request_before_and_after_an_update(way: Way) {
    let playground = Playground::new(way, &manifest(&[("a", "1"), ("b", "2")]), &["secret/s"]);
    for value in ["1", "changed"] {
        if value != "1" {
            playground.rewrite(&manifest(&[("a", value), ("b", "2")]));
            wait_until("the update", || playground.read("a") == value);
        }
        // Reading for the first time costs requests, and marks access times stale, which costs one more later.
        playground.does(|mount| (0..3).for_each(|_| round(&mount.seen)));
        let before = playground.mount.requests();
        playground.does(|mount| (0..1000).for_each(|_| round(&mount.seen)));
        assert_eq!(playground.mount.requests() - before, 0, "requests in 1000 hot rounds");
        assert_eq!(playground.read("a"), value);
    }
}

fn an_update_switches_all_keys_and_tells_watchers(way: Way) {
    let playground = Playground::new(way, &manifest(&[("keep", "1"), ("gone", "2")]), &["secret/s"]);
    let (mut root, mut key) = playground.does(|mount| {
        assert_eq!(std::fs::read(mount.path("gone")).expect("read"), b"2");
        (Watch::new(&mount.seen), Watch::new(&mount.path("keep")))
    });
    playground.rewrite(&manifest(&[("keep", "one"), ("new", "3")]));
    let seen = root.wait_for("DELETE|ISDIR ..TS");
    // The kubelet's own list; that it is that is shown in tests/kubelet.rs against the kubelet's code.
    assert_eq!(
        seen,
        [
            "CREATE|ISDIR ..TS",
            "ATTRIB|ISDIR ..TS",
            "CREATE ..data_tmp",
            "MOVED_FROM ..data_tmp",
            "MOVED_TO ..data",
            "CREATE new",
            "DELETE gone",
            "DELETE|ISDIR ..TS"
        ]
    );
    assert_eq!(key.wait_for("IGNORED"), ["ATTRIB", "DELETE_SELF", "IGNORED"]);
    assert_eq!(playground.read("keep"), "one");
    assert_eq!(playground.read("new"), "3");
    playground.does(|mount| {
        assert_eq!(std::fs::read(mount.path("gone")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(snapshot(&mount.seen).len(), 7);
    });
}

fn the_flat_layout_replaces_files_by_rename(way: Way) {
    let content = manifest(&[("keep", "1"), ("change", "2"), ("gone", "3")]);
    let playground = Playground::new(way, &content, &["--layout", "flat", "secret/s"]);
    let mut root = playground.does(|mount| {
        let seen = snapshot(&mount.seen);
        assert_eq!(seen.keys().map(String::as_str).collect::<Vec<_>>(), ["", "change", "gone", "keep"]);
        assert_eq!(seen["keep"].content, b"1");
        assert_eq!(seen[""].nlink, 2);
        std::fs::read(mount.path("change")).expect("read");
        Watch::new(&mount.seen)
    });
    playground.rewrite(&manifest(&[("keep", "1"), ("change", "two"), ("new", "4")]));
    let seen = root.wait_for("DELETE gone");
    let expected = ["CREATE ..new", "MOVED_FROM ..new", "MOVED_TO change", "CREATE new", "DELETE gone"];
    assert_eq!(seen, expected);
    assert_eq!(playground.read("change"), "two");
    assert_eq!(playground.read("new"), "4");
    assert_eq!(playground.read("keep"), "1");
}

fn names_that_come_and_go_are_announced(way: Way) {
    let both = secrets(&[("one", "a", &[("k", "1")]), ("two", "b", &[("k", "2")])]);
    let playground = Playground::new(way, &both, &[]);
    let (mut root, mut namespace) = playground.does(|mount| {
        // A name that is asked for before it exists must not stay unknown.
        assert!(std::fs::metadata(mount.path("three")).is_err());
        assert!(std::fs::metadata(mount.path("one/c")).is_err());
        assert_eq!(std::fs::read(mount.path("two/b/k")).expect("read"), b"2");
        (Watch::new(&mount.seen), Watch::new(&mount.path("one")))
    });
    playground.rewrite(&secrets(&[("one", "c", &[("k", "3")]), ("three", "d", &[("k", "4")])]));
    let seen = root.wait("both namespaces", |seen| {
        seen.iter().any(|one| one == "CREATE|ISDIR three") && seen.iter().any(|one| one == "DELETE|ISDIR two")
    });
    assert!(!seen.iter().any(|one| one.contains("one")), "{seen:?}");
    let seen = namespace.wait("both objects", |seen| {
        seen.iter().any(|one| one == "CREATE|ISDIR c") && seen.iter().any(|one| one == "DELETE|ISDIR a")
    });
    assert!(seen.iter().all(|one| one.ends_with(" c") || one.ends_with(" a")), "{seen:?}");
    assert_eq!(playground.read("one/c/k"), "3");
    assert_eq!(playground.read("three/d/k"), "4");
    playground.does(|mount| assert!(std::fs::metadata(mount.path("two")).is_err()));
}

fn an_open_file_keeps_its_version(way: Way) {
    use std::io::Read;
    let playground = Playground::new(way, &manifest(&[("a", "old")]), &["secret/s"]);
    let mut file = playground.does(|mount| std::fs::File::open(mount.path("a")).expect("open"));
    playground.rewrite(&manifest(&[("a", "new")]));
    wait_until("the update", || playground.read("a") == "new");
    playground.does(|_| {
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read");
        assert_eq!(text, "old");
        // The old generation goes a moment after the new one has come.
        wait_until("its last link to go", || file.metadata().expect("fstat").nlink() == 0);
    });
}

fn nobody_can_change_anything(way: Way) {
    let playground = Playground::new(way, &manifest(&[("a", "1")]), &["secret/s"]);
    playground.does(|mount| {
        let refused = |result: std::io::Result<()>| {
            let kind = result.expect_err("a change went through").kind();
            assert!(matches!(kind, ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied), "{kind}");
        };
        refused(std::fs::write(mount.path("new"), "x"));
        refused(std::fs::create_dir(mount.path("dir")));
        refused(std::fs::remove_file(mount.path("a")));
        refused(std::fs::remove_file(mount.path("..data/a")));
        refused(std::fs::rename(mount.path("a"), mount.path("b")));
        refused(std::os::unix::fs::symlink("x", mount.path("link")));
        refused(std::fs::hard_link(mount.path("..data/a"), mount.path("hard")));
        refused(std::fs::set_permissions(mount.path("..data/a"), std::fs::Permissions::from_mode(0o777)));
        refused(std::fs::write(mount.path("a"), "x"));
        assert_eq!(std::fs::read(mount.path("a")).expect("read"), b"1");
    });
}

fn it_ends_and_leaves_nothing(way: Way) {
    let playground = Playground::new(way, &manifest(&[("a", "1")]), &["secret/s"]);
    assert_eq!(playground.read("a"), "1");
    if way == Way::Passed {
        // Whoever mounted unmounts.
        let pid = playground.mount.pid();
        succeed(Command::new("umount").arg(&playground.mount.dir));
        wait_until("the daemon's end", || !is_running(pid));
        return;
    }
    let Playground { dir, mount } = playground;
    mount.end();
    assert_eq!(std::fs::read_dir(dir.path().join("mnt")).expect("readdir").count(), 0);
}

/// Every command that ends a mount ends its daemon too.
fn ends_by(way: Way, end: impl FnOnce(&Mount)) {
    let playground = Playground::new(way, &manifest(&[("a", "1")]), &["secret/s"]);
    let pid = playground.mount.pid();
    end(&playground.mount);
    wait_until("the daemon's end", || !is_running(pid));
    assert!(!is_mounted(&playground.mount.dir));
    let all = succeed(secretfs().args(["status", "-o", "json"]));
    assert!(!all.contains(&*playground.mount.dir.to_string_lossy()), "{all}");
}

#[test]
fn umount_ends_the_daemon() {
    ends_by(Way::NewApi, |mount| drop(succeed(Command::new("umount").arg(&mount.dir))));
    ends_by(Way::Classic, |mount| drop(succeed(Command::new("umount").arg(&mount.dir))));
}

#[test]
fn fusermount_u_ends_the_daemon() {
    ends_by(Way::Fusermount, |mount| {
        succeed(mount.user.runs(Command::new("fusermount3").arg("-u").arg(&mount.dir)));
    });
    ends_by(Way::NewApi, |mount| drop(succeed(Command::new("fusermount3").arg("-u").arg(&mount.dir))));
}

#[test]
fn sigterm_and_sigint_unmount() {
    for signal in ["-TERM", "-INT"] {
        for way in [Way::NewApi, Way::Classic, Way::Fusermount] {
            ends_by(way, |mount| drop(succeed(Command::new("kill").arg(signal).arg(mount.pid().to_string()))));
        }
    }
}

#[test]
fn a_lazy_umount_lets_the_last_reader_finish() {
    let playground = Playground::new(Way::NewApi, &manifest(&[("a", "1")]), &["secret/s"]);
    let pid = playground.mount.pid();
    let file = std::fs::File::open(playground.mount.path("a")).expect("open");
    let (code, said) = crate::support::fail(secretfs().arg("umount").arg(&playground.mount.dir));
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("in use") && said.contains("--lazy"), "{said}");
    succeed(secretfs().args(["umount", "--lazy"]).arg(&playground.mount.dir));
    assert!(!is_mounted(&playground.mount.dir));
    drop(file);
    wait_until("the daemon's end", || !is_running(pid));
}
