//! How keys follow one another: what is due at a moment, and what an operator may do to a key in its state.

use std::time::Duration;

use legate_clock::Timestamp;

use super::holder::{LONGEST_CERTIFICATE, LONGEST_TOKEN};

/// What a key is for. One key never has two uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyUse {
    /// Signs access tokens.
    AccessTokens,
    /// Signs JWT-SVIDs.
    JwtSvids,
    /// Signs certificates of agents and enforcement points.
    WorkloadsCa,
    /// Signs certificates of operators who log in.
    OperatorsCa,
}

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum State {
    /// Published, and not used yet.
    Prepared,
    /// Signs; one for each use.
    Active,
    /// Signs no longer; what it signed is believed until it ends.
    Retiring,
    /// A CA that signs no longer, whose certificates are to be renewed now.
    Tainted,
    /// Believed by nobody.
    Retired,
    /// Taken back as compromised: believed by nobody, whenever it signed.
    Revoked,
}

/// What was signed is believed for so long after the last that could be signed has ended: clocks differ, and keepers of
/// key sets look again in their own time.
const AFTER: Duration = Duration::from_secs(24 * 3600);

/// The most keys of one use that are published at once: a key set stays small enough for whoever fetches it.
pub(crate) const MOST_PUBLISHED: usize = 16;

impl KeyUse {
    /// Every use.
    pub const ALL: [Self; 4] = [Self::AccessTokens, Self::JwtSvids, Self::WorkloadsCa, Self::OperatorsCa];

    /// The use in a word: in file names, labels and the record.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::AccessTokens => "access-tokens",
            Self::JwtSvids => "jwt-svids",
            Self::WorkloadsCa => "workloads-ca",
            Self::OperatorsCa => "operators-ca",
        }
    }

    /// The use as `legate key` takes it.
    pub(crate) const fn argument(self) -> &'static str {
        match self {
            Self::AccessTokens => "access-token",
            Self::JwtSvids => "jwt-svid",
            Self::WorkloadsCa => "workloads-ca",
            Self::OperatorsCa => "operators-ca",
        }
    }

    /// Whether it signs certificates.
    #[must_use]
    pub const fn is_ca(self) -> bool {
        matches!(self, Self::WorkloadsCa | Self::OperatorsCa)
    }

    /// How long what a key signed is believed after it signs no longer.
    pub(crate) const fn keep(self) -> Duration {
        let longest = if self.is_ca() { LONGEST_CERTIFICATE } else { LONGEST_TOKEN };
        longest.saturating_add(AFTER)
    }
}

impl State {
    /// Whether verifiers are told of a key in it.
    pub(crate) const fn is_published(self) -> bool {
        !matches!(self, Self::Retired | Self::Revoked)
    }

    /// Whether it signed and does so no longer, and is still believed.
    pub(crate) const fn is_going(self) -> bool {
        matches!(self, Self::Retiring | Self::Tainted)
    }

    /// The state in a word.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Prepared => "PREPARED",
            Self::Active => "ACTIVE",
            Self::Retiring => "RETIRING",
            Self::Tainted => "TAINTED",
            Self::Retired => "RETIRED",
            Self::Revoked => "REVOKED",
        }
    }
}

/// How fast keys follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How long a key of tokens signs; `None`: until an operator rotates.
    pub(crate) rotate: Option<Duration>,
    /// How long a key is published before it signs.
    pub(crate) publish: Duration,
}

/// A key, as far as its life is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) kid: String,
    pub(crate) state: State,
    pub(crate) prepared: Timestamp,
    /// When verifiers could first know it: a key of tokens, when the registry confirmed it; a CA, when it was made.
    pub(crate) known: Option<Timestamp>,
    pub(crate) activated: Option<Timestamp>,
    pub(crate) ends: Option<Timestamp>,
}

impl Life {
    /// From when a prepared key may sign; `None` while nobody can know it.
    pub(crate) fn usable(&self, pace: Pace) -> Option<Timestamp> {
        self.known.map(|known| known.plus(pace.publish))
    }

    /// When the next one takes over by itself.
    pub(crate) fn rotates(&self, purpose: KeyUse, pace: Pace) -> Option<Timestamp> {
        let every = pace.rotate.filter(|_| !purpose.is_ca() && self.state == State::Active)?;
        self.activated.map(|since| since.plus(every))
    }
}

/// What is due for the keys of one use. Done in order, each is still right after those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// What this key signed has ended.
    Retire(String),
    /// There is no key that signs: a new one does at once, as nobody can wait for it.
    First,
    /// There is no successor.
    Prepare,
    /// The successor takes over.
    Activate(String),
}

/// What is due at `now`.
pub(crate) fn due(purpose: KeyUse, keys: &[Life], now: Timestamp, pace: Pace) -> Vec<Due> {
    let in_state = |state: State| keys.iter().find(move |key| key.state == state);
    let over = |key: &&Life| key.state.is_going() && key.ends.is_some_and(|ends| ends <= now);
    let mut due: Vec<Due> = keys.iter().filter(over).map(|key| Due::Retire(key.kid.clone())).collect();
    let prepared = in_state(State::Prepared);
    match in_state(State::Active) {
        None => due.push(prepared.map_or(Due::First, |key| Due::Activate(key.kid.clone()))),
        Some(active) => {
            let is_over = active.rotates(purpose, pace).is_some_and(|at| at <= now);
            let is_usable = |key: &&Life| key.usable(pace).is_some_and(|from| from <= now);
            match prepared.filter(|key| is_over && is_usable(key)) {
                Some(next) => due.push(Due::Activate(next.kid.clone())),
                None if prepared.is_none() && !purpose.is_ca() => due.push(Due::Prepare),
                None => {}
            }
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PACE: Pace =
        Pace { rotate: Some(Duration::from_secs(30 * 24 * 3600)), publish: Duration::from_secs(24 * 3600) };

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_secs(hours * 3600)
    }

    /// What the store does with a step, so that laws speak of whole lives.
    fn take(keys: &mut Vec<Life>, purpose: KeyUse, step: &Due, now: Timestamp) {
        let number = keys.len();
        let new = |state, activated| Life {
            kid: number.to_string(),
            state,
            prepared: now,
            known: Some(now),
            activated,
            ends: None,
        };
        match step {
            Due::First => keys.push(new(State::Active, Some(now))),
            Due::Prepare => keys.push(new(State::Prepared, None)),
            Due::Activate(kid) => {
                for key in keys.iter_mut() {
                    if key.state == State::Active {
                        (key.state, key.ends) = (State::Retiring, Some(now.plus(purpose.keep())));
                    } else if key.kid == *kid {
                        (key.state, key.activated) = (State::Active, Some(now));
                    }
                }
            }
            Due::Retire(kid) => {
                for key in keys.iter_mut().filter(|key| key.kid == *kid) {
                    key.state = State::Retired;
                }
            }
        }
    }

    #[test]
    fn a_first_key_signs_at_once_and_its_successor_waits() {
        let mut keys = Vec::new();
        assert_eq!(due(KeyUse::AccessTokens, &keys, at(0), PACE), [Due::First]);
        take(&mut keys, KeyUse::AccessTokens, &Due::First, at(0));
        assert_eq!(due(KeyUse::AccessTokens, &keys, at(0), PACE), [Due::Prepare]);
        assert_eq!(due(KeyUse::WorkloadsCa, &keys, at(0), PACE), [], "a CA's successor is an operator's to make");
        take(&mut keys, KeyUse::AccessTokens, &Due::Prepare, at(0));
        for hours in [0, 23, 24, 719] {
            assert_eq!(due(KeyUse::AccessTokens, &keys, at(hours), PACE), [], "{hours}");
        }
        assert_eq!(due(KeyUse::AccessTokens, &keys, at(720), PACE), [Due::Activate("1".into())]);
        assert_eq!(due(KeyUse::WorkloadsCa, &keys, at(99_999), PACE), []);
        let by_hand = Pace { rotate: None, ..PACE };
        assert_eq!(due(KeyUse::AccessTokens, &keys, at(99_999), by_hand), []);
        // A successor that nobody can know yet does not sign, however late it is.
        keys[1].known = None;
        assert_eq!(due(KeyUse::AccessTokens, &keys, at(99_999), PACE), []);
        keys[1].known = Some(at(99_990));
        assert_eq!(due(KeyUse::AccessTokens, &keys, at(99_999), PACE), []);
        // A clock that is set back changes nothing.
        assert_eq!(due(KeyUse::AccessTokens, &keys, at(-5), PACE), []);
    }

    #[test]
    fn what_was_signed_is_believed_until_it_has_ended() {
        for (purpose, hours) in [(KeyUse::AccessTokens, 24), (KeyUse::JwtSvids, 24), (KeyUse::WorkloadsCa, 48)] {
            assert!(purpose.keep() >= Duration::from_secs(hours * 3600), "{purpose:?}");
        }
        assert_eq!(KeyUse::AccessTokens.keep(), Duration::from_secs(24 * 3600 + 600), "TTL + 24 h");
    }

    proptest! {
        /// Whenever somebody looks, there is one key that signs; it was published long enough, unless it was the first; and no
        /// key goes before what it signed has ended.
        #[test]
        fn at_every_moment_one_key_signs(steps in proptest::collection::vec(1i64..400, 1..60)) {
            let purpose = KeyUse::AccessTokens;
            let (mut keys, mut now) = (Vec::new(), at(0));
            for hours in steps {
                now = now.plus(Duration::from_secs(u64::try_from(hours * 3600).unwrap_or(0)));
                for _ in 0..8 {
                    let all = due(purpose, &keys, now, PACE);
                    let Some(step) = all.first() else { break };
                    if let Due::Retire(kid) = step {
                        let key = keys.iter().find(|key| key.kid == *kid).cloned();
                        let after = keys.iter().filter_map(|other: &Life| other.activated)
                            .filter(|other| Some(*other) > key.as_ref().and_then(|key| key.activated)).min();
                        prop_assert!(after.is_some_and(|after| after.plus(purpose.keep()) <= now));
                    }
                    take(&mut keys, purpose, step, now);
                }
                prop_assert_eq!(due(purpose, &keys, now, PACE), []);
                let active: Vec<&Life> = keys.iter().filter(|key| key.state == State::Active).collect();
                prop_assert_eq!(active.len(), 1);
                let since = active[0].activated.unwrap_or_default();
                let is_first = active[0].kid == "0";
                prop_assert!(is_first || since.since(active[0].prepared) >= PACE.publish);
                prop_assert_eq!(keys.iter().filter(|key| key.state == State::Prepared).count(), 1);
            }
        }
    }
}
