//! Mounts whose process is gone or hangs, and what is left by a process that was killed at the wrong moment.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::mount::target::{Rules, check, clear_dead};
use crate::mount::testing::*;
use crate::mount::unmount::{health_of, stale_mounts};
use crate::mount::*;

/// The child's part: mounts, warms all caches, and waits to be killed.
fn mount_and_wait(directory: &Path, method: Method) {
    let target = directory.join("mnt");
    let prepared = prepare(&request(&target, method)).unwrap();
    let _served = serve(&prepared);
    let _attached = prepared.attach().unwrap();
    assert_eq!(std::fs::read(target.join("hello")).unwrap(), HELLO);
    ready();
}

fn is_stale(target: &Path) -> bool {
    stale_mounts().unwrap().iter().any(|entry| entry.mount_point == target)
}

#[test]
fn a_dead_mount_is_found_though_the_kernel_still_answers_from_its_caches() {
    const NAME: &str =
        "mount::kernel_tests::dead::a_dead_mount_is_found_though_the_kernel_still_answers_from_its_caches";
    if let Some(directory) = given_directory() {
        return mount_and_wait(&directory, Method::NewApi);
    }
    if !is_root() {
        return;
    }
    let playground = Playground::new();
    let target = playground.target();
    let mut daemon = child(NAME, &playground.path(), 0);
    daemon.wait_until_ready();
    assert!(!is_stale(&target));
    assert!(matches!(check(&target, Rules::default()), Err(MountError::AlreadyMounted { .. })));
    assert!(matches!(clear_dead(&target), Err(MountError::NotDead { .. })));

    daemon.dies();
    assert!(std::fs::metadata(&target).is_ok(), "stat is answered from the cache, and proves nothing");
    assert!(is_stale(&target));
    assert!(matches!(check(&target, Rules::default()), Err(MountError::Dead { .. })));
    clear_dead(&target).unwrap();
    check(&target, Rules::default()).unwrap();
    assert!(matches!(clear_dead(&target), Err(MountError::NotMounted { .. })));
}

#[test]
fn root_can_tell_whether_the_mount_of_an_ordinary_user_lives() {
    const NAME: &str = "mount::kernel_tests::dead::root_can_tell_whether_the_mount_of_an_ordinary_user_lives";
    if let Some(directory) = given_directory() {
        return mount_and_wait(&directory, Method::Fusermount);
    }
    if !is_root() || !Path::new("/usr/bin/fusermount3").exists() {
        return;
    }
    open_fuse_to_all();
    let playground = Playground::for_user(NOBODY);
    let target = playground.target();
    std::os::unix::fs::chown(&target, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut daemon = child(NAME, &playground.path(), NOBODY);
    daemon.wait_until_ready();
    let entry = playground.mounts().remove(0);
    assert_eq!(std::fs::metadata(&target).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(health_of(&entry).unwrap(), Health::Alive);
    daemon.dies();
    assert_eq!(health_of(&entry).unwrap(), Health::Dead);
    clear_dead(&target).unwrap();
    assert!(playground.mounts().is_empty());
}

#[test]
fn a_dead_mount_can_be_unmounted_by_command() {
    if !is_root() {
        return;
    }
    let playground = Playground::new();
    let target = playground.target();
    // Attached, but nobody holds the connection.
    prepare(&request(&target, Method::NewApi)).unwrap().attach().unwrap();
    assert!(is_stale(&target));
    unmount::unmount(&target).unwrap();
    assert!(playground.mounts().is_empty());
}

#[test]
fn a_dead_mount_of_another_kind_is_named_but_not_touched() {
    if !is_root() {
        return;
    }
    let playground = Playground::new();
    let target = playground.target();
    let fuse = std::fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", std::os::fd::AsRawFd::as_raw_fd(&fuse));
    let data = std::ffi::CString::new(data).unwrap();
    rustix::mount::mount("x", &target, "fuse.other", rustix::mount::MountFlags::empty(), data.as_c_str()).unwrap();
    drop(fuse);
    assert!(
        matches!(check(&target, Rules::default()), Err(MountError::Dead { fs_type, .. }) if fs_type == "fuse.other")
    );
    assert!(matches!(clear_dead(&target), Err(MountError::NotOurs { .. })));
    assert_eq!(playground.mounts().len(), 1);
}

#[test]
fn a_mount_point_of_something_else_is_refused() {
    if !is_root() {
        return;
    }
    let playground = Playground::new();
    let target = playground.target();
    rustix::mount::mount("x", &target, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    assert!(
        matches!(check(&target, Rules::default()), Err(MountError::OtherMount { fs_type, .. }) if fs_type == "tmpfs")
    );
    // A directory on it is a directory like any other.
    std::fs::create_dir(target.join("inside")).unwrap();
    check(&target.join("inside"), Rules::default()).unwrap();
}

#[test]
fn a_process_that_takes_no_request_up_does_not_hang_us() {
    if !is_root() {
        return;
    }
    let playground = Playground::new();
    let target = playground.target();
    let prepared = prepare(&request(&target, Method::NewApi)).unwrap();
    let _held = prepared.fuse.try_clone().unwrap();
    let _attached = prepared.attach().unwrap();
    assert!(matches!(check(&target, Rules::default()), Err(MountError::Hangs { .. })));
}

#[test]
fn a_process_that_never_answers_does_not_hang_us() {
    if !is_root() {
        return;
    }
    let playground = Playground::new();
    let target = playground.target();
    let prepared = prepare(&request(&target, Method::NewApi)).unwrap();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let _served = serve_as(&prepared, TestFs { unanswered: Some(kept.clone()), ..TestFs::default() });
    let _attached = prepared.attach().unwrap();
    // SIGKILL does not end the process that asks now, and yet we go on.
    assert!(matches!(clear_dead(&target), Err(MountError::Hangs { .. })));
    // Other tests may look for dead mounts at this moment, and ask too.
    let asked = std::mem::take(&mut *kept.lock().unwrap());
    assert!(!asked.is_empty());
}

#[test]
fn what_a_killed_process_left_in_staging_is_swept() {
    const NAME: &str = "mount::kernel_tests::dead::what_a_killed_process_left_in_staging_is_swept";
    if let Some(directory) = given_directory() {
        let prepared = prepare(&request(&directory, Method::Classic)).unwrap();
        let _served = serve(&prepared);
        return ready();
    }
    if !is_root() {
        return;
    }
    let playground = Playground::new();
    let mut daemon = child(NAME, &playground.target(), 0);
    daemon.wait_until_ready();
    let staging = format!("/run/secretfs-staging-{}-0", daemon.pid());
    let mounts = || mounts_below(Path::new(&staging)).len();
    assert_eq!(mounts(), 3);
    sweep().unwrap();
    assert_eq!(mounts(), 3, "the staging place of a living process was swept");
    daemon.dies();
    sweep().unwrap();
    // Another test that mounts this way may sweep too, and be in the middle of it.
    let deadline = Instant::now() + DEADLINE;
    while mounts() > 0 || Path::new(&staging).exists() {
        assert!(Instant::now() < deadline, "{} mounts are left", mounts());
        std::thread::sleep(Duration::from_millis(5));
    }
}
