//! An access token in the making: what was asked, cut to what the holder, its class and its certificate allow.

use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::{Actions, CredentialId, SpiffeId};
use legate_token::{Chain, Claims, Confirmation, Details, KeyId, Parent, Scope, Status, Subject, TokenError, Unsigned};

use super::cutoff::Of;
use super::holder::{Holder, LONGEST_TOKEN, USUAL_TOKEN};

/// The shortest life that can be asked for.
const SHORTEST_ASKED: Duration = Duration::from_secs(30);

/// What an agent asks, read and within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) audience: String,
    /// None: everything that it may say.
    pub(crate) actions: Actions,
    /// By what it is narrowed beside that.
    pub(crate) details: Details,
    pub(crate) ttl: Duration,
}

/// What would be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenPlan {
    /// Who gets it.
    pub(crate) holder: SpiffeId,
    pub(crate) claims: Claims,
    pub(crate) unsigned: Unsigned,
}

/// What a token rests on beside its holder.
#[derive(Clone, Debug)]
pub(crate) struct Base<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) kid: KeyId,
    pub(crate) token_id: [u8; 16],
    /// What the token is bound to.
    pub(crate) confirmation: Confirmation,
    /// The client secret or key by which it is obtained, or the certificate where it is not bound to that.
    pub(crate) credential: Option<CredentialId>,
    /// When what its holder proved itself by ends: a certificate, a secret, a key.
    pub(crate) proof_ends: Timestamp,
    /// For whom its holder acts; `None`: for itself.
    pub(crate) behalf: Option<Behalf>,
    /// Its place in a status list, where it has one.
    pub(crate) status: Option<Status>,
}

/// For whom the holder of a token acts, and what that rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Behalf {
    pub(crate) subject: Subject,
    /// With the holder as its newest.
    pub(crate) chain: Chain,
    /// When the first of what it rests on ends: the exchanged token, a grant, an agent that delegates.
    pub(crate) ends: Option<Timestamp>,
    /// The latest cut-off of the agents that delegate.
    pub(crate) cutoff: Option<Timestamp>,
}

/// A token that is exchanged, as far as what comes of it rests on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Before {
    pub(crate) subject: Subject,
    /// Who acted before.
    pub(crate) chain: Chain,
    /// The token, where it is one of this issuer.
    pub(crate) parent: Option<Parent>,
    pub(crate) scope: Scope,
    pub(crate) details: Details,
    pub(crate) ends: Timestamp,
}

impl Before {
    /// An access token of this issuer.
    pub(crate) fn of(claims: &Claims) -> Self {
        Self {
            subject: claims.subject.clone(),
            chain: claims.chain.clone(),
            parent: Some(Parent {
                token_id: claims.token_id.clone(),
                lifecycle_version: claims.lifecycle_version,
                confirmation: claims.confirmation,
                credential: claims.credential.clone(),
            }),
            scope: claims.scope.clone(),
            details: claims.details.clone(),
            ends: Timestamp::from_secs(i64::try_from(claims.expires_at).unwrap_or(i64::MAX)),
        }
    }

    /// The behalf of `actor`, who exchanges it by the grant of that id.
    pub(crate) fn then(&self, actor: SpiffeId, grant: String) -> Behalf {
        let mut chain = self.chain.clone();
        // RFC 8693 section 4.1: the newest actor is the outermost. A chain only grows.
        chain.actors.insert(0, actor);
        chain.grants.insert(0, grant);
        chain.parents.splice(0..0, self.parent.clone());
        Behalf { subject: self.subject.clone(), chain, ends: Some(self.ends), cutoff: None }
    }
}

/// Why nothing can be issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadToken {
    #[error("a token lives 30 s to 600 s")]
    Ttl,
    #[error("enforcement points get no tokens")]
    NotAnAgent,
    #[error("the agent, or its class or namespace, was cut off just now; what is issued at once would be dead")]
    TooSoon,
    #[error("the agent, or what it proved itself by, ends now")]
    TooShort,
    #[error("{0}")]
    Claims(#[from] TokenError),
}

/// How long the token shall live.
pub(crate) fn ttl(asked: Option<Duration>) -> Result<Duration, BadToken> {
    match asked {
        None => Ok(USUAL_TOKEN),
        Some(ttl) if (SHORTEST_ASKED..=LONGEST_TOKEN).contains(&ttl) => Ok(ttl),
        Some(_) => Err(BadToken::Ttl),
    }
}

/// Those of the agreed actions that were asked for, all of them where nothing was: whoever agrees can leave out, not add. `None`: nothing
/// is left.
pub(crate) fn narrow(asked: &Actions, agreed: &Actions) -> Option<Scope> {
    Scope::of(if asked.is_empty() { agreed.clone() } else { asked.meet(agreed) })
}

/// What is asked for of a token's scope: no more than the exchanged one has; `None`: nothing is left.
pub(crate) fn within(parent: &Scope, asked: &Actions) -> Option<Actions> {
    match parent {
        Scope::All => Some(asked.clone()),
        Scope::Actions(all) if asked.is_empty() => Some(all.clone()),
        Scope::Actions(all) => Some(asked.meet(all)).filter(|both| !both.is_empty()),
    }
}

/// The details of a token that is exchanged for another: those of that one where none are asked for, else what is asked for,
/// where each lies within one of those; `None`: it would be wider.
pub(crate) fn details_within(parent: &Details, asked: &Details) -> Option<Details> {
    if asked.is_empty() {
        return Some(parent.clone());
    }
    parent.include(asked).then(|| asked.clone())
}

/// Plans a token.
pub(crate) fn plan(
    holder: &Holder,
    wish: &Wish,
    scope: Scope,
    now: Timestamp,
    base: &Base<'_>,
) -> Result<TokenPlan, BadToken> {
    let agent = holder.agent.clone().ok_or(BadToken::NotAnAgent)?;
    let issued = Timestamp::from_secs(now.secs());
    let behalf = base.behalf.clone();
    let cutoffs = holder.cutoffs.with(Of::Subject, behalf.as_ref().and_then(|behalf| behalf.cutoff));
    if !cutoffs.spare(issued) {
        return Err(BadToken::TooSoon);
    }
    let longest = issued.plus(wish.ttl.min(holder.token_ttl).min(LONGEST_TOKEN));
    let of_behalf = behalf.as_ref().and_then(|behalf| behalf.ends);
    let ends = [base.proof_ends].into_iter().chain(holder.ends).chain(of_behalf).fold(longest, Timestamp::min);
    let seconds = |t: Timestamp| u64::try_from(t.secs()).unwrap_or(0);
    if seconds(ends) <= seconds(issued) {
        return Err(BadToken::TooShort);
    }
    let (subject, chain) = match behalf {
        Some(behalf) => (behalf.subject, behalf.chain),
        None => (Subject::Agent(holder.spiffe_id.clone()), Chain::default()),
    };
    let claims = Claims {
        issuer: base.issuer.to_owned(),
        audience: wish.audience.clone(),
        subject,
        issued_at: seconds(issued),
        expires_at: seconds(ends),
        token_id: hex(&base.token_id),
        scope,
        details: wish.details.clone(),
        lifecycle_version: holder.lifecycle_version,
        namespace: holder.namespace.clone(),
        agent,
        instance: holder.instance.clone(),
        chain,
        confirmation: base.confirmation,
        credential: base.credential.clone(),
        status: base.status.clone(),
    };
    let unsigned = Unsigned::new(&claims, base.kid.clone())?;
    Ok(TokenPlan { holder: holder.spiffe_id.clone(), claims, unsigned })
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::domain::cutoff::Cutoffs;
    use legate_ids::{ActionPattern, AgentId, Name, TrustDomain};
    use proptest::prelude::*;

    fn holder() -> Holder {
        let agent = AgentId::from_parts(1, [1; 10]);
        let namespace = Name::parse("payments").unwrap();
        Holder {
            spiffe_id: SpiffeId::agent(&TrustDomain::parse("example.org").unwrap(), &namespace, &agent),
            namespace,
            agent: Some(agent),
            instance: None,
            lifecycle_version: 4,
            cutoffs: Cutoffs::default(),
            ends: None,
            certificate_ttl: Duration::from_secs(3600),
            token_ttl: Duration::from_secs(300),
            max_instances: 100,
            means: crate::domain::holder::Means::of(None),
        }
    }

    #[test]
    fn a_scope_is_never_wider_than_asked_or_agreed() {
        let said = |asked: &[&str], agreed: &[&str]| {
            narrow(&actions(asked), &actions(agreed)).map_or_else(String::new, |scope| scope.to_string())
        };
        for (asked, agreed, expected) in [
            (&[][..], &["c", "a:*"][..], "c a:*"),
            (&["a", "b"], &["b", "c"], "b"),
            (&["a"], &["b", "c"], ""),
            (&[], &[], ""),
            (&["a:*", "b"], &["a:c", "a:b", "b:*"], "a:c a:b"),
            (&["a:b", "b"], &["*"], "a:b b"),
            (&["*"], &["a"], "a"),
            (&[], &["*"], "*"),
        ] {
            assert_eq!(said(asked, agreed), expected, "{asked:?} of {agreed:?}");
        }
    }

    #[test]
    fn only_sane_lifetimes_can_be_asked() {
        assert_eq!(ttl(None), Ok(USUAL_TOKEN));
        for (secs, good) in [(0, false), (29, false), (30, true), (600, true), (601, false)] {
            assert_eq!(ttl(Some(Duration::from_secs(secs))).is_ok(), good, "{secs}");
        }
    }

    fn spiffe(n: u8) -> SpiffeId {
        let (domain, namespace) = (TrustDomain::parse("example.org").unwrap(), Name::parse("payments").unwrap());
        SpiffeId::agent(&domain, &namespace, &AgentId::from_parts(1, [n; 10]))
    }

    fn actions(of: &[&str]) -> Actions {
        of.iter().map(|text| ActionPattern::parse(text).unwrap()).collect()
    }

    #[test]
    fn what_is_asked_in_exchange_is_never_wider_than_the_exchanged_token() {
        let narrow = Scope::Actions(actions(&["a", "b"]));
        assert_eq!(within(&Scope::All, &actions(&[])), Some(actions(&[])));
        assert_eq!(within(&Scope::All, &actions(&["a"])), Some(actions(&["a"])));
        assert_eq!(within(&narrow, &actions(&[])), Some(actions(&["a", "b"])), "to ask for nothing is no way out");
        assert_eq!(within(&narrow, &actions(&["b", "c"])), Some(actions(&["b"])));
        assert_eq!(within(&narrow, &actions(&["c"])), None);
        let pattern = Scope::Actions(actions(&["a:*"]));
        assert_eq!(within(&pattern, &actions(&["a:b", "b"])), Some(actions(&["a:b"])));
        assert_eq!(within(&pattern, &actions(&["*"])), Some(actions(&["a:*"])));
    }

    #[test]
    fn details_of_an_exchange_are_those_of_the_token_or_lie_within_them() {
        let of = |text: &str| Details::read(text).unwrap();
        let parent = of(r#"[{"type":"legate","actions":["a","b"],"identifier":"x/*"}]"#);
        let within = of(r#"[{"type":"legate","actions":["a"],"identifier":"x/1"}]"#);
        let wider = of(r#"[{"type":"legate","actions":["a"]}]"#);
        assert_eq!(details_within(&parent, &Details::default()), Some(parent.clone()), "to ask for none is no way out");
        assert_eq!(details_within(&parent, &within), Some(within.clone()));
        assert_eq!(details_within(&parent, &wider), None);
        assert_eq!(details_within(&Details::default(), &wider), Some(wider));
    }

    proptest! {
        /// Token for token: the chain grows by one, whoever is in it stays, and none outlives the one before it.
        #[test]
        fn each_exchange_lengthens_the_chain_and_shortens_the_life(
            lives in prop::collection::vec(30u64..=600, 2..=7), person: bool, cutoff in prop::option::of(-5i64..5),
        ) {
            let now = Timestamp::from_secs(1_800_000_000);
            let mut before: Option<(Before, u64)> = None;
            for (n, life) in lives.iter().enumerate() {
                let me = u8::try_from(n).unwrap() + 1;
                let holder = Holder { spiffe_id: spiffe(me), agent: Some(AgentId::from_parts(1, [me; 10])), ..holder() };
                let first = || Before {
                    subject: Subject::Person("ada".into()),
                    chain: Chain::default(),
                    parent: None,
                    scope: Scope::All,
                    details: Details::default(),
                    ends: now.plus(Duration::from_secs(250)),
                };
                let whom = before.clone().or_else(|| person.then(|| (first(), 1_800_000_250)));
                let behalf = whom.as_ref().map(|(whom, _)| Behalf {
                    cutoff: cutoff.map(|c| Timestamp::from_secs(now.secs() + c)),
                    ..whom.then(spiffe(me), format!("obj_{n}"))
                });
                let base = Base {
                    issuer: "https://issuer.example",
                    kid: KeyId::parse("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I").unwrap(),
                    token_id: [me; 16],
                    confirmation: Confirmation::Certificate([me; 32]),
                    credential: None,
                    status: None,
                    proof_ends: now.plus(Duration::from_secs(3_600)),
                    behalf,
                };
                let wish = Wish { audience: "https://a.example".into(), actions: Actions::default(), details: Details::default(), ttl: Duration::from_secs(*life) };
                let planned = plan(&holder, &wish, Scope::All, now, &base);
                if whom.is_some() && cutoff.is_some_and(|c| c >= 0) {
                    prop_assert_eq!(planned, Err(BadToken::TooSoon));
                    return Ok(());
                }
                let claims = planned.unwrap().claims;
                claims.check().unwrap();
                if let Some((whom, ends)) = &whom {
                    prop_assert!(claims.expires_at <= *ends);
                    prop_assert_eq!(&claims.subject, &whom.subject);
                    prop_assert_eq!(&claims.chain.actors[1..], &whom.chain.actors[..]);
                    prop_assert_eq!(&claims.chain.grants[1..], &whom.chain.grants[..]);
                    let parents = claims.chain.parents.len() - usize::from(whom.parent.is_some());
                    prop_assert_eq!(&claims.chain.parents[usize::from(whom.parent.is_some())..], &whom.chain.parents[..]);
                    prop_assert_eq!(parents, whom.chain.parents.len());
                } else {
                    prop_assert!(claims.chain.is_empty());
                }
                before = Some((Before::of(&claims), claims.expires_at));
            }
        }

        #[test]
        fn a_token_outlives_neither_wish_nor_class_nor_certificate_nor_agent(
            asked in 30u64..=600, class in 0u64..900, certificate in -5i64..900, ends in prop::option::of(-5i64..900),
            cutoff in prop::option::of(-5_000_000i64..2_000_000), part in 0i64..1_000_000,
        ) {
            let start = Timestamp::from_secs(1_800_000_000);
            let now = start.plus(Duration::from_micros(u64::try_from(part).unwrap()));
            let at = |secs: i64| Timestamp::from_secs(start.secs() + secs);
            let holder = Holder {
                token_ttl: Duration::from_secs(class),
                ends: ends.map(at),
                cutoffs: Cutoffs::default().with(Of::Agent, cutoff.map(|c| Timestamp::from_micros(start.micros() + c))),
                ..holder()
            };
            let wish = Wish { audience: "https://a.example".into(), actions: Actions::default(), details: Details::default(), ttl: Duration::from_secs(asked) };
            let base = Base {
                issuer: "https://issuer.example",
                kid: KeyId::parse("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I").unwrap(),
                token_id: [3; 16],
                confirmation: Confirmation::Certificate([9; 32]),
                credential: None,
                status: None,
                proof_ends: at(certificate),
                behalf: None,
            };
            let planned = plan(&holder, &wish, Scope::All, now, &base);
            let life = [i64::try_from(asked).unwrap(), i64::try_from(class).unwrap(), certificate, ends.unwrap_or(900), 600];
            let life = life.into_iter().min().unwrap();
            match planned {
                Ok(plan) => {
                    prop_assert!(life > 0);
                    prop_assert!(cutoff.is_none_or(|c| c < 0));
                    prop_assert_eq!(plan.claims.expires_at - plan.claims.issued_at, u64::try_from(life).unwrap());
                    prop_assert_eq!(plan.claims.issued_at, 1_800_000_000);
                    plan.claims.check().unwrap();
                }
                Err(BadToken::TooSoon) => prop_assert!(cutoff.is_some_and(|c| c >= 0)),
                Err(BadToken::TooShort) => prop_assert!(life <= 0),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}
