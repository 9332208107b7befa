//! What a stream of items each for itself would do is told without doing it, and is then what it does.

use legate_db::testing::on_each;
use legate_wire::registry as wire;
use wire::{BulkAction, BulkMode, BulkOutcome, BulkStart, Origin};

use super::bulk::{actions, declare, start};
use super::operators::given;
use super::scene::*;
use super::stream::{Follower, House, apply};
use crate::schema::Migrator;

fn trying() -> BulkStart {
    BulkStart { plan_only: true, reason: String::new(), ..start(BulkMode::Each) }
}

/// What is told of each item but its ids and revisions, which a write gives.
fn told(outcomes: &[BulkOutcome]) -> Vec<(String, BulkAction, String, String)> {
    let one = |o: &BulkOutcome| (o.key.clone(), o.action(), o.reason_code.clone(), o.refusal.clone());
    outcomes.iter().map(one).collect()
}

#[tokio::test]
async fn a_trial_says_what_the_stream_then_does() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let operator = house.operator(&running);
        declare(&operator, start(BulkMode::Each), &payments()).await.1.unwrap();
        let mut client = house.follower(&running);
        let mut watcher = Follower::begin(&mut client).await;
        let base = watcher.catch_up().await;

        // Things that need each other over more than one transaction, some of them twice, and some wrong.
        let mut all = vec![class("late", false), agent("bot-0", "late")];
        all.extend((1..1_200).map(|n| agent(&format!("bot-{n}"), "worker")));
        all.push(binding("reads", "reader", &["bot-3", "bot-1199"]));
        all.push(binding("of-lost", "reader", &["lost"]));
        all.push(agent("lost", "nowhere"));
        all.push(agent("bot-7", "worker"));
        let mut other = agent_spec("worker");
        other.purpose = "pays invoices".into();
        all.push(agent_with("bot-8", other));
        all.push(agent("bot-0", "late"));
        all.push(agent("bot-9", "gone"));
        all.extend(payments());
        // Changed, and changed back.
        let mut other = agent_spec("worker");
        other.purpose = "pays invoices".into();
        all.push(agent_with("invoice-bot", other));
        all.push(agent("invoice-bot", "worker"));
        all.push(role("reader", "invoice:list"));
        all.push(role("reader", "invoice:read"));
        let (tried, ended) = declare(&operator, trying(), &all).await;
        ended.unwrap();
        assert_eq!(watcher.catch_up().await, base, "a trial writes nothing");
        let (written, ended) = declare(&operator, start(BulkMode::Each), &all).await;
        ended.unwrap();
        assert_eq!(told(&tried), told(&written));
        for action in [BulkAction::Created, BulkAction::Updated, BulkAction::Unchanged, BulkAction::Refused] {
            assert!(actions(&tried).contains(&action), "{action:?} did not come up");
        }
        // Now everything is known, and of what differs it is told in what.
        let (again, ended) = declare(&operator, trying(), &all[..100]).await;
        ended.unwrap();
        let moved: Vec<&BulkOutcome> = again.iter().filter(|o| o.action() != BulkAction::Unchanged).collect();
        assert_eq!(moved.len(), 1, "{moved:?}");
        assert_eq!((moved[0].key.as_str(), moved[0].fields[0].path.as_str()), ("9", "spec.purpose"));
        running.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn of_what_was_found_it_is_told_what_is_new_what_is_known_and_what_is_said_otherwise() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let operator = house.operator(&running);
        let mut all = payments();
        all.push(agent("known", "worker"));
        all.push(agent("other", "worker"));
        declare(&operator, start(BulkMode::Each), &all).await.1.unwrap();
        let mut stray = agent_spec("worker");
        (stray.owners, stray.sponsors) = (Vec::new(), Vec::new());
        let mut changed = agent_spec("worker");
        changed.purpose = "pays invoices".into();
        let found = [
            agent_with("stray", stray.clone()),
            agent("known", "worker"),
            agent_with("other", changed),
            agent("lost", "nowhere"),
            role("reader", "invoice:read"),
            agent_with("stray", stray),
        ];
        let trying = BulkStart { origin: Origin::Discovered.into(), ..trying() };
        let (tried, ended) = declare(&operator, trying.clone(), &found).await;
        ended.unwrap();
        use BulkAction::{Created, Refused, Unchanged};
        assert_eq!(actions(&tried), [Created, Unchanged, Unchanged, Refused, Refused, Unchanged]);
        let paths = |at: usize| tried[at].fields.iter().map(|f| f.path.as_str()).collect::<Vec<_>>();
        assert_eq!((paths(1), paths(2)), (vec![], vec!["spec.purpose"]));
        let reasons = [tried[3].reason_code.as_str(), tried[4].reason_code.as_str()];
        assert_eq!(reasons, ["REFERENCE_MISSING", "KIND_NOT_APPLICABLE"]);
        let finding = BulkStart { plan_only: false, reason: "seen".into(), ..trying };
        let (written, ended) = declare(&operator, finding, &found).await;
        ended.unwrap();
        assert_eq!(told(&tried), told(&written));

        // Whoever may see nothing of a namespace hears nothing of it.
        apply(
            &operator,
            vec![namespace("elsewhere"), given("guest", "elsewhere", &["guest"], wire::OperatorRole::Viewer)],
        )
        .await;
        let guest = house.operator_named(&running, "guest");
        let trying = BulkStart { plan_only: true, reason: String::new(), ..start(BulkMode::Each) };
        let (tried, ended) = declare(&guest, trying, &found[1..4]).await;
        ended.unwrap();
        assert!(tried.iter().all(|o| o.reason_code == "OPERATOR_NOT_PERMITTED" && o.fields.is_empty()), "{tried:?}");
        running.shutdown().await;
    })
    .await;
}
