//! Calls to servers of others: over TLS to addresses that may be called, in plaintext to this machine alone, without redirects.

use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use legate_clock::Clock;
use legate_mtls::{TlsError, WebConnector};
use legate_web::reach::{self, Network};
use tokio::net::TcpStream;

/// So many addresses of one host are tried.
const MOST_ADDRESSES: usize = 3;

/// Where a server is.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) url: http::Uri,
    /// Over TLS; else in plaintext, to this machine.
    is_tls: bool,
}

impl Address {
    /// Reads a URL.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let url = http::Uri::from_str(url).map_err(|e| format!("url: {e}"))?;
        let authority = url.authority().filter(|authority| !authority.as_str().contains('@'));
        let host = authority.map(|authority| authority.host()).filter(|host| !host.is_empty());
        let is_tls = match (url.scheme_str(), host) {
            (Some("https"), Some(_)) => true,
            (Some("http"), Some("127.0.0.1" | "[::1]" | "localhost")) => false,
            _ => return Err("url: https://HOST/..., without a user; http to this machine alone".into()),
        };
        Ok(Self { url, is_tls })
    }
}

/// What a server said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: http::StatusCode,
    pub(crate) headers: http::HeaderMap,
    /// Or why it could not be read.
    pub(crate) body: Result<Bytes, String>,
}

/// Whoever calls; it believes the public CAs and those given. Patience is the caller's.
#[derive(Clone, Debug)]
pub(crate) struct Outward {
    web: WebConnector,
    allowed: Arc<[Network]>,
}

impl Outward {
    pub(crate) fn new(ca: Option<&Path>, allowed: &[Network], clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
        };
        let more = ca.map(read).transpose()?;
        Ok(Self { web: WebConnector::new(more.as_deref(), clock)?, allowed: allowed.into() })
    }

    /// Posts a body to a path of a server; `most` bytes of the answer are read.
    pub(crate) async fn post(
        &self,
        to: &Address,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
        most: usize,
    ) -> Result<Answer, String> {
        self.send(to, http::Method::POST, path, headers, body, most).await
    }

    /// Makes a request to a path of a server; `most` bytes of the answer are read.
    pub(crate) async fn send(
        &self,
        to: &Address,
        method: http::Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
        most: usize,
    ) -> Result<Answer, String> {
        let authority = to.url.authority().ok_or("the URL has no host")?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(if to.is_tls { 443 } else { 80 });
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, authority.as_str())
            .header(http::header::USER_AGENT, concat!("legate/", env!("CARGO_PKG_VERSION")));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Full::new(body)).map_err(|e| format!("not sent: {e}"))?;
        let mut last = "the name has no address that may be called".to_owned();
        for address in self.resolve(to, host, port).await? {
            // Exactly this address: a name that is resolved a second time may lead elsewhere.
            if to.is_tls {
                match self.web.connect(address, host).await {
                    Ok(stream) => return exchange(TokioIo::new(stream), request, most).await,
                    Err(e) => last = format!("no TLS connection: {e}"),
                }
            } else {
                match TcpStream::connect(address).await {
                    Ok(stream) => return exchange(TokioIo::new(stream), request, most).await,
                    Err(e) => last = format!("no connection: {e}"),
                }
            }
        }
        Err(last)
    }

    /// The addresses that may be called: public ones and those of allowed networks; in plaintext this machine's alone.
    async fn resolve(&self, to: &Address, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let found = tokio::net::lookup_host((host, port)).await.map_err(|e| format!("not resolved: {e}"))?;
        let may = |address: &SocketAddr| match to.is_tls {
            true => reach::allows(&self.allowed, address.ip()),
            false => address.ip().is_loopback(),
        };
        Ok(found.filter(may).take(MOST_ADDRESSES).collect())
    }
}

async fn exchange<S>(stream: S, request: http::Request<Full<Bytes>>, most: usize) -> Result<Answer, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let shaken = hyper::client::conn::http1::handshake(stream).await;
    let (mut sender, connection) = shaken.map_err(|e| format!("no HTTP: {e}"))?;
    // Ends with the answer, or with this call: whoever is dropped takes the connection along.
    let mut driving = tokio::task::JoinSet::new();
    driving.spawn(connection);
    let answer = sender.send_request(request).await.map_err(|e| format!("no answer: {e}"))?;
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, most).collect().await;
    let body =
        body.map(http_body_util::Collected::to_bytes).map_err(|e| format!("the answer is cut off or too long: {e}"));
    Ok(Answer { status: parts.status, headers: parts.headers, body })
}
