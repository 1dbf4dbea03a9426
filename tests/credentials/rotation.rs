//! Credentials and authorities that are replaced while mounted.

use std::io::{BufRead, BufReader};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use super::{Gate, LONG, Site, VALUE, certificate, shown};
use crate::support::proxy::Certificate;
use crate::support::{subdir, wait_until};

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
