//! `secretfs rbac`: what it prints is applied to the API server as it is, suffices for the mount, and has nothing too much:
//! each verb of each rule is taken away once, and the audit log is the witness of what was refused then.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::cluster::{Namespace, namespace};
use crate::support::mount::Mount;
use crate::support::{run, said, secretfs, subdir, succeed, tempdir, wait_until};

/// Somebody who may do what `secretfs rbac` has printed for them, as long as this lives.
struct Granted {
    user: String,
    source: Vec<String>,
    namespace: Namespace,
    api: Api,
    /// The Role and ClusterRole.
    roles: Vec<Value>,
    /// What was made in no namespace.
    cluster_wide: Vec<Value>,
    dir: tempfile::TempDir,
}

/// One verb of one rule.
#[derive(Clone, Copy, Debug)]
struct Spot {
    role: usize,
    rule: usize,
    verb: usize,
}

impl Granted {
    /// Applies what is printed for the admin, by whom it is read.
    fn new(namespace: Namespace, source: &[&str]) -> Granted {
        let api = Api::of(namespace.cluster);
        let user = format!("jane:{}", namespace.name);
        let source: Vec<String> = source.iter().map(|word| (*word).to_owned()).collect();
        let mut rbac = secretfs();
        rbac.env("KUBECONFIG", namespace.cluster.kubeconfig()).arg("rbac").args(home(&namespace, &source));
        let printed = succeed(rbac.args(["--subject", &user]).args(&source));
        let applied = apply(&namespace, &printed);
        let of = |kind: &'static str| {
            applied.iter().filter(move |item| item["kind"].as_str().is_some_and(|of| of.ends_with(kind)))
        };
        let roles: Vec<Value> = of("Role").cloned().collect();
        let cluster_wide = applied.iter().filter(|item| item["metadata"]["namespace"].is_null()).cloned().collect();
        assert_eq!(of("Binding").count(), roles.len(), "{printed}");
        Granted { user, source, namespace, api, roles, cluster_wide, dir: tempdir() }
    }

    /// `secretfs mount SOURCE DIR` as that user, who asks again for what may not be watched when the test is long over.
    fn mount(&self, name: &str) -> Result<Mount, String> {
        let point = subdir(self.dir.path(), name);
        let mut mount = secretfs();
        mount.env("KUBECONFIG", self.namespace.cluster.kubeconfig());
        mount.args(["mount", "--as", &self.user, "--poll", "1h"]).args(home(&self.namespace, &self.source));
        let output = run(mount.args(&self.source).arg(&point));
        if output.status.success() { Ok(Mount::of(&point)) } else { Err(said(&output)) }
    }

    /// The requests that were refused, of this verb and resource or all.
    fn refused(&self, of: Option<(&str, &str)>) -> Vec<String> {
        let entries = self.namespace.cluster.audit(|entry| {
            let object = &entry["objectRef"];
            let resource = match object["subresource"].as_str() {
                Some(sub) => format!("{}/{sub}", object["resource"].as_str().unwrap_or_default()),
                None => object["resource"].as_str().unwrap_or_default().to_owned(),
            };
            entry["impersonatedUser"]["username"] == self.user.as_str()
                && entry["responseStatus"]["code"] == 403
                && of.is_none_or(|(verb, of)| entry["verb"] == verb && resource == of)
        });
        entries.iter().map(|entry| entry["requestURI"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn refusals(&self, verb: &str, resource: &str) -> usize {
        self.refused(Some((verb, resource))).len()
    }

    #[track_caller]
    fn nothing_was_refused(&self) {
        let refused = self.refused(None);
        assert!(refused.is_empty(), "{refused:?}");
        let wrong = self.doctor();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    /// What `secretfs doctor SOURCE` finds wrong with the rights of that user.
    fn doctor(&self) -> Vec<String> {
        let whole: &[&str] = if self.source.is_empty() { &["-A"] } else { &[] };
        let words = [home(&self.namespace, &self.source), vec!["--as", &self.user], whole.to_vec()].concat();
        let words = words.into_iter().chain(self.source.iter().map(String::as_str));
        let findings = doctor(&self.namespace, &words.collect::<Vec<_>>());
        findings.into_iter().filter(|(state, _)| state != "ok").map(|(_, found)| found).collect()
    }

    fn spots(&self) -> Vec<Spot> {
        let mut spots = Vec::new();
        for (role, object) in self.roles.iter().enumerate() {
            for (rule, json) in object["rules"].as_array().expect("rules").iter().enumerate() {
                let verbs = json["verbs"].as_array().expect("verbs").len();
                spots.extend((0..verbs).map(|verb| Spot { role, rule, verb }));
            }
        }
        spots
    }

    /// The verb and resource of a spot.
    fn at(&self, spot: Spot) -> (String, String) {
        let rule = &self.roles[spot.role]["rules"][spot.rule];
        assert_eq!(rule["resources"].as_array().map(Vec::len), Some(1), "{rule}");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        (text(&rule["verbs"][spot.verb]), text(&rule["resources"][0]))
    }

    /// Takes one verb away while `work` runs.
    fn without(&self, spot: Spot, work: impl FnOnce()) {
        let mut less = self.roles[spot.role].clone();
        less["rules"][spot.rule]["verbs"].as_array_mut().expect("verbs").remove(spot.verb);
        if less["rules"][spot.rule]["verbs"] == json!([]) {
            less["rules"].as_array_mut().expect("rules").remove(spot.rule);
        }
        self.api.replace(&less);
        wait_until("the loss of a right", || !self.may(spot));
        work();
        let (verb, resource) = self.at(spot);
        let (told, begins) = (self.doctor(), format!("{verb} {resource} "));
        let is_it = |found: &String| {
            format!("{found} ").starts_with(&begins) || found.starts_with(&format!("{verb} {resource}:"))
        };
        assert!(told.iter().any(|found| is_it(found) && found.contains("denied")), "{begins}: {told:?}");
        self.api.replace(&self.roles[spot.role]);
        self.wait_for_all();
    }

    /// Whether the API server knows by now that the user may do this.
    fn may(&self, spot: Spot) -> bool {
        let (verb, resource) = self.at(spot);
        let role = &self.roles[spot.role];
        let rule = &role["rules"][spot.rule];
        let (resource, sub) = resource.split_once('/').unwrap_or((&resource, ""));
        let name = rule["resourceNames"].as_array().map_or("x", |names| names[0].as_str().expect("a name"));
        let attributes = json!({
            "verb": verb, "group": rule["apiGroups"][0], "resource": resource, "subresource": sub, "name": name,
            "namespace": role["metadata"]["namespace"].as_str().unwrap_or_default(),
        });
        let question = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": self.user, "resourceAttributes": attributes},
        });
        self.api.try_create(&question).expect("an answer")["status"]["allowed"] == true
    }

    fn wait_for_all(&self) {
        wait_until("the rights", || self.spots().into_iter().all(|spot| self.may(spot)));
    }

    /// Whatever verb is taken away, the mount is refused exactly that, and `use_it` is what brings it to ask.
    fn is_minimal(&self, use_it: impl Fn(&Mount)) {
        self.spots().into_iter().for_each(|spot| self.is_needed(spot, &use_it));
    }

    fn is_needed(&self, spot: Spot, use_it: impl Fn(&Mount)) {
        let (verb, resource) = self.at(spot);
        let before = self.refusals(&verb, &resource);
        self.without(spot, || {
            let mount = self.mount(&format!("{}-{}-{}", spot.role, spot.rule, spot.verb));
            if let Ok(mount) = &mount {
                use_it(mount);
            }
            wait_until(&format!("the refusal to {verb} {resource}"), || self.refusals(&verb, &resource) > before);
        });
    }

    /// The same for rights on whatever pods need. A single bundle is only asked for by its name where none is chosen by its
    /// signer, so that a pod with nothing else takes the place of the other at the end.
    fn is_minimal_for_any_pod(&self, pod: &Pod, use_it: impl Fn(&Mount)) {
        let is_single = |spot: &Spot| self.at(*spot) == ("get".into(), "clustertrustbundles".into());
        let (single, rest): (Vec<Spot>, Vec<Spot>) = self.spots().into_iter().partition(is_single);
        rest.into_iter().for_each(|spot| self.is_needed(spot, &use_it));
        let ns = &self.namespace.name;
        let mut other = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": ns, "name": "web"}});
        self.api.delete(&other);
        other["spec"] = pod_spec(ns, "");
        let bundle = json!({"name": pod.bundle["metadata"]["name"], "path": "ca.pem"});
        other["spec"]["volumes"] = json!([{"name": "ca", "projected": {"sources": [{"clusterTrustBundle": bundle}]}}]);
        other["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "ca", "mountPath": "/ca"}]);
        self.api.create(&other);
        assert_eq!(single.len(), 1, "{:?}", self.roles);
        single.into_iter().for_each(|spot| self.is_needed(spot, &use_it));
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        for object in &self.cluster_wide {
            let (kind, name) = (object["kind"].as_str().unwrap_or_default(), &object["metadata"]["name"]);
            let name = name.as_str().unwrap_or_default();
            let _ = self.namespace.cluster.kubectl().args(["delete", "--ignore-not-found", kind, name]).output();
        }
    }
}

/// Where SOURCE is. Without one the whole cluster is meant, of which -n would pick a part.
fn home<'a>(namespace: &'a Namespace, source: &[String]) -> Vec<&'a str> {
    if source.is_empty() { Vec::new() } else { vec!["-n", &namespace.name] }
}

/// Applies manifests with kubectl and gives what became of them.
fn apply(namespace: &Namespace, manifests: &str) -> Vec<Value> {
    let mut kubectl = namespace.cluster.kubectl();
    kubectl.args(["apply", "-o", "json", "-f", "-"]);
    let applied: Value = serde_json::from_str(&with_input(&mut kubectl, manifests)).expect("JSON");
    let items = applied["items"].as_array().cloned().unwrap_or_else(|| vec![applied]);
    items.into_iter().map(without_version).collect()
}

/// So that it can be written over whatever is there.
fn without_version(mut object: Value) -> Value {
    object["metadata"].as_object_mut().expect("metadata").remove("resourceVersion");
    object
}

/// What `secretfs doctor` finds out about rights: states, and what was found.
fn doctor(namespace: &Namespace, words: &[&str]) -> Vec<(String, String)> {
    let mut doctor = secretfs();
    doctor.env("KUBECONFIG", namespace.cluster.kubeconfig()).args(["doctor", "-o", "json"]).args(words);
    let output = run(&mut doctor);
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let text = |finding: &Value, field: &str| finding[field].as_str().expect("text").to_owned();
    let of_rights = findings.iter().filter(|finding| finding["check"] == "rights");
    let findings: Vec<_> = of_rights.map(|finding| (text(finding, "state"), text(finding, "found"))).collect();
    assert!(!findings.is_empty(), "{}", said(&output));
    findings
}

fn with_input(command: &mut Command, input: &str) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("write");
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// All objects that the pod `web` of the namespace needs, on a node of the namespace's name, and the pod.
struct Pod {
    node: Value,
    bundle: Value,
}

impl Pod {
    fn make(namespace: &Namespace) -> Pod {
        let (api, ns) = (Api::of(namespace.cluster), namespace.name.as_str());
        let signer = format!("example.com/{ns}");
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": ns}, "status": {"allocatable": {"memory": "1Gi"}},
        });
        let bundle = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle",
            "metadata": {"name": format!("example.com:{ns}:a"), "labels": {"a": "b"}},
            "spec": {"signerName": signer, "trustBundle": certificate()},
        });
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": ns, "name": "web"},
            "automountServiceAccountToken": false,
        });
        let mut objects = vec![node.clone(), bundle.clone(), account];
        for (kind, name) in [("Secret", "s"), ("ConfigMap", "c")] {
            let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"namespace": ns, "name": name}});
            object[if kind == "Secret" { "stringData" } else { "data" }] = json!({"k": "1"});
            objects.push(object);
        }
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": ns, "name": "web", "annotations": {"note": "1"}},
            "spec": pod_spec(ns, &signer),
        });
        objects.iter().for_each(|object| api.create(object));
        api.create(&pod);
        Pod { node, bundle }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let cluster = crate::support::cluster::cluster();
        let api = Api::of(cluster);
        [&self.node, &self.bundle].into_iter().for_each(|object| api.ensure_gone(object));
    }
}

fn pod_spec(node: &str, signer: &str) -> Value {
    let memory = json!({"path": "memory", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory"}});
    let note = json!({"path": "note", "fieldRef": {"fieldPath": "metadata.annotations['note']"}});
    let bundle = json!({"signerName": signer, "labelSelector": {}, "path": "ca.pem"});
    let mounts =
        ["secret", "cm", "token", "ca", "pod"].map(|name| json!({"name": name, "mountPath": format!("/{name}")}));
    json!({
        "nodeName": node, "serviceAccountName": "web",
        "containers": [{"name": "c", "image": "i", "volumeMounts": mounts}],
        "volumes": [
            {"name": "secret", "secret": {"secretName": "s"}},
            {"name": "cm", "configMap": {"name": "c"}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token", "audience": "vault"}}]}},
            {"name": "ca", "projected": {"sources": [{"clusterTrustBundle": bundle}]}},
            {"name": "pod", "downwardAPI": {"items": [memory, note]}},
            {"name": "unused", "secret": {"secretName": "not-needed"}},
        ],
    })
}

/// Some certificate of an authority, PEM.
fn certificate() -> String {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&key).expect("a certificate").pem()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Writes a value anew.
type Change = Box<dyn Fn(&str)>;

/// Each resource, a file made of it, and how to change that.
fn changes(namespace: &Namespace, pod: &Pod) -> Vec<(&'static str, &'static str, Change)> {
    let ns = namespace.name.clone();
    let patch = move |kind: &'static str, name: String, more: &'static [&'static str], field: fn(&str) -> Value| {
        let (ns, cluster) = (ns.clone(), crate::support::cluster::cluster());
        Box::new(move |value: &str| {
            let mut kubectl = cluster.kubectl();
            kubectl.args(["-n", &ns, "patch", kind, &name, "--type=merge", "-p", &field(value).to_string()]).args(more);
            succeed(&mut kubectl);
        }) as Change
    };
    let status: &[&str] = &["--subresource=status"];
    let bundle = pod.bundle["metadata"]["name"].as_str().expect("a name").to_owned();
    let name = namespace.name.clone();
    vec![
        ("secrets", "c/secret/k", patch("secret", "s".into(), &[], |value| json!({"stringData": {"k": value}}))),
        ("configmaps", "c/cm/k", patch("cm", "c".into(), &[], |value| json!({"data": {"k": value}}))),
        (
            "nodes",
            "c/pod/memory",
            patch("node", name, status, |value| json!({"status": {"allocatable": {"memory": format!("{value}Gi")}}})),
        ),
        (
            "pods",
            "c/pod/note",
            patch("pod", "web".into(), &[], |value| json!({"metadata": {"annotations": {"note": value}}})),
        ),
        (
            "clustertrustbundles",
            "c/ca/ca.pem",
            patch("clustertrustbundle", bundle, &[], |_| json!({"spec": {"trustBundle": certificate()}})),
        ),
    ]
}

#[test]
fn what_is_printed_for_a_pod_suffices_and_each_verb_of_it_is_needed() {
    let namespace = namespace();
    let pod = Pod::make(&namespace);
    let changes = changes(&namespace, &pod);
    let granted = Granted::new(namespace, &["pod/web"]);
    granted.wait_for_all();

    let mount = granted.mount("all").expect("a mount");
    assert!(read(&mount.path("c/token/token")).starts_with("ey"), "a token");
    for (resource, file, change) in &changes {
        let before = read(&mount.path(file));
        assert!(!before.is_empty(), "{file}");
        change("2");
        wait_until(&format!("the change of {resource}"), || {
            ![before.as_str(), ""].contains(&&*read(&mount.path(file)))
        });
    }
    granted.nothing_was_refused();

    let (mut gets, mut watches) = (0, 0);
    for spot in granted.spots() {
        let (verb, resource) = granted.at(spot);
        let before = granted.refusals(&verb, &resource);
        granted.without(spot, || {
            let mount = granted.mount(&format!("{}-{}-{}", spot.role, spot.rule, spot.verb));
            let file = changes.iter().find(|(of, ..)| *of == resource).map_or("c/token/token", |(_, file, _)| *file);
            if verb == "watch" {
                watches += 1;
                let mount = mount.expect("a mount");
                wait_until(&format!("the refusal to watch {resource}"), || granted.refusals(&verb, &resource) > before);
                // What may not be watched is listed again soon; single objects are asked for at intervals.
                if resource == "clustertrustbundles" {
                    return;
                }
                // It is changed, then another thing, which is watched.
                let old = read(&mount.path(file));
                let (_, _, change) = changes.iter().find(|(of, ..)| *of == resource).expect("a change");
                let (_, other, change_other) = changes.iter().find(|(of, ..)| *of != resource).expect("another");
                let value = (10 + watches).to_string();
                change(&value);
                change_other(&value);
                wait_until("the other change", || read(&mount.path(other)) == value);
                assert_eq!(read(&mount.path(file)), old, "{resource} was not watched");
            } else {
                gets += 1;
                wait_until(&format!("the refusal to {verb} {resource}"), || {
                    granted.refusals(&verb, &resource) > before
                });
                if let Ok(mount) = mount {
                    assert_eq!(read(&mount.path(file)), "", "{verb} {resource} was taken away");
                }
            }
        });
    }
    // get of four objects, list of the bundles, create of the token; and no watch of a token.
    assert_eq!((gets, watches), (6, 5), "{:?}", granted.roles);
}

#[test]
fn what_is_printed_for_a_workload_has_its_service_account() {
    let namespace = namespace();
    let pod = Pod::make(&namespace);
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {
        "serviceAccountName": "web",
        "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "secret", "mountPath": "/secret"}]}],
        "volumes": [{"name": "secret", "secret": {"secretName": "s"}}],
    }});
    granted_workload(&namespace, &template);
    let granted = Granted::new(namespace, &["deploy/web"]);
    granted.wait_for_all();
    let mount = granted.mount("all").expect("a mount");
    assert_eq!(read(&mount.path("c/secret/k")), "1");
    drop(mount);
    granted.nothing_was_refused();
    let mut kinds: Vec<String> = granted.spots().into_iter().map(|spot| granted.at(spot).1).collect();
    kinds.dedup();
    // Its account says that it gets no token.
    assert_eq!(kinds, ["secrets", "deployments", "serviceaccounts"]);
    granted.is_minimal(|_| {});
    drop(pod);
}

fn granted_workload(namespace: &Namespace, template: &Value) {
    Api::of(namespace.cluster).create(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace.name, "name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template},
    }));
}

#[test]
fn what_is_printed_for_an_object_is_about_that_name() {
    let namespace = namespace();
    namespace.secret("s", &[("k", "1")]);
    let granted = Granted::new(namespace, &["secret/s"]);
    granted.wait_for_all();
    let mount = granted.mount("all").expect("a mount");
    assert_eq!(read(&mount.path("k")), "1");
    granted.nothing_was_refused();
    assert_eq!(granted.roles.len(), 1);
    assert_eq!(
        granted.roles[0]["rules"],
        json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["s"], "verbs": ["get", "watch"]}])
    );
    granted.is_minimal(|_| {});
}

#[test]
fn what_is_printed_for_a_namespace_suffices_and_each_verb_of_it_is_needed() {
    let namespace = namespace();
    namespace.secret("s", &[("k", "1")]);
    let source = format!("ns/{}", namespace.name);
    let granted = Granted::new(namespace, &[&source]);
    granted.wait_for_all();
    let mount = granted.mount("all").expect("a mount");
    assert_eq!(read(&mount.path("s/k")), "1");
    drop(mount);
    granted.nothing_was_refused();
    assert!(granted.cluster_wide.is_empty());
    granted.is_minimal(|mount| drop(read(&mount.path("s/k"))));
}

#[test]
fn what_is_printed_for_a_cluster_suffices_and_each_verb_of_it_is_needed() {
    let namespace = namespace();
    namespace.secret("s", &[("k", "1")]);
    let file = format!("{}/s/k", namespace.name);
    let granted = Granted::new(namespace, &[]);
    granted.wait_for_all();
    let mount = granted.mount("all").expect("a mount");
    assert_eq!(read(&mount.path(&file)), "1");
    drop(mount);
    granted.nothing_was_refused();
    granted.is_minimal(|mount| drop(read(&mount.path(&file))));
}

/// Whether all that [`Pod`] has is in this directory of it.
fn is_whole(dir: &Path) -> bool {
    let file = |name: &str| read(&dir.join("c").join(name));
    let known = ["secret/k", "cm/k", "pod/note"].iter().all(|name| file(name) == "1");
    known
        && file("token/token").starts_with("ey")
        && file("ca/ca.pem").starts_with("---")
        && !file("pod/memory").is_empty()
}

#[test]
fn what_is_printed_for_a_node_suffices_and_each_verb_of_it_is_needed() {
    let namespace = namespace();
    let (source, dir) = (format!("node/{}", namespace.name), format!("{}/web", namespace.name));
    let pod = Pod::make(&namespace);
    let granted = Granted::new(namespace, &[&source]);
    granted.wait_for_all();
    let mount = granted.mount("all").expect("a mount");
    assert!(is_whole(&mount.path(&dir)));
    drop(mount);
    granted.nothing_was_refused();
    granted.is_minimal_for_any_pod(&pod, |_| {});
}

#[test]
fn doctor_knows_that_a_kubelet_reaches_what_its_own_pods_need() {
    let namespace = namespace();
    let (source, pod) = (format!("node/{}", namespace.name), Pod::make(&namespace));
    let as_node = |name: &str| {
        let user = format!("system:node:{name}");
        doctor(&namespace, &["--as", &user, "--as-group", "system:nodes", &source])
    };
    let own = as_node(&namespace.name);
    assert!(own.iter().all(|(state, _)| state == "ok"), "{own:?}");
    let for_its_pods = "get secrets in all namespaces: not for all, but allowed for the 1 that the pods on it need now";
    assert!(own.iter().any(|(_, found)| found == for_its_pods), "{own:?}");
    let other = as_node("another");
    assert!(other.contains(&("fault".into(), "list pods in all namespaces: denied".into())), "{other:?}");
    drop(pod);
}

#[test]
fn what_is_printed_for_the_pods_of_a_namespace_suffices_and_each_verb_of_it_is_needed() {
    let namespace = namespace();
    let source = format!("ns/{}", namespace.name);
    let pod = Pod::make(&namespace);
    let granted = Granted::new(namespace, &[&source, "--kinds", "pods"]);
    granted.wait_for_all();
    let mount = granted.mount("all").expect("a mount");
    assert!(is_whole(&mount.path("web")));
    drop(mount);
    granted.nothing_was_refused();
    granted.is_minimal_for_any_pod(&pod, |mount| drop(read(&mount.path("web/c/secret/k"))));
}

#[test]
fn without_a_subject_it_is_for_who_asks() {
    let namespace = namespace();
    let mut rbac = secretfs();
    rbac.env("KUBECONFIG", namespace.cluster.kubeconfig()).args(["rbac", "-n", "prod", "secret/s"]);
    let printed = succeed(rbac.args(["--as", "system:serviceaccount:ci:deployer"]));
    assert!(printed.contains("  - kind: ServiceAccount\n    namespace: \"ci\"\n    name: \"deployer\"\n"), "{printed}");
}

#[test]
fn from_manifests_nobody_is_known_and_everything_is_printed_that_the_workload_will_need() {
    let dir = tempdir();
    let manifest = dir.path().join("web.yaml");
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {
        "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "volumes": [{"name": "v", "secret": {"secretName": "yes"}}],
    }});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "prod", "name": "web"},
        "spec": {"template": template},
    });
    std::fs::write(&manifest, deployment.to_string()).expect("write");
    let rbac = |more: &[&str]| {
        let mut rbac = secretfs();
        succeed(rbac.args(["rbac", "prod/deploy/web", "-f"]).arg(&manifest).args(more))
    };
    let printed = rbac(&[]);
    let names = ["\"yes\"", "\"kube-root-ca.crt\"", "\"default\"", "serviceaccounts/token", "REPLACE-WITH-A-USER"];
    for part in names {
        assert!(printed.contains(part), "{part} in {printed}");
    }
    assert_eq!(printed, rbac(&[]));
    assert!(!rbac(&["--no-tokens"]).contains("serviceaccounts/token"));
}
