//! What a value or a token must never get into: logs, messages, core files, files on disk, the process table, and memory
//! once nobody needs it any more.

use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use crate::support::cluster::{Namespace, namespace};
use crate::support::liar::{Liar, Lie, kubeconfig};
use crate::support::mount::{Mount, is_mounted, is_running};
use crate::support::user::{ROOT, User, ordinary};
use crate::support::{run, said, secretfs, subdir, succeed, tempdir, wait_for, wait_until};

/// Something secret, in all the forms in which it could get out.
#[derive(Clone)]
struct Planted {
    raw: String,
    forms: Vec<Vec<u8>>,
}

impl Planted {
    /// A secret that nobody else on this host has, found wherever it is written even in part.
    fn new(name: &str) -> Planted {
        let mut noise = [0; 24];
        std::fs::File::open("/dev/urandom").expect("urandom").read_exact(&mut noise).expect("noise");
        let noise: String = noise.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
        // The name is no part of what is looked for.
        Planted::known(format!("{name}:{noise}"), &noise)
    }

    /// `raw` is found by `part` of it.
    fn known(raw: String, part: &str) -> Planted {
        let encoded = STANDARD.encode(&raw);
        // The beginning depends on nothing, the end on nothing but the length before it.
        let middle = encoded.as_bytes()[8..encoded.len() - 4].to_vec();
        let hex: String = part.bytes().map(|byte| format!("{byte:02x}")).collect();
        Planted { raw, forms: vec![part.as_bytes().to_vec(), middle, hex.into_bytes()] }
    }

    fn base64(&self) -> String {
        STANDARD.encode(&self.raw)
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| find(bytes, form).is_some())
    }

    #[track_caller]
    fn is_not_in(&self, bytes: &[u8], what: &str) {
        assert!(!self.is_in(bytes), "a secret is in {what}:\n{}", String::from_utf8_lossy(bytes));
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == first) {
        if bytes[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// Where everything that a program could write without being told where is its own: searched at the end.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new(user: User) -> Place {
        let place = Place { dir: tempdir() };
        for name in ["input", "cwd", "tmp", "home", "run", "mnt", "logs"] {
            user.owns(&subdir(place.dir.path(), name));
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file with secrets in it, given by the user.
    fn input(&self, name: &str, content: &str) -> String {
        let path = self.path("input").join(name);
        std::fs::write(&path, content).expect("write");
        path.to_str().expect("UTF-8").to_owned()
    }

    fn secretfs(&self) -> Command {
        let mut command = secretfs();
        command.current_dir(self.path("cwd")).env("TMPDIR", self.path("tmp")).env("HOME", self.path("home"));
        command
    }

    /// All that could have been written: by this program into its own places, and where all programs write.
    #[track_caller]
    fn holds_none(&self, all: &[Planted]) {
        let mut places: Vec<PathBuf> = ["cwd", "tmp", "home", "run", "logs"].map(|name| self.path(name)).into();
        places.extend(["/run/secretfs", "/dev/shm", "/var/tmp", "/var/crash"].map(PathBuf::from));
        while let Some(place) = places.pop() {
            for entry in std::fs::read_dir(&place).into_iter().flatten().flatten() {
                let kind = entry.file_type().expect("a type");
                if kind.is_dir() {
                    places.push(entry.path());
                } else if kind.is_file() {
                    let content = std::fs::read(entry.path()).unwrap_or_default();
                    all.iter().for_each(|planted| planted.is_not_in(&content, &entry.path().display().to_string()));
                }
            }
        }
    }
}

/// A mount that stays in the foreground and writes all it has to say into a file.
struct Foreground {
    child: Child,
    log: PathBuf,
    dir: PathBuf,
}

impl Foreground {
    #[track_caller]
    fn new(place: &Place, args: &[&str]) -> Foreground {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let log = place.path(&format!("logs/{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let file = std::fs::File::create(&log).expect("a log");
        let mut command = place.secretfs();
        command.args(["mount", "--foreground", "-vv"]).args(args).arg(place.path("mnt"));
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("dup")).stderr(file);
        let child = command.spawn().expect("spawn");
        let mut mount = Foreground { child, log, dir: place.path("mnt") };
        wait_for("the mount", || {
            assert!(mount.child.try_wait().expect("wait").is_none(), "it ended: {}", mount.said());
            mount.said().contains("mounted").then_some(())
        });
        mount
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).expect("the log")).into_owned()
    }

    #[track_caller]
    fn wait_to_say(&self, what: &str) {
        wait_for(&format!("{what:?} in the log"), || self.said().contains(what).then_some(()));
    }

    /// The process table and the files that are open.
    #[track_caller]
    fn shows_none(&self, all: &[Planted]) {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        for planted in all {
            for name in ["environ", "cmdline", "comm", "status"] {
                planted.is_not_in(&std::fs::read(proc.join(name)).expect(name), name);
            }
            for fd in std::fs::read_dir(proc.join("fd")).expect("fd").flatten() {
                if std::fs::metadata(fd.path()).is_ok_and(|open| open.is_file()) {
                    let content = std::fs::read(fd.path()).unwrap_or_default();
                    planted.is_not_in(&content, &format!("{:?}", std::fs::read_link(fd.path())));
                }
            }
        }
    }

    /// Ends it as systemd would.
    fn end(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kill");
        assert!(self.child.wait().expect("wait").success(), "{}", self.said());
        assert!(!is_mounted(&self.dir));
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if is_mounted(&self.dir) {
            let _ = rustix::mount::unmount(&self.dir, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

fn secret(name: &str, version: &str, value: &str) -> Json {
    let metadata = json!({"name": name, "namespace": "default", "uid": "u", "resourceVersion": version,
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": value}});
    json!({"kind": "Secret", "apiVersion": "v1", "metadata": metadata, "data": {"key": value}})
}

fn json(code: u16, body: &Json) -> Lie {
    (code, "application/json", body.to_string().into_bytes())
}

fn status(code: u16, reason: &str, message: &str) -> Lie {
    json(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
            "message": message, "details": {"name": message, "causes": [{"message": message}]}}),
    )
}

/// Gives the key of the Secret `s` another value.
fn set(namespace: &Namespace, value: &str) {
    let patch = json!({"stringData": {"key": value}}).to_string();
    namespace.kubectl(&["patch", "secret", "s", "--patch", &patch]);
}

/// Runs a command whose output must not hold a secret, whether it succeeds or fails.
#[track_caller]
fn tells_none(command: &mut Command, all: &[Planted]) -> std::process::Output {
    let output = run(command);
    all.iter().for_each(|planted| planted.is_not_in(said(&output).as_bytes(), &format!("what {command:?} said")));
    output
}

#[test]
fn answers_of_the_server_get_into_no_message_and_no_log() {
    let (value, token) = (Planted::new("value"), Planted::new("token"));
    let all = [value.clone(), token.clone()];
    let (raw, encoded) = (value.raw.clone(), value.base64());
    let mut lies: Vec<Lie> = Vec::new();
    for (code, reason) in
        [(400, "BadRequest"), (401, "Unauthorized"), (403, "Forbidden"), (404, "NotFound"), (500, &*raw)]
    {
        lies.push(status(code, reason, &raw));
        lies.push((code, "text/html", format!("<html>{raw} {encoded}</html>").into_bytes()));
        lies.push(json(code, &secret("s", "1", &encoded)));
    }
    lies.extend([
        json(200, &secret("s", "1", &raw)),
        json(200, &secret(&raw, "1", &encoded)),
        json(200, &secret("other", "1", &encoded)),
        json(200, &json!({"kind": &raw, "apiVersion": &encoded, "metadata": {"name": &raw}, "data": {"key": &raw}})),
        json(200, &json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "data": {&raw: &encoded}})),
        json(200, &json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "data": &raw})),
        (200, "application/json", secret("s", "1", &encoded).to_string().into_bytes()[..150].to_vec()),
        (
            200,
            "application/json",
            [secret("s", "1", &encoded).to_string().as_bytes(), b"\xff", raw.as_bytes()].concat(),
        ),
        (200, "text/plain", raw.clone().into_bytes()),
    ]);
    let place = Place::new(ROOT);
    let user = json!({"token": &token.raw});
    for lie in lies {
        let text = String::from_utf8_lossy(&lie.2).into_owned();
        let liar = Liar::new(move |_| lie.clone());
        let config = place.input("kubeconfig", &liar.kubeconfig(&user));
        let point = place.path("mnt");
        for verb in ["cat", "ls", "mount"] {
            let mut command = place.secretfs();
            command.args([verb, "--kubeconfig", &config, "--timeout", "300ms"]).arg("secret/s");
            if verb == "mount" {
                command.args(["--foreground", "-vv"]).arg(&point);
            }
            let output = tells_none(&mut command, &all);
            assert!(!output.status.success(), "{verb} accepts {text}: {}", said(&output));
        }
    }
    place.holds_none(&all);
}

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

#[test]
fn kubeconfigs_and_plugins_that_are_wrong_get_nothing_into_a_message() {
    let token = Planted::new("token");
    let all = [token.clone()];
    let raw = &token.raw;
    let place = Place::new(ROOT);
    let plugin = |script: &str| {
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "sh",
            "args": ["-c", script], "env": [{"name": "TOKEN", "value": raw}], "interactiveMode": "Never"});
        kubeconfig(&json!({"server": "https://127.0.0.1:1"}), &json!({"exec": exec}))
    };
    let server = json!({"server": "https://127.0.0.1:1"});
    let good = kubeconfig(&server, &json!({"token": raw}));
    let configs = [
        good[..good.len() - 3].to_owned(),
        good.replace("\"token\"", "token\": \""),
        format!("{good}\n  token: {raw}\n"),
        format!("users:\n- name: u\n  user:\n    token: {raw}\n    token: {raw}\n"),
        format!("users:\n- name: u\n  user:\n\ttoken: {raw}\n"),
        good.clone(),
        kubeconfig(&server, &json!({"token": format!("{raw}\u{7f}\n")})),
        kubeconfig(&server, &json!({"username": "u", "password": raw})),
        kubeconfig(&server, &json!({"client-certificate-data": raw, "client-key-data": raw})),
        kubeconfig(
            &server,
            &json!({"client-certificate-data": STANDARD.encode(raw), "client-key-data": STANDARD.encode(raw)}),
        ),
        kubeconfig(&server, &json!({"auth-provider": {"name": "oidc", "config": {"refresh-token": raw}}})),
        kubeconfig(&json!({"server": format!("https://u:{raw}@127.0.0.1:1")}), &json!({})),
        kubeconfig(
            &json!({"server": "https://10.0.0.1", "proxy-url": format!("ftp://u:{raw}@127.0.0.1:1")}),
            &json!({}),
        ),
        kubeconfig(
            &json!({"server": "https://10.0.0.1", "proxy-url": format!("http://u:{raw}@127.0.0.1:1")}),
            &json!({}),
        ),
        kubeconfig(&json!({"server": "https://127.0.0.1:1", "certificate-authority-data": raw}), &json!({})),
        plugin("echo $TOKEN; exit 1"),
        plugin("echo $TOKEN"),
        plugin("echo \"{\\\"kind\\\":\\\"$TOKEN\\\"}\""),
        plugin("printf \"$TOKEN: [\""),
    ];
    for (at, config) in configs.iter().enumerate() {
        let config_file = place.input(&format!("kubeconfig{at}"), config);
        for verb in ["cat", "mount"] {
            let mut command = place.secretfs();
            command.args([verb, "--kubeconfig", &config_file, "--timeout", "300ms"]).arg("secret/s");
            if verb == "mount" {
                command.args(["--foreground", "-vv"]).arg(place.path("mnt"));
            }
            let output = tells_none(&mut command, &all);
            assert!(!output.status.success(), "{config}: {}", said(&output));
        }
    }
    place.holds_none(&all);
}

#[test]
fn bad_manifests_get_no_value_into_a_message_or_log() {
    let value = Planted::new("value");
    let all = [value.clone()];
    let place = Place::new(ROOT);
    let (raw, encoded) = (&value.raw, value.base64());
    let head = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
    let bad = [
        format!("{head}data: {{key: '{raw}'}}\n"),
        format!("{head}data: {{key: {encoded}x}}\n"),
        format!("{head}data:\n  key: {encoded}\n  key: [{encoded}]\n"),
        format!("{head}stringData:\n  key: '{raw}\n"),
        format!("{head}stringData:\n\tkey: {raw}\n"),
        format!("{head}stringData:\n  key: [{raw}]\n"),
        format!("{head}stringData:\n  key: {raw}: {raw}\n"),
        format!("{head}stringData:\n  key: !!int {raw}\n"),
        format!("{head}stringData:\n  key: *{raw}\n"),
        format!("{head}stringData: {raw}\n"),
        format!("{head}stringData: {{'{raw} ': x}}\n"),
        format!("{head}immutable: '{raw}'\n"),
        format!("{head}{}: x\n", raw.replace(':', "")),
        format!("{head}type: kubernetes.io/dockerconfigjson\nstringData: {{.dockerconfigjson: '{raw}'}}\n"),
        format!("{raw}\n"),
        json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "data": {"key": raw}}).to_string(),
        secret("s", "1", &encoded).to_string()[..200].to_owned(),
    ];
    for text in &bad {
        let file = place.input("bad.yaml", text);
        for verb in ["cat", "mount"] {
            let mut command = place.secretfs();
            command.args([verb, "-f", &file, "secret/s"]);
            if verb == "mount" {
                command.args(["--foreground", "-vv"]).arg(place.path("mnt"));
            }
            let output = tells_none(&mut command, &all);
            assert!(!output.status.success(), "{text}: {}", said(&output));
        }
    }
    // The same while mounted: the last good content stays, and the log names the place.
    let good = format!("{head}stringData: {{key: '{raw}'}}\n");
    let file = place.input("live.yaml", &good);
    let mount = Foreground::new(&place, &["-f", &file, "secret/s"]);
    for text in &bad {
        let before = mount.said().len();
        place.input("live.yaml", text);
        wait_until("a word about it", || mount.said().len() > before);
        let healed = mount.said().matches("good again").count();
        place.input("live.yaml", &good);
        wait_until("the end of the trouble", || mount.said().matches("good again").count() > healed);
    }
    assert_eq!(std::fs::read_to_string(place.path("mnt/key")).expect("read"), *raw);
    mount.shows_none(&[]);
    value.is_not_in(mount.said().as_bytes(), "the log");
    mount.end();
    place.holds_none(&all);
}

/// Where the kernel writes core files of a process that works in `cwd`; `None` if it gives them to a program.
fn core_files(cwd: &Path) -> Option<PathBuf> {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("core_pattern");
    match pattern.trim() {
        pattern if pattern.starts_with('|') || pattern.starts_with('@') => None,
        pattern => cwd.join(pattern).parent().map(Path::to_owned),
    }
}

#[test]
fn a_daemon_that_crashes_leaves_no_core_file() {
    let value = Planted::new("value");
    for (user, signal) in [(ROOT, "SEGV"), (ROOT, "ABRT"), (ordinary(), "SEGV"), (ordinary(), "QUIT")] {
        let place = Place::new(user);
        let text =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": value.raw}});
        let file = place.input("s.yaml", &text.to_string());
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("ulimit -c unlimited; {script}")]).current_dir(place.path("cwd"));
            command.env("HOME", "/nonexistent").env("TMPDIR", place.path("tmp"));
            user.runs(&mut command);
            command
        };
        // A process without our care leaves one here, so that none is a result.
        let cores = core_files(&place.path("cwd"));
        let count = || {
            let names = cores.iter().filter(|dir| dir.starts_with(place.dir.path())).flat_map(std::fs::read_dir);
            names.flatten().flatten().filter(|entry| entry.metadata().is_ok_and(|found| found.is_file())).count()
        };
        assert!(!run(&mut shell("kill -SEGV $$")).status.success());
        if cores.as_ref().is_some_and(|dir| dir.starts_with(place.dir.path())) {
            assert_eq!(count(), 1, "the control");
            for entry in std::fs::read_dir(place.path("cwd")).expect("cwd").flatten() {
                std::fs::remove_file(entry.path()).expect("unlink");
            }
        }

        let point = place.path("mnt");
        let program = env!("CARGO_BIN_EXE_secretfs");
        succeed(&mut shell(&format!("exec {program} mount -f {file} secret/s {}", point.display())));
        let mut mount = Mount::adopt(&point, user);
        mount.temporary = Some(place.path("tmp"));
        let pid = mount.pid();
        user.does(|| assert_eq!(std::fs::read_to_string(point.join("key")).expect("read"), value.raw));

        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
        let limit = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        assert_eq!(limit.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{limit}");
        // Not dumpable: its files in /proc are root's, and its user cannot look into it.
        assert_eq!(std::fs::metadata(format!("/proc/{pid}/environ")).expect("stat").uid(), 0);
        if user.uid != 0 {
            user.does(|| assert!(std::fs::read(format!("/proc/{pid}/mem")).is_err()));
        }
        // What holds the value would not be in a core file even if there were one.
        let memory = Memory::of(pid);
        let holders = memory.holders(value.raw.as_bytes());
        assert!(!holders.is_empty(), "the daemon has the value somewhere");
        for holder in holders {
            assert!(holder.flags.contains(" dd"), "{holder:?} would be dumped");
            assert!(holder.flags.contains(" dc"), "{holder:?} would be copied by fork");
        }

        // More than once: Rust's own handler takes the first SIGSEGV for a stack overflow and looks whether it repeats.
        wait_until("its end", || {
            let _ = run(Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]));
            !is_running(pid)
        });
        assert_eq!(count(), 0, "a core file after SIG{signal}");
        place.holds_none(std::slice::from_ref(&value));
    }
}

/// A range of a process's memory.
#[derive(Debug)]
struct Range {
    start: u64,
    end: u64,
    name: String,
    /// The kernel's two letters for each property: proc_pid_smaps(5).
    flags: String,
}

/// All that a process has in memory, as root sees it.
struct Memory {
    ranges: Vec<Range>,
    memory: std::fs::File,
}

impl Memory {
    fn of(pid: u32) -> Memory {
        let mut ranges: Vec<Range> = Vec::new();
        for line in std::fs::read_to_string(format!("/proc/{pid}/smaps")).expect("smaps").lines() {
            if let Some(flags) = line.strip_prefix("VmFlags:") {
                ranges.last_mut().expect("a range").flags = format!(" {}", flags.trim());
            }
            let mut words = line.split_whitespace();
            let Some((start, end)) = words.next().and_then(|word| word.split_once('-')) else { continue };
            let number = |text| u64::from_str_radix(text, 16).ok();
            if let (Some(start), Some(end)) = (number(start), number(end)) {
                let name = words.nth(4).unwrap_or("anonymous").to_owned();
                ranges.push(Range { start, end, name, flags: String::new() });
            }
        }
        let memory = std::fs::File::open(format!("/proc/{pid}/mem")).expect("mem");
        Memory { ranges, memory }
    }

    /// The ranges that hold these bytes.
    fn holders(&self, wanted: &[u8]) -> Vec<&Range> {
        self.ranges.iter().filter(|range| self.holds(range, wanted)).collect()
    }

    fn holds(&self, range: &Range, wanted: &[u8]) -> bool {
        const PIECE: usize = 1 << 20;
        // The pages of reserved but untouched memory cannot be read, or are zero.
        if !range.flags.contains(" rd") || range.name.starts_with("[v") {
            return false;
        }
        let mut piece = vec![0; PIECE + wanted.len()];
        let mut at = range.start;
        while at < range.end {
            let len = (range.end - at).min(piece.len() as u64) as usize;
            match self.memory.read_at(&mut piece[..len], at) {
                Ok(read) if find(&piece[..read], wanted).is_some() => return true,
                Ok(_) => at += PIECE as u64,
                Err(_) => return false,
            }
        }
        false
    }
}

#[test]
fn an_old_value_is_gone_from_the_daemon_once_nobody_has_it_open() {
    let (old, new) = (Planted::new("old"), Planted::new("new"));
    let namespace = namespace();
    namespace.secret("s", &[("key", &old.raw)]);
    let dir = tempdir();
    let point = subdir(dir.path(), "mnt");
    let config = namespace.cluster.kubeconfig();
    let source = format!("{}/secret/s", namespace.name);
    let mount = Mount::new(&["--kubeconfig", config.to_str().expect("UTF-8"), &source], &point);
    let read = || std::fs::read_to_string(point.join("key")).expect("read");
    assert_eq!(read(), old.raw);
    set(&namespace, &new.raw);
    wait_until("the update", || read() == new.raw);
    let pid = mount.pid();
    wait_until("the last owner of the old value to let go", || Memory::of(pid).holders(old.raw.as_bytes()).is_empty());
    let memory = Memory::of(pid);
    for form in &old.forms {
        let holders = memory.holders(form);
        assert!(holders.is_empty(), "{} is still in {holders:?}", String::from_utf8_lossy(form));
    }
    for holder in memory.holders(new.raw.as_bytes()) {
        assert!(holder.flags.contains(" dd"), "{holder:?} holds the value and would be dumped");
    }
    mount.end();
}

#[test]
fn a_value_of_a_manifest_is_gone_from_the_daemon_when_it_has_changed() {
    let (old, new) = (Planted::new("old"), Planted::new("new"));
    let place = Place::new(ROOT);
    let text = |field: &str, text: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, field: {"key": text}}).to_string()
    };
    let file = place.input("s.yaml", &text("data", &old.base64()));
    let point = place.path("mnt");
    let mount = Mount::new(&["-f", &file, "secret/s"], &point);
    let read = || std::fs::read_to_string(point.join("key")).expect("read");
    assert_eq!(read(), old.raw);
    place.input("s.yaml", &text("stringData", &new.raw));
    wait_until("the update", || read() == new.raw);
    let pid = mount.pid();
    for form in &old.forms {
        wait_until("the old value to be gone", || Memory::of(pid).holders(form).is_empty());
    }
    mount.end();
}
