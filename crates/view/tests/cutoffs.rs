//! Cut-offs of every level: the latest of them is what counts, at the door, for an agent's life and for every token.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use legate_clock::Timestamp;
use legate_ids::{AgentId, Name, Principal, SpiffeId, TrustDomain};
use legate_mtls::Peer;
use legate_token::{Chain, Claims, Confirmation, Scope, Subject};
use legate_view::{CERTIFICATE_BACKDATE, Snapshot};
use legate_wire::registry as wire;
use legate_wire::registry::cut_off::Level;
use legate_wire::registry::declaration::Object;
use proptest::prelude::*;

/// When what is judged was issued.
const ISSUED: i64 = 1_800_000_000;
/// When it is judged.
const NOW: i64 = ISSUED + 60;
const OWNER: &str = "user:ada";
const PERSON: &str = "user:grace";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn id(n: u8) -> AgentId {
    AgentId::from_parts(1, [n; 10])
}

fn spiffe(n: u8) -> SpiffeId {
    SpiffeId::agent(&TrustDomain::parse("example.org").unwrap(), &name("pay"), &id(n))
}

fn meta(namespace: &str, name: &str) -> Option<wire::Metadata> {
    let (id, name, namespace) = (format!("obj_{name}"), name.into(), namespace.into());
    Some(wire::Metadata { name, id, namespace, ..wire::Metadata::default() })
}

fn declared(object: Object) -> wire::Declaration {
    wire::Declaration { object: Some(object) }
}

/// Cut-offs as seconds from the issue; `None`: there is none.
type Cut = Option<i64>;

fn standing(cut: Cut) -> Option<wire::StandingStatus> {
    let authorization_cutoff = cut.map(|seconds| at(ISSUED + seconds).into());
    Some(wire::StandingStatus { authorization_cutoff, ..wire::StandingStatus::default() })
}

fn agent(n: u8, class: &str, owner: &str, cut: Cut, ancestors: Vec<String>) -> wire::Declaration {
    let mut metadata = meta("pay", &format!("bot-{n}"));
    metadata.as_mut().unwrap().id = id(n).to_string();
    let spec = wire::AgentSpec { agent_class: class.into(), owners: vec![owner.into()], ..wire::AgentSpec::default() };
    let status = wire::AgentStatus {
        state: wire::AgentState::Active.into(),
        lifecycle_version: 1,
        authorization_cutoff: cut.map(|seconds| at(ISSUED + seconds).into()),
        ancestors,
        ..wire::AgentStatus::default()
    };
    declared(Object::Agent(wire::Agent { metadata, spec: Some(spec), status: Some(status) }))
}

fn cut_off(n: usize, namespace: &str, level: Level, cut: Cut) -> Option<wire::Declaration> {
    let authorization_cutoff = Some(at(ISSUED + cut?).into());
    let cut_off = wire::CutOff { level: Some(level), authorization_cutoff };
    let spec = wire::RevocationSpec { cut_off: Some(cut_off), ..wire::RevocationSpec::default() };
    let metadata = meta(namespace, &format!("cut-off-{n}"));
    Some(declared(Object::Revocation(wire::Revocation { metadata, spec: Some(spec) })))
}

/// Everything: one cut-off for each level, in the order of `Cuts`.
fn objects(cuts: &Cuts) -> Vec<wire::Declaration> {
    let Cuts { own, class, namespace, of_class, of_namespace, owner, owner_everywhere, .. } = *cuts;
    let grant = wire::DelegationGrantSpec {
        delegator: PERSON.into(),
        delegate: "bot-1".into(),
        not_after: Some(at(NOW + 600).into()),
        ..wire::DelegationGrantSpec::default()
    };
    let parents = cuts.maker.is_some().then(|| id(2).to_string());
    let mut all = vec![
        declared(Object::Namespace(wire::Namespace {
            metadata: meta("", "pay"),
            spec: Some(wire::NamespaceSpec::default()),
            status: standing(namespace),
        })),
        declared(Object::AgentClass(wire::AgentClass {
            metadata: meta("pay", "bots"),
            spec: Some(wire::AgentClassSpec::default()),
            status: standing(class),
        })),
        agent(1, "bots", OWNER, own, parents.into_iter().collect()),
        // Made by an agent of another owner and class.
        agent(2, "makers", "user:joan", None, vec![]),
        declared(Object::DelegationGrant(wire::DelegationGrant {
            metadata: meta("pay", "grace-lets-bot"),
            spec: Some(grant),
        })),
    ];
    let of = |level: fn(String) -> Level, text: &str| level(text.to_owned());
    let ordered = [
        cut_off(0, "pay", of(Level::AgentClass, "bots"), of_class),
        cut_off(1, "pay", Level::WholeNamespace(true), of_namespace),
        cut_off(2, "pay", of(Level::Owner, OWNER), owner),
        cut_off(3, "", of(Level::Owner, OWNER), owner_everywhere),
        cut_off(4, "pay", of(Level::Subject, PERSON), cuts.subject),
        cut_off(5, "", of(Level::Subject, PERSON), cuts.subject_everywhere),
        cut_off(6, "pay", of(Level::Owner, "user:joan"), cuts.maker),
        // None of these concerns anybody here.
        cut_off(7, "pay", of(Level::AgentClass, "others"), Some(50)),
        cut_off(8, "sales", Level::WholeNamespace(true), Some(50)),
        cut_off(9, "sales", of(Level::Owner, OWNER), Some(50)),
        cut_off(10, "sales", of(Level::Subject, PERSON), Some(50)),
        cut_off(11, "", of(Level::Owner, PERSON), Some(50)),
        cut_off(12, "", of(Level::Subject, OWNER), Some(50)),
        cut_off(13, "pay", of(Level::Owner, "group:ada"), Some(50)),
    ];
    all.extend(ordered.into_iter().flatten());
    all
}

#[derive(Clone, Copy, Debug, Default)]
struct Cuts {
    own: Cut,
    class: Cut,
    namespace: Cut,
    of_class: Cut,
    of_namespace: Cut,
    owner: Cut,
    owner_everywhere: Cut,
    /// Of the owner of the agent that made it.
    maker: Cut,
    subject: Cut,
    subject_everywhere: Cut,
}

impl Cuts {
    fn of_agent(&self) -> Cut {
        let Self { own, class, namespace, of_class, of_namespace, owner, owner_everywhere, maker, .. } = *self;
        [own, class, namespace, of_class, of_namespace, owner, owner_everywhere, maker].into_iter().flatten().max()
    }

    fn of_person(&self) -> Cut {
        self.subject.max(self.subject_everywhere)
    }
}

fn claims(behalf: bool, version: u64) -> Claims {
    let chain = Chain { actors: vec![spiffe(1)], grants: vec!["obj_grace-lets-bot".into()], ..Chain::default() };
    let claims = Claims {
        issuer: "https://issuer.example".into(),
        audience: "https://a.example".into(),
        subject: if behalf { Subject::Person("grace".into()) } else { Subject::Agent(spiffe(1)) },
        issued_at: u64::try_from(ISSUED).unwrap(),
        expires_at: u64::try_from(ISSUED + 300).unwrap(),
        token_id: "0123456789abcdef".into(),
        scope: Scope::All,
        details: legate_token::Details::default(),
        lifecycle_version: version,
        namespace: name("pay"),
        agent: id(1),
        instance: None,
        chain: if behalf { chain } else { Chain::default() },
        confirmation: Confirmation::Certificate([7; 32]),
        credential: None,
        status: None,
    };
    claims.check().unwrap();
    claims
}

fn cut() -> impl Strategy<Value = Cut> {
    prop_oneof![6 => Just(None), 3 => (-9i64..0).prop_map(Some), 1 => (0i64..9).prop_map(Some)]
}

prop_compose! {
    fn cuts()(
        [own, class, namespace, of_class, of_namespace] in prop::array::uniform5(cut()),
        [owner, owner_everywhere, maker, subject, subject_everywhere] in prop::array::uniform5(cut()),
    ) -> Cuts {
        Cuts { own, class, namespace, of_class, of_namespace, owner, owner_everywhere, maker, subject, subject_everywhere }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Agent, class, namespace, owner, maker and person, by suspensions and by orders, in whatever order they are heard.
    #[test]
    fn what_works_was_issued_after_every_cutoff_of_every_level(cuts in cuts(), seed in any::<prop::sample::Index>()) {
        let mut all = objects(&cuts);
        let turn = seed.index(all.len());
        all.rotate_left(turn);
        let snapshot = Snapshot::of(&all).unwrap();
        let life = snapshot.life_of(snapshot.agent(&id(1)).unwrap(), at(NOW));
        prop_assert_eq!(life.cutoff(), cuts.of_agent().map(|seconds| at(ISSUED + seconds)));
        let spared = |cut: Cut| cut.is_none_or(|seconds| seconds < 0);

        let mut peer = Peer::anonymous("127.0.0.1:1".parse().unwrap());
        peer.principal = Some(Principal::Agent { namespace: name("pay"), id: id(1), instance: None });
        peer.not_before = at(ISSUED).minus(CERTIFICATE_BACKDATE);
        prop_assert_eq!(snapshot.judge(&peer, at(NOW)).is_ok(), spared(cuts.of_agent()));

        let version = life.lifecycle_version;
        let own = snapshot.token_standing(&claims(false, version), at(NOW));
        prop_assert_eq!(own.is_ok(), spared(cuts.of_agent()), "{:?}", own.err());
        let behalf = snapshot.token_standing(&claims(true, version), at(NOW));
        prop_assert_eq!(behalf.is_ok(), spared(cuts.of_agent().max(cuts.of_person())), "{:?}", behalf.err());
    }
}

#[test]
fn a_cut_off_that_cannot_be_read_stops_the_view() {
    let good = cut_off(0, "pay", Level::Owner(OWNER.into()), Some(0)).unwrap();
    assert!(Snapshot::of([&good]).is_ok());
    let change = |change: fn(&mut wire::Revocation)| {
        let mut bad = good.clone();
        let Some(Object::Revocation(revocation)) = &mut bad.object else { unreachable!() };
        change(revocation);
        Snapshot::of([&bad]).is_err()
    };
    fn of(revocation: &mut wire::Revocation) -> wire::CutOff {
        revocation.spec.as_mut().unwrap().cut_off.take().unwrap()
    }
    assert!(change(|r| r.spec.as_mut().unwrap().cut_off = Some(wire::CutOff::default())));
    assert!(change(|r| {
        let cut_off = of(r);
        r.spec.as_mut().unwrap().cut_off = Some(wire::CutOff { authorization_cutoff: None, ..cut_off });
    }));
    assert!(change(|r| {
        let cut_off = of(r);
        let level = Some(Level::AgentClass("Not A Name".into()));
        r.spec.as_mut().unwrap().cut_off = Some(wire::CutOff { level, ..cut_off });
    }));
    // A class, and a whole namespace, are of a namespace.
    assert!(change(|r| {
        let cut_off = of(r);
        r.metadata.as_mut().unwrap().namespace.clear();
        r.spec.as_mut().unwrap().cut_off = Some(wire::CutOff { level: Some(Level::WholeNamespace(true)), ..cut_off });
    }));
}
