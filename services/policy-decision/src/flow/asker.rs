//! Who asks, and whether it may: the caller's own right comes before any word about an agent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use legate_authority::{self as authority, Place, Reach};
use legate_clock::Timestamp;
use legate_ids::{Name, Principal};
use legate_mtls::Peer;
use legate_rpc::{Fault, OPERATOR_NOT_PERMITTED, Permit, TraceContext};
use legate_view::{CALLER_UNKNOWN, EnforcementPoint, Snapshot};
use tokio::time::Instant;

use crate::convert::Ask;
use crate::error::{CALLER_MAY_NOT_ASK, CALLER_MAY_NOT_EXPLAIN, CALLER_MAY_NOT_SEARCH, SUBJECT_NOT_PROVEN};

/// The caller, as its certificate names it.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) spiffe_id: String,
    pub(crate) kind: Kind,
    pub(crate) peer: Arc<Peer>,
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    pub(crate) deadline: Instant,
    /// The emergency that an operator states.
    pub(crate) emergency: Option<Arc<str>>,
}

/// What kind of caller it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Enforcer { namespace: Name, name: Name },
    Operator,
    Service,
}

/// What the caller may ask, at one revision.
#[derive(Clone, Debug)]
pub(crate) enum Right {
    /// An enforcement point: about agents of its own namespace, and its resource types.
    Point(Arc<EnforcementPoint>),
    /// An operator: about agents of the namespaces that he may read, on his own word.
    Operator(Reach),
}

/// Left for the way back to the caller, whatever is waited for.
const WAY_BACK: Duration = Duration::from_millis(50);

impl Asker {
    /// The caller of a permitted call.
    pub(crate) fn of(permit: &Permit) -> Self {
        let emergency = permit.emergency().map(Into::into);
        Self { emergency, ..Self::of_peer(permit.shared_peer(), permit.trace(), permit.deadline()) }
    }

    /// A caller whom a door let in, who states no emergency.
    pub(crate) fn of_peer(peer: Arc<Peer>, trace: &TraceContext, deadline: Instant) -> Self {
        let kind = match &peer.principal {
            Some(Principal::Enforcer { namespace, name }) => {
                Kind::Enforcer { namespace: namespace.clone(), name: name.clone() }
            }
            Some(Principal::Operator(_)) => Kind::Operator,
            // The access table lets nobody else in.
            _ => Kind::Service,
        };
        Self {
            spiffe_id: peer.id_text().to_owned(),
            kind,
            peer,
            trace_id: trace.trace_id.clone(),
            span_id: trace.span_id.clone(),
            deadline,
            emergency: None,
        }
    }

    /// The same caller with a question that belongs to another trace than its call does.
    pub(crate) fn within(&self, trace: TraceContext) -> Self {
        Self { trace_id: trace.trace_id, span_id: trace.span_id, ..self.clone() }
    }

    /// How long something may be waited for, `most` at most.
    pub(crate) fn patience(&self, most: Duration) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.saturating_sub(WAY_BACK).min(most)
    }

    /// The caller's right by what the registry holds. Its standing too is judged by the snapshot that decides: the one
    /// that let the call in may have been older, or none.
    pub(crate) fn right(&self, snapshot: &Snapshot, now: Timestamp) -> Result<Right, Fault> {
        snapshot.judge(&self.peer, now)?;
        match &self.kind {
            Kind::Enforcer { namespace, name } => snapshot
                .enforcement_point(namespace.as_str(), name.as_str())
                .map(|point| Right::Point(Arc::clone(point)))
                .ok_or_else(|| {
                    let text = format!("no enforcement point {namespace}/{name} is declared");
                    Fault::refused(&CALLER_UNKNOWN, text)
                }),
            Kind::Operator => {
                let mandate = snapshot.mandate(&self.peer, self.emergency.as_deref(), now)?;
                match mandate.sees() {
                    Reach::In(names) if names.is_empty() => {
                        let text = format!("{} has no role in any namespace", self.spiffe_id);
                        Err(Fault::refused(&OPERATOR_NOT_PERMITTED, text).with("right", authority::Right::Read.word()))
                    }
                    sees => Ok(Right::Operator(sees)),
                }
            }
            Kind::Service => Err(Fault::refused(&CALLER_UNKNOWN, "only enforcement points and operators ask")),
        }
    }
}

impl Right {
    /// Whether it covers the question.
    pub(crate) fn covers(&self, ask: &Ask) -> Result<(), Fault> {
        let Self::Point(point) = self else {
            return Ok(());
        };
        let kind = &ask.question.resource_type;
        if !point.resource_types.contains(kind) {
            let text = format!("{} may not ask about {kind}", point.label);
            return Err(Fault::refused(&CALLER_MAY_NOT_ASK, text).with("resource_type", kind.as_str()));
        }
        let on_its_word = ask.subject.is_on_word() || ask.on_behalf_of.is_some();
        if on_its_word && !point.may_assert_subject {
            let text = format!("{} may not say who acts, or for whom, without a token that says so", point.label);
            return Err(Fault::refused(&SUBJECT_NOT_PROVEN, text));
        }
        Ok(())
    }

    /// Whether decisions may be explained to it.
    pub(crate) fn may_explain(&self) -> Result<(), Fault> {
        match self {
            Self::Point(point) if !point.may_explain => {
                let text = format!("{} may not have decisions explained", point.label);
                Err(Fault::refused(&CALLER_MAY_NOT_EXPLAIN, text))
            }
            _ => Ok(()),
        }
    }

    /// Whether it may ask who can do something, and what somebody can do.
    pub(crate) fn may_search(&self) -> Result<(), Fault> {
        match self {
            Self::Point(point) if !point.may_search => {
                let text = format!("{} may not search", point.label);
                Err(Fault::refused(&CALLER_MAY_NOT_SEARCH, text))
            }
            _ => Ok(()),
        }
    }

    /// Whether it may ask about resources of the type.
    pub(crate) fn asks_about(&self, kind: &str) -> bool {
        match self {
            Self::Point(point) => point.resource_types.iter().any(|own| own.as_str() == kind),
            Self::Operator(_) => true,
        }
    }

    /// Whether agents of the namespace may be asked about.
    pub(crate) fn shows(&self, namespace: &Name) -> bool {
        match self {
            Self::Point(point) => point.label.namespace == *namespace,
            Self::Operator(sees) => sees.has(Place::In(namespace.as_str())),
        }
    }

    /// What an operator's emergency is recorded for.
    pub(crate) fn is_operators(&self) -> bool {
        matches!(self, Self::Operator(_))
    }

    /// The audiences of tokens that are meant for the caller.
    pub(crate) fn audiences(&self) -> &BTreeSet<String> {
        static NONE: BTreeSet<String> = BTreeSet::new();
        match self {
            Self::Point(point) => &point.audiences,
            Self::Operator(_) => &NONE,
        }
    }

    /// The audiences for one of which an answer is: the token's own, or the caller's; `None`: that is not asked, where an
    /// operator asks what would be.
    pub(crate) fn towards<'a>(&'a self, token: Option<&'a str>) -> Option<Vec<&'a str>> {
        match (token, self) {
            (Some(audience), _) => Some(vec![audience]),
            (None, Self::Point(point)) => Some(point.audiences.iter().map(String::as_str).collect()),
            (None, Self::Operator(_)) => None,
        }
    }

    /// Whether the record has to be on disk before the answer.
    pub(crate) fn is_durable(&self, ask: &Ask) -> bool {
        matches!(self, Self::Point(point) if point.is_durable(&ask.question.action))
    }
}
