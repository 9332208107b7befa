//! Whom an order or a question is about, and what an order would touch.

use legate_ids::Name;
use legate_rpc::Fault;
use legate_wire::credential as wire;

use super::credential_type;
use crate::domain::whom::Level;
use crate::flow::preview_revocation::Touched;

/// Whom an order names.
pub(crate) fn level(named: Option<wire::preview_revocation_request::Level>) -> Result<Option<Level>, Fault> {
    use wire::preview_revocation_request::Level as Named;
    let whose = |field: &str, text: &str, prefixes: &[&str]| {
        let name = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix));
        let is_good = name.is_some_and(|name| (1..=256).contains(&name.len()));
        let why = format!("names nobody; give {}NAME of 1 to 256 bytes", prefixes.join("NAME or "));
        if is_good { Ok(text.to_owned()) } else { Err(Fault::invalid(field, why)) }
    };
    Ok(match named {
        None => None,
        Some(Named::AgentClass(name)) => {
            Some(Level::Class(Name::parse(&name).map_err(|e| Fault::invalid("agent_class", e.to_string()))?))
        }
        Some(Named::WholeNamespace(true)) => Some(Level::All),
        Some(Named::WholeNamespace(false)) => {
            return Err(Fault::invalid("whole_namespace", "is true, or another level is given"));
        }
        Some(Named::Agent(name)) => {
            let is_id = legate_ids::AgentId::parse(&name).is_ok();
            if !is_id {
                Name::parse(&name).map_err(|e| Fault::invalid("agent", e.to_string()))?;
            }
            Some(Level::Agent(name))
        }
        Some(Named::Group(name)) => {
            Some(Level::Group(Name::parse(&name).map_err(|e| Fault::invalid("group", e.to_string()))?))
        }
        Some(Named::Everywhere(true)) => Some(Level::Everywhere),
        Some(Named::Everywhere(false)) => {
            return Err(Fault::invalid("everywhere", "is true, or another level is given"));
        }
        Some(Named::Owner(name)) => Some(Level::Owner(whose("owner", &name, &["user:", "group:"])?)),
        Some(Named::Subject(name)) => Some(Level::Subject(whose("subject", &name, &["user:"])?)),
    })
}

/// What an order would touch.
pub(crate) fn touched(of: Touched) -> wire::PreviewRevocationResponse {
    let count = |(kind, (count, latest)): (i32, (u64, legate_clock::Timestamp))| wire::CredentialCount {
        r#type: credential_type(kind).into(),
        count,
        latest_expire_time: Some(latest.into()),
    };
    wire::PreviewRevocationResponse {
        agents: of.agents,
        credentials: of.credentials.into_iter().map(count).collect(),
        grants: of.grants,
        partial: of.is_partial,
        revision: of.revision,
        longest_token_ttl: of.token_ttl.and_then(|ttl| prost_types::Duration::try_from(ttl).ok()),
    }
}
