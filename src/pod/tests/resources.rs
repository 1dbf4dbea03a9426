//! TestExtractResourceValue of pkg/api/v1/resource/helpers_test.go, and the numbers of the e2e tests of downward API volumes.

use serde_json::{Value as Json, json};

use crate::object::Kind;
use crate::pod::testing::{Known, collected, id, read, refused, subject};
use crate::pod::{Have, Problem, Subject};

fn pod(node: &str, resources: Json, from: Json) -> Subject {
    subject(json!({"spec": {
        "nodeName": node,
        "containers": [{"name": "c", "resources": resources}],
        "initContainers": [{"name": "init", "resources": resources}],
        "volumes": [{"name": "v", "downwardAPI": {"items": [{"path": "f", "resourceFieldRef": from}]}}],
    }}))
}

fn known() -> Known {
    let allocatable = json!({"cpu": "4", "memory": "8Gi", "hugepages-2Mi": "1Gi"});
    Known::default().with(read(Kind::Node, "n1", json!({"status": {"allocatable": allocatable}})))
}

#[test]
fn numbers_are_rounded_up_after_division() {
    let limits = |limits: Json| json!({"limits": limits});
    let requests = |requests: Json| json!({"requests": requests});
    let table = [
        (limits(json!({"cpu": "9"})), "limits.cpu", "", "9"),
        (requests(json!({})), "requests.cpu", "", "0"),
        (requests(json!({"cpu": "8"})), "requests.cpu", "", "8"),
        (requests(json!({"cpu": "100m"})), "requests.cpu", "", "1"),
        (requests(json!({"cpu": "1200m"})), "requests.cpu", "100m", "12"),
        (requests(json!({"memory": "100Mi"})), "requests.memory", "", "104857600"),
        (requests(json!({"memory": "100Mi"})), "requests.memory", "1Mi", "100"),
        (requests(json!({"memory": "100Mi"})), "requests.memory", "0", "104857600"),
        (limits(json!({"memory": "100Mi"})), "limits.memory", "", "104857600"),
        (requests(json!({"memory": "1000001"})), "requests.memory", "1M", "2"),
        (requests(json!({"cpu": "1250m"})), "requests.cpu", "1m", "1250"),
        (limits(json!({"cpu": "1250m"})), "limits.cpu", "", "2"),
        (limits(json!({"memory": "64Mi"})), "limits.memory", "1Ki", "65536"),
        (requests(json!({"memory": "32Mi"})), "requests.memory", "", "33554432"),
        (limits(json!({"ephemeral-storage": "1Gi"})), "limits.ephemeral-storage", "1Mi", "1024"),
        (requests(json!({"hugepages-2Mi": "4Mi"})), "requests.hugepages-2Mi", "1Mi", "4"),
        (limits(json!({"hugepages-2Mi": "4Mi"})), "limits.hugepages-2Mi", "", "4194304"),
        // The node's, except for huge pages.
        (limits(json!({})), "limits.cpu", "", "4"),
        (limits(json!({"cpu": "0"})), "limits.cpu", "1m", "4000"),
        (limits(json!({})), "limits.memory", "1Gi", "8"),
        (limits(json!({})), "limits.ephemeral-storage", "", "0"),
        (limits(json!({})), "limits.hugepages-2Mi", "", "0"),
    ];
    for (resources, resource, divisor, expected) in table {
        for container in ["c", "init"] {
            let mut from = json!({"containerName": container, "resource": resource});
            if !divisor.is_empty() {
                from["divisor"] = json!(divisor);
            }
            let files = collected(&pod("n1", resources.clone(), from), &known()).expect(resource);
            assert_eq!(files[0].1, expected, "{resources} {resource} / {divisor:?} of {container}");
        }
    }
}

#[test]
fn what_cannot_be_computed_is_told() {
    let of = |container: &str, resource: &str| json!({"containerName": container, "resource": resource});
    let problem = |node: &str, resources: Json, from: Json, known: Known| {
        let mut problems = refused(&pod(node, resources, from), &known);
        assert_eq!(problems.len(), 1);
        problems.remove(0)
    };
    let resource = |name: &str| Problem::UnknownResource { resource: name.into() };
    for name in ["limits.gpu", "requests.pods", "cpu", "limit.cpu", "limits.", "limits", ""] {
        assert_eq!(problem("n1", json!({}), of("c", name), known()), resource(name));
    }
    let container = Problem::UnknownContainer { container: "x".into() };
    assert_eq!(problem("n1", json!({}), of("x", "limits.cpu"), known()), container);
    let no_node = Problem::NoNode { container: "c".into(), resource: "cpu".into() };
    assert_eq!(problem("", json!({}), of("c", "limits.cpu"), known()), no_node);
    let missing = Problem::Missing { object: id(Kind::Node, "n2") };
    assert_eq!(problem("n2", json!({}), of("c", "limits.cpu"), known()), missing);
    let refusal = known().without(Kind::Node, "n1", Have::Refused("node/n1: access denied".into()));
    assert_eq!(
        problem("n1", json!({}), of("c", "limits.cpu"), refusal),
        Problem::Refused("node/n1: access denied".into())
    );
    for (resources, from) in [
        (json!({"limits": {"cpu": "many"}}), of("c", "limits.cpu")),
        (json!({}), json!({"containerName": "c", "resource": "requests.cpu", "divisor": "1x"})),
    ] {
        assert!(matches!(problem("n1", resources, from, known()), Problem::BadQuantity { .. }));
    }
}
