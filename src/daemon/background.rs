//! Going to the background: the parent returns when the child says that the mount is usable, or why it is not.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{OwnedFd, RawFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::Signal;

use crate::exit::{Code, Failure};

/// Which of the two processes this is.
pub enum Side {
    /// The one that the user started: how the child's start ended.
    Parent(Result<(), Failure>),
    /// The one that serves.
    Child(Ready),
}

/// The child's word to its waiting parent. Dropping it unsaid tells the parent that the child died.
pub struct Ready {
    pipe: Option<File>,
    /// Descriptors of whoever started the program.
    inherited: Vec<RawFd>,
}

impl Ready {
    /// For a process that stays in the foreground and has nobody waiting.
    pub fn nobody() -> Self {
        Ready { pipe: None, inherited: Vec::new() }
    }

    /// All is well: lets go of the terminal, of the directory and of all descriptors of whoever started the program (who
    /// may wait for the end of a pipe, for a lock, or to unmount that directory), and lets the parent return. Returns
    /// whether there was one.
    pub fn usable(&mut self) -> std::io::Result<bool> {
        let Some(mut pipe) = self.pipe.take() else { return Ok(false) };
        let null = rustix::fs::openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        self.inherited.drain(..).filter(|number| is_inherited(*number)).for_each(close);
        std::env::set_current_dir("/")?;
        // A session of its own: signals of the user's terminal do not reach it. Not before the mount is there: autofs
        // keeps whoever is not in its own process group, as its mount(8) is, waiting for the mount that we make
        // (`autofs_oz_mode`, fs/autofs; `same_pgrp` in systemd's mount units).
        rustix::process::setsid()?;
        // Should the parent be gone by now, nobody reads the pipe, and that is an error.
        rustix::process::set_parent_process_death_signal(None)?;
        pipe.write_all(&[Code::Ok as u8])?;
        Ok(true)
    }

    /// It did not work: a parent that still waits prints the message and exits with the code.
    pub fn failed(&mut self, failure: &Failure) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = pipe.write_all(&[failure.code as u8]).and_then(|()| pipe.write_all(failure.message.as_bytes()));
        }
    }
}

/// Forks. Must be called while the process has one thread: only that one would live on in the child.
///
/// Errors: no process or no pipe to be had.
pub fn fork() -> std::io::Result<Side> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: the caller promises that there is one thread, so the child is a whole copy of the process.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()),
        0 => {
            drop(read);
            // Who interrupts the waiting parent does not want the mount any more.
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            Ok(Side::Child(Ready { pipe: Some(File::from(write)), inherited: inherited() }))
        }
        _ => {
            drop(write);
            Ok(Side::Parent(outcome(read)))
        }
    }
}

/// The descriptors beyond the standard streams that this program was started with.
fn inherited() -> Vec<RawFd> {
    let all = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|number| *number > 2 && is_inherited(*number)).collect()
}

/// Whether nobody in this process owns a descriptor: all that we open, or take over as `/dev/fd/N`, is closed on exec, so
/// that what is not has come with the exec of this program.
fn is_inherited(number: RawFd) -> bool {
    // SAFETY: only asks for a flag; a number that is not open is an error.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

fn close(number: RawFd) {
    // SAFETY: nobody in this process owns it, see `is_inherited`.
    unsafe { libc::close(number) };
}

/// Reads the child's word. The child has deadlines for all that it does before it speaks.
fn outcome(pipe: OwnedFd) -> Result<(), Failure> {
    let mut said = Vec::new();
    let read = File::from(pipe).read_to_end(&mut said);
    match (read, said.split_first()) {
        (Ok(_), Some((0, _))) => Ok(()),
        (Ok(_), Some((code, message))) => {
            Err(Failure::new(Code::from_u8(*code), String::from_utf8_lossy(message).into_owned()))
        }
        _ => Err(Failure::new(Code::Failed, "the serving process ended before the mount was usable: try --foreground")),
    }
}
