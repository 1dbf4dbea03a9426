use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::mpsc;

use proptest::prelude::*;

use super::*;
use crate::volume::{Attr, NewBody};

fn attr(mode: u32) -> Attr {
    Attr { mode, uid: 0, gid: 0 }
}

fn dir(children: Vec<(&str, NewNode)>) -> NewNode {
    NewNode::dir(attr(0o755), children.into_iter().map(|(name, node)| (name.into(), node)).collect())
}

fn file(content: &str) -> NewNode {
    NewNode::file(attr(0o400), Value::copy_of(content.as_bytes()))
}

fn link(target: &str) -> NewNode {
    NewNode::link(attr(0o777), target)
}

fn unloaded() -> NewNode {
    NewNode { attr: attr(0o700), body: NewBody::Unloaded { subdirs: 1 } }
}

fn tree(children: Vec<(&str, NewNode)>) -> (Tree, mpsc::Receiver<Demand>) {
    let (send, receive) = mpsc::channel();
    (
        Tree::new(dir(children), move |call| match call {
            Call::Demand(demand) => send.send(demand).unwrap(),
            Call::Unused(_) => {}
        }),
        receive,
    )
}

fn lookup(tree: &Tree, parent: Ino, name: &str) -> Option<Stat> {
    tree.lookup(parent, OsStr::new(name)).unwrap()
}

fn names(tree: &Tree, ino: Ino) -> Vec<String> {
    let mut names = Vec::new();
    tree.readdir(ino, 0, false, |listed| {
        names.push(listed.name.to_string());
        true
    })
    .unwrap();
    names
}

fn mkdir(name: &str, node: NewNode) -> Step {
    Step::Mkdir { name: name.into(), node }
}

#[test]
fn sizes_and_link_counts_are_those_of_tmpfs() {
    let long = "x".repeat(128);
    let links = [("l", link("f")), ("longer", link(&long[1..])), ("longest", link(&long))];
    let (tree, _) = tree([("d", dir(vec![])), ("f", file("12345"))].into_iter().chain(links).collect());
    let root = tree.getattr(Ino::ROOT).unwrap();
    assert_eq!((root.size, root.nlink, root.blocks()), (40 + 5 * 20, 3, 0));
    let found = lookup(&tree, Ino::ROOT, "f").unwrap();
    assert_eq!((found.size, found.nlink, found.blocks()), (5, 1, 8));
    let found = lookup(&tree, Ino::ROOT, "l").unwrap();
    assert_eq!((found.size, found.blocks()), (1, 0));
    assert_eq!(lookup(&tree, Ino::ROOT, "longer").unwrap().blocks(), 0);
    assert_eq!(lookup(&tree, Ino::ROOT, "longest").unwrap().blocks(), 8);
    assert_eq!(tree.usage(), (6, 16));
}

#[test]
fn an_update_of_what_nobody_holds_is_applied_at_once() {
    let (tree, _) = tree(vec![("d", dir(vec![]))]);
    tree.set_published();
    let below = tree.child(Ino::ROOT, "d").unwrap();
    let outcome = tree.update(below, vec![mkdir("new", dir(vec![("f", file("1"))]))]).unwrap();
    assert!(matches!(outcome, Outcome::Applied));
    assert_eq!(names(&tree, below), [".", "..", "new"]);
}

#[test]
fn an_update_of_what_the_kernel_holds_waits_for_the_system_calls() {
    let (tree, _) = tree(vec![("d", dir(vec![("old", file("0"))]))]);
    tree.set_published();
    let held = lookup(&tree, Ino::ROOT, "d").unwrap().ino;
    let steps = vec![
        mkdir("..2", dir(vec![("f", file("1"))])),
        Step::Symlink { name: "tmp".into(), node: link("..2") },
        Step::Rename { from: "tmp".into(), to: "data".into() },
        Step::Unlink { name: "old".into() },
    ];
    let Outcome::Publish { path, steps } = tree.update(held, steps).unwrap() else { panic!("applied") };
    assert_eq!(path, "d");
    assert_eq!(names(&tree, held), [".", "..", "old"]);

    tree.mkdir(held, OsStr::new("..2")).unwrap();
    tree.symlink(held, OsStr::new("tmp"), OsStr::new("..2")).unwrap();
    tree.rename(held, OsStr::new("tmp"), OsStr::new("data")).unwrap();
    tree.unlink(held, OsStr::new("old")).unwrap();
    assert!(!tree.settle(held, Vec::new()));
    assert_eq!(names(&tree, held), [".", "..", "..2", "data"]);
    drop(steps);
}

#[test]
fn nothing_can_be_made_that_was_not_staged() {
    let (tree, _) = tree(vec![("f", file("1"))]);
    assert_eq!(tree.mkdir(Ino::ROOT, OsStr::new("x")), Err(Error::ReadOnly));
    assert_eq!(tree.mknod(Ino::ROOT, OsStr::new("x")), Err(Error::ReadOnly));
    tree.set_published();
    tree.update(Ino::ROOT, vec![Step::Symlink { name: "l".into(), node: link("right") }]).unwrap();
    assert_eq!(tree.symlink(Ino::ROOT, OsStr::new("l"), OsStr::new("wrong")), Err(Error::ReadOnly));
    assert_eq!(tree.mkdir(Ino::ROOT, OsStr::new("l")), Err(Error::ReadOnly));
    tree.symlink(Ino::ROOT, OsStr::new("l"), OsStr::new("right")).unwrap();
}

#[test]
fn what_the_publisher_could_not_do_is_done_without_it() {
    let (tree, _) = tree(vec![]);
    tree.set_published();
    let Outcome::Publish { steps, .. } = tree.update(Ino::ROOT, vec![mkdir("a", dir(vec![]))]).unwrap() else {
        panic!("the root is always held")
    };
    assert!(tree.settle(Ino::ROOT, steps));
    assert_eq!(names(&tree, Ino::ROOT), [".", "..", "a"]);
    assert_eq!(tree.mkdir(Ino::ROOT, OsStr::new("a")), Err(Error::ReadOnly), "nothing stays staged");
}

#[test]
fn a_removed_file_stays_readable_until_the_kernel_forgets_it() {
    let (tree, _) = tree(vec![("f", file("bytes"))]);
    let found = lookup(&tree, Ino::ROOT, "f").unwrap();
    lookup(&tree, Ino::ROOT, "f");
    tree.unlink(Ino::ROOT, OsStr::new("f")).unwrap();
    assert_eq!(lookup(&tree, Ino::ROOT, "f"), None);
    assert_eq!(tree.read(found.ino).unwrap().as_bytes(), b"bytes");
    assert_eq!(tree.getattr(found.ino).unwrap().nlink, 0);
    tree.forget(found.ino, 1);
    assert!(tree.read(found.ino).is_ok());
    tree.forget(found.ino, 1);
    assert_eq!(tree.read(found.ino), Err(Miss::Error(Error::Stale)));
    assert_eq!(tree.usage(), (1, 0));
}

#[test]
fn a_listing_goes_on_at_its_place_whatever_happens_in_between() {
    let (tree, _) = tree(vec![("a", file("")), ("b", file("")), ("c", file(""))]);
    let mut cookie = 0;
    let mut seen = Vec::new();
    // One name at a time, as with a tiny buffer.
    for change in [None, None, Some("a"), None, None, None] {
        let mut taken = false;
        tree.readdir(Ino::ROOT, cookie, false, |listed| {
            if taken {
                return false;
            }
            taken = true;
            cookie = listed.cookie;
            seen.push(listed.name.to_string());
            true
        })
        .unwrap();
        if let Some(gone) = change {
            tree.unlink(Ino::ROOT, OsStr::new(gone)).unwrap();
            tree.update(Ino::ROOT, vec![Step::Mkfile { name: "d".into(), node: file("") }]).unwrap();
        }
    }
    assert_eq!(seen, [".", "..", "a", "b", "c", "d"]);
}

#[test]
fn whoever_looks_into_an_unloaded_directory_waits_and_is_answered_once_it_is_filled() {
    let (tree, demands) = tree(vec![("d", unloaded())]);
    let found = lookup(&tree, Ino::ROOT, "d").unwrap();
    assert_eq!((found.size, found.nlink), (0, 3));
    let Err(Miss::Pending(demand)) = tree.lookup(found.ino, OsStr::new("key")) else { panic!("not pending") };
    let (send, answers) = mpsc::channel();
    for _ in 0..3 {
        let send = send.clone();
        tree.wait(demand.clone(), move |outcome| send.send(outcome).unwrap());
    }
    assert_eq!(demands.try_iter().collect::<Vec<_>>(), std::slice::from_ref(&demand), "asked once for all three");
    assert!(answers.try_recv().is_err());
    tree.fill(found.ino, vec![("key".into(), file("v"))]).unwrap();
    assert_eq!(answers.try_iter().collect::<Vec<_>>(), [Ok(()); 3]);
    let after = tree.getattr(found.ino).unwrap();
    assert_eq!((after.mtime, after.size), (found.mtime, 60), "the size is known now, and nothing has changed");
    assert_eq!(lookup(&tree, found.ino, "key").unwrap().mtime, found.mtime);

    tree.wait(demand, move |outcome| send.send(outcome).unwrap());
    assert_eq!(answers.try_recv(), Ok(Ok(())), "met already: answered at once");
}

#[test]
fn a_refused_demand_is_asked_again_by_the_next_who_comes() {
    let (tree, demands) = tree(vec![("d", unloaded())]);
    let ino = tree.child(Ino::ROOT, "d").unwrap();
    for _ in 0..2 {
        let Err(Miss::Pending(demand)) = tree.lookup(ino, OsStr::new("key")) else { panic!("not pending") };
        let (send, answers) = mpsc::channel();
        tree.wait(demand.clone(), move |outcome| send.send(outcome).unwrap());
        assert_eq!(demands.try_recv(), Ok(demand.clone()));
        tree.refuse(&demand, Error::Unavailable(libc::ETIMEDOUT));
        assert_eq!(answers.try_recv(), Ok(Err(Error::Unavailable(libc::ETIMEDOUT))));
    }
}

#[test]
fn names_are_listed_when_somebody_looks_or_else_asked_for_one_by_one() {
    let (tree, demands) = tree(vec![("ns", NewNode { attr: attr(0o700), body: NewBody::Unread })]);
    let ns = lookup(&tree, Ino::ROOT, "ns").unwrap().ino;
    let miss = |name: &str| tree.lookup(ns, OsStr::new(name)).unwrap_err();
    let all = Demand { dir: ns, name: None };
    assert_eq!(miss("a"), Miss::Pending(all.clone()));
    let (told, heard) = mpsc::channel();
    let hear = told.clone();
    tree.wait(all.clone(), move |outcome| hear.send(outcome).unwrap());
    assert_eq!(demands.try_recv(), Ok(all.clone()));

    // They may not be listed: whoever waits asks again, for a name.
    tree.set_names(ns, Names::ByName).unwrap();
    assert_eq!(heard.try_recv(), Ok(Ok(())));
    let by_name = Demand { dir: ns, name: Some("a".into()) };
    assert_eq!(miss("a"), Miss::Pending(by_name.clone()));
    let refused = Miss::Error(Error::Unavailable(libc::EACCES));
    assert_eq!(tree.readdir(ns, 0, false, |_| true), Err(refused.clone()));
    tree.wait(by_name.clone(), move |outcome| told.send(outcome).unwrap());
    tree.grant(&by_name, unloaded()).unwrap();
    assert_eq!(heard.try_recv(), Ok(Ok(())));
    let granted = lookup(&tree, ns, "a").unwrap().ino;

    // Once they may be listed, what was granted is among them, as it was.
    tree.fill(ns, vec![("a".into(), unloaded()), ("b".into(), unloaded())]).unwrap();
    assert_eq!(names(&tree, ns), [".", "..", "a", "b"]);
    assert_eq!(lookup(&tree, ns, "a").unwrap().ino, granted);
    assert_eq!(lookup(&tree, ns, "c"), None);

    // Withdrawn.
    tree.set_names(ns, Names::Denied).unwrap();
    assert_eq!((tree.readdir(ns, 0, false, |_| true), miss("c")), (Err(refused.clone()), refused));
}

#[test]
fn what_was_asked_for_by_its_name_goes_when_the_kernel_lets_go() {
    let (tree, _demands) = tree(vec![("ns", NewNode { attr: attr(0o700), body: NewBody::Unread })]);
    let ns = lookup(&tree, Ino::ROOT, "ns").unwrap().ino;
    tree.set_names(ns, Names::ByName).unwrap();
    tree.grant(&Demand { dir: ns, name: Some("a".into()) }, dir(vec![("k", file("1"))])).unwrap();
    let granted = lookup(&tree, ns, "a").unwrap().ino;
    assert!(!tree.drop_unused(granted));
    tree.forget(granted, 1);
    assert!(tree.drop_unused(granted));
    assert_eq!((tree.child(ns, "a"), tree.getattr(granted)), (None, Err(Error::Stale)));
    // Of what is listed nothing goes.
    tree.set_names(ns, Names::Known).unwrap();
    assert!(!tree.drop_unused(ns));
}

#[test]
fn whoever_waits_for_a_directory_that_goes_is_told() {
    let (tree, _demands) = tree(vec![("d", unloaded())]);
    let ino = tree.child(Ino::ROOT, "d").unwrap();
    let Err(Miss::Pending(demand)) = tree.lookup(ino, OsStr::new("key")) else { panic!("not pending") };
    let (send, answers) = mpsc::channel();
    tree.wait(demand, move |outcome| send.send(outcome).unwrap());
    tree.seal(ino);
    assert_eq!(answers.try_recv(), Ok(Err(Error::NotFound)));
    tree.rmdir(Ino::ROOT, OsStr::new("d")).unwrap();
}

#[test]
fn each_error_has_its_errno() {
    for (error, errno) in [
        (Error::NotFound, libc::ENOENT),
        (Error::NotDirectory, libc::ENOTDIR),
        (Error::IsDirectory, libc::EISDIR),
        (Error::NotLink, libc::EINVAL),
        (Error::NotEmpty, libc::ENOTEMPTY),
        (Error::Exists, libc::EEXIST),
        (Error::Stale, libc::ESTALE),
        (Error::ReadOnly, libc::EROFS),
        (Error::Unavailable(libc::EACCES), libc::EACCES),
    ] {
        assert_eq!(error.errno(), errno);
    }
}

/// What a user may do to a flat directory, against a map.
#[derive(Clone, Debug)]
enum Op {
    Make(u8, String),
    Unlink(u8),
    Rename(u8, u8),
    Look(u8),
    Forget(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..6u8, "[a-z]{0,3}").prop_map(|(name, content)| Op::Make(name, content)),
        (0..6u8).prop_map(Op::Unlink),
        (0..6u8, 0..6u8).prop_map(|(from, to)| Op::Rename(from, to)),
        (0..6u8).prop_map(Op::Look),
        (0..6u8).prop_map(Op::Forget),
    ]
}

mod properties {
    use super::*;

    proptest! {
        #[test]
        fn random_changes_leave_what_a_map_would_hold(ops in proptest::collection::vec(op(), 0..60)) {
            let (tree, _) = tree(vec![]);
            let mut model: BTreeMap<String, String> = BTreeMap::new();
            let mut held: Vec<Ino> = Vec::new();
            let mut latest = tree.getattr(Ino::ROOT).unwrap().mtime;
            for op in ops {
                let before = model.clone();
                match op {
                    Op::Make(name, content) => {
                        let name = name.to_string();
                        let made = tree.update(Ino::ROOT, vec![Step::Mkfile { name: name.as_str().into(), node: file(&content) }]);
                        prop_assert_eq!(made.is_ok(), !model.contains_key(&name));
                        model.entry(name).or_insert(content);
                    }
                    Op::Unlink(name) => {
                        let name = name.to_string();
                        prop_assert_eq!(tree.unlink(Ino::ROOT, OsStr::new(&name)).is_ok(), model.remove(&name).is_some());
                    }
                    Op::Rename(from, to) => {
                        let (from, to) = (from.to_string(), to.to_string());
                        if from != to {
                            let done = tree.rename(Ino::ROOT, OsStr::new(&from), OsStr::new(&to));
                            let moved = model.remove(&from);
                            prop_assert_eq!(done.is_ok(), moved.is_some());
                            moved.into_iter().for_each(|content| drop(model.insert(to.clone(), content)));
                        }
                    }
                    Op::Look(name) => held.extend(lookup(&tree, Ino::ROOT, &name.to_string()).map(|stat| stat.ino)),
                    Op::Forget(at) => {
                        if !held.is_empty() {
                            tree.forget(held.swap_remove(usize::from(at) % held.len()), 1);
                        }
                    }
                }
                let mut shown: Vec<String> = names(&tree, Ino::ROOT).split_off(2);
                shown.sort();
                prop_assert_eq!(&shown, &model.keys().cloned().collect::<Vec<_>>());
                for (name, content) in &model {
                    let ino = tree.child(Ino::ROOT, name).unwrap();
                    let value = tree.read(ino).unwrap();
                    prop_assert_eq!(value.as_bytes(), content.as_bytes());
                }
                let mtime = tree.getattr(Ino::ROOT).unwrap().mtime;
                let in_order = if before == model { mtime >= latest } else { mtime > latest };
                prop_assert!(in_order);
                latest = mtime;
            }
            held.into_iter().for_each(|ino| tree.forget(ino, 1));
            prop_assert_eq!(tree.usage().0 as usize, 1 + model.len());
        }
    }
}
