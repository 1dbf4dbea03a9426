//! TestCollectDataWith... of pkg/volume/projected/projected_test.go, and the rules of §3.3 of tokens.

use serde_json::{Value as Json, json};

use crate::object::{Kind, Value};
use crate::pod::testing::{Known, collected, id, listed, refused, subject, with_volume};
use crate::pod::{Have, Problem, Subject, TokenAsk, needs};
use crate::volume::Clash;

fn projected(sources: Json) -> Subject {
    with_volume(json!({"projected": {"sources": sources}}))
}

#[test]
fn later_sources_win() {
    let known = Known::default().data(Kind::Secret, "s", &[("a", "secret"), ("b", "secret")]).data(
        Kind::ConfigMap,
        "c",
        &[("b", "map"), ("c", "map")],
    );
    let (secret, map) = (json!({"secret": {"name": "s"}}), json!({"configMap": {"name": "c"}}));
    let name = json!({"downwardAPI": {"items": [{"path": "./c", "fieldRef": {"fieldPath": "metadata.name"}}]}});
    let all = projected(json!([secret, map, name]));
    assert_eq!(
        collected(&all, &known),
        Ok(listed(&[("a", "secret", 0o644), ("b", "map", 0o644), ("c", "web", 0o644)]))
    );
    let other = projected(json!([name, map, secret]));
    assert_eq!(
        collected(&other, &known),
        Ok(listed(&[("a", "secret", 0o644), ("b", "secret", 0o644), ("c", "map", 0o644)]))
    );
}

#[test]
fn one_bad_source_is_enough_and_all_are_told() {
    let known = Known::default().data(Kind::Secret, "s", &[("a", "1")]);
    let sources = json!([
        {"secret": {"name": "s"}}, {"configMap": {"name": "absent"}}, {"secret": {"name": "s", "items": [{"key": "x", "path": "x"}]}},
        {"podCertificate": {"signerName": "example.com/a"}}, {}, {"downwardAPI": {"items": [{"path": "y", "fieldRef": {"fieldPath": "spec.nodeName"}}]}},
    ]);
    let problems = refused(&projected(sources), &known);
    let expected = [
        Problem::Missing { object: id(Kind::ConfigMap, "absent") },
        Problem::MissingKey { object: id(Kind::Secret, "s"), key: "x".into() },
        Problem::Unsupported { what: "podCertificate" },
    ];
    assert_eq!(problems[..3], expected);
    assert!(
        matches!(&problems[3..], [Problem::UnknownField { field, .. }] if field == "spec.nodeName"),
        "{problems:?}"
    );
}

#[test]
fn a_file_cannot_be_a_directory_too() {
    let known = Known::default().data(Kind::Secret, "s", &[("foo", "1")]);
    let sources =
        json!([{"secret": {"name": "s"}}, {"secret": {"name": "s", "items": [{"key": "foo", "path": "foo/bar"}]}}]);
    assert_eq!(refused(&projected(sources), &known), [Problem::Clash(Clash { path: "foo".into() })]);
}

/// A volume without sources is an empty directory; the pod's other storage has no files that are known.
#[test]
fn a_volume_may_be_empty() {
    assert_eq!(collected(&projected(json!([])), &Known::default()), Ok(vec![]));
    let other = Problem::OtherStorage { volume: "v".into(), kind: "emptyDir".into() };
    assert_eq!(refused(&with_volume(json!({"emptyDir": {}})), &Known::default()), [other]);
}

fn ask(subject: &Subject, audience: &str, expiration_seconds: u64) -> TokenAsk {
    let pod = subject.is_live().then(|| (subject.id.name.clone(), subject.uid.clone()));
    let service_account = crate::object::Name::new("account").unwrap();
    TokenAsk {
        namespace: subject.id.namespace.clone(),
        service_account,
        audience: audience.into(),
        expiration_seconds,
        pod,
    }
}

fn with_token(security: Json, containers: Json, volume: Json) -> Subject {
    subject(json!({"spec": {
        "serviceAccountName": "account", "securityContext": security, "containers": containers,
        "volumes": [{"name": "v", "projected": volume}],
    }}))
}

#[test]
fn a_token_is_asked_for_with_its_defaults() {
    for (source, audience, seconds) in [
        (json!({"path": "token"}), "", 3600),
        (json!({"path": "token", "audience": "vault", "expirationSeconds": 600}), "vault", 600),
    ] {
        let pod = with_token(json!({}), json!([{"name": "c"}]), json!({"sources": [{"serviceAccountToken": source}]}));
        let expected = ask(&pod, audience, seconds);
        assert!(expected.pod.is_some());
        let asked = needs(&pod, &pod.pod.spec.volumes[0]);
        assert_eq!(asked.tokens.into_iter().collect::<Vec<_>>(), std::slice::from_ref(&expected));
        let known = Known::default().token(expected, Have::Ready(Some(Value::copy_of(b"t"))));
        assert_eq!(collected(&pod, &known), Ok(listed(&[("token", "t", 0o644)])));
    }
}

#[test]
fn a_token_that_cannot_be_had_is_told() {
    let pod =
        with_token(json!({}), json!([{"name": "c"}]), json!({"sources": [{"serviceAccountToken": {"path": "token"}}]}));
    let account = id(Kind::ServiceAccount, "account");
    let ask = ask(&pod, "", 3600);
    for (have, problem) in [
        (Have::Missing, Problem::Missing { object: account.clone() }),
        (Have::Refused("no".into()), Problem::NoToken { account: account.clone(), why: "no".into() }),
        (Have::Unknown, Problem::Unknown { what: "a token for ns/sa/account".into() }),
    ] {
        assert_eq!(refused(&pod, &Known::default().token(ask.clone(), have)), [problem]);
    }
}

/// The four rows of "should set ownership and permission when RunAsUser or FsGroup is present" (before the walk for fsGroup),
/// TestCollectDataWithServiceAccountToken, and the FsUser cases of pkg/volume/util/util_test.go.
#[test]
fn tokens_are_their_users() {
    let one = |user: Json| json!({"name": "c", "securityContext": {"runAsUser": user}});
    let none = json!({"name": "c"});
    let table = [
        (json!({}), json!([none]), json!({}), json!({}), 0o640, None),
        (json!({"runAsUser": 1000}), json!([none]), json!({}), json!({}), 0o600, Some(1000)),
        (json!({"fsGroup": 10000}), json!([none]), json!({}), json!({}), 0o600, None),
        (json!({"fsGroup": 0}), json!([none]), json!({}), json!({}), 0o600, None),
        (json!({"runAsUser": 1000, "fsGroup": 10000}), json!([none]), json!({}), json!({}), 0o600, Some(1000)),
        (json!({}), json!([one(json!(0)), one(json!(0))]), json!({}), json!({}), 0o600, Some(0)),
        (json!({}), json!([one(json!(1)), one(json!(2))]), json!({}), json!({}), 0o640, None),
        (json!({}), json!([one(json!(1)), none]), json!({}), json!({}), 0o640, None),
        (json!({"runAsUser": 2}), json!([one(json!(1)), none]), json!({}), json!({}), 0o640, None),
        (json!({"runAsUser": 2}), json!([one(json!(1))]), json!({}), json!({}), 0o600, Some(1)),
        // KEP-5936
        (json!({"runAsUser": 2}), json!([none]), json!({"defaultUser": 3}), json!({}), 0o600, Some(3)),
        (json!({"runAsUser": 2}), json!([none]), json!({"defaultUser": 3}), json!({"user": 4}), 0o600, Some(4)),
        (json!({}), json!([none]), json!({}), json!({"user": 4}), 0o600, Some(4)),
    ];
    for (security, containers, volume, token, mode, user) in table {
        let (mut volume, mut token) = (volume, token);
        token["path"] = json!("token");
        volume["defaultMode"] = json!(0o640);
        volume["sources"] = json!([{"serviceAccountToken": token}]);
        let pod = with_token(security, containers, volume);
        let known = Known::default().token(ask(&pod, "", 3600), Have::Ready(Some(Value::copy_of(b"t"))));
        let expected = vec![("token".to_owned(), "t".to_owned(), mode, user)];
        assert_eq!(collected(&pod, &known), Ok(expected), "{:?}", pod.pod.spec);
    }
}

/// All kinds of containers count for the common user.
#[test]
fn init_and_ephemeral_containers_have_a_say() {
    let container = |user: Json| json!([{"name": "c", "securityContext": {"runAsUser": user}}]);
    for (init, ephemeral, user) in [(1, 1, Some(1)), (2, 1, None), (1, 2, None)] {
        let pod = subject(json!({"spec": {
            "initContainers": container(json!(init)), "containers": container(json!(1)),
            "ephemeralContainers": container(json!(ephemeral)),
        }}));
        assert_eq!(crate::pod::user::common(&pod.pod.spec), user);
    }
    assert_eq!(crate::pod::user::common(&subject(json!({})).pod.spec), None);
}
