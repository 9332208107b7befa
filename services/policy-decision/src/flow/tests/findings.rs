//! What a reviewer should know of a change: which agents come, move, wait and go, and who is to be asked about what they gain.

use legate_wire::policy::{AccessEffect, FindingKind, PreviewChangeResponse};
use legate_wire::registry as wire;
use legate_wire::registry::Kind;
use legate_wire::registry::declaration::Object;

use super::preview::{class, gone, lines, of};
use crate::testing::*;

#[tokio::test]
async fn agents_that_come_move_wait_and_go() {
    let staged = |a: &mut wire::Agent| a.status.as_mut().unwrap().state = wire::AgentState::Staged.into();
    let stage = Stage::set_with(|mut all| {
        all.push(agent(2, staged));
        all.push(agent(3, |_| ()));
        all
    })
    .await;
    let careful = |b: &mut wire::AgentClassSpec| b.requires_approval = true;
    let mut other = class(careful);
    if let Some(Object::AgentClass(class)) = &mut other.object {
        class.metadata.as_mut().unwrap().name = "careful".into();
    }
    let moved = |a: &mut wire::Agent| a.spec.as_mut().unwrap().agent_class = "careful".into();
    let wanted = vec![other, agent(1, moved), agent(2, |_| ()), agent(9, moved)];
    let answer = of(&stage, wanted, vec![gone(Kind::Agent, "invoice-bot-3")]).await;
    let kinds: Vec<_> = answer.findings.iter().map(|f| (f.kind(), f.agents.join(" "))).collect();
    for expected in [
        (FindingKind::NewAgent, "invoice-bot-9"),
        (FindingKind::NeedsApproval, "invoice-bot-9"),
        (FindingKind::NeedsApproval, "invoice-bot-2"),
        (FindingKind::MovesClass, "invoice-bot-1"),
        (FindingKind::RetiredAgent, "invoice-bot-3"),
    ] {
        assert!(kinds.iter().any(|(kind, names)| (*kind, names.as_str()) == expected), "{expected:?}: {kinds:?}");
    }
    // Who is to be asked is named.
    let waits = answer.findings.iter().filter(|f| f.kind() == FindingKind::NeedsApproval);
    assert!(waits.clone().all(|f| f.text.ends_with("; its sponsor is user:grace")), "{:?}", waits.collect::<Vec<_>>());
    let told = lines(&answer);
    assert!(told.contains(&"GAINS invoice:list on Invoice:* x1 (sealed)".to_owned()), "{told:?}");
    assert!(told.contains(&"LOSES invoice:list on Invoice:* x1 (sealed)".to_owned()), "{told:?}");
    let loser = answer.changes.iter().find(|c| c.effect() == AccessEffect::Loses).unwrap();
    assert_eq!(loser.agents, ["invoice-bot-3"]);
}

#[tokio::test]
async fn what_approved_agents_gain_is_found_with_whom_to_ask() {
    let careful = |c: &mut wire::AgentClassSpec| c.requires_approval = true;
    let staged = |a: &mut wire::Agent| a.status.as_mut().unwrap().state = wire::AgentState::Staged.into();
    let suspended = |a: &mut wire::Agent| {
        a.status.as_mut().unwrap().state = wire::AgentState::Suspended.into();
        a.spec.as_mut().unwrap().sponsors = vec!["user:joan".into(), "user:kim".into()];
    };
    let stage = Stage::set_with(|mut all| {
        for declaration in &mut all {
            if let Some(Object::AgentClass(class)) = &mut declaration.object {
                careful(class.spec.as_mut().unwrap());
            }
        }
        all.extend([agent(2, staged), agent(3, suspended), agent(4, |_| ())]);
        all
    })
    .await;
    let found = |answer: &PreviewChangeResponse| {
        let found = answer.findings.iter().filter(|f| f.kind() == FindingKind::GainsUnapproved);
        found.map(|f| (f.agents.join(" "), f.text.rsplit("; ").next().unwrap().to_owned())).collect::<Vec<_>>()
    };
    // By the class itself: whoever was approved, whatever stands in its way now; and nobody who waits for that still.
    let more = |c: &mut wire::AgentClassSpec| {
        careful(c);
        c.permissions.push(permission("invoice:pay", "Invoice", "*"));
    };
    let answer = of(&stage, vec![class(more)], vec![]).await;
    let grace = ("invoice-bot-1 invoice-bot-4".to_owned(), "its sponsor is user:grace".to_owned());
    let others = ("invoice-bot-3".to_owned(), "its sponsors are user:joan, user:kim".to_owned());
    assert_eq!(found(&answer), [grace.clone(), others]);
    // By a binding that is made wider, for the one that it speaks of.
    let answer = of(&stage, vec![binding(|b| b.resources.clear())], vec![]).await;
    assert_eq!(found(&answer), [("invoice-bot-1".to_owned(), grace.1)]);
    // Whoever loses, or is of a class that asks for nobody, is not found.
    let answer = of(&stage, vec![], vec![gone(Kind::RoleBinding, "reads-apollo")]).await;
    assert!(found(&answer).is_empty(), "{answer:?}");
    let free = of(&Stage::set().await, vec![binding(|b| b.resources.clear())], vec![]).await;
    assert!(found(&free).is_empty() && !free.changes.is_empty(), "{free:?}");
}
