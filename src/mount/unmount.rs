//! Takes mounts away: by command, at the end of the daemon, and after the death of one.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::fusermount::{self, UnmountHow};
use super::probe::Health;
use super::table::{Entry, Table};
use super::target::{self, Target, proc_path};
use super::{MountError, Place};

/// For `secretfs umount DIR`: unmounts the mount of secretfs at `dir`, dead or alive.
///
/// A daemon's publisher may be in its own mount for a moment, so that EBUSY is tried again for a while.
///
/// # Errors
/// [`MountError::NotMounted`], [`MountError::NotOurs`], [`MountError::Busy`] with who is in it,
/// [`MountError::NotPermitted`].
pub fn unmount(dir: &Path) -> Result<(), MountError> {
    const PATIENCE: Duration = Duration::from_millis(200);
    const PAUSE: Duration = Duration::from_millis(20);
    let path = own_mount(dir)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match by_path(&path, UnmountHow::IfUnused) {
            Err(MountError::Busy { .. }) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(MountError::Busy { path, .. }) => return Err(MountError::Busy { users: users_of(&path), path }),
            result => return result,
        }
    }
}

/// For `secretfs umount --lazy DIR`: the mount goes out of sight now, and ends with its last user.
///
/// # Errors
/// As [`unmount`], but never busy.
pub fn unmount_lazy(dir: &Path) -> Result<(), MountError> {
    by_path(&own_mount(dir)?, UnmountHow::Lazily)
}

/// All mounts of secretfs in this namespace whose process is gone. Those of other users can be judged by root only.
/// They are asked one after the other, and each that hangs takes a few seconds.
///
/// # Errors
/// [`MountError::Table`].
pub fn stale_mounts() -> Result<Vec<Entry>, MountError> {
    let table = Table::read()?;
    Ok(table.ours().filter(|entry| matches!(health_of(entry), Ok(Health::Dead))).cloned().collect())
}

/// Whether the process behind a FUSE mount lives; takes a few seconds when it hangs. A mount that is covered by another
/// one is [`Health::Unknown`].
///
/// # Errors
/// [`MountError::Unreachable`].
pub fn health_of(entry: &Entry) -> Result<Health, MountError> {
    let target = target::open(&entry.mount_point)?;
    if target.identity()?.mount_id != entry.id {
        return Ok(Health::Unknown);
    }
    target.health(entry)
}

/// Detaches exactly this mount, wherever it is now. Not there any more is success.
pub(super) fn detach_exactly(place: &Place) -> Result<(), MountError> {
    let (table, identity) = (Table::read()?, &place.identity);
    // After ours has gone, another file system may get its device, and another mount its id.
    let ours = |entry: &&Entry| entry.device == identity.device && entry.is_ours();
    let Some(entry) = table.by_id(identity.mount_id).filter(ours) else { return Ok(()) };
    let found = target::open(&entry.mount_point).and_then(|target| Ok((target.identity()?, target)));
    match found {
        Ok((found, target)) if found.is(identity) => detach(target),
        // Newer than ours, with the id of ours.
        Ok((found, _)) if found.mount_id == identity.mount_id => Ok(()),
        Ok((_, target)) => Err(MountError::Covered { path: target.path }),
        // A mount that this user cannot even reach, elsewhere than ours was, is the mount of somebody else with the id
        // of ours.
        Err(_) if entry.mount_point != place.path => Ok(()),
        Err(error) => Err(error),
    }
}

/// Detaches the mount whose root the target is, lazily.
pub(super) fn detach(target: Target) -> Result<(), MountError> {
    // Through the descriptor it is this mount and no other, even if one is put over it now (the kernel takes the mount
    // from the descriptor's path). UMOUNT_NOFOLLOW would refuse the link in /proc.
    match rustix::mount::unmount(proc_path(target.fd.as_fd()), UnmountFlags::DETACH) {
        Ok(()) => Ok(()),
        // The helper works by path, and can hit nothing but a FUSE mount of this user.
        Err(Errno::PERM) => {
            let Target { fd, path } = target;
            drop(fd);
            fusermount::unmount(&path, UnmountHow::Lazily)
        }
        Err(errno) => Err(MountError::refused("umount2", &target.path, errno)),
    }
}

/// The real path of a directory that is a mount of secretfs.
fn own_mount(dir: &Path) -> Result<PathBuf, MountError> {
    let target = target::open(dir)?;
    match target.mount()? {
        Some(entry) if entry.is_ours() => Ok(target.path),
        Some(entry) => Err(MountError::NotOurs { path: target.path, fs_type: entry.fs_type }),
        None => Err(MountError::NotMounted { path: target.path }),
    }
}

/// Nothing of this process may be open in the mount, or it would be its own reason for EBUSY.
fn by_path(path: &Path, how: UnmountHow) -> Result<(), MountError> {
    let flags = match how {
        UnmountHow::IfUnused => UnmountFlags::NOFOLLOW,
        UnmountHow::Lazily => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    match rustix::mount::unmount(path, flags) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => fusermount::unmount(path, how),
        Err(Errno::BUSY) => Err(MountError::Busy { path: path.to_owned(), users: String::new() }),
        // Unmounted by somebody else since we looked.
        Err(Errno::INVAL) => Err(MountError::NotMounted { path: path.to_owned() }),
        Err(errno) => Err(MountError::refused("umount2", path, errno)),
    }
}

/// Names what keeps a mount busy, as far as this user may see: mounts on it, and the first few processes with a working
/// directory, root or open file in it. Reading the links in /proc asks nothing of the file system.
fn users_of(path: &Path) -> String {
    const ENOUGH: usize = 5;
    let mut users = Vec::new();
    if let Ok(table) = Table::read() {
        let inner =
            table.entries().iter().filter(|entry| entry.mount_point != path && entry.mount_point.starts_with(path));
        users.extend(inner.take(ENOUGH).map(|entry| format!("a mount at {:?}", entry.mount_point)));
    }
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        if users.len() >= ENOUGH {
            users.push("others".to_owned());
            break;
        }
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if uses(&process.path(), path) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let name: String = name.trim().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            users.push(format!("process {pid} {name}"));
        }
    }
    if users.is_empty() { String::new() } else { format!("by {}", users.join(", ")) }
}

fn uses(process: &Path, path: &Path) -> bool {
    let is_within = |link: PathBuf| std::fs::read_link(link).is_ok_and(|open| open.starts_with(path));
    if ["cwd", "root", "exe"].iter().any(|link| is_within(process.join(link))) {
        return true;
    }
    let open_files = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    open_files.into_iter().any(|file| is_within(file.path())) || maps_a_file_below(process, path)
}

fn maps_a_file_below(process: &Path, path: &Path) -> bool {
    let Ok(maps) = std::fs::read(process.join("maps")) else { return false };
    maps.split(|&byte| byte == b'\n').any(|line| {
        let mapped = line.iter().position(|&byte| byte == b'/').map(|start| &line[start..]);
        mapped.is_some_and(|mapped| Path::new(std::ffi::OsStr::from_bytes(mapped)).starts_with(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_left_alone() {
        assert!(matches!(unmount(Path::new("/proc")), Err(MountError::NotOurs { fs_type, .. }) if fs_type == "proc"));
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(unmount(dir.path()), Err(MountError::NotMounted { .. })));
        assert!(matches!(unmount_lazy(&dir.path().join("x")), Err(MountError::Missing { .. })));
    }

    #[test]
    fn the_user_of_a_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        assert_eq!(users_of(&path), "");
        let _open = std::fs::File::create(path.join("held")).unwrap();
        assert!(users_of(&path).contains(&format!("process {}", std::process::id())));
    }
}
