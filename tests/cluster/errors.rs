//! The table of errors in docs/SEMANTICS.md, one test for each row: what a program gets that reads something which is
//! not known yet, while its requests fail in each way; and that it can be read when the failure is over.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use super::{Mounted, Secrets, stage};
use crate::support::cluster::Namespace;
use crate::support::events::Watch;
use crate::support::proxy::{Fault, Proxy, Request};
use crate::support::{in_time, wait_until};

/// The view of a namespace through a proxy. Of its Secrets `known` has been read and `unknown` has not.
struct Behind {
    proxy: Proxy,
    view: Mounted,
    secrets: Secrets,
    namespace: Namespace,
}

impl Behind {
    fn new(timeout: &str) -> Behind {
        let (namespace, secrets) = stage();
        secrets.create("known", &[("k", "known"), ("unread", "known too")]);
        secrets.create("unknown", &[("k", "at last")]);
        let proxy = Proxy::start(namespace.cluster);
        let args = ["--timeout", timeout, "--poll", "1s", &format!("ns/{}", namespace.name)];
        let view = Mounted::new(proxy.context(&namespace.name), &args);
        assert_eq!(view.read("known/k"), "known");
        Behind { proxy, view, secrets, namespace }
    }

    /// Requests for the values of `unknown`.
    fn its_get(&self) -> impl Fn(&Request) -> bool + use<> {
        let namespace = self.namespace.name.clone();
        move |request| request.is_get_of(&namespace, "unknown")
    }

    /// Reads a key, by a path that the kernel may hold nothing of.
    fn read(&self, name: &str) -> Result<String, i32> {
        let path: PathBuf = self.view.path(name);
        in_time("a reader hangs", move || {
            std::fs::read_to_string(path).map_err(|error| error.raw_os_error().expect("an errno"))
        })
    }

    /// What is known is there whatever fails, also what the kernel has not seen of it.
    #[track_caller]
    fn assert_known(&self) {
        assert_eq!(self.read("known/k"), Ok("known".into()));
        assert_eq!(self.read("known/unread"), Ok("known too".into()));
    }

    #[track_caller]
    fn assert_over(&self) {
        self.proxy.heal();
        wait_until("the failure to be over", || self.read("unknown/k") == Ok("at last".into()));
    }
}

/// With this fault of its request a reader gets this error.
#[track_caller]
fn gives(fault: Fault, errno: i32) {
    let behind = Behind::new("1s");
    behind.proxy.answer(behind.its_get(), fault);
    assert_eq!(behind.read("unknown/k"), Err(errno));
    // And who looks into the directory gets the same: no empty one.
    let listed =
        std::fs::read_dir(behind.view.path("unknown")).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    assert_eq!(listed.map(|entries| entries.len()).map_err(|error| error.raw_os_error()), Err(Some(errno)));
    behind.assert_known();
    behind.assert_over();
}

#[test]
fn access_denied_is_eacces() {
    gives(Fault::status(403), libc::EACCES);
}

#[test]
fn refused_credentials_are_eacces() {
    gives(Fault::status(401), libc::EACCES);
}

#[test]
fn an_internal_error_is_eio() {
    gives(Fault::status(500), libc::EIO);
}

#[test]
fn a_server_that_is_unavailable_is_eio() {
    gives(Fault::status(503), libc::EIO);
}

#[test]
fn a_server_that_is_busy_all_the_time_is_eio() {
    gives(Fault::status(429), libc::EIO);
}

#[test]
fn a_server_that_wants_to_be_left_alone_for_longer_than_the_deadline_is_eio() {
    gives(Fault::retry_after(429, 60), libc::EIO);
}

#[test]
fn a_page_instead_of_an_answer_is_eio() {
    gives(Fault::html(200), libc::EIO);
}

#[test]
fn a_gateways_error_page_is_eio() {
    gives(Fault::html(502), libc::EIO);
}

#[test]
fn a_404_that_is_not_the_apis_own_is_eio_and_no_deletion() {
    gives(Fault::html(404), libc::EIO);
}

#[test]
fn a_403_that_is_not_the_apis_own_is_eio() {
    gives(Fault::html(403), libc::EIO);
}

#[test]
fn an_answer_that_is_cut_off_is_eio() {
    gives(Fault::Truncate(40), libc::EIO);
}

#[test]
fn a_connection_that_is_closed_instead_of_an_answer_is_eio() {
    gives(Fault::Close, libc::EIO);
}

#[test]
fn no_answer_is_etimedout() {
    gives(Fault::Silence, libc::ETIMEDOUT);
}

#[test]
fn half_an_answer_is_etimedout() {
    gives(Fault::Stall(40), libc::ETIMEDOUT);
}

#[test]
fn an_answer_that_is_too_slow_as_a_whole_is_etimedout() {
    // Each piece comes soon; a deadline for each of them would never end.
    gives(Fault::Trickle(1, Duration::from_millis(20)), libc::ETIMEDOUT);
}

/// Answers as the API server might, with something else in it.
fn lie(body: &str) -> Fault {
    Fault::Answer(200, String::new(), "application/json", body.to_owned())
}

#[test]
fn an_answer_that_is_no_object_is_eio() {
    gives(lie("{}"), libc::EIO);
}

#[test]
fn another_object_than_was_asked_for_is_eio() {
    let other = r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"unknown","namespace":"elsewhere","uid":"u",
        "resourceVersion":"1"},"data":{"k":"bm8="}}"#;
    gives(lie(other), libc::EIO);
}

#[test]
fn values_that_cannot_be_decoded_are_eio() {
    let behind = Behind::new("1s");
    let name = &behind.namespace.name;
    let body = format!(
        r#"{{"kind":"Secret","apiVersion":"v1","metadata":{{"name":"unknown","namespace":"{name}","uid":"u",
        "resourceVersion":"1"}},"data":{{"k":"no base64!"}}}}"#
    );
    behind.proxy.answer(behind.its_get(), lie(&body));
    assert_eq!(behind.read("unknown/k"), Err(libc::EIO));
    behind.assert_known();
    behind.assert_over();
}

#[test]
fn no_such_object_is_enoent() {
    let behind = Behind::new("1s");
    // The watch tells nothing, so that the name is still there: the request itself finds out.
    behind.proxy.half_open();
    behind.secrets.delete("unknown");
    wait_until("the server's word", || behind.read("unknown/k") == Err(libc::ENOENT));
    behind.assert_known();
}

#[test]
fn a_server_that_is_gone_is_eio() {
    let behind = Behind::new("1s");
    behind.proxy.refuse();
    assert_eq!(behind.read("unknown/k"), Err(libc::EIO));
    behind.assert_known();
    behind.assert_over();
}

#[test]
fn a_black_hole_is_etimedout() {
    let behind = Behind::new("1s");
    behind.proxy.black_hole();
    assert_eq!(behind.read("unknown/k"), Err(libc::ETIMEDOUT));
    behind.assert_known();
    behind.assert_over();
}

#[test]
fn connections_that_nobody_knows_any_more_are_replaced_at_once() {
    let behind = Behind::new("1s");
    behind.proxy.half_open();
    // The first request may find out; later ones go another way.
    let first = behind.read("unknown/k");
    assert!([Err(libc::ETIMEDOUT), Ok("at last".into())].contains(&first), "{first:?}");
    behind.assert_known();
    assert_eq!(behind.read("unknown/k"), Ok("at last".into()));
}

#[test]
fn a_server_that_is_busy_for_a_moment_is_waited_for() {
    let behind = Behind::new("5s");
    behind.proxy.answer_once(behind.its_get(), Fault::retry_after(429, 1));
    behind.proxy.answer_once(behind.its_get(), Fault::status(503));
    behind.proxy.answer_once(behind.its_get(), Fault::status(429));
    assert_eq!(behind.read("unknown/k"), Ok("at last".into()));
    assert_eq!(behind.proxy.requests(behind.its_get()).len(), 4);
}

#[test]
fn a_late_answer_is_waited_for() {
    let behind = Behind::new("5s");
    behind.proxy.answer(behind.its_get(), Fault::Delay(Duration::from_millis(700)));
    assert_eq!(behind.read("unknown/k"), Ok("at last".into()));
}

#[test]
fn a_file_held_open_whose_values_are_no_longer_known_is_estale() {
    let (namespace, secrets) = stage();
    let value = "0123456789".repeat(6_000);
    for number in 0..4 {
        secrets.create(&format!("s{number}"), &[("k", &value)]);
    }
    let view = Mounted::new(namespace.context(), &["--cache-size", "100k", &format!("ns/{}", namespace.name)]);
    let held = std::fs::File::open(view.path("s0/k")).expect("open");
    // The others take its place.
    (1..4).for_each(|number| assert_eq!(view.read(&format!("s{number}/k")), value));
    let bytes = || view.status()["bytes"].as_u64().expect("a number");
    wait_until("the bound", || bytes() <= 100_000);
    let mut watch = Watch::new(&view.path("s0"));
    secrets.set("s0", &[("k", "new")]);
    watch.wait_for("MOVED_TO ..data");
    // Had the kernel read ahead, it would have had the pages.
    rustix::fs::fadvise(&held, 0, None, rustix::fs::Advice::DontNeed).expect("fadvise");
    let read = std::io::read_to_string(&held).map_err(|error| error.raw_os_error());
    assert_eq!(read, Err(Some(libc::ESTALE)));
    assert_eq!(view.read("s0/k"), "new");
}

#[test]
fn writing_is_refused_before_anything_is_asked() {
    let behind = Behind::new("1s");
    behind.proxy.refuse();
    let refused = std::fs::write(behind.view.path("new"), "x").expect_err("a change went through").kind();
    assert!(matches!(refused, ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied), "{refused}");
}

#[test]
fn readers_of_what_is_known_do_not_wait_for_those_of_what_is_not() {
    const WAITING: usize = 200;
    let behind = Behind::new("10s");
    behind.proxy.black_hole();
    let (send, ended) = std::sync::mpsc::channel();
    for _ in 0..WAITING {
        let (path, send) = (behind.view.path("unknown/k"), send.clone());
        std::thread::spawn(move || send.send(std::fs::read_to_string(path)));
    }
    // All of them are in the kernel's queue or at the daemon; the keys of `known` that nobody has looked at yet are
    // answered by the daemon.
    wait_until("the readers", || behind.view.requests() > 0);
    behind.assert_known();
    assert!(ended.try_recv().is_err(), "a reader came back without an answer");
    behind.proxy.heal();
    for _ in 0..WAITING {
        let read = ended.recv_timeout(crate::support::PATIENCE).expect("a reader hangs");
        assert_eq!(read.expect("read"), "at last");
    }
}
