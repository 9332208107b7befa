//! What is shown of a process to credential-issuer, and which attestation policies that could meet.

use std::sync::Arc;

use legate_ids::SpiffeId;
use legate_token::TokenFact;
use legate_wire::registry::{AttestationSelector, AttestationSelectorType as Type};

use crate::attest::{Attested, ProcessToken};
use crate::knowledge::Entitlement;

/// Everything that is known of a process at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shown {
    /// What was seen of it.
    pub(crate) selectors: Arc<[AttestationSelector]>,
    /// The tokens that its platform gave it.
    pub(crate) tokens: Arc<[ProcessToken]>,
    /// Who asks for it; `None`: it does so itself.
    pub(crate) broker: Option<Broker>,
}

/// A process that was attested itself, and asks for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broker {
    /// Its agent, without instance.
    pub(crate) agent: SpiffeId,
    pub(crate) instance_id: String,
}

/// What a token has to say for a selector; `None`: it is not of a token.
fn fact_of(of: Type) -> Option<TokenFact> {
    match of {
        Type::KubernetesServiceAccount => Some(TokenFact::KubernetesServiceAccount),
        Type::KubernetesNamespace => Some(TokenFact::KubernetesNamespace),
        Type::KubernetesPodUid => Some(TokenFact::KubernetesPodUid),
        Type::OidcIssuer => Some(TokenFact::Issuer),
        Type::OidcSubject => Some(TokenFact::Subject),
        Type::OidcClaim => Some(TokenFact::Claim),
        _ => None,
    }
}

/// Whether it is seen of a process itself, and neither said by a token nor by a broker.
pub(crate) fn is_seen(of: Type) -> bool {
    fact_of(of).is_none() && !matches!(of, Type::BrokerAgent | Type::BrokerSandbox)
}

impl Shown {
    /// Of what was attested, and of who asks and by which name; that name is a selector of its own.
    pub(crate) fn of(attested: &Attested, broker: Option<(Broker, Option<AttestationSelector>)>) -> Self {
        let (selectors, tokens) = (Arc::clone(&attested.selectors), Arc::clone(&attested.tokens));
        match broker {
            None => Self { selectors, tokens, broker: None },
            Some((broker, None)) => Self { selectors, tokens, broker: Some(broker) },
            Some((broker, Some(name))) => {
                let selectors = selectors.iter().cloned().chain([name]).collect();
                Self { selectors, tokens, broker: Some(broker) }
            }
        }
    }

    /// The same process as it was attested again, asked for as before.
    pub(crate) fn again(&self, attested: &Attested) -> Self {
        let name = self.selectors.iter().find(|one| one.r#type() == Type::BrokerSandbox);
        Self::of(attested, self.broker.clone().map(|broker| (broker, name.cloned())))
    }

    /// Whether the hash of its program is known.
    pub(crate) fn has_hash(&self) -> bool {
        self.selectors.iter().any(|one| one.r#type() == Type::UnixSha256)
    }

    /// What the broker calls it; empty: nothing.
    pub(crate) fn sandbox(&self) -> &str {
        let name = self.selectors.iter().find(|one| one.r#type() == Type::BrokerSandbox);
        name.map_or("", |one| &one.value)
    }

    /// Whether everything that the policy asks for is there. What a token says is judged by credential-issuer; here it is only looked
    /// for, so that nobody is asked for what cannot be. What a broker asks for meets only policies that name that broker.
    pub(crate) fn meets(&self, by: &Entitlement) -> bool {
        let seen = |one: &AttestationSelector| match one.r#type() {
            Type::BrokerAgent => true,
            of => fact_of(of).is_some() || self.selectors.contains(one),
        };
        let broker = self.broker.as_ref().map(|broker| &broker.agent);
        let names_one = by.selectors.iter().any(|one| one.r#type() == Type::BrokerAgent);
        !by.selectors.is_empty()
            && names_one == broker.is_some()
            && (!names_one || by.broker.as_ref() == broker)
            && by.selectors.iter().all(seen)
            && (!asks_for_a_token(by) || self.token_for(by).is_some())
    }

    /// The token that the policy asks for.
    pub(crate) fn token_for(&self, by: &Entitlement) -> Option<&ProcessToken> {
        if !asks_for_a_token(by) {
            return None;
        }
        let says = |token: &&ProcessToken| {
            let said = |one: &AttestationSelector| {
                fact_of(one.r#type()).is_none_or(|fact| token.claims.would_say(fact, &one.value))
            };
            by.selectors.iter().all(said)
        };
        self.tokens.iter().find(says)
    }
}

fn asks_for_a_token(by: &Entitlement) -> bool {
    by.selectors.iter().any(|one| fact_of(one.r#type()).is_some())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::attest::tests_of_tokens::token;
    use crate::knowledge::tests::{entitlement, selector};

    const ISSUER: &str = r#""iss":"https://c""#;

    fn shown(tokens: &[&str], broker: Option<&str>) -> Shown {
        let agent = |id: &str| SpiffeId::parse(&format!("spiffe://dev.legate/ns/a/agent/{id}")).unwrap();
        Shown {
            selectors: [selector(Type::UnixUid, "1000"), selector(Type::BrokerSandbox, "run-1")].into(),
            tokens: tokens.iter().map(|claims| token(claims)).collect(),
            broker: broker.map(|id| Broker { agent: agent(id), instance_id: "inst_1".into() }),
        }
    }

    #[test]
    fn a_policy_is_met_by_what_was_seen_and_what_one_token_says() {
        let asked = [
            selector(Type::UnixUid, "1000"),
            selector(Type::OidcIssuer, "https://c"),
            selector(Type::OidcSubject, "a"),
        ];
        let by = entitlement(&asked, None);
        let good = format!(r#"{{{ISSUER},"sub":"a"}}"#);
        assert!(shown(&[&good], None).meets(&by));
        assert!(!shown(&[], None).meets(&by), "no token");
        // Of two tokens neither says it all.
        let halves = [r#"{"iss":"https://d","sub":"a"}"#, r#"{"iss":"https://c","sub":"b"}"#];
        assert!(!shown(&halves, None).meets(&by));
        let both = shown(&[halves[0], &good], None);
        assert_eq!(both.token_for(&by), Some(&both.tokens[1]));
        let other = entitlement(&[selector(Type::UnixUid, "1001"), asked[1].clone(), asked[2].clone()], None);
        assert!(!shown(&[&good], None).meets(&other));
        // A policy that asks for no token is shown none.
        assert_eq!(shown(&[&good], None).token_for(&entitlement(&asked[..1], None)), None);
    }

    #[test]
    fn what_a_broker_asks_for_is_only_what_names_it() {
        let agents = ["agt_01jzzzzzzzfzz8zzzzzzzzzzzz", "agt_01jzzzzzzzfzz8zzzzzzzzzzz0"];
        let asked = [selector(Type::UnixUid, "1000"), selector(Type::BrokerAgent, "launcher")];
        let by = entitlement(&asked, Some(agents[0]));
        assert!(shown(&[], Some(agents[0])).meets(&by));
        assert!(!shown(&[], Some(agents[1])).meets(&by), "another broker");
        assert!(!shown(&[], None).meets(&by), "the process itself, whatever it runs");
        let own = entitlement(&asked[..1], None);
        assert!(shown(&[], None).meets(&own) && !shown(&[], Some(agents[0])).meets(&own));
        // The broker that a policy names is gone.
        assert!(!shown(&[], Some(agents[0])).meets(&entitlement(&asked, None)));
        let labelled = |label| entitlement(&[asked[1].clone(), selector(Type::BrokerSandbox, label)], Some(agents[0]));
        assert!(shown(&[], Some(agents[0])).meets(&labelled("run-1")));
        assert!(!shown(&[], Some(agents[0])).meets(&labelled("run-2")));
    }
}
