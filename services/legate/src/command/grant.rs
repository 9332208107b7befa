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

/// Who acts for whom, each below the one for whom it acts.
fn lines(grants: &[&DelegationGrant], from: Option<&str>) -> Vec<String> {
    let acting: BTreeSet<String> = grants.iter().map(|grant| format!("agent:{}", spec(grant).delegate)).collect();
    let delegators = grants.iter().map(|grant| spec(grant)).filter(|spec| spec.parent.is_empty());
    let roots: BTreeSet<String> = match from {
        Some(from) => [from.to_owned()].into(),
        // An agent that acts for somebody stands below him.
        None => delegators.map(|spec| spec.delegator).filter(|one| !acting.contains(one)).collect(),
    };
    let mut lines = Vec::new();
    for root in roots {
        lines.push(root.clone());
        below(grants, &root, None, &mut vec![root.clone()], "", &mut lines);
    }
    lines
}

fn below(
    grants: &[&DelegationGrant],
    who: &str,
    by: Option<&str>,
    path: &mut Vec<String>,
    indent: &str,
    lines: &mut Vec<String>,
) {
    // One that passes on a part of another stands behind that one only.
    let stands_here = |spec: &DelegationGrantSpec| spec.parent.is_empty() || Some(spec.parent.as_str()) == by;
    let here: Vec<&&DelegationGrant> =
        grants.iter().filter(|one| spec(one).delegator == who && stands_here(&spec(one))).collect();
    for (n, one) in here.iter().enumerate() {
        let spec = spec(one);
        let acts = format!("agent:{}", spec.delegate);
        let (branch, more) = if n + 1 == here.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let may: Vec<String> = spec.permissions.iter().map(manifest::permission_text).collect();
        let on = if spec.max_depth > 0 { format!(", and {} more", spec.max_depth) } else { String::new() };
        let until = moment(spec.not_after.as_ref());
        lines.push(format!(
            "{indent}{branch}{} by {}{on}, until {until}: {}",
            spec.delegate,
            name(one),
            may.join(", ")
        ));
        if path.len() <= 8 && !path.contains(&acts) {
            path.push(acts.clone());
            below(grants, &acts, Some(name(one)), path, &format!("{indent}{more}"), lines);
            path.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, from: &str, to: &str, parent: &str) -> DelegationGrant {
        let spec = DelegationGrantSpec {
            delegator: from.into(),
            delegate: to.into(),
            parent: parent.into(),
            ..DelegationGrantSpec::default()
        };
        let metadata = Some(Metadata { name: name.into(), ..Metadata::default() });
        DelegationGrant { metadata, spec: Some(spec) }
    }

    #[test]
    fn each_stands_below_the_one_for_whom_it_acts() {
        let all = [
            one("g1", "user:ada", "a", ""),
            one("g2", "agent:a", "b", "g1"),
            one("g3", "agent:a", "c", ""),
            one("g4", "agent:c", "a", ""),
        ];
        let all: Vec<&DelegationGrant> = all.iter().collect();
        let heads: Vec<String> =
            lines(&all, None).iter().map(|line| line.split(" by ").next().unwrap_or_default().to_owned()).collect();
        // g4 goes round: it is told once, and not followed.
        assert_eq!(heads, ["user:ada", "└─ a", "   ├─ b", "   └─ c", "      └─ a"]);
        let heads = lines(&all, Some("agent:a"));
        assert!(heads[1].starts_with("└─ c by g3"), "{heads:?}");
    }
}
