//! The client's side: a channel over mutual TLS that carries the trace and a deadline with every call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use legate_clock::Clock;
use legate_mtls::{Connector, Expect, Identity, Trust};
use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use crate::{Fault, TraceContext, UNREACHABLE};

/// A channel for generated clients: `AgentServiceClient::new(client)`. Cheap to clone.
pub type Client = InterceptedService<Channel, Outbound>;

/// So many may be named at once.
const MOST_HOSTS: usize = 8;

/// Whom to dial, as whom.
#[derive(Clone, Debug)]
pub struct Dial {
    /// `https://HOST:PORT`, or up to eight of these with commas between them, of which one answers at a time: whenever a connection
    /// cannot be made or is lost, the next one is tried.
    pub endpoint: String,
    /// Who we are.
    pub identity: Identity,
    /// Whom we believe.
    pub trust: Trust,
    /// Who has to answer.
    pub expect: Expect,
    /// The deadline of calls that set none.
    pub timeout: Duration,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Makes a channel; it connects at the first call, and again whenever the connection is lost.
///
/// # Errors
/// `UNREACHABLE` when the endpoint is not `https://HOST:PORT`.
pub fn dial(dial: Dial) -> Result<Client, Fault> {
    connect(dial, None)
}

/// The same, for an operator in an emergency: every call states it, and `why` ([`BREAK_GLASS`](crate::BREAK_GLASS)).
///
/// # Errors
/// `INVALID_ARGUMENT` when `why` is not 1 to 200 printable ASCII characters; else as [`dial`].
pub fn dial_breaking_glass(dial: Dial, why: &str) -> Result<Client, Fault> {
    let value = Some(why).filter(|why| crate::layer::is_emergency(why)).and_then(|why| why.parse().ok());
    let refused = || Fault::invalid(crate::BREAK_GLASS, "say why in 1 to 200 printable ASCII characters");
    connect(dial, Some(value.ok_or_else(refused)?))
}

fn connect(dial: Dial, emergency: Option<MetadataValue<Ascii>>) -> Result<Client, Fault> {
    let bad = |why: &str| Fault::refused(&UNREACHABLE, format!("{}: {why}", dial.endpoint));
    // The connector speaks TLS itself; tonic is told http so that it does not try to.
    let plain = |one: &str| one.trim().strip_prefix("https://").map(|host| format!("http://{host}"));
    let hosts: Option<Vec<String>> = dial.endpoint.split(',').map(plain).collect();
    let Some([first, more @ ..]) = hosts.as_deref().filter(|hosts| hosts.len() <= MOST_HOSTS) else {
        return Err(bad("an endpoint is https://HOST:PORT, or up to eight of these with commas between them"));
    };
    let origin = dial.endpoint.split(',').next().unwrap_or_default().trim();
    let endpoint = Endpoint::from_shared(first.clone())
        .map_err(|e| bad(&e.to_string()))?
        .origin(origin.parse().map_err(|_| bad("not a URI"))?)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .http2_max_header_list_size(64 * 1024)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    let connector =
        legate_mtls::connector(dial.identity, dial.trust, dial.expect, dial.clock).map_err(Fault::broken)?;
    let channel = if more.is_empty() {
        endpoint.connect_with_connector_lazy(connector)
    } else {
        let hosts: Result<Vec<Uri>, _> = [first].into_iter().chain(more).map(|host| host.parse()).collect();
        let hosts = hosts.map_err(|_| bad("not a URI"))?;
        endpoint.connect_with_connector_lazy(InTurn { connector, hosts: hosts.into(), next: Arc::default() })
    };
    Ok(InterceptedService::new(channel, Outbound { timeout: dial.timeout, emergency }))
}

/// Connects to several in turn.
#[derive(Clone, Debug)]
struct InTurn {
    connector: Connector,
    hosts: Arc<[Uri]>,
    next: Arc<AtomicUsize>,
}

impl tower::Service<Uri> for InTurn {
    type Response = <Connector as tower::Service<Uri>>::Response;
    type Error = <Connector as tower::Service<Uri>>::Error;
    type Future = <Connector as tower::Service<Uri>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        tower::Service::poll_ready(&mut self.connector, context)
    }

    fn call(&mut self, first: Uri) -> Self::Future {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.hosts.len().max(1);
        let host = self.hosts.get(turn).cloned().unwrap_or(first);
        self.connector.call(host)
    }
}

/// Adds the trace that the call belongs to (a new one where it belongs to none), and a deadline where it has none.
#[derive(Clone, Debug)]
pub struct Outbound {
    timeout: Duration,
    emergency: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Outbound {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        if request.metadata().get("grpc-timeout").is_none() {
            request.set_timeout(self.timeout);
        }
        if request.metadata().get("traceparent").is_none() {
            let current = TraceContext::current();
            let trace = if current.is_none() { TraceContext::new() } else { current };
            if let Ok(value) = MetadataValue::try_from(trace.traceparent.as_str()) {
                request.metadata_mut().insert("traceparent", value);
            }
        }
        if let Some(why) = &self.emergency {
            request.metadata_mut().insert(crate::BREAK_GLASS, why.clone());
        }
        Ok(request)
    }
}
