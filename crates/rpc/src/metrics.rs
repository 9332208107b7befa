//! What a service counts of its calls, and the registry that `/metrics` prints.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Call, Counter>,
    durations: Family<Method, Histogram, fn() -> Histogram>,
    kept: Mutex<HashMap<TypeId, Box<dyn Any + Send + Sync>>>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    service: &'static str,
    method: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Method {
    service: &'static str,
    method: &'static str,
}

/// From a tenth of a millisecond to five seconds.
const BUCKETS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Metrics {
    /// Empty metrics.
    #[must_use]
    pub fn new() -> Self {
        let requests = Family::default();
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        let mut registry = Registry::with_prefix("legate");
        registry.register("rpc_requests", "gRPC calls by service, method and code", requests.clone());
        registry.register_with_unit("rpc_duration", "How long gRPC calls took", Unit::Seconds, durations.clone());
        Self { registry: Mutex::new(registry), requests, durations, kept: Mutex::default() }
    }

    /// Adds metrics of a service's own; names get the prefix `legate_`.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock());
    }

    /// Metrics that several ports of one process have together: made by whoever asks first, and the same for the others.
    pub fn kept<T: Clone + Send + Sync + 'static>(&self, make: impl FnOnce(&mut Registry) -> T) -> T {
        let mut kept = self.kept.lock();
        if let Some(known) = kept.get(&TypeId::of::<T>()).and_then(|known| known.downcast_ref::<T>()) {
            return known.clone();
        }
        let made = make(&mut self.registry.lock());
        kept.insert(TypeId::of::<T>(), Box::new(made.clone()));
        made
    }

    /// Everything in OpenMetrics text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        match prometheus_client::encoding::text::encode(&mut out, &self.registry.lock()) {
            Ok(()) => out,
            Err(error) => {
                tracing::error!(%error, "metrics cannot be printed");
                String::from("# EOF\n")
            }
        }
    }

    pub(crate) fn observe(&self, service: &'static str, method: &'static str, code: tonic::Code, took: Duration) {
        let code = code_name(code);
        self.requests.get_or_create(&Call { service, method, code }).inc();
        self.durations.get_or_create(&Method { service, method }).observe(took.as_secs_f64());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The code's name in the gRPC specification.
fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
