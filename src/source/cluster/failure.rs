//! What went wrong with one request, in the few ways that make a difference, and how it is told to people.

use std::error::Error;
use std::io;
use std::time::Duration;

use serde::Deserialize;

use super::buffer::TooLarge;
use super::config::ConnectError;
use crate::object::DecodeError;
use crate::store::Refusal;

/// Why a request gave nothing. No variant holds a value, a token or a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("the connection was refused: is the API server running?")]
    Refused,
    #[error("the server's name cannot be resolved: check the kubeconfig and DNS")]
    NoSuchHost,
    #[error("TLS failed ({0}): check the certificate authority and the clock")]
    Tls(String),
    #[error("the proxy failed ({0}): check HTTPS_PROXY and NO_PROXY")]
    Proxy(String),
    #[error("no answer came before the deadline")]
    TimedOut,
    #[error("the connection was closed before the answer was complete")]
    Cut,
    #[error("the network failed ({0})")]
    Network(String),
    /// The API server's own answer to a request that it does not serve. Its message is not kept: it is free text of a
    /// server that has the values, and some decoders quote what they cannot read.
    #[error("the API server answered {code} {reason}: {}", advice(*code))]
    Status { code: u16, reason: &'static str, name: Option<String>, retry_after: Option<Duration> },
    /// An answer that no API server gives: a proxy's error page, a login page, another service.
    #[error("HTTP {code} with {content} came instead of the API's answer: check the server's address and any proxy")]
    Alien { code: u16, content: String, retry_after: Option<Duration> },
    /// What the watch began with is too old, or the list took too long: it must be listed again.
    #[error("the API server no longer has that resourceVersion")]
    Gone,
    #[error("the answer is longer than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the API server sent {0}")]
    Malformed(#[from] DecodeError),
    #[error("the API server sent {0}")]
    BadStream(&'static str),
    #[error("the API server sent another object than the one asked for")]
    OtherObject,
    #[error("{0}")]
    Credentials(String),
}

/// What to do about an answer.
fn advice(code: u16) -> &'static str {
    match code {
        401 => "it does not accept the credentials: log in again or check the kubeconfig",
        403 => "access denied: ask for a Role that allows it",
        429 => "it is busy, and will be asked again",
        _ => "its own log says why",
    }
}

impl From<TooLarge> for Failure {
    fn from(too_large: TooLarge) -> Self {
        Failure::TooLarge { limit: too_large.limit }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Failure::Credentials(error.to_string())
    }
}

impl Failure {
    /// Whether the server is sure that there is no object of this name. A 404 of anything else than the API, or about
    /// anything else than the object (a proxy, a wrong path), is no such proof: an outage deletes nothing.
    pub fn is_not_found(&self, wanted: &str) -> bool {
        matches!(self, Failure::Status { code: 404, reason, name: Some(name), .. } if *reason == "NotFound" && name == wanted)
    }

    pub fn is_forbidden(&self) -> bool {
        matches!(self, Failure::Status { code: 403, .. })
    }

    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Failure::Status { code: 401, .. } | Failure::Alien { code: 401, .. })
    }

    /// Whether asking again soon may help: the path to the server or the server itself is in trouble.
    pub fn is_outage(&self) -> bool {
        match self {
            Failure::Refused | Failure::NoSuchHost | Failure::Tls(_) | Failure::Proxy(_) => true,
            Failure::TimedOut | Failure::Cut | Failure::Network(_) | Failure::Alien { .. } => true,
            Failure::Status { code, .. } => *code == 429 || *code >= 500,
            _ => false,
        }
    }

    /// Whether the server answers, but not with what can be used.
    pub fn is_oddity(&self) -> bool {
        use Failure::{BadStream, Malformed, OtherObject, TooLarge};
        matches!(self, TooLarge { .. } | Malformed(_) | BadStream(_) | OtherObject)
    }

    /// For 429 and gateway errors: how long the server wants to be left alone, if it said so.
    pub fn busy(&self) -> Option<Option<Duration>> {
        match self {
            Failure::Status { code: 429 | 502..=504, retry_after, .. }
            | Failure::Alien { code: 429 | 502..=504, retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// What the caller of the source is told: `what` was asked of `server`.
    pub fn refusal(self, what: impl Into<String>, server: &str) -> Refusal {
        let what = what.into();
        match self {
            failure if failure.is_forbidden() => Refusal::Forbidden { what },
            failure if failure.is_unauthorized() => Refusal::Unauthorized { what },
            Failure::TimedOut => Refusal::TimedOut { what, from: server.to_owned() },
            failure => Refusal::Unavailable { what, why: format!("{server}: {failure}") },
        }
    }
}

/// The part of the API's `Status` that is used.
#[derive(Deserialize)]
struct StatusJson {
    kind: Option<String>,
    code: Option<u16>,
    reason: Option<String>,
    details: Option<DetailsJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DetailsJson {
    name: Option<String>,
    retry_after_seconds: Option<u64>,
}

/// Reads a `Status` object: the body of an error, or the object of a watch's ERROR event. `None` if it is something else.
pub fn status_failure(code: Option<u16>, body: &[u8], retry_after: Option<Duration>) -> Option<Failure> {
    let status: StatusJson = serde_json::from_slice(body).ok()?;
    if status.kind.as_deref() != Some("Status") {
        return None;
    }
    let code = code.or(status.code)?;
    let known = |text: String| REASONS.into_iter().find(|reason| *reason == text);
    let reason = status.reason.and_then(known).unwrap_or("(no reason)");
    if code == 410 || reason == "Expired" || reason == "Gone" {
        return Some(Failure::Gone);
    }
    let details = status.details;
    let wait = details.as_ref().and_then(|details| details.retry_after_seconds).map(Duration::from_secs);
    let name = details.and_then(|details| details.name);
    Some(Failure::Status { code, reason, name, retry_after: retry_after.or(wait) })
}

/// The words that the API has for reasons (apimachinery, meta/v1/types.go, `StatusReason`). Other text is not repeated.
const REASONS: [&str; 19] = [
    "AlreadyExists",
    "BadRequest",
    "Conflict",
    "Expired",
    "Forbidden",
    "Gone",
    "InternalError",
    "Invalid",
    "MethodNotAllowed",
    "NotAcceptable",
    "NotFound",
    "RequestEntityTooLarge",
    "ServerTimeout",
    "ServiceUnavailable",
    "StoreReadError",
    "Timeout",
    "TooManyRequests",
    "Unauthorized",
    "UnsupportedMediaType",
];

/// At most `limit` characters, none of which moves a cursor.
pub fn printable(text: &str, limit: usize) -> String {
    text.chars().take(limit).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Finds the cause that matters in a chain of errors. `io::Error` hides one in `get_ref()`, which `source()` skips.
pub fn classify(error: &(dyn Error + 'static)) -> Failure {
    let mut found = None;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(failure) = classify_one(error) {
            return failure;
        }
        found.get_or_insert_with(|| error.to_string());
        next = error
            .downcast_ref::<io::Error>()
            .and_then(|error| error.get_ref())
            .map(|inner| inner as &(dyn Error + 'static))
            .or_else(|| error.source());
    }
    Failure::Network(printable(&found.unwrap_or_default(), 100))
}

fn classify_one(error: &(dyn Error + 'static)) -> Option<Failure> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(Failure::Tls(printable(&tls.to_string(), 160)));
    }
    if let Some(http) = error.downcast_ref::<hyper::Error>() {
        // A parse error's own cause says less than this.
        return match http {
            http if http.is_parse() => Some(Failure::BadStream("something that is not HTTP")),
            http if http.is_incomplete_message() || http.is_canceled() || http.is_closed() => Some(Failure::Cut),
            _ => None,
        };
    }
    if let Some(http) = error.downcast_ref::<h2::Error>() {
        return match http.get_io() {
            Some(io) => classify_one(io),
            None if http.is_library() => Some(Failure::BadStream("something that is not HTTP/2")),
            None => Some(Failure::Cut),
        };
    }
    let text = error.to_string();
    if text.starts_with("tunnel error") || text.starts_with("SOCKS error") {
        // Unless something more telling lies below, such as a refused connection.
        return error.source().is_none().then(|| Failure::Proxy(printable(&text, 100)));
    }
    if text == "dns error" {
        return Some(Failure::NoSuchHost);
    }
    let io = error.downcast_ref::<io::Error>()?;
    match io.kind() {
        io::ErrorKind::ConnectionRefused => Some(Failure::Refused),
        io::ErrorKind::TimedOut => Some(Failure::TimedOut),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(Failure::Cut),
        kind if io.get_ref().is_none() => Some(Failure::Network(kind.to_string())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, reason: &'static str, name: Option<&str>) -> Failure {
        Failure::Status { code, reason, name: name.map(Into::into), retry_after: None }
    }

    #[test]
    fn only_the_apis_own_404_about_this_object_says_that_it_is_gone() {
        assert!(status(404, "NotFound", Some("web")).is_not_found("web"));
        assert!(!status(404, "NotFound", Some("other")).is_not_found("web"));
        assert!(!status(404, "NotFound", None).is_not_found("web"));
        let page = Failure::Alien { code: 404, content: "text/html".into(), retry_after: None };
        assert!(!page.is_not_found("web") && page.is_outage());
    }

    #[test]
    fn a_status_is_read_but_none_of_its_text_is_repeated() {
        let body = br#"{"kind":"Status","code":403,"reason":"Forbidden","message":"planted","details":{"name":"n"}}"#;
        let failure = status_failure(Some(403), body, None).unwrap();
        assert!(failure.is_forbidden() && failure.to_string().contains("403 Forbidden"));
        assert!(!failure.to_string().contains("planted"));
        for reason in ["planted", ""] {
            let body = format!(r#"{{"kind":"Status","code":500,"reason":"{reason}"}}"#);
            let text = status_failure(None, body.as_bytes(), None).unwrap().to_string();
            assert!(text.contains("500 (no reason)") && !text.contains("planted"), "{text}");
        }
        assert_eq!(status_failure(Some(410), br#"{"kind":"Status"}"#, None), Some(Failure::Gone));
        let expired = br#"{"kind":"Status","code":410,"reason":"Expired"}"#;
        assert_eq!(status_failure(None, expired, None), Some(Failure::Gone));
        assert_eq!(status_failure(Some(403), b"<html>", None), None);
        assert_eq!(status_failure(Some(404), br#"{"type":"error"}"#, None), None);
    }

    #[test]
    fn each_failure_becomes_the_refusal_that_tells_what_to_do() {
        let refusal = |failure: Failure| failure.refusal("prod/secret/web", "https://api");
        assert!(matches!(refusal(status(403, "Forbidden", None)), Refusal::Forbidden { .. }));
        assert!(matches!(refusal(status(401, "Unauthorized", None)), Refusal::Unauthorized { .. }));
        assert!(matches!(refusal(Failure::TimedOut), Refusal::TimedOut { .. }));
        for failure in [Failure::Refused, Failure::Cut, status(500, "InternalError", None), Failure::OtherObject] {
            let Refusal::Unavailable { what, why } = refusal(failure) else { panic!() };
            assert!(what == "prod/secret/web" && why.starts_with("https://api: "), "{why}");
        }
    }

    #[test]
    fn a_cause_hidden_in_an_io_error_is_found() {
        let tls = rustls::Error::NoCertificatesPresented;
        assert!(matches!(classify(&io::Error::other(tls)), Failure::Tls(_)));
        assert_eq!(classify(&io::Error::from(io::ErrorKind::ConnectionRefused)), Failure::Refused);
        assert_eq!(classify(&io::Error::other(io::Error::from(io::ErrorKind::TimedOut))), Failure::TimedOut);
    }
}
