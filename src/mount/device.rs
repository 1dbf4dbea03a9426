//! Opens /dev/fuse, and says what to do when it cannot be opened.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::MountError;

/// Opens a new, unconnected /dev/fuse.
///
/// # Errors
/// [`MountError::FuseMissing`] or [`MountError::FuseDenied`].
pub(super) fn open() -> Result<OwnedFd, MountError> {
    let fd = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(explain)?;
    // A container that is to have no FUSE may find something else there: it would fail later, and less clearly.
    if !is_fuse(rustix::fs::fstat(&fd).map_err(explain)?.st_rdev) {
        return Err(MountError::FuseMissing { cause: io::Error::other("another file lies at /dev/fuse") });
    }
    above_stdio(fd).map_err(explain)
}

/// Whether this is the device number of /dev/fuse (`FUSE_MINOR` in include/linux/miscdevice.h).
pub(super) fn is_fuse(device: rustix::fs::Dev) -> bool {
    (rustix::fs::major(device), rustix::fs::minor(device)) == (10, 229)
}

/// With closed standard streams the descriptor would become one of them, and a message printed later would go to the
/// kernel as a FUSE reply.
pub(super) fn above_stdio(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { rustix::io::fcntl_dupfd_cloexec(&fd, 3) }
}

/// Also for fsopen(2), which fails with ENODEV when the kernel has no FUSE.
pub(super) fn explain(errno: Errno) -> MountError {
    let cause = io::Error::from(errno);
    match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => MountError::FuseMissing { cause },
        _ => MountError::FuseDenied { cause },
    }
}
