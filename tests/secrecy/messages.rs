//! What the program says of answers, kubeconfigs and manifests that are wrong.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Foreground, Place, Planted, json, secret, status, tells_none};
use crate::support::liar::{Liar, Lie, kubeconfig};
use crate::support::user::ROOT;
use crate::support::{said, wait_until};

#[test]
fn answers_of_the_server_get_into_no_message_and_no_log() {
    let (value, token) = (Planted::new("value"), Planted::new("token"));
    let all = [value.clone(), token.clone()];
    let (raw, encoded) = (value.raw.clone(), value.base64());
    let mut lies: Vec<Lie> = Vec::new();
    for (code, reason) in
        [(400, "BadRequest"), (401, "Unauthorized"), (403, "Forbidden"), (404, "NotFound"), (500, &*raw)]
    {
        lies.push(status(code, reason, &raw));
        lies.push((code, "text/html", format!("<html>{raw} {encoded}</html>").into_bytes()));
        lies.push(json(code, &secret("s", "1", &encoded)));
    }
    lies.extend([
        json(200, &secret("s", "1", &raw)),
        json(200, &secret(&raw, "1", &encoded)),
        json(200, &secret("other", "1", &encoded)),
        json(200, &json!({"kind": &raw, "apiVersion": &encoded, "metadata": {"name": &raw}, "data": {"key": &raw}})),
        json(200, &json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "data": {&raw: &encoded}})),
        json(200, &json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "data": &raw})),
        (200, "application/json", secret("s", "1", &encoded).to_string().into_bytes()[..150].to_vec()),
        (
            200,
            "application/json",
            [secret("s", "1", &encoded).to_string().as_bytes(), b"\xff", raw.as_bytes()].concat(),
        ),
        (200, "text/plain", raw.clone().into_bytes()),
    ]);
    let place = Place::new(ROOT);
    let user = json!({"token": &token.raw});
    for lie in lies {
        let text = String::from_utf8_lossy(&lie.2).into_owned();
        let liar = Liar::new(move |_| lie.clone());
        let config = place.input("kubeconfig", &liar.kubeconfig(&user));
        let point = place.path("mnt");
        for verb in ["cat", "ls", "mount"] {
            let mut command = place.secretfs();
            command.args([verb, "--kubeconfig", &config, "--timeout", "300ms"]).arg("secret/s");
            if verb == "mount" {
                command.args(["--foreground", "-vv"]).arg(&point);
            }
            let output = tells_none(&mut command, &all);
            assert!(!output.status.success(), "{verb} accepts {text}: {}", said(&output));
        }
    }
    place.holds_none(&all);
}

#[test]
fn kubeconfigs_and_plugins_that_are_wrong_get_nothing_into_a_message() {
    let token = Planted::new("token");
    let all = [token.clone()];
    let raw = &token.raw;
    let place = Place::new(ROOT);
    let plugin = |script: &str| {
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "sh",
            "args": ["-c", script], "env": [{"name": "TOKEN", "value": raw}], "interactiveMode": "Never"});
        kubeconfig(&json!({"server": "https://127.0.0.1:1"}), &json!({"exec": exec}))
    };
    let server = json!({"server": "https://127.0.0.1:1"});
    let good = kubeconfig(&server, &json!({"token": raw}));
    let configs = [
        good[..good.len() - 3].to_owned(),
        good.replace("\"token\"", "token\": \""),
        format!("{good}\n  token: {raw}\n"),
        format!("users:\n- name: u\n  user:\n    token: {raw}\n    token: {raw}\n"),
        format!("users:\n- name: u\n  user:\n\ttoken: {raw}\n"),
        good.clone(),
        kubeconfig(&server, &json!({"token": format!("{raw}\u{7f}\n")})),
        kubeconfig(&server, &json!({"username": "u", "password": raw})),
        kubeconfig(&server, &json!({"client-certificate-data": raw, "client-key-data": raw})),
        kubeconfig(
            &server,
            &json!({"client-certificate-data": STANDARD.encode(raw), "client-key-data": STANDARD.encode(raw)}),
        ),
        kubeconfig(&server, &json!({"auth-provider": {"name": "oidc", "config": {"refresh-token": raw}}})),
        kubeconfig(&json!({"server": format!("https://u:{raw}@127.0.0.1:1")}), &json!({})),
        kubeconfig(
            &json!({"server": "https://10.0.0.1", "proxy-url": format!("ftp://u:{raw}@127.0.0.1:1")}),
            &json!({}),
        ),
        kubeconfig(
            &json!({"server": "https://10.0.0.1", "proxy-url": format!("http://u:{raw}@127.0.0.1:1")}),
            &json!({}),
        ),
        kubeconfig(&json!({"server": "https://127.0.0.1:1", "certificate-authority-data": raw}), &json!({})),
        plugin("echo $TOKEN; exit 1"),
        plugin("echo $TOKEN"),
        plugin("echo \"{\\\"kind\\\":\\\"$TOKEN\\\"}\""),
        plugin("printf \"$TOKEN: [\""),
    ];
    for (at, config) in configs.iter().enumerate() {
        let config_file = place.input(&format!("kubeconfig{at}"), config);
        for verb in ["cat", "mount"] {
            let mut command = place.secretfs();
            command.args([verb, "--kubeconfig", &config_file, "--timeout", "300ms"]).arg("secret/s");
            if verb == "mount" {
                command.args(["--foreground", "-vv"]).arg(place.path("mnt"));
            }
            let output = tells_none(&mut command, &all);
            assert!(!output.status.success(), "{config}: {}", said(&output));
        }
    }
    place.holds_none(&all);
}

#[test]
fn bad_manifests_get_no_value_into_a_message_or_log() {
    let value = Planted::new("value");
    let all = [value.clone()];
    let place = Place::new(ROOT);
    let (raw, encoded) = (&value.raw, value.base64());
    let head = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
    let bad = [
        format!("{head}data: {{key: '{raw}'}}\n"),
        format!("{head}data: {{key: {encoded}x}}\n"),
        format!("{head}data:\n  key: {encoded}\n  key: [{encoded}]\n"),
        format!("{head}stringData:\n  key: '{raw}\n"),
        format!("{head}stringData:\n\tkey: {raw}\n"),
        format!("{head}stringData:\n  key: [{raw}]\n"),
        format!("{head}stringData:\n  key: {raw}: {raw}\n"),
        format!("{head}stringData:\n  key: !!int {raw}\n"),
        format!("{head}stringData:\n  key: *{raw}\n"),
        format!("{head}stringData: {raw}\n"),
        format!("{head}stringData: {{'{raw} ': x}}\n"),
        format!("{head}immutable: '{raw}'\n"),
        format!("{head}{}: x\n", raw.replace(':', "")),
        format!("{head}type: kubernetes.io/dockerconfigjson\nstringData: {{.dockerconfigjson: '{raw}'}}\n"),
        format!("{raw}\n"),
        json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "data": {"key": raw}}).to_string(),
        secret("s", "1", &encoded).to_string()[..200].to_owned(),
    ];
    for text in &bad {
        let file = place.input("bad.yaml", text);
        for verb in ["cat", "mount"] {
            let mut command = place.secretfs();
            command.args([verb, "-f", &file, "secret/s"]);
            if verb == "mount" {
                command.args(["--foreground", "-vv"]).arg(place.path("mnt"));
            }
            let output = tells_none(&mut command, &all);
            assert!(!output.status.success(), "{text}: {}", said(&output));
        }
    }
    // The same while mounted: the last good content stays, and the log names the place.
    let good = format!("{head}stringData: {{key: '{raw}'}}\n");
    let file = place.input("live.yaml", &good);
    let mount = Foreground::new(&place, &["-f", &file, "secret/s"]);
    for text in &bad {
        let before = mount.said().len();
        place.input("live.yaml", text);
        wait_until("a word about it", || mount.said().len() > before);
        let healed = mount.said().matches("good again").count();
        place.input("live.yaml", &good);
        wait_until("the end of the trouble", || mount.said().matches("good again").count() > healed);
    }
    assert_eq!(std::fs::read_to_string(place.path("mnt/key")).expect("read"), *raw);
    mount.shows_none(&[]);
    value.is_not_in(mount.said().as_bytes(), "the log");
    mount.end();
    place.holds_none(&all);
}
