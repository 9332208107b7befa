//! What those who follow say by which revision they answer, over real mutual TLS.

use legate_db::testing::on_each;
use legate_rpc::Told;
use legate_wire::registry as wire;
use wire::watch_request::Ask;
use wire::{WatchRequest, WatchStart};

use super::scene::{agent, payments};
use super::stream::{Follower, House, apply, open};
use crate::schema::Migrator;

#[tokio::test]
async fn what_a_follower_says_is_believed_of_what_came_from_here_and_of_nothing_else() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let (operator, mut client) = (house.operator(&running), house.follower(&running));
        let switch = wire::stop_service_client::StopServiceClient::new(operator.clone());
        let newest = async || {
            let told = switch.clone().get_containment(wire::GetContainmentRequest { revision: 2 }).await.unwrap();
            let told = told.into_inner();
            let mut all = told.followers.iter();
            let one = all.next().cloned().unwrap();
            assert!(all.next().is_none() && one.service == "policy-decision", "{told:?}");
            (one.confirmed_revision, one.state())
        };
        apply(&operator, payments()).await;
        let mut follower = Follower::begin(&mut client).await;
        for (says, believed) in [(0, 0), (1, 0), (3, 0), (u64::MAX, 0), (2, 2)] {
            assert_eq!(follower.catch_up_saying(says).await, 2);
            assert_eq!(newest().await.0, believed, "{says}");
        }
        assert_eq!(newest().await.1, wire::FollowerState::Confirmed);
        apply(&operator, vec![agent("late-bot", "worker")]).await;
        assert_eq!(follower.catch_up().await, 3);
        assert_eq!(newest().await.0, 2, "what it was sent it may not answer by yet");
        follower.catch_up_saying(3).await;
        assert_eq!(newest().await.0, 3);
        let ahead = WatchStart { replica: "no name".into(), ..WatchStart::default() };
        let (_asks, mut news) = open(&mut client, WatchRequest { ask: Some(Ask::Start(ahead)) }).await;
        let refused = news.message().await.unwrap_err();
        assert_eq!(Told::from_status(&refused).reason, "INVALID_ARGUMENT");
        running.shutdown().await;
    })
    .await;
}
