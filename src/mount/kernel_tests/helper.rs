//! The setuid helper, as an ordinary user.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::mount::testing::*;
use crate::mount::*;

fn has_helper() -> bool {
    Path::new("/usr/bin/fusermount3").exists() || Path::new("/bin/fusermount3").exists()
}

/// Runs the rest of the test as an ordinary user; `None` in the parent, which is done then.
fn as_nobody(name: &str) -> Option<std::path::PathBuf> {
    if let Some(directory) = given_directory() {
        return Some(directory);
    }
    if is_root() && has_helper() {
        open_fuse_to_all();
        let playground = Playground::for_user(NOBODY);
        let name = format!("mount::kernel_tests::helper::{name}");
        child(&name, &playground.path(), NOBODY).succeeds();
        assert!(playground.mounts().is_empty(), "{:?}", playground.mounts());
    }
    None
}

fn empty_directory_in(directory: &Path) -> std::path::PathBuf {
    let target = directory.join("mnt");
    fs::create_dir(&target).unwrap();
    target
}

#[test]
fn an_ordinary_user_mounts_writes_and_detaches() {
    let Some(directory) = as_nobody("an_ordinary_user_mounts_writes_and_detaches") else { return };
    let target = empty_directory_in(&directory);
    let prepared = prepare(&Request { method: None, ..request(&target, Method::Fusermount) }).unwrap();
    assert_eq!(prepared.method, Method::Fusermount);
    assert!(rustix::io::fcntl_getfd(&prepared.fuse).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    let served = serve(&prepared);
    let attached = prepared.attach().unwrap();
    let [entry] = &mounts_below(&directory)[..] else { panic!() };
    assert_eq!(
        (entry.fs_type.as_str(), entry.source.to_str()),
        ("fuse.secretfs", Some("secretfs:default/secret/my,secret"))
    );
    for option in ["rw", "nosuid", "nodev", "noexec"] {
        assert!(entry.has_option(option), "{option} is missing from {}", entry.options);
    }
    assert_eq!(fs::read(target.join("hello")).unwrap(), HELLO);
    assert!(matches!(&attached.announce, Announce::Path(path) if *path == target));
    fs::create_dir(target.join("new")).unwrap();

    attached.detach().unwrap();
    attached.detach().unwrap();
    assert!(served.ends());
    assert!(mounts_below(&directory).is_empty());
    let left = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
    assert!(matches!(left, Err(rustix::io::Errno::CHILD)), "a child is left: {left:?}");
}

#[test]
fn a_process_that_cannot_be_dumped_mounts_and_detaches_too() {
    let Some(directory) = as_nobody("a_process_that_cannot_be_dumped_mounts_and_detaches_too") else { return };
    crate::memory::harden().unwrap();
    let target = empty_directory_in(&directory);
    let prepared = prepare(&request(&target, Method::Fusermount)).unwrap();
    let served = serve(&prepared);
    let attached = prepared.attach().unwrap();
    assert!(unmount::stale_mounts().unwrap().iter().all(|entry| entry.mount_point != target));
    assert_eq!(fs::read(target.join("hello")).unwrap(), HELLO);
    attached.detach().unwrap();
    assert!(served.ends());
}

#[test]
fn a_mount_in_use_is_detached_all_the_same() {
    let Some(directory) = as_nobody("a_mount_in_use_is_detached_all_the_same") else { return };
    let target = empty_directory_in(&directory);
    let prepared = prepare(&request(&target, Method::Fusermount)).unwrap();
    let served = serve(&prepared);
    let attached = prepared.attach().unwrap();
    let held = fs::File::open(target.join("hello")).unwrap();
    assert!(matches!(unmount::unmount(&target), Err(MountError::Busy { users, .. }) if users.contains("process")));
    attached.detach().unwrap();
    assert!(mounts_below(&directory).is_empty() && served.is_running());
    drop(held);
    assert!(served.ends());
}

#[test]
fn a_mount_that_was_prepared_but_not_wanted_is_taken_back() {
    let Some(directory) = as_nobody("a_mount_that_was_prepared_but_not_wanted_is_taken_back") else { return };
    let prepared = prepare(&request(&empty_directory_in(&directory), Method::Fusermount)).unwrap();
    assert_eq!(mounts_below(&directory).len(), 1);
    drop(prepared);
    assert!(mounts_below(&directory).is_empty());
}

#[test]
fn an_ordinary_user_unmounts_by_command() {
    let Some(directory) = as_nobody("an_ordinary_user_unmounts_by_command") else { return };
    let target = empty_directory_in(&directory);
    let prepared = prepare(&request(&target, Method::Fusermount)).unwrap();
    let served = serve(&prepared);
    let _attached = prepared.attach().unwrap();
    unmount::unmount(&target).unwrap();
    assert!(served.ends());
}

#[test]
fn what_the_helper_would_refuse_is_refused_before_with_the_reason() {
    let Some(directory) = as_nobody("what_the_helper_would_refuse_is_refused_before_with_the_reason") else { return };
    let refusal =
        |path: &Path| prepare(&Request { allow_nonempty: true, ..request(path, Method::Fusermount) }).unwrap_err();
    assert!(matches!(refusal(Path::new("/srv")), MountError::NotWritable { .. }));
    let target = empty_directory_in(&directory);
    fs::set_permissions(&target, std::os::unix::fs::PermissionsExt::from_mode(0o500)).unwrap();
    assert!(matches!(refusal(&target), MountError::NotWritable { .. }));
}

#[test]
fn allow_other_without_permission_names_the_file_to_edit() {
    let Some(directory) = as_nobody("allow_other_without_permission_names_the_file_to_edit") else { return };
    if fs::read_to_string("/etc/fuse.conf").unwrap_or_default().lines().any(|line| line.trim() == "user_allow_other") {
        return;
    }
    let request = Request { allow_other: true, ..request(&empty_directory_in(&directory), Method::Fusermount) };
    let error = prepare(&request).unwrap_err();
    assert!(matches!(error, MountError::AllowOtherDenied { .. }), "{error}");
}

#[test]
fn a_process_without_new_privileges_is_told_why_the_helper_fails() {
    let Some(directory) = as_nobody("a_process_without_new_privileges_is_told_why_the_helper_fails") else { return };
    rustix::thread::set_no_new_privs(true).unwrap();
    let error = prepare(&request(&empty_directory_in(&directory), Method::Fusermount)).unwrap_err();
    assert!(matches!(error, MountError::HelperPowerless { .. }), "{error}");
}

#[test]
fn the_path_variable_of_the_user_is_not_searched() {
    let Some(directory) = as_nobody("the_path_variable_of_the_user_is_not_searched") else { return };
    let (trap, sprung) = (directory.join("fusermount3"), directory.join("sprung"));
    fs::write(&trap, format!("#!/bin/sh\ntouch {}\n", sprung.display())).unwrap();
    fs::set_permissions(&trap, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let name = "mount::kernel_tests::helper::an_ordinary_user_mounts_writes_and_detaches";
    let status = Command::new("/proc/self/exe")
        .args([name, "--exact", "--test-threads=1"])
        .env("PATH", &directory)
        .env("FUSERMOUNT_PATH", &trap)
        .status()
        .unwrap();
    assert!(status.success() && !sprung.exists());
}

#[test]
fn an_ordinary_user_cannot_unmount_what_root_has_mounted() {
    const NAME: &str = "mount::kernel_tests::helper::an_ordinary_user_cannot_unmount_what_root_has_mounted";
    if let Some(directory) = given_directory() {
        let error = unmount::unmount(&directory).unwrap_err();
        assert!(matches!(error, MountError::NotPermitted { .. }), "{error}");
        return;
    }
    if !is_root() || !has_helper() {
        return;
    }
    let playground = Playground::new();
    let target = playground.target();
    let prepared = prepare(&Request { allow_other: true, ..request(&target, Method::NewApi) }).unwrap();
    let _served = serve(&prepared);
    let _attached = prepared.attach().unwrap();
    child(NAME, &target, NOBODY).succeeds();
    assert_eq!(playground.mounts().len(), 1);
}

#[test]
fn root_may_use_the_helper_too() {
    if !is_root() || !has_helper() {
        return;
    }
    let playground = Playground::new();
    let target = playground.target();
    let prepared = prepare(&request(&target, Method::Fusermount)).unwrap();
    let served = serve(&prepared);
    let attached = prepared.attach().unwrap();
    assert_eq!(fs::read(target.join("hello")).unwrap(), HELLO);
    attached.detach().unwrap();
    assert!(served.ends());
}
