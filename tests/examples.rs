//! The example that must work to the letter, from both sources, and `secretfs demo`.

use std::process::Command;

use crate::support::cluster::{Cluster, cluster};
use crate::support::events::Watch;
use crate::support::process::Running;
use crate::support::sandbox::Sandbox;
use crate::support::user::{ROOT, User, ordinary};
use crate::support::{run, said, succeed};

const PAYLOAD: &str = "some-base64-encoded-payload";
const MANIFEST: &str = include_str!("../examples/example-secret.yaml");

/// `cat ./mysec/my-super-secret-key`, as typed.
#[track_caller]
fn cat(sandbox: &Sandbox) -> String {
    succeed(&mut sandbox.bash("cat ./mysec/my-super-secret-key"))
}

/// What every program that watches with inotify sees at once, and so does the next `cat`.
#[track_caller]
fn a_change_is_seen_at_once(sandbox: &Sandbox, change: impl FnOnce()) {
    assert_eq!(cat(sandbox), PAYLOAD);
    let mut dir = Watch::new(&sandbox.path("mysec"));
    let mut key = Watch::new(&sandbox.path("mysec/my-super-secret-key"));
    change();
    dir.wait_for("MOVED_TO ..data");
    assert_eq!(cat(sandbox), "another payload");
    key.wait_for("DELETE_SELF");
}

#[track_caller]
fn umount_leaves_nothing(sandbox: &Sandbox, point: &str) {
    assert_eq!(sandbox.processes().len(), 1, "one daemon serves");
    assert_eq!(sandbox.mounts(), [sandbox.path(point)]);
    assert_eq!(succeed(&mut sandbox.bash(&format!("secretfs umount ./{point}"))), "");
    sandbox.is_clean();
    assert_eq!(std::fs::read_dir(sandbox.path(point)).expect("readdir").count(), 0);
}

#[test]
fn the_example_that_must_work_to_the_letter() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("mysec");
    sandbox.write("example-secret.yaml", MANIFEST);
    assert_eq!(succeed(&mut sandbox.bash("secretfs mount -f example-secret.yaml secret/mysecret ./mysec")), "");
    a_change_is_seen_at_once(&sandbox, || {
        sandbox.write(
            "example-secret.yaml",
            MANIFEST.replace("c29tZS1iYXNlNjQtZW5jb2RlZC1wYXlsb2Fk", "YW5vdGhlciBwYXlsb2Fk"),
        );
    });
    umount_leaves_nothing(&sandbox, "mysec");

    let cluster = cluster();
    let secret = InDefault::create(cluster);
    let with = |script: &str| {
        let mut command = sandbox.bash(script);
        command.env("KUBECONFIG", cluster.kubeconfig());
        command
    };
    assert_eq!(succeed(&mut with("secretfs mount secret/mysecret ./mysec")), "");
    a_change_is_seen_at_once(&sandbox, || secret.edit());
    umount_leaves_nothing(&sandbox, "mysec");

    sandbox.mkdir("k8s");
    let printed = succeed(&mut with("secretfs mount ./k8s && cat ./k8s/default/mysecret/my-super-secret-key"));
    assert_eq!(printed, "another payload");
    umount_leaves_nothing(&sandbox, "k8s");
}

/// The Secret of the example, in the namespace `default` of the cluster.
struct InDefault<'c>(&'c Cluster);

impl<'c> InDefault<'c> {
    fn create(cluster: &'c Cluster) -> Self {
        let literal = format!("--from-literal=my-super-secret-key={PAYLOAD}");
        succeed(cluster.kubectl().args(["create", "secret", "generic", "mysecret", &literal]));
        InDefault(cluster)
    }

    /// `kubectl edit`, with an editor that needs nobody to type.
    fn edit(&self) {
        let editor = "sed -i s/c29tZS1iYXNlNjQtZW5jb2RlZC1wYXlsb2Fk/YW5vdGhlciBwYXlsb2Fk/";
        succeed(self.0.kubectl().args(["edit", "secret", "mysecret"]).env("KUBE_EDITOR", editor));
    }
}

impl Drop for InDefault<'_> {
    fn drop(&mut self) {
        let _ = run(self.0.kubectl().args(["delete", "secret", "mysecret", "--ignore-not-found"]));
    }
}

/// Runs `secretfs demo` through these words, as this user.
fn demo(sandbox: &Sandbox, user: User, words: &[&str]) -> std::process::Output {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    let output = run(user.runs(sandbox.runs(&mut command)));
    sandbox.is_clean();
    output
}

const SECRETFS: &str = env!("CARGO_BIN_EXE_secretfs");

#[test]
fn the_demo_shows_a_rotation_in_plain_text_and_leaves_nothing() {
    for user in [ROOT, ordinary()] {
        let sandbox = Sandbox::new();
        let output = demo(&sandbox, user, &[SECRETFS, "demo"]);
        assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        let parts = [
            "k8s/default/mysecret",
            "..data -> ..2",
            PAYLOAD,
            "$ cat k8s/shop/database/password",
            "correct-horse-battery-staple",
            "MOVED_TO    ..data",
            "DELETE      ..2",
            "$ cat k8s/shop/database/password",
            "rotated-at-once",
        ];
        let mut rest = text.as_str();
        for part in parts {
            rest = rest.split_once(part).unwrap_or_else(|| panic!("{part:?} is not where it should be in\n{text}")).1;
        }
    }
}

#[test]
fn the_demo_needs_no_other_program() {
    let sandbox = Sandbox::new();
    let output = demo(&sandbox, ROOT, &["env", "PATH=/nonexistent", SECRETFS, "demo"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let parts = [
        "\nk8s/default/mysecret\n",
        "120777 ..data -> ..2",
        PAYLOAD,
        "correct-horse-battery-staple\n",
        "MOVED_TO    ..data",
        "rotated-at-once\n",
    ];
    let mut rest = text.as_str();
    for part in parts {
        rest = rest.split_once(part).unwrap_or_else(|| panic!("{part:?} is not where it should be in\n{text}")).1;
    }
}

#[test]
fn the_demo_takes_less_than_two_seconds() {
    let sandbox = Sandbox::new();
    // Other tests share the processors: the best of three counts.
    let quickest = (0..3).map(|_| {
        let start = std::time::Instant::now();
        succeed(sandbox.secretfs().arg("demo"));
        start.elapsed()
    });
    let quickest = quickest.min().expect("three times");
    assert!(quickest.as_secs_f64() < 2.0, "{quickest:?}");
}

/// Runs its arguments on a terminal of its own and copies what comes.
const ON_A_TERMINAL: &str = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)";

#[test]
fn the_demo_uses_colour_on_a_terminal() {
    let sandbox = Sandbox::new();
    let output = demo(&sandbox, ROOT, &["env", "TERM=xterm", "python3", "-c", ON_A_TERMINAL, SECRETFS, "demo"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", said(&output));
    assert!(text.contains("\u{1b}[1m$ cat") && text.contains("\u{1b}[0m"), "{text:?}");
    assert!(text.contains("rotated-at-once"), "{text:?}");
    // NO_COLOR (no-color.org) and a terminal that knows nothing are asked first.
    for unwanted in ["NO_COLOR=1", "TERM=dumb"] {
        let output = demo(&sandbox, ROOT, &["env", unwanted, "python3", "-c", ON_A_TERMINAL, SECRETFS, "demo"]);
        assert!(output.status.success() && !output.stdout.contains(&0x1b), "{unwanted}: {}", said(&output));
    }
}

/// Runs the demo where something is missing: it says which and what to do, with exit code 8.
#[track_caller]
fn demo_misses(user: User, words: &[&str], what: &[&str]) {
    let sandbox = Sandbox::new();
    let output = demo(&sandbox, user, words);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(8), "{}", said(&output));
    assert!(output.stdout.is_empty(), "{}", said(&output));
    assert!(text.starts_with("secretfs: ") && text.lines().count() == 1, "{text}");
    for part in what {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

/// A shell script in a mount namespace of its own, which then becomes the demo.
fn hidden(script: &str) -> String {
    format!("{script} && exec \"$0\" demo")
}

#[test]
fn without_a_fuse_device_the_demo_says_so() {
    let script = hidden("mount -t tmpfs none /dev");
    demo_misses(
        ROOT,
        &["unshare", "-m", "sh", "-c", &script, SECRETFS],
        &["FUSE", "modprobe fuse", "--device /dev/fuse"],
    );
    // Something that is there but is not FUSE.
    let script = hidden("mount --bind /dev/null /dev/fuse");
    demo_misses(ROOT, &["unshare", "-m", "sh", "-c", &script, SECRETFS], &["/dev/fuse"]);
}

#[test]
fn without_access_to_the_fuse_device_the_demo_says_so() {
    let User { uid, gid } = ordinary();
    let become_user = format!("exec setpriv --reuid {uid} --regid {gid} --clear-groups \"$0\" demo");
    let script = format!(
        "mount -t tmpfs none /mnt && mknod -m 0600 /mnt/fuse c 10 229 && mount --bind /mnt/fuse /dev/fuse && {become_user}"
    );
    demo_misses(
        ROOT,
        &["unshare", "-m", "sh", "-c", &script, SECRETFS],
        &["/dev/fuse", "ermission denied", "chmod 0666"],
    );
}

#[test]
fn without_user_namespaces_the_demo_says_so() {
    // The limit is one of each user namespace: set in a child, it holds below that.
    let script = hidden("echo 0 > /proc/sys/user/max_user_namespaces");
    let words = ["unshare", "--user", "--map-root-user", "sh", "-c", &script, SECRETFS];
    for user in [ROOT, ordinary()] {
        demo_misses(user, &words, &["user namespaces", "max_user_namespaces = 0", "sysctl -w"]);
    }
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    let sandbox = Sandbox::new();
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let mut command = sandbox.secretfs();
        let demo = Running::start(command.arg("demo"));
        // It has mounted and is about to rotate.
        demo.out.wait_for("my-super-secret-key");
        demo.signal(signal);
        drop(demo);
        sandbox.is_clean();
    }
}

#[test]
fn a_reader_that_has_seen_enough_of_the_demo_does_no_harm() {
    let sandbox = Sandbox::new();
    let output = run(&mut sandbox.bash("secretfs demo | head -n 2"));
    assert!(output.status.success() && !said(&output).contains("panicked"), "{}", said(&output));
    sandbox.is_clean();
}
