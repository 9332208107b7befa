//! An access token in the making: what was asked, cut to what the holder, its class and its certificate allow.

use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::Action;
use legate_token::{Claims, KeyId, Scope, TokenError, Unsigned};

use super::holder::{Holder, LONGEST_TOKEN, USUAL_TOKEN};

/// The shortest life that can be asked for.
const SHORTEST_ASKED: Duration = Duration::from_secs(30);

/// What an agent asks, read and within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) audience: String,
    /// None: not narrowed.
    pub(crate) actions: Vec<Action>,
    pub(crate) ttl: Duration,
}

/// What would be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenPlan {
    pub(crate) claims: Claims,
    pub(crate) unsigned: Unsigned,
}

/// What a token rests on beside its holder.
#[derive(Clone, Debug)]
pub(crate) struct Base<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) kid: KeyId,
    pub(crate) token_id: [u8; 16],
    /// SHA-256 of the certificate that the token is bound to.
    pub(crate) certificate: [u8; 32],
    pub(crate) certificate_ends: Timestamp,
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
    #[error("the agent or its certificate ends now")]
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

/// Those of the agreed actions that were asked for: whoever agrees can leave out, not add.
pub(crate) fn narrow(asked: &[Action], agreed: &[Action]) -> Option<Scope> {
    if asked.is_empty() {
        return Some(Scope::All);
    }
    let both: Vec<Action> = asked.iter().filter(|a| agreed.contains(a)).cloned().collect();
    (!both.is_empty()).then_some(Scope::Actions(both))
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
    if !holder.cutoffs.spare(issued) {
        return Err(BadToken::TooSoon);
    }
    let longest = issued.plus(wish.ttl.min(holder.token_ttl).min(LONGEST_TOKEN));
    let ends = longest.min(base.certificate_ends).min(holder.ends.unwrap_or(longest));
    let seconds = |t: Timestamp| u64::try_from(t.secs()).unwrap_or(0);
    if seconds(ends) <= seconds(issued) {
        return Err(BadToken::TooShort);
    }
    let claims = Claims {
        issuer: base.issuer.to_owned(),
        audience: wish.audience.clone(),
        subject: holder.spiffe_id.to_string(),
        issued_at: seconds(issued),
        expires_at: seconds(ends),
        token_id: hex(&base.token_id),
        scope,
        lifecycle_version: holder.lifecycle_version,
        namespace: holder.namespace.clone(),
        agent,
        instance: holder.instance.clone(),
        grant: None,
        actors: Vec::new(),
        certificate: base.certificate,
    };
    let unsigned = Unsigned::new(&claims, base.kid.clone())?;
    Ok(TokenPlan { claims, unsigned })
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
    use crate::domain::cutoff::{Cutoffs, Of};
    use legate_ids::{AgentId, Name, SpiffeId, TrustDomain};
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
            means: crate::domain::holder::Means::of(None),
        }
    }

    fn action(text: &str) -> Action {
        Action::parse(text).unwrap()
    }

    #[test]
    fn a_scope_is_never_wider_than_asked_or_agreed() {
        let (a, b, c) = (action("a"), action("b"), action("c"));
        assert_eq!(narrow(&[], std::slice::from_ref(&c)), Some(Scope::All));
        assert_eq!(narrow(&[a.clone(), b.clone()], &[b.clone(), c.clone()]), Some(Scope::Actions(vec![b.clone()])));
        assert_eq!(narrow(&[a], &[b, c]), None);
    }

    #[test]
    fn only_sane_lifetimes_can_be_asked() {
        assert_eq!(ttl(None), Ok(USUAL_TOKEN));
        for (secs, good) in [(0, false), (29, false), (30, true), (600, true), (601, false)] {
            assert_eq!(ttl(Some(Duration::from_secs(secs))).is_ok(), good, "{secs}");
        }
    }

    proptest! {
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
            let wish = Wish { audience: "https://a.example".into(), actions: vec![], ttl: Duration::from_secs(asked) };
            let base = Base {
                issuer: "https://issuer.example",
                kid: KeyId::parse("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I").unwrap(),
                token_id: [3; 16],
                certificate: [9; 32],
                certificate_ends: at(certificate),
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
