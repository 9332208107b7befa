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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeysOf {
    purpose: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyOf {
    purpose: &'static str,
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
    keys: Family<KeysOf, Gauge>,
    key_age: Family<KeyOf, Gauge>,
    key_rotation: Family<KeyOf, Gauge>,
    key_missing: Family<KeyOf, Gauge>,
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
        registry.register(
            "issuer_pending_revocations",
            "Revocations that the registry has not confirmed",
            self.pending.clone(),
        );
        let instances = "Running copies of agents that hold a certificate, as of the last count";
        registry.register("issuer_live_instances", instances, self.instances.clone());
        let told = "Signing keys that are published, by purpose and state";
        registry.register("issuer_keys", told, self.keys.clone());
        let told = "How long the key that signs has done so";
        registry.register("issuer_key_age_seconds", told, self.key_age.clone());
        let told = "Time until the next key takes over by itself; negative: it is late";
        registry.register("issuer_key_rotation_seconds", told, self.key_rotation.clone());
        let told = "Whether the private half of the key that signs is missing (1)";
        registry.register("issuer_key_missing", told, self.key_missing.clone());
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

    pub(crate) fn pending(&self, count: usize) {
        self.pending.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn instances(&self, count: u64) {
        self.instances.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn keys(&self, purpose: &'static str, state: &'static str, count: usize) {
        self.keys.get_or_create(&KeysOf { purpose, state }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How old the key that signs is, when it is followed (in seconds; `None`: by hand), and whether it is here.
    pub(crate) fn active_key(&self, purpose: &'static str, age: u64, rotates: Option<i64>, is_here: bool) {
        let of = KeyOf { purpose };
        self.key_age.get_or_create(&of).set(i64::try_from(age).unwrap_or(i64::MAX));
        self.key_missing.get_or_create(&of).set(i64::from(!is_here));
        match rotates {
            Some(seconds) => {
                self.key_rotation.get_or_create(&of).set(seconds);
            }
            None => {
                self.key_rotation.remove(&of);
            }
        }
    }

    pub(crate) fn broke_glass(&self) {
        self.broke_glass.inc();
    }

    pub(crate) fn published(&self) {
        self.published.inc();
    }
}
