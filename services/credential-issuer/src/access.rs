//! Who may call what.

use legate_rpc::{Caller, Rule};

/// Operators.
const OPERATORS: &[Caller] = &[Caller::Operator];
/// Nodes.
const NODES: &[Caller] = &[Caller::Node];
/// Everybody who has a certificate of ours.
const CERTIFIED: &[Caller] = &[
    Caller::Operator,
    Caller::Agent,
    Caller::Enforcer,
    Caller::Node,
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
    // A person has no certificate of ours; a token that was made for this says who it is.
    Rule { method: "/legate.credential.v1.PersonalGrantService/CreateGrant", callers: &[Caller::Anonymous] },
    Rule { method: "/legate.credential.v1.PersonalGrantService/ListGrants", callers: &[Caller::Anonymous] },
    Rule { method: "/legate.credential.v1.PersonalGrantService/RevokeGrant", callers: &[Caller::Anonymous] },
    Rule {
        method: "/legate.credential.v1.AgentCredentialService/RenewCertificate",
        callers: &[Caller::Agent, Caller::Enforcer, Caller::Node],
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
    Rule { method: "/legate.credential.v1.CredentialAdminService/PreviewRevocation", callers: OPERATORS },
    Rule { method: "/legate.credential.v1.CredentialAdminService/FindLeaked", callers: OPERATORS },
    Rule { method: "/legate.credential.v1.CredentialAdminService/ListCredentialHealth", callers: OPERATORS },
    // A node, of what attestation policies name that believe it; see flow/attest.rs.
    Rule { method: "/legate.credential.v1.WorkloadService/WatchNode", callers: NODES },
    Rule { method: "/legate.credential.v1.WorkloadService/IssueX509Svid", callers: NODES },
    Rule { method: "/legate.credential.v1.WorkloadService/IssueJwtSvid", callers: NODES },
    Rule { method: "/legate.credential.v1.WorkloadService/EndInstance", callers: NODES },
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
