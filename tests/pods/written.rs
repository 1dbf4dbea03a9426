//! Cases as they are written down in corpus/*.yaml: short, with defaults for all that does not matter.
//!
//! ```yaml
//! - name: value-changes
//!   secrets: {s: {key: "1"}}                      # name: keys
//!   configMaps: {c: {key: text, other: {base64: AA==}}}
//!   objects: [...]                                # any others, whole
//!   labels, annotations, spec, status             # of the pod; a null takes a default away
//!   volumes: {v: {secret: {secretName: s}}}       # name: source
//!   mounts: {/v: v, /w: {name: v, subPath: key}}  # of the container c; without it, each volume at /NAME
//!   containers, initContainers                    # whole, instead of c
//!   rejected: text                                # what the API server says to it
//!   refused, stopped, reads, stats, lstats, lists # what is known of the outcome
//!   steps:
//!   - secrets, configMaps, objects                # made or written anew
//!     delete: [secret/s, configMap/c]
//!     labels, annotations                         # a null takes one away
//!     ephemeral: {...}                            # a container that joins
//!     restart: c
//!     refused, stopped, reads, stats, lstats, lists
//! ```
//!
//! `{{a*253}}` in a text is 253 times the letter a.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::case::{CONTAINER, Case, Change, NODE, Outcome, Step, reference};

type Named = Map<String, Value>;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Written {
    name: String,
    labels: Option<Value>,
    annotations: Option<Value>,
    pod_name: Option<String>,
    spec: Named,
    status: Option<Value>,
    volumes: Named,
    mounts: Named,
    containers: Vec<Value>,
    init_containers: Vec<Value>,
    rejected: Option<String>,
    objects: Vec<Value>,
    secrets: Named,
    config_maps: Named,
    steps: Vec<Value>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct WrittenStep {
    objects: Vec<Value>,
    secrets: Named,
    config_maps: Named,
    delete: Vec<String>,
    labels: Option<Value>,
    annotations: Option<Value>,
    ephemeral: Option<Value>,
    restart: Option<String>,
}

/// What both have: the outcome's fields.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct WrittenOutcome {
    refused: BTreeMap<String, String>,
    stopped: BTreeMap<String, String>,
    reads: Named,
    stats: BTreeMap<String, String>,
    lstats: BTreeMap<String, String>,
    lists: BTreeMap<String, Vec<String>>,
}

/// The cases of one file, under names that begin with the file's.
pub fn cases(file: &str, text: &str) -> Vec<Case> {
    let all: Value = serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true })
        .unwrap_or_else(|error| panic!("{file}: {error}"));
    let all = all.as_array().unwrap_or_else(|| panic!("{file} is no list"));
    let case = |one: &Value| case(file, one).unwrap_or_else(|error| panic!("{file}, {}: {error}", one["name"]));
    all.iter().map(case).collect()
}

fn case(file: &str, written: &Value) -> serde_json::Result<Case> {
    let (written, first): (Written, Outcome) = parts(&expanded(written))?;
    let pod = pod(&written);
    Ok(Case {
        name: format!("{file}::{}", written.name),
        objects: objects(written.secrets, written.config_maps, written.objects),
        pod,
        status: written.status,
        rejected: written.rejected,
        first: Some(first),
        steps: written.steps.iter().map(step).collect::<serde_json::Result<_>>()?,
    })
}

fn step(written: &Value) -> serde_json::Result<Step> {
    let (written, outcome): (WrittenStep, Outcome) = parts(written)?;
    let mut changes: Vec<Change> = written.delete.iter().map(|name| Change::Delete(deleted(name))).collect();
    changes.extend(objects(written.secrets, written.config_maps, written.objects).into_iter().map(Change::Put));
    let metadata: Map<String, Value> = [("labels", written.labels), ("annotations", written.annotations)]
        .into_iter()
        .filter_map(|(field, value)| Some((field.to_owned(), value?)))
        .collect();
    if !metadata.is_empty() {
        changes.push(Change::Pod(json!({"metadata": metadata})));
    }
    changes.extend(written.ephemeral.map(Change::Ephemeral));
    changes.extend(written.restart.map(Change::Restart));
    Ok(Step { changes, outcome: Some(outcome) })
}

/// What is written about an outcome, and the rest.
fn parts<T: serde::de::DeserializeOwned>(written: &Value) -> serde_json::Result<(T, Outcome)> {
    let fields = written.as_object().cloned().unwrap_or_default();
    let of_outcome = ["refused", "stopped", "reads", "stats", "lstats", "lists"];
    let (outcome, rest): (Named, Named) =
        fields.into_iter().partition(|(field, _)| of_outcome.contains(&field.as_str()));
    let WrittenOutcome { refused, stopped, reads, stats, lstats, lists } = serde_json::from_value(outcome.into())?;
    let reads = reads.iter().map(|(path, value)| (path.clone(), bytes(value))).collect();
    Ok((serde_json::from_value(rest.into())?, Outcome { refused, stopped, reads, stats, lstats, lists }))
}

/// `secret/NAME`, `configMap/NAME` and so on.
fn deleted(name: &str) -> Value {
    let (kind, name) = name.split_once('/').unwrap_or_else(|| panic!("{name:?} is not KIND/NAME"));
    let kind = kind[..1].to_uppercase() + &kind[1..];
    reference(&kind, name)
}

fn objects(secrets: Named, config_maps: Named, others: Vec<Value>) -> Vec<Value> {
    let secrets = secrets.into_iter().map(|(name, keys)| object("Secret", &name, &keys));
    let config_maps = config_maps.into_iter().map(|(name, keys)| object("ConfigMap", &name, &keys));
    secrets.chain(config_maps).chain(others).collect()
}

/// A Secret or ConfigMap. A value is a text or `{base64: ...}`; `immutable: true` is the field, as no value is a boolean.
pub fn object(kind: &str, name: &str, keys: &Value) -> Value {
    let (text_field, bytes_field) = if kind == "Secret" { ("stringData", "data") } else { ("data", "binaryData") };
    let mut object = reference(kind, name);
    for (key, value) in keys.as_object().unwrap_or_else(|| panic!("{kind} {name} has no keys: {keys}")) {
        match value {
            Value::String(text) => object[text_field][key] = text.as_str().into(),
            Value::Bool(flag) if key == "immutable" => object["immutable"] = (*flag).into(),
            Value::Null => object["data"][key] = Value::Null,
            value => object[bytes_field][key] = value["base64"].clone(),
        }
    }
    object
}

fn pod(written: &Written) -> Value {
    let mount_paths: Vec<Value> = if written.mounts.is_empty() {
        written.volumes.keys().map(|name| json!({"name": name, "mountPath": format!("/{name}")})).collect()
    } else {
        let mount = |(path, mount): (&String, &Value)| {
            let mut mount = if mount.is_string() { json!({"name": mount}) } else { mount.clone() };
            mount["mountPath"] = path.as_str().into();
            mount
        };
        written.mounts.iter().map(mount).collect()
    };
    let mut containers = written.containers.clone();
    if containers.is_empty() {
        containers.push(json!({"name": CONTAINER, "volumeMounts": mount_paths}));
    }
    let mut init_containers = written.init_containers.clone();
    containers.iter_mut().chain(&mut init_containers).for_each(|container| container["image"] = "i".into());
    let volume = |(name, source): (&String, &Value)| {
        let mut volume = source.clone();
        volume["name"] = name.as_str().into();
        volume
    };
    let volumes: Vec<Value> = written.volumes.iter().map(volume).collect();
    let mut spec = json!({
        "nodeName": NODE, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
        "containers": containers, "initContainers": init_containers, "volumes": volumes,
    });
    for (field, value) in &written.spec {
        spec[field] = value.clone();
    }
    let metadata = json!({
        "name": written.pod_name.as_deref().unwrap_or("web-0"),
        "labels": written.labels, "annotations": written.annotations,
    });
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone().into_bytes()),
        value => Some(BASE64_STANDARD.decode(value["base64"].as_str().expect("base64")).expect("base64")),
    }
}

/// With `{{x*N}}` replaced by N times x, in names of fields too.
fn expanded(value: &Value) -> Value {
    match value {
        Value::String(text) => repeated(text).into(),
        Value::Array(all) => all.iter().map(expanded).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (repeated(name), expanded(value))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

fn repeated(text: &str) -> String {
    let Some((before, rest)) = text.split_once("{{") else { return text.to_owned() };
    let (inner, after) = rest.split_once("}}").unwrap_or_else(|| panic!("{text:?} has no end"));
    let (what, times) = inner.rsplit_once('*').unwrap_or_else(|| panic!("{inner:?} has no number"));
    format!("{before}{}{}", what.repeat(times.parse().expect("a number")), repeated(after))
}
