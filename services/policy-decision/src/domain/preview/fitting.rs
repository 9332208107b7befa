//! Which policies the registry would refuse with a change: they do not speak of what there is, or not of what their namespace declares.

use legate_cedar::{Declared, Spoken, validate};
use legate_view::Snapshot;

/// The most pairs of a policy and an action on a type that are looked at, as at the registry.
const MOST_PAIRS: usize = 50_000;
/// The most text of policies that is looked at, in bytes: it takes as long as the text is, and cannot be broken off.
const MOST_TEXT: usize = 256 << 10;
/// Policies of one namespace that are told.
pub(crate) const TOLD: usize = 100;

/// What does not fit, each in a sentence: policies that are new or changed, and, where the schema is, all of them.
pub(crate) fn unfit(before: &Snapshot, after: &Snapshot, namespace: &str) -> Vec<String> {
    let Some(policies) = after.policies(namespace) else { return Vec::new() };
    let text_of =
        |snapshot: &Snapshot| snapshot.policy_schema(namespace).map(|text| text.to_string()).unwrap_or_default();
    let (was, is) = (text_of(before), text_of(after));
    let is_new_schema = !is.is_empty() && was != is;
    let known = before.policies(namespace);
    let is_changed = |name, policy: &legate_view::Policy| {
        let known = known.and_then(|all| all.by_name.get(name));
        known.is_none_or(|known| known.cedar != policy.cedar || known.mode != policy.mode)
    };
    let mut looked: Vec<_> =
        policies.by_name.iter().filter(|(name, policy)| is_new_schema || is_changed(name, policy)).collect();
    looked.sort_by_key(|(name, _)| *name);
    let declared = match is.as_str() {
        "" => None,
        text => match Declared::parse(text) {
            Ok(declared) => Some(declared),
            Err(e) => return vec![format!("the policySchema of {namespace} cannot be used: {e}")],
        },
    };
    let pairs = looked.len().saturating_mul(declared.as_ref().map_or(1, Declared::environments));
    if pairs > MOST_PAIRS {
        let text = format!(
            "the policies of {namespace} were not looked at: {pairs} pairs of a policy and an action on a type"
        );
        return vec![format!("{text}; {MOST_PAIRS} at most")];
    }
    let bytes: usize = looked.iter().map(|(_, policy)| policy.cedar.len()).sum();
    if bytes > MOST_TEXT {
        return vec![format!("the policies of {namespace} were not looked at: {bytes} bytes; {MOST_TEXT} at most")];
    }
    let spoken: Vec<_> =
        looked.iter().map(|(_, policy)| Spoken { text: &policy.cedar, declared: declared.as_ref() }).collect();
    if spoken.is_empty() {
        return Vec::new();
    }
    let found = looked.iter().zip(validate(&spoken));
    let told = found.filter_map(|((name, policy), found)| {
        let first = found.first()?;
        let more = if found.len() > 1 { format!(" (and {} more)", found.len() - 1) } else { String::new() };
        Some(format!("policy {namespace}/{name} does not fit what there is {}{more}", first.told(&policy.cedar)))
    });
    told.take(TOLD).collect()
}
