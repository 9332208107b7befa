//! What happens to processes when what they rest on goes away, comes back, or tells another time.

use std::time::Duration;

use legate::node::Helper;
use legate_client::Remote;
use legate_clock::{Clock as _, SystemClock, TestClock};
use legate_rpc::Code;
use legate_wire::credential::instance_service_client::InstanceServiceClient;
use legate_wire::credential::{InstanceState, ListInstancesRequest};
use legate_wire::spiffe::JwtsvidRequest;

use super::scene::{self, Fleet, marked};
use super::word;
use crate::raised::{AUDIENCE, Raised};
use crate::relay::Relay;

const MINUTE: Duration = Duration::from_secs(60);

/// A fleet whose helper reaches credential-issuer by a line that can be cut, and goes by a clock that is turned.
struct Apart {
    raised: Raised,
    fleet: Fleet,
    helper: Helper,
    relay: Relay,
    clock: std::sync::Arc<TestClock>,
}

impl Apart {
    async fn with(risk: &str) -> Self {
        let raised = Raised::new().await;
        let fleet = Fleet::declared_with_nodes(&raised, risk).await;
        let issuer = raised.remote("credential-issuer");
        let relay = Relay::towards(&issuer.endpoint).await;
        let clock = TestClock::at(SystemClock::new().now());
        let by_relay = Remote { endpoint: relay.endpoint(), ..issuer };
        let helper = fleet.helper_of(&raised, by_relay, clock.clone()).await;
        let fleet = Fleet { endpoint: helper.endpoint(), ..fleet };
        Self { raised, fleet, helper, relay, clock }
    }

    /// How a JWT-SVID is refused.
    async fn no_token(&self) -> (Code, String) {
        let ask = JwtsvidRequest { audience: vec![AUDIENCE.to_owned()], spiffe_id: String::new() };
        word(&scene::api(&self.fleet.endpoint).fetch_jwtsvid(marked(ask)).await.unwrap_err())
    }

    async fn down(self) {
        self.helper.shutdown().await;
        self.raised.suite.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credential_issuer_an_svid_is_served_for_all_of_its_life_and_not_longer() {
    let apart = Apart::with("LOW").await;
    let mut watched = apart.fleet.watched().await;
    let held = watched.holds().await;
    apart.relay.cut();
    // Past half of its life and up to its end: twice the time after which it would have been replaced.
    for minutes in [31, 14, 13] {
        apart.clock.advance(MINUTE * minutes);
        assert_eq!(apart.fleet.watched().await.holds().await, held);
    }
    apart.clock.advance(MINUTE * 3);
    assert_eq!(apart.fleet.watched().await.ends().await.0, Code::Unavailable);
    assert_eq!(watched.ends().await.0, Code::Unavailable);
    assert_eq!(apart.no_token().await.0, Code::Unavailable);
    // Back again, there is another; the services' own time has not gone on meanwhile.
    apart.clock.jump_to(SystemClock::new().now());
    apart.relay.mend();
    assert_ne!(apart.fleet.held_at_last().await, held);
    apart.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_that_a_cut_off_node_does_not_hear_of_holds_there_within_the_bound() {
    let apart = Apart::with("CRITICAL").await;
    let mut watched = apart.fleet.watched().await;
    let held = watched.holds().await;
    apart.relay.cut();
    apart.fleet.suspend(&apart.raised).await;
    // Nobody could tell the node.
    assert_eq!(apart.fleet.watched().await.holds().await, held);
    apart.clock.advance(Duration::from_secs(16));
    let unheard = (Code::Unavailable, "WORKLOAD_UNHEARD".to_owned());
    assert_eq!(apart.fleet.watched().await.ends().await, unheard);
    assert_eq!(watched.ends().await, unheard);
    assert_eq!(apart.no_token().await, unheard);
    apart.relay.mend();
    scene::until(async || apart.fleet.watched().await.ends().await.0 == Code::PermissionDenied).await;
    assert_eq!(apart.no_token().await, (Code::PermissionDenied, "WORKLOAD_NOT_ENTITLED".into()));
    apart.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_makes_nothing_live_longer_and_loses_nothing_for_good() {
    let apart = Apart::with("LOW").await;
    let mut watched = apart.fleet.watched().await;
    let first = watched.holds().await;
    // Put back by a day: what there is stays, and is replaced when it should be all the same, as what follows it is.
    let right = apart.clock.now();
    apart.clock.jump_to(right.minus(MINUTE * 60 * 24));
    assert_eq!(apart.fleet.watched().await.holds().await, first);
    let mut before = first;
    for _ in 0..2 {
        apart.clock.advance(MINUTE * 32);
        let _asks = apart.fleet.watched().await.holds().await;
        let next = watched.holds().await;
        assert_ne!(next, before);
        before = next;
    }
    // Put forward by a day, everything has ended, and what is obtained as well: that is told, and nothing is served.
    apart.clock.jump_to(right.plus(MINUTE * 60 * 24));
    assert_eq!(apart.fleet.watched().await.ends().await.0, Code::Unavailable);
    assert_eq!(watched.ends().await.0, Code::Unavailable);
    // Put right, it goes on by itself.
    apart.clock.jump_to(SystemClock::new().now());
    assert_ne!(apart.fleet.held_at_last().await, before);
    apart.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_are_gone_before_they_are_answered_leave_nothing() {
    let raised = Raised::with_node().await;
    let fleet = Fleet::declared(&raised, "LOW").await;
    let mut watched = fleet.watched().await;
    watched.holds().await;
    // From before the request is read to after it is answered.
    for micros in [0, 300, 1_000, 2_000, 4_000, 7_000, 11_000, 16_000, 30_000, 60_000] {
        fleet.gone_after(Duration::from_micros(micros)).await;
    }
    let (_, own) = watched.spiffe_id.rsplit_once('/').unwrap();
    scene::until(async || {
        let ask = ListInstancesRequest { node: "dev/machine".into(), ..ListInstancesRequest::default() };
        let mut service = InstanceServiceClient::new(raised.operator("credential-issuer"));
        let all = service.list_instances(ask).await.unwrap().into_inner().instances;
        let live: Vec<_> = all.iter().filter(|one| one.state() == InstanceState::Live).map(|one| &one.id).collect();
        live == [own]
    })
    .await;
    raised.suite.shutdown().await;
}
