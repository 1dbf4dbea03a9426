//! `--on-change` and `--reload`: what runs when something has changed.

use crate::support::host::{Host, line};
use crate::support::user::ordinary;
use crate::support::{fail, succeed, wait_for};

fn manifest(password: &str) -> String {
    let secret = |namespace: &str, name: &str, value: &str| {
        let metadata = serde_json::json!({"namespace": namespace, "name": name});
        serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"password": value}})
    };
    format!("{}\n---\n{}", secret("shop", "db", password), secret("shop", "other", "constant"))
}

/// Replaces the manifest at once.
fn rewrite(host: &Host, content: &str) {
    let new = host.sandbox.write("new", content);
    std::fs::rename(new, host.sandbox.path("secrets.yaml")).expect("rename");
}

/// The lines of a log when there are so many.
#[track_caller]
fn lines(host: &Host, log: &str, count: usize) -> Vec<String> {
    wait_for("the command's run", || {
        let text = std::fs::read_to_string(host.sandbox.path(log)).ok()?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    })
}

#[test]
fn a_command_runs_after_each_change_that_is_shown_and_only_then() {
    let host = Host::new();
    rewrite(&host, &manifest("first"));
    host.sandbox.mkdir("m");
    let command = "echo \"$SECRETFS_MOUNTPOINT: \"$SECRETFS_CHANGED\": $(cat \"$SECRETFS_MOUNTPOINT/$SECRETFS_CHANGED\")\" >> log";
    let mount = format!("cd {}; {command}", host.sandbox.dir().display());
    succeed(host.sandbox.secretfs().args(["mount", "-f", "secrets.yaml", "--on-change", &mount]).arg("./m"));
    // As files that others have read, so that there is somebody to tell.
    succeed(&mut host.bash("cat m/shop/db/password m/shop/other/password"));
    // The same content is no change.
    rewrite(&host, &format!("# a comment\n{}", manifest("first")));
    rewrite(&host, &manifest("second"));
    let m = host.path("m");
    assert_eq!(lines(&host, "log", 1), [format!("{m}: shop/db/password: second")]);
    rewrite(&host, &manifest("third"));
    assert_eq!(lines(&host, "log", 2)[1..], [format!("{m}: shop/db/password: third")]);
    // One object of the namespace goes, another one comes.
    rewrite(&host, &manifest("third").replace("\"other\"", "\"another\""));
    assert!(lines(&host, "log", 3)[2].starts_with(&format!("{m}: shop/another shop/other: ")));
    succeed(&mut host.bash("secretfs umount ./m"));
    host.sandbox.is_clean();
}

#[test]
fn the_command_gets_no_value_and_no_descriptor() {
    let host = Host::new();
    rewrite(&host, &manifest("first"));
    host.sandbox.mkdir("m");
    host.program("told", "env > env; ls -l /proc/$$/fd > fds; touch done");
    // In the foreground the daemon keeps what it was started with.
    let script = "exec 9< secrets.yaml
        secretfs mount --foreground -f secrets.yaml shop/secret/db ./m --on-change \"cd $PWD; exec told\" > /dev/null 2> log &
        for _ in {1..400}; do grep -q \" $PWD/m \" /proc/mounts && break; sleep 0.05; done
        cat m/password > /dev/null; cp secrets.yaml new; sed -i s/first/planted-value/ new; mv new secrets.yaml
        for _ in {1..400}; do test -e done && break; sleep 0.05; done
        cat m/password; secretfs umount ./m; wait";
    assert_eq!(succeed(&mut host.bash(script)), "planted-value");
    let environment = std::fs::read_to_string(host.sandbox.path("env")).expect("env");
    assert!(environment.contains("\nSECRETFS_CHANGED=password\n"), "{environment}");
    assert!(!environment.contains("planted"), "{environment}");
    let descriptors = std::fs::read_to_string(host.sandbox.path("fds")).expect("fds");
    let numbers = |line: &str| line.split_once(" -> ")?.0.rsplit(' ').next()?.parse::<u32>().ok();
    let mut numbers: Vec<u32> = descriptors.lines().filter_map(numbers).collect();
    // 255 is bash's own, the script that it reads.
    numbers.retain(|number| *number != 255);
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2], "{descriptors}");
    host.sandbox.is_clean();
}

#[test]
fn a_line_of_fstab_has_its_unit_reloaded() {
    let host = Host::new();
    rewrite(&host, &manifest("first"));
    host.sandbox.mkdir("m");
    // In the directory that mount(8) leaves in the PATH.
    let systemctl = format!("#!/bin/sh\necho \"$@\" >> {}\n", host.path("log"));
    let path = host.sandbox.write("sbin/systemctl", systemctl);
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let options = format!("manifests={},nofail,x-secretfs.reload=nginx.service", host.path("secrets.yaml"));
    let fstab = line("shop/secret/db", &host.sandbox.path("m"), "secretfs", &options);
    let script = "mount -a; cat m/password > /dev/null; sed s/first/second/ secrets.yaml > new; mv new secrets.yaml
        for _ in {1..400}; do test -s log && break; sleep 0.05; done; cat log m/password; umount ./m";
    let printed = succeed(&mut host.with_fstab(&fstab, script));
    assert_eq!(printed, "--no-block try-reload-or-restart nginx.service\nsecond");
    host.sandbox.is_clean();
}

#[test]
fn an_ordinary_users_unit_is_one_of_its_own_manager() {
    let host = Host::new();
    rewrite(&host, &manifest("first"));
    ordinary().owns(&host.sandbox.mkdir("m"));
    ordinary().owns(host.sandbox.dir());
    host.program("systemctl", &format!("echo \"$@\" >> {}", host.path("log")));
    let options = "--reload a.service --reload b.path";
    let script = format!("secretfs mount -f secrets.yaml shop/secret/db ./m {options}; cat m/password");
    assert_eq!(succeed(ordinary().runs(&mut host.bash(&script))), "first");
    rewrite(&host, &manifest("second"));
    let verb = "--user --no-block try-reload-or-restart";
    assert_eq!(lines(&host, "log", 2), [format!("{verb} a.service"), format!("{verb} b.path")]);
    succeed(ordinary().runs(&mut host.bash("secretfs umount ./m")));
    host.sandbox.is_clean();
}

#[test]
fn what_is_no_unit_is_refused() {
    let host = Host::new();
    for unit in ["--reload=--system", "--reload=a b", "--reload=", "--reload=a;b"] {
        let (code, text) = fail(host.sandbox.secretfs().args(["mount", unit, "secret/x", "./m"]));
        assert_eq!(code, 2, "{text}");
        assert!(text.contains("is not the name of a unit"), "{text}");
    }
}
