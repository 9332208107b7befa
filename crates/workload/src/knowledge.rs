//! What credential-issuer told this node: whom it may vouch for, and what verifies others.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use legate_ids::{Principal, SpiffeId, TrustDomain};
use legate_mtls::pki;
use legate_token::SvidKeys;
use legate_wire::credential as wire;
use legate_wire::registry::{AttestationSelector, AttestationSelectorType as Type};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

use crate::attest::lacks_only_the_hash;
use crate::shown::{Shown, is_seen};

/// More than so many entitlements, authorities or selectors nobody tells us.
const MOST: usize = 10_000;

/// Why a state is not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("credential-issuer told what cannot be: {0}")]
pub(crate) struct BadState(String);

fn bad(what: impl std::fmt::Display) -> BadState {
    BadState(what.to_string())
}

/// Which attestation policy: its namespace and its name.
pub(crate) type PolicyName = (String, String);

/// All of it, as of one moment.
#[derive(Clone, Debug)]
pub(crate) struct Knowledge {
    pub(crate) revision: u64,
    pub(crate) entitlements: Vec<Arc<Entitlement>>,
    pub(crate) bundle: Arc<Bundle>,
    /// What verifies other trust domains, by where it comes from.
    pub(crate) federated: HashMap<String, Arc<Bundle>>,
    /// Instances whose SVIDs are served no more, and why.
    pub(crate) ended: HashMap<String, Fell>,
}

/// How an instance fell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fell {
    /// It was revoked: its process is given no other.
    Revoked,
    /// Its agent was stopped, or what that hangs on: as soon as the agent may again, its process becomes another.
    CutOff,
}

/// One attestation policy that believes this node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entitlement {
    pub(crate) policy: PolicyName,
    pub(crate) selectors: Vec<AttestationSelector>,
    /// The agent's, without instance.
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) is_usable: bool,
    pub(crate) lifecycle_version: u64,
    /// For how long what the agent holds is served unheard; `None`: until it ends.
    pub(crate) serve_unheard: Option<Duration>,
    /// The federated bundles that the agent may use.
    pub(crate) federates_with: Vec<String>,
    /// The broker that has to ask for it, without instance.
    pub(crate) broker: Option<SpiffeId>,
}

impl Entitlement {
    /// `NAMESPACE/NAME`.
    pub(crate) fn hint(&self) -> String {
        format!("{}/{}", self.policy.0, self.policy.1)
    }
}

/// What verifies the SVIDs of a trust domain: of ours, or of another.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) domain: TrustDomain,
    /// The CA certificates in DER, one after the other.
    pub(crate) x509: Vec<u8>,
    /// The same in PEM.
    pub(crate) x509_pem: String,
    /// Those whose certificates are replaced now.
    tainted: Vec<Signer>,
    /// The keys that verify JWT-SVIDs, as a JWK Set.
    pub(crate) jwt: String,
    pub(crate) jwt_keys: SvidKeys,
}

/// Who signed a certificate: the identifier of its key, else its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signer {
    Key(Vec<u8>),
    Name(Vec<u8>),
}

impl Signer {
    /// Who signed a leaf (RFC 5280 section 4.2.1.1).
    pub(crate) fn of_leaf(der: &[u8]) -> Option<Self> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let key = cert.extensions().iter().find_map(|e| match e.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
            _ => None,
        });
        Some(key.map_or_else(|| Self::Name(cert.issuer().as_raw().to_vec()), Self::Key))
    }

    /// As whom a CA signs: by each of the two.
    fn of_authority(der: &[u8]) -> Option<[Option<Self>; 2]> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let key = cert.extensions().iter().find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(Self::Key(id.0.to_vec())),
            _ => None,
        });
        Some([key, Some(Self::Name(cert.subject().as_raw().to_vec()))])
    }
}

impl Bundle {
    /// The trust domain as a SPIFFE ID, by which bundles are listed.
    pub(crate) fn name(&self) -> String {
        format!("spiffe://{}", self.domain)
    }

    /// Whether certificates of this signer are replaced now.
    pub(crate) fn is_tainted(&self, signer: &Signer) -> bool {
        self.tainted.contains(signer)
    }
}

impl Knowledge {
    /// Reads a state.
    ///
    /// # Errors
    /// [`BadState`] when it cannot be one for us: then nothing of it is taken.
    pub(crate) fn read(revision: u64, state: wire::NodeState, ours: &TrustDomain) -> Result<Self, BadState> {
        let wire::NodeState { entitlements, bundle, ended_instances, federated_bundles, cut_off_instances } = state;
        let most_fallen = MOST * 10;
        if entitlements.len() > MOST || ended_instances.len() > most_fallen || federated_bundles.len() > MOST {
            return Err(bad("more than a node has"));
        }
        let bundle = Arc::new(read_bundle(bundle.ok_or_else(|| bad("no bundle"))?, ours)?);
        let entitlements: Result<Vec<_>, _> =
            entitlements.into_iter().map(|one| read_entitlement(one, ours).map(Arc::new)).collect();
        let federated = federated_bundles.into_iter().filter_map(|one| {
            let source = one.source.clone();
            match read_federated(one, ours) {
                Ok(bundle) => Some((source, Arc::new(bundle))),
                Err(why) => {
                    // Its domain is verified by nobody here; ours goes on.
                    tracing::error!(source, %why, "the bundle of another trust domain is left out");
                    None
                }
            }
        });
        let federated = federated.collect();
        let cut_off: HashSet<String> = cut_off_instances.into_iter().take(most_fallen).collect();
        let how = |id: &String| if cut_off.contains(id) { Fell::CutOff } else { Fell::Revoked };
        let ended = ended_instances.into_iter().map(|id| (how(&id), id)).map(|(how, id)| (id, how)).collect();
        Ok(Self { revision, entitlements: entitlements?, bundle, federated, ended })
    }

    /// What a process is entitled to of which this is shown, in the order of the policies' names.
    pub(crate) fn of<'a>(&'a self, shown: &'a Shown) -> impl Iterator<Item = &'a Arc<Entitlement>> {
        self.entitlements.iter().filter(|one| shown.meets(one))
    }

    /// The policies that ask for the hash of the program of a process of which this was seen, and lack nothing else of what can be seen.
    pub(crate) fn asking_for_hash(&self, seen: &[AttestationSelector]) -> impl Iterator<Item = &PolicyName> {
        let asks = move |by: &&Arc<Entitlement>| {
            lacks_only_the_hash(&by.selectors, |one| !is_seen(one.r#type()) || seen.contains(one))
        };
        self.entitlements.iter().filter(asks).map(|by| &by.policy)
    }

    /// What is told of a policy now.
    pub(crate) fn entitlement(&self, policy: &PolicyName) -> Option<Arc<Entitlement>> {
        self.entitlements.iter().find(|one| one.policy == *policy).cloned()
    }

    /// What verifies other trust domains for whoever holds SVIDs by these, one for each domain and in the order of their names.
    pub(crate) fn federated_for<'a>(&self, held: impl Iterator<Item = &'a Arc<Entitlement>>) -> Vec<Arc<Bundle>> {
        let mut found: BTreeMap<&str, &Arc<Bundle>> = BTreeMap::new();
        for source in held.flat_map(|by| &by.federates_with) {
            if let Some(bundle) = self.federated.get(source) {
                found.entry(bundle.domain.as_str()).or_insert(bundle);
            }
        }
        found.into_values().cloned().collect()
    }
}

fn read_entitlement(told: wire::Entitlement, ours: &TrustDomain) -> Result<Entitlement, BadState> {
    let policy = (told.namespace, told.policy);
    let spiffe_id = SpiffeId::parse(&told.spiffe_id).map_err(bad)?;
    let is_agent = matches!(Principal::of(&spiffe_id), Ok(Principal::Agent { instance: None, .. }));
    if !is_agent || spiffe_id.trust_domain() != ours.as_str() {
        return Err(bad(format!("{} is no agent of ours", told.spiffe_id)));
    }
    if told.selectors.is_empty() || told.selectors.len() > 64 {
        return Err(bad(format!("{}/{} asks for nothing, or for too much", policy.0, policy.1)));
    }
    let broker = match told.broker_spiffe_id.as_str() {
        "" => None,
        id => {
            let id = SpiffeId::parse(id).map_err(bad)?;
            let is_agent = matches!(Principal::of(&id), Ok(Principal::Agent { instance: None, .. }));
            if !is_agent || id.trust_domain() != ours.as_str() {
                return Err(bad(format!("{id} is no agent of ours")));
            }
            Some(id)
        }
    };
    let serve_unheard = told.serve_unheard.map(Duration::try_from).transpose().map_err(bad)?;
    Ok(Entitlement {
        policy,
        selectors: told.selectors,
        spiffe_id,
        is_usable: told.is_usable,
        lifecycle_version: told.lifecycle_version,
        serve_unheard,
        federates_with: told.federates_with,
        broker,
    })
}

/// What verifies another trust domain. Our own is verified by our own bundle alone, whatever others say.
fn read_federated(told: wire::FederatedBundle, ours: &TrustDomain) -> Result<Bundle, BadState> {
    let domain = TrustDomain::parse(&told.trust_domain).map_err(bad)?;
    if domain == *ours {
        return Err(bad("a bundle of our own trust domain from elsewhere"));
    }
    bundle_of(domain, &told.x509_authorities, &[], told.jwt_authorities)
}

fn read_bundle(told: wire::TrustBundle, ours: &TrustDomain) -> Result<Bundle, BadState> {
    if told.trust_domain != ours.as_str() {
        return Err(bad(format!("the bundle is of {}, and we are of {ours}", told.trust_domain)));
    }
    if told.x509_authorities.is_empty() {
        return Err(bad("no CA certificate"));
    }
    bundle_of(ours.clone(), &told.x509_authorities, &told.tainted_authorities, told.jwt_authorities)
}

fn bundle_of(domain: TrustDomain, x509: &[Vec<u8>], tainted: &[Vec<u8>], jwt: String) -> Result<Bundle, BadState> {
    if x509.len() > MOST {
        return Err(bad("too many CA certificates"));
    }
    for der in x509.iter().chain(tainted) {
        let whole = X509Certificate::from_der(der).is_ok_and(|(rest, _)| rest.is_empty());
        if !whole {
            return Err(bad("a CA certificate is not one"));
        }
    }
    let pem = |der: &Vec<u8>| pki::to_pem(&CertificateDer::from(der.as_slice()));
    Ok(Bundle {
        domain,
        x509_pem: x509.iter().map(pem).collect(),
        x509: x509.concat(),
        tainted: tainted.iter().filter_map(|der| Signer::of_authority(der)).flatten().flatten().collect(),
        jwt_keys: SvidKeys::parse(&jwt).map_err(bad)?,
        jwt,
    })
}

/// What a selector is called in a log.
pub(crate) fn in_words(selectors: &[AttestationSelector]) -> String {
    let word = |s: &AttestationSelector| {
        let of = Type::try_from(s.r#type).unwrap_or_default().as_str_name();
        let of = of.strip_prefix("ATTESTATION_SELECTOR_TYPE_").unwrap_or(of).to_lowercase();
        format!("{of}={}", s.value)
    };
    selectors.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_clock::Timestamp;
    use legate_mtls::pki::{Ca, Leaf};
    use proptest::prelude::*;

    const AGENT: &str = "spiffe://dev.legate/ns/a/agent/agt_01jzzzzzzzfzz8zzzzzzzzzzzz";

    pub(crate) fn selector(of: Type, value: &str) -> AttestationSelector {
        AttestationSelector { r#type: of.into(), value: value.into() }
    }

    fn domain() -> TrustDomain {
        TrustDomain::parse("dev.legate").unwrap()
    }

    fn ca() -> Ca {
        Ca::generate("workloads", Timestamp::from_secs(1_800_000_000), Duration::from_secs(3_600)).unwrap()
    }

    fn der(ca: &Ca) -> Vec<u8> {
        pki::certificates(ca.cert_pem()).unwrap()[0].to_vec()
    }

    fn state(ca: &Ca) -> wire::NodeState {
        let bundle = wire::TrustBundle {
            trust_domain: "dev.legate".into(),
            x509_authorities: vec![der(ca)],
            tainted_authorities: vec![],
            jwt_authorities: r#"{"keys":[]}"#.into(),
        };
        let one = wire::Entitlement {
            namespace: "a".into(),
            policy: "p".into(),
            selectors: vec![selector(Type::UnixUid, "1000")],
            agent_id: String::new(),
            spiffe_id: AGENT.into(),
            is_usable: true,
            lifecycle_version: 1,
            ..wire::Entitlement::default()
        };
        let ended_instances = vec!["inst_1".into(), "inst_2".into()];
        let cut_off_instances = vec!["inst_2".into(), "inst_3".into()];
        let (entitlements, bundle, federated_bundles) = (vec![one], Some(bundle), vec![]);
        wire::NodeState { entitlements, bundle, ended_instances, federated_bundles, cut_off_instances }
    }

    /// What is known where these instances were revoked, and those cut off.
    pub(crate) fn known(revoked: &[&str], cut_off: &[&str]) -> Knowledge {
        let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut told = state(&ca());
        (told.ended_instances, told.cut_off_instances) = (texts(&[revoked, cut_off].concat()), texts(cut_off));
        Knowledge::read(3, told, &domain()).unwrap()
    }

    pub(crate) fn entitlement(selectors: &[AttestationSelector], broker: Option<&str>) -> Entitlement {
        let broker = broker.map(|id| SpiffeId::parse(&format!("spiffe://dev.legate/ns/a/agent/{id}")).unwrap());
        Entitlement {
            policy: ("a".into(), "p".into()),
            selectors: selectors.to_vec(),
            spiffe_id: SpiffeId::parse(AGENT).unwrap(),
            is_usable: true,
            lifecycle_version: 1,
            serve_unheard: None,
            federates_with: Vec::new(),
            broker,
        }
    }

    #[test]
    fn another_trust_domain_is_verified_by_its_own_bundle_and_ours_by_ours() {
        let (ca, foreign) = (ca(), ca());
        let mut told = state(&ca);
        let one = |source: &str, domain: &str, authority: Vec<u8>| wire::FederatedBundle {
            source: source.into(),
            trust_domain: domain.into(),
            x509_authorities: vec![authority],
            jwt_authorities: r#"{"keys":[]}"#.into(),
        };
        told.federated_bundles = vec![
            one("a/partner", "partner.example", der(&foreign)),
            one("a/ours", "dev.legate", der(&foreign)),
            one("a/broken", "broken.example", b"x".to_vec()),
            one("b/partner", "partner.example", der(&ca)),
        ];
        let all = ["b/lost", "a/ours", "a/broken", "a/partner", "b/partner"];
        told.entitlements[0].federates_with = all.iter().map(ToString::to_string).collect();
        let known = Knowledge::read(3, told, &domain()).unwrap();
        assert_eq!(known.bundle.x509, der(&ca), "nobody else says what verifies us");
        let found = known.federated_for(known.entitlements.iter());
        let found: Vec<_> = found.iter().map(|bundle| (bundle.name(), bundle.x509.clone())).collect();
        assert_eq!(found, [("spiffe://partner.example".to_owned(), der(&foreign))], "the first that is named");
    }

    #[test]
    fn what_cannot_be_is_not_taken_in() {
        let ca = ca();
        let good = state(&ca);
        let read = Knowledge::read(3, good.clone(), &domain()).unwrap();
        let fell = [("inst_1".to_owned(), Fell::Revoked), ("inst_2".to_owned(), Fell::CutOff)];
        assert_eq!(read.ended, HashMap::from(fell), "what is cut off has ended as well");
        assert_eq!(read.bundle.name(), "spiffe://dev.legate");
        assert_eq!(read.bundle.x509, der(&ca));
        type Spoil = fn(&mut wire::NodeState);
        let spoilt: [Spoil; 8] = [
            |s| s.bundle = None,
            |s| s.bundle.as_mut().unwrap().trust_domain = "other".into(),
            |s| s.bundle.as_mut().unwrap().x509_authorities.clear(),
            |s| s.bundle.as_mut().unwrap().x509_authorities[0].push(0),
            |s| s.bundle.as_mut().unwrap().jwt_authorities.clear(),
            |s| s.entitlements[0].selectors.clear(),
            |s| s.entitlements[0].spiffe_id = "spiffe://dev.legate/legate/registry".into(),
            |s| s.entitlements[0].spiffe_id = AGENT.replace("dev.legate", "other"),
        ];
        for (n, spoil) in spoilt.into_iter().enumerate() {
            let mut state = good.clone();
            spoil(&mut state);
            assert!(Knowledge::read(3, state, &domain()).is_err(), "{n}");
        }
    }

    #[test]
    fn a_certificate_of_a_tainted_authority_is_known() {
        let (old, new) = (ca(), ca());
        let mut told = state(&new);
        told.bundle.as_mut().unwrap().x509_authorities.push(der(&old));
        told.bundle.as_mut().unwrap().tainted_authorities.push(der(&old));
        let bundle = Knowledge::read(3, told, &domain()).unwrap().bundle;
        let id = SpiffeId::parse(AGENT).unwrap();
        let leaf = Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl: Duration::from_secs(60) };
        let signer = |ca: &Ca| {
            let issued = ca.issue(&leaf, Timestamp::from_secs(1_800_000_000)).unwrap();
            Signer::of_leaf(&pki::certificates(&issued.cert_pem).unwrap()[0]).unwrap()
        };
        assert!(bundle.is_tainted(&signer(&old)));
        assert!(!bundle.is_tainted(&signer(&new)), "of the same name, by another key");
    }

    proptest! {
        /// Whatever else is attested: a policy is met exactly when all that it asks for is there.
        #[test]
        fn a_policy_is_met_by_all_that_it_asks_for_and_more(asked in proptest::collection::vec((1i32..8, "[a-c]"), 1..5),
                                                            more in proptest::collection::vec((1i32..8, "[a-c]"), 0..5),
                                                            without in any::<proptest::sample::Index>()) {
            let of = |all: &[(i32, String)]| -> Vec<AttestationSelector> {
                all.iter().map(|(of, value)| AttestationSelector { r#type: *of, value: value.clone() }).collect()
            };
            let shown = |all: &[AttestationSelector]| Shown { selectors: all.into(), tokens: [].into(), broker: None };
            let one = entitlement(&of(&asked), None);
            let all: Vec<_> = of(&asked).into_iter().chain(of(&more)).collect();
            prop_assert!(shown(&all).meets(&one));
            let missing = &one.selectors[without.index(one.selectors.len())];
            let rest: Vec<_> = all.iter().filter(|s| *s != missing).cloned().collect();
            prop_assert!(!shown(&rest).meets(&one));
            let of_nothing = Entitlement { selectors: vec![], ..one.clone() };
            prop_assert!(!shown(&all).meets(&of_nothing), "one that asks for nothing is met by nothing");
        }
    }
}
