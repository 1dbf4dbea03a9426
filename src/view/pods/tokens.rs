//! Service account tokens of the volumes that are shown: asked for when they are needed, renewed while they are.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::object::{ObjectId, Token, TokenAsk, Value};
use crate::pod::Have;
use crate::store::Refusal;
use crate::view::View;

/// A token is renewed at this age even if it lives longer. Source: `maxTTL`, pkg/kubelet/token/token_manager.go.
const OLDEST: Duration = Duration::from_secs(24 * 3600);

/// How often the clock is looked at meanwhile.
const LOOK: Duration = Duration::from_secs(300);

/// How soon a refused renewal is tried again; each time later, up to [`LATEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LATEST_RETRY: Duration = Duration::from_secs(60);

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Tokens(HashMap<TokenAsk, Held>);

/// A token that is needed.
struct Held {
    token: Option<Token>,
    /// Why the last request for it failed; `Ok` if nobody can issue one.
    lacking: Option<Option<Refusal>>,
    users: BTreeSet<ObjectId>,
    renewal: Option<AbortHandle>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(renewal) = &self.renewal {
            renewal.abort();
        }
    }
}

impl Tokens {
    /// A token as long as it is valid. After that its volume is as stuck as the kubelet's would be.
    pub fn get(&self, ask: &TokenAsk) -> Have<Option<Value>> {
        let Some(held) = self.0.get(ask) else { return Have::Unknown };
        match (&held.token, &held.lacking) {
            (Some(token), _) if token.expires > SystemTime::now() => Have::Ready(Some(token.value.clone())),
            (_, Some(Some(refusal))) => Have::Refused(refusal.to_string()),
            (_, Some(None)) => Have::Ready(None),
            (Some(_), None) => Have::Refused("it has expired and could not be renewed yet".to_owned()),
            (None, None) => Have::Unknown,
        }
    }

    /// Takes note that a pod needs a token. Whether it is to be asked for: nobody has needed it so far.
    fn hold(&mut self, ask: &TokenAsk, pod: &ObjectId) -> bool {
        let new = !self.0.contains_key(ask);
        let empty = || Held { token: None, lacking: None, users: BTreeSet::new(), renewal: None };
        self.0.entry(ask.clone()).or_insert_with(empty).users.insert(pod.clone());
        new
    }

    /// A pod needs none any more.
    pub fn release(&mut self, pod: &ObjectId) {
        self.0.retain(|_, held| {
            held.users.remove(pod);
            !held.users.is_empty()
        });
    }
}

impl View {
    /// Gets the tokens that a pod needs, each with its first answer, good or bad.
    pub(super) async fn hold_tokens(self: &Arc<Self>, pod: &ObjectId, asks: BTreeSet<TokenAsk>) {
        let wanted: Vec<TokenAsk> = {
            let mut state = self.pods.lock();
            asks.into_iter().filter(|ask| state.tokens.hold(ask, pod)).collect()
        };
        let first = wanted.into_iter().map(|ask| async move {
            let again = self.ask_token(&ask).await;
            let view = Arc::downgrade(self);
            let renewal = tokio::spawn(renew(view, ask.clone(), again)).abort_handle();
            match self.pods.lock().tokens.0.get_mut(&ask) {
                Some(held) => held.renewal = Some(renewal),
                None => renewal.abort(),
            }
        });
        futures_util::future::join_all(first).await;
    }

    /// Asks once and takes the answer. Gives how long to wait before asking again.
    async fn ask_token(&self, ask: &TokenAsk) -> Option<Duration> {
        let answer = if self.options.no_tokens { Ok(None) } else { self.source.token(ask.clone()).await };
        let mut state = self.pods.lock();
        let held = state.tokens.0.get_mut(ask)?;
        match answer {
            Ok(Some(token)) => {
                let wait = until_renewal(&token, SystemTime::now());
                held.token = Some(token);
                held.lacking = None;
                wait
            }
            Ok(None) => {
                if !self.options.no_tokens {
                    tracing::warn!(
                        "{}: there is no API server to issue its tokens: their files are absent",
                        ask.account()
                    );
                }
                held.lacking = Some(None);
                None
            }
            Err(refusal) => {
                tracing::warn!("{refusal}: the token that is there stays as long as it is valid");
                held.lacking = Some(Some(refusal));
                Some(FIRST_RETRY)
            }
        }
    }
}

/// Renews a token as long as somebody needs it, and has its volumes looked at.
async fn renew(view: Weak<View>, ask: TokenAsk, mut wait: Option<Duration>) {
    let mut retry = FIRST_RETRY;
    while let Some(time) = wait {
        let due = SystemTime::now() + time;
        // A host that slept has not slept in monotonic time, but its tokens are older.
        while let Ok(left) = due.duration_since(SystemTime::now()) {
            sleep(left.min(LOOK)).await;
        }
        let Some(view) = view.upgrade() else { return };
        wait = view.ask_token(&ask).await;
        let users: Vec<ObjectId> = {
            let state = view.pods.lock();
            let Some(held) = state.tokens.0.get(&ask) else { return };
            if held.lacking.is_some() {
                wait = wait.map(|_| retry);
                retry = (retry * 2).min(LATEST_RETRY);
            } else {
                retry = FIRST_RETRY;
            }
            held.users.iter().cloned().collect()
        };
        users.into_iter().for_each(|pod| view.store.look_again(pod));
    }
}

/// How long a token need not be renewed: 80 % of its life, but no longer than a day. `None`: never.
/// Source: `requiresRefresh`, pkg/kubelet/token/token_manager.go.
fn until_renewal(token: &Token, now: SystemTime) -> Option<Duration> {
    let life = token.lifetime?;
    let due = (token.expires - life / 5).min(token.issued + OLDEST);
    Some(due.duration_since(now).unwrap_or_default().max(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_at_four_fifths_of_its_life_or_once_a_day() {
        let issued = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let lives = |seconds| {
            let life = Duration::from_secs(seconds);
            Token { value: Value::copy_of(b""), issued, expires: issued + life, lifetime: Some(life) }
        };
        for (life, wait) in [(3600, 2880), (600, 480), (7 * 86_400, 86_400)] {
            assert_eq!(until_renewal(&lives(life), issued), Some(Duration::from_secs(wait)));
        }
        assert_eq!(until_renewal(&lives(600), issued + Duration::from_secs(9999)), Some(Duration::from_secs(1)));
        assert_eq!(until_renewal(&Token { lifetime: None, ..lives(600) }, issued), None);
    }
}
