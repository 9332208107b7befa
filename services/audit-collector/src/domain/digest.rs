//! What agents used, as leaves say it: added up for whoever keeps the sum, without any person's name.

use std::collections::{BTreeMap, BTreeSet};

use legate_clock::Timestamp;
use legate_wire::audit::{AuditEvent, Outcome};

use super::detect::fact::{DECISION, ISSUER, Services};
use super::question::plain;
use super::text::key;

/// Days of one row that are told: a year, a quarter's job that follows, and room.
pub(crate) const DAYS: usize = 448;

/// Bytes of a resource's id that is told; more may have been any resource.
const LONGEST_ID: usize = 256;
/// Stands for a resource that is not told.
const ANY: &str = "*";

/// Agents of one chain that are credited; an event's lists are bounded by its size alone.
const CHAIN: usize = 64;

const DAY: i64 = 24 * 3_600 * 1_000_000;

/// How an agent came to use something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Own,
    ForPerson,
    ForAgent,
    /// Another did it on its behalf.
    Through,
}

/// What was used, by whom and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Used {
    pub(crate) agent_id: String,
    pub(crate) action: String,
    pub(crate) resource_type: String,
    /// `*` where the id is too long to be told.
    pub(crate) resource_id: String,
    pub(crate) way: Way,
}

/// How often, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) count: i64,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    /// How often on each day since 1970.
    days: BTreeMap<i64, i64>,
}

impl Tally {
    fn at(time: Timestamp) -> Self {
        Self { count: 0, first: time, last: time, days: BTreeMap::new() }
    }

    fn add(&mut self, by: i64, time: Timestamp) {
        self.count += by;
        (self.first, self.last) = (self.first.min(time), self.last.max(time));
        *self.days.entry(time.micros().div_euclid(DAY)).or_default() += by;
    }

    /// The days on which something is left of it, in order, the newest of them.
    pub(crate) fn days(&self) -> Vec<i64> {
        let used: Vec<i64> = self.days.iter().filter(|(_, count)| **count > 0).map(|(day, _)| *day).collect();
        used[used.len().saturating_sub(DAYS)..].to_vec()
    }

    /// Whether nothing is left to tell: what was allowed was not said.
    fn is_nothing(&self) -> bool {
        self.count == 0 && self.days().is_empty()
    }
}

/// What else is told of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OfAgent {
    pub(crate) denied: u64,
    pub(crate) obtained: Option<Timestamp>,
}

/// A service that began anew after an end that was none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) spiffe_id: String,
    pub(crate) after: Option<Timestamp>,
    pub(crate) before: Timestamp,
}

/// What some leaves come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) used: BTreeMap<Used, Tally>,
    pub(crate) agents: BTreeMap<String, OfAgent>,
    pub(crate) grants: BTreeMap<String, Tally>,
    /// The latest time that each service told of.
    pub(crate) emitters: BTreeMap<String, Timestamp>,
    pub(crate) losses: Vec<Loss>,
}

impl Digest {
    /// Takes in the event of one leaf. Nobody's word counts but that of the services that decide and that issue.
    pub(crate) fn take(&mut self, event: &AuditEvent, services: &Services) {
        let Some(emitter) = event.emitter.as_ref().map(|emitter| emitter.spiffe_id.as_str()) else { return };
        let Some(time) = event.time.and_then(|t| Timestamp::try_from(t).ok()) else { return };
        let name = services.name(emitter);
        match (name, event.r#type.as_str()) {
            (Some(DECISION), "decision.made") => self.decided(event, 1, time),
            (Some(DECISION), "decision.withdrawn") => self.decided(event, -1, time),
            (Some(DECISION), "spool.opened") => {
                let torn = event.details.get("torn_bytes").and_then(|text| text.parse().ok()).unwrap_or(0u64);
                if torn > 0 {
                    // Of several replicas under one name, only the spool itself knows when its own last record was made.
                    let said = event.details.get("previous_last_time").and_then(|text| Timestamp::parse_rfc3339(text));
                    let after = said.or_else(|| self.emitters.get(emitter).copied());
                    self.losses.push(Loss { spiffe_id: emitter.to_owned(), after, before: time });
                }
            }
            (Some(ISSUER), "credential.issued" | "token.issued" | "token.exchanged")
                if is_done(event) && event.agent_id.starts_with("agt_") =>
            {
                let of = self.agents.entry(key(&event.agent_id)).or_default();
                of.obtained = of.obtained.max(Some(time));
            }
            _ => {}
        }
        if matches!(name, Some(DECISION | ISSUER)) {
            let last = self.emitters.entry(emitter.to_owned()).or_insert(time);
            *last = (*last).max(time);
        }
    }

    fn decided(&mut self, event: &AuditEvent, by: i64, time: Timestamp) {
        if !event.agent_id.starts_with("agt_") {
            return;
        }
        if !is_done(event) {
            let of = self.agents.entry(key(&event.agent_id)).or_default();
            of.denied = of.denied.saturating_add(u64::from(by > 0));
            return;
        }
        let subject = plain(&event.subject);
        let way = match subject.as_str() {
            "" => Way::Own,
            agent if agent.starts_with("agt_") => Way::ForAgent,
            _ => Way::ForPerson,
        };
        let resource_type = event.resource.as_ref().map(|r| key(&r.r#type)).unwrap_or_default();
        let id = event.resource.as_ref().map(|r| r.id.as_str()).unwrap_or_default();
        let is_told = (1..=LONGEST_ID).contains(&id.len()) && !id.contains('\0');
        let resource_id = if is_told { id } else { ANY };
        let mut count = |agent: &str, way| {
            let (agent_id, action) = (key(agent), key(&event.action));
            let (resource_type, resource_id) = (resource_type.clone(), resource_id.to_owned());
            let used = Used { agent_id, action, resource_type, resource_id, way };
            self.used.entry(used).or_insert_with(|| Tally::at(time)).add(by, time);
        };
        count(&event.agent_id, way);
        // What an agent may do is needed where another acts on its behalf, too.
        let links = event.chain.iter().take(CHAIN).map(|link| plain(link)).chain([subject]);
        let others: BTreeSet<String> =
            links.filter(|link| link.starts_with("agt_") && *link != event.agent_id).collect();
        others.iter().for_each(|other| count(other, Way::Through));
        let named = event.details.get("grants").map(String::as_str).unwrap_or_default().split_whitespace();
        let grants: BTreeSet<String> =
            named.take(CHAIN).chain([event.grant_id.as_str()]).filter(|one| !one.is_empty()).map(key).collect();
        for grant in grants {
            self.grants.entry(grant).or_insert_with(|| Tally::at(time)).add(by, time);
        }
    }

    /// Leaves out of what nothing is left.
    pub(crate) fn settle(&mut self) {
        self.used.retain(|_, tally| !tally.is_nothing());
        self.grants.retain(|_, tally| !tally.is_nothing());
    }
}

fn is_done(event: &AuditEvent) -> bool {
    event.outcome == i32::from(Outcome::Success)
}

#[cfg(test)]
mod tests {
    use super::*;
    use legate_wire::audit::{Emitter, EventResource};
    use proptest::prelude::*;

    const HOUSE: &str = "spiffe://example.org/legate/";

    fn services() -> Services {
        Services::beside(&format!("{HOUSE}registry"))
    }

    fn event(service: &str, kind: &str, agent: &str, secs: i64) -> AuditEvent {
        AuditEvent {
            emitter: Some(Emitter { spiffe_id: format!("{HOUSE}{service}"), ..Emitter::default() }),
            r#type: kind.into(),
            agent_id: agent.into(),
            time: Some(Timestamp::from_secs(secs).into()),
            action: "invoice:read".into(),
            resource: Some(EventResource { r#type: "Invoice".into(), ..EventResource::default() }),
            outcome: Outcome::Success.into(),
            ..AuditEvent::default()
        }
    }

    fn digest(events: &[AuditEvent]) -> Digest {
        let mut digest = Digest::default();
        events.iter().for_each(|event| digest.take(event, &services()));
        digest.settle();
        digest
    }

    #[test]
    fn whoever_is_needed_for_an_act_is_credited_and_nobody_else() {
        let mut acted = event("policy-decision", "decision.made", "agt_c", 90_000);
        acted.subject = "agt_a".into();
        acted.chain = vec!["agt_c".into(), "agt_b".into(), "user:#1".into()];
        acted.grant_id = "g1".into();
        acted.details.insert("grants".into(), "g1 g2".into());
        let digest = digest(&[acted]);
        let ways: Vec<_> = digest.used.keys().map(|used| (used.agent_id.as_str(), used.way)).collect();
        assert_eq!(ways, [("agt_a", Way::Through), ("agt_b", Way::Through), ("agt_c", Way::ForAgent)]);
        assert_eq!(digest.grants.keys().collect::<Vec<_>>(), ["g1", "g2"]);
        assert!(digest.used.values().all(|tally| tally.count == 1 && tally.days() == [1]));
    }

    #[test]
    fn each_resource_is_counted_by_itself_and_one_whose_id_is_long_may_be_any() {
        let of = |id: &str| {
            let resource = Some(EventResource { r#type: "Invoice".into(), id: id.into(), ..EventResource::default() });
            AuditEvent { resource, ..event("policy-decision", "decision.made", "agt_a", 5) }
        };
        let long = "x".repeat(257);
        let digest = digest(&[of("apollo/1"), of("apollo/2"), of("apollo/1"), of(&long), of(""), of("a\0b")]);
        let told: Vec<_> = digest.used.iter().map(|(used, tally)| (used.resource_id.as_str(), tally.count)).collect();
        assert_eq!(told, [("*", 3), ("apollo/1", 2), ("apollo/2", 1)]);
    }

    #[test]
    fn what_was_not_said_is_not_used_and_strangers_say_nothing() {
        let made = event("policy-decision", "decision.made", "agt_a", 5);
        let withdrawn = event("policy-decision", "decision.withdrawn", "agt_a", 6);
        assert!(digest(&[made.clone(), withdrawn.clone()]).used.is_empty());
        // In another stretch than what it takes back: one less, on no day.
        let less = digest(&[withdrawn]);
        assert!(less.used.values().all(|tally| tally.count == -1 && tally.days().is_empty()) && less.used.len() == 1);
        let forged = event("registry", "decision.made", "agt_a", 5);
        let foreign = AuditEvent { emitter: None, ..made.clone() };
        let of_agent = AuditEvent {
            emitter: Some(Emitter { spiffe_id: "spiffe://example.org/ns/a/agent/agt_a".into(), ..Emitter::default() }),
            ..made.clone()
        };
        assert_eq!(digest(&[forged, foreign, of_agent]), Digest::default());
        let denied = AuditEvent { outcome: Outcome::Denied.into(), ..made };
        let digest = digest(&[denied.clone(), denied]);
        assert!(digest.used.is_empty() && digest.agents["agt_a"].denied == 2);
    }

    #[test]
    fn a_torn_spool_is_a_loss_after_what_was_told_last() {
        let mut opened = event("policy-decision", "spool.opened", "", 50);
        assert!(digest(std::slice::from_ref(&opened)).losses.is_empty());
        opened.details.insert("torn_bytes".into(), "7".into());
        let told = event("policy-decision", "decision.made", "agt_a", 20);
        let at = Timestamp::from_secs;
        let losses = digest(&[told, opened.clone()]).losses;
        assert_eq!((losses[0].after, losses[0].before), (Some(at(20)), at(50)));
        assert_eq!(digest(std::slice::from_ref(&opened)).losses[0].after, None);
        // Another replica went on meanwhile: the gap begins where this one's records end.
        let other = event("policy-decision", "decision.made", "agt_a", 49);
        opened.details.insert("previous_last_time".into(), at(20).to_string());
        assert_eq!(digest(&[other, opened]).losses[0].after, Some(at(20)));
        let issued = event("credential-issuer", "token.issued", "agt_a", 9);
        assert_eq!(digest(&[issued]).agents["agt_a"].obtained, Some(at(9)));
    }

    proptest! {
        /// However the leaves are cut into stretches, the counts add up to those of the whole.
        #[test]
        fn stretches_add_up(
            acts in prop::collection::vec((0i64..5, 0i64..4 * 86_400, any::<bool>()), 0..60),
            at in 0usize..60,
        ) {
            let events: Vec<AuditEvent> = acts
                .iter()
                .map(|(agent, secs, said)| {
                    let kind = if *said { "decision.made" } else { "decision.withdrawn" };
                    event("policy-decision", kind, &format!("agt_{agent}"), *secs)
                })
                .collect();
            let (one, two) = events.split_at(at.min(events.len()));
            let mut sum: BTreeMap<Used, i64> = BTreeMap::new();
            for part in [digest(one), digest(two)] {
                part.used.iter().for_each(|(used, tally)| *sum.entry(used.clone()).or_default() += tally.count);
            }
            sum.retain(|_, count| *count != 0);
            let mut whole: BTreeMap<Used, i64> =
                digest(&events).used.into_iter().map(|(used, tally)| (used, tally.count)).collect();
            whole.retain(|_, count| *count != 0);
            prop_assert_eq!(sum, whole);
        }
    }
}
