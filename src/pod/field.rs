//! `fieldRef`: what a pod says of itself. Source: pkg/fieldpath/fieldpath.go.

use zeroize::Zeroizing;

use super::quote::{longest, quote};
use super::{Problem, Subject};
use crate::object::Value;
use crate::object::selector::is_label_key;

const IN_VOLUME: &str =
    "metadata.name, namespace, uid, labels or annotations, or one of them as in metadata.labels['KEY']";
const IN_VARIABLE: &str = "metadata.name, namespace, uid, labels['KEY'] or annotations['KEY'], spec.nodeName, \
     spec.serviceAccountName, status.hostIP, hostIPs, podIP or podIPs";

/// The content of a file (`ExtractFieldPathAsString`). What the pod does not have is empty.
pub(super) fn in_volume(subject: &Subject, field: &str) -> Result<Value, Problem> {
    metadata(subject, field, IN_VOLUME)
}

/// The value of a variable (`podFieldSelectorRuntimeValue`, pkg/kubelet/kubelet_pods.go). The addresses of the host are
/// taken from the pod's status, where the kubelet asks itself.
pub(super) fn in_variable(subject: &Subject, field: &str) -> Result<Value, Problem> {
    let text = |text: &str| Ok(Value::copy_of(text.as_bytes()));
    let (spec, status) = (&subject.pod.spec, &subject.pod.status);
    let joined = |ips: &[crate::object::pod::Ip]| {
        let ips: Vec<&str> = ips.iter().map(|ip| ip.ip.as_str()).collect();
        ips.join(",")
    };
    match field {
        // `spec.host` is what very old clients say.
        "spec.nodeName" | "spec.host" => text(&spec.node_name),
        "spec.serviceAccountName" => text(&spec.service_account_name),
        "status.hostIP" => text(status.host_ips.first().map_or(&status.host_ip, |first| &first.ip)),
        "status.hostIPs" if status.host_ips.is_empty() => text(&status.host_ip),
        "status.hostIPs" => text(&joined(&status.host_ips)),
        "status.podIP" => text(status.pod_ips.first().map_or(&status.pod_ip, |first| &first.ip)),
        "status.podIPs" if status.pod_ips.is_empty() => text(&status.pod_ip),
        "status.podIPs" => text(&joined(&status.pod_ips)),
        field => metadata(subject, field, IN_VARIABLE),
    }
}

fn metadata(subject: &Subject, field: &str, allowed: &'static str) -> Result<Value, Problem> {
    let pod = &subject.pod;
    let nothing = || Value::copy_of(&[]);
    if let Some((path, key)) = subscripted(field) {
        let checked = |key: &str| match is_label_key(key) {
            true => Ok(()),
            false => Err(Problem::BadSubscript { field: field.to_owned() }),
        };
        return match path {
            "metadata.annotations" => {
                checked(&key.to_lowercase())?;
                Ok(pod.annotations.get(key).cloned().unwrap_or_else(nothing))
            }
            "metadata.labels" => {
                checked(key)?;
                Ok(pod.labels.get(key).map_or_else(nothing, |label| Value::copy_of(label.as_bytes())))
            }
            _ => Err(Problem::UnknownField { field: field.to_owned(), allowed }),
        };
    }
    match field {
        "metadata.annotations" => Ok(map(pod.annotations.iter().map(|(key, value)| (key, value.as_bytes())))),
        "metadata.labels" => Ok(map(pod.labels.iter().map(|(key, value)| (key, value.as_bytes())))),
        "metadata.name" => Ok(Value::copy_of(subject.id.name.as_str().as_bytes())),
        "metadata.namespace" => Ok(Value::copy_of(subject.id.namespace.as_str().as_bytes())),
        "metadata.uid" => Ok(Value::copy_of(subject.uid.as_bytes())),
        _ => Err(Problem::UnknownField { field: field.to_owned(), allowed }),
    }
}

/// `SplitMaybeSubscriptedPath`: `metadata.labels['KEY']` without its key, and the key.
fn subscripted(field: &str) -> Option<(&str, &str)> {
    field.strip_suffix("']")?.split_once("['").filter(|(path, _)| !path.is_empty())
}

/// `FormatMap`: one line for each key, in their order.
fn map<'a>(entries: impl Iterator<Item = (&'a String, &'a [u8])> + Clone) -> Value {
    // The buffer must not grow: that would leave a copy behind.
    let most = entries.clone().map(|(key, value)| key.len() + longest(value.len()) + 2).sum();
    let mut text = Zeroizing::new(Vec::with_capacity(most));
    for (key, value) in entries {
        if !text.is_empty() {
            text.push(b'\n');
        }
        text.extend_from_slice(key.as_bytes());
        text.push(b'=');
        quote(&mut text, value);
    }
    Value::copy_of(&text)
}
