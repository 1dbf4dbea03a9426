//! Manifests mean what kubectl and the API server make of them: both are asked, file by file, at test time.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secretfs::object::{Body, Kind, Namespace, Object};
use secretfs::source::manifests::{Input, Manifests};
use secretfs::source::{Scope, Source};
use secretfs::store::{Change, Known, Store};
use serde_json::Value as Json;

use super::support::cluster::{self, namespace};
use super::support::{run, tempdir};

/// Objects by `namespace/kind/name`: their values and whether they are immutable.
type Objects = BTreeMap<String, (BTreeMap<String, Vec<u8>>, bool)>;

/// Writes a value as one form of scalar.
type Print = fn(&str) -> String;

/// What secretfs reads in a file, or what it says of it.
fn ours(file: &Path, default: &Namespace) -> Result<Objects, String> {
    let store = Store::new();
    let inputs = vec![Input::parse(file.as_os_str()).expect("a file")];
    let manifests = Manifests::open(inputs, default.clone(), store.clone()).map_err(|error| error.to_string())?;
    let scope = Scope { namespace: None, kinds: Kind::DATA.to_vec(), selector: None };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(manifests.list(scope)).expect("all is in memory");
    let mut objects = Objects::new();
    while let Some(change) = store.take_change() {
        let Change::Object(id) = change else { continue };
        let Some(Known::Loaded(object)) = store.get(&id) else { panic!("{id} is not loaded") };
        objects.insert(format!("{}/{}/{}", id.namespace, id.kind.api_kind(), id.name), contents(&object));
    }
    Ok(objects)
}

fn contents(object: &Object) -> (BTreeMap<String, Vec<u8>>, bool) {
    let data = object.data().iter().map(|(key, value)| (key.to_string(), value.as_bytes().to_vec()));
    (data.collect(), matches!(&object.body, Body::Data(data) if data.immutable))
}

/// What the API server would store of a file that kubectl reads, or what they say of it.
fn theirs(file: &Path, default: &Namespace, kubectl: &mut Command) -> Result<Objects, String> {
    kubectl.args(["-n", default.as_str(), "create", "--dry-run=server", "-o", "json", "-f"]).arg(file);
    let output = run(kubectl);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut objects = Objects::new();
    for object in serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Json>() {
        let object = object.expect("kubectl's JSON");
        let kind = object["kind"].as_str().expect("a kind").to_owned();
        if !["Secret", "ConfigMap"].contains(&&*kind) {
            continue;
        }
        let metadata = |field: &str| object["metadata"][field].as_str().expect("a string").to_owned();
        let mut data = BTreeMap::new();
        let entries = |field: &str| object[field].as_object().into_iter().flatten();
        let plain = kind == "ConfigMap";
        for (key, value) in entries("data") {
            let value = value.as_str().expect("a string");
            let bytes = if plain { value.as_bytes().to_vec() } else { STANDARD.decode(value).expect("base64") };
            data.insert(key.clone(), bytes);
        }
        for (key, value) in entries("binaryData") {
            data.insert(key.clone(), STANDARD.decode(value.as_str().expect("a string")).expect("base64"));
        }
        let immutable = object["immutable"].as_bool().unwrap_or(false);
        objects.insert(format!("{}/{kind}/{}", metadata("namespace"), metadata("name")), (data, immutable));
    }
    Ok(objects)
}

/// Compares one file; the answer is the difference.
fn compare(file: &Path, default: &Namespace, kubectl: &mut Command) -> Option<String> {
    let name = file.file_name().expect("a name").display();
    match (ours(file, default), theirs(file, default, kubectl)) {
        (Ok(ours), Ok(theirs)) if ours == theirs => None,
        (Err(_), Err(_)) => None,
        (ours, theirs) => Some(format!("{name}\n  ours:   {ours:?}\n  theirs: {theirs:?}")),
    }
}

/// Compares files on as many threads as there are processors; each question to kubectl takes a tenth of a second.
fn compare_all(files: Vec<std::path::PathBuf>) {
    let namespace = namespace();
    let default = Namespace::new(&namespace.name).expect("a name");
    let files = Mutex::new(files.into_iter());
    let differences = Mutex::new(Vec::new());
    let next = || files.lock().expect("the files").next();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(file) = next() {
                    if let Some(difference) = compare(&file, &default, &mut namespace.cluster.kubectl()) {
                        differences.lock().expect("the differences").push(difference);
                    }
                }
            });
        }
    });
    let differences = differences.into_inner().expect("the differences");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_manifest_of_the_corpus_means_what_kubectl_makes_of_it() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests");
    let files = std::fs::read_dir(corpus).expect("the corpus").map(|entry| entry.expect("an entry").path());
    compare_all(files.collect());
}

#[test]
fn values_up_to_the_limit_and_beyond_it() {
    let dir = tempdir();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n";
    let large = "x".repeat((1 << 20) - 1);
    for (name, more) in [("limit.yaml", "x"), ("beyond.yaml", "xx")] {
        std::fs::write(dir.path().join(name), format!("{secret}  a: '{large}'\n  b: {more}\n")).expect("write");
    }
    let config_map = secret.replace("Secret", "ConfigMap").replace("stringData", "data");
    std::fs::write(dir.path().join("map.yaml"), format!("{config_map}  a: '{large}'\n  b: xx\n")).expect("write");
    compare_all(["limit.yaml", "beyond.yaml", "map.yaml"].map(|name| dir.path().join(name)).to_vec());
}

#[test]
fn values_in_every_form_of_scalar() {
    let dir = tempdir();
    let values = [
        "a",
        " a",
        "a ",
        "a\n",
        "\na",
        "a\n\n",
        "a\nb",
        "a\n b\nc",
        "a\n\nb\n",
        "  a\n b",
        "#a",
        "a #b",
        "a: b",
        "- a",
        "'",
        "\"",
        "\\",
        "\\n",
        "{a",
        "[a]",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
        "|",
        ">",
        "?",
        "? a",
        "-",
        "--- a",
        "...",
        "~",
        "null",
        "0x1",
        "1e3",
        "yes",
        "=",
        "<<",
        "\t",
        "a\tb",
        "\ta",
        "é",
        "\u{1f600}",
        "a\u{a0}b",
        "-----BEGIN X-----\nYWJj\n-----END X-----\n",
    ];
    // Each value once in each form; a form that a value has no place in makes a bad or another document, for both.
    let forms: [(&str, Print); 6] = [
        ("plain", |value| value.replace('\n', "\n    ")),
        ("single", |value| format!("'{}'", value.replace('\'', "''").replace('\n', "\n\n    "))),
        ("double", |value| Json::from(value).to_string()),
        ("literal", |value| format!("|\n    {}", value.replace('\n', "\n    "))),
        ("kept", |value| format!("|2+\n    {}", value.replace('\n', "\n    "))),
        ("folded", |value| format!(">-\n    {}", value.replace('\n', "\n    "))),
    ];
    let mut files = Vec::new();
    for (form, print) in forms {
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n";
        let mut good = secret.to_owned();
        for (nth, value) in values.iter().enumerate() {
            let entry = format!("  k{nth}: {}\n", print(value));
            let path = dir.path().join(format!("{form}-{nth}.yaml"));
            std::fs::write(&path, format!("{secret}{entry}")).expect("write");
            // Those that we refuse are asked one by one, all others together.
            match ours(&path, &Namespace::new("default").expect("a name")) {
                Ok(_) => good += &entry,
                Err(_) => files.push(path),
            }
        }
        let path = dir.path().join(format!("{form}.yaml"));
        std::fs::write(&path, good).expect("write");
        files.push(path);
    }
    compare_all(files);
}

#[test]
fn a_directory_is_read_as_kubectl_reads_it() {
    let dir = tempdir();
    let secret = |name: &str, value: &str| {
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{k: {value}}}\n")
    };
    for (name, of) in
        [("b.yaml", "b"), ("a.yml", "a"), ("c.json", "c"), ("d.txt", "d"), (".e.yaml", "e"), ("f.YAML", "f")]
    {
        std::fs::write(dir.path().join(name), secret(of, name)).expect("write");
    }
    std::fs::create_dir(dir.path().join("g.yaml")).expect("mkdir");
    std::fs::write(dir.path().join("g.yaml/h.yaml"), secret("h", "h")).expect("write");
    let default = Namespace::new("default").expect("a name");
    let ours = ours(dir.path(), &default).expect("good manifests");
    assert_eq!(Ok(&ours), theirs(dir.path(), &default, &mut cluster::cluster().kubectl()).as_ref());
    assert_eq!(ours.len(), 4);
}
