//! What a pod says about the files in its containers: its volumes, where each container mounts them, and whose files they are.
//!
//! The types are those of the API (`PodSpec`, staging/src/k8s.io/api/core/v1/types.go) without all that has no part in it. A
//! field that is absent, null or empty is the same, as in Go. Values that may be secrets (annotations, variables) are
//! [`Value`]s.

mod volume;

pub use volume::{
    ConfigMapSource, DownwardItem, DownwardSource, FieldRef, KeyItem, LabelSelector, PodVolume, Projected, Projection,
    Requirement, ResourceRef, SecretSource, TokenSource, TrustBundleSource, VolumeSource,
};

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};

use super::Value;

/// A pod, or the template of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, Value>,
    pub spec: PodSpec,
    pub status: PodStatus,
}

/// `PodSpec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    pub node_name: String,
    pub service_account_name: String,
    pub automount_service_account_token: Option<bool>,
    pub security_context: PodSecurity,
    pub init_containers: Vec<Container>,
    pub containers: Vec<Container>,
    pub ephemeral_containers: Vec<Container>,
    pub volumes: Vec<PodVolume>,
    pub host_network: bool,
}

/// `PodSecurityContext`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSecurity {
    pub run_as_user: Option<u32>,
    pub fs_group: Option<u32>,
}

/// `PodStatus`: what variables may show, and whether the pod has run to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// Pending, Running, Succeeded, Failed or Unknown.
    pub phase: String,
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<Ip>,
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    #[serde(rename = "hostIPs")]
    pub host_ips: Vec<Ip>,
}

/// `PodIP`, `HostIP`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Ip {
    pub ip: String,
}

/// `Container` and `EphemeralContainer`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    pub name: String,
    pub volume_mounts: Vec<VolumeMount>,
    pub env: Vec<Variable>,
    pub env_from: Vec<Variables>,
    pub security_context: ContainerSecurity,
    pub resources: Resources,
}

/// `SecurityContext`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerSecurity {
    pub run_as_user: Option<u32>,
}

/// `ResourceRequirements`: quantities as written, by resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub limits: BTreeMap<String, Quantity>,
    pub requests: BTreeMap<String, Quantity>,
}

/// A quantity as it was written: `100m`, `1Gi`, or a number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quantity(pub String);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl serde::de::Visitor<'_> for Any {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity")
            }

            fn visit_str<E>(self, text: &str) -> Result<Quantity, E> {
                Ok(Quantity(text.to_owned()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// `VolumeMount`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VolumeMount {
    /// Of the volume.
    pub name: String,
    pub mount_path: String,
    pub sub_path: String,
    /// A path with `$(VARIABLE)`s of the container in it.
    pub sub_path_expr: String,
}

/// `EnvVar`: a variable of a container, which [`VolumeMount::sub_path_expr`] may name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Variable {
    pub name: String,
    #[serde(deserialize_with = "secret_text")]
    pub value: Option<Value>,
    pub value_from: VariableSource,
}

/// `EnvVarSource`: at most one of them is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VariableSource {
    pub field_ref: Option<FieldRef>,
    pub resource_field_ref: Option<ResourceRef>,
    pub config_map_key_ref: Option<KeyRef>,
    pub secret_key_ref: Option<KeyRef>,
}

/// `SecretKeySelector`, `ConfigMapKeySelector`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct KeyRef {
    pub name: String,
    pub key: String,
    pub optional: bool,
}

/// `EnvFromSource`: all keys of an object as variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Variables {
    pub prefix: String,
    pub config_map_ref: Option<ObjectRef>,
    pub secret_ref: Option<ObjectRef>,
}

/// `SecretEnvSource`, `ConfigMapEnvSource`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ObjectRef {
    pub name: String,
    pub optional: bool,
}

/// Why a container is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Init,
    Main,
    Ephemeral,
}

impl Pod {
    /// Whether its containers have run to their end: the kubelet then takes its volumes down.
    pub fn has_ended(&self) -> bool {
        ["Succeeded", "Failed"].contains(&self.status.phase.as_str())
    }
}

impl PodSpec {
    /// All containers in the order in which the kubelet visits them (`VisitContainers`, pkg/api/v1/pod/util.go).
    pub fn all_containers(&self) -> impl Iterator<Item = (Role, &Container)> {
        let init = self.init_containers.iter().map(|container| (Role::Init, container));
        let main = self.containers.iter().map(|container| (Role::Main, container));
        let ephemeral = self.ephemeral_containers.iter().map(|container| (Role::Ephemeral, container));
        init.chain(main).chain(ephemeral)
    }

    /// The volume of that name.
    pub fn volume(&self, name: &str) -> Option<&PodVolume> {
        self.volumes.iter().find(|volume| volume.name == name)
    }
}

fn secret_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.map(|text| Value::new(text.into_bytes())))
}

#[cfg(test)]
mod tests;
