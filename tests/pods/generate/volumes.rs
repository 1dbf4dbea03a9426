//! Volumes of every kind.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::objects::{ANNOTATIONS, BUNDLE, CONFIG_MAPS, KEYS, LABELS, SECRETS};
use super::{id, mode, option};

/// Paths of items: each in one spelling only. Some cannot be together, which the kubelet finds out.
const PATHS: [&str; 9] = ["a", "b", "dir/a", "dir/b", "dir/sub/c", "./e", "f//g", "dir/..z", "a/clash"];

#[derive(Clone, Debug)]
pub enum Volume {
    /// A Secret or ConfigMap; the field of the volume that names it differs.
    Secret(Object, Modes),
    ConfigMap(Object, Modes),
    DownwardApi(Vec<Field>, Modes),
    Projected(Vec<Source>, Modes),
    EmptyDir(Option<&'static str>),
    HostPath,
}

/// What a volume says for all its files.
#[derive(Clone, Debug)]
pub struct Modes {
    mode: Option<u32>,
    user: Option<i64>,
}

#[derive(Clone, Debug)]
pub struct Object {
    name: &'static str,
    items: Option<Vec<Item>>,
    optional: Option<bool>,
}

#[derive(Clone, Debug)]
struct Item {
    key: &'static str,
    place: Place,
}

/// Where a file is, and how.
#[derive(Clone, Debug)]
struct Place {
    path: &'static str,
    mode: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct Field {
    place: Place,
    reference: Value,
}

#[derive(Clone, Debug)]
pub enum Source {
    Secret(Object),
    ConfigMap(Object),
    DownwardApi(Vec<Field>),
    Token { audience: Option<&'static str>, seconds: Option<u32> },
    Bundle { optional: bool },
}

pub fn volume() -> impl Strategy<Value = Volume> {
    prop_oneof![
        4 => (object(&SECRETS), modes()).prop_map(|(object, modes)| Volume::Secret(object, modes)),
        4 => (object(&CONFIG_MAPS), modes()).prop_map(|(object, modes)| Volume::ConfigMap(object, modes)),
        2 => (prop::collection::vec(field(), 0..4), modes()).prop_map(|(items, modes)| Volume::DownwardApi(items, modes)),
        4 => (prop::collection::vec(source(), 0..5), modes()).prop_map(|(all, modes)| Volume::Projected(all, modes)),
        2 => option(Just("Memory")).prop_map(Volume::EmptyDir),
        1 => Just(Volume::HostPath),
    ]
}

fn modes() -> impl Strategy<Value = Modes> {
    (option(mode()), option(id())).prop_map(|(mode, user)| Modes { mode, user })
}

fn object(names: &[&'static str]) -> impl Strategy<Value = Object> + use<> {
    let item = (prop::sample::select(KEYS.to_vec()), place()).prop_map(|(key, place)| Item { key, place });
    let items = option(prop::collection::vec(item, 0..4));
    // Mostly optional: otherwise hardly any pod would start.
    let optional = prop_oneof![1 => Just(None), 1 => Just(Some(false)), 6 => Just(Some(true))];
    (prop::sample::select(names.to_vec()), items, optional).prop_map(|(name, items, optional)| Object {
        name,
        items,
        optional,
    })
}

fn place() -> impl Strategy<Value = Place> {
    (prop::sample::select(PATHS.to_vec()), option(mode())).prop_map(|(path, mode)| Place { path, mode })
}

fn field() -> impl Strategy<Value = Field> {
    let fields = ["name", "namespace", "uid", "labels", "annotations"];
    let of_map = |map: &'static str, keys: &[&'static str]| {
        prop::sample::select(keys.to_vec()).prop_map(move |key| format!("metadata.{map}['{key}']"))
    };
    let metadata = prop_oneof![
        3 => prop::sample::select(fields.to_vec()).prop_map(|field| format!("metadata.{field}")),
        2 => of_map("labels", &LABELS),
        2 => of_map("annotations", &ANNOTATIONS),
    ];
    let resource = prop::sample::select(vec![
        ("limits.cpu", Some("1m")),
        ("requests.cpu", None),
        ("limits.memory", Some("1Mi")),
        ("requests.memory", Some("1k")),
        ("limits.ephemeral-storage", None),
    ]);
    let reference = prop_oneof![
        5 => metadata.prop_map(|path| json!({"fieldRef": {"fieldPath": path}})),
        1 => resource.prop_map(|(resource, divisor)| json!({
            "resourceFieldRef": {"containerName": "c0", "resource": resource, "divisor": divisor}
        })),
    ];
    (place(), reference).prop_map(|(place, reference)| Field { place, reference })
}

fn source() -> impl Strategy<Value = Source> {
    let seconds = option(prop_oneof![Just(600), Just(3600), Just(3607), Just(86_400)]);
    prop_oneof![
        3 => object(&SECRETS).prop_map(Source::Secret),
        3 => object(&CONFIG_MAPS).prop_map(Source::ConfigMap),
        2 => prop::collection::vec(field(), 0..3).prop_map(Source::DownwardApi),
        1 => (option(Just("vault")), seconds).prop_map(|(audience, seconds)| Source::Token { audience, seconds }),
        1 => any::<bool>().prop_map(|optional| Source::Bundle { optional }),
    ]
}

impl Volume {
    pub fn manifest(&self, name: &str) -> Value {
        let mut seen = Vec::new();
        let with_modes = |mut source: Value, modes: &Modes| {
            source["defaultMode"] = modes.mode.into();
            source["defaultUser"] = modes.user.into();
            source
        };
        match self {
            Volume::Secret(object, modes) => {
                let mut source = object.manifest("secretName", None);
                source = with_modes(source, modes);
                json!({"name": name, "secret": source})
            }
            Volume::ConfigMap(object, modes) => {
                json!({"name": name, "configMap": with_modes(object.manifest("name", None), modes)})
            }
            Volume::DownwardApi(items, modes) => {
                let items: Vec<Value> = items.iter().map(Field::manifest).collect();
                json!({"name": name, "downwardAPI": with_modes(json!({"items": items}), modes)})
            }
            Volume::Projected(sources, modes) => {
                let all = sources.iter().enumerate().map(|(number, source)| source.manifest(number, &mut seen));
                let all: Vec<Value> = all.collect();
                json!({"name": name, "projected": with_modes(json!({"sources": all}), modes)})
            }
            Volume::EmptyDir(medium) => json!({"name": name, "emptyDir": {"medium": medium}}),
            Volume::HostPath => json!({"name": name, "hostPath": {"path": "/nowhere"}}),
        }
    }
}

/// The paths that the sources of one projected volume name so far: the API server wants each once.
type Seen = Vec<&'static str>;

fn is_new(place: &Place, seen: &mut Option<&mut Seen>) -> bool {
    let Some(seen) = seen else { return true };
    let new = !seen.contains(&place.path);
    seen.push(place.path);
    new
}

impl Object {
    fn manifest(&self, name_field: &str, mut seen: Option<&mut Seen>) -> Value {
        let items = self.items.as_ref().map(|items| {
            let new = items.iter().filter(|item| is_new(&item.place, &mut seen));
            new.map(|item| json!({"key": item.key, "path": item.place.path, "mode": item.place.mode}))
                .collect::<Vec<Value>>()
        });
        json!({name_field: self.name, "items": items, "optional": self.optional})
    }
}

impl Field {
    fn manifest(&self) -> Value {
        let mut item = self.reference.clone();
        item["path"] = self.place.path.into();
        item["mode"] = self.place.mode.into();
        item
    }
}

impl Source {
    fn manifest(&self, number: usize, seen: &mut Seen) -> Value {
        match self {
            Source::Secret(object) => json!({"secret": object.manifest("name", Some(seen))}),
            Source::ConfigMap(object) => json!({"configMap": object.manifest("name", Some(seen))}),
            Source::DownwardApi(fields) => {
                let new = fields.iter().filter(|field| is_new(&field.place, &mut Some(seen)));
                json!({"downwardAPI": {"items": new.map(Field::manifest).collect::<Vec<_>>()}})
            }
            // Alone in their first component: their owner may differ from the other files'.
            Source::Token { audience, seconds } => json!({"serviceAccountToken": {
                "path": format!("token-{number}"), "audience": audience, "expirationSeconds": seconds,
            }}),
            Source::Bundle { optional } => json!({"clusterTrustBundle": {
                "path": format!("ca-{number}/ca.pem"), "name": BUNDLE, "optional": optional,
            }}),
        }
    }
}
