//! `legate grant`: who lets which agent act for it, made and drawn.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use legate_clock::{Clock, SystemClock};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::delegation_service_client::DelegationServiceClient;
use legate_wire::registry::{
    ApplyDeclarationsRequest, Declaration, DelegationGrant, DelegationGrantSpec, EndDelegationRequest,
    GrantDelegationRequest, Kind, ListDeclarationsResponse, ListOwnDelegationsRequest, Metadata,
};

use super::agent::note;
use super::{Desk, change, declared, named};
use crate::cli::GrantVerb;
use crate::error::USAGE;
use crate::output::{Row, declared_row, moment, object_details};
use crate::place::{Service, request_id};
use crate::{Exit, Failure, identity, manifest, proto};

pub(super) async fn run(desk: Desk, verb: GrantVerb) -> Result<Exit, Failure> {
    match verb {
        GrantVerb::Declared(verb) => declared::run(desk, Kind::DelegationGrant, verb).await,
        GrantVerb::Create { name, from, identity, to, allow, audiences, purpose, span, max_depth, parent, reason } => {
            let (namespace, name) = named(&name)?;
            if let Some(identity) = identity {
                let ask = GrantDelegationRequest {
                    name,
                    delegate: to,
                    permissions: allow,
                    audiences,
                    purpose,
                    ttl: Some(span),
                    max_depth,
                    parent,
                    request_id: request_id(),
                    reason,
                };
                return own(&desk, &identity, ask).await;
            }
            let span = Duration::try_from(span).map_err(|_| Failure::local(&USAGE, "--for is out of range"))?;
            let spec = DelegationGrantSpec {
                delegator: from.unwrap_or_default(),
                delegate: to,
                permissions: allow,
                audiences,
                purpose,
                not_after: Some(SystemClock::new().now().plus(span).into()),
                may_redelegate: max_depth > 0,
                max_depth,
                parent,
                ..DelegationGrantSpec::default()
            };
            let metadata = Some(Metadata { namespace, name, ..Metadata::default() });
            create(desk, DelegationGrant { metadata, spec: Some(spec) }, reason).await
        }
        GrantVerb::Own { identity } => {
            let registry = desk.line_as(Service::Registry, identity::open(&identity)?)?;
            let ask = ListOwnDelegationsRequest {};
            let answer = registry
                .ask(ask, |c, r| async move { DelegationServiceClient::new(c).list_own_delegations(r).await })
                .await?;
            let rows: Vec<Row> =
                answer.given.iter().chain(&answer.received).map(|grant| declared_row(&declaration(grant))).collect();
            let note = note(rows.len(), "grant", false, answer.revision);
            desk.out().rows(&proto::dynamic(&answer), &rows, &note)?;
            Ok(Exit::Done)
        }
        GrantVerb::End { identity, name, reason } => {
            let registry = desk.line_as(Service::Registry, identity::open(&identity)?)?;
            let ask = EndDelegationRequest { name, request_id: request_id(), reason };
            let answer = registry
                .ask(ask, |c, r| async move { DelegationServiceClient::new(c).end_delegation(r).await })
                .await?;
            let row = declared_row(&declaration(&answer.grant.clone().unwrap_or_default()));
            let details = [
                ("ended", row.name.clone()),
                ("and passed on of it", answer.passed_on.to_string()),
                ("revision", answer.revision.to_string()),
            ];
            desk.out().one(&proto::dynamic(&answer), &row, &details)?;
            Ok(Exit::Done)
        }
        GrantVerb::AsPerson { verb } => super::personal_grant::run(desk, verb).await,
        GrantVerb::Tree { namespace, from } => tree(desk, &namespace, from.as_deref()).await,
    }
}

fn declaration(grant: &DelegationGrant) -> Declaration {
    Declaration { object: Some(Object::DelegationGrant(grant.clone())) }
}

/// An agent delegates what is its own, or what it was given to pass on.
async fn own(desk: &Desk, identity: &Path, ask: GrantDelegationRequest) -> Result<Exit, Failure> {
    let registry = desk.line_as(Service::Registry, identity::open(identity)?)?;
    let answer =
        registry.ask(ask, |c, r| async move { DelegationServiceClient::new(c).grant_delegation(r).await }).await?;
    let made = declaration(&answer.grant.clone().unwrap_or_default());
    let mut details = object_details(&made);
    details.push(("revision", answer.revision.to_string()));
    desk.out().one(&proto::dynamic(&answer), &declared_row(&made), &details)?;
    Ok(Exit::Done)
}

async fn create(desk: Desk, grant: DelegationGrant, reason: String) -> Result<Exit, Failure> {
    let declaration = declaration(&grant);
    let request = ApplyDeclarationsRequest {
        declarations: vec![declaration.clone()],
        request_id: request_id(),
        reason,
        ..ApplyDeclarationsRequest::default()
    };
    let registry = desk.line(Service::Registry)?;
    let answer = registry
        .ask(request, |c, r| async move { DeclarationServiceClient::new(c).apply_declarations(r).await })
        .await?;
    let mut details = object_details(&declaration);
    details.push(("revision", answer.revision.to_string()));
    desk.out().one(&proto::dynamic(&answer), &declared_row(&declaration), &details)?;
    Ok(Exit::Done)
}

async fn tree(desk: Desk, namespace: &str, from: Option<&str>) -> Result<Exit, Failure> {
    let registry = desk.line(Service::Registry)?;
    let (declarations, revision) = change::list(&registry, Kind::DelegationGrant, namespace).await?;
    let mut out = desk.out();
    if out.is_table() {
        let grants: Vec<&DelegationGrant> = declarations.iter().filter_map(grant).collect();
        for line in lines(&grants, from) {
            out.line(&crate::output::escape::visible(&line))?;
        }
        out.flush()?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Row> = declarations.iter().map(declared_row).collect();
    let whole = ListDeclarationsResponse { declarations, revision, ..ListDeclarationsResponse::default() };
    out.rows(&proto::dynamic(&whole), &rows, "")?;
    Ok(Exit::Done)
}

fn grant(of: &Declaration) -> Option<&DelegationGrant> {
    match &of.object {
        Some(Object::DelegationGrant(grant)) => Some(grant),
        _ => None,
    }
}

fn spec(of: &DelegationGrant) -> DelegationGrantSpec {
    of.spec.clone().unwrap_or_default()
}

fn name(of: &DelegationGrant) -> &str {
    of.metadata.as_ref().map_or("", |m| m.name.as_str())
}

/// Who acts for whom, each below the one for whom it acts. Whoever delegates what is its own is a beginning.
fn lines(grants: &[&DelegationGrant], from: Option<&str>) -> Vec<String> {
    let own = grants.iter().map(|grant| spec(grant)).filter(|spec| spec.parent.is_empty()).map(|spec| spec.delegator);
    let roots: BTreeSet<String> = own.filter(|who| from.is_none_or(|from| who == from)).collect();
    let mut lines = Vec::new();
    for root in roots {
        lines.push(root.clone());
        let mut path = Way { agents: vec![root], by: None, left: u32::MAX };
        below(grants, &mut path, "", &mut lines);
    }
    lines
}

/// The way from a beginning to somebody.
struct Way {
    /// Everybody on it, as grants name them.
    agents: Vec<String>,
    /// The last grant.
    by: Option<String>,
    /// How many agents may follow.
    left: u32,
}

fn below(grants: &[&DelegationGrant], path: &mut Way, indent: &str, lines: &mut Vec<String>) {
    let Some(who) = path.agents.last().filter(|_| path.left > 0) else { return };
    let stands_here = |one: &DelegationGrant| {
        let spec = spec(one);
        // One that passes on a part of another stands behind that one only; and nobody stands twice in a chain.
        let fits = spec.parent.is_empty() || Some(&spec.parent) == path.by.as_ref();
        fits && spec.delegator == *who && !path.agents.contains(&format!("agent:{}", spec.delegate))
    };
    let here: Vec<&DelegationGrant> = grants.iter().copied().filter(|one| stands_here(one)).collect();
    for (n, one) in here.iter().enumerate() {
        let spec = spec(one);
        let (branch, more) = if n + 1 == here.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let may: Vec<String> = spec.permissions.iter().map(manifest::permission_text).collect();
        let until = moment(spec.not_after.as_ref());
        lines.push(format!("{indent}{branch}{} by {}, until {until}: {}", spec.delegate, name(one), may.join(", ")));
        let (by, left) = (path.by.replace(name(one).to_owned()), path.left);
        path.left = spec.max_depth.min(left.saturating_sub(1));
        path.agents.push(format!("agent:{}", spec.delegate));
        below(grants, path, &format!("{indent}{more}"), lines);
        path.agents.pop();
        (path.by, path.left) = (by, left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, from: &str, to: &str, parent: &str, max_depth: u32) -> DelegationGrant {
        let spec = DelegationGrantSpec {
            delegator: from.into(),
            delegate: to.into(),
            parent: parent.into(),
            max_depth,
            ..DelegationGrantSpec::default()
        };
        let metadata = Some(Metadata { name: name.into(), ..Metadata::default() });
        DelegationGrant { metadata, spec: Some(spec) }
    }

    #[test]
    fn each_stands_below_the_one_for_whom_it_can_act() {
        let all = [
            one("g1", "user:ada", "a", "", 2),
            one("g2", "agent:a", "b", "g1", 0),
            one("g3", "agent:a", "c", "", 3),
            one("g4", "agent:c", "a", "", 3),
            one("g5", "agent:b", "d", "", 3),
            one("g6", "agent:c", "e", "", 0),
            one("g7", "agent:e", "f", "", 0),
        ];
        let all: Vec<&DelegationGrant> = all.iter().collect();
        let heads = |from| -> Vec<String> {
            let lines = lines(&all, from);
            lines.iter().map(|line| line.split(" by ").next().unwrap_or_default().to_owned()).collect()
        };
        // g2 lets nobody follow, so d is not below b there; g1 lets two follow a; g4 would go round.
        assert_eq!(heads(Some("user:ada")), ["user:ada", "└─ a", "   ├─ b", "   └─ c", "      └─ e"]);
        // What is ada's is not a's own.
        assert_eq!(heads(Some("agent:a")), ["agent:a", "└─ c", "   └─ e"]);
        assert_eq!(heads(None).len(), 5 + 3 + ["agent:b", "└─ d"].len() + ["agent:c", "├─ a", "└─ e"].len() + 2);
    }
}
