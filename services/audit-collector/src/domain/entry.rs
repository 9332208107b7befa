//! What the index learns from one event beside its row: what it is found by, who made whom, who may read, what was used.

use std::collections::BTreeMap;

use legate_authority::OperatorRole;
use legate_clock::Timestamp;
use legate_ids::Name;
use legate_wire::audit::AuditEvent;

use super::question::plain;

/// What is found under several names, or is a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Link {
    /// A link of the delegation chain.
    Chain,
    /// A grant of the chain.
    Grant,
    /// A credential by its id or serial number, a token by its id.
    Credential,
    /// A person whose name the event commits to.
    Person,
}

impl Link {
    /// As the database has it; never changes.
    pub(crate) fn number(self) -> i16 {
        match self {
            Self::Chain => 1,
            Self::Grant => 2,
            Self::Credential => 3,
            Self::Person => 4,
        }
    }

    /// The reverse.
    pub(crate) fn of(number: i16) -> Option<Self> {
        [Self::Chain, Self::Grant, Self::Credential, Self::Person].into_iter().find(|link| link.number() == number)
    }
}

/// The most links of one event that the index holds; an event's lists are bounded by its size alone.
const MOST_LINKS: usize = 64;

/// Everything of an event that it is found by, each once.
pub(crate) fn links(event: &AuditEvent) -> Vec<(Link, String)> {
    let detail = |name: &str| event.details.get(name).map(String::as_str).unwrap_or_default();
    let token = |resource: &legate_wire::audit::EventResource| {
        if resource.r#type == "AccessToken" { resource.id.clone() } else { String::new() }
    };
    let chain = event.chain.iter().map(|link| (Link::Chain, plain(link)));
    let grants = std::iter::once(event.grant_id.as_str()).chain(detail("grants").split_whitespace());
    let credentials = [event.credential_id.as_str(), detail("serial"), detail("token_id")];
    let credentials = credentials.into_iter().chain(detail("parent_tokens").split_whitespace()).map(str::to_owned);
    let credentials = credentials.chain(event.resource.as_ref().map(token));
    let mut all: Vec<(Link, String)> = chain
        .chain(grants.map(|grant| (Link::Grant, grant.to_owned())))
        .chain(credentials.map(|one| (Link::Credential, one)))
        .filter(|(_, text)| !text.is_empty())
        .take(MOST_LINKS)
        .collect();
    all.sort();
    all.dedup();
    all
}

/// The agent that was made, and who made it, where the registry tells of that.
pub(crate) fn made(event: &AuditEvent) -> Option<(String, String)> {
    let maker = event.details.get("made_by").filter(|maker| !maker.is_empty())?;
    let is_agents = event.r#type.starts_with("agent.") && !event.agent_id.is_empty();
    is_agents.then(|| (event.agent_id.clone(), maker.clone()))
}

/// Who gives a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Binding {
    /// Empty: everywhere.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) operators: Vec<Name>,
    pub(crate) role: OperatorRole,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) not_after: Option<Timestamp>,
}

/// How what operators may do has changed, by the registry's own events, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roles {
    /// The registry began to say all of them, so that what was known before is forgotten.
    pub(crate) is_anew: bool,
    /// What each binding gives now; `None`: nothing.
    pub(crate) bindings: BTreeMap<Binding, Option<Given>>,
}

/// The type of the event after which the registry tells every binding in force.
const STATED: &str = "operators.stated";
/// What the types of events about one binding begin with.
const BINDING: &str = "operator_binding.";

/// Whether an event of this type, told by the registry, says what operators may do.
pub(crate) fn is_of_roles(kind: &str) -> bool {
    kind == STATED || kind.starts_with(BINDING)
}

impl Roles {
    /// Takes in one event of the registry.
    pub(crate) fn learn(&mut self, event: &AuditEvent) {
        if event.r#type == STATED {
            *self = Self { is_anew: true, bindings: BTreeMap::new() };
        }
        let Some(verb) = event.r#type.strip_prefix(BINDING) else { return };
        let Some(resource) = &event.resource else { return };
        let binding = Binding { namespace: event.namespace.clone(), name: resource.id.clone() };
        // A binding that cannot be read gives nothing.
        let given = if verb == "revoked" { None } else { given(&event.details) };
        self.bindings.insert(binding, given);
    }
}

fn given(details: &BTreeMap<String, String>) -> Option<Given> {
    let text = |name: &str| details.get(name).map(String::as_str).unwrap_or_default();
    let role = OperatorRole::ALL.into_iter().find(|role| role.word() == text("role"))?;
    let time = |name: &str| match text(name) {
        "" => Some(None),
        text => Timestamp::parse_rfc3339(text).map(Some),
    };
    let operators: Result<Vec<Name>, _> = text("operators").split_whitespace().map(Name::parse).collect();
    Some(Given { operators: operators.ok()?, role, not_before: time("not_before")?, not_after: time("not_after")? })
}

/// What is held, by the collector's own event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) id: String,
    pub(crate) subject: String,
    pub(crate) agent_id: String,
    pub(crate) namespace: String,
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
}

/// The types of the collector's own events about holds, erasures and the end of retention.
pub(crate) const HOLD_SET: &str = "hold.set";
pub(crate) const HOLD_RELEASED: &str = "hold.released";
pub(crate) const SUBJECT_ERASED: &str = "subject.erased";
pub(crate) const NAMES_ENDED: &str = "names.ended";

/// The hold that an event is about, and what is held; `None`: nothing any more.
pub(crate) fn held(event: &AuditEvent) -> Option<(String, Option<Held>)> {
    let detail = |name: &str| event.details.get(name).map(String::as_str).unwrap_or_default();
    let id = detail("hold").to_owned();
    match event.r#type.as_str() {
        HOLD_RELEASED => Some((id, None)),
        HOLD_SET => {
            let held = Held {
                id: id.clone(),
                subject: event.subject.clone(),
                agent_id: event.agent_id.clone(),
                namespace: event.namespace.clone(),
                from: Timestamp::parse_rfc3339(detail("from")),
                to: Timestamp::parse_rfc3339(detail("to")),
            };
            Some((id, Some(held)))
        }
        _ => None,
    }
}

/// Whose names an event says are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// This person's, as the index has it.
    Person(String),
    /// Those that have had their time, of events before this moment.
    Before(Timestamp),
}

/// What the collector's own event says is gone.
pub(crate) fn gone(event: &AuditEvent) -> Option<Gone> {
    match event.r#type.as_str() {
        SUBJECT_ERASED => Some(Gone::Person(format!("user:{}", event.details.get("pseudonym")?))),
        NAMES_ENDED => event.time.and_then(|t| Timestamp::try_from(t).ok()).map(Gone::Before),
        _ => None,
    }
}

/// What was used: a decision's agent, and what it was about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Use {
    /// Hours since 1970.
    pub(crate) hour: i64,
    pub(crate) agent_id: String,
    pub(crate) namespace: String,
    pub(crate) action: String,
    pub(crate) resource_type: String,
    pub(crate) outcome: i32,
    pub(crate) subject: String,
}

/// How often, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) count: i64,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
}

impl Count {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { count: self.count + other.count, first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

const HOUR: i64 = 3_600_000_000;

/// What an event counts for: a decision for one, and an ALLOW that was recorded and then not said for one less.
pub(crate) fn used(event: &AuditEvent) -> Option<(Use, Count)> {
    let count = match event.r#type.as_str() {
        "decision.made" => 1,
        "decision.withdrawn" => -1,
        _ => return None,
    };
    let time = event.time.and_then(|t| Timestamp::try_from(t).ok())?;
    let of = Use {
        hour: time.micros().div_euclid(HOUR),
        agent_id: event.agent_id.clone(),
        namespace: event.namespace.clone(),
        action: event.action.clone(),
        resource_type: event.resource.as_ref().map(|r| r.r#type.clone()).unwrap_or_default(),
        outcome: event.outcome,
        subject: plain(&event.subject),
    };
    Some((of, Count { count, first: time, last: time }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_wire::audit::{EventResource, Outcome};

    fn binding(verb: &str, name: &str, details: &[(&str, &str)]) -> AuditEvent {
        AuditEvent {
            r#type: format!("operator_binding.{verb}"),
            namespace: "payments".into(),
            resource: Some(EventResource { r#type: "OperatorBinding".into(), id: name.into(), ..Default::default() }),
            details: details.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..AuditEvent::default()
        }
    }

    #[test]
    fn what_cannot_be_read_gives_nothing_and_a_statement_forgets_what_was_before() {
        let good = [("operators", "ada grace"), ("role", "VIEWER"), ("not_after", "2027-01-01T00:00:00Z")];
        let mut roles = Roles::default();
        roles.learn(&binding("created", "a", &good));
        let of = |roles: &Roles, name: &str| {
            roles.bindings.get(&Binding { namespace: "payments".into(), name: name.into() }).cloned()
        };
        let given = of(&roles, "a").unwrap().unwrap();
        assert_eq!((given.operators.len(), given.role, given.not_before), (2, OperatorRole::Viewer, None));
        assert!(given.not_after.is_some());
        for bad in [
            &[("operators", "ada"), ("role", "KING")][..],
            &[("operators", "ada"), ("role", "VIEWER"), ("not_after", "soon")],
            &[("operators", "Ada Grace!"), ("role", "VIEWER")],
            &[("spec.role", "(unset) -> VIEWER")],
        ] {
            roles.learn(&binding("updated", "a", bad));
            assert_eq!(of(&roles, "a"), Some(None), "{bad:?}");
        }
        roles.learn(&binding("created", "b", &good));
        roles.learn(&binding("revoked", "b", &good));
        assert_eq!(of(&roles, "b"), Some(None));
        assert!(!roles.is_anew);
        roles.learn(&AuditEvent { r#type: STATED.into(), ..AuditEvent::default() });
        assert!(roles.is_anew && roles.bindings.is_empty());
        roles.learn(&binding("stated", "c", &good));
        assert!(roles.is_anew && of(&roles, "c").unwrap().is_some());
    }

    #[test]
    fn a_credential_is_found_by_each_of_its_names() {
        let mut event = AuditEvent {
            chain: vec!["spiffe://example.org/ns/a/agent/agt_1".into(), "user:ada".into(), "user:ada".into()],
            grant_id: "g1".into(),
            credential_id: "cred_1".into(),
            ..AuditEvent::default()
        };
        event.details.extend([
            ("grants".to_owned(), "g1 g2".to_owned()),
            ("serial".to_owned(), "0a".to_owned()),
            ("token_id".to_owned(), "tok_1".to_owned()),
        ]);
        let found = links(&event);
        let of = |link| found.iter().filter(|(l, _)| *l == link).map(|(_, t)| t.as_str()).collect::<Vec<_>>();
        assert_eq!(of(Link::Chain).len(), 2);
        assert_eq!(of(Link::Grant), ["g1", "g2"]);
        assert_eq!(of(Link::Credential), ["0a", "cred_1", "tok_1"]);
        event.chain = vec!["x".into(); 1_000];
        assert!(links(&event).len() <= MOST_LINKS);
    }

    #[test]
    fn what_was_withdrawn_was_not_used() {
        let mut event = AuditEvent {
            r#type: "decision.made".into(),
            time: Some(Timestamp::from_secs(7_201).into()),
            outcome: Outcome::Success.into(),
            ..AuditEvent::default()
        };
        let (key, one) = used(&event).unwrap();
        assert_eq!((key.hour, one.count), (2, 1));
        event.r#type = "decision.withdrawn".into();
        let (same, less) = used(&event).unwrap();
        assert_eq!((same, one.and(less).count), (key, 0));
        event.r#type = "decision.explained".into();
        assert_eq!(used(&event), None);
    }
}
