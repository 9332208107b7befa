//! A running copy of an agent: how it proved itself, and where it stands.

use legate_clock::Timestamp;

/// How many running copies of one agent may hold certificates at once where nothing is declared.
pub(crate) const USUAL_INSTANCES: u32 = 100;

/// How a runtime proved that it is its agent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// By a one-time token, of this id.
    EnrolmentToken(String),
    /// By a token of an issuer outside, of this hash.
    IdentityToken(String),
    /// By what a node attested of its process.
    Attestation(Attestation),
}

/// By whose word, and by which policy, a process is its agent's; each as `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attestation {
    /// The node that attested it.
    pub(crate) node: String,
    /// Since when that node is there: one of the name that was there before is another.
    pub(crate) node_since: Timestamp,
    /// The attestation policy.
    pub(crate) policy: String,
}

impl Proof {
    /// What stands for it in the record.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::EnrolmentToken(id) | Self::IdentityToken(id) => id.clone(),
            Self::Attestation(Attestation { node, policy, .. }) => format!("{node} by {policy}"),
        }
    }
}

/// Where an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Live,
    CutOff,
    Revoked,
    Ended,
}

/// What an instance's state follows from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// It was revoked as a whole.
    pub(crate) is_revoked: bool,
    /// One of its certificates was not revoked and has not ended.
    pub(crate) has_credential: bool,
    /// When its last certificate ends.
    pub(crate) ends: Timestamp,
    /// Its agent is in the life in which it was last given a certificate, and nothing was cut off since.
    pub(crate) is_of_this_life: bool,
}

impl State {
    /// Where it stands at `now`. What was said to it last counts first: a revocation, its end, a stop of its agent.
    pub(crate) fn of(facts: Facts, now: Timestamp) -> Self {
        match facts {
            Facts { is_revoked: true, .. } => Self::Revoked,
            Facts { ends, .. } if ends <= now => Self::Ended,
            Facts { has_credential: false, .. } => Self::Revoked,
            Facts { is_of_this_life: false, .. } => Self::CutOff,
            _ => Self::Live,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_use_something_is_live() {
        let now = Timestamp::from_secs(100);
        for bits in 0..16u8 {
            let bit = |n: u8| bits & (1 << n) != 0;
            let facts = Facts {
                is_revoked: bit(0),
                has_credential: bit(1),
                ends: Timestamp::from_secs(if bit(2) { 101 } else { 100 }),
                is_of_this_life: bit(3),
            };
            let live = !bit(0) && bit(1) && bit(2) && bit(3);
            assert_eq!(State::of(facts, now) == State::Live, live, "{facts:?}");
            if bit(0) {
                assert_eq!(State::of(facts, now), State::Revoked);
            }
        }
    }
}
