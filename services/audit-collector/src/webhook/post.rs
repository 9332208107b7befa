//! One POST to the receiver: to an allowed address, without a redirect, bounded in time and size.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use legate_clock::{Clock, Timestamp};
use legate_mtls::{TlsError, WebConnector};
use legate_web::reach;
use tokio::net::TcpStream;

use super::Target;

/// The whole of it: to resolve, to connect, to send, to hear the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many addresses of one host are tried.
const MOST_ADDRESSES: usize = 3;

/// So much of an answer is read, and not looked at.
const LARGEST_ANSWER: usize = 64 << 10;

/// Why it was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotTaken {
    /// It may be taken later.
    #[error("{0}")]
    Away(String),
    /// The receiver says that it will not.
    #[error("the receiver answered with {0}")]
    Refused(http::StatusCode),
}

fn away(what: &str, why: impl std::fmt::Display) -> NotTaken {
    NotTaken::Away(format!("{what}: {why}"))
}

/// Posts.
#[derive(Debug)]
pub(super) struct Poster {
    target: Target,
    web: WebConnector,
}

impl Poster {
    pub(super) fn new(target: Target, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let read = |path: &std::path::PathBuf| {
            std::fs::read_to_string(path).map_err(|source| TlsError::File { path: path.clone(), source })
        };
        let more = target.ca.as_ref().map(read).transpose()?;
        Ok(Self { web: WebConnector::new(more.as_deref(), clock)?, target })
    }

    /// Sends a message once.
    pub(super) async fn post(&self, id: &str, body: Bytes, now: Timestamp) -> Result<(), NotTaken> {
        let posting = tokio::time::timeout(PATIENCE, self.send(id, body, now));
        posting.await.unwrap_or_else(|_| Err(NotTaken::Away(format!("no answer within {} s", PATIENCE.as_secs()))))
    }

    async fn send(&self, id: &str, body: Bytes, now: Timestamp) -> Result<(), NotTaken> {
        let url = &self.target.url;
        let authority = url.authority().ok_or_else(|| NotTaken::Away("the URL has no host".into()))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(if self.target.is_tls { 443 } else { 80 });
        let at = now.secs().to_string();
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let request = http::Request::post(path)
            .header(http::header::HOST, authority.as_str())
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::USER_AGENT, concat!("legate/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id)
            .header("webhook-timestamp", &at)
            .header("webhook-signature", self.target.sign(id, &at, &body))
            .body(Full::new(body))
            .map_err(|e| away("not sent", e))?;
        let mut last = NotTaken::Away("the name has no address that may be called".into());
        for address in self.resolve(host, port).await? {
            // Exactly this address: a name that is resolved a second time may lead elsewhere.
            if self.target.is_tls {
                match self.web.connect(address, host).await {
                    Ok(stream) => return exchange(TokioIo::new(stream), request).await,
                    Err(e) => last = away("no TLS connection", e),
                }
            } else {
                match TcpStream::connect(address).await {
                    Ok(stream) => return exchange(TokioIo::new(stream), request).await,
                    Err(e) => last = away("no connection", e),
                }
            }
        }
        Err(last)
    }

    /// The addresses that may be called: public ones and those of allowed networks; in plaintext this machine's alone.
    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, NotTaken> {
        let found = tokio::net::lookup_host((host, port)).await.map_err(|e| away("not resolved", e))?;
        let may = |address: &SocketAddr| match self.target.is_tls {
            true => reach::allows(&self.target.allowed, address.ip()),
            false => address.ip().is_loopback(),
        };
        Ok(found.filter(may).take(MOST_ADDRESSES).collect())
    }
}

async fn exchange<S>(stream: S, request: http::Request<Full<Bytes>>) -> Result<(), NotTaken>
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let shaken = hyper::client::conn::http1::handshake(stream).await;
    let (mut sender, connection) = shaken.map_err(|e| away("no HTTP", e))?;
    // Ends with the answer, or with this call: whoever is dropped takes the connection along.
    let mut driving = tokio::task::JoinSet::new();
    driving.spawn(connection);
    let answer = sender.send_request(request).await.map_err(|e| away("no answer", e))?;
    let status = answer.status();
    drop(Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await);
    match status {
        status if status.is_success() => Ok(()),
        http::StatusCode::REQUEST_TIMEOUT | http::StatusCode::TOO_MANY_REQUESTS => {
            Err(away("the receiver says", status))
        }
        status if status.is_client_error() => Err(NotTaken::Refused(status)),
        // A redirect too: it would lead around the guard.
        status => Err(away("the receiver answered with", status)),
    }
}
