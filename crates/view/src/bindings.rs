//! Role bindings, found by whom they name.

use std::sync::Arc;

use crate::record::RoleBinding;
use crate::shards::Shards;
use crate::snapshot::key;

/// Puts a binding where `named` says, and takes it out from where it was.
pub(crate) fn index(
    place: &mut Shards<Arc<[Arc<RoleBinding>]>>,
    before: Option<&Arc<RoleBinding>>,
    after: Option<&Arc<RoleBinding>>,
    named: impl Fn(&Arc<RoleBinding>) -> Vec<String>,
) {
    let listed = |binding: Option<&Arc<RoleBinding>>| {
        let key = |b: &Arc<RoleBinding>, name: &String| key(b.label.namespace.as_str(), name);
        binding.map_or_else(Vec::new, |b| named(b).iter().map(|name| (key(b, name), Arc::clone(b))).collect())
    };
    for (key, old) in listed(before) {
        let rest: Vec<_> = place
            .get(&key)
            .map_or_else(Vec::new, |all| all.iter().filter(|b| b.label.name != old.label.name).cloned().collect());
        if rest.is_empty() {
            place.remove(&key);
        } else {
            place.insert(&key, rest.into());
        }
    }
    for (key, new) in listed(after) {
        let mut all: Vec<_> = place.get(&key).map_or_else(Vec::new, |all| all.to_vec());
        // A binding may name somebody twice.
        if !all.iter().any(|b| b.label.name == new.label.name) {
            all.push(new);
            place.insert(&key, all.into());
        }
    }
}
