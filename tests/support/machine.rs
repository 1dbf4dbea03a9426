//! A machine that systemd has booted, for one test: a container with the files of this host below an overlay, so that
//! nothing is installed or downloaded, with secretfs and the files of mount-scripts/ put where they belong.

use std::path::Path;
use std::process::Command;

use super::sandbox::Sandbox;
use super::{run, said};

pub struct Machine {
    pub sandbox: Sandbox,
}

const SECRETFS: &str = env!("CARGO_BIN_EXE_secretfs");
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/mount-scripts");

/// The one service that boots: it runs the test's script and then switches the machine off.
const SERVICE: &str = "\
[Unit]
DefaultDependencies=no
Wants=sysinit.target dbus.service systemd-logind.service
After=sysinit.target dbus.service systemd-logind.service
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/bin/bash /test/run
";

/// Waits for a condition, with a deadline, in scripts.
const UNTIL: &str =
    "until_() { for _ in {1..600}; do if eval \"$1\" > /dev/null 2>&1; then return; fi; sleep 0.05; done
    echo \"in vain: $1\" >&2; systemctl --no-pager status 'secretfs*' run-webtls.mount >&2; exit 1; }";

impl Machine {
    pub fn new() -> Machine {
        let sandbox = Sandbox::new();
        for dir in ["root/etc/systemd/system", "root/etc/secretfs", "root/usr/sbin", "test", "layer", "merged"] {
            std::fs::create_dir_all(sandbox.path(dir)).expect("mkdir");
        }
        for unit in ["secretfs@.service", "run-webtls.mount", "run-webtls.automount"] {
            let from = Path::new(SCRIPTS).join("systemd/system").join(unit);
            std::fs::copy(from, sandbox.path("root/etc/systemd/system").join(unit)).expect("copy");
        }
        for name in ["mount.secretfs", "mount.fuse.secretfs"] {
            std::os::unix::fs::symlink("/usr/local/bin/secretfs", sandbox.path("root/usr/sbin").join(name))
                .expect("symlink");
        }
        let machine = Machine { sandbox };
        machine.has("etc/systemd/system/test.service", SERVICE);
        machine.has("etc/machine-id", "");
        machine.has("etc/fstab", "");
        machine
    }

    /// Puts a file on the machine.
    pub fn has(&self, path: &str, content: &str) {
        let path = self.sandbox.path("root").join(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("mkdir");
        std::fs::write(path, content).expect("write");
    }

    /// Puts a file of mount-scripts/ there, changed by the test as its readers are told to.
    pub fn has_script(&self, script: &str, path: &str, change: impl FnOnce(String) -> String) {
        let content = std::fs::read_to_string(Path::new(SCRIPTS).join(script)).expect(script);
        self.has(path, &change(content));
    }

    /// Boots, runs a bash script as root, and switches off. Returns what the script printed; panics if it fails.
    #[track_caller]
    pub fn runs(&self, script: &str) -> String {
        let here = self.sandbox.dir().display();
        self.sandbox.write("test/script", format!("set -eu\n{UNTIL}\n{script}"));
        self.sandbox.write("test/run", "cd /test; bash script > out 2> err; echo $? > code");
        let _ = std::fs::remove_file(self.sandbox.path("test/code"));
        // Its own /run, so that systemd-nspawn leaves nothing in the host's.
        let boot = format!(
            "set -eu
             mount -t tmpfs tmpfs /run
             mount -t tmpfs tmpfs {here}/layer
             mkdir {here}/layer/upper {here}/layer/work
             cp -a {here}/root/. {here}/layer/upper
             mount -t overlay overlay -o lowerdir=/,upperdir={here}/layer/upper,workdir={here}/layer/work {here}/merged
             # Control groups of its own: two machines must not take each other's processes for theirs.
             tops=() group=secretfs-test-$$
             for top in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
                 if test -w $top/cgroup.procs; then tops+=($top); fi
             done
             leave() {{
                 for top in \"${{tops[@]}}\"; do
                     echo $$ > $top/cgroup.procs
                     find $top/$group -depth -type d -exec rmdir {{}} +
                 done
             }}
             trap leave EXIT
             for top in \"${{tops[@]}}\"; do mkdir $top/$group; echo $$ > $top/$group/cgroup.procs; done
             timeout -k 5 120 systemd-nspawn --quiet --directory {here}/merged --machine secretfs-test-$$ \
                 --register=no --keep-unit --link-journal=no --boot --console=pipe \
                 --bind=/dev/fuse --bind=/dev/autofs --bind={here}/test:/test --bind-ro={SECRETFS}:/usr/local/bin/secretfs \
                 systemd.unit=test.service"
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "bash", "-c", &boot]).stdin(std::process::Stdio::null());
        let output = run(self.sandbox.runs(&mut command));
        let read = |name: &str| std::fs::read_to_string(self.sandbox.path("test").join(name)).unwrap_or_default();
        let (code, out, err) = (read("code"), read("out"), read("err"));
        assert_eq!(code, "0\n", "{out}\n--- stderr\n{err}\n--- the machine\n{}", said(&output));
        out
    }
}
