//! Where the names of persons are kept, and for how long.

use std::path::{Path, PathBuf};

use legate_ids::Name;
use serde::Deserialize;

use super::BadConfig;
use crate::domain::retention::{Retention, Rule};

/// The least that names are kept (Regulation (EU) 2024/1689, articles 19 and 26: logs at least six months), and the most.
const DAYS: std::ops::RangeInclusive<u32> = 183..=36_500;

/// The most rules.
const MOST: usize = 16;

/// Where the names of persons are kept, and for how long.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonalConfig {
    /// A directory for the names, sealed, and the keys that seal them, outside `dir`; made where it is missing. An erasure is only
    /// as good as the copies of it: keep none longer than you may keep a name.
    pub dir: PathBuf,
    /// The file of the key-encryption key, outside both directories; a name without a slash is a credential that systemd hands
    /// over. Without it nothing starts. `legate key make-kek` makes one.
    pub kek: PathBuf,
    /// For how many days names are kept at least: 183 to 36,500; absent: for ever, but for those that are erased. Leaves are never
    /// removed.
    #[serde(default)]
    pub retention_days: Option<u32>,
    /// What is kept for another time; the first rule that matches an event counts. 16 at most.
    #[serde(default)]
    pub retention: Vec<RetentionRule>,
}

/// For how long the names of some events are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionRule {
    /// Its name, such as that of the regime that asks for it; never change it.
    pub name: String,
    /// Types of events: `decision` stands for `decision.made` and all others of the noun.
    pub types: Vec<String>,
    /// For how many days at least: 183 to 36,500.
    pub days: u32,
}

impl PersonalConfig {
    pub(super) fn check(&self, log: &Path) -> Result<(), BadConfig> {
        let bad = |key: &'static str, why: &str| Err(BadConfig::Personal { key, why: why.to_owned() });
        if self.dir.starts_with(log) || log.starts_with(&self.dir) {
            let why = "and `dir` may not lie within each other: whoever is given the log would be given the names";
            return bad("personal.dir", why);
        }
        // Who takes the one takes the other.
        if self.kek.starts_with(&self.dir) || self.kek.starts_with(log) {
            return bad(
                "personal.kek",
                "lies within personal.dir or dir: whoever takes the names would take what opens them",
            );
        }
        if self.retention.len() > MOST {
            return bad("personal.retention", "has 16 rules at most");
        }
        let days = self.retention_days.iter().chain(self.retention.iter().map(|rule| &rule.days));
        if days.into_iter().any(|days| !DAYS.contains(days)) {
            return bad("personal.retention", "keeps names for 183 to 36,500 days");
        }
        let mut names = std::collections::BTreeSet::new();
        for rule in &self.retention {
            let is_type = |t: &String| Name::parse(&t.replace(['.', '_'], "-")).is_ok();
            if Name::parse(&rule.name).is_err() || !names.insert(&rule.name) {
                return bad("personal.retention", "gives each rule a name of its own, such as hipaa");
            }
            if rule.types.is_empty() || !rule.types.iter().all(is_type) {
                return bad("personal.retention", "has types of events such as decision or agent.suspended");
            }
        }
        Ok(())
    }

    pub(crate) fn rules(&self) -> Retention {
        let rule = |rule: &RetentionRule| Rule { name: rule.name.clone(), types: rule.types.clone(), days: rule.days };
        Retention { rules: self.retention.iter().map(rule).collect(), days: self.retention_days }
    }
}
