//! What an HTTPS port counts.

use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    service: &'static str,
    path: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Asked {
    service: &'static str,
    path: &'static str,
}

/// From a tenth of a millisecond to five seconds.
const BUCKETS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: Family<Answered, Counter>,
    durations: Family<Asked, Histogram, fn() -> Histogram>,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let requests = Family::default();
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        registry.register("web_requests", "HTTPS requests by service, path and status code", requests.clone());
        registry.register_with_unit("web_duration", "How long HTTPS requests took", Unit::Seconds, durations.clone());
        Self { requests, durations }
    }

    pub(crate) fn observe(&self, service: &'static str, path: &'static str, code: StatusCode, took: Duration) {
        self.requests.get_or_create(&Answered { service, path, code: code.as_u16() }).inc();
        self.durations.get_or_create(&Asked { service, path }).observe(took.as_secs_f64());
    }
}
