//! Several people have to agree, and what counts once is used once.

use legate_ids::DecisionId;
use legate_wire::registry::{AgentSpec, UseApprovalsRequest};

use super::*;
use crate::flow::use_approvals::{self, Use};

const DECIDES: &str = "spiffe://example.org/legate/policy-decision";

fn decision(n: u8) -> String {
    DecisionId::from_parts(1, [n; 10]).to_string()
}

impl Scene {
    /// As `approving`, with three approvers, and a policy annotated with `more`.
    async fn approving_with(&self, more: &str) {
        self.approving().await;
        let held = format!("@approval(\"payments\") {more} {}", HOLDS.split_once(' ').unwrap().1);
        let three = given("three", "payments", &["peter", "petra"], OperatorRole::Approver);
        self.apply(vec![policy("four-eyes", &held), three]).await.unwrap();
    }

    async fn use_up(&self, decision: &str, ids: &[&ApprovalId]) -> Result<u64, Fault> {
        let ids = ids.iter().map(ToString::to_string).collect();
        let ask = UseApprovalsRequest { decision_id: decision.into(), approval_ids: ids };
        let wanted = Use::read(&ask)?;
        let call = self.call(DECIDES, "a decision rests on it", &ask, decision);
        Ok(use_approvals::use_up(&self.desk, call, wanted).await?.revision)
    }
}

fn agreed(approval: &Approval) -> Vec<&str> {
    let all = &approval.status.as_ref().unwrap().agreements;
    all.iter().map(|one| one.approver.rsplit_once('/').unwrap().1).collect()
}

#[tokio::test]
async fn two_people_agree_and_nobody_counts_twice() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving_with("@approvers(\"2\")").await;
        let asked = scene.ask_for("invoice-bot", wish()).await.unwrap();
        assert_eq!(asked.spec.as_ref().unwrap().approvers, 2);
        let id = id(&asked);
        let ten = Verdict::Approve(Some(Duration::from_secs(600)));
        let first = scene.decide(&operator("paula"), &id, "", ten).await.unwrap();
        assert_eq!((state(&first), agreed(&first)), (ApprovalState::Pending, vec!["paula"]));
        let status = first.status.unwrap();
        assert_eq!((status.not_after, status.decided_by.as_str()), (None, ""), "nothing is approved yet");
        for _ in 0..2 {
            assert_eq!(reason(&scene.approve(&operator("paula"), &id).await.unwrap_err()), "APPROVER_NOT_ANOTHER");
        }
        let stale = scene.decide(&operator("peter"), &id, &asked.metadata.unwrap().etag, Verdict::Approve(None)).await;
        assert_eq!(reason(&stale.unwrap_err()), "ETAG_MISMATCH", "an agreement is a change");
        let second = scene.approve(&operator("peter"), &id).await.unwrap();
        assert_eq!((state(&second), agreed(&second)), (ApprovalState::Approved, vec!["paula", "peter"]));
        let status = second.status.unwrap();
        assert_eq!(status.decided_by, operator("peter"));
        // The shortest of what they gave.
        assert_eq!(status.not_after.unwrap().seconds - status.not_before.unwrap().seconds, 600);
        assert_eq!(reason(&scene.approve(&operator("petra"), &id).await.unwrap_err()), "APPROVAL_DECIDED");
        let kinds: Vec<_> = scene.events().await.into_iter().map(|event| event.r#type).collect();
        let about: Vec<_> = kinds.iter().filter(|kind| kind.starts_with("approval.")).map(String::as_str).collect();
        assert_eq!(about, ["approval.requested", "approval.agreed", "approval.approved"]);
        // One of two is enough to deny.
        let other = super::id(&scene.ask_for("invoice-bot", numbered(1)).await.unwrap());
        scene.approve(&operator("paula"), &other).await.unwrap();
        let denied = scene.decide(&operator("peter"), &other, "", Verdict::Deny).await.unwrap();
        assert_eq!(state(&denied), ApprovalState::Denied);
    })
    .await;
}

#[tokio::test]
async fn an_agreement_counts_while_it_could_be_given() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving_with("@approvers(\"3\")").await;
        let id = id(&scene.ask_for("invoice-bot", wish()).await.unwrap());
        scene.approve(&operator("paula"), &id).await.unwrap();
        // She is no approver any more.
        scene.apply(vec![given("approvers", "payments", &["eva"], OperatorRole::Approver)]).await.unwrap();
        scene.approve(&operator("peter"), &id).await.unwrap();
        let third = scene.approve(&operator("petra"), &id).await.unwrap();
        assert_eq!((state(&third), agreed(&third)), (ApprovalState::Pending, vec!["peter", "petra"]));
        let fourth = scene.approve(&operator("eva"), &id).await.unwrap();
        assert_eq!(state(&fourth), ApprovalState::Approved);
    })
    .await;
}

#[tokio::test]
async fn no_owner_agrees_where_a_policy_says_so() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving_with("@separate(\"owners\")").await;
        let name = "olga";
        let owned = AgentSpec { owners: vec!["user:olga".into()], ..agent_spec("worker") };
        let olga = given("owners", "payments", &[name], OperatorRole::Approver);
        scene.apply(vec![agent_with("invoice-bot", owned), olga]).await.unwrap();
        let id = id(&scene.ask_for("invoice-bot", wish()).await.unwrap());
        assert_eq!(reason(&scene.approve(&operator(name), &id).await.unwrap_err()), "SELF_APPROVAL");
        assert_eq!(state(&scene.approve(&operator("paula"), &id).await.unwrap()), ApprovalState::Approved);
        // Without the annotation he may: whoever declared the agent may not in any case.
        scene.apply(vec![policy("four-eyes", HOLDS)]).await.unwrap();
        let other = super::id(&scene.ask_for("invoice-bot", numbered(1)).await.unwrap());
        assert_eq!(state(&scene.approve(&operator(name), &other).await.unwrap()), ApprovalState::Approved);
    })
    .await;
}

#[tokio::test]
async fn what_counts_once_is_used_by_one_decision() {
    on_each::<Migrator>(async |fixture| {
        let scene = Arc::new(Scene::new(&fixture));
        scene.approving_with("@single_use").await;
        let asked = scene.ask_for("invoice-bot", wish()).await.unwrap();
        assert!(asked.spec.as_ref().unwrap().single_use);
        let id = id(&asked);
        assert_eq!(reason(&scene.use_up(&decision(1), &[&id]).await.unwrap_err()), "APPROVAL_DECIDED", "it is pending");
        scene.approve(&operator("paula"), &id).await.unwrap();
        let uses = (1..=8).map(|n| {
            let (scene, id) = (Arc::clone(&scene), id.clone());
            async move { scene.use_up(&decision(n), &[&id]).await.map(|revision| (n, revision)) }
        });
        let all = futures_util::future::join_all(uses).await;
        let won: Vec<_> = all.iter().flatten().collect();
        assert_eq!(won.len(), 1, "{all:?}");
        let (winner, revision) = *won[0];
        // Whoever lost the reply asks again, and is told the same.
        assert_eq!(scene.use_up(&decision(winner), &[&id]).await.unwrap(), revision);
        for refused in all.iter().filter_map(|one| one.as_ref().err()) {
            assert_eq!(reason(refused), "APPROVAL_DECIDED");
        }
        let seen = scene.own("invoice-bot", &id).await.unwrap();
        assert_eq!(state(&seen), ApprovalState::Used);
        assert_eq!(seen.status.unwrap().used_by, decision(winner));
        let events = scene.events().await;
        assert_eq!(events.iter().filter(|event| event.r#type == "approval.used").count(), 1);
        assert_eq!(
            reason(&scene.decide(&operator("ada"), &id, "", Verdict::Revoke).await.unwrap_err()),
            "APPROVAL_DECIDED"
        );
    })
    .await;
}

#[tokio::test]
async fn all_that_a_decision_rests_on_is_used_or_none() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving_with("@single_use").await;
        let (one, two) = (scene.ask_for("invoice-bot", numbered(1)).await.unwrap(), numbered(2));
        let (one, two) = (id(&one), id(&scene.ask_for("invoice-bot", two).await.unwrap()));
        scene.approve(&operator("paula"), &one).await.unwrap();
        assert_eq!(reason(&scene.use_up(&decision(1), &[&one, &two]).await.unwrap_err()), "APPROVAL_DECIDED");
        assert_eq!(state(&scene.own("invoice-bot", &one).await.unwrap()), ApprovalState::Approved);
        let never = ApprovalId::from_parts(1, [1; 10]);
        assert_eq!(reason(&scene.use_up(&decision(1), &[&one, &never]).await.unwrap_err()), "APPROVAL_NOT_FOUND");
        for (decision, ids) in
            [("", vec![&one]), ("apr_1", vec![&one]), (&decision(1), vec![]), (&decision(1), vec![&one, &one])]
        {
            assert_eq!(reason(&scene.use_up(decision, &ids).await.unwrap_err()), "INVALID_ARGUMENT");
        }
        // Whoever decides may not have heard that the agent was stopped.
        scene.suspend("invoice-bot").await;
        assert_eq!(reason(&scene.use_up(&decision(2), &[&one]).await.unwrap_err()), "CALLER_NOT_ACTIVE");
        scene.step(OPERATOR, "invoice-bot", Step::Transition(Transition::Resume)).await.unwrap();
        assert_eq!(reason(&scene.use_up(&decision(3), &[&one]).await.unwrap_err()), "APPROVAL_OUTDATED");
    })
    .await;
}
