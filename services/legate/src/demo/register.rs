//! Chapter: an operator registers an agent from a manifest on disk.

use legate_clock::{Clock, SystemClock};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    Agent, AgentRef, ApplyDeclarationsRequest, Declaration, GetAgentRequest, PlanDeclarationsRequest, declaration,
};

use super::narrate::{Broken, timed};
use super::{Stage, broken, refusal};

/// The manifest of the readme.
const MANIFEST: &str = include_str!("../../../../deploy/examples/invoice.yaml");
/// The binding's window there.
const WINDOW: [&str; 2] = ["2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z"];

pub(super) async fn tell(stage: &mut Stage) -> Result<Agent, Broken> {
    stage.tell.chapter("An operator registers invoice-bot: legate apply -f invoice.yaml");
    let declarations = manifest(stage)?;
    let mut service = DeclarationServiceClient::new(stage.registry.clone());

    let request = PlanDeclarationsRequest { declarations: declarations.clone(), ..Default::default() };
    let (plan, took) = timed(service.plan_declarations(request)).await;
    let plan = plan.map_err(|s| broken(refusal(&s)))?.into_inner();
    stage.tell.step("plan", &format!("{} objects to create, at revision {}", plan.changes.len(), plan.revision), took);

    let nobody = without_sponsor(&declarations);
    let (refused, took) = timed(service.apply_declarations(apply(nobody, 0))).await;
    let (held, told) = match &refused {
        Ok(_) => (false, "it was accepted".to_owned()),
        Err(status) => (refusal(status).starts_with("AGENT_SPONSOR_MISSING"), refusal(status)),
    };
    stage.tell.check(held, "apply it with nobody as the agent's sponsor", &told, took);

    let (applied, took) = timed(service.apply_declarations(apply(declarations.clone(), plan.revision))).await;
    let applied = applied.map_err(|s| broken(refusal(&s)))?.into_inner();
    let what = format!("{} objects, all at once, at revision {}", applied.changes.len(), applied.revision);
    stage.tell.step("apply", &what, took);

    let (again, took) = timed(service.apply_declarations(apply(declarations, 0))).await;
    let again = again.map_err(|s| broken(refusal(&s)))?.into_inner();
    let unchanged = again.revision == applied.revision;
    stage.tell.check(unchanged, "apply again", "nothing to change, the revision stays", took);

    let wanted = AgentRef { namespace: "payments".into(), name: "invoice-bot".into(), ..AgentRef::default() };
    let mut agents = AgentServiceClient::new(stage.registry.clone());
    let (agent, took) = timed(agents.get_agent(GetAgentRequest { agent: Some(wanted), as_of: None })).await;
    let agent = agent.map_err(|s| broken(refusal(&s)))?.into_inner().agent.unwrap_or_default();
    let status = agent.status.clone().unwrap_or_default();
    let spec = agent.spec.clone().unwrap_or_default();
    let what = format!(
        "{}, {}, owned by {}, sponsored by {}",
        status.spiffe_id,
        status.state().as_str_name().trim_start_matches("AGENT_STATE_"),
        spec.owners.join(", "),
        spec.sponsors.join(", "),
    );
    stage.tell.step("who is it, and who answers for it", &what, took);
    Ok(agent)
}

fn apply(declarations: Vec<Declaration>, base_revision: u64) -> ApplyDeclarationsRequest {
    ApplyDeclarationsRequest {
        declarations,
        base_revision,
        reason: "first agent of payments".into(),
        ..ApplyDeclarationsRequest::default()
    }
}

/// Writes the manifest to disk with a window around now, and reads it as `legate apply -f` does.
fn manifest(stage: &Stage) -> Result<Vec<Declaration>, Broken> {
    let day = std::time::Duration::from_secs(24 * 3600);
    let now = SystemClock::new().now();
    let text =
        MANIFEST.replace(WINDOW[0], &now.minus(day).to_string()).replace(WINDOW[1], &now.plus(30 * day).to_string());
    let path = stage.suite.layout().root().join("invoice.yaml");
    std::fs::write(&path, text).map_err(broken)?;
    let documents = crate::manifest::load(&[path]).map_err(broken)?;
    Ok(documents.into_iter().map(|document| document.declaration).collect())
}

fn without_sponsor(declarations: &[Declaration]) -> Vec<Declaration> {
    let mut declarations = declarations.to_vec();
    for declaration in &mut declarations {
        if let Some(declaration::Object::Agent(agent)) = &mut declaration.object
            && let Some(spec) = &mut agent.spec
        {
            spec.sponsors.clear();
        }
    }
    declarations
}
