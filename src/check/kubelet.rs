//! What the kubelet of this host has really written into a pod's volumes, compared with what the API server says now.
//!
//! Only whether it is the same is told, and since when it has been as it is; of tokens, which differ by right, whether they are
//! there and valid.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use super::volumes::without_certificates;
use super::{Case, Facts, Finding};
use crate::object::pod::{PodVolume, VolumeSource};
use crate::pod;
use crate::volume::Payload;

/// How many paths a message names.
const NAMED: usize = 3;

/// Where the kubelet keeps a volume. Source: `GetPodVolumeDir` and the names of its plugins; a slash becomes a tilde.
fn directory(kubelet: &Path, case: &Case, volume: &PodVolume) -> Option<PathBuf> {
    let plugin = match &volume.source {
        VolumeSource::Secret(_) => "kubernetes.io~secret",
        VolumeSource::ConfigMap(_) => "kubernetes.io~configmap",
        VolumeSource::Projected(_) => "kubernetes.io~projected",
        VolumeSource::DownwardApi(_) => "kubernetes.io~downward-api",
        VolumeSource::Other { .. } => return None,
    };
    // Both become parts of a path.
    let is_name = |text: &str| !text.is_empty() && !text.contains('/') && text != "." && text != "..";
    let known = is_name(&case.subject.uid) && is_name(&volume.name);
    known.then(|| kubelet.join("pods").join(&*case.subject.uid).join("volumes").join(plugin).join(&volume.name))
}

impl Case {
    /// What the volumes of this pod lack on this host's disk. `kubelet` is the kubelet's root directory.
    pub fn compare(&self, kubelet: &Path, facts: &Facts) -> Vec<Finding> {
        let mut found = Vec::new();
        for volume in pod::mounted(&self.subject) {
            let Some(dir) = directory(kubelet, self, volume) else { continue };
            let (rest, is_partial) = without_certificates(volume);
            // What cannot be worked out has its findings already.
            let Ok(payload) = pod::collect(&self.subject, &rest, facts) else { continue };
            let said = self.compare_volume(&dir, &payload, &bundles(volume), is_partial);
            found.extend(said.into_iter().map(|finding| finding.in_volume(&volume.name)));
        }
        found
    }

    /// `bundles` are the paths of trust bundles.
    fn compare_volume(&self, dir: &Path, payload: &Payload, bundles: &[&str], is_partial: bool) -> Vec<Finding> {
        let link = dir.join("..data");
        let since = match fs::symlink_metadata(&link) {
            Ok(metadata) => Timestamp::from_second(metadata.mtime()).ok().map(|time| time.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let message =
                    "the kubelet has not set it up here: see the pod's events and the kubelet's log".to_owned();
                return vec![self.error("volume-missing", message)];
            }
            Err(error) => return vec![self.unreadable(&error)],
        };
        let mut found = Vec::new();
        let mut other = BTreeSet::new();
        for (path, file) in payload.iter() {
            // What is below ..data is there even where another mount hides it.
            let content = match fs::read(link.join(&**path)) {
                Ok(content) => content,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    other.insert(path.to_string());
                    continue;
                }
                Err(error) => {
                    found.push(self.unreadable(&error));
                    continue;
                }
            };
            if !Facts::is_token(&file.bytes) {
                let is_bundle = bundles.contains(&&**path);
                let is_same = match is_bundle {
                    true => certificates(&content) == certificates(file.bytes.as_bytes()),
                    false => content == file.bytes.as_bytes(),
                };
                if !is_same {
                    other.insert(path.to_string());
                }
            } else if !is_valid(&content, SystemTime::now()) {
                let message = format!("the token at {path:?} has expired or is none: see the kubelet's log");
                found.push(self.error("token-expired", message));
            }
        }
        if !is_partial {
            match files(&link, "") {
                Ok(files) => other.extend(files.into_iter().filter(|path| payload.get(path).is_none())),
                Err(error) => found.push(self.unreadable(&error)),
            }
        }
        if !other.is_empty() {
            let time = since.as_deref().unwrap_or("an unknown time");
            let message = format!(
                "its containers see the content of {time}, which is no longer what the API server has: {} differ: the kubelet brings it up \
                 to date within two minutes, and if it does not, its log says why",
                named(&other)
            );
            let mut stale = self.error("stale", message);
            stale.since.clone_from(&since);
            found.push(stale);
        }
        found
    }

    fn unreadable(&self, error: &io::Error) -> Finding {
        let message = format!("cannot be read on this host: {error}: run it as root on the pod's node");
        self.error("not-readable", message)
    }
}

/// The paths of a volume's trust bundles, whose certificates the kubelet writes in a new order each time (`normalizeTrustAnchors`).
fn bundles(volume: &PodVolume) -> Vec<&str> {
    let VolumeSource::Projected(projected) = &volume.source else { return Vec::new() };
    projected.sources.iter().filter_map(|source| Some(source.cluster_trust_bundle.as_ref()?.path.as_str())).collect()
}

/// All certificates of a file in PEM, in no order.
fn certificates(pem: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(pem);
    text.split_inclusive("-----END CERTIFICATE-----").map(|part| part.trim().to_owned()).collect()
}

/// Whether the host has the kubelet's directory at all.
pub fn is_there(kubelet: &Path) -> io::Result<()> {
    fs::read_dir(kubelet.join("pods")).map(drop)
}

fn named(paths: &BTreeSet<String>) -> String {
    let mut names: Vec<String> = paths.iter().take(NAMED).map(|path| format!("{path:?}")).collect();
    if paths.len() > NAMED {
        names.push(format!("{} more", paths.len() - NAMED));
    }
    names.join(", ")
}

/// The paths of all files below a directory, which is a generation's.
fn files(dir: &Path, prefix: &str) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.file_type()?.is_dir() {
            true => found.extend(files(&entry.path(), &format!("{path}/"))?),
            false => found.push(path),
        }
    }
    Ok(found)
}

#[derive(Deserialize)]
struct Claims {
    exp: u64,
}

/// Whether it is a JSON Web Token whose time has not passed (RFC 7519). Who signed it is not looked at.
fn is_valid(token: &[u8], now: SystemTime) -> bool {
    let claims = token.split(|byte| *byte == b'.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.and_then(|json| serde_json::from_slice::<Claims>(&json).ok());
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    claims.is_some_and(|claims| claims.exp > now)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn certificates_are_the_same_in_any_order() {
        let pem = |name: &str| format!("-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n");
        let of = |names: [&str; 2]| certificates(names.map(pem).concat().as_bytes());
        assert_eq!(of(["a", "b"]), of(["b", "a"]));
        assert_ne!(of(["a", "b"]), of(["a", "c"]));
    }

    #[test]
    fn a_token_is_valid_until_its_time_has_come() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let token = |claims: &str| format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims));
        assert!(is_valid(token(r#"{"exp":1001}"#).as_bytes(), now));
        for bad in [token(r#"{"exp":1000}"#), token("{}"), token("no JSON"), "e30".to_owned(), String::new()] {
            assert!(!is_valid(bad.as_bytes(), now), "{bad}");
        }
    }
}
