//! Directories that the program under test keeps, ended even when the test fails.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::mount::is_running;
use super::user::{ROOT, User};
use super::{run, said, secretfs, succeed, wait_until};

/// A directory in memory, readable for the ordinary user, removed at the end.
pub fn memory_dir() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::Builder::new().prefix("secretfs-it-").tempdir_in("/dev/shm").expect("a directory in memory");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    dir
}

/// `secretfs sync` in the background.
pub struct Sync {
    pub dir: PathBuf,
    user: User,
}

impl Sync {
    #[track_caller]
    pub fn new(args: &[&str], dir: &Path) -> Sync {
        Self::of(ROOT, args, dir)
    }

    #[track_caller]
    pub fn of(user: User, args: &[&str], dir: &Path) -> Sync {
        let mut command = secretfs();
        command.arg("sync").args(args).arg(dir);
        let output = run(user.runs(&mut command));
        assert!(output.status.success(), "{command:?}: {}", said(&output));
        Sync { dir: dir.to_owned(), user }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The process that keeps it.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        pid_in(&self.dir).expect("a process that keeps the directory")
    }

    /// What `secretfs status` says.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let mut command = secretfs();
        let output = succeed(self.user.runs(command.args(["status", "-o", "json"])));
        let all: Vec<serde_json::Value> = serde_json::from_str(&output).expect("JSON");
        let ours = |status: &serde_json::Value| status["mountpoint"] == self.dir.to_string_lossy().as_ref();
        all.into_iter().find(ours).unwrap_or_else(|| panic!("status does not know {}", self.dir.display()))
    }

    /// kill -9: what it has written stays.
    #[track_caller]
    pub fn kill(self) {
        let pid = self.pid();
        succeed(Command::new("kill").args(["-9", &pid.to_string()]));
        wait_until("the end of the process", || !is_running(pid));
        std::mem::forget(self);
    }

    /// Ends it as a user would. Gives what was said.
    #[track_caller]
    pub fn end(&self) -> String {
        let pid = self.pid();
        let mut command = secretfs();
        let output = run(self.user.runs(command.arg("umount").arg(&self.dir)));
        assert!(output.status.success(), "{}", said(&output));
        wait_until("the end of the process", || !is_running(pid));
        String::from_utf8(output.stderr).expect("UTF-8")
    }
}

fn pid_in(dir: &Path) -> Option<u32> {
    let record = std::fs::read_to_string(dir.join("..secretfs")).ok()?;
    record.split(' ').nth(2)?.parse().ok()
}

impl Drop for Sync {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut command = secretfs();
            let status = self.user.runs(command.args(["status", "-o", "json"])).output();
            let all = status.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            let ours = serde_json::from_str::<Vec<serde_json::Value>>(&all).unwrap_or_default();
            let ours = ours.into_iter().filter(|one| one["mountpoint"] == self.dir.to_string_lossy().as_ref());
            eprintln!("status of the sync: {:#?}", ours.collect::<Vec<_>>());
        }
        if self.dir.join("..secretfs").exists() {
            let mut command = secretfs();
            let _ = self.user.runs(command.arg("umount").arg(&self.dir)).output();
        }
    }
}
