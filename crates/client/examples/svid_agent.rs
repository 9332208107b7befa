//! An agent that has nothing but `SPIFFE_ENDPOINT_SOCKET` in its environment: it asks its machine who it is, and calls the tool server
//! beside it as that, over mutual TLS.
//!
//! ```sh
//! svid_agent 127.0.0.1:8443 spiffe://dev.legate/ns/fleet/enforcer/tools
//! ```
//!
//! Each line on standard input is one call, `read PLAN` or `run PLAN`; `reconnect` drops the connection. Each is answered by one line: the status, the
//! reason of a refusal (or `-`), which connection it was, and what the tool said.

use std::error::Error;
use std::io::{BufRead as _, Write as _};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::{Method, Request, StatusCode};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use legate_client::{Allow, IdentitySource};
use legate_mtls::Connector;

type Failed = Box<dyn Error + Send + Sync>;

/// Nothing that a tool says is longer.
const LONGEST: usize = 64 << 10;
/// Nothing takes longer.
const DEADLINE: Duration = Duration::from_secs(10);

/// An agent, and its connection to one tool server.
#[derive(Debug)]
pub struct Agent {
    address: String,
    connector: Connector,
    open: Option<SendRequest<Body>>,
    connections: u32,
}

/// What came of a call.
#[derive(Debug)]
pub struct Answer {
    /// Of HTTP.
    pub status: StatusCode,
    /// The word of a refusal; `-`: none.
    pub reason: String,
    /// Over which connection it came, counted from 1.
    pub connection: u32,
    /// What the tool said.
    pub said: String,
}

impl Agent {
    /// Of whoever `source` says that we are, towards that server and no other.
    pub fn new(source: &IdentitySource, address: &str, server: Allow) -> Result<Self, Failed> {
        let connector = source.connector(server, &[b"http/1.1"])?;
        Ok(Self { address: address.to_owned(), connector, open: None, connections: 0 })
    }

    /// Closes the connection; the next call makes another, with the certificate of then.
    pub fn reconnect(&mut self) {
        self.open = None;
    }

    /// Calls a tool over the connection that is open, or over a new one.
    pub async fn call(&mut self, method: Method, path: &str) -> Result<Answer, Failed> {
        let work = self.exchange(method, path);
        let answer = tokio::time::timeout(DEADLINE, work).await.map_err(|_| "no answer within 10 s")??;
        // A certificate of before is no good any more; the next call shows the one of now.
        if answer.status == StatusCode::UNAUTHORIZED {
            self.reconnect();
        }
        Ok(answer)
    }

    async fn exchange(&mut self, method: Method, path: &str) -> Result<Answer, Failed> {
        let mut open = self.open.take();
        if let Some(line) = &mut open
            && line.ready().await.is_err()
        {
            open = None;
        }
        let mut sender = match open {
            Some(open) => open,
            None => {
                let stream = TokioIo::new(self.connector.connect(&self.address).await?);
                let (sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
                tokio::spawn(connection);
                self.connections += 1;
                sender
            }
        };
        let request = Request::builder().method(method).uri(path).header("host", "tools").body(Body::empty())?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let said = to_bytes(Body::new(body), LONGEST).await?;
        self.open = Some(sender);
        let reason = head.headers.get("legate-reason").and_then(|reason| reason.to_str().ok()).unwrap_or("-");
        Ok(Answer {
            status: head.status,
            reason: reason.to_owned(),
            connection: self.connections,
            said: String::from_utf8_lossy(&said).trim().to_owned(),
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(server), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("svid_agent HOST:PORT SPIFFE_ID_OF_THE_SERVER".into());
    };
    let source = IdentitySource::from_env(Duration::from_secs(30)).await?;
    let mut agent = Agent::new(&source, &address, Allow::ids([server])?)?;
    let (lines, mut asked) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = asked.recv().await {
        let answer = match line.split_once(' ') {
            Some(("read", plan)) => agent.call(Method::GET, &format!("/plans/{plan}")).await,
            Some(("run", plan)) => agent.call(Method::POST, &format!("/plans/{plan}/run")).await,
            _ if line == "reconnect" => {
                agent.reconnect();
                continue;
            }
            _ => Err(format!("{line:?} is neither read PLAN nor run PLAN nor reconnect").into()),
        };
        let mut out = std::io::stdout().lock();
        match answer {
            Ok(Answer { status, reason, connection, said }) => {
                writeln!(out, "{} {reason} connection={connection} {said}", status.as_u16())?;
            }
            // Nothing can be said to the server, as where we are nobody any more.
            Err(error) => {
                agent.reconnect();
                writeln!(out, "none {error}")?;
            }
        }
        out.flush()?;
    }
    Ok(())
}
