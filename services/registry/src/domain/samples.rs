//! Declared objects for tests: one good one of each kind, and random ones of every kind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;

use legate_wire::registry as wire;
use proptest::prelude::*;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value};
use prost_types::value::Kind as Is;
use wire::claim_rule::StandsFor;
use wire::declaration::Object;

use super::reflect;

pub(crate) const KID: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
// RFC 9449, sections 4.1 and 6.1: an EC key and its thumbprint.
pub(crate) const JWK: &str = r#"{"kty":"EC","crv":"P-256","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"}"#;

pub(crate) fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

pub(crate) fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn metadata(namespace: &str, name: &str) -> Option<wire::Metadata> {
    Some(wire::Metadata {
        name: name.into(),
        namespace: namespace.into(),
        labels: [("team".into(), "payments".into())].into(),
        annotations: [("example.com/note".into(), "several\nlines".into())].into(),
        ..wire::Metadata::default()
    })
}

pub(crate) fn permission(action: &str) -> wire::Permission {
    wire::Permission { action: action.into(), resource: Some(selector()) }
}

fn selector() -> wire::ResourceSelector {
    wire::ResourceSelector {
        r#type: "Invoice".into(),
        id: "apollo/*".into(),
        attributes: [("region".into(), "eu".into())].into(),
    }
}

pub(crate) fn agent() -> wire::Agent {
    wire::Agent {
        metadata: metadata("payments", "invoice-bot"),
        spec: Some(wire::AgentSpec {
            agent_class: "clerk".into(),
            purpose: "Reads invoices and matches them with orders.".into(),
            environment: wire::Environment::Prod.into(),
            owners: vec!["user:ada@example.com".into()],
            sponsors: vec!["user:grace@example.com".into(), "group:payments".into()],
            manager: "user:joan@example.com".into(),
            display_name: "Invoice bot".into(),
            external_id: "CMDB-1".into(),
            parent: "agt_01h455vb4pex5vsknk084sn02q".into(),
            framework: "langgraph".into(),
            model: "m-1".into(),
            version: "1.2.3".into(),
            protocols: vec!["MCP".into()],
            risk_tier: wire::RiskTier::Medium.into(),
            data_classifications: vec!["pii".into()],
            regions: vec!["eu-central-1".into()],
            charter: Some(wire::Charter { uri: "https://example.com/charter".into(), sha256: "0a".repeat(32) }),
            expire_time: at(2_000_000_000),
            ceiling: vec![permission("invoice:read")],
        }),
        status: None,
    }
}

pub(crate) fn class() -> wire::AgentClass {
    wire::AgentClass {
        metadata: metadata("payments", "clerk"),
        spec: Some(wire::AgentClassSpec {
            description: "Agents that read.".into(),
            permissions: vec![permission("invoice:list")],
            ceiling: vec![permission("invoice:*"), permission("*")],
            requires_approval: true,
            default_expiry: seconds(60),
            max_token_ttl: seconds(600),
            max_certificate_ttl: seconds(86_400),
            credential_policy: "short-lived".into(),
            boundaries: vec!["eu-only".into(), "office-hours".into()],
        }),
        status: None,
    }
}

pub(crate) fn binding() -> wire::RoleBinding {
    wire::RoleBinding {
        metadata: metadata("payments", "apollo"),
        spec: Some(wire::RoleBindingSpec {
            role: "invoice-reader".into(),
            agents: vec!["invoice-bot".into(), "ledger-bot".into()],
            resources: vec![selector()],
            not_before: at(1_000),
            not_after: at(2_000),
            groups: vec!["clerks".into()],
            users: vec!["user:ada@example.com".into()],
            except_agents: vec!["report-bot".into()],
        }),
    }
}

pub(crate) fn policy() -> wire::Policy {
    wire::Policy {
        metadata: metadata("payments", "no-large"),
        spec: Some(wire::PolicySpec {
            description: "No large invoices.".into(),
            cedar: "forbid(principal, action, resource is Invoice) when { resource.amount > 100 };".into(),
            mode: wire::PolicyMode::Enforce.into(),
        }),
    }
}

pub(crate) fn enforcement_point() -> wire::EnforcementPoint {
    wire::EnforcementPoint {
        metadata: metadata("payments", "ledger"),
        spec: Some(wire::EnforcementPointSpec {
            description: "The ledger.".into(),
            resource_types: vec!["Invoice".into()],
            audiences: vec!["https://ledger.example.com".into()],
            may_assert_subject: true,
            may_search: true,
            may_explain: true,
            durable_actions: vec!["invoice:pay".into(), "ledger:*".into()],
        }),
        spiffe_id: String::new(),
    }
}

pub(crate) fn signing_key() -> wire::SigningKeySpec {
    wire::SigningKeySpec {
        kid: KID.into(),
        issuer: "https://issuer.example.com".into(),
        jwk: JWK.into(),
        r#use: wire::SigningKeyUse::AccessToken.into(),
        not_before: at(1),
        not_after: at(2),
        revoke_time: at(2),
    }
}

pub(crate) fn revocation() -> wire::RevocationSpec {
    wire::RevocationSpec {
        cut_off: None,
        credential_id: "cred_01h455vb4pex5vsknk084sn02q".into(),
        spiffe_id: "spiffe://legate.test/ns/payments/agent/agt_01h455vb4pex5vsknk084sn02q".into(),
        x5t_s256: vec![7; 32],
        expire_time: at(2),
        revoke_time: at(1),
        reason: wire::RevocationReason::KeyCompromise.into(),
        token_id: String::new(),
    }
}

pub(crate) fn group() -> wire::Group {
    wire::Group {
        metadata: metadata("payments", "clerks"),
        spec: Some(wire::GroupSpec {
            description: "Everybody who reads.".into(),
            agents: vec!["invoice-bot".into(), "ledger-bot".into()],
            selector: "labels.team = \"payments\" AND environment = \"prod\"".into(),
        }),
    }
}

pub(crate) fn boundary() -> wire::Boundary {
    wire::Boundary {
        metadata: metadata("payments", "eu-only"),
        spec: Some(wire::BoundarySpec {
            description: "Personal data stays in the union.".into(),
            agents: vec!["invoice-bot".into()],
            groups: vec!["clerks".into()],
            agent_classes: vec!["clerk".into()],
            named_only: true,
            regions: vec!["eu-central-1".into()],
            data_classifications: vec!["pii".into(), "financial".into()],
            purposes: vec!["bookkeeping".into()],
            environments: vec![wire::Environment::Prod.into()],
            hours: vec![wire::Hours {
                days: vec![wire::Weekday::Monday.into(), wire::Weekday::Tuesday.into()],
                from_minute: 480,
                until_minute: 1_440,
            }],
            regimes: vec!["GDPR".into()],
        }),
    }
}

pub(crate) fn credential_policy() -> wire::CredentialPolicy {
    wire::CredentialPolicy {
        metadata: metadata("payments", "short-lived"),
        spec: Some(wire::CredentialPolicySpec {
            description: "Nothing lives long.".into(),
            methods: vec![wire::CredentialMethod::EnrolmentToken.into(), wire::CredentialMethod::Attestation.into()],
            max_token_ttl: seconds(300),
            max_certificate_ttl: seconds(3_600),
            token_binding: wire::TokenBinding::Required.into(),
            max_secret_ttl: seconds(86_400),
            rotation_overlap: seconds(3_600),
            rotate_before: seconds(7_200),
            max_instances: 12,
        }),
    }
}

pub(crate) fn trusted_issuer() -> wire::TrustedIssuer {
    let rule = |claims: &[(&str, &str)], stands_for| wire::ClaimRule {
        claims: claims.iter().map(|(claim, value)| ((*claim).into(), (*value).into())).collect(),
        groups_claim: if matches!(stands_for, StandsFor::UserClaim(_)) { "groups".into() } else { String::new() },
        stands_for: Some(stands_for),
    };
    wire::TrustedIssuer {
        metadata: metadata("payments", "cluster"),
        spec: Some(wire::TrustedIssuerSpec {
            description: "The cluster in which agents run.".into(),
            issuer: "https://issuer.example.com/cluster".into(),
            audiences: vec!["legate".into()],
            jwks_uri: String::new(),
            jwks: format!("{{\"keys\":[{JWK}]}}"),
            rules: vec![
                rule(
                    &[("sub", "system:serviceaccount:pay:bot"), ("kubernetes.io/namespace", "pay")],
                    StandsFor::Agent("invoice-bot".into()),
                ),
                rule(&[("iss-kind", "people")], StandsFor::UserClaim("email".into())),
                rule(&[("iss-kind", "machines")], StandsFor::Node("vm-7".into())),
                rule(&[("iss-kind", "cluster")], StandsFor::NodeClaim("kubernetes.io/node/uid".into())),
            ],
            personal_delegation: Some(wire::PersonalDelegation {
                audiences: vec!["legate-grants".into()],
                permissions: vec![permission("invoice:*")],
                agent_classes: vec!["clerk".into()],
                max_ttl: seconds(86_400),
                max_depth: 1,
                max_auth_age: seconds(600),
                acr_values: vec!["urn:example:mfa".into()],
                consent_bound: true,
            }),
            max_used_tokens: 5_000,
        }),
    }
}

pub(crate) fn attestation_policy() -> wire::AttestationPolicy {
    let selector = |of: wire::AttestationSelectorType, value: &str| wire::AttestationSelector {
        r#type: of.into(),
        value: value.into(),
    };
    wire::AttestationPolicy {
        metadata: metadata("payments", "invoice-bot-on-vm"),
        spec: Some(wire::AttestationPolicySpec {
            description: "The bot's own user and program.".into(),
            agent: "invoice-bot".into(),
            selectors: vec![
                selector(wire::AttestationSelectorType::UnixUid, "1000"),
                selector(wire::AttestationSelectorType::UnixPath, "/usr/bin/invoice-bot"),
            ],
            nodes: vec!["vm-7".into(), "platform/vm-1".into()],
        }),
    }
}

pub(crate) fn grant() -> wire::DelegationGrant {
    wire::DelegationGrant {
        metadata: metadata("payments", "bot-lets-ledger"),
        spec: Some(wire::DelegationGrantSpec {
            delegator: "agent:invoice-bot".into(),
            delegate: "ledger-bot".into(),
            permissions: vec![permission("invoice:read"), permission("ledger:*")],
            audiences: vec!["https://ledger.example.com".into()],
            purpose: "Closes the month.".into(),
            not_before: at(1_000),
            not_after: at(2_000),
            may_redelegate: true,
            max_depth: 2,
            parent: "ada-lets-bot".into(),
            consent: Some(wire::ConsentEvidence {
                method: "oidc".into(),
                reference: "https://example.com/consent/7".into(),
                sha256: "0a".repeat(32),
                time: at(900),
                issuer: "https://accounts.example.com".into(),
                subject: "00u1".into(),
                token_sha256: "0b".repeat(32),
                auth_time: at(800),
                acr: "urn:example:mfa".into(),
            }),
        }),
    }
}

pub(crate) fn policy_test() -> wire::PolicyTest {
    let value = |kind| prost_types::Value { kind: Some(kind) };
    let list = prost_types::ListValue { values: vec![value(Is::StringValue("pii".into()))] };
    let inner = prost_types::Struct { fields: [("sealed".into(), value(Is::BoolValue(true)))].into() };
    let fields = [
        ("amount".into(), value(Is::NumberValue(100.0))),
        ("data_classification".into(), value(Is::ListValue(list))),
        ("flags".into(), value(Is::StructValue(inner))),
    ];
    wire::PolicyTest {
        metadata: metadata("payments", "sealed-stays-sealed"),
        spec: Some(wire::PolicyTestSpec {
            description: "Nobody reads what is sealed.".into(),
            cases: vec![wire::PolicyTestCase {
                agent: "invoice-bot".into(),
                action: "invoice:read".into(),
                resource_type: "Invoice".into(),
                resource_id: "apollo/1".into(),
                attributes: Some(prost_types::Struct { fields: fields.into() }),
                context: Some(prost_types::Struct::default()),
                expect: wire::ExpectedDecision::Deny.into(),
                reason_code: "FORBIDDEN_BY_POLICY".into(),
            }],
        }),
    }
}

pub(crate) fn lifecycle_policy() -> wire::LifecyclePolicy {
    let days = |days: i64| seconds(days * 86_400);
    wire::LifecyclePolicy {
        metadata: metadata("payments", "housekeeping"),
        spec: Some(wire::LifecyclePolicySpec {
            description: "What nobody needs ends.".into(),
            selector: "environment = prod".into(),
            groups: vec!["clerks".into()],
            agent_classes: vec!["clerk".into()],
            mode: wire::LifecycleMode::Enforce.into(),
            attest_every: days(90),
            unattested: wire::LifecycleAction::Suspend.into(),
            expire_after: days(365),
            suspend_when_dormant_for: days(60),
            suspend_when_orphaned_for: days(3),
            retire_after_suspended_for: days(180),
            on_alert: Some(wire::AlertRule {
                alert_types: vec!["ACTION_DESPITE_DENIAL".into(), "CREDENTIAL_SHARED".into()],
                min_severity: "HIGH".into(),
                action: wire::LifecycleAction::Quarantine.into(),
                max_agents: 3,
                per: seconds(3_600),
            }),
            grace: days(7),
            notify_before: days(3),
        }),
        status: None,
    }
}

pub(crate) fn operator_binding() -> wire::OperatorBinding {
    wire::OperatorBinding {
        metadata: metadata("payments", "payments-editors"),
        spec: Some(wire::OperatorBindingSpec {
            operators: vec!["ada".into(), "grace".into()],
            role: wire::OperatorRole::Editor.into(),
            not_before: at(1),
            not_after: at(2),
        }),
    }
}

pub(crate) fn node() -> wire::Node {
    let spec = wire::NodeSpec {
        description: "The machine in the corner.".into(),
        owners: vec!["user:ada".into(), "group:platform".into()],
    };
    wire::Node { metadata: metadata("payments", "vm-7"), spec: Some(spec), spiffe_id: String::new() }
}

pub(crate) fn federated_trust_domain() -> wire::FederatedTrustDomain {
    wire::FederatedTrustDomain {
        metadata: metadata("payments", "partner"),
        spec: Some(wire::FederatedTrustDomainSpec {
            description: "Those who make the labels.".into(),
            trust_domain: "partner.example".into(),
            bundle: r#"{"keys":[]}"#.into(),
            endpoint: Some(wire::BundleEndpoint {
                url: "https://spire.partner.example/bundle".into(),
                spiffe_id: "spiffe://partner.example/spire/server".into(),
            }),
            refresh: seconds(600),
            namespaces: vec!["platform".into()],
        }),
    }
}

pub(crate) fn review_campaign() -> wire::ReviewCampaign {
    let of = |who: &str, operators: &[&str]| wire::ReviewerOperators {
        who: who.into(),
        operators: operators.iter().map(ToString::to_string).collect(),
    };
    wire::ReviewCampaign {
        metadata: metadata("payments", "quarterly"),
        spec: Some(wire::ReviewCampaignSpec {
            description: "Should they keep it?".into(),
            selector: "environment = prod".into(),
            groups: vec!["clerks".into()],
            agent_classes: vec!["clerk".into()],
            reviews: vec![wire::ReviewedThing::RoleBinding.into(), wire::ReviewedThing::DelegationGrant.into()],
            reviewers: wire::ReviewerRule::Named.into(),
            named_reviewers: vec!["user:grace@example.com".into(), "operator:joan".into()],
            escalation: vec!["group:audit".into()],
            people: vec![of("user:grace@example.com", &["grace"]), of("group:audit", &["ada", "hedy"])],
            start_time: at(1_000),
            every_days: 90,
            due: seconds(1_209_600),
            grace: seconds(604_800),
            on_silence: wire::OnSilence::Escalate.into(),
        }),
    }
}

pub(crate) fn approval() -> wire::Approval {
    let spec = wire::ApprovalSpec {
        agent: "invoice-bot".into(),
        agent_id: "agt_01h455vb4pex5vsknk084sn02q".into(),
        permissions: vec![permission("invoice:pay")],
        audience: "https://invoices.example.com".into(),
        purpose: "Pays what is due.".into(),
        binding_message: "run 4711".into(),
        duration: seconds(600),
        expire_time: at(1_900),
        policies: vec![wire::HeldPolicy {
            name: "four-eyes".into(),
            id: "obj_01h455vb4pex5vsknk084sn02q".into(),
            version: 3,
            texts: vec!["large payments".into()],
            approvers: 1,
            ..wire::HeldPolicy::default()
        }],
        lifecycle_version: 1,
        requester: "spiffe://example.org/ns/payments/agent/agt_01h455vb4pex5vsknk084sn02q".into(),
        channel: wire::ApprovalChannel::Grpc.into(),
        approvers: 1,
        single_use: false,
        bars_owners: false,
    };
    let status = wire::ApprovalStatus {
        state: wire::ApprovalState::Approved.into(),
        not_before: at(1_000),
        not_after: at(1_600),
        decided_by: "spiffe://example.org/legate/operator/ada".into(),
        decide_time: at(1_000),
        decide_reason: "the invoice is right".into(),
        ..wire::ApprovalStatus::default()
    };
    let metadata = metadata("payments", "apr-01h455vb4pex5vsknk084sn02q");
    wire::Approval { metadata, spec: Some(spec), status: Some(status) }
}

pub(crate) fn stop_order() -> wire::StopOrder {
    let of = wire::StoppedGroup { name: "clerks".into(), spec: group().spec, update_time: at(1_700_000_000) };
    wire::StopOrder {
        metadata: metadata("payments", "group-0123456789abcdef0123456789abcdef"),
        spec: Some(wire::StopOrderSpec { level: Some(wire::stop_order_spec::Level::Group(of)) }),
        status: None,
    }
}

pub(crate) fn declared(object: Object) -> wire::Declaration {
    wire::Declaration { object: Some(object) }
}

/// What callers state in the sample namespace.
const POLICY_SCHEMA: &str = "entity Invoice { amount: Long, sealed?: Bool };\n\
    action \"invoice:read\" appliesTo { principal: [Agent], resource: [Invoice], context: { mfa?: Bool } };";

/// How many kinds there are.
pub(crate) const KINDS: usize = 21;

/// One of each kind, in the order of `Kind`; all but signing keys, revocations and approvals pass the check.
pub(crate) fn one_of_each() -> Vec<wire::Declaration> {
    let namespace = wire::NamespaceSpec {
        display_name: "Payments".into(),
        description: "Everything that pays.".into(),
        owners: vec!["group:payments".into()],
        max_spawn_depth: 2,
        max_children: 4,
        own_grant_only: true,
        orphan_grace: seconds(86_400),
        max_delegation_depth: 3,
        personal_authority: wire::PersonalAuthority::Granted.into(),
        max_approval_duration: seconds(7_200),
        policy_schema: POLICY_SCHEMA.into(),
        pipelines: vec!["payments-ci".into()],
    };
    let role = wire::RoleSpec { description: "Reads.".into(), permissions: vec![permission("invoice:read")] };
    let key_name = KID.to_lowercase();
    [
        Object::Namespace(wire::Namespace { metadata: metadata("", "payments"), spec: Some(namespace), status: None }),
        Object::AgentClass(class()),
        Object::Agent(agent()),
        Object::Role(wire::Role { metadata: metadata("payments", "invoice-reader"), spec: Some(role) }),
        Object::RoleBinding(binding()),
        Object::Policy(policy()),
        Object::EnforcementPoint(enforcement_point()),
        Object::SigningKey(wire::SigningKey { metadata: metadata("", &key_name), spec: Some(signing_key()) }),
        Object::Revocation(wire::Revocation {
            metadata: metadata("payments", "cred-01h455vb4pex5vsknk084sn02q"),
            spec: Some(revocation()),
        }),
        Object::Group(group()),
        Object::Boundary(boundary()),
        Object::CredentialPolicy(credential_policy()),
        Object::TrustedIssuer(trusted_issuer()),
        Object::AttestationPolicy(attestation_policy()),
        Object::DelegationGrant(grant()),
        Object::PolicyTest(policy_test()),
        Object::OperatorBinding(operator_binding()),
        Object::Node(node()),
        Object::FederatedTrustDomain(federated_trust_domain()),
        Object::LifecyclePolicy(lifecycle_policy()),
        Object::ReviewCampaign(review_campaign()),
        Object::Approval(approval()),
        Object::StopOrder(stop_order()),
    ]
    .map(declared)
    .to_vec()
}

/// A random object of a random kind, every field of it set or not, output-only ones too.
pub(crate) fn arbitrary() -> impl Strategy<Value = wire::Declaration> {
    (0..KINDS, prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(kind, chance)| random(kind, chance))
}

/// Two random objects of one kind.
pub(crate) fn two_alike() -> impl Strategy<Value = (wire::Declaration, wire::Declaration)> {
    let chance = || prop::collection::vec(any::<u8>(), 0..200);
    (0..KINDS, chance(), chance()).prop_map(|(kind, a, b)| (random(kind, a), random(kind, b)))
}

fn random(kind: usize, chance: Vec<u8>) -> wire::Declaration {
    let (field, object) = reflect::object(&one_of_each()[kind]).unwrap();
    reflect::declaration(&field, message(&object.descriptor(), &mut chance.into_iter()))
}

fn message(descriptor: &MessageDescriptor, chance: &mut std::vec::IntoIter<u8>) -> DynamicMessage {
    let mut made = DynamicMessage::new(descriptor.clone());
    if descriptor.full_name() == "google.protobuf.Value" {
        // It is always something, or it could not be written as JSON.
        made.set_field_by_name("bool_value", Value::Bool(chance.next().unwrap_or(0) > 127));
    }
    for field in descriptor.fields() {
        // When chance runs out, the rest is not set.
        let many = usize::from(chance.next().unwrap_or(0) % 4);
        if many == 0 {
            continue;
        }
        let value = if field.is_map() {
            let Kind::Message(entry) = field.kind() else { unreachable!() };
            let one = entry.map_entry_value_field();
            let entries: HashMap<_, _> =
                (0..many).map(|n| (MapKey::String(format!("k.{n}")), single(&one, chance))).collect();
            Value::Map(entries)
        } else if field.is_list() {
            Value::List((0..many).map(|_| single(&field, chance)).collect())
        } else {
            single(&field, chance)
        };
        made.set_field(&field, value);
    }
    made
}

fn single(field: &FieldDescriptor, chance: &mut std::vec::IntoIter<u8>) -> Value {
    let number = chance.next().unwrap_or(0) % 4;
    match field.kind() {
        Kind::Message(inner) => Value::Message(message(&inner, chance)),
        // There is one null.
        Kind::Enum(of) if of.full_name() == "google.protobuf.NullValue" => Value::EnumNumber(0),
        Kind::Enum(_) => Value::EnumNumber(number.into()),
        Kind::String => Value::String("x".repeat(number.into())),
        Kind::Bytes => Value::Bytes(vec![number; number.into()].into()),
        Kind::Bool => Value::Bool(number > 1),
        Kind::Uint32 => Value::U32(number.into()),
        Kind::Uint64 => Value::U64(number.into()),
        Kind::Int32 => Value::I32(number.into()),
        Kind::Int64 => Value::I64(number.into()),
        Kind::Double => Value::F64(number.into()),
        kind => unreachable!("{kind:?} is in no declared object"),
    }
}
