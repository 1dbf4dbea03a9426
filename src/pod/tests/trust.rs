//! pkg/kubelet/clustertrustbundle/clustertrustbundle_manager_test.go and TestCollectDataWithClusterTrustBundle.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value as Json, json};

use crate::object::{Kind, Object};
use crate::pod::testing::{Known, collected, id, read, refused, with_volume};
use crate::pod::{Have, Problem, Subject, needs};

/// A certificate in PEM with Unix line ends, as Go writes it.
fn certificate() -> String {
    let key = KeyPair::generate().unwrap();
    CertificateParams::new(vec!["ca".into()]).unwrap().self_signed(&key).unwrap().pem().replace("\r\n", "\n")
}

fn bundle(name: &str, signer: &str, labels: Json, certificates: &str) -> Arc<Object> {
    let json = json!({"metadata": {"labels": labels}, "spec": {"signerName": signer, "trustBundle": certificates}});
    read(Kind::ClusterTrustBundle, name, json)
}

fn pod(source: Json) -> Subject {
    let mut source = source;
    source["path"] = json!("ca");
    with_volume(json!({"projected": {"defaultMode": 0o600, "sources": [{"clusterTrustBundle": source}]}}))
}

/// The certificates of the one file, in their order.
fn shown(source: Json, known: &Known) -> Vec<String> {
    let files = collected(&pod(source), known).unwrap();
    let [(path, text, 0o600, None)] = &files[..] else { panic!("{files:?}") };
    assert_eq!(path, "ca");
    let ends = "-----END CERTIFICATE-----\n";
    let mut certificates: Vec<String> = text.split_inclusive(ends).map(str::to_owned).collect();
    assert!(certificates.iter().all(|text| text.starts_with("-----BEGIN CERTIFICATE-----\n") && text.ends_with(ends)));
    certificates.sort();
    certificates
}

fn sorted(certificates: &[&String]) -> Vec<String> {
    let mut sorted: Vec<String> = certificates.iter().map(|text| text.to_string()).collect();
    sorted.sort();
    sorted
}

#[test]
fn bundles_are_found_by_name() {
    let (a, b) = (certificate(), certificate());
    // Text between the blocks and repetitions go; other line ends become Go's.
    let messy = format!("# roots\n{a}\nand\n{}{a}", b.replace('\n', "\r\n"));
    let known = Known::default().with(bundle("ctb", "", json!({}), &messy));
    assert_eq!(shown(json!({"name": "ctb"}), &known), sorted(&[&a, &b]));
    let subject = pod(json!({"name": "ctb"}));
    let needs = needs(&subject, &subject.pod.spec.volumes[0]);
    assert!(!needs.bundles && needs.objects.contains(&id(Kind::ClusterTrustBundle, "ctb")));
}

#[test]
fn bundles_are_found_by_signer_and_labels() {
    let (a, b, c) = (certificate(), certificate(), certificate());
    let all = vec![
        bundle("one", "example.com/a", json!({"live": "yes"}), &a),
        bundle("two", "example.com/a", json!({"live": "no"}), &b),
        bundle("three", "example.com/b", json!({"live": "yes"}), &c),
        bundle("four", "example.com/a", json!({"live": "yes"}), &a),
    ];
    let known = Known::default().bundles(Have::Ready(all));
    let by = |selector: Json| json!({"signerName": "example.com/a", "labelSelector": selector});
    let expression = |operator: &str, values: Json| json!({"matchExpressions": [{"key": "live", "operator": operator, "values": values}]});
    let table = [
        (json!({}), sorted(&[&a, &b])),
        (json!({"matchLabels": {"live": "yes"}}), sorted(&[&a])),
        (expression("In", json!(["no", "maybe"])), sorted(&[&b])),
        (expression("NotIn", json!(["no"])), sorted(&[&a])),
        (expression("Exists", json!([])), sorted(&[&a, &b])),
    ];
    for (selector, expected) in table {
        assert_eq!(shown(by(selector.clone()), &known), expected, "{selector}");
    }
    let none = [Problem::NoBundle { signer: "example.com/a".into() }];
    assert_eq!(refused(&pod(by(expression("DoesNotExist", json!([])))), &known), none);
    // No selector selects nothing.
    assert_eq!(refused(&pod(json!({"signerName": "example.com/a"})), &known), none);
    for wrong in [
        expression("Like", json!(["x"])),
        expression("In", json!([])),
        expression("Exists", json!(["x"])),
        json!({"matchLabels": {"-": "x"}}),
        json!({"matchLabels": {"a": "-"}}),
    ] {
        let problems = refused(&pod(by(wrong.clone())), &known);
        assert!(matches!(&problems[..], [Problem::BadSelector { .. }]), "{wrong}: {problems:?}");
    }
    let subject = pod(by(json!({})));
    assert!(needs(&subject, &subject.pod.spec.volumes[0]).bundles);
}

/// Missing and optional is a file with nothing in it, not no file.
#[test]
fn optional_bundles_may_be_missing() {
    let known = Known::default();
    for source in [
        json!({"name": "absent", "optional": true}),
        json!({"signerName": "example.com/a", "labelSelector": {}, "optional": true}),
        json!({"signerName": "example.com/a", "optional": true}),
    ] {
        assert_eq!(shown(source, &known), [""; 0]);
    }
    let missing = Problem::Missing { object: id(Kind::ClusterTrustBundle, "absent") };
    assert_eq!(refused(&pod(json!({"name": "absent"})), &known), [missing]);
    assert_eq!(refused(&pod(json!({"optional": true})), &known), [Problem::UnnamedBundle { path: "ca".into() }]);
    let denied = Known::default().bundles(Have::Refused("denied".into()));
    let source = json!({"signerName": "example.com/a", "labelSelector": {}, "optional": true});
    assert_eq!(refused(&pod(source), &denied), [Problem::Refused("denied".into())]);
}

/// The kubelet shuffles; here a volume that did not change stays as it is.
#[test]
fn the_order_does_not_depend_on_that_of_the_bundles() {
    let certificates: Vec<String> = (0..4).map(|_| certificate()).collect();
    let text = |known: &Known| collected(&pod(json!({"name": "ctb"})), known).unwrap()[0].1.clone();
    let forward = Known::default().with(bundle("ctb", "", json!({}), &certificates.concat()));
    let reversed: String = certificates.iter().rev().cloned().collect();
    let backward = Known::default().with(bundle("ctb", "", json!({}), &reversed));
    assert_eq!(text(&forward), text(&backward));
}
