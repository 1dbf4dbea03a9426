//! The objects that volumes show, and metadata of pods.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::pods::case::reference;

/// Few, so that volumes share them and changes meet somebody.
pub const SECRETS: [&str; 3] = ["s0", "s1", "s2"];
pub const CONFIG_MAPS: [&str; 3] = ["m0", "m1", "m2"];
pub const KEYS: [&str; 8] = ["a", "b", "dir", ".dot", "config.yaml", "A", "0", "a..b"];
pub const BUNDLE: &str = "any-%NS%";

/// What a Secret or ConfigMap holds.
pub type Data = BTreeMap<&'static str, Vec<u8>>;

pub fn data() -> impl Strategy<Value = Data> {
    prop::collection::btree_map(prop::sample::select(KEYS.to_vec()), bytes(), 0..5)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => Just(Vec::new()),
        6 => "[a-z =:\n\"'#{}äß→]{1,30}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 1..20),
        1 => prop::sample::select(vec![4095, 4096, 4097, 20_000]).prop_map(|size| vec![b'x'; size]),
    ]
}

/// Some of all objects.
pub fn world() -> impl Strategy<Value = Vec<Value>> {
    let some = || prop::collection::vec(prop::option::weighted(0.8, data()), 3);
    (some(), some(), any::<bool>()).prop_map(|(secrets, config_maps, bundle)| {
        let named = |kind: &'static str, names: [&'static str; 3], all: Vec<Option<Data>>| {
            let all = names.into_iter().zip(all);
            all.filter_map(move |(name, data)| Some(object(kind, name, &data?))).collect::<Vec<_>>()
        };
        let mut all = named("Secret", SECRETS, secrets);
        all.extend(named("ConfigMap", CONFIG_MAPS, config_maps));
        all.extend(bundle.then(|| trust_bundle(1)));
        all
    })
}

pub fn object(kind: &str, name: &str, data: &Data) -> Value {
    let mut object = reference(kind, name);
    for (key, bytes) in data {
        match (kind, std::str::from_utf8(bytes)) {
            ("ConfigMap", Ok(text)) => object["data"][key] = text.into(),
            ("ConfigMap", Err(_)) => object["binaryData"][key] = BASE64_STANDARD.encode(bytes).into(),
            _ => object["data"][key] = BASE64_STANDARD.encode(bytes).into(),
        }
    }
    object
}

pub fn trust_bundle(certificate: usize) -> Value {
    let mut bundle = reference("ClusterTrustBundle", BUNDLE);
    bundle["spec"] = json!({"trustBundle": format!("%CERTIFICATE-{certificate}%")});
    bundle
}

pub const LABELS: [&str; 4] = ["app", "tier", "example.com/name", "Upper"];
pub const ANNOTATIONS: [&str; 3] = ["note", "example.com/text", "Mixed.Case"];

pub fn labels() -> impl Strategy<Value = BTreeMap<&'static str, String>> {
    prop::collection::btree_map(prop::sample::select(LABELS.to_vec()), label(), 0..4)
}

pub fn label() -> impl Strategy<Value = String> {
    "([a-z0-9]([a-z0-9._-]{0,10}[a-z0-9])?)?"
}

pub fn annotations() -> impl Strategy<Value = BTreeMap<&'static str, String>> {
    prop::collection::btree_map(prop::sample::select(ANNOTATIONS.to_vec()), annotation(), 0..3)
}

/// Everything that Go quotes in its own way.
pub fn annotation() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z \"\\\\\n\t\r]{0,20}",
        "[\u{1}-\u{1f}\u{7f}-\u{ff}]{0,10}",
        "[\u{300}\u{200b}\u{2028}\u{feff}\u{e000}\u{fffd}\u{1f511}\u{10ffff}ä→]{0,6}",
    ]
}
