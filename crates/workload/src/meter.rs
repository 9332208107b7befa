//! What the node helper counts.

use std::time::Duration;

use legate_rpc::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    method: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Issued {
    kind: &'static str,
    outcome: &'static str,
}

/// Counters and gauges; clones share them.
#[derive(Clone, Debug)]
pub struct Meter {
    calls: Family<Call, Counter>,
    issued: Family<Issued, Counter>,
    issuing: Histogram,
    workloads: Gauge,
    streams: Gauge,
    svids: Gauge,
    dropped: Counter,
    turned_away: Counter,
    ended: Gauge,
    policies: Gauge,
    revision: Gauge,
    streams_ended: Counter,
    unheard: Gauge,
    node_expires: Gauge,
}

/// From a millisecond to ten seconds.
const BUCKETS: [f64; 10] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];

impl Meter {
    /// Registers everything; names get the prefix `legate_`.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let this = Self {
            calls: Family::default(),
            issued: Family::default(),
            issuing: Histogram::new(BUCKETS),
            workloads: Gauge::default(),
            streams: Gauge::default(),
            svids: Gauge::default(),
            dropped: Counter::default(),
            turned_away: Counter::default(),
            ended: Gauge::default(),
            policies: Gauge::default(),
            revision: Gauge::default(),
            streams_ended: Counter::default(),
            unheard: Gauge::default(),
            node_expires: Gauge::default(),
        };
        this.unheard.set(-1);
        metrics.register(|r| {
            r.register(
                "workload_calls",
                "Calls of processes by method and refusal; empty: answered",
                this.calls.clone(),
            );
            r.register("workload_issued", "SVIDs asked of credential-issuer, by kind and outcome", this.issued.clone());
            let what = "How long credential-issuer took to issue an SVID";
            r.register_with_unit("workload_issuing", what, Unit::Seconds, this.issuing.clone());
            r.register("workload_processes", "Processes that live and have, or had, an SVID", this.workloads.clone());
            r.register("workload_streams", "Streams that are open", this.streams.clone());
            r.register("workload_svids", "X.509-SVIDs that are held", this.svids.clone());
            r.register("workload_dropped", "Streams that were dropped since nobody read them", this.dropped.clone());
            let what = "Connections that were closed at once: too many of their user, or what the process runs could not be read";
            r.register("workload_turned_away", what, this.turned_away.clone());
            let what = "Instances whose end credential-issuer has not confirmed";
            r.register("workload_ends_waiting", what, this.ended.clone());
            r.register("workload_policies", "Attestation policies that believe this node", this.policies.clone());
            r.register("workload_revision", "The registry's revision of what is known", this.revision.clone());
            let what = "Streams from credential-issuer that ended";
            r.register("workload_watch_ended", what, this.streams_ended.clone());
            let what = "How long ago what is known was last confirmed; -1: never";
            r.register_with_unit("workload_unheard", what, Unit::Seconds, this.unheard.clone());
            let what = "When the node's own certificate ends, in Unix time";
            r.register_with_unit("workload_node_expires", what, Unit::Seconds, this.node_expires.clone());
        });
        this
    }

    pub(crate) fn called(&self, method: &'static str, reason: &'static str) {
        self.calls.get_or_create(&Call { method, reason }).inc();
    }

    pub(crate) fn issued(&self, kind: &'static str, outcome: &'static str, took: Duration) {
        self.issued.get_or_create(&Issued { kind, outcome }).inc();
        self.issuing.observe(took.as_secs_f64());
    }

    pub(crate) fn workloads(&self, more: i64) {
        self.workloads.inc_by(more);
    }

    pub(crate) fn svids(&self, more: i64) {
        self.svids.inc_by(more);
    }

    pub(crate) fn stream(&self) -> OpenStream {
        self.streams.inc();
        OpenStream(self.streams.clone())
    }

    pub(crate) fn dropped(&self) {
        self.dropped.inc();
    }

    pub(crate) fn turned_away(&self) {
        self.turned_away.inc();
    }

    pub(crate) fn ends_waiting(&self, waiting: usize) {
        self.ended.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    pub(crate) fn known(&self, revision: u64, policies: usize) {
        self.revision.set(i64::try_from(revision).unwrap_or(i64::MAX));
        self.policies.set(i64::try_from(policies).unwrap_or(i64::MAX));
    }

    pub(crate) fn stream_ended(&self) {
        self.streams_ended.inc();
    }

    pub(crate) fn unheard(&self, since: Option<Duration>) {
        self.unheard.set(since.map_or(-1, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)));
    }

    /// When the node's own certificate ends, in Unix seconds.
    pub fn node_expires(&self, at: i64) {
        self.node_expires.set(at);
    }

    /// Streams that are open now.
    #[must_use]
    pub fn open_streams(&self) -> i64 {
        self.streams.get()
    }
}

/// A stream that is open for as long as this lives.
#[derive(Debug)]
pub(crate) struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}
