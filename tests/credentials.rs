//! Everything that kubectl accepts to reach a cluster and to say who asks, against the real API server.

mod kubeconfigs;
mod plugins;
mod proxies;
mod rotation;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use crate::support::cluster::{Namespace, namespace};
use crate::support::liar::kubeconfig;
use crate::support::mount::Mount;
use crate::support::proxy::{Fault, Proxy};
use crate::support::{secretfs, subdir, succeed, tempdir};

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
