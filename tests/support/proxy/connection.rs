//! One connection: from a client's requests to the server's answers, through whatever fails in between.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{client, server};

use super::exchange::{body, head_end, parse};
use super::{Fault, Lines, Shared};

/// One connection of a client.
pub(super) struct Connection {
    pub shared: Arc<Shared>,
    pub number: usize,
    pub lines: watch::Receiver<Lines>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.state().open.remove(&self.number);
    }
}

type Client = server::TlsStream<TcpStream>;
type Upstream = client::TlsStream<TcpStream>;

impl Connection {
    /// Waits until something may pass.
    async fn passable(&mut self) {
        let number = self.number;
        let _ = self.lines.wait_for(|lines| !lines.black_hole && number >= lines.dead_below).await;
    }

    /// Forwards until one of its sides closes it.
    pub async fn serve(&mut self, socket: TcpStream) -> std::io::Result<()> {
        socket.set_nodelay(true)?;
        self.passable().await;
        let accepting = self.shared.acceptor().accept(socket);
        let mut client = accepting.await?;
        let mut upstream: Option<Upstream> = None;
        let mut asked = Vec::new();
        let mut answered = vec![0; 64 << 10];
        let mut answer = Answer::default();
        loop {
            self.passable().await;
            tokio::select! {
                count = client.read_buf(&mut asked) => {
                    if count? == 0 {
                        return Ok(());
                    }
                    while let Some((request, length)) = parse(&asked) {
                        let raw: Vec<u8> = asked.drain(..length).collect();
                        let (place, fault) = self.shared.record(request);
                        answer = Answer { place, ..Answer::default() };
                        if !self.meet(fault, &mut answer, &mut client).await? {
                            continue;
                        }
                        let server = match &mut upstream {
                            Some(server) => server,
                            none => none.insert(self.connect().await?),
                        };
                        server.write_all(&raw).await?;
                        server.flush().await?;
                    }
                }
                count = receive(&mut upstream, &mut answered) => {
                    let count = count?;
                    if count == 0 {
                        return Ok(());
                    }
                    self.passable().await;
                    self.pass(&answered[..count], &mut answer, &mut client).await?;
                }
                // Back to the beginning, where it is looked at.
                _ = self.lines.changed() => {}
            }
        }
    }

    /// Says whether the request is to be passed on to the server.
    async fn meet(&self, fault: Option<Fault>, answer: &mut Answer, client: &mut Client) -> std::io::Result<bool> {
        match fault {
            None => return Ok(true),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                return Ok(true);
            }
            Some(Fault::Answer(code, headers, content_type, body)) => {
                let length = body.len();
                let text = format!(
                    "HTTP/1.1 {code} Injected\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
                );
                self.pass(text.as_bytes(), answer, client).await?;
            }
            Some(Fault::Silence) => {}
            Some(Fault::Close) => return Err(std::io::ErrorKind::ConnectionAborted.into()),
            Some(later @ (Fault::Truncate(_) | Fault::Stall(_) | Fault::Trickle(..) | Fault::Edit(_))) => {
                answer.fault = Some(later);
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn connect(&self) -> std::io::Result<Upstream> {
        let socket = TcpStream::connect(self.shared.upstream).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::from(self.shared.upstream.ip());
        self.shared.connector.clone().connect(name, socket).await
    }

    /// Passes a part of the answer on to the client.
    async fn pass(&self, bytes: &[u8], answer: &mut Answer, client: &mut Client) -> std::io::Result<()> {
        if let Some(Fault::Edit(edit)) = answer.fault {
            answer.held.extend_from_slice(bytes);
            return match edited(&answer.held, edit) {
                Some(whole) => self.send(&whole, answer, client).await,
                None => Ok(()),
            };
        }
        let before_body = answer.before_body(bytes);
        self.send(&bytes[..before_body], answer, client).await?;
        let body = &bytes[before_body..];
        let passed = answer.passed;
        answer.passed += body.len();
        match answer.fault.clone() {
            Some(Fault::Truncate(limit)) => {
                self.send(&body[..body.len().min(limit.saturating_sub(passed))], answer, client).await?;
                if answer.passed >= limit {
                    return Err(std::io::ErrorKind::ConnectionAborted.into());
                }
                Ok(())
            }
            Some(Fault::Stall(limit)) => {
                self.send(&body[..body.len().min(limit.saturating_sub(passed))], answer, client).await
            }
            Some(Fault::Trickle(size, pause)) => {
                for piece in body.chunks(size) {
                    tokio::time::sleep(pause).await;
                    self.send(piece, answer, client).await?;
                }
                Ok(())
            }
            _ => self.send(body, answer, client).await,
        }
    }

    async fn send(&self, bytes: &[u8], answer: &Answer, client: &mut Client) -> std::io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        // Before it is sent: whoever has received something finds it in the record.
        self.shared.state().exchanges[answer.place].response.extend_from_slice(bytes);
        client.write_all(bytes).await?;
        client.flush().await
    }
}

/// The answer that is passing.
#[derive(Default)]
struct Answer {
    place: usize,
    fault: Option<Fault>,
    /// What has come of the head, while it is not complete.
    head: Vec<u8>,
    in_body: bool,
    /// What has come and is sent only when all of it is here.
    held: Vec<u8>,
    /// Bytes of the body that have come from the server.
    passed: usize,
}

impl Answer {
    /// How many of the bytes that come now belong to the head.
    fn before_body(&mut self, bytes: &[u8]) -> usize {
        if self.in_body {
            return 0;
        }
        let known = self.head.len();
        self.head.extend_from_slice(bytes);
        match head_end(&self.head) {
            Some(end) => {
                self.in_body = true;
                end - known
            }
            None => bytes.len(),
        }
    }
}

/// A whole answer with its JSON changed; `None` until it is whole.
fn edited(response: &[u8], edit: fn(&mut serde_json::Value)) -> Option<Vec<u8>> {
    let (body, true) = body(response) else { return None };
    let line = response.split(|byte| *byte == b'\r').next()?;
    let mut json = serde_json::from_slice(&body).expect("JSON");
    edit(&mut json);
    let body = json.to_string();
    let head = format!("\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    Some([line, head.as_bytes(), body.as_bytes()].concat())
}

async fn receive(upstream: &mut Option<Upstream>, into: &mut [u8]) -> std::io::Result<usize> {
    match upstream {
        Some(server) => server.read(into).await,
        None => std::future::pending().await,
    }
}
