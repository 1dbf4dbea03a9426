//! `secretfs status` says how fresh it is what each object shows.

use serde_json::Value;

use super::{Mounted, stage};
use crate::support::mount::Mount;
use crate::support::proxy::{Fault, Proxy};
use crate::support::{succeed, wait_until};

/// State and age of everything in one of the lists of `secretfs status -o json`, by what it is about.
#[track_caller]
fn fresh(mount: &Mount, list: &str) -> Vec<(String, String, Option<f64>)> {
    let status = mount.status();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let all = status[list].as_array().expect("a list").iter();
    all.map(|one| (text(&one["what"]), text(&one["state"]), one["age"].as_f64())).collect()
}

/// What is said of one object, if anything.
#[track_caller]
fn of(mount: &Mount, object: &str) -> Option<(String, f64)> {
    let one = fresh(mount, "kept").into_iter().find(|(what, ..)| what == object)?;
    Some((one.1, one.2.unwrap_or(f64::INFINITY)))
}

#[track_caller]
fn wait_for_state(mount: &Mount, object: &str, state: &str) {
    wait_until(state, || of(mount, object).is_some_and(|(is, _)| is == state));
}

#[test]
fn in_an_outage_what_is_known_grows_old() {
    let (namespace, secrets) = stage();
    for name in ["s", "read", "unread"] {
        secrets.create(name, &[("the-key", "the-value")]);
    }
    let proxy = Proxy::start(namespace.cluster);
    let named = Mounted::new(proxy.context(&namespace.name), &["--timeout", "1s", "secret/s"]);
    let view = Mounted::new(proxy.context(&namespace.name), &["--timeout", "1s", &format!("ns/{}", namespace.name)]);
    view.read("read/the-key");
    let [s, read] = ["s", "read"].map(|name| format!("{}/secret/{name}", namespace.name));
    let list = format!("the list of secrets in namespace {}", namespace.name);
    let is = |kept: &[(String, String, Option<f64>)], what: &str, state: &str| {
        kept.len() == 1 && kept[0].0 == what && kept[0].1 == state && kept[0].2.is_some()
    };
    for (mount, object) in [(&named, &s), (&view, &read)] {
        let kept = fresh(mount, "kept");
        assert!(is(&kept, object, "live"), "{kept:?}");
    }
    let lists = fresh(&view, "lists");
    assert!(is(&lists, &list, "live"), "{lists:?}");

    proxy.refuse();
    for (mount, object) in [(&named, &s), (&view, &read)] {
        wait_for_state(mount, object, "stale");
        let (_, age) = of(mount, object).expect("it is kept");
        wait_until("its age to grow", || of(mount, object).is_some_and(|(is, now)| is == "stale" && now >= age + 1.0));
    }
    let lists = fresh(&view, "lists");
    assert!(is(&lists, &list, "stale"), "{lists:?}");
    // For people the same; of the content there is nothing.
    for format in ["wide", "json"] {
        let told = succeed(view.site.secretfs().args(["status", "-o", format]));
        let place = view.dir.to_str().expect("UTF-8");
        let line = |what: &str| {
            format != "wide"
                || told.lines().any(|line| {
                    line.starts_with(what) && line.contains("stale") && line.contains("s ago") && line.ends_with(place)
                })
        };
        assert!(line(&read) && line(&list), "{told}");
        assert!(!told.contains("the-key") && !told.contains("the-value"), "{told}");
    }

    let (_, old) = of(&named, &s).expect("it is kept");
    proxy.heal();
    for (mount, object) in [(&named, &s), (&view, &read)] {
        wait_for_state(mount, object, "live");
    }
    assert!(of(&named, &s).expect("it is kept").1 < old);
}

#[test]
fn a_sign_of_life_confirms_what_does_not_change() {
    let (namespace, secrets) = stage();
    secrets.create("s", &[("k", "v")]);
    let user = namespace.user();
    namespace.allow(&user, "get", &["s"]);
    let context = namespace.context_of(&user);
    let polled = Mounted::new(context, &["--poll", "3s", "secret/s"]);
    let object = format!("{}/secret/s", namespace.name);
    wait_until("its age to grow", || of(&polled, &object).is_some_and(|(is, age)| is == "live" && age >= 1.0));
    wait_until("the next poll", || of(&polled, &object).is_some_and(|(is, age)| is == "live" && age < 1.0));
}

#[test]
fn what_is_deleted_is_gone() {
    let (namespace, secrets) = stage();
    secrets.create("s", &[("k", "v")]);
    let named = Mounted::new(namespace.context(), &["secret/s"]);
    let object = format!("{}/secret/s", namespace.name);
    secrets.delete("s");
    wait_for_state(&named, &object, "gone");
    secrets.create("s", &[("k", "v")]);
    wait_for_state(&named, &object, "live");
}

#[test]
fn what_is_denied_for_good_is_forbidden() {
    let (namespace, secrets) = stage();
    secrets.create("s", &[("k", "v")]);
    let proxy = Proxy::start(namespace.cluster);
    let named = Mounted::new(proxy.context(&namespace.name), &["--poll", "100ms", "secret/s"]);
    let object = format!("{}/secret/s", namespace.name);
    proxy.answer(|_| true, Fault::status(403));
    proxy.cut();
    wait_for_state(&named, &object, "forbidden");
    proxy.heal();
    wait_for_state(&named, &object, "live");
}
