//! An agent lets another act for it: for a part of what it has, or of what it was given to pass on; and takes that back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use legate_authority::{TooWide, may_pass_on};
use legate_db::{Tx, TxResult};
use legate_ids::Name;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    Agent, Declaration, DelegationGrant, DelegationGrantSpec, EndDelegationRequest, EndDelegationResponse,
    GrantDelegationRequest, GrantDelegationResponse, Kind, ListOwnDelegationsResponse, Metadata,
};

use super::lineage::{self, Calling, Standing};
use super::stage::{self, Wanted};
use super::write::Writing;
use super::{Call, Desk};
use crate::domain::kind::{self, Key};
use crate::domain::problem::Problem;
use crate::domain::{check, delegation};
use crate::error::{DELEGATION_TOO_WIDE, GRANT_EXISTS, NOT_ITS_GRANT, TOO_MANY_GRANTS, of_tx};
use crate::store::{broken, head, object, reference, refuse};

/// The longest that an agent delegates for.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3_600);
/// The shortest.
const SHORTEST: Duration = Duration::from_secs(60);
/// The most grants that an agent may have made.
const MOST: usize = 64;
/// The most objects that name an agent and are looked at.
const MOST_NAMING: u64 = 1_000;

/// Makes the grant.
#[tracing::instrument(skip_all)]
pub(crate) async fn grant(
    desk: &Arc<Desk>,
    call: Call,
    calling: Calling,
    ask: GrantDelegationRequest,
) -> Result<GrantDelegationResponse, Fault> {
    let ttl = ask.ttl.and_then(|ttl| Duration::try_from(ttl).ok()).filter(|ttl| (SHORTEST..=LONGEST).contains(ttl));
    let ttl = ttl.ok_or_else(|| Fault::invalid("ttl", "is missing or out of range; give 1 minute to 1 year"))?;
    let ask = Arc::new((ask, ttl, calling));
    desk.write("grant_delegation", Standard::Ordinary, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (ask, ttl, calling) = &*ask;
            let standing = lineage::standing(writing.tx, calling, writing.now).await?;
            let caller = standing.caller().map_err(refuse)?;
            let made = given_by(writing.tx, caller).await?;
            if made.len() >= MOST {
                let text = format!("the agent has made {MOST} grants that are in force; take some of them back first");
                return Err(refuse(Fault::refused(&TOO_MANY_GRANTS, text)));
            }
            let declaration = wanted(writing, caller, ask, *ttl).map_err(refuse)?;
            if ask.parent.is_empty() {
                check_width(writing, &standing, ask).map_err(refuse)?;
            }
            let grant = Box::pin(declare(writing, declaration)).await?;
            Ok(GrantDelegationResponse { grant: Some(grant), revision: writing.revision() })
        })
    })
    .await
}

fn named(agent: &Agent) -> Metadata {
    agent.metadata.clone().unwrap_or_default()
}

fn wanted(
    writing: &Writing<'_>,
    caller: &Agent,
    ask: &GrantDelegationRequest,
    ttl: Duration,
) -> Result<Declaration, Fault> {
    let own = named(caller);
    let spec = DelegationGrantSpec {
        delegator: format!("agent:{}", own.name),
        delegate: ask.delegate.clone(),
        permissions: ask.permissions.clone(),
        audiences: ask.audiences.clone(),
        purpose: ask.purpose.clone(),
        not_before: None,
        not_after: Some(writing.now.plus(ttl).into()),
        may_redelegate: ask.max_depth > 0,
        max_depth: ask.max_depth,
        parent: ask.parent.clone(),
        // It was the delegator itself who asked, as the record of the write says.
        consent: None,
    };
    let metadata = Metadata { name: ask.name.clone(), namespace: own.namespace, ..Metadata::default() };
    let grant = DelegationGrant { metadata: Some(metadata), spec: Some(spec) };
    let declaration = Declaration { object: Some(Object::DelegationGrant(grant)) };
    stage::check_asked(&declaration)?;
    Ok(declaration)
}

/// Whether each permission lies within what the caller may have now. What it was given to pass on is held against that
/// grant, as every grant with a parent is.
fn check_width(writing: &Writing<'_>, standing: &Standing, ask: &GrantDelegationRequest) -> Result<(), Fault> {
    let caller = standing.seen_caller()?;
    let mut problems = Vec::new();
    for (n, one) in ask.permissions.iter().enumerate() {
        let wanted = delegation::permission(one).ok_or_else(|| Fault::broken("a permission that was checked"))?;
        let given = standing.seen.grants_of(caller);
        let found = match standing.seen.ceilings_of(caller) {
            Some(ceilings) => may_pass_on(&wanted, writing.now.micros(), given, ceilings).map_err(|wide| match wide {
                TooWide::Ceiling(_) => "is not all below every ceiling above the agent that asks",
                TooWide::Grants => "is more than any one grant gives the agent that asks",
            }),
            None => Err("is below no ceiling that is known"),
        };
        if let Err(why) = found {
            problems.push(Problem::of(&DELEGATION_TOO_WIDE, format!("permissions[{n}]"), why));
        }
    }
    stage::refusal(problems)
}

pub(super) async fn declare(writing: &mut Writing<'_>, declaration: Declaration) -> TxResult<DelegationGrant, Fault> {
    let key = kind::key_of(&declaration).ok_or_else(|| broken("a grant without a name"))?;
    let list = [Wanted::new(key, declaration)];
    let by = writing.by;
    let staged = stage::stage(writing.tx, &list, writing.now, &by.actor, &by.reason).await?;
    let one = staged.into_iter().next().ok_or_else(|| broken("nothing was staged"))?;
    if one.current.is_some() {
        return Err(refuse(Fault::refused(&GRANT_EXISTS, format!("{} is in force", one.key))));
    }
    match writing.put(one.wanted, None, "delegated", &one.fields).await?.object {
        Some(Object::DelegationGrant(grant)) => Ok(grant),
        _ => Err(broken("a grant was made and is none")),
    }
}

/// The grants that name the agent, as delegator or as delegate, by name.
async fn naming(tx: &Tx, agent: &Agent) -> TxResult<Vec<DelegationGrant>, Fault> {
    let Metadata { namespace, name, .. } = named(agent);
    let key = Key::new(Kind::Agent, &namespace, &name);
    let ids = reference::from(tx, &key, MOST_NAMING).await?.into_iter().collect();
    let mut grants = Vec::new();
    for row in object::by_ids(tx, ids).await?.into_iter().filter(|row| row.holds_name) {
        if let Some(Object::DelegationGrant(grant)) = row.declaration()?.object {
            grants.push(grant);
        }
    }
    grants.sort_by_key(|grant| grant.metadata.as_ref().map(|m| m.name.clone()));
    Ok(grants)
}

async fn given_by(tx: &Tx, agent: &Agent) -> TxResult<Vec<DelegationGrant>, Fault> {
    let delegator = format!("agent:{}", named(agent).name);
    let mut grants = naming(tx, agent).await?;
    grants.retain(|grant| grant.spec.as_ref().is_some_and(|spec| spec.delegator == delegator));
    Ok(grants)
}

/// Those that the caller made, and those by which it acts.
#[tracing::instrument(skip_all)]
pub(crate) async fn list(desk: &Desk, calling: Calling) -> Result<ListOwnDelegationsResponse, Fault> {
    let now = desk.clock.now();
    let read: TxResult<_, Fault> = desk
        .db
        .read("list_own_delegations", move |tx| {
            Box::pin(async move {
                let standing = lineage::standing(tx, &calling, now).await?;
                let caller = standing.caller().map_err(refuse)?;
                let name = named(caller).name;
                let all = naming(tx, caller).await?;
                let acts = |grant: &DelegationGrant| grant.spec.as_ref().is_some_and(|spec| spec.delegate == name);
                let (received, given): (Vec<_>, Vec<_>) = all.into_iter().partition(acts);
                Ok(ListOwnDelegationsResponse { given, received, revision: head::read(tx).await? })
            })
        })
        .await;
    read.map_err(of_tx)
}

/// Takes one back, and what was passed on of it: whoever stops a right is not kept from it by those who passed it on.
#[tracing::instrument(skip_all)]
pub(crate) async fn end(
    desk: &Arc<Desk>,
    call: Call,
    calling: Calling,
    ask: EndDelegationRequest,
) -> Result<EndDelegationResponse, Fault> {
    Name::parse(&ask.name).map_err(|e| Fault::invalid("name", e.to_string()))?;
    stage::refusal(check::check_reason(&call.by.reason, true))?;
    let ask = Arc::new((calling, ask.name));
    desk.write("end_delegation", Standard::Stopping, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (calling, name) = &*ask;
            let standing = lineage::standing(writing.tx, calling, writing.now).await?;
            let made = given_by(writing.tx, standing.caller().map_err(refuse)?).await?;
            // Whether there is such a grant at all is nobody's business but those's whom it names.
            let own = made.into_iter().find(|grant| grant.metadata.as_ref().is_some_and(|m| m.name == *name));
            let own = own.ok_or_else(|| {
                refuse(Fault::refused(&NOT_ITS_GRANT, format!("the caller made no grant {name} that is in force")))
            })?;
            let (grant, passed_on) = take_back(writing, own).await?;
            Ok(EndDelegationResponse { grant, passed_on, revision: writing.revision() })
        })
    })
    .await
}

/// Takes a grant back with everything that was passed on of it: it as it last was, and how many went with it.
pub(super) async fn take_back(
    writing: &mut Writing<'_>,
    own: DelegationGrant,
) -> TxResult<(Option<DelegationGrant>, u32), Fault> {
    let mut going = passed_on(writing.tx, &own).await?;
    let passed_on = u32::try_from(going.len()).unwrap_or(u32::MAX);
    going.push(Declaration { object: Some(Object::DelegationGrant(own)) });
    let mut last = None;
    for one in going {
        last = Some(writing.take_back(one, "ended").await?);
    }
    let grant = match last.and_then(|last| last.object) {
        Some(Object::DelegationGrant(grant)) => Some(grant),
        _ => None,
    };
    Ok((grant, passed_on))
}

/// Every grant that passes on a part of `first`, however far, the farthest first.
pub(super) async fn passed_on(tx: &Tx, first: &DelegationGrant) -> TxResult<Vec<Declaration>, Fault> {
    let of = |grant: &DelegationGrant| {
        let metadata = grant.metadata.clone().unwrap_or_default();
        Key::new(Kind::DelegationGrant, &metadata.namespace, &metadata.name)
    };
    let (mut found, mut seen) = (Vec::new(), BTreeSet::from([of(first)]));
    let mut next = vec![of(first)];
    while !next.is_empty() {
        let ids = reference::of_all(tx, next.drain(..).collect(), MOST_NAMING).await?;
        for row in object::by_ids(tx, ids).await?.into_iter().filter(|row| row.holds_name) {
            let declaration = row.declaration()?;
            if let Some(Object::DelegationGrant(grant)) = &declaration.object
                && seen.insert(of(grant))
            {
                next.push(of(grant));
                found.push(declaration);
            }
        }
    }
    found.reverse();
    Ok(found)
}
