//! What the tests share: directories that clean up after themselves, mounts that are ended even when a test fails,
//! the control plane, and watchers.

pub mod api;
pub mod cluster;
pub mod events;
pub mod host;
pub mod kubeconfig;
pub mod kubelet_pod;
pub mod liar;
pub mod library;
pub mod machine;
pub mod mount;
pub mod playground;
pub mod process;
pub mod proxy;
pub mod referee;
pub mod sandbox;
pub mod server;
pub mod snapshot;
pub mod sync;
pub mod token;
pub mod user;
pub mod wire;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// How long anything that is sure to happen may take before a test gives up. Generous: two busy cores.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The program under test.
pub fn secretfs() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_secretfs"));
    // Never the developer's own cluster.
    command.env_remove("KUBECONFIG").env("HOME", "/nonexistent");
    command
}

/// A new directory of the test's own, readable for the ordinary user, removed at the end.
pub fn tempdir() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::Builder::new().prefix("secretfs-it-").tempdir().expect("a temporary directory");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    dir
}

/// Makes `dir/name` and returns its path.
pub fn subdir(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::create_dir(&path).expect("mkdir");
    path
}

/// Runs a command to its end; panics with all it said if it fails.
#[track_caller]
pub fn succeed(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?} failed: {}", said(&output));
    String::from_utf8(output.stdout).expect("UTF-8 on standard output")
}

/// Runs a command to its end; panics if it succeeds. Returns its exit code and what it said on standard error.
#[track_caller]
pub fn fail(command: &mut Command) -> (i32, String) {
    let output = run(command);
    assert!(!output.status.success(), "{command:?} succeeded: {}", said(&output));
    (output.status.code().expect("an exit code"), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[track_caller]
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"))
}

pub fn said(output: &Output) -> String {
    format!(
        "{}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Waits until `probe` returns something, with a deadline.
#[track_caller]
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a condition holds, with a deadline.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}

/// Runs work that must not hang in a thread of its own, and gives up on it after a while.
#[track_caller]
pub fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || send.send(work()));
    match receive.recv_timeout(PATIENCE) {
        Ok(done) => done,
        Err(error) => panic!("{what}: {error}"),
    }
}

/// The seed of tests that make up something new each time, which a failure shows: `SECRETFS_SEED` repeats it.
pub fn seed() -> u64 {
    let seed = match std::env::var("SECRETFS_SEED") {
        Ok(seed) => seed.parse().expect("SECRETFS_SEED is a number"),
        Err(_) => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time after 1970");
            // Short enough to type.
            u64::from(now.subsec_nanos() ^ std::process::id())
        }
    };
    println!("SECRETFS_SEED={seed}");
    seed
}
