//! Gives this process a mount namespace of its own, in which an ordinary user may mount: for `secretfs exec`.
#![allow(unsafe_code)]

use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use super::{MountError, device};

/// Which user the caller is inside; outside it is always itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    pub uid: u32,
    pub gid: u32,
}

impl Map {
    /// The same inside as outside.
    pub fn caller() -> Self {
        Map { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }
}

/// Moves this process into a new user namespace and a new mount namespace. It has CAP_SYS_ADMIN in there, so that
/// [`super::prepare`] mounts without any helper, and loses that at its next exec (unless it maps itself to uid 0).
/// Nothing that is mounted from now on is seen outside, and it all goes with the last process inside; what is mounted
/// outside is not seen inside either.
///
/// Call it before any thread starts, and before [`crate::memory::harden`], after which an ordinary user may not write
/// its own `/proc/self/uid_map`. All other users and groups, supplementary ones too, show as 65534 inside.
///
/// When it fails half-way, the process is in a namespace without users and can only exit.
///
/// # Errors
/// [`MountError::FuseMissing`], [`MountError::FuseDenied`], [`MountError::HasThreads`], [`MountError::NamespacesOff`],
/// [`MountError::NamespacesConfined`], [`MountError::NamespaceDenied`]. See user_namespaces(7).
pub fn enter(map: Map) -> Result<(), MountError> {
    // A namespace without FUSE would be of no use, and this error is the clearer one.
    drop(device::open()?);
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(MountError::HasThreads { threads });
    }
    let outside = Map::caller();
    // SAFETY: `unshare_unsafe` asks that no thread uses descriptors of a table from which it was separated; CLONE_FILES
    // is not among the flags, so that the descriptor table stays as it is.
    let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) };
    unshared.map_err(|errno| explain(Step::Unshare, errno.into(), &Knobs::read()))?;
    write_maps(outside, map).map_err(|cause| explain(Step::Map, cause, &Knobs::read()))?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(|errno| explain(Step::Propagation, errno.into(), &Knobs::read()))
}

fn write_maps(outside: Map, inside: Map) -> io::Result<()> {
    // Without this the kernel takes no gid_map from an ordinary user: groups can also take permission away
    // (user_namespaces(7)).
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/gid_map", format!("{} {} 1", inside.gid, outside.gid))?;
    std::fs::write("/proc/self/uid_map", format!("{} {} 1", inside.uid, outside.uid))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Unshare,
    Map,
    Propagation,
}

/// The switches by which hosts forbid user namespaces; `None` where the kernel does not have one.
#[derive(Clone, Copy, Debug, Default)]
struct Knobs {
    /// user.max_user_namespaces, of the namespace in which this process is.
    max_user_namespaces: Option<u64>,
    /// kernel.unprivileged_userns_clone, a patch of Debian and others.
    unprivileged_userns_clone: Option<u64>,
    /// kernel.apparmor_restrict_unprivileged_userns, Ubuntu since 23.10.
    apparmor_restricts: Option<u64>,
}

impl Knobs {
    fn read() -> Self {
        let knob = |path: &str| std::fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?.trim().parse().ok();
        Knobs {
            max_user_namespaces: knob("user/max_user_namespaces"),
            unprivileged_userns_clone: knob("kernel/unprivileged_userns_clone"),
            apparmor_restricts: knob("kernel/apparmor_restrict_unprivileged_userns"),
        }
    }
}

/// Finds the reason behind an error number that has many.
fn explain(step: Step, cause: io::Error, knobs: &Knobs) -> MountError {
    let errno = Errno::from_io_error(&cause);
    match step {
        // "user.max_user_namespaces is exceeded" has this number; so has a nesting of more than 32 namespaces.
        Step::Unshare if errno == Some(Errno::NOSPC) => MountError::NamespacesOff {
            knob: match knobs.max_user_namespaces {
                Some(limit) => format!("user.max_user_namespaces = {limit} is used up"),
                None => "the limit of user namespaces is used up".to_owned(),
            },
            remedy: "user.max_user_namespaces=15000".to_owned(),
        },
        Step::Unshare if errno == Some(Errno::PERM) && knobs.unprivileged_userns_clone == Some(0) => {
            MountError::NamespacesOff {
                knob: "kernel.unprivileged_userns_clone = 0".to_owned(),
                remedy: "kernel.unprivileged_userns_clone=1".to_owned(),
            }
        }
        // A kernel without CONFIG_USER_NS; threads were counted before, so that EINVAL can mean nothing else here.
        Step::Unshare if errno == Some(Errno::INVAL) => MountError::NamespaceDenied { call: "unshare", cause },
        // AppArmor lets the namespace be made but takes all capabilities in it away, so that it is a later step that
        // fails.
        _ if errno == Some(Errno::PERM) && knobs.apparmor_restricts == Some(1) => MountError::NamespacesConfined,
        Step::Propagation if errno == Some(Errno::ACCESS) && knobs.apparmor_restricts == Some(1) => {
            MountError::NamespacesConfined
        }
        Step::Unshare => MountError::NamespaceDenied { call: "unshare", cause },
        Step::Map => MountError::NamespaceDenied { call: "writing /proc/self/uid_map", cause },
        Step::Propagation => MountError::NamespaceDenied { call: "mount(MS_PRIVATE)", cause },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(errno: Errno) -> io::Error {
        errno.into()
    }

    #[test]
    fn each_switch_is_told_from_the_others() {
        let none = Knobs::default();
        let off = Knobs { max_user_namespaces: Some(0), ..none };
        let debian = Knobs { unprivileged_userns_clone: Some(0), ..none };
        let ubuntu = Knobs { apparmor_restricts: Some(1), max_user_namespaces: Some(15000), ..none };

        let text = explain(Step::Unshare, error(Errno::NOSPC), &off).to_string();
        assert!(
            text.contains("user.max_user_namespaces = 0") && text.contains("sysctl -w user.max_user_namespaces="),
            "{text}"
        );
        let text = explain(Step::Unshare, error(Errno::PERM), &debian).to_string();
        assert!(text.contains("sysctl -w kernel.unprivileged_userns_clone=1"), "{text}");
        for step in [Step::Unshare, Step::Map, Step::Propagation] {
            assert!(matches!(explain(step, error(Errno::PERM), &ubuntu), MountError::NamespacesConfined));
            assert!(matches!(explain(step, error(Errno::PERM), &none), MountError::NamespaceDenied { .. }));
        }
        assert!(matches!(explain(Step::Map, error(Errno::IO), &ubuntu), MountError::NamespaceDenied { .. }));
    }

    #[test]
    fn a_process_with_threads_is_told_so() {
        // The test harness has threads.
        if device::open().is_ok() {
            assert!(matches!(enter(Map::caller()), Err(MountError::HasThreads { threads }) if threads > 1));
        }
    }
}
