//! Trusted issuers: whose tokens are believed in a namespace, and whom they stand for.

use std::collections::BTreeMap;
use std::sync::Arc;

use legate_ids::Name;

use crate::Snapshot;
use crate::convert;
use crate::record::Label;
use crate::shards::Shards;
use crate::snapshot::Unreadable;
use crate::take_in::{Effect, name_of};

/// An issuer outside.
#[derive(Clone, Debug)]
pub struct TrustedIssuer {
    /// Its name and namespace.
    pub label: Label,
    /// The `iss` of its tokens, byte for byte.
    pub issuer: String,
    /// The `aud` of its tokens is one of these, alone.
    pub audiences: Vec<String>,
    /// Where its keys are.
    pub keys: IssuerKeys,
    /// Whom its tokens stand for: the first rule whose claims all match.
    pub rules: Vec<ClaimRule>,
    /// The `aud` of the tokens by which people make grants of their own is one of these, alone; none: they make none.
    pub grant_audiences: Vec<String>,
    /// How many of its tokens may be kept as used.
    pub max_used_tokens: u32,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuerKeys {
    /// Here, as a JWK set in JSON.
    Inline(Arc<str>),
    /// At an https URL.
    At(Arc<str>),
}

/// Maps tokens to whom they stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRule {
    /// Claims by path, names joined by `/`, that have to be present and equal to these texts.
    pub claims: BTreeMap<String, String>,
    /// Whom the token stands for; `None`: nobody.
    pub stands_for: Option<StandsFor>,
    /// The claim that lists the groups of people that the person is a member of; `None`: it is of none.
    pub groups_claim: Option<String>,
}

/// Whom a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandsFor {
    /// The agent of the namespace that had the name when the issuer was last written.
    Agent(Name),
    /// The person whom this claim names.
    User(String),
    /// The node of the namespace that had the name when the issuer was last written.
    Node(Name),
    /// The node of the namespace that this claim names.
    NodeOf(String),
}

/// All trusted issuers by namespace and name.
#[derive(Clone, Debug)]
pub(crate) struct Issuers(Shards<Arc<BTreeMap<Name, Arc<TrustedIssuer>>>>);

impl Issuers {
    pub(crate) fn new() -> Self {
        Self(Shards::new())
    }

    pub(crate) fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<TrustedIssuer>> {
        self.0.get(namespace).into_iter().flat_map(|all| all.values())
    }

    /// Puts an issuer in the place of what there was of it; `None`: it is taken out.
    pub(crate) fn set(&mut self, namespace: &Name, name: &Name, issuer: Option<TrustedIssuer>) {
        let is_empty = self.0.change(namespace.as_str(), |all| {
            let all = Arc::make_mut(all);
            match issuer {
                Some(issuer) => all.insert(name.clone(), Arc::new(issuer)),
                None => all.remove(name),
            };
            all.is_empty()
        });
        if is_empty {
            self.0.remove(namespace.as_str());
        }
    }
}

impl Snapshot {
    /// The issuers outside whose tokens are believed in the namespace, by name.
    pub fn trusted_issuers(&self, namespace: &str) -> impl Iterator<Item = &Arc<TrustedIssuer>> {
        self.issuers.of_namespace(namespace)
    }

    /// Takes one in, or out. One that cannot be read is trusted with nothing.
    pub(crate) fn apply_trusted_issuer(
        &mut self,
        o: &legate_wire::registry::TrustedIssuer,
        revoked: bool,
    ) -> Result<Effect, Unreadable> {
        let place = name_of(o.metadata.as_ref());
        let unreadable = |why| Unreadable { kind: "TrustedIssuer", name: place.clone(), why };
        let label = convert::label(o.metadata.as_ref()).map_err(unreadable)?;
        let issuer = (!revoked).then(|| convert::trusted_issuer(o)).transpose().unwrap_or_else(|why| {
            let kind = "TrustedIssuer";
            tracing::error!(kind, key = place, why, "an object of the registry cannot be read; it grants nothing");
            None
        });
        self.issuers.set(&label.namespace, &label.name, issuer);
        Ok(Effect::default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_wire::registry as wire;
    use legate_wire::registry::declaration::Object;

    use super::*;

    fn declared(namespace: &str, name: &str, keys: (&str, &str), stands_for: wire::claim_rule::StandsFor) -> Object {
        Object::TrustedIssuer(wire::TrustedIssuer {
            metadata: Some(wire::Metadata { namespace: namespace.into(), name: name.into(), ..Default::default() }),
            spec: Some(wire::TrustedIssuerSpec {
                issuer: "https://issuer.example".into(),
                audiences: vec!["legate".into()],
                jwks: keys.0.into(),
                jwks_uri: keys.1.into(),
                rules: vec![
                    wire::ClaimRule {
                        claims: BTreeMap::from([("sub".into(), "a".into())]),
                        stands_for: Some(stands_for),
                        groups_claim: "groups".into(),
                    },
                    wire::ClaimRule {
                        claims: BTreeMap::from([("sub".into(), "gone".into())]),
                        ..wire::ClaimRule::default()
                    },
                ],
                ..Default::default()
            }),
        })
    }

    #[test]
    fn issuers_are_of_their_namespace_and_what_cannot_be_read_trusts_nobody() {
        let agent = || wire::claim_rule::StandsFor::Agent("bot".into());
        let mut snapshot = Snapshot::default();
        let mut apply = |object: Object, revoked| {
            snapshot.apply(&wire::Declaration { object: Some(object) }, revoked).unwrap();
            let of = |namespace| snapshot.trusted_issuers(namespace).cloned().collect::<Vec<_>>();
            (of("a"), of("b"))
        };
        let (a, b) = apply(declared("a", "ci", ("", "https://issuer.example/keys"), agent()), false);
        assert_eq!((a.len(), b.len()), (1, 0));
        assert_eq!(a[0].keys, IssuerKeys::At("https://issuer.example/keys".into()));
        assert_eq!(a[0].rules[0].stands_for, Some(StandsFor::Agent(Name::parse("bot").unwrap())));
        assert_eq!(a[0].rules[1].stands_for, None);
        let user = wire::claim_rule::StandsFor::UserClaim("email".into());
        let (a, b) = apply(declared("b", "people", ("{}", ""), user), false);
        assert_eq!((a.len(), b.len()), (1, 1));
        assert_eq!(b[0].rules[0].stands_for, Some(StandsFor::User("email".into())));
        // Both or neither kind of keys; and a name that is none.
        for (keys, stands_for) in [
            (("{}", "https://issuer.example/keys"), agent()),
            (("", ""), agent()),
            (("{}", ""), wire::claim_rule::StandsFor::Agent("../bot".into())),
        ] {
            apply(declared("a", "ci", ("{}", ""), agent()), false);
            let (a, _) = apply(declared("a", "ci", keys, stands_for), false);
            assert!(a.is_empty(), "{keys:?}");
        }
        let (_, b) = apply(declared("b", "people", ("{}", ""), agent()), true);
        assert!(b.is_empty());
    }
}
