use super::decode::*;
use super::documents::Documents;
use super::testing::to_json;
use ::base64::Engine as _;
use serde_json::json;
#[test]
#[ignore]
fn serve() {
    let input = std::fs::read(std::env::var("IN").unwrap()).unwrap();
    let mut out = String::new();
    let mut at = 0;
    let default = crate::object::Namespace::new("default").unwrap();
    while at < input.len() {
        let n = u32::from_le_bytes(input[at..at + 4].try_into().unwrap()) as usize;
        let bytes = input[at + 4..at + 4 + n].to_vec();
        at += 4 + n;
        let text = super::text::decode(zeroize::Zeroizing::new(bytes));
        let mut docs = vec![];
        let mut objects = vec![];
        let mut error = String::new();
        for d in Documents::new(&text) {
            match d.content {
                Err(f) => {
                    error = format!("{f:?}");
                    break;
                }
                Ok(None) => docs.push(json!(null)),
                Ok(Some(node)) => {
                    docs.push(to_json(&node));
                    if matches!(node.content, super::node::Content::Null) {
                        continue;
                    }
                    let mut dec = Decoder { default: &default, budget: MAX_DECODED_BYTES };
                    dec.document(&node, &mut |f| {
                        match f {
                            Ok(Found::Object(m)) => {
                                let data: serde_json::Map<String, serde_json::Value> = m
                                    .data
                                    .iter()
                                    .map(|(k, v)| {
                                        (
                                            k.to_string(),
                                            json!(::base64::engine::general_purpose::STANDARD.encode(v.as_bytes())),
                                        )
                                    })
                                    .collect();
                                objects.push(json!({"kind": m.id.kind.api_kind(), "Namespace": m.id.namespace.as_str(), "Name": m.id.name.as_str(), "data": data, "Immutable": m.immutable, "labels": m.labels}));
                            }
                            Ok(_) => {}
                            Err(e) => objects.push(json!({"error": format!("{}: {}", e.object, e.why)})),
                        }
                    });
                }
            }
        }
        out.push_str(&json!({"docs": docs, "objects": objects, "error": error}).to_string());
        out.push('\n');
    }
    std::fs::write(std::env::var("OUT").unwrap(), out).unwrap();
}

#[test]
#[ignore]
fn bomb() {
    let input = std::fs::read(std::env::var("IN").unwrap()).unwrap();
    let default = crate::object::Namespace::new("default").unwrap();
    let mut f = super::file::File::new("x".into());
    f.take(
        super::input::Content {
            bytes: zeroize::Zeroizing::new(input[4..].to_vec()),
            modified: std::time::SystemTime::now(),
            stamp: None,
        },
        &default,
    );
    let rss = std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .find(|l| l.starts_with("VmHWM"))
        .unwrap()
        .to_owned();
    println!("RESULT {} objects; {:?} {rss}", f.defined.objects.len(), f.errors.first().map(|e| e.to_string()));
}
