//! Asks a FUSE mount whether it lives, without the risk of hanging on one whose process hangs.
//!
//! Only statfs(2) reaches the process behind a mount for certain: everything else may be answered from the kernel's
//! caches long after that process died. But a request that a hanging process has taken up cannot be interrupted, not
//! even by SIGKILL (`request_wait_answer`, fs/fuse/dev.c), and a thread of ours in it could not even exit. So a forked
//! child asks, which is left behind if it gets no answer; it ends by itself when that mount is answered, aborted or
//! unmounted.
#![allow(unsafe_code)]

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, WaitOptions};

use super::table::Entry;

/// Long enough for a process that is merely busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// What the process behind a mount says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Alive,
    /// The connection has ended: ENOTCONN, ECONNABORTED.
    Dead,
    /// No answer in time.
    Silent,
    /// The mount lets only its owner in, and we are somebody else.
    Unknown,
}

/// Asks the FUSE mount `entry` with statfs(2), for at most `patience`. `root` is an O_PATH descriptor of its root. Root
/// asks in the name of the mount's owner, since the kernel lets not even root into a mount without `allow_other`
/// (`fuse_allow_current_process`, fs/fuse/dir.c).
///
/// # Errors
/// When no process or pipe can be made.
pub(super) fn ask(root: BorrowedFd<'_>, entry: &Entry, patience: Duration) -> io::Result<Health> {
    let owner = match (entry.super_number("user_id"), entry.super_number("group_id")) {
        (Some(uid), Some(gid)) if rustix::process::geteuid().is_root() => Some((uid, gid)),
        _ => None,
    };
    ask_as(root, owner, patience)
}

fn ask_as(root: BorrowedFd<'_>, owner: Option<(u32, u32)>, patience: Duration) -> io::Result<Health> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: The child shares nothing with the threads of this process but a copy of its memory, in which a lock may
    // be held for ever. `child` therefore only makes system calls, on data made before the fork, and never returns.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => child(root.as_raw_fd(), owner, write.as_raw_fd()),
        pid => Pid::from_raw(pid).ok_or_else(|| io::Error::other("fork gave no pid"))?,
    };
    drop(write);
    let answer = await_answer(read, patience);
    if answer.is_none() {
        // The answer is out, or nobody waits for it any more.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    let reap = if answer.is_some() { WaitOptions::empty() } else { WaitOptions::NOHANG };
    let _ = rustix::process::waitpid(Some(pid), reap);
    Ok(answer.unwrap_or(Health::Silent))
}

/// `None` when nothing came in time.
fn await_answer(read: OwnedFd, patience: Duration) -> Option<Health> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(&mut [PollFd::new(&read, PollFlags::IN)], Some(&left)) {
            Ok(0) => return None,
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return None,
        }
    }
    let mut errno = [0; 4];
    std::fs::File::from(read).read_exact(&mut errno).ok()?;
    Some(match i32::from_ne_bytes(errno) {
        0 => Health::Alive,
        libc::ENOTCONN | libc::ECONNABORTED => Health::Dead,
        NOT_ALLOWED => Health::Unknown,
        // Any other error was sent by a process that lives.
        _ => Health::Alive,
    })
}

/// Beyond all error numbers.
const NOT_ALLOWED: i32 = 10_000;

/// The only descriptors that the child keeps.
const ROOT: RawFd = 0;
const REPORT: RawFd = 1;

/// What the child does: become the owner, let go of everything, ask, report.
fn child(root: RawFd, owner: Option<(u32, u32)>, report: RawFd) -> ! {
    // SAFETY: Only system calls, all of them async-signal-safe (signal-safety(7)) or raw; every pointer is to memory of
    // this process that outlives the call. The descriptors that get closed belong to this copy of the process, which
    // ends here.
    unsafe {
        // A child that hangs must pin neither a pipe of the shell nor a /dev/fuse of ours, else our mounts would hang
        // too. First away from the numbers 0 and 1, in case the standard streams of this process were closed.
        let (root, report) = (libc::fcntl(root, libc::F_DUPFD, 2), libc::fcntl(report, libc::F_DUPFD, 2));
        if libc::dup2(root, ROOT) < 0 || libc::dup2(report, REPORT) < 0 {
            libc::_exit(1);
        }
        if libc::syscall(libc::SYS_close_range, 2, u32::MAX, 0) != 0 {
            for fd in 2..4096 {
                libc::close(fd);
            }
        }
        libc::chdir(c"/".as_ptr());
        if let Some((uid, gid)) = owner {
            // Raw: glibc's own would signal threads that this process does not have.
            libc::syscall(libc::SYS_setresgid, gid, gid, gid);
            libc::syscall(libc::SYS_setresuid, uid, uid, uid);
        }
        let mut answer = MaybeUninit::<libc::statfs>::zeroed();
        let mut errno = match libc::fstatfs(ROOT, answer.as_mut_ptr()) {
            0 => 0,
            _ => *libc::__errno_location(),
        };
        // Whom FUSE does not let in gets success and nothing but the magic number (`fuse_statfs`, fs/fuse/inode.c).
        let answer = answer.assume_init();
        if errno == 0 && answer.f_bsize == 0 && answer.f_namelen == 0 {
            errno = NOT_ALLOWED;
        }
        libc::write(REPORT, errno.to_ne_bytes().as_ptr().cast(), 4);
        libc::_exit(0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn an_ordinary_directory_is_alive() {
        let root = std::fs::File::open("/").unwrap();
        assert_eq!(ask_as(root.as_fd(), None, PATIENCE).unwrap(), Health::Alive);
    }
}
