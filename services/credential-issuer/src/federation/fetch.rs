//! One GET of an issuer's keys: over HTTPS, from an allowed address, without a redirect, bounded in size and time.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use legate_clock::Clock;
use legate_mtls::{ForeignConnector, TlsError, WebConnector};
use legate_token::MAX_KEYS_TEXT;
use legate_web::reach::{self, Network};

/// The whole of it: to resolve, to connect, to ask, to read.
const PATIENCE: Duration = Duration::from_secs(3);
/// So many addresses of one host are tried.
const MOST_ADDRESSES: usize = 3;

/// Why keys did not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreached(pub(crate) String);

fn unreached(what: &str) -> impl FnOnce(&dyn std::fmt::Display) -> Unreached {
    move |why| Unreached(format!("{what}: {why}"))
}

/// How a server shows who it is.
#[derive(Debug)]
pub(super) enum By {
    /// By a certificate for the name in the URL.
    Web,
    /// By an X.509-SVID.
    Foreign(ForeignConnector),
}

/// Fetches keys.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    web: WebConnector,
    allowed: Arc<[Network]>,
}

impl Fetcher {
    pub(crate) fn new(ca: Option<&Path>, allowed: &[Network], clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
        };
        let more = ca.map(read).transpose()?;
        Ok(Self { web: WebConnector::new(more.as_deref(), clock)?, allowed: allowed.into() })
    }

    /// The body at an https URL.
    pub(super) async fn get(&self, url: &str, by: &By) -> Result<Bytes, Unreached> {
        let late = || Unreached(format!("no answer within {} s", PATIENCE.as_secs()));
        tokio::time::timeout(PATIENCE, self.ask(url, by)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn ask(&self, url: &str, by: &By) -> Result<Bytes, Unreached> {
        let uri: http::Uri = url.parse().map_err(|e: http::uri::InvalidUri| unreached("not a URL")(&e))?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let (Some("https"), Some(authority)) = (uri.scheme_str(), authority) else {
            return Err(Unreached("not an https URL without a user".into()));
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let addresses = self.resolve(host, authority.port_u16().unwrap_or(443)).await?;
        let mut last = Unreached("no address".into());
        for address in addresses {
            // Exactly this address: a name that is resolved a second time may lead elsewhere.
            let connected = match by {
                By::Web => self.web.connect(address, host).await,
                By::Foreign(connector) => connector.connect(address, host).await,
            };
            match connected {
                Ok(stream) => return exchange(TokioIo::new(stream), &uri, authority.as_str()).await,
                Err(e) => last = unreached("no TLS connection")(&e),
            }
        }
        Err(last)
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Unreached> {
        let found = tokio::net::lookup_host((host, port)).await.map_err(|e| unreached("not resolved")(&e))?;
        let (good, bad): (Vec<_>, Vec<_>) = found.partition(|found| reach::allows(&self.allowed, found.ip()));
        match (good.is_empty(), bad.is_empty()) {
            (false, _) => Ok(good.into_iter().take(MOST_ADDRESSES).collect()),
            (true, true) => Err(Unreached("not resolved: the name has no address".into())),
            (true, false) => Err(Unreached(
                "the name leads to a private, loopback or otherwise special address, and federation.allow_private does not hold it".into(),
            )),
        }
    }
}

async fn exchange<S>(stream: S, uri: &http::Uri, host: &str) -> Result<Bytes, Unreached>
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(|e| unreached("no HTTP")(&e))?;
    // Ends with the answer, or with this call: whoever is dropped takes the connection along.
    let mut driving = tokio::task::JoinSet::new();
    driving.spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = http::Request::get(path)
        .header(http::header::HOST, host)
        .header(http::header::ACCEPT, "application/jwk-set+json, application/json")
        .header(http::header::USER_AGENT, concat!("legate/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|e| unreached("not asked")(&e))?;
    let answer = sender.send_request(request).await.map_err(|e| unreached("no answer")(&e))?;
    if answer.status() != http::StatusCode::OK {
        // A redirect too: it would lead around the guard, and an issuer's keys are where its declaration says.
        return Err(Unreached(format!("answered with {}", answer.status())));
    }
    let body = Limited::new(answer.into_body(), MAX_KEYS_TEXT).collect().await;
    Ok(body.map_err(|e| unreached("the answer is cut off or too long")(&e))?.to_bytes())
}
