//! What the rules remember from leaf to leaf, which rests with the index as bytes under a name.

use std::collections::BTreeMap;

use prost::Message;

use super::KEEP;
use super::fact::{Action, Fact, What};
use super::replica::SERVICES;
use crate::domain::text::key;

/// The log's own time, and what is held against its next moment.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Clock {
    #[prost(int64, tag = "1")]
    pub(crate) time: i64,
    #[prost(message, repeated, tag = "2")]
    pub(crate) ahead: Vec<Ahead>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) spoken: Vec<Spoken>,
    /// The hour that `spoken` is up to.
    #[prost(int64, tag = "4")]
    pub(crate) hour: i64,
}

/// The latest event of an emitter since the log's time.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Ahead {
    #[prost(string, tag = "1")]
    pub(crate) emitter: String,
    #[prost(int64, tag = "2")]
    pub(crate) time: i64,
    #[prost(uint64, tag = "3")]
    pub(crate) leaf: u64,
    #[prost(string, tag = "4")]
    pub(crate) namespace: String,
}

/// In which of the last 64 hours a service told anything; the lowest bit is the running hour.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Spoken {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
    #[prost(uint64, tag = "2")]
    pub(crate) hours: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) last_leaf: u64,
    #[prost(bool, tag = "4")]
    pub(crate) is_silent: bool,
    /// Whether it tells that it lives.
    #[prost(bool, tag = "5")]
    pub(crate) has_heartbeats: bool,
    /// The log's time when it told something last.
    #[prost(int64, tag = "6")]
    pub(crate) heard: i64,
}

/// An agent, as the registry and the issuer told of it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Agent {
    /// Whether the registry ever told of it.
    #[prost(bool, tag = "1")]
    pub(crate) is_registered: bool,
    #[prost(string, tag = "2")]
    pub(crate) namespace: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) turns: Vec<Turn>,
    /// What was issued up to this moment works no longer.
    #[prost(int64, tag = "4")]
    pub(crate) cut_off: i64,
    #[prost(uint64, tag = "5")]
    pub(crate) cut_off_leaf: u64,
    #[prost(message, repeated, tag = "6")]
    pub(crate) holds: Vec<Held>,
    #[prost(message, repeated, tag = "7")]
    pub(crate) ended: Vec<Ended>,
}

/// It became active, or ceased to be.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Turn {
    #[prost(int64, tag = "1")]
    pub(crate) time: i64,
    #[prost(uint64, tag = "2")]
    pub(crate) leaf: u64,
    #[prost(string, tag = "3")]
    pub(crate) state: String,
}

/// A lasting credential that it was given.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Held {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) instance: String,
    #[prost(int64, tag = "3")]
    pub(crate) from: i64,
    #[prost(int64, tag = "4")]
    pub(crate) until: i64,
    #[prost(int64, optional, tag = "5")]
    pub(crate) revoked: Option<i64>,
}

/// A running copy that was taken back.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Ended {
    #[prost(string, tag = "1")]
    pub(crate) instance: String,
    #[prost(int64, tag = "2")]
    pub(crate) time: i64,
    #[prost(uint64, tag = "3")]
    pub(crate) leaf: u64,
}

/// A credential under one of its names.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Credential {
    /// Whether the issuer ever told of it.
    #[prost(bool, tag = "1")]
    pub(crate) is_issued: bool,
    #[prost(string, tag = "2")]
    pub(crate) agent: String,
    #[prost(string, tag = "3")]
    pub(crate) instance: String,
    #[prost(int64, tag = "4")]
    pub(crate) from: i64,
    #[prost(int64, tag = "5")]
    pub(crate) until: i64,
    #[prost(uint64, tag = "6")]
    pub(crate) leaf: u64,
    #[prost(int64, optional, tag = "7")]
    pub(crate) revoked: Option<i64>,
    #[prost(uint64, tag = "8")]
    pub(crate) revoked_leaf: u64,
    /// Where it was used last.
    #[prost(string, tag = "9")]
    pub(crate) workload: String,
    #[prost(int64, tag = "10")]
    pub(crate) used: i64,
    #[prost(uint64, tag = "11")]
    pub(crate) used_leaf: u64,
}

impl Credential {
    /// The log's time at which it is forgotten.
    pub(crate) fn forgotten(&self) -> i64 {
        self.until.max(self.used).max(self.revoked.unwrap_or(0)) + KEEP
    }
}

/// How far one epoch of an emitter has come.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Producer {
    #[prost(uint64, tag = "1")]
    pub(crate) last: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) leaf: u64,
}

/// An emitter that signs what it tells.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Signer {
    /// The last event that it signed.
    #[prost(uint64, tag = "1")]
    pub(crate) leaf: u64,
    /// The epoch of which it was found that it does not; empty: none.
    #[prost(string, tag = "2")]
    pub(crate) unsigned: String,
}

/// The copies of a service that are listened to.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Replicas {
    #[prost(message, repeated, tag = "1")]
    pub(crate) all: Vec<Replica>,
}

/// One copy of a service.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Replica {
    /// The epoch that is its own; empty: it shares a numbering with others.
    #[prost(string, tag = "1")]
    pub(crate) epoch: String,
    /// Where it runs, as it says.
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// The log's time when it told something last.
    #[prost(int64, tag = "3")]
    pub(crate) heard: i64,
    #[prost(uint64, tag = "4")]
    pub(crate) last_leaf: u64,
    /// When it told it, by its own clock.
    #[prost(int64, tag = "5")]
    pub(crate) told: i64,
    #[prost(bool, tag = "6")]
    pub(crate) is_silent: bool,
}

/// How far each epoch of a service has told, by its own clock.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Mark {
    #[prost(message, repeated, tag = "1")]
    pub(crate) epochs: Vec<EpochMark>,
}

/// One epoch.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct EpochMark {
    #[prost(string, tag = "1")]
    pub(crate) epoch: String,
    #[prost(int64, tag = "2")]
    pub(crate) time: i64,
    /// The log's time when it told something last.
    #[prost(int64, tag = "3")]
    pub(crate) seen: i64,
}

/// What an agent usually does.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Habit {
    /// When its first act of this version was.
    #[prost(int64, tag = "1")]
    pub(crate) since: i64,
    #[prost(uint64, tag = "2")]
    pub(crate) acts: u64,
    /// Hashes of actions and types of resources that it did.
    #[prost(fixed64, repeated, tag = "3")]
    pub(crate) seen: Vec<u64>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) hours: Vec<Hour>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) denials: Vec<Denial>,
    /// The hour that was found to be unusual last.
    #[prost(int64, tag = "6")]
    pub(crate) unusual: i64,
}

/// Decisions about it in one hour.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Hour {
    #[prost(int64, tag = "1")]
    pub(crate) hour: i64,
    #[prost(uint64, tag = "2")]
    pub(crate) count: u64,
}

/// It was denied something.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Denial {
    #[prost(int64, tag = "1")]
    pub(crate) time: i64,
    #[prost(uint64, tag = "2")]
    pub(crate) leaf: u64,
}

/// Under what something is remembered: a kind, and a name of that kind.
pub(crate) type Key = (i16, String);

const CLOCK: i16 = 1;
const AGENT: i16 = 2;
const CREDENTIAL: i16 = 3;
const ACTION: i16 = 4;
const PRODUCER: i16 = 5;
const MARK: i16 = 6;
const HABIT: i16 = 7;
const SIGNER: i16 = 8;
const REPLICAS: i16 = 9;

/// Something that is remembered, as it rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    pub(crate) key: Key,
    /// The log's time from which on it is looked at; `None`: when it is named.
    pub(crate) due: Option<i64>,
    pub(crate) value: Vec<u8>,
}

/// What is remembered of whatever some leaves touch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Memory {
    pub(crate) clock: Clock,
    pub(crate) agents: BTreeMap<String, Agent>,
    pub(crate) credentials: BTreeMap<String, Credential>,
    /// Actions that wait, by their leaves.
    pub(crate) actions: BTreeMap<u64, Action>,
    pub(crate) producers: BTreeMap<String, Producer>,
    pub(crate) marks: BTreeMap<String, Mark>,
    pub(crate) habits: BTreeMap<String, Habit>,
    /// Those that sign, by their SPIFFE IDs.
    pub(crate) signers: BTreeMap<String, Signer>,
    /// By the names of their services.
    pub(crate) replicas: BTreeMap<String, Replicas>,
}

/// The name of one epoch of an emitter.
pub(crate) fn producer(emitter: &str, epoch: &str) -> String {
    key(&format!("{epoch} {emitter}"))
}

/// A leaf as a name.
fn leaf(at: u64) -> String {
    format!("{at:020}")
}

/// The kind of what waits to be judged.
pub(crate) const WAITING: i16 = ACTION;

/// What is remembered under which names, for these facts.
pub(crate) fn touched(facts: &[Fact]) -> Vec<Key> {
    let mut keys = vec![(CLOCK, String::new())];
    keys.extend(SERVICES.iter().flat_map(|service| [MARK, REPLICAS].map(|kind| (kind, (*service).to_owned()))));
    for fact in facts {
        keys.push((PRODUCER, producer(&fact.emitter, &fact.epoch)));
        keys.push((SIGNER, fact.emitter.clone()));
        let agent = || (AGENT, fact.agent.clone());
        match &fact.what {
            What::Agent { .. } => keys.extend([agent(), (HABIT, fact.agent.clone())]),
            What::Issued { names, .. } | What::Revoked { names, .. } => {
                keys.push(agent());
                keys.extend(names.iter().map(|name| (CREDENTIAL, name.clone())));
            }
            What::Decided(_) | What::RetiredUsed { .. } => keys.push((HABIT, fact.agent.clone())),
            What::Executed(action) => keys.extend(of_action(action)),
            What::Opened { previous, .. } => keys.push((PRODUCER, producer(&fact.emitter, previous))),
            What::Own(_)
            | What::Signature
            | What::Heartbeat { .. }
            | What::Left { .. }
            | What::Closed
            | What::Forged(_)
            | What::Other => {}
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

/// What has to be remembered to judge an action.
pub(crate) fn of_action(action: &Action) -> Vec<Key> {
    let agents = std::iter::once(&action.agent).chain(&action.chain).map(|agent| (AGENT, agent.clone()));
    agents.chain(action.credentials.iter().map(|name| (CREDENTIAL, name.clone()))).collect()
}

/// The action that rests here.
pub(crate) fn waiting(rest: &Rest) -> Option<Action> {
    (rest.key.0 == ACTION).then(|| Action::decode(rest.value.as_slice()).ok()).flatten()
}

impl Memory {
    /// Whether somebody's silence would be found.
    pub(crate) fn is_listening(&self) -> bool {
        self.clock.spoken.iter().any(|one| one.has_heartbeats && !one.is_silent)
    }

    /// Remembers what rested. What cannot be read is forgotten.
    pub(crate) fn wake(&mut self, rests: &[Rest]) {
        fn read<T: Message + Default>(rest: &Rest) -> T {
            T::decode(rest.value.as_slice()).unwrap_or_default()
        }
        for rest in rests {
            let name = || rest.key.1.clone();
            match rest.key.0 {
                CLOCK => self.clock = read(rest),
                AGENT => drop(self.agents.insert(name(), read(rest))),
                CREDENTIAL => drop(self.credentials.insert(name(), read(rest))),
                ACTION => {
                    let action: Action = read(rest);
                    self.actions.insert(action.leaf, action);
                }
                PRODUCER => drop(self.producers.insert(name(), read(rest))),
                MARK => drop(self.marks.insert(name(), read(rest))),
                HABIT => drop(self.habits.insert(name(), read(rest))),
                SIGNER => drop(self.signers.insert(name(), read(rest))),
                REPLICAS => drop(self.replicas.insert(name(), read(rest))),
                _ => {}
            }
        }
    }

    /// Everything, as it rests.
    pub(crate) fn rests(&self) -> BTreeMap<Key, Rest> {
        fn rest(kind: i16, name: &str, due: Option<i64>, value: &impl Message) -> (Key, Rest) {
            let key = (kind, name.to_owned());
            (key.clone(), Rest { key, due, value: value.encode_to_vec() })
        }
        let mut all = BTreeMap::from([rest(CLOCK, "", None, &self.clock)]);
        all.extend(self.agents.iter().map(|(name, one)| rest(AGENT, name, None, one)));
        all.extend(self.credentials.iter().map(|(name, one)| rest(CREDENTIAL, name, Some(one.forgotten()), one)));
        all.extend(self.actions.iter().map(|(at, one)| rest(ACTION, &leaf(*at), Some(one.due), one)));
        all.extend(self.producers.iter().map(|(name, one)| rest(PRODUCER, name, None, one)));
        all.extend(self.marks.iter().map(|(name, one)| rest(MARK, name, None, one)));
        all.extend(self.habits.iter().map(|(name, one)| rest(HABIT, name, None, one)));
        all.extend(self.signers.iter().map(|(name, one)| rest(SIGNER, name, None, one)));
        let replicas = self.replicas.iter().filter(|(_, one)| !one.all.is_empty());
        all.extend(replicas.map(|(name, one)| rest(REPLICAS, name, None, one)));
        all
    }
}
