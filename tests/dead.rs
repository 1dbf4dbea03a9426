//! Mounts whose daemon was killed: what they still do, and how they are got rid of.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::liar::{Liar, SILENCE};
use crate::support::mount::{Mount, Way, is_mounted, is_running};
use crate::support::user::ordinary;
use crate::support::{secretfs, subdir, succeed, tempdir, wait_until};

/// The ways in which root and an ordinary user mount; the others differ from these in nothing that matters here.
const WAYS: [Way; 2] = [Way::NewApi, Way::Fusermount];

fn manifest(dir: &Path) -> String {
    let secret = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"key": name}})
            .to_string()
    };
    let path = dir.join("secrets.yaml");
    std::fs::write(&path, [secret("known"), secret("unknown")].join("\n---\n")).expect("write");
    path.to_str().expect("UTF-8").to_owned()
}

/// Ends the daemon as nothing else does: it can clean up nothing.
#[track_caller]
fn kill(mount: &Mount) -> u32 {
    let pid = mount.pid();
    succeed(Command::new("kill").args(["-KILL", &pid.to_string()]));
    wait_until("its end", || !is_running(pid));
    pid
}

fn errno(outcome: std::io::Result<impl Sized>) -> Option<i32> {
    outcome.err().and_then(|error| error.raw_os_error())
}

/// Where the daemon of this user has its socket.
fn socket(mount: &Mount, pid: u32) -> PathBuf {
    match mount.user.uid {
        0 => format!("/run/secretfs/{pid}.sock").into(),
        uid => std::env::temp_dir().join(format!("secretfs-{uid}/{pid}.sock")),
    }
}

#[test]
fn what_was_read_stays_readable_and_the_rest_says_at_once_that_nobody_is_there() {
    for way in WAYS {
        let dir = tempdir();
        let point = subdir(dir.path(), "mnt");
        let mount = Mount::by(way, &["-f", &manifest(dir.path()), "ns/default"], &point);
        mount.user.does(|| assert_eq!(std::fs::read(mount.path("known/key")).expect("read"), b"known"));
        kill(&mount);
        mount.user.does(|| {
            for _ in 0..3 {
                assert_eq!(std::fs::read(mount.path("known/key")).expect("read"), b"known", "{way:?}");
            }
            let unknown = std::fs::read(mount.path("unknown/key"));
            assert_eq!(errno(unknown), Some(libc::ENOTCONN), "{way:?}");
            assert_eq!(errno(std::fs::metadata(mount.path("never-seen"))), Some(libc::ENOTCONN), "{way:?}");
        });
    }
}

#[test]
fn a_reader_who_waits_for_the_daemon_does_not_wait_for_a_dead_one() {
    let dir = tempdir();
    let liar = Liar::new(|target| {
        let item = json!({"metadata": {"name": "s", "namespace": "default", "uid": "u", "resourceVersion": "1"}});
        let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": "1"}, "items": [item]});
        match target.contains("limit=") {
            true => (200, "application/json", list.to_string().into_bytes()),
            false => (SILENCE, "", Vec::new()),
        }
    });
    let config = dir.path().join("kubeconfig");
    std::fs::write(&config, liar.kubeconfig(&json!({}))).expect("write");
    let point = subdir(dir.path(), "mnt");
    let config = config.to_str().expect("UTF-8");
    // Nobody lives to see the end of this deadline.
    let mount = Mount::new(&["--kubeconfig", config, "--timeout", "1h", "ns/default"], &point);
    let before = mount.status()["api"]["gets"].as_u64();
    let path = mount.path("s/key");
    let reader = std::thread::spawn(move || std::fs::read(path));
    wait_until("the reader to wait", || mount.status()["api"]["gets"].as_u64() > before);
    assert!(!reader.is_finished());
    kill(&mount);
    let outcome = reader.join().expect("the reader");
    assert!(matches!(errno(outcome), Some(libc::ENOTCONN | libc::ECONNABORTED)));
}

#[test]
fn mounting_over_a_dead_mount_clears_it_first() {
    for way in WAYS {
        let dir = tempdir();
        let point = subdir(dir.path(), "mnt");
        let file = manifest(dir.path());
        let dead = Mount::by(way, &["-f", &file, "secret/known"], &point);
        kill(&dead);
        assert!(is_mounted(&point));
        // `by` makes the directory the user's, which a dead mount hides.
        let mut command = secretfs();
        let with = if way == Way::NewApi { "new-api" } else { "fusermount" };
        command.args(["mount", "--mount-with", with, "-f", &file, "secret/unknown"]).arg(&point);
        succeed(dead.user.runs(&mut command));
        let again = Mount::adopt(&point, dead.user);
        again.user.does(|| {
            assert_eq!(std::fs::read(point.join("key")).expect("read"), b"unknown");
        });
        let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let count = table.lines().filter(|line| line.split(' ').nth(4) == point.to_str()).count();
        assert_eq!(count, 1, "mounts at that place, by {way:?}");
        again.end();
    }
}

#[test]
fn a_dead_mount_is_ended_by_umount_like_any_other() {
    for way in WAYS {
        let dir = tempdir();
        let point = subdir(dir.path(), "mnt");
        let mount = Mount::by(way, &["-f", &manifest(dir.path()), "secret/known"], &point);
        kill(&mount);
        succeed(mount.user.runs(secretfs().arg("umount").arg(&point)));
        assert!(!is_mounted(&point), "{way:?}");
    }
}

#[test]
fn the_socket_of_a_killed_daemon_is_removed_by_the_next_status() {
    for way in WAYS {
        let dir = tempdir();
        let point = subdir(dir.path(), "mnt");
        let mount = Mount::by(way, &["-f", &manifest(dir.path()), "secret/known"], &point);
        let pid = kill(&mount);
        let output = succeed(mount.user.runs(secretfs().args(["status", "-o", "json"])));
        assert!(!output.contains(point.to_str().expect("UTF-8")), "{output}");
        let gone = std::fs::symlink_metadata(socket(&mount, pid)).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound, "{way:?}");
    }
}

/// In a mount namespace of its own: clearing all stale mounts would clear those of other tests too, and asks all others
/// whether they live.
const STALE: &str = r#"
set -euo pipefail
dir=$1 program=$2; shift 2
here() { grep -F " - fuse.secretfs " /proc/self/mountinfo | cut -d ' ' -f 5 || true; }
for copy in $(here); do umount -l "$copy"; done
trap 'for left in $(here); do umount -l "$left"; done' EXIT
for name in one two alive; do "$@" "$program" mount -f "$dir/secrets.yaml" secret/known "$dir/$name"; done
for name in one two; do
    pid=$("$@" "$program" status -o json | jq --arg dir "$dir/$name" '.[] | select(.mountpoint == $dir) | .pid')
    kill -KILL "$pid"
    tail --pid="$pid" -f /dev/null
done
test "$(here | wc -l)" = 3
"$@" "$program" umount --stale
test "$(here)" = "$dir/alive"
"$@" cat "$dir/alive/key"
"$@" "$program" umount "$dir/alive"
test -z "$(here)"
"#;

#[test]
fn all_stale_mounts_are_cleared_at_once_and_no_other() {
    let user = ordinary();
    let (uid, gid) = (format!("--reuid={}", user.uid), format!("--regid={}", user.gid));
    for rights in [&[][..], &["setpriv", &uid, &gid, "--clear-groups"]] {
        let dir = tempdir();
        manifest(dir.path());
        for name in ["one", "two", "alive", "tmp"] {
            let path = subdir(dir.path(), name);
            if !rights.is_empty() {
                user.owns(&path);
            }
        }
        std::fs::set_permissions(dir.path().join("secrets.yaml"), PermissionsExt::from_mode(0o644)).expect("chmod");
        let mut command = Command::new("unshare");
        command.args(["-m", "bash", "-c", STALE, "stale"]).arg(dir.path()).arg(env!("CARGO_BIN_EXE_secretfs"));
        command.args(rights).env("TMPDIR", dir.path().join("tmp")).env("HOME", "/nonexistent");
        let output = succeed(command.env_remove("KUBECONFIG").env_remove("XDG_RUNTIME_DIR"));
        let place = dir.path().display();
        assert_eq!(output, format!("cleared {place}/one\ncleared {place}/two\nknown"));
    }
}
