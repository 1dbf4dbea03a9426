//! What a mount tells its log, in use, in an outage and when it is lied to.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value as Json;

use super::{Foreground, Place, Planted, find, json, secret, set, status, tells_none};
use crate::support::cluster::namespace;
use crate::support::liar::{Liar, kubeconfig};
use crate::support::user::ROOT;
use crate::support::{subdir, wait_until};

/// A server that gives the Secret `s` with this value, and whose watches tell it in every way that they should not.
fn indiscreet(value: &Planted) -> Liar {
    let lies = std::sync::Mutex::new(0);
    let (raw, encoded) = (value.raw.clone(), value.base64());
    Liar::new(move |target| {
        if !target.contains("watch=1") {
            return json(200, &secret("s", "1", &encoded));
        }
        let mut lies = lies.lock().expect("a lock");
        *lies += 1;
        let event = |kind: &str, object: Json| {
            (200, "application/json", format!("{}\n", json!({"type": kind, "object": object})).into_bytes())
        };
        match *lies % 7 {
            0 => status(500, "InternalError", &raw),
            1 => event("MODIFIED", secret("s", "2", &raw)),
            2 => event(&raw, secret("s", "2", &encoded)),
            3 => event("ERROR", json!({"kind": "Status", "code": 500, "reason": &raw, "message": &raw})),
            4 => (200, "application/json", format!("{{{raw}\n").into_bytes()),
            5 => (502, "text/html", raw.clone().into_bytes()),
            _ => event("MODIFIED", secret(&raw, "3", &encoded)),
        }
    })
}

#[test]
fn an_outage_and_a_lie_while_mounted_get_nothing_into_the_log() {
    let (value, token) = (Planted::new("value"), Planted::new("token"));
    let all = [value.clone(), token.clone()];
    let place = Place::new(ROOT);
    let liar = indiscreet(&value);
    let config = place.input("kubeconfig", &liar.kubeconfig(&json!({"token": &token.raw})));
    let mount =
        Foreground::new(&place, &["--kubeconfig", &config, "--timeout", "500ms", "--poll", "100ms", "secret/s"]);
    assert_eq!(std::fs::read_to_string(place.path("mnt/key")).expect("read"), value.raw);
    mount.wait_to_say("500 InternalError");
    mount.wait_to_say("HTTP 502");
    mount.shows_none(&all);
    all.iter().for_each(|planted| planted.is_not_in(mount.said().as_bytes(), "the log"));
    tells_none(place.secretfs().args(["status", "-o", "json"]), &all);
    tells_none(place.secretfs().args(["status", "-o", "wide"]), &all);
    assert_eq!(std::fs::read_to_string(place.path("mnt/key")).expect("read"), value.raw, "an outage deletes nothing");
    mount.end();
    place.holds_none(&all);
}

/// Mounts in the background, in a mount namespace whose /dev/log is the test's.
const WITH_LOG: &str = r#"
set -euo pipefail
dir=$1 log=$2; shift 2
mount -t tmpfs none "$dir"
for device in fuse null urandom; do
    : > "$dir/$device"
    mount --bind "/dev/$device" "$dir/$device"
done
ln -s "$log" "$dir/log"
mount --rbind "$dir" /dev
"$@"
trap '"$1" umount "${!#}"' EXIT
echo mounted
read -r || true
"#;

#[test]
fn what_a_daemon_in_the_background_tells_the_systems_log_has_no_secret_in_it() {
    let (value, token) = (Planted::new("value"), Planted::new("token"));
    let all = [value.clone(), token.clone()];
    let place = Place::new(ROOT);
    let liar = indiscreet(&value);
    let config = place.input("kubeconfig", &liar.kubeconfig(&json!({"token": &token.raw})));
    let socket = place.path("logs/socket");
    let log = std::os::unix::net::UnixDatagram::bind(&socket).expect("a socket");
    log.set_nonblocking(true).expect("nonblocking");
    let mut command = Command::new("unshare");
    command.args(["-m", "bash", "-c", WITH_LOG, "with-log"]).args([&subdir(place.dir.path(), "dev"), &socket]);
    command.args([env!("CARGO_BIN_EXE_secretfs"), "mount", "-vv", "--kubeconfig", &config]);
    command.args(["--timeout", "500ms", "--poll", "100ms", "secret/s"]).arg(place.path("mnt"));
    command.current_dir(place.path("cwd")).env("TMPDIR", place.path("tmp")).env("HOME", place.path("home"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
    let mut first = [0; 8];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("the mount");
    let seen = PathBuf::from(format!("/proc/{}/root{}", child.id(), place.path("mnt").display()));
    assert_eq!(std::fs::read_to_string(seen.join("key")).expect("read"), value.raw);

    let mut told = Vec::new();
    wait_until("word of what happens", || {
        let mut packet = [0; 8192];
        while let Ok(length) = log.recv(&mut packet) {
            assert!(packet.starts_with(b"<28>secretfs["), "{}", String::from_utf8_lossy(&packet[..length]));
            told.extend_from_slice(&packet[..length]);
            told.push(b'\n');
        }
        ["500 InternalError", "HTTP 502"].iter().all(|what| find(&told, what.as_bytes()).is_some())
    });
    all.iter().for_each(|planted| planted.is_not_in(&told, "the system's log"));
    drop(child.stdin.take());
    assert!(child.wait().expect("wait").success());
    place.holds_none(&all);
}

#[test]
fn a_cluster_in_use_gets_no_value_and_no_token_into_the_log() {
    let (value, next) = (Planted::new("value"), Planted::new("next"));
    let namespace = namespace();
    let user = namespace.user();
    let token = format!("token-{user}");
    let all = [value.clone(), next.clone(), Planted::known(token.clone(), &token)];
    let place = Place::new(ROOT);
    namespace.secret("s", &[("key", &value.raw)]);
    namespace.allow(&user, "get,list,watch", &[]);
    let server =
        json!({"server": namespace.cluster.url, "certificate-authority": namespace.cluster.dir.join("ca.crt")});
    let config = &place.input("kubeconfig", &kubeconfig(&server, &json!({"token": token})));
    let source = format!("ns/{}", namespace.name);
    let mount = Foreground::new(&place, &["--kubeconfig", config, &source]);
    let read = |name: &str| std::fs::read_to_string(place.path("mnt").join(name));
    assert_eq!(read("s/key").expect("read"), value.raw);
    set(&namespace, &next.raw);
    wait_until("the update", || read("s/key").is_ok_and(|now| now == next.raw));
    // Names that no object can have, and one that none has.
    for name in [&*value.raw, "no-such-secret", "a?watch=1"] {
        assert!(read(&format!("{name}/key")).is_err());
    }
    for verb in ["ls", "tree"] {
        let mut command = place.secretfs();
        tells_none(command.args([verb, "--kubeconfig", config, "-n", &namespace.name, "secret/s"]), &all);
    }
    let mut missing = place.secretfs();
    tells_none(missing.args(["cat", "--kubeconfig", config, "-n", &namespace.name, "secret/s/no-such-key"]), &all);
    namespace.kubectl(&["delete", "secret", "s"]);
    wait_until("the deletion", || read("s/key").is_err());
    mount.shows_none(&all);
    // A name that somebody types is theirs to see again, but not this one: it is the value.
    let log = mount.said();
    all.iter().for_each(|planted| planted.is_not_in(log.as_bytes(), "the log"));
    mount.end();
    place.holds_none(&all);
}
