//! Manifests on a real file system that change while they are followed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::testing::{id, namespace, scope};
use super::watch::Notice;
use super::{Input, Manifests};
use crate::object::{Kind, Namespace, Object};
use crate::source::freshness::State;
use crate::source::{Scope, Source};
use crate::store::{Change, Known, Refusal, Store};

/// A directory and manifests followed in it.
struct Live {
    dir: tempfile::TempDir,
    store: Arc<Store>,
    manifests: Manifests,
    task: JoinHandle<()>,
}

/// A Secret with one key `k`.
fn secret(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{k: {value:?}}}\n")
}

fn value(object: &Object) -> &str {
    std::str::from_utf8(object.data()["k"].as_bytes()).unwrap()
}

impl Live {
    /// Writes `files`, follows `inputs` (both relative to a new directory) and lists everything.
    async fn start(files: &[(&str, &str)], inputs: &[&str]) -> Live {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), text).unwrap();
        }
        Live::follow(dir, inputs, Notice::new).await
    }

    async fn follow(dir: tempfile::TempDir, inputs: &[&str], notice: fn() -> Notice) -> Live {
        let inputs = inputs.iter().map(|name| Input::parse(dir.path().join(name).as_os_str()).unwrap()).collect();
        let store = Store::new();
        let manifests = Manifests::open(inputs, namespace("default"), store.clone()).unwrap();
        let task = tokio::spawn(manifests.watch_with(notice));
        manifests.list(scope(None, None)).await.unwrap();
        while store.take_change().is_some() {}
        Live { dir, store, manifests, task }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Writes beside the file and renames over it.
    fn replace(&self, name: &str, text: &str) {
        self.write(".new", text);
        fs::rename(self.path(".new"), self.path(name)).unwrap();
    }

    fn get(&self, name: &str) -> Option<Arc<Object>> {
        match self.store.get(&id(Kind::Secret, "default", name))? {
            Known::Loaded(object) => Some(object),
            Known::Named(meta) => panic!("{meta:?} has no values"),
        }
    }

    fn value(&self, name: &str) -> Option<String> {
        self.get(name).map(|object| value(&object).to_owned())
    }

    /// Waits until Secret `name` has this value, `None` for absence. Returns each state that it was seen in before.
    #[track_caller]
    fn until<'a>(&'a self, name: &'a str, wanted: Option<&'a str>) -> impl Future<Output = Vec<Option<String>>> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let mut seen = Vec::new();
            while self.value(name).as_deref() != wanted {
                seen.push(self.value(name));
                let change = tokio::time::timeout(Duration::from_secs(20), self.store.next_change()).await;
                assert!(change.is_ok(), "{caller}: {name} stays {:?}, never becomes {wanted:?}", self.value(name));
            }
            seen
        }
    }
}

#[tokio::test]
async fn a_document_that_is_appended_appears() {
    let live = Live::start(&[("a.yaml", &secret("a", "1"))], &["a.yaml"]).await;
    let mut file = fs::OpenOptions::new().append(true).open(live.path("a.yaml")).unwrap();
    std::io::Write::write_all(&mut file, format!("---\n{}", secret("b", "2")).as_bytes()).unwrap();
    drop(file);
    live.until("b", Some("2")).await;
    assert_eq!(live.value("a").as_deref(), Some("1"));
}

#[tokio::test]
async fn a_file_that_is_written_over_is_never_seen_empty() {
    let live = Live::start(&[("a.yaml", &secret("a", "0"))], &["a.yaml"]).await;
    for round in 1..5 {
        live.write("a.yaml", "");
        live.write("a.yaml", &secret("a", &round.to_string()));
        let seen = live.until("a", Some(&round.to_string())).await;
        assert!(!seen.contains(&None), "{seen:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_renamed_over_is_followed_again_and_again() {
    let live = Live::start(&[("a.yaml", &secret("a", "0"))], &["a.yaml"]).await;
    for round in 1..5 {
        live.replace("a.yaml", &secret("a", &round.to_string()));
        let seen = live.until("a", Some(&round.to_string())).await;
        assert!(!seen.contains(&None), "{seen:?}");
    }
    live.write("a.yaml", &secret("a", "in place"));
    live.until("a", Some("in place")).await;
}

#[tokio::test]
async fn an_editor_that_moves_the_file_away_first_removes_nothing() {
    let live = Live::start(&[("a.yaml", &secret("a", "0"))], &["a.yaml"]).await;
    // As vim does with backupcopy=no.
    fs::rename(live.path("a.yaml"), live.path("a.yaml~")).unwrap();
    live.write("a.yaml", &secret("a", "1"));
    fs::remove_file(live.path("a.yaml~")).unwrap();
    let seen = live.until("a", Some("1")).await;
    assert!(!seen.contains(&None), "{seen:?}");
}

/// A volume as the kubelet writes it: `a.yaml -> ..data/a.yaml`, `..data -> ..N`.
fn kubelet_volume(dir: &Path, generation: &str, text: &str) {
    fs::create_dir_all(dir.join(generation)).unwrap();
    fs::write(dir.join(generation).join("a.yaml"), text).unwrap();
    let _ = fs::remove_file(dir.join("..data_tmp"));
    symlink(generation, dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    if !dir.join("a.yaml").is_symlink() {
        symlink("..data/a.yaml", dir.join("a.yaml")).unwrap();
    }
}

#[tokio::test]
async fn a_link_that_is_swapped_is_followed() {
    for input in ["v/a.yaml", "v", "link"] {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        kubelet_volume(&volume, "..1", &secret("a", "1"));
        symlink("v", dir.path().join("link")).unwrap();
        let live = Live::follow(dir, &[input], Notice::new).await;
        for generation in ["2", "3"] {
            kubelet_volume(&volume, &format!("..{generation}"), &secret("a", generation));
            live.until("a", Some(generation)).await;
        }
        // The link to the volume itself.
        if input == "link" {
            kubelet_volume(&live.path("w"), "..1", &secret("a", "other"));
            symlink("w", live.path("link_tmp")).unwrap();
            fs::rename(live.path("link_tmp"), live.path("link")).unwrap();
            live.until("a", Some("other")).await;
        }
    }
}

#[tokio::test]
async fn a_file_that_is_removed_takes_its_objects_along_and_brings_them_back() {
    let live = Live::start(&[("d/a.yaml", &secret("a", "1"))], &["d/a.yaml"]).await;
    fs::remove_file(live.path("d/a.yaml")).unwrap();
    live.until("a", None).await;
    live.write("d/a.yaml", &secret("a", "2"));
    live.until("a", Some("2")).await;
    // Its directory, too.
    fs::rename(live.path("d"), live.path("e")).unwrap();
    live.until("a", None).await;
    fs::create_dir(live.path("d")).unwrap();
    live.write("d/a.yaml", &secret("a", "3"));
    live.until("a", Some("3")).await;
}

#[tokio::test]
async fn an_object_whose_document_has_become_bad_is_stale() {
    let both = |b: &str| format!("{}---\n{}", secret("a", b), secret("b", b));
    let live = Live::start(&[("a.yaml", &both("1"))], &["a.yaml"]).await;
    let state = |name: &str| {
        let known = live.manifests.knowledge().objects;
        let found = known.into_iter().find(|(of, _)| *of == id(Kind::Secret, "default", name));
        found.map(|(_, freshness)| (freshness.state, freshness.confirmed.unwrap()))
    };
    let (is, first) = state("b").unwrap();
    assert_eq!(is, State::Live);
    live.replace("a.yaml", &format!("{}data: {{k: no base64!}}\n", both("2")));
    live.until("a", Some("2")).await;
    assert_eq!(state("a").unwrap().0, State::Live, "the other document is good");
    let (is, kept) = state("b").unwrap();
    assert_eq!(is, State::Stale);
    assert!(first <= kept && kept < state("a").unwrap().1, "since it was last good");
    live.replace("a.yaml", &both("3"));
    live.until("b", Some("3")).await;
    assert_eq!(state("b").unwrap().0, State::Live);
}

#[tokio::test]
async fn files_come_and_go_in_a_directory() {
    let live = Live::start(&[("a.yaml", &secret("a", "1"))], &["."]).await;
    live.write("b.json", r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"b"},"stringData":{"k":"2"}}"#);
    live.until("b", Some("2")).await;
    live.write("c.txt", &secret("c", "no manifest"));
    fs::rename(live.path("a.yaml"), live.path("a.yml")).unwrap();
    live.write("a.yml", &secret("a", "renamed"));
    live.until("a", Some("renamed")).await;
    fs::remove_file(live.path("b.json")).unwrap();
    live.until("b", None).await;
    assert_eq!((live.value("a").as_deref(), live.value("c")), (Some("renamed"), None));
}

#[tokio::test]
async fn the_later_of_two_definitions_counts() {
    let files =
        [("a.yaml", &*(secret("x", "first") + "---\n" + &secret("x", "second"))), ("b.yaml", &*secret("x", "b"))];
    let live = Live::start(&files, &["b.yaml", "a.yaml"]).await;
    assert_eq!(live.value("x").as_deref(), Some("second"));
    live.write("a.yaml", &secret("x", "first"));
    live.until("x", Some("first")).await;
    live.write("a.yaml", "# nothing\n");
    live.until("x", Some("b")).await;
}

#[tokio::test]
async fn a_document_that_becomes_bad_keeps_its_last_good_content() {
    let text = |a: &str, b: &str, c: &str| format!("{a}---\n{b}---\n{c}");
    let (a, b, c) = (secret("a", "1"), secret("b", "1"), secret("c", "1"));
    let live = Live::start(&[("f.yaml", &text(&a, &b, &c))], &["f.yaml"]).await;
    // b cannot be used, but it is b: the others are updated, and c, which is gone, goes.
    let bad = "apiVersion: v1\nkind: Secret\nmetadata: {name: b}\ndata: {k: '%'}\n";
    live.replace("f.yaml", &text(&secret("a", "2"), bad, ""));
    live.until("a", Some("2")).await;
    live.until("c", None).await;
    assert_eq!(live.value("b").as_deref(), Some("1"));
    // What is between the separators could be b: it stays, and what is fine is updated.
    live.replace("f.yaml", &text(&secret("a", "3"), "kind: [\n", &c));
    live.until("c", Some("1")).await;
    assert_eq!((live.value("a").as_deref(), live.value("b").as_deref()), (Some("3"), Some("1")));
    // Good again, without b.
    live.replace("f.yaml", &text(&secret("a", "4"), "", &c));
    live.until("b", None).await;
    assert_eq!(live.value("a").as_deref(), Some("4"));
}

/// What a function logs.
fn logged(run: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Log(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, run);
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_file_that_becomes_bad_is_warned_of_once_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, secret("a", "1")).unwrap();
    let inputs = vec![Input::File(file.clone())];
    let manifests = Manifests::open(inputs, namespace("default"), Store::new()).unwrap();
    let look = || {
        manifests.shared.refresh(std::time::Instant::now());
    };
    fs::write(&file, secret("a", "1") + "---\n" + &secret("b", "planted").replace("\"planted\"", "'planted")).unwrap();
    let log = logged(|| (0..3).for_each(|_| look()));
    let place = format!("{}, document 2, line 9, column 17: a quote is not closed", file.display());
    assert_eq!(log.matches("WARN").count(), 1, "{log}");
    assert!(log.contains(&place) && !log.contains("planted"), "{log}");
    fs::write(&file, secret("a", "1")).unwrap();
    let log = logged(look);
    assert!(log.contains("all documents are good again") && !log.contains("WARN"), "{log}");
}

#[tokio::test]
async fn a_file_that_is_bad_as_a_whole_keeps_everything_and_is_no_deletion() {
    let live = Live::start(&[("a.yaml", &secret("a", "1")), ("b.yaml", &secret("b", "1"))], &["."]).await;
    live.replace("a.yaml", "\t: [");
    live.replace("b.yaml", &secret("b", "2"));
    live.until("b", Some("2")).await;
    assert_eq!(live.value("a").as_deref(), Some("1"));
    live.replace("a.yaml", &secret("a", "2"));
    live.until("a", Some("2")).await;
}

#[tokio::test]
async fn what_does_not_change_is_not_announced_and_keeps_its_version() {
    let live = Live::start(&[("a.yaml", &secret("a", "1")), ("b.yaml", &secret("b", "1"))], &["."]).await;
    let before = live.get("a").unwrap();
    let same = format!("# a comment\n{}", secret("a", "1")).replace("stringData: {k: \"1\"}", "data: {k: MQ==}");
    live.replace("a.yaml", &same);
    live.write("b.yaml", &secret("b", "2"));
    let mut changes = Vec::new();
    while live.value("b").as_deref() != Some("2") {
        changes.push(tokio::time::timeout(Duration::from_secs(20), live.store.next_change()).await.unwrap());
    }
    changes.extend(std::iter::from_fn(|| live.store.take_change()));
    assert_eq!(changes, [Change::Object(id(Kind::Secret, "default", "b"))]);
    let after = live.get("a").unwrap();
    assert_eq!(after.meta, before.meta);
    let b = live.get("b").unwrap();
    assert_eq!(&*b.meta.uid, "manifest:default/secret/b");
    assert_ne!(b.meta.version, before.meta.version);
}

#[tokio::test]
async fn the_last_of_many_changes_arrives() {
    let live = Live::start(&[("a.yaml", &secret("a", "0"))], &["a.yaml"]).await;
    for round in 1..=200 {
        live.replace("a.yaml", &secret("a", &round.to_string()));
    }
    let seen = live.until("a", Some("200")).await;
    assert!(seen.len() < 100, "{} changes were not coalesced", seen.len());
}

#[tokio::test]
async fn a_file_that_is_changed_under_another_name_is_noticed() {
    let live = Live::start(&[("d/a.yaml", &secret("a", "1"))], &["d/a.yaml"]).await;
    fs::create_dir(live.path("e")).unwrap();
    fs::hard_link(live.path("d/a.yaml"), live.path("e/other")).unwrap();
    live.write("e/other", &secret("a", "2"));
    live.until("a", Some("2")).await;
}

#[tokio::test]
async fn without_announcements_files_are_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), secret("a", "1")).unwrap();
    let live = Live::follow(dir, &["a.yaml"], || Notice::Poll).await;
    live.replace("a.yaml", &secret("a", "2"));
    live.until("a", Some("2")).await;
}

#[tokio::test]
async fn what_is_not_there_yet_is_named_and_appears_later() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, secret("a", "1")).unwrap();
    let store = Store::new();
    let inputs = vec![Input::File(file.clone())];
    let manifests = Manifests::open(inputs, namespace("default"), store.clone()).unwrap();
    let task = tokio::spawn(manifests.watch());
    let wanted = id(Kind::Secret, "default", "b");
    let refusal = manifests.follow(wanted.clone()).await.unwrap_err();
    assert_eq!(refusal, Refusal::NotFound { what: format!("default/secret/b in {}", file.display()) });
    fs::write(&file, secret("a", "1") + "---\n" + &secret("b", "2")).unwrap();
    let change = tokio::time::timeout(Duration::from_secs(20), store.next_change()).await.unwrap();
    // Nobody asked for a.
    assert_eq!(change, Change::Object(wanted.clone()));
    assert_eq!(value(&manifests.follow(wanted).await.unwrap()), "2");
    assert!(store.get(&id(Kind::Secret, "default", "a")).is_none());
    drop(manifests);
    tokio::time::timeout(Duration::from_secs(20), task).await.expect("the task ends with the source").unwrap();
}

#[tokio::test]
async fn labels_move_objects_into_a_selection_and_out_of_it() {
    let labelled = |label: &str| secret("a", "1").replace("name: a", &format!("name: a, labels: {{tier: {label}}}"));
    let live = Live::start(&[("a.yaml", &labelled("front"))], &["a.yaml"]).await;
    let store = Store::new();
    let inputs = vec![Input::File(live.path("a.yaml"))];
    let selecting = Manifests::open(inputs, namespace("default"), store.clone()).unwrap();
    let _task = tokio::spawn(selecting.watch());
    selecting.list(scope(Some("default"), Some("tier=back"))).await.unwrap();
    let selecting = Live { store, manifests: selecting, ..live };
    assert_eq!(selecting.value("a"), None);
    selecting.replace("a.yaml", &labelled("back"));
    selecting.until("a", Some("1")).await;
    selecting.replace("a.yaml", &labelled("front"));
    selecting.until("a", None).await;
}

#[tokio::test]
async fn namespaces_are_those_that_occur() {
    let elsewhere = secret("a", "1").replace("name: a", "name: a, namespace: other");
    let lone = "apiVersion: v1\nkind: Namespace\nmetadata: {name: empty}\n";
    let live = Live::start(&[("a.yaml", &format!("{elsewhere}---\n{lone}"))], &["a.yaml"]).await;
    let names = || live.store.namespaces().iter().map(Namespace::to_string).collect::<Vec<_>>();
    assert_eq!(names(), ["empty", "other"]);
    live.replace("a.yaml", &secret("a", "1"));
    live.until("a", Some("1")).await;
    while names() != ["default"] {
        tokio::time::timeout(Duration::from_secs(20), live.store.next_change()).await.unwrap();
    }
    assert!(live.store.get(&id(Kind::Secret, "other", "a")).is_none());
}

#[tokio::test]
async fn a_bad_selector_is_refused_with_its_place() {
    let live = Live::start(&[("a.yaml", &secret("a", "1"))], &["a.yaml"]).await;
    let bad = Scope { selector: Some("a=b=c".to_owned()), ..scope(None, None) };
    let refusal = live.manifests.list(bad).await.unwrap_err().to_string();
    assert!(refusal.contains("invalid label selector at character 4"), "{refusal}");
    assert!(!live.task.is_finished());
}

#[test]
fn a_pipe_is_read_once_to_its_end() {
    // `-f <(sops -d secret.yaml)`
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let input = Input::parse(pipe.as_os_str()).unwrap();
    let writer = std::thread::spawn(move || fs::write(pipe, secret("a", "1")).unwrap());
    let manifests = Manifests::open(vec![input], namespace("default"), Store::new()).unwrap();
    writer.join().unwrap();
    manifests.shared.refresh(std::time::Instant::now());
    let wanted = id(Kind::Secret, "default", "a");
    let object = manifests.shared.known().follow(&wanted, &manifests.shared.store).unwrap();
    assert_eq!(value(&object), "1");
}
