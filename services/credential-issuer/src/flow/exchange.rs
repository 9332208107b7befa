//! An agent exchanges somebody's token for one with which it acts for him (RFC 8693): the chain only grows, and what it gives only shrinks.
//!
//! Who acts is the caller, known by its certificate. That the holder of a bound token let the caller have it is shown by its
//! audience: only the holder, with its key, could have it addressed to the caller (docs/adr/0012).

use std::collections::BTreeSet;
use std::sync::Arc;

use legate_authority::Permission;
use legate_ids::{Actions, AgentId, Name, Principal, ResourceType, SpiffeId};
use legate_rpc::Fault;
use legate_token::{Chain, Claims, Confirmation, Details, MAX_GROUPS, Scope, Subject, TokenError};
use legate_view::{Audience, Broken, Delegation, DelegationGrant, Snapshot};

use super::foreign::{self, Evidence};
use super::issue_token::{Asking, IssuedToken, authorize, calling, expected, narrowed, sign};
use super::live::{proved, verified};
use super::renew::{about, caller};
use super::{Call, Desk};
use crate::convert;
use crate::domain::foreign::{Person, StandsFor};
use crate::domain::holder::Holder;
use crate::domain::token::{self, Before, Behalf, Wish};
use crate::error::{
    ACTOR_TOKEN_INVALID, AUTHORIZATION_DETAILS_REFUSED, CHAIN_ENDS_HERE, EXCHANGE_CYCLE, GRANT_MISSING,
    GRANT_TOO_NARROW, INVALID_SCOPE, SUBJECT_TOKEN_FALLEN, SUBJECT_TOKEN_INVALID, SUBJECT_TOKEN_NOT_ADDRESSED, of_tx,
};

/// What shows for whom the caller wants to act.
pub(crate) enum SubjectToken {
    /// An access token of this issuer, addressed to the caller.
    Access(String),
    /// A person's token of an issuer that the caller's namespace trusts.
    Identity(String),
}

/// What is asked.
pub(crate) struct Exchange {
    pub(crate) subject_token: SubjectToken,
    /// The caller's own, where it gives one.
    pub(crate) actor_token: Option<String>,
    pub(crate) wish: Wish,
    /// The grant to act by; `None`: the first that fits, and gives all that is asked for where one does.
    pub(crate) grant: Option<Name>,
}

/// Never shows a token.
impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("wish", &self.wish).field("grant", &self.grant).finish_non_exhaustive()
    }
}

/// A token by which its holder acts for another.
#[derive(Debug)]
pub(crate) struct Exchanged {
    pub(crate) issued: IssuedToken,
    pub(crate) behalf: Behalf,
}

/// Exchanges a token.
#[tracing::instrument(skip_all, fields(legate.audience = %ask.wish.audience))]
pub(crate) async fn exchange_as(desk: &Desk, call: &Call, asking: Asking, ask: Exchange) -> Result<Exchanged, Fault> {
    let result = attempt(desk, call, &asking, ask).await;
    match &result {
        Ok(_) => desk.metrics.issued("exchange"),
        Err(fault) => desk.note_refusal(call, "exchange", asking.about(), fault).await,
    }
    result
}

/// Exchanges a token for the agent whose certificate the call shows.
pub(crate) async fn exchange(desk: &Desk, call: &Call, ask: Exchange) -> Result<Exchanged, Fault> {
    match calling(desk, call).await {
        Ok(asking) => exchange_as(desk, call, asking, ask).await,
        Err(fault) => {
            let (id, principal) = caller(call)?;
            desk.note_refusal(call, "exchange", about(id, principal), &fault).await;
            Err(fault)
        }
    }
}

async fn attempt(desk: &Desk, call: &Call, asking: &Asking, ask: Exchange) -> Result<Exchanged, Fault> {
    asking.check_binding()?;
    let holder = &asking.holder;
    let me = Me::of(desk, holder)?;
    if let Some(token) = &ask.actor_token {
        check_actor_token(desk, &me, token, &ask.wish.audience)?;
    }
    let whom = match &ask.subject_token {
        SubjectToken::Access(token) => handed_over(desk, &me, token, &ask.wish.audience).await?,
        SubjectToken::Identity(token) => identified(desk, &me, token).await?,
    };
    let mut wish = ask.wish;
    let named = wish.actions.clone();
    wish.actions = token::within(&whom.before.scope, &named)
        .filter(|left| !asking.all_or_nothing || left.include(&named))
        .ok_or_else(|| Fault::refused(&INVALID_SCOPE, "the subject token is narrowed to other actions"))?;
    wish.details = token::details_within(&whom.before.details, &wish.details).ok_or_else(|| {
        let why = "the authorization details go beyond those of the subject token";
        Fault::refused(&AUTHORIZATION_DETAILS_REFUSED, why)
    })?;
    if SpiffeId::parse(&wish.audience).is_err() {
        convert::check_details(&wish.details, &wish.audience)?;
    }
    let seen = expected(desk, holder, &wish.audience).await?;
    // By a view that is certain of what the caller may have declared just before.
    let (mut behalf, revision) = desk.look(|seen| choose(desk, seen, &me, &whom, &wish, ask.grant.as_ref())).await?;
    let agreed = authorize(desk, call, holder, &wish, Some(&behalf), revision.max(seen)).await?;
    behalf.ends = behalf.ends.into_iter().chain(agreed.ends).min();
    let scope = narrowed(asking, (&named, &wish.actions), &agreed, "through the chain the agent may do")?;

    let now = desk.clock.now();
    let plan = token::plan(holder, &wish, scope, now, &asking.base(desk, Some(behalf.clone()))?)?;
    let event =
        convert::token_exchanged(call, &plan, (agreed.decision_id, agreed.revision), whom.evidence.as_ref(), now);
    let mut stand = vec![plan.claims.clone()];
    stand.extend(whom.shown);
    let register = &desk.batches.register;
    let recorded = register.record(asking.proof(call, now), asking.dpop, plan, event).await.map_err(of_tx)?;
    // What was taken back in between, anywhere in the chain, is seen here, or kills the token later.
    desk.still(holder, &asking.named()?)?;
    asking.still_vouched(desk)?;
    if let Some(evidence) = &whom.evidence {
        foreign::still(desk, evidence)?;
    }
    let snapshot = desk.fresh()?.snapshot;
    // The exchanged token too: a class that was stopped and resumed meanwhile cut that off, and not what was made after.
    for claims in &stand {
        snapshot.token_standing(claims, desk.clock.now()).map_err(|fallen| {
            Fault::refused(&SUBJECT_TOKEN_FALLEN, format!("while it was being exchanged: {fallen}"))
        })?;
    }
    Ok(Exchanged { issued: sign(desk, recorded, agreed.revision).await?, behalf })
}

/// The one who acts.
struct Me {
    agent: AgentId,
    namespace: Name,
    /// Without instance: to whom tokens are addressed.
    address: SpiffeId,
    /// As the certificate says it.
    spiffe_id: SpiffeId,
}

impl Me {
    fn of(desk: &Desk, holder: &Holder) -> Result<Self, Fault> {
        let agent = holder.agent.clone().ok_or(token::BadToken::NotAnAgent)?;
        let address = SpiffeId::agent(&desk.domain, &holder.namespace, &agent);
        Ok(Self { agent, namespace: holder.namespace.clone(), address, spiffe_id: holder.spiffe_id.clone() })
    }
}

/// RFC 8693 section 2.1: an actor token says who acts. Here that is known before, so it may only say the same.
fn check_actor_token(desk: &Desk, me: &Me, token: &str, target: &str) -> Result<(), Fault> {
    let no = |why: String| Fault::refused(&ACTOR_TOKEN_INVALID, why).field("actor_token", "is not the caller's own");
    let reading = desk.fresh()?;
    let signed = proved(desk, &reading.snapshot, token).map_err(|e| no(e.to_string()))?;
    // Addressed to the caller, or, as ordinary clients have it, to where it wants to go.
    let is_towards = signed.claims().audience == target;
    let audience = if is_towards { target } else { me.address.as_str() };
    let claims = verified(desk, &signed, audience).map_err(|e| no(e.to_string()))?;
    if claims.agent != me.agent || claims.namespace != me.namespace || !claims.chain.is_empty() {
        return Err(no("it is not the caller's own, for itself".into()));
    }
    reading.snapshot.token_standing(&claims, desk.clock.now()).map_err(|fallen| no(fallen.to_string()))?;
    Ok(())
}

/// For whom the caller wants to act.
struct Whom {
    /// As grants name him: `agent:NAME` or `user:NAME`.
    delegator: String,
    /// The groups of people, as `group:NAME`, that his token proves him a member of: grants may be from one of these too.
    groups: Vec<String>,
    before: Before,
    /// What an access token of this issuer says.
    shown: Option<Claims>,
    /// What a token of an issuer outside proved.
    evidence: Option<Evidence>,
}

/// The person for whom a token of a trusted issuer stands. It is addressed to none of ours, so the person's grant has to name
/// the caller; and it may be shown again until it ends, by each agent that the person lets act, for each audience.
async fn identified(desk: &Desk, me: &Me, token: &str) -> Result<Whom, Fault> {
    let (proven, _) = foreign::prove(desk, me.namespace.as_str(), token).await?;
    let StandsFor::Person(person) = proven.stands_for else {
        let text = "the identity token stands for an agent; agents hand over access tokens of this issuer";
        return Err(Fault::refused(&SUBJECT_TOKEN_INVALID, text));
    };
    let subject = Subject::parse(&person.name).map_err(|e| {
        Fault::refused(&SUBJECT_TOKEN_INVALID, format!("the identity token names a person that no grant can name: {e}"))
    })?;
    let Person { name, groups } = person;
    let cutoff = desk.fresh()?.snapshot.subject_cutoff(me.namespace.as_str(), &name);
    if !legate_view::after_cutoff(proven.evidence.issued, cutoff) {
        let text = format!("the identity token was made before what was issued on behalf of {name} was revoked");
        return Err(Fault::refused(&SUBJECT_TOKEN_FALLEN, text));
    }
    let before = Before {
        subject,
        chain: Chain::default(),
        parent: None,
        scope: Scope::All,
        details: Details::default(),
        ends: proven.evidence.expires,
    };
    Ok(Whom { delegator: name, groups, before, shown: None, evidence: Some(proven.evidence) })
}

/// For whom an access token lets the caller act, where it was handed to the caller and still stands.
async fn handed_over(desk: &Desk, me: &Me, token: &str, target: &str) -> Result<Whom, Fault> {
    let invalid = |e: TokenError| {
        Fault::refused(&SUBJECT_TOKEN_INVALID, format!("the subject token is not believed: {e}"))
            .field("subject_token", e.to_string())
    };
    let signed = proved(desk, &desk.fresh()?.snapshot, token).map_err(invalid)?;
    // A token that is bound to nothing is its bearer's already: exchanged for the same audience it gives no more than it is.
    let is_bearers = signed.claims().confirmation == Confirmation::Bearer && signed.claims().audience == target;
    let audience = if is_bearers { target } else { me.address.as_str() };
    let claims = verified(desk, &signed, audience).map_err(|e| match e {
        // Nothing is told of whose it is.
        TokenError::Audience => {
            let text = format!("the subject token is not addressed to {}", me.address);
            Fault::refused(&SUBJECT_TOKEN_NOT_ADDRESSED, text)
        }
        other => invalid(other),
    })?;
    if claims.namespace != me.namespace {
        return Err(Fault::refused(&SUBJECT_TOKEN_INVALID, "the subject token is of another namespace"));
    }
    let agents = claims.chain.actors.iter().chain(claims.subject.agent());
    let stands_in_it = |id: &SpiffeId| matches!(Principal::of(id), Ok(Principal::Agent { id, .. }) if id == me.agent);
    if agents.into_iter().any(stands_in_it) {
        return Err(Fault::refused(&EXCHANGE_CYCLE, format!("{} stands in the chain before", me.address)));
    }
    let found = desk.look(|seen| {
        let standing = seen.token_standing(&claims, desk.clock.now());
        standing.map_err(|fallen| Fault::refused(&SUBJECT_TOKEN_FALLEN, fallen.to_string()))
    });
    let (standing, _) = found.await?;
    // What was taken back here, and may not have come back from the registry yet, is seen where the new token is recorded.
    let delegator = format!("agent:{}", standing.agent.label.name);
    let groups = Vec::new();
    Ok(Whom { delegator, groups, before: Before::of(&claims), shown: Some(claims), evidence: None })
}

/// The behalf by the grant that fits: from whom the caller wants to act for to the caller, the whole chain holding with it. The first
/// by name that gives all that is sought; where none does, the first that gives something of it.
fn choose(
    desk: &Desk,
    snapshot: &Snapshot,
    me: &Me,
    whom: &Whom,
    wish: &Wish,
    named: Option<&Name>,
) -> Result<Behalf, Fault> {
    let agent = snapshot.agent(&me.agent).ok_or_else(|| Fault::refused(&GRANT_MISSING, "the caller is not known"))?;
    let delegator = &whom.delegator;
    let to = snapshot.audience(&me.namespace, &wish.audience);
    let kinds = match &to {
        Some(Audience::Agent(_)) => None,
        _ => Some(snapshot.kinds_at(&me.namespace, &wish.audience)),
    };
    let (mut partly, mut why_not) = (None, None);
    for grant in snapshot.delegation_grants_to(agent) {
        let is_from = grant.delegator == *delegator || whom.groups.contains(&grant.delegator);
        if !is_from || named.is_some_and(|name| grant.label.name != *name) {
            continue;
        }
        match by(desk, snapshot, me, whom, wish, (grant, to.as_ref())) {
            Ok(behalf) => match gives(grant, &wish.actions, kinds.as_ref()) {
                Gives::All => return Ok(behalf),
                Gives::Some => drop(partly.get_or_insert(behalf)),
                Gives::Nothing => {
                    let text =
                        format!("the delegation grant {} lets nothing of what is asked for be done", grant.label);
                    why_not.get_or_insert(Fault::refused(&GRANT_TOO_NARROW, text));
                }
            },
            Err(fault) => drop(why_not.get_or_insert(fault)),
        }
    }
    if let Some(behalf) = partly {
        return Ok(behalf);
    }
    Err(why_not.unwrap_or_else(|| {
        let by = named.map_or_else(String::new, |name| format!(" by the grant {name}"));
        let text = format!("no delegation grant in force lets {} act for {delegator}{by}", agent.label.name);
        Fault::refused(&GRANT_MISSING, text)
    }))
}

/// How much of what is sought a grant gives.
enum Gives {
    All,
    Some,
    Nothing,
}

/// How much of the actions the grant lets be done to anything of those types; `None`: of any type. Without actions it is as much as
/// it gives.
fn gives(grant: &DelegationGrant, actions: &Actions, kinds: Option<&BTreeSet<&ResourceType>>) -> Gives {
    let is_of_kind = |permission: &&Permission| {
        let own = permission.resource().resource_type();
        kinds.is_none_or(|kinds| kinds.iter().any(|kind| own.covers(kind)))
    };
    let given: Actions = grant.permissions.iter().filter(is_of_kind).map(|p| p.action().clone()).collect();
    if given.include(actions) && !given.is_empty() {
        Gives::All
    } else if actions.meet(&given).is_empty() {
        Gives::Nothing
    } else {
        Gives::Some
    }
}

fn by(
    desk: &Desk,
    snapshot: &Snapshot,
    me: &Me,
    whom: &Whom,
    wish: &Wish,
    (grant, to): (&Arc<DelegationGrant>, Option<&Audience>),
) -> Result<Behalf, Fault> {
    let mut behalf = whom.before.then(me.spiffe_id.clone(), grant.label.id.to_string());
    if whom.evidence.is_some() {
        behalf.chain.groups = that_count(snapshot, &me.namespace, &whom.groups, &grant.delegator);
    }
    let actors: Vec<AgentId> = behalf
        .chain
        .actors
        .iter()
        .filter_map(|id| match Principal::of(id) {
            Ok(Principal::Agent { id, .. }) => Some(id),
            _ => None,
        })
        .collect();
    let now = desk.clock.now();
    let held =
        snapshot.delegation(&me.namespace, &behalf.subject, &behalf.chain.groups, &actors, &behalf.chain.grants, now);
    let held: Delegation = held.map_err(refusal)?;
    match to {
        Some(Audience::Agent(next)) => held.may_be_followed(snapshot, next).map_err(refusal)?,
        _ if !held.is_towards(&wish.audience) => {
            let text = format!("a delegation grant of the chain is for other audiences than {}", wish.audience);
            return Err(Fault::refused(&GRANT_TOO_NARROW, text));
        }
        _ => {}
    }
    behalf.ends = behalf.ends.into_iter().chain(held.ends).min();
    let lives = held.delegators().map(|agent| snapshot.life_of(agent, now));
    behalf.cutoff = lives.filter_map(|life| life.cutoff()).max();
    if let Subject::Person(_) = &behalf.subject {
        behalf.cutoff = behalf.cutoff.max(snapshot.subject_cutoff(me.namespace.as_str(), &behalf.subject.to_string()));
    }
    Ok(behalf)
}

/// Bytes of all the groups that a token names: it has to stay within its own bound.
const GROUPS_LENGTH: usize = 2_048;

/// Those of a person's groups that count for anything in the namespace: the one that the grant is from, then those that
/// bindings name, by name, as many as a token holds. No more is said of a person than is needed.
fn that_count(snapshot: &Snapshot, namespace: &Name, groups: &[String], delegator: &str) -> Vec<String> {
    let (first, rest): (Vec<&String>, Vec<&String>) = groups.iter().partition(|group| *group == delegator);
    let bound = rest.into_iter().filter(|group| snapshot.binds_people(namespace.as_str(), group));
    let mut length = 0;
    let fitting = first.into_iter().chain(bound).take(MAX_GROUPS).take_while(|group| {
        length += group.len();
        length <= GROUPS_LENGTH
    });
    let mut groups: Vec<String> = fitting.cloned().collect();
    groups.sort();
    groups
}

fn refusal(why: Broken) -> Fault {
    let text = why.to_string();
    match why {
        Broken::TooLong(_) => Fault::refused(&CHAIN_ENDS_HERE, text),
        Broken::Stopped(..) => Fault::refused(&SUBJECT_TOKEN_FALLEN, text),
        Broken::NoGrant(_) | Broken::Window(_) | Broken::Loose(_) => Fault::refused(&GRANT_MISSING, text),
    }
}
