//! What the host has: the kernel, FUSE, the helper, namespaces, memory, leftovers.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::{Finding, State};
use crate::daemon::{Side, fork};
use crate::exit::{Code, Failure};
use crate::mount::{self, Method, fuse_conf, unmount};

/// Looks at all of it. Must be called while the process has one thread.
pub fn host() -> Vec<Finding> {
    let method = mount::preferred();
    vec![kernel(), device(), rights(method), fuse_configuration(), namespaces(), memory(), system_log(), leftovers()]
}

/// The features that docs/SEMANTICS.md says depend on the kernel.
fn kernel() -> Finding {
    const CHECK: &str = "kernel";
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let found = format!("Linux {release}");
    match version {
        (0..=3, _) | (4, 0..=17) => Finding::fault(CHECK, Code::NoFuse, found, "use Linux 5.12 or later"),
        (4, _) | (5, 0..=11) => {
            let found = format!("{found}: the mount that people see cannot be made read-only apart from our own");
            Finding::warning(CHECK, found, "use Linux 5.12 or later, or see docs/SEMANTICS.md for what is less")
        }
        _ => Finding::ok(CHECK, found),
    }
}

fn device() -> Finding {
    const CHECK: &str = "/dev/fuse";
    match mount::try_device() {
        Ok(()) => Finding::ok(CHECK, "can be opened"),
        Err(error) => Finding::failed(CHECK, State::Fault, &error.into()),
    }
}

/// By which way this user can mount.
fn rights(method: Method) -> Finding {
    const CHECK: &str = "mounting";
    if method != Method::Fusermount {
        let way = if method == Method::NewApi { "fsopen and move_mount" } else { "mount(2)" };
        return Finding::ok(CHECK, format!("with own rights (CAP_SYS_ADMIN), by {way}"));
    }
    if rustix::process::geteuid().is_root() {
        return Finding::fault(
            CHECK,
            Code::NoFuse,
            "root has no CAP_SYS_ADMIN here, as in most containers",
            "run the container with --cap-add SYS_ADMIN --device /dev/fuse, or mount on the host and bind it in",
        );
    }
    match mount::try_helper() {
        Ok(helper) if helper.metadata().is_ok_and(|file| file.uid() != 0 || file.mode() & 0o4000 == 0) => {
            let found = format!("{} is not setuid root, so that ordinary users cannot mount", helper.display());
            Finding::fault(CHECK, Code::NoFuse, found, format!("as root: chmod u+s {}", helper.display()))
        }
        Ok(helper) => Finding::ok(CHECK, format!("through {}", helper.display())),
        Err(error) => Finding::failed(CHECK, State::Fault, &error.into()),
    }
}

/// What /etc/fuse.conf lets ordinary users do (mount.fuse3(8)).
fn fuse_configuration() -> Finding {
    const CHECK: &str = "fuse.conf";
    let conf = fuse_conf::read();
    let mounted = mount::table::Table::read().map_or(0, |table| table.fuse().count());
    if mount::preferred() != Method::Fusermount {
        return Finding::ok(CHECK, "does not bind this user");
    }
    if mounted >= conf.mount_max {
        return Finding::fault(
            CHECK,
            Code::NoFuse,
            format!("{mounted} FUSE mounts, and ordinary users may make {}", conf.mount_max),
            format!("end some (findmnt -t fuse.secretfs), or as root set mount_max in {}", fuse_conf::PATH),
        );
    }
    let allowed = if conf.user_allow_other { "may" } else { "may not" };
    let found = format!("ordinary users {allowed} use --allow-other; {mounted} of {} mounts", conf.mount_max);
    match conf.user_allow_other {
        true => Finding::ok(CHECK, found),
        false => Finding {
            cure: Some(format!("only if other users must get in: a line user_allow_other in {}", fuse_conf::PATH)),
            ..Finding::ok(CHECK, found)
        },
    }
}

/// Tries one: the switches that forbid them are many.
fn namespaces() -> Finding {
    const CHECK: &str = "user namespaces";
    match fork() {
        Ok(Side::Child(mut ready)) => {
            match mount::private::enter(mount::private::Map::caller()) {
                Ok(()) => drop(ready.usable()),
                Err(error) => ready.failed(&error.into()),
            }
            std::process::exit(0);
        }
        Ok(Side::Parent(Ok(()))) => Finding::ok(CHECK, "can be made: demo and mount --private work"),
        // FUSE has a finding of its own.
        Ok(Side::Parent(Err(failure))) if mount::try_device().is_err() => {
            Finding::skipped(CHECK, format!("not tried: {}", failure.message))
        }
        Ok(Side::Parent(Err(failure))) => {
            let mut finding = Finding::failed(CHECK, State::Warning, &failure);
            finding.found = format!("demo and mount --private do not work: {}", finding.found);
            finding
        }
        Err(error) => Finding::failed(
            CHECK,
            State::Warning,
            &Failure::new(Code::Failed, format!("cannot be tried: {error}; end some processes")),
        ),
    }
}

/// Whether values can be kept out of swap.
fn memory() -> Finding {
    const CHECK: &str = "locked memory";
    /// As many values as a view of a cluster keeps by default.
    const ENOUGH: u64 = 64 << 20;
    let may_lock = rustix::thread::capabilities(None)
        .is_ok_and(|own| own.effective.contains(rustix::thread::CapabilitySet::IPC_LOCK));
    let limit = match getrlimit(Resource::Memlock).current {
        Some(limit) if !may_lock => limit,
        _ => return Finding::ok(CHECK, "no limit"),
    };
    let found = format!("{} KiB of values are kept out of swap", limit >> 10);
    if limit >= ENOUGH {
        return Finding::ok(CHECK, found);
    }
    if !crate::memory::has_swap() {
        return Finding::ok(CHECK, format!("{found}, and this host has no swap"));
    }
    Finding::warning(CHECK, found, "raise it with LimitMEMLOCK= (systemd) or ulimit -l, or use no swap")
}

fn system_log() -> Finding {
    const CHECK: &str = "log";
    let reached = std::os::unix::net::UnixDatagram::unbound().and_then(|socket| socket.connect("/dev/log"));
    match reached {
        Ok(()) => Finding::ok(CHECK, "/dev/log takes the warnings of mounts in the background"),
        Err(error) => Finding::warning(
            CHECK,
            format!("/dev/log: {error}: warnings of mounts in the background go nowhere"),
            "run journald or a syslog daemon, or mount with --foreground; `secretfs status` knows how a mount is",
        ),
    }
}

fn leftovers() -> Finding {
    const CHECK: &str = "dead mounts";
    match unmount::stale_mounts() {
        Ok(dead) if dead.is_empty() => Finding::ok(CHECK, "none"),
        Ok(dead) => {
            let places: Vec<String> = dead.iter().map(|entry| shown(&entry.mount_point)).collect();
            Finding::warning(CHECK, places.join(", "), "clear them: secretfs umount --stale")
        }
        Err(error) => Finding::failed(CHECK, State::Fault, &error.into()),
    }
}

fn shown(path: &Path) -> String {
    format!("{path:?}")
}
