//! Mounts with fsopen(2) and its relatives (Linux 5.12 and later): by descriptor from beginning to end.
//!
//! fsmount(2) gives a mount that nobody can see yet. The session starts and is warmed on that one. Then it is attached,
//! read-only from its first moment, and only then a clone of it is taken, made writable, and kept as a descriptor
//! without any place in the tree: the door of the publisher. The clone is taken after attaching because no kernel
//! before 6.15 clones a mount that is not in the caller's namespace (Linux c5c12f871a30, "fs: create detached mounts
//! from detached mounts").

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};

use super::identity::{Identity, identify};
use super::target::{Target, proc_path};
use super::{MountError, Request, device, setattr, table};

/// A read-only mount of the whole file system that is attached nowhere. Dropping it ends the file system.
#[derive(Debug)]
pub(super) struct Stage {
    mount: OwnedFd,
    target: Target,
}

/// Whether the calls are there: the last of them to arrive was mount_setattr(2); a seccomp filter may forbid any.
pub(super) fn is_supported() -> bool {
    setattr::is_supported() && !matches!(fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC), Err(Errno::NOSYS | Errno::PERM))
}

/// Connects a /dev/fuse and makes the unseen mount.
///
/// # Errors
/// [`MountError::FuseMissing`], [`MountError::FuseDenied`], or [`MountError::Refused`] with what the kernel said.
pub(super) fn prepare(request: &Request, target: Target) -> Result<(OwnedFd, Stage), MountError> {
    let fuse = device::open()?;
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).map_err(device::explain)?;
    let mount = configure(&context, &fuse, request).map_err(|(call, errno)| match kernel_messages(&context) {
        hint if hint.is_empty() => MountError::refused(call, &target.path, errno),
        hint => MountError::Refused { call, path: target.path.clone(), cause: errno.into(), hint },
    })?;
    Ok((fuse, Stage { mount, target }))
}

fn configure(context: &OwnedFd, fuse: &OwnedFd, request: &Request) -> Result<OwnedFd, (&'static str, Errno)> {
    let set = |key: &str, value: &str| fsconfig_set_string(context, key, value).map_err(|errno| ("fsconfig", errno));
    set("source", &request.shown_source())?;
    set("subtype", table::SUBTYPE)?;
    set("fd", &fuse.as_raw_fd().to_string())?;
    set("rootmode", "40000")?;
    set("user_id", &rustix::process::getuid().as_raw().to_string())?;
    set("group_id", &rustix::process::getgid().as_raw().to_string())?;
    for flag in request.flags() {
        fsconfig_set_flag(context, flag).map_err(|errno| ("fsconfig", errno))?;
    }
    fsconfig_create(context).map_err(|errno| ("fsconfig(FSCONFIG_CMD_CREATE)", errno))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(|errno| ("fsmount", errno))
}

impl Stage {
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    pub(super) fn path(&self) -> &Path {
        &self.target.path
    }

    /// Shows the mount at the target and takes the publisher's door.
    ///
    /// # Errors
    /// [`MountError::Refused`]; nothing is attached then.
    pub(super) fn attach(self) -> Result<(OwnedFd, Identity), MountError> {
        let Stage { mount, target } = self;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&mount, "", &target.fd, "", flags)
            .map_err(|errno| MountError::refused("move_mount", &target.path, errno))?;
        open_door(&mount, &target.path).inspect_err(|_| {
            // Through the descriptor it is our mount that goes, whatever has come over the path meanwhile.
            let _ = unmount(proc_path(mount.as_fd()), UnmountFlags::DETACH);
        })
    }
}

fn open_door(mount: &OwnedFd, path: &Path) -> Result<(OwnedFd, Identity), MountError> {
    let identity = identify(mount).map_err(|cause| MountError::refused("statx", path, cause))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let door = open_tree(mount, "", flags).map_err(|errno| MountError::refused("open_tree", path, errno))?;
    setattr::make_writable_and_private(door.as_fd())
        .map_err(|cause| MountError::refused("mount_setattr", path, cause))?;
    Ok((door, identity))
}

/// What the kernel has to say about a context that it refused, one message for each read (fsopen(2)).
fn kernel_messages(context: &OwnedFd) -> String {
    let mut messages = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) {
        messages.push(String::from_utf8_lossy(&buffer[..length]).trim().to_owned());
    }
    messages.join("; ")
}
