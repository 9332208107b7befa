//! What is counted of decisions.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use crate::domain::answer::Why;
use crate::domain::drift::Kind;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Decision {
    denial: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Asked {
    question: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Compared {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Unasked {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Drifted {
    r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Shadowed {
    policy: String,
    would: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Would {
    would: &'static str,
}

/// Counters and gauges of this service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    decisions: Family<Decision, Counter>,
    pub(crate) view_age: Gauge<f64, AtomicU64>,
    pub(crate) view_revision: Gauge,
    pub(crate) view_downgrades: Gauge,
    pub(crate) view_refused: Gauge,
    pub(crate) unusable_namespaces: Gauge,
    pub(crate) proved_tokens: Gauge,
    pub(crate) spool_bytes: Gauge,
    pub(crate) spool_is_broken: Gauge,
    pub(crate) streams: Gauge,
    pub(crate) stream_items: Gauge,
    broke_glass: Counter,
    asked: Family<Asked, Counter>,
    self_checks: Family<Compared, Counter>,
    unasked: Family<Unasked, Counter>,
    shadowed: Family<Shadowed, Counter>,
    candidates: Family<Would, Counter>,
    drift: Family<Drifted, Gauge>,
    review_items: Family<Compared, Counter>,
}

impl Metrics {
    /// Adds them to a registry, as `legate_...`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("decisions", "Answers by denial and reason", self.decisions.clone());
        let told = "Explanations, searches and simulations that were answered, by question";
        registry.register("authority_questions", told, self.asked.clone());
        let told = "Decisions that were made again by Cedar's own authorizer, by result: same, different, left_out";
        registry.register("policy_self_checks", told, self.self_checks.clone());
        // From the first moment on, so that an alert sees the first difference as an increase.
        for result in ["same", "different", "left_out"] {
            drop(self.self_checks.get_or_create(&Compared { result }));
        }
        let told = "Decisions that a policy in LOG_ONLY would have turned round, by policy and what it would have said: allow, deny";
        registry.register("policy_log_only_flips", told, self.shadowed.clone());
        for would in ["allow", "deny"] {
            drop(self.shadowed.get_or_create(&Shadowed { policy: "other".to_owned(), would }));
        }
        let told = "Decisions that a change would have turned round that somebody tried on them, by what it would have said: allow, deny";
        registry.register("policy_candidate_flips", told, self.candidates.clone());
        for would in ["allow", "deny"] {
            drop(self.candidates.get_or_create(&Would { would }));
        }
        let told =
            "Findings of permission drift of all agents, by type, as of the last hourly look; -1: not looked at yet";
        registry.register("drift_findings", told, self.drift.clone());
        for kind in Kind::ALL {
            self.drift.get_or_create(&Drifted { r#type: kind.word() }).set(-1);
        }
        let told = "Items of closed reviews at which it looked by itself, by what it found: as_decided, otherwise";
        registry.register("review_items_checked", told, self.review_items.clone());
        for result in ["as_decided", "otherwise"] {
            drop(self.review_items.get_or_create(&Compared { result }));
        }
        registry.register("evaluate_streams", "Streams of questions that are open", self.streams.clone());
        let told = "Questions under way on streams";
        registry.register("evaluate_stream_items", told, self.stream_items.clone());
        let told = "Requests of Envoy that were denied without a decision, by reason";
        registry.register("ext_authz_refused", told, self.unasked.clone());
        let told = "Calls of operators who stated an emergency and were let act as administrators";
        registry.register("operator_broke_glass", told, self.broke_glass.clone());
        registry.register_with_unit(
            "view_age",
            "Age of the view of the registry",
            Unit::Seconds,
            self.view_age.clone(),
        );
        registry.register("view_revision", "Registry revision that the view holds", self.view_revision.clone());
        registry.register(
            "view_downgrades",
            "Times the registry presented a lower revision than already seen",
            self.view_downgrades.clone(),
        );
        registry.register(
            "view_refused",
            "Streams of the registry that were given up for what they carried",
            self.view_refused.clone(),
        );
        registry.register(
            "policy_unusable_namespaces",
            "Namespaces whose policies cannot be used",
            self.unusable_namespaces.clone(),
        );
        registry.register(
            "policy_proved_tokens",
            "Tokens whose signature check is remembered",
            self.proved_tokens.clone(),
        );
        registry.register_with_unit(
            "spool_size",
            "Decision records that wait for audit-collector",
            Unit::Bytes,
            self.spool_bytes.clone(),
        );
        registry.register(
            "spool_broken",
            "1 when the spool's disk failed and every check is denied",
            self.spool_is_broken.clone(),
        );
    }

    /// It was looked whether an item of a review is as was decided.
    pub(crate) fn review_item_checked(&self, is_as_decided: bool) {
        let result = if is_as_decided { "as_decided" } else { "otherwise" };
        self.review_items.get_or_create(&Compared { result }).inc();
    }

    pub(crate) fn broke_glass(&self) {
        self.broke_glass.inc();
    }

    /// Counts a question that is no check: `explain`, `who_can`, `what_can`, `holder_can`, `simulate`, `shadow`, `shadow_change`, `drift` or `propose_ceiling`.
    pub(crate) fn asked(&self, question: &'static str) {
        self.asked.get_or_create(&Asked { question }).inc();
    }

    /// Counts a decision that was made again: `same`, `different`, or `left_out` where too many waited.
    pub(crate) fn self_checked(&self, result: &'static str) {
        self.self_checks.get_or_create(&Compared { result }).inc();
    }

    /// How many decisions were made again with this result.
    #[cfg(test)]
    pub(crate) fn self_checks(&self, result: &'static str) -> u64 {
        self.self_checks.get_or_create(&Compared { result }).get()
    }

    /// Counts a request of Envoy about which there was nothing to decide.
    pub(crate) fn unasked(&self, reason: &'static str) {
        self.unasked.get_or_create(&Unasked { reason }).inc();
    }

    /// Counts an answer that the policy would have turned round.
    pub(crate) fn shadowed(&self, policy: &str, would: &'static str) {
        self.shadowed.get_or_create(&Shadowed { policy: policy.to_owned(), would }).inc();
    }

    /// Counts a decision that a change would have turned round that somebody tries.
    pub(crate) fn candidate(&self, would: &'static str) {
        self.candidates.get_or_create(&Would { would }).inc();
    }

    /// How many answers the policy would have turned round so.
    #[cfg(test)]
    pub(crate) fn flips(&self, policy: &str, would: &'static str) -> u64 {
        self.shadowed.get_or_create(&Shadowed { policy: policy.to_owned(), would }).get()
    }

    /// So many findings of each type there are.
    pub(crate) fn drifted(&self, counts: &BTreeMap<Kind, u64>) {
        for (kind, count) in counts {
            let gauge = self.drift.get_or_create(&Drifted { r#type: kind.word() });
            gauge.set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
    }

    /// Counts an answer.
    pub(crate) fn decided(&self, denied: Option<Why>, reason: &'static str) {
        let denial = denied.map_or("", |why| why.kind().word());
        self.decisions.get_or_create(&Decision { denial, reason }).inc();
    }
}
