//! Mounts that cannot be made: one clear sentence, the documented exit code, nothing mounted, nothing secret said.

use std::path::PathBuf;

use super::{Site, names, stage};
use crate::support::cluster::{Namespace, namespace};
use crate::support::kubeconfig::Context;
use crate::support::mount::is_mounted;
use crate::support::proxy::{Fault, Proxy};
use crate::support::{fail, subdir, wait_until};

const INPUT: i32 = 3;
const NOT_FOUND: i32 = 4;
const DENIED: i32 = 5;
const UNREACHABLE: i32 = 6;

/// What no message may have in it.
const PLANTED_TOKEN: &str = "planted-token-0123456789";
const PLANTED_VALUE: &str = "planted-value-0123456789";

/// Tries to mount and to print, with these arguments before the source. Both must be refused with this code and with
/// these words; gives what was said.
#[track_caller]
fn refused(site: &Site, args: &[&str], source: &str, code: i32, words: &[&str]) {
    let point = subdir(site.path(), "refused");
    let mount = fail(site.secretfs().arg("mount").args(args).arg(source).arg(&point));
    let cat = fail(site.secretfs().arg("cat").args(args).arg(source));
    for (verb, (found, said)) in [("mount", mount), ("cat", cat)] {
        assert_eq!(found, code, "{verb}: {said}");
        let sentence = said.strip_prefix("secretfs: ").unwrap_or_else(|| panic!("{verb}: {said:?}"));
        assert_eq!(sentence.trim_end().lines().count(), 1, "{verb}: {said:?}");
        for word in words {
            assert!(sentence.contains(word), "{verb}: {word:?} is not in {said:?}");
        }
        for secret in [PLANTED_TOKEN, PLANTED_VALUE, "token-user"] {
            assert!(!said.contains(secret), "{verb}: {said:?}");
        }
    }
    assert!(!is_mounted(&point));
    assert_eq!(names(&point), [""; 0]);
    std::fs::remove_dir(&point).expect("rmdir");
}

/// The admin's context in a namespace with a Secret `s`.
fn with_secret() -> (Namespace, Context) {
    let (namespace, secrets) = stage();
    secrets.create("s", &[("k", PLANTED_VALUE)]);
    let context = namespace.context();
    (namespace, context)
}

#[test]
fn an_object_that_does_not_exist() {
    let (namespace, context) = with_secret();
    let site = Site::new(&[context]);
    refused(&site, &[], "secret/nope", NOT_FOUND, &[&format!("{}/secret/nope", namespace.name), "not found"]);
    refused(&site, &[], "cm/s", NOT_FOUND, &[&format!("{}/cm/s", namespace.name)]);
    refused(&site, &["-n", "nowhere"], "secret/s", NOT_FOUND, &["nowhere/secret/s"]);
}

#[test]
fn a_key_that_does_not_exist() {
    let (_, context) = with_secret();
    let site = Site::new(&[context]);
    let (code, said) = fail(site.secretfs().args(["cat", "secret/s/other"]));
    assert_eq!(code, NOT_FOUND, "{said}");
    assert!(said.contains("no key other") && said.contains("it has: k") && !said.contains(PLANTED_VALUE), "{said}");
}

#[test]
fn an_object_that_the_user_may_not_read() {
    let (namespace, _) = with_secret();
    let user = namespace.user();
    namespace.allow(&user, "get", &["another"]);
    let site = Site::new(&[namespace.context_of(&user)]);
    refused(&site, &[], "secret/s", DENIED, &[&format!("{}/secret/s", namespace.name), "denied"]);
    // Names that may not be listed: nothing can be printed. (They can be mounted.)
    for verb in ["ls", "tree"] {
        let (code, said) = fail(site.secretfs().arg(verb).arg(format!("ns/{}", namespace.name)));
        assert_eq!(code, DENIED, "{said}");
        assert!(said.contains(&namespace.name) && said.contains("may not be listed"), "{said}");
    }
}

#[test]
fn credentials_that_the_server_does_not_accept() {
    let (_, context) = with_secret();
    let site = Site::new(&[Context { token: PLANTED_TOKEN.into(), ..context }]);
    refused(&site, &[], "secret/s", DENIED, &["credentials"]);
}

#[test]
fn a_server_that_nobody_is() {
    let (_, context) = with_secret();
    // Port 1 of this host: nobody listens there.
    let site = Site::new(&[Context { server: "https://127.0.0.1:1".into(), token: PLANTED_TOKEN.into(), ..context }]);
    refused(&site, &[], "secret/s", UNREACHABLE, &["https://127.0.0.1:1", "refused"]);
}

#[test]
fn a_server_that_does_not_answer() {
    let (namespace, _) = with_secret();
    let proxy = Proxy::start(namespace.cluster);
    proxy.black_hole();
    let site = Site::new(&[proxy.context(&namespace.name)]);
    refused(&site, &["--timeout", "500ms"], "secret/s", UNREACHABLE, &[&proxy.url, "--timeout"]);
}

#[test]
fn something_that_is_no_api_server() {
    let (namespace, _) = with_secret();
    let proxy = Proxy::start(namespace.cluster);
    let site = Site::new(&[proxy.context(&namespace.name)]);
    for fault in [Fault::html(200), Fault::html(404), Fault::html(403)] {
        proxy.answer(|_| true, fault);
        refused(&site, &[], "secret/s", UNREACHABLE, &[&proxy.url, "text/html"]);
    }
    proxy.answer(|_| true, Fault::status(500));
    refused(&site, &[], "secret/s", UNREACHABLE, &[&proxy.url, "500"]);
}

#[test]
fn a_name_that_dns_does_not_know() {
    let (_, context) = with_secret();
    let site = Site::new(&[Context { server: "https://no-such-host.invalid".into(), ..context }]);
    refused(&site, &[], "secret/s", UNREACHABLE, &["no-such-host.invalid", "resolved"]);
}

#[test]
fn a_certificate_of_another_authority() {
    let (namespace, context) = with_secret();
    let proxy = Proxy::start(namespace.cluster);
    // The proxy's own CA, and the real server.
    let site = Site::new(&[Context { ca: proxy.context("x").ca, token: PLANTED_TOKEN.into(), ..context }]);
    refused(&site, &[], "secret/s", UNREACHABLE, &["certificate"]);
}

#[test]
fn a_context_that_is_not_in_the_kubeconfig() {
    let (_, context) = with_secret();
    let site = Site::new(&[Context { token: PLANTED_TOKEN.into(), ..context }]);
    refused(&site, &["--context", "prod"], "secret/s", INPUT, &["prod", "admin"]);
}

#[test]
fn a_kubeconfig_that_is_missing_or_broken() {
    let (_, context) = with_secret();
    let site = Site::new(&[context]);
    refused(&site, &["--kubeconfig", "/nonexistent/file"], "secret/s", INPUT, &["/nonexistent/file"]);
    let broken: PathBuf = site.path().join("broken");
    std::fs::write(&broken, format!("users:\n- name: u\n  user: {{token: {PLANTED_TOKEN}, token: twice}}\n"))
        .expect("write");
    let broken = broken.to_str().expect("UTF-8");
    refused(&site, &["--kubeconfig", broken], "secret/s", INPUT, &[broken, "line 3"]);
    // Neither a kubeconfig nor a pod.
    std::fs::remove_file(&site.kubeconfig).expect("rm");
    refused(&site, &[], "secret/s", INPUT, &["kubeconfig", "-f"]);
}

#[test]
fn a_selector_that_makes_no_sense() {
    let namespace = namespace();
    let site = Site::new(&[namespace.context()]);
    let point = subdir(site.path(), "mnt");
    let source = format!("ns/{}", namespace.name);
    let (code, said) = fail(site.secretfs().args(["mount", "-l", "a in (", &source]).arg(&point));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("invalid label selector at character"), "{said}");
    assert!(!is_mounted(&point));
}

#[test]
fn nothing_is_left_running_after_a_refusal() {
    let (_, context) = with_secret();
    let site = Site::new(&[context]);
    let point = subdir(site.path(), "mnt");
    fail(site.secretfs().args(["mount", "secret/nope"]).arg(&point));
    let mentions = |pid: &str| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
            let point = point.to_str().expect("UTF-8").as_bytes();
            line.windows(point.len()).any(|window| window == point)
        })
    };
    wait_until("the end of all its processes", || !names("/proc".as_ref()).iter().any(|pid| mentions(pid)));
}
