//! A service that runs, and why one does not.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use legate_rpc::Serving;
use legate_web::Web;

use crate::Probes;

/// Calls under way may take so long to finish when the service stops.
const GRACE: Duration = Duration::from_secs(10);
/// What a service does last may take so long.
const LAST: Duration = Duration::from_secs(5);

type Ending = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A service that runs.
pub struct Running {
    serving: Serving,
    probes: Option<Probes>,
    web: Option<Web>,
    intake: (Option<Serving>, Option<Web>),
    endings: Vec<Ending>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("addr", &self.addr()).finish_non_exhaustive()
    }
}

impl Running {
    /// A service that serves gRPC.
    #[must_use]
    pub fn new(serving: Serving) -> Self {
        Self { serving, probes: None, web: None, intake: (None, None), endings: Vec::new() }
    }

    /// With a probe port.
    #[must_use]
    pub fn with_probes(mut self, probes: Option<Probes>) -> Self {
        self.probes = probes;
        self
    }

    /// With an HTTPS port.
    #[must_use]
    pub fn with_web(mut self, web: Option<Web>) -> Self {
        self.web = web;
        self
    }

    /// With ports of their own for what others tell by a protocol of theirs, over gRPC and over HTTPS.
    #[must_use]
    pub fn with_intake(mut self, grpc: Option<Serving>, http: Option<Web>) -> Self {
        self.intake = (grpc, http);
        self
    }

    /// Something to do after the last call, in the order given: flush, stop a task. Five seconds each at most.
    #[must_use]
    pub fn on_stop(mut self, ending: impl Future<Output = ()> + Send + 'static) -> Self {
        self.endings.push(Box::pin(ending));
        self
    }

    /// Where it serves gRPC.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.serving.addr()
    }

    /// Where its probes are, if anywhere.
    #[must_use]
    pub fn probes_addr(&self) -> Option<SocketAddr> {
        self.probes.as_ref().map(Probes::addr)
    }

    /// Where it serves HTTPS, if anywhere.
    #[must_use]
    pub fn web_addr(&self) -> Option<SocketAddr> {
        self.web.as_ref().map(Web::addr)
    }

    /// Where others tell by a protocol of theirs over gRPC, if on a port of its own.
    #[must_use]
    pub fn intake_addr(&self) -> Option<SocketAddr> {
        self.intake.0.as_ref().map(Serving::addr)
    }

    /// Where they tell over HTTPS, if anywhere.
    #[must_use]
    pub fn intake_web_addr(&self) -> Option<SocketAddr> {
        self.intake.1.as_ref().map(Web::addr)
    }

    /// The server itself.
    #[must_use]
    pub fn serving(&self) -> &Serving {
        &self.serving
    }

    /// Takes no more calls, lets those under way finish, then does what is to be done last.
    pub async fn shutdown(self) {
        let lower = |web: Option<Web>| async {
            if let Some(web) = web {
                web.shutdown(GRACE).await;
            }
        };
        let grpc = async {
            if let Some(serving) = self.intake.0 {
                serving.shutdown(GRACE).await;
            }
        };
        tokio::join!(self.serving.shutdown(GRACE), grpc, lower(self.web), lower(self.intake.1));
        for ending in self.endings {
            if tokio::time::timeout(LAST, ending).await.is_err() {
                tracing::warn!("something took longer than 5 s to stop, and is left");
            }
        }
        if let Some(probes) = self.probes {
            probes.shutdown().await;
        }
    }
}

/// Why a service does not start.
#[derive(Debug)]
pub struct StartError {
    what: String,
    why: Box<dyn Error + Send + Sync>,
}

impl StartError {
    /// `what` could not be done, and `why`.
    #[must_use]
    pub fn new(what: impl Into<String>, why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { what: what.into(), why: why.into() }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.why.as_ref())
    }
}

impl From<legate_rpc::Fault> for StartError {
    fn from(fault: legate_rpc::Fault) -> Self {
        Self::new("refused to start", fault)
    }
}

impl From<legate_mtls::TlsError> for StartError {
    fn from(error: legate_mtls::TlsError) -> Self {
        Self::new("the TLS files are refused", error)
    }
}

impl From<std::io::Error> for StartError {
    fn from(error: std::io::Error) -> Self {
        Self::new("an address cannot be bound", error)
    }
}
