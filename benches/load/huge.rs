//! 100 000 Secrets: their names, and nothing else.

use std::time::Duration;

use serde_json::{Value, json};

use super::fill::{self, Size, fill};
use super::mount;
use super::names::{self, Limits};
use crate::bare::Client;
use crate::process::resident_bytes;
use crate::report::{Report, Unit};
use crate::rounds::seconds;
use crate::support::kubeconfig::{Context, kubeconfig};
use crate::support::server::Server;
use crate::support::{subdir, tempdir};

const SIZE: Size = Size { namespaces: 1000, secrets: 100 };
const LIMITS: Limits = Limits { usable: 1.0, listed: None, resident: 150 << 20 };

pub fn run(report: &mut Report) {
    report.part("huge", &SIZE.describe());
    // Its own server: the other figures are not to suffer from so many neighbours.
    let server = Server::start();
    fill(report, &server, SIZE);
    names::run(report, &server, SIZE, &LIMITS);
    by_namespace(report, &server);
}

/// The same for a user who may not list the cluster: a list and a watch for each namespace.
fn by_namespace(report: &mut Report, server: &Server) {
    let mut api = Client::connect(server);
    let mut make = |path: &str, kind: &str, name: &str, more: Value| {
        let mut object =
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}});
        object.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        api.create(&format!("/apis/rbac.authorization.k8s.io/v1/{path}"), &object);
    };
    for resource in ["namespaces", "secrets"] {
        let rule = json!({"apiGroups": [""], "resources": [resource], "verbs": ["get", "list", "watch"]});
        make("clusterroles", "ClusterRole", resource, json!({"rules": [rule]}));
    }
    let binding = |role: &str| {
        json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "user-00"}],
        })
    };
    make("clusterrolebindings", "ClusterRoleBinding", "namespaces", binding("namespaces"));
    for number in 0..SIZE.namespaces {
        let path = format!("namespaces/{}/rolebindings", fill::namespace(number));
        make(&path, "RoleBinding", "secrets", binding("secrets"));
    }
    let dir = tempdir();
    let file = dir.path().join("kubeconfig");
    let context = Context {
        name: "few".into(),
        server: server.url.clone(),
        ca: server.ca(),
        token: "token-user-00".into(),
        namespace: fill::namespace(0),
    };
    std::fs::write(&file, kubeconfig(&[context])).expect("write");
    let mount = mount(&subdir(dir.path(), "k8s"), &file);
    let listed = seconds(|| {
        for number in 0..SIZE.namespaces {
            let names = std::fs::read_dir(mount.dir.join(fill::namespace(number))).expect("readdir").count();
            assert_eq!(names, SIZE.secrets);
        }
    });
    let status = |what: &str| mount.status()["api"][what].as_u64().expect("a number");
    report.alone(Unit::Seconds, "listed namespace by namespace", listed, None);
    report.alone(Unit::Count, "  watches open then", status("open_watches") as f64, None);
    report.alone(Unit::Bytes, "  resident then", resident_bytes(mount.pid()), Some(f64::from(250 << 20)));
    let before = status("watches");
    std::thread::sleep(Duration::from_secs(30));
    let renewed = (status("watches") - before) as f64 / 30.0;
    report.alone(Unit::Count, "  watches renewed a second", (renewed * 10.0).round() / 10.0, None);
    report.exactly("  failed requests", status("failures"), 0);
}
