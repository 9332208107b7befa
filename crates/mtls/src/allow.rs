//! Whom of a trust domain one lets in, or believes to be the right server: a list of SPIFFE IDs.

use std::sync::Arc;

use legate_ids::{BadSpiffeId, Name, Principal, SpiffeId};

/// Who may be at the other end. Nobody is on an empty list, and who is not on the list is refused in the handshake.
///
/// The trust domain is not on it: certificates of others are refused before it is looked at.
#[derive(Clone, Debug, Default)]
pub struct Allow(Arc<Vec<Rule>>);

#[derive(Clone, Debug)]
enum Rule {
    Id(SpiffeId),
    AgentsOf(Name),
    Anyone,
}

impl Allow {
    /// Nobody, to begin a list with.
    #[must_use]
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Everybody whom the workloads' CA of the trust domain has certified. Right where somebody else decides, as a guard that asks
    /// policy-decision does, and nowhere else.
    #[must_use]
    pub fn anyone() -> Self {
        Self::nobody().with(Rule::Anyone)
    }

    /// A list of SPIFFE IDs from their texts.
    ///
    /// # Errors
    /// When one is no SPIFFE ID.
    pub fn ids<T: AsRef<str>>(ids: impl IntoIterator<Item = T>) -> Result<Self, BadSpiffeId> {
        ids.into_iter().try_fold(Self::nobody(), |all, id| Ok(all.id(SpiffeId::parse(id.as_ref())?)))
    }

    /// This one as well. An agent's id without instance stands for every instance of the agent, with one for that instance alone.
    #[must_use]
    pub fn id(self, id: SpiffeId) -> Self {
        self.with(Rule::Id(id))
    }

    /// Every agent of a namespace as well.
    #[must_use]
    pub fn agents_of(self, namespace: Name) -> Self {
        self.with(Rule::AgentsOf(namespace))
    }

    fn with(mut self, rule: Rule) -> Self {
        Arc::make_mut(&mut self.0).push(rule);
        self
    }

    /// Whether it is on the list.
    #[must_use]
    pub fn has(&self, id: &SpiffeId) -> bool {
        self.0.iter().any(|rule| match rule {
            Rule::Anyone => true,
            Rule::Id(listed) => listed == id || *listed == id.without_instance(),
            Rule::AgentsOf(listed) => {
                matches!(Principal::of(id), Ok(Principal::Agent { namespace, .. }) if namespace == *listed)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_ids::{AgentId, InstanceId, TrustDomain};

    #[test]
    fn a_list_means_what_it_names() {
        let domain = TrustDomain::parse("example.org").unwrap();
        let name = |text: &str| Name::parse(text).unwrap();
        let (one, two) = (AgentId::from_parts(1, [1; 10]), AgentId::from_parts(1, [2; 10]));
        let copy = |n| InstanceId::from_parts(1, [n; 10]);
        let agent = SpiffeId::agent(&domain, &name("pay"), &one);
        let first = SpiffeId::instance(&domain, &name("pay"), &one, &copy(1));
        let second = SpiffeId::instance(&domain, &name("pay"), &one, &copy(2));
        let other = SpiffeId::agent(&domain, &name("pay"), &two);
        let namesake = SpiffeId::agent(&domain, &name("payments"), &one);
        let point = SpiffeId::enforcer(&domain, &name("pay"), &name("tools"));
        let all = [&agent, &first, &second, &other, &namesake, &point];
        let of = |allow: Allow| all.map(|id| allow.has(id));
        assert_eq!(of(Allow::nobody()), [false; 6]);
        assert_eq!(of(Allow::anyone()), [true; 6]);
        assert_eq!(of(Allow::nobody().id(agent.clone())), [true, true, true, false, false, false]);
        assert_eq!(of(Allow::nobody().id(first.clone())), [false, true, false, false, false, false]);
        assert_eq!(of(Allow::nobody().agents_of(name("pay"))), [true, true, true, true, false, false]);
        assert_eq!(of(Allow::ids([point.as_str(), other.as_str()]).unwrap()), [false, false, false, true, false, true]);
        assert!(Allow::ids(["spiffe://example.org/ns/pay/", "x"]).is_err());
    }
}
