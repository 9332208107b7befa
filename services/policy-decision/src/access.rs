//! Who may call what.

use legate_rpc::{Caller, Rule};

/// Who asks for decisions: operators on their own word, which is recorded as such.
const ASKERS: &[Caller] = &[Caller::Enforcer, Caller::Operator];

/// Method to callers; everything else is denied.
pub const ACCESS: &[Rule] = &[
    // Operators ask on their own word (`legate check`), which is recorded as such.
    Rule { method: "/legate.policy.v1.DecisionService/Evaluate", callers: &[Caller::Enforcer, Caller::Operator] },
    Rule { method: "/legate.policy.v1.DecisionService/EvaluateBatch", callers: &[Caller::Enforcer, Caller::Operator] },
    Rule { method: "/legate.policy.v1.DecisionService/EvaluateStream", callers: &[Caller::Enforcer, Caller::Operator] },
    // An enforcement point needs the right to explain or to search besides, which its declaration gives.
    Rule { method: "/legate.policy.v1.DecisionService/Explain", callers: &[Caller::Enforcer, Caller::Operator] },
    Rule { method: "/legate.policy.v1.DecisionService/WhoCan", callers: &[Caller::Enforcer, Caller::Operator] },
    Rule { method: "/legate.policy.v1.DecisionService/WhatCan", callers: &[Caller::Enforcer, Caller::Operator] },
    Rule { method: "/legate.policy.v1.DecisionService/Simulate", callers: &[Caller::Operator] },
    Rule { method: "/legate.policy.v1.DecisionService/Replay", callers: &[Caller::Operator] },
    Rule { method: "/legate.policy.v1.PreviewService/PreviewChange", callers: &[Caller::Operator] },
    Rule { method: "/legate.policy.v1.DriftService/ListDrift", callers: &[Caller::Operator] },
    Rule { method: "/legate.policy.v1.DriftService/ProposeCeiling", callers: &[Caller::Operator] },
    Rule { method: "/legate.policy.v1.ReviewCheckService/CheckReview", callers: &[Caller::Operator] },
    // Envoy is an enforcement point; the agents are those who come to it.
    Rule { method: "/envoy.service.auth.v3.Authorization/Check", callers: &[Caller::Enforcer] },
    Rule { method: "/legate.policy.v1.PreviewService/GetShadow", callers: &[Caller::Operator] },
    Rule { method: "/legate.policy.v1.PreviewService/ShadowChange", callers: &[Caller::Operator] },
    Rule {
        method: "/legate.policy.v1.IssuanceService/AuthorizeIssuance",
        callers: &[Caller::Service("credential-issuer")],
    },
    Rule {
        method: "/legate.policy.v1.IssuanceService/AuthorizeIssuanceBatch",
        callers: &[Caller::Service("credential-issuer")],
    },
];

/// The same for the paths of AuthZEN, over HTTPS; what an enforcement point may ask there its declaration says, as over gRPC.
pub const AUTHZEN_ACCESS: &[Rule] = &[
    Rule { method: "/.well-known/authzen-configuration", callers: &[Caller::Anonymous] },
    Rule { method: "/access/v1/evaluation", callers: ASKERS },
    Rule { method: "/access/v1/evaluations", callers: ASKERS },
    Rule { method: "/access/v1/search/subject", callers: ASKERS },
    Rule { method: "/access/v1/search/resource", callers: ASKERS },
    Rule { method: "/access/v1/search/action", callers: ASKERS },
];
