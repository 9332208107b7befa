//! Who may call what: a table people can read, default deny.

use std::collections::HashMap;

use legate_ids::Principal;
use legate_mtls::Peer;

/// A kind of caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// An operator.
    Operator,
    /// One of our services, by name.
    Service(&'static str),
    /// An agent.
    Agent,
    /// An enforcement point.
    Enforcer,
    /// A node.
    Node,
    /// Anybody at all, without a certificate too.
    Anonymous,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The method's path, `/legate.registry.v1.AgentService/GetAgent`.
    pub method: &'static str,
    /// Who may call it.
    pub callers: &'static [Caller],
}

impl Rule {
    /// Whether this peer may call.
    #[must_use]
    pub fn admits(&self, peer: &Peer) -> bool {
        self.callers.iter().any(|caller| match (caller, &peer.principal) {
            (Caller::Anonymous, _)
            | (Caller::Operator, Some(Principal::Operator(_)))
            | (Caller::Agent, Some(Principal::Agent { .. }))
            | (Caller::Enforcer, Some(Principal::Enforcer { .. }))
            | (Caller::Node, Some(Principal::Node { .. })) => true,
            (Caller::Service(wanted), Some(Principal::Service(name))) => name.as_str() == *wanted,
            _ => false,
        })
    }
}

/// A service's rows by method.
#[derive(Clone, Debug)]
pub(crate) struct Table(HashMap<&'static str, &'static Rule>);

/// Whoever has a certificate.
const CERTIFIED: &[Caller] = &[
    Caller::Operator,
    Caller::Service("registry"),
    Caller::Service("credential-issuer"),
    Caller::Service("policy-decision"),
    Caller::Service("audit-collector"),
    Caller::Agent,
    Caller::Enforcer,
    Caller::Node,
];

/// Whoever has a certificate may ask for a service's health.
static HEALTH: [Rule; 2] = [
    Rule { method: "/grpc.health.v1.Health/Check", callers: CERTIFIED },
    Rule { method: "/grpc.health.v1.Health/Watch", callers: CERTIFIED },
];

/// In development, for what the service understands too.
static REFLECTION: [Rule; 1] =
    [Rule { method: "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", callers: CERTIFIED }];

impl Table {
    pub(crate) fn new(rules: &'static [Rule], with_reflection: bool) -> Self {
        let reflection = if with_reflection { REFLECTION.as_slice() } else { &[] };
        Self(rules.iter().chain(&HEALTH).chain(reflection).map(|rule| (rule.method, rule)).collect())
    }

    pub(crate) fn row(&self, method: &str) -> Option<&'static Rule> {
        self.0.get(method).copied()
    }
}
