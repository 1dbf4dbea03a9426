//! Unmounting hits the right mount, says who is in the way, and the watch sees it.

use std::fs;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_move};

use crate::mount::testing::*;
use crate::mount::unmount::{unmount, unmount_lazy};
use crate::mount::*;

#[test]
fn who_is_in_the_way_is_named_and_lazily_it_goes() {
    if !is_root() {
        return;
    }
    let playground = Playground::new();
    let target = playground.target();
    let prepared = prepare(&request(&target, Method::NewApi)).unwrap();
    let served = serve(&prepared);
    let mut attached = prepared.attach().unwrap();
    let held = fs::File::open(target.join("hello")).unwrap();
    let error = unmount(&target).unwrap_err();
    let me = format!("process {}", std::process::id());
    assert!(matches!(&error, MountError::Busy { users, .. } if users.contains(&me)), "{error}");
    assert!(error.to_string().contains("--lazy"));
    unmount_lazy(&target).unwrap();
    assert!(playground.mounts().is_empty() && served.is_running());
    drop((held, attached.take_announce()));
    assert!(served.ends());
}

#[test]
fn a_short_visit_does_not_make_it_busy() {
    if !is_root() {
        return;
    }
    let playground = Playground::new();
    let target = playground.target();
    let prepared = prepare(&request(&target, Method::NewApi)).unwrap();
    let _served = serve(&prepared);
    let _attached = prepared.attach().unwrap();
    let visit = fs::File::open(target.join("hello")).unwrap();
    let visitor = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(60));
        drop(visit);
    });
    unmount(&target).unwrap();
    visitor.join().unwrap();
}

#[test]
fn a_mount_of_somebody_else_on_the_same_path_is_never_touched() {
    if !is_root() {
        return;
    }
    for method in [Method::NewApi, Method::Classic, Method::Fusermount] {
        let playground = Playground::new();
        let target = playground.target();
        let prepared = prepare(&request(&target, method)).unwrap();
        let _served = serve(&prepared);
        let attached = prepared.attach().unwrap();
        rustix::mount::unmount(&target, UnmountFlags::DETACH).unwrap();
        mount("theirs", &target, "tmpfs", MountFlags::empty(), None).unwrap();
        attached.detach().unwrap();
        assert_eq!(playground.mounts()[0].source, "theirs", "{method:?}");
    }
}

#[test]
fn a_mount_of_our_own_kind_on_the_same_path_is_not_touched_either() {
    if !is_root() {
        return;
    }
    let playground = Playground::new();
    let target = playground.target();
    let first = prepare(&request(&target, Method::Fusermount)).unwrap();
    let _first_served = serve(&first);
    let first = first.attach().unwrap();
    // The device and the mount id become free, and the second mount is likely to get both.
    unmount(&target).unwrap();
    let second = prepare(&request(&target, Method::Fusermount)).unwrap();
    let _second_served = serve(&second);
    let second = second.attach().unwrap();
    first.detach().unwrap();
    assert_eq!(fs::read(target.join("hello")).unwrap(), HELLO);
    second.detach().unwrap();
    assert!(playground.mounts().is_empty());
}

#[test]
fn a_mount_that_is_covered_is_not_reached_through_its_cover() {
    if !is_root() {
        return;
    }
    let playground = Playground::new();
    let target = playground.target();
    let prepared = prepare(&request(&target, Method::NewApi)).unwrap();
    let _served = serve(&prepared);
    let attached = prepared.attach().unwrap();
    mount("cover", &target, "tmpfs", MountFlags::empty(), None).unwrap();
    assert!(matches!(attached.detach(), Err(MountError::Covered { .. })));
    assert!(matches!(unmount(&target), Err(MountError::NotOurs { .. })));
    rustix::mount::unmount(&target, UnmountFlags::empty()).unwrap();
    attached.detach().unwrap();
    assert!(playground.mounts().is_empty());
}

#[test]
fn a_mount_that_was_moved_is_found() {
    if !is_root() {
        return;
    }
    let playground = Playground::new();
    let (target, moved) = (playground.target(), playground.path().join("moved"));
    fs::create_dir(&moved).unwrap();
    let prepared = prepare(&request(&target, Method::NewApi)).unwrap();
    let _served = serve(&prepared);
    let attached = prepared.attach().unwrap();
    mount_move(&target, &moved).unwrap();
    attached.detach().unwrap();
    assert!(playground.mounts().is_empty());
}

#[test]
fn the_watch_ends_with_the_last_public_mount() {
    if !is_root() {
        return;
    }
    for method in [Method::NewApi, Method::Classic, Method::Fusermount] {
        let playground = Playground::new();
        let (target, second) = (playground.target(), playground.path().join("second"));
        fs::create_dir(&second).unwrap();
        let prepared = prepare(&request(&target, method)).unwrap();
        let served = serve(&prepared);
        let mut attached = prepared.attach().unwrap();
        rustix::mount::mount_bind(&target, &second).unwrap();
        let mut watch = attached.watch().unwrap().unwrap();
        let waker = watch.waker();
        let (tell, seen) = std::sync::mpsc::channel();
        let watching = std::thread::spawn(move || tell.send(watch.wait().unwrap()));

        unmount(&target).unwrap();
        let early = seen.recv_timeout(std::time::Duration::from_millis(100));
        assert!(early.is_err(), "one of two mounts is left");
        unmount(&second).unwrap();
        assert_eq!(seen.recv_timeout(DEADLINE), Ok(Seen::Unmounted), "{method:?}");
        watching.join().unwrap().unwrap();
        waker.wake();
        drop(attached.take_announce());
        assert!(served.ends());
    }
}

#[test]
fn a_watch_can_be_woken_and_stays_awake() {
    let device = identity::identify(fs::File::open("/proc").unwrap()).unwrap().device;
    let mut watch = Watch::new(device).unwrap();
    watch.waker().wake();
    assert_eq!(watch.wait().unwrap(), Seen::Woken);
    assert_eq!(watch.wait().unwrap(), Seen::Woken);
}
