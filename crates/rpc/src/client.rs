//! The client's side: a channel over mutual TLS that carries the trace and a deadline with every call.

use std::sync::Arc;
use std::time::Duration;

use legate_clock::Clock;
use legate_mtls::{Expect, Identity, Trust};
use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use crate::{Fault, TraceContext, UNREACHABLE};

/// A channel for generated clients: `AgentServiceClient::new(client)`. Cheap to clone.
pub type Client = InterceptedService<Channel, Outbound>;

/// Whom to dial, as whom.
#[derive(Clone, Debug)]
pub struct Dial {
    /// `https://HOST:PORT`.
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
    let Some(host) = dial.endpoint.strip_prefix("https://") else {
        return Err(bad("an endpoint is https://HOST:PORT"));
    };
    // The connector speaks TLS itself; tonic is told http so that it does not try to.
    let endpoint = Endpoint::from_shared(format!("http://{host}"))
        .map_err(|e| bad(&e.to_string()))?
        .origin(dial.endpoint.parse().map_err(|_| bad("not a URI"))?)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .http2_max_header_list_size(64 * 1024)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    let connector =
        legate_mtls::connector(dial.identity, dial.trust, dial.expect, dial.clock).map_err(Fault::broken)?;
    let channel = endpoint.connect_with_connector_lazy(connector);
    Ok(InterceptedService::new(channel, Outbound { timeout: dial.timeout, emergency }))
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
