//! What a value or a token must never get into: logs, messages, core files, files on disk, the process table, and memory
//! once nobody needs it any more.

mod log;
mod memory;
mod messages;

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use crate::support::cluster::Namespace;
use crate::support::liar::Lie;
use crate::support::mount::is_mounted;
use crate::support::user::User;
use crate::support::{run, said, secretfs, subdir, tempdir, wait_for};

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
