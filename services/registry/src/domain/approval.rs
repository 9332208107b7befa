//! What an agent asks a person to approve: what may be asked, which policies hold it back, and how it ends.

use std::time::Duration;

use cedar_policy::{ActionConstraint, Effect, PolicySet};
use legate_cedar::Declared;
use legate_clock::Timestamp;
use legate_ids::Action;
use legate_wire::registry as wire;
use wire::{ApprovalState, NamespaceSpec};

use super::kind::Key;

/// The shortest that an approval holds.
pub(crate) const SHORTEST: Duration = Duration::from_secs(60);
/// The longest that an approval holds, whatever is declared.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 3_600);
/// The longest where nothing is declared.
const USUAL: Duration = Duration::from_secs(3_600);
/// How long a request waits: at least, at most, and where nothing is said.
pub(crate) const PATIENCE: std::ops::RangeInclusive<Duration> = Duration::from_secs(30)..=LONGEST;
/// How long a request waits where nothing is said.
pub(crate) const USUAL_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Requests of one agent that are pending.
pub(crate) const MOST_PENDING: usize = 8;
/// Requests of one agent that are pending or approved.
pub(crate) const MOST_OPEN: usize = 32;
/// Requests in a minute, of an agent and all agents of its lineage: each leaves a row.
pub(crate) const MOST_A_MINUTE: u64 = 32;
/// The longest message that an agent shows an approver, in bytes.
pub(crate) const LONGEST_MESSAGE: usize = 200;

/// The name of the annotation on a `forbid` that holds back what it forbids until it is approved.
pub(crate) const ANNOTATION: &str = "approval";
/// The longest text of the annotation, in bytes.
pub(crate) const LONGEST_TEXT: usize = 200;
/// How many people have to agree, beside it.
const APPROVERS: &str = "approvers";
/// Whether what is approved counts once.
const SINGLE_USE: &str = "single_use";
/// Who may not agree beside those who never may.
const SEPARATE: &str = "separate";
/// The only ones that can be named there.
const OWNERS: &str = "owners";

/// The longest that an approval in the namespace holds.
pub(crate) fn ceiling(namespace: &NamespaceSpec) -> Duration {
    let declared = namespace.max_approval_duration.and_then(|most| Duration::try_from(most).ok());
    declared.unwrap_or(USUAL).clamp(SHORTEST, LONGEST)
}

/// Where the approvals of an agent are found that are pending or approved.
pub(crate) fn of_agent(namespace: &str, id: &str) -> Key {
    // No name and no id has a colon.
    Key::new(wire::Kind::Agent, namespace, &format!("approval-of:{id}"))
}

/// The name of an approval, by its id.
pub(crate) fn name_of(id: &str) -> String {
    id.replace('_', "-")
}

/// The id of an approval, by its name.
pub(crate) fn id_of(name: &str) -> String {
    name.replace('-', "_")
}

/// Whether it is in force: pending, or approved and not ended.
pub(crate) fn is_open(state: ApprovalState) -> bool {
    matches!(state, ApprovalState::Pending | ApprovalState::Approved)
}

/// When the sweep has to end it.
pub(crate) fn ends(approval: &wire::Approval) -> Option<prost_types::Timestamp> {
    match state(approval) {
        ApprovalState::Pending => approval.spec.as_ref().and_then(|spec| spec.expire_time),
        ApprovalState::Approved => approval.status.as_ref().and_then(|status| status.not_after),
        _ => None,
    }
}

/// Where it stands.
pub(crate) fn state(approval: &wire::Approval) -> ApprovalState {
    approval.status.as_ref().map_or(ApprovalState::Unspecified, wire::ApprovalStatus::state)
}

/// Whether its time is over, as it is now: the clock does not wait for the sweep.
pub(crate) fn is_over(approval: &wire::Approval, now: Timestamp) -> bool {
    ends(approval).and_then(|at| Timestamp::try_from(at).ok()).is_none_or(|at| at <= now)
}

/// Its state as people say it.
pub(crate) fn word(state: ApprovalState) -> &'static str {
    state.as_str_name().trim_start_matches("APPROVAL_STATE_")
}

/// What a policy says of approval by its annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms<'p> {
    /// What is to be approved.
    pub(crate) text: &'p str,
    /// How many people have to agree.
    pub(crate) approvers: u32,
    /// Whether it counts once.
    pub(crate) single_use: bool,
    /// Whether no owner of the agent may agree.
    pub(crate) bars_owners: bool,
}

/// What a policy says of approval; where it says nothing, nothing.
///
/// # Errors
/// What is wrong with an annotation: on a permit it would be read as a condition, and it is none.
pub(crate) fn terms(policy: &cedar_policy::Policy) -> Result<Option<Terms<'_>>, String> {
    let Some(text) = text_of(policy)? else {
        return match [APPROVERS, SINGLE_USE, SEPARATE].iter().find(|name| policy.annotation(name).is_some()) {
            Some(name) => Err(format!("@{name} without @approval, where it would ask for nothing")),
            None => Ok(None),
        };
    };
    let approvers = match policy.annotation(APPROVERS) {
        None | Some("1") => 1,
        Some("2") => 2,
        Some("3") => 3,
        Some(_) => return Err("an @approvers that is none of \"1\", \"2\" and \"3\"".into()),
    };
    let single_use = match policy.annotation(SINGLE_USE) {
        None => false,
        Some("") => true,
        Some(_) => return Err("a @single_use with a text; write @single_use alone".into()),
    };
    let bars_owners = match policy.annotation(SEPARATE) {
        None => false,
        Some(OWNERS) => true,
        Some(_) => return Err("a @separate of others than owners; write @separate(\"owners\")".into()),
    };
    Ok(Some(Terms { text, approvers, single_use, bars_owners }))
}

fn text_of(policy: &cedar_policy::Policy) -> Result<Option<&str>, String> {
    let Some(text) = policy.annotation(ANNOTATION) else { return Ok(None) };
    if policy.effect() == Effect::Permit {
        return Err("@approval on a permit, where it would hold nothing back; write it on a forbid of the same".into());
    }
    if text.trim().is_empty() {
        return Err(
            "@approval without a text; say what is to be approved, such as @approval(\"large payments\")".into()
        );
    }
    match super::text::fault_in(text, LONGEST_TEXT, super::text::Lines::One) {
        Some(why) => Err(format!("an @approval whose text {why}")),
        None => Ok(Some(text)),
    }
}

/// Whether a policy in force holds the action back until it is approved, and what it says; by its scope alone: what its
/// conditions make of one question is seen when that is asked. The action is in `groups`.
fn holds(policy: &wire::Policy, action: &Action, groups: &[&str]) -> wire::HeldPolicy {
    let mut held = wire::HeldPolicy::default();
    let Some(spec) = &policy.spec else { return held };
    // What cannot be read holds its whole namespace, and no approval lifts it.
    let Ok(set) = spec.cedar.parse::<PolicySet>() else { return held };
    let mut rules: Vec<_> = set.policies().collect();
    rules.sort_by_key(|rule| rule.id().to_string());
    let speaks_of = |rule: &cedar_policy::Policy| {
        let is = |uid: &cedar_policy::EntityUid| uid.id().unescaped() == action.as_str();
        match rule.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(uid) => is(&uid),
            ActionConstraint::In(uids) => uids.iter().any(|uid| is(uid) || groups.contains(&uid.id().unescaped())),
        }
    };
    for terms in rules.into_iter().filter(|rule| speaks_of(rule)).filter_map(|rule| terms(rule).ok().flatten()) {
        let more = wire::HeldPolicy {
            texts: vec![terms.text.to_owned()],
            approvers: terms.approvers,
            single_use: terms.single_use,
            bars_owners: terms.bars_owners,
            ..wire::HeldPolicy::default()
        };
        join(&mut held, more);
    }
    held
}

/// What either of them asks for, of one and the same policy.
fn join(held: &mut wire::HeldPolicy, more: wire::HeldPolicy) {
    for text in more.texts {
        if !held.texts.contains(&text) {
            held.texts.push(text);
        }
    }
    held.approvers = held.approvers.max(more.approvers);
    held.single_use |= more.single_use;
    held.bars_owners |= more.bars_owners;
}

/// How many people have to agree.
pub(crate) fn approvers(spec: &wire::ApprovalSpec) -> usize {
    usize::try_from(spec.approvers.max(1)).unwrap_or(usize::MAX)
}

/// The policies in force that hold these actions back, where `namespace` declares which groups actions are in.
///
/// # Errors
/// The first action that nothing holds back.
pub(crate) fn held<'a>(
    namespace: &NamespaceSpec,
    policies: &[wire::Policy],
    actions: &'a [Action],
) -> Result<Vec<wire::HeldPolicy>, &'a Action> {
    // A schema that cannot be read lets nothing through, whatever is approved.
    let declared = Declared::parse(&namespace.policy_schema).ok();
    let in_force =
        policies.iter().filter(|one| one.spec.as_ref().is_some_and(|s| s.mode() == wire::PolicyMode::Enforce));
    let in_force: Vec<_> = in_force.collect();
    let mut found: Vec<wire::HeldPolicy> = Vec::new();
    for action in actions {
        let mut is_held = false;
        let groups: Vec<&str> = declared.iter().flat_map(|declared| declared.groups_of(action.as_str())).collect();
        for policy in &in_force {
            let holds = holds(policy, action, &groups);
            let Some(metadata) = policy.metadata.as_ref().filter(|_| !holds.texts.is_empty()) else { continue };
            is_held = true;
            let index = found.iter().position(|known| known.id == metadata.id);
            let index = index.unwrap_or_else(|| {
                let (name, id, version) = (metadata.name.clone(), metadata.id.clone(), metadata.version);
                found.push(wire::HeldPolicy { name, id, version, ..wire::HeldPolicy::default() });
                found.len() - 1
            });
            join(&mut found[index], holds);
        }
        if !is_held {
            return Err(action);
        }
    }
    Ok(found)
}

/// The first of the policies that an approval names that is not in force as it was then.
pub(crate) fn outdated<'a>(spec: &'a wire::ApprovalSpec, policies: &[wire::Policy]) -> Option<&'a wire::HeldPolicy> {
    let is_same = |held: &wire::HeldPolicy| {
        let of = |policy: &wire::Policy| {
            policy.metadata.as_ref().is_some_and(|m| m.id == held.id && m.version == held.version)
        };
        policies.iter().any(of)
    };
    spec.policies.iter().find(|held| !is_same(held))
}

/// The window of an approval that is given now: what was asked, what approvers say where that is less, and never
/// more than the namespace allows now.
pub(crate) fn window(
    spec: &wire::ApprovalSpec,
    narrowed: Option<Duration>,
    namespace: &NamespaceSpec,
    now: Timestamp,
) -> (Timestamp, Timestamp) {
    let asked = spec.duration.and_then(|asked| Duration::try_from(asked).ok()).unwrap_or(SHORTEST);
    let span = asked.min(narrowed.unwrap_or(asked)).min(ceiling(namespace));
    (now, now.plus(span))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::samples;
    use super::*;

    fn policy(name: &str, mode: wire::PolicyMode, cedar: &str) -> wire::Policy {
        let (id, name) = (format!("obj_{name}"), name.to_owned());
        let metadata = Some(wire::Metadata { name, id, version: 2, ..wire::Metadata::default() });
        let spec = wire::PolicySpec { cedar: cedar.into(), mode: mode.into(), ..wire::PolicySpec::default() };
        wire::Policy { metadata, spec: Some(spec) }
    }

    fn rule(cedar: &str) -> cedar_policy::Policy {
        cedar.parse().unwrap()
    }

    #[test]
    fn only_a_forbid_with_a_text_asks_for_an_approval() {
        let told = |annotations: &str| {
            let rule = rule(&format!("{annotations} forbid(principal, action, resource);"));
            let terms = terms(&rule).unwrap();
            terms.map(|t| format!("{} {} {} {}", t.text, t.approvers, t.single_use, t.bars_owners)).unwrap_or_default()
        };
        for (annotations, terms) in [
            ("", ""),
            ("@approval(\"money\")", "money 1 false false"),
            ("@approval(\"money\") @approvers(\"1\")", "money 1 false false"),
            ("@approvers(\"2\") @approval(\"money\") @single_use", "money 2 true false"),
            ("@approval(\"money\") @approvers(\"3\") @separate(\"owners\")", "money 3 false true"),
        ] {
            assert_eq!(told(annotations), terms, "{annotations}");
        }
        for (bad, why) in [
            ("@approvers(\"2\") forbid(principal, action, resource);", "@approvers without @approval"),
            ("@single_use forbid(principal, action, resource);", "@single_use without @approval"),
            ("@separate(\"owners\") permit(principal, action, resource);", "@separate without @approval"),
            ("@approval(\"a\") @approvers(\"0\") forbid(principal, action, resource);", "an @approvers that is none"),
            ("@approval(\"a\") @approvers(\"4\") forbid(principal, action, resource);", "an @approvers that is none"),
            ("@approval(\"a\") @approvers(\"02\") forbid(principal, action, resource);", "an @approvers that is none"),
            ("@approval(\"a\") @approvers forbid(principal, action, resource);", "an @approvers that is none"),
            ("@approval(\"a\") @single_use(\"no\") forbid(principal, action, resource);", "a @single_use with a text"),
            ("@approval(\"a\") @separate(\"sponsors\") forbid(principal, action, resource);", "a @separate of others"),
            ("@approval(\"a\") @separate forbid(principal, action, resource);", "a @separate of others"),
            ("@approval(\"money\") permit(principal, action, resource);", "on a permit"),
            ("@approval(\"\") forbid(principal, action, resource);", "without a text"),
            ("@approval forbid(principal, action, resource);", "without a text"),
            ("@approval(\"a\\nb\") forbid(principal, action, resource);", "an @approval whose text"),
            ("@approval(\"\\u{1b}[2J\") forbid(principal, action, resource);", "an @approval whose text"),
        ] {
            let told = terms(&rule(bad)).unwrap_err();
            assert!(told.contains(why), "{bad}: {told}");
        }
        let long = format!("@approval(\"{}\") forbid(principal, action, resource);", "x".repeat(201));
        assert!(terms(&rule(&long)).is_err());
    }

    #[test]
    fn of_what_several_rules_ask_for_everything_counts() {
        let all = [policy(
            "pay",
            wire::PolicyMode::Enforce,
            "@approval(\"a\") @approvers(\"2\") forbid(principal, action == Action::\"invoice:pay\", resource);\n\
             @approval(\"b\") @single_use forbid(principal, action, resource);\n\
             @approval(\"c\") @separate(\"owners\") @approvers(\"3\") forbid(principal, action == Action::\"invoice:void\", resource);",
        )];
        let of = |words: &[&str]| {
            let actions: Vec<_> = words.iter().map(|word| Action::parse(word).unwrap()).collect();
            let held = held(&NamespaceSpec::default(), &all, &actions).unwrap();
            (held[0].approvers, held[0].single_use, held[0].bars_owners)
        };
        assert_eq!(of(&["invoice:read"]), (1, true, false));
        assert_eq!(of(&["invoice:pay"]), (2, true, false));
        assert_eq!(of(&["invoice:pay", "invoice:void"]), (3, true, true));
    }

    #[test]
    fn what_holds_a_group_of_actions_back_holds_each_of_them() {
        let namespace = NamespaceSpec {
            policy_schema: "entity Invoice; action \"writes\"; action \"money\" in [\"writes\"];\
                            action \"invoice:pay\" in [\"money\"] appliesTo { principal: [Agent], resource: [Invoice] };\
                            action \"invoice:read\" \
                            appliesTo { principal: [Agent], resource: [Invoice] };"
                .into(),
            ..NamespaceSpec::default()
        };
        let rule = "@approval(\"w\") forbid(principal, action in Action::\"writes\", resource);";
        let all = [policy("writes", wire::PolicyMode::Enforce, rule)];
        let held = |namespace: &NamespaceSpec, action: &str| {
            let found = held(namespace, &all, &[Action::parse(action).unwrap()]).map_err(ToString::to_string);
            found.map(|found| found[0].name.clone())
        };
        assert_eq!(held(&namespace, "invoice:pay").unwrap(), "writes");
        assert_eq!(held(&namespace, "invoice:read").unwrap_err(), "invoice:read");
        assert_eq!(held(&NamespaceSpec::default(), "invoice:pay").unwrap_err(), "invoice:pay");
    }

    #[test]
    fn what_holds_an_action_back_is_found_by_scope() {
        use wire::PolicyMode::{Enforce, LogOnly};
        let all = [
            policy(
                "pay",
                Enforce,
                "@approval(\"money\") forbid(principal, action == Action::\"invoice:pay\", resource);",
            ),
            policy(
                "two",
                Enforce,
                "@approval(\"a\") forbid(principal, action in [Action::\"invoice:pay\", Action::\"invoice:void\"], resource) \
                 when { resource.amount > 5 };\n@approval(\"b\") forbid(principal, action == Action::\"invoice:void\", resource);",
            ),
            policy("trial", LogOnly, "@approval(\"t\") forbid(principal, action, resource);"),
            policy("plain", Enforce, "forbid(principal, action, resource) when { resource.sealed };"),
        ];
        let actions = |words: &[&str]| words.iter().map(|word| Action::parse(word).unwrap()).collect::<Vec<_>>();
        let told = |words: &[&str]| {
            let actions = actions(words);
            held(&NamespaceSpec::default(), &all, &actions)
                .map(|found| {
                    found.into_iter().map(|one| format!("{}@{} {}", one.name, one.version, one.texts.join("+")))
                })
                .map(Iterator::collect::<Vec<_>>)
                .map_err(ToString::to_string)
        };
        assert_eq!(told(&["invoice:pay"]).unwrap(), ["pay@2 money", "two@2 a"]);
        assert_eq!(told(&["invoice:void"]).unwrap(), ["two@2 a+b"]);
        assert_eq!(told(&["invoice:pay", "invoice:void"]).unwrap(), ["pay@2 money", "two@2 a+b"]);
        assert_eq!(told(&["invoice:pay", "invoice:read"]).unwrap_err(), "invoice:read");
        let spec = wire::ApprovalSpec {
            policies: held(&NamespaceSpec::default(), &all, &actions(&["invoice:pay"])).unwrap(),
            ..Default::default()
        };
        assert_eq!(outdated(&spec, &all), None);
        assert_eq!(outdated(&spec, &all[1..]).map(|held| held.name.as_str()), Some("pay"));
        let mut changed = all.to_vec();
        changed[1].metadata.as_mut().unwrap().version = 3;
        assert_eq!(outdated(&spec, &changed).map(|held| held.name.as_str()), Some("two"));
    }

    #[test]
    fn a_window_is_never_longer_than_anybody_says() {
        let namespace = |seconds: Option<i64>| NamespaceSpec {
            max_approval_duration: seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            ..NamespaceSpec::default()
        };
        for (declared, most) in
            [(None, 3_600), (Some(60), 60), (Some(7_200), 7_200), (Some(1), 60), (Some(i64::MAX), 86_400)]
        {
            assert_eq!(ceiling(&namespace(declared)), Duration::from_secs(most), "{declared:?}");
        }
        let spec = samples::approval().spec.unwrap();
        let (secs, now) = (Duration::from_secs, Timestamp::from_secs(100));
        for (narrowed, declared, end) in
            [(None, None, 700), (Some(secs(120)), None, 220), (Some(secs(9_000)), None, 700), (None, Some(60), 160)]
        {
            let given = window(&spec, narrowed, &namespace(declared), now);
            assert_eq!(given, (now, Timestamp::from_secs(end)), "{narrowed:?} {declared:?}");
        }
    }

    #[test]
    fn its_time_is_that_of_its_state() {
        let mut approval = samples::approval();
        let at = |approval: &wire::Approval, seconds| is_over(approval, Timestamp::from_secs(seconds));
        assert!(!at(&approval, 1_599) && at(&approval, 1_600));
        approval.status.as_mut().unwrap().state = ApprovalState::Pending.into();
        assert!(!at(&approval, 1_899) && at(&approval, 1_900));
        approval.status.as_mut().unwrap().state = ApprovalState::Denied.into();
        assert!(at(&approval, 0));
    }
}
