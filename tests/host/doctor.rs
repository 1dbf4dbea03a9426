//! `secretfs doctor`: each finding provoked for real.

use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::cluster::{cluster, namespace};
use crate::support::host::Host;
use crate::support::kubeconfig::{Context, kubeconfig};
use crate::support::proxy::{Fault, Proxy};
use crate::support::user::{User, ordinary};
use crate::support::{run, said, succeed};

const MANIFEST: &str = include_str!("../../examples/example-secret.yaml");

/// What doctor has found, and its exit code.
struct Report {
    code: i32,
    findings: Vec<Value>,
}

impl Report {
    #[track_caller]
    fn of(command: &mut Command) -> Report {
        let output = run(command);
        let findings = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        Report { code: output.status.code().expect("an exit code"), findings }
    }

    /// Checks one finding: its state, and that text and cure say this.
    #[track_caller]
    fn has(&self, check: &str, state: &str, found: &str, cure: &str) {
        let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
        let is_it = |finding: &&Value| {
            finding["check"] == check
                && finding["state"] == state
                && text(finding, "found").contains(found)
                && text(finding, "cure").contains(cure)
        };
        assert!(
            self.findings.iter().any(|finding| is_it(&finding)),
            "{check} {state} {found:?} {cure:?}: {:#?}",
            self.findings
        );
    }

    /// Checks that everything else is well.
    #[track_caller]
    fn is_all_the_rest_well(&self, but: &[&str]) {
        // Whether this machine has a log is not ours to say.
        let but = |check: &str| but.contains(&check) || check == "log";
        for finding in &self.findings {
            let check = finding["check"].as_str().expect("a check");
            assert!(but(check) || finding["state"] == "ok", "{finding:#}");
        }
    }
}

/// On this host, with a manifest; the script comes before `doctor`, which runs through `runner`.
#[track_caller]
fn on(host: &Host, script: &str, runner: &str) -> Report {
    host.sandbox.write("secret.yaml", MANIFEST);
    Report::of(
        &mut host.with_fstab("", &format!("{script}\n{runner} secretfs doctor -o json -f secret.yaml secret/mysecret")),
    )
}

fn as_ordinary() -> String {
    let User { uid, gid } = ordinary();
    format!("setpriv --reuid {uid} --regid {gid} --clear-groups")
}

#[test]
fn on_a_host_that_is_well_nothing_is_found() {
    let host = Host::new();
    for runner in ["", &as_ordinary()] {
        let report = on(&host, "", runner);
        // Other tests may have dead mounts just now.
        report.is_all_the_rest_well(&["locked memory", "dead mounts"]);
        assert_eq!(report.code, 0);
        report.has("object", "ok", "default/secret/mysecret", "");
    }
    let text = succeed(&mut host.bash("secretfs doctor -f secret.yaml"));
    assert!(text.contains("ok       /dev/fuse        can be opened\n"), "{text}");
    host.sandbox.is_clean();
}

#[test]
fn a_hidden_device_is_a_fault_with_its_cure() {
    let host = Host::new();
    let report = on(&host, "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3", "");
    report.has("/dev/fuse", "fault", "this kernel has no FUSE now", "modprobe fuse");
    report.has("user namespaces", "skipped", "", "");
    report.has("log", "warning", "/dev/log: No such file", "run journald");
    assert_eq!(report.code, 8);
    let script = "mount -t tmpfs none /mnt; mknod -m 600 /mnt/fuse c 10 229; mount --bind /mnt/fuse /dev/fuse";
    let report = on(&host, script, &as_ordinary());
    report.has("/dev/fuse", "fault", "ermission denied", "chmod 0666 /dev/fuse");
}

#[test]
fn a_host_without_user_namespaces_is_told_which_switch_to_turn() {
    let host = Host::new();
    host.sandbox.write("secret.yaml", MANIFEST);
    let script = "unshare --user --map-root-user sh -c 'echo 0 > /proc/sys/user/max_user_namespaces
        exec secretfs doctor -o json -f secret.yaml'";
    let report = Report::of(&mut host.bash(script));
    report.has("user namespaces", "warning", "user.max_user_namespaces = 0", "sysctl -w user.max_user_namespaces=");
}

#[test]
fn what_keeps_an_ordinary_user_from_mounting_is_a_fault() {
    let host = Host::new();
    let hide = "for helper in /usr/bin/fusermount3 /usr/bin/fusermount; do
        test ! -e $helper || mount --bind /dev/null $helper; done";
    let report = on(&host, hide, &as_ordinary());
    report.has("mounting", "fault", "fusermount3 is in none of", "install the package fuse3");
    assert_eq!(report.code, 8);
    let weak = "cp /usr/bin/fusermount3 ./weak; chmod 755 weak
        for helper in /usr/bin/fusermount3 /usr/bin/fusermount; do mount --bind weak $helper; done";
    on(&host, weak, &as_ordinary()).has("mounting", "fault", "is not setuid root", "chmod u+s /usr/bin/fusermount3");
    let report = on(&host, "", &format!("{} --no-new-privs", as_ordinary()));
    report.has("mounting", "fault", "no_new_privs", "mount from outside");
    // Root without its capabilities, as in a container.
    let report = on(&host, "", "setpriv --bounding-set -sys_admin");
    report.has("mounting", "fault", "root has no CAP_SYS_ADMIN", "--cap-add SYS_ADMIN");
}

#[test]
fn fuse_conf_is_read_as_fusermount_reads_it() {
    let host = Host::new();
    host.sandbox.write("etc/fuse.conf", "mount_max = 0\n");
    let report = on(&host, "", &as_ordinary());
    report.has("fuse.conf", "fault", "ordinary users may make 0", "mount_max in /etc/fuse.conf");
    host.sandbox.write("etc/fuse.conf", "#user_allow_other\n");
    on(&host, "", &as_ordinary()).has("fuse.conf", "ok", "may not use --allow-other", "a line user_allow_other");
    host.sandbox.write("etc/fuse.conf", "user_allow_other\n");
    on(&host, "", &as_ordinary()).has("fuse.conf", "ok", "may use --allow-other", "");
    on(&host, "", "").has("fuse.conf", "ok", "does not bind", "");
}

#[test]
fn a_low_limit_of_locked_memory_matters_where_there_is_swap() {
    let host = Host::new();
    let runner = format!("prlimit --memlock=65536:65536 {}", as_ordinary());
    host.sandbox.write("swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n");
    let report = on(&host, "mount --bind swaps /proc/swaps", &runner);
    report.has("locked memory", "warning", "64 KiB of values", "LimitMEMLOCK=");
    assert_eq!(report.code, 0, "a warning is no fault");
    host.sandbox.write("swaps", "Filename Type Size Used Priority\n");
    on(&host, "mount --bind swaps /proc/swaps", &runner).has("locked memory", "ok", "has no swap", "");
}

#[test]
fn a_kernel_that_is_too_old_is_a_fault() {
    let report = on(&Host::new(), "", "setarch --uname-2.6");
    report.has("kernel", "fault", "Linux 2.6.", "Linux 5.12 or later");
}

#[test]
fn dead_mounts_are_found_with_the_way_to_clear_them() {
    let host = Host::new();
    host.sandbox.mkdir("m");
    let die = "secretfs mount -f secret.yaml secret/mysecret ./m
        pid=$(secretfs status -o json | jq --arg dir \"$PWD/m\" '.[] | select(.mountpoint == $dir) | .pid')
        kill -KILL $pid; tail --pid=$pid -f /dev/null";
    let place = host.path("m");
    on(&host, die, "").has("dead mounts", "warning", &place, "secretfs umount --stale");
    let report = on(&host, &format!("{die}; secretfs umount --stale >&2"), "");
    assert!(!report.findings.iter().any(|finding| finding["found"].as_str().is_some_and(|text| text.contains(&place))));
}

/// With this cluster and these further arguments.
#[track_caller]
fn at(context: &Context, args: &str) -> Report {
    let host = Host::new();
    host.sandbox.write("config", kubeconfig(std::slice::from_ref(context)));
    Report::of(&mut host.bash(&format!("secretfs doctor -o json --kubeconfig config {args}")))
}

#[test]
fn each_step_to_the_cluster_has_its_finding() {
    let space = namespace();
    let report = at(&space.context(), "");
    report.is_all_the_rest_well(&["locked memory", "dead mounts"]);
    report.has("kubeconfig", "ok", &space.cluster.url, "");
    report.has("clock", "ok", "agrees", "");

    let report = at(&space.context(), "--context nope");
    report.has("kubeconfig", "fault", "has no context \"nope\"", "use one of");
    assert_eq!(report.code, 3);

    let report = at(&Context { token: "no-such-token".into(), ..space.context() }, "secret/x");
    report.has("credentials", "fault", "does not accept the credentials", "log in again");
    assert_eq!(report.code, 5);

    let proxy = Proxy::start(cluster());
    proxy.refuse();
    let report = at(&proxy.context(&space.name), "");
    report.has("API server", "fault", "the connection was refused", "is the API server running?");
    assert_eq!(report.code, 6);
    proxy.heal();
    proxy.answer(|_| true, Fault::status(500));
    let report = at(&proxy.context(&space.name), "");
    report.has("API server", "fault", "answered 500 InternalError", "its own log says why");
    assert_eq!(report.code, 6);
}

#[test]
fn a_wrong_clock_is_seen_in_the_servers_date() {
    let space = namespace();
    for (wrong, text) in [(3600, "s behind the API server's"), (-3600_i64, "s ahead of the API server's")] {
        let proxy = Proxy::start(cluster());
        let hour = Duration::from_secs(3600);
        let theirs = if wrong > 0 { SystemTime::now() + hour } else { SystemTime::now() - hour };
        let date = format!("Date: {}\r\n", httpdate::fmt_http_date(theirs));
        proxy.answer(
            |request| request.target.starts_with("/version"),
            Fault::Answer(200, date, "application/json", "{}".into()),
        );
        let report = at(&proxy.context(&space.name), "");
        report.has("clock", "warning", text, "chrony");
        assert_eq!(report.code, 0);
    }
}

#[test]
fn rights_are_tried_and_the_missing_ones_named() {
    let space = namespace();
    space.secret("db", &[("password", "p")]);
    let n = &space.name;
    let report = at(&space.context(), "secret/db");
    report.has("rights", "ok", &format!("get secrets db in namespace {n}"), "");
    report.has("rights", "ok", "watch secrets db", "");
    let report = at(&space.context(), "secret/nope");
    report.has("rights", "fault", "allowed, but it does not exist", "check the name");
    assert_eq!(report.code, 4);

    let user = space.user();
    let report = at(&space.context_of(&user), "secret/db");
    report.has("rights", "fault", "get secrets db", "a Role that allows: get secrets db");
    assert_eq!(report.code, 5);
    space.allow(&user, "get", &["db"]);
    let report = at(&space.context_of(&user), "secret/db");
    report.has("rights", "ok", "get secrets db", "");
    report.has("rights", "warning", "denied: updates show when --poll asks again", "allows: watch secrets db");
    assert_eq!(report.code, 0);
    let report = at(&space.context_of(&user), &format!("ns/{n}"));
    report.has("rights", "warning", "denied: names are not shown", &format!("list secrets in namespace {n}"));
    let report = at(&space.context_of(&user), "-A --kinds secrets,configmaps");
    report.has("rights", "warning", "list namespaces: denied", "list namespaces");
    report.has("rights", "warning", "list configmaps in all namespaces: denied", "");
}

/// A Deployment of one container with one Secret.
fn deployment(namespace: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "s", "mountPath": "/etc/s"}]}],
                "volumes": [{"name": "s", "secret": {"secretName": secret}}],
            },
        }},
    })
}

#[test]
fn what_the_files_of_a_pod_need_is_looked_at_too() {
    let space = namespace();
    Api::of(space.cluster).create(&deployment(&space.name, "db"));
    let n = &space.name;
    // It is there, what it needs is not: a pod may do without it.
    let report = at(&space.context(), "deploy/web");
    report.has("rights", "ok", &format!("get deployments web in namespace {n}"), "");
    report.has("rights", "warning", &format!("get secrets db in namespace {n}: allowed, but"), "secretfs check");
    assert_eq!(report.code, 0);
    space.secret("db", &[("password", "p")]);
    at(&space.context(), "deploy/web").has("rights", "ok", &format!("get secrets db in namespace {n}"), "");

    let user = space.user();
    let report = at(&space.context_of(&user), "deploy/web");
    report.has("rights", "fault", "get deployments web", "allows: get deployments web");
    assert!(!report.findings.iter().any(|finding| finding["found"].to_string().contains("secrets")));
    assert_eq!(report.code, 5);
    space.kubectl(&["create", "role", "look", "--verb=get,watch", "--resource=deployments.apps,serviceaccounts"]);
    space.kubectl(&["create", "rolebinding", "look", "--role=look", &format!("--user={user}")]);
    let report = at(&space.context_of(&user), "deploy/web");
    report.has("rights", "fault", "get secrets db", "allows: get secrets db");
    report.has("rights", "warning", "create serviceaccounts/token default", "mount with --no-tokens, or ask");
    space.allow(&user, "get,watch", &["db"]);
    let report = at(&space.context_of(&user), "--no-tokens deploy/web");
    report.has("rights", "ok", "get secrets db", "");
    assert!(!report.findings.iter().any(|finding| finding["found"].to_string().contains("token")));
    // Whether it is a name or the pod that is wrong.
    let report = at(&space.context(), "pod/nope");
    report.has("rights", "fault", "get pods nope in namespace", "check the name");
    assert_eq!(report.code, 4);
}

#[test]
fn no_value_is_asked_for() {
    let space = namespace();
    space.secret("db", &[("password", "correct-horse")]);
    Api::of(space.cluster).create(&deployment(&space.name, "db"));
    let proxy = Proxy::start(cluster());
    for source in ["secret/db", &format!("ns/{}", space.name), "deploy/web"] {
        at(&proxy.context(&space.name), source).has("rights", "ok", "watch secrets", "");
    }
    let value = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, "correct-horse");
    let answers = proxy.exchanges();
    assert!(answers.len() >= 5, "{}", answers.len());
    for answer in answers {
        let text = String::from_utf8_lossy(&answer.response).into_owned();
        assert!(!text.contains(&value), "{}: {text}", answer.request.target);
        let accept = answer.request.headers.iter().find(|(name, _)| name == "accept").expect("Accept");
        let metadata = accept.1.contains("as=PartialObjectMetadata");
        let holds_none = ["/version", "/apis/authorization.k8s.io/", "/apis/apps/v1/", "serviceaccounts"];
        let none = holds_none.iter().any(|part| answer.request.target.contains(part));
        assert!(metadata || none, "{} {accept:?}", answer.request.target);
    }
}
