//! What a process has by one policy, and what is to be done about it: pure.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::issuer::{NotIssued, Svid, Wish};
use crate::knowledge::{Entitlement, Fell, Knowledge};
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
    /// The instance that was cut off last: it may be revoked as well, before its agent may again.
    cut_off: Option<String>,
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
        let instance = self.svid.as_ref().map(|svid| &svid.instance_id).or(self.cut_off.as_ref());
        let fell = instance.and_then(|instance| known.ended.get(instance)).copied();
        let Some(svid) = &self.svid else {
            self.is_taken_back |= fell == Some(Fell::Revoked);
            return Lost::Nothing;
        };
        if svid.entitlement.spiffe_id != by.spiffe_id {
            return self.svid.take().map_or(Lost::Nothing, Lost::ToBeEnded);
        }
        // Issued before a transition that cut off whatever there was: dead, and where the agent may again, there is a new one.
        let is_cut_off = svid.lifecycle_version < by.lifecycle_version || fell == Some(Fell::CutOff) || !by.is_usable;
        self.is_taken_back |= fell == Some(Fell::Revoked);
        if fell.is_some() || is_cut_off || svid.ends.is_over(now) {
            self.cut_off = is_cut_off.then(|| svid.instance_id.clone());
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_clock::{TestClock, Timestamp};
    use legate_wire::registry::AttestationSelectorType as Type;

    use super::*;
    use crate::knowledge::tests::{entitlement, known, selector};

    const ID: &str = "inst_1";

    struct Scene {
        holding: Holding,
        by: Entitlement,
        now: Moment,
    }

    impl Scene {
        /// A process that holds an SVID of the instance.
        fn holding() -> Self {
            let now = Moment::now(TestClock::at(Timestamp::from_secs(1_800_000_000)).as_ref());
            let by = entitlement(&[selector(Type::UnixUid, "1000")], None);
            let svid = Svid::of_nothing(&Arc::new(by.clone()), ID, now.after(Duration::from_secs(3_600)));
            let holding = Holding { svid: Some(Arc::new(svid)), ..Holding::default() };
            Self { holding, by, now }
        }

        /// It is told that, and looks.
        fn told(&mut self, is_usable: bool, known: &Knowledge) -> Act {
            self.by.is_usable = is_usable;
            let lost = self.holding.let_go(&self.by, known, self.now);
            assert!(!matches!(lost, Lost::ToBeEnded(_)), "credential-issuer knows");
            self.holding.act(&self.by, known, self.now, true)
        }
    }

    #[test]
    fn a_stop_is_over_once_it_is_lifted_though_it_raised_no_version() {
        let (nothing, cut_off) = (known(&[], &[]), known(&[], &[ID]));
        // As a class, a namespace or a stop order stops: one message says both. Or the cut-off is looked up a moment later.
        for first in [&cut_off, &nothing] {
            let mut scene = Scene::holding();
            assert_eq!(scene.told(true, &nothing), Act::Nothing);
            assert_eq!(scene.told(false, first), Act::Nothing);
            assert!(scene.holding.svid.is_none(), "what is stopped is served no more");
            assert_eq!(scene.told(false, &cut_off), Act::Nothing);
            assert_eq!(scene.told(true, &cut_off), Act::Obtain);
        }
        // As an owner's departure cuts off: the agent may all the while.
        let mut scene = Scene::holding();
        assert_eq!(scene.told(true, &cut_off), Act::Obtain);
        assert!(scene.holding.svid.is_none());
        // As a suspension of the agent itself, of which the cut-off is told later.
        let mut scene = Scene::holding();
        scene.by.lifecycle_version += 2;
        assert_eq!(scene.told(true, &nothing), Act::Obtain);
        assert_eq!(scene.told(true, &cut_off), Act::Obtain);
    }

    #[test]
    fn an_instance_that_was_revoked_is_not_replaced_for_its_process() {
        let (nothing, revoked, cut_off) = (known(&[], &[]), known(&[ID], &[]), known(&[], &[ID]));
        let mut scene = Scene::holding();
        assert_eq!(scene.told(true, &revoked), Act::Nothing);
        assert!(scene.holding.svid.is_none());
        // Not by a stop that comes and goes, nor once nobody is told of it any more.
        for (is_usable, known) in [(false, &revoked), (true, &revoked), (true, &nothing)] {
            assert_eq!(scene.told(is_usable, known), Act::Nothing);
        }
        // Nor where it was revoked while its class was stopped, or with it.
        for between in [&cut_off, &revoked] {
            let mut scene = Scene::holding();
            assert_eq!(scene.told(false, between), Act::Nothing);
            assert_eq!(scene.told(false, &revoked), Act::Nothing);
            assert_eq!(scene.told(true, &revoked), Act::Nothing);
            assert_eq!(scene.told(true, &nothing), Act::Nothing);
        }
        let mut scene = Scene::holding();
        scene.by.lifecycle_version += 1;
        assert_eq!(scene.told(true, &revoked), Act::Nothing);
        // Another instance of the same node is not meant.
        let mut scene = Scene::holding();
        assert_eq!(scene.told(true, &known(&["inst_2"], &["inst_3"])), Act::Nothing);
        assert!(scene.holding.svid.is_some());
    }
}
