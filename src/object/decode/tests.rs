use super::*;
use proptest::prelude::*;
use serde_json::json;

fn secret(data: serde_json::Value) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
        "metadata": {
            "name": "web", "namespace": "prod", "uid": "u-1", "resourceVersion": "42",
            "creationTimestamp": "2026-11-01T12:00:00Z",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"data\":{\"k\":\"cGxhbnRlZA==\"}}\n"},
            "managedFields": [{"fieldsV1": {"f:data": {".": {}}}}],
        },
    })
}

fn decode(kind: Kind, json: &serde_json::Value) -> Result<Object, DecodeError> {
    object_from_json(kind, json.to_string().as_bytes())
}

fn is_immutable(object: &Object) -> bool {
    matches!(&object.body, Body::Data(data) if data.immutable)
}

fn value<'a>(object: &'a Object, key: &str) -> &'a [u8] {
    object.data()[&Key::new(key).unwrap()].as_bytes()
}

#[test]
fn a_secret_is_decoded() {
    let object = decode(Kind::Secret, &secret(json!({"a": "aGVsbG8=", "b": "", "c": null, "bin": "AP8Q"}))).unwrap();
    assert_eq!(object.id().to_string(), "prod/secret/web");
    assert_eq!((&*object.meta.uid, &*object.meta.version), ("u-1", "42"));
    let created = object.meta.created.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(created, 1_793_534_400);
    assert_eq!(value(&object, "a"), b"hello");
    assert_eq!(value(&object, "b"), b"");
    assert_eq!(value(&object, "c"), b"");
    assert_eq!(value(&object, "bin"), [0, 255, 16]);
    assert!(!is_immutable(&object));
}

#[test]
fn a_config_map_has_text_and_binary_data() {
    let mut json = secret(json!({"a": "line\n\"quoted\" \u{1f600}", "plain": "text"}));
    json["kind"] = "ConfigMap".into();
    json["binaryData"] = json!({"b": "AP8="});
    json["immutable"] = true.into();
    let object = decode(Kind::ConfigMap, &json).unwrap();
    assert_eq!(value(&object, "a"), "line\n\"quoted\" \u{1f600}".as_bytes());
    assert_eq!(value(&object, "plain"), b"text");
    assert_eq!(value(&object, "b"), [0, 255]);
    let texts: Vec<&str> = object.texts().map(|(key, _)| key.as_str()).collect();
    assert_eq!(texts, ["a", "plain"]);
    assert!(is_immutable(&object));
}

/// One that a signer names must not take the whole list with it.
#[test]
fn a_trust_bundle_is_named_for_its_signer() {
    let name = "kubernetes.io:kube-apiserver-serving:".to_owned() + &"a".repeat(253);
    let json = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle",
        "metadata": {"name": name, "uid": "u", "resourceVersion": "1"},
        "spec": {"signerName": "kubernetes.io/kube-apiserver-serving", "trustBundle": "x"},
    });
    let object = decode(Kind::ClusterTrustBundle, &json).unwrap();
    assert_eq!(object.id().name.as_str(), name);
    let list = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundleList", "metadata": {"resourceVersion": "1"}, "items": [json],
    });
    let page = object_page_from_json(Kind::ClusterTrustBundle, list.to_string().as_bytes()).unwrap();
    assert_eq!(page.items.len(), 1);
}

#[test]
fn no_data_is_an_empty_object() {
    let mut json = secret(json!(null));
    assert!(decode(Kind::Secret, &json).unwrap().data().is_empty());
    json.as_object_mut().unwrap().remove("data");
    assert!(decode(Kind::Secret, &json).unwrap().data().is_empty());
}

#[test]
fn what_the_api_server_always_sets_is_required() {
    for field in ["name", "namespace", "uid", "resourceVersion"] {
        for bad in [json!(null), json!("")] {
            let mut json = secret(json!({}));
            json["metadata"][field] = bad;
            let error = decode(Kind::Secret, &json).unwrap_err();
            assert!(matches!(error, DecodeError::Missing { .. }), "{field}: {error}");
            assert!(error.to_string().contains(field), "{error}");
        }
    }
    assert!(matches!(object_from_json(Kind::Secret, b"{}"), Err(DecodeError::OtherKind { .. })));
}

#[test]
fn another_kind_or_version_is_refused() {
    let mut json = secret(json!({}));
    assert!(matches!(decode(Kind::ConfigMap, &json), Err(DecodeError::OtherKind { .. })));
    json["apiVersion"] = "v2".into();
    assert!(matches!(decode(Kind::Secret, &json), Err(DecodeError::OtherKind { .. })));
}

#[test]
fn names_keys_and_values_are_checked_and_no_message_repeats_them() {
    let planted = "planted-HERE/..%";
    let mut bad = vec![secret(json!({planted: ""})), secret(json!({"a": planted})), secret(json!({"a": 7}))];
    for field in ["name", "namespace", "creationTimestamp"] {
        let mut json = secret(json!({}));
        json["metadata"][field] = planted.into();
        bad.push(json);
    }
    bad.push(json!([planted]));
    for json in bad {
        let error = decode(Kind::Secret, &json).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("planted"), "{error:?}");
    }
}

#[test]
fn base64_must_be_canonical() {
    for bad in
        ["a", "ab", "abc", "abcde", "ab=c", "====", "=", "aGVsbG8", "aGVs\nbG8=", "aGVsbG9=", "aGVs bG8=", "a==="]
    {
        let error = decode(Kind::Secret, &secret(json!({"a": bad}))).unwrap_err();
        assert_eq!(error, DecodeError::Invalid { kind: "Secret", field: "data" }, "{bad:?}");
    }
}

#[test]
fn a_key_twice_is_refused() {
    let text = secret(json!({})).to_string().replace("\"data\":{}", r#""data":{"a":"","a":""}"#);
    assert!(matches!(object_from_json(Kind::Secret, text.as_bytes()), Err(DecodeError::Invalid { .. })));
    let mut json = secret(json!({"a": ""}));
    json["kind"] = "ConfigMap".into();
    json["binaryData"] = json!({"a": ""});
    assert!(matches!(decode(Kind::ConfigMap, &json), Err(DecodeError::Invalid { .. })));
}

#[test]
fn one_mebibyte_is_the_limit() {
    let base64 = |length: usize| STANDARD.encode(vec![b'x'; length]);
    let fits = secret(json!({"a": base64(MAX_DATA_BYTES - 3), "b": base64(3)}));
    assert_eq!(decode(Kind::Secret, &fits).unwrap().data_bytes(), MAX_DATA_BYTES);
    let over = secret(json!({"a": base64(MAX_DATA_BYTES - 3), "b": base64(4)}));
    assert_eq!(
        decode(Kind::Secret, &over).unwrap_err(),
        DecodeError::TooLarge { kind: "Secret", limit: MAX_DATA_BYTES }
    );
    let blank = vec![b' '; MAX_OBJECT_JSON + 1];
    assert!(matches!(object_from_json(Kind::Secret, &blank), Err(DecodeError::TooLarge { .. })));
}

#[test]
fn deep_nesting_is_an_error_or_skipped_but_never_a_crash() {
    for open in ["[", "{\"a\":"] {
        let deep = open.repeat(200_000);
        let text = secret(json!({})).to_string().replace("\"Opaque\"", &deep);
        assert!(object_from_json(Kind::Secret, text.as_bytes()).is_err());
        let text = secret(json!({})).to_string().replace("\"data\":{}", &format!("\"data\":{deep}"));
        assert!(object_from_json(Kind::Secret, text.as_bytes()).is_err());
    }
}

#[test]
fn a_metadata_page_is_decoded() {
    let item = |namespace: &str, name: &str| {
        json!({"metadata": {"name": name, "namespace": namespace, "uid": "u", "resourceVersion": "7",
            "creationTimestamp": null}})
    };
    let mut json = json!({
        "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": "99", "continue": "abc"},
        "items": [item("a", "x"), item("a", "y"), item("b", "x")],
    });
    let page = meta_page_from_json(Kind::Secret, json.to_string().as_bytes()).unwrap();
    let ids: Vec<_> = page.items.iter().map(|meta| meta.id.to_string()).collect();
    assert_eq!(ids, ["a/secret/x", "a/secret/y", "b/secret/x"]);
    assert_eq!((&*page.version, page.next.as_deref()), ("99", Some("abc")));
    assert_eq!(page.items[0].created, SystemTime::UNIX_EPOCH);

    json["items"] = json!(null);
    json["metadata"]["continue"] = "".into();
    let page = meta_page_from_json(Kind::Secret, json.to_string().as_bytes()).unwrap();
    assert!(page.items.is_empty() && page.next.is_none());

    json["items"] = json!([{"kind": "Pod", "apiVersion": "v1", "metadata": item("a", "x")["metadata"]}]);
    assert!(meta_page_from_json(Kind::Secret, json.to_string().as_bytes()).is_err());
    assert!(meta_page_from_json(Kind::Secret, b"{}").is_err());
    assert!(meta_page_from_json(Kind::Secret, secret(json!({})).to_string().as_bytes()).is_err());
}

#[test]
fn a_namespace_is_decoded_and_a_bookmark_has_a_version_only() {
    let json = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": {"name": "prod", "uid": "u", "resourceVersion": "5"}});
    let namespace = namespace_from_json(json.to_string().as_bytes()).unwrap();
    assert_eq!((namespace.item.as_str(), &*namespace.version), ("prod", "5"));
    let bookmark =
        br#"{"kind":"Secret","apiVersion":"v1","metadata":{"resourceVersion":"12746","creationTimestamp":null}}"#;
    assert_eq!(&*version_from_json(bookmark).unwrap(), "12746");
    assert!(version_from_json(br#"{"metadata":{}}"#).is_err());
}

fn any_data() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    proptest::collection::btree_map("[-._a-zA-Z0-9]{1,40}", proptest::collection::vec(any::<u8>(), 0..400), 0..8)
        .prop_map(|map| map.into_iter().filter(|(key, _)| Key::new(key).is_ok()).collect())
}

mod properties {
    use super::*;

    proptest! {
        #[test]
        fn any_secret_survives_encoding_and_decoding(data in any_data(), name in "[a-z0-9]{1,60}(\\.[a-z0-9]{1,60}){0,3}") {
            let encoded: BTreeMap<_, _> = data.iter().map(|(key, value)| (key, STANDARD.encode(value))).collect();
            let mut json = secret(json!(encoded));
            json["metadata"]["name"] = name.clone().into();
            let object = decode(Kind::Secret, &json).unwrap();
            prop_assert_eq!(object.id().name.as_str(), name);
            let decoded: BTreeMap<_, _> =
                object.data().iter().map(|(key, value)| (key.to_string(), value.as_bytes().to_vec())).collect();
            prop_assert_eq!(decoded, data);
        }

        #[test]
        fn any_config_map_text_survives(texts in proptest::collection::btree_map("[a-z]{1,20}", any::<String>(), 0..6)) {
            let mut json = secret(json!(texts));
            json["kind"] = "ConfigMap".into();
            let object = decode(Kind::ConfigMap, &json).unwrap();
            let decoded: BTreeMap<_, _> = object.data().iter()
                .map(|(key, value)| (key.to_string(), String::from_utf8(value.as_bytes().to_vec()).unwrap())).collect();
            prop_assert_eq!(decoded, texts);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            decode_all(&bytes);
        }

        #[test]
        fn mutated_objects_never_panic(
            data in any_data(),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..12),
            cut in any::<proptest::sample::Index>(),
        ) {
            let encoded: BTreeMap<_, _> = data.iter().map(|(key, value)| (key, STANDARD.encode(value))).collect();
            let mut bytes = secret(json!(encoded)).to_string().into_bytes();
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            decode_all(&bytes);
            decode_all(&bytes[..cut.index(bytes.len())]);
        }
    }
}

fn decode_all(bytes: &[u8]) {
    for kind in Kind::DATA {
        let _ = object_from_json(kind, bytes);
        let _ = meta_from_json(kind, bytes);
        let _ = object_meta_from_json(kind, bytes);
        let _ = meta_page_from_json(kind, bytes);
    }
    let _ = namespace_from_json(bytes);
    let _ = namespace_page_from_json(bytes);
    let _ = version_from_json(bytes);
}

#[test]
fn a_page_of_whole_objects_is_decoded_and_its_kind_checked() {
    let page = |kind: &str, item: &str| {
        format!(
            r#"{{"kind":"{kind}","apiVersion":"v1","metadata":{{"resourceVersion":"9","continue":"c"}},"items":[{item}]}}"#
        )
    };
    let item = r#"{"metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"1"},"data":{"k":"djE="}}"#;
    let found = object_page_from_json(Kind::Secret, page("SecretList", item).as_bytes()).unwrap();
    assert_eq!((&*found.version, found.next.as_deref(), found.items.len()), ("9", Some("c"), 1));
    assert_eq!(found.items[0].data().values().next().unwrap().as_bytes(), b"v1");
    for bad in [page("ConfigMapList", item), page("SecretList", "{}"), "{}".to_owned()] {
        assert!(object_page_from_json(Kind::Secret, bad.as_bytes()).is_err(), "{bad}");
    }
}
