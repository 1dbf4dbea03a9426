//! pkg/fieldpath/fieldpath_test.go and pkg/volume/downwardapi/downwardapi_test.go.

use serde_json::{Value as Json, json};

use crate::object::Kind;
use crate::pod::testing::{Known, collected, id, listed, read, refused, subject};
use crate::pod::{Problem, Subject, needs};

const UID: &str = "u";

fn pod(metadata: Json, items: Json) -> Subject {
    subject(json!({"metadata": metadata, "spec": {"volumes": [{"name": "v", "downwardAPI": {"items": items}}]}}))
}

/// The file of one field.
fn file_of(metadata: Json, field: &str) -> Result<String, Problem> {
    let pod = pod(metadata, json!([{"path": "f", "fieldRef": {"fieldPath": field}}]));
    match collected(&pod, &Known::default()) {
        Ok(files) => Ok(files.into_iter().next().expect("a file").1),
        Err(mut problems) => Err(problems.remove(0)),
    }
}

#[test]
fn fields_are_shown_as_the_kubelet_shows_them() {
    let labels = |labels: Json| json!({"labels": labels});
    let annotations = |annotations: Json| json!({"annotations": annotations});
    let table = [
        (json!({}), "metadata.namespace", "ns"),
        (json!({}), "metadata.name", "web"),
        (json!({}), "metadata.uid", UID),
        (labels(json!({"key": "value"})), "metadata.labels", r#"key="value""#),
        (labels(json!({"key": "value\n"})), "metadata.labels", r#"key="value\n""#),
        (labels(json!({"k2": "b", "k1": "a", "K": "c"})), "metadata.labels", "K=\"c\"\nk1=\"a\"\nk2=\"b\""),
        (labels(json!({"something": "label value"})), "metadata.labels['something']", "label value"),
        (annotations(json!({"builder": "john-doe"})), "metadata.annotations", r#"builder="john-doe""#),
        (
            annotations(json!({"flannel.alpha.coreos.com/backend-data": r#"{"VNI":1,"VtepMAC":"ce:f9:c7:a4:de:64"}"#})),
            "metadata.annotations",
            r#"flannel.alpha.coreos.com/backend-data="{\"VNI\":1,\"VtepMAC\":\"ce:f9:c7:a4:de:64\"}""#,
        ),
        (
            annotations(json!({"spec.pod.beta.kubernetes.io/statefulset-index": "1"})),
            "metadata.annotations['spec.pod.beta.kubernetes.io/statefulset-index']",
            "1",
        ),
        (annotations(json!({"Www.k8s.io/test": "1"})), "metadata.annotations['Www.k8s.io/test']", "1"),
        (annotations(json!({"a1": "a\"\n"})), "metadata.annotations['a1']", "a\"\n"),
        (json!({}), "metadata.labels", ""),
        (json!({}), "metadata.annotations", ""),
        (json!({}), "metadata.labels['absent']", ""),
        (json!({}), "metadata.annotations['absent']", ""),
    ];
    for (metadata, field, expected) in table {
        assert_eq!(file_of(metadata, field).as_deref(), Ok(expected), "{field}");
    }
}

#[test]
fn other_fields_are_refused() {
    for field in [
        "metadata.whoops",
        "metadata.notexisting['something']",
        "metadata.labels[ 'key' ]",
        "metadata.labels[]",
        "metadata.labels[']",
        "metadata.labels['key']foo",
        "['key']",
        // For variables only.
        "spec.nodeName",
        "status.podIP",
        "",
    ] {
        let problem = file_of(json!({}), field).unwrap_err();
        assert!(matches!(&problem, Problem::UnknownField { field: f, .. } if f == field), "{problem:?}");
    }
    for field in [
        "metadata.annotations['invalid~key']",
        "metadata.annotations['']",
        "metadata.annotations['a[b']c']",
        "metadata.labels['Www.k8s.io/test']",
        "metadata.labels['']",
        "metadata.labels[' ']",
        "metadata.labels['['key']",
        "metadata.labels['key']']",
    ] {
        assert_eq!(file_of(json!({}), field), Err(Problem::BadSubscript { field: field.into() }));
    }
}

#[test]
fn modes_and_paths_are_the_items() {
    let name = json!({"fieldPath": "metadata.name"});
    let items = json!([
        {"path": "this//name", "fieldRef": name},
        {"path": "a/../b", "fieldRef": name, "mode": 0o400},
        {"path": "empty"},
    ]);
    let expected = listed(&[("b", "web", 0o400), ("empty", "", 0o644), ("this/name", "web", 0o644)]);
    assert_eq!(collected(&pod(json!({}), items), &Known::default()), Ok(expected));
    let items = json!([{"path": "", "fieldRef": name}, {"path": "a/..", "fieldRef": name}, {"path": "a/../../b", "fieldRef": name}]);
    let problems = refused(&pod(json!({}), items), &Known::default());
    assert!(
        problems.iter().all(|problem| matches!(problem, Problem::BadPath { .. })) && problems.len() == 3,
        "{problems:?}"
    );
}

/// What a template's pods will be called is not known, nor what their uids will be.
#[test]
fn a_template_shows_its_workloads_name_and_no_uid() {
    let items = json!([
        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}, {"path": "uid", "fieldRef": {"fieldPath": "metadata.uid"}},
    ]);
    let spec = json!({"volumes": [{"name": "v", "downwardAPI": {"items": items}}]});
    let deployment = read(Kind::Deployment, "shop", json!({"spec": {"template": {"spec": spec}}}));
    let template = Subject::of(&deployment, None).unwrap();
    assert!(!template.is_live());
    let expected = listed(&[("name", "shop", 0o644), ("uid", "", 0o644)]);
    assert_eq!(collected(&template, &Known::default()), Ok(expected));
}

/// A volume can repeat the description of a pod as often as it likes, but not without end.
#[test]
fn the_sum_of_what_is_made_is_limited() {
    let item = |n: usize| json!({"path": n.to_string(), "fieldRef": {"fieldPath": "metadata.annotations"}});
    let large = json!({"annotations": {"a": "\u{1}".repeat(200 << 10)}});
    let few = pod(large.clone(), (0..8).map(item).collect());
    assert_eq!(collected(&few, &Known::default()).map(|files| files.len()), Ok(8));
    let many = pod(large, (0..100).map(item).collect());
    assert_eq!(refused(&many, &Known::default()), [Problem::TooLarge { what: "the volume".into(), limit: 16 << 20 }]);
}

#[test]
fn the_node_is_asked_for_only_where_it_has_the_answer() {
    let with = |field: &str, limits: Json| {
        let resource = json!({"containerName": "c", "resource": field});
        let pod = subject(json!({"spec": {
            "nodeName": "n1", "containers": [{"name": "c", "resources": {"limits": limits}}],
            "volumes": [{"name": "v", "downwardAPI": {"items": [{"path": "f", "resourceFieldRef": resource}]}}],
        }}));
        needs(&pod, &pod.pod.spec.volumes[0]).objects.into_iter().next()
    };
    assert_eq!(with("limits.cpu", json!({})), Some(id(Kind::Node, "n1")));
    assert_eq!(with("limits.memory", json!({"memory": "0"})), Some(id(Kind::Node, "n1")));
    for (field, limits) in [
        ("limits.cpu", json!({"cpu": 1})),
        ("requests.cpu", json!({})),
        ("limits.hugepages-2Mi", json!({})),
        ("limits.gpu", json!({})),
    ] {
        assert_eq!(with(field, limits), None, "{field}");
    }
}
