//! What plugin/pkg/admission/serviceaccount/admission_test.go says of automounting.

use serde_json::{Value as Json, json};

use crate::object::pod::{Container, PodSpec, VolumeSource};
use crate::object::{Kind, Object, Pod, Value};
use crate::pod::testing::{Known, collected, id, read, subject};
use crate::pod::{Have, Subject, inject, mounts, needs};

const PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn pod(spec: Json) -> Pod {
    read(Kind::Pod, "web", json!({"spec": spec})).pod().expect("a pod").clone()
}

fn injected(spec: Json, account: Option<bool>) -> PodSpec {
    let mut pod = pod(spec);
    inject(&mut pod, account, false);
    pod.spec
}

fn paths(container: &Container) -> Vec<&str> {
    container.volume_mounts.iter().map(|mount| mount.mount_path.as_str()).collect()
}

/// TestAutomountsAPIToken: the pod's word goes before the ServiceAccount's.
#[test]
fn the_pod_decides_then_its_account() {
    let cases = [
        (None, None, true),
        (None, Some(true), true),
        (None, Some(false), false),
        (Some(true), Some(false), true),
        (Some(true), None, true),
        (Some(false), Some(true), false),
        (Some(false), None, false),
    ];
    for (own, account, mounted) in cases {
        let spec = json!({"automountServiceAccountToken": own, "containers": [{"name": "c"}]});
        let spec = injected(spec, account);
        assert_eq!(spec.volumes.len(), usize::from(mounted), "{own:?} {account:?}");
        assert_eq!(paths(&spec.containers[0]).len(), usize::from(mounted));
        assert_eq!(spec.service_account_name, "default");
    }
}

#[test]
fn every_container_but_ephemeral_ones_mounts_it() {
    let spec = json!({
        "serviceAccountName": "own", "initContainers": [{"name": "i"}], "containers": [{"name": "c"}],
        "ephemeralContainers": [{"name": "e"}],
    });
    let spec = injected(spec, None);
    assert_eq!((paths(&spec.init_containers[0]), paths(&spec.containers[0])), (vec![PATH], vec![PATH]));
    assert!(spec.ephemeral_containers[0].volume_mounts.is_empty());
    assert!(spec.volumes[0].name.starts_with("kube-api-access-"));
    assert_eq!(spec.service_account_name, "own");
}

/// TestRespectsExistingMount: what is at that very path stays, and no volume is added without need.
#[test]
fn an_existing_mount_stays() {
    let mounted = json!([{"name": "mine", "mountPath": PATH}]);
    let spec = injected(json!({"containers": [{"name": "c", "volumeMounts": mounted}]}), None);
    assert!(spec.volumes.is_empty());
    assert_eq!(spec.containers[0].volume_mounts[0].name, "mine");
    let spec = injected(json!({"containers": [{"name": "c", "volumeMounts": mounted}, {"name": "d"}]}), None);
    assert_eq!((spec.volumes.len(), paths(&spec.containers[1])), (1, vec![PATH]));
}

#[test]
fn an_existing_volume_is_used_again() {
    let spec = json!({"volumes": [{"name": "kube-api-access-x", "emptyDir": {}}], "containers": [{"name": "c"}]});
    let spec = injected(spec, None);
    assert_eq!((spec.volumes.len(), spec.containers[0].volume_mounts[0].name.as_str()), (1, "kube-api-access-x"));
    let mut again = Pod { spec: spec.clone(), ..Pod::default() };
    inject(&mut again, None, false);
    assert_eq!(again.spec, spec);
}

/// Only what no API server has admitted: a pod in a cluster has all that it should.
#[test]
fn a_live_pod_is_left_alone() {
    let json = json!({"spec": {"containers": [{"name": "c"}]}});
    let live = subject(json.clone());
    assert!(live.is_live() && live.pod.spec.volumes.is_empty());
    let mut declared: Object = (*read(Kind::Pod, "web", json)).clone();
    declared.meta.uid = crate::object::Meta::declared_uid(&declared.meta.id);
    let declared = Subject::of(&declared, None).unwrap();
    assert!(!declared.is_live() && declared.uid.is_empty());
    assert_eq!(declared.pod.spec.volumes.len(), 1);
    assert!(Subject::of(&read(Kind::ServiceAccount, "default", json!({})), None).is_none());
}

/// `TokenVolumeSource`: three files, of which the certificates are needed.
#[test]
fn the_volume_has_token_certificates_and_namespace() {
    let deployment = json!({"spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}});
    let mut template = Subject::of(&read(Kind::Deployment, "web", deployment), Some(true)).unwrap();
    let found = mounts(&template, &template.pod.spec.containers[0], &Known::default());
    assert_eq!(found.mounts[0].path, PATH[1..]);
    let mut pod = (*template.pod).clone();
    let VolumeSource::Projected(source) = &pod.spec.volumes[0].source else { panic!("{:?}", pod.spec.volumes) };
    assert_eq!(source.default_mode, Some(0o644));
    let needs = needs(&template, &pod.spec.volumes[0]);
    assert_eq!(needs.objects.into_iter().collect::<Vec<_>>(), [id(Kind::ConfigMap, "kube-root-ca.crt")]);
    let ask = needs.tokens.into_iter().next().expect("a token");
    assert_eq!((ask.expiration_seconds, ask.audience.as_str(), ask.service_account.as_str()), (3607, "", "default"));
    assert_eq!(ask.pod, None, "there is no pod to bind it to");
    pod.spec.volumes[0].name = "v".to_owned();
    template.pod = pod.into();
    let known = Known::default()
        .data(Kind::ConfigMap, "kube-root-ca.crt", &[("ca.crt", "CA"), ("other", "x")])
        .token(ask, Have::Ready(Some(Value::copy_of(b"t"))));
    let files = collected(&template, &known).unwrap();
    let files: Vec<_> = files.iter().map(|(path, bytes, mode, _)| (path.as_str(), bytes.as_str(), *mode)).collect();
    assert_eq!(files, [("ca.crt", "CA", 0o644), ("namespace", "ns", 0o644), ("token", "t", 0o644)]);
}
