//! A JWT-SVID in the making: for whom it shall be, cut to what the holder, its class and its certificate allow.

use std::time::Duration;

use legate_clock::Timestamp;
use legate_token::{KeyId, SvidToSign, Unsigned};

use super::holder::{Holder, LONGEST_TOKEN};
use super::token::{BadToken, hex};

/// What a node asks for a process, read and within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SvidWish {
    pub(crate) audiences: Vec<String>,
    pub(crate) ttl: Duration,
}

/// What would be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SvidPlan {
    pub(crate) claims: SvidToSign,
    pub(crate) unsigned: Unsigned,
}

/// What it rests on beside its holder.
#[derive(Clone, Debug)]
pub(crate) struct SvidBase {
    /// The `iss`.
    pub(crate) issuer: String,
    /// The key that signs it.
    pub(crate) kid: KeyId,
    /// Chance, for its name.
    pub(crate) token_id: [u8; 16],
    /// When the last certificate of the instance ends.
    pub(crate) certificate_ends: Timestamp,
}

/// Plans a JWT-SVID of the instance.
pub(crate) fn plan(holder: &Holder, wish: &SvidWish, now: Timestamp, base: SvidBase) -> Result<SvidPlan, BadToken> {
    let issued = Timestamp::from_secs(now.secs());
    if !holder.cutoffs.spare(issued) {
        return Err(BadToken::TooSoon);
    }
    let longest = issued.plus(wish.ttl.min(holder.token_ttl).min(LONGEST_TOKEN));
    let ends = holder.ends.unwrap_or(longest).min(base.certificate_ends).min(longest);
    let seconds = |t: Timestamp| u64::try_from(t.secs()).unwrap_or(0);
    if seconds(ends) <= seconds(issued) {
        return Err(BadToken::TooShort);
    }
    let claims = SvidToSign {
        issuer: base.issuer,
        subject: holder.spiffe_id.clone(),
        audiences: wish.audiences.clone(),
        issued_at: seconds(issued),
        expires_at: seconds(ends),
        token_id: hex(&base.token_id),
    };
    let unsigned = Unsigned::svid(&claims, base.kid)?;
    Ok(SvidPlan { claims, unsigned })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_ids::{AgentId, InstanceId, Name, SpiffeId, TrustDomain};
    use proptest::prelude::*;

    use super::*;
    use crate::domain::cutoff::{Cutoffs, Of};
    use crate::domain::holder::Means;

    const START: i64 = 1_900_000_000;

    fn holder() -> Holder {
        let (namespace, agent) = (Name::parse("pay").unwrap(), AgentId::from_parts(1, [1; 10]));
        let copy = InstanceId::from_parts(1, [2; 10]);
        Holder {
            spiffe_id: SpiffeId::instance(&TrustDomain::parse("example.org").unwrap(), &namespace, &agent, &copy),
            namespace,
            agent: Some(agent),
            instance: Some(copy),
            lifecycle_version: 1,
            cutoffs: Cutoffs::default(),
            ends: None,
            certificate_ttl: Duration::from_secs(3_600),
            token_ttl: Duration::from_secs(300),
            max_instances: 100,
            means: Means::of(None),
        }
    }

    proptest! {
        #[test]
        fn it_outlives_neither_wish_nor_class_nor_certificate_nor_agent(
            asked in 30u64..=600, class in 0u64..900, certificate in -5i64..900, ends in prop::option::of(-5i64..900),
            cutoff in prop::option::of(-3i64..3),
        ) {
            let now = Timestamp::from_secs(START);
            let at = |secs: i64| Timestamp::from_secs(START + secs);
            let holder = Holder {
                token_ttl: Duration::from_secs(class),
                ends: ends.map(at),
                cutoffs: Cutoffs::default().with(Of::Agent, cutoff.map(at)),
                ..holder()
            };
            let wish = SvidWish { audiences: vec!["a".into()], ttl: Duration::from_secs(asked) };
            let base = SvidBase {
                issuer: "https://issuer.example/workload".into(),
                kid: KeyId::parse("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I").unwrap(),
                token_id: [3; 16],
                certificate_ends: at(certificate),
            };
            let life = [i64::try_from(asked).unwrap(), i64::try_from(class).unwrap(), certificate, ends.unwrap_or(900), 600];
            let life = life.into_iter().min().unwrap();
            match plan(&holder, &wish, now, base) {
                Ok(plan) => {
                    prop_assert!(life > 0 && cutoff.is_none_or(|c| c < 0));
                    prop_assert_eq!(plan.claims.expires_at - plan.claims.issued_at, u64::try_from(life).unwrap());
                    prop_assert_eq!(&plan.claims.subject, &holder.spiffe_id);
                    plan.claims.check().unwrap();
                }
                Err(BadToken::TooSoon) => prop_assert!(cutoff.is_some_and(|c| c >= 0)),
                Err(BadToken::TooShort) => prop_assert!(life <= 0),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}
