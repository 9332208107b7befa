//! Agents made by agents: no policy lets them do what it does not let their maker do.

use legate_wire::registry as wire;
use legate_wire::registry::PolicyMode::Enforce;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Kind, ObjectName};

use crate::flow::{Preview, preview};
use crate::testing::*;

pub(super) fn namespace(own_grant_only: bool) -> Declaration {
    let spec = Some(wire::NamespaceSpec { own_grant_only, ..wire::NamespaceSpec::default() });
    declared(Object::Namespace(wire::Namespace { metadata: meta("payments"), spec, status: None }))
}

/// The agent `invoice-bot-N`, made by `invoice-bot-M` for each M, the nearest first.
pub(super) fn made(n: u8, above: &[u8]) -> Declaration {
    agent(n, |a| {
        let status = a.status.as_mut().unwrap();
        status.ancestors = above.iter().map(|n| agent_id(*n).to_string()).collect();
        status.set_origin(wire::Origin::Spawned);
    })
}

/// The example, in which the agent 1 made 2, and 2 made 3.
async fn stage(own_grant_only: bool) -> Stage {
    Stage::set_with(|mut all| {
        all.extend([namespace(own_grant_only), made(2, &[1]), made(3, &[2, 1])]);
        all
    })
    .await
}

async fn words(stage: &Stage) -> [&'static str; 3] {
    let mut words = [""; 3];
    for (n, word) in (1..).zip(&mut words) {
        let ask = stage.asserted(agent_id(n)).action("invoice:read").resource("apollo/7");
        *word = stage.ask(&operator(), ask).await.answer.word();
    }
    words
}

#[tokio::test]
async fn what_is_forbidden_to_an_agent_is_forbidden_to_whoever_it_makes() {
    let mut stage = stage(false).await;
    assert_eq!(words(&stage).await, ["ALLOWED"; 3]);
    // By its id, and by a name that whoever it makes does not have.
    for (of, expected) in [
        (format!("principal == Agent::\"{}\"", agent_id(1)), ["FORBIDDEN_BY_POLICY"; 3]),
        (format!("principal == Agent::\"{}\"", agent_id(2)), ["ALLOWED", "FORBIDDEN_BY_POLICY", "FORBIDDEN_BY_POLICY"]),
        (format!("principal == Agent::\"{}\"", agent_id(3)), ["ALLOWED", "ALLOWED", "FORBIDDEN_BY_POLICY"]),
    ] {
        stage.change(vec![(policy("not-it", Enforce, &format!("forbid({of}, action, resource);")), false)]).await;
        assert_eq!(words(&stage).await, expected, "{of}");
    }
    let by_name = "forbid(principal, action, resource) when { principal.name == \"invoice-bot-1\" };";
    stage.change(vec![(policy("not-it", Enforce, by_name), false)]).await;
    assert_eq!(words(&stage).await, ["FORBIDDEN_BY_POLICY"; 3]);
    let ask = stage.asserted(agent_id(3)).action("invoice:read").resource("apollo/7");
    let spoken = stage.ask(&operator(), ask).await;
    let texts: Vec<_> = spoken.answer.causes.iter().map(|c| (c.name.as_str(), c.text.as_str())).collect();
    let text = "forbids it to payments/invoice-bot-1, which is above the agent";
    assert!(texts.iter().any(|(name, told)| *name == "payments/not-it" && told.starts_with(text)), "{texts:?}");

    // One that fails for the maker might have been the one that forbids.
    let fails =
        "forbid(principal, action, resource) when { principal.name == \"invoice-bot-1\" && principal.nothing };";
    stage.change(vec![(policy("not-it", Enforce, fails), false)]).await;
    assert_eq!(words(&stage).await, ["POLICY_ERROR"; 3]);
}

#[tokio::test]
async fn a_name_that_an_agent_chooses_for_another_permits_nothing_to_it() {
    let mut stage = stage(false).await;
    // The operator means an agent of his own by this name.
    let named = "permit(principal, action, resource) when { principal.name == \"invoice-bot-2\" };";
    stage.change(vec![(policy("production", Enforce, named), false)]).await;
    assert_eq!(words(&stage).await, ["NO_POLICY_PERMITS"; 3]);
}

#[tokio::test]
async fn where_nothing_is_inherited_only_what_is_forbidden_above_counts() {
    let mut stage = stage(true).await;
    let bound = binding(|b| b.agents = vec!["invoice-bot-2".into()]);
    let named = "permit(principal, action, resource) when { principal.name == \"invoice-bot-2\" };";
    stage.change(vec![(bound, false), (policy("production", Enforce, named), false)]).await;
    assert_eq!(words(&stage).await, ["NOT_PERMITTED", "ALLOWED", "NOT_PERMITTED"]);
    let forbid = format!("forbid(principal == Agent::\"{}\", action, resource);", agent_id(1));
    stage.change(vec![(policy("not-it", Enforce, &forbid), false)]).await;
    assert_eq!(words(&stage).await[1], "FORBIDDEN_BY_POLICY");
}

#[tokio::test]
async fn a_preview_tells_of_them_what_a_check_would() {
    let stage = stage(false).await;
    let of = async |cedar: String, gone: Vec<ObjectName>| {
        let wanted = vec![policy("new", Enforce, &cedar)];
        let ask = Preview { wanted, gone, ..Preview::default() };
        let answer = preview(&stage.desk, &operator(), ask).await.unwrap();
        let told = answer.changes.into_iter().filter(|c| c.action == "invoice:read");
        let mut told: Vec<_> = told
            .map(|c| (c.effect().as_str_name().trim_start_matches("ACCESS_EFFECT_").to_owned(), c.agents, c.depends_on))
            .map(|(effect, agents, on)| (effect, agents, on.into_iter().map(|on| on.name).collect::<Vec<_>>()))
            .collect();
        told.sort();
        told
    };
    let all = || vec!["invoice-bot-1".to_owned(), "invoice-bot-2".to_owned(), "invoice-bot-3".to_owned()];
    let maker = agent_id(1);
    let lost: Vec<Vec<String>> = of(format!("forbid(principal == Agent::\"{maker}\", action, resource);"), vec![])
        .await
        .into_iter()
        .filter(|(effect, ..)| effect == "LOSES")
        .map(|(_, agents, _)| agents)
        .collect();
    let mut lost = lost.concat();
    lost.sort();
    assert_eq!(lost, all());
    let late = format!("forbid(principal == Agent::\"{maker}\", action, resource) when {{ context.late }};");
    let told = of(late, vec![]).await;
    let on = vec!["payments/new".to_owned(), "payments/sealed".to_owned()];
    assert_eq!(told, [("DEPENDS_OTHERWISE".to_owned(), all(), on)]);
    // What permits only one that was made permits nobody.
    let only = "permit(principal, action, resource) when { principal.name == \"invoice-bot-2\" && context.late };";
    let production = ObjectName { kind: Kind::Policy.into(), namespace: "payments".into(), name: "production".into() };
    let told = of(only.into(), vec![production]).await;
    assert!(!told.is_empty() && told.iter().all(|(effect, ..)| effect == "LOSES"), "{told:?}");
}
