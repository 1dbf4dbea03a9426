//! What passes: requests, and what was sent back for them.

/// What was asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub fn is_watch(&self) -> bool {
        self.query().any(|part| matches!(part, "watch=1" | "watch=true"))
    }

    /// Whether it is about the one object of this name in its collection.
    pub fn selects_name(&self, name: &str) -> bool {
        self.query().any(|part| part.strip_prefix("fieldSelector=metadata.name%3D") == Some(name))
    }

    /// The parts of the query.
    pub fn query(&self) -> impl Iterator<Item = &str> {
        self.target.split_once('?').map_or("", |(_, query)| query).split('&')
    }

    /// Whether it asks for one named Secret with its values.
    pub fn is_get_of(&self, namespace: &str, secret: &str) -> bool {
        self.path() == format!("/api/v1/namespaces/{namespace}/secrets/{secret}")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A request and all that was sent back for it so far, head and framing included.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub request: Request,
    pub response: Vec<u8>,
    /// Whether a rule made its answer fail.
    pub failed: bool,
}

impl Exchange {
    /// The status of the answer; `None` while there is none.
    pub fn status(&self) -> Option<u16> {
        let line = self.response.split(|byte| *byte == b'\r').next()?;
        std::str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()
    }

    /// What has come of the body, without chunk sizes between its parts.
    pub fn body(&self) -> Vec<u8> {
        body(&self.response).0
    }
}

/// What has come of an answer's body, and whether that is all of it.
pub(super) fn body(response: &[u8]) -> (Vec<u8>, bool) {
    let Some(end) = head_end(response) else { return (Vec::new(), false) };
    let head = String::from_utf8_lossy(&response[..end]).to_lowercase();
    assert!(!head.contains("content-encoding"), "nothing can be found in a compressed body: {head}");
    let mut raw = &response[end..];
    if !head.contains("transfer-encoding: chunked") {
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
        return (raw.to_vec(), length.is_some_and(|length: usize| raw.len() >= length));
    }
    let mut body = Vec::new();
    while let Some(line) = raw.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&raw[..line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.expect("a chunk's size");
        if size == 0 {
            return (body, true);
        }
        let rest = &raw[line + 2..];
        body.extend_from_slice(&rest[..size.min(rest.len())]);
        raw = rest.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}

/// Where the head of a message ends.
pub(super) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Reads one request; `None` until it is complete. Gives it with its length, body included.
pub(super) fn parse(bytes: &[u8]) -> Option<(Request, usize)> {
    let end = head_end(bytes)?;
    let head = std::str::from_utf8(&bytes[..end]).expect("a head in ASCII");
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next().expect("a first line").split(' ');
    let mut word = || first.next().unwrap_or_default().to_owned();
    let (method, target) = (word(), word());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let request = Request { method, target, headers };
    assert!(request.header("transfer-encoding").is_none(), "the proxy cannot read chunked requests");
    let body = request.header("content-length").map_or(0, |length| length.parse().expect("a length"));
    (bytes.len() >= end + body).then_some((request, end + body))
}
