//! The floor of a call: the same messages over the same mutual TLS, answered by a constant, with no chassis in between.

use std::pin::Pin;
use std::sync::Arc;

use legate::dev::Suite;
use legate_clock::{Clock, SystemClock};
use legate_mtls::{Identity, Listener, Trust};
use legate_rpc::{Client, Dial};
use legate_wire::policy as wire;
use legate_wire::policy::decision_service_server::{DecisionService, DecisionServiceServer};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::Failed;

/// Answers everything with the same words.
#[derive(Clone, Debug)]
struct Constant(wire::EvaluateResponse);

#[tonic::async_trait]
impl DecisionService for Constant {
    async fn evaluate(
        &self,
        request: Request<wire::EvaluateRequest>,
    ) -> Result<Response<wire::EvaluateResponse>, Status> {
        drop(request);
        Ok(Response::new(self.0.clone()))
    }

    async fn evaluate_batch(
        &self,
        _: Request<wire::EvaluateBatchRequest>,
    ) -> Result<Response<wire::EvaluateBatchResponse>, Status> {
        Ok(Response::new(wire::EvaluateBatchResponse::default()))
    }

    type EvaluateStreamStream = Pin<Box<dyn Stream<Item = Result<wire::EvaluateStreamResponse, Status>> + Send>>;

    async fn evaluate_stream(
        &self,
        request: Request<Streaming<wire::EvaluateStreamRequest>>,
    ) -> Result<Response<Self::EvaluateStreamStream>, Status> {
        let answer = self.0.clone();
        Ok(Response::new(Box::pin(request.into_inner().map(move |item| {
            let outcome = Some(wire::evaluate_stream_response::Outcome::Answer(answer.clone()));
            item.map(|item| wire::EvaluateStreamResponse { item_id: item.item_id, outcome })
        }))))
    }

    async fn explain(&self, _: Request<wire::ExplainRequest>) -> Result<Response<wire::ExplainResponse>, Status> {
        Ok(Response::new(wire::ExplainResponse::default()))
    }

    async fn who_can(&self, _: Request<wire::WhoCanRequest>) -> Result<Response<wire::WhoCanResponse>, Status> {
        Ok(Response::new(wire::WhoCanResponse::default()))
    }

    async fn what_can(&self, _: Request<wire::WhatCanRequest>) -> Result<Response<wire::WhatCanResponse>, Status> {
        Ok(Response::new(wire::WhatCanResponse::default()))
    }

    async fn simulate(&self, _: Request<wire::SimulateRequest>) -> Result<Response<wire::SimulateResponse>, Status> {
        Ok(Response::new(wire::SimulateResponse::default()))
    }

    async fn replay(&self, _: Request<wire::ReplayRequest>) -> Result<Response<wire::ReplayResponse>, Status> {
        Ok(Response::new(wire::ReplayResponse::default()))
    }
}

/// A running floor.
#[derive(Debug)]
pub(crate) struct Floor {
    clients: Vec<Client>,
    task: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Floor {
    /// Serves `answer` with policy-decision's own certificate, and dials it `n` times as the operator.
    pub(crate) async fn raise(suite: &Suite, answer: wire::EvaluateResponse, n: usize) -> Result<Self, Failed> {
        let clock: Arc<dyn Clock> = SystemClock::shared();
        let files = suite.layout().tls("policy-decision");
        let identity = Identity::from_files(&files.cert, &files.key)?;
        let (services, workloads) = (suite.layout().services_ca(), suite.layout().workloads_ca());
        let trust = Trust::from_files(suite.domain().clone(), &services.cert, Some(&workloads))?;
        let anywhere = "127.0.0.1:0".parse()?;
        let listener =
            Listener::bind(anywhere, identity, trust, Arc::clone(&clock), legate_mtls::Limits::default()).await?;
        let endpoint = format!("https://{}", listener.local_addr()?);
        let server = tonic::transport::Server::builder()
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .add_service(DecisionServiceServer::new(Constant(answer)))
            .serve_with_incoming(listener.into_incoming());
        let task = tokio::spawn(server);
        let mut clients = Vec::with_capacity(n);
        for _ in 0..n {
            clients.push(legate_rpc::dial(Dial {
                endpoint: endpoint.clone(),
                identity: suite.operator()?,
                trust: suite.trust()?,
                expect: legate_mtls::Expect::Service("policy-decision"),
                timeout: std::time::Duration::from_secs(5),
                clock: Arc::clone(&clock),
            })?);
        }
        Ok(Self { clients, task })
    }

    /// The channels.
    pub(crate) fn clients(&self) -> &[Client] {
        &self.clients
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.task.abort();
    }
}
