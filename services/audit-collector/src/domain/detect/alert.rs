//! An alert: what a rule found, how much it matters, and what became of it.

use aws_lc_rs::digest::{SHA256, digest};
use legate_wire::audit::{AlertSeverity, AlertStatus, AlertType};

use crate::domain::text::hex;

/// What a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) kind: AlertType,
    pub(crate) severity: AlertSeverity,
    pub(crate) namespace: String,
    pub(crate) agent: String,
    /// With type, namespace and agent: what makes it the same finding as another.
    pub(crate) about: String,
    pub(crate) summary: String,
    /// What it rests on.
    pub(crate) leaves: Vec<u64>,
    /// When it happened, by the clock of who told it.
    pub(crate) time: i64,
    /// Where it was found.
    pub(crate) leaf: u64,
}

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alert {
    pub(crate) id: String,
    /// What is the same for everything that is counted in it.
    pub(crate) key: String,
    /// The how-manieth of this key.
    pub(crate) ordinal: i64,
    pub(crate) kind: AlertType,
    pub(crate) severity: AlertSeverity,
    pub(crate) status: AlertStatus,
    pub(crate) namespace: String,
    pub(crate) agent: String,
    pub(crate) summary: String,
    pub(crate) leaves: Vec<u64>,
    pub(crate) count: u64,
    pub(crate) found: u64,
    pub(crate) first_time: i64,
    pub(crate) last_time: i64,
    pub(crate) raised: Option<u64>,
    pub(crate) by: String,
    pub(crate) why: String,
    pub(crate) changed_at: Option<i64>,
}

/// Leaves that an alert names; beyond that they are counted.
const MOST_LEAVES: usize = 32;

/// What every alert's id begins with.
const PREFIX: &str = "alert_";

/// Whether a text can be the id of an alert.
pub(crate) fn is_id(text: &str) -> bool {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix(PREFIX).is_some_and(|rest| rest.len() == 32 && rest.bytes().all(digit))
}

impl Finding {
    /// What makes it the same finding as another. Each part is told with its length, so that no two are taken for one.
    pub(crate) fn key(&self) -> String {
        let parts = [self.kind.as_str_name(), &self.namespace, &self.agent, &self.about];
        let text: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
        hex(digest(&SHA256, text.as_bytes()).as_ref())
    }
}

impl Alert {
    /// The alert that a finding is the first of.
    pub(crate) fn of(finding: &Finding, ordinal: i64) -> Self {
        let key = finding.key();
        let id = hex(&digest(&SHA256, format!("{key}/{ordinal}").as_bytes()).as_ref()[..16]);
        let mut alert = Self {
            id: format!("{PREFIX}{id}"),
            key,
            ordinal,
            kind: finding.kind,
            severity: finding.severity,
            status: AlertStatus::Open,
            namespace: finding.namespace.clone(),
            agent: finding.agent.clone(),
            summary: finding.summary.clone(),
            leaves: Vec::new(),
            count: 0,
            found: finding.leaf,
            first_time: finding.time,
            last_time: finding.time,
            raised: None,
            by: String::new(),
            why: String::new(),
            changed_at: None,
        };
        alert.count(finding);
        alert
    }

    /// Counts what was found again.
    pub(crate) fn count(&mut self, finding: &Finding) {
        self.count += 1;
        self.first_time = self.first_time.min(finding.time);
        self.last_time = self.last_time.max(finding.time);
        for leaf in &finding.leaves {
            if self.leaves.len() < MOST_LEAVES && !self.leaves.contains(leaf) {
                self.leaves.push(*leaf);
            }
        }
    }

    /// What somebody said became of it. What is resolved stays so, and only what is open is acknowledged.
    pub(crate) fn change(&mut self, to: AlertStatus, by: &str, why: &str, at: i64) {
        let may = match to {
            AlertStatus::Acknowledged => self.status == AlertStatus::Open,
            AlertStatus::Resolved => self.status != AlertStatus::Resolved,
            AlertStatus::Open | AlertStatus::Unspecified => false,
        };
        if may {
            (self.status, self.by, self.why) = (to, by.to_owned(), why.to_owned());
            self.changed_at = Some(at);
        }
    }
}
