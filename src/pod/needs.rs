//! What has to be known before a volume's files can be.

use std::collections::BTreeSet;

use super::{Subject, TokenAsk, resources};
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
        VolumeSource::Other(_) => {}
    }
    needs
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
