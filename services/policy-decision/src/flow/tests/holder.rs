//! What the holder of a token may do with it: proved as for a decision, and never more than the token leaves.

use legate_ids::Action;
use legate_token::{Claims, Confirmation, Scope, mint};
use legate_wire::registry as wire;
use legate_wire::registry::declaration::Object;

use super::delegation;
use crate::convert::Subject;
use crate::domain::preview::outlook::Holds;
use crate::flow::{Asker, Can, HolderCan, Shown, holder_can};
use crate::testing::*;

async fn can(stage: &Stage, asker: &Asker, change: impl FnOnce(&mut Claims)) -> Result<Can, legate_rpc::Fault> {
    let mut claims = stage.claims();
    change(&mut claims);
    let ask = stage.with_token(mint(&claims, &stage.signer).unwrap());
    let Subject::Token(token) = ask.subject else { panic!("no token") };
    let shown = Shown { presenter: ask.presenter, presenter_key: ask.presenter_key };
    holder_can(&stage.desk, asker, HolderCan { token, shown, at_least_revision: 0, with_never: false }).await
}

fn lines(can: &Can) -> Vec<String> {
    let word = |holds: &Holds| if matches!(holds, Holds::Always) { "" } else { "?" };
    can.all
        .iter()
        .map(|one| format!("{} {}:{}{}", one.cell.action, one.cell.kind, one.cell.id, word(&one.holds)))
        .collect()
}

fn word(can: &Can) -> &'static str {
    can.stopped.as_ref().map_or("", |answer| answer.word())
}

#[tokio::test]
async fn it_is_told_to_whom_it_is_shown_and_of_what_the_token_leaves() {
    let mut stage = Stage::set_with(|mut all| {
        all.retain(|object| !matches!(&object.object, Some(Object::Policy(_))));
        all.push(policy("open", wire::PolicyMode::Enforce, "permit(principal, action, resource);"));
        all
    })
    .await;
    // It has no right to search.
    let invoices = enforcer("invoices");
    let told = can(&stage, &invoices, |_| ()).await.unwrap();
    assert_eq!(lines(&told), ["invoice:list Invoice:*", "invoice:read Invoice:apollo/*"]);
    assert_eq!((word(&told), told.agent.as_ref().unwrap().id.clone()), ("", agent_id(1)));
    let event = stage.paper.events().pop().unwrap();
    assert_eq!((event.details["question"].as_str(), event.agent_id.as_str()), ("holder_can", agent_id(1).as_str()));
    assert_eq!(event.details["token_id"], stage.claims().token_id);

    let read = Action::parse("invoice:read").unwrap();
    let told = can(&stage, &invoices, |c| c.scope = Scope::Actions([read].into_iter().collect())).await.unwrap();
    assert_eq!(lines(&told), ["invoice:read Invoice:apollo/*"]);
    let pay = Action::parse("invoice:pay").unwrap();
    assert!(
        can(&stage, &invoices, |c| c.scope = Scope::Actions([pay].into_iter().collect())).await.unwrap().all.is_empty()
    );
    let details = legate_token::Details::read(r#"[{"type":"legate","identifier":"apollo/7"}]"#).unwrap();
    let told = can(&stage, &invoices, |c| c.details = details).await.unwrap();
    assert_eq!(lines(&told), ["invoice:list Invoice:*?", "invoice:read Invoice:apollo/*?"]);

    // A caller of other types is told of those alone, and one whose token it is not nothing.
    stage.change(vec![(point("invoices", |p| p.resource_types = vec!["Ledger".into()]), false)]).await;
    assert!(can(&stage, &invoices, |_| ()).await.unwrap().all.is_empty());
    let told = can(&stage, &operator(), |_| ()).await.unwrap();
    assert_eq!((word(&told), told.agent.is_none(), told.all.len()), ("TOKEN_AUDIENCE", true, 0));
}

#[tokio::test]
async fn a_token_that_is_no_good_tells_why_and_nothing_else() {
    let mut stage = Stage::set().await;
    let invoices = enforcer("invoices");
    let secs = stage.claims().issued_at;
    for (change, expected) in [
        (
            Box::new(|c: &mut Claims| c.confirmation = Confirmation::Certificate([8; 32]))
                as Box<dyn FnOnce(&mut Claims)>,
            "TOKEN_BINDING",
        ),
        (Box::new(|c: &mut Claims| c.audience = "https://other.example".into()), "TOKEN_AUDIENCE"),
        (Box::new(|c: &mut Claims| c.lifecycle_version = 0), "TOKEN_OUTLIVED"),
        (Box::new(move |c: &mut Claims| (c.issued_at, c.expires_at) = (secs - 500, secs - 300)), "TOKEN_EXPIRED"),
        (Box::new(|c: &mut Claims| (c.agent, c.subject) = (agent_id(99), subject(99))), "AGENT_UNKNOWN"),
    ] {
        let told = can(&stage, &invoices, change).await.unwrap();
        assert_eq!((word(&told), told.agent.is_none(), told.all.len()), (expected, true, 0));
        assert_eq!(stage.paper.events().pop().unwrap().details["reason"], expected);
    }
    stage.change(vec![(agent(1, |a| a.status.as_mut().unwrap().set_state(wire::AgentState::Suspended)), false)]).await;
    let told = can(&stage, &invoices, |_| ()).await.unwrap();
    assert_eq!((word(&told), told.all.len()), ("AGENT_SUSPENDED", 0));
}

#[tokio::test]
async fn of_what_is_done_for_somebody_nothing_is_sure() {
    let stage = Stage::set_with(|mut all| {
        all.retain(|object| !matches!(&object.object, Some(Object::Policy(_))));
        all.push(policy("open", wire::PolicyMode::Enforce, "permit(principal, action, resource);"));
        all.extend(delegation::scene([0b111; 4], [0b111; 3]));
        all
    })
    .await;
    let invoices = enforcer("invoices");
    let by_itself = can(&stage, &invoices, |_| ()).await.unwrap();
    assert!(by_itself.all.iter().all(|one| matches!(one.holds, Holds::Always)), "{:?}", lines(&by_itself));
    let claims = delegation::claims(&stage);
    let for_ada = can(&stage, &invoices, |c| *c = claims).await.unwrap();
    let unsure: Vec<String> = lines(&by_itself).iter().map(|line| format!("{line}?")).collect();
    assert_eq!((word(&for_ada), lines(&for_ada)), ("", unsure));
}
