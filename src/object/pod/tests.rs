use serde_json::json;

use super::*;
use crate::object::{Body, Kind, body_from_value};

fn pod(kind: Kind, json: serde_json::Value) -> Pod {
    match body_from_value(kind, json) {
        Ok(Body::Pod(pod)) => *pod,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pod_is_read_with_its_nulls() {
    let json = json!({
        "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}, "managedFields": [1]},
        "spec": {
            "nodeName": "n1", "tolerations": null, "initContainers": null, "priority": 7,
            "securityContext": {"runAsUser": 1000, "fsGroup": 2000},
            "containers": [{
                "name": "web", "image": "nginx", "securityContext": {},
                "volumeMounts": [{"name": "v", "mountPath": "/tmp/mysec", "subPathExpr": "$(POD)", "readOnly": true}],
                "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"name": "X", "value": ""}],
                "resources": {"limits": {"cpu": 2, "memory": "64Mi"}},
            }],
            "volumes": [
                {"name": "v", "secret": {"secretName": "mysecret", "defaultMode": 256, "optional": true}},
                {"name": "none"},
                {"name": "disk", "persistentVolumeClaim": {"claimName": "x"}},
                {"name": "p", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                    {"clusterTrustBundle": {"signerName": "example.com/a", "labelSelector": {}, "path": "ca"}},
                    {"podCertificate": {"signerName": "example.com/a"}},
                ]}},
            ],
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]},
    });
    let pod = pod(Kind::Pod, json);
    assert_eq!(pod.annotations["c"].as_bytes(), b"d");
    assert_eq!((pod.spec.security_context.run_as_user, pod.spec.security_context.fs_group), (Some(1000), Some(2000)));
    let container = &pod.spec.containers[0];
    assert_eq!(container.volume_mounts[0].sub_path_expr, "$(POD)");
    assert_eq!(container.env[1].value.as_ref().map(Value::len), Some(0));
    assert_eq!(container.resources.limits["cpu"], Quantity("2".into()));
    let VolumeSource::Secret(secret) = &pod.spec.volumes[0].source else { panic!("{:?}", pod.spec.volumes[0]) };
    assert_eq!((secret.name.as_str(), secret.default_mode, secret.optional), ("mysecret", Some(0o400), true));
    assert_eq!(pod.spec.volumes[1].source, VolumeSource::Other { kind: "emptyDir".into(), in_memory: false });
    assert_eq!(
        pod.spec.volumes[2].source,
        VolumeSource::Other { kind: "persistentVolumeClaim".into(), in_memory: false }
    );
    let VolumeSource::Projected(projected) = &pod.spec.volumes[3].source else { panic!("{:?}", pod.spec.volumes[3]) };
    assert_eq!(
        projected.sources[0].service_account_token.as_ref().and_then(|token| token.expiration_seconds),
        Some(3607)
    );
    assert_eq!(
        projected.sources[2]
            .cluster_trust_bundle
            .as_ref()
            .and_then(|bundle| bundle.label_selector.as_ref())
            .map(|s| s.match_labels.len()),
        Some(0)
    );
    assert!(projected.sources[3].pod_certificate && !projected.sources[0].pod_certificate);
    assert_eq!(pod.status.pod_ips[0].ip, "10.0.0.1");
}

#[test]
fn a_workload_is_read_as_the_pod_that_it_makes() {
    let template = json!({"metadata": {"labels": {"app": "web"}, "creationTimestamp": null}, "spec": {"containers": [{"name": "c"}]}});
    let deployment = json!({"metadata": {"labels": {"app": "other"}}, "spec": {"replicas": 3, "template": template}});
    let made = pod(Kind::Deployment, deployment);
    assert_eq!((made.labels["app"].as_str(), made.spec.containers.len()), ("web", 1));
    let cron = json!({"spec": {"jobTemplate": {"spec": {"template": template}}}});
    assert_eq!(pod(Kind::CronJob, cron), made);
}

#[test]
fn a_field_of_another_type_is_an_error_without_its_content() {
    let error = body_from_value(Kind::Pod, json!({"spec": {"volumes": "planted"}})).unwrap_err().to_string();
    assert!(error.contains("a Pod with an invalid field") && !error.contains("planted"), "{error}");
}
