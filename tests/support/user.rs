//! The ordinary user: commands and file operations under another uid.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::succeed;

/// Made by `./test`, and here if it is not there yet: fusermount3 wants a name for the uid.
pub const NAME: &str = "secretfs-test";

#[derive(Clone, Copy, Debug)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// The test's ordinary user.
pub fn ordinary() -> User {
    static USER: OnceLock<User> = OnceLock::new();
    *USER.get_or_init(|| {
        let known = Command::new("id").args(["-u", NAME]).output().is_ok_and(|output| output.status.success());
        if !known {
            succeed(Command::new("useradd").args(["--no-create-home", "--shell", "/usr/sbin/nologin", NAME]));
        }
        let number = |flag| succeed(Command::new("id").args([flag, NAME])).trim().parse().expect("a number");
        User { uid: number("-u"), gid: number("-g") }
    })
}

/// root, who runs the tests.
pub const ROOT: User = User { uid: 0, gid: 0 };

impl User {
    /// Has the command run as this user.
    pub fn runs(self, command: &mut Command) -> &mut Command {
        if self.uid == 0 {
            return command;
        }
        command.uid(self.uid).gid(self.gid).env_remove("XDG_RUNTIME_DIR")
    }

    /// Gives a path to this user.
    pub fn owns(self, path: &Path) {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid)).expect("chown");
    }

    /// Runs `work` in a thread that has this user's ids, as the kernel checks them for files.
    pub fn does<T: Send>(self, work: impl FnOnce() -> T + Send) -> T {
        let thread = move || {
            if self.uid != 0 {
                // SAFETY: the raw calls change the ids of this thread only (libc's wrappers would change all threads);
                // the thread ends right after the work.
                unsafe {
                    assert_eq!(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()), 0);
                    assert_eq!(libc::syscall(libc::SYS_setresgid, self.gid, self.gid, self.gid), 0);
                    assert_eq!(libc::syscall(libc::SYS_setresuid, self.uid, self.uid, self.uid), 0);
                }
            }
            work()
        };
        std::thread::scope(|scope| match scope.spawn(thread).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}
