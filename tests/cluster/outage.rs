//! While the API server is away nothing is lost, and afterwards everything is as it then is.
//!
//! Each test has the same two mounts behind a proxy: one Secret by its name, and its namespace, of which some Secrets have
//! been read.

use std::time::{Duration, Instant};

use super::{Mounted, Secrets, count, stage};
use crate::support::cluster::Namespace;
use crate::support::events::Watch;
use crate::support::kubeconfig::Context;
use crate::support::proxy::{Fault, Proxy, Request};
use crate::support::{in_time, succeed, wait_until};

struct Scene {
    proxy: Proxy,
    named: Mounted,
    view: Mounted,
    secrets: Secrets,
    _namespace: Namespace,
}

impl Scene {
    fn new() -> Scene {
        let (namespace, secrets) = stage();
        for name in ["s", "stays", "unread"] {
            secrets.create(name, &[("k", "old"), ("gone", "1")]);
        }
        let proxy = Proxy::start(namespace.cluster);
        let args = ["--timeout", "1s", "--poll", "1s"];
        let named = Mounted::new(proxy.context(&namespace.name), &[&args[..], &["secret/s"]].concat());
        let of_ns = format!("ns/{}", namespace.name);
        let view = Mounted::new(proxy.context(&namespace.name), &[&args[..], &[&of_ns]].concat());
        let scene = Scene { proxy, named, view, secrets, _namespace: namespace };
        scene.assert_old();
        // Both watches are open: what happens from now on is no part of the beginning.
        wait_until("both watches", || scene.watches() >= 2);
        scene
    }

    fn watches(&self) -> usize {
        self.proxy.exchanges().iter().filter(|one| one.request.is_watch() && one.status() == Some(200)).count()
    }

    /// Everything is as it was before.
    #[track_caller]
    fn assert_old(&self) {
        assert_eq!((self.named.read("k"), self.named.read("gone")), ("old".into(), "1".into()));
        assert_eq!(self.named.names("").iter().filter(|name| !name.starts_with("..")).count(), 2);
        assert_eq!((self.view.read("s/k"), self.view.read("stays/k")), ("old".into(), "old".into()));
        assert_eq!(self.view.names(""), ["s", "stays", "unread"]);
    }

    /// How many requests there were, and how many of them a rule made fail.
    fn asked(&self) -> (usize, usize) {
        let exchanges = self.proxy.exchanges();
        (exchanges.len(), exchanges.iter().filter(|exchange| exchange.failed).count())
    }

    /// Waits for an update to be seen by both, as long as noticing a silent watch may take.
    #[track_caller]
    fn recovers(&self) {
        self.secrets.set("s", &[("k", "new")]);
        let deadline = Instant::now() + Duration::from_secs(60);
        let seen = || self.named.try_read("k") == Ok("new".into()) && self.view.try_read("s/k") == Ok("new".into());
        while !seen() {
            assert!(Instant::now() < deadline, "the update is not seen after the outage");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.view.read("unread/k"), "old");
        assert_eq!(self.view.read("stays/k"), "old");
    }

    fn watches_on_all(&self) -> [Watch; 3] {
        [Watch::new(&self.named.seen), Watch::new(&self.view.seen), Watch::new(&self.view.path("s"))]
    }
}

/// During this failure everything stays as it is and nobody is told anything; afterwards both mounts follow again. `noticed`
/// is given how many requests there were since, and how many of them failed, until it says that both mounts were hit.
#[track_caller]
fn keeps_everything(fail: impl FnOnce(&Proxy), noticed: impl Fn(usize, usize) -> bool) {
    let scene = Scene::new();
    let watches = scene.watches_on_all();
    let (asked_before, failed_before) = scene.asked();
    fail(&scene.proxy);
    wait_until("both mounts to notice", || {
        let (asked, failed) = scene.asked();
        noticed(asked - asked_before, failed - failed_before)
    });
    scene.assert_old();
    scene.proxy.heal();
    scene.recovers();
    assert_told_of_one_update(watches);
}

/// The update that shows the recovery is all that there was.
#[track_caller]
fn assert_told_of_one_update(mut watches: [Watch; 3]) {
    let [named, view, object] = &mut watches;
    for watch in [named, object] {
        // Its end, which comes after what readers see.
        let seen = watch.wait_for("DELETE|ISDIR ..TS");
        let counts = ["CREATE|ISDIR ..TS", "MOVED_TO ..data", "DELETE gone"].map(|event| count(&seen, event));
        assert_eq!(counts, [1, 1, 1], "{seen:?}");
    }
    let mut view = view.seen();
    view.retain(|event| event.contains("CREATE") || event.contains("DELETE"));
    assert_eq!(view, [""; 0]);
}

#[test]
fn a_server_that_is_gone_takes_nothing_with_it() {
    keeps_everything(Proxy::refuse, |_, _| true);
}

#[test]
fn a_black_hole_swallows_nothing() {
    keeps_everything(Proxy::black_hole, |_, _| true);
}

#[test]
fn connections_that_end_are_made_again() {
    keeps_everything(Proxy::cut, |asked, _| asked >= 2);
}

#[test]
fn a_watch_that_has_silently_stalled_is_noticed() {
    keeps_everything(Proxy::half_open, |_, _| true);
}

/// The same for a server that is reached and answers like this: everybody, or everybody but those who watch.
#[track_caller]
fn answers_take_nothing(fault: Fault) {
    for watches_too in [true, false] {
        let fault = fault.clone();
        let fail = move |proxy: &Proxy| {
            proxy.answer(move |request| watches_too || !request.is_watch(), fault);
            proxy.cut();
        };
        keeps_everything(fail, |_, failed| failed >= 2);
    }
}

#[test]
fn internal_errors_take_nothing() {
    answers_take_nothing(Fault::status(500));
}

#[test]
fn an_overloaded_server_takes_nothing() {
    answers_take_nothing(Fault::retry_after(429, 1));
}

#[test]
fn pages_instead_of_answers_take_nothing() {
    answers_take_nothing(Fault::html(200));
}

#[test]
fn a_404_of_a_gateway_takes_nothing() {
    answers_take_nothing(Fault::html(404));
}

#[test]
fn what_is_polled_is_kept_too() {
    let (namespace, secrets) = stage();
    secrets.create("s", &[("k", "old")]);
    let user = namespace.user();
    namespace.allow(&user, "get", &["s"]);
    let proxy = Proxy::start(namespace.cluster);
    let context = Context { token: format!("token-{user}"), ..proxy.context(&namespace.name) };
    let mounted = Mounted::new(context, &["--poll", "100ms", "secret/s"]);
    let mut root = Watch::new(&mounted.seen);
    let failed = || proxy.exchanges().iter().filter(|exchange| exchange.failed).count();
    for fault in [Fault::html(404), Fault::html(200), Fault::status(500), Fault::status(401), Fault::Truncate(10)] {
        let before = failed();
        proxy.answer(|request| !request.is_watch(), fault);
        wait_until("polls that fail", || failed() >= before + 2);
        assert_eq!(mounted.read("k"), "old");
        proxy.heal();
    }
    assert_eq!(root.seen(), [""; 0]);
    secrets.set("s", &[("k", "new")]);
    wait_until("the update", || mounted.try_read("k") == Ok("new".into()));
}

#[test]
fn refused_credentials_take_nothing() {
    answers_take_nothing(Fault::status(401));
}

#[test]
fn cut_off_answers_take_nothing() {
    answers_take_nothing(Fault::Truncate(10));
}

#[test]
fn a_server_that_accepts_and_never_answers_takes_nothing() {
    answers_take_nothing(Fault::Silence);
}

#[test]
fn what_happened_during_an_outage_is_seen_after_it() {
    let scene = Scene::new();
    let mut named = Watch::new(&scene.named.seen);
    let mut view = Watch::new(&scene.view.seen);
    scene.proxy.refuse();
    scene.secrets.set("s", &[("k", "new")]);
    scene.secrets.delete("stays");
    scene.secrets.create("made", &[("k", "made")]);
    scene.secrets.delete("unread");
    scene.secrets.create("unread", &[("k", "another")]);
    scene.assert_old();

    scene.proxy.heal();
    named.wait_for("MOVED_TO ..data");
    assert_eq!(scene.named.read("k"), "new");
    view.wait_for("CREATE|ISDIR made");
    view.wait_for("DELETE|ISDIR stays");
    wait_until("the names of now", || scene.view.names("") == ["made", "s", "unread"]);
    wait_until("the update", || scene.view.try_read("s/k") == Ok("new".into()));
    assert_eq!((scene.view.read("made/k"), scene.view.read("unread/k")), ("made".into(), "another".into()));
    assert_eq!(scene.view.try_read("stays/k"), Err(libc::ENOENT));
}

#[test]
fn a_deletion_during_an_outage_is_seen_after_it() {
    let scene = Scene::new();
    let mut view = Watch::new(&scene.view.seen);
    scene.proxy.refuse();
    scene.secrets.delete("s");
    scene.assert_old();
    scene.proxy.heal();
    wait_until("the deletion", || scene.named.try_read("k") == Err(libc::ENOENT));
    view.wait_for("DELETE|ISDIR s");
    assert_eq!(scene.view.try_read("s/k"), Err(libc::ENOENT));
    assert_eq!(scene.view.read("stays/k"), "old");
}

#[test]
fn a_secret_deleted_and_made_again_during_an_outage_is_the_new_one_after_it() {
    let scene = Scene::new();
    scene.proxy.refuse();
    scene.secrets.delete("s");
    scene.secrets.create("s", &[("k", "another")]);
    scene.assert_old();
    scene.proxy.heal();
    wait_until("the new one", || scene.named.try_read("k") == Ok("another".into()));
    wait_until("the new one", || scene.view.try_read("s/k") == Ok("another".into()));
    wait_until("no key of the old one", || scene.named.try_read("gone") == Err(libc::ENOENT));
    wait_until("no key of the old one", || scene.view.try_read("s/gone") == Err(libc::ENOENT));
}

#[test]
fn a_version_that_is_too_old_is_listed_anew_and_nobody_is_told() {
    let scene = Scene::new();
    let watches = scene.watches_on_all();
    // One name is asked for only for the sake of the current version.
    let is_list = |request: &Request| {
        request.path().ends_with("/secrets") && !request.is_watch() && request.query().all(|part| part != "limit=1")
    };
    let lists = scene.proxy.requests(is_list).len();
    // As the server says it: in the stream of a watch that it has accepted.
    let expired = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","code":410,"reason":"Expired"}}"#;
    let fault = Fault::Answer(200, String::new(), "application/json", format!("{expired}\n"));
    scene.proxy.answer_once(|request| request.is_watch() && !request.selects_name("s"), fault.clone());
    scene.proxy.answer_once(|request| request.is_watch() && request.selects_name("s"), fault);
    scene.proxy.cut();
    wait_until("a new list", || scene.proxy.requests(is_list).len() > lists);
    scene.recovers();
    assert_eq!(scene.proxy.requests(is_list).len() - lists, 1);
    assert_told_of_one_update(watches);
}

#[test]
fn a_watch_that_is_cut_in_the_middle_of_an_event_loses_nothing() {
    let scene = Scene::new();
    let before = scene.watches();
    scene.proxy.answer(|request| request.is_watch(), Fault::Truncate(100));
    scene.proxy.cut();
    scene.secrets.set("s", &[("k", "in the middle")]);
    wait_until("watches that are cut", || scene.watches() >= before + 2);
    scene.proxy.heal();
    let shown = |mounted: &Mounted, name: &str| mounted.try_read(name) == Ok("in the middle".into());
    wait_until("the update", || shown(&scene.named, "k") && shown(&scene.view, "s/k"));
    scene.recovers();
}

#[test]
fn a_mount_can_be_ended_while_the_server_is_away() {
    let scene = Scene::new();
    scene.proxy.black_hole();
    let path = scene.view.path("unread/k");
    std::thread::spawn(move || std::fs::read(path));
    let Scene { named, view, proxy, .. } = scene;
    let _ended = in_time("umount hangs", move || {
        named.mount.end();
        // A reader is waiting there: it gets its answer first.
        wait_until("the reader's end", || {
            view.site.secretfs().arg("umount").arg(&view.mount.dir).output().expect("run").status.success()
        });
        (named.site, view)
    });
    drop(proxy);
}

#[test]
fn status_says_that_the_server_is_away_and_why() {
    let scene = Scene::new();
    let trouble = || scene.named.status()["trouble"].as_str().map(str::to_owned);
    assert_eq!(trouble(), None);
    let requests = |kind: &str| scene.named.status()["api"][kind].as_u64().expect("a number");
    assert_eq!((requests("gets"), requests("lists"), requests("watches")), (1, 0, 1));
    assert_eq!(requests("open_watches"), 1);

    scene.proxy.refuse();
    wait_until("the trouble", || trouble().is_some_and(|why| why.contains("refused")));
    assert!(scene.named.status()["trouble_since"].is_number());
    assert_eq!(requests("open_watches"), 0);
    let table = succeed(scene.named.site.secretfs().args(["status", "-o", "wide"]));
    let place = scene.named.dir.to_str().expect("UTF-8");
    let line = table.lines().find(|line| line.contains(place)).expect("its line");
    assert!(line.contains("stale") && line.contains("refused") && !line.contains("old"), "{line}");

    scene.proxy.heal();
    wait_until("the end of the trouble", || trouble().is_none() && requests("open_watches") == 1);
}
