//! Who may call what.

use legate_rpc::{Caller, Rule};

const OPERATORS: &[Caller] = &[Caller::Operator];
/// Those who explain what was decided: what an object was, who wrote it and why. What they tell of it is for them to judge.
const READERS: &[Caller] = &[Caller::Operator, Caller::Service("policy-decision")];
/// Those who follow what is declared.
const FOLLOWERS: &[Caller] = &[Caller::Service("credential-issuer"), Caller::Service("policy-decision")];
const AGENTS: &[Caller] = &[Caller::Agent];
const DECISION: &[Caller] = &[Caller::Service("policy-decision")];
const ISSUER: &[Caller] = &[Caller::Service("credential-issuer")];

/// Method to callers; everything else is denied.
pub const ACCESS: &[Rule] = &[
    Rule { method: "/legate.registry.v1.DeclarationService/PlanDeclarations", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.DeclarationService/ApplyDeclarations", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.DeclarationService/GetDeclaration", callers: READERS },
    Rule { method: "/legate.registry.v1.DeclarationService/ListDeclarations", callers: READERS },
    Rule { method: "/legate.registry.v1.DeclarationService/UpdateDeclaration", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.DeclarationService/RevokeDeclaration", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.DeclarationService/SuspendDeclaration", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.DeclarationService/ResumeDeclaration", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.AgentService/CreateAgent", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.AgentService/GetAgent", callers: READERS },
    Rule { method: "/legate.registry.v1.AgentService/ListAgents", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.UsageService/ListAgentUsage", callers: READERS },
    Rule { method: "/legate.registry.v1.UsageService/ListAgentBaselines", callers: READERS },
    Rule { method: "/legate.registry.v1.AgentService/ApproveAgent", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.AgentService/ActivateAgent", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.AgentService/SuspendAgent", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.AgentService/ResumeAgent", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.AgentService/QuarantineAgent", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.AgentService/ReleaseAgent", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.AgentService/RetireAgent", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.AgentService/RevokeAgentCredentials", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.RevocationService/RevokeIssued", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.StopService/StopAgents", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.StopService/ResumeAgents", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.StopService/GetContainment", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.OperatorService/GetOwnRoles", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.AgentService/AdoptAgent", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.AgentService/RejectAgent", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.BulkService/BulkApply", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.HistoryService/ListHistory", callers: READERS },
    Rule { method: "/legate.registry.v1.HistoryService/GetHistoryHorizon", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.AgentService/HandOverAgent", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.AgentService/AttestAgent", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.LifecycleService/PreviewLifecyclePolicy", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.DepartureService/OffboardPerson", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.DepartureService/ListDepartures", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.DepartureService/WithdrawDeparture", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.ReviewService/StartReview", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.ReviewService/ListReviews", callers: READERS },
    Rule { method: "/legate.registry.v1.ReviewService/GetReview", callers: READERS },
    Rule { method: "/legate.registry.v1.ReviewService/ListReviewItems", callers: READERS },
    Rule { method: "/legate.registry.v1.ReviewService/DecideReviewItems", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.ReviewService/CloseReview", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.ReviewService/RecordReviewVerification", callers: DECISION },
    // An agent whose standing is read within the call: see flow/lineage.rs.
    Rule { method: "/legate.registry.v1.SpawnService/SpawnAgent", callers: AGENTS },
    Rule { method: "/legate.registry.v1.SpawnService/ListSpawnedAgents", callers: AGENTS },
    Rule { method: "/legate.registry.v1.SpawnService/EndSpawnedAgent", callers: AGENTS },
    Rule { method: "/legate.registry.v1.DelegationService/GrantDelegation", callers: AGENTS },
    Rule { method: "/legate.registry.v1.DelegationService/ListOwnDelegations", callers: AGENTS },
    Rule { method: "/legate.registry.v1.DelegationService/EndDelegation", callers: AGENTS },
    // A person whose token it proved: see flow/personal_grant.rs.
    Rule { method: "/legate.registry.v1.PersonalGrantService/MakePersonalGrant", callers: ISSUER },
    Rule { method: "/legate.registry.v1.PersonalGrantService/ListPersonalGrants", callers: ISSUER },
    Rule { method: "/legate.registry.v1.PersonalGrantService/EndPersonalGrant", callers: ISSUER },
    Rule { method: "/legate.registry.v1.ApprovalRequestService/RequestApproval", callers: AGENTS },
    Rule { method: "/legate.registry.v1.ApprovalRequestService/GetOwnApproval", callers: AGENTS },
    Rule { method: "/legate.registry.v1.ApprovalRequestService/ListOwnApprovals", callers: AGENTS },
    Rule { method: "/legate.registry.v1.ApprovalRequestService/CancelApproval", callers: AGENTS },
    Rule { method: "/legate.registry.v1.ApprovalService/ListApprovals", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.ApprovalService/GetApproval", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.ApprovalService/GrantApproval", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.ApprovalService/DenyApproval", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.ApprovalService/RevokeApproval", callers: OPERATORS },
    Rule { method: "/legate.registry.v1.ApprovalRelayService/RelayApproval", callers: ISSUER },
    Rule { method: "/legate.registry.v1.ApprovalRelayService/GetRelayedApproval", callers: ISSUER },
    Rule { method: "/legate.registry.v1.ApprovalUseService/UseApprovals", callers: DECISION },
    Rule { method: "/legate.registry.v1.FeedService/Watch", callers: FOLLOWERS },
    Rule { method: "/legate.registry.v1.PublicationService/PublishSigningKey", callers: ISSUER },
    Rule { method: "/legate.registry.v1.PublicationService/PublishRevocation", callers: ISSUER },
];
