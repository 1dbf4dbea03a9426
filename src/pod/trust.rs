//! Certificates of ClusterTrustBundles as one file. Source: pkg/kubelet/clustertrustbundle/clustertrustbundle_manager.go.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::collect::Files;
use super::{Have, Problem};
use crate::object::pod::TrustBundleSource;
use crate::object::selector::Selector;
use crate::object::{Body, Kind, Object, TrustBundle, Value};

pub(super) fn add(files: &mut Files, source: &TrustBundleSource) {
    match content(files, source) {
        Ok(bytes) if files.has_room(bytes.len()) => files.insert_private(&source.path, source.user, bytes),
        Ok(_) => {}
        Err(problem) => files.problem(problem),
    }
}

fn content(files: &Files, source: &TrustBundleSource) -> Result<Value, Problem> {
    let bundles = match (&source.name, &source.signer_name) {
        (Some(name), _) => by_name(files, source, name)?.into_iter().collect(),
        (None, Some(signer)) => by_signer(files, source, signer)?,
        (None, None) => return Err(Problem::UnnamedBundle { path: source.path.clone() }),
    };
    Ok(Value::new(normalized(bundles.iter().filter_map(|object| bundle(object))).into_bytes()))
}

/// `GetTrustAnchorsByName`.
fn by_name(files: &Files, source: &TrustBundleSource, name: &str) -> Result<Option<Arc<Object>>, Problem> {
    let kind = Kind::ClusterTrustBundle;
    let Some(id) = files.subject.object(kind, name) else {
        let problem = Problem::BadName { kind, name: name.to_owned() };
        return if source.optional { Ok(None) } else { Err(problem) };
    };
    match files.lookup.object(&id) {
        Have::Ready(object) => Ok(Some(object)),
        // Not no file, but one with no certificate in it.
        Have::Missing if source.optional => Ok(None),
        Have::Missing => Err(Problem::Missing { object: id }),
        Have::Refused(why) => Err(Problem::Refused(why)),
        Have::Unknown => Err(Problem::Unknown { what: id.to_string() }),
    }
}

/// `GetTrustAnchorsBySigner`. No selector selects nothing, an empty one all.
fn by_signer(files: &Files, source: &TrustBundleSource, signer: &str) -> Result<Vec<Arc<Object>>, Problem> {
    let invalid = |why: crate::object::selector::InvalidLabels| Problem::BadSelector {
        path: source.path.clone(),
        why: why.to_string(),
    };
    let selector = source.label_selector.as_ref().map(Selector::of).transpose().map_err(invalid)?;
    let all = match files.lookup.bundles() {
        Have::Ready(all) => all,
        Have::Missing => Vec::new(),
        Have::Refused(why) => return Err(Problem::Refused(why)),
        Have::Unknown => return Err(Problem::Unknown { what: "the list of ClusterTrustBundles".to_owned() }),
    };
    let is_selected = |bundle: &TrustBundle| {
        bundle.signer == signer && selector.as_ref().is_some_and(|selector| selector.matches(&bundle.labels))
    };
    let selected: Vec<_> = all.into_iter().filter(|object| bundle(object).is_some_and(is_selected)).collect();
    match selected.is_empty() && !source.optional {
        true => Err(Problem::NoBundle { signer: signer.to_owned() }),
        false => Ok(selected),
    }
}

fn bundle(object: &Object) -> Option<&TrustBundle> {
    match &object.body {
        Body::TrustBundle(bundle) => Some(bundle),
        _ => None,
    }
}

/// All certificates once, as bare PEM (`normalizeTrustAnchors`). The kubelet sorts them and then shuffles them anew each
/// time, so that nobody comes to rely on an order; a volume that changes every five minutes without need would wake all
/// programs that watch it, so that here the sorted order stays.
fn normalized<'a>(bundles: impl Iterator<Item = &'a TrustBundle>) -> String {
    let certificates = bundles.flat_map(|bundle| CertificateDer::pem_slice_iter(bundle.certificates.as_bytes()));
    let sorted: BTreeSet<Vec<u8>> = certificates.flatten().map(|certificate| certificate.to_vec()).collect();
    let mut text = String::new();
    for certificate in sorted {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(certificate);
        for line in encoded.as_bytes().chunks(64) {
            text.extend(line.iter().map(|byte| char::from(*byte)));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}
