//! The methods of the switch that stops agents.

use legate_wire::registry as wire;

use super::{Ask, Case, told};

type Stops = wire::stop_service_client::StopServiceClient<legate_rpc::Client>;

/// Everybody of an owner who owns nothing.
fn scope(ask: &Ask) -> Option<wire::StopScope> {
    let level = Some(wire::stop_scope::Level::Owner("user:nobody@example.com".into()));
    Some(wire::StopScope { namespace: ask.namespace.clone(), level })
}

pub(super) fn add(case: &mut impl FnMut(&'static str, Case)) {
    case("/legate.registry.v1.StopService/StopAgents", |ask| {
        Box::pin(async move {
            let mut stops = Stops::new(ask.registry.clone());
            let mut outcomes = Vec::new();
            for validate_only in [true, false] {
                let (scope, reason) = (scope(&ask), "a test".to_owned());
                let request = wire::StopAgentsRequest { scope, validate_only, reason, ..Default::default() };
                outcomes.push(told(stops.stop_agents(request).await));
            }
            outcomes
        })
    });
    case("/legate.registry.v1.StopService/ResumeAgents", |ask| {
        Box::pin(async move {
            let mut stops = Stops::new(ask.registry.clone());
            let (scope, reason) = (scope(&ask), "a test".to_owned());
            let request = wire::ResumeAgentsRequest { scope, reason, ..Default::default() };
            vec![told(stops.resume_agents(request).await)]
        })
    });
    case("/legate.registry.v1.StopService/GetContainment", |ask| {
        Box::pin(async move {
            let mut stops = Stops::new(ask.registry.clone());
            vec![told(stops.get_containment(wire::GetContainmentRequest::default()).await)]
        })
    });
}
