//! Runs a credential plugin once: `client.authentication.k8s.io` on its standard output, killed at a deadline.
//!
//! kube runs the plugin three times while a client is built, without a deadline, and puts its output into error messages.
//! Here a run is one run, and nothing that the plugin printed appears in a message.

use crate::process::{Group, without_descriptors};
use std::io::IsTerminal as _;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use k8s_openapi::jiff::Timestamp;
use kube::config::{ExecAuthCluster, ExecConfig, ExecInteractiveMode};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use super::config::Login;

/// How long a silent plugin may take: cloud command lines take seconds, none takes this long.
const SILENT_DEADLINE: Duration = Duration::from_secs(30);
/// How long a person may take to log in.
const PROMPT_DEADLINE: Duration = Duration::from_secs(300);
/// No credential is longer, in bytes.
const OUTPUT_LIMIT: u64 = 1 << 20;

/// Why a plugin gave no credential. The text names the plugin and says what to do; it holds nothing that was printed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    #[error("the kubeconfig's exec section names no command")]
    NoCommand,
    #[error("the plugin {command} wants a terminal: log in with kubectl first, or mount from a terminal")]
    NeedsTerminal { command: String },
    #[error("the plugin {command} cannot be started ({why}){hint}")]
    Start { command: String, why: String, hint: String },
    #[error("the plugin {command} failed ({status}): run `kubectl get --raw /version` to see why and to log in again")]
    Failed { command: String, status: String },
    #[error("the plugin {command} did not finish within {seconds} s and was killed")]
    TimedOut { command: String, seconds: u64 },
    #[error("the plugin {command} printed no valid ExecCredential ({problem})")]
    BadOutput { command: String, problem: &'static str },
}

/// What a plugin gave.
pub struct Credential {
    pub token: Option<Zeroizing<String>>,
    /// PEM of the certificate chain and of its key.
    pub certificate: Option<(String, Zeroizing<String>)>,
    pub expires: Option<SystemTime>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExecInfo<'a> {
    api_version: &'a str,
    kind: &'static str,
    spec: ExecSpec<'a>,
}

#[derive(Serialize)]
struct ExecSpec<'a> {
    interactive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a ExecAuthCluster>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Output {
    api_version: Option<String>,
    kind: Option<String>,
    status: Option<OutputStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OutputStatus {
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
    expiration_timestamp: Option<String>,
}

/// Runs the plugin of `exec` and reads its answer.
pub async fn run(exec: &ExecConfig, cluster: Option<&ExecAuthCluster>, login: Login) -> Result<Credential, ExecError> {
    run_within(exec, cluster, login, SILENT_DEADLINE).await
}

async fn run_within(
    exec: &ExecConfig,
    cluster: Option<&ExecAuthCluster>,
    login: Login,
    silent_deadline: Duration,
) -> Result<Credential, ExecError> {
    let name = exec.command.clone().filter(|command| !command.is_empty()).ok_or(ExecError::NoCommand)?;
    let interactive = interactive(exec, login, &name)?;
    let version = exec.api_version.as_deref().unwrap_or("client.authentication.k8s.io/v1");
    let spec = ExecSpec { interactive, cluster };
    let info = serde_json::to_string(&ExecInfo { api_version: version, kind: "ExecCredential", spec });

    let mut command = Command::new(&name);
    command.args(exec.args.iter().flatten());
    for variable in exec.env.iter().flatten() {
        if let (Some(name), Some(value)) = (variable.get("name"), variable.get("value")) {
            command.env(name, value);
        }
    }
    command.env("KUBERNETES_EXEC_INFO", info.expect("strings and booleans are always JSON"));
    command.stdout(Stdio::piped()).kill_on_drop(true);
    match login {
        Login::MayPrompt => command.stderr(Stdio::inherit()),
        Login::Silent => command.stderr(Stdio::null()),
    };
    match interactive {
        true => command.stdin(Stdio::inherit()),
        false => command.stdin(Stdio::null()),
    };
    if !interactive {
        // What it has started ends with it. One that talks to a terminal must stay in the terminal's group.
        command.process_group(0);
    }
    let deadline = if interactive { PROMPT_DEADLINE } else { silent_deadline };
    let mut child = without_descriptors(&mut command).spawn().map_err(|error| ExecError::Start {
        command: name.clone(),
        why: error.kind().to_string(),
        hint: exec.install_hint.as_deref().map(|hint| format!(": {}", hint.trim())).unwrap_or_default(),
    })?;
    let group = if interactive { Group::none() } else { Group::of(&child) };
    let output = tokio::time::timeout(deadline, collect(&name, &mut child)).await;
    let output = output.map_err(|_| ExecError::TimedOut { command: name.clone(), seconds: deadline.as_secs() })?;
    group.ended();
    let output = output?;
    parse(&name, version, &output)
}

/// What `interactiveMode` comes to here. Its default is IfAvailable.
fn interactive(exec: &ExecConfig, login: Login, name: &str) -> Result<bool, ExecError> {
    let available = login == Login::MayPrompt && std::io::stdin().is_terminal();
    match exec.interactive_mode {
        Some(ExecInteractiveMode::Never) => Ok(false),
        Some(ExecInteractiveMode::Always) if !available => Err(ExecError::NeedsTerminal { command: name.to_owned() }),
        _ => Ok(available),
    }
}

async fn collect(name: &str, child: &mut Child) -> Result<Zeroizing<Vec<u8>>, ExecError> {
    let stdout = child.stdout.take().expect("standard output is piped");
    // Reserved at once: a buffer that grows leaves copies of the token behind.
    let mut output = Zeroizing::new(Vec::with_capacity(64 << 10));
    let read = stdout.take(OUTPUT_LIMIT).read_to_end(&mut output).await;
    let status = child.wait().await;
    match (read, status) {
        (Ok(_), Ok(status)) if status.success() => Ok(output),
        (_, Ok(status)) => Err(ExecError::Failed { command: name.to_owned(), status: status.to_string() }),
        (_, Err(error)) => Err(ExecError::Failed { command: name.to_owned(), status: error.kind().to_string() }),
    }
}

fn parse(name: &str, version: &str, output: &[u8]) -> Result<Credential, ExecError> {
    let bad = |problem| ExecError::BadOutput { command: name.to_owned(), problem };
    // client-go reads the output as YAML, of which JSON is a part; some plugins count on it.
    let text = std::str::from_utf8(output).map_err(|_| bad("it is not UTF-8"))?;
    let output: Output = serde_saphyr::from_str(text).map_err(|_| bad("it is neither JSON nor YAML"))?;
    if output.kind.as_deref() != Some("ExecCredential") {
        return Err(bad("its kind is another"));
    }
    if output.api_version.as_deref() != Some(version) {
        return Err(bad("its apiVersion is not the one of the kubeconfig"));
    }
    let status = output.status.ok_or(bad("it has no status"))?;
    let expires = match status.expiration_timestamp {
        None => None,
        Some(text) => Some(text.parse::<Timestamp>().map_err(|_| bad("its expirationTimestamp is no time"))?.into()),
    };
    let certificate = match (status.client_certificate_data, status.client_key_data) {
        (Some(chain), Some(key)) => Some((chain, Zeroizing::new(key))),
        (None, None) => None,
        _ => return Err(bad("it has a certificate without its key, or the reverse")),
    };
    let token = status.token.filter(|token| !token.is_empty()).map(Zeroizing::new);
    if token.is_none() && certificate.is_none() {
        return Err(bad("it has neither a token nor a certificate"));
    }
    Ok(Credential { token, certificate, expires })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> ExecConfig {
        ExecConfig {
            api_version: Some("client.authentication.k8s.io/v1".into()),
            command: Some("/bin/sh".into()),
            args: Some(vec!["-c".into(), script.into()]),
            ..ExecConfig::default()
        }
    }

    async fn run_silently(exec: &ExecConfig) -> Result<Credential, ExecError> {
        run(exec, None, Login::Silent).await
    }

    #[tokio::test]
    async fn a_token_and_its_expiry_are_read() {
        let exec = shell(
            r#"test -z "$(cat)" && case "$KUBERNETES_EXEC_INFO" in *'"interactive":false'*) echo '{"kind":"ExecCredential",
            "apiVersion":"client.authentication.k8s.io/v1",
            "status":{"token":"t-1","expirationTimestamp":"2030-01-01T00:00:00Z"}}';; esac"#,
        );
        let credential = run_silently(&exec).await.unwrap();
        assert_eq!(credential.token.unwrap().as_str(), "t-1");
        assert!(credential.expires.unwrap() > SystemTime::now());
    }

    #[tokio::test]
    async fn nothing_that_a_plugin_prints_is_in_the_message() {
        let scripts = [
            "echo planted; echo planted >&2; exit 3",
            "echo 'planted: ['",
            "echo '{\"kind\":\"planted\"}'",
            "echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"planted\"}'",
            "printf 'planted\\377'",
        ];
        for script in scripts {
            let error = run_silently(&shell(script)).await.err().unwrap();
            assert!(!format!("{error} {error:?}").contains("planted"), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_plugin_that_needs_a_terminal_is_not_run_without_one() {
        let exec = ExecConfig { interactive_mode: Some(ExecInteractiveMode::Always), ..shell("exit 0") };
        assert!(matches!(run_silently(&exec).await, Err(ExecError::NeedsTerminal { .. })));
    }

    #[tokio::test]
    async fn a_plugin_that_hangs_is_killed_at_its_deadline_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let exec = shell(&format!("sleep 1000 & echo $$ $! > {}; wait", pids.display()));
        let outcome = run_within(&exec, None, Login::Silent, Duration::from_millis(500)).await;
        assert!(matches!(outcome, Err(ExecError::TimedOut { .. })));
        let runs = |pid: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
        };
        let pids = std::fs::read_to_string(pids).unwrap();
        while pids.split_whitespace().any(runs) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_missing_plugin_is_named_with_its_install_hint() {
        let exec = ExecConfig {
            command: Some("/nonexistent/plugin".into()),
            install_hint: Some("apt install plugin".into()),
            ..ExecConfig::default()
        };
        let message = run_silently(&exec).await.err().unwrap().to_string();
        assert!(message.contains("/nonexistent/plugin") && message.contains("apt install plugin"), "{message}");
    }
}
