//! What a kubeconfig and flags may say.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use super::{LONG, Site, VALUE, certificate};
use crate::support::liar::kubeconfig;
use crate::support::{fail, run, said, secretfs, succeed};

#[test]
fn a_list_of_kubeconfigs_is_merged_and_missing_files_are_skipped() {
    let site = Site::new();
    let (_, token) = site.user("get");
    let clusters = json!({"kind": "Config", "apiVersion": "v1", "current-context": "c",
        "clusters": [{"name": "k", "cluster": site.server()}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": site.namespace.name}}]});
    // Of two entries with one name the first counts.
    let users = json!({"kind": "Config", "apiVersion": "v1", "current-context": "other",
        "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": token}}]});
    let list = [
        "/nonexistent/kubeconfig".to_owned(),
        site.write("clusters", clusters.to_string()),
        String::new(),
        site.write("users", users.to_string()),
        "missing-too".to_owned(),
    ];
    let mut command = secretfs();
    command.env("KUBECONFIG", list.join(":")).args(["cat", "secret/s/key"]).current_dir(site.dir.path());
    assert_eq!(succeed(&mut command), VALUE);
    // kubectl agrees.
    let mut kubectl = site.namespace.cluster.kubectl();
    kubectl.env("KUBECONFIG", list.join(":")).args(["get", "secret", "s", "-o", "name"]);
    assert_eq!(succeed(&mut kubectl), "secret/s\n");
    let (code, said) = fail(command.env("KUBECONFIG", "/nonexistent/a:/nonexistent/b"));
    assert!(code == 3 && said.contains("/nonexistent/a, /nonexistent/b"), "{said}");
}

#[test]
fn a_context_names_cluster_user_and_namespace_and_flags_replace_each() {
    let site = Site::new();
    let (_, token) = site.user("get");
    let config = json!({"kind": "Config", "apiVersion": "v1", "current-context": "dead",
        "clusters": [{"name": "dead", "cluster": {"server": "https://127.0.0.1:1"}},
            {"name": "live", "cluster": site.server()}],
        "users": [{"name": "nobody", "user": {"token": "unknown"}}, {"name": "somebody", "user": {"token": token}}],
        "contexts": [{"name": "dead", "context": {"cluster": "dead", "user": "nobody"}},
            {"name": "live", "context": {"cluster": "live", "user": "somebody", "namespace": site.namespace.name}}]});
    let config = site.write("kubeconfig", config.to_string());
    let cat = |args: &[&str]| run(secretfs().args(["cat", "--kubeconfig", &config, "secret/s/key"]).args(args));
    let n = &*site.namespace.name;
    for args in [&["--context", "live"][..], &["--cluster", "live", "--user", "somebody", "-n", n]] {
        let output = cat(args);
        assert_eq!(output.stdout, VALUE.as_bytes(), "{}", said(&output));
    }
    for (args, code, words) in [
        (&[][..], 6, "refused"),
        (&["--context", "live", "--user", "nobody"], 5, "log in again"),
        (&["--context", "live", "-n", "default"], 5, "access denied"),
        (&["--context", "no-such"], 3, "use one of: dead, live"),
        (&["--user", "no-such"], 3, "no user \"no-such\""),
    ] {
        let output = cat(args);
        assert!(output.status.code() == Some(code) && said(&output).contains(words), "{args:?}: {}", said(&output));
    }
}

#[test]
fn certificates_and_their_keys_may_be_inline_or_in_files_beside_the_kubeconfig() {
    let site = Site::new();
    let (user, _) = site.user("get");
    let (chain, key) = certificate(&site, &user, LONG);
    let ca = std::fs::read(site.namespace.cluster.dir.join("ca.crt")).expect("ca.crt");
    for (name, content) in [("chain.pem", chain.as_bytes()), ("key.pem", key.as_bytes()), ("ca.pem", &ca)] {
        site.write(name, content);
    }
    let url = &site.namespace.cluster.url;
    // Relative to the kubeconfig, not to where the command runs.
    let beside = site.config(
        &json!({"server": url, "certificate-authority": "ca.pem"}),
        &json!({"client-certificate": "chain.pem", "client-key": "key.pem"}),
    );
    assert_eq!(succeed(site.cat(&["--kubeconfig", &beside]).current_dir("/")), VALUE);
    let inline = site.config(
        &json!({"server": url, "certificate-authority-data": STANDARD.encode(&ca)}),
        &json!({"client-certificate-data": STANDARD.encode(&chain), "client-key-data": STANDARD.encode(&key)}),
    );
    site.reads(&inline);
    // Who signed something else is not believed.
    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate").cert.pem();
    let wrong =
        site.config(&json!({"server": url, "certificate-authority-data": STANDARD.encode(stranger)}), &json!({}));
    let (code, said) = fail(&mut site.cat(&["--kubeconfig", &wrong]));
    assert!(code == 6 && said.contains("TLS failed"), "{said}");
}

#[test]
fn tokens_may_be_inline_or_in_a_file() {
    let site = Site::new();
    let (_, token) = site.user("get");
    site.reads(&site.config(&site.server(), &json!({"token": token})));
    site.write("token", format!("{token}\n"));
    site.reads(&site.config(&site.server(), &json!({"tokenFile": "token"})));
    let (code, said) =
        fail(&mut site.cat(&["--kubeconfig", &site.config(&site.server(), &json!({"token": "unknown"}))]));
    assert!(code == 5 && said.contains("does not accept the credentials"), "{said}");
}

#[test]
fn tls_server_name_says_which_certificate_is_expected() {
    let site = Site::new();
    let (_, token) = site.user("get");
    let with = |name: &str| {
        let mut cluster = site.server();
        cluster["tls-server-name"] = name.into();
        site.config(&cluster, &json!({"token": token}))
    };
    for name in ["kubernetes", "kubernetes.default.svc"] {
        site.reads(&with(name));
    }
    let (code, said) = fail(&mut site.cat(&["--kubeconfig", &with("kubernetes.example.com")]));
    assert!(code == 6 && said.contains("TLS failed") && said.contains("name"), "{said}");
}

#[test]
fn impersonation_is_sent_and_the_server_heeds_it() {
    let site = Site::new();
    let name = &*site.namespace.name;
    let group = format!("group-of-{name}");
    site.namespace.kubectl(&["create", "role", "reader", "--verb=get", "--resource=secrets"]);
    site.namespace.kubectl(&["create", "rolebinding", "reader", "--role=reader", &format!("--group={group}")]);
    let admin = site.namespace.cluster.kubeconfig();
    let jane = format!("jane-of-{name}");
    let config = admin.to_str().expect("UTF-8");
    let mut command = site.cat(&[
        "--kubeconfig",
        config,
        "--as",
        &jane,
        "--as-group",
        &group,
        "--as-group",
        "more",
        "--as-uid",
        "u-7",
    ]);
    assert_eq!(succeed(&mut command), VALUE);
    let seen = site.namespace.cluster.audit(|entry| entry["impersonatedUser"]["username"] == *jane);
    assert!(!seen.is_empty());
    for entry in seen {
        let who = &entry["impersonatedUser"];
        assert_eq!((&who["uid"], &entry["user"]["username"]), (&json!("u-7"), &json!("admin")), "{entry}");
        let groups: Vec<&str> = who["groups"].as_array().expect("groups").iter().filter_map(Json::as_str).collect();
        assert!(groups.contains(&&*group) && groups.contains(&"more"), "{entry}");
    }
    let (code, said) = fail(&mut site.cat(&["--kubeconfig", config, "--as", &jane]));
    assert!(code == 5 && said.contains("access denied"), "{said}");
    let (code, said) = fail(&mut site.cat(&["--kubeconfig", config, "--as-group", &group]));
    assert!(code == 3 && said.contains("--as"), "{said}");
}

#[test]
fn a_kubeconfig_without_a_current_context_is_told_what_to_do() {
    let site = Site::new();
    let config = kubeconfig(&site.server(), &json!({})).replace("current-context", "x-current-context");
    let config = site.write("kubeconfig", config);
    let (code, said) = fail(&mut site.cat(&["--kubeconfig", &config]));
    assert!(code == 3 && said.contains("use --context, one of: c"), "{said}");
}
