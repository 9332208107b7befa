//! An agent as the view holds it: small, since there are a million, so what many of them share is held once.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use legate_authority::Ceiling;
use legate_clock::Timestamp;
use legate_ids::{AgentId, Name};

/// Where an agent stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AgentState {
    /// Declared, waits for an approver.
    PendingApproval,
    /// Approved, not yet switched on.
    Staged,
    /// The only state in which anything works.
    Active,
    /// Stopped, can be resumed.
    Suspended,
    /// Stopped and kept for forensics.
    Quarantined,
    /// Its time ran out.
    Expired,
    /// Final.
    Retired,
    /// A word that this version does not know; nothing works.
    Unknown,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its name and namespace.
    pub label: AgentLabel,
    /// Its id, never reused.
    pub id: AgentId,
    /// Its class, in the same namespace.
    pub class: Name,
    /// Where it stands.
    pub state: AgentState,
    /// Counts transitions; a token that carries another number is dead.
    pub lifecycle_version: u64,
    /// Nothing issued at or before this moment works.
    pub cutoff: Option<Timestamp>,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
    /// Who answers for it.
    pub people: People,
    /// What it is made of, and where it runs.
    pub nature: Arc<Nature>,
    /// Short texts to select by.
    pub labels: Labels,
    /// What else it is called, where it is.
    pub names: Option<Box<Names>>,
    /// The most it can have, below the ceiling of its class, where declared.
    pub ceiling: Option<Box<Ceiling>>,
    /// Of an agent made by an agent: its maker, its maker's maker, and so on up to one that an operator declared.
    pub ancestors: Box<[AgentId]>,
}

/// So many bytes have a record and its reference counts; the allocator has a size for exactly that, and the next is larger
/// by an eighth.
const _: () = assert!(size_of::<Agent>() + 2 * size_of::<usize>() <= 224);

/// What an agent is called, and which of its versions this is. Of the [`Label`](crate::Label) of other objects it is what
/// is asked of agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentLabel {
    /// Its namespace.
    pub namespace: Name,
    /// Its name there.
    pub name: Name,
    /// Counts its own writes from 1.
    pub version: u32,
    /// When it was first written.
    pub created: Timestamp,
}

/// `NAMESPACE/NAME@VERSION`.
impl fmt::Display for AgentLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.namespace, self.name, self.version)
    }
}

/// A text that many hold: one pointer wide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub(crate) Arc<Box<str>>);

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Texts in the order in which they were declared: one pointer wide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts(pub(crate) Arc<Box<[Text]>>);

impl Deref for Texts {
    type Target = [Text];

    fn deref(&self) -> &[Text] {
        &self.0
    }
}

/// Who answers for an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct People {
    /// Who answers for it technically.
    pub owners: Texts,
    /// Who is accountable for it.
    pub sponsors: Texts,
    /// Whom a sponsor's duty passes to; may be empty.
    pub manager: Text,
}

/// What an agent is made of, and where it runs. Agents of which all this is equal share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nature {
    /// `dev`, `test`, `prod`, or empty.
    pub environment: &'static str,
    /// `low`, `medium`, `high`, `critical`, or empty.
    pub risk_tier: &'static str,
    /// Regions in which it runs.
    pub regions: Texts,
    /// Classes of data that it may meet.
    pub data_classifications: Texts,
    /// Protocols that it speaks.
    pub protocols: Texts,
    /// The framework that runs it.
    pub framework: Text,
    /// The model that it uses.
    pub model: Text,
    /// Its own version.
    pub version: Text,
}

/// Short texts by key, in the order of the keys. Agents of which all are equal share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels(pub(crate) Arc<Box<[(Text, Text)]>>);

impl Labels {
    /// The text of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == key).map(|(_, text)| text)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, text)| (&**key, &**text))
    }
}

/// What an agent is called beside its name. Each may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Its name for people.
    pub display_name: Box<str>,
    /// Its name in another system.
    pub external_id: Box<str>,
    /// The id of the agent that made it; empty: an operator declared it.
    pub parent: Box<str>,
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::BTreeMap;

    use legate_wire::registry as wire;
    use proptest::prelude::*;

    use super::*;
    use crate::convert;
    use crate::intern::Interner;

    fn texts() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[ab]{0,2}", 0..3)
    }

    /// Everything of an agent that the view holds, of few texts, so that many agents have much in common.
    pub(crate) fn declared() -> impl Strategy<Value = wire::Agent> {
        let place = ("[ab]", "[a-z]{1,8}", any::<u64>(), any::<u32>());
        let people = (texts(), texts(), "[ab]?");
        let nature = (texts(), texts(), texts(), "[ab]?", "[ab]?", "[ab]?", 0i32..4, 0i32..5);
        let rare = ("[ab]?", "[ab]?", prop::collection::vec(any::<u64>(), 0..3));
        let life = (1i32..8, any::<u64>(), prop::option::of(0i64..9), prop::option::of(0i64..9));
        let labels = prop::collection::btree_map("[ab]", "[ab]?", 0..3);
        (place, people, nature, rare, life, labels).prop_map(|(place, people, nature, rare, life, labels)| {
            let id = |millis: u64| AgentId::from_parts(millis, [7; 10]).to_string();
            let at = |secs: Option<i64>| secs.map(|secs| Timestamp::from_secs(secs).into());
            let metadata = wire::Metadata {
                namespace: place.0,
                name: place.1,
                id: id(place.2),
                version: place.3,
                create_time: at(Some(5)),
                labels,
                ..wire::Metadata::default()
            };
            let spec = wire::AgentSpec {
                agent_class: "workers".into(),
                owners: people.0,
                sponsors: people.1,
                manager: people.2,
                regions: nature.0,
                data_classifications: nature.1,
                protocols: nature.2,
                framework: nature.3,
                model: nature.4,
                version: nature.5,
                environment: nature.6,
                risk_tier: nature.7,
                display_name: rare.0,
                external_id: rare.1,
                expire_time: at(life.2),
                ..wire::AgentSpec::default()
            };
            let status = wire::AgentStatus {
                state: life.0,
                lifecycle_version: life.1,
                authorization_cutoff: at(life.3),
                ancestors: rare.2.into_iter().map(id).collect(),
                ..wire::AgentStatus::default()
            };
            wire::Agent { metadata: Some(metadata), spec: Some(spec), status: Some(status) }
        })
    }

    fn said(texts: &Texts) -> Vec<String> {
        texts.iter().map(|text| text.to_string()).collect()
    }

    /// What the record says, in the words of the declaration.
    fn unpacked(agent: &Agent) -> wire::Agent {
        let number = |words: &[&str], word| (1..).zip(words).find(|(_, known)| **known == word).map_or(0, |(n, _)| n);
        let metadata = wire::Metadata {
            namespace: agent.label.namespace.to_string(),
            name: agent.label.name.to_string(),
            id: agent.id.to_string(),
            version: agent.label.version,
            create_time: Some(agent.label.created.into()),
            labels: agent.labels.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<BTreeMap<_, _>>(),
            ..wire::Metadata::default()
        };
        let (nature, names) = (&agent.nature, agent.names.clone().unwrap_or_default());
        let spec = wire::AgentSpec {
            agent_class: agent.class.to_string(),
            owners: said(&agent.people.owners),
            sponsors: said(&agent.people.sponsors),
            manager: agent.people.manager.to_string(),
            regions: said(&nature.regions),
            data_classifications: said(&nature.data_classifications),
            protocols: said(&nature.protocols),
            framework: nature.framework.to_string(),
            model: nature.model.to_string(),
            version: nature.version.to_string(),
            environment: number(&["dev", "test", "prod"], nature.environment),
            risk_tier: number(&["low", "medium", "high", "critical"], nature.risk_tier),
            display_name: names.display_name.to_string(),
            external_id: names.external_id.to_string(),
            expire_time: agent.expires.map(Into::into),
            ..wire::AgentSpec::default()
        };
        let states = [
            AgentState::PendingApproval,
            AgentState::Staged,
            AgentState::Active,
            AgentState::Suspended,
            AgentState::Quarantined,
            AgentState::Expired,
            AgentState::Retired,
        ];
        let status = wire::AgentStatus {
            state: (1..).zip(states).find(|(_, state)| *state == agent.state).map_or(0, |(n, _)| n),
            lifecycle_version: agent.lifecycle_version,
            authorization_cutoff: agent.cutoff.map(Into::into),
            ancestors: agent.ancestors.iter().map(ToString::to_string).collect(),
            ..wire::AgentStatus::default()
        };
        wire::Agent { metadata: Some(metadata), spec: Some(spec), status: Some(status) }
    }

    proptest! {
        /// Whoever else is held, and whatever is shared with them: a record says what was declared, and nothing of another's.
        #[test]
        fn a_record_says_what_was_declared(all in prop::collection::vec(declared(), 1..20)) {
            let shared = Interner::new();
            let held: Vec<Agent> = all.iter().map(|one| convert::agent(one, &shared).unwrap()).collect();
            for (agent, declared) in held.iter().zip(&all) {
                prop_assert_eq!(&unpacked(agent), declared);
            }
        }
    }
}
