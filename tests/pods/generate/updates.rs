//! What becomes of generated pods.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::name_of;
use super::objects::{
    ANNOTATIONS, BUNDLE, CONFIG_MAPS, Data, LABELS, SECRETS, annotation, data, label, object, trust_bundle,
};
use crate::pods::case::{Change, Step, reference};

#[derive(Clone, Debug)]
pub enum Update {
    Put(&'static str, &'static str, Data),
    /// If it is there.
    Delete(&'static str, &'static str),
    Bundle(usize),
    Label(&'static str, Option<String>),
    Annotation(&'static str, Option<String>),
    Restart(prop::sample::Index),
    /// With a mount of this volume.
    Ephemeral(prop::sample::Index),
}

impl Update {
    /// Whether nothing of an earlier update at the same time is left: the kubelet would not see it, and who follows each
    /// change might see how its effects come and go.
    fn replaces(&self, earlier: &Update) -> bool {
        let of = |update: &Update| match update {
            Update::Put(kind, name, _) | Update::Delete(kind, name) => Some((*kind, *name)),
            Update::Bundle(_) => Some(("ClusterTrustBundle", BUNDLE)),
            Update::Label(key, _) => Some(("label", *key)),
            Update::Annotation(key, _) => Some(("annotation", *key)),
            Update::Restart(_) | Update::Ephemeral(_) => None,
        };
        of(self).is_some() && of(self) == of(earlier)
    }
}

/// Up to five steps, most of one update, whose events are compared, others of up to three at once or none.
pub fn steps() -> impl Strategy<Value = Vec<Vec<Update>>> {
    let step = prop_oneof![2 => prop::collection::vec(update(), 1), 1 => prop::collection::vec(update(), 0..4)];
    prop::collection::vec(step, 0..6)
}

fn update() -> impl Strategy<Value = Update> {
    let kind = || {
        let secrets = SECRETS.map(|name| ("Secret", name));
        prop::sample::select([secrets, CONFIG_MAPS.map(|name| ("ConfigMap", name))].concat())
    };
    prop_oneof![
        6 => (kind(), data()).prop_map(|((kind, name), data)| Update::Put(kind, name, data)),
        2 => kind().prop_map(|(kind, name)| Update::Delete(kind, name)),
        1 => (1..4usize).prop_map(Update::Bundle),
        1 => Just(Update::Delete("ClusterTrustBundle", BUNDLE)),
        2 => (prop::sample::select(LABELS.to_vec()), prop::option::of(label())).prop_map(|(key, to)| Update::Label(key, to)),
        2 => (prop::sample::select(ANNOTATIONS.to_vec()), prop::option::of(annotation()))
            .prop_map(|(key, to)| Update::Annotation(key, to)),
        1 => any::<prop::sample::Index>().prop_map(Update::Restart),
        1 => any::<prop::sample::Index>().prop_map(Update::Ephemeral),
    ]
}

/// The steps for a pod with these containers and so many volumes.
pub fn manifests(steps: Vec<Vec<Update>>, containers: &[String], volumes: usize) -> Vec<Step> {
    let mut ephemeral = 0;
    let mut change = |update: &Update| match update {
        Update::Put(kind, name, data) => Some(Change::Put(object(kind, name, data))),
        Update::Delete(kind, name) => Some(Change::Delete(reference(kind, name))),
        Update::Bundle(certificate) => Some(Change::Put(trust_bundle(*certificate))),
        Update::Label(key, to) => Some(Change::Pod(metadata("labels", key, to.as_deref()))),
        Update::Annotation(key, to) => Some(Change::Pod(metadata("annotations", key, to.as_deref()))),
        Update::Restart(which) => Some(Change::Restart(which.get(containers).clone())),
        Update::Ephemeral(_) if volumes == 0 => None,
        Update::Ephemeral(volume) => {
            ephemeral += 1;
            let mount = json!({"name": name_of(volume.index(volumes)), "mountPath": "/debug"});
            Some(Change::Ephemeral(json!({"name": format!("e{ephemeral}"), "image": "i", "volumeMounts": [mount]})))
        }
    };
    let step = |updates: Vec<Update>| {
        let last = updates
            .iter()
            .enumerate()
            .filter(|(number, one)| !updates[number + 1..].iter().any(|later| later.replaces(one)));
        Step { changes: last.filter_map(|(_, update)| change(update)).collect(), outcome: None }
    };
    steps.into_iter().map(step).collect()
}

fn metadata(field: &str, key: &str, to: Option<&str>) -> Value {
    json!({"metadata": {field: {key: to}}})
}
