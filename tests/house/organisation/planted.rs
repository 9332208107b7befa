//! An organisation by a seeded generator: agents of teams, what they were given, what they did in ninety days, and the drift that is planted in some of them.

use std::collections::BTreeSet;

use legate_wire::policy::DriftType;
use legate_wire::registry as wire;
use wire::declaration::Object;

pub(super) const NAMESPACE: &str = "org";
/// Agents of one team, which has two roles by its group.
const TEAM: usize = 100;
const ROLES: usize = 40;

/// What is planted in an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    Nothing,
    /// One of its actions was never used, or once, long ago.
    NeverUsed,
    UsedOnce,
    /// One comes every two weeks, and is not missed yet.
    Rhythmic,
    /// One comes every month, and is not missed yet; or it is.
    Monthly,
    MonthlyEnded,
    /// It may do the same to two resources, by two bindings, and does it to one of them.
    OneOfTwo,
    /// It has got something today.
    Young,
    Dormant,
    Orphaned,
    SponsorGone,
    AboveCeiling,
    Abroad,
    DormantGrant,
    UsedGrant,
    /// It was approved, and has what was approved, or more.
    Approved,
    BeyondApproval,
    /// Somebody gave it something by hand.
    ByHand,
    /// It has a secret that nobody uses, one that is past its rotation as well, or a new one.
    IdleSecret,
    OldSecret,
    NewSecret,
}

const ALL: [Planted; 20] = [
    Planted::NeverUsed,
    Planted::UsedOnce,
    Planted::Rhythmic,
    Planted::Monthly,
    Planted::MonthlyEnded,
    Planted::OneOfTwo,
    Planted::Young,
    Planted::Dormant,
    Planted::Orphaned,
    Planted::SponsorGone,
    Planted::AboveCeiling,
    Planted::Abroad,
    Planted::DormantGrant,
    Planted::UsedGrant,
    Planted::Approved,
    Planted::BeyondApproval,
    Planted::ByHand,
    Planted::IdleSecret,
    Planted::OldSecret,
    Planted::NewSecret,
];

/// A generator that gives the same numbers from the same seed (SplitMix64).
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What an agent did.
#[derive(Clone, Debug)]
pub(super) struct Act {
    pub(super) agent: usize,
    pub(super) action: String,
    /// Which thing it did it to, by id.
    pub(super) resource: &'static str,
    pub(super) days_ago: u64,
    /// By which delegation grant, by name.
    pub(super) grant: String,
}

/// A finding: the agent's name, its type, and the action or object that it is about.
pub(super) type Found = BTreeSet<(String, DriftType, String)>;

#[derive(Default)]
pub(super) struct Organisation {
    pub(super) agents: Vec<(String, Planted)>,
    /// What the pipeline declares first, what it gives once agents are approved, and today.
    pub(super) declared: Vec<Object>,
    pub(super) given: Vec<Object>,
    pub(super) today: Vec<Object>,
    /// What somebody writes by hand.
    pub(super) by_hand: Vec<Object>,
    pub(super) acts: Vec<Act>,
    pub(super) findings: Found,
    /// What is found until the registry has seen to those whom one answered for who left.
    pub(super) for_a_while: Found,
    /// Things of which nothing was used: the agent's name and the thing's.
    pub(super) unused: BTreeSet<(String, String)>,
}

fn meta(name: &str) -> Option<wire::Metadata> {
    Some(wire::Metadata { name: name.into(), namespace: NAMESPACE.into(), ..wire::Metadata::default() })
}

fn permission(action: &str) -> wire::Permission {
    let resource = wire::ResourceSelector { r#type: "Thing".into(), id: "*".into(), ..Default::default() };
    wire::Permission { action: action.into(), resource: Some(resource) }
}

fn span(days: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: days * 86_400, nanos: 0 })
}

fn role(name: &str, permissions: Vec<wire::Permission>) -> Object {
    let spec = wire::RoleSpec { permissions, ..wire::RoleSpec::default() };
    Object::Role(wire::Role { metadata: meta(name), spec: Some(spec) })
}

fn binding(name: &str, role: &str, agents: &[&str], groups: &[&str]) -> Object {
    let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let spec = wire::RoleBindingSpec {
        role: role.into(),
        agents: of(agents),
        groups: of(groups),
        ..wire::RoleBindingSpec::default()
    };
    Object::RoleBinding(wire::RoleBinding { metadata: meta(name), spec: Some(spec) })
}

/// A binding, for one thing alone.
fn bound_to(id: &str, mut binding: Object) -> Object {
    if let Object::RoleBinding(wire::RoleBinding { spec: Some(spec), .. }) = &mut binding {
        spec.resources = vec![wire::ResourceSelector { r#type: "Thing".into(), id: id.into(), ..Default::default() }];
    }
    binding
}

fn class(name: &str, change: impl FnOnce(&mut wire::AgentClassSpec)) -> Object {
    let mut spec = wire::AgentClassSpec {
        permissions: vec![permission("own:look")],
        ceiling: ["own:*", "job:*"].map(permission).to_vec(),
        ..wire::AgentClassSpec::default()
    };
    change(&mut spec);
    Object::AgentClass(wire::AgentClass { metadata: meta(name), spec: Some(spec), status: None })
}

fn selecting(name: &str, selector: String) -> Object {
    let spec = wire::GroupSpec { selector, ..wire::GroupSpec::default() };
    Object::Group(wire::Group { metadata: meta(name), spec: Some(spec) })
}

fn operators(name: &str, who: &str, role: wire::OperatorRole) -> Object {
    let spec = wire::OperatorBindingSpec {
        operators: vec![who.into()],
        role: role.into(),
        ..wire::OperatorBindingSpec::default()
    };
    Object::OperatorBinding(wire::OperatorBinding { metadata: meta(name), spec: Some(spec) })
}

/// The roles of a team, by number.
fn roles_of(team: usize) -> [usize; 2] {
    [team % ROLES, (team * 7 + 3) % ROLES]
}

/// The actions of an agent's team, the last of which some use seldom or never.
fn actions_of(team: usize) -> Vec<String> {
    let mut all = Vec::new();
    for role in roles_of(team) {
        for one in ["a", "b"] {
            let action = format!("job:{role:02}-{one}");
            if !all.contains(&action) {
                all.push(action);
            }
        }
    }
    all
}

impl Organisation {
    /// So many agents; as `pipeline` writes what is declared.
    pub(super) fn of(agents: usize, seed: u64, pipeline: &str) -> Self {
        let (mut made, mut chance) = (Self::default(), Chance(seed));
        made.base(agents.div_ceil(TEAM), pipeline);
        for n in 0..agents {
            // Four in five of the agents of each hundred have nothing planted in them.
            let planted = usize::try_from(chance.below(100)).ok().and_then(|at| ALL.get(at)).copied();
            made.add(n, planted.unwrap_or(Planted::Nothing), &mut chance);
        }
        made
    }

    fn base(&mut self, teams: usize, pipeline: &str) {
        let namespace = wire::NamespaceSpec { pipelines: vec![pipeline.into()], ..wire::NamespaceSpec::default() };
        let own = wire::Metadata { name: NAMESPACE.into(), ..wire::Metadata::default() };
        let policy = wire::PolicySpec {
            cedar: "permit (principal, action, resource);".into(),
            mode: wire::PolicyMode::Enforce.into(),
            ..wire::PolicySpec::default()
        };
        let secrets = wire::CredentialPolicySpec {
            methods: vec![wire::CredentialMethod::ClientSecret.into()],
            max_secret_ttl: span(365),
            rotate_before: span(20),
            ..wire::CredentialPolicySpec::default()
        };
        let home = wire::BoundarySpec {
            regions: vec!["eu-1".into()],
            groups: vec!["abroad".into()],
            ..wire::BoundarySpec::default()
        };
        let campaign = wire::ReviewCampaignSpec {
            reviewers: wire::ReviewerRule::Named.into(),
            named_reviewers: vec!["operator:paula".into()],
            due: span(30),
            grace: span(7),
            ..wire::ReviewCampaignSpec::default()
        };
        let mut abroad = permission("job:audit");
        abroad.resource.get_or_insert_default().attributes.insert("region".into(), "us-1".into());
        self.declared.extend([
            Object::Namespace(wire::Namespace { metadata: Some(own), spec: Some(namespace), status: None }),
            operators("approvers", "paula", wire::OperatorRole::Approver),
            operators("editors", "hana", wire::OperatorRole::Editor),
            Object::CredentialPolicy(wire::CredentialPolicy { metadata: meta("secrets"), spec: Some(secrets) }),
            class("worker", |_| ()),
            class("guarded", |spec| spec.requires_approval = true),
            class("holder", |spec| spec.credential_policy = "secrets".into()),
            Object::Policy(wire::Policy { metadata: meta("all"), spec: Some(policy) }),
            role("root", vec![permission("ledger:erase")]),
            role("extra", vec![permission("job:extra")]),
            role("pair", vec![permission("job:pair")]),
            role("young", vec![permission("job:young")]),
            role("abroad", vec![abroad]),
            selecting("abroad", "labels.abroad = yes".into()),
            Object::Boundary(wire::Boundary { metadata: meta("home"), spec: Some(home) }),
            Object::ReviewCampaign(wire::ReviewCampaign { metadata: meta("yearly"), spec: Some(campaign) }),
        ]);
        for n in 0..ROLES {
            let both = ["a", "b"].map(|one| permission(&format!("job:{n:02}-{one}"))).to_vec();
            self.declared.push(role(&format!("r{n:02}"), both));
        }
        for team in 0..teams {
            let name = format!("team-{team:02}");
            self.declared.push(selecting(&name, format!("labels.team = t{team:02}")));
            for role in BTreeSet::from(roles_of(team)) {
                let role = format!("r{role:02}");
                self.declared.push(binding(&format!("{name}-{role}"), &role, &[], &[&name]));
            }
        }
    }

    fn add(&mut self, n: usize, planted: Planted, chance: &mut Chance) {
        let (name, team) = (format!("agent-{n:05}"), n / TEAM);
        self.declare(&name, team, planted);
        self.agents.push((name.clone(), planted));
        let mut actions = actions_of(team);
        let seldom = actions.last().cloned().unwrap_or_default();
        actions.push("own:look".to_owned());
        let mut plant = |kind, what: &str| self.findings.extend([(name.clone(), kind, what.to_owned())]);
        let mut extra = Vec::new();
        match planted {
            Planted::Nothing | Planted::Approved | Planted::UsedGrant | Planted::NewSecret | Planted::Young => {}
            // The registry has it answered for by the sponsor who is left, before long.
            Planted::SponsorGone => self.for_a_while.extend([(name.clone(), DriftType::SponsorGone, String::new())]),
            Planted::NeverUsed => plant(DriftType::Unused, &seldom),
            Planted::UsedOnce => {
                extra.push((seldom.clone(), 80));
                plant(DriftType::Unused, &seldom);
            }
            Planted::Rhythmic => extra.extend([20, 34, 48].map(|day| (seldom.clone(), day))),
            Planted::Monthly => extra.extend([25, 56, 86].map(|day| (seldom.clone(), day))),
            Planted::MonthlyEnded => {
                extra.extend([58, 84].map(|day| (seldom.clone(), day)));
                plant(DriftType::Unused, &seldom);
            }
            Planted::OneOfTwo => {
                actions.push("job:pair".to_owned());
                plant(DriftType::Unused, "job:pair");
            }
            Planted::Dormant => plant(DriftType::DormantAgent, ""),
            Planted::Orphaned => plant(DriftType::Orphaned, ""),
            Planted::AboveCeiling => plant(DriftType::ExceedsClass, "ledger:erase"),
            Planted::Abroad => {
                plant(DriftType::BoundaryConflict, "job:audit");
                plant(DriftType::Unused, "job:audit");
            }
            Planted::DormantGrant => plant(DriftType::DormantGrant, &format!("{NAMESPACE}/grant-{n:05}")),
            Planted::BeyondApproval => plant(DriftType::ExceedsApproval, "job:extra"),
            Planted::ByHand => plant(DriftType::GrantedOutsideCode, &format!("{NAMESPACE}/extra-{n:05}")),
            Planted::IdleSecret | Planted::OldSecret => plant(DriftType::StaleCredential, ""),
        }
        if planted == Planted::Dormant {
            let team = roles_of(team).map(|role| format!("team-{team:02}-r{role:02}"));
            self.unused.extend(team.into_iter().chain(["worker".to_owned()]).map(|thing| (name.clone(), thing)));
            return;
        }
        let is_seldom = matches!(
            planted,
            Planted::NeverUsed | Planted::UsedOnce | Planted::Rhythmic | Planted::Monthly | Planted::MonthlyEnded
        );
        if matches!(planted, Planted::BeyondApproval | Planted::ByHand) {
            actions.push("job:extra".to_owned());
        }
        for action in actions.into_iter().filter(|action| !(is_seldom && *action == seldom)) {
            // Lately, and now and then before.
            let mut days = vec![chance.below(12)];
            days.extend((0..chance.below(2)).map(|_| 12 + chance.below(78)));
            extra.extend(days.into_iter().map(|day| (action.clone(), day)));
        }
        let act = |(action, days_ago)| Act { agent: n, action, resource: "1", days_ago, grant: String::new() };
        self.acts.extend(extra.into_iter().map(act));
        if planted == Planted::UsedGrant {
            let (action, grant) = ("own:look".to_owned(), format!("grant-{n:05}"));
            self.acts.push(Act { agent: n, action, resource: "1", days_ago: 3, grant });
        }
    }

    fn declare(&mut self, name: &str, team: usize, planted: Planted) {
        let sponsors: &[&str] = match planted {
            Planted::Orphaned => &["user:gone"],
            Planted::SponsorGone => &["user:grace", "user:gone"],
            _ => &["user:grace"],
        };
        let class = match planted {
            Planted::Approved | Planted::BeyondApproval => "guarded",
            Planted::IdleSecret | Planted::OldSecret | Planted::NewSecret => "holder",
            _ => "worker",
        };
        let spec = wire::AgentSpec {
            agent_class: class.into(),
            purpose: "works".into(),
            environment: wire::Environment::Prod.into(),
            owners: vec!["user:ada".into(), "user:omar".into()],
            sponsors: sponsors.iter().map(|who| (*who).to_owned()).collect(),
            ..wire::AgentSpec::default()
        };
        let mut metadata = meta(name);
        let labels = &mut metadata.get_or_insert_default().labels;
        labels.insert("team".into(), format!("t{team:02}"));
        if planted == Planted::Abroad {
            labels.insert("abroad".into(), "yes".into());
        }
        self.declared.push(Object::Agent(wire::Agent { metadata, spec: Some(spec), status: None }));
        let number = name.trim_start_matches("agent-");
        let mut idle = |thing: String| self.unused.extend([(name.to_owned(), thing)]);
        match planted {
            Planted::AboveCeiling => {
                self.given.push(binding(&format!("root-{number}"), "root", &[name], &[]));
                idle(format!("root-{number}"));
            }
            Planted::Abroad => {
                self.given.push(binding(&format!("abroad-{number}"), "abroad", &[name], &[]));
                idle(format!("abroad-{number}"));
            }
            Planted::OneOfTwo => {
                self.given.push(bound_to("1", binding(&format!("first-{number}"), "pair", &[name], &[])));
                self.given.push(bound_to("2", binding(&format!("second-{number}"), "pair", &[name], &[])));
                idle(format!("second-{number}"));
            }
            Planted::BeyondApproval => self.given.push(binding(&format!("extra-{number}"), "extra", &[name], &[])),
            Planted::ByHand => self.by_hand.push(binding(&format!("extra-{number}"), "extra", &[name], &[])),
            Planted::Young => self.today.push(binding(&format!("young-{number}"), "young", &[name], &[])),
            Planted::DormantGrant | Planted::UsedGrant => {
                let spec = wire::DelegationGrantSpec {
                    delegator: "user:ada".into(),
                    delegate: name.into(),
                    permissions: vec![permission("own:look")],
                    purpose: "acts".into(),
                    not_after: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
                    ..wire::DelegationGrantSpec::default()
                };
                let metadata = meta(&format!("grant-{number}"));
                self.given.push(Object::DelegationGrant(wire::DelegationGrant { metadata, spec: Some(spec) }));
                if planted == Planted::DormantGrant {
                    idle(format!("grant-{number}"));
                }
            }
            _ => {}
        }
    }
}
