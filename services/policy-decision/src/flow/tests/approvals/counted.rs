//! Approvals by several people, and those that count once.

use std::sync::atomic::Ordering;

use super::*;

fn holds(more: &str) -> String {
    HOLDS.replacen("forbid", &format!("{more} forbid"), 1)
}

async fn stage_with(more: &str) -> Stage {
    Stage::set_with(|mut all| {
        all.push(policy("four-eyes", Enforce, &holds(more)));
        all
    })
    .await
}

fn agreed(names: &[&str]) -> Vec<wire::ApprovalAgreement> {
    let by = |name: &&str| wire::ApprovalAgreement {
        approver: format!("spiffe://example.org/legate/operator/{name}"),
        ..wire::ApprovalAgreement::default()
    };
    names.iter().map(by).collect()
}

#[tokio::test]
async fn an_approval_by_fewer_people_than_the_policy_says_lifts_nothing() {
    for (more, agreements, word) in [
        ("@approvers(\"2\")", vec![], "APPROVAL_REQUIRED"),
        ("@approvers(\"2\")", agreed(&["paula"]), "APPROVAL_REQUIRED"),
        ("@approvers(\"2\")", agreed(&["paula", "paula"]), "APPROVAL_REQUIRED"),
        ("@approvers(\"2\")", agreed(&["paula", "peter"]), "ALLOWED"),
        ("@approvers(\"3\")", agreed(&["paula", "peter"]), "APPROVAL_REQUIRED"),
        ("@approvers(\"3\")", agreed(&["paula", "peter", "petra"]), "ALLOWED"),
        // What cannot be read is reached by nobody.
        ("@approvers(\"many\")", agreed(&["paula", "peter", "petra"]), "APPROVAL_REQUIRED"),
        ("", vec![], "ALLOWED"),
    ] {
        let mut stage = stage_with(more).await;
        stage.change(vec![(approved(1, |_, status| status.agreements = agreements.clone()), false)]).await;
        let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
        assert_eq!(spoken.answer.word(), word, "{more} {agreements:?}");
        if agreements.len() == 3 && word == "ALLOWED" {
            assert!(spoken.answer.causes.last().unwrap().text.contains("/petra"), "all of them are told");
        }
        let leave = issuance(&stage, &["invoice:read"]).await;
        assert_eq!(leave.answer.word(), word, "a token rests on the same");
    }
}

#[tokio::test]
async fn what_counts_once_lets_one_decision_through_and_is_never_good_again() {
    let mut stage = stage_with("@single_use").await;
    stage.change(vec![(approved(1, |_, _| ()), false)]).await;
    assert_eq!(
        stage.word(stage.good()).await,
        "APPROVAL_REQUIRED",
        "one that counts for ever is not what is asked for"
    );
    stage.change(vec![(approved(1, |spec, _| spec.single_use = true), false)]).await;
    // A question that explains uses nothing.
    let asker = enforcer("invoices");
    let look = Explain { ask: stage.asserted(agent_id(1)), as_of: None, at: None };
    let explained = explain(&stage.desk, &operator(), look).await.unwrap();
    assert_eq!(explained.spoken.answer.word(), "ALLOWED");
    assert!(stage.registry.used.lock().is_empty());
    let spoken = stage.ask(&asker, stage.good()).await;
    assert_eq!(spoken.answer.word(), "ALLOWED", "{}", spoken.message);
    assert_eq!(spoken.valid_until, None, "it may not be used again");
    let id = ApprovalId::from_parts(1, [1; 10]).to_string();
    assert_eq!(stage.registry.used.lock().get(&id), Some(&spoken.id.to_string()));
    assert!(stage.paper.synced.load(Ordering::SeqCst), "its record is as durable as the use");
    // The view has not heard of it; the registry has.
    let spoken = stage.ask(&asker, stage.good()).await;
    assert_eq!(spoken.answer.word(), "APPROVAL_REQUIRED");
    assert!(spoken.message.contains("this decision did not get it"), "{}", spoken.message);
    let events = stage.paper.events();
    let outcomes: Vec<_> =
        events.iter().filter(|event| event.r#type == "decision.made").map(|event| event.reason_code.as_str()).collect();
    assert_eq!(outcomes[outcomes.len() - 2..], ["ALLOWED", "APPROVAL_REQUIRED"]);
}

#[tokio::test]
async fn of_a_batch_one_gets_it_and_nobody_without_the_registry() {
    let mut stage = stage_with("@single_use").await;
    stage.change(vec![(approved(1, |spec, _| spec.single_use = true), false)]).await;
    stage.registry.is_gone.store(true, Ordering::SeqCst);
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!(spoken.answer.word(), "APPROVAL_UNCONFIRMED");
    assert_eq!(spoken.answer.denied.unwrap().kind(), Denial::Undecided);
    stage.registry.is_gone.store(false, Ordering::SeqCst);
    let asks = vec![stage.good(), stage.good(), stage.good().action("invoice:list")];
    let all = crate::flow::evaluate(&stage.desk, &enforcer("invoices"), &asks).await.unwrap();
    let words: Vec<_> = all.iter().map(|one| one.answer.word()).collect();
    assert_eq!(words, ["ALLOWED", "APPROVAL_REQUIRED", "ALLOWED"]);
}

#[tokio::test]
async fn one_that_counts_once_is_spared_where_another_suffices() {
    let mut stage = stage().await;
    let once = approved(1, |spec, status| {
        spec.single_use = true;
        status.not_after = at(NOW + 900);
    });
    stage.change(vec![(once, false), (approved(2, |_, _| ()), false)]).await;
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    assert!(stage.registry.used.lock().is_empty());
    stage.change(vec![(approved(2, |_, _| ()), true)]).await;
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    assert_eq!(stage.registry.used.lock().len(), 1, "an approver may be asked for one use where no policy says so");
    assert_eq!(stage.word(stage.good()).await, "APPROVAL_REQUIRED");
}
