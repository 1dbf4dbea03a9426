//! The two ways for root, and a descriptor that somebody else mounted.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount};

use crate::mount::table::Table;
use crate::mount::testing::*;
use crate::mount::*;

const BOTH: [Method; 2] = [Method::NewApi, Method::Classic];

/// Runs `body` in a process of its own, where no other test can be seen.
fn alone(name: &str, body: impl Fn(&Path, Method)) {
    if let Some(directory) = given_directory() {
        for method in BOTH {
            body(&directory, method);
        }
    } else if is_root() {
        let playground = Playground::new();
        child(&format!("mount::kernel_tests::privileged::{name}"), &playground.target(), 0).succeeds();
        assert!(playground.mounts().is_empty(), "{:?}", playground.mounts());
    }
}

/// Staging places that this process has below /run.
fn staging_places() -> Vec<String> {
    let mine = format!("secretfs-staging-{}-", std::process::id());
    let names = fs::read_dir("/run").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(&mine)).collect()
}

#[test]
fn the_mount_is_seen_when_it_is_attached_and_not_before() {
    for method in BOTH {
        if !is_root() {
            return;
        }
        let playground = Playground::new();
        let target = playground.target();
        let prepared = prepare(&request(&target, method)).unwrap();
        let served = serve(&prepared);
        let warmed = rustix::fs::statat(prepared.root().unwrap(), "hello", AtFlags::empty()).unwrap();
        assert_eq!(warmed.st_size as usize, HELLO.len());
        assert!(playground.mounts().is_empty() && fs::read_dir(&target).unwrap().next().is_none());

        let attached = prepared.attach().unwrap();
        assert_eq!(fs::read(target.join("hello")).unwrap(), HELLO, "{method:?}");
        drop(attached);
        assert!(served.is_running());
    }
}

#[test]
fn people_see_a_read_only_mount_with_our_name_on_it() {
    for method in BOTH {
        if !is_root() {
            return;
        }
        let playground = Playground::new();
        let prepared = prepare(&request(&playground.target(), method)).unwrap();
        let _served = serve(&prepared);
        let _attached = prepared.attach().unwrap();
        let [entry] = &playground.mounts()[..] else { panic!("{:?}", playground.mounts()) };
        assert_eq!(
            (entry.fs_type.as_str(), entry.source.to_str()),
            ("fuse.secretfs", Some("secretfs:default/secret/my,secret"))
        );
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(entry.has_option(option), "{method:?}: {option} is missing from {}", entry.options);
        }
        assert!(entry.super_options.starts_with("rw,"), "{}", entry.super_options);
        assert!(entry.super_options.contains("default_permissions") && !entry.super_options.contains("allow_other"));
        assert_eq!(entry.root, Path::new("/"));
        let refused = fs::create_dir(playground.target().join("new")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem, "{method:?}");
    }
}

#[test]
fn the_publisher_writes_through_its_own_door_and_people_see_it() {
    for method in BOTH {
        if !is_root() {
            return;
        }
        let playground = Playground::new();
        let target = playground.target();
        let prepared = prepare(&request(&target, method)).unwrap();
        let _served = serve(&prepared);
        let mut attached = prepared.attach().unwrap();
        let Announce::Private(door) = attached.take_announce() else { panic!("{method:?}") };
        rustix::fs::mkdirat(&door, "new", Mode::RWXU).unwrap();
        assert!(target.join("new").is_dir());
        assert!(matches!(attached.take_announce(), Announce::Nowhere));
        assert!(rustix::io::fcntl_getfd(&door).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
}

#[test]
fn after_detaching_and_closing_the_door_nothing_is_left() {
    alone("after_detaching_and_closing_the_door_nothing_is_left", |directory, method| {
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = descriptors();
        let prepared = prepare(&request(directory, method)).unwrap();
        let served = serve(&prepared);
        let mut attached = prepared.attach().unwrap();
        assert!(staging_places().is_empty(), "{:?}", staging_places());
        let device = attached.place.as_ref().unwrap().identity.device;
        attached.detach().unwrap();
        attached.detach().unwrap();
        assert_eq!(Table::read().unwrap().of_device(device).count(), 0);
        // The door alone keeps the file system alive.
        assert!(served.is_running());
        drop(attached.take_announce());
        assert!(served.ends(), "{method:?}");
        assert_eq!(descriptors(), before, "{method:?}");
    });
}

#[test]
fn a_mount_that_was_prepared_but_not_wanted_leaves_nothing() {
    alone("a_mount_that_was_prepared_but_not_wanted_leaves_nothing", |directory, method| {
        let prepared = prepare(&request(directory, method)).unwrap();
        let served = serve(&prepared);
        drop(prepared);
        assert!(served.ends(), "{method:?}");
        assert!(mounts_below(directory).is_empty());
        assert!(staging_places().is_empty(), "{:?}", staging_places());
    });
}

#[test]
fn a_plain_umount_lets_people_keep_what_they_have_open_but_not_the_mount_busy() {
    for method in BOTH {
        if !is_root() {
            return;
        }
        let playground = Playground::new();
        let target = playground.target();
        let prepared = prepare(&request(&target, method)).unwrap();
        let _served = serve(&prepared);
        let attached = prepared.attach().unwrap();
        // Neither the door nor anything else of ours is in the mount that people see.
        unmount(&target, UnmountFlags::empty()).unwrap();
        drop(attached);
    }
}

#[test]
fn a_mount_follows_its_directory_when_that_is_renamed_meanwhile() {
    for method in BOTH {
        if !is_root() {
            return;
        }
        let playground = Playground::new();
        let (target, moved) = (playground.target(), playground.path().join("moved"));
        let prepared = prepare(&request(&target, method)).unwrap();
        let _served = serve(&prepared);
        fs::rename(&target, &moved).unwrap();
        std::os::unix::fs::symlink("/etc", &target).unwrap();
        let attached = prepared.attach().unwrap();
        assert_eq!(fs::read(moved.join("hello")).unwrap(), HELLO, "{method:?}");
        attached.detach().unwrap();
        assert!(playground.mounts().is_empty());
    }
}

#[test]
fn below_a_shared_mount_every_copy_is_read_only_and_goes_with_ours() {
    for method in BOTH {
        if !is_root() {
            return;
        }
        // As on a host where systemd has made everything shared, and a container sees a part of it.
        let playground = Playground::new();
        let (shared, copy) = (playground.path().join("shared"), playground.path().join("a-copy"));
        fs::create_dir(&shared).unwrap();
        fs::create_dir(&copy).unwrap();
        mount("x", &shared, "tmpfs", MountFlags::empty(), None).unwrap();
        mount_change(&shared, MountPropagationFlags::SHARED).unwrap();
        mount_bind(&shared, &copy).unwrap();
        let target = shared.join("mnt");
        fs::create_dir(&target).unwrap();

        let prepared = prepare(&request(&target, method)).unwrap();
        let served = serve(&prepared);
        let mut attached = prepared.attach().unwrap();
        assert_eq!(attached.place.as_ref().unwrap().path, target);
        let ours: Vec<_> = playground.mounts().into_iter().filter(|entry| entry.is_ours()).collect();
        assert_eq!(ours.len(), 2, "{ours:?}");
        assert!(ours.iter().all(|entry| entry.has_option("ro")), "{ours:?}");
        // What others mount in it does not come to the publisher's door, where it would be in the way.
        let Announce::Private(door) = attached.take_announce() else { panic!() };
        rustix::fs::mkdirat(&door, "new", Mode::RWXU).unwrap();
        mount_bind("/proc", target.join("new")).unwrap();
        assert!(target.join("new/self").exists());
        assert!(rustix::fs::statat(&door, "new/self", AtFlags::SYMLINK_NOFOLLOW).is_err(), "{method:?}");
        unmount(target.join("new"), UnmountFlags::empty()).unwrap();

        attached.detach().unwrap();
        assert!(playground.mounts().iter().all(|entry| !entry.is_ours()));
        drop(door);
        assert!(served.ends());
    }
}

#[test]
fn a_source_of_any_length_can_be_mounted() {
    for method in BOTH {
        if !is_root() {
            return;
        }
        let playground = Playground::new();
        let request = Request { source: "s/".repeat(300), ..request(&playground.target(), method) };
        let prepared = prepare(&request).unwrap();
        let _served = serve(&prepared);
        prepared.attach().unwrap();
        assert!(playground.mounts()[0].source.to_str().unwrap().ends_with("..."));
    }
}

/// As it would come through exec.
fn passed_duplicate(fuse: &OwnedFd) -> RawFd {
    let duplicate = fuse.try_clone().unwrap();
    rustix::io::fcntl_setfd(&duplicate, rustix::io::FdFlags::empty()).unwrap();
    duplicate.into_raw_fd()
}

#[test]
fn a_passed_descriptor_is_taken_over_with_its_mount() {
    const NAME: &str = "mount::kernel_tests::privileged::a_passed_descriptor_is_taken_over_with_its_mount";
    if !is_root() {
        return;
    }
    // In a process of its own, since the descriptor is open to every child for a moment.
    let Some(directory) = given_directory() else {
        let playground = Playground::new();
        child(NAME, &playground.target(), 0).succeeds();
        assert!(playground.mounts().is_empty());
        return;
    };
    let theirs = prepare(&request(&directory, Method::NewApi)).unwrap();
    let passed = passed_duplicate(&theirs.fuse);
    let mut theirs = theirs.attach().unwrap();

    let request = Request { method: None, ..request(Path::new(&format!("/dev/fd/{passed}")), Method::Passed) };
    let prepared = prepare(&request).unwrap();
    assert_eq!(prepared.method, Method::Passed);
    assert!(rustix::io::fcntl_getfd(&prepared.fuse).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    assert!(matches!(prepare(&request), Err(MountError::BadDescriptor { .. })), "it was taken twice");
    let served = serve(&prepared);
    let attached = prepared.attach().unwrap();
    // That mount is read-only.
    assert!(matches!(attached.announce, Announce::Nowhere));
    let place = attached.place.as_ref().unwrap();
    assert_eq!(place.path, directory);
    assert!(place.identity.is(&theirs.place.as_ref().unwrap().identity));
    assert_eq!(fs::read(directory.join("hello")).unwrap(), HELLO);
    // It is not ours to unmount.
    attached.detach().unwrap();
    assert!(directory.join("hello").exists());
    theirs.detach().unwrap();
    drop(theirs.take_announce());
    assert!(served.ends());
}

#[test]
fn a_passed_descriptor_with_a_writable_mount_lets_the_publisher_in() {
    const NAME: &str =
        "mount::kernel_tests::privileged::a_passed_descriptor_with_a_writable_mount_lets_the_publisher_in";
    if !is_root() {
        return;
    }
    let Some(directory) = given_directory() else {
        let playground = Playground::new();
        child(NAME, &playground.target(), 0).succeeds();
        return;
    };
    let theirs = prepare(&request(&directory, Method::Fusermount)).unwrap();
    let passed = passed_duplicate(&theirs.fuse);
    let theirs = theirs.attach().unwrap();
    let prepared = prepare(&request(Path::new(&format!("/proc/self/fd/{passed}")), Method::Passed)).unwrap();
    let served = serve(&prepared);
    let attached = prepared.attach().unwrap();
    assert!(matches!(&attached.announce, Announce::Path(path) if *path == directory));
    fs::create_dir(directory.join("new")).unwrap();
    theirs.detach().unwrap();
    assert!(served.ends());
}

#[test]
fn an_autofs_mount_point_is_not_set_off_but_mounted_on() {
    const NAME: &str = "mount::kernel_tests::privileged::an_autofs_mount_point_is_not_set_off_but_mounted_on";
    if !is_root() {
        return;
    }
    // In a process of its own: whoever sets off this automount hangs, since nobody serves it.
    let Some(directory) = given_directory() else {
        let playground = Playground::new();
        let target = playground.target();
        child(NAME, &target, 0).succeeds();
        return;
    };
    let (_read, write) = rustix::pipe::pipe().unwrap();
    let mut other_group =
        std::os::unix::process::CommandExt::process_group(std::process::Command::new("sleep").arg("60"), 0)
            .spawn()
            .unwrap();
    let data = format!("fd={},pgrp={},minproto=5,maxproto=5,direct", write.as_raw_fd(), other_group.id());
    let data = std::ffi::CString::new(data).unwrap();
    mount("systemd-1", &directory, "autofs", MountFlags::empty(), data.as_c_str()).unwrap();
    for method in BOTH {
        let prepared = prepare(&request(&directory, method)).unwrap();
        let _served = serve(&prepared);
        let attached = prepared.attach().unwrap();
        assert_eq!(fs::read(directory.join("hello")).unwrap(), HELLO);
        attached.detach().unwrap();
    }
    unmount(&directory, UnmountFlags::DETACH).unwrap();
    other_group.kill().unwrap();
    other_group.wait().unwrap();
}
