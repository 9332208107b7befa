//! A person lets an agent act for it, sees which may, and takes that back.
//!
//! Who it is was proved by credential-issuer; what it may let be done is judged here, by what is in force in this very
//! transaction.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use legate_authority::{Ceiling, may_pass_on};
use legate_db::{Tx, TxResult};
use legate_ids::Name;
use legate_outbox::Standard;
use legate_rpc::{Fault, TraceContext};
use legate_token::group_of_people;
use legate_view::{Person, Snapshot};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    ConsentEvidence, Declaration, DelegationGrant, DelegationGrantSpec, EndPersonalGrantRequest,
    EndPersonalGrantResponse, Kind, ListPersonalGrantsRequest, ListPersonalGrantsResponse, MakePersonalGrantRequest,
    MakePersonalGrantResponse, Metadata, NamespaceSpec, PersonalAuthority, PersonalDelegation, ProvenPerson,
};

use super::delegate::{declare, passed_on};
use super::stage;
use super::write::Writing;
use super::{By, Call, Desk};
use crate::domain::kind::Key;
use crate::domain::personal::{self, Wish};
use crate::domain::problem::Problem;
use crate::domain::{check, delegation, lineage};
use crate::error::{
    AGAIN, DELEGATION_TOO_WIDE, NOT_ITS_GRANT, PERSONAL_GRANTS_OFF, TOO_MANY_GRANTS, TRUSTED_ISSUER_CHANGED, of_tx,
};
use crate::store::{broken, head, object, reference, refuse};

/// The most grants in force that a person may have made in a namespace.
const MOST: usize = 64;
/// The most grants that are listed, and bindings that are looked at.
const MOST_LOOKED_AT: u64 = 1_000;
/// The most groups that a person is known to be a member of.
const GROUPS: usize = 256;
/// The longest and the shortest that anybody delegates for.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(366 * 24 * 3_600);

/// A person, as credential-issuer proved it.
#[derive(Clone, Debug)]
pub(crate) struct Asker(ProvenPerson);

impl Asker {
    /// Reads who asks.
    ///
    /// # Errors
    /// When it is nobody who could ask.
    pub(crate) fn read(from: Option<ProvenPerson>) -> Result<Self, Fault> {
        let from = from.ok_or_else(|| Fault::invalid("person", "is missing"))?;
        let person = |field: &str, why: String| Fault::invalid(format!("person.{field}"), why);
        legate_token::Subject::parse(&from.person)
            .ok()
            .filter(|who| who.agent().is_none())
            .ok_or_else(|| person("person", "is not user:NAME".into()))?;
        Name::parse(&from.namespace).map_err(|e| person("namespace", e.to_string()))?;
        let is_group = |text: &String| text.strip_prefix("group:").and_then(group_of_people).as_ref() == Some(text);
        if from.groups.len() > GROUPS || !from.groups.iter().all(is_group) {
            return Err(person("groups", format!("are more than {GROUPS}, or not group:NAME")));
        }
        if !check::is_sha256(&from.token_sha256) {
            return Err(person("token_sha256", "is not 64 hexadecimal digits in lower case".into()));
        }
        Ok(Self(from))
    }

    /// The call of the person, who is the actor of what is written; `request` is what a repetition has to repeat.
    ///
    /// # Errors
    /// When the request id breaks its grammar.
    pub(crate) fn call(
        &self,
        trace: &TraceContext,
        method: &str,
        request: &impl prost::Message,
        (request_id, reason): (&str, &str),
    ) -> Result<Call, Fault> {
        stage::refusal(check::check_reason(reason, false))?;
        let by = By { actor: self.0.person.clone(), reason: reason.to_owned(), trace: trace.clone(), operator: None };
        Call::new(by, method, request, request_id)
    }

    /// What of the person is part of a request that is repeated: who it is and where, whatever else its token says.
    pub(crate) fn in_short(&self) -> Option<ProvenPerson> {
        let ProvenPerson { person, namespace, .. } = self.0.clone();
        Some(ProvenPerson { person, namespace, ..ProvenPerson::default() })
    }

    /// What names the token: it makes one grant.
    pub(crate) fn token(&self) -> &str {
        &self.0.token_sha256
    }

    fn known(&self) -> Person {
        Person { name: self.0.person.clone(), groups: self.0.groups.clone(), through: None }
    }
}

/// What people may delegate by the trusted issuer, which has to be the one by whose rules the token was proved.
async fn rule(tx: &Tx, who: &ProvenPerson) -> TxResult<PersonalDelegation, Fault> {
    let found = object::by_id(tx, &who.trusted_issuer_id).await?.filter(|row| row.holds_name);
    let declared = found.map(|row| row.declaration()).transpose()?;
    let is_as_it_was = |declared: &Declaration| {
        let is_same = |m: &Metadata| m.namespace == who.namespace && m.version == who.trusted_issuer_version;
        declared.metadata().is_some_and(is_same)
    };
    match declared.filter(is_as_it_was).and_then(|declared| declared.object) {
        Some(Object::TrustedIssuer(issuer)) => {
            let rule = issuer.spec.and_then(|spec| spec.personal_delegation);
            let off = || Fault::refused(&PERSONAL_GRANTS_OFF, "the trusted issuer lets its people delegate nothing");
            rule.ok_or_else(|| refuse(off()))
        }
        _ => {
            let why = "the trusted issuer was declared anew, or taken back, while the token was being checked";
            Err(refuse(Fault::unavailable(&TRUSTED_ISSUER_CHANGED, why, AGAIN)))
        }
    }
}

/// Lets an agent act for the person.
#[tracing::instrument(skip_all)]
pub(crate) async fn make(
    desk: &Arc<Desk>,
    call: Call,
    asker: Asker,
    ask: MakePersonalGrantRequest,
) -> Result<MakePersonalGrantResponse, Fault> {
    let ttl = ask.ttl.filter(|ttl| ttl.nanos == 0).and_then(|ttl| Duration::try_from(ttl).ok());
    let ttl = ttl.filter(|ttl| TTL.contains(ttl));
    let ttl = ttl
        .ok_or_else(|| Fault::invalid("ttl", "is missing or out of range; give 1 minute to 1 year in whole seconds"))?;
    let ask = Arc::new((asker, ask, ttl));
    desk.write("make_personal_grant", Standard::Ordinary, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (Asker(who), asked, ttl) = &*ask;
            let rule = rule(writing.tx, who).await?;
            if takes_grants_for_authority(writing.tx, &who.namespace).await? {
                let why =
                    "the namespace takes a person's grant for all that the person may, so no person makes one itself";
                return Err(refuse(Fault::refused(&PERSONAL_GRANTS_OFF, why)));
            }
            let text = personal::consent_text(asked, *ttl);
            let declaration = wanted(writing, who, &rule, asked, (*ttl, &text)).map_err(refuse)?;
            let class = class_of(writing.tx, who, &asked.delegate).await?;
            let wish = Wish {
                permissions: &asked.permissions,
                class: class.as_deref(),
                ttl: *ttl,
                max_depth: asked.max_depth,
            };
            stage::refusal(personal::beyond(&rule, &wish)).map_err(refuse)?;
            check_width(writing, &ask.0, asked).await?;
            let from = lineage::delegated_by(&who.namespace, &who.person);
            let made = grants(writing.tx, [from].into()).await?;
            let made = made.iter().filter(|one| metadata(one).created_by == who.person).count();
            if made >= MOST {
                let text = format!("{} has made {MOST} grants that are in force; end some of them first", who.person);
                return Err(refuse(Fault::refused(&TOO_MANY_GRANTS, text)));
            }
            let grant = Box::pin(declare(writing, declaration)).await?;
            let (grant, revision, consent_text) = (Some(grant), writing.revision(), text);
            Ok(MakePersonalGrantResponse { grant, revision, consent_text })
        })
    })
    .await
}

async fn takes_grants_for_authority(tx: &Tx, namespace: &str) -> TxResult<bool, Fault> {
    let row = object::by_key(tx, &Key::new(Kind::Namespace, "", namespace)).await?;
    let spec = match row.map(|row| row.declaration()).transpose()?.and_then(|one| one.object) {
        Some(Object::Namespace(namespace)) => namespace.spec.unwrap_or_default(),
        _ => NamespaceSpec::default(),
    };
    Ok(spec.personal_authority() == PersonalAuthority::Granted)
}

/// The class of the agent that would act; `None`: there is no such agent.
async fn class_of(tx: &Tx, who: &ProvenPerson, delegate: &str) -> TxResult<Option<String>, Fault> {
    let row = object::by_key(tx, &Key::new(Kind::Agent, &who.namespace, delegate)).await?;
    Ok(match row.map(|row| row.declaration()).transpose()?.and_then(|one| one.object) {
        Some(Object::Agent(agent)) => agent.spec.map(|spec| spec.agent_class),
        _ => None,
    })
}

fn wanted(
    writing: &Writing<'_>,
    who: &ProvenPerson,
    rule: &PersonalDelegation,
    ask: &MakePersonalGrantRequest,
    (ttl, text): (Duration, &str),
) -> Result<Declaration, Fault> {
    stage::refusal(personal::sign_in_fault(rule, who, writing.now).into_iter().collect())?;
    let hash = digest(&SHA256, text.as_bytes());
    let hash = <[u8; 32]>::try_from(hash.as_ref()).map_err(Fault::broken)?;
    let method = personal::consent_given(rule, &who.nonce, &hash)
        .map_err(|why| Fault::refused(why.reason, format!("{}: {}", why.path, why.why)).field(why.path, why.why))?;
    let consent = ConsentEvidence {
        method: method.to_owned(),
        reference: format!("{} of {}", who.trusted_issuer_id, who.namespace),
        sha256: hash.iter().map(|b| format!("{b:02x}")).collect(),
        time: Some(writing.now.into()),
        issuer: who.issuer.clone(),
        subject: who.subject.clone(),
        token_sha256: who.token_sha256.clone(),
        auth_time: who.auth_time,
        acr: who.acr.clone(),
    };
    let spec = DelegationGrantSpec {
        delegator: who.person.clone(),
        delegate: ask.delegate.clone(),
        permissions: ask.permissions.clone(),
        audiences: ask.audiences.clone(),
        purpose: ask.purpose.clone(),
        not_before: None,
        not_after: Some(writing.now.plus(ttl).into()),
        may_redelegate: ask.max_depth > 0,
        max_depth: ask.max_depth,
        parent: String::new(),
        consent: Some(consent),
    };
    let metadata = Metadata { name: ask.name.clone(), namespace: who.namespace.clone(), ..Metadata::default() };
    let grant = DelegationGrant { metadata: Some(metadata), spec: Some(spec) };
    let declaration = Declaration { object: Some(Object::DelegationGrant(grant)) };
    stage::check_asked(&declaration)?;
    Ok(declaration)
}

/// Whether each permission lies within what the person itself may have now, by bindings that name it or a group that its token
/// shows it in. What an agent may do by the grant is cut by these again, each time.
async fn check_width(writing: &Writing<'_>, asker: &Asker, ask: &MakePersonalGrantRequest) -> TxResult<(), Fault> {
    let namespace = &asker.0.namespace;
    let person = asker.known();
    let named: BTreeSet<Key> = person.names().map(|who| lineage::bound_to(namespace, who)).collect();
    let ids = reference::of_all(writing.tx, named, MOST_LOOKED_AT).await?;
    let mut objects = Vec::new();
    let mut roles = BTreeSet::new();
    for row in object::by_ids(writing.tx, ids).await?.into_iter().filter(|row| row.holds_name) {
        let declaration = row.declaration()?;
        if let Some(Object::RoleBinding(binding)) = &declaration.object {
            let role = binding.spec.as_ref().map(|spec| spec.role.as_str()).unwrap_or_default();
            roles.insert(Key::new(Kind::Role, namespace, role));
        }
        objects.push(declaration);
    }
    for row in object::by_keys(writing.tx, roles).await?.into_values() {
        objects.push(row.declaration()?);
    }
    let seen = Snapshot::of(&objects).map_err(broken)?;
    let mut problems = Vec::new();
    for (n, one) in ask.permissions.iter().enumerate() {
        let wanted = delegation::permission(one).ok_or_else(|| broken("a permission that was checked"))?;
        let none: [((), &Ceiling); 0] = [];
        let given = seen.grants_of_person(namespace, &person);
        if may_pass_on(&wanted, writing.now.micros(), given, none).is_err() {
            let why = format!("is more than any one role binding gives {} now", person.name);
            problems.push(Problem::of(&DELEGATION_TOO_WIDE, format!("permissions[{n}]"), why));
        }
    }
    stage::refusal(problems).map_err(refuse)
}

fn metadata(grant: &DelegationGrant) -> Metadata {
    grant.metadata.clone().unwrap_or_default()
}

/// The grants in force that are found there, by name.
async fn grants(tx: &Tx, places: BTreeSet<Key>) -> TxResult<Vec<DelegationGrant>, Fault> {
    let ids = reference::of_all(tx, places, MOST_LOOKED_AT).await?;
    let mut found = Vec::new();
    for row in object::by_ids(tx, ids).await?.into_iter().filter(|row| row.holds_name) {
        if let Some(Object::DelegationGrant(grant)) = row.declaration()?.object {
            found.push(grant);
        }
    }
    found.sort_by_key(|grant| metadata(grant).name);
    found.truncate(usize::try_from(MOST_LOOKED_AT).unwrap_or(usize::MAX));
    Ok(found)
}

/// Those by which an agent may act for the person, what was passed on of them, and those of its groups.
#[tracing::instrument(skip_all)]
pub(crate) async fn list(
    desk: &Desk,
    asker: Asker,
    ask: ListPersonalGrantsRequest,
) -> Result<ListPersonalGrantsResponse, Fault> {
    if !ask.name.is_empty() {
        Name::parse(&ask.name).map_err(|e| Fault::invalid("name", e.to_string()))?;
    }
    let read: TxResult<_, Fault> = desk
        .db
        .read("list_personal_grants", move |tx| {
            let (who, name) = (asker.0.clone(), ask.name.clone());
            Box::pin(async move {
                rule(tx, &who).await?;
                let places = |names: &[String]| -> BTreeSet<Key> {
                    names.iter().map(|one| lineage::delegated_by(&who.namespace, one)).collect()
                };
                let is_asked = |grant: &DelegationGrant| name.is_empty() || metadata(grant).name == name;
                let mut own = grants(tx, places(std::slice::from_ref(&who.person))).await?;
                own.retain(is_asked);
                let mut of_groups = grants(tx, places(&who.groups)).await?;
                of_groups.retain(is_asked);
                let mut on = Vec::new();
                for one in &own {
                    let after = passed_on(tx, one).await?.into_iter().filter_map(|one| match one.object {
                        Some(Object::DelegationGrant(grant)) => Some(grant),
                        _ => None,
                    });
                    on.extend(after);
                }
                on.sort_by_key(|grant| metadata(grant).name);
                on.truncate(usize::try_from(MOST_LOOKED_AT).unwrap_or(usize::MAX));
                let (grants, passed_on, revision) = (own, on, head::read(tx).await?);
                Ok(ListPersonalGrantsResponse { grants, passed_on, of_groups, revision })
            })
        })
        .await;
    read.map_err(of_tx)
}

/// Takes one back, and what was passed on of it.
#[tracing::instrument(skip_all)]
pub(crate) async fn end(
    desk: &Arc<Desk>,
    call: Call,
    asker: Asker,
    ask: EndPersonalGrantRequest,
) -> Result<EndPersonalGrantResponse, Fault> {
    Name::parse(&ask.name).map_err(|e| Fault::invalid("name", e.to_string()))?;
    stage::refusal(check::check_reason(&call.by.reason, true))?;
    let ask = Arc::new((asker, ask.name));
    desk.write("end_personal_grant", Standard::Stopping, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (Asker(who), name) = &*ask;
            rule(writing.tx, who).await?;
            let key = Key::new(Kind::DelegationGrant, &who.namespace, name);
            let found = object::by_key(writing.tx, &key).await?.map(|row| row.declaration()).transpose()?;
            // Whether there is such a grant of somebody else is nobody's business.
            let own = match found.and_then(|one| one.object) {
                Some(Object::DelegationGrant(grant))
                    if grant.spec.as_ref().is_some_and(|spec| spec.delegator == who.person) =>
                {
                    Ok(grant)
                }
                _ => {
                    let text = format!("no grant {name} that is in force is from {}", who.person);
                    Err(refuse(Fault::refused(&NOT_ITS_GRANT, text)))
                }
            }?;
            let (grant, passed_on) = super::delegate::take_back(writing, own).await?;
            Ok(EndPersonalGrantResponse { grant, passed_on, revision: writing.revision() })
        })
    })
    .await
}
