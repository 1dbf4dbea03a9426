//! Takes over a connection that somebody else has mounted and left to this process as descriptor N: mount.fuse3 with
//! `drop_privileges`, a CSI driver, a small root helper.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::io::FdFlags;

use super::identity::{Device, Identity, fdinfo_value};
use super::table::{Entry, Table};
use super::{Announce, MountError, Place, device, target};

/// Where the connection is mounted, as far as it can be seen from this namespace.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) place: Place,
    is_writable: bool,
}

impl Found {
    /// A read-only mount is no way in for the publisher.
    pub(super) fn announce(&self) -> Announce {
        if self.is_writable { Announce::Path(self.place.path.clone()) } else { Announce::Nowhere }
    }
}

/// The number in `/dev/fd/N` or `/proc/self/fd/N`.
pub(super) fn descriptor(target: &Path) -> Option<RawFd> {
    let target = target.to_str()?;
    let number = target.strip_prefix("/dev/fd/").or_else(|| target.strip_prefix("/proc/self/fd/"))?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())?
}

/// Checks descriptor N and takes it over; no child process will inherit it from here on.
///
/// # Errors
/// [`MountError::BadDescriptor`] with the reason.
pub(super) fn prepare(target: &Path) -> Result<(OwnedFd, Option<Found>), MountError> {
    let bad = |why: String| MountError::BadDescriptor { path: target.to_owned(), why };
    let number = descriptor(target).ok_or_else(|| bad("the path has another form".to_owned()))?;
    inspect(number).map_err(bad)?;
    // SAFETY: The descriptor is open, as `inspect` has seen. It has no other owner in this process: it survived the
    // exec of this program without the close-on-exec flag, which everything that this program opens has, and which is
    // set below, so that it cannot be taken twice.
    let fuse = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fuse, FdFlags::CLOEXEC).map_err(|errno| bad(errno.to_string()))?;
    let found = find(&fuse);
    Ok((fuse, found))
}

/// Says what is wrong with descriptor `number`, using only /proc, since it is not ours yet.
fn inspect(number: RawFd) -> Result<(), String> {
    const CLOEXEC: u32 = rustix::fs::OFlags::CLOEXEC.bits();
    const ACCESS: u32 = rustix::fs::OFlags::RWMODE.bits();
    const READ_WRITE: u32 = rustix::fs::OFlags::RDWR.bits();

    if number <= 2 {
        return Err("it is a standard stream".to_owned());
    }
    let file = std::fs::metadata(format!("/proc/self/fd/{number}")).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "no such descriptor is open".to_owned(),
        _ => error.to_string(),
    })?;
    if !file.file_type().is_char_device() || !device::is_fuse(file.rdev()) {
        return Err("it is another file than /dev/fuse".to_owned());
    }
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).map_err(|error| error.to_string())?;
    let flags = info.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    match flags {
        None => Err("/proc does not tell its flags".to_owned()),
        Some(flags) if flags & CLOEXEC != 0 => Err("it was not passed in but is in use by this program".to_owned()),
        Some(flags) if flags & ACCESS != READ_WRITE => Err("it is not open for reading and writing".to_owned()),
        Some(_) => Ok(()),
    }
}

/// Finds the mount of a connection. `fuse_connection` in fdinfo is the device number of its file system
/// (`fuse_dev_show_fdinfo`, fs/fuse/dev.c); where the kernel is too old to tell, or the mount is in another namespace,
/// there is nothing to find.
fn find(fuse: &OwnedFd) -> Option<Found> {
    let connection = fdinfo_value(fuse.as_fd(), "fuse_connection").ok()??;
    let device = Device { major: 0, minor: u32::try_from(connection).ok()? };
    let table = Table::read().ok()?;
    let whole = || table.of_device(device).filter(|entry| entry.root == Path::new("/"));
    // Of several, one that the publisher can use.
    let entry = whole().find(|entry| !entry.is_read_only()).or_else(|| whole().next())?;
    Some(Found { place: place(entry), is_writable: !entry.is_read_only() })
}

fn place(entry: &Entry) -> Place {
    let seen = target::open(&entry.mount_point).and_then(|target| target.identity()).ok();
    let identity = seen.filter(|seen| seen.mount_id == entry.id).unwrap_or(Identity::of_entry(entry));
    Place { path: entry.mount_point.clone(), identity }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn only_descriptor_paths_are_descriptors() {
        assert_eq!(descriptor(Path::new("/dev/fd/7")), Some(7));
        assert_eq!(descriptor(Path::new("/proc/self/fd/12")), Some(12));
        for other in
            ["/dev/fd/", "/dev/fd/-1", "/dev/fd/+1", "/dev/fd/1x", "/dev/fd/1/2", "/dev/fdx", "/dev/fd/99999999999"]
        {
            assert_eq!(descriptor(Path::new(other)), None, "{other}");
        }
    }

    fn why(number: RawFd) -> String {
        match prepare(Path::new(&format!("/dev/fd/{number}"))).unwrap_err() {
            MountError::BadDescriptor { why, .. } => why,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn everything_but_a_passed_dev_fuse_is_refused_with_the_reason() {
        assert!(why(1).contains("standard stream"));
        assert!(why(1_000_000).contains("no such"));
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(why(null.as_raw_fd()).contains("another file"));
        if let Ok(own) = super::super::device::open() {
            assert!(why(own.as_raw_fd()).contains("in use"));
        }
    }
}
