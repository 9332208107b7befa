//! What is counted: what was issued, what was refused and why, what the registry has not confirmed.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    kind: &'static str,
    reason: &'static str,
}

/// The counters of this service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    issued: Family<Kind, Counter>,
    refused: Family<Refused, Counter>,
    pending: Gauge,
    published: Counter,
    broke_glass: Counter,
    instances: Gauge,
    retired_used: Family<Kind, Counter>,
    personal: Family<Kind, Counter>,
}

impl Metrics {
    /// Adds them to a registry, as `legate_issuer_...`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("issuer_issued", "Credentials and tokens that were issued, by kind", self.issued.clone());
        registry.register("issuer_refused", "Requests for credentials that were refused", self.refused.clone());
        let told = "Calls of operators who stated an emergency and were let act as administrators";
        registry.register("operator_broke_glass", told, self.broke_glass.clone());
        let told = "Uses of client secrets and keys that work no longer: somebody has what should be nowhere any more";
        registry.register("issuer_retired_used", told, self.retired_used.clone());
        let told = "What people made, listed and ended of their own grants, by kind";
        for kind in ["personal_grant", "personal_grant_list", "personal_grant_end"] {
            // From the start, so that nobody takes what never happened for what is not counted.
            drop(self.personal.get_or_create(&Kind { kind }));
        }
        registry.register("issuer_personal_grants", told, self.personal.clone());
        registry.register(
            "issuer_pending_revocations",
            "Revocations that the registry has not confirmed",
            self.pending.clone(),
        );
        let instances = "Running copies of agents that hold a certificate, as of the last count";
        registry.register("issuer_live_instances", instances, self.instances.clone());
        registry.register(
            "issuer_published",
            "Keys and revocations that the registry confirmed",
            self.published.clone(),
        );
    }

    pub(crate) fn issued(&self, kind: &'static str) {
        self.issued.get_or_create(&Kind { kind }).inc();
    }

    pub(crate) fn refused(&self, kind: &'static str, reason: &'static str) {
        self.refused.get_or_create(&Refused { kind, reason }).inc();
    }

    pub(crate) fn retired_used(&self, kind: &'static str) {
        self.retired_used.get_or_create(&Kind { kind }).inc();
    }

    pub(crate) fn personal(&self, kind: &'static str) {
        self.personal.get_or_create(&Kind { kind }).inc();
    }

    pub(crate) fn pending(&self, count: usize) {
        self.pending.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn instances(&self, count: u64) {
        self.instances.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn broke_glass(&self) {
        self.broke_glass.inc();
    }

    pub(crate) fn published(&self) {
        self.published.inc();
    }
}
