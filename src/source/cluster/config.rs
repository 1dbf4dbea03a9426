//! Which cluster: finds the kubeconfig as kubectl finds it and pins one context of it.
//!
//! kube's `Config::infer` is not used: it lets `KUBE_RS_DEBUG_*` variables redirect a mount, fails on a missing file in
//! `$KUBECONFIG` where kubectl skips it, and its parse errors quote the file, tokens included. What is pinned here (server,
//! certificate authority, proxy, namespace, the *name* of the user) never changes while mounted; the user's credentials are
//! read again when their files change (see [`super::identity`]).

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Uri};
use kube::config::{AuthInfo, Cluster, Context, ExecAuthCluster, Kubeconfig, KubeconfigError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::headers::impersonation_headers;
use super::proxy::{self, ProxyVariables};
use crate::object::Namespace;

/// How a cluster is chosen and asked; the fields mean what kubectl's flags of the same names mean.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    pub cluster: Option<String>,
    pub user: Option<String>,
    /// The first is where objects are that name none; all are shown where namespaces may not be listed.
    pub namespaces: Vec<Namespace>,
    /// kubectl's `--as`, `--as-group` and `--as-uid`; what is not given is taken from the kubeconfig.
    pub impersonate: Option<String>,
    pub impersonate_groups: Vec<String>,
    pub impersonate_uid: Option<String>,
    /// The deadline of every request, its body included.
    pub timeout: Duration,
    /// How often an object is asked for that may not be watched, and how often a refused request is tried again.
    pub poll: Duration,
    pub login: Login,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        ClusterOptions {
            kubeconfig: None,
            context: None,
            cluster: None,
            user: None,
            namespaces: Vec::new(),
            impersonate: None,
            impersonate_groups: Vec::new(),
            impersonate_uid: None,
            timeout: Duration::from_secs(5),
            poll: Duration::from_secs(30),
            login: Login::Silent,
        }
    }
}

impl ClusterOptions {
    /// The namespace where none is named, and all to show where they may not be listed; `own` is the context's or the pod's,
    /// which need not be a valid one where the user names another.
    fn namespaces_beside(
        &self,
        own: Result<Namespace, ConnectError>,
    ) -> Result<(Namespace, Vec<Namespace>), ConnectError> {
        match self.namespaces.first() {
            Some(first) => Ok((first.clone(), self.namespaces.iter().cloned().chain(own.ok()).collect())),
            None => own.map(|own| (own.clone(), vec![own])),
        }
    }
}

/// Whether an exec plugin may ask the user for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// The first run of the plugin, inside [`Cluster::connect`](super::Cluster::connect), has the terminal: its standard
    /// input and error are the process's own, so that it may print a code or ask for a password. For that the caller must
    /// connect while it still holds the terminal, before it detaches; the command that was typed waits meanwhile. Every
    /// later run is silent.
    MayPrompt,
    /// The plugin never gets a terminal. One that needs it fails with a message that says how to log in.
    Silent,
}

/// Why no cluster can be talked to. Nothing here quotes a kubeconfig or what a plugin printed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("there is no kubeconfig ({looked_at}) and this is not a pod: use --kubeconfig, or mount manifests with -f")]
    NoCluster { looked_at: String },
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{} is not a valid kubeconfig{place}: try `kubectl config view`", path.display())]
    Parse { path: PathBuf, place: String },
    #[error("the kubeconfig names no current context: use --context, one of: {available}")]
    NoCurrentContext { available: String },
    #[error("the kubeconfig has no context {name:?}: use one of: {available}")]
    NoContext { name: String, available: String },
    #[error("the kubeconfig has no {what} {name:?}: check the context, --cluster and --user")]
    Dangling { what: &'static str, name: String },
    #[error("the kubeconfig has an invalid {what}: {why}")]
    Invalid { what: &'static str, why: String },
    #[error("the credentials of the kubeconfig cannot be used: {0}")]
    Credentials(String),
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

/// One cluster, pinned.
#[derive(Debug)]
pub struct Target {
    pub server: Uri,
    /// The context and the server, for people.
    pub description: String,
    pub namespace: Namespace,
    /// Those to show where namespaces may not be listed: the context's own and those that the user names.
    pub namespaces: Vec<Namespace>,
    pub proxy: Option<Uri>,
    pub trust: Trust,
    /// Who to act as, on every request.
    pub headers: HeaderMap,
    pub credentials: CredentialSource,
}

/// How the server proves who it is.
#[derive(Debug, Default)]
pub struct Trust {
    /// DER certificates; `None` is what the host trusts.
    pub roots: Option<Vec<Vec<u8>>>,
    /// A bundle that is read again when it is older than a minute.
    pub roots_file: Option<PathBuf>,
    pub accept_anything: bool,
    pub server_name: Option<String>,
}

/// Where the user's credentials are read, each time anew.
#[derive(Debug)]
pub enum CredentialSource {
    InCluster { token_file: PathBuf },
    // A context may name no user: an anonymous one.
    Kubeconfig { files: Vec<PathBuf>, user: Option<String>, cluster: Box<Cluster> },
}

/// What the process's environment says; taken once, so that tests need not change it.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub kubeconfig: Option<OsString>,
    pub home: Option<PathBuf>,
    pub proxy: ProxyVariables,
    pub in_pod: bool,
}

impl Environment {
    pub fn of_this_process() -> Self {
        Environment {
            kubeconfig: env::var_os("KUBECONFIG"),
            home: env::var_os("HOME").map(PathBuf::from),
            proxy: ProxyVariables::of_this_process(),
            in_pod: env::var_os("KUBERNETES_SERVICE_HOST").is_some()
                && env::var_os("KUBERNETES_SERVICE_PORT").is_some(),
        }
    }
}

impl Target {
    /// Chooses the cluster that `options` and the environment name. Reads files; talks to nobody.
    pub fn find(options: &ClusterOptions, environment: &Environment) -> Result<Target, ConnectError> {
        let (files, looked_at) = kubeconfig_files(options, environment)?;
        let chosen_by_hand = options.context.is_some() || options.cluster.is_some() || options.user.is_some();
        if files.is_empty() {
            return match environment.in_pod && !chosen_by_hand {
                true => Target::in_cluster(options),
                false => Err(ConnectError::NoCluster { looked_at }),
            };
        }
        Target::of_kubeconfig(options, environment, files)
    }

    fn of_kubeconfig(
        options: &ClusterOptions,
        environment: &Environment,
        files: Vec<PathBuf>,
    ) -> Result<Target, ConnectError> {
        let kubeconfig = read_kubeconfig(&files)?;
        let (context_name, context) = pick_context(&kubeconfig, options.context.as_deref())?;
        let cluster_name = options.cluster.as_deref().unwrap_or(&context.cluster);
        let cluster = kubeconfig
            .clusters
            .iter()
            .find(|named| named.name == cluster_name)
            .and_then(|named| named.cluster.clone())
            .ok_or_else(|| ConnectError::Dangling { what: "cluster", name: cluster_name.to_owned() })?;
        let user = options.user.clone().or(context.user).filter(|name| !name.is_empty());
        let auth_info = user_of(&kubeconfig, user.as_deref())?;

        let server = server_uri(cluster.server.as_deref())?;
        let proxy = proxy::choose(cluster.proxy_url.as_deref(), &server, &environment.proxy)?;
        let own = Namespace::new(context.namespace.as_deref().filter(|name| !name.is_empty()).unwrap_or("default"))
            .map_err(|e| ConnectError::Invalid { what: "namespace of the context", why: e.to_string() });
        let (namespace, namespaces) = options.namespaces_beside(own)?;
        Ok(Target {
            description: format!("context {context_name} ({})", without_slash(&server)),
            server,
            namespace,
            namespaces,
            proxy,
            trust: trust_of(&cluster)?,
            headers: impersonation_headers(&auth_info, options)?,
            credentials: CredentialSource::Kubeconfig { files, user, cluster: Box::new(cluster) },
        })
    }

    fn in_cluster(options: &ClusterOptions) -> Result<Target, ConnectError> {
        // Only the environment and the pod's files: no debug overrides.
        let config = kube::Config::incluster_env()
            .map_err(|e| ConnectError::Invalid { what: "service account of this pod", why: e.to_string() })?;
        let own = Namespace::new(config.default_namespace.trim())
            .map_err(|e| ConnectError::Invalid { what: "namespace of this pod", why: e.to_string() });
        let (namespace, namespaces) = options.namespaces_beside(own)?;
        let token_file = config.auth_info.token_file.clone().unwrap_or_default().into();
        Ok(Target {
            description: format!("in-cluster ({})", without_slash(&config.cluster_url)),
            server: config.cluster_url,
            namespace,
            namespaces,
            proxy: None,
            trust: Trust { roots: config.root_cert, roots_file: config.root_cert_file, ..Trust::default() },
            headers: impersonation_headers(&AuthInfo::default(), options)?,
            credentials: CredentialSource::InCluster { token_file },
        })
    }
}

/// The files that exist, in order of precedence, and where was looked for them.
fn kubeconfig_files(
    options: &ClusterOptions,
    environment: &Environment,
) -> Result<(Vec<PathBuf>, String), ConnectError> {
    // The daemon leaves its working directory, and relative paths inside a kubeconfig are relative to the file.
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(|error| ConnectError::Read { path: path.to_path_buf(), error });
    if let Some(path) = &options.kubeconfig {
        return Ok((vec![absolute(path)?], path.display().to_string()));
    }
    let listed: Vec<PathBuf> =
        environment.kubeconfig.iter().flat_map(env::split_paths).filter(|path| !path.as_os_str().is_empty()).collect();
    let candidates = match (listed.is_empty(), &environment.home) {
        (false, _) => listed,
        (true, Some(home)) => vec![home.join(".kube/config")],
        (true, None) => return Ok((Vec::new(), "neither KUBECONFIG nor HOME is set".to_owned())),
    };
    let looked_at = candidates.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let mut files = Vec::new();
    for path in &candidates {
        // kubectl skips what is missing, and nothing else.
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => files.push(absolute(path)?),
        }
    }
    Ok((files, format!("looked at {looked_at}")))
}

/// Reads and merges kubeconfig files: of two entries with one name, the first wins.
pub fn read_kubeconfig(files: &[PathBuf]) -> Result<Kubeconfig, ConnectError> {
    files.iter().try_fold(Kubeconfig::default(), |merged, path| {
        let failed = |error| kubeconfig_error(path, error);
        merged.merge(Kubeconfig::read_from(path).map_err(failed)?).map_err(failed)
    })
}

/// Keeps the place of an error and drops its text, which quotes the file around that place.
fn kubeconfig_error(path: &Path, error: KubeconfigError) -> ConnectError {
    let path = path.to_path_buf();
    match error {
        KubeconfigError::ReadConfig(error, _) => ConnectError::Read { path, error },
        KubeconfigError::Parse(error) => {
            let place = error.location().map(|at| format!(", at line {} column {}", at.line(), at.column()));
            ConnectError::Parse { path, place: place.unwrap_or_default() }
        }
        _ => ConnectError::Parse { path, place: " of the same kind as those before it".to_owned() },
    }
}

fn pick_context(kubeconfig: &Kubeconfig, wanted: Option<&str>) -> Result<(String, Context), ConnectError> {
    let available = || {
        let names: Vec<_> = kubeconfig.contexts.iter().take(20).map(|named| named.name.as_str()).collect();
        if names.is_empty() { "(it has none)".to_owned() } else { names.join(", ") }
    };
    let name = wanted
        .or(kubeconfig.current_context.as_deref())
        .filter(|name| !name.is_empty())
        .ok_or_else(|| ConnectError::NoCurrentContext { available: available() })?;
    let context = kubeconfig.contexts.iter().find(|named| named.name == name).and_then(|named| named.context.clone());
    let context = context.ok_or_else(|| ConnectError::NoContext { name: name.to_owned(), available: available() })?;
    Ok((name.to_owned(), context))
}

/// The entry of a user; kubectl, too, refuses a context that names a user who is not there.
pub fn user_of(kubeconfig: &Kubeconfig, user: Option<&str>) -> Result<AuthInfo, ConnectError> {
    let Some(name) = user else { return Ok(AuthInfo::default()) };
    let entry = kubeconfig.auth_infos.iter().find(|named| named.name == name);
    let entry = entry.ok_or_else(|| ConnectError::Dangling { what: "user", name: name.to_owned() })?;
    Ok(entry.auth_info.clone().unwrap_or_default())
}

fn server_uri(server: Option<&str>) -> Result<Uri, ConnectError> {
    let invalid = |why: &str| ConnectError::Invalid { what: "server", why: why.to_owned() };
    let server = server.filter(|text| !text.is_empty()).ok_or_else(|| invalid("it is missing"))?;
    // A token is never sent in clear text unless the kubeconfig says http:// itself.
    let text = if server.contains("://") { server.to_owned() } else { format!("https://{server}") };
    let uri: Uri = text.parse().map_err(|_| invalid("it is not a URL"))?;
    if !matches!(uri.scheme_str(), Some("https" | "http")) {
        return Err(invalid("it must begin with https://"));
    }
    if uri.query().is_some() || uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err(invalid("it must be https://HOST[:PORT][/PATH]"));
    }
    Ok(uri)
}

/// A server's address as people write it.
pub fn without_slash(server: &Uri) -> String {
    server.to_string().trim_end_matches('/').to_owned()
}

fn trust_of(cluster: &Cluster) -> Result<Trust, ConnectError> {
    let what = "certificate-authority";
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (pem, roots_file) = match (given(&cluster.certificate_authority_data), given(&cluster.certificate_authority)) {
        (Some(data), _) => {
            let pem = STANDARD.decode(data);
            let pem = pem.map_err(|_| ConnectError::Invalid { what, why: "its data is not base64".to_owned() })?;
            (Some(pem), None)
        }
        (None, Some(path)) => {
            let path = PathBuf::from(path);
            let pem = fs::read(&path).map_err(|error| ConnectError::Read { path: path.clone(), error })?;
            (Some(pem), Some(path))
        }
        (None, None) => (None, None),
    };
    let roots = pem.map(|pem| {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates.iter().map(|der| der.to_vec()).collect()),
            _ => Err(ConnectError::Invalid { what, why: "it holds no PEM certificate".to_owned() }),
        }
    });
    Ok(Trust {
        roots: roots.transpose()?,
        roots_file,
        accept_anything: cluster.insecure_skip_tls_verify.unwrap_or(false),
        server_name: given(&cluster.tls_server_name),
    })
}

/// What a plugin with `provideClusterInfo` is told.
pub fn exec_cluster(cluster: &Cluster) -> Result<ExecAuthCluster, ConnectError> {
    cluster.try_into().map_err(|_| ConnectError::Invalid {
        what: "certificate-authority",
        why: "it cannot be read for the exec plugin".to_owned(),
    })
}

/// `Authorization: SCHEME secret`, marked so that nothing prints it.
pub fn secret_header(scheme: &str, secret: &str) -> Result<HeaderValue, ConnectError> {
    let text = zeroize::Zeroizing::new(format!("{scheme} {secret}"));
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| ConnectError::Credentials("the token has characters that no token has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
