//! What manifests mean, from the bytes of a file to its objects.

use std::collections::BTreeMap;
use std::time::SystemTime;

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;
use zeroize::Zeroizing;

use super::error::{ManifestError, Refused};
use super::file::File;
use super::input::Content;
use super::testing::namespace;
use crate::object::{Body, Data, MAX_DATA_BYTES};

fn read(bytes: impl AsRef<[u8]>) -> File {
    let mut file = File::new("f.yaml".to_owned());
    let bytes = Zeroizing::new(bytes.as_ref().to_vec());
    file.take(Content { bytes, modified: SystemTime::now(), stamp: None }, &namespace("default"));
    file
}

fn data_of(manifest: &super::decode::Manifest) -> &Data {
    match &manifest.body {
        Body::Data(data) => data,
        other => panic!("{other:?}"),
    }
}

/// The objects of a text: `namespace/kind/name key=value ...`. Panics if it has errors.
#[track_caller]
fn objects(text: &str) -> Vec<String> {
    let file = read(text);
    assert_eq!(file.errors, [], "{text}");
    let object = |manifest: &super::decode::Manifest| {
        if !manifest.id.kind.has_data() {
            return manifest.id.to_string();
        }
        let values =
            data_of(manifest).values.iter().map(|(key, value)| format!(" {key}={}", value.as_bytes().escape_ascii()));
        format!("{}{}", manifest.id, values.collect::<String>())
    };
    file.defined.objects.values().map(|manifest| object(manifest)).collect()
}

/// The only message about a text.
#[track_caller]
fn message(text: &str) -> String {
    match read(text).errors.as_slice() {
        [error] => error.to_string(),
        errors => panic!("{errors:?} about {text}"),
    }
}

/// A Secret with further lines.
fn secret(lines: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n{lines}")
}

fn config_map(lines: &str) -> String {
    secret(lines).replace("kind: Secret", "kind: ConfigMap")
}

#[test]
fn a_secret_is_data_with_string_data_over_it() {
    let lines = "type: Opaque\ndata: {a: YQ==, b: Yg==, l: ~}\nstringData: {b: over, c: '5', m: }\n";
    assert_eq!(objects(&secret(lines)), ["default/secret/s a=a b=over c=5 l= m="]);
    // No newline is added or stripped.
    let block = "stringData:\n  k: |\n    line\n  s: |-\n    line\n  f: >\n    one\n    two\n";
    assert_eq!(objects(&secret(block)), [r"default/secret/s f=one two\n k=line\n s=line"]);
    assert_eq!(objects(&secret("data:\nstringData: null\n")), ["default/secret/s"]);
}

#[test]
fn base64_may_be_folded_as_tools_fold_it() {
    let lines = "data:\n  a: |\n    aGVs\n    bG8=\n  b: \"aGVs\\r\\nbG8=\"\n  c: [104, 105, null]\n";
    assert_eq!(objects(&secret(lines)), [r"default/secret/s a=hello b=hello c=hi\x00"]);
    // A folded plain scalar holds a space, which is no base64; kubectl's API server refuses it too.
    assert!(message(&secret("data:\n  a: aGVs\n    bG8=\n")).contains("the value of key a in data is not base64"));
}

#[test]
fn a_config_map_is_text_and_binary_data() {
    let lines = "data: {t: text, e: ~}\nbinaryData: {b: AAH/}\nimmutable: true\n";
    assert_eq!(objects(&config_map(lines)), [r"default/cm/s b=\x00\x01\xff e= t=text"]);
    let found = read(config_map(lines)).defined.objects;
    assert!(found.values().all(|manifest| data_of(manifest).immutable && data_of(manifest).binary.len() == 1));
    let twice = message(&config_map("data: {k: a}\nbinaryData: {k: AA==}\n"));
    assert_eq!(twice, "f.yaml, document 1, line 6: default/cm/s: the key k is in both data and binaryData: remove one");
}

#[test]
fn lists_hold_objects_and_lists() {
    let list = "
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Secret
  metadata: {name: a}
- apiVersion: v1
  kind: ConfigMapList
  items:
  - metadata: {name: b, namespace: other}
    data: {k: v}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: c}
";
    assert_eq!(objects(list), ["default/secret/a", "default/deploy/c", "other/cm/b k=v"]);
    assert_eq!(objects("apiVersion: v1\nkind: SecretList\nitems:\n- metadata: {name: a}\n"), ["default/secret/a"]);
    assert_eq!(objects("apiVersion: v1\nkind: List\nitems:\n"), [""; 0]);
    let json = r#"{"apiVersion":"v1","kind":"SecretList","items":[{"metadata":{"name":"a"},"data":{"k":"dg=="}}]}"#;
    assert_eq!(objects(json), ["default/secret/a k=v"]);
}

#[test]
fn other_kinds_are_passed_over() {
    let text = "apiVersion: apps/v2\nkind: Deployment\n---\napiVersion: example.com/v1\nkind: Secret\nspec: [1]\n---\n# nothing\n";
    assert_eq!(objects(text), [""; 0]);
}

#[test]
fn of_two_definitions_the_later_counts() {
    assert_eq!(
        objects(&(secret("stringData: {a: one}\n") + "---\n" + &secret("stringData: {b: two}\n"))),
        ["default/secret/s b=two"]
    );
    // Also of keys, and of merges, in the order in which they stand.
    assert_eq!(objects(&secret("stringData: {a: one, a: two}\n")), ["default/secret/s a=two"]);
    let merged = "x-base: &b {a: base, b: base}\n";
    assert!(message(&secret(merged)).contains("this field does not exist in a Secret"));
    let merged = "  annotations: &b {a: base, b: base}\nstringData:\n  a: mine\n  <<: *b\n  b: mine\n";
    assert_eq!(objects(&secret(merged)), ["default/secret/s a=base b=mine"]);
}

#[test]
fn what_is_no_string_is_refused_by_key_and_never_by_value() {
    let table = [
        ("stringData: {port: 5432}", "the value of key port in stringData is a number, not a string: put it in quotes"),
        ("data: {on: yes}", "the value of key true in data is a boolean, not a string: put it in quotes"),
        ("data: {k: {a: b}}", "the value of key k in data is a mapping, not a string: put it in quotes"),
        ("stringData: {mode: 0400}", "the value of key mode in stringData is a number, not a string: put it in quotes"),
        (
            "data: {'a b': 5}",
            "a key of data is not valid: use at most 253 letters, digits, '-', '_' and '.', not '.' and not beginning with '..'",
        ),
        ("data: [a]", "data is a list, not a mapping: correct it"),
        ("immutable: 'yes'", "immutable is a string, not true or false: correct it"),
        ("type: 5", "type is a number, not a string: correct it (yes, 0400 and 1.5 need quotes to be strings)"),
        (
            "data: {k: 'not base64'}",
            "the value of key k in data is not base64: encode it, or move it to stringData as it is",
        ),
        ("stringdata: {k: v}", "this field does not exist in a Secret: correct its name or indentation"),
        ("sops: {}", "it is encrypted by SOPS: decrypt it first (sops -d FILE | secretfs mount -f - ...)"),
    ];
    for (line, want) in table {
        assert_eq!(message(&secret(line)), format!("f.yaml, document 1, line 5: default/secret/s: {want}"), "{line}");
    }
}

#[test]
fn an_object_must_have_a_kind_and_a_valid_name() {
    let table = [
        (
            "just text",
            "line 1: an object: the document is a string, not a mapping: a manifest begins with apiVersion and kind",
        ),
        ("a: b", "line 1: an object: kind is missing: add it"),
        ("kind: Secret", "line 1: an object: apiVersion is missing: add it"),
        ("apiVersion: v1\nkind: Secret", "line 1: a Secret: metadata.name is missing: add it"),
        (
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: My_Secret",
            "line 4: a Secret: the name is not valid: use at most 253 lower-case letters, digits, '-' and '.', each part beginning and ending with a letter or digit",
        ),
        (
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: 5",
            "line 4: a Secret: name is a number, not a string: correct it (yes, 0400 and 1.5 need quotes to be strings)",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: a.b}",
            "line 3: a ConfigMap: the namespace is not valid: use at most 63 lower-case letters, digits and '-', beginning and ending with a letter or digit",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {a: 'b c'}}",
            "line 3: default/cm/a: a label is not valid: use keys and values of at most 63 letters, digits, '-', '_' and '.'",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, lables: {}}",
            "line 3: default/cm/a: this field does not exist in metadata: correct its name or indentation",
        ),
    ];
    for (text, want) in table {
        assert_eq!(message(text), format!("f.yaml, document 1, {want}"), "{text}");
    }
}

#[test]
fn well_known_types_need_their_keys() {
    let table = [
        ("type: kubernetes.io/tls\nstringData: {tls.crt: a}", false),
        ("type: kubernetes.io/tls\nstringData: {tls.crt: a, tls.key: }", true),
        ("type: kubernetes.io/basic-auth\nstringData: {user: a}", false),
        ("type: kubernetes.io/basic-auth\nstringData: {password: a}", true),
        ("type: kubernetes.io/ssh-auth\nstringData: {ssh-privatekey: ''}", false),
        ("type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: 'x'}", false),
        ("type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: '{}'}", true),
        ("type: kubernetes.io/service-account-token\n", false),
        ("type: example.com/mine", true),
    ];
    for (lines, good) in table {
        let errors = read(secret(lines)).errors;
        assert_eq!(errors.is_empty(), good, "{lines}: {errors:?}");
        let typed = |error: &_| matches!(error, ManifestError::Object { why: Refused::TypeNeeds { .. }, .. });
        assert!(errors.iter().all(typed), "{errors:?}");
    }
}

#[test]
fn values_may_be_one_mebibyte_together_and_no_more() {
    let of = |bytes: usize| secret(&format!("stringData: {{a: '{}', b: bb}}", "x".repeat(bytes - 2)));
    assert_eq!(read(of(MAX_DATA_BYTES)).errors, []);
    assert!(message(&of(MAX_DATA_BYTES + 1)).contains("the values are larger than 1048576 bytes together"));
}

#[test]
fn a_syntax_error_is_placed_in_the_file_and_says_nothing_of_its_text() {
    let good = secret("");
    let table = [
        ("stringData: {k: 'planted", 9, 17, "a quote is not closed: add the closing quote"),
        ("stringData:\n\tk: planted", 10, 2, "a tab stands where only spaces may indent: use spaces"),
        (
            "stringData: {k: *planted}",
            9,
            17,
            "this alias (*name) has no anchor (&name) before it: define the anchor first",
        ),
        ("stringData: {k: .inf}", 9, 17, "JSON has no infinite numbers and no .nan: put the value in quotes"),
        (
            "stringData: {k: !!int planted}",
            9,
            23,
            "a value does not fit its tag (!!int, !!bool, ...): correct the value or remove the tag",
        ),
        (
            "stringData: {k: \"\u{7}planted\"}",
            9,
            18,
            "a control character is not allowed here: remove it, or put the value in base64 under data",
        ),
        ("stringData: {~: planted}", 9, 14, "the key of a mapping is null, a list or a mapping: use a string"),
        ("stringData: &a {k: *a}", 9, 20, "an anchor contains an alias to itself: write the value out"),
        (
            "stringData: {k: \"\\ud83d\\ude00\"}",
            9,
            17,
            "an escape in a quoted string is not one that YAML 1.1 knows: correct it, or use single quotes",
        ),
        ("--- planted", 9, 4, "only a comment may follow the document separator ---: put the rest on the next line"),
    ];
    for (line, row, column, want) in table {
        let text = format!("{good}---\n{}", secret(line).replace("kind: Secret\nmetadata:\n  name: s", "kind: Secret"));
        let want = format!("f.yaml, document 2, line {}, column {column}: {want}", row - 1);
        assert_eq!(message(&text), want, "{text}");
    }
}

#[test]
fn aliases_cannot_blow_a_document_up() {
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (name, last) in ('b'..='j').zip('a'..) {
        bomb += &format!("{name}: &{name} [{}]\n", vec![format!("*{last}"); 10].join(","));
    }
    assert!(message(&bomb).contains("aliases make far more of this document than it says"));
    let nested = (0..5000).fold("a: &a0 x\n".to_owned(), |text, n| text + &format!("b{n}: &a{} [*a{n}]\n", n + 1));
    assert!(message(&nested).contains("nested too deeply"));
    // As many as people use, and more than they use of one value, are fine.
    let many = secret("  annotations: &a {k: v}\n").replace("kind: Secret", "kind: Other")
        + "---\n"
        + &secret(&format!(
            "stringData:\n  a: &v value\n{}",
            (0..90).map(|n| format!("  k{n}: *v\n")).collect::<String>()
        ));
    assert_eq!(read(many).defined.objects.values().map(|manifest| data_of(manifest).values.len()).sum::<usize>(), 91);
}

#[test]
fn errors_of_one_file_are_kept_in_bounds() {
    let file = read("{}".repeat(10_000));
    assert!(file.errors.len() < 100);
}

/// Prints a Secret as YAML in one of the forms that people and tools write values in.
fn print_yaml(name: &str, data: &BTreeMap<String, Vec<u8>>, plain: &BTreeMap<String, (String, u8)>) -> String {
    let mut text = format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\ndata:\n");
    for (key, value) in data {
        text += &format!("  {key:?}: {}\n", json!(STANDARD.encode(value)));
    }
    text += "stringData:\n";
    for (key, (value, form)) in plain {
        text += &format!("  {key:?}: {}\n", print_scalar(value, *form));
    }
    text
}

fn print_scalar(value: &str, form: u8) -> String {
    let printable = value.chars().all(|c| matches!(c, ' '..='~' | '\n' | '\u{a1}'..='\u{2027}'));
    match form {
        // A literal block: any text that has a line, ends in no blank line, and begins with no white space.
        0 if printable && !value.starts_with([' ', '\n']) && !value.trim_end().is_empty() => {
            let body = value.strip_suffix('\n');
            let (chomp, body) = if body.is_some() { ("+", body.unwrap_or_default()) } else { ("-", value) };
            format!("|{chomp}\n{}", body.split('\n').map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n"))
        }
        1 if printable && !value.contains('\n') => format!("'{}'", value.replace('\'', "''")),
        _ => {
            let escaped = value.chars().map(|c| match c {
                '"' | '\\' => format!("\\{c}"),
                ' '..='~' => c.to_string(),
                _ => format!("\\U{:08x}", u32::from(c)),
            });
            format!("\"{}\"", escaped.collect::<String>())
        }
    }
}

fn any_key() -> impl Strategy<Value = String> {
    "[-_a-zA-Z0-9][-._a-zA-Z0-9]{0,20}"
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[ -~\n]{0,60}", "[a-z:#'\"\\\\ \n\t-]{0,40}"]
}

mod properties {
    use super::*;

    proptest! {
        #[test]
        fn what_is_printed_comes_back(
            data in prop::collection::btree_map(any_key(), prop::collection::vec(any::<u8>(), 0..80), 0..6),
            plain in prop::collection::btree_map(any_key(), (any_text(), 0u8..3), 0..6),
        ) {
            let mut want: BTreeMap<String, Vec<u8>> = data.clone();
            want.extend(plain.iter().map(|(key, (value, _))| (key.clone(), value.clone().into_bytes())));
            let encoded: BTreeMap<_, _> = data.iter().map(|(key, value)| (key, STANDARD.encode(value))).collect();
            let strings: BTreeMap<_, _> = plain.iter().map(|(key, (value, _))| (key, value)).collect();
            let json = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": encoded, "stringData": strings,
            });
            let texts = [print_yaml("s", &data, &plain), json.to_string(), serde_json::to_string_pretty(&json).unwrap()];
            for text in texts {
                let file = read(&text);
                prop_assert_eq!(&file.errors, &[], "{}", text);
                let manifest = file.defined.objects.values().next().unwrap();
                let got: BTreeMap<String, Vec<u8>> =
                    data_of(manifest).values.iter().map(|(key, value)| (key.to_string(), value.as_bytes().to_vec())).collect();
                prop_assert_eq!(&got, &want, "{}", text);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read(bytes);
        }

        #[test]
        fn mutated_manifests_are_read_or_refused_without_a_word_of_their_values(
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..8, "[-:#&*!|>'\"%@`\\[\\]{},\\\\~<= \t\r\na0\u{85}\u{2028}]{0,3}"), 1..6),
        ) {
            // A value with characters that no key has: a slip of the indentation may make a key of it.
            let value = "$PLANTED value$";
            let mut text = secret(&format!(
                "  labels: {{a: b}}\ndata:\n  k: JFBMQU5URUQgdmFsdWUk\nstringData:\n  a: &v |\n    {value}\n    {value}\n  b: '{value}'\n  c: {value}\n  d: [*v]\n---\nkind: List\n"
            ));
            for (at, remove, insert) in edits {
                let chars: Vec<char> = text.chars().collect();
                let at = at.index(chars.len() + 1);
                let rest = (at + remove).min(chars.len());
                text = chars[..at].iter().copied().chain(insert.chars()).chain(chars[rest..].iter().copied()).collect();
            }
            for error in read(&text).errors {
                prop_assert!(!error.to_string().contains("PLANTED"), "{error}");
                prop_assert!(!format!("{error:?}").contains("PLANTED"), "{error:?}");
            }
        }
    }
}
