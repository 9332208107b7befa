//! A call of every method that an operator may call, about one namespace.
#![allow(clippy::needless_update, reason = "requests get more fields")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::Pin;

use legate_rpc::{Client, Told};
use legate_wire::{credential, policy, registry as wire};
use tonic::{Response, Status};
use wire::declaration::Object;

/// Who calls, and what there is in the namespace that is called about.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) registry: Client,
    pub(super) issuer: Client,
    pub(super) policy: Client,
    pub(super) audit: Client,
    pub(super) namespace: String,
    /// An agent of it, by name and by id.
    pub(super) agent: String,
    pub(super) agent_id: String,
    pub(super) class: String,
    /// A role, and a credential of the agent.
    pub(super) role: String,
    pub(super) credential_id: String,
    /// The copy of the agent that holds it.
    pub(super) instance_id: String,
    /// The enrolment token by which the copy came to be.
    pub(super) enrolment: String,
    /// What the agent asked for and nobody decided yet.
    pub(super) approval_id: String,
    /// An open round of a review campaign, and an item of it.
    pub(super) review_id: String,
    pub(super) review_item_id: String,
}

/// What an answer held, or how the call was refused.
pub(super) type Outcome = Result<String, Told>;
/// A call under way.
type Work = Pin<Box<dyn Future<Output = Vec<Outcome>> + Send>>;
/// How a method is called.
pub(super) type Case = fn(Ask) -> Work;

#[allow(clippy::result_large_err, reason = "a test tells a refusal whole, and seldom")]
fn told<T: Debug>(answer: Result<Response<T>, Status>) -> Outcome {
    answer.map(|answer| format!("{:?}", answer.into_inner())).map_err(|status| Told::from_status(&status))
}

impl Ask {
    pub(super) fn metadata(&self, name: &str) -> Option<wire::Metadata> {
        Some(wire::Metadata { namespace: self.namespace.clone(), name: name.into(), ..wire::Metadata::default() })
    }

    /// The agent, by name and by id.
    fn refs(&self) -> [Option<wire::AgentRef>; 2] {
        let (namespace, name) = (self.namespace.clone(), self.agent.clone());
        let by_id = wire::AgentRef { id: self.agent_id.clone(), ..wire::AgentRef::default() };
        [Some(wire::AgentRef { namespace, name, id: String::new() }), Some(by_id)]
    }

    /// A role as it is not yet.
    fn another_role(&self) -> wire::Declaration {
        let selector = wire::ResourceSelector { r#type: "Invoice".into(), id: "*".into(), ..Default::default() };
        let permission = wire::Permission { action: "invoice:list".into(), resource: Some(selector) };
        let spec = wire::RoleSpec { permissions: vec![permission], ..wire::RoleSpec::default() };
        let role = wire::Role { metadata: self.metadata(&self.role), spec: Some(spec) };
        wire::Declaration { object: Some(Object::Role(role)) }
    }

    fn another_agent(&self) -> wire::Agent {
        let spec = wire::AgentSpec {
            agent_class: "worker".into(),
            purpose: "tries".into(),
            environment: wire::Environment::Test.into(),
            owners: vec!["user:ada".into()],
            sponsors: vec!["user:grace".into()],
            ..wire::AgentSpec::default()
        };
        wire::Agent { metadata: self.metadata(&self.agent), spec: Some(spec), status: None }
    }
}

/// Somebody who leaves, and whom no agent names.
const LEAVER: &str = "user:leaver";

/// A step of the agent's life, by name and by id.
macro_rules! step {
    ($request:ident, $method:ident) => {
        |ask: Ask| {
            Box::pin(async move {
                let mut agents = wire::agent_service_client::AgentServiceClient::new(ask.registry.clone());
                let mut outcomes = Vec::new();
                for agent in ask.refs() {
                    let request = wire::$request { agent, reason: "a test".into(), ..Default::default() };
                    outcomes.push(told(agents.$method(request).await));
                }
                outcomes
            })
        }
    };
}

/// One call.
macro_rules! call {
    ($line:ident, $client:path, $method:ident, |$ask:ident| $request:expr) => {
        |$ask: Ask| {
            Box::pin(async move {
                let mut client = <$client>::new($ask.$line.clone());
                vec![told(client.$method($request).await)]
            })
        }
    };
}

mod decisions;
mod keys;
mod records;
mod reviews;
mod stops;

type Declarations = wire::declaration_service_client::DeclarationServiceClient<Client>;
type Agents = wire::agent_service_client::AgentServiceClient<Client>;
type Lifecycles = wire::lifecycle_service_client::LifecycleServiceClient<Client>;
type Operators = wire::operator_service_client::OperatorServiceClient<Client>;
type Departures = wire::departure_service_client::DepartureServiceClient<Client>;
type Approvals = wire::approval_service_client::ApprovalServiceClient<Client>;
type Histories = wire::history_service_client::HistoryServiceClient<Client>;
type Admin = credential::credential_admin_service_client::CredentialAdminServiceClient<Client>;
type Revocations = wire::revocation_service_client::RevocationServiceClient<Client>;
type Instances = credential::instance_service_client::InstanceServiceClient<Client>;
type Decisions = policy::decision_service_client::DecisionServiceClient<Client>;
type Previews = policy::preview_service_client::PreviewServiceClient<Client>;
type Drifts = policy::drift_service_client::DriftServiceClient<Client>;
type ReviewChecks = policy::review_check_service_client::ReviewCheckServiceClient<Client>;
type Usages = wire::usage_service_client::UsageServiceClient<Client>;

/// Declares an agent as one of many, all or nothing.
async fn bulk(ask: &Ask) -> Outcome {
    use wire::bulk_apply_request::Part;
    let start = wire::BulkStart {
        mode: wire::BulkMode::AllOrNothing.into(),
        reason: "a test".into(),
        ..wire::BulkStart::default()
    };
    let declaration = Some(wire::Declaration { object: Some(Object::Agent(ask.another_agent())) });
    let items = wire::BulkItems { items: vec![wire::BulkItem { key: "1".into(), declaration, removal: None }] };
    let parts = [Part::Start(start), Part::Items(items), Part::End(wire::BulkEnd { items: 1 })];
    let parts = parts.map(|part| wire::BulkApplyRequest { part: Some(part) });
    let mut client = wire::bulk_service_client::BulkServiceClient::new(ask.registry.clone());
    let answers = client.bulk_apply(tokio_stream::iter(parts)).await;
    let answer = answers.map_err(|status| Told::from_status(&status))?.into_inner().message().await;
    answer.map(|answer| format!("{answer:?}")).map_err(|status| Told::from_status(&status))
}

fn kind() -> i32 {
    wire::Kind::Role.into()
}

/// What can be suspended as one: a class of the namespace, and the namespace itself.
fn standing(ask: &Ask) -> [(i32, String, String); 2] {
    [
        (wire::Kind::AgentClass.into(), ask.namespace.clone(), ask.class.clone()),
        (wire::Kind::Namespace.into(), String::new(), ask.namespace.clone()),
    ]
}

fn question(ask: &Ask) -> policy::EvaluateRequest {
    policy::EvaluateRequest {
        subject: Some(policy::Subject {
            agent: Some(policy::subject::Agent::AgentId(ask.agent_id.clone())),
            ..policy::Subject::default()
        }),
        action: "invoice:read".into(),
        resource: Some(policy::Resource { r#type: "Invoice".into(), id: "1".into(), attributes: None }),
        ..policy::EvaluateRequest::default()
    }
}

fn enrolments(ask: &Ask) -> [credential::create_enrolment_token_request::Holder; 2] {
    use credential::create_enrolment_token_request::Holder;
    let point = credential::EnforcementPointRef { namespace: ask.namespace.clone(), name: "backend".into() };
    [Holder::AgentId(ask.agent_id.clone()), Holder::EnforcementPoint(point)]
}

/// Every method that an operator may call, and how it is called.
pub(super) fn cases() -> BTreeMap<&'static str, Case> {
    let mut cases: BTreeMap<&'static str, Case> = BTreeMap::new();
    let mut case = |method, case: Case| assert!(cases.insert(method, case).is_none(), "{method} has two cases");
    case(
        "/legate.registry.v1.DeclarationService/PlanDeclarations",
        call!(registry, Declarations, plan_declarations, |ask| wire::PlanDeclarationsRequest {
            declarations: vec![ask.another_role()],
            ..Default::default()
        }),
    );
    case(
        "/legate.registry.v1.DeclarationService/ApplyDeclarations",
        call!(registry, Declarations, apply_declarations, |ask| wire::ApplyDeclarationsRequest {
            declarations: vec![ask.another_role()],
            ..Default::default()
        }),
    );
    case(
        "/legate.registry.v1.DeclarationService/GetDeclaration",
        call!(registry, Declarations, get_declaration, |ask| wire::GetDeclarationRequest {
            kind: kind(),
            namespace: ask.namespace.clone(),
            name: ask.role.clone(),
            ..Default::default()
        }),
    );
    case("/legate.registry.v1.DeclarationService/ListDeclarations", |ask| {
        Box::pin(async move {
            let mut client = Declarations::new(ask.registry.clone());
            let mut outcomes = Vec::new();
            for kind in (1..=17).chain([wire::Kind::Approval.into()]) {
                for namespace in [String::new(), ask.namespace.clone()] {
                    let request = wire::ListDeclarationsRequest { kind, namespace, ..Default::default() };
                    outcomes.push(told(client.list_declarations(request).await));
                }
            }
            outcomes
        })
    });
    case(
        "/legate.registry.v1.DeclarationService/UpdateDeclaration",
        call!(registry, Declarations, update_declaration, |ask| wire::UpdateDeclarationRequest {
            declaration: Some(ask.another_role()),
            update_mask: Some(prost_types::FieldMask { paths: vec!["spec.permissions".into()] }),
            ..Default::default()
        }),
    );
    case(
        "/legate.registry.v1.DeclarationService/RevokeDeclaration",
        call!(registry, Declarations, revoke_declaration, |ask| wire::RevokeDeclarationRequest {
            kind: kind(),
            namespace: ask.namespace.clone(),
            name: ask.role.clone(),
            reason: "a test".into(),
            ..Default::default()
        }),
    );
    case("/legate.registry.v1.DeclarationService/SuspendDeclaration", |ask| {
        Box::pin(async move {
            let mut client = Declarations::new(ask.registry.clone());
            let mut outcomes = Vec::new();
            for (kind, namespace, name) in standing(&ask) {
                let reason = "a test".into();
                let request = wire::SuspendDeclarationRequest { kind, namespace, name, reason, ..Default::default() };
                outcomes.push(told(client.suspend_declaration(request).await));
            }
            outcomes
        })
    });
    case("/legate.registry.v1.DeclarationService/ResumeDeclaration", |ask| {
        Box::pin(async move {
            let mut client = Declarations::new(ask.registry.clone());
            let mut outcomes = Vec::new();
            for (kind, namespace, name) in standing(&ask) {
                let reason = "a test".into();
                let request = wire::ResumeDeclarationRequest { kind, namespace, name, reason, ..Default::default() };
                outcomes.push(told(client.resume_declaration(request).await));
            }
            outcomes
        })
    });
    case(
        "/legate.registry.v1.AgentService/CreateAgent",
        call!(registry, Agents, create_agent, |ask| wire::CreateAgentRequest {
            agent: Some(ask.another_agent()),
            ..Default::default()
        }),
    );
    case("/legate.registry.v1.AgentService/GetAgent", |ask| {
        Box::pin(async move {
            let mut agents = Agents::new(ask.registry.clone());
            let mut outcomes = Vec::new();
            for agent in ask.refs() {
                outcomes.push(told(agents.get_agent(wire::GetAgentRequest { agent, ..Default::default() }).await));
            }
            outcomes
        })
    });
    case("/legate.registry.v1.AgentService/ListAgents", |ask| {
        Box::pin(async move {
            let mut agents = Agents::new(ask.registry.clone());
            let mut outcomes = Vec::new();
            for namespace in [String::new(), ask.namespace.clone()] {
                let request = wire::ListAgentsRequest { namespace, ..Default::default() };
                outcomes.push(told(agents.list_agents(request).await));
            }
            outcomes
        })
    });
    case(
        "/legate.registry.v1.UsageService/ListAgentUsage",
        call!(registry, Usages, list_agent_usage, |ask| {
            wire::ListAgentUsageRequest { agent_ids: vec![ask.agent_id.clone()], ..Default::default() }
        }),
    );
    case("/legate.registry.v1.UsageService/ListAgentBaselines", |ask| {
        Box::pin(async move {
            let object_ids = vec![ask.agent_id.clone()];
            let request = wire::ListAgentBaselinesRequest { agent_ids: Vec::new(), object_ids };
            let answer = Usages::new(ask.registry.clone()).list_agent_baselines(request).await;
            // Nobody approved anything of the agent; that it was written by hand is there to be seen.
            vec![told(answer.map(|answer| answer.map(|answer| format!("declarations: {:?}", answer.objects))))]
        })
    });
    let steps: [(&str, Case); 12] = [
        ("ApproveAgent", step!(ApproveAgentRequest, approve_agent)),
        ("ActivateAgent", step!(ActivateAgentRequest, activate_agent)),
        ("SuspendAgent", step!(SuspendAgentRequest, suspend_agent)),
        ("ResumeAgent", step!(ResumeAgentRequest, resume_agent)),
        ("QuarantineAgent", step!(QuarantineAgentRequest, quarantine_agent)),
        ("ReleaseAgent", step!(ReleaseAgentRequest, release_agent)),
        ("RetireAgent", step!(RetireAgentRequest, retire_agent)),
        ("RevokeAgentCredentials", step!(RevokeAgentCredentialsRequest, revoke_agent_credentials)),
        ("AdoptAgent", step!(AdoptAgentRequest, adopt_agent)),
        ("RejectAgent", step!(RejectAgentRequest, reject_agent)),
        ("HandOverAgent", step!(HandOverAgentRequest, hand_over_agent)),
        ("AttestAgent", step!(AttestAgentRequest, attest_agent)),
    ];
    for (name, step) in steps {
        case(Box::leak(format!("/legate.registry.v1.AgentService/{name}").into_boxed_str()), step);
    }
    case("/legate.registry.v1.BulkService/BulkApply", |ask| Box::pin(async move { vec![bulk(&ask).await] }));
    case("/legate.registry.v1.HistoryService/ListHistory", |ask| {
        Box::pin(async move {
            let mut histories = Histories::new(ask.registry.clone());
            let by_name = wire::ListHistoryRequest {
                kind: wire::Kind::Role.into(),
                namespace: ask.namespace.clone(),
                name: ask.role.clone(),
                ..Default::default()
            };
            let by_id = wire::ListHistoryRequest { id: ask.agent_id.clone(), ..Default::default() };
            let mut outcomes = Vec::new();
            for request in [by_name, by_id] {
                outcomes.push(told(histories.list_history(request).await));
            }
            outcomes
        })
    });
    case(
        "/legate.registry.v1.ApprovalService/ListApprovals",
        call!(registry, Approvals, list_approvals, |ask| wire::ListApprovalsRequest {
            namespace: ask.namespace.clone(),
            states: (1..=7).collect(),
            ..Default::default()
        }),
    );
    case(
        "/legate.registry.v1.ApprovalService/GetApproval",
        call!(registry, Approvals, get_approval, |ask| wire::GetApprovalRequest {
            approval_id: ask.approval_id.clone(),
        }),
    );
    case(
        "/legate.registry.v1.ApprovalService/GrantApproval",
        call!(registry, Approvals, grant_approval, |ask| wire::GrantApprovalRequest {
            approval_id: ask.approval_id.clone(),
            reason: "a test".into(),
            ..Default::default()
        }),
    );
    case(
        "/legate.registry.v1.ApprovalService/DenyApproval",
        call!(registry, Approvals, deny_approval, |ask| wire::DenyApprovalRequest {
            approval_id: ask.approval_id.clone(),
            reason: "a test".into(),
            ..Default::default()
        }),
    );
    case(
        "/legate.registry.v1.ApprovalService/RevokeApproval",
        call!(registry, Approvals, revoke_approval, |ask| wire::RevokeApprovalRequest {
            approval_id: ask.approval_id.clone(),
            reason: "a test".into(),
            ..Default::default()
        }),
    );
    case(
        "/legate.registry.v1.LifecycleService/PreviewLifecyclePolicy",
        call!(registry, Lifecycles, preview_lifecycle_policy, |ask| wire::PreviewLifecyclePolicyRequest {
            namespace: ask.namespace.clone(),
            whose: Some(wire::preview_lifecycle_policy_request::Whose::All(true)),
            ..Default::default()
        }),
    );
    case("/legate.registry.v1.DepartureService/OffboardPerson", |ask| {
        Box::pin(async move {
            let mut departures = Departures::new(ask.registry.clone());
            let mut outcomes = Vec::new();
            // Looked at first, and then done.
            for validate_only in [true, false] {
                let request = wire::OffboardPersonRequest {
                    person: LEAVER.into(),
                    namespace: ask.namespace.clone(),
                    validate_only,
                    reason: "a test".into(),
                    ..Default::default()
                };
                outcomes.push(told(departures.offboard_person(request).await));
            }
            outcomes
        })
    });
    case(
        "/legate.registry.v1.DepartureService/ListDepartures",
        call!(registry, Departures, list_departures, |ask| {
            wire::ListDeparturesRequest { namespace: ask.namespace.clone(), ..Default::default() }
        }),
    );
    case(
        "/legate.registry.v1.DepartureService/WithdrawDeparture",
        call!(registry, Departures, withdraw_departure, |ask| {
            wire::WithdrawDepartureRequest {
                person: LEAVER.into(),
                namespace: ask.namespace.clone(),
                reason: "a test".into(),
                ..Default::default()
            }
        }),
    );
    case(
        "/legate.registry.v1.HistoryService/GetHistoryHorizon",
        call!(registry, Histories, get_history_horizon, |ask| {
            let _nothing_of_it = &ask.namespace;
            wire::GetHistoryHorizonRequest {}
        }),
    );
    case(
        "/legate.registry.v1.OperatorService/GetOwnRoles",
        call!(registry, Operators, get_own_roles, |ask| {
            let _nothing_of_it = &ask.namespace;
            wire::GetOwnRolesRequest {}
        }),
    );
    case("/legate.credential.v1.CredentialAdminService/CreateEnrolmentToken", |ask| {
        Box::pin(async move {
            let mut admin = Admin::new(ask.issuer.clone());
            let mut outcomes = Vec::new();
            for holder in enrolments(&ask) {
                let request = credential::CreateEnrolmentTokenRequest {
                    holder: Some(holder),
                    ttl: None,
                    reason: "a test".into(),
                };
                outcomes.push(told(admin.create_enrolment_token(request).await));
            }
            outcomes
        })
    });
    case(
        "/legate.credential.v1.CredentialAdminService/CreateClientSecret",
        call!(issuer, Admin, create_client_secret, |ask| credential::CreateClientSecretRequest {
            agent_id: ask.agent_id.clone(),
            reason: "a test".into(),
            ..Default::default()
        }),
    );
    case(
        "/legate.credential.v1.CredentialAdminService/RegisterClientKey",
        call!(issuer, Admin, register_client_key, |ask| {
            credential::RegisterClientKeyRequest {
            agent_id: ask.agent_id.clone(),
            // RFC 9449 section 4.1.
            jwk: r#"{"kty":"EC","crv":"P-256","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"}"#.into(),
            reason: "a test".into(),
            ..Default::default()
        }
        }),
    );
    case("/legate.credential.v1.CredentialAdminService/ListCredentials", |ask| {
        Box::pin(async move {
            let mut admin = Admin::new(ask.issuer.clone());
            let mut outcomes = Vec::new();
            for (agent_id, namespace) in [("", ""), ("", ask.namespace.as_str()), (ask.agent_id.as_str(), "")] {
                let (agent_id, namespace) = (agent_id.to_owned(), namespace.to_owned());
                let request = credential::ListCredentialsRequest { agent_id, namespace, ..Default::default() };
                outcomes.push(told(admin.list_credentials(request).await));
            }
            outcomes
        })
    });
    case(
        "/legate.credential.v1.CredentialAdminService/RevokeCredential",
        call!(issuer, Admin, revoke_credential, |ask| credential::RevokeCredentialRequest {
            credential_id: ask.credential_id.clone(),
            reason: wire::RevocationReason::Superseded.into(),
            comment: "a test".into(),
        }),
    );
    case(
        "/legate.credential.v1.CredentialAdminService/PreviewRevocation",
        call!(issuer, Admin, preview_revocation, |ask| credential::PreviewRevocationRequest {
            namespace: ask.namespace.clone(),
            level: Some(credential::preview_revocation_request::Level::WholeNamespace(true)),
        }),
    );
    case(
        "/legate.credential.v1.CredentialAdminService/FindLeaked",
        call!(issuer, Admin, find_leaked, |ask| credential::FindLeakedRequest {
            found: Some(credential::find_leaked_request::Found::Text(ask.enrolment.clone())),
            revoke: true,
            comment: "a test".into(),
        }),
    );
    case("/legate.credential.v1.CredentialAdminService/ListCredentialHealth", |ask| {
        Box::pin(async move {
            let mut admin = Admin::new(ask.issuer.clone());
            let mut outcomes = Vec::new();
            for namespace in ["", ask.namespace.as_str()] {
                let namespace = namespace.to_owned();
                let request = credential::ListCredentialHealthRequest { namespace, ..Default::default() };
                outcomes.push(told(admin.list_credential_health(request).await));
            }
            outcomes
        })
    });
    case(
        "/legate.registry.v1.RevocationService/RevokeIssued",
        call!(registry, Revocations, revoke_issued, |ask| wire::RevokeIssuedRequest {
            namespace: ask.namespace.clone(),
            level: Some(wire::revoke_issued_request::Level::Subject("user:nobody@example.com".into())),
            reason: wire::RevocationReason::Superseded.into(),
            comment: "a test".into(),
            request_id: String::new(),
        }),
    );
    case("/legate.credential.v1.InstanceService/ListInstances", |ask| {
        Box::pin(async move {
            let mut instances = Instances::new(ask.issuer.clone());
            let mut outcomes = Vec::new();
            for (agent_id, namespace) in [("", ""), ("", ask.namespace.as_str()), (ask.agent_id.as_str(), "")] {
                let (agent_id, namespace) = (agent_id.to_owned(), namespace.to_owned());
                let request = credential::ListInstancesRequest { agent_id, namespace, ..Default::default() };
                outcomes.push(told(instances.list_instances(request).await));
            }
            outcomes
        })
    });
    case(
        "/legate.credential.v1.InstanceService/GetInstance",
        call!(issuer, Instances, get_instance, |ask| credential::GetInstanceRequest {
            instance_id: ask.instance_id.clone(),
        }),
    );
    case(
        "/legate.credential.v1.InstanceService/RevokeInstance",
        call!(issuer, Instances, revoke_instance, |ask| credential::RevokeInstanceRequest {
            instance_id: ask.instance_id.clone(),
            reason: wire::RevocationReason::Superseded.into(),
            comment: "a test".into(),
        }),
    );
    decisions::add(&mut case);
    records::add(&mut case);
    stops::add(&mut case);
    reviews::add(&mut case);
    keys::add(&mut case);
    cases
}
