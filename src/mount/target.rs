//! Looks at a mount point before anything is mounted there, and refuses what would go wrong later.
//!
//! The last component is never entered until it is known to be no mount of somebody else, so that a mount whose process
//! hangs cannot hang us. A path that leads *through* such a mount can.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, Dir, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::MountError;
use super::identity::{Identity, identify, silent_statx};
use super::probe::{self, Health};
use super::table::{Entry, Table};
use super::unmount;

/// A mount point that passed all checks, held by descriptor: whoever renames a directory of the path in between does
/// not move the mount.
#[derive(Debug)]
pub struct Target {
    pub(super) fd: OwnedFd,
    /// Absolute, without symbolic links.
    pub(super) path: PathBuf,
}

/// What a mount point must satisfy beyond being a usable directory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Whether files below may be hidden by the mount.
    pub allow_nonempty: bool,
    /// Whether the setuid helper will mount, which wants a directory that the user can write to.
    pub as_ordinary_user: bool,
}

/// Checks `path`; the order is from the outside to the inside, so that the message names the first thing to mend.
///
/// # Errors
/// One variant for each check: [`MountError::Missing`], [`MountError::SystemDirectory`],
/// [`MountError::AlreadyMounted`], [`MountError::Dead`], [`MountError::Hangs`], [`MountError::OtherMount`],
/// [`MountError::NotADirectory`], [`MountError::NotWritable`], [`MountError::NotOwner`], [`MountError::NotEmpty`]; else
/// [`MountError::Unreachable`].
pub fn check(path: &Path, rules: Rules) -> Result<Target, MountError> {
    let target = open(path)?;
    if is_system_directory(&target.path) {
        return Err(MountError::SystemDirectory { path: target.path });
    }
    let covered_by = target.mount()?;
    if let Some(entry) = &covered_by {
        refuse_mount(&target, entry)?;
    }
    if FileType::from_raw_mode(target.stat(StatxFlags::TYPE)?.stx_mode.into()) != FileType::Directory {
        return Err(MountError::NotADirectory { path: target.path });
    }
    if rules.as_ordinary_user {
        require_permission(&target)?;
    }
    // What is left here as a mount is autofs: to look into it would set it off, and wait for the very mount that we
    // make.
    if covered_by.is_none() && !rules.allow_nonempty && !is_empty(&target)? {
        return Err(MountError::NotEmpty { path: target.path });
    }
    Ok(target)
}

/// Takes a dead mount of secretfs away, so that the directory can be used again; leaves everything else alone. What is
/// still open in it stays readable to those who have it open.
///
/// # Errors
/// [`MountError::NotMounted`], [`MountError::NotOurs`], [`MountError::NotDead`], [`MountError::Hangs`],
/// [`MountError::NotPermitted`].
pub fn clear_dead(path: &Path) -> Result<(), MountError> {
    let target = open(path)?;
    let Some(entry) = target.mount()? else { return Err(MountError::NotMounted { path: target.path }) };
    if !entry.is_ours() {
        return Err(MountError::NotOurs { path: target.path, fs_type: entry.fs_type });
    }
    match target.health(&entry)? {
        Health::Dead => unmount::detach(target),
        Health::Silent => Err(MountError::Hangs { path: target.path, fs_type: entry.fs_type }),
        Health::Alive | Health::Unknown => Err(MountError::NotDead { path: target.path }),
    }
}

/// Opens `path` without entering it: O_PATH sends a FUSE file system no request, and without O_DIRECTORY it sets off no
/// automount (`open_flags` in fs/open.c, `follow_automount` in fs/namei.c).
pub(super) fn open(path: &Path) -> Result<Target, MountError> {
    let unreachable = |cause: io::Error| MountError::Unreachable { path: path.to_owned(), cause };
    let fd = match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Err(MountError::Missing { path: path.to_owned() }),
        Err(errno) => return Err(unreachable(errno.into())),
    };
    let path = std::fs::read_link(proc_path(fd.as_fd())).map_err(unreachable)?;
    Ok(Target { fd, path })
}

/// A path that leads to exactly the object behind `fd`, whatever has been mounted or renamed since (proc_pid_fd(5)).
pub(super) fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

impl Target {
    pub(super) fn identity(&self) -> Result<Identity, MountError> {
        identify(&self.fd).map_err(|cause| self.unreachable(cause))
    }

    /// The mount of which this path is the mount point, if it is one.
    pub(super) fn mount(&self) -> Result<Option<Entry>, MountError> {
        let mount_id = self.identity()?.mount_id;
        Ok(Table::read()?.by_id(mount_id).filter(|entry| entry.mount_point == self.path).cloned())
    }

    /// Whether the process behind the FUSE mount `entry`, which is mounted here, lives.
    pub(super) fn health(&self, entry: &Entry) -> Result<Health, MountError> {
        probe::ask(self.fd.as_fd(), entry, probe::PATIENCE).map_err(|cause| self.unreachable(cause))
    }

    fn stat(&self, mask: StatxFlags) -> Result<rustix::fs::Statx, MountError> {
        silent_statx(&self.fd, mask).map_err(|cause| self.unreachable(cause))
    }

    fn unreachable(&self, cause: io::Error) -> MountError {
        MountError::Unreachable { path: self.path.clone(), cause }
    }
}

fn refuse_mount(target: &Target, entry: &Entry) -> Result<(), MountError> {
    let (path, fs_type) = (target.path.clone(), entry.fs_type.clone());
    // An autofs mount point is there to be mounted on: systemd's x-systemd.automount, autofs(5).
    if fs_type == "autofs" {
        return Ok(());
    }
    if !is_fuse(&fs_type) {
        return Err(MountError::OtherMount { path, fs_type });
    }
    Err(match target.health(entry)? {
        Health::Dead => MountError::Dead { path, fs_type },
        Health::Silent => MountError::Hangs { path, fs_type },
        Health::Alive | Health::Unknown if entry.is_ours() => MountError::AlreadyMounted { path },
        Health::Alive | Health::Unknown => MountError::OtherMount { path, fs_type },
    })
}

fn is_fuse(fs_type: &str) -> bool {
    matches!(fs_type, "fuse" | "fuseblk") || fs_type.starts_with("fuse.")
}

/// What fusermount demands of an ordinary user (`check_perm` in libfuse util/fusermount.c), said before it runs.
fn require_permission(target: &Target) -> Result<(), MountError> {
    if rustix::fs::access(proc_path(target.fd.as_fd()), Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Err(MountError::NotWritable { path: target.path.clone() });
    }
    let stat = target.stat(StatxFlags::MODE | StatxFlags::UID)?;
    let sticky = Mode::from_raw_mode(stat.stx_mode.into()).contains(Mode::SVTX);
    if sticky && stat.stx_uid != rustix::process::getuid().as_raw() {
        return Err(MountError::NotOwner { path: target.path.clone() });
    }
    Ok(())
}

fn is_empty(target: &Target) -> Result<bool, MountError> {
    let names = || -> Result<bool, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&target.fd, ".", flags, Mode::empty())?;
        for entry in Dir::new(dir)? {
            if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    };
    names().map_err(|errno| target.unreachable(errno.into()))
}

/// Directories that no mount may cover, because the host needs what is in them.
fn is_system_directory(path: &Path) -> bool {
    const THEMSELVES: [&str; 20] = [
        "/", "/bin", "/boot", "/dev", "/dev/shm", "/etc", "/home", "/lib", "/lib32", "/lib64", "/media", "/opt",
        "/proc", "/root", "/run", "/sbin", "/sys", "/tmp", "/usr", "/var",
    ];
    // The kernel's own trees; memory for everybody is the one place among them to mount below.
    const WITH_ALL_BELOW: [&str; 3] = ["/proc", "/sys", "/dev"];
    const BELOW_USR: [&str; 7] = ["bin", "lib", "lib32", "lib64", "libexec", "sbin", "share"];
    THEMSELVES.iter().any(|system| path == Path::new(system))
        || BELOW_USR.iter().any(|name| path == Path::new("/usr").join(name))
        || (WITH_ALL_BELOW.iter().any(|tree| path.starts_with(tree)) && !path.starts_with("/dev/shm"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn refusal(path: &Path, rules: Rules) -> MountError {
        check(path, rules).expect_err("a mount point that must be refused")
    }

    #[test]
    fn an_empty_directory_will_do_also_through_a_symbolic_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(check(&link, Rules::default()).unwrap().path, real.canonicalize().unwrap());
    }

    #[test]
    fn what_is_missing_is_told_from_what_is_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(refusal(&dir.path().join("none"), Rules::default()), MountError::Missing { .. }));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(refusal(&file, Rules::default()), MountError::NotADirectory { .. }));
        assert!(matches!(refusal(&file.join("below"), Rules::default()), MountError::Unreachable { .. }));
    }

    #[test]
    fn a_directory_with_files_is_refused_unless_allowed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".hidden"), "").unwrap();
        assert!(matches!(refusal(dir.path(), Rules::default()), MountError::NotEmpty { .. }));
        check(dir.path(), Rules { allow_nonempty: true, ..Rules::default() }).unwrap();
    }

    #[test]
    fn the_host_keeps_its_directories() {
        for path in [
            "/",
            "/etc",
            "/usr",
            "/usr/bin",
            "/usr/share",
            "/proc",
            "/proc/self",
            "/sys/fs",
            "/dev",
            "/dev/pts",
            "/tmp",
            "/run",
        ] {
            assert!(is_system_directory(Path::new(path)), "{path}");
        }
        for path in [
            "/etc/node-conf",
            "/run/db",
            "/home/me/secrets",
            "/usr/local/x",
            "/var/lib/x",
            "/dev/shm/x",
            "/mnt",
            "/srv",
        ] {
            assert!(!is_system_directory(Path::new(path)), "{path}");
        }
        let allowed = Rules { allow_nonempty: true, ..Rules::default() };
        assert!(matches!(refusal(Path::new("/proc/self/root"), allowed), MountError::SystemDirectory { .. }));
        assert!(matches!(refusal(Path::new("/usr/../etc"), allowed), MountError::SystemDirectory { .. }));
    }

    #[test]
    fn the_sticky_bit_of_others_stops_an_ordinary_user() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let rules = Rules { as_ordinary_user: true, ..Rules::default() };
        check(dir.path(), rules).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(dir.path(), Some(12345), None).unwrap();
            assert!(matches!(refusal(dir.path(), rules), MountError::NotOwner { .. }));
        }
    }

    #[test]
    fn a_path_without_permission_is_unreachable_not_missing() {
        assert!(matches!(refusal(Path::new("bad\0path"), Rules::default()), MountError::Unreachable { .. }));
    }
}
