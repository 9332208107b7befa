//! An organisation in which drift is planted: everything that is planted is found, and nothing else; and what may never happen.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use legate_ids::{Action, AgentId, ResourceId, ResourceType};
use legate_wire::registry as wire;
use legate_wire::registry::declaration::Object;
use proptest::prelude::*;

use super::*;
use crate::domain::authority::Bench;
use crate::domain::question::{Question, Record, Stated};

const DAY: i64 = 86_400;
const NOW: i64 = 1_900_000_000;
/// From so many days ago on the log was heard.
const HEARD: i64 = 120;
/// So short that only its rhythm keeps a monthly job.
const MINIMUM: Duration = Duration::from_secs(20 * 86_400);

pub(super) fn ago(days: i64) -> Timestamp {
    Timestamp::from_secs(NOW - days * DAY)
}

pub(super) fn evidence_of(days: i64) -> Evidence {
    Evidence::new(Some(ago(days)), Some(ago(0)), [])
}

pub(super) fn meta(name: &str, id: &str, written: i64) -> Option<wire::Metadata> {
    Some(wire::Metadata {
        name: name.into(),
        namespace: "pay".into(),
        id: id.into(),
        version: 1,
        create_time: Some(ago(700).into()),
        update_time: Some(ago(written).into()),
        ..wire::Metadata::default()
    })
}

pub(super) fn permission(action: &str, kind: &str, id: &str, region: Option<&str>) -> wire::Permission {
    let attributes = region.map(|region| ("region".to_owned(), region.to_owned())).into_iter().collect();
    wire::Permission {
        action: action.into(),
        resource: Some(wire::ResourceSelector { r#type: kind.into(), id: id.into(), attributes }),
    }
}

pub(super) fn declared(object: Object) -> wire::Declaration {
    wire::Declaration { object: Some(object) }
}

pub(super) fn class(
    name: &str,
    permissions: Vec<wire::Permission>,
    ceiling: Vec<wire::Permission>,
) -> wire::Declaration {
    let spec = wire::AgentClassSpec { permissions, ceiling, ..wire::AgentClassSpec::default() };
    declared(Object::AgentClass(wire::AgentClass {
        metadata: meta(name, "obj_class", 700),
        spec: Some(spec),
        status: None,
    }))
}

pub(super) fn role(name: &str, permissions: Vec<wire::Permission>) -> wire::Declaration {
    let spec = wire::RoleSpec { permissions, ..wire::RoleSpec::default() };
    declared(Object::Role(wire::Role { metadata: meta(name, &format!("obj_{name}"), 700), spec: Some(spec) }))
}

pub(super) fn binding(name: &str, role: &str, agent: &str, written: i64) -> wire::Declaration {
    let spec =
        wire::RoleBindingSpec { role: role.into(), agents: vec![agent.into()], ..wire::RoleBindingSpec::default() };
    let metadata = meta(name, &format!("obj_{name}"), written);
    declared(Object::RoleBinding(wire::RoleBinding { metadata, spec: Some(spec) }))
}

pub(super) fn id(n: usize) -> AgentId {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    AgentId::from_parts(1, bytes)
}

pub(super) fn agent(n: usize, change: impl FnOnce(&mut wire::Agent)) -> wire::Declaration {
    let mut agent = wire::Agent {
        metadata: meta(&format!("a-{n}"), id(n).as_str(), 700),
        spec: Some(wire::AgentSpec {
            agent_class: "worker".into(),
            environment: wire::Environment::Prod.into(),
            sponsors: vec!["user:grace".into(), "user:joan".into()],
            ..wire::AgentSpec::default()
        }),
        status: Some(wire::AgentStatus {
            state: wire::AgentState::Active.into(),
            lifecycle_version: 1,
            ..wire::AgentStatus::default()
        }),
    };
    change(&mut agent);
    declared(Object::Agent(agent))
}

/// What is planted in one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// A job that runs every month, and last did 25 days ago.
    Monthly,
    /// A permission that nobody ever used, or not for 100 days.
    NeverUsed,
    UsedOnce,
    /// It got its role this week.
    Young,
    Dormant,
    /// It obtains tokens, and does nothing with them.
    Obtains,
    Orphaned,
    SponsorGone,
    AboveCeiling,
    Outside,
    DormantGrant,
    UsedGrant,
    Suspended,
    /// It was approved with all that it has, or with less.
    Approved,
    BeyondApproval,
    /// Somebody wrote its binding who is no pipeline.
    ByHand,
}

/// A generator that gives the same numbers from the same seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn planted(&mut self) -> Planted {
        match self.next(40) {
            0 => Planted::NeverUsed,
            1 => Planted::UsedOnce,
            2 => Planted::Young,
            3 => Planted::Dormant,
            4 => Planted::Obtains,
            5 => Planted::Orphaned,
            6 => Planted::SponsorGone,
            7 => Planted::AboveCeiling,
            8 => Planted::Outside,
            9 => Planted::DormantGrant,
            10 => Planted::UsedGrant,
            11 => Planted::Suspended,
            12..=15 => Planted::Monthly,
            16 => Planted::Approved,
            17 => Planted::BeyondApproval,
            18 => Planted::ByHand,
            _ => Planted::Nothing,
        }
    }
}

/// Days of use, the oldest first, as what is known of them.
fn used(action: &str, mut days_ago: Vec<i64>) -> Used {
    days_ago.sort_unstable();
    let interval = days_ago.windows(2).map(|two| two[1] - two[0]).max().unwrap_or(0);
    let uses = Uses {
        count: days_ago.len() as u64,
        last: days_ago.first().map(|days| ago(*days)),
        interval_days: u32::try_from(interval).unwrap(),
    };
    Used { action: action.into(), kind: "Invoice".into(), id: REST.into(), uses }
}

type Found = BTreeSet<(usize, Kind, String)>;

struct Organisation {
    objects: Vec<wire::Declaration>,
    known: BTreeMap<usize, Known>,
    shared: Shared,
    planted: Found,
}

const ACTIONS: [&str; 3] = ["invoice:read", "invoice:pay", "invoice:export"];

impl Organisation {
    fn of(agents: usize, seed: u64) -> Self {
        let any = |actions: &[&str]| actions.iter().map(|action| permission(action, "Invoice", "*", None)).collect();
        let mut made = Self {
            objects: vec![
                class("worker", any(&ACTIONS[..1]), any(&["invoice:*"])),
                role("clerk", any(&ACTIONS[1..])),
                role("root", any(&["ledger:erase"])),
                role("extra", any(&["invoice:archive"])),
                role("abroad", vec![permission("invoice:audit", "Invoice", "*", Some("us-1"))]),
                declared(Object::Boundary(wire::Boundary {
                    metadata: meta("home", "obj_home", 700),
                    spec: Some(wire::BoundarySpec {
                        regions: vec!["eu-1".into()],
                        agent_classes: vec!["worker".into()],
                        ..wire::BoundarySpec::default()
                    }),
                })),
            ],
            known: BTreeMap::new(),
            shared: Shared::default(),
            planted: BTreeSet::new(),
        };
        let mut chance = Chance(seed);
        for n in 0..agents {
            let planted = chance.planted();
            made.add(n, planted, &mut chance);
        }
        made
    }

    fn add(&mut self, n: usize, planted: Planted, chance: &mut Chance) {
        let name = format!("a-{n}");
        self.objects.push(agent(n, |agent| {
            if planted == Planted::Suspended {
                agent.status.as_mut().unwrap().state = wire::AgentState::Suspended.into();
            }
        }));
        let written = if planted == Planted::Young { 5 } else { 600 };
        self.objects.push(binding(&format!("clerk-{n}"), "clerk", &name, written));
        let mut known = Known { state_since: Some(ago(700)), ..Known::default() };
        // Whoever works uses everything again and again, some of it on most days and some every week.
        let mut busy = |action: &str| {
            let every = 1 + i64::try_from(chance.next(7)).unwrap();
            let first = i64::try_from(chance.next(9)).unwrap();
            used(action, (0..).map(|turn| first + turn * every).take_while(|day| *day < HEARD).collect())
        };
        known.used = ACTIONS.into_iter().map(&mut busy).collect();
        let mut plant = |kind, what: &str| self.planted.insert((n, kind, what.to_owned()));
        match planted {
            Planted::Nothing | Planted::Suspended => {}
            Planted::Monthly => known.used[1] = used(ACTIONS[1], vec![25, 55, 86, 116]),
            Planted::NeverUsed => {
                known.used.truncate(2);
                plant(Kind::Unused, ACTIONS[2]);
            }
            Planted::UsedOnce => {
                known.used[2] = used(ACTIONS[2], vec![100]);
                plant(Kind::Unused, ACTIONS[2]);
            }
            Planted::Young => known.used.truncate(1),
            Planted::Dormant => {
                known.used.clear();
                plant(Kind::DormantAgent, "");
            }
            Planted::Obtains => {
                known.used.clear();
                known.last = Some(ago(1));
                for action in ACTIONS {
                    plant(Kind::Unused, action);
                }
            }
            Planted::Approved | Planted::BeyondApproval => {
                let cells = ACTIONS.map(|action| {
                    let (kind, id) = ("Invoice".to_owned(), "*".to_owned());
                    Cell { action: action.to_owned(), kind, id, attributes: BTreeMap::new() }
                });
                let approval = Approval { time: Some(ago(500)), by: "paula".into(), review: String::new() };
                known.baseline.add(CauseKind::Class, cells[..1].to_vec(), approval.clone());
                known.baseline.add(CauseKind::Binding, cells[1..].to_vec(), approval);
                if planted == Planted::BeyondApproval {
                    self.objects.push(binding(&format!("extra-{n}"), "extra", &name, 400));
                    known.used.push(used("invoice:archive", vec![2, 3]));
                    plant(Kind::ExceedsApproval, "invoice:archive");
                }
            }
            Planted::ByHand => {
                let hand = Hand { revision: 7, time: Some(ago(3)), actor: "mallory".into(), reason: String::new() };
                self.shared.hands.insert(format!("obj_clerk-{n}"), hand);
                plant(Kind::OutsideCode, "");
            }
            Planted::Orphaned => {
                known.orphaned = Some(ago(30));
                plant(Kind::Orphaned, "");
            }
            Planted::SponsorGone => {
                known.departed = vec!["user:joan".into()];
                plant(Kind::SponsorGone, "");
            }
            Planted::AboveCeiling => {
                self.objects.push(binding(&format!("root-{n}"), "root", &name, 600));
                plant(Kind::ExceedsClass, "ledger:erase");
            }
            Planted::Outside => {
                self.objects.push(binding(&format!("abroad-{n}"), "abroad", &name, 600));
                plant(Kind::BoundaryConflict, "invoice:audit");
                plant(Kind::Unused, "invoice:audit");
            }
            Planted::DormantGrant | Planted::UsedGrant => {
                let grant = format!("obj_grant-{n}");
                let spec = wire::DelegationGrantSpec {
                    delegator: "user:ada".into(),
                    delegate: name,
                    permissions: vec![permission(ACTIONS[0], "Invoice", "*", None)],
                    not_after: Some(ago(-700).into()),
                    ..wire::DelegationGrantSpec::default()
                };
                let metadata = meta(&format!("grant-{n}"), &grant, 600);
                self.objects
                    .push(declared(Object::DelegationGrant(wire::DelegationGrant { metadata, spec: Some(spec) })));
                if planted == Planted::UsedGrant {
                    self.shared.grants.insert(grant, Uses { count: 1, last: Some(ago(3)), interval_days: 0 });
                } else {
                    plant(Kind::DormantGrant, "");
                }
            }
        }
        self.known.insert(n, known);
    }

    fn found(&self, snapshot: &Snapshot, evidence: &Evidence) -> Found {
        let terms = Terms { evidence, minimum: MINIMUM, now: ago(0) };
        let mut found = Found::new();
        for (n, known) in &self.known {
            let agent = snapshot.agent(&id(*n)).unwrap();
            for finding in examine(snapshot, agent, known, &self.shared, &terms).findings {
                let action = finding.cell.map(|cell| cell.action).unwrap_or_default();
                assert!(found.insert((*n, finding.kind, action)), "{n} {:?} is told twice", finding.kind);
            }
        }
        found
    }
}

#[test]
fn everything_that_is_planted_is_found_and_nothing_else() {
    // A debug build looks at a tenth of what the whole is; LEGATE_TEST_AGENTS says otherwise.
    let agents = std::env::var("LEGATE_TEST_AGENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(500);
    for seed in [1, 2, 3] {
        let organisation = Organisation::of(agents, seed);
        let snapshot = Snapshot::of(&organisation.objects).unwrap();
        let found = organisation.found(&snapshot, &evidence_of(HEARD));
        let kinds: BTreeSet<Kind> = organisation.planted.iter().map(|(_, kind, _)| *kind).collect();
        assert_eq!(kinds.len(), Kind::ALL.len(), "every kind is planted");
        let missed: Vec<_> = organisation.planted.difference(&found).collect();
        let more: Vec<_> = found.difference(&organisation.planted).collect();
        assert!(missed.is_empty() && more.is_empty(), "missed {missed:?}; not planted {more:?}");
        // Heard for a week only, silence says nothing: what remains is what hangs on no silence.
        let blind = organisation.found(&snapshot, &evidence_of(7));
        let by_silence = [Kind::Unused, Kind::DormantAgent, Kind::DormantGrant];
        assert!(blind.iter().all(|(_, kind, _)| !by_silence.contains(kind)), "{blind:?}");
        assert!(!blind.is_empty());
    }
}

#[test]
fn severity_is_by_rule() {
    let any = |action: &str| vec![permission(action, "Invoice", "*", None)];
    let all = |tier: wire::RiskTier, id: &str| {
        let given = vec![permission("invoice:read", "Invoice", id, None)];
        let objects =
            [class("worker", given, any("*")), agent(1, |agent| agent.spec.as_mut().unwrap().risk_tier = tier.into())];
        let snapshot = Snapshot::of(&objects).unwrap();
        let evidence = evidence_of(HEARD);
        let terms = Terms { evidence: &evidence, minimum: MINIMUM, now: ago(0) };
        let known = Known { last: Some(ago(1)), ..Known::default() };
        let agent = snapshot.agent(&self::id(1)).unwrap();
        let found = examine(&snapshot, agent, &known, &Shared::default(), &terms).findings;
        (found[0].kind, found[0].severity)
    };
    assert_eq!(all(wire::RiskTier::Low, "7"), (Kind::Unused, Severity::Low));
    assert_eq!(all(wire::RiskTier::Low, "*"), (Kind::Unused, Severity::Medium));
    assert_eq!(all(wire::RiskTier::Critical, "7"), (Kind::Unused, Severity::Medium));
    assert_eq!(all(wire::RiskTier::High, "*"), (Kind::Unused, Severity::High));
}

#[test]
fn an_agent_with_too_many_below_it_or_too_much_used_is_not_judged() {
    let any = |action: &str| vec![permission(action, "Invoice", "*", None)];
    let objects = [class("worker", any("invoice:read"), any("*")), agent(1, |_| ())];
    let snapshot = Snapshot::of(&objects).unwrap();
    let evidence = evidence_of(HEARD);
    let terms = Terms { evidence: &evidence, minimum: MINIMUM, now: ago(0) };
    let of = |known: &Known| {
        let agent = snapshot.agent(&id(1)).unwrap();
        examine(&snapshot, agent, known, &Shared::default(), &terms)
    };
    assert_eq!(of(&Known::default()).findings[0].kind, Kind::DormantAgent);
    let open = of(&Known { is_open: true, ..Known::default() });
    assert!(open.findings.is_empty() && open.not_judged == 1);
    let rest = Used {
        action: REST.into(),
        kind: REST.into(),
        id: REST.into(),
        uses: Uses { count: 1, last: Some(ago(1)), interval_days: 0 },
    };
    assert!(of(&Known { used: vec![rest], ..Known::default() }).findings.is_empty());
    // Stopped until lately, it could use nothing.
    let resumed = of(&Known { state_since: Some(ago(3)), ..Known::default() });
    assert!(resumed.findings.is_empty() && resumed.not_judged == 2);
}

#[test]
fn of_two_permissions_that_differ_by_resource_the_one_that_is_not_used_is_told() {
    let given = vec![permission("a:b", "T", "x/*", None), permission("a:b", "T", "y", None)];
    let any = vec![permission("*", "*", "*", None)];
    let objects = [class("worker", given, any), agent(1, |_| ())];
    let snapshot = Snapshot::of(&objects).unwrap();
    let evidence = evidence_of(HEARD);
    let terms = Terms { evidence: &evidence, minimum: MINIMUM, now: ago(0) };
    let unused = |acts: &[Act]| -> Vec<String> {
        let agent = snapshot.agent(&id(1)).unwrap();
        let found = examine(&snapshot, agent, &known(&snapshot, acts), &Shared::default(), &terms).findings;
        found
            .into_iter()
            .filter(|one| one.kind == Kind::Unused)
            .filter_map(|one| one.cell)
            .map(|cell| cell.id)
            .collect()
    };
    // `a:b` on `T`: of `x/1`, one day ago.
    assert_eq!(unused(&[(0, 0, 0, 1, true)]), ["y"]);
    assert_eq!(unused(&[(0, 0, 2, 1, true)]), ["x/*"]);
    // Where it is not kept which, it may have been either.
    assert!(unused(&[(0, 0, 0, 1, false)]).is_empty());
}

pub(super) fn question(action: &str, kind: &str, id: &str) -> Question {
    Question {
        action: Action::parse(action).unwrap(),
        resource_type: ResourceType::parse(kind).unwrap(),
        resource_id: ResourceId::parse(id).unwrap(),
        attributes: Stated::default(),
        context: Record::new(),
    }
}

const PATTERNS: [&str; 5] = ["a:b", "a:c", "a:*", "*", "d:e"];
const KINDS: [&str; 3] = ["T", "U", "*"];
const IDS: [&str; 4] = ["*", "x/*", "x/1", "y"];

fn given() -> impl Strategy<Value = Vec<wire::Permission>> {
    let one = (0..PATTERNS.len(), 0..KINDS.len(), 0..IDS.len());
    let one = one.prop_map(|(action, kind, id)| permission(PATTERNS[action], KINDS[kind], IDS[id], None));
    prop::collection::vec(one, 1..6)
}

type Act = (usize, usize, usize, i64, bool);

/// What was asked, how many days ago, and whether it is kept which resource it was.
fn acts() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec((0usize..3, 0usize..2, 0usize..3, 0i64..HEARD, any::<bool>()), 0..8)
}

fn asked((action, kind, id, ..): &Act) -> Question {
    question(["a:b", "a:c", "d:e"][*action], ["T", "U"][*kind], ["x/1", "x/2", "y"][*id])
}

/// What of it was allowed, as it is told.
fn known(snapshot: &Snapshot, acts: &[Act]) -> Known {
    let (bench, agent) = (Bench::new(), snapshot.agent(&id(1)).unwrap());
    let (mut whole, mut apart) = (BTreeMap::<_, Vec<i64>>::new(), BTreeMap::<_, Vec<i64>>::new());
    for act in acts {
        let question = asked(act);
        if bench.granted(snapshot, agent, &question, ago(0)).denied.is_none() {
            let id = if act.4 { question.resource_id.to_string() } else { REST.to_owned() };
            let of = |id| (question.action.to_string(), question.resource_type.to_string(), id);
            whole.entry(of(REST.to_owned())).or_default().push(act.3);
            apart.entry(of(id)).or_default().push(act.3);
        }
    }
    let told = |days: BTreeMap<(String, String, String), Vec<i64>>| {
        days.into_iter().map(|((action, kind, id), days)| Used { kind, id, ..used(&action, days) }).collect()
    };
    Known { used: told(whole), apart: Some(told(apart)), last: Some(ago(0)), ..Known::default() }
}

proptest! {
    /// Nothing that was allowed and is on record would be denied below the ceiling that is proposed.
    #[test]
    fn a_proposal_never_takes_what_was_used(given in given(), bound in given(), ceiling in given(), acts in acts()) {
        let mut objects = vec![
            class("worker", given, ceiling),
            role("clerk", bound),
            binding("clerks", "clerk", "a-1", 600),
            agent(1, |_| ()),
        ];
        let snapshot = Snapshot::of(&objects).unwrap();
        let known = known(&snapshot, &acts);
        let evidence = evidence_of(HEARD);
        let terms = Terms { evidence: &evidence, minimum: Duration::from_secs(30 * 86_400), now: ago(0) };
        let before = snapshot.agent(&id(1)).unwrap();
        let Ok(proposal) = propose(&snapshot, before, &known, &terms) else { return Ok(()) };
        // A ceiling without entries cuts nothing, and is not proposed.
        if proposal.lose.is_empty() || proposal.keep.is_empty() {
            return Ok(());
        }
        objects.pop();
        let keep = proposal.keep.iter().map(|cell| wire::Permission {
            action: cell.action.clone(),
            resource: Some(cell.selector()),
        });
        let keep: Vec<wire::Permission> = keep.collect();
        objects.push(agent(1, |agent| agent.spec.as_mut().unwrap().ceiling = keep));
        let smaller = Snapshot::of(&objects).unwrap();
        let (bench, after) = (Bench::new(), smaller.agent(&id(1)).unwrap());
        let is_late = |act: &&Act| act.3 < 30;
        for act in acts.iter().filter(is_late) {
            let (question, now) = (asked(act), ago(0));
            if bench.granted(&snapshot, before, &question, now).denied.is_none() {
                let answer = bench.granted(&smaller, after, &question, now);
                prop_assert!(answer.denied.is_none(), "{question:?} {:?}", proposal.keep);
            }
        }
        // Below it there is nothing left to take away.
        let again = propose(&smaller, after, &known, &terms).unwrap();
        prop_assert!(again.lose.is_empty(), "{again:?}");
    }

    /// One more use, later than any before, never makes a permission unused that was not.
    #[test]
    fn a_use_never_adds_an_unused_permission(given in given(), acts in acts(), later in 0i64..HEARD, (which, is_kept) in (0usize..3, any::<bool>())) {
        let any = vec![permission("*", "*", "*", None)];
        let objects = [class("worker", given, any), agent(1, |_| ())];
        let snapshot = Snapshot::of(&objects).unwrap();
        let agent = snapshot.agent(&id(1)).unwrap();
        let evidence = evidence_of(HEARD);
        let terms = Terms { evidence: &evidence, minimum: Duration::from_secs(30 * 86_400), now: ago(0) };
        let unused = |acts: &[Act]| -> BTreeSet<Cell> {
            let found = examine(&snapshot, agent, &known(&snapshot, acts), &Shared::default(), &terms).findings;
            found.into_iter().filter(|one| one.kind == Kind::Unused).filter_map(|one| one.cell).collect()
        };
        let newest = acts.iter().map(|act| act.3).min().unwrap_or(HEARD);
        let mut more = acts.clone();
        more.push((which, 0, 0, later.min(newest), is_kept));
        prop_assert!(unused(&more).is_subset(&unused(&acts)));
        // Nothing of what is unused was done lately, as far as anybody can tell.
        let bench = Bench::new();
        for cell in unused(&more) {
            let is_its = |act: &Act| {
                let question = asked(act);
                let id = if act.4 { question.resource_id.as_ref() } else { REST };
                let is_allowed = bench.granted(&snapshot, agent, &question, ago(0)).denied.is_none();
                is_allowed && act.3 < 30 && cell.is_about(question.action.as_ref(), question.resource_type.as_ref(), id)
            };
            let late: Vec<&Act> = more.iter().filter(|act| is_its(act)).collect();
            prop_assert!(late.is_empty(), "{cell:?} {late:?}");
        }
    }
}
