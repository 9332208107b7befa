//! Made-up logs: writers that tell at the same time, in which things go wrong by a chance that is the same in every run.

use std::collections::BTreeMap;

use legate_clock::Timestamp;
use legate_ids::{AgentId, EventId};
use legate_wire::audit::{AlertType, AuditEvent, Emitter, EventDecision, EventResource, Outcome};
use prost::Message as _;

pub(super) const REGISTRY: &str = "spiffe://example.org/legate/registry";
const ISSUER: &str = "spiffe://example.org/legate/credential-issuer";
const DECISION: &str = "spiffe://example.org/legate/policy-decision";
const COLLECTOR: &str = "spiffe://example.org/legate/audit-collector";
const START: i64 = 1_800_000_000;
const SECOND: i64 = 1_000_000;

/// A chance that comes the same every time.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most as u64).unwrap()
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

/// What is wrong with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wrong {
    /// One before it is missing.
    AfterDropped,
    Again,
    Late,
    Forged,
    NoDecision,
    DespiteDenial,
    UnknownAgent,
    StoppedAgent,
    RevokedCredential,
    NoCredential,
    Shared,
    StrangeChain,
}

impl Wrong {
    pub(super) fn alert(self) -> AlertType {
        match self {
            Self::AfterDropped => AlertType::EmitterGap,
            Self::Again | Self::Late => AlertType::EmitterRepeat,
            Self::Forged => AlertType::ForgedEvent,
            Self::NoDecision => AlertType::ActionWithoutDecision,
            Self::DespiteDenial => AlertType::ActionDespiteDenial,
            Self::UnknownAgent => AlertType::ActionByUnknownAgent,
            Self::StoppedAgent => AlertType::ActionByStoppedAgent,
            Self::RevokedCredential => AlertType::RevokedCredentialUsed,
            Self::NoCredential => AlertType::ActionWithoutCredential,
            Self::Shared => AlertType::CredentialShared,
            Self::StrangeChain => AlertType::UnknownChain,
        }
    }

    /// Whether what follows from it is about the same leaf.
    pub(super) fn is_of_its_leaf(self) -> bool {
        matches!(self, Self::UnknownAgent | Self::StoppedAgent)
    }

    /// What follows from it besides.
    pub(super) fn consequences(self) -> &'static [AlertType] {
        match self {
            // What is not there can be a decision or a token; and what comes late leaves a gap first.
            Self::AfterDropped => &[AlertType::ActionWithoutDecision, AlertType::ActionWithoutCredential],
            Self::Late => &[AlertType::EmitterGap],
            Self::UnknownAgent => &[AlertType::ActionWithoutCredential, AlertType::ActionWithoutDecision],
            Self::StoppedAgent => &[AlertType::ActionWithoutDecision, AlertType::ActionWithoutCredential],
            _ => &[],
        }
    }
}

/// An event on its way.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) event: AuditEvent,
    /// Which writer tells it.
    writer: usize,
    pub(super) wrong: Vec<Wrong>,
    /// What was lost in front of it.
    pub(super) lost: Option<AuditEvent>,
}

fn at(event: &AuditEvent) -> i64 {
    Timestamp::try_from(event.time.unwrap()).unwrap().micros()
}

fn agent(n: u8) -> String {
    AgentId::from_parts(1, [n; 10]).to_string()
}

fn told(writer: usize, time: i64, kind: &str, agent_id: String) -> Told {
    let event = AuditEvent {
        time: Some(Timestamp::from_micros(time).into()),
        r#type: kind.into(),
        namespace: "payments".into(),
        agent_id,
        outcome: Outcome::Success.into(),
        ..AuditEvent::default()
    };
    Told { event, writer, wrong: Vec::new(), lost: None }
}

impl Told {
    fn with(mut self, details: &[(&str, &str)]) -> Self {
        self.event.details.extend(details.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        self
    }

    fn on(mut self, action: &str, id: &str) -> Self {
        self.event.action = action.into();
        self.event.resource =
            Some(EventResource { r#type: "Invoice".into(), id: id.into(), ..EventResource::default() });
        self
    }

    fn decided(mut self, id: &str, is_allowed: bool) -> Self {
        self.event.decision =
            Some(EventDecision { decision_id: id.into(), allowed: is_allowed, ..EventDecision::default() });
        if !is_allowed {
            self.event.outcome = Outcome::Denied.into();
        }
        self
    }

    fn wrong(mut self, wrong: Wrong) -> Self {
        self.wrong.push(wrong);
        self
    }
}

/// Registry, issuer, two replicas of policy-decision, three enforcement points; the collector last.
const WRITERS: [(&str, &str); 8] = [
    (REGISTRY, "r1"),
    (ISSUER, "i1"),
    (DECISION, "p1"),
    (DECISION, "p2"),
    ("spiffe://example.org/ns/payments/enforcer/a", "e1"),
    ("spiffe://example.org/ns/payments/enforcer/b", "e1"),
    ("spiffe://example.org/ns/payments/enforcer/c", "e1"),
    (COLLECTOR, "log"),
];
const OWN: usize = 7;

fn created(n: u8, time: i64) -> [Told; 2] {
    let until = Timestamp::from_micros(time + 86_400 * 4 * SECOND).to_string();
    let mut credential = told(1, time + SECOND, "credential.issued", agent(n))
        .with(&[("serial", &format!("0{n}")), ("not_after", &until)]);
    credential.event.credential_id = format!("cred_{n}");
    [told(0, time, "agent.created", agent(n)).with(&[("state", "ACTIVE")]), credential]
}

fn token(name: &str, n: u8, time: i64) -> Told {
    let until = Timestamp::from_micros(time + 300 * SECOND).to_string();
    let mut token = told(1, time, "token.issued", agent(n)).with(&[("expires", &until)]);
    token.event.resource =
        Some(EventResource { r#type: "AccessToken".into(), id: name.into(), ..EventResource::default() });
    token
}

/// So many actions of six agents, each with all that it needs.
pub(super) fn clean(chance: &mut Chance, actions: usize) -> Vec<Told> {
    let mut all: Vec<Told> = (1..=6).flat_map(|n| created(n, START * SECOND)).collect();
    let mut time = (START + 60) * SECOND;
    for n in 0..actions {
        time += SECOND + i64::try_from(chance.below(2_000_000)).unwrap();
        let who = u8::try_from(1 + chance.below(6)).unwrap();
        let (id, what) = (format!("dec_{n}"), ["invoice:read", "invoice:pay"][chance.below(2)]);
        let on = format!("inv-{}", chance.below(40));
        let writer = 2 + chance.below(2);
        let name = format!("tok_{n}");
        let by_token = chance.one_in(2);
        if by_token {
            all.push(token(&name, who, time - SECOND));
        }
        all.push(told(writer, time, "decision.made", agent(who)).on(what, &on).decided(&id, true));
        let after = i64::try_from(chance.below(3_000_000)).unwrap();
        let mut done = told(4 + chance.below(3), time + after, "action.executed", agent(who)).on(what, &on);
        // Some say which decision they rest on, and some do not.
        if !chance.one_in(3) {
            done = done.decided(&id, true);
        }
        if by_token {
            done = done.with(&[("token_id", &name), ("workload", &format!("pod-{who}"))]);
        }
        all.push(done);
    }
    all
}

/// Adds what nobody allowed, and what nobody may tell.
pub(super) fn spoil(all: &mut Vec<Told>, chance: &mut Chance) {
    let last = all.iter().map(|one| at(&one.event)).max().unwrap();
    let times = usize::try_from((last - START * SECOND) / SECOND - 100).unwrap();
    for n in 0..3 {
        let mut when = || (START + 60 + i64::try_from(chance.below(times)).unwrap()) * SECOND;
        let done = |time, who: String| told(4, time, "action.executed", who).on("invoice:pay", &format!("rogue-{n}"));
        all.push(done(when(), agent(1)).on(&format!("rogue:none{n}"), "x").wrong(Wrong::NoDecision));
        all.push(done(when(), agent(90)).on(&format!("rogue:stranger{n}"), "x").wrong(Wrong::UnknownAgent));
        let time = when();
        let id = format!("dec_denied_{n}");
        all.push(told(2, time, "decision.made", agent(2)).on("vault:open", &id).decided(&id, false));
        all.push(done(time + SECOND, agent(2)).on("vault:open", &id).decided(&id, false).wrong(Wrong::DespiteDenial));
        let last = all.len() - 1;
        all[last].event.outcome = Outcome::Success.into();
        let forged = told(5, when(), "decision.made", agent(3)).on("vault:open", "x").decided("dec_forged", true);
        all.push(forged.wrong(Wrong::Forged));
        all.push(told(2, when(), "agent.created", agent(91)).wrong(Wrong::Forged));

        // Each with a decision of its own, so that one thing alone is wrong with it.
        let mut allowed = |who: u8, time: i64, name: &str| {
            let id = format!("dec_{name}_{n}");
            all.push(told(3, time, "decision.made", agent(who)).on(name, &id).decided(&id, true));
            told(6, time + SECOND, "action.executed", agent(who)).on(name, &id).decided(&id, true)
        };
        let time = when();
        let revoked = format!("tok_revoked_{n}");
        let used = allowed(3, time + 30 * SECOND, "revoked:use").with(&[("token_id", &revoked)]);
        let none = allowed(4, when(), "unknown:use").with(&[("token_id", &format!("tok_never_{n}"))]);
        let shared = format!("tok_shared_{n}");
        let here = allowed(4, time, "shared:use").with(&[("token_id", &shared), ("workload", "pod-4")]);
        let there =
            allowed(4, time + 20 * SECOND, "shared:use").with(&[("token_id", &shared), ("workload", "elsewhere")]);
        let mut chained = allowed(5, when(), "chain:use");
        chained.event.chain = vec![agent(5), agent(6)];
        all.push(token(&revoked, 3, time - SECOND));
        let mut end = told(1, time + 5 * SECOND, "token.revoked", agent(3));
        end.event.resource =
            Some(EventResource { r#type: "AccessToken".into(), id: revoked, ..EventResource::default() });
        all.push(end);
        all.push(used.wrong(Wrong::RevokedCredential));
        all.push(none.wrong(Wrong::NoCredential));
        all.push(token(&shared, 4, time - SECOND));
        all.push(here);
        all.push(there.wrong(Wrong::Shared));
        all.push(chained.wrong(Wrong::StrangeChain));
    }
    // One agent is stopped, and goes on.
    all.extend(created(7, START * SECOND));
    let stop = last - 100 * SECOND;
    all.push(told(0, stop, "agent.suspended", agent(7)).with(&[("state", "SUSPENDED")]));
    let after = told(4, stop + 20 * SECOND, "action.executed", agent(7)).on("invoice:read", "inv-1");
    all.push(after.wrong(Wrong::StoppedAgent));
}

/// The events as they come to the log: each writer's in order, those of different ones as it happens, and the log's own time.
pub(super) fn arrange(mut all: Vec<Told>, chance: &mut Chance) -> Vec<Told> {
    all.sort_by_key(|one| at(&one.event));
    let mut arrived: Vec<(i64, Told)> = Vec::new();
    let mut last = [0; WRITERS.len()];
    for one in all {
        // Concurrent writers are up to ten seconds behind.
        let lag = i64::try_from(chance.below(10_000_000)).unwrap();
        last[one.writer] = last[one.writer].max(at(&one.event) + lag);
        arrived.push((last[one.writer], one));
    }
    let end = arrived.iter().map(|(at, _)| *at).max().unwrap() + 700 * SECOND;
    let mut tick = START * SECOND;
    while tick < end {
        arrived.push((tick, told(OWN, tick, "log.ticked", String::new())));
        tick += 5 * SECOND;
    }
    arrived.sort_by_key(|(at, _)| *at);
    let mut all: Vec<Told> = arrived.into_iter().map(|(_, one)| one).collect();
    number(&mut all);
    all
}

/// Gives each event its emitter, and its number there.
fn number(all: &mut [Told]) {
    let mut next: BTreeMap<usize, u64> = BTreeMap::new();
    for one in all {
        let seq = next.entry(one.writer).or_insert(0);
        *seq += 1;
        let (spiffe_id, epoch) = WRITERS[one.writer];
        one.event.emitter = Some(Emitter { spiffe_id: spiffe_id.into(), epoch: epoch.into(), seq: *seq });
        one.event.event_id = EventId::from_parts(*seq, [u8::try_from(one.writer).unwrap(); 10]).to_string();
    }
}

/// One in a hundred is lost, comes twice, or comes late; not what is wrong already.
pub(super) fn disorder(all: Vec<Told>, chance: &mut Chance) -> Vec<Told> {
    let mut out: Vec<Told> = Vec::new();
    let mut dropped = [const { None }; WRITERS.len()];
    let mut late: Vec<Told> = Vec::new();
    let mut held = [false; WRITERS.len()];
    for mut one in all {
        let writer = one.writer;
        let may = one.wrong.is_empty() && writer != OWN && writer >= 2 && dropped[writer].is_none() && !held[writer];
        match chance.below(300) {
            0 if may => dropped[writer] = Some(one.event),
            1 if may => {
                let again = one.clone().wrong(Wrong::Again);
                out.push(one);
                out.push(again);
            }
            2 if may => {
                held[writer] = true;
                late.push(one.wrong(Wrong::Late));
            }
            _ => {
                if let Some(lost) = dropped[writer].take() {
                    one = Told { lost: Some(lost), ..one.wrong(Wrong::AfterDropped) };
                }
                out.push(one);
                if std::mem::take(&mut held[writer]) {
                    let at = late.iter().position(|one| one.writer == writer).unwrap();
                    out.push(late.remove(at));
                }
            }
        }
    }
    if let Some(last) = out.last_mut() {
        last.lost = dropped.into_iter().flatten().next().or(last.lost.take());
    }
    out
}

/// The leaves of a log.
pub(super) fn leaves(all: &[Told]) -> Vec<(u64, Vec<u8>)> {
    (0u64..).zip(all.iter().map(|one| one.event.encode_to_vec())).collect()
}

/// A log that is told by hand.
#[derive(Debug)]
pub(super) struct Scene {
    all: Vec<Told>,
    now: i64,
    next: usize,
}

impl Scene {
    pub(super) fn new() -> Self {
        let mut scene = Self { all: Vec::new(), now: START * SECOND, next: 0 };
        scene.pass(1);
        scene
    }

    fn tell(&mut self, one: Told) -> u64 {
        self.all.push(one);
        self.all.len() as u64 - 1
    }

    pub(super) fn agent(&mut self, n: u8) {
        for one in created(n, self.now) {
            self.tell(one);
        }
        self.pass(10);
    }

    pub(super) fn new_version(&mut self, n: u8) {
        self.tell(
            told(0, self.now, "agent.updated", agent(n)).with(&[("state", "ACTIVE"), ("spec.version", "1 -> 2")]),
        );
    }

    /// The log's time goes on.
    pub(super) fn pass(&mut self, seconds: i64) {
        let end = self.now + seconds * SECOND;
        while self.now < end {
            self.now = (self.now + 100 * SECOND).min(end);
            self.tell(told(OWN, self.now, "log.ticked", String::new()));
        }
    }

    pub(super) fn act_without_decision(&mut self, n: u8, action: &str) {
        self.tell(told(4, self.now, "action.executed", agent(n)).on(action, "x"));
    }

    /// Somebody tells of agents, actions and credentials that nobody ever heard of.
    pub(super) fn make_up(&mut self, n: u8) {
        let one = told(4, self.now, "action.executed", agent(100 + n)).on(&format!("made:up{n}"), &n.to_string());
        self.tell(one.with(&[("token_id", &format!("tok_{n}")), ("workload", &format!("pod-{n}"))]));
    }

    pub(super) fn decide(&mut self, n: u8, action: &str, is_allowed: bool) -> u64 {
        self.next += 1;
        let id = format!("dec_{}", self.next);
        let one = told(2, self.now, "decision.made", agent(n)).on(action, "x").decided(&id, is_allowed);
        self.tell(one)
    }

    /// By a clock that is ahead.
    pub(super) fn decide_ahead(&mut self, n: u8, seconds: i64) -> u64 {
        let leaf = self.decide(n, "invoice:read", true);
        let at = usize::try_from(leaf).unwrap();
        self.all[at].event.time = Some(Timestamp::from_micros(self.now + seconds * SECOND).into());
        leaf
    }

    /// A service tells that it lives, each minute for so many, while the log's time goes on.
    pub(super) fn beat(&mut self, writers: &[usize], minutes: i64) -> u64 {
        let mut last = 0;
        for _ in 0..minutes {
            for writer in writers {
                last = self.tell(told(*writer, self.now, "emitter.heartbeat", String::new()));
            }
            self.pass(60);
        }
        last
    }

    /// Copies of services tell something of themselves: by which writer, what, and who they are.
    pub(super) fn copies(&mut self, kind: &str, copies: &[(usize, &str)]) -> u64 {
        let mut last = 0;
        for (writer, replica) in copies {
            last = self.tell(told(*writer, self.now, kind, String::new()).with(&[("replica", replica)]));
        }
        last
    }

    /// A spool began anew, after an epoch that did not end in order.
    pub(super) fn opened_after(&mut self, (writer, replica): (usize, &str), previous: &str) -> u64 {
        let opened = told(writer, self.now, "spool.opened", String::new());
        self.tell(opened.with(&[("replica", replica), ("previous_epoch", previous)]))
    }

    /// A copy tells something that waited for so many seconds.
    pub(super) fn late(&mut self, kind: &str, (writer, replica): (usize, &str), seconds: i64) -> u64 {
        let time = self.now - seconds * SECOND;
        self.tell(told(writer, time, kind, String::new()).with(&[("replica", replica)]))
    }

    /// The collector is not there for so long.
    pub(super) fn be_away(&mut self, seconds: i64) {
        self.now += seconds * SECOND;
    }

    pub(super) fn own(&mut self, kind: &str, alert: &str, why: &str) -> u64 {
        let mut one = told(OWN, self.now, kind, String::new()).with(&[("alert_id", alert)]);
        one.event.reason = why.into();
        self.tell(one)
    }

    /// The collector refused what an agent offered.
    pub(super) fn refused(&mut self, n: u8, reason: &str) -> u64 {
        let mut one = told(OWN, self.now, "batch.refused", agent(n)).with(&[("why", "as it is told")]);
        one.event.actor = format!("spiffe://example.org/ns/payments/agent/{}", agent(n));
        one.event.reason_code = reason.into();
        one.event.outcome = Outcome::Denied.into();
        self.tell(one)
    }

    pub(super) fn forged_resolution(&mut self, alert: &str) {
        self.tell(told(0, self.now, "alert.resolved", String::new()).with(&[("alert_id", alert)]));
    }

    pub(super) fn leaves(&self) -> Vec<(u64, Vec<u8>)> {
        let mut all = self.all.clone();
        number(&mut all);
        leaves(&all)
    }
}
