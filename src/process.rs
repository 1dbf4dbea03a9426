//! Programs that we start: ended with all that they have started, and without a descriptor of ours.
#![allow(unsafe_code)]

use std::os::fd::RawFd;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

/// The process group that a child leads, killed when this is dropped unless the child has ended by itself.
pub struct Group(Option<Pid>);

impl Group {
    /// Of a child that was started with `process_group(0)` and has not been waited for.
    pub fn of(child: &Child) -> Self {
        Group(child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw))
    }

    /// Of a child that leads no group: nothing is killed.
    pub fn none() -> Self {
        Group(None)
    }

    /// The child has ended by itself; what it has left behind stays.
    pub fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // Nobody else can have the leader's number: it has not been waited for.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Has the command start with its standard streams only, whatever else was opened or inherited without O_CLOEXEC.
pub fn without_descriptors(command: &mut Command) -> &mut Command {
    const FIRST: RawFd = 3;
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: between fork and exec only one system call is made. It closes nothing before exec, so that the pipe by which
    // std reports a failed exec still works. Linux before 5.11 does not know it, and then O_CLOEXEC has to do.
    unsafe {
        command.pre_exec(|| {
            libc::syscall(libc::SYS_close_range, FIRST as libc::c_uint, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC);
            Ok(())
        })
    }
}
