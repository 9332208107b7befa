//! The registry's past and who wrote it, and what it heard that agents used, read by calls to it: for explanations and drift alone, never on the path of a check.

use std::fmt;

use legate_rpc::{Client, Told};
use legate_wire::registry as wire;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::history_service_client::HistoryServiceClient;
use legate_wire::registry::usage_service_client::UsageServiceClient;
use tonic::Status;

/// A page of objects has up to 16 MiB of them.
const MAX_MESSAGE: usize = 32 << 20;

/// What the registry is asked.
#[async_trait::async_trait]
pub(crate) trait Archive: Send + Sync + fmt::Debug + 'static {
    async fn agent(&self, ask: wire::GetAgentRequest) -> Result<wire::GetAgentResponse, Status>;
    async fn object(&self, ask: wire::GetDeclarationRequest) -> Result<wire::GetDeclarationResponse, Status>;
    async fn objects(&self, ask: wire::ListDeclarationsRequest) -> Result<wire::ListDeclarationsResponse, Status>;
    async fn history(&self, ask: wire::ListHistoryRequest) -> Result<wire::ListHistoryResponse, Status>;
    async fn usage(&self, ask: wire::ListAgentUsageRequest) -> Result<wire::ListAgentUsageResponse, Status>;
    async fn baselines(&self, ask: wire::ListAgentBaselinesRequest)
    -> Result<wire::ListAgentBaselinesResponse, Status>;
}

/// The registry that the client dials.
#[async_trait::async_trait]
impl Archive for Client {
    async fn agent(&self, ask: wire::GetAgentRequest) -> Result<wire::GetAgentResponse, Status> {
        Ok(AgentServiceClient::new(self.clone()).get_agent(ask).await?.into_inner())
    }

    async fn object(&self, ask: wire::GetDeclarationRequest) -> Result<wire::GetDeclarationResponse, Status> {
        Ok(DeclarationServiceClient::new(self.clone()).get_declaration(ask).await?.into_inner())
    }

    async fn objects(&self, ask: wire::ListDeclarationsRequest) -> Result<wire::ListDeclarationsResponse, Status> {
        let mut client = DeclarationServiceClient::new(self.clone()).max_decoding_message_size(MAX_MESSAGE);
        Ok(client.list_declarations(ask).await?.into_inner())
    }

    async fn history(&self, ask: wire::ListHistoryRequest) -> Result<wire::ListHistoryResponse, Status> {
        let mut client = HistoryServiceClient::new(self.clone()).max_decoding_message_size(MAX_MESSAGE);
        Ok(client.list_history(ask).await?.into_inner())
    }

    async fn usage(&self, ask: wire::ListAgentUsageRequest) -> Result<wire::ListAgentUsageResponse, Status> {
        let mut client = UsageServiceClient::new(self.clone()).max_decoding_message_size(MAX_MESSAGE);
        Ok(client.list_agent_usage(ask).await?.into_inner())
    }

    async fn baselines(
        &self,
        ask: wire::ListAgentBaselinesRequest,
    ) -> Result<wire::ListAgentBaselinesResponse, Status> {
        let mut client = UsageServiceClient::new(self.clone()).max_decoding_message_size(MAX_MESSAGE);
        Ok(client.list_agent_baselines(ask).await?.into_inner())
    }
}

/// The stable word with which the registry refused; empty where it said none.
pub(crate) fn reason(status: &Status) -> String {
    Told::from_status(status).reason
}
