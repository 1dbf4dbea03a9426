//! What the manifest of a case says about mounts.

use std::path::{Component, Path};

use serde_json::Value;

use crate::pods::case::Case;

/// A mount as a container asks for it.
pub struct Wanted {
    /// Absolute and clean.
    pub path: String,
    pub volume: String,
    /// Relative to the volume; empty: all of it.
    pub part: String,
}

/// The init and ordinary containers. Ephemeral ones, which join later, have no parts of volumes.
pub fn containers(case: &Case) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"]
        .into_iter()
        .flat_map(|field| case.pod["spec"][field].as_array().into_iter().flatten())
}

pub fn name(container: &Value) -> &str {
    container["name"].as_str().expect("a name")
}

/// The mounts of a container. A subPathExpr counts as it does in generated pods: one variable with a value of its own.
pub fn wanted(container: &Value) -> Vec<Wanted> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let value_of = |expression: &str| {
        let mut variables = container["env"].as_array().into_iter().flatten();
        let found = variables.find(|one| expression == format!("$({})", text(&one["name"])));
        found.map_or_else(String::new, |one| text(&one["value"]))
    };
    let one = |mount: &Value| Wanted {
        path: clean(&text(&mount["mountPath"])),
        volume: text(&mount["name"]),
        part: match mount["subPathExpr"].as_str() {
            Some(expression) => value_of(expression),
            None => text(&mount["subPath"]),
        },
    };
    container["volumeMounts"].as_array().into_iter().flatten().map(one).collect()
}

fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str().expect("UTF-8")),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    format!("/{}", parts.join("/"))
}

pub fn has_parts(case: &Case) -> bool {
    containers(case).flat_map(wanted).any(|mount| !mount.part.is_empty())
}

/// Whether the content of a volume is the API server's to give.
pub fn is_ours(case: &Case, volume: &str) -> bool {
    let mut all = case.pod["spec"]["volumes"].as_array().into_iter().flatten();
    let kinds = ["secret", "configMap", "downwardAPI", "projected"];
    all.find(|one| one["name"] == volume).is_none_or(|one| kinds.iter().any(|kind| !one[kind].is_null()))
}

/// Whether a volume names owners of its files.
pub fn has_users(case: &Case, volume: &str) -> bool {
    let mut all = case.pod["spec"]["volumes"].as_array().into_iter().flatten();
    all.any(|one| one["name"] == volume && names_user(one))
}

/// Whether a volume is a projected one; so are those of admission.
pub fn is_projected(case: &Case, volume: &str) -> bool {
    let mut all = case.pod["spec"]["volumes"].as_array().into_iter().flatten();
    all.find(|one| one["name"] == volume).is_none_or(|one| !one["projected"].is_null())
}

/// Whether a volume has a token in it, or is one that admission has added for one.
pub fn may_have_token(case: &Case, volume: &str) -> bool {
    let mut all = case.pod["spec"]["volumes"].as_array().into_iter().flatten();
    all.find(|one| one["name"] == volume).is_none_or(|one| one.to_string().contains("serviceAccountToken"))
}

fn names_user(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            (matches!(name.as_str(), "defaultUser" | "user") && !value.is_null()) || names_user(value)
        }),
        Value::Array(all) => all.iter().any(names_user),
        _ => false,
    }
}

/// The rest of a path below another one.
pub fn below<'a>(inner: &'a str, outer: &str) -> Option<&'a str> {
    inner.strip_prefix(outer)?.strip_prefix('/')
}

/// Of these paths the one that is next above `path`.
pub fn next_above<'a, T>(path: &str, all: &'a [T], path_of: impl Fn(&T) -> &str) -> Option<&'a T> {
    let above = all.iter().filter(|one| below(path, path_of(one)).is_some());
    above.max_by_key(|one| path_of(one).len())
}
