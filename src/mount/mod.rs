//! Gets a /dev/fuse connection attached to a directory, and detached again: one small module for each way.
//!
//! It goes in two phases, so that nobody sees a mount that does not answer yet:
//!
//! 1. [`prepare`] checks the mount point, chooses the way (`choose`) and makes the FUSE connection;
//! 2. the caller starts its session on a duplicate of [`Prepared::fuse`] and warms it;
//! 3. [`Prepared::attach`] shows the mount and says how the publisher reaches the tree.
//!
//! The superblock is always read-write, since the publisher must be able to write; the mount that people see is
//! read-only wherever we have the privilege to make it so. Always `nosuid,nodev,noexec`.
//!
//! `fuser` mounts nothing for us: its own mounting can unmount the mount of somebody else, lets commas in a source
//! become mount options, and finds its helper through `$PATH`.

mod classic;
mod device;
mod error;
pub mod fuse_conf;
mod fusermount;
mod identity;
mod new_api;
mod passed;
pub mod private;
mod probe;
mod setattr;
pub mod table;
pub mod target;
pub mod unmount;
mod watch;

#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
pub(crate) mod testing;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;

pub use classic::sweep;
pub use error::MountError;
pub use identity::{Device, Identity};
pub use probe::Health;
pub use table::FS_TYPE;
pub use watch::{Seen, Waker, Watch};

/// What to mount, where, and for whom.
#[derive(Clone, Debug)]
pub struct Request {
    /// The mount point, or `/dev/fd/N` for a connection that somebody else has mounted.
    pub target: PathBuf,
    /// What df and findmnt show as the source, for example `secretfs:default/secret/db`.
    pub source: String,
    /// Whether other users than the one who mounts may enter; only together with `default_permissions`.
    pub allow_other: bool,
    /// Whether the kernel checks the modes of files.
    pub default_permissions: bool,
    /// Whether the mount may hide files that are in the directory.
    pub allow_nonempty: bool,
    /// Forces one way; `None` chooses.
    pub method: Option<Method>,
}

impl Request {
    fn flags(&self) -> impl Iterator<Item = &'static str> {
        [(self.default_permissions, "default_permissions"), (self.allow_other, "allow_other")]
            .into_iter()
            .filter_map(|(wanted, flag)| wanted.then_some(flag))
    }

    /// The source, cut to what fsconfig(2) takes (255 bytes, `strndup_user` in fs/fsopen.c): the names of a namespace
    /// and a Secret alone may be longer. Line breaks and the like are taken out, since the kernel does not escape them
    /// all.
    fn shown_source(&self) -> String {
        const LONGEST: usize = 255;
        let mut shown: String = self.source.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        if shown.len() > LONGEST {
            let cut = (0..=LONGEST - 3).rev().find(|&end| shown.is_char_boundary(end)).unwrap_or(0);
            shown.truncate(cut);
            shown.push_str("...");
        }
        shown
    }
}

/// The ways to get a connection attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// fsopen(2) and move_mount(2), Linux 5.12 and later, CAP_SYS_ADMIN.
    NewApi,
    /// mount(2), CAP_SYS_ADMIN.
    Classic,
    /// The setuid helper fusermount3, for ordinary users.
    Fusermount,
    /// Somebody else mounted and left us the descriptor.
    Passed,
}

/// What [`choose`] has to know about this host and process.
#[derive(Clone, Copy, Debug)]
struct Host {
    /// Effective CAP_SYS_ADMIN in the current user namespace.
    may_mount: bool,
    new_api: bool,
}

impl Host {
    fn look() -> Self {
        let may_mount = rustix::thread::capabilities(None)
            .is_ok_and(|capabilities| capabilities.effective.contains(CapabilitySet::SYS_ADMIN));
        Host { may_mount, new_api: may_mount && new_api::is_supported() }
    }
}

/// The one place where the way is chosen.
fn choose(forced: Option<Method>, target: &Path, host: Host) -> Method {
    match forced {
        Some(method) => method,
        None if passed::descriptor(target).is_some() => Method::Passed,
        None if !host.may_mount => Method::Fusermount,
        None if host.new_api => Method::NewApi,
        None => Method::Classic,
    }
}

/// A FUSE connection that is not yet seen by anybody, except with [`Method::Fusermount`] and [`Method::Passed`], which
/// leave no choice. Dropped without [`Prepared::attach`], it takes back all that it did.
#[derive(Debug)]
pub struct Prepared {
    /// The connection. The session works on a duplicate of it; this one is closed by [`Prepared::attach`].
    pub fuse: OwnedFd,
    pub method: Method,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    NewApi(new_api::Stage),
    Classic(classic::Stage),
    Fusermount(fusermount::Stage),
    Passed(Option<passed::Found>),
}

/// How the publisher reaches the tree to write through it.
#[derive(Debug)]
pub enum Announce {
    /// Below this directory, the root of a writable mount that has no place in any tree. While it is open the file
    /// system lives: close it when [`Watch`] says that the last public mount is gone.
    Private(OwnedFd),
    /// By this path, for as long as the mount there is ours. Nothing below it may be kept open between two updates, or
    /// nobody can unmount.
    Path(PathBuf),
    /// Not at all: updates happen without system calls, and inotify stays silent.
    Nowhere,
}

/// Where a mount of ours can be seen.
#[derive(Clone, Debug)]
pub struct Place {
    /// As it was when attached; the mount may be moved later.
    pub path: PathBuf,
    pub identity: Identity,
}

/// A mount that can be seen.
#[derive(Debug)]
pub struct Attached {
    pub announce: Announce,
    pub method: Method,
    /// `None` where somebody else mounted and it cannot be seen from here.
    pub place: Option<Place>,
}

/// The way that this process mounts where nothing forces another one.
pub fn preferred() -> Method {
    choose(None, Path::new("/"), Host::look())
}

/// Opens /dev/fuse and closes it again.
///
/// # Errors
/// [`MountError::FuseMissing`], [`MountError::FuseDenied`].
pub fn try_device() -> Result<(), MountError> {
    device::open().map(drop)
}

/// Finds the helper of ordinary users, without running it.
///
/// # Errors
/// [`MountError::HelperMissing`], [`MountError::HelperPowerless`].
pub fn try_helper() -> Result<PathBuf, MountError> {
    fusermount::usable_helper()
}

/// Chooses the way and checks the mount point, without doing anything. Returns the way that [`prepare`] will take.
///
/// # Errors
/// Those of [`target::check`].
pub fn check(request: &Request) -> Result<Method, MountError> {
    if request.allow_other && !request.default_permissions {
        return Err(MountError::AllowOtherUnchecked);
    }
    let method = choose(request.method, &request.target, Host::look());
    if method != Method::Passed {
        check_target(request, method)?;
    }
    Ok(method)
}

fn check_target(request: &Request, method: Method) -> Result<target::Target, MountError> {
    let as_ordinary_user = method == Method::Fusermount && !rustix::process::getuid().is_root();
    target::check(&request.target, target::Rules { allow_nonempty: request.allow_nonempty, as_ordinary_user })
}

/// Checks the mount point, chooses the way and makes the connection.
///
/// # Errors
/// Those of [`target::check`], and those of the chosen way.
pub fn prepare(request: &Request) -> Result<Prepared, MountError> {
    if request.allow_other && !request.default_permissions {
        return Err(MountError::AllowOtherUnchecked);
    }
    let method = choose(request.method, &request.target, Host::look());
    let check = || check_target(request, method);
    let (fuse, stage) = match method {
        Method::NewApi => new_api::prepare(request, check()?).map(|(fuse, stage)| (fuse, Stage::NewApi(stage)))?,
        Method::Classic => classic::prepare(request, check()?).map(|(fuse, stage)| (fuse, Stage::Classic(stage)))?,
        Method::Fusermount => {
            fusermount::prepare(request, check()?).map(|(fuse, stage)| (fuse, Stage::Fusermount(stage)))?
        }
        Method::Passed => passed::prepare(&request.target).map(|(fuse, found)| (fuse, Stage::Passed(found)))?,
    };
    Ok(Prepared { fuse, method, stage })
}

impl Prepared {
    /// The root of the unseen mount, to warm the session through; `None` where there is no unseen mount.
    /// It must not be kept: whoever holds a duplicate of it pins the file system.
    pub fn root(&self) -> Option<BorrowedFd<'_>> {
        match &self.stage {
            Stage::NewApi(stage) => Some(stage.root()),
            Stage::Classic(stage) => Some(stage.root()),
            Stage::Fusermount(_) | Stage::Passed(_) => None,
        }
    }

    /// Shows the mount. The session must be serving by now.
    ///
    /// # Errors
    /// [`MountError::Refused`] and others; nothing is mounted then.
    pub fn attach(self) -> Result<Attached, MountError> {
        let Prepared { fuse: _closed_here, method, stage } = self;
        let (announce, place) = match stage {
            Stage::NewApi(stage) => {
                let path = stage.path().to_owned();
                let (door, identity) = stage.attach()?;
                (Announce::Private(door), Some(Place { path, identity }))
            }
            Stage::Classic(stage) => {
                let path = stage.path().to_owned();
                let (door, identity) = stage.attach()?;
                (Announce::Private(door), Some(Place { path, identity }))
            }
            Stage::Fusermount(stage) => {
                let place = stage.keep();
                (place.as_ref().map_or(Announce::Nowhere, |place| Announce::Path(place.path.clone())), place)
            }
            Stage::Passed(Some(found)) => (found.announce(), Some(found.place)),
            Stage::Passed(None) => (Announce::Nowhere, None),
        };
        Ok(Attached { announce, method, place })
    }
}

impl Attached {
    /// Hands the publisher its way into the tree; the first call gets it, later ones get [`Announce::Nowhere`].
    pub fn take_announce(&mut self) -> Announce {
        std::mem::replace(&mut self.announce, Announce::Nowhere)
    }

    /// A watch for the moment when nobody can see the mount any more; `None` where it never could be seen from here,
    /// and only the end of the session tells.
    ///
    /// # Errors
    /// [`MountError::Table`].
    pub fn watch(&self) -> Result<Option<Watch>, MountError> {
        self.place.as_ref().map(|place| Watch::new(place.identity.device)).transpose()
    }

    /// Unmounts exactly this mount, wherever it has been moved, and never another one on the same path. What is in use
    /// is detached lazily: it ends with its last user. Mounted already no more is success. A mount that somebody else
    /// made ([`Method::Passed`]) is left to its maker.
    ///
    /// A private door keeps the file system alive beyond this; the session gets its ENODEV when that is closed too.
    ///
    /// # Errors
    /// [`MountError::Covered`] when another mount lies on it, [`MountError::NotPermitted`].
    pub fn detach(&self) -> Result<(), MountError> {
        match &self.place {
            Some(place) if self.method != Method::Passed => unmount::detach_exactly(place),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(source: &str) -> Request {
        Request {
            target: "/mnt".into(),
            source: source.into(),
            allow_other: false,
            default_permissions: true,
            allow_nonempty: false,
            method: None,
        }
    }

    #[test]
    fn the_way_follows_privilege_and_kernel() {
        let dir = Path::new("/mnt");
        let host = |may_mount, new_api| Host { may_mount, new_api };
        assert_eq!(choose(None, dir, host(true, true)), Method::NewApi);
        assert_eq!(choose(None, dir, host(true, false)), Method::Classic);
        assert_eq!(choose(None, dir, host(false, false)), Method::Fusermount);
        assert_eq!(choose(Some(Method::Fusermount), dir, host(true, true)), Method::Fusermount);
        assert_eq!(choose(None, Path::new("/dev/fd/7"), host(true, true)), Method::Passed);
        assert_eq!(choose(None, Path::new("/proc/self/fd/7"), host(false, false)), Method::Passed);
    }

    #[test]
    fn a_source_longer_than_the_kernel_takes_is_cut_at_a_character() {
        assert_eq!(request("secretfs:a/secret/b").shown_source(), "secretfs:a/secret/b");
        let shown = request(&"ä".repeat(200)).shown_source();
        assert!(shown.len() <= 255 && shown.ends_with("ä..."));
    }

    #[test]
    fn control_characters_do_not_reach_the_mount_table() {
        assert_eq!(request("a\nb\u{1b}c").shown_source(), "a?b?c");
    }

    #[test]
    fn allow_other_without_checks_is_refused_before_anything_happens() {
        let request = Request { allow_other: true, default_permissions: false, ..request("x") };
        assert!(matches!(prepare(&request), Err(MountError::AllowOtherUnchecked)));
    }
}
