//! Single requests: what each answer, fault and delay turns into.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::super::ClusterOptions;
use super::super::fake::*;
use crate::source::Source as _;
use crate::store::Refusal;

#[tokio::test]
async fn an_object_is_read_with_the_token_and_as_json() {
    let fake = Fake::start(|seen| match seen.is_watch() {
        true => watch(&[]),
        false => ok(&secret("web", "1", "aGk=")),
    })
    .await;
    let (cluster, store) = fake.cluster().await;
    let object = cluster.follow(id("web")).await.unwrap();
    assert_eq!(object.data().values().next().unwrap().as_bytes(), b"hi");
    assert!(store.get(&id("web")).is_some());
    let seen = &fake.seen()[0];
    assert_eq!(seen.target, "/api/v1/namespaces/prod/secrets/web");
    for header in ["authorization: Bearer planted-token", "accept: application/json", "user-agent: secretfs/"] {
        assert!(seen.headers.contains(header), "{}", seen.headers);
    }
}

/// A script for one fault, and what the reader is told.
type Fault = (&'static str, fn() -> Answer, fn(&Refusal) -> bool);

const FAULTS: &[Fault] = &[
    ("404 of the API", || status(404, "NotFound", "web"), |r| matches!(r, Refusal::NotFound { .. })),
    ("404 about something else", || status(404, "NotFound", "other"), |r| matches!(r, Refusal::Unavailable { .. })),
    ("404 of a proxy", || answer(404, "text/html", "planted"), |r| matches!(r, Refusal::Unavailable { .. })),
    ("403 of the API", || status(403, "Forbidden", "web"), |r| matches!(r, Refusal::Forbidden { .. })),
    ("403 of a proxy", || answer(403, "text/html", "planted"), |r| matches!(r, Refusal::Unavailable { .. })),
    ("401", || status(401, "Unauthorized", ""), |r| matches!(r, Refusal::Unauthorized { .. })),
    ("401 of a proxy", || answer(401, "text/plain", "planted"), |r| matches!(r, Refusal::Unauthorized { .. })),
    ("500", || status(500, "InternalError", ""), |r| matches!(r, Refusal::Unavailable { .. })),
    ("a login page", || answer(200, "text/html", "<html>planted"), |r| matches!(r, Refusal::Unavailable { .. })),
    ("a redirect", || answer(302, "text/html", ""), |r| matches!(r, Refusal::Unavailable { .. })),
    ("JSON of something else", || ok(&json!({"planted": 1})), |r| matches!(r, Refusal::Unavailable { .. })),
    ("bad base64", || ok(&secret("web", "1", "planted!")), |r| matches!(r, Refusal::Unavailable { .. })),
    ("another object", || ok(&secret("other", "1", "")), |r| matches!(r, Refusal::Unavailable { .. })),
    (
        "not HTTP",
        || vec![Step::Send(b"SSH-2.0-planted\r\n\r\n".to_vec())],
        |r| matches!(r, Refusal::Unavailable { .. }),
    ),
    (
        "a body that breaks off",
        || {
            vec![
                Step::Send(head(200, "application/json", "Content-Length: 99")),
                Step::Send(b"{".to_vec()),
                Step::Close,
            ]
        },
        |r| matches!(r, Refusal::Unavailable { .. }),
    ),
    (
        "a body announced too long",
        || vec![Step::Send(head(200, "application/json", "Content-Length: 104857600")), Step::Hang],
        |r| matches!(r, Refusal::Unavailable { .. }),
    ),
    (
        "a body that grows too long",
        || {
            let mut steps = vec![Step::Send(head(200, "application/json", "Connection: close"))];
            steps.extend((0..20).map(|_| Step::Send(vec![b' '; 1 << 20])));
            steps
        },
        // The reader may also see the connection end, when it stops reading.
        |r| matches!(r, Refusal::Unavailable { .. }),
    ),
    ("silence", || vec![Step::Hang], |r| matches!(r, Refusal::TimedOut { .. })),
    (
        "a body that stalls",
        || vec![Step::Send(head(200, "application/json", "Content-Length: 99")), Step::Send(b"{".to_vec()), Step::Hang],
        |r| matches!(r, Refusal::TimedOut { .. }),
    ),
    (
        "a body that trickles",
        || {
            let mut steps = vec![Step::Send(head(200, "application/json", "Content-Length: 9999"))];
            steps.extend((0..200).flat_map(|_| [Step::Send(b" ".to_vec()), Step::Wait(Duration::from_millis(50))]));
            steps
        },
        |r| matches!(r, Refusal::TimedOut { .. }),
    ),
    (
        "headers that trickle",
        || {
            let mut steps = vec![Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec())];
            steps.extend(
                (0..200).flat_map(|_| [Step::Send(b"A: b\r\n".to_vec()), Step::Wait(Duration::from_millis(50))]),
            );
            steps
        },
        |r| matches!(r, Refusal::TimedOut { .. }),
    ),
    ("busy without end", || answer(503, "text/html", "planted"), |r| matches!(r, Refusal::Unavailable { .. })),
    (
        "busy for longer than the deadline",
        || vec![Step::Send(head(429, "text/plain", "Retry-After: 60\r\nContent-Length: 0"))],
        |r| matches!(r, Refusal::Unavailable { .. }),
    ),
];

#[tokio::test]
async fn every_fault_ends_before_the_deadline_and_tells_what_happened() {
    let each = FAULTS.iter().map(|(name, script, expected)| async move {
        let fake = Fake::start(move |_| script()).await;
        // All faults share one thread with their servers.
        let options = ClusterOptions { timeout: Duration::from_secs(3), ..fake.options() };
        let (cluster, store) = fake.cluster_with(&options).await;
        // Without a deadline of its own most of these would never end.
        let outcome = tokio::time::timeout(Duration::from_secs(30), cluster.follow(id("web"))).await;
        let refusal = outcome.unwrap_or_else(|_| panic!("{name}: no end")).unwrap_err();
        assert!(expected(&refusal), "{name}: {refusal:?}");
        let message = refusal.to_string();
        assert!(message.contains("prod/secret/web") && !message.contains("planted"), "{name}: {message}");
        assert!(store.get(&id("web")).is_none(), "{name}");
    });
    join_all(each).await;
}

#[tokio::test]
async fn a_refused_connection_is_told_at_once() {
    let fake = Fake::start(|_| vec![]).await;
    let options = fake.options();
    let (cluster, _) = fake.cluster_with(&options).await;
    drop(fake);
    // The kubeconfig went with the server; it has been read.
    let message = cluster.follow(id("web")).await.unwrap_err().to_string();
    assert!(message.contains("refused"), "{message}");
    assert!(cluster.status().trouble.is_some());
}

#[tokio::test]
async fn a_busy_server_is_asked_again_before_the_deadline() {
    for busy in [
        || answer(503, "text/html", "later"),
        || vec![Step::Send(head(429, "text/plain", "Retry-After: 0\r\nContent-Length: 0"))],
    ] {
        let fake = Fake::start(move |seen| match seen.connection {
            _ if seen.is_watch() => watch(&[]),
            1 => {
                let mut steps = busy();
                steps.push(Step::Close);
                steps
            }
            _ => ok(&secret("web", "1", "")),
        })
        .await;
        let (cluster, _) = fake.cluster().await;
        assert!(cluster.follow(id("web")).await.is_ok());
    }
}

#[tokio::test]
async fn a_connection_that_the_server_closes_is_no_failure() {
    let fake = Fake::start(|seen| match seen.connection {
        _ if seen.is_watch() => watch(&[]),
        1 => vec![Step::Close],
        _ => ok(&secret("web", "1", "")),
    })
    .await;
    let (cluster, _) = fake.cluster().await;
    assert!(cluster.follow(id("web")).await.is_ok());
}

#[tokio::test]
async fn after_a_timeout_other_connections_are_used() {
    let fake = Fake::start(|seen| match seen.connection {
        _ if seen.is_watch() => vec![Step::Hang],
        1 => vec![Step::Hang],
        _ => ok(&secret("web", "1", "")),
    })
    .await;
    let (cluster, _) = fake.cluster().await;
    assert!(matches!(cluster.follow(id("web")).await, Err(Refusal::TimedOut { .. })));
    assert!(cluster.follow(id("web")).await.is_ok());
}

#[tokio::test]
async fn many_readers_at_once_cost_one_request() {
    let fake = Fake::start(|seen| match seen.is_watch() {
        true => watch(&[]),
        false => {
            let mut steps = vec![Step::Wait(Duration::from_millis(50))];
            steps.extend(ok(&secret("web", "1", "")));
            steps
        }
    })
    .await;
    let (cluster, _) = fake.cluster().await;
    let all = join_all((0..200).map(|_| cluster.follow(id("web")))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(cluster.status().requests.gets, 1);
}

#[tokio::test]
async fn many_objects_are_asked_for_a_few_at_a_time() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    fn answered() {
        NOW.fetch_sub(1, SeqCst);
    }
    let fake = Fake::start(|seen| match seen.is_watch() {
        true => vec![Step::Hang],
        false => {
            MOST.fetch_max(NOW.fetch_add(1, SeqCst) + 1, SeqCst);
            let name = seen.target.rsplit('/').next().unwrap().to_owned();
            // A request stops being counted before its answer makes room for the next.
            let mut steps = vec![Step::Wait(Duration::from_millis(40)), Step::Do(answered)];
            steps.extend(ok(&secret(&name, "1", "")));
            steps
        }
    })
    .await;
    let (cluster, _) = fake.cluster_with(&ClusterOptions { timeout: Duration::from_secs(5), ..fake.options() }).await;
    let all = join_all((0..40).map(|n| cluster.follow(id(&format!("s{n}"))))).await;
    assert!(all.iter().all(Result::is_ok));
    assert!((2..=8).contains(&MOST.load(SeqCst)), "{}", MOST.load(SeqCst));
}
