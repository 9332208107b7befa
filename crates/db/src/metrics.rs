//! What is counted of transactions: how many, how they ended, how long they took, how many share a commit.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::{TxError, TxResult};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    transaction: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    transaction: &'static str,
}

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    ended: Family<Ended, Counter>,
    seconds: Family<Named, Histogram>,
    group: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            ended: Family::default(),
            // 100 us to 6.5 s
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0001, 2.0, 17))),
            group: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
        }
    }
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("db_transactions", "Named transactions, by how they ended", self.ended.clone());
        registry.register_with_unit(
            "db_transaction",
            "How long named transactions took, from the call to the answer",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register("db_group_size", "Transactions that shared one commit (SQLite)", self.group.clone());
    }

    pub(crate) fn done<T, E>(&self, transaction: &'static str, result: &TxResult<T, E>, took: Duration) {
        let outcome = match result {
            Ok(_) => "ok",
            Err(TxError::Flow(_)) => "refused",
            Err(TxError::Unavailable(_)) => "unavailable",
            Err(TxError::Broken(_)) => "broken",
        };
        let ended = Ended { transaction, outcome };
        self.ended.get_or_create(&ended).inc();
        self.seconds.get_or_create(&Named { transaction }).observe(took.as_secs_f64());
    }

    pub(crate) fn group(&self, size: u32) {
        self.group.observe(f64::from(size));
    }
}
