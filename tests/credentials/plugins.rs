//! Exec plugins.

use std::process::Command;

use serde_json::{Value as Json, json};

use super::{Gate, Site, VALUE, shown};
use crate::support::mount::Mount;
use crate::support::{run, said, secretfs, subdir, succeed, wait_until};

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
