//! Who may call what.

use legate_rpc::{Caller, Rule};

/// Operators.
const OPERATORS: &[Caller] = &[Caller::Operator];
/// Everybody who has a certificate of ours.
const CERTIFIED: &[Caller] = &[
    Caller::Operator,
    Caller::Agent,
    Caller::Enforcer,
    Caller::Service("registry"),
    Caller::Service("policy-decision"),
    Caller::Service("audit-collector"),
];

/// Method to callers; everything else is denied.
pub const ACCESS: &[Rule] = &[
    // The token in the request is what lets a stranger in, once.
    Rule { method: "/legate.credential.v1.EnrolmentService/Enrol", callers: &[Caller::Anonymous] },
    // So does a token of an issuer that a namespace trusts.
    Rule { method: "/legate.credential.v1.EnrolmentService/EnrolWithIdentityToken", callers: &[Caller::Anonymous] },
    // And a token of an identity provider that the configuration names.
    Rule { method: "/legate.credential.v1.OperatorLoginService/Login", callers: &[Caller::Anonymous] },
    Rule {
        method: "/legate.credential.v1.AgentCredentialService/RenewCertificate",
        callers: &[Caller::Agent, Caller::Enforcer],
    },
    Rule { method: "/legate.credential.v1.AgentCredentialService/IssueToken", callers: &[Caller::Agent] },
    Rule { method: "/legate.credential.v1.AgentCredentialService/ExchangeToken", callers: &[Caller::Agent] },
    // Whom a token concerns is told what became of it; see flow/live.rs.
    Rule { method: "/legate.credential.v1.TokenService/Introspect", callers: &[Caller::Agent, Caller::Enforcer] },
    // An agent for those that it made.
    Rule {
        method: "/legate.credential.v1.CredentialAdminService/CreateEnrolmentToken",
        callers: &[Caller::Operator, Caller::Agent],
    },
    Rule { method: "/legate.credential.v1.CredentialAdminService/CreateClientSecret", callers: OPERATORS },
    Rule { method: "/legate.credential.v1.CredentialAdminService/RegisterClientKey", callers: OPERATORS },
    Rule { method: "/legate.credential.v1.CredentialAdminService/ListCredentials", callers: OPERATORS },
    Rule { method: "/legate.credential.v1.CredentialAdminService/RevokeCredential", callers: OPERATORS },
    Rule { method: "/legate.credential.v1.InstanceService/ListInstances", callers: OPERATORS },
    Rule { method: "/legate.credential.v1.InstanceService/GetInstance", callers: OPERATORS },
    Rule { method: "/legate.credential.v1.InstanceService/RevokeInstance", callers: OPERATORS },
    Rule { method: "/legate.credential.v1.KeyAdminService/ListKeys", callers: OPERATORS },
    Rule { method: "/legate.credential.v1.KeyAdminService/PrepareKey", callers: OPERATORS },
    Rule { method: "/legate.credential.v1.KeyAdminService/RotateKey", callers: OPERATORS },
    Rule { method: "/legate.credential.v1.KeyAdminService/TaintKey", callers: OPERATORS },
    Rule { method: "/legate.credential.v1.KeyAdminService/RetireKey", callers: OPERATORS },
    Rule { method: "/legate.credential.v1.KeyService/GetJwks", callers: CERTIFIED },
    Rule { method: "/legate.credential.v1.KeyService/GetTrustBundle", callers: CERTIFIED },
];
