//! The user's credentials as requests need them: an `Authorization` header, a client certificate, and until when.
//!
//! They are read from where they live each time they are needed anew (a file has changed, a token is about to expire, the
//! server answered 401): token files, certificate files, the kubeconfig itself and exec plugins all rotate while a mount
//! lives.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use kube::config::{AuthInfo, ExecAuthCluster, ExecConfig};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::config::{
    ConnectError, CredentialSource, Login, Target, exec_cluster, read_kubeconfig, secret_header, user_of,
};
use super::exec;

/// See the module's documentation.
pub struct Identity {
    pub authorization: Option<HeaderValue>,
    pub certificate: Option<ClientCertificate>,
    /// When the server stops accepting it, if that is known.
    pub expires: Option<SystemTime>,
    /// The files that it was read from, as they were then.
    pub files: Vec<Stamp>,
}

/// PEM of a certificate chain and of its key.
#[derive(PartialEq, Eq)]
pub struct ClientCertificate {
    pub chain: Vec<u8>,
    pub key: Zeroizing<Vec<u8>>,
}

/// What a file looks like from outside. A projected volume replaces files: the inode tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    path: PathBuf,
    seen: Option<(u64, u64, i64, i64)>,
}

impl Stamp {
    pub fn of(path: &Path) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let seen = fs::metadata(path).ok().map(|m| (m.ino(), m.len(), m.mtime(), m.mtime_nsec()));
        Stamp { path: path.to_path_buf(), seen }
    }

    /// Whether the file is there and looks different. A file that is missing keeps what was read from it in use:
    /// some tools remove a token file once it has been read.
    pub fn has_changed(&self) -> bool {
        let now = Stamp::of(&self.path);
        now.seen.is_some() && now != *self
    }
}

impl Identity {
    /// Reads the credentials anew. Runs the exec plugin if there is one.
    pub async fn load(target: &Arc<Target>, login: Login) -> Result<Identity, ConnectError> {
        let target = target.clone();
        // A home directory may be on a network that hangs.
        let found = tokio::task::spawn_blocking(move || find(&target.credentials)).await;
        match found.map_err(|_| ConnectError::Credentials("reading them failed".to_owned()))?? {
            Found::Identity(identity) => Ok(identity),
            Found::Plugin { exec, cluster, files } => {
                let credential = exec::run(&exec, cluster.as_ref(), login).await;
                of_plugin(credential.map_err(|e| ConnectError::Credentials(e.to_string()))?, files)
            }
        }
    }
}

enum Found {
    Identity(Identity),
    Plugin { exec: Box<ExecConfig>, cluster: Option<ExecAuthCluster>, files: Vec<Stamp> },
}

fn find(source: &CredentialSource) -> Result<Found, ConnectError> {
    let (user, cluster, files) = match source {
        CredentialSource::InCluster { token_file } => {
            let token_file = Some(token_file.to_string_lossy().into_owned());
            (AuthInfo { token_file, ..AuthInfo::default() }, None, Vec::new())
        }
        CredentialSource::Kubeconfig { files, user, cluster } => {
            // Stamps first: a change while reading is then noticed the next time.
            let stamps = files.iter().map(|path| Stamp::of(path)).collect();
            (user_of(&read_kubeconfig(files)?, user.as_deref())?, Some(cluster), stamps)
        }
    };
    match user.exec.clone() {
        Some(exec) if needs_exec(&user) => {
            let cluster = cluster.filter(|_| exec.provide_cluster_info).map(|cluster| exec_cluster(cluster));
            Ok(Found::Plugin { exec: Box::new(exec), cluster: cluster.transpose()?, files })
        }
        _ => Ok(Found::Identity(read(user, files)?)),
    }
}

fn needs_exec(user: &AuthInfo) -> bool {
    user.token.is_none() && user.token_file.is_none() && user.username.is_none() && user.auth_provider.is_none()
}

fn of_plugin(credential: exec::Credential, files: Vec<Stamp>) -> Result<Identity, ConnectError> {
    let certificate = credential.certificate.map(|(chain, key)| ClientCertificate {
        chain: chain.into_bytes(),
        key: Zeroizing::new(key.as_bytes().to_vec()),
    });
    Ok(Identity {
        authorization: credential.token.map(|token| secret_header("Bearer", &token)).transpose()?,
        certificate,
        expires: credential.expires,
        files,
    })
}

/// Takes the first of what client-go takes: legacy id-token, password, inline token, token file; and the certificate.
fn read(user: AuthInfo, mut files: Vec<Stamp>) -> Result<Identity, ConnectError> {
    let authorization = if let Some(provider) = &user.auth_provider {
        // kubectl dropped these in 1.26; an id-token that somebody else refreshes still works.
        let token = provider.config.get("id-token").ok_or_else(|| {
            let why = format!("the auth-provider {:?} is not supported by kubectl either", provider.name);
            ConnectError::Credentials(format!("{why}: use an exec plugin"))
        })?;
        Some(secret_header("Bearer", token)?)
    } else if let (Some(name), Some(password)) = (&user.username, &user.password) {
        let pair = Zeroizing::new(format!("{name}:{}", password.expose_secret()));
        Some(secret_header("Basic", &Zeroizing::new(STANDARD.encode(pair.as_bytes())))?)
    } else if let Some(token) = user.token.as_ref().filter(|token| !token.expose_secret().is_empty()) {
        Some(secret_header("Bearer", token.expose_secret())?)
    } else if let Some(path) = user.token_file.as_ref().filter(|path| !path.is_empty()) {
        let token = read_file(Path::new(path), &mut files)?;
        let text = std::str::from_utf8(&token).unwrap_or("").trim();
        if text.is_empty() {
            return Err(ConnectError::Credentials(format!("the token file {path} holds no token")));
        }
        Some(secret_header("Bearer", text)?)
    } else {
        None
    };
    let chain = part(&user.client_certificate_data, &user.client_certificate, "client-certificate", &mut files)?;
    let key_data = user.client_key_data.as_ref().map(SecretString::expose_secret).map(str::to_owned);
    let key = part(&key_data.map(Zeroizing::new), &user.client_key, "client-key", &mut files)?;
    let certificate = match (chain, key) {
        (Some(chain), Some(key)) => Some(ClientCertificate { chain: chain.to_vec(), key }),
        (None, None) => None,
        (Some(_), None) => return Err(missing("client-key")),
        (None, Some(_)) => return Err(missing("client-certificate")),
    };
    Ok(Identity { authorization, certificate, expires: None, files })
}

fn missing(what: &'static str) -> ConnectError {
    ConnectError::Invalid { what: "user", why: format!("{what} is missing") }
}

/// A certificate or key: inline base64, or a file.
fn part(
    data: &Option<impl AsRef<str>>,
    path: &Option<String>,
    what: &'static str,
    files: &mut Vec<Stamp>,
) -> Result<Option<Zeroizing<Vec<u8>>>, ConnectError> {
    let data = data.as_ref().map(|data| data.as_ref()).filter(|data| !data.is_empty());
    match (data, path.as_deref().filter(|path| !path.is_empty())) {
        (Some(data), _) => {
            let decoded = STANDARD.decode(data);
            let decoded = decoded.map_err(|_| ConnectError::Invalid { what, why: "its data is not base64".to_owned() });
            Ok(Some(Zeroizing::new(decoded?)))
        }
        (None, Some(path)) => Ok(Some(read_file(Path::new(path), files)?)),
        (None, None) => Ok(None),
    }
}

fn read_file(path: &Path, files: &mut Vec<Stamp>) -> Result<Zeroizing<Vec<u8>>, ConnectError> {
    files.push(Stamp::of(path));
    let bytes = fs::read(path).map_err(|error| ConnectError::Read { path: path.to_path_buf(), error })?;
    Ok(Zeroizing::new(bytes))
}

#[cfg(test)]
mod tests;
