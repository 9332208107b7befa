//! Other trust domains whose SVIDs the agents of some namespaces can verify.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use legate_ids::{Name, SpiffeId, TrustDomain};

use crate::Snapshot;
use crate::record::Label;

/// Another trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederatedTrustDomain {
    /// Its name and namespace.
    pub label: Label,
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// Its bundle in JSON, as it is declared: what there is until one was fetched.
    pub bundle: Option<Arc<str>>,
    /// Where its bundle is fetched.
    pub endpoint: Option<BundleEndpoint>,
    /// How often; `None`: as the bundle says.
    pub refresh: Option<Duration>,
    /// The other namespaces whose agents may use it.
    pub namespaces: BTreeSet<Name>,
}

/// Where a bundle is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleEndpoint {
    /// An https URL.
    pub url: Arc<str>,
    /// Its SPIFFE ID; `None`: it shows a certificate for the name in the URL.
    pub spiffe_id: Option<SpiffeId>,
}

impl FederatedTrustDomain {
    /// `NAMESPACE/NAME`.
    #[must_use]
    pub fn source(&self) -> String {
        format!("{}/{}", self.label.namespace, self.label.name)
    }
}

impl Snapshot {
    /// Every one of them, by namespace and name.
    #[must_use]
    pub fn federated_trust_domains(&self) -> Vec<&Arc<FederatedTrustDomain>> {
        let mut all: Vec<_> = self.federated.values().collect();
        all.sort_unstable_by(|a, b| (&a.label.namespace, &a.label.name).cmp(&(&b.label.namespace, &b.label.name)));
        all
    }

    /// What the agents of the namespace may use, one for each trust domain: where several speak of one, the namespace's own counts, and
    /// of several of these the first by name.
    #[must_use]
    pub fn federates_with(&self, namespace: &Name) -> Vec<&Arc<FederatedTrustDomain>> {
        let all = self.federated_trust_domains();
        let own = all.iter().filter(|one| one.label.namespace == *namespace);
        let lent = all.iter().filter(|one| one.label.namespace != *namespace && one.namespaces.contains(namespace));
        let mut found: BTreeMap<&str, &Arc<FederatedTrustDomain>> = BTreeMap::new();
        for one in own.chain(lent) {
            found.entry(one.trust_domain.as_str()).or_insert(one);
        }
        found.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_wire::registry as wire;
    use legate_wire::registry::declaration::Object;

    use super::*;

    fn declared(namespace: &str, name: &str, domain: &str, namespaces: &[&str]) -> wire::Declaration {
        let spec = wire::FederatedTrustDomainSpec {
            trust_domain: domain.into(),
            bundle: r#"{"keys":[]}"#.into(),
            namespaces: namespaces.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        let metadata = Some(wire::Metadata { namespace: namespace.into(), name: name.into(), ..Default::default() });
        let of = wire::FederatedTrustDomain { metadata, spec: Some(spec) };
        wire::Declaration { object: Some(Object::FederatedTrustDomain(of)) }
    }

    fn used(snapshot: &Snapshot, namespace: &str) -> Vec<String> {
        let found = snapshot.federates_with(&Name::parse(namespace).unwrap());
        found.iter().map(|one| format!("{} by {}", one.trust_domain, one.source())).collect()
    }

    #[test]
    fn each_trust_domain_has_one_word_in_a_namespace_and_others_none() {
        let mut snapshot = Snapshot::default();
        for one in [
            declared("a", "partner", "partner.example", &["b"]),
            declared("a", "partner-2", "partner.example", &["b", "c"]),
            declared("b", "zz", "partner.example", &[]),
            declared("b", "bank", "bank.example", &[]),
        ] {
            snapshot.apply(&one, false).unwrap();
        }
        assert_eq!(used(&snapshot, "a"), ["partner.example by a/partner"]);
        assert_eq!(used(&snapshot, "b"), ["bank.example by b/bank", "partner.example by b/zz"]);
        assert_eq!(used(&snapshot, "c"), ["partner.example by a/partner-2"]);
        assert_eq!(used(&snapshot, "d"), Vec::<String>::new());
        snapshot.apply(&declared("b", "zz", "partner.example", &[]), true).unwrap();
        assert_eq!(used(&snapshot, "b"), ["bank.example by b/bank", "partner.example by a/partner"]);
        // One that cannot be read verifies nobody.
        snapshot.apply(&declared("b", "bank", "BANK", &[]), false).unwrap();
        assert_eq!(used(&snapshot, "b"), ["partner.example by a/partner"]);
    }
}
