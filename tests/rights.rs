//! What a mount shows with few rights, and what happens when rights come and go: real RBAC objects, and the API server's
//! audit log as the witness of what was asked for.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::cluster::{Cluster, Namespace, cluster, namespace};
use crate::support::events::Watch;
use crate::support::kubeconfig::{Context, kubeconfig};
use crate::support::mount::Mount;
use crate::support::proxy::{Fault, Proxy, Request};
use crate::support::{fail, run, said, secretfs, subdir, succeed, tempdir, wait_for, wait_until};

/// A user who may do nothing until told, in the kubeconfig of `home`; what is granted cluster-wide is taken back at the end.
struct Someone {
    name: String,
    dir: TempDir,
    cluster: &'static Cluster,
    proxy: Proxy,
}

impl Someone {
    fn new(home: &Namespace) -> Someone {
        let name = home.user();
        let dir = tempdir();
        let proxy = Proxy::start(cluster());
        let context = Context { token: format!("token-{name}"), ..proxy.context(&home.name) };
        std::fs::write(dir.path().join("kubeconfig"), kubeconfig(&[context])).expect("write");
        Someone { name, dir, cluster: cluster(), proxy }
    }

    fn cluster_role(&self) -> String {
        format!("test-{}", self.name)
    }

    /// Lets the user list and watch this resource in the whole cluster.
    fn may_list(&self, resource: &str) {
        let role = format!("{}-{resource}", self.cluster_role());
        let kubectl = |args: &[&str]| succeed(self.cluster.kubectl().args(args));
        kubectl(&["create", "clusterrole", &role, "--verb=list,watch", &format!("--resource={resource}")]);
        kubectl(&[
            "create",
            "clusterrolebinding",
            &role,
            &format!("--clusterrole={role}"),
            &format!("--user={}", self.name),
        ]);
    }

    fn may_not_list(&self, resource: &str) {
        let role = format!("{}-{resource}", self.cluster_role());
        for kind in ["clusterrolebinding", "clusterrole"] {
            let _ = self.cluster.kubectl().args(["delete", "--ignore-not-found", kind, &role]).output();
        }
    }

    fn mount(&self, args: &[&str]) -> Mount {
        self.mount_at("mnt", args)
    }

    fn mount_at(&self, name: &str, args: &[&str]) -> Mount {
        let point = subdir(self.dir.path(), name);
        Mount::with(args, &point, |command| {
            self.with_kubeconfig(command);
        })
    }

    fn with_kubeconfig<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("KUBECONFIG", self.dir.path().join("kubeconfig"))
    }

    /// Ends the watches: the API server does not do that when rights go, and they would run for half a minute.
    fn end_watches(&self) {
        self.proxy.cut();
    }

    /// Each request so far: verb, resource, namespace/name, and the code of its answer.
    fn asked(&self) -> Vec<(String, u64)> {
        let entries = self.cluster.audit(|entry| entry["user"]["username"] == self.name.as_str());
        // A watch has an entry for its beginning and one for its end.
        let mut seen = BTreeSet::new();
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let once = entries.into_iter().filter(|entry| seen.insert(text(&entry["auditID"])));
        once.map(|entry| {
            let object = &entry["objectRef"];
            let at = [&object["namespace"], &object["name"]].map(text).join("/");
            let code = entry["responseStatus"]["code"].as_u64().unwrap_or(0);
            (format!("{} {} {at}", text(&entry["verb"]), text(&object["resource"])), code)
        })
        .collect()
    }

    fn count(&self, what: &str) -> usize {
        self.asked().iter().filter(|(asked, _)| asked == what).count()
    }
}

impl Drop for Someone {
    fn drop(&mut self) {
        ["namespaces", "secrets"].iter().for_each(|resource| self.may_not_list(resource));
    }
}

/// Takes a right back that [`Namespace::allow`] gave.
fn deny(namespace: &Namespace, user: &str, verbs: &str) {
    namespace.kubectl(&["delete", "rolebinding", &format!("{user}-{}", verbs.replace(',', "-"))]);
}

/// Replaces the value of the key `k`.
fn set(namespace: &Namespace, secret: &str, value: &str) {
    let patch = serde_json::json!({"stringData": {"k": value}}).to_string();
    namespace.kubectl(&["patch", "secret", secret, "--patch", &patch]);
}

/// The names in a directory, or the number of the error.
fn names(dir: &Path) -> Result<Vec<String>, i32> {
    let errno = |error: std::io::Error| error.raw_os_error().expect("an errno");
    let entries: Result<Vec<_>, _> = std::fs::read_dir(dir).map_err(errno)?.collect();
    let mut names: Vec<_> =
        entries.map_err(errno)?.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

fn read(path: &Path) -> Result<String, i32> {
    std::fs::read_to_string(path).map_err(|error| error.raw_os_error().expect("an errno"))
}

#[test]
fn a_namespace_is_listed_when_somebody_looks_into_it() {
    let (one, other) = (namespace(), namespace());
    one.secret("s", &[("k", "1")]);
    let user = Someone::new(&one);
    user.may_list("namespaces");
    one.allow(&user.name, "get,list,watch", &[]);
    other.allow(&user.name, "get,list,watch", &[]);
    let mount = user.mount(&[]);
    let shown = names(&mount.seen).expect("the namespaces");
    assert!(shown.contains(&one.name) && shown.contains(&other.name), "{shown:?}");
    let (of_one, of_other) = (format!("list secrets {}/", one.name), format!("list secrets {}/", other.name));
    assert_eq!((user.count(&of_one), user.count(&of_other)), (0, 0), "{:?}", user.asked());

    assert_eq!(names(&mount.path(&one.name)), Ok(vec!["s".into()]));
    assert_eq!(read(&mount.path(&format!("{}/s/k", one.name))), Ok("1".into()));
    let mut watch = Watch::new(&mount.path(&one.name));
    one.secret("later", &[("k", "2")]);
    watch.wait_for("CREATE|ISDIR later");
    assert_eq!(read(&mount.path(&format!("{}/later/k", one.name))), Ok("2".into()));
    assert_eq!((user.count(&of_one), user.count(&of_other)), (1, 0), "{:?}", user.asked());

    // A look at a name is a look into the directory.
    assert_eq!(read(&mount.path(&format!("{}/nope/k", other.name))), Err(libc::ENOENT));
    assert_eq!(user.count(&of_other), 1, "{:?}", user.asked());
    assert_eq!(user.count("list secrets /"), 1, "{:?}", user.asked());
    // As many GETs as objects that were read.
    assert_eq!(user.asked().iter().filter(|(asked, _)| asked.starts_with("get ")).count(), 2, "{:?}", user.asked());
}

#[test]
fn what_may_not_be_listed_is_reached_by_name() {
    let (named, any) = (namespace(), namespace());
    named.secret("mine", &[("k", "1")]);
    named.secret("other", &[("k", "2")]);
    any.secret("s", &[("k", "3")]);
    let user = Someone::new(&named);
    user.may_list("namespaces");
    named.allow(&user.name, "get,watch", &["mine"]);
    any.allow(&user.name, "get", &[]);
    let mount = user.mount(&["--poll", "1s"]);
    let path = |namespace: &Namespace, name: &str| mount.path(&format!("{}/{name}", namespace.name));

    assert_eq!(read(&path(&named, "mine/k")), Ok("1".into()));
    assert_eq!(names(&path(&named, "")), Err(libc::EACCES));
    assert_eq!(read(&path(&named, "other/k")), Err(libc::EACCES));
    assert!(names(&path(&named, "mine")).expect("its names").contains(&"k".into()));
    // Live, and announced.
    let mut watch = Watch::new(&path(&named, "mine"));
    set(&named, "mine", "new");
    watch.wait_for("MOVED_TO ..data");
    assert_eq!(read(&path(&named, "mine/k")), Ok("new".into()));

    // Polled, and gone when it is gone.
    assert_eq!(read(&path(&any, "s/k")), Ok("3".into()));
    set(&any, "s", "4");
    wait_until("the update", || read(&path(&any, "s/k")) == Ok("4".into()));
    any.kubectl(&["delete", "secret", "s"]);
    wait_until("the deletion", || read(&path(&any, "s/k")) == Err(libc::ENOENT));
    // What is not there may come.
    assert_eq!(read(&path(&any, "later/k")), Err(libc::ENOENT));
    any.secret("later", &[("k", "5")]);
    wait_until("the new one", || read(&path(&any, "later/k")) == Ok("5".into()));
    // Names that no object can have are not asked for.
    assert_eq!(read(&path(&any, "NoSuchName/k")), Err(libc::ENOENT));

    let asked = user.asked();
    assert!(!asked.iter().any(|(asked, _)| asked.contains("NoSuchName")), "{asked:?}");
    for (what, _) in &asked {
        let known = ["mine", "other", "s", "later", ""].iter().any(|name| what.ends_with(&format!("/{name}")));
        assert!(known && (what.contains(" secrets ") || what.contains(" namespaces ")), "{asked:?}");
    }
    assert_eq!(user.count(&format!("get secrets {}/mine", named.name)), 1, "{asked:?}");
    assert_eq!(user.count(&format!("get secrets {}/other", named.name)), 1, "{asked:?}");
    assert_eq!(user.count(&format!("watch secrets {}/other", named.name)), 0, "{asked:?}");
}

#[test]
fn a_namespace_that_may_not_be_listed_is_mounted() {
    for (kinds, below) in [("secrets", ""), ("secrets,configmaps", "secrets/")] {
        let home = namespace();
        home.secret("mine", &[("k", "1")]);
        home.secret("other", &[("k", "2")]);
        let user = Someone::new(&home);
        home.allow(&user.name, "get", &["mine"]);
        let point = subdir(user.dir.path(), "mnt");
        let mut command = secretfs();
        command.args(["mount", "--poll", "200ms", "--kinds", kinds, &format!("ns/{}", home.name)]).arg(&point);
        let output = run(user.with_kubeconfig(&mut command));
        let mount = Mount::of(&point);
        // It is no failure, but something to know.
        let told = format!("{}: its secrets may not be listed", home.name);
        assert!(output.status.success() && said(&output).contains(&told), "{}", said(&output));
        let path = |name: &str| mount.path(&format!("{below}{name}"));

        assert_eq!(names(&path("")), Err(libc::EACCES));
        assert_eq!(read(&path("mine/k")), Ok("1".into()));
        assert_eq!(read(&path("other/k")), Err(libc::EACCES));
        set(&home, "mine", "new");
        wait_until("the update", || read(&path("mine/k")) == Ok("new".into()));

        home.allow(&user.name, "get,list,watch", &[]);
        wait_until("the list", || names(&path("")) == Ok(vec!["mine".into(), "other".into()]));
        wait_until("the other", || read(&path("other/k")) == Ok("2".into()));
        deny(&home, &user.name, "get,list,watch");
        user.end_watches();
        wait_until("the refusal", || names(&path("")) == Err(libc::EACCES));
        wait_until("what is still allowed", || read(&path("mine/k")) == Ok("new".into()));
        mount.end();
    }
}

#[test]
fn where_namespaces_may_not_be_listed_those_that_are_named_are_shown() {
    let (own, named, unnamed) = (namespace(), namespace(), namespace());
    named.secret("s", &[("k", "1")]);
    let user = Someone::new(&own);
    named.allow(&user.name, "get,list,watch", &[]);
    let mount = user.mount(&["-n", &named.name, "--poll", "200ms"]);
    let mut expected = vec![own.name.clone(), named.name.clone()];
    expected.sort();
    assert_eq!(names(&mount.seen), Ok(expected));
    assert_eq!(names(&mount.path(&named.name)), Ok(vec!["s".into()]));
    assert_eq!(names(&mount.path(&own.name)), Err(libc::EACCES));

    // Rights that come take effect by themselves.
    let mut watch = Watch::new(&mount.seen);
    user.may_list("namespaces");
    watch.wait_for(&format!("CREATE|ISDIR {}", unnamed.name));
    assert_eq!(names(&mount.path(&named.name)), Ok(vec!["s".into()]));
}

#[test]
fn an_object_is_in_one_namespace() {
    let dir = tempdir();
    let mut command = secretfs();
    let (code, said) = fail(command.args(["mount", "-n", "a,b", "-f", "/dev/null", "secret/s"]).arg(dir.path()));
    assert!(code == 2 && said.contains("-n once"), "{said}");
}

#[test]
fn the_right_to_list_comes_and_goes_while_mounted() {
    let home = namespace();
    home.secret("read", &[("k", "1")]);
    home.secret("unread", &[("k", "2")]);
    let user = Someone::new(&home);
    home.allow(&user.name, "get", &[]);
    let mount = user.mount(&["--poll", "200ms"]);
    let path = |name: &str| mount.path(&format!("{}/{name}", home.name));
    assert_eq!(names(&path("")), Err(libc::EACCES));
    assert_eq!(read(&path("read/k")), Ok("1".into()));

    home.allow(&user.name, "list,watch", &[]);
    wait_until("the list", || names(&path("")) == Ok(vec!["read".into(), "unread".into()]));
    // What was known by its name stays the same, and is followed by the namespace's watch now.
    let mut watch = Watch::new(&path("read"));
    set(&home, "read", "new");
    watch.wait_for("MOVED_TO ..data");
    assert_eq!(read(&path("read/k")), Ok("new".into()));

    deny(&home, &user.name, "list,watch");
    user.end_watches();
    wait_until("the refusal", || names(&path("")) == Err(libc::EACCES));
    assert_eq!(read(&path("read/k")), Ok("new".into()));
    assert_eq!(read(&path("unread/k")), Ok("2".into()));
    set(&home, "read", "newer");
    wait_until("the update by polling", || read(&path("read/k")) == Ok("newer".into()));

    // The whole cluster.
    user.may_list("secrets");
    wait_until("the list", || names(&path("")) == Ok(vec!["read".into(), "unread".into()]));
    user.may_not_list("secrets");
    user.end_watches();
    wait_until("the refusal", || names(&path("")) == Err(libc::EACCES));
    // A read that meets the switch itself can find the directory gone for a moment: docs/SEMANTICS.md, Updates.
    wait_until("the content by name", || read(&path("read/k")) == Ok("newer".into()));
}

#[test]
fn content_that_was_read_is_withdrawn_with_the_right_to_it() {
    let home = namespace();
    home.secret("s", &[("k", "1")]);
    let user = Someone::new(&home);
    home.allow(&user.name, "get,list,watch", &[]);
    let mount = user.mount(&["--poll", "200ms"]);
    let path = |name: &str| mount.path(&format!("{}/{name}", home.name));
    assert_eq!(read(&path("s/k")), Ok("1".into()));
    let mut watch = Watch::new(&path(""));
    deny(&home, &user.name, "get,list,watch");
    user.end_watches();
    watch.wait_for("DELETE|ISDIR s");
    assert_eq!(read(&path("s/k")), Err(libc::EACCES));
    assert_eq!(names(&path("")), Err(libc::EACCES));
    home.allow(&user.name, "get", &[]);
    wait_until("the right", || read(&path("s/k")) == Ok("1".into()));
}

#[test]
fn an_explicit_mount_is_emptied_when_access_is_revoked_and_comes_back_with_the_right() {
    let home = namespace();
    home.secret("s", &[("k", "1")]);
    let user = Someone::new(&home);
    home.allow(&user.name, "get", &["s"]);
    let mount = user.mount(&["--poll", "200ms", "secret/s"]);
    assert_eq!(read(&mount.path("k")), Ok("1".into()));
    let mut watch = Watch::new(&mount.seen);
    deny(&home, &user.name, "get");
    watch.wait_for("DELETE k");
    wait_until("the refusal", || names(&mount.seen) == Err(libc::EACCES));
    assert_eq!(read(&mount.path("k")), Err(libc::EACCES));
    watch.clear();
    home.kubectl(&[
        "create",
        "rolebinding",
        "again",
        &format!("--role={}-get", user.name),
        &format!("--user={}", user.name),
    ]);
    watch.wait_for("MOVED_TO ..data");
    wait_until("its content", || read(&mount.path("k")) == Ok("1".into()));
}

#[test]
fn a_hiccup_withdraws_nothing() {
    let home = namespace();
    home.secret("s", &[("k", "1")]);
    let user = Someone::new(&home);
    home.allow(&user.name, "get,list,watch", &[]);
    let object = user.mount_at("object", &["--poll", "200ms", "secret/s"]);
    let view = user.mount_at("view", &["--poll", "200ms"]);
    let in_view = |name: &str| view.path(&format!("{}/{name}", home.name));
    assert_eq!(read(&object.path("k")), Ok("1".into()));
    assert_eq!(read(&in_view("s/k")), Ok("1".into()));
    let mut watches = [Watch::new(&object.seen), Watch::new(&in_view("")), Watch::new(&in_view("s"))];
    // An API server that has just started knows no rules for a moment.
    let (name, refused) = (home.name.clone(), Fault::status(403));
    let of_home = move |request: &Request| request.path().contains(&name);
    user.proxy.answer_once(of_home.clone(), refused.clone());
    user.proxy.answer_once(of_home.clone(), refused);
    let before = user.proxy.requests(of_home.clone()).len();
    user.end_watches();
    set(&home, "s", "2");
    wait_until("the updates", || {
        read(&object.path("k")).as_deref() == Ok("2") && read(&in_view("s/k")).as_deref() == Ok("2")
    });
    assert!(user.proxy.requests(of_home).len() >= before + 4);
    for watch in &mut watches {
        let seen = watch.seen();
        assert!(!seen.iter().any(|event| event == "DELETE k" || event == "DELETE|ISDIR s"), "{seen:?}");
    }
}

#[test]
fn what_the_kernel_lets_go_of_is_not_asked_for_any_more() {
    let home = namespace();
    home.secret("unused", &[("k", "1")]);
    home.secret("used", &[("k", "1")]);
    let user = Someone::new(&home);
    home.allow(&user.name, "get", &[]);
    let mount = user.mount(&["--poll", "200ms"]);
    let path = |name: &str| mount.path(&format!("{}/{name}", home.name));
    assert_eq!(read(&path("unused/k")), Ok("1".into()));
    // Open: the kernel keeps it.
    let open = std::fs::File::open(path("used/k")).expect("open");
    for number in 0..20 {
        assert_eq!(read(&path(&format!("guess-{number}/k"))), Err(libc::ENOENT));
    }
    let gets = |name: &str| user.count(&format!("get secrets {}/{name}", home.name));
    wait_until("a poll", || gets("unused") > 1 && gets("used") > 1);
    wait_for("the kernel to let go", || {
        std::fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
        (mount.status()["objects"] == 1).then_some(())
    });
    let before = gets("unused");
    let (used, rounds) = (gets("used"), 4);
    wait_until("more polls of the other", || gets("used") >= used + rounds);
    // One may have been under way.
    assert!(gets("unused") <= before + 1, "{:?}", user.asked());
    assert!((0..20).all(|number| gets(&format!("guess-{number}")) == 1), "{:?}", user.asked());
    drop(open);
    assert_eq!(read(&path("unused/k")), Ok("1".into()));
}
