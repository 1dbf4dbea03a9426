//! The volumes of a pod.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

use super::Quantity;

/// `Volume`: its name, and where its content comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodVolume {
    pub name: String,
    pub source: VolumeSource,
}

/// `VolumeSource`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    Secret(SecretSource),
    ConfigMap(ConfigMapSource),
    DownwardApi(DownwardSource),
    Projected(Projected),
    /// Storage whose content is not the API server's to give: its field's name, `emptyDir`, `persistentVolumeClaim`. A
    /// volume without any source is an emptyDir.
    Other {
        kind: String,
        in_memory: bool,
    },
}

/// `SecretVolumeSource`, or with `name` for `secretName` the `SecretProjection`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SecretSource {
    #[serde(alias = "secretName")]
    pub name: String,
    pub items: Vec<KeyItem>,
    /// 0 to 0777; absent in a projection, whose volume has it.
    pub default_mode: Option<u32>,
    pub optional: bool,
    /// Owner of the files (KEP-5936).
    pub default_user: Option<u32>,
}

/// `ConfigMapVolumeSource`, `ConfigMapProjection`.
pub type ConfigMapSource = SecretSource;

/// `KeyToPath`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct KeyItem {
    pub key: String,
    pub path: String,
    pub mode: Option<u32>,
    pub user: Option<u32>,
}

/// `DownwardAPIVolumeSource`, `DownwardAPIProjection`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DownwardSource {
    pub items: Vec<DownwardItem>,
    pub default_mode: Option<u32>,
    pub default_user: Option<u32>,
}

/// `DownwardAPIVolumeFile`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DownwardItem {
    pub path: String,
    pub field_ref: Option<FieldRef>,
    pub resource_field_ref: Option<ResourceRef>,
    pub mode: Option<u32>,
    pub user: Option<u32>,
}

/// `ObjectFieldSelector`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FieldRef {
    pub field_path: String,
}

/// `ResourceFieldSelector`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResourceRef {
    pub container_name: String,
    pub resource: String,
    pub divisor: Quantity,
}

/// `ProjectedVolumeSource`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Projected {
    pub sources: Vec<Projection>,
    pub default_mode: Option<u32>,
    pub default_user: Option<u32>,
}

/// `VolumeProjection`: one of them is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Projection {
    pub secret: Option<SecretSource>,
    pub config_map: Option<ConfigMapSource>,
    #[serde(rename = "downwardAPI")]
    pub downward_api: Option<DownwardSource>,
    pub service_account_token: Option<TokenSource>,
    pub cluster_trust_bundle: Option<TrustBundleSource>,
    /// `PodCertificateProjection`, of which only that it is there matters.
    #[serde(deserialize_with = "is_there")]
    pub pod_certificate: bool,
}

/// `ServiceAccountTokenProjection`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TokenSource {
    /// Empty: the API server's own.
    pub audience: String,
    /// Seconds. Absent: 3600.
    pub expiration_seconds: Option<u64>,
    pub path: String,
    pub user: Option<u32>,
}

/// `ClusterTrustBundleProjection`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TrustBundleSource {
    pub name: Option<String>,
    pub signer_name: Option<String>,
    /// Absent selects nothing, empty everything.
    pub label_selector: Option<LabelSelector>,
    pub optional: bool,
    pub path: String,
    pub user: Option<u32>,
}

/// `LabelSelector` of apimachinery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LabelSelector {
    pub match_labels: BTreeMap<String, String>,
    pub match_expressions: Vec<Requirement>,
}

/// `LabelSelectorRequirement`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Requirement {
    pub key: String,
    /// In, NotIn, Exists or DoesNotExist.
    pub operator: String,
    pub values: Vec<String>,
}

/// `EmptyDirVolumeSource`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct EmptyDirJson {
    medium: String,
}

/// The fields of a volume in JSON. Whatever else is there names another kind.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct VolumeJson {
    name: String,
    secret: Option<SecretSource>,
    config_map: Option<ConfigMapSource>,
    #[serde(rename = "downwardAPI")]
    downward_api: Option<DownwardSource>,
    projected: Option<Projected>,
    empty_dir: Option<EmptyDirJson>,
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

impl<'de> Deserialize<'de> for PodVolume {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = VolumeJson::deserialize(deserializer)?;
        let source = match json {
            VolumeJson { secret: Some(secret), .. } => VolumeSource::Secret(secret),
            VolumeJson { config_map: Some(config_map), .. } => VolumeSource::ConfigMap(config_map),
            VolumeJson { downward_api: Some(downward), .. } => VolumeSource::DownwardApi(downward),
            VolumeJson { projected: Some(projected), .. } => VolumeSource::Projected(projected),
            VolumeJson { empty_dir, others, .. } => {
                let in_memory = empty_dir.is_some_and(|dir| dir.medium == "Memory");
                VolumeSource::Other {
                    kind: others.into_keys().next().unwrap_or_else(|| "emptyDir".to_owned()),
                    in_memory,
                }
            }
        };
        Ok(PodVolume { name: json.name, source })
    }
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<IgnoredAny>::deserialize(deserializer)?.is_some())
}
