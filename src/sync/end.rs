//! Ends the process that keeps a directory, or does what it can no longer do.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::SyncError;
use super::place::{Place, Rules, lock, open_root, warn_of_foreign};
use super::record::Record;

/// How long the process may take to remove what it has written.
const PATIENCE: Duration = Duration::from_secs(20);

/// Has what a sync wrote into `path` removed: by its process, or if that is dead, by this one.
///
/// # Errors
/// [`SyncError::NotOurs`] if no sync has kept the directory; those of [`super::Mirror::open`].
pub fn end(path: &Path) -> Result<(), SyncError> {
    let unreachable = |cause: std::io::Error| SyncError::Unreachable { path: path.to_owned(), cause };
    let fd = open_root(path)?;
    let stat = rustix::fs::fstat(&fd).map_err(|error| unreachable(error.into()))?;
    let Some(record) = Record::read(fd.as_fd()).map_err(unreachable)? else {
        return Err(SyncError::NotOurs { path: path.to_owned() });
    };
    if lock(&fd, path).is_ok() {
        drop(fd);
        let mut place = Place::open(path, Rules { on_disk: true, owner: stat.st_uid })?;
        warn_of_foreign(&place.clean().map_err(unreachable)?);
        return Ok(());
    }
    // The lock is held, so the process that wrote its number lives. It runs as this user: the record is this user's.
    let pid = Pid::from_raw(record.pid as i32).ok_or_else(|| unreachable(std::io::ErrorKind::InvalidData.into()))?;
    let signal = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .and_then(|process| rustix::process::pidfd_send_signal(&process, Signal::TERM))
        .or_else(|error| match error {
            rustix::io::Errno::NOSYS => rustix::process::kill_process(pid, Signal::TERM),
            error => Err(error),
        });
    signal.map_err(|error| unreachable(error.into()))?;
    let until = Instant::now() + PATIENCE;
    while lock(&fd, path).is_err() {
        if Instant::now() > until {
            return Err(SyncError::DoesNotEnd { path: path.to_owned() });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
