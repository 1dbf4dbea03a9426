//! mount(8), umount(8), findmnt(8) and lines of fstab.

use crate::support::host::{Host, line};
use crate::support::user::{self, ordinary};
use crate::support::{fail, run, said, succeed};

const MANIFEST: &str = include_str!("../../examples/example-secret.yaml");
const PAYLOAD: &str = "some-base64-encoded-payload";

struct Fstab {
    host: Host,
    /// `manifests=FILE`
    manifests: String,
}

impl Fstab {
    fn new() -> Fstab {
        let host = Host::new();
        let file = host.sandbox.write("secret.yaml", MANIFEST);
        host.sandbox.mkdir("m");
        Fstab { manifests: format!("manifests={}", file.display()), host }
    }

    fn line(&self, source: &str, options: &str) -> String {
        line(source, &self.host.sandbox.path("m"), "secretfs", &format!("{},{options}", self.manifests))
    }

    /// Runs a script with one line for `m`, and returns what it printed.
    #[track_caller]
    fn runs(&self, options: &str, script: &str) -> String {
        let printed = succeed(&mut self.host.with_fstab(&self.line("default/secret/mysecret", options), script));
        self.host.sandbox.is_clean();
        printed
    }
}

#[test]
fn a_line_of_fstab_is_mounted_and_usable_when_mount_returns() {
    let fstab = Fstab::new();
    assert_eq!(fstab.runs("nofail", "mount ./m; cat m/my-super-secret-key; umount ./m"), PAYLOAD);
    // By all names, and with the source as findmnt shows that of a mount made by hand.
    for (source, fs_type) in [("none", "secretfs"), ("*", "secretfs"), ("secretfs:*", "fuse.secretfs")] {
        let line = line(source, &fstab.host.sandbox.path("m"), fs_type, &fstab.manifests);
        let script = "mount ./m; cat m/default/mysecret/my-super-secret-key; umount ./m";
        assert_eq!(succeed(&mut fstab.host.with_fstab(&line, script)), PAYLOAD, "{source} {fs_type}");
        fstab.host.sandbox.is_clean();
    }
}

#[test]
fn mount_a_mounts_once_and_findmnt_and_umount_know_the_line() {
    let fstab = Fstab::new();
    let script = "mount -a; mount -a; mount -av | grep ' m\\|/m ' ; grep -c ' /.*/m fuse.secretfs ' /proc/mounts
                  findmnt -n -o SOURCE,FSTYPE ./m; findmnt --verify --tab-file /etc/fstab > /dev/null
                  umount -a -t fuse.secretfs; findmnt ./m || echo unmounted";
    let printed = fstab.runs("_netdev,nofail,x-systemd.automount", script);
    let lines: Vec<&str> = printed.lines().map(str::trim).collect();
    assert!(lines[0].contains("already mounted"), "{printed}");
    assert_eq!(lines[1], "1", "{printed}");
    assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>(), ["default/secret/mysecret", "fuse.secretfs"]);
    assert_eq!(lines[3], "unmounted");
}

/// mount(8), section FILESYSTEM-INDEPENDENT MOUNT OPTIONS, and what systemd.mount(5) and others add.
const GENERIC: &str = "async,atime,noatime,auto,noauto,defaults,dev,nodev,diratime,nodiratime,dirsync,exec,noexec,group,\
    iversion,noiversion,mand,nomand,_netdev,nofail,relatime,norelatime,strictatime,nostrictatime,lazytime,nolazytime,\
    suid,nosuid,silent,loud,owner,ro,rw,sync,user,nouser,users,comment=systemd.automount,x-systemd.requires=a.service,\
    x-gvfs-show,X-mount.mkdir,x-initrd.mount,user=me,context=\"system_u:object_r:tmp_t:s0:c1,c2\"";

#[test]
fn every_generic_option_is_accepted_and_none_weakens_the_mount() {
    let fstab = Fstab::new();
    let script = "mount -v ./m; findmnt -n -o OPTIONS ./m; touch m/x 2>&1 || true; umount ./m";
    let printed = fstab.runs(GENERIC, script);
    assert!(printed.starts_with("ro,nosuid,nodev,noexec"), "{printed}");
    assert!(printed.contains("Read-only file system"), "{printed}");
    // One by one as well: the last of two opposites hides the first.
    for option in GENERIC.split(',').filter(|option| !option.contains(['"', ':']) && *option != "c2\"") {
        fstab.runs(option, "mount -f ./m; mount ./m; umount ./m");
    }
}

#[test]
fn our_options_have_the_names_of_the_verbs_and_users_their_names() {
    let fstab = Fstab::new();
    let options = format!("uid={},gid=daemon,mode=0440,dir_mode=0550,layout=flat", user::NAME);
    let script = "mount ./m; stat -c '%U %G %a %F' m m/my-super-secret-key; umount ./m";
    let printed = fstab.runs(&options, script);
    assert_eq!(
        printed,
        format!("{0} daemon 550 directory\n{0} daemon 440 regular file\n", user::NAME),
        "flat, and modes as given"
    );
    let two = fstab.runs("kinds=\"secrets,configmaps\",dir-mode=0500", "mount ./m; stat -c %a m; umount ./m");
    assert_eq!(two, "500\n");
}

#[test]
fn an_ordinary_user_mounts_and_unmounts_a_line_that_allows_it() {
    let fstab = Fstab::new();
    ordinary().owns(&fstab.host.sandbox.path("m"));
    let script = fstab.host.as_user(ordinary(), "mount ./m; cat m/my-super-secret-key; stat -c %U m; umount ./m");
    assert_eq!(fstab.runs("user,noauto", &script), format!("{PAYLOAD}{}\n", user::NAME));
}

#[test]
fn failures_have_the_exit_codes_of_mount() {
    let fstab = Fstab::new();
    let told = |source: &str, options: &str| {
        let line = fstab.line(source, options);
        let told = fail(&mut fstab.host.with_fstab(&line, "mount ./m"));
        fstab.host.sandbox.is_clean();
        told
    };
    for (source, options, code, message) in [
        ("secret/nope", "ro", 32, "mount.secretfs: default/secret/nope"),
        ("secret/mysecret", "whatever", 1, "unknown option \"whatever\""),
        ("secret/mysecret", "mode=rw", 1, "is not a mode"),
        ("secret/mysecret", "foreground", 1, "foreground cannot be used here"),
        ("nonsense", "ro", 1, "is not a SOURCE"),
    ] {
        let (found, text) = told(source, options);
        assert_eq!(found, code, "{source} {options}: {text}");
        assert!(text.contains(message), "{source} {options}: {text}");
    }
    // -s makes unknown options no errors; -f checks without mounting.
    let script = "mount -s ./m; umount ./m; mount -sf ./m; findmnt ./m || echo nothing";
    assert_eq!(fstab.runs("whatever", script), "nothing\n");
}

#[test]
fn remounting_is_refused_and_what_is_mounted_stays() {
    let fstab = Fstab::new();
    let script = "mount ./m; mount -o remount,rw ./m 2>&1 || echo refused $?; touch m/x 2>/dev/null || echo read-only
                  umount ./m";
    let printed = fstab.runs("ro", script);
    assert!(printed.contains("read-only"), "{printed}");
}

#[test]
fn who_mounts_when_does_not_choose_the_cluster() {
    let host = Host::new();
    host.sandbox.mkdir("m");
    let line = line("secret/a", &host.sandbox.path("m"), "secretfs", "noauto");
    // Neither the variable nor the HOME of whoever typed it: root's own kubeconfig, or the option.
    let script = "export KUBECONFIG=/elsewhere/config; mount ./m";
    let output = run(&mut host.with_fstab(&line, script));
    let text = said(&output);
    assert!(!text.contains("/elsewhere") && !text.contains(&host.path(".kube")), "{text}");
    let line = super::fstab::line(
        "secret/a",
        &host.sandbox.path("m"),
        "secretfs",
        &format!("kubeconfig={}", host.path("its-own")),
    );
    let (code, text) = fail(&mut host.with_fstab(&line, script));
    assert_eq!(code, 32, "{text}");
    assert!(text.contains("its-own"), "{text}");
    host.sandbox.is_clean();
}

#[test]
fn autofs_mounts_on_first_use_and_unmounts_after_a_while() {
    let fstab = Fstab::new();
    let host = &fstab.host;
    host.sandbox.mkdir("auto");
    let master = include_str!("../../mount-scripts/autofs/secrets.autofs")
        .replace("\n/secrets", &format!("\n{}", host.path("auto")));
    host.sandbox.write("master", master.replace("--timeout=600", "--timeout=1"));
    let map = include_str!("../../mount-scripts/autofs/auto.secrets")
        .replace("kubeconfig=/etc/secretfs/kubeconfig", &fstab.manifests);
    host.sandbox.write("etc/auto.secrets", map.replace("prod/secret/web-tls", "default/secret/mysecret"));
    // automount waits for its mount(8), which waits for us: we must not be taken for one who uses the directory.
    let script = "automount -f -C -p $PWD/pid $PWD/master 2> log & automount=$!
        trap 'kill $automount; wait $automount || true' EXIT
        until_() { for _ in {1..400}; do if eval \"$1\"; then return; fi; sleep 0.05; done; echo in vain: $1; cat log; exit 1; }
        until_ 'grep -q \" $PWD/auto autofs\" /proc/mounts'
        timeout 20 cat auto/web-tls/my-super-secret-key
        grep -q \" $PWD/auto/web-tls fuse.secretfs\" /proc/mounts && echo : mounted
        until_ '! grep -q \" $PWD/auto/web-tls fuse.secretfs\" /proc/mounts'
        timeout 20 cat auto/web-tls/my-super-secret-key";
    let printed = succeed(&mut host.with_fstab("", script));
    assert_eq!(printed, format!("{PAYLOAD}: mounted\n{PAYLOAD}"));
    host.sandbox.is_clean();
}

#[test]
fn the_helper_explains_itself_and_knows_the_options_that_it_names() {
    let host = Host::new();
    let help = succeed(std::process::Command::new(host.path("sbin/mount.secretfs")).arg("--help"));
    assert!(help.contains("Usage: mount.secretfs [OPTIONS] <SOURCE> <DIR>"), "{help}");
    for option in ["manifests=", "kube-context=", "kube-user=", "x-secretfs.NAME=VALUE", "32 the mount failed"] {
        assert!(help.contains(option), "{option}: {help}");
    }
    for option in ["manifests=x", "kube-context=x", "kube-user=x"] {
        let helper = host.path("sbin/mount.secretfs");
        let (code, text) = fail(std::process::Command::new(helper).args(["secret/a", "/nonexistent", "-o", option]));
        assert_eq!(code, 32, "the options are right, the directory is missing: {text}");
    }
}
