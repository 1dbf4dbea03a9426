//! Where a mount can be made and ended, and where not.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use super::{is_refusal, refused, sandbox};
use crate::support::playground::secret;
use crate::support::user::{ROOT, User, ordinary};
use crate::support::{run, succeed, wait_until};

#[test]
fn a_mount_point_that_cannot_be_used_is_refused_and_nothing_is_lost() {
    let sandbox = sandbox();
    let refuse = |dir: &str, parts: &[&str]| {
        refused(&sandbox, ROOT, &["mount", "-f", "good.yaml", "secret/s", dir].map(OsStr::new), 7, parts);
    };
    refuse("missing", &["does not exist", "mkdir"]);
    refuse("", &["does not exist"]);
    refuse("good.yaml", &["not a directory"]);
    refuse("good.yaml/below", &["Not a directory"]);
    sandbox.mkdir("full");
    sandbox.write("full/.precious", "kept");
    refuse("full", &["not empty", "empty directory"]);
    assert_eq!(std::fs::read_to_string(sandbox.path("full/.precious")).expect("read"), "kept");
    for dir in ["/", "/etc", "/usr/bin", "/proc", "/proc/self", "/dev", "/sys/fs", "/tmp", "/run", "/var/../etc"] {
        refuse(dir, &["a directory of the system"]);
    }

    let other = sandbox.mkdir("other");
    succeed(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&other));
    refuse("other", &["another file system (tmpfs)"]);
    succeed(Command::new("umount").arg(&other));
}

#[test]
fn nonempty_hides_files_and_gives_them_back() {
    let sandbox = sandbox();
    sandbox.write("mnt/.precious", "kept");
    succeed(sandbox.secretfs().args(["mount", "-f", "good.yaml", "--nonempty", "secret/s", "mnt"]));
    assert!(!sandbox.path("mnt/.precious").exists());
    assert_eq!(std::fs::read(sandbox.path("mnt/key")).expect("read"), b"value");
    succeed(sandbox.secretfs().args(["umount", "mnt"]));
    sandbox.is_clean();
    assert_eq!(std::fs::read_to_string(sandbox.path("mnt/.precious")).expect("read"), "kept");
}

#[test]
fn a_directory_that_is_mounted_by_secretfs_keeps_its_mount() {
    let sandbox = sandbox();
    let mount = || {
        let mut command = sandbox.secretfs();
        command.args(["mount", "-f", "good.yaml", "secret/s", "mnt"]);
        command
    };
    succeed(&mut mount());
    let mut again = mount();
    let output = run(&mut again);
    is_refusal(&again, &output, 7, &["mounted by secretfs already", "secretfs umount"]);
    assert_eq!(std::fs::read_to_string(sandbox.path("mnt/key")).expect("read"), "value");
    wait_until("the end of the refused daemon", || sandbox.processes().len() == 1);
    succeed(sandbox.secretfs().args(["umount", "mnt"]));
    sandbox.is_clean();
}

#[test]
fn an_ordinary_user_is_told_why_a_directory_will_not_do() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = sandbox();
    let refuse = |dir: &str, parts: &[&str]| {
        refused(&sandbox, ordinary(), &["mount", "-f", "good.yaml", "secret/s", dir].map(OsStr::new), 7, parts);
    };
    sandbox.mkdir("roots");
    refuse("roots", &["not writable by you", "own directories"]);
    refuse("tmp", &["sticky bit", "mkdir"]);
    sandbox.mkdir("closed");
    ordinary().owns(&sandbox.mkdir("closed/mine"));
    std::fs::set_permissions(sandbox.path("closed"), PermissionsExt::from_mode(0o700)).expect("chmod");
    refuse("closed/mine", &["cannot reach", "ermission"]);
    let sandbox = self::sandbox();
    let args = ["mount", "-f", "good.yaml", "--mount-with", "new-api", "secret/s", "mnt"].map(OsStr::new);
    refused(&sandbox, ordinary(), &args, 8, &["ermi"]);
}

#[test]
fn umount_touches_nothing_but_mounts_of_secretfs() {
    let sandbox = sandbox();
    let umount = |dir: &str, parts: &[&str]| refused(&sandbox, ROOT, &["umount", dir].map(OsStr::new), 7, parts);
    umount("missing", &["does not exist"]);
    umount("mnt", &["nothing is mounted", "secretfs status"]);
    umount("/proc", &["not a mount of secretfs but proc"]);
    let other = sandbox.mkdir("other");
    succeed(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&other));
    umount("other", &["not a mount of secretfs but tmpfs"]);
    refused(&sandbox, ROOT, &["umount", "--lazy", "other"].map(OsStr::new), 7, &["not a mount of secretfs"]);
    assert_eq!(sandbox.mounts(), [other.as_path()]);
    succeed(Command::new("umount").arg(&other));

    // Somebody else's.
    succeed(sandbox.secretfs().args(["mount", "-f", "good.yaml", "secret/s", "mnt"]));
    let mut command = sandbox.secretfs();
    command.args(["umount", "mnt"]);
    let output = run(ordinary().runs(&mut command));
    is_refusal(&command, &output, 7, &["only root and the user who mounted it"]);
    assert_eq!(std::fs::read_to_string(sandbox.path("mnt/key")).expect("read"), "value");
    succeed(sandbox.secretfs().args(["umount", "mnt"]));
    sandbox.is_clean();
}

#[test]
fn of_several_mounts_to_end_one_that_fails_does_not_keep_the_others() {
    let sandbox = sandbox();
    succeed(sandbox.secretfs().args(["mount", "-f", "good.yaml", "secret/s", "mnt"]));
    let mut command = sandbox.secretfs();
    command.args(["umount", "missing", "mnt"]);
    let output = run(&mut command);
    is_refusal(&command, &output, 7, &["missing", "does not exist"]);
    sandbox.is_clean();
}

/// Runs `secretfs mount` as the ordinary user in a mount namespace of its own, after this script has hidden something.
#[track_caller]
fn mount_without(hide: &str, args: &str, parts: &[&str]) {
    let sandbox = sandbox();
    let User { uid, gid } = ordinary();
    let script = format!(
        "{hide} && exec setpriv --reuid {uid} --regid {gid} --clear-groups \"$0\" mount -f good.yaml {args} secret/s mnt"
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_secretfs")]);
    let output = run(sandbox.runs(&mut command));
    is_refusal(&command, &output, 8, parts);
    sandbox.is_clean();
}

#[test]
fn without_fuse_or_its_helper_a_mount_is_refused() {
    let no_device = "mount -t tmpfs none /mnt && mknod -m 0666 /mnt/null c 1 3 && mount --bind /mnt /dev";
    let closed_device =
        "mount -t tmpfs none /mnt && mknod -m 0600 /mnt/fuse c 10 229 && mount --bind /mnt/fuse /dev/fuse";
    let no_helper = "mount --bind /dev/null \"$(readlink -f \"$(command -v fusermount3)\")\"";
    mount_without(no_device, "", &["modprobe fuse"]);
    mount_without(closed_device, "", &["/dev/fuse", "chmod 0666"]);
    mount_without(no_helper, "", &["fusermount3", "package fuse3"]);
}

/// Mounts at `dir` as typed, reads, and unmounts by the same words.
#[track_caller]
fn works_at(user: User, dir: &OsStr) {
    let sandbox = sandbox();
    let real = sandbox.path(dir);
    std::fs::create_dir_all(&real).expect("mkdir");
    user.owns(&real);
    let secretfs = |words: &[&str]| {
        let mut command = sandbox.secretfs();
        command.args(words).arg(dir);
        succeed(user.runs(&mut command));
    };
    secretfs(&["mount", "-f", "good.yaml", "secret/s"]);
    assert_eq!(user.does(|| std::fs::read(real.join("key")).expect("read")), b"value", "{dir:?}");
    let real = real.canonicalize().expect("a path");
    assert_eq!(sandbox.mounts(), [real.as_path()], "{dir:?}");
    let mut command = sandbox.secretfs();
    let status = succeed(user.runs(command.args(["status", "-o", "json"])));
    let status: Vec<serde_json::Value> = serde_json::from_str(&status).expect("JSON");
    assert!(status.iter().any(|one| one["mountpoint"] == real.to_string_lossy().as_ref()), "{dir:?}: {status:?}");
    // For people each mount is one line, whatever its name holds.
    let mut command = sandbox.secretfs();
    let table = succeed(user.runs(command.arg("status")));
    assert!(table.lines().skip(1).all(|line| line.starts_with('/') || line.starts_with('"')), "{table}");
    secretfs(&["umount"]);
    sandbox.is_clean();
}

#[test]
fn any_name_of_a_directory_works() {
    for user in [ROOT, ordinary()] {
        for dir in
            ["here", "./here", "two words", "a,b=c", "quote\"'s", "back\\slash\\040", "ümlaut", "-f", "line\nbreak\t"]
        {
            // What looks like an option is given as any program wants it.
            let dir = if dir.starts_with('-') { format!("./{dir}") } else { dir.to_owned() };
            works_at(user, OsStr::new(&dir));
        }
        works_at(user, OsStr::from_bytes(b"not-utf8-\xff\xfe"));
    }
}

#[test]
fn relative_paths_mean_the_directory_where_the_command_was_started() {
    let sandbox = sandbox();
    let start = sandbox.mkdir("start");
    std::os::unix::fs::symlink("../mnt", start.join("link")).expect("symlink");
    for dir in ["../mnt", "../mnt/", ".././start/../mnt", "link"] {
        let secretfs = |words: &[&str]| succeed(sandbox.secretfs().current_dir(&start).args(words).arg(dir));
        secretfs(&["mount", "-f", "../good.yaml", "secret/s"]);
        assert_eq!(sandbox.mounts(), [sandbox.path("mnt")]);
        secretfs(&["umount"]);
        sandbox.is_clean();
    }
}

#[test]
fn a_mount_does_not_pin_the_directory_where_it_was_started() {
    let sandbox = sandbox();
    let disk = sandbox.mkdir("disk");
    succeed(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&disk));
    let args = ["mount", "-f", "../good.yaml", "secret/s", "../mnt"];
    succeed(sandbox.secretfs().current_dir(&disk).args(args));
    // EBUSY if the daemon still were in there.
    succeed(Command::new("umount").arg(&disk));
    // And yet it knows what ../good.yaml means.
    sandbox.write("good.yaml", secret("s", &[("key", b"changed")]));
    wait_until("the change", || std::fs::read(sandbox.path("mnt/key")).is_ok_and(|value| value == b"changed"));
    succeed(sandbox.secretfs().args(["umount", "mnt"]));
    sandbox.is_clean();
}
