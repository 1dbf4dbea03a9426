//! third_party/forked/golang/expansion/expand_test.go, and what pkg/kubelet/kubelet_pods.go says of variables.

use serde_json::{Value as Json, json};

use crate::object::{Body, Data, Key, Kind, Value};
use crate::pod::expand::{Piece, pieces};
use crate::pod::testing::{Known, id, object, read, subject};
use crate::pod::{Have, Problem, mount_needs, mounts};

/// `Expand` with the variables of its test (`MappingFuncFor`).
fn expanded(text: &str) -> String {
    let values = [("VAR_A", "A"), ("VAR_B", "B"), ("VAR_C", "C"), ("VAR_REF", "$(VAR_A)"), ("VAR_EMPTY", "")];
    let piece = |piece| match piece {
        Piece::Text(text) => text,
        Piece::Reference(name, written) => {
            values.iter().find(|(key, _)| *key == name).map_or(written, |(_, value)| value)
        }
    };
    pieces(text).into_iter().map(piece).collect()
}

#[test]
fn references_are_expanded_as_by_the_kubelet() {
    let table = [
        ("$(VAR_A)", "A"),
        ("$(VAR_A)-$(VAR_A)", "A-A"),
        ("$(VAR_A)-1", "A-1"),
        ("___$(VAR_B)___", "___B___"),
        ("___$(VAR_C)", "___C"),
        ("$(VAR_A)_$(VAR_B)_$(VAR_C)", "A_B_C"),
        ("$$(VAR_B)_$(VAR_A)", "$(VAR_B)_A"),
        ("$$(VAR_A)_$$(VAR_B)", "$(VAR_A)_$(VAR_B)"),
        ("f000-$$VAR_A", "f000-$VAR_A"),
        ("foo\\$(VAR_C)bar", "foo\\Cbar"),
        ("foo\\\\$(VAR_C)bar", "foo\\\\Cbar"),
        ("foo\\\\\\\\$(VAR_A)bar", "foo\\\\\\\\Abar"),
        ("$(VAR_A$(VAR_B))", "$(VAR_A$(VAR_B))"),
        ("$(VAR_A$(VAR_B)", "$(VAR_A$(VAR_B)"),
        ("$(VAR_REF)", "$(VAR_A)"),
        ("%%$(VAR_REF)--$(VAR_REF)%%", "%%$(VAR_A)--$(VAR_A)%%"),
        ("foo$(VAR_EMPTY)bar", "foobar"),
        ("foo$(VAR_Awhoops!", "foo$(VAR_Awhoops!"),
        ("f00__(VAR_A)__", "f00__(VAR_A)__"),
        ("$?_boo_$!", "$?_boo_$!"),
        ("$VAR_A", "$VAR_A"),
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("$$$$$$(BIG_MONEY)", "$$$(BIG_MONEY)"),
        ("$$$$$$(VAR_A)", "$$$(VAR_A)"),
        ("$$$$$$$(GOOD_ODDS)", "$$$$(GOOD_ODDS)"),
        ("$$$$$$$(VAR_A)", "$$$A"),
        ("$VAR_A)", "$VAR_A)"),
        ("${VAR_A}", "${VAR_A}"),
        ("$(VAR_B)_______$(A", "B_______$(A"),
        ("$(VAR_C)_______$(", "C_______$("),
        ("$(VAR_A)foobarzab$", "Afoobarzab$"),
        ("foo-\\$(VAR_A", "foo-\\$(VAR_A"),
        ("--$($($($($--", "--$($($($($--"),
        ("$($($($($--foo$(", "$($($($($--foo$("),
        ("foo0--$($($($(", "foo0--$($($($("),
        ("$(foo$$var)", "$(foo$$var)"),
        ("\n", "\n"),
        ("$£FOO", "$£FOO"),
        ("prefix-$€-suffix", "prefix-$€-suffix"),
        ("$中文", "$中文"),
    ];
    for (text, expected) in table {
        assert_eq!(expanded(text), expected, "{text}");
    }
}

/// The subPath that the expression becomes in a container with these variables, or what is wrong.
fn sub_path(expression: &str, container: Json, known: &Known) -> Result<String, Vec<Problem>> {
    let mut container = container;
    container["name"] = json!("c");
    container["volumeMounts"] = json!([{"name": "v", "mountPath": "/m", "subPathExpr": expression}]);
    let pod = subject(json!({
        "metadata": {"labels": {"app": "shop"}, "annotations": {"a": "note"}},
        "spec": {
            "nodeName": "n1", "serviceAccountName": "sa", "containers": [container, {"name": "d"}], "initContainers": [{"name": "i"}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
        "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "hostIP": "192.0.2.1"},
    }));
    let found = mounts(&pod, &pod.pod.spec.containers[0], known);
    match found.mounts.into_iter().next() {
        Some(mount) if found.problems.is_empty() => Ok(mount.sub_path),
        _ => Err(found.problems),
    }
}

#[test]
fn variables_are_taken_from_everywhere() {
    let env = |env: Json| json!({"env": env});
    let field = |path: &str| env(json!([{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}]));
    let known = || {
        Known::default()
            .data(Kind::Secret, "s", &[("key", "secret"), ("X", "all")])
            .data(Kind::ConfigMap, "m", &[("key", "map"), ("X", "map-all")])
            .with(read(Kind::Node, "n1", json!({"status": {"allocatable": {"cpu": "4"}}})))
    };
    let secret = |key: &str, optional: bool| json!({"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": key, "optional": optional}}});
    let cpu = |container: &str| {
        env(
            json!([{"name": "X", "valueFrom": {"resourceFieldRef": {"containerName": container, "resource": "limits.cpu"}}}]),
        )
    };
    let table = [
        (env(json!([{"name": "X", "value": "plain"}])), "plain"),
        (env(json!([{"name": "X", "value": "1"}, {"name": "X", "value": "2"}])), "2"),
        (env(json!([{"name": "Y", "value": "y"}, {"name": "X", "value": "$(Y)-$(Z)"}])), "y-$(Z)"),
        // What is defined later is not known yet.
        (env(json!([{"name": "X", "value": "$(Y)"}, {"name": "Y", "value": "y"}])), "$(Y)"),
        (env(json!([{"name": "X", "value": "a"}, {"name": "X", "value": "$(X)b"}])), "ab"),
        (field("metadata.name"), "web"),
        (field("metadata.labels['app']"), "shop"),
        (field("metadata.annotations['a']"), "note"),
        (field("spec.nodeName"), "n1"),
        (field("spec.serviceAccountName"), "sa"),
        (field("status.podIP"), "10.0.0.1"),
        (field("status.podIPs"), "10.0.0.1,fd00::1"),
        (field("status.hostIP"), "192.0.2.1"),
        (field("status.hostIPs"), "192.0.2.1"),
        (env(json!([secret("key", false)])), "secret"),
        (env(json!([{"name": "X", "value": "kept"}, secret("absent", true)])), "kept"),
        (env(json!([{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "key"}}}])), "map"),
        // Text goes before a source.
        (
            env(json!([{"name": "X", "value": "text", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}])),
            "text",
        ),
        (json!({"envFrom": [{"secretRef": {"name": "s"}}]}), "all"),
        (json!({"envFrom": [{"secretRef": {"name": "s"}}, {"configMapRef": {"name": "m"}}]}), "map-all"),
        (json!({"envFrom": [{"secretRef": {"name": "s"}}], "env": [{"name": "X", "value": "own"}]}), "own"),
        (
            json!({"envFrom": [{"prefix": "P_", "secretRef": {"name": "s"}}], "env": [{"name": "X", "value": "$(P_key)"}]}),
            "secret",
        ),
        (
            json!({"envFrom": [{"secretRef": {"name": "absent", "optional": true}}], "env": [{"name": "X", "value": "x"}]}),
            "x",
        ),
        (cpu(""), "4"),
        (cpu("d"), "4"),
        // An init container's limit is never the node's here.
        (cpu("i"), "0"),
    ];
    for (container, expected) in table {
        assert_eq!(sub_path("$(X)", container.clone(), &known()).as_deref(), Ok(expected), "{container}");
    }
}

#[test]
fn a_variable_without_a_value_is_told() {
    let no_value = |variables: &str, expression: &str| {
        vec![Problem::NoValue { container: "c".into(), sub_path: expression.into(), variables: variables.into() }]
    };
    let known = Known::default();
    assert_eq!(sub_path("$(Y)/$(X)", json!({}), &known), Err(no_value("X, Y", "$(Y)/$(X)")));
    let empty = json!({"env": [{"name": "X", "value": ""}]});
    assert_eq!(sub_path("a$(X)", empty, &known), Err(no_value("X", "a$(X)")));
    let optional =
        json!({"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}}]});
    assert_eq!(sub_path("$(X)", optional, &known), Err(no_value("X", "$(X)")));
    let missing = json!({"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]});
    assert_eq!(
        sub_path("$(X)", missing.clone(), &known),
        Err(vec![Problem::Missing { object: id(Kind::Secret, "s") }])
    );
    let without_key = Known::default().data(Kind::Secret, "s", &[]);
    let key = Problem::MissingKey { object: id(Kind::Secret, "s"), key: "k".into() };
    assert_eq!(sub_path("$(X)", missing.clone(), &without_key), Err(vec![key]));
    let denied = Known::default().without(Kind::Secret, "s", Have::Refused("denied".into()));
    assert_eq!(sub_path("$(X)", missing, &denied), Err(vec![Problem::Refused("denied".into())]));
    let field = json!({"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}}]});
    assert!(matches!(&sub_path("$(X)", field, &known).unwrap_err()[..], [Problem::UnknownField { .. }]));
}

/// A value that makes a bad path is not in the message.
#[test]
fn values_are_not_told() {
    for value in ["/planted", "planted/../x", "planted\0", &"planted".repeat(2000)] {
        let env = json!({"env": [{"name": "X", "value": value}]});
        let problems = sub_path("$(X)", env, &Known::default()).unwrap_err();
        assert!(matches!(&problems[..], [Problem::BadSubPath { .. }]), "{problems:?}");
        assert!(!format!("{problems:?} {}", problems[0]).contains("planted"));
    }
}

/// Thirty lines that would make a gigabyte.
#[test]
fn variables_do_not_grow_without_end() {
    let mut env = vec![json!({"name": "V0", "value": "0123456789"})];
    env.extend((1..30).map(|n| json!({"name": format!("V{n}"), "value": format!("$(V{0})$(V{0})", n - 1)})));
    let problems = sub_path("$(V29)", json!({"env": env}), &Known::default()).unwrap_err();
    assert!(matches!(&problems[0], Problem::TooLarge { limit: 131_072, .. }), "{problems:?}");
}

/// `binaryData` is never a variable.
#[test]
fn binary_data_is_no_variable() {
    let data = Data { values: [(Key::new("X").unwrap(), Value::copy_of(b"x"))].into(), ..Data::default() };
    let binary = Data { binary: [Key::new("X").unwrap()].into(), ..data };
    let known = Known::default().with(object(Kind::ConfigMap, "m", Body::Data(binary)));
    let from = json!({"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "X"}}}]});
    let missing = Problem::MissingKey { object: id(Kind::ConfigMap, "m"), key: "X".into() };
    assert_eq!(sub_path("$(X)", from, &known), Err(vec![missing]));
    let all = json!({"envFrom": [{"configMapRef": {"name": "m"}}]});
    assert!(matches!(&sub_path("$(X)", all, &known).unwrap_err()[..], [Problem::NoValue { .. }]));
}

/// Only what a path is made of is asked for.
#[test]
fn needs_are_those_of_the_path_alone() {
    let container = json!({
        "name": "c",
        "envFrom": [{"secretRef": {"name": "all"}}, {"prefix": "P_", "secretRef": {"name": "prefixed"}}],
        "env": [
            {"name": "UNUSED", "valueFrom": {"secretKeyRef": {"name": "unused", "key": "k"}}},
            {"name": "BASE", "valueFrom": {"configMapKeyRef": {"name": "base", "key": "k"}}},
            {"name": "X", "valueFrom": {"secretKeyRef": {"name": "covered", "key": "k"}}},
            {"name": "X", "value": "$(BASE)-$(P_A)"},
        ],
        "volumeMounts": [{"name": "v", "mountPath": "/a", "subPathExpr": "$(X)"}, {"name": "v", "mountPath": "/b", "subPath": "$(UNUSED)"}],
    });
    let pod = subject(json!({"spec": {"containers": [container], "volumes": [{"name": "v"}]}}));
    let needs = mount_needs(&pod, &pod.pod.spec.containers[0]);
    let expected = [id(Kind::Secret, "all"), id(Kind::Secret, "prefixed"), id(Kind::ConfigMap, "base")];
    assert_eq!(needs, expected.into_iter().collect());
}
