//! A directory with an environment of its own, in which nothing may be left at the end: no mount, no process, no socket.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::mount::{is_running, mount_points};
use super::{secretfs, subdir, tempdir, wait_until};

/// Where a test's commands run.
pub struct Sandbox {
    dir: tempfile::TempDir,
    /// In the environment of every command, so that all processes that come of it are found, whoever is their parent.
    mark: String,
    /// All processes that were ever found running.
    seen: Mutex<BTreeSet<u32>>,
}

const MARK: &str = "SECRETFS_TEST_MARK";

impl Sandbox {
    pub fn new() -> Sandbox {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = tempdir();
        // For temporary files of the commands; anybody's, as /tmp.
        let tmp = subdir(dir.path(), "tmp");
        std::fs::set_permissions(tmp, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).expect("chmod");
        Sandbox { dir, mark, seen: Mutex::default() }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("write");
        path
    }

    pub fn mkdir(&self, name: &str) -> PathBuf {
        subdir(self.dir(), name)
    }

    /// Where its commands are told to put temporary files.
    pub fn tmp(&self) -> PathBuf {
        self.path("tmp")
    }

    /// Has a command run here.
    pub fn runs<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.current_dir(self.dir()).env(MARK, &self.mark).env("TMPDIR", self.tmp()).env_remove("XDG_RUNTIME_DIR")
    }

    /// The program under test.
    pub fn secretfs(&self) -> Command {
        let mut command = secretfs();
        self.runs(&mut command);
        command
    }

    /// A script for bash, with the program under test found as `secretfs`.
    pub fn bash(&self, script: &str) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_secretfs")).parent().expect("a directory");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc", "-c", script]);
        command.env_remove("KUBECONFIG").env("HOME", "/nonexistent").env("LC_ALL", "C");
        command.env("PATH", format!("{}:{path}", binary.display()));
        self.runs(&mut command);
        command
    }

    /// All processes that come of commands run here and that are still there.
    pub fn processes(&self) -> Vec<u32> {
        let mark = format!("{MARK}={}", self.mark);
        let ours = |pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        };
        let all = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let found: Vec<u32> = pids.filter(ours).filter(|pid| is_running(*pid)).collect();
        self.seen.lock().expect("no panic while it was held").extend(&found);
        found
    }

    /// All mounts below the directory.
    pub fn mounts(&self) -> Vec<PathBuf> {
        mount_points().into_iter().filter(|point| point.starts_with(self.dir())).collect()
    }

    /// Waits until no process is left, and checks that nothing else is.
    #[track_caller]
    pub fn is_clean(&self) {
        wait_until("the end of all processes", || self.processes().is_empty());
        assert_eq!(self.mounts(), [] as [&Path; 0], "mounts are left");
        let temporary = std::fs::read_dir(self.tmp()).expect("readdir").flatten();
        // An ordinary user's sockets are in a directory that stays, as /run/secretfs does.
        let left: Vec<PathBuf> =
            temporary.map(|entry| entry.path()).filter(|path| !is_empty_runtime_dir(path)).collect();
        assert_eq!(left, [] as [&Path; 0], "temporary files are left");
        for pid in self.seen.lock().expect("no panic while it was held").iter() {
            let socket = PathBuf::from(format!("/run/secretfs/{pid}.sock"));
            assert!(!socket.exists(), "{} is left", socket.display());
        }
    }
}

fn is_empty_runtime_dir(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let of_user = name.strip_prefix("secretfs-").is_some_and(|uid| uid.parse::<u32>().is_ok());
    of_user && std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Only a failing test has anything left here.
        for pid in self.processes() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        for point in self.mounts().iter().rev() {
            let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::FORCE;
            let _ = rustix::mount::unmount(point, flags);
        }
    }
}
