//! SPIFFE IDs, read strictly, and whom a Legate SPIFFE ID names.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;

use crate::{AgentId, InstanceId, Name};

/// A SPIFFE trust domain: 1 to 255 of `a-z 0-9 . - _` (SPIFFE-ID specification, section 2.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

/// A SPIFFE ID, `spiffe://TRUST_DOMAIN/PATH`, 2048 bytes at most (SPIFFE-ID specification, section 2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: String,
    path_at: usize,
}

/// Whom a SPIFFE ID of ours names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    /// A person or pipeline that administers: `/legate/operator/NAME`.
    Operator(Name),
    /// One of our services: `/legate/SERVICE`.
    Service(Name),
    /// An agent, or one running copy of it: `/ns/NAMESPACE/agent/AGENT_ID[/instance/INSTANCE_ID]`.
    Agent {
        /// The namespace that the agent belongs to.
        namespace: Name,
        /// The agent.
        id: AgentId,
        /// The running copy, where the id names one.
        instance: Option<InstanceId>,
    },
    /// A backend, gateway or tool server that asks for decisions: `/ns/NAMESPACE/enforcer/NAME`.
    Enforcer {
        /// The namespace that the enforcement point belongs to.
        namespace: Name,
        /// Its name there.
        name: Name,
    },
    /// A machine that vouches for the processes that run on it: `/ns/NAMESPACE/node/NAME`.
    Node {
        /// The namespace that the node belongs to.
        namespace: Name,
        /// Its name there.
        name: Name,
    },
}

/// Why a text is not a SPIFFE ID, or not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSpiffeId {
    /// Longer than 2048 bytes.
    #[error("a SPIFFE ID is longer than 2048 bytes")]
    TooLong,
    /// Does not start with `spiffe://`.
    #[error("a SPIFFE ID starts with spiffe:// in lower case")]
    Scheme,
    /// The trust domain breaks the grammar.
    #[error("a trust domain is 1 to 255 characters of a-z, 0-9, '.', '-' and '_', with no port or user")]
    TrustDomain,
    /// The path breaks the grammar.
    #[error(
        "a SPIFFE ID's path is segments of letters, digits, '.', '-' and '_', none empty, '.' or '..', with no query, fragment, escape or trailing '/'"
    )]
    Path,
    /// A good SPIFFE ID whose path is none of Legate's.
    #[error("the SPIFFE ID names no operator, service, agent, enforcement point or node")]
    NotOurs,
}

impl TrustDomain {
    /// Reads a trust domain's name, without `spiffe://`.
    ///
    /// # Errors
    /// [`BadSpiffeId::TrustDomain`] when the text breaks the grammar.
    pub fn parse(text: &str) -> Result<Self, BadSpiffeId> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
        if (1..=255).contains(&text.len()) && text.bytes().all(good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadSpiffeId::TrustDomain)
        }
    }
}

crate::text_traits!(TrustDomain, BadSpiffeId);

impl SpiffeId {
    /// Reads a SPIFFE ID; a path is required, as everybody in Legate has one.
    ///
    /// # Errors
    /// [`BadSpiffeId`] says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, BadSpiffeId> {
        if text.len() > 2048 {
            return Err(BadSpiffeId::TooLong);
        }
        let rest = text.strip_prefix("spiffe://").ok_or(BadSpiffeId::Scheme)?;
        let slash = rest.find('/').unwrap_or(rest.len());
        TrustDomain::parse(&rest[..slash])?;
        let segment = |s: &str| {
            !matches!(s, "" | "." | "..") && s.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
        };
        let path = rest[slash..].strip_prefix('/').ok_or(BadSpiffeId::Path)?;
        if !path.split('/').all(segment) {
            return Err(BadSpiffeId::Path);
        }
        Ok(Self { path_at: text.len() - path.len() - 1, text: text.to_owned() })
    }

    fn of(domain: &TrustDomain, path: &str) -> Self {
        let text = format!("spiffe://{domain}{path}");
        Self { path_at: text.len() - path.len(), text }
    }

    /// The id of one of our services, such as `registry`.
    #[must_use]
    pub fn service(domain: &TrustDomain, service: &Name) -> Self {
        Self::of(domain, &format!("/legate/{service}"))
    }

    /// The id of an operator.
    #[must_use]
    pub fn operator(domain: &TrustDomain, name: &Name) -> Self {
        Self::of(domain, &format!("/legate/operator/{name}"))
    }

    /// The id of an agent.
    #[must_use]
    pub fn agent(domain: &TrustDomain, namespace: &Name, id: &AgentId) -> Self {
        Self::of(domain, &format!("/ns/{namespace}/agent/{id}"))
    }

    /// The id of one running copy of an agent.
    #[must_use]
    pub fn instance(domain: &TrustDomain, namespace: &Name, id: &AgentId, copy: &InstanceId) -> Self {
        Self::of(domain, &format!("/ns/{namespace}/agent/{id}/instance/{copy}"))
    }

    /// Of one running copy of an agent, the id of the agent; of everybody else, this id.
    #[must_use]
    pub fn without_instance(&self) -> Self {
        match Principal::of(self) {
            Ok(Principal::Agent { instance: Some(copy), .. }) => {
                let end = self.text.len() - copy.as_str().len() - "/instance/".len();
                Self { text: self.text[..end].to_owned(), path_at: self.path_at }
            }
            _ => self.clone(),
        }
    }

    /// The id of an enforcement point.
    #[must_use]
    pub fn enforcer(domain: &TrustDomain, namespace: &Name, name: &Name) -> Self {
        Self::of(domain, &format!("/ns/{namespace}/enforcer/{name}"))
    }

    /// The id of a node.
    #[must_use]
    pub fn node(domain: &TrustDomain, namespace: &Name, name: &Name) -> Self {
        Self::of(domain, &format!("/ns/{namespace}/node/{name}"))
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain's name.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.text["spiffe://".len()..self.path_at]
    }

    /// The path with its leading `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.text[self.path_at..]
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl AsRef<str> for SpiffeId {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl core::str::FromStr for SpiffeId {
    type Err = BadSpiffeId;
    fn from_str(text: &str) -> Result<Self, BadSpiffeId> {
        Self::parse(text)
    }
}

impl Principal {
    /// Whom `id` names.
    ///
    /// # Errors
    /// [`BadSpiffeId::NotOurs`] when the path is none of those in [`Principal`].
    pub fn of(id: &SpiffeId) -> Result<Self, BadSpiffeId> {
        let name = |text: &str| Name::parse(text).map_err(|_| BadSpiffeId::NotOurs);
        let agent = |text: &str| AgentId::parse(text).map_err(|_| BadSpiffeId::NotOurs);
        let mut segments = id.path()[1..].split('/');
        let mut next = || segments.next();
        let six = [next(), next(), next(), next(), next(), next()];
        if next().is_some() {
            return Err(BadSpiffeId::NotOurs);
        }
        match six {
            // `operator` is the folder of operators, so no service can have that name.
            [Some("legate"), Some(service), None, None, None, None] if service != "operator" => {
                Ok(Self::Service(name(service)?))
            }
            [Some("legate"), Some("operator"), Some(who), None, None, None] => Ok(Self::Operator(name(who)?)),
            [Some("ns"), Some(ns), Some("agent"), Some(id), None, None] => {
                Ok(Self::Agent { namespace: name(ns)?, id: agent(id)?, instance: None })
            }
            [Some("ns"), Some(ns), Some("agent"), Some(id), Some("instance"), Some(copy)] => Ok(Self::Agent {
                namespace: name(ns)?,
                id: agent(id)?,
                instance: Some(InstanceId::parse(copy).map_err(|_| BadSpiffeId::NotOurs)?),
            }),
            [Some("ns"), Some(ns), Some("enforcer"), Some(who), None, None] => {
                Ok(Self::Enforcer { namespace: name(ns)?, name: name(who)? })
            }
            [Some("ns"), Some(ns), Some("node"), Some(who), None, None] => {
                Ok(Self::Node { namespace: name(ns)?, name: name(who)? })
            }
            _ => Err(BadSpiffeId::NotOurs),
        }
    }

    /// Whether it is an agent, an enforcement point or a node, certified by the workloads' CA and by no other.
    #[must_use]
    pub fn is_workload(&self) -> bool {
        matches!(self, Self::Agent { .. } | Self::Enforcer { .. } | Self::Node { .. })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn refuses_every_other_spelling() {
        for bad in [
            "",
            "admin",
            "SPIFFE://a/b",
            "spiffe:/a/b",
            "https://a/b",
            "spiffe://",
            "spiffe:///b",
            "spiffe://a",
            "spiffe://a/",
            "spiffe://A/b",
            "spiffe://user@a/b",
            "spiffe://a:443/b",
            "spiffe://a/b/",
            "spiffe://a//b",
            "spiffe://a/./b",
            "spiffe://a/../b",
            "spiffe://a/%2e%2e/b",
            "spiffe://a/b?c",
            "spiffe://a/b#c",
            "spiffe://a/b\0",
            "spiffe://a/b,spiffe://c/d",
            "spiffe://a/b ",
            "spiffe://a/\u{e9}",
        ] {
            assert!(SpiffeId::parse(bad).is_err(), "{bad:?}");
        }
        let long = format!("spiffe://a/{}", "b".repeat(2048));
        assert_eq!(SpiffeId::parse(&long), Err(BadSpiffeId::TooLong));
    }

    #[test]
    fn names_each_principal() {
        let td = TrustDomain::parse("example.org").unwrap();
        let ns = Name::parse("payments").unwrap();
        let id = AgentId::from_parts(1, [1; 10]);
        let copy = InstanceId::from_parts(1, [1; 10]);
        for made in [
            SpiffeId::service(&td, &Name::parse("registry").unwrap()),
            SpiffeId::operator(&td, &Name::parse("alice").unwrap()),
            SpiffeId::agent(&td, &ns, &id),
            SpiffeId::instance(&td, &ns, &id, &copy),
            SpiffeId::enforcer(&td, &ns, &Name::parse("invoices").unwrap()),
            SpiffeId::node(&td, &ns, &Name::parse("vm-7").unwrap()),
        ] {
            let read = SpiffeId::parse(made.as_str()).unwrap();
            assert_eq!(read, made);
            assert_eq!(read.trust_domain(), "example.org");
            Principal::of(&read).unwrap();
            let is_copy = made == SpiffeId::instance(&td, &ns, &id, &copy);
            assert_eq!(made.without_instance(), if is_copy { SpiffeId::agent(&td, &ns, &id) } else { made.clone() });
            assert_eq!(
                made.without_instance().path(),
                SpiffeId::parse(made.without_instance().as_str()).unwrap().path()
            );
        }
        for foreign in [
            "/legate",
            "/legate/operator",
            "/legate/operator/a/b",
            "/ns/payments",
            "/ns/payments/agent/bob",
            "/ns/P/enforcer/x",
            "/ns/P/node/x",
            "/ns/payments/node",
            "/ns/payments/node/x/y",
            "/ns/payments/node/x/instance/inst_01h455vb4pex5vsknk084sn02q",
            "/ns/payments/nodes/x",
            "/node/x",
            "/x/y",
        ] {
            let read = SpiffeId::parse(&format!("spiffe://example.org{foreign}")).unwrap();
            assert_eq!(Principal::of(&read), Err(BadSpiffeId::NotOurs), "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(text in "spiffe://[a-z.]{1,9}(/[a-zA-Z0-9._-]{1,9}){1,4}") {
            if let Ok(id) = SpiffeId::parse(&text) {
                prop_assert_eq!(id.to_string(), text.clone());
                prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
            }
        }

        /// Of what one segment more or less, or another word, makes of a node's id, nothing names a node but what is spelled as one.
        #[test]
        fn a_node_is_named_in_one_way(
            ns in "[a-z][a-z0-9-]{0,8}", word in "(node|enforcer|agent|Node|nodes)", name in "[a-zA-Z0-9._-]{1,9}", more in "(/[a-z]{1,3})?",
        ) {
            let text = format!("spiffe://example.org/ns/{ns}/{word}/{name}{more}");
            let Ok(id) = SpiffeId::parse(&text) else { return Ok(()) };
            let parts = (Name::parse(&ns), Name::parse(&name));
            let expected = match parts {
                (Ok(namespace), Ok(name)) if word == "node" && more.is_empty() => Some((namespace, name)),
                _ => None,
            };
            let found = match Principal::of(&id) {
                Ok(Principal::Node { namespace, name }) => Some((namespace, name)),
                _ => None,
            };
            prop_assert_eq!(&found, &expected);
            if let Some((namespace, name)) = found {
                prop_assert!(Principal::of(&id).unwrap().is_workload());
                prop_assert_eq!(SpiffeId::node(&TrustDomain::parse("example.org").unwrap(), &namespace, &name), id);
            }
        }
    }
}
