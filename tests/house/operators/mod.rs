//! Delegated administration over real mutual TLS: what each role may do, and that nothing of another namespace ever shows.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use legate_authority::{OperatorRole, Right};
use legate_ids::{Name, SpiffeId};
use legate_rpc::{Caller, Client, Code, Rule, Told};
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::registry as wire;
use wire::agent_service_client::AgentServiceClient;
use wire::declaration::Object;
use wire::declaration_service_client::DeclarationServiceClient;

use crate::blessed::compare;
use crate::raised::{Raised, certify};

mod cases;

use cases::{Ask, Outcome, cases};

/// Whose operators are judged by their roles.
fn tables() -> [&'static [Rule]; 4] {
    [
        legate_registry::ACCESS,
        legate_credential_issuer::ACCESS,
        legate_policy_decision::ACCESS,
        legate_audit_collector::ACCESS,
    ]
}

/// Every method that an operator may call.
fn methods() -> BTreeSet<&'static str> {
    let rules = tables().into_iter().flatten();
    rules.filter(|rule| rule.callers.contains(&Caller::Operator)).map(|rule| rule.method).collect()
}

#[test]
fn every_method_of_operators_has_a_case() {
    assert_eq!(
        cases().into_keys().collect::<BTreeSet<_>>(),
        methods(),
        "write a case in tests/house/operators/cases.rs"
    );
}

/// A word that stands in everything of the namespace that nobody from outside may see.
const CANARY: &str = "kanarie";

/// A suite with two namespaces, and who asks.
struct World {
    raised: Raised,
}

/// Lines to the services, as somebody.
fn lines(raised: &Raised, operator: &str) -> [Client; 4] {
    let id = SpiffeId::operator(raised.suite.domain(), &Name::parse(operator).unwrap());
    let identity = certify(&raised.services_ca(), &id);
    let services = ["registry", "credential-issuer", "policy-decision", "audit-collector"];
    services.map(|service| raised.dial(service, identity.clone()))
}

fn metadata(namespace: &str, name: &str) -> Option<wire::Metadata> {
    Some(wire::Metadata {
        namespace: namespace.into(),
        name: name.into(),
        labels: [("word".to_owned(), namespace.to_owned())].into(),
        ..wire::Metadata::default()
    })
}

fn permission() -> wire::Permission {
    let selector = wire::ResourceSelector { r#type: "Invoice".into(), id: "*".into(), ..Default::default() };
    wire::Permission { action: "invoice:read".into(), resource: Some(selector) }
}

fn binding(namespace: &str, name: &str, operator: &str, role: wire::OperatorRole) -> Object {
    let metadata = wire::Metadata { namespace: namespace.into(), name: name.into(), ..wire::Metadata::default() };
    Object::OperatorBinding(wire::OperatorBinding {
        metadata: Some(metadata),
        spec: Some(wire::OperatorBindingSpec {
            operators: vec![operator.into()],
            role: role.into(),
            ..wire::OperatorBindingSpec::default()
        }),
    })
}

/// A review campaign of which nobody is asked who is an operator here.
fn campaign(word: &str) -> wire::ReviewCampaignSpec {
    wire::ReviewCampaignSpec {
        description: format!("{word} reviews"),
        reviews: vec![wire::ReviewedThing::RoleBinding.into(), wire::ReviewedThing::AgentClass.into()],
        reviewers: wire::ReviewerRule::Named.into(),
        named_reviewers: vec![format!("operator:{word}-reviewer")],
        due: Some(prost_types::Duration { seconds: 86_400, nanos: 0 }),
        ..wire::ReviewCampaignSpec::default()
    }
}

/// A whole namespace; `word` stands in every name and text of it.
fn namespace(word: &str) -> Vec<Object> {
    let agent = wire::AgentSpec {
        agent_class: format!("{word}-class"),
        purpose: format!("{word} purpose"),
        environment: wire::Environment::Test.into(),
        owners: vec![format!("user:{word}-owner")],
        sponsors: vec![format!("user:{word}-sponsor")],
        display_name: format!("{word} name"),
        ..wire::AgentSpec::default()
    };
    let class = wire::AgentClassSpec {
        description: format!("{word} class"),
        permissions: vec![permission()],
        ceiling: vec![permission()],
        ..wire::AgentClassSpec::default()
    };
    let role = wire::RoleSpec { permissions: vec![permission()], description: format!("{word} role") };
    let given = wire::RoleBindingSpec {
        role: format!("{word}-role"),
        agents: vec![format!("{word}-agent")],
        ..wire::RoleBindingSpec::default()
    };
    let policy = wire::PolicySpec {
        cedar: format!(
            "@word(\"{word}\") permit(principal, action, resource);\n\
             @approval(\"{word} approvals\") forbid(principal, action == Action::\"invoice:pay\", resource);"
        ),
        mode: wire::PolicyMode::Enforce.into(),
        ..wire::PolicySpec::default()
    };
    let point = wire::EnforcementPointSpec {
        resource_types: vec!["Invoice".into()],
        audiences: vec![format!("https://{word}.example.com")],
        ..wire::EnforcementPointSpec::default()
    };
    let own = wire::Metadata { name: word.into(), ..wire::Metadata::default() };
    // So that whatever is declared here is known to be written by hand.
    let by_others = wire::NamespaceSpec { pipelines: vec!["nobody".into()], ..wire::NamespaceSpec::default() };
    let name = |what: &str| metadata(word, &format!("{word}-{what}"));
    vec![
        Object::Namespace(wire::Namespace { metadata: Some(own), spec: Some(by_others), status: None }),
        Object::AgentClass(wire::AgentClass { metadata: name("class"), spec: Some(class), ..Default::default() }),
        Object::Agent(wire::Agent { metadata: name("agent"), spec: Some(agent), status: None }),
        Object::Role(wire::Role { metadata: name("role"), spec: Some(role) }),
        Object::RoleBinding(wire::RoleBinding { metadata: name("binding"), spec: Some(given) }),
        Object::Policy(wire::Policy { metadata: name("policy"), spec: Some(policy) }),
        Object::EnforcementPoint(wire::EnforcementPoint {
            metadata: metadata(word, "backend"),
            spec: Some(point),
            spiffe_id: String::new(),
        }),
        binding(word, &format!("{word}-team"), &format!("{word}-operator"), wire::OperatorRole::Admin),
        Object::ReviewCampaign(wire::ReviewCampaign { metadata: name("campaign"), spec: Some(campaign(word)) }),
    ]
}

impl World {
    async fn new() -> Self {
        let world = Self { raised: Raised::new().await };
        world.apply([namespace("alpha"), namespace(CANARY)].concat()).await;
        for word in ["alpha", CANARY] {
            world.leaves(word).await;
            world.reviews(word).await;
        }
        world
    }

    /// A round of the campaign of a namespace, whose items are made; one of them.
    async fn reviews(&self, word: &str) -> wire::ReviewItem {
        let mut reviews = wire::review_service_client::ReviewServiceClient::new(self.raised.operator("registry"));
        let ask = wire::ListReviewsRequest { namespace: word.into(), ..wire::ListReviewsRequest::default() };
        let known = reviews.list_reviews(ask).await.unwrap().into_inner().reviews.pop();
        let review = match known {
            Some(known) => known,
            None => {
                let (namespace, campaign) = (word.to_owned(), format!("{word}-campaign"));
                let reason = format!("{word} reasons");
                let ask = wire::StartReviewRequest { namespace, campaign, reason, ..Default::default() };
                reviews.start_review(ask).await.unwrap().into_inner().review.unwrap()
            }
        };
        let ask = wire::ListReviewItemsRequest { review_id: review.id, ..wire::ListReviewItemsRequest::default() };
        loop {
            let items = reviews.list_review_items(ask.clone()).await.unwrap().into_inner().items;
            if let Some(item) = items.into_iter().next() {
                return item;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Somebody leaves a namespace.
    async fn leaves(&self, word: &str) {
        let request = wire::OffboardPersonRequest {
            person: format!("user:{word}-gone"),
            namespace: word.into(),
            reason: format!("{word} reasons"),
            ..wire::OffboardPersonRequest::default()
        };
        let mut departures =
            wire::departure_service_client::DepartureServiceClient::new(self.raised.operator("registry"));
        departures.offboard_person(request).await.unwrap();
    }

    async fn apply(&self, objects: Vec<Object>) -> u64 {
        let declarations = objects.into_iter().map(|object| wire::Declaration { object: Some(object) }).collect();
        let request = wire::ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
        let mut service = DeclarationServiceClient::new(self.raised.operator("registry"));
        let revision = service.apply_declarations(request).await.unwrap().into_inner().revision;
        self.wait_for(revision).await;
        revision
    }

    /// Waits until the views hold a revision.
    async fn wait_for(&self, revision: u64) {
        let mut decisions = legate_wire::policy::decision_service_client::DecisionServiceClient::new(
            self.raised.operator("policy-decision"),
        );
        let unknown = legate_ids::AgentId::from_parts(1, [1; 10]).to_string();
        let question = legate_wire::policy::EvaluateRequest {
            subject: Some(legate_wire::policy::Subject {
                agent: Some(legate_wire::policy::subject::Agent::AgentId(unknown)),
                ..Default::default()
            }),
            action: "invoice:read".into(),
            resource: Some(legate_wire::policy::Resource {
                r#type: "Invoice".into(),
                id: "1".into(),
                attributes: None,
            }),
            at_least_revision: revision,
            ..Default::default()
        };
        let answer = decisions.evaluate(question).await.unwrap().into_inner();
        assert_eq!(answer.reason_code, "AGENT_UNKNOWN", "{answer:?}");
        self.raised.wait_for_record(revision).await;
    }

    async fn agent(&self, word: &str) -> wire::Agent {
        let which = wire::AgentRef { namespace: word.into(), name: format!("{word}-agent"), ..Default::default() };
        let request = wire::GetAgentRequest { agent: Some(which), ..Default::default() };
        let mut agents = AgentServiceClient::new(self.raised.operator("registry"));
        agents.get_agent(request).await.unwrap().into_inner().agent.unwrap()
    }

    /// What there is to ask about in a namespace, asked by `operator`; its agent has a credential.
    async fn ask(&self, operator: &str, word: &str) -> Ask {
        let agent_id = crate::raised::id_of(&self.agent(word).await);
        let token = self.raised.enrolment_token(Holder::AgentId(agent_id.clone())).await;
        let enrolled = legate_client::enrol(&self.raised.remote("credential-issuer"), &token).await.unwrap();
        let asked = wire::RequestApprovalRequest {
            permissions: vec![wire::Permission { action: "invoice:pay".into(), ..permission() }],
            purpose: format!("{word} pays"),
            binding_message: format!("{word} for {operator}"),
            reason: format!("{word} reasons"),
            ..wire::RequestApprovalRequest::default()
        };
        let line = self.raised.dial("registry", enrolled.identity().unwrap());
        let mut requests = wire::approval_request_service_client::ApprovalRequestServiceClient::new(line);
        let asked = requests.request_approval(asked).await.unwrap().into_inner();
        // What is heard of use is nobody's change.
        let item = wire::ReviewItem { evidence: None, ..self.reviews(word).await };
        let [registry, issuer, policy, audit] = lines(&self.raised, operator);
        Ask {
            registry,
            issuer,
            policy,
            audit,
            namespace: word.to_owned(),
            agent: format!("{word}-agent"),
            agent_id,
            class: format!("{word}-class"),
            role: format!("{word}-role"),
            credential_id: enrolled.credential.id,
            instance_id: enrolled.credential.instance_id,
            enrolment: token,
            approval_id: asked.approval.unwrap().metadata.unwrap().id,
            review_id: item.review_id,
            review_item_id: item.id,
        }
    }

    /// Everything of a namespace that could be changed, as the administrator sees it.
    async fn all_of(&self, word: &str) -> String {
        let mut service = DeclarationServiceClient::new(self.raised.operator("registry"));
        let mut all = String::new();
        for kind in (1..=21).chain([wire::Kind::Approval.into()]) {
            let request = wire::ListDeclarationsRequest { kind, namespace: word.into(), ..Default::default() };
            let mut answer = service.list_declarations(request).await.unwrap().into_inner();
            // What is heard of its use is nobody's change.
            for declaration in &mut answer.declarations {
                if let Some(wire::declaration::Object::Agent(agent)) = &mut declaration.object {
                    agent.status.get_or_insert_default().last_used_time = None;
                }
            }
            writeln!(all, "{:?}", answer.declarations).unwrap();
        }
        let mut admin = legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient::new(
            self.raised.operator("credential-issuer"),
        );
        let request = legate_wire::credential::ListCredentialsRequest { namespace: word.into(), ..Default::default() };
        let credentials = admin.list_credentials(request).await.unwrap().into_inner().credentials;
        writeln!(all, "{credentials:?}").unwrap();
        let mut departures =
            wire::departure_service_client::DepartureServiceClient::new(self.raised.operator("registry"));
        let request = wire::ListDeparturesRequest { namespace: word.into(), ..Default::default() };
        let mut departures = departures.list_departures(request).await.unwrap().into_inner().departures;
        // How far it has come is the sweep's.
        departures.iter_mut().for_each(|departure| departure.settle_time = None);
        writeln!(all, "{departures:?}").unwrap();
        let mut item = self.reviews(word).await;
        // So is up to when its use was heard.
        item.evidence = None;
        writeln!(all, "{item:?}").unwrap();
        all
    }
}

/// What was said, without what the caller had said himself.
fn said(outcome: &Outcome, ask: &Ask) -> String {
    let mut text = match outcome {
        Ok(text) => text.clone(),
        Err(told) => format!("{told:?}"),
    };
    for given in [
        &ask.agent_id,
        &ask.credential_id,
        &ask.instance_id,
        &ask.approval_id,
        &ask.review_id,
        &ask.review_item_id,
        &ask.agent,
        &ask.class,
        &ask.role,
        &ask.namespace,
    ] {
        text = text.replace(given.as_str(), "GIVEN");
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_rights_elsewhere_sees_nothing_and_changes_nothing() {
    let world = World::new().await;
    let ask = world.ask("alpha-operator", CANARY).await;
    let own = world.ask("alpha-operator", "alpha").await;
    let everything = world.all_of(CANARY).await;
    // One that never was, to compare with.
    let nobody = Ask {
        namespace: "nowhere-7".into(),
        agent: "nobody-7".into(),
        agent_id: legate_ids::AgentId::from_parts(1, [1; 10]).to_string(),
        class: "nothing-8".into(),
        role: "nothing-7".into(),
        credential_id: legate_ids::CredentialId::from_parts(1, [1; 10]).to_string(),
        instance_id: legate_ids::InstanceId::from_parts(1, [1; 10]).to_string(),
        enrolment: format!("lgt_enr_{}", "0".repeat(72)),
        approval_id: legate_ids::ApprovalId::from_parts(1, [1; 10]).to_string(),
        review_id: legate_ids::ReviewId::from_parts(1, [1; 10]).to_string(),
        review_item_id: legate_ids::ReviewItemId::from_parts(1, [1; 10]).to_string(),
        ..ask.clone()
    };
    let other_ids: Vec<String> = everything.split('"').filter(|t| t.starts_with("obj_")).map(str::to_owned).collect();
    assert!(other_ids.len() >= 6, "the namespace has ids to look for");
    for (method, case) in cases() {
        let outcomes = case(ask.clone()).await;
        let missing = case(nobody.clone()).await;
        assert_eq!(outcomes.len(), missing.len());
        for (foreign, missing) in outcomes.iter().zip(&missing) {
            let text = said(foreign, &ask);
            assert!(!text.contains(CANARY) && !other_ids.iter().any(|id| text.contains(id)), "{method}: {text}");
            // Word for word what is said of what is not there.
            match (foreign, missing) {
                (Err(foreign), Err(missing)) => {
                    let words = |told: &Told, ask: &Ask| said(&Err(told.clone()), ask);
                    assert_eq!(sorted(&words(foreign, &ask)), sorted(&words(missing, &nobody)), "{method}");
                }
                (Ok(_), Ok(_)) => {}
                _ => panic!("{method}: {foreign:?} differs from {missing:?}"),
            }
        }
    }
    assert_eq!(world.all_of(CANARY).await, everything, "something was changed");
    // The same operator is somebody at home.
    let at_home = cases()["/legate.registry.v1.AgentService/GetAgent"](own).await;
    assert!(at_home.iter().all(|outcome| outcome.as_ref().is_ok_and(|text| text.contains("alpha purpose"))));
    world.raised.suite.shutdown().await;
}

/// Maps are told in any order.
fn sorted(text: &str) -> Vec<char> {
    let mut all: Vec<char> = text.chars().collect();
    all.sort_unstable();
    all
}

const HEAD: &str = "\
# What operators may do. The first table is the arithmetic (crates/authority); the second was made by calling every method of a
# raised suite about objects of one namespace, as an operator who has one role there, or none.
# yes: let through   no: OPERATOR_NOT_PERMITTED   hidden: as if there were nothing
";

/// The word of the matrix for what a caller met.
fn cell(outcomes: &[Outcome], ask: &Ask) -> &'static str {
    let hidden = [
        "AGENT_NOT_FOUND",
        "OBJECT_NOT_FOUND",
        "CREDENTIAL_NOT_FOUND",
        "INSTANCE_NOT_FOUND",
        "APPROVAL_NOT_FOUND",
        "REVIEW_NOT_FOUND",
        "AGENT_UNKNOWN",
        "AUDIT_ALERT_NOT_FOUND",
    ];
    let is_refused = |outcome: &Outcome| {
        outcome
            .as_ref()
            .is_err_and(|told| told.reason == "OPERATOR_NOT_PERMITTED" && told.code == Code::PermissionDenied)
    };
    let shows = |outcome: &Outcome| match outcome {
        Ok(text) => !text.contains("AGENT_UNKNOWN") && !is_empty(text),
        Err(told) => {
            !(hidden.contains(&told.reason.as_str())
                || told.reason == "HOLDER_NOT_ACTIVE" && told.message.contains(&ask.agent_id))
        }
    };
    match outcomes {
        _ if outcomes.iter().any(is_refused) => "no",
        _ if outcomes.iter().any(shows) => "yes",
        _ => "hidden",
    }
}

/// A list that has nothing.
fn is_empty(text: &str) -> bool {
    let nothing = [
        "declarations: []",
        "agents: []",
        "credentials: []",
        "departures: []",
        "instances: []",
        "approvals: []",
        "reviews: []",
        "items: []",
        "events: []",
    ];
    nothing.iter().any(|none| text.contains(none))
}

fn word(role: Option<OperatorRole>) -> &'static str {
    role.map_or("NONE", OperatorRole::word)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_what_the_golden_matrix_says() {
    let columns: Vec<Option<OperatorRole>> = OperatorRole::ALL.into_iter().map(Some).chain([None]).collect();
    let mut text = String::from(HEAD);
    let heads = columns.iter().map(|role| word(*role)).collect::<Vec<_>>();
    let width = methods().iter().map(|method| method.len()).max().unwrap();
    writeln!(text, "\n{:width$}  {}", "right", heads[..5].join("  ")).unwrap();
    for right in Right::ALL {
        let mut line = format!("{:width$}", right.word());
        for role in OperatorRole::ALL {
            write!(line, "  {:1$}", if role.gives(right) { "yes" } else { "no" }, role.word().len()).unwrap();
        }
        writeln!(text, "{}", line.trim_end()).unwrap();
    }

    let world = World::new().await;
    let roles = columns.iter().flatten().map(|role| {
        let name = role.word().to_lowercase().replace('_', "-");
        let role = match role {
            OperatorRole::Viewer => wire::OperatorRole::Viewer,
            OperatorRole::Editor => wire::OperatorRole::Editor,
            OperatorRole::Approver => wire::OperatorRole::Approver,
            OperatorRole::Admin => wire::OperatorRole::Admin,
            OperatorRole::BreakGlass => wire::OperatorRole::BreakGlass,
        };
        binding("alpha", &format!("of-{name}"), &name, role)
    });
    world.apply(roles.collect()).await;
    writeln!(text, "\n{:width$}  {}", "method", heads.join("  ")).unwrap();
    let mut asks = Vec::new();
    for role in &columns {
        asks.push(world.ask(&word(*role).to_lowercase().replace('_', "-"), "alpha").await);
    }
    // What ends an agent comes last, and for those last who may.
    let ends = |method: &str| method.ends_with("RetireAgent");
    let mut lines: Vec<(String, String)> = Vec::new();
    for last in [false, true] {
        for (method, case) in cases().into_iter().filter(|(method, _)| ends(method) == last) {
            let mut cells = vec![String::new(); columns.len()];
            // From the one who may least: what one may do may take it away from the next.
            for n in [5, 4, 0, 2, 1, 3] {
                cells[n] = cell(&case(asks[n].clone()).await, &asks[n]).to_owned();
            }
            let padded = cells.iter().zip(&heads).map(|(cell, head)| format!("{cell:0$}", head.len()));
            lines.push((method.to_owned(), padded.collect::<Vec<_>>().join("  ")));
        }
    }
    lines.sort();
    for (method, cells) in lines {
        writeln!(text, "{}", format!("{method:width$}  {cells}").trim_end()).unwrap();
    }
    compare("tests/golden/operators.txt", &text);
    world.raised.suite.shutdown().await;
}
