//! The files of mount-scripts/, with the real systemd and login shells.

use std::process::Command;

use crate::support::cluster::{binary, namespace};
use crate::support::host::Host;
use crate::support::kubeconfig::kubeconfig;
use crate::support::machine::Machine;
use crate::support::user::{self, ordinary};
use crate::support::{run, said, succeed};

const MANIFEST: &str = include_str!("../../examples/example-secret.yaml");
const PAYLOAD: &str = "some-base64-encoded-payload";
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/mount-scripts");

/// A machine on which `secretfs@it.service` mounts the example at /run/it.
fn machine(options: &str) -> Machine {
    let machine = Machine::new();
    machine.has("etc/secretfs/secret.yaml", MANIFEST);
    machine.has_script("secretfs.conf", "etc/secretfs/it.conf", |conf| {
        let conf =
            conf.replace("SOURCE=prod/secret/web-tls", "SOURCE=secret/mysecret").replace("/run/web-tls", "/run/it");
        let (start, _) = conf.split_once("OPTIONS=").expect("options");
        format!("{start}OPTIONS=-f /etc/secretfs/secret.yaml {options}\n")
    });
    machine
}

#[test]
fn the_units_are_without_faults_and_named_as_systemd_wants() {
    let host = Host::new();
    let dir = host.sandbox.mkdir("units");
    for unit in ["system/secretfs@.service", "system/run-webtls.mount", "system/run-webtls.automount"] {
        let text = std::fs::read_to_string(format!("{SCRIPTS}/systemd/{unit}")).expect(unit);
        // What is not installed here.
        let text = text.replace("ExecStart=secretfs", &format!("ExecStart={}", host.path("bin/secretfs")));
        let text = text.replace("ExecStopPost=-secretfs", &format!("ExecStopPost=-{}", host.path("bin/secretfs")));
        let text = text.lines().filter(|line| !line.starts_with("Documentation=")).collect::<Vec<_>>().join("\n");
        let name = unit.rsplit('/').next().expect("a name");
        std::fs::write(dir.join(name), text).expect("write");
        let output = run(Command::new("systemd-analyze").arg("verify").arg(dir.join(name.replace('@', "@it"))));
        assert!(output.status.success() && output.stderr.is_empty(), "{unit}: {}", said(&output));
    }
    let name = succeed(Command::new("systemd-escape").args(["--path", "--suffix=mount", "/run/webtls"]));
    assert_eq!(name, "run-webtls.mount\n");
}

#[test]
fn a_service_is_started_when_its_files_are_there_and_everybody_sees_them() {
    let printed = machine("").runs(
        "systemctl start secretfs@it; cat /run/it/my-super-secret-key; echo
         systemctl show -p Type,StatusText,SubState,NRestarts secretfs@it
         findmnt -n -o FSTYPE,OPTIONS /run/it
         systemctl stop secretfs@it; systemctl show -p Result,SubState secretfs@it; ls -A /run/it | wc -l",
    );
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], PAYLOAD);
    assert!(printed.contains("StatusText=default/secret/mysecret at /run/it\n"), "{printed}");
    assert!(printed.contains("SubState=running\n") && printed.contains("NRestarts=0\n"), "{printed}");
    assert!(printed.contains("fuse.secretfs ro,nosuid,nodev,noexec"), "{printed}");
    assert!(printed.ends_with("Result=success\nSubState=dead\n0\n"), "{printed}");
}

#[test]
fn under_its_restrictions_the_daemon_still_updates_and_they_hold() {
    // The owner is somebody else than root, the directories are not root's to write, and some have the sticky bit.
    for options in ["--owner kubelet", "--uid daemon --gid daemon --dir-mode 0500", "--layout flat --uid daemon"] {
        let printed = machine(options).runs(
            "systemctl start secretfs@it; pid=$(systemctl show --value -p MainPID secretfs@it)
             cat /run/it/my-super-secret-key; echo
             grep -E '^(NoNewPrivs|Seccomp|CapBnd):' /proc/$pid/status
             inotifywait -q -m -r --format '%e %f' /run/it > events & watcher=$!
             sed s/c29tZS1iYXNlNjQtZW5jb2RlZC1wYXlsb2Fk/YW5vdGhlcg==/ /etc/secretfs/secret.yaml > new
             until_ 'grep -q . /proc/$watcher/fdinfo/* && test -e events'
             until_ 'grep -rqs inotify /proc/$watcher/fdinfo'
             cp new /etc/secretfs/secret.yaml
             until_ 'grep -q another /run/it/my-super-secret-key'
             until_ 'grep -qE \"MOVED_TO|CREATE\" events'
             kill $watcher; cat /run/it/my-super-secret-key; echo
             systemctl show -p NRestarts secretfs@it
             systemctl stop secretfs@it",
        );
        assert!(printed.starts_with(PAYLOAD), "{options}: {printed}");
        assert!(printed.contains("NoNewPrivs:\t1\n") && printed.contains("Seccomp:\t2\n"), "{options}: {printed}");
        // CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_SYS_ADMIN.
        let expected = (1_u64 << 1) | (1 << 3) | (1 << 21);
        assert!(printed.contains(&format!("CapBnd:\t{expected:016x}\n")), "{options}: {printed}");
        assert!(printed.contains("\nanother\n") && printed.contains("NRestarts=0"), "{options}: {printed}");
    }
}

#[test]
fn under_its_restrictions_the_daemon_follows_a_cluster() {
    let space = namespace();
    space.secret("db", &[("password", "first")]);
    let machine = machine("");
    machine.has("etc/secretfs/kubeconfig", &kubeconfig(&[space.context()]));
    machine
        .has("etc/secretfs/it.conf", "SOURCE=secret/db\nDIR=/run/it\nOPTIONS=--kubeconfig /etc/secretfs/kubeconfig\n");
    std::fs::copy(binary().with_file_name("kubectl"), machine.sandbox.path("test/kubectl")).expect("copy");
    let printed = machine.runs(
        "systemctl start secretfs@it; cat /run/it/password; echo
         ./kubectl --kubeconfig /etc/secretfs/kubeconfig patch secret db -p '{\"stringData\": {\"password\": \"second\"}}' > /dev/null
         until_ 'grep -q second /run/it/password'; cat /run/it/password; systemctl stop secretfs@it",
    );
    assert_eq!(printed, "first\nsecond");
}

#[test]
fn a_killed_daemon_and_a_stopped_one_are_replaced_and_leave_no_dead_mount() {
    let machine = machine("");
    machine.has("etc/systemd/system/secretfs@.service.d/quick.conf", "[Service]\nWatchdogSec=2\nRestartSec=100ms\n");
    let printed = machine.runs(
        "systemctl start secretfs@it
         pid() { systemctl show --value -p MainPID secretfs@it; }
         for signal in KILL STOP; do
             old=$(pid); kill -$signal $old
             until_ \"test \\$(systemctl show --value -p MainPID secretfs@it) != $old && systemctl is-active secretfs@it\"
             cat /run/it/my-super-secret-key; echo \" $(grep -c ' /run/it fuse.secretfs ' /proc/mounts)\"
         done
         systemctl show -p NRestarts secretfs@it
         kill -KILL $(pid); systemctl stop secretfs@it; grep -c ' /run/it ' /proc/mounts || true",
    );
    assert_eq!(printed, format!("{PAYLOAD} 1\n{PAYLOAD} 1\nNRestarts=2\n0\n"));
}

#[test]
fn a_service_that_needs_the_mount_starts_after_it_and_is_reloaded() {
    let machine = machine("--reload reader.service");
    let reader = "[Unit]\nRequires=secretfs@it.service\nAfter=secretfs@it.service\n\
        [Service]\nType=simple\nExecStart=/bin/sh -c 'cat /run/it/my-super-secret-key > /test/first; exec sleep infinity'\n\
        ExecReload=/bin/sh -c 'cat /run/it/my-super-secret-key > /test/second'\n";
    machine.has("etc/systemd/system/reader.service", reader);
    let printed = machine.runs(
        "systemctl start reader; until_ 'test -s first'
         sed -i s/c29tZS1iYXNlNjQtZW5jb2RlZC1wYXlsb2Fk/YW5vdGhlcg==/ /etc/secretfs/secret.yaml
         until_ 'test -s second'; cat first; echo; cat second; systemctl stop reader secretfs@it",
    );
    assert_eq!(printed, format!("{PAYLOAD}\nanother"));
}

#[test]
fn mount_and_automount_units_work_as_they_stand() {
    let machine = Machine::new();
    machine.has("etc/secretfs/secret.yaml", MANIFEST);
    machine.has_script("systemd/system/run-webtls.mount", "etc/systemd/system/run-webtls.mount", |unit| {
        unit.replace("kubeconfig=/etc/secretfs/kubeconfig", "manifests=/etc/secretfs/secret.yaml")
            .replace("prod/secret/web-tls", "secret/mysecret")
    });
    machine.has_script("systemd/system/run-webtls.automount", "etc/systemd/system/run-webtls.automount", |unit| {
        unit.replace("10min", "1")
    });
    let printed = machine.runs(
        "systemctl start run-webtls.mount; cat /run/webtls/my-super-secret-key; echo; systemctl stop run-webtls.mount
         grep -c fuse.secretfs /proc/mounts || true
         systemctl start run-webtls.automount; systemctl is-active run-webtls.mount || true
         timeout 20 cat /run/webtls/my-super-secret-key; echo; systemctl is-active run-webtls.mount
         until_ '! systemctl is-active run-webtls.mount'; grep -c fuse.secretfs /proc/mounts || true
         timeout 20 cat /run/webtls/my-super-secret-key",
    );
    assert_eq!(printed, format!("{PAYLOAD}\n0\ninactive\n{PAYLOAD}\nactive\n0\n{PAYLOAD}"));
}

#[test]
fn lines_of_fstab_become_units_of_systemd() {
    let machine = Machine::new();
    machine.has("etc/secretfs/secret.yaml", MANIFEST);
    machine.has_script("fstab", "etc/fstab", |fstab| {
        fstab
            .replace("kubeconfig=/etc/secretfs/kubeconfig", "manifests=/etc/secretfs/secret.yaml")
            .replace("prod/secret/web-tls", "secret/mysecret")
            .replace("prod/secret/db", "secret/mysecret")
    });
    let printed = machine.runs(
        "systemctl start 'run-web\\x2dtls.mount'; cat /run/web-tls/my-super-secret-key; echo
         stat -c '%U %a' -L /run/web-tls/my-super-secret-key; pgrep -f mount.secretfs | wc -l
         systemctl start srv-db.automount; timeout 20 cat /srv/db/my-super-secret-key; echo
         systemctl stop 'run-web\\x2dtls.mount' srv-db.mount srv-db.automount
         systemctl is-failed 'run-web\\x2dtls.mount' srv-db.mount || true",
    );
    assert_eq!(printed, format!("{PAYLOAD}\nwww-data 400\n1\n{PAYLOAD}\ninactive\ninactive\n"));
}

#[test]
fn an_ordinary_user_has_the_mount_from_login_to_logout() {
    let machine = Machine::new();
    let home = "home/it";
    machine.has(&format!("{home}/secret.yaml"), MANIFEST);
    machine.has_script(
        "systemd/user/secretfs@.service",
        &format!("{home}/.config/systemd/user/secretfs@.service"),
        |unit| unit,
    );
    machine.has(
        &format!("{home}/.config/secretfs/it.conf"),
        "SOURCE=secret/mysecret\nDIR=/home/it/k8s\nOPTIONS=-f /home/it/secret.yaml\n",
    );
    let name = user::NAME;
    let uid = ordinary().uid;
    let printed = machine.runs(&format!(
        "chown -R {name}: /home/it; usermod --home /home/it {name}
         user() {{ setpriv --reuid {name} --regid {name} --init-groups env XDG_RUNTIME_DIR=/run/user/{uid} HOME=/home/it \"$@\"; }}
         systemctl start user@{uid}
         user systemctl --user enable --now secretfs@it; user cat /home/it/k8s/my-super-secret-key; echo
         user systemctl --user show -p StatusText secretfs@it
         old=$(user systemctl --user show --value -p MainPID secretfs@it); kill -KILL $old
         until_ \"test \\$(user systemctl --user show --value -p MainPID secretfs@it) != $old && user systemctl --user is-active secretfs@it\"
         user cat /home/it/k8s/my-super-secret-key; echo
         systemctl stop user@{uid}; grep -c fuse.secretfs /proc/mounts || true
         systemctl start user@{uid}; until_ 'user cat /home/it/k8s/my-super-secret-key'; echo again",
    ));
    let status = "StatusText=default/secret/mysecret at /home/it/k8s";
    assert_eq!(
        printed
            .replace("Created symlink", "\n#")
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .collect::<Vec<_>>(),
        [PAYLOAD, status, PAYLOAD, "0", "again"]
    );
}

#[test]
fn a_login_shell_mounts_once_and_never_fails() {
    let host = Host::new();
    host.sandbox.write("secret.yaml", MANIFEST);
    let login = format!(
        "PATH={}:$PATH SECRETFS_SOURCE=secret/mysecret SECRETFS_DIR=$PWD/mysec SECRETFS_OPTIONS=\"-f $PWD/secret.yaml\" sh {SCRIPTS}/login.sh",
        host.path("bin")
    );
    host.sandbox.write(".profile", login);
    let printed = succeed(&mut host.bash(
        "bash -lc 'cat mysec/my-super-secret-key'; bash -lc 'grep -c \" $PWD/mysec \" /proc/mounts'
         pid=$(secretfs status -o json | jq --arg dir \"$PWD/mysec\" '.[] | select(.mountpoint == $dir) | .pid'); kill -KILL $pid
         tail --pid=$pid -f /dev/null; bash -lc 'cat mysec/my-super-secret-key'; secretfs umount mysec",
    ));
    assert_eq!(printed, format!("{PAYLOAD}1\n{PAYLOAD}"));
    let absent = "SECRETFS_SOURCE=secret/none SECRETFS_OPTIONS='-f secret.yaml'";
    let output = run(&mut host.bash(&format!("{absent} sh {SCRIPTS}/login.sh || echo failed")));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("failed"), "{}", said(&output));
    host.sandbox.is_clean();
}
