//! The system call mount_setattr(2), which rustix does not have.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// `struct mount_attr` of include/uapi/linux/mount.h; libc has it for some targets only.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 1;

/// Whether this kernel (5.12 and later) and the seccomp filter of this process have the call.
pub(super) fn is_supported() -> bool {
    // No kernel accepts a size of 0, so that this never changes anything.
    let probe = mount_setattr(None, c"", 0, &MountAttr::default(), 0);
    !matches!(probe.map_err(|error| error.raw_os_error()), Err(Some(libc::ENOSYS | libc::EPERM)))
}

/// Makes the mount of which `root` is the root writable, and no member of a propagation group.
///
/// # Errors
/// As mount_setattr(2).
pub(super) fn make_writable_and_private(root: BorrowedFd<'_>) -> io::Result<()> {
    let attr = MountAttr { attr_clr: MOUNT_ATTR_RDONLY, propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    mount_setattr(Some(root), c"", libc::AT_EMPTY_PATH, &attr, size_of::<MountAttr>())
}

fn mount_setattr(
    dir: Option<BorrowedFd<'_>>,
    path: &CStr,
    flags: c_int,
    attr: &MountAttr,
    size: usize,
) -> io::Result<()> {
    assert!(size <= size_of::<MountAttr>());
    let dir = dir.as_ref().map_or(-1, |dir| dir.as_fd().as_raw_fd());
    // SAFETY: `path` is a NUL-terminated string and `attr` points to at least `size` initialised bytes; the kernel
    // reads both before the call returns and writes to neither. A descriptor that is not open gives EBADF.
    let result =
        unsafe { libc::syscall(libc::SYS_mount_setattr, dir, path.as_ptr(), flags, attr as *const MountAttr, size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_of_the_tests_has_it() {
        assert!(super::is_supported());
    }
}
