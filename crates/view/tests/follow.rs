//! The follower against a registry played by hand: order, age, downgrades, and what is taken away.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use legate_clock::{TestClock, Timestamp};
use legate_view::{AgentState, Feed, News, Options, View, ViewHandle};
use legate_wire::registry as wire;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::watch_request::Ask;
use legate_wire::registry::watch_response::News as Told;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

const PATIENCE: Duration = Duration::from_secs(20);

/// One opened stream, as the registry holds it.
struct Stream {
    asks: mpsc::Receiver<wire::WatchRequest>,
    news: mpsc::UnboundedSender<Result<wire::WatchResponse, Status>>,
    from_revision: u64,
}

#[derive(Debug)]
struct Played(mpsc::UnboundedSender<Stream>);

#[async_trait::async_trait]
impl Feed for Played {
    async fn watch(&self, mut asks: mpsc::Receiver<wire::WatchRequest>) -> Result<News, Status> {
        let (news, told) = mpsc::unbounded_channel();
        let Some(Ask::Start(start)) = asks.recv().await.unwrap().ask else {
            panic!("the first message is not a start");
        };
        let stream = Stream { asks, news, from_revision: start.from_revision };
        self.0.send(stream).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Box::pin(UnboundedReceiverStream::new(told)))
    }
}

impl Stream {
    fn tell(&self, news: Told) {
        // A follower that gave the stream up does not listen.
        let _ = self.news.send(Ok(wire::WatchResponse { news: Some(news) }));
    }

    fn snapshot(&self, revision: u64, objects: Vec<wire::Declaration>) {
        let part = wire::SnapshotPart { revision, first: true, last: true, ..wire::SnapshotPart::default() };
        self.tell(Told::Snapshot(part.with_objects(&objects)));
    }

    fn changes(&self, revision: u64, changes: Vec<(wire::Declaration, bool)>) {
        let changes =
            changes.into_iter().map(|(object, revoked)| wire::Change { object: Some(object), revoked }).collect();
        self.tell(Told::Changes(wire::RevisionChanges { revision, changes, ..Default::default() }));
    }

    async fn ping(&mut self) -> u64 {
        match self.asks.recv().await.unwrap().ask {
            Some(Ask::Ping(ping)) => ping.nonce,
            other => panic!("{other:?} is not a ping"),
        }
    }

    fn pong(&self, nonce: u64, revision: u64) {
        self.tell(Told::Pong(wire::WatchPong { nonce, revision }));
    }

    /// Answers pings until the view is certain.
    async fn settle(&mut self, view: &ViewHandle, revision: u64) {
        let before = view.age();
        while view.age().is_none() || (view.age() >= before && before > Some(Duration::ZERO)) {
            let nonce = self.ping().await;
            self.pong(nonce, revision);
            tokio::task::yield_now().await;
        }
    }
}

struct Scene {
    view: ViewHandle,
    streams: mpsc::UnboundedReceiver<Stream>,
    clock: Arc<TestClock>,
}

fn scene() -> Scene {
    scene_pinging(Duration::from_millis(2))
}

fn scene_pinging(ping_every: Duration) -> Scene {
    let (opened, streams) = mpsc::unbounded_channel();
    let clock = TestClock::at(Timestamp::from_secs(1_000));
    let mut options = Options::new(clock.clone());
    options.ping_every = ping_every;
    options.retry_from = Duration::from_millis(1);
    options.retry_max = Duration::from_millis(2);
    Scene { view: View::follow(Played(opened), options), streams, clock }
}

impl Scene {
    async fn stream(&mut self) -> Stream {
        tokio::time::timeout(PATIENCE, self.streams.recv()).await.unwrap().unwrap()
    }

    async fn holds(&self, revision: u64) {
        self.view.wait_for(revision, PATIENCE).await.unwrap();
    }
}

fn metadata(name: &str, id: &str) -> Option<wire::Metadata> {
    Some(wire::Metadata {
        name: name.into(),
        namespace: "pay".into(),
        id: id.into(),
        version: 1,
        ..wire::Metadata::default()
    })
}

fn id(n: u8) -> legate_ids::AgentId {
    legate_ids::AgentId::from_parts(1, [n; 10])
}

fn agent(n: u8, state: wire::AgentState) -> wire::Declaration {
    wire::Declaration {
        object: Some(Object::Agent(wire::Agent {
            metadata: metadata(&format!("bot-{n}"), id(n).as_str()),
            spec: Some(wire::AgentSpec { agent_class: "bots".into(), ..wire::AgentSpec::default() }),
            status: Some(wire::AgentStatus {
                state: state.into(),
                lifecycle_version: 1,
                ..wire::AgentStatus::default()
            }),
        })),
    }
}

fn policy(name: &str, revision: u64) -> wire::Declaration {
    let mut metadata = metadata(name, "obj_1").unwrap();
    metadata.revision = revision;
    wire::Declaration {
        object: Some(Object::Policy(wire::Policy {
            metadata: Some(metadata),
            spec: Some(wire::PolicySpec {
                cedar: "permit(principal,action,resource);".into(),
                mode: 1,
                ..wire::PolicySpec::default()
            }),
        })),
    }
}

#[tokio::test]
async fn never_fresh_before_a_ping_is_answered() {
    let mut s = scene();
    let mut stream = s.stream().await;
    stream.snapshot(7, vec![agent(1, wire::AgentState::Active)]);
    s.holds(7).await;
    assert_eq!(s.view.age(), None);
    assert!(s.view.fresh(PATIENCE).is_err());
    stream.settle(&s.view, 7).await;
    assert!(s.view.fresh(PATIENCE).is_ok());
}

#[tokio::test]
async fn age_counts_from_the_sending_of_the_ping_not_from_its_answer() {
    let mut s = scene();
    let mut stream = s.stream().await;
    stream.snapshot(1, vec![]);
    let early = stream.ping().await;
    s.clock.advance(Duration::from_secs(4));
    // A buffered answer that arrives four seconds late proves four seconds less.
    stream.pong(early, 1);
    s.holds(1).await;
    while s.view.age().is_none() {
        stream.ping().await;
    }
    assert_eq!(s.view.age(), Some(Duration::from_secs(4)));
    assert!(s.view.fresh(PATIENCE).is_ok());
    s.clock.advance(Duration::from_millis(1_001));
    let stale = s.view.fresh(PATIENCE).unwrap_err();
    assert_eq!(stale.bound, Duration::from_secs(5), "no caller can ask for more than the bound");
}

#[tokio::test]
async fn a_reading_goes_on_ageing_while_newer_ones_come() {
    let mut s = scene();
    let mut stream = s.stream().await;
    stream.snapshot(1, vec![]);
    s.holds(1).await;
    stream.settle(&s.view, 1).await;
    let old = s.view.read();
    for _ in 0..2 {
        s.clock.advance(Duration::from_secs(3));
        stream.settle(&s.view, 1).await;
    }
    assert!(s.view.fresh(PATIENCE).is_ok());
    assert!(old.fresh(PATIENCE).is_err());
}

#[tokio::test]
async fn a_snapshot_holds_only_when_it_is_whole() {
    let mut s = scene();
    let mut stream = s.stream().await;
    let part = |objects: Vec<_>, first, last| {
        let part = wire::SnapshotPart { revision: 3, first, last, ..wire::SnapshotPart::default() };
        Told::Snapshot(part.with_objects(&objects))
    };
    stream.tell(part(vec![agent(1, wire::AgentState::Active)], true, false));
    // Pings go on, so their second answer proves that the piece was taken in.
    for _ in 0..3 {
        let nonce = stream.ping().await;
        stream.pong(nonce, 3);
    }
    assert_eq!(s.view.current().revision(), 0);
    assert!(s.view.current().agent(&id(1)).is_none());
    assert_eq!(s.view.age(), None);
    stream.tell(part(vec![agent(2, wire::AgentState::Active)], false, true));
    s.holds(3).await;
    assert_eq!(s.view.current().agents_len(), 2);
}

#[tokio::test]
async fn changes_come_all_at_once_and_in_order() {
    let mut s = scene();
    let stream = s.stream().await;
    stream.snapshot(1, vec![agent(1, wire::AgentState::Active), policy("p", 1)]);
    s.holds(1).await;
    let before = s.view.current();
    stream
        .changes(2, vec![(agent(1, wire::AgentState::Suspended), false), (agent(2, wire::AgentState::Active), false)]);
    stream.changes(3, vec![(policy("p", 1), true)]);
    s.holds(3).await;
    let now = s.view.current();
    assert_eq!(now.agent(&id(1)).unwrap().state, AgentState::Suspended);
    assert!(now.agent_named("pay", "bot-2").is_some());
    assert!(now.policies("pay").is_none());
    // Whoever holds the old snapshot still sees it whole.
    assert_eq!(before.agent(&id(1)).unwrap().state, AgentState::Active);
    assert!(before.agent(&id(2)).is_none());
    assert_eq!(before.policies("pay").unwrap().by_name.len(), 1);
}

#[tokio::test]
async fn comes_back_from_where_it_was() {
    let mut s = scene();
    let stream = s.stream().await;
    stream.snapshot(5, vec![agent(1, wire::AgentState::Active)]);
    s.holds(5).await;
    drop(stream);
    let stream = s.stream().await;
    assert_eq!(stream.from_revision, 5);
    stream.changes(6, vec![(agent(1, wire::AgentState::Retired), false)]);
    s.holds(6).await;
    assert!(s.view.current().agent_named("pay", "bot-1").is_none());
    assert!(s.view.current().agent(&id(1)).is_some(), "the tombstone stays");
    assert_eq!(s.view.counts().connects, 2);
}

#[tokio::test]
async fn a_lower_revision_than_already_seen_is_refused() {
    let mut s = scene();
    let mut stream = s.stream().await;
    stream.snapshot(5, vec![agent(1, wire::AgentState::Suspended)]);
    s.holds(5).await;
    stream.settle(&s.view, 5).await;
    let age = s.view.read();
    drop(stream);
    // Restored from a backup: its answers are older than what is held.
    let mut stream = s.stream().await;
    s.clock.advance(Duration::from_secs(3));
    let nonce = stream.ping().await;
    stream.pong(nonce, 4);
    let stream = s.stream().await;
    assert_eq!(stream.from_revision, 0, "after that only the whole will do");
    stream.snapshot(4, vec![agent(1, wire::AgentState::Active)]);
    let stream = s.stream().await;
    assert_eq!(s.view.counts().downgrades, 2);
    assert_eq!(s.view.current().revision(), 5);
    assert_eq!(s.view.current().agent(&id(1)).unwrap().state, AgentState::Suspended);
    assert_eq!(s.view.age(), age.age(), "nothing of it made the view younger");
    // Grown past what was held, with another history: taken as a whole.
    stream.snapshot(6, vec![]);
    s.holds(6).await;
    assert_eq!(s.view.current().agents_len(), 0);
}

#[tokio::test]
async fn after_a_downgrade_a_whole_history_will_do_as_well() {
    let mut s = scene();
    let stream = s.stream().await;
    stream.snapshot(2, vec![agent(9, wire::AgentState::Active)]);
    s.holds(2).await;
    stream.snapshot(1, vec![]);
    let stream = s.stream().await;
    stream.changes(1, vec![(agent(1, wire::AgentState::Active), false)]);
    stream.changes(2, vec![(agent(2, wire::AgentState::Active), false)]);
    stream.changes(3, vec![]);
    s.holds(3).await;
    let now = s.view.current();
    assert!(now.agent(&id(9)).is_none() && now.agent(&id(1)).is_some() && now.agent(&id(2)).is_some());
}

#[tokio::test]
async fn a_gap_or_a_word_too_far_ends_the_stream() {
    let mut s = scene();
    let stream = s.stream().await;
    stream.snapshot(5, vec![]);
    stream.changes(7, vec![]);
    let mut stream = s.stream().await;
    assert_eq!(s.view.current().revision(), 5);
    stream.snapshot(5, vec![]);
    s.holds(5).await;
    let nonce = stream.ping().await;
    stream.pong(nonce, 6);
    s.stream().await;
    assert_eq!(s.view.age(), None, "a pong for what was not sent makes nothing certain");
    assert_eq!(s.view.counts().refused, 2);
}

#[tokio::test]
async fn an_answer_to_no_ping_proves_nothing() {
    let mut s = scene();
    let mut stream = s.stream().await;
    stream.snapshot(1, vec![]);
    s.holds(1).await;
    let nonce = stream.ping().await;
    stream.pong(nonce.wrapping_add(1_000_000), 1);
    stream.pong(nonce.wrapping_sub(1), 1);
    for _ in 0..3 {
        stream.ping().await;
    }
    assert_eq!(s.view.age(), None);
}

#[tokio::test]
async fn what_might_be_a_denial_and_cannot_be_read_stops_the_view() {
    let mut s = scene();
    let stream = s.stream().await;
    stream.snapshot(1, vec![]);
    s.holds(1).await;
    stream.changes(2, vec![(wire::Declaration { object: None }, false)]);
    let stream = s.stream().await;
    let revocation = wire::Declaration {
        object: Some(Object::Revocation(wire::Revocation {
            metadata: metadata("cred-1", "obj_2"),
            spec: Some(wire::RevocationSpec { credential_id: "nonsense".into(), ..wire::RevocationSpec::default() }),
        })),
    };
    stream.snapshot(2, vec![revocation]);
    let stream = s.stream().await;
    // A policy may forbid something to the holders of its role.
    let binding = wire::Declaration {
        object: Some(Object::RoleBinding(wire::RoleBinding { metadata: metadata("b", "obj_3"), spec: None })),
    };
    stream.snapshot(2, vec![binding]);
    s.stream().await;
    assert_eq!(s.view.current().revision(), 1);
    assert_eq!(s.view.counts().refused, 3);
}

#[tokio::test]
async fn an_agent_that_cannot_be_read_is_no_agent() {
    let mut s = scene();
    let stream = s.stream().await;
    stream.snapshot(1, vec![agent(1, wire::AgentState::Active)]);
    let mut broken = agent(1, wire::AgentState::Active);
    if let Some(Object::Agent(a)) = &mut broken.object {
        a.status = None;
    }
    stream.changes(2, vec![(broken, false)]);
    s.holds(2).await;
    assert!(s.view.current().agent(&id(1)).is_none());
    assert!(s.view.current().agent_named("pay", "bot-1").is_none());
}

#[tokio::test]
async fn tells_when_somebody_may_have_to_be_cut() {
    let mut s = scene();
    let stream = s.stream().await;
    stream.snapshot(1, vec![agent(1, wire::AgentState::Active)]);
    s.holds(1).await;
    let mut taken = s.view.taken_away();
    taken.mark_unchanged();
    stream.changes(2, vec![(policy("p", 2), false)]);
    s.holds(2).await;
    assert!(!taken.has_changed().unwrap());
    stream.changes(3, vec![(agent(1, wire::AgentState::Suspended), false)]);
    tokio::time::timeout(PATIENCE, taken.changed()).await.unwrap().unwrap();
}

#[tokio::test]
async fn waits_for_a_revision_but_not_for_ever() {
    let mut s = scene();
    let stream = s.stream().await;
    stream.snapshot(1, vec![]);
    s.holds(1).await;
    let behind = s.view.wait_for(2, Duration::from_millis(5)).await.unwrap_err();
    assert_eq!((behind.wanted, behind.held), (2, 1));
    let view = s.view.clone();
    let waiting = tokio::spawn(async move { view.wait_for(2, PATIENCE).await });
    stream.changes(2, vec![]);
    assert_eq!(waiting.await.unwrap().unwrap().snapshot.revision(), 2);
}

#[tokio::test]
async fn a_binding_gives_nothing_to_an_agent_made_later_under_the_name() {
    let mut s = scene();
    let stream = s.stream().await;
    let at = |secs| Some(prost_types::Timestamp { seconds: secs, nanos: 0 });
    let made = |n: u8, secs, state| {
        let mut declaration = agent(n, state);
        if let Some(Object::Agent(a)) = &mut declaration.object {
            let m = a.metadata.as_mut().unwrap();
            m.name = "bot".into();
            m.create_time = at(secs);
        }
        declaration
    };
    let mut m = metadata("b", "obj_3").unwrap();
    m.update_time = at(10);
    let binding = wire::Declaration {
        object: Some(Object::RoleBinding(wire::RoleBinding {
            metadata: Some(m),
            spec: Some(wire::RoleBindingSpec {
                role: "r".into(),
                agents: vec!["bot".into()],
                ..wire::RoleBindingSpec::default()
            }),
        })),
    };
    stream.snapshot(1, vec![made(1, 10, wire::AgentState::Active), binding]);
    s.holds(1).await;
    let now = s.view.current();
    assert_eq!(now.bindings_of(now.agent(&id(1)).unwrap()).count(), 1);
    stream.changes(
        2,
        vec![(made(1, 10, wire::AgentState::Retired), false), (made(2, 11, wire::AgentState::Active), false)],
    );
    s.holds(2).await;
    let now = s.view.current();
    let heir = now.agent_named("pay", "bot").unwrap();
    assert_eq!(heir.id, id(2));
    assert_eq!(now.bindings_of(heir).count(), 0);
}

#[tokio::test]
async fn a_registry_that_falls_silent_is_left_and_found_again() {
    let mut s = scene();
    let mut silent = s.stream().await;
    silent.snapshot(3, vec![agent(1, wire::AgentState::Active)]);
    s.holds(3).await;
    silent.settle(&s.view, 3).await;
    s.view.read().fresh(s.view.bound()).unwrap();
    // Its pings go out and nothing comes back: the connection is there, the registry is not.
    s.clock.advance(Duration::from_secs(6));
    s.view.read().fresh(s.view.bound()).unwrap_err();
    let mut stream = s.stream().await;
    assert_eq!((stream.from_revision, s.view.counts().connects), (3, 2));
    // What the old stream says now is heard by nobody.
    silent.changes(4, vec![(agent(1, wire::AgentState::Suspended), false)]);
    stream.changes(4, vec![(agent(2, wire::AgentState::Active), false)]);
    s.holds(4).await;
    assert!(s.view.current().agent_named("pay", "bot-1").is_some());
    stream.settle(&s.view, 4).await;
    s.view.read().fresh(s.view.bound()).unwrap();
}

/// A registry that takes the question and never opens the stream.
#[derive(Debug)]
struct Hanging(mpsc::UnboundedSender<()>);

#[async_trait::async_trait]
impl Feed for Hanging {
    async fn watch(&self, _: mpsc::Receiver<wire::WatchRequest>) -> Result<News, Status> {
        self.0.send(()).map_err(|_| Status::unavailable("the test is over"))?;
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_stream_that_does_not_open_is_tried_again() {
    let (opened, mut opens) = mpsc::unbounded_channel();
    let mut options = Options::new(TestClock::at(Timestamp::from_secs(1_000)));
    options.silent_after = Duration::from_millis(5);
    options.retry_from = Duration::from_millis(1);
    options.retry_max = Duration::from_millis(2);
    let view = View::follow(Hanging(opened), options);
    for _ in 0..3 {
        tokio::time::timeout(PATIENCE, opens.recv()).await.expect("it tries again").unwrap();
    }
    assert_eq!((view.counts().connects, view.age()), (0, None));
    // Nobody holds the view any more: nobody follows.
    drop(view);
    let ended = async { while opens.recv().await.is_some() {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the follower ends with its last handle");
}

/// By which revision the next ping says that is answered.
async fn says(stream: &mut Stream) -> u64 {
    match tokio::time::timeout(PATIENCE, stream.asks.recv()).await.unwrap().unwrap().ask {
        Some(Ask::Ping(ping)) => ping.revision,
        other => panic!("{other:?} is not a ping"),
    }
}

#[tokio::test]
async fn a_ping_says_by_what_is_answered_and_comes_at_once_when_something_was_taken_away() {
    let mut scene = scene_pinging(Duration::from_secs(3_600));
    let mut stream = scene.stream().await;
    assert_eq!(says(&mut stream).await, 0, "nothing is held yet");
    stream.snapshot(3, vec![agent(1, wire::AgentState::Active)]);
    assert_eq!(says(&mut stream).await, 3, "whoever is missing may have been taken away");
    stream.changes(4, vec![(agent(2, wire::AgentState::Active), false)]);
    stream.changes(5, vec![(agent(1, wire::AgentState::Suspended), false)]);
    assert_eq!(says(&mut stream).await, 5);
    assert_eq!(scene.view.current().revision(), 5, "it is in place before it is said");
}

#[tokio::test]
async fn while_a_whole_view_is_in_the_making_a_ping_says_nothing() {
    let mut scene = scene();
    let mut stream = scene.stream().await;
    stream.snapshot(3, vec![agent(1, wire::AgentState::Active)]);
    scene.holds(3).await;
    // What was said before that view was in place is over.
    while says(&mut stream).await != 3 {}
    let part = |first, last| {
        let part = wire::SnapshotPart { revision: 7, first, last, ..wire::SnapshotPart::default() };
        Told::Snapshot(part.with_objects(&[agent(1, wire::AgentState::Active)]))
    };
    stream.tell(part(true, false));
    while says(&mut stream).await != 0 {}
    assert_eq!(says(&mut stream).await, 0);
    stream.tell(part(false, true));
    scene.holds(7).await;
    while says(&mut stream).await != 7 {}
}
