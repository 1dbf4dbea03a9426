//! How answers fail.

use std::time::Duration;

/// How the answer to a request fails.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The server is not asked; this is the answer: status, further header lines, content type, body.
    Answer(u16, String, &'static str, String),
    /// Nothing ever comes back.
    Silence,
    /// The connection is closed instead of an answer.
    Close,
    /// The request is passed on after this time.
    Delay(Duration),
    /// The connection is closed after so many bytes of the body.
    Truncate(usize),
    /// After so many bytes of the body nothing comes any more.
    Stall(usize),
    /// The body comes in pieces of so many bytes, each after a pause.
    Trickle(usize, Duration),
    /// The server's answer comes with its JSON changed.
    Edit(fn(&mut serde_json::Value)),
}

impl Fault {
    /// The answer that an API server gives with this status: a `Status` object.
    pub fn status(code: u16) -> Fault {
        Self::status_with(code, "")
    }

    /// The same with `Retry-After`.
    pub fn retry_after(code: u16, seconds: u32) -> Fault {
        Self::status_with(code, &format!("Retry-After: {seconds}\r\n"))
    }

    fn status_with(code: u16, headers: &str) -> Fault {
        let reason = match code {
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            410 => "Expired",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "Unknown",
        };
        let body = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "the test's proxy said so", "reason": reason, "code": code,
        });
        Fault::Answer(code, headers.to_owned(), "application/json", body.to_string())
    }

    /// What gateways and captive portals say.
    pub fn html(code: u16) -> Fault {
        Fault::Answer(code, String::new(), "text/html", "<html><body>Sorry!</body></html>".into())
    }
}
