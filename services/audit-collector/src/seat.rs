//! Who is asked: the desk of a collector that leads the log, and nobody at one that stands by.

use std::sync::Arc;

use legate_rpc::Fault;
use parking_lot::RwLock;

use crate::error::stands_by;
use crate::flow::Desk;
use crate::ledger::Leader;

/// The desk, while somebody sits at it. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seat(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    desk: RwLock<Option<Arc<Desk>>>,
    leader: RwLock<Option<Leader>>,
    trouble: RwLock<Option<String>>,
}

impl Seat {
    /// The desk, or the refusal that says who leads.
    pub(crate) fn desk(&self) -> Result<Arc<Desk>, Fault> {
        self.taken().ok_or_else(|| stands_by(self.0.leader.read().as_ref()))
    }

    /// The desk, if this collector leads.
    pub(crate) fn taken(&self) -> Option<Arc<Desk>> {
        self.0.desk.read().clone()
    }

    /// This collector leads from now on.
    pub(crate) fn take(&self, desk: Arc<Desk>) {
        *self.0.trouble.write() = None;
        *self.0.desk.write() = Some(desk);
    }

    /// It leads no more.
    pub(crate) fn leave(&self) {
        *self.0.desk.write() = None;
    }

    /// Notes who leads; whether that is news.
    pub(crate) fn note_leader(&self, leader: Leader) -> bool {
        let mut noted = self.0.leader.write();
        let is_news = noted.as_ref().is_none_or(|known| known.epoch != leader.epoch);
        *noted = Some(leader);
        is_news
    }

    /// Notes why nobody can lead here, or that it can be done again; whether that is news.
    pub(crate) fn note_trouble(&self, trouble: Option<String>) -> bool {
        let mut noted = self.0.trouble.write();
        let is_news = *noted != trouble;
        *noted = trouble;
        is_news
    }

    /// What is wrong at the desk, if anything; that nobody sits at it is.
    pub(crate) fn check(&self, look: impl FnOnce(&Desk) -> Result<(), String>) -> Result<(), String> {
        if let Some(desk) = self.taken() {
            return look(&desk);
        }
        let leader = self.0.leader.read().as_ref().map(|leader| leader.address.clone());
        let whom = leader.map_or_else(|| "nobody leads yet".to_owned(), |leader| format!("{leader} leads"));
        let trouble = self.0.trouble.read().clone().map(|why| format!("; {why}")).unwrap_or_default();
        Err(format!("stands by: {whom}{trouble}"))
    }
}
