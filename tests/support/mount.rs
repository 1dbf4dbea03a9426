//! Mounts made by the program under test, ended even when the test fails.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::user::{ROOT, User, ordinary};
use super::{run, said, secretfs, succeed, wait_for, wait_until};

/// Every way of mounting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    NewApi,
    Classic,
    Fusermount,
    Private,
    /// On a `/dev/fd/N` that the test mounted itself.
    Passed,
}

impl Way {
    /// Who mounts that way.
    pub fn user(self) -> User {
        match self {
            Way::NewApi | Way::Classic | Way::Passed => ROOT,
            Way::Fusermount | Way::Private => ordinary(),
        }
    }
}

/// A mount of the program under test.
pub struct Mount {
    /// The mount point as named on the command line.
    pub dir: PathBuf,
    /// Where the test sees it: elsewhere if the mount is in a namespace of its own.
    pub seen: PathBuf,
    pub user: User,
    /// A process that must be ended with the mount.
    child: Option<Child>,
    /// The daemon's TMPDIR, if it is not ours.
    pub temporary: Option<PathBuf>,
}

impl Mount {
    /// `secretfs mount ARGS DIR` as root, in whatever way it chooses.
    #[track_caller]
    pub fn new(args: &[&str], dir: &Path) -> Mount {
        Self::with(args, dir, |_| {})
    }

    /// A mount that the test has made here otherwise, to be ended with the test.
    pub fn of(dir: &Path) -> Mount {
        Mount { dir: dir.to_owned(), seen: dir.to_owned(), user: ROOT, child: None, temporary: None }
    }

    /// The same as [`Mount::new`] with a command that the test changes first (environment, directory).
    #[track_caller]
    pub fn with(args: &[&str], dir: &Path, change: impl FnOnce(&mut Command)) -> Mount {
        let mut command = secretfs();
        command.arg("mount").args(args).arg(dir);
        change(&mut command);
        let output = run(&mut command);
        assert!(output.status.success(), "{command:?}: {}", said(&output));
        Mount { dir: dir.to_owned(), seen: dir.to_owned(), user: ROOT, child: None, temporary: None }
    }

    /// A mount that the test made by a command of its own.
    pub fn adopt(dir: &Path, user: User) -> Mount {
        Mount { dir: dir.to_owned(), seen: dir.to_owned(), user, child: None, temporary: None }
    }

    /// `secretfs mount ARGS DIR` in this way, by the user who mounts that way.
    #[track_caller]
    pub fn by(way: Way, args: &[&str], dir: &Path) -> Mount {
        let user = way.user();
        user.owns(dir);
        let mut command = secretfs();
        command.arg("mount").args(args);
        match way {
            Way::NewApi => command.args(["--mount-with", "new-api"]).arg(dir),
            Way::Classic => command.args(["--mount-with", "classic"]).arg(dir),
            Way::Fusermount => command.args(["--mount-with", "fusermount"]).arg(dir),
            Way::Private => return Self::private(command, dir, user),
            Way::Passed => return Self::passed(command, dir),
        };
        let output = run(user.runs(&mut command));
        assert!(output.status.success(), "{command:?}: {}", said(&output));
        Mount { dir: dir.to_owned(), seen: dir.to_owned(), user, child: None, temporary: None }
    }

    /// The mount is seen through /proc/PID/root of the command that it was made for.
    #[track_caller]
    fn private(mut command: Command, dir: &Path, user: User) -> Mount {
        command.arg("--private").arg(dir).args(["--", "cat"]);
        let child = user.runs(&mut command).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("spawn");
        let pid = child.id();
        let mut mount = Mount { dir: dir.to_owned(), seen: PathBuf::new(), user, child: Some(child), temporary: None };
        let inner = wait_for("the private command", || {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            let inner = children.split_whitespace().next()?.to_owned();
            // Until it has become the command it is a copy of the daemon, which nobody may look into.
            let name = std::fs::read_to_string(format!("/proc/{inner}/comm")).ok()?;
            (name == "cat\n").then_some(inner)
        });
        mount.seen = PathBuf::from(format!("/proc/{inner}/root{}", dir.display()));
        mount
    }

    /// The test mounts as a container runtime or a CSI driver would, and hands the descriptor over.
    #[track_caller]
    fn passed(mut command: Command, dir: &Path) -> Mount {
        use std::os::fd::AsRawFd;
        let fuse = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
        let number = fuse.as_raw_fd();
        let options = format!("fd={number},rootmode=40000,user_id=0,group_id=0,default_permissions");
        let flags =
            rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV | rustix::mount::MountFlags::NOEXEC;
        let options = std::ffi::CString::new(options).expect("no NUL");
        rustix::mount::mount("passed", dir, "fuse.secretfs", flags, options.as_c_str()).expect("mount(2)");
        let mount = Mount { dir: dir.to_owned(), seen: dir.to_owned(), user: ROOT, child: None, temporary: None };
        command.arg("/dev/fd/7");
        // SAFETY: dup2 is async-signal-safe; nothing else happens between fork and exec.
        unsafe {
            use std::os::unix::process::CommandExt;
            command.pre_exec(move || {
                // Where it is number 7 already, dup2 would leave it to be closed by exec.
                let passed = if number == 7 { libc::fcntl(7, libc::F_SETFD, 0) } else { libc::dup2(number, 7) };
                if passed == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
            });
        }
        let output = run(&mut command);
        assert!(output.status.success(), "{command:?}: {}", said(&output));
        mount
    }

    /// The path of something in the mount, as the test sees it.
    pub fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.seen.clone() } else { self.seen.join(name) }
    }

    /// What `secretfs status` says of this mount.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let mut command = secretfs();
        command.envs(self.temporary.iter().map(|dir| ("TMPDIR", dir)));
        let output = succeed(self.user.runs(command.args(["status", "-o", "json"])));
        let all: Vec<serde_json::Value> = serde_json::from_str(&output).expect("JSON");
        let ours = |status: &serde_json::Value| status["mountpoint"] == self.dir.to_string_lossy().as_ref();
        all.into_iter().find(ours).unwrap_or_else(|| panic!("status does not know {}", self.dir.display()))
    }

    /// The number of FUSE requests answered so far.
    #[track_caller]
    pub fn requests(&self) -> u64 {
        self.status()["requests_answered"].as_u64().expect("a number")
    }

    /// The daemon's process id.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.status()["pid"].as_u64().expect("a number") as u32
    }

    /// Ends the mount as a user would, and waits until its daemon is gone too.
    #[track_caller]
    pub fn end(mut self) {
        let pid = self.pid();
        match self.child.take() {
            Some(mut child) => {
                drop(child.stdin.take());
                assert!(child.wait().expect("wait").success());
            }
            None => {
                succeed(self.user.runs(secretfs().arg("umount").arg(&self.dir)));
            }
        }
        wait_until("the daemon's end", || !is_running(pid));
        assert!(!is_mounted(&self.dir), "{} is still mounted", self.dir.display());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if is_mounted(&self.dir) {
            let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::FORCE;
            let _ = rustix::mount::unmount(&self.dir, flags);
        }
    }
}

/// Whether something is mounted right there.
pub fn is_mounted(dir: &Path) -> bool {
    mount_points().iter().any(|point| point == dir)
}

/// Where something is mounted, in the order of the mount table.
pub fn mount_points() -> Vec<PathBuf> {
    let table = std::fs::read("/proc/self/mountinfo").expect("mountinfo");
    let lines = table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| unescaped(line.split(|byte| *byte == b' ').nth(4).expect("a mount point"))).collect()
}

/// The kernel writes blanks, line breaks and backslashes as octal numbers (`mangle` in fs/seq_file.c).
fn unescaped(field: &[u8]) -> PathBuf {
    let mut path = Vec::new();
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let number = after.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match number {
            Some(number) if *byte == b'\\' => {
                path.push(number);
                rest = &after[3..];
            }
            _ => {
                path.push(*byte);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(path).into()
}

pub fn is_running(pid: u32) -> bool {
    // A zombie has ended, only its parent has not looked yet; but not before its last thread has let go of its files.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| threads > 1 || !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}
