//! What is counted: the revision, agents by state, who watches, what was refused.

use std::time::Duration;

use legate_wire::registry::{AgentState, BulkAction, LifecycleAction, RemediationState, ReviewDecision};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::domain::lifecycle::state_name;
use crate::domain::review;
use crate::store::review_item::Census;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Acted {
    action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Bulk {
    action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decided {
    decision: &'static str,
}

/// What becomes of a request.
const OUTCOMES: [&str; 5] = ["APPROVED", "DENIED", "EXPIRED", "CANCELLED", "REVOKED"];

/// What comes of a decision that changes something.
const REMEDIATED: [&str; 4] = ["APPLIED", "NOT_NEEDED", "FAILED", "OUTGROWN"];

/// Seconds that a request waits: from an approver who looks at it to a day.
const WAITS: [f64; 9] = [5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0];

/// The metrics of this service.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    revision: Gauge,
    agents: Family<State, Gauge>,
    watchers: Gauge,
    refused: Family<Refused, Counter>,
    broke_glass: Counter,
    stops: Gauge,
    oldest: Gauge,
    compacted: Counter,
    bulk: Family<Bulk, Counter>,
    orphaned: Gauge,
    orphaned_oldest: Gauge,
    overdue_aside: Gauge,
    approvals_open: Gauge,
    approvals: Family<Outcome, Counter>,
    approval_wait: Histogram,
    usage_age: Gauge,
    lifecycle_due: Gauge,
    lifecycle_done: Family<Acted, Counter>,
    lifecycle_told: Counter,
    lifecycle_alerts: Family<Outcome, Counter>,
    alerts_heard: Gauge,
    review_items_pending: Gauge,
    review_items_overdue: Gauge,
    review_items_unasked: Gauge,
    reviews_unverified: Gauge,
    reviews_decided: Family<Decided, Counter>,
    reviews_remediated: Family<Outcome, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            revision: Gauge::default(),
            agents: Family::default(),
            watchers: Gauge::default(),
            refused: Family::default(),
            broke_glass: Counter::default(),
            stops: Gauge::default(),
            oldest: Gauge::default(),
            compacted: Counter::default(),
            bulk: Family::default(),
            orphaned: Gauge::default(),
            orphaned_oldest: Gauge::default(),
            overdue_aside: Gauge::default(),
            approvals_open: Gauge::default(),
            approvals: Family::default(),
            approval_wait: Histogram::new(WAITS),
            usage_age: Gauge::default(),
            lifecycle_due: Gauge::default(),
            lifecycle_done: Family::default(),
            lifecycle_told: Counter::default(),
            lifecycle_alerts: Family::default(),
            alerts_heard: Gauge::default(),
            review_items_pending: Gauge::default(),
            review_items_overdue: Gauge::default(),
            review_items_unasked: Gauge::default(),
            reviews_unverified: Gauge::default(),
            reviews_decided: Family::default(),
            reviews_remediated: Family::default(),
        }
    }
}

impl Metrics {
    /// Adds them to a registry, as `legate_registry_...`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("registry_revision", "The newest revision", self.revision.clone());
        registry.register("registry_agents", "Agents by state, as of the last count", self.agents.clone());
        registry.register("registry_watchers", "Streams that follow the registry", self.watchers.clone());
        let told = "Calls of operators who stated an emergency and were let act as administrators";
        registry.register("operator_broke_glass", told, self.broke_glass.clone());
        registry.register("registry_refused", "Writes that were refused, by reason", self.refused.clone());
        let stops = "Stop orders that stand, as of the last count";
        registry.register("registry_stop_orders", stops, self.stops.clone());
        let oldest = "The oldest revision as of which anything can be read";
        registry.register("registry_oldest_revision", oldest, self.oldest.clone());
        let compacted = "Versions of objects that are forgotten, since they are older than the history that is kept";
        registry.register("registry_compacted_versions", compacted, self.compacted.clone());
        let bulk = "Items of streams of many objects, by what became of them";
        registry.register("registry_bulk_items", bulk, self.bulk.clone());
        let orphaned = "Agents that nobody who is here is accountable for, as of the last count";
        registry.register("registry_orphaned_agents", orphaned, self.orphaned.clone());
        let oldest = "For how long that has been so for the first of them";
        registry.register_with_unit("registry_orphaned_oldest", oldest, Unit::Seconds, self.orphaned_oldest.clone());
        let aside = "Objects whose time is over and that could not be ended when they were tried last";
        registry.register("registry_overdue_aside", aside, self.overdue_aside.clone());
        let open = "Requests for an approval that are pending, and approvals that hold, as of the last count";
        registry.register("registry_approvals_open", open, self.approvals_open.clone());
        let decided = "Requests for an approval that were decided or ended undecided, by outcome";
        registry.register("registry_approvals_decided", decided, self.approvals.clone());
        // They are told from the start, at nought.
        for outcome in OUTCOMES {
            drop(self.approvals.get_or_create(&Outcome { outcome }));
        }
        let wait = "How long they had waited for that";
        registry.register_with_unit("registry_approval_wait", wait, Unit::Seconds, self.approval_wait.clone());
        let heard = "How long ago everything that the audit log held was heard; -1: not since the start";
        registry.register_with_unit("registry_usage_age", heard, Unit::Seconds, self.usage_age.clone());
        self.usage_age.set(-1);
        self.register_lifecycle(registry);
        self.register_reviews(registry);
    }

    fn register_lifecycle(&self, registry: &mut Registry) {
        let due = "Agents to which lifecycle policies do something within a week, as of the last count";
        registry.register("registry_lifecycle_due", due, self.lifecycle_due.clone());
        let done = "Agents to which lifecycle policies did something, by what";
        registry.register("registry_lifecycle_acts", done, self.lifecycle_done.clone());
        let told = "Notices of what lifecycle policies will do, or would have done";
        registry.register("registry_lifecycle_notices", told, self.lifecycle_told.clone());
        let alerts = "Alerts that lifecycle policies are about, by what became of them";
        registry.register("registry_lifecycle_alerts", alerts, self.lifecycle_alerts.clone());
        let heard = "The leaf of the audit log up to which alerts were dealt with";
        registry.register("registry_alerts_heard_leaf", heard, self.alerts_heard.clone());
        // They are told from the start, at nought.
        for action in ["SUSPEND", "EXPIRE", "QUARANTINE", "RETIRE"] {
            drop(self.lifecycle_done.get_or_create(&Acted { action }));
        }
        for outcome in ["DONE", "STOPPED_ALREADY", "REPORTED", "CAPPED", "FAILED"] {
            drop(self.lifecycle_alerts.get_or_create(&Outcome { outcome }));
        }
    }

    fn register_reviews(&self, registry: &mut Registry) {
        let pending = "Items of open reviews about which nobody has decided, as of the last count";
        registry.register("registry_review_items_pending", pending, self.review_items_pending.clone());
        let overdue = "Those of them whose review was due, as of the last count";
        registry.register("registry_review_items_overdue", overdue, self.review_items_overdue.clone());
        let unasked = "Those of them about which nobody is asked who may decide, as of the last count";
        registry.register("registry_review_items_unasked", unasked, self.review_items_unasked.clone());
        let unverified = "Closed reviews with items at which policy-decision has not looked yet, as of the last count";
        registry.register("registry_reviews_unverified", unverified, self.reviews_unverified.clone());
        let decided = "Decisions of reviewers, by what they decided";
        registry.register("registry_review_decisions", decided, self.reviews_decided.clone());
        let remediated = "Items of closed reviews that were to change something, by what came of them";
        registry.register("registry_review_remediations", remediated, self.reviews_remediated.clone());
        for decision in
            [ReviewDecision::Certify, ReviewDecision::Reduce, ReviewDecision::Revoke, ReviewDecision::Reassign]
        {
            drop(self.reviews_decided.get_or_create(&Decided { decision: review::word(decision) }));
        }
        for outcome in REMEDIATED {
            drop(self.reviews_remediated.get_or_create(&Outcome { outcome }));
        }
    }

    /// About so many items of reviews nobody has decided.
    pub(crate) fn review_items(&self, open: Census) {
        self.review_items_pending.set(open.pending);
        self.review_items_overdue.set(open.overdue);
        self.review_items_unasked.set(open.unasked);
    }

    /// At so many rounds policy-decision has yet to look.
    pub(crate) fn reviews_unverified(&self, count: i64) {
        self.reviews_unverified.set(count);
    }

    /// A reviewer decided about an item.
    pub(crate) fn review_decided(&self, decision: ReviewDecision) {
        self.reviews_decided.get_or_create(&Decided { decision: review::word(decision) }).inc();
    }

    /// What was decided about an item was written, or could not be.
    pub(crate) fn review_remediated(&self, state: RemediationState) {
        let outcome = match state {
            RemediationState::Applied => REMEDIATED[0],
            RemediationState::NotNeeded => REMEDIATED[1],
            RemediationState::Failed | RemediationState::Unspecified => REMEDIATED[2],
            RemediationState::Outgrown => REMEDIATED[3],
        };
        self.reviews_remediated.get_or_create(&Outcome { outcome }).inc();
    }

    /// So many stop orders stand.
    pub(crate) fn stops(&self, count: usize) {
        self.stops.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// So many objects are over and could not be ended.
    pub(crate) fn overdue_aside(&self, count: usize) {
        self.overdue_aside.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// So many approvals are pending or hold.
    pub(crate) fn approvals_open(&self, count: i64) {
        self.approvals_open.set(count);
    }

    /// A request was decided, or ended undecided.
    pub(crate) fn approval(&self, outcome: &'static str, waited: Duration) {
        self.approvals.get_or_create(&Outcome { outcome }).inc();
        self.approval_wait.observe(waited.as_secs_f64());
    }

    /// Everything that the audit log held so long ago was heard.
    pub(crate) fn usage_age(&self, age: Option<Duration>) {
        self.usage_age.set(age.and_then(|age| i64::try_from(age.as_secs()).ok()).unwrap_or(-1));
    }

    pub(crate) fn revision(&self, revision: u64) {
        self.revision.set(i64::try_from(revision).unwrap_or(i64::MAX));
    }

    pub(crate) fn agents(&self, census: &[(i32, i64)]) {
        for number in 1..=7 {
            let state = state_name(AgentState::try_from(number).unwrap_or_default());
            let count = census.iter().find(|(state, _)| *state == number).map_or(0, |(_, count)| *count);
            self.agents.get_or_create(&State { state }).set(count);
        }
    }

    /// So many agents nobody is accountable for, and for how long the first of them.
    pub(crate) fn orphans(&self, count: i64, oldest: Duration) {
        self.orphaned.set(count);
        self.orphaned_oldest.set(i64::try_from(oldest.as_secs()).unwrap_or(i64::MAX));
    }

    /// So many agents lifecycle policies do something to within a week.
    pub(crate) fn lifecycle_due(&self, count: u64) {
        self.lifecycle_due.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Lifecycle policies did this to so many agents.
    pub(crate) fn lifecycle_done(&self, action: LifecycleAction, count: u64) {
        let action = action.as_str_name().trim_start_matches("LIFECYCLE_ACTION_");
        self.lifecycle_done.get_or_create(&Acted { action }).inc_by(count);
    }

    /// So many things were told beforehand, or in place of being done.
    pub(crate) fn lifecycle_told(&self, count: u64) {
        self.lifecycle_told.inc_by(count);
    }

    /// An alert that a lifecycle policy is about was dealt with.
    pub(crate) fn lifecycle_alert(&self, outcome: &'static str) {
        self.lifecycle_alerts.get_or_create(&Outcome { outcome }).inc();
    }

    /// Alerts were dealt with up to this leaf.
    pub(crate) fn alerts_heard(&self, leaf: u64) {
        self.alerts_heard.set(i64::try_from(leaf).unwrap_or(i64::MAX));
    }

    pub(crate) fn watchers(&self, by: i64) {
        self.watchers.inc_by(by);
    }

    pub(crate) fn broke_glass(&self) {
        self.broke_glass.inc();
    }

    pub(crate) fn oldest(&self, revision: u64) {
        self.oldest.set(i64::try_from(revision).unwrap_or(i64::MAX));
    }

    pub(crate) fn compacted(&self, versions: u64) {
        self.compacted.inc_by(versions);
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Refused { reason }).inc();
    }

    pub(crate) fn bulk(&self, action: BulkAction, count: usize) {
        let action = action.as_str_name().trim_start_matches("BULK_ACTION_");
        self.bulk.get_or_create(&Bulk { action }).inc_by(count as u64);
    }
}
