//! What is counted of the log and its index.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use legate_wire::audit::AlertType;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::domain::otlp::Unfit;
use crate::log::{Appended, NotAppended};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answer {
    witness: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: String,
}

/// From a tenth of a millisecond to ten seconds.
const SECONDS: [f64; 10] = [0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 10.0];

/// From one leaf to what a group holds.
const LEAVES: [f64; 7] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0];

/// Counters and gauges of this service.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    appended: Counter,
    offers: Family<Why, Counter>,
    groups: Histogram,
    syncs: Histogram,
    unrecorded: Family<Kind, Counter>,
    in_the_clear: Counter,
    unfit: Family<Why, Counter>,
    signatures: Family<Outcome, Counter>,
    receipts: Counter,
    otlp_dropped: Counter,
    published: Gauge,
    pub(crate) size: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) is_stopped: Gauge,
    pub(crate) is_full: Gauge,
    pub(crate) is_unpublished: Gauge,
    pub(crate) leads: Gauge,
    pub(crate) epoch: Gauge,
    pub(crate) keys: Gauge,
    pub(crate) is_away: Gauge,
    pub(crate) indexed: Gauge,
    pub(crate) index_lag: Gauge,
    pub(crate) index_behind_for: Gauge<f64, AtomicU64>,
    pub(crate) roles_age: Gauge<f64, AtomicU64>,
    pub(crate) tails: Gauge,
    reads: Family<Kind, Counter>,
    shown: Counter,
    alerts: Family<Kind, Counter>,
    webhook: Family<Outcome, Counter>,
    pub(crate) cosigned: Gauge,
    pub(crate) cosigned_age: Gauge<f64, AtomicU64>,
    pub(crate) quorum_missing: Gauge<f64, AtomicU64>,
    witnesses: Family<Answer, Counter>,
    stored: Gauge,
    store_behind: Gauge<f64, AtomicU64>,
    puts: Family<Outcome, Counter>,
}

/// The word of a type of alerts.
pub(crate) fn word(kind: AlertType) -> &'static str {
    kind.as_str_name().trim_start_matches("ALERT_TYPE_")
}

/// Every type from the start, so that the first alert is an increase.
fn no_alerts() -> Family<Kind, Counter> {
    let alerts = Family::<Kind, Counter>::default();
    let kinds = (1..).map_while(|number| AlertType::try_from(number).ok());
    kinds.for_each(|kind| drop(alerts.get_or_create(&Kind { kind: word(kind).to_owned() })));
    alerts
}

/// Every outcome from the start.
fn nothing_sent() -> Family<Outcome, Counter> {
    let sent = Family::<Outcome, Counter>::default();
    for outcome in ["delivered", "failed", "left_out"] {
        drop(sent.get_or_create(&Outcome { outcome }));
    }
    sent
}

/// Every outcome from the start.
fn nothing_signed() -> Family<Outcome, Counter> {
    let signed = Family::<Outcome, Counter>::default();
    for outcome in ["verified", "refused"] {
        drop(signed.get_or_create(&Outcome { outcome }));
    }
    signed
}

/// Both outcomes from the start.
fn nothing_put() -> Family<Outcome, Counter> {
    let puts = Family::<Outcome, Counter>::default();
    for outcome in ["stored", "failed"] {
        drop(puts.get_or_create(&Outcome { outcome }));
    }
    puts
}

/// Every reason from the start.
fn nothing_unfit() -> Family<Why, Counter> {
    let unfit = Family::<Why, Counter>::default();
    Unfit::ALL.into_iter().for_each(|one| drop(unfit.get_or_create(&Why { reason: one.word() })));
    unfit
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            appended: Counter::default(),
            offers: Family::default(),
            groups: Histogram::new(LEAVES),
            syncs: Histogram::new(SECONDS),
            unrecorded: Family::default(),
            in_the_clear: Counter::default(),
            unfit: nothing_unfit(),
            signatures: nothing_signed(),
            receipts: Counter::default(),
            otlp_dropped: Counter::default(),
            published: Gauge::default(),
            size: Gauge::default(),
            waiting: Gauge::default(),
            is_stopped: Gauge::default(),
            is_full: Gauge::default(),
            is_unpublished: Gauge::default(),
            leads: Gauge::default(),
            epoch: Gauge::default(),
            keys: Gauge::default(),
            is_away: Gauge::default(),
            indexed: Gauge::default(),
            index_lag: Gauge::default(),
            index_behind_for: Gauge::default(),
            roles_age: Gauge::default(),
            tails: Gauge::default(),
            reads: Family::default(),
            shown: Counter::default(),
            alerts: no_alerts(),
            webhook: nothing_sent(),
            cosigned: Gauge::default(),
            cosigned_age: Gauge::default(),
            quorum_missing: Gauge::default(),
            witnesses: Family::default(),
            stored: Gauge::default(),
            store_behind: Gauge::default(),
            puts: nothing_put(),
        }
    }
}

impl Metrics {
    /// Adds them to a registry, as `legate_...`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("audit_appended", "Events that were appended", self.appended.clone());
        registry.register("audit_offers", "Requests to append, by refusal; empty: taken", self.offers.clone());
        registry.register("audit_receipts", "Events that their emitter got receipts of", self.receipts.clone());
        registry.register("audit_group_leaves", "Leaves written with one sync", self.groups.clone());
        registry.register_with_unit(
            "audit_group_duration",
            "How long a group took to be on disk",
            Unit::Seconds,
            self.syncs.clone(),
        );
        registry.register(
            "audit_unrecorded",
            "Events of the collector's own that could not be recorded, by kind",
            self.unrecorded.clone(),
        );
        registry.register(
            "audit_names_in_the_clear",
            "Events that were appended with a person's name in the clear, which cannot be erased",
            self.in_the_clear.clone(),
        );
        registry.register(
            "audit_otlp_unfit",
            "Spans and log records that came by OTLP and were not recorded, by reason",
            self.unfit.clone(),
        );
        registry.register(
            "audit_otlp_dropped_attributes",
            "Attributes of what came by OTLP that were dropped unread: contents, unknown ones, long ones",
            self.otlp_dropped.clone(),
        );
        registry.register(
            "audit_signatures",
            "Signatures of emitters over a batch of events, by outcome: verified, refused",
            self.signatures.clone(),
        );
        registry.register("audit_log_leaves", "Leaves on disk", self.size.clone());
        registry.register(
            "audit_checkpoint_leaves",
            "Leaves that the newest checkpoint covers",
            self.published.clone(),
        );
        registry.register_with_unit(
            "audit_waiting",
            "Events that wait for the disk",
            Unit::Bytes,
            self.waiting.clone(),
        );
        registry.register("audit_stopped", "1 when the log has stopped until a restart", self.is_stopped.clone());
        registry.register("audit_storage_full", "1 when the log's disk is full", self.is_full.clone());
        registry.register("audit_unpublished", "1 when no checkpoint can be published", self.is_unpublished.clone());
        registry.register("audit_indexed_leaves", "Leaves that the index holds", self.indexed.clone());
        registry.register("audit_index_lag_leaves", "Leaves that the index does not hold yet", self.index_lag.clone());
        registry.register_with_unit(
            "audit_index_behind",
            "For how long the index has been behind the log without a step",
            Unit::Seconds,
            self.index_behind_for.clone(),
        );
        registry.register_with_unit(
            "audit_roles_age",
            "How old what is known of operators' roles can be; -1: nothing is known, and only auditors of the configuration read",
            Unit::Seconds,
            self.roles_age.clone(),
        );
        registry.register(
            "audit_leads",
            "1: this collector appends to the log; 0: it stands by for another that does",
            self.leads.clone(),
        );
        registry.register(
            "audit_log_keys",
            "Keys that have signed the log since it began: one more with each rotation",
            self.keys.clone(),
        );
        registry.register(
            "audit_lease_epoch",
            "The epoch of the lease that this collector took last; 0: the log is its own, or it took none",
            self.epoch.clone(),
        );
        registry.register(
            "audit_commit_log_away",
            "1: the PostgreSQL that holds the log does not answer, and events are refused",
            self.is_away.clone(),
        );
        registry.register("audit_tails", "Callers that follow the log", self.tails.clone());
        registry.register("audit_reads", "Questions over the log that were answered, by kind", self.reads.clone());
        registry.register("audit_alerts", "Alerts that were raised, by type", self.alerts.clone());
        registry.register(
            "audit_webhook",
            "Alerts that were sent to the receiver of the configuration, by outcome of each try",
            self.webhook.clone(),
        );
        registry.register(
            "audit_cosigned_leaves",
            "Leaves that the newest checkpoint covers that the witnesses' quorum cosigned",
            self.cosigned.clone(),
        );
        registry.register_with_unit(
            "audit_cosigned_age",
            "How long ago the witnesses' quorum cosigned; -1: never",
            Unit::Seconds,
            self.cosigned_age.clone(),
        );
        registry.register_with_unit(
            "audit_quorum_missing",
            "For how long too few witnesses have cosigned; 0 also where nobody is asked",
            Unit::Seconds,
            self.quorum_missing.clone(),
        );
        registry.register(
            "audit_witness_answers",
            "Answers of witnesses, by witness and outcome: cosigned, failed, refused, disagrees",
            self.witnesses.clone(),
        );
        registry.register(
            "audit_stored_leaves",
            "Leaves that the checkpoint in the object store covers; 0 also where there is no store",
            self.stored.clone(),
        );
        registry.register_with_unit(
            "audit_store_behind",
            "For how long the object store has lacked tiles; 0 also where there is none",
            Unit::Seconds,
            self.store_behind.clone(),
        );
        registry.register(
            "audit_store_puts",
            "Objects put into the store, by outcome: stored, failed",
            self.puts.clone(),
        );
        registry.register("audit_shown", "Events and counts that readers were shown", self.shown.clone());
    }

    /// Forgets how the log was that this collector led.
    pub(crate) fn stands_by(&self) {
        for gauge in [&self.leads, &self.is_stopped, &self.is_full, &self.is_unpublished, &self.is_away, &self.waiting]
        {
            gauge.set(0);
        }
        for gauge in [&self.index_behind_for, &self.roles_age, &self.quorum_missing, &self.store_behind] {
            gauge.set(0.0);
        }
    }

    /// Counts a group that is on disk.
    pub(crate) fn group(&self, leaves: usize, took: Duration) {
        self.appended.inc_by(leaves as u64);
        self.groups.observe(u32::try_from(leaves).unwrap_or(u32::MAX).into());
        self.syncs.observe(took.as_secs_f64());
    }

    /// Counts an answer to an offer.
    pub(crate) fn answered(&self, told: Result<&Appended, &NotAppended>) {
        let reason = match told {
            Ok(_) => "",
            Err(NotAppended::Gap { .. }) => "AUDIT_SEQUENCE_GAP",
            Err(NotAppended::Other { .. }) => "AUDIT_EVENTS_DIFFER",
            Err(NotAppended::Busy) => "AUDIT_BUSY",
            Err(NotAppended::Full) => "AUDIT_STORAGE_FULL",
            Err(NotAppended::Stopped) => "AUDIT_LOG_STOPPED",
            Err(NotAppended::Fenced) => "AUDIT_STANDBY",
            Err(NotAppended::Away) => "AUDIT_COMMIT_LOG_AWAY",
        };
        self.offers.get_or_create(&Why { reason }).inc();
    }

    /// Counts an event of our own that is not in the log.
    pub(crate) fn unrecorded(&self, kind: &str) {
        self.unrecorded.get_or_create(&Kind { kind: kind.to_owned() }).inc();
    }

    /// Counts an event whose name of a person cannot be erased.
    pub(crate) fn in_the_clear(&self) {
        self.in_the_clear.inc();
    }

    /// Counts an emitter's signature.
    pub(crate) fn signed(&self, holds: bool) {
        self.signatures.get_or_create(&Outcome { outcome: if holds { "verified" } else { "refused" } }).inc();
    }

    /// Counts events that their emitter got receipts of.
    pub(crate) fn receipts(&self, count: usize) {
        self.receipts.inc_by(count as u64);
    }

    /// Counts an offer that is refused before the log is asked.
    pub(crate) fn not_taken(&self, reason: &'static str) {
        self.offers.get_or_create(&Why { reason }).inc();
    }

    /// Counts signals of OTLP that are not recorded.
    pub(crate) fn unfit(&self, unfit: Unfit, count: usize) {
        self.unfit.get_or_create(&Why { reason: unfit.word() }).inc_by(count as u64);
    }

    /// Counts attributes that are dropped.
    pub(crate) fn otlp_dropped(&self, count: u64) {
        self.otlp_dropped.inc_by(count);
    }

    /// Counts an answer to a reader.
    pub(crate) fn read(&self, kind: &'static str, shown: usize) {
        self.reads.get_or_create(&Kind { kind: kind.to_owned() }).inc();
        self.shown.inc_by(shown as u64);
    }

    /// Counts an alert.
    pub(crate) fn raised(&self, kind: AlertType) {
        self.alerts.get_or_create(&Kind { kind: word(kind).to_owned() }).inc();
    }

    /// Counts a try to send an alert out.
    pub(crate) fn webhook(&self, outcome: &'static str) {
        self.webhook.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts how a witness answered.
    pub(crate) fn witness(&self, witness: &str, outcome: &'static str) {
        self.witnesses.get_or_create(&Answer { witness: witness.to_owned(), outcome }).inc();
    }

    /// Counts an object that was put into the store, or was not.
    pub(crate) fn put(&self, is_stored: bool) {
        let outcome = if is_stored { "stored" } else { "failed" };
        self.puts.get_or_create(&Outcome { outcome }).inc();
    }

    /// Notes how far the store is.
    pub(crate) fn stored(&self, size: u64) {
        self.stored.set(i64::try_from(size).unwrap_or(i64::MAX));
        self.store_behind.set(0.0);
    }

    /// Notes for how long the store has lacked something.
    pub(crate) fn store_behind(&self, behind: Duration) {
        self.store_behind.set(behind.as_secs_f64());
    }

    /// Notes a checkpoint.
    pub(crate) fn published(&self, size: u64) {
        self.published.set(i64::try_from(size).unwrap_or(i64::MAX));
    }
}
