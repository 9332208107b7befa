//! Agents made by agents: how far, how many, for how long, and how they are found again.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use legate_clock::Timestamp;
use legate_wire::registry as wire;
use wire::declaration::Object;
use wire::{Agent, AgentClassSpec, Kind, NamespaceSpec};

use super::kind::Key;

/// How deep agents may make agents, whatever is declared.
pub(crate) const DEEPEST: u32 = 8;
/// How many one agent may have where nothing is declared.
const USUAL_CHILDREN: u32 = 16;
/// How many one agent may have, whatever is declared.
pub(crate) const MOST_CHILDREN: u32 = 64;
/// How many there may be below one agent of an operator's: they are retired with it in one write.
pub(crate) const MOST_BELOW: u64 = 256;
/// The shortest life that can be asked for.
pub(crate) const SHORTEST: Duration = Duration::from_secs(60);

/// What a new agent goes beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMuch {
    /// The namespace lets no agent make agents.
    Off,
    /// It would be deeper than this.
    Deep(u32),
    /// Its maker has this many already.
    Children(u32),
    /// There are this many below the one at the top already.
    Below,
}

/// How many agents one may have made that are not retired.
pub(crate) fn most_children(namespace: &NamespaceSpec) -> u32 {
    match namespace.max_children {
        0 => USUAL_CHILDREN,
        most => most.min(MOST_CHILDREN),
    }
}

/// Whether there is room for one more at `depth`, below a maker with `children` and a top with `below`.
pub(crate) fn room(namespace: &NamespaceSpec, depth: usize, children: usize, below: usize) -> Result<(), TooMuch> {
    let deepest = namespace.max_spawn_depth.min(DEEPEST);
    let fits = |count: usize, most: u64| u64::try_from(count).is_ok_and(|count| count < most);
    if deepest == 0 {
        return Err(TooMuch::Off);
    }
    if !fits(depth, u64::from(deepest) + 1) {
        return Err(TooMuch::Deep(deepest));
    }
    let most = most_children(namespace);
    if !fits(children, most.into()) {
        return Err(TooMuch::Children(most));
    }
    if !fits(below, MOST_BELOW) {
        return Err(TooMuch::Below);
    }
    Ok(())
}

/// When agents were made within the last minute, by the one at the top: each leaves a tombstone, so that ending them at once
/// to make others must not fill the database. Whoever lets them live as long as the shortest life never meets this bound.
#[derive(Debug, Default)]
pub(crate) struct Pace(HashMap<String, VecDeque<Timestamp>>);

impl Pace {
    /// Whether one more may be made below `top` at `now`; then it counts.
    pub(crate) fn allows(&mut self, top: &str, now: Timestamp) -> bool {
        self.allows_of(MOST_BELOW, top, now)
    }

    /// The same for what there may be `most` of in a minute.
    pub(crate) fn allows_of(&mut self, most: u64, top: &str, now: Timestamp) -> bool {
        let since = now.minus(SHORTEST);
        self.0.retain(|_, made| {
            made.retain(|at| *at > since);
            !made.is_empty()
        });
        let made = self.0.entry(top.to_owned()).or_default();
        let allowed = u64::try_from(made.len()).is_ok_and(|count| count < most);
        if allowed {
            made.push_back(now);
        }
        allowed
    }
}

/// The end of a new agent that shall live `ttl`; no later than those above it end, no longer than its class lets one live.
pub(crate) fn end(
    now: Timestamp,
    ttl: Duration,
    above: Option<Timestamp>,
    class: &AgentClassSpec,
) -> Result<Timestamp, String> {
    if ttl < SHORTEST {
        return Err("is shorter than 1 minute".into());
    }
    let longest = class.default_expiry.and_then(|life| Duration::try_from(life).ok());
    if let Some(longest) = longest
        && ttl > longest
    {
        return Err(format!("is longer than the class lets an agent live, {} s", longest.as_secs()));
    }
    let end = now.plus(ttl);
    match above {
        Some(above) if end > above => Err(format!("goes beyond {above}, when the agent or one above it ends")),
        _ => Ok(end),
    }
}

/// The new agent: everything that nobody asks for is its maker's.
pub(crate) fn heir(maker: &Agent, name: String, purpose: String, display_name: String) -> Agent {
    let (spec, metadata) = (maker.spec.clone().unwrap_or_default(), maker.metadata.clone().unwrap_or_default());
    Agent {
        metadata: Some(wire::Metadata {
            name,
            namespace: metadata.namespace,
            // Policies may speak of labels, and forbid something to them.
            labels: metadata.labels,
            ..wire::Metadata::default()
        }),
        spec: Some(wire::AgentSpec {
            purpose,
            display_name,
            parent: metadata.id,
            external_id: String::new(),
            charter: None,
            expire_time: None,
            ceiling: Vec::new(),
            ..spec
        }),
        status: None,
    }
}

/// Where the children of an agent are found.
pub(crate) fn child_of(namespace: &str, id: &str) -> Key {
    // No name and no id has a colon.
    Key::new(Kind::Agent, namespace, &format!("child-of:{id}"))
}

/// Where everybody below an agent is found.
pub(crate) fn below(namespace: &str, id: &str) -> Key {
    Key::new(Kind::Agent, namespace, &format!("below:{id}"))
}

/// Where those who were below an agent and are retired are found.
pub(crate) fn was_below(namespace: &str, id: &str) -> Key {
    Key::new(Kind::Agent, namespace, &format!("was-below:{id}"))
}

/// Under what a retired agent is found: what it did was done for those above it, who are needed for that.
pub(crate) fn found_retired(declaration: &wire::Declaration) -> Vec<Key> {
    let Some(Object::Agent(agent)) = &declaration.object else { return Vec::new() };
    let namespace = agent.metadata.as_ref().map(|m| m.namespace.as_str()).unwrap_or_default();
    agent.status.iter().flat_map(|status| &status.ancestors).map(|id| was_below(namespace, id)).collect()
}

/// Where the revocation of a certificate is found, by the SHA-256 of its DER.
pub(crate) fn certificate(x5t_s256: &[u8]) -> Key {
    let hex: String = x5t_s256.iter().map(|b| format!("{b:02x}")).collect();
    Key::new(Kind::Revocation, "", &format!("certificate:{hex}"))
}

/// Where the grants are found by which agents act for a person or for a group of people.
pub(crate) fn delegated_by(namespace: &str, who: &str) -> Key {
    Key::new(Kind::DelegationGrant, namespace, &format!("from:{who}"))
}

/// Where the bindings are found that name a person, or a group of people.
pub(crate) fn bound_to(namespace: &str, who: &str) -> Key {
    Key::new(Kind::RoleBinding, namespace, &format!("for:{who}"))
}

/// Under what an object is found beside what it names.
pub(crate) fn found_under(declaration: &wire::Declaration) -> Vec<Key> {
    match &declaration.object {
        Some(Object::Agent(agent)) => {
            let namespace = agent.metadata.as_ref().map(|m| m.namespace.as_str()).unwrap_or_default();
            let ancestors = agent.status.as_ref().map(|status| status.ancestors.as_slice()).unwrap_or_default();
            let maker = ancestors.first().map(|id| child_of(namespace, id));
            maker.into_iter().chain(ancestors.iter().map(|id| below(namespace, id))).collect()
        }
        Some(Object::Revocation(revocation)) => {
            let x5t_s256 = revocation.spec.as_ref().map(|spec| spec.x5t_s256.as_slice()).unwrap_or_default();
            if x5t_s256.is_empty() { Vec::new() } else { vec![certificate(x5t_s256)] }
        }
        Some(Object::DelegationGrant(grant)) => {
            let namespace = grant.metadata.as_ref().map(|m| m.namespace.as_str()).unwrap_or_default();
            let from = grant.spec.as_ref().map(|spec| spec.delegator.as_str()).unwrap_or_default();
            let is_of_people = from.starts_with("user:") || from.starts_with("group:");
            is_of_people.then(|| delegated_by(namespace, from)).into_iter().collect()
        }
        Some(Object::RoleBinding(binding)) => {
            let namespace = binding.metadata.as_ref().map(|m| m.namespace.as_str()).unwrap_or_default();
            let users = binding.spec.as_ref().map(|spec| spec.users.as_slice()).unwrap_or_default();
            users.iter().map(|who| bound_to(namespace, who)).collect()
        }
        Some(Object::Approval(approval)) => {
            let namespace = approval.metadata.as_ref().map(|m| m.namespace.as_str()).unwrap_or_default();
            let agent = approval.spec.as_ref().map(|spec| super::approval::of_agent(namespace, &spec.agent_id));
            agent.into_iter().collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::samples;
    use super::*;

    #[test]
    fn there_is_room_up_to_the_bounds() {
        let of =
            |max_spawn_depth, max_children| NamespaceSpec { max_spawn_depth, max_children, ..NamespaceSpec::default() };
        assert_eq!(room(&of(0, 0), 1, 0, 0), Err(TooMuch::Off));
        assert_eq!(room(&of(1, 0), 1, 15, 0), Ok(()));
        assert_eq!(room(&of(1, 0), 2, 0, 0), Err(TooMuch::Deep(1)));
        assert_eq!(room(&of(1, 0), 1, 16, 0), Err(TooMuch::Children(16)));
        assert_eq!(room(&of(1, 2), 1, 2, 0), Err(TooMuch::Children(2)));
        assert_eq!(room(&of(99, 99), 8, 63, 255), Ok(()));
        assert_eq!(room(&of(99, 99), 9, 0, 0), Err(TooMuch::Deep(8)));
        assert_eq!(room(&of(99, 99), 1, 64, 0), Err(TooMuch::Children(64)));
        assert_eq!(room(&of(8, 64), 1, 0, 256), Err(TooMuch::Below));
    }

    #[test]
    fn as_many_are_made_in_a_minute_as_may_be_there_at_once() {
        let (mut pace, at) = (Pace::default(), Timestamp::from_secs);
        assert!((0..MOST_BELOW).all(|_| pace.allows("agt_a", at(100))));
        assert!(!pace.allows("agt_a", at(159)) && pace.allows("agt_b", at(159)));
        assert!(pace.allows("agt_a", at(160)));
        assert!(pace.allows("agt_c", at(1_000)));
        assert_eq!(pace.0.len(), 1, "who makes none is forgotten");
    }

    #[test]
    fn nobody_lives_longer_than_whoever_is_above() {
        let (at, secs) = (Timestamp::from_secs, Duration::from_secs);
        let class = AgentClassSpec::default();
        assert_eq!(end(at(100), secs(60), None, &class), Ok(at(160)));
        assert_eq!(end(at(100), secs(60), Some(at(160)), &class), Ok(at(160)));
        assert!(end(at(100), secs(61), Some(at(160)), &class).is_err());
        assert!(end(at(100), secs(59), None, &class).is_err());
        let class = AgentClassSpec {
            default_expiry: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
            ..AgentClassSpec::default()
        };
        assert_eq!(end(at(100), secs(90), None, &class), Ok(at(190)));
        assert!(end(at(100), secs(91), None, &class).is_err());
    }

    #[test]
    fn an_heir_has_its_makers_answerers_and_nothing_of_its_rights() {
        let mut maker = samples::agent();
        maker.metadata.as_mut().unwrap().id = "agt_x".into();
        let heir = heir(&maker, "small-bot".into(), "counts".into(), String::new());
        let (of_maker, spec) = (maker.spec.unwrap(), heir.spec.unwrap());
        assert_eq!((spec.owners, spec.sponsors, spec.manager), (of_maker.owners, of_maker.sponsors, of_maker.manager));
        assert_eq!((spec.agent_class, spec.environment), (of_maker.agent_class, of_maker.environment));
        assert_eq!((spec.parent.as_str(), spec.purpose.as_str()), ("agt_x", "counts"));
        assert!(spec.ceiling.is_empty() && spec.expire_time.is_none() && heir.status.is_none());
        let metadata = heir.metadata.unwrap();
        assert_eq!((metadata.name.as_str(), metadata.namespace.as_str()), ("small-bot", "payments"));
        assert!(metadata.id.is_empty() && metadata.annotations.is_empty());
        assert_eq!(metadata.labels, maker.metadata.unwrap().labels);
    }

    #[test]
    fn everybody_above_finds_it_and_only_its_maker_as_a_child() {
        let mut agent = samples::agent();
        assert!(found_under(&samples::declared(Object::Agent(agent.clone()))).is_empty());
        agent.status.get_or_insert_default().ancestors = vec!["agt_b".into(), "agt_a".into()];
        let found = found_under(&samples::declared(Object::Agent(agent)));
        let names: Vec<_> = found.iter().map(|key| key.name.as_str()).collect();
        assert_eq!(names, ["child-of:agt_b", "below:agt_b", "below:agt_a"]);
    }
}
