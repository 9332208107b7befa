//! What is counted: what was issued, what was refused and why, what the registry has not confirmed.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::domain::health::{Health, Stale};
use crate::flow::health::{Counts, StaleCounts};
use crate::store::credential::{CERTIFICATE, KEY, SECRET};

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
struct Rotation {
    state: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Staleness {
    why: &'static str,
    kind: &'static str,
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
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
    leaked: Family<Kind, Counter>,
    rotation: Family<Rotation, Gauge>,
    stale: Family<Staleness, Gauge>,
    keys: Family<KeysOf, Gauge>,
    key_age: Family<KeyOf, Gauge>,
    key_rotation: Family<KeyOf, Gauge>,
    key_missing: Family<KeyOf, Gauge>,
    key_store: Gauge,
    lists_made: Counter,
    list_bytes: Gauge,
    list_age: Gauge,
    node_streams: Gauge,
    federated_fetches: Family<Outcome, Counter>,
    federated_served: Gauge,
    federated_failing: Gauge,
    federated_age: Gauge,
    forgotten: Family<Kind, Counter>,
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
        let told =
            "Secrets, tokens, certificates and keys that were found where they should not be and worked then, by kind";
        registry.register("issuer_leaked", told, self.leaked.clone());
        let told = "Credentials by how they are rotated and by type, as of the last count";
        registry.register("issuer_credentials", told, self.rotation.clone());
        let told = "Credentials that work and are past their rotation or unused for 90 days, by why and type, as of the last count";
        registry.register("issuer_stale_credentials", told, self.stale.clone());
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
        let told = "Whether the place where signing keys are does its work (1)";
        registry.register("issuer_key_store_works", told, self.key_store.clone());
        let told = "Status lists that were made and signed";
        registry.register("issuer_status_lists_made", told, self.lists_made.clone());
        let told = "How large the status list is that was made last, as it is sent";
        registry.register("issuer_status_list_bytes", told, self.list_bytes.clone());
        let told = "How old the status list was that was served last";
        registry.register("issuer_status_list_age_seconds", told, self.list_age.clone());
        let told = "Streams of news that nodes read";
        registry.register("issuer_node_streams", told, self.node_streams.clone());
        let told = "Fetches of other trust domains' bundles, by outcome";
        for outcome in ["ok", "failed"] {
            drop(self.federated_fetches.get_or_create(&Outcome { outcome }));
        }
        registry.register("issuer_federated_fetches", told, self.federated_fetches.clone());
        let told = "Bundles of other trust domains that nodes are told of";
        registry.register("issuer_federated_bundles", told, self.federated_served.clone());
        let told = "Federated trust domains whose bundle did not come when it was last fetched, or is no bundle";
        registry.register("issuer_federated_failing", told, self.federated_failing.clone());
        let told = "How long ago the oldest bundle that is served was fetched";
        registry.register("issuer_federated_age_seconds", told, self.federated_age.clone());
        let told = "Rows that were deleted since what they are about ended longer ago than is kept, by kind";
        for kind in ["credential", "instance", "enrolment", "status_list"] {
            drop(self.forgotten.get_or_create(&Kind { kind }));
        }
        registry.register("issuer_forgotten", told, self.forgotten.clone());
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

    pub(crate) fn federated_fetch(&self, outcome: &'static str) {
        self.federated_fetches.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn federated(&self, standing: crate::federation::Standing) {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.federated_served.set(number(standing.served));
        self.federated_failing.set(number(standing.failing));
        self.federated_age.set(i64::try_from(standing.oldest).unwrap_or(i64::MAX));
    }

    pub(crate) fn forgotten(&self, kind: &'static str, count: u64) {
        self.forgotten.get_or_create(&Kind { kind }).inc_by(count);
    }

    pub(crate) fn retired_used(&self, kind: &'static str) {
        self.retired_used.get_or_create(&Kind { kind }).inc();
    }

    pub(crate) fn personal(&self, kind: &'static str) {
        self.personal.get_or_create(&Kind { kind }).inc();
    }

    /// Every state of every type is told, so that none stays as it was.
    pub(crate) fn health(&self, counts: &Counts) {
        for state in Health::ALL {
            for (kind, word) in [(CERTIFICATE, "certificate"), (SECRET, "client_secret"), (KEY, "client_key")] {
                let count = counts.get(&(state, kind)).copied().unwrap_or(0);
                let labels = Rotation { state: state.word(), kind: word };
                self.rotation.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
    }

    /// Likewise.
    pub(crate) fn stale(&self, counts: &StaleCounts) {
        for why in Stale::ALL {
            for (kind, word) in [(CERTIFICATE, "certificate"), (SECRET, "client_secret"), (KEY, "client_key")] {
                let count = counts.get(&(why, kind)).copied().unwrap_or(0);
                let labels = Staleness { why: why.word(), kind: word };
                self.stale.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
    }

    pub(crate) fn leaked(&self, kind: &'static str) {
        self.leaked.get_or_create(&Kind { kind }).inc();
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

    pub(crate) fn key_store(&self, works: bool) {
        self.key_store.set(i64::from(works));
    }

    pub(crate) fn list_made(&self, bytes: usize) {
        self.lists_made.inc();
        self.list_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn list_served(&self, age: std::time::Duration) {
        self.list_age.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    }

    /// A stream of a node begins (1) or ends (-1).
    pub(crate) fn node_streams(&self, by: i64) {
        self.node_streams.inc_by(by);
    }

    pub(crate) fn broke_glass(&self) {
        self.broke_glass.inc();
    }

    pub(crate) fn published(&self) {
        self.published.inc();
    }
}
