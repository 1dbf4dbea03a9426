use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::object::Value;
use crate::volume::{Attr, NewNode, Step};

fn dir(children: Vec<(&str, NewNode)>) -> NewNode {
    let attr = Attr { mode: 0o755, uid: 0, gid: 0 };
    NewNode::dir(attr, children.into_iter().map(|(name, node)| (name.into(), node)).collect())
}

fn file() -> NewNode {
    NewNode::file(Attr { mode: 0o640, uid: 0, gid: 0 }, Value::copy_of(b""))
}

fn link(target: &str) -> NewNode {
    NewNode::link(Attr { mode: 0o777, uid: 0, gid: 0 }, target)
}

/// A publisher below a plain directory, and a runtime to talk to it.
struct Playground {
    root: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Playground {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Playground { root: tempfile::tempdir().unwrap(), runtime }
    }

    fn device(&self) -> u64 {
        fs::metadata(self.root.path()).unwrap().dev()
    }

    /// Runs the steps through both kinds of place and checks that all of them were done.
    fn publish(&self, path: &str, steps: Vec<Step>) {
        let place = Place::Path { path: self.root.path().to_owned(), device: self.device() };
        let publisher = Publisher::start(&place, None, Box::new(Supplied)).unwrap();
        let (left, error) = self.runtime.block_on(publisher.publish(path.into(), steps));
        assert!(left.is_empty() && error.is_none(), "{left:?} {error:?}");
    }
}

#[test]
fn steps_are_system_calls_below_the_directory() {
    let playground = Playground::new();
    playground.publish("", vec![Step::Mkdir { name: "d".into(), node: dir(vec![]) }]);
    playground.publish(
        "d",
        vec![
            Step::Mkdir { name: "..1".into(), node: dir(vec![]) },
            Step::Symlink { name: "..tmp".into(), node: link("..1") },
            Step::Rename { from: "..tmp".into(), to: "..data".into() },
            Step::Mkfile { name: "f".into(), node: file() },
        ],
    );
    let below = playground.root.path().join("d");
    assert_eq!(fs::metadata(below.join("..1")).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(fs::read_link(below.join("..data")).unwrap().to_str(), Some("..1"));
    assert!(fs::metadata(below.join("f")).unwrap().is_file());
    playground.publish("d", vec![Step::Unlink { name: "f".into() }]);
    assert!(!below.join("f").exists());
}

#[test]
fn a_directory_is_removed_with_all_that_is_in_it() {
    let playground = Playground::new();
    let root = playground.root.path();
    fs::create_dir_all(root.join("d/e/f")).unwrap();
    fs::write(root.join("d/e/f/file"), "").unwrap();
    std::os::unix::fs::symlink("nowhere", root.join("d/link")).unwrap();
    playground.publish("", vec![Step::RemoveAll { name: "d".into() }]);
    assert_eq!(fs::read_dir(root).unwrap().count(), 0);
}

#[test]
fn what_fails_comes_back_with_what_comes_after_it() {
    let playground = Playground::new();
    let root = fs::File::open(playground.root.path()).unwrap();
    let publisher = Publisher::start(&Place::Fd(root.as_fd()), None, Box::new(Supplied)).unwrap();
    let steps = vec![
        Step::Mkdir { name: "a".into(), node: dir(vec![]) },
        Step::Unlink { name: "no-such-name".into() },
        Step::Mkdir { name: "b".into(), node: dir(vec![]) },
    ];
    let (left, error) = playground.runtime.block_on(publisher.publish(String::new(), steps));
    assert_eq!(left.len(), 2);
    assert_eq!(error.unwrap().kind(), std::io::ErrorKind::NotFound);
    assert!(playground.root.path().join("a").exists() && !playground.root.path().join("b").exists());
}

#[test]
fn another_file_system_at_the_path_is_left_alone() {
    let playground = Playground::new();
    let place = Place::Path { path: playground.root.path().to_owned(), device: playground.device() + 1 };
    assert!(matches!(Publisher::start(&place, None, Box::new(Supplied)), Err(StartError::Reach(_))));
}

#[test]
fn the_thread_has_no_descriptor_but_its_own_and_takes_no_signal() {
    let playground = Playground::new();
    let root = fs::File::open(playground.root.path()).unwrap();
    let _other = fs::File::open("/dev/null").unwrap();
    let publisher = Publisher::start(&Place::Fd(root.as_fd()), None, Box::new(Supplied)).unwrap();
    let task = fs::read_dir("/proc/self/task").unwrap().flatten().map(|entry| entry.path());
    let named: Vec<_> =
        task.filter(|path| fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "publisher\n")).collect();
    let alone = |path: &std::path::PathBuf| {
        let fds: Vec<_> = fs::read_dir(path.join("fd")).unwrap().flatten().collect();
        let target = |fd: &fs::DirEntry| fs::read_link(fd.path()).ok();
        fds.len() == 1 && target(&fds[0]).is_some_and(|target| target == playground.root.path())
    };
    let ours = named.iter().find(|path| alone(path)).expect("a publisher with one descriptor");
    let status = fs::read_to_string(ours.join("status")).unwrap();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
    // All but KILL and STOP, which nobody can block (and two that libc keeps to itself).
    assert_eq!(blocked, "fffffffe7ffbfeff");
    drop(publisher);
}
