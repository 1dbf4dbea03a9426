//! Secrets and ConfigMaps and what becomes of them, out of a number: the same number, the same case.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, json};

use crate::support::snapshot::Brief;

/// What the values of an object may have together. Source: `MaxSecretSize`, pkg/apis/core.
pub const LIMIT: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Secret,
    ConfigMap,
}

/// A value and the field of the manifest that it stands in.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// In a Secret's `stringData`, a ConfigMap's `data`.
    Text(String),
    /// In a Secret's `data`, a ConfigMap's `binaryData`.
    Bytes(Vec<u8>),
    /// `data: {key: null}`.
    Null,
}

impl Value {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Value::Text(text) => text.as_bytes(),
            Value::Bytes(bytes) => bytes,
            Value::Null => b"",
        }
    }
}

#[derive(Clone, PartialEq)]
pub struct Object {
    pub kind: Kind,
    pub name: String,
    pub data: BTreeMap<String, Value>,
    /// Metadata that no volume shows.
    note: usize,
}

impl Object {
    pub fn size(&self) -> usize {
        self.data.values().map(|value| value.bytes().len()).sum()
    }

    fn room(&self) -> usize {
        LIMIT - self.size()
    }

    fn shows_the_same_as(&self, other: &Object) -> bool {
        let same = |((key, value), (key2, value2)): ((&String, &Value), (&String, &Value))| {
            key == key2 && value.bytes() == value2.bytes()
        };
        self.data.len() == other.data.len() && self.data.iter().zip(&other.data).all(same)
    }

    /// SOURCE for secretfs.
    pub fn source(&self) -> String {
        let word = match self.kind {
            Kind::Secret => "secret",
            Kind::ConfigMap => "cm",
        };
        format!("{word}/{}", self.name)
    }

    /// The source of a pod's volume.
    pub fn volume(&self, optional: bool) -> serde_json::Value {
        match self.kind {
            Kind::Secret => json!({"secret": {"secretName": self.name, "optional": optional}}),
            Kind::ConfigMap => json!({"configMap": {"name": self.name, "optional": optional}}),
        }
    }

    pub fn manifest(&self, namespace: &str) -> serde_json::Value {
        let (mut strings, mut data, mut binary) = (Map::new(), Map::new(), Map::new());
        for (key, value) in &self.data {
            let (field, value) = match (self.kind, value) {
                (_, Value::Null) => (&mut data, serde_json::Value::Null),
                (Kind::Secret, Value::Text(text)) => (&mut strings, text.clone().into()),
                (Kind::ConfigMap, Value::Text(text)) => (&mut data, text.clone().into()),
                (Kind::Secret, Value::Bytes(bytes)) => (&mut data, base64(bytes).into()),
                (Kind::ConfigMap, Value::Bytes(bytes)) => (&mut binary, base64(bytes).into()),
            };
            field.insert(key.clone(), value);
        }
        let annotations = json!({"note": self.note.to_string()});
        let mut manifest = json!({
            "apiVersion": "v1", "kind": format!("{:?}", self.kind),
            "metadata": {"namespace": namespace, "name": self.name, "annotations": annotations},
        });
        for (field, values) in [("stringData", strings), ("data", data), ("binaryData", binary)] {
            if !values.is_empty() {
                manifest[field] = values.into();
            }
        }
        manifest
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} of {} keys, {} bytes", self.kind, self.name, self.data.len(), self.size())?;
        for (key, value) in self.data.iter().take(12) {
            let field = match value {
                Value::Text(_) => "text",
                Value::Bytes(_) => "bytes",
                Value::Null => "null",
            };
            write!(f, "\n    {}: {field} {}", Brief(key.as_bytes()), Brief(value.bytes()))?;
        }
        Ok(())
    }
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::prelude::{BASE64_STANDARD, Engine};
    BASE64_STANDARD.encode(bytes)
}

/// What can happen to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Other values.
    Values,
    /// One byte of one value.
    OneByte,
    Add,
    Remove,
    RemoveAll,
    /// All keys go, others come.
    Exchange,
    /// Added, removed and changed at once.
    Mixture,
    /// A key gets a value that brings the object to its limit.
    FillUp,
    /// A value moves to another key.
    Rename,
    Nothing,
    Metadata,
    /// The same bytes in the other field of the manifest.
    OtherField,
    Delete,
}

impl Change {
    pub const WITH_CONTENT: [Change; 9] = [
        Change::Values,
        Change::OneByte,
        Change::Add,
        Change::Remove,
        Change::RemoveAll,
        Change::Exchange,
        Change::Mixture,
        Change::FillUp,
        Change::Rename,
    ];
    pub const WITHOUT: [Change; 3] = [Change::Nothing, Change::Metadata, Change::OtherField];
}

/// An object and its life, as the states that it goes through; `None` is its absence.
#[derive(Clone)]
pub struct Case {
    pub seed: u64,
    pub first: Object,
    pub changes: Vec<(Change, Option<Object>)>,
}

impl Case {
    /// Three to five changes. The last is one of content: what a change without content causes wrongly shows there at
    /// the latest.
    pub fn new(seed: u64) -> Case {
        let mut dice = Dice(seed);
        let first = object(&mut dice, seed);
        let mut changes: Vec<(Change, Option<Object>)> = Vec::new();
        let mut now = first.clone();
        let count = 3 + dice.below(3);
        for left in (0..count).rev() {
            let change = if left > 0 && dice.below(3) == 0 {
                dice.one_of(&Change::WITHOUT)
            } else {
                dice.one_of(&Change::WITH_CONTENT)
            };
            let before = now.clone();
            apply(&mut dice, change, &mut now);
            if left == 0 && now.shows_the_same_as(&before) {
                add(&mut dice, 1, &mut now);
            }
            changes.push((change, Some(now.clone())));
        }
        Case { seed, first, changes }
    }

    /// Deleted and made again, twice: from some content, and from none.
    pub fn with_deletions(kind: Kind, seed: u64) -> Case {
        let mut dice = Dice(seed);
        let mut first = object(&mut dice, seed);
        // Some of what the seed brings may be only another kind's.
        first.kind = kind;
        first.data.insert("key".into(), Value::Text("value".into()));
        let mut again = first.clone();
        again.data.insert("another".into(), Value::Bytes(vec![0, 255]));
        let mut empty = first.clone();
        empty.data.clear();
        let changes = vec![
            (Change::Delete, None),
            (Change::Add, Some(first.clone())),
            (Change::RemoveAll, Some(empty)),
            (Change::Delete, None),
            (Change::Add, Some(again)),
        ];
        Case { seed, first, changes }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "first {:?}", self.first)?;
        for (change, object) in &self.changes {
            match object {
                Some(object) => write!(f, "\n  {change:?} -> {object:?}")?,
                None => write!(f, "\n  {change:?}")?,
            }
        }
        Ok(())
    }
}

fn object(dice: &mut Dice, seed: u64) -> Object {
    let kind = dice.one_of(&[Kind::Secret, Kind::ConfigMap]);
    let name = match dice.below(4) {
        0 => format!("plain-{seed}"),
        1 => format!("0.dotted--name.{seed}"),
        2 => seed.to_string(),
        _ => format!("{seed:0>253}"),
    };
    let mut object = Object { kind, name, data: BTreeMap::new(), note: 0 };
    let count = match dice.below(8) {
        0 => 0,
        1 => 1,
        // More than one answer to a readdir holds.
        2 => 150 + dice.below(100),
        _ => 2 + dice.below(8),
    };
    add(dice, count, &mut object);
    object
}

fn apply(dice: &mut Dice, change: Change, object: &mut Object) {
    let keys: Vec<String> = object.data.keys().cloned().collect();
    let some_keys = |dice: &mut Dice| -> BTreeSet<String> {
        let count = if keys.is_empty() { 0 } else { 1 + dice.below(keys.len()) };
        (0..count).map(|_| dice.one_of(&keys)).collect()
    };
    match change {
        Change::Values => {
            for key in some_keys(dice) {
                object.data.insert(key.clone(), Value::Null);
                let value = value(dice, object.kind, object.room());
                object.data.insert(key, value);
            }
        }
        Change::OneByte => {
            let long: Vec<&String> = keys.iter().filter(|key| !object.data[*key].bytes().is_empty()).collect();
            if !long.is_empty() {
                let key = dice.one_of(&long).clone();
                let mut bytes = object.data[&key].bytes().to_vec();
                let place = dice.below(bytes.len());
                bytes[place] ^= 1;
                object.data.insert(key, spelled(bytes));
            }
        }
        Change::Add => {
            let count = 1 + dice.below(4);
            add(dice, count, object);
        }
        Change::Remove => some_keys(dice).iter().for_each(|key| drop(object.data.remove(key))),
        Change::RemoveAll => object.data.clear(),
        Change::Exchange => {
            object.data.clear();
            let count = 1 + dice.below(5);
            add(dice, count, object);
            keys.iter().for_each(|key| drop(object.data.remove(key)));
        }
        Change::Mixture => {
            [Change::Values, Change::Remove, Change::Add].iter().for_each(|change| apply(dice, *change, object));
        }
        Change::FillUp => {
            let name = key(dice);
            object.data.remove(&name);
            let value = exactly(dice, object.kind, object.room());
            object.data.insert(name, value);
        }
        Change::Rename => {
            if !keys.is_empty() {
                let value = object.data.remove(&dice.one_of(&keys)).unwrap_or(Value::Null);
                object.data.insert(key(dice), value);
            }
        }
        Change::Nothing | Change::Delete => {}
        Change::Metadata => object.note += 1,
        Change::OtherField => {
            for value in object.data.values_mut() {
                *value = match value {
                    Value::Text(text) => Value::Bytes(text.clone().into_bytes()),
                    Value::Bytes(bytes) => spelled(std::mem::take(bytes)),
                    Value::Null => Value::Bytes(Vec::new()),
                };
            }
        }
    }
}

fn add(dice: &mut Dice, count: usize, object: &mut Object) {
    for _ in 0..count {
        let key = key(dice);
        object.data.remove(&key);
        let value = value(dice, object.kind, object.room());
        object.data.insert(key, value);
    }
}

/// Every form that `IsConfigMapKey` (apimachinery) accepts.
fn key(dice: &mut Dice) -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    const NAMED: [&str; 14] = [
        "config.yaml",
        "tls.crt",
        ".dotfile",
        ".dotfile.file",
        "a..b",
        "trailing.",
        "-",
        "_",
        "0",
        "-rf",
        "Key",
        "key",
        ".-",
        "data",
    ];
    let length = match dice.below(6) {
        0 | 1 => return dice.one_of(&NAMED).to_owned(),
        // The longest, and those about which a link's target no longer fits into the inode on tmpfs.
        2 => dice.one_of(&[253, 120, 121]),
        3 => 1 + dice.below(253),
        _ => 1 + dice.below(20),
    };
    loop {
        let key: String = (0..length).map(|_| char::from(dice.one_of(ALPHABET))).collect();
        if key != "." && !key.starts_with("..") {
            return key;
        }
    }
}

/// Of any size that fits.
fn value(dice: &mut Dice, kind: Kind, room: usize) -> Value {
    let size = match dice.below(24) {
        0 => return Value::Null,
        1 | 2 => 0,
        3 | 4 => 1,
        // Pages, and the largest answer to one read.
        5 => 4095,
        6 => 4096,
        7 => 4097,
        8 => (128 << 10) + dice.below(3) - 1,
        9 => dice.below(64 << 10),
        _ => dice.below(100),
    };
    exactly(dice, kind, size.min(room))
}

fn exactly(dice: &mut Dice, kind: Kind, size: usize) -> Value {
    match dice.below(3) {
        0 => Value::Bytes((0..size).map(|_| dice.next() as u8).collect()),
        1 => Value::Text(text(dice, size)),
        // base64 of a text: the same bytes as the text would have.
        _ if kind == Kind::Secret => Value::Bytes(text(dice, size).into_bytes()),
        _ => Value::Text(text(dice, size)),
    }
}

fn text(dice: &mut Dice, size: usize) -> String {
    const PIECES: [&str; 16] = [
        "a",
        "word ",
        "yes",
        "0400",
        "null",
        ": ",
        "\n",
        "\r\n",
        "\t",
        "'",
        "\"\\",
        "# ",
        "ä",
        "→",
        "\u{1f511}",
        "\u{1}\u{7f}\u{85}\u{feff}",
    ];
    let mut text = String::new();
    while text.len() < size {
        let piece = dice.one_of(&PIECES);
        text.push_str(if text.len() + piece.len() <= size { piece } else { "x" });
    }
    text
}

/// As text if it is text.
fn spelled(bytes: Vec<u8>) -> Value {
    String::from_utf8(bytes).map_or_else(|error| Value::Bytes(error.into_bytes()), Value::Text)
}

/// Numbers that look random. Source: splitmix64, <https://prng.di.unimi.it/splitmix64.c>.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}
