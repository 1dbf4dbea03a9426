//! Bad input: one clear sentence, the documented exit code, nothing mounted, nothing lost, no value in the message. And
//! odd input that is none the less good: names, closed streams, the place where a command was started.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::support::mount::{Mount, Way};
use crate::support::playground::secret;
use crate::support::process::Running;
use crate::support::sandbox::Sandbox;
use crate::support::user::{ROOT, User, ordinary};
use crate::support::{run, said, succeed, wait_until};

/// Stands for a value or a token in bad input; no message may repeat it.
const PLANTED: &str = "PlantedPlantedPlanted0815";

/// A sandbox with a good manifest and a mount point that are everybody's.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("good.yaml", secret("s", &[("key", b"value")]));
    ordinary().owns(&sandbox.mkdir("mnt"));
    sandbox
}

/// Whether a value shows in a text, as it is or in base64.
fn shows(text: &str, value: &str) -> bool {
    use base64::Engine;
    // In base64 a piece looks different at each of three offsets; the middle of it does not depend on its neighbours.
    let encoded = |offset: usize| {
        let padded = format!("{}{value}", "_".repeat(offset));
        let text = base64::prelude::BASE64_STANDARD_NO_PAD.encode(padded);
        text[4..text.len() - 3].to_owned()
    };
    text.contains(value) || (0..3).any(|offset| text.contains(&encoded(offset)))
}

/// Runs a command that must be refused as bad input is.
#[track_caller]
fn refused(sandbox: &Sandbox, user: User, args: &[&OsStr], code: i32, parts: &[&str]) {
    let mut command = sandbox.secretfs();
    command.args(args).stdin(std::process::Stdio::null());
    let before = sandbox.mounts();
    let output = run(user.runs(&mut command));
    is_refusal(&command, &output, code, parts);
    assert_eq!(sandbox.mounts(), before, "{command:?}");
    wait_until("the end of the refused daemon", || sandbox.processes().is_empty());
}

#[track_caller]
fn is_refusal(command: &Command, output: &Output, code: i32, parts: &[&str]) {
    let everything = format!("{command:?}: {}", said(output));
    assert_eq!(output.status.code(), Some(code), "{everything}");
    assert!(output.stdout.is_empty(), "{everything}");
    let text = String::from_utf8(output.stderr.clone()).expect("UTF-8 on standard error");
    let sentence = text.strip_prefix("secretfs: ").and_then(|rest| rest.strip_suffix('\n'));
    let sentence = sentence.unwrap_or_else(|| panic!("no sentence of ours: {everything}"));
    assert!(!sentence.chars().any(char::is_control), "not one line: {everything}");
    assert!(!shows(&text, PLANTED), "a value in a message: {everything}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {everything}");
    }
}

/// The same for a mount of what `source` names in the good manifest.
#[track_caller]
fn mount_refused(args: &[&str], code: i32, parts: &[&str]) {
    let sandbox = sandbox();
    let all = ["mount", "-f", "good.yaml"].into_iter().chain(args.iter().copied()).map(OsStr::new);
    refused(&sandbox, ROOT, &all.collect::<Vec<_>>(), code, parts);
}

#[test]
fn a_source_that_cannot_be_meant_is_refused() {
    for (source, parts) in [
        ("mysecret", &["\"mysecret\"", "secret/NAME"][..]),
        ("", &["secret/NAME"]),
        ("pvc/s", &["\"pvc\"", "use secret, cm"]),
        ("a/b/c/d/e", &["NAMESPACE/KIND/NAME"]),
        ("secret/", &["object name", "lower-case"]),
        ("secret/S", &["object name", "lower-case"]),
        ("secret/s?watch=true", &["object name"]),
        ("secret/..", &["object name"]),
        ("ns/a.b", &["namespace", "at most 63"]),
        ("Prod/secret/s", &["namespace"]),
        ("secret/s/key", &["names a key", "cat, ls and tree"]),
        ("secret/a\nb", &["object name"]),
    ] {
        mount_refused(&[source, "mnt"], 2, parts);
    }
    let long = format!("secret/{}", "x".repeat(300));
    mount_refused(&[&long, "mnt"], 2, &["at most 253"]);
    let sandbox = sandbox();
    let source = OsStr::from_bytes(b"secret/\xff");
    refused(
        &sandbox,
        ROOT,
        &[OsStr::new("mount"), OsStr::new("-f"), OsStr::new("good.yaml"), source, OsStr::new("mnt")],
        2,
        &["UTF-8"],
    );
}

#[test]
fn a_key_that_cannot_exist_is_refused() {
    let sandbox = sandbox();
    for verb in ["cat", "ls", "tree"] {
        for key in ["..", "a/b", "a b", "..data", &"k".repeat(254)] {
            let source = format!("default/secret/s/{key}");
            refused(
                &sandbox,
                ROOT,
                &["", "-f", "good.yaml", &source].map(|word| OsStr::new(if word.is_empty() { verb } else { word })),
                2,
                &[],
            );
        }
        let args = [verb, "-f", "good.yaml", "secret/s/other"].map(OsStr::new);
        refused(&sandbox, ROOT, &args, 4, &["has no key other", "it has: key"]);
    }
}

#[test]
fn options_that_make_no_sense_are_refused_with_an_example() {
    for (option, value, parts) in [
        ("--mode", "8", &["--mode", "octal", "0400"][..]),
        ("--mode", "rw", &["octal"]),
        ("--dir-mode", "07777", &["--dir-mode", "octal"]),
        ("--uid", "me", &["--uid"]),
        ("--gid", "-1", &["--gid"]),
        ("--kinds", "secrets,pods", &["pods", "secret or configmap"]),
        ("--kinds", "", &["--kinds"]),
        ("--timeout", "5", &["--timeout", "500ms"]),
        ("--timeout", "0s", &["500ms"]),
        ("--poll", "often", &["--poll", "1m30s"]),
        ("--layout", "nice", &["--layout", "kubelet, flat"]),
        ("--owner", "you", &["--owner", "me, kubelet"]),
        ("--mount-with", "magic", &["--mount-with", "fusermount"]),
        ("--namespace", "A_B", &["namespace", "lower-case"]),
        ("--nonsense", "x", &["--nonsense"]),
        ("--selector", "a in b", &["selector"]),
        ("--selector", "=", &["selector"]),
        ("--selector", "a=b,,", &["selector"]),
    ] {
        mount_refused(&[&format!("{option}={value}"), "secret/s", "mnt"], 2, parts);
    }
    mount_refused(&["--context", "x", "secret/s", "mnt"], 2, &["--context", "--filename"]);
    mount_refused(&["--private", "secret/s", "mnt"], 2, &["COMMAND"]);
    mount_refused(&[], 2, &["DIR"]);
    mount_refused(&["secret/s", "mnt", "more"], 2, &["more"]);
}

#[test]
fn an_object_that_is_not_there_is_refused() {
    mount_refused(&["secret/other", "mnt"], 4, &["default/secret/other", "good.yaml"]);
    mount_refused(&["-n", "prod", "secret/s", "mnt"], 4, &["prod/secret/s"]);
    mount_refused(&["cm/s", "mnt"], 4, &["default/cm/s"]);
}

/// Mounting, printing and listing of a manifest with this content are refused, naming file, document and line.
#[track_caller]
fn bad_manifest(content: impl AsRef<[u8]>, parts: &[&str]) {
    let sandbox = sandbox();
    sandbox.write("bad.yaml", content);
    let parts: Vec<&str> = [&["bad.yaml"], parts].concat();
    for words in [
        &["mount", "-f", "good.yaml", "-f", "bad.yaml", "secret/s", "mnt"][..],
        &["cat", "-f", "bad.yaml", "secret/s/key"],
        &["tree", "-f", "bad.yaml"],
    ] {
        refused(&sandbox, ROOT, &words.iter().map(OsStr::new).collect::<Vec<_>>(), 3, &parts);
    }
}

fn good_then(second: &str) -> String {
    format!("{}\n---\n{second}\n", secret("first", &[("key", b"value")]))
}

#[test]
fn a_bad_manifest_is_refused_by_file_document_and_line() {
    let secret_with = |rest: &str| good_then(&format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n{rest}"));
    bad_manifest(
        secret_with(&format!("data:\n  key: \"{PLANTED}!\"")),
        &["document 2, line 8", "base64", "stringData"],
    );
    bad_manifest(secret_with(&format!("stringData:\n  key: \"{PLANTED}")), &["document 2, line ", "quote"]);
    bad_manifest(secret_with(&format!("stringData:\n\tkey: {PLANTED}")), &["document 2, line 8", "tab"]);
    bad_manifest(secret_with(&format!("stringData:\n  ..key: {PLANTED}")), &["document 2, line 8", "253"]);
    bad_manifest(secret_with(&format!("stringData:\n  key: [{PLANTED}]")), &["document 2, line 8", "string"]);
    bad_manifest(secret_with(&format!("stringDatas:\n  key: {PLANTED}")), &["document 2, line 7", "field"]);
    bad_manifest(good_then("apiVersion: v1\nkind: Secret\nmetadata:\n  name: S_\n"), &["document 2, line 6", "name"]);
    bad_manifest(good_then(&format!("just {PLANTED}")), &["document 2, line 3", "mapping"]);
    bad_manifest(format!("{{\"kind\": \"Secret\", \"data\": \"{PLANTED}\""), &["document 1, line 1"]);
}

#[test]
fn an_object_over_one_mebibyte_is_refused_and_one_below_is_not() {
    let with = |size: usize| {
        let value: String = PLANTED.chars().cycle().take(size).collect();
        good_then(&secret("s", &[("key", value.as_bytes())]))
    };
    bad_manifest(with((1 << 20) + 1), &["document 2, line 3", "1048576 bytes"]);
    let sandbox = sandbox();
    sandbox.write("large.yaml", with(1 << 20));
    let printed = run(sandbox.secretfs().args(["cat", "-f", "large.yaml", "secret/s/key"])).stdout;
    assert_eq!(printed.len(), 1 << 20);
}

#[test]
fn manifests_that_cannot_be_read_are_refused() {
    let sandbox = sandbox();
    std::fs::set_permissions(sandbox.write("secret.yaml", ""), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("chmod");
    let mount = |user: User, file: &str, parts: &[&str]| {
        refused(&sandbox, user, &["mount", "-f", "good.yaml", "-f", file, "secret/s", "mnt"].map(OsStr::new), 3, parts);
    };
    mount(ROOT, "missing.yaml", &["missing.yaml", "-f"]);
    mount(ROOT, "good.yaml/below", &["good.yaml/below"]);
    mount(ordinary(), "secret.yaml", &["secret.yaml", "ermission denied"]);
}

#[test]
fn a_kubeconfig_that_cannot_be_used_is_refused() {
    let sandbox = sandbox();
    let kubeconfig = |server: &str| {
        serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": PLANTED}}],
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
        })
        .to_string()
    };
    let mount = |args: &[&str], code: i32, parts: &[&str]| {
        let all = ["mount"].into_iter().chain(args.iter().copied()).chain(["secret/s", "mnt"]).map(OsStr::new);
        refused(&sandbox, ROOT, &all.collect::<Vec<_>>(), code, parts);
    };
    // Port 1 of the loopback: nobody listens there.
    sandbox.write("config", kubeconfig("https://127.0.0.1:1"));
    mount(&["--kubeconfig", "config"], 6, &["127.0.0.1:1"]);
    mount(&["--kubeconfig", "config", "--context", "other"], 3, &["other"]);
    mount(&["--kubeconfig", "missing"], 3, &["missing"]);
    sandbox.write("config", kubeconfig("not a url"));
    mount(&["--kubeconfig", "config"], 3, &[]);
    sandbox.write("config", format!("apiVersion: v1\nkind: Config\nusers:\n- name: u\n  user: {{token: \"{PLANTED}\n"));
    mount(&["--kubeconfig", "config"], 3, &["config"]);
    // No kubeconfig at all, and no pod around us.
    mount(&[], 3, &["-f"]);
}

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

#[test]
fn closed_streams_do_not_matter() {
    for user in [ROOT, ordinary()] {
        for streams in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
            let sandbox = sandbox();
            let mut script = sandbox.bash(&format!("secretfs mount -f good.yaml secret/s mnt {streams}"));
            assert_eq!(succeed(user.runs(&mut script)), "", "{streams}");
            assert_eq!(user.does(|| std::fs::read(sandbox.path("mnt/key")).expect("read")), b"value");
            succeed(user.runs(sandbox.secretfs().args(["umount", "mnt"])));
            sandbox.is_clean();
            // The exit code needs no stream.
            let output =
                run(user.runs(&mut sandbox.bash(&format!("secretfs mount -f good.yaml secret/s missing {streams}"))));
            assert_eq!(output.status.code(), Some(7), "{streams}: {}", said(&output));
            sandbox.is_clean();
        }
    }
}

#[test]
fn a_daemon_holds_nothing_of_the_shell_that_started_it() {
    let sandbox = sandbox();
    // Whoever reads a pipe waits until the last writer is gone: the shell's streams, and a descriptor that it forgot.
    for script in [
        "secretfs mount -f good.yaml secret/s mnt | cat",
        "secretfs mount -f good.yaml secret/s mnt 2>&1 | cat",
        "test -z \"$(secretfs mount -f good.yaml secret/s mnt)\"",
        "{ secretfs mount -f good.yaml secret/s mnt; } 9>&1 >/dev/null | cat",
    ] {
        let shell = Running::start(&mut sandbox.bash(script));
        shell.out.wait_end();
        assert_eq!(std::fs::read(sandbox.path("mnt/key")).expect("read"), b"value");
        succeed(sandbox.secretfs().args(["umount", "mnt"]));
        sandbox.is_clean();
    }
}

#[test]
fn a_reader_that_has_gone_does_no_harm() {
    let sandbox = sandbox();
    for (words, code) in [
        ("--help", 0),
        ("mount --help", 0),
        ("status", 0),
        ("status -o json", 0),
        ("ls -f good.yaml", 0),
        ("cat -f good.yaml secret/s", 0),
        ("mount secret/S mnt", 2),
        ("--nonsense", 2),
        ("umount mnt", 7),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = sandbox.secretfs();
        command.args(words.split(' ')).stdout(writer.try_clone().expect("a descriptor")).stderr(writer);
        assert_eq!(command.status().expect("its end").code(), Some(code), "{words}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let sandbox = sandbox();
    let output = run(&mut sandbox.bash("secretfs cat -f good.yaml secret/s >/dev/full"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(text.starts_with("secretfs: cannot write to standard output: No space left"), "{text}");
}

#[test]
fn a_mount_survives_the_terminal_where_it_was_made() {
    let sandbox = sandbox();
    let on_a_terminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)";
    let words = [env!("CARGO_BIN_EXE_secretfs"), "mount", "-f", "good.yaml", "secret/s", "mnt"];
    succeed(sandbox.runs(Command::new("python3").args(["-c", on_a_terminal]).args(words)));
    let daemons = sandbox.processes();
    assert_eq!(daemons.len(), 1);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemons[0])).expect("its state");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let (group, session, terminal) = (fields[2], fields[3], fields[4]);
    assert_eq!((group, session, terminal), (&*daemons[0].to_string(), &*daemons[0].to_string(), "0"), "{stat}");
    assert_eq!(std::fs::read(sandbox.path("mnt/key")).expect("read"), b"value");
    succeed(sandbox.secretfs().args(["umount", "mnt"]));
    sandbox.is_clean();
}

#[test]
fn who_interrupts_a_mount_that_is_in_the_making_gets_none() {
    let sandbox = sandbox();
    // A manifest that nobody writes yet.
    succeed(Command::new("mkfifo").arg(sandbox.path("slow")));
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let waiting = Running::start(sandbox.secretfs().args(["mount", "-f", "slow", "secret/s", "mnt"]));
        wait_until("the serving process", || sandbox.processes().len() == 2);
        waiting.signal(signal);
        sandbox.is_clean();
    }
}

#[test]
fn a_mount_in_the_foreground_ends_with_its_terminal_unless_nohup_says_no() {
    let sandbox = sandbox();
    // Starts it on a terminal, and closes that as soon as it says that it is mounted.
    let close_early = "import os, pty, sys\n\
        pid, terminal = pty.fork()\n\
        if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])\n\
        said = b''\n\
        while b'mounted' not in said: said += os.read(terminal, 4096)\n\
        os.close(terminal)\n\
        os.waitpid(pid, 0)";
    let words = [env!("CARGO_BIN_EXE_secretfs"), "mount", "--foreground", "-f", "good.yaml", "secret/s", "mnt"];
    succeed(sandbox.runs(Command::new("python3").args(["-c", close_early]).args(words)));
    sandbox.is_clean();

    let mut command = Command::new("nohup");
    let mut daemon = Running::start(sandbox.runs(command.args(words)));
    daemon.err.wait_for("mounted");
    daemon.signal(Signal::HUP);
    assert_eq!(std::fs::read(sandbox.path("mnt/key")).expect("read"), b"value");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
    sandbox.is_clean();
}

/// A mount in the foreground, whose log the test reads.
struct Foreground {
    sandbox: Sandbox,
    daemon: Running,
}

impl Foreground {
    #[track_caller]
    fn start(sandbox: Sandbox, args: &[&str]) -> Foreground {
        let mut command = sandbox.secretfs();
        let daemon = Running::start(command.args(["mount", "--foreground"]).args(args).arg("mnt"));
        daemon.err.wait_for("mounted");
        Foreground { sandbox, daemon }
    }

    /// Replaces a file all at once.
    fn rewrite(&self, name: &str, content: impl AsRef<[u8]>) {
        let new = self.sandbox.write(".new", content);
        std::fs::rename(new, self.sandbox.path(name)).expect("rename");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.sandbox.path("mnt").join(name)).unwrap_or_default()
    }

    #[track_caller]
    fn shows(&self, name: &str, value: &str) {
        wait_until(&format!("{value:?} in {name}"), || self.read(name) == value);
    }

    /// Ends it, and returns its log.
    #[track_caller]
    fn end(mut self) -> String {
        self.daemon.signal(Signal::TERM);
        assert!(self.daemon.wait().success());
        let log = self.daemon.err.wait_end();
        assert_eq!(self.daemon.out.wait_end(), "");
        self.sandbox.is_clean();
        log
    }
}

#[test]
fn a_manifest_that_becomes_bad_keeps_its_last_good_content() {
    let sandbox = sandbox();
    sandbox.mkdir("manifests");
    let both = |one: &str, two: &str| format!("{}\n---\n{}\n", secret("one", &[("key", one.as_bytes())]), two);
    let two = |value: &str| secret("two", &[("key", value.as_bytes())]);
    sandbox.write("manifests/a.yaml", both("1", &two("1")));
    sandbox.write("manifests/b.yaml", secret("three", &[("key", b"1")]));
    let mount = Foreground::start(sandbox, &["-vv", "-f", "manifests", "ns/default"]);
    for name in ["one/key", "two/key", "three/key"] {
        mount.shows(name, "1");
    }

    let bad = format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: two\ndata:\n  key: \"{PLANTED}!\"");
    mount.rewrite("manifests/a.yaml", both("2", &bad));
    let log = mount.daemon.err.wait_for("manifests/a.yaml, document 2, line 8");
    assert!(log.contains("base64") && log.contains("last good content"), "{log}");
    // The bad document keeps what it had; its neighbour in the same file and the other file are followed on.
    mount.shows("one/key", "2");
    assert_eq!(mount.read("two/key"), "1");
    mount.rewrite("manifests/b.yaml", secret("three", &[("key", b"3")]));
    mount.shows("three/key", "3");
    assert_eq!(mount.read("two/key"), "1");

    // A file that is no YAML at all keeps all that it had.
    mount.rewrite("manifests/a.yaml", format!("a: \"{PLANTED}\n"));
    mount.daemon.err.wait_for("manifests/a.yaml, document 1, line ");
    mount.rewrite("manifests/b.yaml", secret("three", &[("key", b"4")]));
    mount.shows("three/key", "4");
    assert_eq!((mount.read("one/key"), mount.read("two/key")), ("2".into(), "1".into()));

    // And once mended it is followed again.
    mount.rewrite("manifests/a.yaml", both("5", &two("5")));
    mount.shows("one/key", "5");
    mount.shows("two/key", "5");
    let log = mount.end();
    assert!(!shows(&log, PLANTED), "a value in the log: {log}");
}

#[test]
fn no_log_holds_a_value() {
    let sandbox = sandbox();
    sandbox.write("planted.yaml", secret("p", &[("key", PLANTED.as_bytes())]));
    let mount = Foreground::start(sandbox, &["-vv", "-f", "planted.yaml", "secret/p"]);
    mount.shows("key", PLANTED);
    let changed = format!("{PLANTED} changed");
    mount.rewrite("planted.yaml", secret("p", &[("key", changed.as_bytes())]));
    mount.shows("key", &changed);
    mount.rewrite("planted.yaml", format!("stringData: {PLANTED}: {PLANTED}"));
    mount.daemon.err.wait_for("planted.yaml, document 1");
    let log = mount.end();
    assert!(!shows(&log, PLANTED), "{log}");
}

#[test]
fn a_file_that_an_editor_replaces_or_writes_in_place_is_followed() {
    let sandbox = sandbox();
    let mount = Foreground::start(sandbox, &["-f", "good.yaml", "secret/s"]);
    mount.shows("key", "value");
    mount.rewrite("good.yaml", secret("s", &[("key", b"renamed over")]));
    mount.shows("key", "renamed over");
    mount.sandbox.write("good.yaml", secret("s", &[("key", b"in place")]));
    mount.shows("key", "in place");
    // vim with backupcopy=no: away for a moment, then new.
    std::fs::rename(mount.sandbox.path("good.yaml"), mount.sandbox.path("good.yaml~")).expect("rename");
    mount.sandbox.write("good.yaml", secret("s", &[("key", b"new")]));
    mount.shows("key", "new");
    mount.end();
}

#[test]
fn manifests_come_from_standard_input_and_from_a_process() {
    for script in [
        "cat good.yaml | secretfs mount -f - secret/s mnt",
        "secretfs mount -f - secret/s mnt < good.yaml",
        "secretfs mount -f <(cat good.yaml) secret/s mnt",
    ] {
        let sandbox = sandbox();
        succeed(&mut sandbox.bash(script));
        assert_eq!(std::fs::read(sandbox.path("mnt/key")).expect("read"), b"value", "{script}");
        succeed(sandbox.secretfs().args(["umount", "mnt"]));
        sandbox.is_clean();
    }
}

#[test]
fn a_private_mount_returns_its_commands_exit_code() {
    let sandbox = sandbox();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
        for user in [ROOT, ordinary()] {
            let mut command = sandbox.secretfs();
            command.args(["mount", "--private", "-f", "good.yaml", "secret/s", "mnt", "--", "sh", "-c"]);
            let output = run(user.runs(command.arg(format!("cat mnt/key; {script}"))));
            assert_eq!((output.status.code(), &*output.stdout), (Some(code), &b"value"[..]), "{}", said(&output));
            sandbox.is_clean();
        }
    }
    let args: Vec<&OsStr> = ["mount", "--private", "-f", "good.yaml", "secret/s", "mnt", "--", "./no-such-program"]
        .iter()
        .map(OsStr::new)
        .collect();
    refused(&sandbox, ROOT, &args, 1, &["./no-such-program", "cannot be run"]);
}

#[test]
fn two_mounts_of_one_manifest_do_not_know_each_other() {
    let sandbox = sandbox();
    sandbox.mkdir("other");
    let file = sandbox.path("good.yaml");
    let args = ["-f", file.to_str().expect("UTF-8"), "secret/s"];
    let (one, two) = (Mount::new(&args, &sandbox.path("mnt")), Mount::by(Way::Classic, &args, &sandbox.path("other")));
    assert_ne!(one.pid(), two.pid());
    one.end();
    assert_eq!(std::fs::read(two.path("key")).expect("read"), b"value");
    two.end();
}
