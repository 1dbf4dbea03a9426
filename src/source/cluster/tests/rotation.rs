//! Credentials that change while the source lives.

use std::fs;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::super::fake::*;
use super::super::{Cluster, ClusterOptions, ConnectError};
use crate::source::Source as _;
use crate::store::{Refusal, Store};

/// A server that takes one token.
async fn accepting(token: &'static str) -> Fake {
    Fake::start(move |seen| match seen.headers.contains(&format!("Bearer {token}\r\n")) {
        false => status(401, "Unauthorized", ""),
        true if seen.is_watch() => watch(&[]),
        true => ok(&secret(seen.target.rsplit('/').next().unwrap(), "1", "")),
    })
    .await
}

fn options(fake: &Fake, user: Json) -> ClusterOptions {
    ClusterOptions { timeout: Duration::from_secs(5), ..fake.options_for(fake.kubeconfig(user)) }
}

#[tokio::test]
async fn a_token_file_that_rotates_is_read_again_on_401() {
    let fake = accepting("new").await;
    let path = fake.path("token");
    fs::write(&path, "old\n").unwrap();
    let (cluster, _) = fake.cluster_with(&options(&fake, json!({"tokenFile": path}))).await;
    fs::write(&path, "new\n").unwrap();
    assert!(cluster.follow(id("web")).await.is_ok());
}

#[tokio::test]
async fn a_kubeconfig_that_rotates_is_read_again_on_401() {
    let fake = accepting("new").await;
    let (cluster, _) = fake.cluster_with(&options(&fake, json!({"token": "old"}))).await;
    fake.kubeconfig(json!({"token": "new"}));
    assert!(cluster.follow(id("web")).await.is_ok());
}

fn plugin(fake: &Fake, expires: &str) -> Json {
    // Each run leaves a line and gives the next token: t1, t2, ...
    let runs = fake.path("runs");
    let script = format!(
        r#"echo run >> {0}; n=$(wc -l < {0}); echo '{{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{{"token":"t'$n'"{expires}}}}}'"#,
        runs.display()
    );
    json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script],
        "interactiveMode": "IfAvailable"}})
}

fn runs(fake: &Fake) -> usize {
    fs::read_to_string(fake.path("runs")).unwrap_or_default().lines().count()
}

#[tokio::test]
async fn a_plugin_runs_once_however_many_requests_there_are() {
    let fake = accepting("t1").await;
    let (cluster, _) = fake.cluster_with(&options(&fake, plugin(&fake, ""))).await;
    for name in ["a", "b", "c"] {
        cluster.follow(id(name)).await.unwrap();
    }
    assert_eq!(runs(&fake), 1);
}

#[tokio::test]
async fn a_plugin_runs_again_on_401_and_for_all_requests_once() {
    let fake = accepting("t2").await;
    let (cluster, _) = fake.cluster_with(&options(&fake, plugin(&fake, ""))).await;
    let ids: Vec<_> = (0..20).map(|n| id(&format!("s{n}"))).collect();
    let all = futures_util::future::join_all(ids.into_iter().map(|id| cluster.follow(id))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(runs(&fake), 2);
}

#[tokio::test]
async fn a_plugin_is_not_run_again_and_again_when_its_credential_is_refused() {
    let fake = accepting("another").await;
    let (cluster, _) = fake.cluster_with(&options(&fake, plugin(&fake, ""))).await;
    for name in ["a", "b", "c"] {
        assert!(matches!(cluster.follow(id(name)).await, Err(Refusal::Unauthorized { .. })));
    }
    assert_eq!(runs(&fake), 2);
}

#[tokio::test]
async fn a_credential_that_has_expired_is_renewed_before_it_is_used() {
    let fake = accepting("t2").await;
    let expired = r#","expirationTimestamp":"2020-01-01T00:00:00Z""#;
    let (cluster, _) = fake.cluster_with(&options(&fake, plugin(&fake, expired))).await;
    assert!(cluster.follow(id("web")).await.is_ok());
    assert!(fake.seen().iter().all(|seen| seen.headers.contains("Bearer t2")), "the old one was sent");
}

#[tokio::test]
async fn a_plugin_that_fails_says_so_without_what_it_printed() {
    let fake = accepting("t1").await;
    let user = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh",
        "args": ["-c", "echo planted; echo planted >&2; exit 7"]}});
    let error = Cluster::connect(&options(&fake, user), Store::new()).await.err().unwrap();
    assert!(matches!(error, ConnectError::Credentials(_)));
    let text = format!("{error} {error:?}");
    assert!(text.contains("plugin sh failed") && !text.contains("planted"), "{text}");
}

#[tokio::test]
async fn impersonation_is_sent_with_every_request() {
    let fake = accepting(TOKEN).await;
    let mut options = fake.options();
    options.impersonation.user = Some("jane".into());
    options.impersonation.groups = vec!["dev".into(), "ops".into()];
    let (cluster, _) = fake.cluster_with(&options).await;
    cluster.follow(id("web")).await.unwrap();
    until("the watch", || fake.count("watch=1") == 1).await;
    for seen in fake.seen() {
        for header in ["impersonate-user: jane", "impersonate-group: dev", "impersonate-group: ops"] {
            assert!(seen.headers.contains(header), "{}", seen.headers);
        }
    }
}
