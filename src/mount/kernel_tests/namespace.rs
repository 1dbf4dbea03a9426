//! The private namespace, as an ordinary user.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::mount::private::{Map, enter};
use crate::mount::testing::*;
use crate::mount::*;

/// Runs `body` as an ordinary user in a single-threaded process. It is given a directory, and must call [`ready`] when
/// its mounts are to be looked for from outside.
fn as_nobody(name: &str, body: impl FnOnce(PathBuf) + std::panic::UnwindSafe) {
    if let Some(directory) = given_directory() {
        in_one_thread(move || body(directory));
    } else if is_root() {
        open_fuse_to_all();
        let playground = Playground::for_user(NOBODY);
        let mut child = child(&format!("mount::kernel_tests::namespace::{name}"), &playground.path(), NOBODY);
        child.wait_until_ready();
        // Whatever it has mounted, nobody outside sees it.
        assert!(playground.mounts().is_empty(), "{:?}", playground.mounts());
        child.succeeds();
    }
}

#[test]
fn an_ordinary_user_mounts_without_a_helper_and_nobody_outside_sees_it() {
    as_nobody("an_ordinary_user_mounts_without_a_helper_and_nobody_outside_sees_it", |directory| {
        enter(Map::caller()).unwrap();
        assert_eq!(rustix::process::getuid().as_raw(), NOBODY);
        for method in [None, Some(Method::Classic)] {
            let target = directory.join(format!("{method:?}"));
            fs::create_dir(&target).unwrap();
            let prepared = prepare(&Request { method, ..request(&target, Method::NewApi) }).unwrap();
            assert_eq!(prepared.method, method.unwrap_or(Method::NewApi));
            let served = serve(&prepared);
            let mut attached = prepared.attach().unwrap();
            assert_eq!(fs::read(target.join("hello")).unwrap(), HELLO);
            assert!(mounts_below(&directory)[0].has_option("ro"));
            let Announce::Private(door) = attached.take_announce() else { panic!() };
            rustix::fs::mkdirat(&door, "new", rustix::fs::Mode::RWXU).unwrap();
            assert!(target.join("new").is_dir());
            if method.is_some() {
                ready();
            }
            attached.detach().unwrap();
            drop(door);
            assert!(served.ends());
        }
        assert!(mounts_below(&directory).is_empty());
    });
}

#[test]
fn a_watch_sleeps_while_the_mount_table_rests_and_sees_the_end() {
    as_nobody("a_watch_sleeps_while_the_mount_table_rests_and_sees_the_end", |directory| {
        // In a namespace of its own, so that no other test touches the table.
        enter(Map::caller()).unwrap();
        let target = directory.join("mnt");
        fs::create_dir(&target).unwrap();
        let prepared = prepare(&request(&target, Method::NewApi)).unwrap();
        let served = serve(&prepared);
        let mut attached = prepared.attach().unwrap();
        // Even here the table changes when a directory is removed outside on which something was mounted before the
        // namespaces parted (`detach_mounts`, fs/namespace.c). So count in a while in which it did not change.
        let table = || fs::read("/proc/self/mountinfo").unwrap();
        let deadline = Instant::now() + DEADLINE;
        loop {
            let before = table();
            let mut watch = attached.watch().unwrap().unwrap();
            let waker = watch.waker();
            let watching = std::thread::spawn(move || (watch.wait().unwrap(), watch.wake_ups()));
            std::thread::sleep(Duration::from_millis(300));
            waker.wake();
            let counted = watching.join().unwrap();
            if table() == before {
                break assert_eq!(counted, (Seen::Woken, 0));
            }
            assert!(Instant::now() < deadline, "the mount table never rests");
        }

        let mut watch = attached.watch().unwrap().unwrap();
        let watching = std::thread::spawn(move || watch.wait().unwrap());
        ready();
        attached.detach().unwrap();
        let seen = watching.join().unwrap();
        assert_eq!(seen, Seen::Unmounted);
        drop(attached.take_announce());
        assert!(served.ends());
    });
}

#[test]
fn the_caller_may_be_root_inside() {
    as_nobody("the_caller_may_be_root_inside", |_| {
        enter(Map { uid: 0, gid: 0 }).unwrap();
        assert!(is_root());
        ready();
    });
}

#[test]
fn namespaces_that_are_switched_off_are_told_with_the_switch() {
    as_nobody("namespaces_that_are_switched_off_are_told_with_the_switch", |_| {
        // The limit belongs to the namespace: inside of ours it can be set without touching the host.
        enter(Map { uid: 0, gid: 0 }).unwrap();
        fs::write("/proc/sys/user/max_user_namespaces", "0").unwrap();
        let error = enter(Map::caller()).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, MountError::NamespacesOff { .. }) && text.contains("max_user_namespaces = 0"),
            "{text}"
        );
        ready();
    });
}

#[test]
fn mounting_still_works_in_a_process_that_cannot_be_dumped() {
    as_nobody("mounting_still_works_in_a_process_that_cannot_be_dumped", |directory| {
        enter(Map::caller()).unwrap();
        crate::memory::harden().unwrap();
        for method in [Method::NewApi, Method::Classic] {
            let target = directory.join(format!("{method:?}"));
            fs::create_dir(&target).unwrap();
            let prepared = prepare(&request(&target, method)).unwrap();
            let served = serve(&prepared);
            let mut attached = prepared.attach().unwrap();
            assert_eq!(fs::read(target.join("hello")).unwrap(), HELLO);
            attached.detach().unwrap();
            drop(attached.take_announce());
            assert!(served.ends());
        }
        ready();
    });
}

#[test]
fn root_gets_a_private_namespace_too() {
    const NAME: &str = "mount::kernel_tests::namespace::root_gets_a_private_namespace_too";
    if let Some(directory) = given_directory() {
        return in_one_thread(move || {
            enter(Map::caller()).unwrap();
            let prepared = prepare(&request(&directory, Method::NewApi)).unwrap();
            let _served = serve(&prepared);
            let _attached = prepared.attach().unwrap();
            assert_eq!(fs::read(directory.join("hello")).unwrap(), HELLO);
            // It ends without unmounting anything: the namespace goes with it.
            ready();
        });
    }
    if is_root() {
        let playground = Playground::new();
        let mut child = child(NAME, &playground.target(), 0);
        child.wait_until_ready();
        assert!(playground.mounts().is_empty());
        child.succeeds();
    }
}

#[test]
fn a_user_namespace_without_a_mount_namespace_is_told_what_is_missing() {
    const NAME: &str =
        "mount::kernel_tests::namespace::a_user_namespace_without_a_mount_namespace_is_told_what_is_missing";
    if let Some(directory) = given_directory() {
        let request = Request { method: None, ..request(&directory, Method::Classic) };
        let error = prepare(&request).unwrap_err().to_string();
        assert!(error.contains("unshare -m"), "{error}");
        return;
    }
    if is_root() {
        let playground = Playground::new();
        let status = std::process::Command::new("unshare")
            .arg("-Ur")
            .arg(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--test-threads=1"])
            .env("SECRETFS_TEST_CHILD", playground.target())
            .status();
        assert!(status.is_ok_and(|status| status.success()));
    }
}
