//! What a process has by one policy, and what is to be done about it: pure.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::issuer::{NotIssued, Svid, Wish};
use crate::knowledge::{Entitlement, Knowledge};
use crate::moment::Moment;

/// The wait after a failure doubles from the first to the second; after a refusal it is the third at once, or until something changes.
const WAITS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(10), Duration::from_secs(30)];

/// What a process has by one policy.
#[derive(Debug, Default)]
pub(super) struct Holding {
    pub(super) svid: Option<Arc<Svid>>,
    /// A request that was not answered, to be repeated as it is.
    pub(super) wish: Option<Wish>,
    pub(super) in_flight: bool,
    pub(super) failure: Option<Failure>,
    /// The instance was revoked: this process is given no other.
    pub(super) is_taken_back: bool,
    /// Everything was to be replaced since it was obtained.
    pub(super) is_due: bool,
}

/// The last try failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) why: NotIssued,
    pub(super) retry_at: Instant,
    wait: Duration,
    /// As of which revision it failed: a refusal may be another at the next.
    revision: u64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    /// A new instance.
    Obtain,
    /// The same instance, a new certificate.
    Renew,
}

/// What became of what was held.
#[derive(Debug)]
pub(super) enum Lost {
    /// Nothing was lost.
    Nothing,
    /// It is dead already.
    Dead,
    /// It is not the process's any more, and credential-issuer does not know.
    ToBeEnded(Arc<Svid>),
}

impl Holding {
    /// Lets go of what may not be held any more.
    pub(super) fn let_go(&mut self, by: &Entitlement, known: &Knowledge, now: Moment) -> Lost {
        let Some(svid) = &self.svid else { return Lost::Nothing };
        if svid.entitlement.spiffe_id != by.spiffe_id {
            return self.svid.take().map_or(Lost::Nothing, Lost::ToBeEnded);
        }
        // Issued before a transition that cut off whatever there was: dead, and where the agent may again, there is a new one.
        let is_cut_off = svid.lifecycle_version < by.lifecycle_version;
        let is_ended = known.ended.contains(&svid.instance_id);
        if is_ended && !is_cut_off {
            self.is_taken_back = true;
        }
        if is_ended || is_cut_off || !by.is_usable || svid.ends.is_over(now) {
            self.svid = None;
            return Lost::Dead;
        }
        Lost::Nothing
    }

    /// What to do; `is_used`: somebody listens.
    pub(super) fn act(&self, by: &Entitlement, known: &Knowledge, now: Moment, is_used: bool) -> Act {
        if !by.is_usable || self.in_flight || self.is_taken_back || !self.may_try(known.revision) {
            return Act::Nothing;
        }
        match &self.svid {
            None => Act::Obtain,
            Some(svid) => {
                let is_due = self.is_due || svid.rotate_at.is_over(now) || known.bundle.is_tainted(&svid.signer);
                if is_due && is_used { Act::Renew } else { Act::Nothing }
            }
        }
    }

    fn may_try(&self, revision: u64) -> bool {
        self.failure.as_ref().is_none_or(|failure| {
            let is_other = matches!(failure.why, NotIssued::Refused(_)) && failure.revision != revision;
            is_other || failure.retry_at <= Instant::now()
        })
    }

    /// The try failed.
    pub(super) fn failed(&mut self, why: NotIssued, revision: u64) {
        let wait = match (&why, &self.failure) {
            (NotIssued::Refused(_), _) => WAITS[2],
            (NotIssued::Unreached(_), Some(before)) => (before.wait * 2).min(WAITS[1]),
            (NotIssued::Unreached(_), None) => WAITS[0],
        };
        let retry_at = Instant::now() + wait.mul_f64(rand::random_range(0.5..1.0));
        self.failure = Some(Failure { why, retry_at, wait, revision });
    }

    /// Somebody asks: what failed a moment ago fails now, what failed before that is tried again.
    pub(super) fn asked(&mut self) {
        if let Some(failure) = &mut self.failure
            && matches!(failure.why, NotIssued::Unreached(_))
            && failure.wait > WAITS[0]
        {
            failure.retry_at = Instant::now();
        }
    }
}
