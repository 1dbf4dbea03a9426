//! Manifests that are bad, become bad, or come in unusual ways.

use std::ffi::OsStr;

use rustix::process::Signal;

use super::{PLANTED, refused, sandbox, shows};
use crate::support::mount::{Mount, Way};
use crate::support::playground::secret;
use crate::support::process::Running;
use crate::support::sandbox::Sandbox;
use crate::support::user::{ROOT, User, ordinary};
use crate::support::{run, succeed, wait_until};

/// Mounting, printing and listing of a manifest with this content are refused, naming file, document and line.
#[track_caller]
fn bad_manifest(content: impl AsRef<[u8]>, parts: &[&str]) {
    let sandbox = sandbox();
    sandbox.write("bad.yaml", content);
    let parts: Vec<&str> = [&["bad.yaml"], parts].concat();
    for words in [
        &["mount", "-f", "good.yaml", "-f", "bad.yaml", "secret/s", "mnt"][..],
        &["cat", "-f", "bad.yaml", "secret/s/key"],
        &["tree", "-f", "bad.yaml"],
    ] {
        refused(&sandbox, ROOT, &words.iter().map(OsStr::new).collect::<Vec<_>>(), 3, &parts);
    }
}

fn good_then(second: &str) -> String {
    format!("{}\n---\n{second}\n", secret("first", &[("key", b"value")]))
}

#[test]
fn a_bad_manifest_is_refused_by_file_document_and_line() {
    let secret_with = |rest: &str| good_then(&format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n{rest}"));
    bad_manifest(
        secret_with(&format!("data:\n  key: \"{PLANTED}!\"")),
        &["document 2, line 8", "base64", "stringData"],
    );
    bad_manifest(secret_with(&format!("stringData:\n  key: \"{PLANTED}")), &["document 2, line ", "quote"]);
    bad_manifest(secret_with(&format!("stringData:\n\tkey: {PLANTED}")), &["document 2, line 8", "tab"]);
    bad_manifest(secret_with(&format!("stringData:\n  ..key: {PLANTED}")), &["document 2, line 8", "253"]);
    bad_manifest(secret_with(&format!("stringData:\n  key: [{PLANTED}]")), &["document 2, line 8", "string"]);
    bad_manifest(secret_with(&format!("stringDatas:\n  key: {PLANTED}")), &["document 2, line 7", "field"]);
    bad_manifest(good_then("apiVersion: v1\nkind: Secret\nmetadata:\n  name: S_\n"), &["document 2, line 6", "name"]);
    bad_manifest(good_then(&format!("just {PLANTED}")), &["document 2, line 3", "mapping"]);
    bad_manifest(format!("{{\"kind\": \"Secret\", \"data\": \"{PLANTED}\""), &["document 1, line 1"]);
}

#[test]
fn an_object_over_one_mebibyte_is_refused_and_one_below_is_not() {
    let with = |size: usize| {
        let value: String = PLANTED.chars().cycle().take(size).collect();
        good_then(&secret("s", &[("key", value.as_bytes())]))
    };
    bad_manifest(with((1 << 20) + 1), &["document 2, line 3", "1048576 bytes"]);
    let sandbox = sandbox();
    sandbox.write("large.yaml", with(1 << 20));
    let printed = run(sandbox.secretfs().args(["cat", "-f", "large.yaml", "secret/s/key"])).stdout;
    assert_eq!(printed.len(), 1 << 20);
}

#[test]
fn manifests_that_cannot_be_read_are_refused() {
    let sandbox = sandbox();
    std::fs::set_permissions(sandbox.write("secret.yaml", ""), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("chmod");
    let mount = |user: User, file: &str, parts: &[&str]| {
        refused(&sandbox, user, &["mount", "-f", "good.yaml", "-f", file, "secret/s", "mnt"].map(OsStr::new), 3, parts);
    };
    mount(ROOT, "missing.yaml", &["missing.yaml", "-f"]);
    mount(ROOT, "good.yaml/below", &["good.yaml/below"]);
    mount(ordinary(), "secret.yaml", &["secret.yaml", "ermission denied"]);
}

/// A mount in the foreground, whose log the test reads.
struct Foreground {
    sandbox: Sandbox,
    daemon: Running,
}

impl Foreground {
    #[track_caller]
    fn start(sandbox: Sandbox, args: &[&str]) -> Foreground {
        let mut command = sandbox.secretfs();
        let daemon = Running::start(command.args(["mount", "--foreground"]).args(args).arg("mnt"));
        daemon.err.wait_for("mounted");
        Foreground { sandbox, daemon }
    }

    /// Replaces a file all at once.
    fn rewrite(&self, name: &str, content: impl AsRef<[u8]>) {
        let new = self.sandbox.write(".new", content);
        std::fs::rename(new, self.sandbox.path(name)).expect("rename");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.sandbox.path("mnt").join(name)).unwrap_or_default()
    }

    #[track_caller]
    fn shows(&self, name: &str, value: &str) {
        wait_until(&format!("{value:?} in {name}"), || self.read(name) == value);
    }

    /// Ends it, and returns its log.
    #[track_caller]
    fn end(mut self) -> String {
        self.daemon.signal(Signal::TERM);
        assert!(self.daemon.wait().success());
        let log = self.daemon.err.wait_end();
        assert_eq!(self.daemon.out.wait_end(), "");
        self.sandbox.is_clean();
        log
    }
}

#[test]
fn a_manifest_that_becomes_bad_keeps_its_last_good_content() {
    let sandbox = sandbox();
    sandbox.mkdir("manifests");
    let both = |one: &str, two: &str| format!("{}\n---\n{}\n", secret("one", &[("key", one.as_bytes())]), two);
    let two = |value: &str| secret("two", &[("key", value.as_bytes())]);
    sandbox.write("manifests/a.yaml", both("1", &two("1")));
    sandbox.write("manifests/b.yaml", secret("three", &[("key", b"1")]));
    let mount = Foreground::start(sandbox, &["-vv", "-f", "manifests", "ns/default"]);
    for name in ["one/key", "two/key", "three/key"] {
        mount.shows(name, "1");
    }

    let bad = format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: two\ndata:\n  key: \"{PLANTED}!\"");
    mount.rewrite("manifests/a.yaml", both("2", &bad));
    let log = mount.daemon.err.wait_for("manifests/a.yaml, document 2, line 8");
    assert!(log.contains("base64") && log.contains("last good content"), "{log}");
    // The bad document keeps what it had; its neighbour in the same file and the other file are followed on.
    mount.shows("one/key", "2");
    assert_eq!(mount.read("two/key"), "1");
    mount.rewrite("manifests/b.yaml", secret("three", &[("key", b"3")]));
    mount.shows("three/key", "3");
    assert_eq!(mount.read("two/key"), "1");

    // A file that is no YAML at all keeps all that it had.
    mount.rewrite("manifests/a.yaml", format!("a: \"{PLANTED}\n"));
    mount.daemon.err.wait_for("manifests/a.yaml, document 1, line ");
    mount.rewrite("manifests/b.yaml", secret("three", &[("key", b"4")]));
    mount.shows("three/key", "4");
    assert_eq!((mount.read("one/key"), mount.read("two/key")), ("2".into(), "1".into()));

    // And once mended it is followed again.
    mount.rewrite("manifests/a.yaml", both("5", &two("5")));
    mount.shows("one/key", "5");
    mount.shows("two/key", "5");
    let log = mount.end();
    assert!(!shows(&log, PLANTED), "a value in the log: {log}");
}

#[test]
fn no_log_holds_a_value() {
    let sandbox = sandbox();
    sandbox.write("planted.yaml", secret("p", &[("key", PLANTED.as_bytes())]));
    let mount = Foreground::start(sandbox, &["-vv", "-f", "planted.yaml", "secret/p"]);
    mount.shows("key", PLANTED);
    let changed = format!("{PLANTED} changed");
    mount.rewrite("planted.yaml", secret("p", &[("key", changed.as_bytes())]));
    mount.shows("key", &changed);
    mount.rewrite("planted.yaml", format!("stringData: {PLANTED}: {PLANTED}"));
    mount.daemon.err.wait_for("planted.yaml, document 1");
    let log = mount.end();
    assert!(!shows(&log, PLANTED), "{log}");
}

#[test]
fn a_file_that_an_editor_replaces_or_writes_in_place_is_followed() {
    let sandbox = sandbox();
    let mount = Foreground::start(sandbox, &["-f", "good.yaml", "secret/s"]);
    mount.shows("key", "value");
    mount.rewrite("good.yaml", secret("s", &[("key", b"renamed over")]));
    mount.shows("key", "renamed over");
    mount.sandbox.write("good.yaml", secret("s", &[("key", b"in place")]));
    mount.shows("key", "in place");
    // vim with backupcopy=no: away for a moment, then new.
    std::fs::rename(mount.sandbox.path("good.yaml"), mount.sandbox.path("good.yaml~")).expect("rename");
    mount.sandbox.write("good.yaml", secret("s", &[("key", b"new")]));
    mount.shows("key", "new");
    mount.end();
}

#[test]
fn manifests_come_from_standard_input_and_from_a_process() {
    for script in [
        "cat good.yaml | secretfs mount -f - secret/s mnt",
        "secretfs mount -f - secret/s mnt < good.yaml",
        "secretfs mount -f <(cat good.yaml) secret/s mnt",
    ] {
        let sandbox = sandbox();
        succeed(&mut sandbox.bash(script));
        assert_eq!(std::fs::read(sandbox.path("mnt/key")).expect("read"), b"value", "{script}");
        succeed(sandbox.secretfs().args(["umount", "mnt"]));
        sandbox.is_clean();
    }
}

#[test]
fn two_mounts_of_one_manifest_do_not_know_each_other() {
    let sandbox = sandbox();
    sandbox.mkdir("other");
    let file = sandbox.path("good.yaml");
    let args = ["-f", file.to_str().expect("UTF-8"), "secret/s"];
    let (one, two) = (Mount::new(&args, &sandbox.path("mnt")), Mount::by(Way::Classic, &args, &sandbox.path("other")));
    assert_ne!(one.pid(), two.pid());
    one.end();
    assert_eq!(std::fs::read(two.path("key")).expect("read"), b"value");
    two.end();
}
