//! Who may call what.

use legate_rpc::{Caller, Rule};

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
    Rule { method: "/legate.policy.v1.PreviewService/PreviewChange", callers: &[Caller::Operator] },
    Rule { method: "/legate.policy.v1.PreviewService/GetShadow", callers: &[Caller::Operator] },
    Rule {
        method: "/legate.policy.v1.IssuanceService/AuthorizeIssuance",
        callers: &[Caller::Service("credential-issuer")],
    },
];
