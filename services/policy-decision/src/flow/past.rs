//! The state of one namespace as it was, as far as decisions about some of its agents rest on it, read from the registry under
//! limits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::AgentId;
use legate_rpc::Fault;
use legate_view::{NamespacePolicies, Snapshot};
use legate_wire::registry::as_of::At;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    Agent, AgentRef, AsOf, Declaration, GetAgentRequest, GetDeclarationRequest, Kind, ListDeclarationsRequest,
};
use tonic::Status;

use super::asker::Right;
use super::evaluate::Policies;
use crate::domain::approval;
use crate::domain::policies::Compiled;
use crate::error::{PAST_TOO_LARGE, PAST_UNAVAILABLE, QUESTION_INVALID, REVISION_COMPACTED, REVISION_UNKNOWN};
use crate::store::archive::{Archive, reason};

/// Objects of one namespace that are read.
const MOST: usize = 20_000;
/// Objects of one page.
const PAGE: u32 = 1_000;
/// Agents above and before each one that is asked about.
const AGENTS: usize = 64;
/// How long a caller is told to wait.
const AGAIN: Duration = Duration::from_secs(1);
/// What a decision rests on beside agents and what was approved for them.
const KINDS: [Kind; 6] = [Kind::AgentClass, Kind::Role, Kind::RoleBinding, Kind::Policy, Kind::Group, Kind::Boundary];

/// A namespace as it was.
pub(super) struct Past {
    pub(super) snapshot: Snapshot,
    pub(super) policies: Policies,
    pub(super) declared: Option<Arc<NamespacePolicies>>,
    pub(super) revision: u64,
    /// The time that was asked for, or when the revision was made.
    pub(super) made: Timestamp,
}

/// Whom decisions are about.
#[derive(Clone, Debug)]
pub(super) struct Whom {
    /// Agents of one namespace.
    pub(super) agents: BTreeSet<AgentId>,
    /// Whether one of them acts for another.
    pub(super) is_on_behalf: bool,
    /// Whether the resource types that enforcement points ask about count, as where patterns are told apart.
    pub(super) with_points: bool,
}

/// Reads what decisions about these agents rest on.
///
/// # Errors
/// When the past is not kept, is too large, cannot be read, or does not come within `patience`.
pub(super) async fn read(
    archive: &Arc<dyn Archive>,
    right: &Right,
    whom: &Whom,
    as_of: AsOf,
    patience: Duration,
) -> Result<Past, Fault> {
    let reading = gather(archive, right, whom, as_of);
    let late = || Fault::unavailable(&PAST_UNAVAILABLE, "the registry did not tell its past in time", AGAIN);
    let gathered = tokio::time::timeout(patience, reading).await.map_err(|_| late())??;
    let compiling = tokio::task::spawn_blocking(move || compile(gathered));
    tokio::time::timeout(patience, compiling).await.map_err(|_| late())?.map_err(Fault::broken)?
}

/// What was read.
struct Gathered {
    objects: Vec<Declaration>,
    namespace: Option<String>,
    revision: u64,
    made: Timestamp,
}

fn compile(gathered: Gathered) -> Result<Past, Fault> {
    let Gathered { objects, namespace, revision, made } = gathered;
    let snapshot = Snapshot::as_of(revision, &objects).map_err(|e| Fault::broken(e.to_string()))?;
    let declared = namespace.and_then(|namespace| snapshot.policies(&namespace).cloned());
    let policies = match declared.as_ref().map(|declared| Compiled::compile(declared, None)) {
        None => Policies::None,
        Some(Ok(compiled)) => Policies::Ready(Arc::new(compiled)),
        Some(Err(e)) => Policies::unusable(&e),
    };
    Ok(Past { snapshot, policies, declared, revision, made })
}

async fn gather(archive: &Arc<dyn Archive>, right: &Right, whom: &Whom, as_of: AsOf) -> Result<Gathered, Fault> {
    // A list says which revision is meant, and when that was made.
    let named = ListDeclarationsRequest {
        kind: Kind::Namespace.into(),
        page_size: 1,
        as_of: Some(as_of),
        ..ListDeclarationsRequest::default()
    };
    let head = archive.objects(named).await.map_err(|status| refused(&status))?;
    let revision = head.revision;
    let time = match as_of.at {
        Some(At::Time(time)) => Some(time),
        _ => head.revision_time,
    };
    let made = time.and_then(|time| Timestamp::try_from(time).ok());
    let made = made.ok_or_else(|| Fault::broken("a revision without its time"))?;
    let mut found = Gathered { objects: Vec::new(), namespace: None, revision, made };
    let (mut names, mut acting, mut wanted) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for id in &whom.agents {
        let Some(agent) = agent_by_id(archive, id.as_str(), revision).await? else { continue };
        let metadata = agent.metadata.clone().unwrap_or_default();
        // Agents of other namespaces are not shown, as they were neither.
        let is_shown = legate_ids::Name::parse(&metadata.namespace).is_ok_and(|name| right.shows(&name));
        if !is_shown || found.namespace.as_ref().is_some_and(|other| *other != metadata.namespace) {
            continue;
        }
        found.namespace = Some(metadata.namespace);
        names.insert(metadata.name);
        acting.insert(id.to_string());
        wanted.extend(ancestors(&agent));
        found.objects.push(Declaration { object: Some(Object::Agent(agent)) });
    }
    let Some(namespace) = found.namespace.clone() else { return Ok(found) };
    let get = GetDeclarationRequest {
        kind: Kind::Namespace.into(),
        namespace: String::new(),
        name: namespace.clone(),
        as_of: Some(AsOf { at: Some(At::Revision(revision)) }),
    };
    match archive.object(get).await {
        Ok(of_name) => found.objects.extend(of_name.declaration),
        // It went with its last agent; of a namespace that is not known nothing is inherited.
        Err(status) if reason(&status) == "OBJECT_NOT_FOUND" => {}
        Err(status) => return Err(refused(&status)),
    }
    for kind in KINDS {
        list(archive, kind, &namespace, revision, &mut found.objects).await?;
    }
    if whom.with_points {
        list(archive, Kind::EnforcementPoint, &namespace, revision, &mut found.objects).await?;
    }
    // Some name everybody, or an owner wherever his agents are.
    let orders = (Kind::StopOrder, "", "");
    list_where(archive, orders, revision, |_| true, &mut found.objects).await?;
    let mut before = 0;
    if whom.is_on_behalf {
        list(archive, Kind::DelegationGrant, &namespace, revision, &mut found.objects).await?;
        for delegator in delegators(&found.objects, names, AGENTS * whom.agents.len()) {
            if let Some(agent) = named_agent(archive, &namespace, &delegator, revision).await? {
                wanted.extend(ancestors(&agent));
                before += 1;
                acting.extend(agent.metadata.as_ref().map(|m| m.id.clone()));
                found.objects.push(Declaration { object: Some(Object::Agent(agent)) });
            }
        }
    }
    if wanted.len().max(before) > AGENTS * whom.agents.len() {
        let text = format!("the decisions could rest on more than {AGENTS} agents above and before each agent");
        return Err(Fault::refused(&PAST_TOO_LARGE, text));
    }
    for id in wanted {
        let above = agent_by_id(archive, &id, revision).await?;
        found.objects.extend(above.map(|agent| Declaration { object: Some(Object::Agent(agent)) }));
    }
    if found.objects.iter().any(may_hold_back) {
        approvals(archive, &namespace, &acting, revision, &mut found.objects).await?;
    }
    Ok(found)
}

/// Whether it is a policy that could hold something back until it is approved.
fn may_hold_back(object: &Declaration) -> bool {
    matches!(&object.object, Some(Object::Policy(policy))
        if policy.spec.as_ref().is_some_and(|spec| spec.cedar.contains(approval::ANNOTATION)))
}

/// What was approved for these agents, and the cut-offs that could have ended it.
async fn approvals(
    archive: &Arc<dyn Archive>,
    namespace: &str,
    of: &BTreeSet<String>,
    revision: u64,
    into: &mut Vec<Declaration>,
) -> Result<(), Fault> {
    let before = into.len();
    let is_theirs = |object: &Declaration| match &object.object {
        Some(Object::Approval(approval)) => approval.spec.as_ref().is_some_and(|spec| of.contains(&spec.agent_id)),
        _ => false,
    };
    list_where(archive, (Kind::Approval, namespace, ""), revision, is_theirs, into).await?;
    if into.len() == before {
        return Ok(());
    }
    // Some are ordered in no namespace, against an owner wherever his agents are.
    let cuts_off = |object: &Declaration| match &object.object {
        Some(Object::Revocation(one)) => one.spec.as_ref().is_some_and(|spec| spec.cut_off.is_some()),
        _ => false,
    };
    list_where(archive, (Kind::Revocation, "", "name = \"cut-off-*\""), revision, cuts_off, into).await
}

fn ancestors(agent: &Agent) -> impl Iterator<Item = String> + use<> {
    agent.status.as_ref().map(|status| status.ancestors.clone()).unwrap_or_default().into_iter()
}

/// The agents that stand before these in chains of these grants, by name; `most` of them.
fn delegators(objects: &[Declaration], delegates: BTreeSet<String>, most: usize) -> BTreeSet<String> {
    let grants: Vec<_> = objects
        .iter()
        .filter_map(|declaration| match &declaration.object {
            Some(Object::DelegationGrant(grant)) => grant.spec.as_ref(),
            _ => None,
        })
        .collect();
    let (mut found, mut open) = (BTreeSet::new(), Vec::from_iter(delegates));
    while let Some(delegate) = open.pop() {
        for grant in grants.iter().filter(|grant| grant.delegate == delegate) {
            if let Some(("agent", name)) = grant.delegator.split_once(':')
                && found.len() <= most
                && found.insert(name.to_owned())
            {
                open.push(name.to_owned());
            }
        }
    }
    found
}

async fn list(
    archive: &Arc<dyn Archive>,
    kind: Kind,
    namespace: &str,
    revision: u64,
    into: &mut Vec<Declaration>,
) -> Result<(), Fault> {
    list_where(archive, (kind, namespace, ""), revision, |_| true, into).await
}

/// Of the objects of a kind, in a namespace or everywhere, that fit a filter: those that count.
async fn list_where(
    archive: &Arc<dyn Archive>,
    (kind, namespace, filter): (Kind, &str, &str),
    revision: u64,
    counts: impl Fn(&Declaration) -> bool,
    into: &mut Vec<Declaration>,
) -> Result<(), Fault> {
    let mut page_token = String::new();
    loop {
        let ask = ListDeclarationsRequest {
            kind: kind.into(),
            namespace: namespace.to_owned(),
            filter: filter.to_owned(),
            page_size: PAGE,
            page_token,
            as_of: Some(AsOf { at: Some(At::Revision(revision)) }),
            ..ListDeclarationsRequest::default()
        };
        let page = archive.objects(ask).await.map_err(|status| refused(&status))?;
        into.extend(page.declarations.into_iter().filter(&counts));
        if into.len() > MOST {
            let text = format!("the decision could rest on more than {MOST} objects at revision {revision}");
            return Err(Fault::refused(&PAST_TOO_LARGE, text));
        }
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        page_token = page.next_page_token;
    }
}

async fn agent_by_id(archive: &Arc<dyn Archive>, id: &str, revision: u64) -> Result<Option<Agent>, Fault> {
    find(archive, AgentRef { id: id.to_owned(), ..AgentRef::default() }, revision).await
}

async fn named_agent(
    archive: &Arc<dyn Archive>,
    namespace: &str,
    name: &str,
    revision: u64,
) -> Result<Option<Agent>, Fault> {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    find(archive, AgentRef { namespace, name, ..AgentRef::default() }, revision).await
}

async fn find(archive: &Arc<dyn Archive>, agent: AgentRef, revision: u64) -> Result<Option<Agent>, Fault> {
    let as_of = Some(AsOf { at: Some(At::Revision(revision)) });
    match archive.agent(GetAgentRequest { agent: Some(agent), as_of }).await {
        Ok(found) => Ok(found.agent),
        Err(status) if reason(&status) == "AGENT_NOT_FOUND" => Ok(None),
        Err(status) => Err(refused(&status)),
    }
}

/// What the registry refuses of its past is the caller's to know; anything else is between us and it.
fn refused(status: &Status) -> Fault {
    match reason(status).as_str() {
        "REVISION_UNKNOWN" => Fault::refused(&REVISION_UNKNOWN, status.message()),
        "REVISION_COMPACTED" => Fault::refused(&REVISION_COMPACTED, status.message()),
        "INVALID_ARGUMENT" => Fault::refused(&QUESTION_INVALID, status.message()).field("as_of", status.message()),
        _ => {
            let text = format!("the registry did not tell its past: {}", status.message());
            Fault::unavailable(&PAST_UNAVAILABLE, text, AGAIN)
        }
    }
}
