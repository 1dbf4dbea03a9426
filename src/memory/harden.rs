//! Keeps the memory of this process out of core dumps and away from debuggers.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// For the daemon, before it loads any value: no core dump of it is ever written, and no process of the same user can
/// attach to it, read its memory or take descriptors from it (PR_SET_DUMPABLE(2const), ptrace(2)). Root still can.
///
/// Children inherit the limit of core dumps, for good, so a process that is to run a user's command calls this after
/// the fork. The other property ends at exec.
///
/// The files in `/proc/self` belong to root from now on. What that means for an ordinary user, seen on Linux 6.18:
///
/// | still works | fails with EACCES |
/// |---|---|
/// | reading `mountinfo`, `status`, `maps`, `smaps`, `limits`, `cgroup`, `fdinfo/N`, `uid_map` | writing `uid_map`, `gid_map`, `setgroups`: [`crate::mount::private::enter`] comes first |
/// | listing `fd` and `task`; following `fd/N`, `exe`, `cwd`, `root`, `ns/*`, so mounting through `/proc/self/fd/N` too | reading `environ`, `auxv`, `io`, `personality`; opening `mem`, `pagemap` |
/// | starting programs, setuid ones too: fusermount3 mounts and unmounts | writing `oom_score_adj`, `coredump_filter`, `comm` |
///
/// Other processes of that user lose `/proc/PID/fd`, `fdinfo`, `cwd` and `exe` of this one: what `secretfs umount`
/// names as a user of a busy mount is never a hardened process of somebody else.
///
/// # Errors
/// What setrlimit(2) or prctl(2) gives; lowering both is allowed to everybody.
pub fn harden() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsRawFd;
    use std::path::Path;

    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;
    use crate::mount::testing::{NOBODY, child, given_directory, is_root};

    #[test]
    fn what_breaks_in_proc_for_an_ordinary_user_is_as_documented() {
        const NAME: &str = "memory::harden::tests::what_breaks_in_proc_for_an_ordinary_user_is_as_documented";
        if given_directory().is_none() {
            let uid = if is_root() { NOBODY } else { 0 };
            return child(NAME, Path::new("/"), uid).succeeds();
        }
        harden().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        let core = getrlimit(Resource::Core);
        assert_eq!((core.current, core.maximum), (Some(0), Some(0)));

        for name in ["mountinfo", "status", "maps", "limits", "fdinfo/1", "uid_map"] {
            assert!(!fs::read(Path::new("/proc/self").join(name)).unwrap().is_empty(), "{name}");
        }
        assert!(fs::read_dir("/proc/self/task").unwrap().count() > 0);
        let open = File::open("/etc/passwd").unwrap();
        assert!(fs::metadata(format!("/proc/self/fd/{}", open.as_raw_fd())).unwrap().is_file());
        assert!(std::process::Command::new("/bin/true").status().unwrap().success());

        for name in ["uid_map", "gid_map", "setgroups", "mem"] {
            let refused = File::options().write(true).open(Path::new("/proc/self").join(name)).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{name}");
        }
        assert!(fs::read("/proc/self/environ").is_err());
    }
}
