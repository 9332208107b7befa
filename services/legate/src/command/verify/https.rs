//! A log over HTTPS, as C2SP tlog-tiles lays it out; the server's certificate is checked, though the log needs no trust.

use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use legate_clock::SystemClock;
use legate_ids::TrustDomain;
use legate_merkle::{MAX_NOTE, TileId};
use legate_mtls::{Expect, Identity, Trust};
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::{Service, ServiceExt};

use super::{COSIGNED, MOST_BYTES, Source};
use crate::Failure;
use crate::error::{CONTEXT_MISSING, FILE_REFUSED, USAGE};

/// One file may take so long.
const DEADLINE: Duration = Duration::from_secs(15);

pub(super) struct Web {
    base: String,
    channel: Channel,
    runtime: tokio::runtime::Handle,
    unreachable: Option<String>,
}

impl Web {
    pub(super) fn new(url: &str, domain: &str, ca: &Path) -> Result<Self, Failure> {
        let bad = |why: String| Failure::local(&USAGE, format!("{url:?} is not the address of a log: {why}"));
        let domain = TrustDomain::parse(domain)
            .map_err(|e| Failure::local(&CONTEXT_MISSING, format!("--trust-domain {domain:?}: {e}")))?;
        let trust = Trust::from_files(domain, ca, None).map_err(|e| Failure::local(&FILE_REFUSED, e.to_string()))?;
        let base = url.trim_end_matches('/').to_owned();
        let uri: http::Uri = base.parse().map_err(|e: http::uri::InvalidUri| bad(e.to_string()))?;
        let host = uri.authority().ok_or_else(|| bad("there is no host in it".into()))?;
        let endpoint =
            Endpoint::from_shared(format!("http://{host}")).map_err(|e| bad(e.to_string()))?.origin(uri.clone());
        let service = Expect::Service("audit-collector");
        let connector = legate_mtls::connector(Identity::anonymous(), trust, service, SystemClock::shared())
            .map_err(|e| Failure::local(&FILE_REFUSED, e.to_string()))?;
        Ok(Self {
            base: uri.path().trim_end_matches('/').to_owned(),
            channel: endpoint.connect_with_connector_lazy(connector),
            runtime: tokio::runtime::Handle::current(),
            unreachable: None,
        })
    }

    /// That the server was not reached.
    pub(super) fn failure(&self) -> Option<Failure> {
        let why = self.unreachable.clone()?;
        Some(Failure::unreachable("the log", "its address", &why))
    }

    fn get(&mut self, path: &str, most: u64) -> io::Result<Vec<u8>> {
        let request =
            http::Request::get(format!("{}/{path}", self.base)).body(Body::empty()).map_err(io::Error::other)?;
        let channel = &mut self.channel;
        let work = async {
            let answer = channel.ready().await.map_err(whole)?.call(request).await.map_err(whole)?;
            let status = answer.status();
            let limit = usize::try_from(most).unwrap_or(usize::MAX);
            let body = Limited::new(answer.into_body(), limit).collect().await.map_err(|e| e.to_string())?;
            Ok::<_, String>((status, body.to_bytes().to_vec()))
        };
        let done = self.runtime.block_on(async { tokio::time::timeout(DEADLINE, work).await });
        match done.unwrap_or_else(|_| Err(format!("{path} did not come within {DEADLINE:?}"))) {
            Ok((status, bytes)) if status.is_success() => Ok(bytes),
            Ok((http::StatusCode::NOT_FOUND | http::StatusCode::GONE, _)) => Err(io::ErrorKind::NotFound.into()),
            Ok((status, _)) => {
                self.unreachable = Some(format!("{path} was answered with {status}"));
                Err(io::Error::other(status.to_string()))
            }
            Err(why) => {
                self.unreachable = Some(why.clone());
                Err(io::Error::other(why))
            }
        }
    }
}

/// An error and everything behind it.
fn whole(error: tonic::transport::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(source) = next {
        text += &format!(": {source}");
        next = source.source();
    }
    text
}

impl Source for Web {
    fn checkpoint(&mut self) -> io::Result<Vec<u8>> {
        self.get("checkpoint", MAX_NOTE as u64)
    }

    fn cosigned(&mut self) -> io::Result<Vec<u8>> {
        self.get(COSIGNED, MAX_NOTE as u64)
    }

    fn tile(&mut self, tile: TileId) -> io::Result<Vec<u8>> {
        self.get(&tile.to_string(), MOST_BYTES)
    }
}
