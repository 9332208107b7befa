//! What `legate verify` asks of witnesses: a policy in a file, and the cosignatures under a checkpoint that satisfy it.

use std::path::Path;

use legate_clock::Timestamp;
use legate_merkle::{Cosigned, MAX_POLICY, Policy, VerifierKey};
use serde_json::{Value, json};

use super::super::audit::read_key;
use super::bounded;
use crate::Failure;
use crate::cli::Verify;
use crate::error::{CONTEXT_MISSING, FILE_REFUSED};

/// The policy of the command line, where there is one.
pub(super) fn policy(args: &Verify) -> Result<Option<Policy>, Failure> {
    let Some(path) = args.witness_policy.as_deref() else { return Ok(None) };
    let bytes = bounded(path, MAX_POLICY as u64).map_err(|e| Failure::file(path, e))?;
    Policy::parse(&bytes).map(Some).map_err(|e| Failure::file(path, e))
}

/// The log's key, from its file or the policy; `None`: neither has one.
pub(super) fn key(key: Option<&Path>, policy: Option<&Policy>) -> Result<Option<VerifierKey>, Failure> {
    let named = policy.map(Policy::logs).unwrap_or_default();
    match (key.map(read_key).transpose()?, named) {
        (Some(key), logs) if logs.is_empty() || logs.contains(&key) => Ok(Some(key)),
        (Some(key), _) => {
            let what = format!("the policy of witnesses names logs, and {} of --key is not among them", key.name());
            Err(Failure::local(&FILE_REFUSED, what))
        }
        // The keys of one log, before and after a rotation, lead to each other.
        (None, [one, more @ ..]) if more.iter().all(|key| key.name() == one.name()) => Ok(Some(one.clone())),
        (None, _) => Ok(None),
    }
}

/// The same, where nothing can be said without it.
pub(super) fn needed(key_file: Option<&Path>, policy: Option<&Policy>) -> Result<VerifierKey, Failure> {
    let missing = || Failure::local(&CONTEXT_MISSING, "nobody said which key signs the log: --key is missing");
    key(key_file, policy)?.ok_or_else(missing)
}

/// For people: each witness, and when it cosigned.
pub(super) fn lines(found: &Cosigned) -> String {
    let line = |(name, time): &(String, u64)| format!("{name}, {}", moment(*time));
    found.by.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// For programs.
pub(super) fn value(found: &Cosigned) -> Value {
    found.by.iter().map(|(name, time)| json!({ "witness": name, "time": moment(*time) })).collect()
}

fn moment(time: u64) -> String {
    Timestamp::from_secs(i64::try_from(time).unwrap_or(i64::MAX)).to_string()
}
