//! The kinds of objects that are read.

use std::str::FromStr;

/// A kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Secret,
    ConfigMap,
    Pod,
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
    Job,
    CronJob,
    /// What a template's pods run as; tells whether they get a token.
    ServiceAccount,
    /// Certificates for projected volumes.
    ClusterTrustBundle,
    /// What it can give is the limit of containers that have none.
    Node,
}

/// What the API calls a kind.
struct Names {
    api: &'static str,
    version: &'static str,
    plural: &'static str,
    /// The word that messages show and that kubectl takes; for most the singular.
    short: &'static str,
}

impl Kind {
    /// The kinds whose keys become files.
    pub const DATA: [Kind; 2] = [Kind::Secret, Kind::ConfigMap];
    /// The kinds that a view of names can show.
    pub const SHOWN: [Kind; 3] = [Kind::Secret, Kind::ConfigMap, Kind::Pod];

    /// All that are read.
    pub const ALL: [Kind; 12] = [
        Kind::Secret,
        Kind::ConfigMap,
        Kind::Pod,
        Kind::Deployment,
        Kind::StatefulSet,
        Kind::DaemonSet,
        Kind::ReplicaSet,
        Kind::Job,
        Kind::CronJob,
        Kind::ServiceAccount,
        Kind::ClusterTrustBundle,
        Kind::Node,
    ];

    fn names(self) -> Names {
        let (api, version, plural, short) = match self {
            Kind::Secret => ("Secret", "v1", "secrets", "secret"),
            Kind::ConfigMap => ("ConfigMap", "v1", "configmaps", "cm"),
            Kind::Pod => ("Pod", "v1", "pods", "pod"),
            Kind::Deployment => ("Deployment", "apps/v1", "deployments", "deploy"),
            Kind::StatefulSet => ("StatefulSet", "apps/v1", "statefulsets", "sts"),
            Kind::DaemonSet => ("DaemonSet", "apps/v1", "daemonsets", "ds"),
            Kind::ReplicaSet => ("ReplicaSet", "apps/v1", "replicasets", "rs"),
            Kind::Job => ("Job", "batch/v1", "jobs", "job"),
            Kind::CronJob => ("CronJob", "batch/v1", "cronjobs", "cronjob"),
            Kind::ServiceAccount => ("ServiceAccount", "v1", "serviceaccounts", "sa"),
            Kind::ClusterTrustBundle => {
                ("ClusterTrustBundle", "certificates.k8s.io/v1", "clustertrustbundles", "clustertrustbundle")
            }
            Kind::Node => ("Node", "v1", "nodes", "node"),
        };
        Names { api, version, plural, short }
    }

    /// The resource name in API paths and RBAC rules, and the directory name of the kind level: `secrets`.
    pub fn plural(self) -> &'static str {
        self.names().plural
    }

    /// The `kind:` of a manifest.
    pub fn api_kind(self) -> &'static str {
        self.names().api
    }

    /// The `apiVersion:` of a manifest: `v1`, `apps/v1`.
    pub fn api_version(self) -> &'static str {
        self.names().version
    }

    /// The API group, as RBAC rules name it: empty for the core group.
    pub fn group(self) -> &'static str {
        self.api_version().rsplit_once('/').map_or("", |(group, _)| group)
    }

    /// The short singular that users type and that messages show: `secret/NAME`, `cm/NAME`.
    pub fn short(self) -> &'static str {
        self.names().short
    }

    /// Whether its objects are in namespaces.
    pub fn is_namespaced(self) -> bool {
        !matches!(self, Kind::ClusterTrustBundle | Kind::Node)
    }

    /// Whether its objects are Secrets or ConfigMaps: keys with values.
    pub fn has_data(self) -> bool {
        Kind::DATA.contains(&self)
    }

    /// Whether its objects can be shown as directories with files.
    pub fn is_shown(self) -> bool {
        self.has_data() || self.has_pod()
    }

    /// Whether its objects make pods from a template.
    pub fn is_workload(self) -> bool {
        use Kind::{CronJob, DaemonSet, Deployment, Job, ReplicaSet, StatefulSet};
        matches!(self, Deployment | StatefulSet | DaemonSet | ReplicaSet | Job | CronJob)
    }

    /// Whether its objects say which files containers see: pods, and what makes pods.
    pub fn has_pod(self) -> bool {
        self == Kind::Pod || self.is_workload()
    }

    /// The kind that a manifest's `apiVersion` and `kind` name.
    pub fn of_manifest(api_version: &str, kind: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|of| of.api_version() == api_version && of.api_kind() == kind)
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Accepts what kubectl accepts: singular, plural and short names, in any case.
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let word = text.to_ascii_lowercase();
        let is = |kind: &Kind| {
            let Names { api, plural, short, .. } = kind.names();
            let more = match kind {
                Kind::Pod => "po",
                Kind::CronJob => "cj",
                Kind::Node => "no",
                _ => plural,
            };
            word == plural || word == short || word == more || word == api.to_ascii_lowercase()
        };
        Kind::ALL.into_iter().find(is).ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

/// Indicates a kind that has no files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind {0:?}: use secret, configmap (cm), pod, deploy, sts, ds, rs, job, cronjob or node")]
pub struct UnknownKind(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_found_by_every_name_that_kubectl_takes() {
        for kind in Kind::ALL {
            for word in [kind.short(), kind.plural(), kind.api_kind()] {
                assert_eq!(word.parse(), Ok(kind));
            }
            assert_eq!(Kind::of_manifest(kind.api_version(), kind.api_kind()), Some(kind));
        }
        assert_eq!("Po".parse(), Ok(Kind::Pod));
        assert!("pvc".parse::<Kind>().is_err());
        assert_eq!(Kind::of_manifest("v1", "Deployment"), None);
        assert_eq!((Kind::Deployment.group(), Kind::Secret.group()), ("apps", ""));
    }
}
