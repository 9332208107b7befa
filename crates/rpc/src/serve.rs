//! Raises a gRPC server over mutual TLS and lowers it again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Clock;
use legate_mtls::{Connections, Listener};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::access::Table;
use crate::layer::{Chassis, ChassisLayer};
use crate::{Health, Limits, Metrics, Refusals, Rule, Standing};

/// What makes a service.
#[derive(Debug)]
pub struct Service {
    /// Its name, as everywhere.
    pub name: &'static str,
    /// Who may call what; what is not in it is denied.
    pub access: &'static [Rule],
    /// The handlers.
    pub routes: Routes,
    /// Whether a peer is still in good standing.
    pub standing: Arc<dyn Standing>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Bounds.
    pub limits: Limits,
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
    /// Where callers who are turned away are noted.
    pub refusals: Arc<Refusals>,
    /// A `google.protobuf.FileDescriptorSet` to tell whoever has a certificate and asks (gRPC server reflection); for
    /// development only.
    pub descriptors: Option<&'static [u8]>,
}

/// A running server.
#[derive(Debug)]
pub struct Serving {
    addr: SocketAddr,
    connections: Connections,
    health: Health,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Serves on `listener` until [`Serving::shutdown`].
///
/// # Errors
/// When the listener does not tell its address, or the descriptors are none.
pub async fn serve(service: Service, listener: Listener) -> std::io::Result<Serving> {
    let addr = listener.local_addr()?;
    let connections = listener.connections();
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let limits = service.limits;
    let chassis = ChassisLayer(Arc::new(Chassis {
        name: service.name,
        table: Table::new(service.access, service.descriptors.is_some()),
        standing: service.standing,
        clock: service.clock,
        default_deadline: limits.default_deadline,
        metrics: service.metrics,
        refusals: service.refusals,
    }));
    let mut routes = service.routes;
    if let Some(descriptors) = service.descriptors {
        let builder = tonic_reflection::server::Builder::configure();
        let reflection = builder.register_encoded_file_descriptor_set(descriptors).build_v1();
        routes = routes.add_service(reflection.map_err(std::io::Error::other)?);
    }
    let stop = CancellationToken::new();
    let server = tonic::transport::Server::builder()
        .max_concurrent_streams(limits.streams_per_connection)
        .http2_max_header_list_size(limits.header_bytes)
        .http2_max_pending_accept_reset_streams(Some(limits.pending_resets))
        .http2_keepalive_interval(Some(limits.ping_after))
        .http2_keepalive_timeout(Some(limits.ping_deadline))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_connection_age(limits.connection_age)
        .max_connection_age_grace(limits.connection_grace)
        .layer(chassis)
        .add_routes(routes)
        .add_service(health_service)
        .serve_with_incoming_shutdown(listener.into_incoming(), stop.clone().cancelled_owned());
    let task = tokio::spawn(server);
    let health = Health(reporter);
    health.set_serving("", true).await;
    Ok(Serving { addr, connections, health, stop, task })
}

impl Serving {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The connections that are open.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// What is told about its health.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Cancelled when the server begins to stop: answers that would never end have to end then.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Takes no more calls, lets those under way finish for `grace`, then cuts every connection.
    pub async fn shutdown(mut self, grace: Duration) {
        self.health.set_serving("", false).await;
        self.stop.cancel();
        if tokio::time::timeout(grace, &mut self.task).await.is_err() {
            let cut = self.connections.cut(|_| true);
            tracing::info!(cut, "connections were still open when the time to drain was over");
            let last = tokio::time::timeout(Duration::from_secs(1), &mut self.task).await;
            if last.is_err() {
                self.task.abort();
            }
        }
    }
}
