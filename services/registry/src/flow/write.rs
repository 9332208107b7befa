//! The frame of every write: lock the head, change objects at the next revision, record it, and remember the answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::future::BoxFuture;
use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_ids::{AgentId, Name, Principal, SpiffeId};
use legate_mtls::Peer;
use legate_outbox::Standard;
use legate_rpc::{Fault, Mandate, Permit, TraceContext};
use legate_wire::audit::AuditEvent;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{AgentState, Declaration, FieldChange, Kind, Metadata};
use prost::Message;

use super::Desk;
use super::mandate::{self, Operator, mandate};
use super::policed::Policed;
use super::{revoke_issued, stop_orders};
use crate::convert;
use crate::domain::kind::{self, Key};
use crate::domain::lifecycle::{self, Transition};
use crate::domain::lifecycle_policy::Plan;
use crate::domain::terms::facts;
use crate::domain::{approval, cut_off, lineage, operators, standing};
use crate::error::{ETAG_MISMATCH, LAST_ADMINISTRATOR, OPERATOR_BINDINGS_FULL, REQUEST_ID_REUSED, of_tx};
use crate::store::found::Found;
use crate::store::revision::History;
use crate::store::{broken, change, departure, head, object, reference, refuse, request, review, signed, unsigned};

/// A revocation is forgotten so long after its credential ended by itself: clocks differ.
const FORGET_AFTER: std::time::Duration = std::time::Duration::from_secs(3_600);

/// Who writes, and why.
#[derive(Clone, Debug, Default)]
pub(crate) struct By {
    /// A SPIFFE ID.
    pub(crate) actor: String,
    pub(crate) reason: String,
    pub(crate) trace: TraceContext,
    /// The operator whose rights count; none for a service, nor for an agent, whose journeys ask for its standing instead.
    pub(crate) operator: Option<Operator>,
}

impl By {
    /// The caller of a permit.
    pub(crate) fn of(permit: &Permit, reason: &str) -> Self {
        let mut by = Self::of_peer(permit.peer(), permit.trace(), reason);
        if let Some(operator) = &mut by.operator {
            operator.emergency = permit.emergency().map(str::to_owned);
        }
        by
    }

    /// A caller who states no emergency.
    pub(crate) fn of_peer(peer: &Peer, trace: &TraceContext, reason: &str) -> Self {
        let operator = match &peer.principal {
            Some(Principal::Operator(name)) => {
                Some(Operator { name: name.clone(), emergency: None, certificate: peer.x5t_s256 })
            }
            _ => None,
        };
        Self { actor: peer.id_text().to_owned(), reason: reason.to_owned(), trace: trace.clone(), operator }
    }
}

/// A write that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) by: By,
    /// Makes a repetition harmless; empty: no protection.
    request_id: String,
    /// Of the method and the body.
    digest: Vec<u8>,
}

impl Call {
    /// The call of `method` with `request` as it came.
    ///
    /// # Errors
    /// When the request id breaks its grammar.
    pub(crate) fn new(by: By, method: &str, request: &impl Message, request_id: &str) -> Result<Self, Fault> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
        if request_id.len() > 64 || !request_id.bytes().all(good) {
            return Err(Fault::invalid("request_id", "1 to 64 of A-Z a-z 0-9 - _ . :"));
        }
        let mut bytes = method.as_bytes().to_vec();
        bytes.push(0);
        request.encode(&mut bytes).map_err(Fault::broken)?;
        let digest = digest(&SHA256, &bytes).as_ref().to_vec();
        Ok(Self { by, request_id: request_id.to_owned(), digest })
    }

    /// Whether a repetition is told from the first time.
    pub(crate) fn is_protected(&self) -> bool {
        !self.request_id.is_empty()
    }

    /// One of the pieces in which a request is carried out: each is a request of its own, with its number behind the id.
    pub(crate) fn piece(&self, number: u64, bytes: impl FnOnce() -> Vec<u8>) -> Self {
        if !self.is_protected() {
            return self.clone();
        }
        let mut all = self.digest.clone();
        all.extend(bytes());
        Self {
            by: self.by.clone(),
            request_id: format!("{}:bulk:{number}", self.request_id),
            digest: digest(&SHA256, &all).as_ref().to_vec(),
        }
    }

    /// What the registry does by itself.
    pub(crate) fn own(desk: &Desk, reason: &str) -> Self {
        let (actor, trace) = (desk.own.to_string(), TraceContext::current());
        let by = By { actor, reason: reason.to_owned(), trace, operator: None };
        Self { by, request_id: String::new(), digest: Vec::new() }
    }
}

/// A write under way: the head is locked, and what is changed is changed at the next revision.
pub(crate) struct Writing<'t> {
    pub(crate) tx: &'t Tx,
    pub(crate) desk: &'t Desk,
    pub(crate) now: Timestamp,
    pub(crate) by: &'t By,
    /// What the caller may do.
    pub(crate) mandate: Mandate,
    /// What was asked for of that, and where: nothing is written without.
    demanded: BTreeSet<(Right, String)>,
    base: u64,
    /// When the base was written.
    base_time: i64,
    history: History,
    changes: i32,
    /// The last number that an object got.
    numbered: i64,
    events: Vec<AuditEvent>,
    /// An operator binding is among what was written.
    operators: bool,
    /// What of it concerns lifecycle policies.
    policed: Policed,
}

/// An object that is to be written.
#[derive(Debug)]
pub(crate) struct Put<'p> {
    pub(crate) declaration: Declaration,
    /// As it is; `None`: it is new.
    pub(crate) before: Option<&'p Declaration>,
    /// Whether it is taken back.
    pub(crate) revoked: bool,
    /// The verb of its audit event.
    pub(crate) verb: &'static str,
    pub(crate) fields: &'p [FieldChange],
}

impl Desk {
    /// Runs a write. Its rows, its change records, its audit events and its answer are committed together or not at all.
    pub(crate) async fn write<M, F>(
        self: &Arc<Self>,
        name: &'static str,
        standard: Standard,
        call: Call,
        body: F,
    ) -> Result<M, Fault>
    where
        M: Message + Default + 'static,
        F: for<'a, 't> Fn(&'a mut Writing<'t>) -> BoxFuture<'a, TxResult<M, Fault>> + Send + Sync + 'static,
    {
        let (desk, body, by) = (Arc::clone(self), Arc::new(body), call.by.clone());
        let written = self.db.tx(name, move |tx| {
            let (desk, body, call) = (Arc::clone(&desk), Arc::clone(&body), call.clone());
            Box::pin(async move {
                let head = head::lock(tx).await?;
                let (base, history) = (unsigned(head.revision), History::after(&head.history));
                let now = desk.clock.now();
                if let Some(answer) = answered(tx, &call, now).await? {
                    return M::decode(answer.as_slice()).map_err(broken);
                }
                let mandate = mandate(&desk.operators, tx, &head, &call.by, now).await?;
                let by = &call.by;
                let mut writing = Writing {
                    tx,
                    desk: &desk,
                    now,
                    by,
                    mandate,
                    demanded: BTreeSet::new(),
                    base,
                    base_time: head.written_at,
                    history,
                    changes: 0,
                    numbered: head.numbered,
                    events: convert::broke_glass(by, now).into_iter().collect(),
                    operators: false,
                    policed: Policed::default(),
                };
                let answer = body(&mut writing).await?;
                writing.finish(standard).await?;
                remember(tx, &call, &answer, now).await?;
                Ok(answer)
            })
        });
        let answer = written.await.map_err(of_tx)?;
        self.tell_of_broken_glass(&by);
        Ok(answer)
    }
}

/// The answer that was given to this request before.
async fn answered(tx: &Tx, call: &Call, now: Timestamp) -> TxResult<Option<Vec<u8>>, Fault> {
    if call.request_id.is_empty() {
        return Ok(None);
    }
    match request::find(tx, &call.by.actor, &call.request_id, now).await? {
        None => Ok(None),
        Some(known) if known.digest == call.digest => Ok(Some(known.answer)),
        Some(_) => Err(refuse(Fault::refused(
            &REQUEST_ID_REUSED,
            format!("the request_id {} stands for another request", call.request_id),
        ))),
    }
}

async fn remember(tx: &Tx, call: &Call, answer: &impl Message, now: Timestamp) -> TxResult<(), Fault> {
    if call.request_id.is_empty() {
        return Ok(());
    }
    let row = request::Model {
        caller: call.by.actor.clone(),
        request_id: call.request_id.clone(),
        digest: call.digest.clone(),
        answer: answer.encode_to_vec(),
        created_at: now.micros(),
    };
    request::put(tx, row).await
}

impl Writing<'_> {
    /// The revision after this write: the next one where something changes, else the one that is.
    pub(crate) fn revision(&self) -> u64 {
        self.base + u64::from(self.changes > 0)
    }

    /// How many objects it has written so far.
    pub(crate) fn written(&self) -> usize {
        usize::try_from(self.changes).unwrap_or(usize::MAX)
    }

    /// The revision that was the newest when the write began.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Refuses what the caller may not do; what it may, the write may do from now on.
    ///
    /// # Errors
    /// `OPERATOR_NOT_PERMITTED`.
    pub(crate) fn demand(&mut self, right: Right, place: Place<'_>) -> Result<(), Fault> {
        self.mandate.demand(right, place)?;
        self.demanded.insert((right, text_of(place)));
        Ok(())
    }

    /// That a journey forgot to ask for a right is no reason to write: an object that says who may do what takes the right to
    /// say so, and everything else one that is more than to see.
    fn is_demanded(&self, key: &Key) -> bool {
        if self.by.operator.is_none() {
            return true;
        }
        let place = text_of(operators::place(key));
        match key.kind {
            Kind::OperatorBinding => self.demanded.contains(&(Right::Administer, place)),
            _ => self.demanded.iter().any(|(right, at)| *right != Right::Read && *at == place),
        }
    }

    /// Records what was done beside the objects that are written.
    pub(crate) fn record(&mut self, event: AuditEvent) {
        self.events.push(event);
    }

    /// Writes an object, new or changed; the object as it is then.
    pub(crate) async fn put(
        &mut self,
        declaration: Declaration,
        before: Option<&Declaration>,
        verb: &'static str,
        fields: &[FieldChange],
    ) -> TxResult<Declaration, Fault> {
        self.put_one(Put { declaration, before, revoked: false, verb, fields }).await
    }

    /// Takes an object back; the object as it last was.
    pub(crate) async fn take_back(
        &mut self,
        declaration: Declaration,
        verb: &'static str,
    ) -> TxResult<Declaration, Fault> {
        let before = declaration.clone();
        self.put_one(Put { declaration, before: Some(&before), revoked: true, verb, fields: &[] }).await
    }

    /// Writes many objects, none of them twice; each as it is then, in their order. A row at a time they would take as many
    /// journeys to the database as there are tables.
    pub(crate) async fn put_all(&mut self, puts: Vec<Put<'_>>) -> TxResult<Vec<Declaration>, Fault> {
        let (mut written, mut rows, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        let mut found = Found::default();
        let known = puts.iter().filter_map(|put| put.before.and_then(Declaration::metadata)).map(|m| m.id.clone());
        let numbers = Box::pin(object::numbers(self.tx, known.collect())).await?;
        for Put { mut declaration, before, revoked, verb, fields } in puts {
            let place = self.changes;
            self.changes += 1;
            Box::pin(self.take_along(&mut declaration, before)).await?;
            self.stamp(&mut declaration, before).map_err(refuse)?;
            let key = kind::key_of(&declaration).ok_or_else(|| broken("an object without a key was written"))?;
            if !self.is_demanded(&key) {
                return Err(broken(format!(
                    "{} {key} was to be written without a right to",
                    kind::kind_name(key.kind)
                )));
            }
            self.operators |= key.kind == Kind::OperatorBinding;
            if revoked && key.kind == Kind::Namespace {
                // The name can be another one's later, in which nobody has left.
                Box::pin(departure::end_in(self.tx, &key.name, self.now, &self.by.actor)).await?;
                Box::pin(review::forget_in(self.tx, &key.name)).await?;
            }
            let plan = Box::pin(self.policed.note(self.tx, &key, &declaration, before, revoked, self.now)).await?;
            let mut row = row(&declaration, &key, revoked, self.revision(), plan);
            row.number = match before {
                Some(_) => *numbers.get(&row.id).ok_or_else(|| broken("what changes is not there"))?,
                None => self.next_number(),
            };
            let mut names = Vec::new();
            if row.holds_name {
                names.extend(kind::references(&declaration).into_iter().map(|(_, key)| key));
                names.extend(lineage::found_under(&declaration));
            } else if !revoked {
                names.extend(lineage::found_retired(&declaration));
            }
            let names = (row.id.clone(), names);
            let was = before.filter(|before| holds_name(state_of(before), false)).map(facts);
            found.add(&key, &row.id, row.number, was, row.holds_name.then(|| facts(&declaration)));
            if before.is_none() {
                new.push(names)
            } else {
                changed.push(names)
            }
            self.history.add(&row.body, revoked);
            changes.push(change::Model {
                revision: row.revision,
                place,
                object_id: row.id.clone(),
                revoked,
                body: row.body.clone(),
            });
            rows.push(row);
            self.events.push(convert::object_event(self.by, &key, &declaration, verb, fields, self.now));
            written.push(declaration);
        }
        reference::replace(self.tx, new, changed).await?;
        change::insert(self.tx, changes).await?;
        // On the heap: every write would carry its size.
        Box::pin(found.write(self.tx)).await?;
        object::put(self.tx, rows).await?;
        Box::pin(self.policed.settle(self.tx)).await?;
        Ok(written)
    }

    fn next_number(&mut self) -> i64 {
        self.numbered += 1;
        self.numbered
    }

    /// What a cut-off of its class or of an owner killed stays dead when an agent leaves that class, or that owner it; and who
    /// leaves whom a stop order names stays stopped.
    async fn take_along(&self, declaration: &mut Declaration, before: Option<&Declaration>) -> TxResult<(), Fault> {
        Box::pin(stop_orders::take_along(self, declaration, before)).await?;
        let left = cut_off::left(before, declaration);
        if left.is_empty() {
            return Ok(());
        }
        let cutoff = revoke_issued::latest(self.tx, left).await?;
        if let (Some(Object::Agent(agent)), Some(_)) = (&mut declaration.object, cutoff) {
            let status = agent.status.get_or_insert_default();
            status.authorization_cutoff = standing::later(status.authorization_cutoff, cutoff);
        }
        Ok(())
    }

    async fn put_one(&mut self, put: Put<'_>) -> TxResult<Declaration, Fault> {
        self.put_all(vec![put]).await?.pop().ok_or_else(|| broken("an object was written and is not there"))
    }

    /// Gives an object what only the registry gives: id, version, revision, and who wrote it when and why.
    fn stamp(&self, declaration: &mut Declaration, before: Option<&Declaration>) -> Result<(), Fault> {
        let old = before.and_then(Declaration::metadata).cloned().unwrap_or_default();
        let is_agent = declaration.kind() == Some(Kind::Agent);
        let id = match old.id.as_str() {
            "" if is_agent => self.desk.agent_id()?.to_string(),
            // Its name was made of it.
            "" if declaration.kind() == Some(Kind::Approval) => {
                approval::id_of(declaration.metadata().map(|m| m.name.as_str()).unwrap_or_default())
            }
            "" => self.desk.object_id()?.to_string(),
            known => known.to_owned(),
        };
        let Some(metadata) = declaration.metadata_mut() else {
            return Err(Fault::broken("an object without metadata was written"));
        };
        let version = old.version + 1;
        *metadata = Metadata {
            name: std::mem::take(&mut metadata.name),
            namespace: std::mem::take(&mut metadata.namespace),
            labels: std::mem::take(&mut metadata.labels),
            annotations: std::mem::take(&mut metadata.annotations),
            id: id.clone(),
            revision: self.revision(),
            etag: format!("{:x}-{version:x}", self.revision()),
            create_time: old.create_time.or_else(|| Some(self.now.into())),
            update_time: Some(self.now.into()),
            created_by: if old.created_by.is_empty() { self.by.actor.clone() } else { old.created_by },
            updated_by: self.by.actor.clone(),
            reason: self.by.reason.clone(),
            version,
        };
        let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
        let domain = &self.desk.domain;
        match &mut declaration.object {
            Some(Object::Agent(agent)) => {
                let (namespace, id) = (Name::parse(&namespace), AgentId::parse(&id));
                let (namespace, id) = (namespace.map_err(Fault::broken)?, id.map_err(Fault::broken)?);
                agent.status.get_or_insert_default().spiffe_id = SpiffeId::agent(domain, &namespace, &id).to_string();
            }
            Some(Object::EnforcementPoint(point)) => {
                let (namespace, name) = (Name::parse(&namespace), Name::parse(&name));
                let (namespace, name) = (namespace.map_err(Fault::broken)?, name.map_err(Fault::broken)?);
                point.spiffe_id = SpiffeId::enforcer(domain, &namespace, &name).to_string();
            }
            Some(Object::Node(node)) => {
                let (namespace, name) = (Name::parse(&namespace), Name::parse(&name));
                let (namespace, name) = (namespace.map_err(Fault::broken)?, name.map_err(Fault::broken)?);
                node.spiffe_id = SpiffeId::node(domain, &namespace, &name).to_string();
            }
            // Whoever could say what verifies our own trust domain could have anybody pass for our agents.
            Some(Object::FederatedTrustDomain(of))
                if of.spec.as_ref().is_some_and(|spec| spec.trust_domain == domain.as_str()) =>
            {
                let why = format!("{domain} is our own trust domain, which is not federated with itself");
                return Err(Fault::invalid("spec.trust_domain", why));
            }
            _ => {}
        }
        Ok(())
    }

    /// Advances the head and records the events. The outbox's lock comes last.
    async fn finish(self, standard: Standard) -> TxResult<(), Fault> {
        let revision = self.revision();
        if self.changes > 0 {
            // A clock that goes back must not turn the order of revisions: a time names the last one before it.
            let written_at = self.now.micros().max(self.base_time);
            let history = self.history.finish();
            head::advance(self.tx, revision, history, written_at, self.numbered, self.operators).await?;
        }
        if self.operators {
            keep_an_administrator(self.tx, self.now).await?;
        }
        let events = self.events.into_iter().map(|event| AuditEvent { revision, ..event }).collect();
        self.desk.outbox.record_all(self.tx, standard, events).await?;
        Ok(())
    }
}

fn text_of(place: Place<'_>) -> String {
    match place {
        Place::Everywhere => String::new(),
        Place::In(namespace) => namespace.to_owned(),
    }
}

/// Somebody has to be able to say who may do what, whoever else is not: the head is locked, so nobody is taken away beside
/// this write.
async fn keep_an_administrator(tx: &Tx, now: Timestamp) -> TxResult<(), Fault> {
    let (operators, count) = mandate::read(tx).await?;
    if count > mandate::MOST {
        let text = format!("there would be more than {} operator bindings", mandate::MOST);
        return Err(refuse(Fault::refused(&OPERATOR_BINDINGS_FULL, text)));
    }
    if !operators.have_an_administrator(now) {
        let text = "nobody would be left who is ADMIN everywhere, now and without an end";
        return Err(refuse(Fault::refused(&LAST_ADMINISTRATOR, text)));
    }
    Ok(())
}

/// The state of an agent; unspecified for everything else.
fn state_of(declaration: &Declaration) -> AgentState {
    match &declaration.object {
        Some(Object::Agent(agent)) => agent.status.as_ref().map_or(AgentState::Unspecified, |status| status.state()),
        _ => AgentState::Unspecified,
    }
}

/// Whether nobody else can have the name.
fn holds_name(state: AgentState, revoked: bool) -> bool {
    !revoked && state != AgentState::Retired
}

/// All of an object's row but its number.
fn row(declaration: &Declaration, key: &Key, revoked: bool, revision: u64, plan: Plan) -> object::Model {
    let state = state_of(declaration);
    let mut ends = None;
    match &declaration.object {
        Some(Object::Agent(agent)) if lifecycle::next(state, Transition::Expire).is_ok() => {
            let ends_by_itself = agent.spec.as_ref().and_then(|spec| spec.expire_time);
            let grace_ends = agent.status.as_ref().and_then(|status| status.suspend_after);
            let first = ends_by_itself.into_iter().chain(grace_ends).min_by_key(|at| (at.seconds, at.nanos));
            ends = first.map(|at| (at, std::time::Duration::ZERO));
        }
        Some(Object::Revocation(revocation)) if !revoked => {
            ends = revocation.spec.as_ref().and_then(|spec| spec.expire_time).map(|at| (at, FORGET_AFTER));
        }
        // One that was taken back is remembered for ever: whoever comes with an older word, as an issuer whose database was set
        // back, is not to bring it to life again.
        Some(Object::SigningKey(key))
            if !revoked && key.spec.as_ref().is_some_and(|spec| spec.revoke_time.is_none()) =>
        {
            ends = key.spec.as_ref().and_then(|spec| spec.not_after).map(|at| (at, FORGET_AFTER));
        }
        Some(Object::Approval(approval)) if !revoked => {
            ends = approval::ends(approval).map(|at| (at, std::time::Duration::ZERO));
        }
        _ => {}
    }
    let ends = ends.and_then(|(at, more)| Timestamp::try_from(at).ok().map(|at| at.plus(more).micros()));
    let times = object::Times::of(declaration);
    object::Model {
        id: declaration.metadata().map(|m| m.id.clone()).unwrap_or_default(),
        kind: key.kind as i32,
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        holds_name: holds_name(state, revoked),
        revoked,
        state: state as i32,
        ends_at: ends,
        revision: signed(revision),
        body: declaration.encode_to_vec(),
        created_at: times.created,
        updated_at: times.updated,
        expires_at: times.expires,
        used_at: times.used,
        orphaned_at: times.orphaned,
        number: 0,
        look_at: plan.look_at.map(Timestamp::micros),
        due_at: plan.due_at.map(Timestamp::micros),
        attest_at: plan.attest_at.map(Timestamp::micros),
    }
}

/// Refuses a write by somebody who has not seen the object as it is. An empty etag asks for no such check.
pub(crate) fn check_etag(declaration: &Declaration, etag: &str) -> Result<(), Fault> {
    let now = declaration.metadata().map(|m| m.etag.as_str()).unwrap_or_default();
    if etag.is_empty() || etag == now {
        return Ok(());
    }
    Err(Fault::refused(&ETAG_MISMATCH, format!("the etag is {now} now, and {etag} was read")).with("etag", now))
}
