//! What use is held against: what people approved of agents, what was written by hand, and how items of reviews were used.

use std::collections::BTreeMap;

use legate_db::testing::on_each;
use legate_wire::audit::{ReadUsageResponse, UsageWay, UsedPermission};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    AgentBaseline, Declaration, ItemDecision, Kind, ListAgentBaselinesRequest, ListAgentBaselinesResponse,
    ListReviewItemsRequest, Metadata, Namespace, NamespaceSpec, ResourceSelector, ReviewDecision, ReviewItem,
    ReviewedThing, RoleBinding, RoleBindingSpec,
};

use super::departures::appointed;
use super::reviews::{GRACE, JOAN, about, campaign, campaign_spec, group, say, to_group};
use super::scene::*;
use crate::domain::lifecycle::Transition;
use crate::flow::transition::Step;
use crate::flow::{baseline, hear, read, review, sweep};
use crate::schema::Migrator;

const BOB: &str = "spiffe://example.org/legate/operator/bob";
const DAY: i64 = 86_400;
const LATER: i64 = NOW + 150 * DAY;

fn coded(pipelines: &[&str]) -> Declaration {
    let pipelines = pipelines.iter().map(ToString::to_string).collect();
    let metadata = Some(Metadata { name: "payments".into(), ..Metadata::default() });
    let spec = NamespaceSpec { pipelines, ..NamespaceSpec::default() };
    of(Object::Namespace(Namespace { metadata, spec: Some(spec), status: None }))
}

fn narrowed(name: &str, role: &str, agent: &str, id: &str) -> Declaration {
    let resources = vec![ResourceSelector { r#type: "Invoice".into(), id: id.into(), ..ResourceSelector::default() }];
    let spec = RoleBindingSpec { role: role.into(), agents: vec![agent.into()], resources, ..Default::default() };
    of(Object::RoleBinding(RoleBinding { metadata: metadata(name), spec: Some(spec) }))
}

impl Scene {
    async fn baselines(&self, who: &str, agents: &[String], objects: &[String]) -> ListAgentBaselinesResponse {
        let ask = ListAgentBaselinesRequest { agent_ids: agents.to_vec(), object_ids: objects.to_vec() };
        baseline::list(&self.desk, &by(who, ""), ask).await.unwrap()
    }

    async fn id_of(&self, kind: Kind, name: &str) -> String {
        let key = crate::domain::kind::Key::new(kind, "payments", name);
        let (object, _) = read::object(&self.desk, &by(OPERATOR, ""), key, None).await.unwrap();
        object.metadata().unwrap().id.clone()
    }

    async fn agent_id_of(&self, name: &str) -> String {
        self.agent(name).await.metadata.unwrap().id
    }

    /// Who wrote these by hand, by name.
    async fn hands(&self, ids: &[String]) -> BTreeMap<String, String> {
        let told = self.baselines(OPERATOR, &[], ids).await;
        told.objects.into_iter().map(|one| (one.name, one.actor)).collect()
    }
}

/// What was approved of each thing, by its name.
fn approved(baseline: &AgentBaseline) -> BTreeMap<String, Vec<String>> {
    let actions = |one: &legate_wire::registry::ApprovedThing| {
        one.permissions.iter().map(|permission| permission.action.clone()).collect()
    };
    baseline.things.iter().map(|one| (one.granted.clone(), actions(one))).collect()
}

#[tokio::test]
async fn what_an_agent_has_is_approved_with_it_and_then_thing_by_thing() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([
            class("careful", true),
            agent("bot", "careful"),
            role("payer", "invoice:pay"),
            narrowed("bot-pays", "payer", "bot", "apollo/*"),
            group("bots", &["bot"]),
            to_group("bots-read", "reader", "bots"),
            campaign(campaign_spec()),
        ]);
        scene.apply(all).await.unwrap();
        let id = scene.agent_id_of("bot").await;
        let other = scene.agent_id_of("invoice-bot").await;
        let of_both = [id.clone(), other.clone()];
        assert!(scene.baselines(OPERATOR, &of_both, &[]).await.agents.is_empty(), "nobody approved anything");
        scene.step(GRACE, "bot", Step::Transition(Transition::Approve)).await.unwrap();
        scene.step(GRACE, "bot", Step::Transition(Transition::Activate)).await.unwrap();
        // What it gets after that is not approved.
        scene.apply(vec![binding("bot-reads-too", "reader", &["bot"])]).await.unwrap();
        let told = scene.baselines(OPERATOR, &of_both, &[]).await.agents;
        assert_eq!(told.len(), 1, "{told:?}");
        let things = approved(&told[0]);
        assert_eq!(things["bot-pays"], ["invoice:pay"]);
        assert_eq!((things["bots-read"].as_slice(), things["careful"].len()), (&["invoice:read".to_owned()][..], 0));
        assert_eq!(things.len(), 3, "{things:?}");
        let pays = told[0].things.iter().find(|one| one.granted == "bot-pays").unwrap();
        assert_eq!((pays.approved_by.as_str(), pays.review_id.as_str()), (GRACE, ""));
        assert_eq!(pays.resources[0].id, "apollo/*");

        // A round decides about each thing, and that counts from then on.
        scene.clock.advance(std::time::Duration::from_secs(60));
        let round = scene.opened().await;
        let items = scene.items(&round.id).await;
        assert_eq!(about(&items, "bot", "bot-pays").resources[0].id, "apollo/*");
        let mut decisions: Vec<ItemDecision> = items.iter().map(|item| say(item, ReviewDecision::Certify)).collect();
        for (item, one) in items.iter().zip(&mut decisions) {
            if item.agent == "bot" && item.granted == "bot-pays" {
                one.decision = ReviewDecision::Revoke.into();
            }
        }
        scene.say_all(GRACE, &round.id, decisions, false).await.unwrap();
        // Nothing of it counts before it came to its end.
        let before = scene.baselines(OPERATOR, std::slice::from_ref(&id), &[]).await.agents;
        assert_eq!(before, [told[0].clone()]);
        let close = legate_wire::registry::CloseReviewRequest { review_id: round.id.clone(), ..Default::default() };
        let call = scene.call(JOAN, "done", &close, "");
        review::close(&scene.desk, call, close).await.unwrap();
        sweep::sweep(&scene.desk).await.unwrap();
        let told = scene.baselines(OPERATOR, &of_both, &[]).await.agents;
        let of = |id: &String| told.iter().find(|one| one.agent_id == *id).unwrap();
        let things = approved(of(&id));
        assert!(things["bot-pays"].is_empty(), "{things:?}");
        assert_eq!(things["bot-reads-too"], ["invoice:read"]);
        assert!(of(&other).things.iter().all(|one| one.review_id == round.id));
        let classes = of(&id).things.iter().filter(|one| one.reviewed() == ReviewedThing::AgentClass);
        assert_eq!(classes.count(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_was_written_by_hand_is_told_and_what_a_step_or_a_review_wrote_is_not() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.retain(|one| one.kind() != Some(Kind::Namespace));
        all.push(coded(&["ada"]));
        scene.apply(all).await.unwrap();
        let ids = [
            scene.agent_id_of("invoice-bot").await,
            scene.id_of(Kind::RoleBinding, "bot-reads").await,
            scene.id_of(Kind::AgentClass, "worker").await,
            scene.id_of(Kind::Role, "reader").await,
        ];
        assert!(scene.hands(&ids).await.is_empty());
        // A step in its life is no write, whoever takes it.
        scene.step(GRACE, "invoice-bot", Step::Transition(Transition::Suspend)).await.unwrap();
        scene.step(GRACE, "invoice-bot", Step::Transition(Transition::Resume)).await.unwrap();
        assert!(scene.hands(&ids).await.is_empty());
        let mut wider = role("reader", "invoice:read");
        if let Some(Object::Role(role)) = &mut wider.object {
            role.spec.as_mut().unwrap().permissions.push(permission("invoice:pay"));
        }
        scene.apply_as(GRACE, vec![wider], "", 0).await.unwrap();
        let expected = BTreeMap::from([("reader".to_owned(), GRACE.to_owned())]);
        assert_eq!(scene.hands(&ids).await, expected);
        // An agent that was changed by hand is told, also after another step by the pipeline's operator.
        let mut other = agent_spec("worker");
        other.purpose = "does more".into();
        scene.apply_as(GRACE, vec![agent_with("invoice-bot", other)], "", 0).await.unwrap();
        scene.suspend("invoice-bot").await;
        // A step of the pipeline's own operator ends nothing.
        scene.step(OPERATOR, "invoice-bot", Step::Transition(Transition::Resume)).await.unwrap();
        let told = scene.baselines(OPERATOR, &[], &ids).await;
        assert_eq!(told.objects.len(), 2, "{told:?}");
        let reader = told.objects.iter().find(|one| one.name == "reader").unwrap();
        assert_eq!(
            (reader.kind(), reader.reason.as_str(), reader.namespace.as_str()),
            (Kind::Role, "because", "payments")
        );
        // The pipeline writes it anew.
        scene.apply(vec![role_of_code(), agent("invoice-bot", "worker")]).await.unwrap();
        assert!(scene.hands(&ids).await.is_empty());
        // Where nobody says what is code, nothing is.
        scene.apply_as(GRACE, vec![role("reader", "invoice:export")], "", 0).await.unwrap();
        scene.apply(vec![coded(&[])]).await.unwrap();
        assert!(scene.hands(&ids).await.is_empty());
        // Who may not read there is told nothing of it.
        scene
            .apply(vec![
                coded(&["ada"]),
                appointed("first", "", &["ada"]),
                namespace("sales"),
                appointed("sellers", "sales", &["bob"]),
            ])
            .await
            .unwrap();
        assert_eq!(scene.hands(&ids).await.len(), 1);
        assert!(scene.baselines(BOB, &ids[..1], &ids).await.objects.is_empty());
        for (agents, objects) in [(vec!["bot".to_owned()], vec![]), (vec![], vec!["x".to_owned()])] {
            let ask = ListAgentBaselinesRequest { agent_ids: agents, object_ids: objects };
            let refused = baseline::list(&scene.desk, &by(OPERATOR, ""), ask).await.unwrap_err();
            assert_eq!(reason(&refused), "INVALID_ARGUMENT");
        }
    })
    .await;
}

fn role_of_code() -> Declaration {
    role("reader", "invoice:list")
}

/// A stretch in which an agent used something so long ago.
fn used(through: u64, agent: &str, action: &str, days_ago: i64) -> ReadUsageResponse {
    let at = |days: i64| Some(prost_types::Timestamp { seconds: LATER - days * DAY, nanos: 0 });
    let one = UsedPermission {
        agent_id: agent.into(),
        action: action.into(),
        resource_type: "Invoice".into(),
        resource_id: String::new(),
        way: UsageWay::Own.into(),
        count: 1,
        first_time: at(days_ago),
        last_time: at(days_ago),
        days: vec![(LATER - days_ago * DAY).div_euclid(DAY)],
    };
    ReadUsageResponse {
        origin: "example.org/audit-log".into(),
        through,
        root: vec![1; 32],
        is_newest: true,
        time: at(0),
        first_time: at(200),
        permissions: vec![one],
        ..ReadUsageResponse::default()
    }
}

#[tokio::test]
async fn items_carry_how_they_were_used_and_keep_it_with_the_decision() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([role("payer", "invoice:pay"), binding("bot-pays", "payer", &["invoice-bot"])]);
        all.push(campaign(campaign_spec()));
        scene.apply(all).await.unwrap();
        // Everything has been there for long enough to be unused.
        scene.clock.advance(std::time::Duration::from_secs((LATER - NOW).cast_unsigned()));
        let id = scene.agent_id_of("invoice-bot").await;
        let round = scene.opened().await;
        let items = async |days: u32| -> Vec<ReviewItem> {
            let ask = ListReviewItemsRequest { review_id: round.id.clone(), evidence_days: days, ..Default::default() };
            review::items(&scene.desk, &by(OPERATOR, ""), ask).await.unwrap().items
        };
        assert!(items(0).await.iter().all(|item| item.evidence.is_none()), "the log was not heard yet");
        let place = hear::place(&scene.desk).await.unwrap();
        assert!(hear::take(&scene.desk, &place, used(10, &id, "invoice:read", 40)).await.unwrap());
        let found = items(0).await;
        let of = |name: &str| about(&found, "invoice-bot", name).evidence.clone().unwrap();
        assert_eq!((of("bot-reads").uses, of("bot-reads").days, of("bot-reads").is_unused), (1, 1, false));
        assert_eq!((of("bot-pays").uses, of("bot-pays").is_unused), (0, true));
        assert_eq!(of("bot-pays").unused_actions, ["invoice:pay"]);
        let found = items(30).await;
        assert!(about(&found, "invoice-bot", "bot-reads").evidence.as_ref().unwrap().is_unused, "40 days ago");
        assert_eq!(about(&found, "invoice-bot", "bot-pays").explain, "legate what-can --agent payments/invoice-bot");
        let bad = ListReviewItemsRequest { review_id: round.id.clone(), evidence_days: 3, ..Default::default() };
        let refused = review::items(&scene.desk, &by(OPERATOR, ""), bad).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_ARGUMENT");

        // What was known when it was decided rests with the item, whatever is heard later.
        let pays = about(&found, "invoice-bot", "bot-pays");
        scene.say_all(GRACE, &round.id, vec![say(pays, ReviewDecision::Certify)], false).await.unwrap();
        let place = hear::place(&scene.desk).await.unwrap();
        assert!(hear::take(&scene.desk, &place, used(20, &id, "invoice:pay", 1)).await.unwrap());
        let found = items(0).await;
        assert!(about(&found, "invoice-bot", "bot-pays").evidence.as_ref().unwrap().is_unused);
        assert_eq!(about(&found, "invoice-bot", "bot-reads").evidence.as_ref().unwrap().uses, 1);
    })
    .await;
}
