//! `legate agent spawn|spawned|end-spawned`: what an agent does, with its own certificate, with agents of its own.

use legate_wire::registry::spawn_service_client::SpawnServiceClient;
use legate_wire::registry::{EndSpawnedAgentRequest, ListSpawnedAgentsRequest, SpawnAgentRequest};

use super::Desk;
use super::agent::{note, tell};
use crate::cli::AgentVerb;
use crate::output::{Row, agent_row};
use crate::place::{Service, request_id};
use crate::{Exit, Failure, identity, proto};

pub(super) async fn run(desk: Desk, verb: AgentVerb) -> Result<Exit, Failure> {
    match verb {
        AgentVerb::Spawn { identity, name, purpose, ttl, allow, reason } => {
            let registry = desk.line_as(Service::Registry, identity::open(&identity)?)?;
            let request = SpawnAgentRequest {
                name,
                purpose,
                ttl: Some(ttl),
                ceiling: allow,
                display_name: String::new(),
                request_id: request_id(),
                reason,
            };
            let answer =
                registry.ask(request, |c, r| async move { SpawnServiceClient::new(c).spawn_agent(r).await }).await?;
            tell(&desk, &answer, answer.agent.as_ref(), answer.revision)
        }
        AgentVerb::Spawned { identity } => {
            let registry = desk.line_as(Service::Registry, identity::open(&identity)?)?;
            let request = ListSpawnedAgentsRequest {};
            let answer = registry
                .ask(request, |c, r| async move { SpawnServiceClient::new(c).list_spawned_agents(r).await })
                .await?;
            let rows: Vec<Row> = answer.agents.iter().map(agent_row).collect();
            let note = note(rows.len(), "agent", false, answer.revision);
            desk.out().rows(&proto::dynamic(&answer), &rows, &note)?;
            Ok(Exit::Done)
        }
        AgentVerb::EndSpawned { identity, agent, reason } => {
            let registry = desk.line_as(Service::Registry, identity::open(&identity)?)?;
            let request = EndSpawnedAgentRequest { agent_id: agent, request_id: request_id(), reason };
            let answer = registry
                .ask(request, |c, r| async move { SpawnServiceClient::new(c).end_spawned_agent(r).await })
                .await?;
            tell(&desk, &answer, answer.agent.as_ref(), answer.revision)
        }
        _ => Ok(Exit::Done),
    }
}
