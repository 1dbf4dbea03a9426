//! What objects of other kinds than Secrets and ConfigMaps say.
//!
//! These are read in two steps, because Go takes a null for an absent field, and templates of manifests are full of them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::{DecodeError, MetadataJson, PartialJson, invalid, parse};
use crate::object::pod::{PodSpec, PodStatus};
use crate::object::{Body, Kind, Object, Pod, Quantity, TrustBundle, Value};

pub(super) fn object(kind: Kind, metadata: MetadataJson, bytes: &[u8]) -> Result<Object, DecodeError> {
    let meta = metadata.meta(kind, &mut None)?;
    Ok(Object { meta, body: body_from_value(kind, parse(kind.api_kind(), bytes)?)? })
}

/// An item of a list, which need not repeat what it is.
pub(super) fn item(kind: Kind, raw: &RawValue) -> Result<Object, DecodeError> {
    let bytes = raw.get().as_bytes();
    let json: PartialJson = parse(kind.api_kind(), bytes)?;
    let missing = DecodeError::Missing { kind: kind.api_kind(), field: "metadata" };
    object(kind, json.metadata.ok_or(missing)?, bytes)
}

/// Reads what an object of `kind` says, other than a Secret or ConfigMap, without asking who it is.
pub fn body_from_value(kind: Kind, mut json: Json) -> Result<Body, DecodeError> {
    drop_nulls(&mut json);
    let of = kind.api_kind();
    match kind {
        Kind::Secret | Kind::ConfigMap => Err(DecodeError::OtherKind { expected: "Pod", version: "v1" }),
        Kind::Pod => Ok(Body::Pod(Box::new(read::<PodJson>(of, json)?.into()))),
        Kind::CronJob => {
            let Workload { spec } = read::<Workload<JobTemplate>>(of, json)?;
            Ok(Body::Pod(Box::new(spec.job_template.spec.template.into())))
        }
        Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet | Kind::ReplicaSet | Kind::Job => {
            Ok(Body::Pod(Box::new(read::<Workload<Template>>(of, json)?.spec.template.into())))
        }
        Kind::ServiceAccount => {
            Ok(Body::ServiceAccount { automount: read::<ServiceAccount>(of, json)?.automount_service_account_token })
        }
        Kind::ClusterTrustBundle => {
            let TrustBundleJson { metadata, spec } = read(of, json)?;
            let bundle =
                TrustBundle { labels: metadata.labels, signer: spec.signer_name, certificates: spec.trust_bundle };
            Ok(Body::TrustBundle(bundle))
        }
        Kind::Node => Ok(Body::Node { allocatable: read::<NodeJson>(of, json)?.status.allocatable }),
    }
}

// serde_json's message would quote the input.
fn read<T: for<'de> Deserialize<'de>>(kind: &'static str, json: Json) -> Result<T, DecodeError> {
    T::deserialize(json).map_err(|_| invalid(kind, "field (of another type than the API's)"))
}

fn drop_nulls(json: &mut Json) {
    match json {
        Json::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Json::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodJson {
    metadata: PodMetadata,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodMetadata {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl From<PodJson> for Pod {
    fn from(json: PodJson) -> Self {
        let PodJson { metadata, spec, status } = json;
        let annotations = metadata.annotations.into_iter();
        let annotations = annotations.map(|(key, text)| (key, Value::new(text.into_bytes()))).collect();
        Pod { labels: metadata.labels, annotations, spec, status }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Workload<S: Default> {
    spec: S,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Template {
    template: PodJson,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JobTemplate {
    job_template: Workload<Template>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ServiceAccount {
    automount_service_account_token: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TrustBundleJson {
    metadata: PodMetadata,
    spec: TrustBundleSpec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TrustBundleSpec {
    signer_name: String,
    trust_bundle: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeJson {
    status: NodeStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    allocatable: BTreeMap<String, Quantity>,
}
