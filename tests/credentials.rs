//! Everything that kubectl accepts to reach a cluster and to say who asks, against the real API server.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use crate::support::cluster::{Namespace, namespace};
use crate::support::liar::kubeconfig;
use crate::support::mount::Mount;
use crate::support::proxy::{Certificate, Fault, Proxy};
use crate::support::{fail, run, said, secretfs, subdir, succeed, tempdir, wait_until};

/// A namespace with a Secret `s`, and a directory for kubeconfigs and what they name.
struct Site {
    dir: tempfile::TempDir,
    namespace: Namespace,
}

const VALUE: &str = "the value";

impl Site {
    fn new() -> Site {
        let namespace = namespace();
        namespace.secret("s", &[("key", VALUE)]);
        Site { dir: tempdir(), namespace }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        // As tools that rotate files do it: never half a file.
        let path = self.path(name);
        let new = self.path(&format!("{name}.new"));
        std::fs::write(&new, content).expect("write");
        std::fs::rename(&new, &path).expect("rename");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// The API server as kubeconfigs know it.
    fn server(&self) -> Json {
        json!({"server": self.namespace.cluster.url, "certificate-authority": self.namespace.cluster.dir.join("ca.crt")})
    }

    /// Writes a kubeconfig and gives its path.
    fn config(&self, cluster: &Json, user: &Json) -> String {
        self.write("kubeconfig", kubeconfig(cluster, user))
    }

    /// A user who may do this with the Secret, and the user's token.
    fn user(&self, verbs: &str) -> (String, String) {
        let user = self.namespace.user();
        self.namespace.allow(&user, verbs, &["s"]);
        let token = format!("token-{user}");
        (user, token)
    }

    fn cat(&self, args: &[&str]) -> Command {
        let mut command = secretfs();
        for name in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
            command.env_remove(name);
        }
        command.args(["cat", "-n", &self.namespace.name]).args(args).arg("secret/s/key");
        command.current_dir(self.dir.path());
        command
    }

    /// Reads the Secret with a kubeconfig.
    #[track_caller]
    fn reads(&self, config: &str) {
        assert_eq!(succeed(&mut self.cat(&["--kubeconfig", config])), VALUE);
    }

    #[track_caller]
    fn mount(&self, config: &str, args: &[&str]) -> Mount {
        let all = [&["--kubeconfig", config, "-n", &self.namespace.name], args, &["secret/s"]].concat();
        Mount::new(&all, &subdir(self.dir.path(), "mnt"))
    }

    fn set(&self, value: &str) {
        let patch = json!({"stringData": {"key": value}}).to_string();
        self.namespace.kubectl(&["patch", "secret", "s", "--patch", &patch]);
    }
}

fn shown(mount: &Mount) -> String {
    std::fs::read_to_string(mount.path("key")).unwrap_or_else(|error| error.to_string())
}

/// The server's certificate authority issues a certificate for `user`, valid for this long. Gives chain and key, PEM.
fn certificate(site: &Site, user: &str, valid: Duration) -> (String, String) {
    let pkcs8 = ["pkcs8", "-topk8", "-nocrypt", "-in"];
    let key = succeed(Command::new("openssl").args(pkcs8).arg(site.namespace.cluster.dir.join("ca.key")));
    let subject = succeed(
        Command::new("openssl")
            .args(["x509", "-noout", "-subject", "-nameopt", "sep_comma_plus,sname", "-in"])
            .arg(site.namespace.cluster.dir.join("ca.crt")),
    );
    let name = subject.trim().rsplit_once("CN=").expect("a common name").1.to_owned();
    let mut authority = rcgen::CertificateParams::default();
    authority.distinguished_name = rcgen::DistinguishedName::new();
    // Go compares the bytes of names, and this is how it writes them.
    let name = rcgen::DnValue::PrintableString(name.try_into().expect("a printable name"));
    authority.distinguished_name.push(rcgen::DnType::CommonName, name);
    let issuer = rcgen::Issuer::new(authority, rcgen::KeyPair::from_pem(&key).expect("the key"));

    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, user);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + valid;
    let key = rcgen::KeyPair::generate().expect("a key");
    (params.signed_by(&key, &issuer).expect("a certificate").pem(), key.serialize_pem())
}

const LONG: Duration = Duration::from_secs(3600);

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

/// A proxy before the API server, which from some time on refuses a token as the server does when it has expired.
struct Gate {
    proxy: Proxy,
    cluster: Json,
}

impl Gate {
    fn new(site: &Site) -> Gate {
        let proxy = Proxy::start(site.namespace.cluster);
        let context = proxy.context(&site.namespace.name);
        let cluster = json!({"server": context.server, "certificate-authority-data": STANDARD.encode(&context.ca)});
        Gate { proxy, cluster }
    }

    fn refuses(&self, token: &str) {
        let header = format!("Bearer {token}");
        self.proxy.answer(move |request| request.header("authorization") == Some(&*header), Fault::status(401));
        // Watches that were allowed go on at the real server until they end.
        self.proxy.cut();
    }

    fn seen(&self, token: &str) -> usize {
        let header = format!("Bearer {token}");
        self.proxy.requests(|request| request.header("authorization") == Some(&*header)).len()
    }
}

#[test]
fn a_token_file_that_rotates_is_read_again_when_the_old_token_is_refused() {
    let site = Site::new();
    let ((_, old), (_, new)) = (site.user("get,watch"), site.user("get,watch"));
    let gate = Gate::new(&site);
    site.write("token", &old);
    let mount = site.mount(&site.config(&gate.cluster, &json!({"tokenFile": "token"})), &[]);
    assert_eq!((shown(&mount), gate.seen(&new)), (VALUE.into(), 0));
    site.write("token", &new);
    gate.refuses(&old);
    site.set("changed");
    wait_until("the update", || shown(&mount) == "changed");
    assert!(gate.seen(&new) > 0);
    assert_eq!(mount.status()["trouble"], Json::Null);
    mount.end();
}

/// An exec plugin: each run leaves a line in `runs` and gives what is in `token`.
fn plugin(site: &Site, more: &str, mode: &str) -> Json {
    let script = r#"
        [[ -t 0 ]] && tty=yes || tty=no
        echo "tty=$tty info=$KUBERNETES_EXEC_INFO" >> "$DIR/runs"
        expires=$(cat "$DIR/expires" 2> /dev/null) || true
        echo '{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1",
            "status": {"token": "'"$(cat "$DIR/token")"'"'"${expires:+, \"expirationTimestamp\": \"$expires\"}"'}}'
    "#;
    json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "bash",
        "args": ["-c", format!("{script}{more}")], "env": [{"name": "DIR", "value": site.dir.path()}],
        "interactiveMode": mode, "provideClusterInfo": true}})
}

fn runs(site: &Site) -> Vec<String> {
    let runs = std::fs::read_to_string(site.path("runs")).unwrap_or_default();
    runs.lines().map(str::to_owned).collect()
}

fn in_seconds(seconds: u64) -> String {
    succeed(Command::new("date").args(["-u", "-d", &format!("now + {seconds} seconds"), "+%FT%TZ"])).trim().to_owned()
}

#[test]
fn an_exec_plugin_runs_once_and_again_only_when_its_token_is_refused() {
    let site = Site::new();
    let ((_, old), (_, new)) = (site.user("get,watch"), site.user("get,watch"));
    let gate = Gate::new(&site);
    site.write("token", &old);
    site.write("expires", in_seconds(3600));
    let mount = site.mount(&site.config(&gate.cluster, &plugin(&site, "", "Never")), &[]);
    for value in ["one", "two"] {
        site.set(value);
        wait_until("the update", || shown(&mount) == value);
    }
    gate.proxy.cut();
    site.set("three");
    wait_until("the update", || shown(&mount) == "three");
    let seen = runs(&site);
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen[0].contains(r#""interactive":false"#) && seen[0].contains(&gate.proxy.url), "{seen:?}");
    site.write("token", &new);
    gate.refuses(&old);
    site.set("four");
    wait_until("the update", || shown(&mount) == "four");
    assert_eq!(runs(&site).len(), 2);
    mount.end();
}

#[test]
fn a_plugin_is_asked_ahead_of_the_end_and_has_the_terminal_only_the_first_time() {
    let site = Site::new();
    let (_, token) = site.user("get");
    site.write("token", &token);
    // It counts as about to expire a minute before, and is still good then.
    site.write("expires", in_seconds(65));
    let config = site.config(&site.server(), &plugin(&site, "", "IfAvailable"));
    let point = subdir(site.dir.path(), "mnt");
    // A terminal for the command. Its standard input does not end, or the terminal would hang up.
    let program = env!("CARGO_BIN_EXE_secretfs");
    let typed = format!(
        "{program} mount --kubeconfig {config} --poll 200ms -n {} secret/s {}",
        site.namespace.name,
        point.display()
    );
    let mut command = Command::new("script");
    command.args(["-qec", &typed, "/dev/null"]).env("HOME", "/nonexistent").stdin(std::process::Stdio::null());
    let output = run(&mut command);
    assert!(output.status.success(), "{}", said(&output));
    let mount = Mount::of(&point);
    // One of the polls is the first that sees it so.
    site.write("expires", in_seconds(3600));
    wait_until("the second run", || runs(&site).len() == 2);
    site.set("changed");
    wait_until("the update", || shown(&mount) == "changed");
    let seen = runs(&site);
    assert!(seen[0].starts_with("tty=yes ") && seen[0].contains(r#""interactive":true"#), "{seen:?}");
    assert!(seen[1].starts_with("tty=no ") && seen[1].contains(r#""interactive":false"#), "{seen:?}");
    assert_eq!(seen.len(), 2);
    mount.end();
}

#[test]
fn a_plugin_that_fails_later_keeps_the_content_and_status_says_what_to_do() {
    let site = Site::new();
    let (_, token) = site.user("get");
    let gate = Gate::new(&site);
    site.write("token", &token);
    let user = plugin(&site, "test ! -e \"$DIR/broken\"", "Never");
    let mount = site.mount(&site.config(&gate.cluster, &user), &["--poll", "200ms"]);
    site.write("broken", "");
    gate.refuses(&token);
    wait_until("the trouble", || mount.status()["trouble"].as_str().is_some_and(|why| why.contains("log in again")));
    assert_eq!(shown(&mount), VALUE);
    let table = succeed(secretfs().args(["status", "-o", "wide"]));
    let row = table.lines().find(|line| line.starts_with(mount.dir.to_str().expect("UTF-8"))).expect("a row");
    assert!(row.contains("stale ") && row.contains("the plugin bash failed"), "{row}");
    assert!(!table.contains(&token));
    mount.end();
}

#[test]
fn a_certificate_that_expires_makes_the_content_stale_and_a_new_one_is_taken() {
    let site = Site::new();
    let (user, _) = site.user("get");
    let write = |valid| {
        let (chain, key) = certificate(&site, &user, valid);
        // The key first: a pair that does not fit is refused, and looked at again.
        site.write("key.pem", key);
        site.write("chain.pem", chain);
    };
    write(Duration::from_secs(12));
    let user = json!({"client-certificate": "chain.pem", "client-key": "key.pem"});
    let mount = site.mount(&site.config(&site.server(), &user), &["--poll", "200ms"]);
    assert_eq!(shown(&mount), VALUE);
    wait_until("its end", || mount.status()["trouble"].as_str().is_some_and(|why| why.contains("401")));
    let why = mount.status()["trouble"].as_str().expect("trouble").to_owned();
    assert!(why.contains("log in again or check the kubeconfig"), "{why}");
    site.set("changed");
    assert_eq!(shown(&mount), VALUE, "the content stays");
    write(LONG);
    wait_until("the update", || shown(&mount) == "changed");
    wait_until("the end of the trouble", || mount.status()["trouble"] == Json::Null);
    mount.end();
}

/// A proxy that makes tunnels, all of them to the API server, and remembers what for.
struct Tunnels {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tunnels {
    fn to(server: &str) -> Tunnels {
        let server = server.strip_prefix("https://").expect("https").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = asked.clone();
        // It ends with the test's process; what is connected ends with either side.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (server, log) = (server.clone(), log.clone());
                std::thread::spawn(move || tunnel(stream, &server, &log));
            }
        });
        Tunnels { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("a lock").clone()
    }
}

fn tunnel(mut client: TcpStream, server: &str, log: &Mutex<Vec<String>>) -> Option<()> {
    use std::io::Write;
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    log.lock().expect("a lock").push(head.lines().next()?.to_owned());
    let mut upstream = TcpStream::connect(server).ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (mut back, mut to_client) = (upstream.try_clone().ok()?, client.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut to_client);
        let _ = to_client.shutdown(std::net::Shutdown::Both);
    });
    // What the reader has already taken goes first.
    let _ = std::io::copy(&mut reader, &mut upstream);
    let _ = upstream.shutdown(std::net::Shutdown::Both);
    Some(())
}

#[test]
fn the_way_may_lead_through_a_proxy_of_the_kubeconfig_or_of_the_environment() {
    let site = Site::new();
    let (_, token) = site.user("get");
    let user = json!({"token": token});
    let with = |more: &[(&str, &str)]| {
        let mut cluster = site.server();
        cluster.as_object_mut().expect("an object").extend(more.iter().map(|(k, v)| ((*k).into(), (*v).into())));
        site.config(&cluster, &user)
    };
    let url = &site.namespace.cluster.url;

    let tunnels = Tunnels::to(url);
    let authority = url.strip_prefix("https://").expect("https");
    site.reads(&with(&[("proxy-url", &tunnels.url)]));
    assert_eq!(tunnels.asked(), [format!("CONNECT {authority} HTTP/1.1")]);

    // A name that only the proxy knows.
    let tunnels = Tunnels::to(url);
    let config = with(&[("server", "https://api.cluster.invalid:6443"), ("tls-server-name", "kubernetes")]);
    let read = |variables: &[(&str, &str)]| {
        run(site.cat(&["--kubeconfig", &config, "--timeout", "10s"]).envs(variables.iter().copied()))
    };
    for (at, name) in ["HTTPS_PROXY", "https_proxy"].into_iter().enumerate() {
        let output = read(&[(name, &tunnels.url), ("NO_PROXY", "other.invalid,10.0.0.0/8")]);
        assert_eq!(output.stdout, VALUE.as_bytes(), "{}", said(&output));
        assert_eq!(tunnels.asked().len(), at + 1);
    }
    assert_eq!(tunnels.asked()[0], "CONNECT api.cluster.invalid:6443 HTTP/1.1");
    for except in ["api.cluster.invalid", ".cluster.invalid", "cluster.invalid:6443", "*"] {
        let output = read(&[("HTTPS_PROXY", &tunnels.url), ("NO_PROXY", except)]);
        assert!(output.status.code() == Some(6) && said(&output).contains("cannot be resolved"), "{}", said(&output));
    }
    assert_eq!(tunnels.asked().len(), 2, "NO_PROXY is heeded");
    // And one that is not there.
    let output = read(&[("HTTPS_PROXY", "http://127.0.0.1:1")]);
    assert_eq!(output.status.code(), Some(6), "{}", said(&output));
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

/// As in a pod: the service account's files at their place, in a mount namespace of the script's own.
const IN_POD: &str = r#"
set -euo pipefail
program=$1 dir=$2 kubectl=$3
mount -t tmpfs none /run
[[ -L /var/run ]] || mount --bind /run /var/run
account=/var/run/secrets/kubernetes.io/serviceaccount
mkdir -p "$account"
cp "$dir/ca.crt" "$account/ca.crt"
cp "$dir/old" "$account/token"
printf %s "$NAMESPACE" > "$account/namespace"
trap '"$program" umount --lazy "$dir/mnt" 2> /dev/null || true' EXIT
"$program" cat secret/s/key; echo
"$program" mount secret/s "$dir/mnt"
cat "$dir/mnt/key"; echo
# The kubelet replaces the file; the old token is refused from now on.
cp "$dir/new" "$account/token.new"
mv "$account/token.new" "$account/token"
echo rotate; read -r
until [[ $(cat "$dir/mnt/key") == changed ]]; do sleep 0.05; done
cat "$dir/mnt/key"; echo
# And the authority: the server shows a certificate of another one.
cp "$dir/new-ca.crt" "$account/ca.crt.new"
mv "$account/ca.crt.new" "$account/ca.crt"
echo rotate; read -r
until [[ $(cat "$dir/mnt/key") == again ]]; do sleep 0.05; done
cat "$dir/mnt/key"; echo
"$program" status -o json | jq -r '.[0].trouble, .[0].from'
"#;

#[test]
fn in_a_pod_the_service_account_is_used_and_its_token_and_authority_reloaded() {
    use std::io::Write;
    let site = Site::new();
    let ((_, old), (_, new)) = (site.user("get,watch"), site.user("get,watch"));
    let gate = Gate::new(&site);
    subdir(site.dir.path(), "mnt");
    site.write("old", &old);
    site.write("new", &new);
    site.write(
        "ca.crt",
        STANDARD.decode(gate.cluster["certificate-authority-data"].as_str().expect("a CA")).expect("base64"),
    );
    let authority = Certificate::new();
    site.write("new-ca.crt", &authority.pem);
    let port = gate.proxy.url.rsplit(':').next().expect("a port").to_owned();
    let mut command = Command::new("unshare");
    command.args(["-m", "timeout", "60", "bash", "-c", IN_POD, "in-pod", env!("CARGO_BIN_EXE_secretfs")]);
    command.arg(site.dir.path()).arg("kubectl").env_remove("KUBECONFIG").env("HOME", "/nonexistent");
    command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1").env("KUBERNETES_SERVICE_PORT", &port);
    command.env("NAMESPACE", &site.namespace.name);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("unshare");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let first: Vec<String> = lines.by_ref().take(3).collect();
    assert_eq!(first, [VALUE, VALUE, "rotate"]);
    gate.refuses(&old);
    site.set("changed");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"\n").expect("write");
    assert_eq!(lines.by_ref().take(2).collect::<Vec<_>>(), ["changed", "rotate"]);
    gate.proxy.show(&authority);
    site.set("again");
    input.write_all(b"\n").expect("write");
    let rest: Vec<String> = lines.collect();
    assert_eq!(rest, ["again".to_owned(), "null".to_owned(), format!("in-cluster ({})", gate.proxy.url)]);
    assert!(child.wait().expect("wait").success());
    assert!(gate.seen(&new) > 0);
}

#[test]
fn a_kubeconfig_without_a_current_context_is_told_what_to_do() {
    let site = Site::new();
    let config = kubeconfig(&site.server(), &json!({})).replace("current-context", "x-current-context");
    let config = site.write("kubeconfig", config);
    let (code, said) = fail(&mut site.cat(&["--kubeconfig", &config]));
    assert!(code == 3 && said.contains("use --context, one of: c"), "{said}");
}
