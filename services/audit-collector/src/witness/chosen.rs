//! The witnesses that the configuration chooses: their policy, and where each of them is asked.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Clock;
use legate_merkle::{CosignerKey, KeyChain, MAX_POLICY, Policy};

use super::NotKept;
use crate::config::{BadConfig, WitnessConfig};
use crate::outward::{Address, Outward};

/// Whom to ask, and how.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(super) policy: Policy,
    pub(super) witnesses: Vec<Arc<Witness>>,
    pub(super) outward: Outward,
    pub(super) every: Duration,
    pub(super) patience: Duration,
}

/// A witness that is asked.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) key: CosignerKey,
    pub(super) address: Address,
    /// The path of its `add-checkpoint`.
    pub(super) path: String,
}

impl Chosen {
    /// The witnesses of a configuration, where it has some.
    pub(crate) fn of(config: &WitnessConfig, clock: Arc<dyn Clock>) -> Result<Option<Self>, BadConfig> {
        let Some(path) = &config.policy else { return Ok(None) };
        let refused = |why: String| BadConfig::Witness(format!("policy {}: {why}", path.display()));
        let mut bytes = Vec::new();
        let reading = std::fs::File::open(path).and_then(|f| f.take(MAX_POLICY as u64 + 1).read_to_end(&mut bytes));
        reading.map_err(|e| refused(e.to_string()))?;
        let policy = Policy::parse(&bytes).map_err(|e| refused(e.to_string()))?;
        if policy.asks_for_none() {
            return Err(refused("its quorum is none, so there is nobody to ask; leave witness.policy out".into()));
        }
        let mut witnesses = Vec::new();
        for witness in policy.witnesses() {
            let Some(url) = &witness.url else { continue };
            let bad = |why: String| refused(format!("witness {}: {why}", witness.key.name()));
            let address = Address::parse(url).map_err(bad)?;
            if address.url.query().is_some() {
                return Err(bad("url: a prefix of paths, without a question mark".into()));
            }
            let path = format!("{}/add-checkpoint", address.url.path().trim_end_matches('/'));
            witnesses.push(Arc::new(Witness { key: witness.key.clone(), address, path }));
        }
        if !policy.is_enough(|witness| witness.url.is_some()) {
            return Err(refused("the witnesses that have a URL are not enough for its quorum".into()));
        }
        let outward = Outward::new(config.ca.as_deref(), &config.allow_private, clock);
        let outward = outward.map_err(|e| BadConfig::Witness(format!("ca: {e}")))?;
        Ok(Some(Self { policy, witnesses, outward, every: config.every(), patience: config.patience() }))
    }

    /// Whether the policy is one for the log of these keys. It may name the log by one that signed before.
    pub(super) fn fits(&self, keys: &KeyChain) -> Result<(), NotKept> {
        let logs = self.policy.logs();
        if !logs.is_empty() && !logs.iter().any(|log| keys.has(log)) {
            let key = keys.newest();
            return Err(NotKept::Policy(format!("it names logs, and this one, {key}, is not among them")));
        }
        let is_ours = |witness: &&legate_merkle::Witness| keys.keys().any(|key| key.public() == witness.key.public());
        match self.policy.witnesses().iter().find(is_ours) {
            Some(own) => {
                Err(NotKept::Policy(format!("{} has the log's own key, which witnesses nothing", own.key.name())))
            }
            None => Ok(()),
        }
    }
}
