use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use super::record::{NAME, Record};
use crate::volume::{Attr, NewBody, NewNode, is_generation};

const ATTR: Attr = Attr { mode: 0o755, uid: 0, gid: 0 };

fn read(dir: &fs::File) -> std::io::Result<Option<Record>> {
    Record::read(dir.as_fd())
}

#[test]
fn a_record_names_what_is_made_until_it_is_gone() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = fs::File::open(temporary.path()).unwrap();
    assert!(read(&dir).unwrap().is_none());
    let mut record = Record::create(dir.as_fd(), Attr { mode: 0o711, uid: 5, gid: 6 }).unwrap();
    let file = |name: &str| (name.into(), NewNode { attr: ATTR, body: NewBody::Unread });
    let node = NewNode::dir(ATTR, vec![file("b\nc"), file("..data"), file("d")]);
    record.will_make("a", &node).unwrap();
    record.is_gone("a/d");
    let found = read(&dir).unwrap().unwrap();
    assert_eq!((found.before, found.pid), (Attr { mode: 0o711, uid: 5, gid: 6 }, std::process::id()));
    let has = ["a", "a/b\nc", "a/..data", "a/d"].map(|path| found.has(path));
    assert_eq!(has, [true, true, false, false]);
}

#[test]
fn a_line_that_was_cut_off_names_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = fs::File::open(temporary.path()).unwrap();
    let path = temporary.path().join(NAME);
    fs::write(&path, "secretfs sync 0000000009 755 0 0\n+\"a\"\n+\"b\"").unwrap();
    let mut found = read(&dir).unwrap().unwrap();
    assert!(found.has("a") && !found.has("b"));
    found.claim(dir.as_fd()).unwrap();
    let whole = NewNode { attr: ATTR, body: NewBody::Unread };
    found.will_make("c", &whole).unwrap();
    let again = read(&dir).unwrap().unwrap();
    assert!(again.pid == std::process::id() && again.has("a") && again.has("c") && !again.has("b"));
}

#[test]
fn a_record_that_others_could_have_made_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = fs::File::open(temporary.path()).unwrap();
    let path = temporary.path().join(NAME);
    for text in ["", "secretfs sync", "secretfs sync x 755 0 0\n", "something else\n"] {
        fs::write(&path, text).unwrap();
        assert!(read(&dir).is_err(), "{text:?}");
    }
    fs::write(&path, "secretfs sync 0000000009 755 0 0\n").unwrap();
    assert!(read(&dir).is_ok());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(read(&dir).is_err());
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(read(&dir).is_err());
}

#[test]
fn generations_are_known_by_the_form_of_their_names() {
    assert!(is_generation("..2026_11_24_10_15_12.1234567890") && is_generation("..2026_11_24_10_15_12.0"));
    for name in [
        "..data",
        "2026_11_24_10_15_12.1",
        "..2026_11_24_10_15_12",
        "..2026_11_24_10_15_12.",
        "..2026_11_24_10_15.1",
        "..2026_11_24_10_15_12_1.1",
        "..2026_11_24_10_15_1x.1",
    ] {
        assert!(!is_generation(name), "{name}");
    }
}
