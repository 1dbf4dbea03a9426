//! One identity and one connection pool at a time, replaced when credentials change or connections go bad.
//!
//! * Files (kubeconfig, token, certificate, key) are looked at once a minute, and only while requests are made: an idle
//!   daemon looks at nothing.
//! * A credential that is about to expire is renewed ahead; the old one is used meanwhile.
//! * On 401 everything is read again, exec plugin included, at most every ten seconds.
//! * When the server's certificate is not accepted, the file of certificate authorities is read again if it has changed.
//! * After a timeout the pool is replaced: its other connections lead the same way into the dark.
//!
//! Renewal runs in a task of its own, one at a time: whoever gives up waiting does not interrupt it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use http::HeaderValue;

use super::config::{ConnectError, Login, Target};
use super::failure::Failure;
use super::identity::{Identity, Stamp};
use super::transport::{self, Transport};

/// How old the knowledge of the credential files may be.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// How long before its end a credential is renewed.
const AHEAD: Duration = Duration::from_secs(60);
/// How long after a renewal the next one may begin.
const RENEW_INTERVAL: Duration = Duration::from_secs(10);

/// What a request is sent with.
pub struct Session {
    identity: Arc<Identity>,
    transport: Arc<dyn Transport>,
    /// The file of certificate authorities as it was when `transport` was made of it.
    authorities: Option<Stamp>,
}

impl Session {
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.identity.authorization.as_ref()
    }

    pub fn transport(&self) -> &dyn Transport {
        &*self.transport
    }

    fn expires_within(&self, time: Duration) -> bool {
        self.identity.expires.is_some_and(|end| end <= SystemTime::now() + time)
    }
}

struct State {
    current: Arc<Session>,
    looked: Instant,
    /// When the last renewal ended, and why it failed if it did.
    renewed: Option<(Instant, Option<Failure>)>,
}

struct Shared {
    target: Arc<Target>,
    timeout: Duration,
    state: Mutex<State>,
    renewal: tokio::sync::Mutex<()>,
}

/// See the module's documentation.
#[derive(Clone)]
pub struct Sessions(Arc<Shared>);

impl Sessions {
    /// Reads the credentials, running an exec plugin, and makes the first session. Talks to no server.
    pub async fn start(target: Arc<Target>, login: Login, timeout: Duration) -> Result<Self, ConnectError> {
        let identity = Identity::load(&target, login).await?;
        let current = Arc::new(Session::start(&target, identity.into(), timeout)?);
        let state = Mutex::new(State { current, looked: Instant::now(), renewed: None });
        Ok(Sessions(Arc::new(Shared { target, timeout, state, renewal: tokio::sync::Mutex::new(()) })))
    }

    /// The session to use now. Waits only if the credential has expired.
    pub async fn current(&self) -> Result<Arc<Session>, Failure> {
        let (session, look) = {
            let mut state = self.0.lock();
            let look = state.looked.elapsed() >= LOOK_INTERVAL;
            if look {
                state.looked = Instant::now();
            }
            (state.current.clone(), look)
        };
        if session.expires_within(Duration::ZERO) {
            return self.renew(&session).await;
        }
        if look || (session.expires_within(AHEAD) && self.0.may_renew()) {
            let shared = self.0.clone();
            let session = session.clone();
            tokio::spawn(async move { shared.look(&session).await });
        }
        Ok(session)
    }

    /// Replaces `stale`, whose credential the server refuses or has expired. If that was done less than ten seconds ago,
    /// gives what came of it then.
    pub async fn renew(&self, stale: &Arc<Session>) -> Result<Arc<Session>, Failure> {
        let (shared, stale) = (self.0.clone(), stale.clone());
        let renewal = tokio::spawn(async move { shared.renew(&stale).await });
        renewal.await.unwrap_or(Err(Failure::Credentials("renewing the credentials failed".to_owned())))
    }

    /// Drops the connections of `session`: nothing came back on one of them.
    pub fn distrust(&self, session: &Arc<Session>) {
        let mut state = self.0.lock();
        if Arc::ptr_eq(&state.current, session) {
            let (identity, transport) = (session.identity.clone(), session.transport.afresh());
            let authorities = session.authorities.clone();
            state.current = Arc::new(Session { identity, transport, authorities });
        }
    }

    /// The server's certificate was not accepted: gives a session that knows other authorities, if there are others now.
    /// kube's verifier reads their file again too, but at most once a minute.
    pub async fn retrust(&self, session: &Arc<Session>) -> Option<Arc<Session>> {
        let (shared, session) = (self.0.clone(), session.clone());
        tokio::task::spawn_blocking(move || shared.retrust(&session)).await.ok().flatten()
    }
}

impl Session {
    fn start(target: &Target, identity: Arc<Identity>, timeout: Duration) -> Result<Self, ConnectError> {
        // First: a change while reading is then noticed the next time.
        let authorities = target.trust.roots_file.as_deref().map(Stamp::of);
        let transport = transport::connect(target, identity.certificate.as_ref(), timeout)?;
        Ok(Session { identity, transport, authorities })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn may_renew(&self) -> bool {
        self.lock().renewed.as_ref().is_none_or(|(at, _)| at.elapsed() >= RENEW_INTERVAL)
    }

    fn retrust(&self, session: &Arc<Session>) -> Option<Arc<Session>> {
        let current = self.lock().current.clone();
        if current.authorities != session.authorities {
            // Another request was faster.
            return Some(current);
        }
        if !session.authorities.as_ref()?.has_changed() {
            return None;
        }
        match Session::start(&self.target, session.identity.clone(), self.timeout) {
            Ok(trusting) => {
                tracing::debug!("{}: certificate authorities read again", self.target.description);
                let trusting = Arc::new(trusting);
                let mut state = self.lock();
                if Arc::ptr_eq(&state.current, session) {
                    state.current = trusting.clone();
                }
                Some(trusting)
            }
            Err(error) => {
                tracing::warn!("{}: keeping the old certificate authorities: {error}", self.target.description);
                None
            }
        }
    }

    /// Renews if files have changed or the end is near.
    async fn look(&self, session: &Arc<Session>) {
        let identity = session.identity.clone();
        let changed = tokio::task::spawn_blocking(move || identity.files.iter().any(|stamp| stamp.has_changed()));
        let due = session.expires_within(AHEAD) || changed.await.unwrap_or(false);
        if due && let Err(failure) = self.renew(session).await {
            tracing::warn!("{}: keeping the old credentials: {failure}", self.target.description);
        }
    }

    async fn renew(&self, stale: &Arc<Session>) -> Result<Arc<Session>, Failure> {
        let _one_at_a_time = self.renewal.lock().await;
        {
            let state = self.lock();
            if !Arc::ptr_eq(&state.current.identity, &stale.identity) {
                return Ok(state.current.clone());
            }
            match &state.renewed {
                Some((at, Some(failure))) if at.elapsed() < RENEW_INTERVAL => return Err(failure.clone()),
                Some((at, None)) if at.elapsed() < RENEW_INTERVAL => return Ok(state.current.clone()),
                _ => {}
            }
        }
        let renewed = self.replacement(stale).await;
        let mut state = self.lock();
        state.renewed = Some((Instant::now(), renewed.as_ref().err().cloned()));
        state.looked = Instant::now();
        state.current = renewed?;
        Ok(state.current.clone())
    }

    async fn replacement(&self, stale: &Session) -> Result<Arc<Session>, Failure> {
        let identity = Identity::load(&self.target, Login::Silent).await?;
        tracing::debug!("{}: credentials read again", self.target.description);
        Ok(Arc::new(match identity.certificate == stale.identity.certificate {
            true => {
                let (transport, authorities) = (stale.transport.clone(), stale.authorities.clone());
                Session { identity: identity.into(), transport, authorities }
            }
            false => Session::start(&self.target, identity.into(), self.timeout)?,
        }))
    }
}
