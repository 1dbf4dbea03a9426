//! Mounts with mount(2), for kernels before 5.12 and for filters that forbid the newer calls.
//!
//! mount(2) knows no unseen mounts, so that the first phase works in a staging place: a small tmpfs on a directory
//! below /run that only root may enter, with no propagation to other namespaces. In it the file system is mounted at
//! `rw`, and bound to `ro`, read-only. To attach is then a single bind of `ro` to the target, read-only from its first
//! moment, since a bind copies the flags of its source. At last the staging place goes; a descriptor of `rw` stays as
//! the door of the publisher, and keeps that mount alive without any place in the tree.
//!
//! Nothing is left when a step fails. A process that is killed between the phases leaves its staging place, with a dead
//! mount that root alone can enter; [`sweep`] takes it away, and every later mount by this way calls it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_remount, unmount,
};

use super::identity::{Identity, identify};
use super::probe::Health;
use super::table::{Entry, Table};
use super::target::{self, Target, proc_path};
use super::{MountError, Request, device, table, unmount as unmounting};

const PREFIX: &str = "secretfs-staging-";
/// The source of the tmpfs, by which [`sweep`] knows it.
const SOURCE: &str = "secretfs-staging";

/// A file system mounted in its staging place only. Dropping it ends the file system.
#[derive(Debug)]
pub(super) struct Stage {
    staging: Staging,
    door: OwnedFd,
    target: Target,
}

/// Connects a /dev/fuse and mounts it in a staging place.
///
/// # Errors
/// [`MountError::FuseMissing`], [`MountError::FuseDenied`] or [`MountError::Refused`].
pub(super) fn prepare(request: &Request, target: Target) -> Result<(OwnedFd, Stage), MountError> {
    // Somebody else's leftovers are no reason not to mount.
    let _ = sweep();
    let fuse = device::open()?;
    let staging = Staging::make().map_err(|cause| MountError::refused("mount(tmpfs)", &target.path, cause))?;
    let refused = |call| move |errno: rustix::io::Errno| (call, io::Error::from(errno));
    let mounted = || -> Result<OwnedFd, (&'static str, io::Error)> {
        let data = CString::new(options(request, &fuse)).map_err(|error| ("mount", error.into()))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount(request.shown_source(), staging.rw(), table::FS_TYPE, flags, data.as_c_str())
            .map_err(refused("mount"))?;
        mount_bind(staging.rw(), staging.ro()).map_err(refused("mount(MS_BIND)"))?;
        mount_remount(staging.ro(), flags | MountFlags::BIND | MountFlags::RDONLY, "")
            .map_err(refused("mount(MS_REMOUNT)"))?;
        rustix::fs::open(staging.rw(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(refused("open"))
    };
    let door = mounted().map_err(|(call, cause)| MountError::refused(call, &target.path, cause))?;
    Ok((fuse, Stage { staging, door, target }))
}

fn options(request: &Request, fuse: &OwnedFd) -> String {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut options = format!("fd={},rootmode=40000,user_id={uid},group_id={gid}", fuse.as_raw_fd());
    for flag in request.flags() {
        options.push(',');
        options.push_str(flag);
    }
    options
}

impl Stage {
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.door.as_fd()
    }

    pub(super) fn path(&self) -> &Path {
        &self.target.path
    }

    /// Shows the mount at the target and takes the staging place away.
    ///
    /// # Errors
    /// [`MountError::Refused`], or [`MountError::NotMounted`] when somebody unmounted it at once; nothing is left
    /// mounted then.
    pub(super) fn attach(self) -> Result<(OwnedFd, Identity), MountError> {
        let Stage { staging, door, target } = self;
        let device = identify(&door).map_err(|cause| MountError::refused("statx", &target.path, cause))?.device;
        mount_bind(staging.ro(), proc_path(target.fd.as_fd()))
            .map_err(|errno| MountError::refused("mount(MS_BIND)", &target.path, errno))?;
        // mount(2) does not say which mount it made. Below a shared mount it made several, of which the one asked for
        // counts; if the directory was renamed meanwhile, it is the one outside of the staging place.
        let table = Table::read()?;
        let entry = table
            .of_device(device)
            .find(|entry| entry.mount_point == target.path)
            .or_else(|| table.of_device(device).find(|entry| !entry.mount_point.starts_with(&staging.base)))
            .ok_or_else(|| MountError::NotMounted { path: target.path.clone() })?;
        let seen = target::open(&entry.mount_point).and_then(|target| target.identity()).ok();
        let identity = seen.filter(|seen| seen.mount_id == entry.id).unwrap_or(Identity::of_entry(entry));
        Ok((door, identity))
    }
}

/// The place in which everything is made ready; dropping it unmounts what is in it and removes it.
#[derive(Debug)]
struct Staging {
    base: PathBuf,
}

impl Staging {
    fn make() -> io::Result<Self> {
        let base = make_directory(Path::new("/run")).or_else(|_| make_directory(&std::env::temp_dir()))?;
        // From here on dropping it cleans up.
        let staging = Staging { base };
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount(SOURCE, &staging.base, "tmpfs", flags, c"mode=0700,size=16k")?;
        mount_change(&staging.base, MountPropagationFlags::PRIVATE)?;
        std::fs::create_dir(staging.rw())?;
        std::fs::create_dir(staging.ro())?;
        Ok(staging)
    }

    fn rw(&self) -> PathBuf {
        self.base.join("rw")
    }

    fn ro(&self) -> PathBuf {
        self.base.join("ro")
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Each of them may be missing when making it failed half-way. The door keeps `rw` busy, hence lazily.
        let _ = unmount(self.ro(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        let _ = unmount(self.rw(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        let _ = unmount(&self.base, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        let _ = std::fs::remove_dir(&self.base);
    }
}

/// Makes a directory of mode 0700 that did not exist, so that nobody can have prepared it for us.
fn make_directory(parent: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    for _ in 0..100 {
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        match std::fs::DirBuilder::new().mode(0o700).create(parent.join(&name)) {
            Ok(()) => return Ok(parent.join(name)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Takes away the staging places of processes that were killed between the two phases; answers how many there were.
/// Those of living processes stay: a place is left over when the file system in it is dead, or when there is none yet
/// and its process is gone.
///
/// # Errors
/// [`MountError::Table`]. What cannot be removed is left where it is.
pub fn sweep() -> Result<usize, MountError> {
    let table = Table::read()?;
    let mut swept = 0;
    for place in table.entries().iter().filter(|entry| entry.fs_type == "tmpfs" && entry.source == SOURCE) {
        if is_left_over(place, &table) {
            drop(Staging { base: place.mount_point.clone() });
            swept += 1;
        }
    }
    Ok(swept)
}

fn is_left_over(place: &Entry, table: &Table) -> bool {
    let mut within = table.ours().filter(|entry| entry.parent == place.id).peekable();
    if within.peek().is_none() {
        return !has_process(&place.mount_point);
    }
    within.all(|entry| matches!(unmounting::health_of(entry), Ok(Health::Dead)))
}

/// Whether the process that the name of a staging place tells is there. In another pid namespace this may say no; that
/// matters only while that process is between two system calls.
fn has_process(base: &Path) -> bool {
    let pid =
        base.file_name().and_then(|name| name.to_str()?.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
    pid.is_some_and(|pid| Path::new("/proc").join(pid.to_string()).exists())
}
