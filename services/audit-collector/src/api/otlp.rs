//! The gRPC methods of OpenTelemetry's protocol.

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::LogsService;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceService;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tonic::{Request, Response, Status};

use super::Api;
use crate::convert::otlp;
use crate::flow::otlp::tell;

#[tonic::async_trait]
impl TraceService for Api {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let told = Box::pin(tell(&desk, &call, otlp::spans(request.into_inner())?)).await?;
        Ok(Response::new(told.into()))
    }
}

#[tonic::async_trait]
impl LogsService for Api {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let told = Box::pin(tell(&desk, &call, otlp::logs(request.into_inner())?)).await?;
        Ok(Response::new(told.into()))
    }
}
