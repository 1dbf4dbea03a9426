//! Waits until the last mount of one file system has left this mount namespace.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{EventfdFlags, PollFd, PollFlags};

use super::MountError;
use super::identity::Device;
use super::table::{MOUNTINFO, Table};

/// Why [`Watch::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// No mount of the device is left in this namespace.
    Unmounted,
    /// Somebody called [`Waker::wake`].
    Woken,
}

/// A wait for the end of our public mounts. Needed where the publisher holds a private mount: that pins the superblock,
/// so that the session gets no ENODEV after a plain `umount`, and the daemon would live on unseen.
///
/// It sleeps in poll(2) on mountinfo, which the kernel ends at each change of the mount table and at nothing else
/// (`mounts_poll`, fs/proc_namespace.c): no wake-up while nobody mounts or unmounts. Mounts in *other* namespaces, such
/// as a bind mount in a container, are not seen; they keep the file system alive by themselves.
#[derive(Debug)]
pub struct Watch {
    device: Device,
    mountinfo: File,
    wake: Arc<OwnedFd>,
    wake_ups: AtomicU64,
}

/// Ends the wait from another thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Makes the current or next [`Watch::wait`] return [`Seen::Woken`], and all later ones too.
    pub fn wake(&self) {
        // It can fail only when the counter is full, and then it is awake already.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

impl Watch {
    /// Watches the mounts of `device` in the namespace that this process is in now.
    ///
    /// # Errors
    /// [`MountError::Table`] when /proc is missing or descriptors run out.
    pub fn new(device: Device) -> Result<Self, MountError> {
        let open = || -> io::Result<Self> {
            let mountinfo = File::open(MOUNTINFO)?;
            let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            Ok(Watch { device, mountinfo, wake: Arc::new(wake), wake_ups: AtomicU64::new(0) })
        };
        open().map_err(table_error)
    }

    pub fn waker(&self) -> Waker {
        Waker(self.wake.clone())
    }

    /// How often the wait was interrupted by a change of the mount table, wanted or not.
    pub fn wake_ups(&self) -> u64 {
        self.wake_ups.load(Ordering::Relaxed)
    }

    /// Blocks until no mount of the device is left, which may be at once, or until woken.
    ///
    /// # Errors
    /// [`MountError::Table`] when the table cannot be read any more.
    pub fn wait(&mut self) -> Result<Seen, MountError> {
        self.wait_until_gone().map_err(table_error)
    }

    fn wait_until_gone(&mut self) -> io::Result<Seen> {
        loop {
            // Reading comes first: a change between reading and poll is remembered in the open file and ends the poll.
            if Table::read_from(&mut self.mountinfo)?.of_device(self.device).next().is_none() {
                return Ok(Seen::Unmounted);
            }
            let mut fds = [PollFd::new(&self.mountinfo, PollFlags::PRI), PollFd::new(&*self.wake, PollFlags::IN)];
            match rustix::event::poll(&mut fds, None) {
                Ok(_) if fds[1].revents().contains(PollFlags::IN) => return Ok(Seen::Woken),
                Ok(_) => self.wake_ups.fetch_add(1, Ordering::Relaxed),
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
        }
    }
}

fn table_error(cause: io::Error) -> MountError {
    MountError::Table { path: MOUNTINFO, cause }
}
