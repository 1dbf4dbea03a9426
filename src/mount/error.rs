//! What can go wrong with a mount: each variant says what happened, to which path, and what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

/// The one error of this module. Its text is a sentence for the person who typed the command.
/// Paths are quoted and escaped, since a name may hold control characters.
#[derive(Debug, Error)]
pub enum MountError {
    // The mount point.
    #[error("{path:?} does not exist; create it first: mkdir -p {path:?}")]
    Missing { path: PathBuf },
    #[error("{path:?} is not a directory; give the path of an empty directory")]
    NotADirectory { path: PathBuf },
    #[error(
        "{path:?} is not empty and the mount would hide what is in it; give an empty directory, or allow this with --nonempty"
    )]
    NotEmpty { path: PathBuf },
    #[error("{path:?} is a directory of the system; mount at a directory of its own, for example /run/secretfs")]
    SystemDirectory { path: PathBuf },
    #[error("{path:?} is mounted by secretfs already; unmount it first: secretfs umount {path:?}")]
    AlreadyMounted { path: PathBuf },
    #[error(
        "{path:?} is the mount point of another file system ({fs_type}); give another directory, or unmount it first"
    )]
    OtherMount { path: PathBuf, fs_type: String },
    #[error(
        "{path:?} is a dead mount ({fs_type}): its process is gone; clear it with: umount -l {path:?}, as its owner: fusermount3 -uz {path:?}"
    )]
    Dead { path: PathBuf, fs_type: String },
    #[error(
        "{path:?} does not answer: the process behind this mount ({fs_type}) hangs; abort it with: umount -f -l {path:?}"
    )]
    Hangs { path: PathBuf, fs_type: String },
    #[error(
        "{path:?} is not writable by you, and an ordinary user can mount only on own directories; give one below your home or $XDG_RUNTIME_DIR, or mount as root"
    )]
    NotWritable { path: PathBuf },
    #[error(
        "{path:?} belongs to someone else and has the sticky bit, so that an ordinary user cannot mount there; make a directory in it: mkdir {path:?}/secrets"
    )]
    NotOwner { path: PathBuf },
    #[error("cannot reach {path:?}: {cause}; check the path and your permissions on each directory of it")]
    Unreachable { path: PathBuf, cause: io::Error },

    // The device and the privileges.
    #[error(
        "this kernel has no FUSE now: {cause}; load the module as root: modprobe fuse (in a container: pass --device /dev/fuse)"
    )]
    FuseMissing { cause: io::Error },
    #[error(
        "cannot open /dev/fuse: {cause}; it should have mode 0666 (chmod 0666 /dev/fuse as root), and a container needs --device /dev/fuse"
    )]
    FuseDenied { cause: io::Error },
    #[error(
        "allow_other without default_permissions would let every user read everything, since the kernel would check no modes; use both or neither"
    )]
    AllowOtherUnchecked,
    #[error("the kernel refused {call} for {path:?}: {cause}{}", detail(hint))]
    Refused { call: &'static str, path: PathBuf, cause: io::Error, hint: String },

    // The helper for ordinary users.
    #[error("fusermount3 is in none of {searched}; install the package fuse3, or mount as root")]
    HelperMissing { searched: String },
    #[error("{helper:?} could not mount {path:?}: {message}")]
    HelperFailed { helper: PathBuf, path: PathBuf, message: String },
    #[error("{helper:?} did not finish {path:?} within {} s and was ended; is something below that path hanging?", deadline.as_secs())]
    HelperSlow { helper: PathBuf, path: PathBuf, deadline: Duration },
    #[error(
        "{helper:?} cannot gain its privileges in this process, which has no_new_privs set (systemd: NoNewPrivileges=yes, containers: no-new-privileges); mount from outside and pass /dev/fd/N, or lift that restriction"
    )]
    HelperPowerless { helper: PathBuf },
    #[error(
        "allow_other for {path:?} is forbidden to ordinary users on this host; root can permit it with a line user_allow_other in /etc/fuse.conf"
    )]
    AllowOtherDenied { path: PathBuf },

    // A descriptor that somebody else mounted.
    #[error(
        "{path:?} is no /dev/fd/N with a FUSE connection: {why}; pass /dev/fuse, opened for reading and writing and mounted"
    )]
    BadDescriptor { path: PathBuf, why: String },

    // The private namespace.
    #[error(
        "user namespaces are switched off here ({knob}); root can allow them with: sysctl -w {remedy}; without them use `secretfs mount`, which goes through fusermount3"
    )]
    NamespacesOff { knob: String, remedy: String },
    #[error(
        "AppArmor keeps user namespaces from unprivileged programs (kernel.apparmor_restrict_unprivileged_userns = 1); install the AppArmor profile that comes with secretfs, or as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    )]
    NamespacesConfined,
    #[error(
        "this process has {threads} threads, and the kernel gives a user namespace to single-threaded processes only; call this before any thread starts"
    )]
    HasThreads { threads: usize },
    #[error(
        "cannot make a private namespace: {call}: {cause}; a seccomp filter (containers), a chroot or a security module may forbid it; use `secretfs mount` instead"
    )]
    NamespaceDenied { call: &'static str, cause: io::Error },

    // Unmounting.
    #[error("nothing is mounted at {path:?}; `secretfs status` lists what is")]
    NotMounted { path: PathBuf },
    #[error("{path:?} is not a mount of secretfs but {fs_type}; unmount it with the tool that made it, or with umount")]
    NotOurs { path: PathBuf, fs_type: String },
    #[error("{path:?} is alive, so there is nothing to clear; unmount it with: secretfs umount {path:?}")]
    NotDead { path: PathBuf },
    #[error(
        "{path:?} is in use{}; end that use, or detach it now and let the users finish: secretfs umount --lazy {path:?}",
        detail(users)
    )]
    Busy { path: PathBuf, users: String },
    #[error("another mount covers {path:?}; unmount that one first: umount {path:?}")]
    Covered { path: PathBuf },
    #[error("no permission to unmount {path:?}: {message}; only root and the user who mounted it may")]
    NotPermitted { path: PathBuf, message: String },
    #[error("cannot read the mount table {path:?}: {cause}; /proc must be mounted")]
    Table { path: &'static str, cause: io::Error },
}

impl MountError {
    /// A system call that failed for a reason which has no variant of its own.
    pub(super) fn refused(call: &'static str, path: &Path, cause: impl Into<io::Error>) -> Self {
        let cause = cause.into();
        let hint = match cause.kind() {
            io::ErrorKind::PermissionDenied => NOT_HERE.to_owned(),
            _ => String::new(),
        };
        MountError::Refused { call, path: path.to_owned(), cause, hint }
    }
}

/// CAP_SYS_ADMIN is not enough: the mount namespace must belong to the user namespace that it is held in.
const NOT_HERE: &str = "a container must allow mounting, for example with --cap-add SYS_ADMIN and no AppArmor profile \
                        against it; a user namespace needs a mount namespace of its own: unshare -m";

fn detail(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}
