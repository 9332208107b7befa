//! What the services export as spans, taken in as it comes.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use parking_lot::Mutex;
use tonic::{Request, Response, Status};

/// A receiver of OTLP in this process.
pub(super) struct Spans {
    /// Where the services send them.
    pub(super) endpoint: String,
    taken: Arc<Mutex<String>>,
}

struct Intake(Arc<Mutex<String>>);

#[tonic::async_trait]
impl TraceService for Intake {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        // Names, attributes, events and status: whatever is in it.
        let text = format!("{:?}\n", request.into_inner());
        self.0.lock().push_str(&text);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Spans {
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let taken = Arc::new(Mutex::new(String::new()));
        let intake = TraceServiceServer::new(Intake(Arc::clone(&taken)));
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(tonic::transport::Server::builder().add_service(intake).serve_with_incoming(incoming));
        Self { endpoint, taken }
    }

    /// Everything that came.
    pub(super) fn text(&self) -> String {
        self.taken.lock().clone()
    }
}
