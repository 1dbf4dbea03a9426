//! Which mount a descriptor is in: the device and mount id that tell our mount from everybody else's.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{AtFlags, Statx, StatxFlags};

use super::table::Entry;

/// `st_dev` of a file system, as mountinfo prints it. A FUSE mount has major 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    pub major: u32,
    pub minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// Tells one mount from all others that live at the same time.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub device: Device,
    /// The first field of mountinfo. The kernel gives it out again after an unmount.
    pub mount_id: u64,
    /// Never given out again; `None` before Linux 6.8 (`STATX_MNT_ID_UNIQUE`).
    unique: Option<u64>,
}

impl Identity {
    pub(super) fn of_entry(entry: &Entry) -> Self {
        Identity { device: entry.device, mount_id: entry.id, unique: None }
    }

    /// Whether both are the same mount, as far as this kernel can tell.
    pub fn is(&self, other: &Identity) -> bool {
        let unique = match (self.unique, other.unique) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => true,
        };
        unique && self.device == other.device && self.mount_id == other.mount_id
    }
}

/// Says in which mount the object behind `fd` is. Never asks the file system, so that it cannot hang on a FUSE mount
/// whose process hangs, and works on a FUSE mount that this user may not enter: with an empty mask `fuse_getattr`
/// (fs/fuse/dir.c) answers from memory and without a check, and the VFS adds device and mount id by itself.
///
/// # Errors
/// What statx(2) or the reading of /proc/self/fdinfo gives.
pub fn identify(fd: impl AsFd) -> io::Result<Identity> {
    let known = silent_statx(&fd, StatxFlags::empty())?;
    let mount_id =
        if known.stx_mask & StatxFlags::MNT_ID.bits() != 0 { known.stx_mnt_id } else { mount_id_before_5_8(&fd)? };
    let unique = silent_statx(&fd, StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE))
        .ok()
        .filter(|answer| answer.stx_mask & STATX_MNT_ID_UNIQUE != 0)
        .map(|answer| answer.stx_mnt_id);
    Ok(Identity { device: Device { major: known.stx_dev_major, minor: known.stx_dev_minor }, mount_id, unique })
}

/// include/uapi/linux/stat.h, Linux 6.8.
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

/// statx(2) of `fd` itself that neither asks a remote file system nor sets off an automount.
pub(super) fn silent_statx(fd: impl AsFd, mask: StatxFlags) -> io::Result<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    Ok(rustix::fs::statx(fd, "", flags, mask)?)
}

fn mount_id_before_5_8(fd: impl AsFd) -> io::Result<u64> {
    fdinfo_value(fd, "mnt_id")?.ok_or_else(|| io::Error::other("no mnt_id in /proc/self/fdinfo"))
}

/// One numeric line of /proc/self/fdinfo/N, such as `mnt_id` or `fuse_connection` (proc_pid_fdinfo(5)).
pub(super) fn fdinfo_value(fd: impl AsFd, key: &str) -> io::Result<Option<u64>> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()))?;
    Ok(text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statx_and_fdinfo_name_the_same_mount() {
        let root = std::fs::File::open("/").unwrap();
        let identity = identify(&root).unwrap();
        assert_eq!(identity.mount_id, mount_id_before_5_8(&root).unwrap());
    }

    #[test]
    fn two_descriptors_of_one_mount_have_one_identity() {
        let proc = std::fs::File::open("/proc").unwrap();
        let self_ = std::fs::File::open("/proc/self/status").unwrap();
        let root = std::fs::File::open("/").unwrap();
        assert!(identify(&proc).unwrap().is(&identify(&self_).unwrap()));
        assert!(!identify(&proc).unwrap().is(&identify(&root).unwrap()));
    }
}
