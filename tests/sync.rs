//! `secretfs sync`: the files of a mount as real files, for as long as somebody wants them, and nothing else touched.
//!
//! Contents, modes, owners and events are held against the kubelet's in `kubelet`.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::api::Api;
use crate::support::cluster::namespace;
use crate::support::events::Watcher;
use crate::support::mount::Mount;
use crate::support::process::Running;
use crate::support::snapshot::{Entry, differences, snapshot};
use crate::support::sync::{Sync, memory_dir};
use crate::support::user::ordinary;
use crate::support::{fail, run, secretfs, subdir, succeed, tempdir, wait_until};

/// Replaces the manifest by one of Secrets `NAMESPACE/NAME` with their keys and values, a ConfigMap, and a pod of them.
fn manifest(file: &Path, secrets: &[(&str, &[(&str, &str)])]) {
    let mut items = Vec::new();
    for (name, data) in secrets {
        let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
        let data: BTreeMap<&str, &str> = data.iter().copied().collect();
        items.push(serde_json::json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace}, "stringData": data}));
    }
    items.push(serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "default"}, "data": {"a.conf": "a = 1", "b.conf": "b = 2"}}));
    items.push(
        serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"automountServiceAccountToken": false, "securityContext": {"fsGroup": 2000},
            "volumes": [
                {"name": "s", "secret": {"secretName": "one", "defaultMode": 0o400}},
                {"name": "c", "configMap": {"name": "settings", "items": [{"key": "a.conf", "path": "deep/er/a"}]}}],
            "containers": [{"name": "main", "image": "x", "volumeMounts": [
                {"name": "s", "mountPath": "/etc/s"}, {"name": "c", "mountPath": "/etc/c"},
                {"name": "s", "mountPath": "/etc/one-file", "subPath": "k"}]}]}}),
    );
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
    let new = file.with_extension("new");
    std::fs::write(&new, list.to_string()).expect("write");
    std::fs::rename(new, file).expect("rename");
}

/// A manifest, and a directory in memory.
struct Scene {
    files: tempfile::TempDir,
    memory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        let scene = Scene { files: tempdir(), memory: memory_dir() };
        scene.set(&[("default/one", &[("k", "first"), ("other", "same")]), ("second/two", &[("x", "y")])]);
        scene
    }

    fn set(&self, secrets: &[(&str, &[(&str, &str)])]) {
        manifest(&self.files.path().join("m.json"), secrets);
    }

    fn args<'a>(&'a self, rest: &[&'a str]) -> Vec<String> {
        let manifest = self.files.path().join("m.json");
        let all = ["-f", manifest.to_str().expect("UTF-8")].into_iter().chain(rest.iter().copied());
        all.map(str::to_owned).collect()
    }

    fn dir(&self, name: &str) -> std::path::PathBuf {
        subdir(self.memory.path(), name)
    }

    #[track_caller]
    fn sync(&self, rest: &[&str], dir: &Path) -> Sync {
        let args = self.args(rest);
        Sync::new(&args.iter().map(String::as_str).collect::<Vec<_>>(), dir)
    }

    fn command(&self, rest: &[&str], dir: &Path) -> Command {
        let mut command = secretfs();
        command.arg("sync").args(self.args(rest)).arg(dir);
        command
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[track_caller]
fn becomes(path: &Path, content: &str) {
    wait_until(&format!("{content:?} in {}", path.display()), || text(path) == content);
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("readdir").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// What a mount and a sync have in common: no directory of a sync is writable for others, and one file marks it.
fn comparable(dir: &Path) -> BTreeMap<String, Entry> {
    let mut tree = snapshot(dir);
    if tree.remove("..secretfs").is_some() {
        tree.get_mut("").expect("the root").size -= 20;
    }
    for entry in tree.values_mut().filter(|entry| entry.mode & 0o170000 == 0o040000) {
        entry.mode &= !0o022;
    }
    tree
}

#[test]
fn every_source_and_layout_gives_the_files_of_a_mount() {
    let scene = Scene::new();
    for (number, rest) in [
        &["secret/one"][..],
        &["cm/settings", "--owner", "kubelet"],
        &["--layout", "flat", "secret/one", "--mode", "0440", "--uid", "7", "--gid", "8"],
        &["pod/web", "--owner", "kubelet"],
        &["pod/web"],
        &["ns/second", "--kinds", "secrets,configmaps,pods"],
        &["--kinds", "secrets,configmaps,pods", "--owner", "kubelet"],
        &[],
    ]
    .iter()
    .enumerate()
    {
        let args = scene.args(rest);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mount = Mount::new(&args, &subdir(scene.files.path(), &number.to_string()));
        let sync = Sync::new(&args, &scene.dir(&number.to_string()));
        // A mount loads what somebody looks at: twice, as link counts are known only then.
        comparable(&mount.dir);
        let different = differences(&comparable(&mount.dir), &comparable(&sync.dir));
        assert!(different.is_empty(), "{rest:?}: {different:#?}");
        sync.end();
        assert!(names(&sync.dir).is_empty(), "{rest:?} leaves {:?}", names(&sync.dir));
        assert_eq!(std::fs::metadata(&sync.dir).expect("stat").mode() & 0o7777, 0o755, "the mode that it had");
    }
}

#[test]
fn objects_come_change_and_go() {
    let scene = Scene::new();
    let sync = scene.sync(&[], &scene.dir("all"));
    scene.set(&[("default/one", &[("k", "second")]), ("third/new", &[("n", "v")])]);
    becomes(&sync.path("third/new/n"), "v");
    becomes(&sync.path("default/one/k"), "second");
    wait_until("the end of what is gone", || !sync.path("second").exists());
    assert!(!sync.path("default/one/other").exists());
    assert_eq!(sync.status()["method"], "files");
}

#[test]
fn whoever_follows_a_killed_one_takes_over_without_an_event() {
    let scene = Scene::new();
    let dir = scene.dir("taken");
    scene.sync(&["--kinds", "secrets,configmaps"], &dir).kill();
    // What it might have been killed in the middle of.
    let volume = dir.join("default/secrets/one");
    let current = std::fs::read_link(volume.join("..data")).expect("..data");
    subdir(&volume, "..2026_01_02_03_04_05.678");
    std::fs::write(volume.join("..2026_01_02_03_04_05.678/k"), "half").expect("write");
    symlink("..2026_01_02_03_04_05.678", volume.join("..data_tmp")).expect("symlink");

    let mut watcher = Watcher::new();
    for (label, path) in [("configmaps", "default/configmaps/settings"), ("second", "second/secrets/two")] {
        watcher.follow(label, &dir.join(path));
        watcher.follow(&format!("{label} data"), &dir.join(path).join("..data"));
    }
    let sync = scene.sync(&["--kinds", "secrets,configmaps"], &dir);
    assert_eq!(std::fs::read_link(volume.join("..data")).expect("..data"), current);
    assert_eq!(names(&volume), [current.to_str().expect("UTF-8"), "..data", "k", "other"]);
    let events = watcher.take(0);
    assert!(events.is_empty(), "{events:#?}");

    // An update replaces the generation that the dead one made.
    scene.set(&[("default/one", &[("k", "third")]), ("second/two", &[("x", "y")])]);
    becomes(&volume.join("k"), "third");
    wait_until("the end of the old generation", || names(&volume).len() == 3);
    sync.kill();

    // What has changed meanwhile is made up for, objects that are gone included.
    scene.set(&[("default/one", &[("k", "fourth"), ("l", "")])]);
    let sync = scene.sync(&["--kinds", "secrets,configmaps"], &dir);
    assert_eq!(text(&volume.join("k")), "fourth");
    assert_eq!(names(&volume)[1..], ["..data", "k", "l"]);
    assert!(!dir.join("second").exists());
    sync.kill();
    // Nobody keeps it: umount does what the dead process cannot.
    succeed(secretfs().arg("umount").arg(&dir));
    assert!(names(&dir).is_empty());
}

#[test]
fn once_writes_and_exits_and_the_next_one_takes_over() {
    let scene = Scene::new();
    let dir = scene.dir("once");
    succeed(&mut scene.command(&["--once", "--layout", "flat", "secret/one"], &dir));
    assert_eq!((text(&dir.join("k")), names(&dir).len()), ("first".into(), 3));
    succeed(&mut scene.command(&["--once", "secret/one"], &dir));
    assert_eq!(std::fs::read_link(dir.join("k")).expect("a link"), Path::new("..data/k"));
    succeed(secretfs().arg("umount").arg(&dir));
    assert!(names(&dir).is_empty());
}

#[test]
fn files_of_somebody_else_are_left_and_named() {
    let scene = Scene::new();
    let dir = scene.dir("shared");
    let mut command = scene.command(&["--foreground"], &dir);
    let running = Running::start(&mut command);
    becomes(&dir.join("default/one/k"), "first");
    running.err.wait_for("written");
    std::fs::write(dir.join("mine"), "").expect("write");
    std::fs::write(dir.join("second/mine"), "").expect("write");
    symlink("/", dir.join("default/one/mine")).expect("symlink");
    scene.set(&[("default/one", &[("k", "second")])]);
    becomes(&dir.join("default/one/k"), "second");
    wait_until("the end of what is gone", || !dir.join("second/two").exists());
    succeed(secretfs().arg("umount").arg(&dir));
    for name in ["mine", "second/mine", "default/one/mine"] {
        assert!(std::fs::symlink_metadata(dir.join(name)).is_ok(), "{name} is gone");
        running.err.wait_for(dir.join(name).to_str().expect("UTF-8"));
    }
    assert_eq!(
        (names(&dir), names(&dir.join("default/one"))),
        (vec!["default".to_owned(), "mine".into(), "second".into()], vec!["mine".to_owned()],)
    );
}

#[test]
fn a_directory_that_could_be_an_attackers_or_a_disk_is_refused() {
    let scene = Scene::new();
    let refused = |dir: &Path, part: &str| {
        let (code, said) = fail(&mut scene.command(&["secret/one"], dir));
        assert!(code == 7 && said.contains(part), "{code}: {said}");
    };
    let dir = scene.dir("dir");
    refused(&dir.join("none"), "does not exist");
    let link = scene.memory.path().join("link");
    symlink(&dir, &link).expect("symlink");
    refused(&link, "give the directory itself");
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o1777)).expect("chmod");
    refused(&dir, "can be changed by others");
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    ordinary().owns(&dir);
    refused(&dir, "not to you");
    let full = scene.dir("full");
    std::fs::write(full.join("file"), "").expect("write");
    refused(&full, "\"file\" is in it");
    // A marker that others could write decides nothing.
    let forged = scene.dir("forged");
    std::fs::write(forged.join("..secretfs"), "secretfs sync 0000000001 755 0 0\n+\"file\"\n").expect("write");
    ordinary().owns(&forged.join("..secretfs"));
    refused(&forged, "not made by a secretfs sync of this user");
    let on_disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    refused(on_disk.path(), "--on-disk");
    let sync = scene.sync(&["--on-disk", "secret/one"], on_disk.path());
    refused(on_disk.path(), "is not in memory");
    sync.end();
    let dir = scene.dir("twice");
    let sync = scene.sync(&["secret/one"], &dir);
    refused(&dir, "kept by another secretfs sync");
    sync.end();
    // What is neither a mount nor kept is not touched.
    let (code, _) = fail(secretfs().arg("umount").arg(&full));
    assert_eq!((code, names(&full)), (7, vec!["file".to_owned()]));
}

/// Whoever is given the files could replace a directory by a link.
#[test]
fn a_link_in_place_of_a_directory_leads_nowhere() {
    let scene = Scene::new();
    let outside = scene.dir("outside");
    let sync = scene.sync(&[], &scene.dir("dir"));
    let volume = sync.path("default/one");
    std::fs::rename(&volume, scene.memory.path().join("moved")).expect("rename");
    symlink(&outside, &volume).expect("symlink");
    scene.set(&[("default/one", &[("k", "second")]), ("default/two", &[("x", "z")])]);
    becomes(&sync.path("default/two/x"), "z");
    wait_until("the trouble", || sync.status()["trouble"].is_string());
    assert!(names(&outside).is_empty(), "{:?}", names(&outside));
    std::fs::remove_file(&volume).expect("unlink");
    becomes(&volume.join("k"), "second");
    sync.end();
    assert!(names(&outside).is_empty());
}

/// A tmpfs of its own, unmounted at the end.
struct Small(tempfile::TempDir);

impl Small {
    fn new() -> Small {
        let dir = tempdir();
        succeed(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k,mode=0755", "small"]).arg(dir.path()));
        Small(dir)
    }

    fn remount(&self, options: &str) {
        succeed(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.0.path()));
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_file_system_keeps_the_old_content_whole_until_it_can_be_replaced() {
    let scene = Scene::new();
    let small = Small::new();
    let sync = scene.sync(&["secret/one"], &subdir(small.0.path(), "dir"));
    let large = "x".repeat(100_000);
    scene.set(&[("default/one", &[("a", "a"), ("k", &large), ("other", "new")])]);
    let trouble = || sync.status()["trouble"].as_str().unwrap_or_default().to_owned();
    wait_until("the trouble", || trouble().contains("No space left"));
    assert_eq!((text(&sync.path("k")), text(&sync.path("other"))), ("first".into(), "same".into()));
    assert_eq!(names(&sync.dir).len(), 5, "{:?}", names(&sync.dir));
    small.remount("size=1m");
    becomes(&sync.path("k"), &large);
    wait_until("the end of the trouble", || trouble().is_empty());
    sync.end();
}

#[test]
fn a_directory_that_may_not_be_written_any_more_keeps_the_old_content() {
    let scene = Scene::new();
    let dir = scene.dir("dir");
    let user = ordinary();
    user.owns(&dir);
    let args = scene.args(&["secret/one"]);
    let sync = Sync::of(user, &args.iter().map(String::as_str).collect::<Vec<_>>(), &dir);
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o500)).expect("chmod");
    scene.set(&[("default/one", &[("k", "second")])]);
    wait_until("the trouble", || {
        sync.status()["trouble"].as_str().is_some_and(|said| said.contains("Permission denied"))
    });
    assert_eq!((text(&dir.join("k")), text(&dir.join("other"))), ("first".into(), "same".into()));
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    becomes(&dir.join("k"), "second");
    sync.end();
}

#[test]
fn a_directory_that_was_removed_is_written_again_when_it_is_back() {
    let scene = Scene::new();
    let dir = scene.dir("dir");
    let sync = scene.sync(&["secret/one"], &dir);
    std::fs::remove_dir_all(&dir).expect("rm -r");
    scene.set(&[("default/one", &[("k", "second")])]);
    wait_until("the trouble", || sync.status()["trouble"].is_string());
    std::fs::create_dir(&dir).expect("mkdir");
    becomes(&dir.join("k"), "second");
    sync.end();
}

#[test]
fn an_ordinary_user_writes_own_files_without_fuse() {
    let scene = Scene::new();
    let dir = scene.dir("own");
    let user = ordinary();
    user.owns(&dir);
    let (code, said) = fail(user.runs(&mut scene.command(&["--uid", "0", "secret/one"], &dir)));
    assert!(code == 2 && said.contains("only root"), "{code}: {said}");
    let args = scene.args(&["pod/web", "--owner", "kubelet"]);
    let sync = Sync::of(user, &args.iter().map(String::as_str).collect::<Vec<_>>(), &dir);
    let owner = std::fs::metadata(&dir).expect("stat").uid();
    for (name, entry) in snapshot(&dir) {
        assert_eq!(entry.uid, owner, "{name}");
    }
    scene.set(&[("default/one", &[("k", "second")])]);
    becomes(&dir.join("main/etc/s/k"), "second");
    becomes(&dir.join("main/etc/one-file"), "second");
    sync.end();

    // In a namespace in which nothing can be mounted by FUSE.
    let script = "mount --bind /dev/null /dev/fuse && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_secretfs")]);
    let dir = scene.dir("hidden");
    succeed(command.args(["sync", "--once"]).args(scene.args(&["secret/one"])).arg(&dir));
    assert_eq!(text(&dir.join("k")), "second");
    succeed(secretfs().arg("umount").arg(&dir));
}

#[test]
fn a_tmpfs_that_may_be_swapped_out_is_told_of() {
    let scene = Scene::new();
    let dir = scene.dir("t");
    let heading = "Filename\tType\tSize\tUsed\tPriority\n";
    std::fs::write(scene.files.path().join("none"), heading).expect("write");
    std::fs::write(scene.files.path().join("some"), format!("{heading}/dev/sda2\tpartition\t1\t0\t-2\n"))
        .expect("write");
    let said = |mount: &str, swaps: &str| {
        let script =
            format!("mount -t {mount} none \"$1\" && mount --bind \"$2\" /proc/swaps && shift 2 && exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh"]).arg(&dir).arg(scene.files.path().join(swaps));
        command.args([env!("CARGO_BIN_EXE_secretfs"), "sync", "--once"]).args(scene.args(&["secret/one"])).arg(&dir);
        let output = run(&mut command);
        assert!(output.status.success(), "{}", crate::support::said(&output));
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    let warning = said("tmpfs -o mode=700", "some");
    assert_eq!(warning.matches("may get into swap: mount a tmpfs with -o noswap").count(), 1, "{warning}");
    for (mount, swaps) in
        [("tmpfs -o mode=700", "none"), ("tmpfs -o mode=700,noswap", "some"), ("ramfs -o mode=700", "some")]
    {
        assert_eq!(said(mount, swaps), "", "{mount}");
    }
}

#[test]
fn a_namespace_and_a_whole_cluster_are_written_and_followed() {
    let space = namespace();
    let api = Api::of(space.cluster);
    let secret = |namespace: &str, name: &str, value: &str| {
        serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
            "stringData": {"k": value}})
    };
    api.create(&secret(&space.name, "one", "first"));
    let memory = memory_dir();
    let kubeconfig = space.cluster.kubeconfig();
    let from = ["--kubeconfig", kubeconfig.to_str().expect("UTF-8")];
    let source = format!("ns/{}", space.name);
    let of_one = Sync::new(&[&from[..], &[&source]].concat(), &subdir(memory.path(), "one"));
    let of_all = Sync::new(&from, &subdir(memory.path(), "all"));
    let all = of_all.path(&space.name);
    assert_eq!((text(&of_one.path("one/k")), text(&all.join("one/k"))), ("first".into(), "first".into()));

    api.create(&secret(&space.name, "two", "new"));
    api.replace(&secret(&space.name, "one", "second"));
    for dir in [&of_one.dir, &all] {
        becomes(&dir.join("two/k"), "new");
        becomes(&dir.join("one/k"), "second");
    }
    api.delete(&secret(&space.name, "two", ""));
    for dir in [&of_one.dir, &all] {
        wait_until("the end of what was deleted", || !dir.join("two").exists());
    }
    let later = namespace();
    api.create(&secret(&later.name, "three", "later"));
    becomes(&of_all.path(&later.name).join("three/k"), "later");
    of_one.end();
    of_all.end();
    assert!(names(&of_one.dir).is_empty() && names(&of_all.dir).is_empty());
}
