//! What has to be known before a volume's files can be.

use std::collections::BTreeSet;

use super::{Subject, TokenAsk, mount_needs, resources};
use crate::object::pod::{DownwardSource, PodVolume, Projection, SecretSource, TrustBundleSource, VolumeSource};
use crate::object::{Kind, ObjectId};

/// What [`collect`](super::collect) will ask its [`Lookup`](super::Lookup) for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub objects: BTreeSet<ObjectId>,
    pub tokens: BTreeSet<TokenAsk>,
    /// All ClusterTrustBundles.
    pub bundles: bool,
}

/// What the files of `volume` need. What the pod names wrongly is not among it: that is a
/// [`Problem`](super::Problem) of [`collect`](super::collect).
pub fn needs(subject: &Subject, volume: &PodVolume) -> Needs {
    let mut needs = Needs::default();
    match &volume.source {
        VolumeSource::Secret(source) => needs.keys(subject, Kind::Secret, source),
        VolumeSource::ConfigMap(source) => needs.keys(subject, Kind::ConfigMap, source),
        VolumeSource::DownwardApi(source) => needs.downward(subject, source),
        VolumeSource::Projected(source) => source.sources.iter().for_each(|source| needs.projection(subject, source)),
        VolumeSource::Other { .. } => {}
    }
    needs
}

/// What all files of a pod need: those of the volumes that containers mount, since the kubelet sets up no others, and the paths
/// that are made of variables.
pub fn all_needs(subject: &Subject) -> Needs {
    let mut all = Needs::default();
    for volume in mounted(subject) {
        let Needs { objects, tokens, bundles } = needs(subject, volume);
        all.objects.extend(objects);
        all.tokens.extend(tokens);
        all.bundles |= bundles;
    }
    for (_, container) in subject.pod.spec.all_containers() {
        all.objects.extend(mount_needs(subject, container));
    }
    all
}

/// The volumes that any container names in a mount.
pub fn mounted(subject: &Subject) -> impl Iterator<Item = &PodVolume> {
    let mounts = subject.pod.spec.all_containers().flat_map(|(_, container)| &container.volume_mounts);
    let names: BTreeSet<&str> = mounts.map(|mount| mount.name.as_str()).collect();
    subject.pod.spec.volumes.iter().filter(move |volume| names.contains(volume.name.as_str()))
}

impl Needs {
    fn projection(&mut self, subject: &Subject, source: &Projection) {
        match source {
            Projection { secret: Some(source), .. } => self.keys(subject, Kind::Secret, source),
            Projection { config_map: Some(source), .. } => self.keys(subject, Kind::ConfigMap, source),
            Projection { downward_api: Some(source), .. } => self.downward(subject, source),
            Projection { service_account_token: Some(source), .. } => {
                self.tokens.extend(TokenAsk::of(subject, source));
            }
            Projection { cluster_trust_bundle: Some(source), .. } => self.trust(subject, source),
            _ => {}
        }
    }

    fn keys(&mut self, subject: &Subject, kind: Kind, source: &SecretSource) {
        self.objects.extend(subject.object(kind, &source.name));
    }

    fn downward(&mut self, subject: &Subject, source: &DownwardSource) {
        let items = source.items.iter().filter(|item| item.field_ref.is_none());
        let resources = items.filter_map(|item| item.resource_field_ref.as_ref());
        self.objects.extend(resources.filter_map(|from| resources::volume_needs(subject, from)));
    }

    fn trust(&mut self, subject: &Subject, source: &TrustBundleSource) {
        match &source.name {
            Some(name) => self.objects.extend(subject.object(Kind::ClusterTrustBundle, name)),
            // Without a selector nothing is selected, whatever there is.
            None => self.bundles |= source.signer_name.is_some(),
        }
    }
}
