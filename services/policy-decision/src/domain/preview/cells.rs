//! Which questions tell what an agent may do: its permissions as far as they are below the ceiling, and what policies name.

use std::collections::BTreeSet;
use std::fmt;

use legate_authority::{Permission, ResourceSelector, TypePattern};
use legate_ids::{Action, ResourceId, ResourceType};
use legate_view::{Agent, Snapshot};
use legate_wire::registry as wire;

use super::weaken::Fixed;
use crate::domain::policies::Compiled;
use crate::domain::question::{Question, Record, Stated, Value};

/// What stands for any other segment, type or id of a pattern.
const OTHER: &str = "any-other";
const OTHER_TYPE: &str = "AnyOther";
/// Questions that one permission is split into; there are more where policies name very many actions or resources.
const SPLIT: usize = 64;
/// Parts of one permission that are looked at below all ceilings.
pub(crate) const LEFT: usize = 1_024;
/// Permissions of one agent, and questions in all, that are looked at.
pub(crate) const MOST: usize = 4_096;
/// Parts of a permission that are told where a ceiling cuts it.
const TOLD: usize = 16;

/// An action pattern on a resource selector, as texts: what is asked about, and what is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cell {
    pub(crate) action: String,
    /// `*` for every type.
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) attributes: std::collections::BTreeMap<String, String>,
}

impl Cell {
    pub(crate) fn of(permission: &Permission) -> Self {
        let selector = permission.resource();
        Self {
            action: permission.action().to_string(),
            kind: kind_of(selector),
            id: selector.id().to_string(),
            attributes: selector.attributes().clone(),
        }
    }

    /// What is in both; `None`: nothing.
    pub(crate) fn meet(&self, selector: &ResourceSelector) -> Option<Self> {
        let mut attributes = self.attributes.clone();
        for (name, value) in selector.attributes() {
            if attributes.insert(name.clone(), value.clone()).is_some_and(|own| own != *value) {
                return None;
            }
        }
        Some(Self {
            action: self.action.clone(),
            kind: narrower(&self.kind, &kind_of(selector))?,
            id: narrower(&self.id, selector.id().as_ref())?,
            attributes,
        })
    }

    /// What is below an entry of a ceiling.
    pub(crate) fn below(&self, entry: &Permission) -> Option<Self> {
        let action = narrower(&self.action, entry.action().as_ref())?;
        Some(Self { action, ..self.meet(entry.resource())? })
    }

    /// What is in both cells; `None`: nothing.
    pub(super) fn both(&self, other: &Self) -> Option<Self> {
        let mut attributes = self.attributes.clone();
        for (name, value) in &other.attributes {
            if attributes.insert(name.clone(), value.clone()).is_some_and(|own| own != *value) {
                return None;
            }
        }
        Some(Self {
            action: narrower(&self.action, &other.action)?,
            kind: narrower(&self.kind, &other.kind)?,
            id: narrower(&self.id, &other.id)?,
            attributes,
        })
    }

    /// Whether everything of `other` is in it.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        narrower(&self.action, &other.action).as_ref() == Some(&other.action)
            && narrower(&self.kind, &other.kind).as_ref() == Some(&other.kind)
            && narrower(&self.id, &other.id).as_ref() == Some(&other.id)
            && self.attributes.iter().all(|(name, value)| other.attributes.get(name) == Some(value))
    }

    /// Whether it may speak of this action on this resource, whatever attributes it had; `*` is any of the type.
    pub(crate) fn is_about(&self, action: &str, kind: &str, id: &str) -> bool {
        let speaks_of = |pattern: &str, of: &str| narrower(pattern, of).as_deref() == Some(of);
        speaks_of(&self.action, action) && speaks_of(&self.kind, kind) && (id == "*" || speaks_of(&self.id, id))
    }

    /// Whether it speaks of some resources of a type and not of others, by their ids.
    pub(crate) fn is_of_some(&self) -> bool {
        self.id != "*"
    }

    /// Whether it stands for more than one question's action and resource.
    pub(crate) fn is_pattern(&self) -> bool {
        self.action.ends_with('*') || self.kind == "*" || self.id.ends_with('*')
    }

    /// What it fixes of a question.
    pub(crate) fn fixed(&self) -> Fixed {
        Fixed {
            action: !self.action.ends_with('*'),
            kind: self.kind != "*",
            id: !self.id.ends_with('*'),
            attributes: self.attributes.keys().cloned().collect(),
        }
    }

    /// The question that stands for it; `None` where its grammar leaves room for none.
    pub(crate) fn question(&self) -> Option<Question> {
        let filled = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => format!("{prefix}{OTHER}"),
            None => pattern.to_owned(),
        };
        let kind = if self.kind == "*" { OTHER_TYPE } else { &self.kind };
        let attributes: Record =
            self.attributes.iter().map(|(name, value)| (name.clone(), Value::Text(value.clone()))).collect();
        Some(Question {
            action: Action::parse(&filled(&self.action)).ok()?,
            resource_type: ResourceType::parse(kind).ok()?,
            resource_id: ResourceId::parse(&filled(&self.id)).ok()?,
            attributes: Stated(attributes),
            context: Record::new(),
        })
    }

    /// As it is told.
    pub(crate) fn selector(&self) -> wire::ResourceSelector {
        wire::ResourceSelector { r#type: self.kind.clone(), id: self.id.clone(), attributes: self.attributes.clone() }
    }
}

/// `ACTION on TYPE:ID`, and that attributes narrow it.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attributes = if self.attributes.is_empty() { "" } else { ", by attributes" };
        write!(f, "{} on {}:{}{attributes}", self.action, self.kind, self.id)
    }
}

/// A selector as it is declared; `None`: it cannot be read.
pub(crate) fn selector(from: &wire::ResourceSelector) -> Option<ResourceSelector> {
    let id = if from.id.is_empty() { "*" } else { &from.id };
    ResourceSelector::parse(&from.r#type, id, from.attributes.iter()).ok()
}

/// A permission as it is declared; `None`: it cannot be read.
pub(crate) fn permission(from: &wire::Permission) -> Option<Permission> {
    Permission::parse(&from.action, selector(from.resource.as_ref()?)?).ok()
}

fn kind_of(selector: &ResourceSelector) -> String {
    match selector.resource_type() {
        TypePattern::Any => "*".to_owned(),
        TypePattern::Exactly(kind) => kind.to_string(),
    }
}

/// What two patterns have in common: the narrower one, or nothing. A pattern is a text, or a prefix before `*`.
fn narrower(a: &str, b: &str) -> Option<String> {
    let covers = |wide: &str, other: &str| match wide.strip_suffix('*') {
        // `a/*` covers `a/b` and `a/b/*`, not `a/` itself.
        Some(prefix) => other.starts_with(prefix) && (other.len() > prefix.len()),
        None => wide == other,
    };
    if a == b || covers(b, a) {
        return Some(a.to_owned());
    }
    covers(a, b).then(|| b.to_owned())
}

/// What policies and enforcement points name one by one, by which a pattern is split.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named {
    actions: BTreeSet<String>,
    kinds: BTreeSet<String>,
    resources: BTreeSet<(String, String)>,
}

impl Named {
    /// Takes in what a namespace's policies name in their scopes.
    pub(crate) fn add(&mut self, compiled: &Compiled) {
        use cedar_policy::{ActionConstraint, ResourceConstraint};
        for (_, rule) in compiled.written() {
            match rule.action_constraint() {
                ActionConstraint::Any => {}
                ActionConstraint::Eq(uid) => self.actions.extend([uid.id().unescaped().to_owned()]),
                ActionConstraint::In(uids) => {
                    for name in uids.iter().map(|uid| uid.id().unescaped()) {
                        let within = compiled.groups().of_actions.within(name).iter();
                        self.actions.extend(std::iter::once(name.to_owned()).chain(within.map(ToString::to_string)));
                    }
                }
            }
            match rule.resource_constraint() {
                ResourceConstraint::Any => {}
                ResourceConstraint::Is(name) => self.kinds.extend([name.to_string()]),
                ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
                    let kind = uid.type_name().to_string();
                    self.kinds.insert(kind.clone());
                    self.resources.insert((kind, uid.id().unescaped().to_owned()));
                }
            }
        }
    }

    /// Takes in the resource types that a namespace's enforcement points ask about.
    pub(crate) fn add_points(&mut self, snapshot: &Snapshot, namespace: &str) {
        let points = snapshot.enforcement_points().filter(|point| point.label.namespace.as_str() == namespace);
        self.kinds.extend(points.flat_map(|point| point.resource_types.iter().map(ToString::to_string)));
    }

    /// Whether what would stand for the pattern is named itself, so that it does not stand for the rest.
    pub(crate) fn meets(&self, cell: &Cell) -> bool {
        let Some(question) = cell.question() else { return true };
        let (kind, id) = (question.resource_type.to_string(), question.resource_id.to_string());
        (cell.action.ends_with('*') && self.actions.contains(question.action.as_str()))
            || (cell.kind == "*" && self.kinds.contains(&kind))
            || (cell.id.ends_with('*') && self.resources.contains(&(kind, id)))
    }

    /// The cell, and what is named within it; whether that is all.
    fn split(&self, cell: &Cell, into: &mut BTreeSet<Cell>) -> bool {
        let start = into.len();
        let wild = |pattern: &str, all: &BTreeSet<String>| -> Vec<String> {
            let within =
                all.iter().filter(|one| pattern.ends_with('*') && narrower(pattern, one).as_ref() == Some(one));
            std::iter::once(pattern.to_owned()).chain(within.cloned()).collect()
        };
        for action in wild(&cell.action, &self.actions) {
            for kind in wild(&cell.kind, &self.kinds) {
                let ids: BTreeSet<String> =
                    self.resources.iter().filter(|(of, _)| *of == kind).map(|(_, id)| id.clone()).collect();
                for id in wild(&cell.id, &ids) {
                    if into.len() - start >= SPLIT {
                        return false;
                    }
                    into.insert(Cell { action: action.clone(), kind: kind.clone(), id, ..cell.clone() });
                }
            }
        }
        true
    }
}

/// A grant of which the ceiling leaves nothing, or only a part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cut {
    pub(crate) granted: Cell,
    /// What is below the ceiling, the first of it.
    pub(crate) left: BTreeSet<Cell>,
    /// How many parts more.
    pub(crate) more: usize,
}

/// What an agent was given, whatever the time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    /// Below the ceiling.
    pub(crate) cells: BTreeSet<Cell>,
    /// Not wholly below it.
    pub(crate) cuts: BTreeSet<Cut>,
    /// Cells that were not split as finely as policies name things.
    pub(crate) coarse: u32,
}

/// Everything that the agent is given, as far as it is below every ceiling; what `is_over` leaves no time for is counted as
/// not looked at.
pub(crate) fn given(snapshot: &Snapshot, agent: &Agent, named: &Named, is_over: &dyn Fn() -> bool) -> Given {
    let mut given = Given::default();
    let Some(ceilings) = snapshot.ceilings_of(agent) else { return given };
    let mut seen = BTreeSet::new();
    for grant in snapshot.grants_of(agent) {
        if seen.len() >= MOST || is_over() {
            given.coarse += 1;
            continue;
        }
        for permission in grant.permissions {
            let whole = Cell::of(permission);
            let narrowed: Vec<Cell> = match grant.narrowing {
                None => vec![whole],
                Some(narrowing) => narrowing.iter().filter_map(|selector| whole.meet(selector)).collect(),
            };
            seen.extend(narrowed);
        }
    }
    for cell in seen {
        if given.cells.len() >= MOST || is_over() {
            given.coarse += 1;
            continue;
        }
        let mut left = BTreeSet::from([cell.clone()]);
        for (_, ceiling) in &ceilings {
            let mut below = BTreeSet::new();
            // Entries of ceilings that all cross one another multiply.
            let parts = left.iter().flat_map(|one| ceiling.entries().iter().filter_map(|entry| one.below(entry)));
            for part in parts {
                if below.len() >= LEFT {
                    given.coarse += 1;
                    break;
                }
                below.insert(part);
            }
            left = below;
        }
        for one in &left {
            let is_whole = given.cells.len() < MOST && named.split(one, &mut given.cells);
            given.coarse += u32::from(!is_whole);
        }
        if !left.contains(&cell) {
            let more = left.len().saturating_sub(TOLD);
            given.cuts.insert(Cut { granted: cell, left: left.into_iter().take(TOLD).collect(), more });
        }
    }
    given
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn cell(action: &str, kind: &str, id: &str) -> Cell {
        Cell { action: action.into(), kind: kind.into(), id: id.into(), attributes: Default::default() }
    }

    fn permission(action: &str, kind: &str, id: &str) -> Permission {
        let none: [(String, String); 0] = [];
        Permission::parse(action, ResourceSelector::parse(kind, id, none).unwrap()).unwrap()
    }

    #[test]
    fn two_patterns_have_the_narrower_one_in_common() {
        let meet = |a: &str, b: &str| (narrower(a, b), narrower(b, a));
        for (a, b, both) in [
            ("*", "invoice:read", Some("invoice:read")),
            ("invoice:*", "invoice:read", Some("invoice:read")),
            ("invoice:*", "invoice:line:*", Some("invoice:line:*")),
            ("invoice:*", "invoice", None),
            ("invoice:*", "invoices:read", None),
            ("a/*", "a/", None),
            ("a/*", "b/*", None),
            ("x", "x", Some("x")),
        ] {
            let both = both.map(str::to_owned);
            assert_eq!(meet(a, b), (both.clone(), both), "{a} {b}");
        }
    }

    proptest! {
        /// The question that stands for what a grant and a ceiling have in common is covered by both.
        #[test]
        fn what_stands_for_a_cell_is_of_the_grant_and_below_the_ceiling(
            actions in prop::array::uniform2(prop::sample::select(vec!["*", "a:*", "a:b", "a:b:*", "c"])),
            kinds in prop::array::uniform2(prop::sample::select(vec!["*", "T", "U"])),
            ids in prop::array::uniform2(prop::sample::select(vec!["*", "x/*", "x/y", "x/y/*", "z"])),
        ) {
            let [grant, ceiling] = [0, 1].map(|n| permission(actions[n], kinds[n], ids[n]));
            match Cell::of(&grant).below(&ceiling) {
                Some(both) => {
                    prop_assert!(Cell::of(&grant).covers(&both) && Cell::of(&ceiling).covers(&both));
                    let question = both.question().unwrap();
                    prop_assert!(grant.covers(&question.request()) && ceiling.covers(&question.request()));
                }
                None => {
                    let question = Cell::of(&grant).question().unwrap();
                    prop_assert!(!ceiling.covers(&question.request()));
                }
            }
        }
    }

    #[test]
    fn a_pattern_is_split_by_what_policies_name() {
        let named = Named {
            actions: ["a:b".into(), "c".into()].into(),
            kinds: ["T".into()].into(),
            resources: [("T".into(), "x/1".into()), ("U".into(), "x/2".into())].into(),
        };
        let mut all = BTreeSet::new();
        assert!(named.split(&cell("a:*", "*", "x/*"), &mut all));
        let expected = [
            cell("a:*", "*", "x/*"),
            cell("a:*", "T", "x/*"),
            cell("a:*", "T", "x/1"),
            cell("a:b", "*", "x/*"),
            cell("a:b", "T", "x/*"),
            cell("a:b", "T", "x/1"),
        ];
        assert_eq!(all, expected.into());
        let many = Named { actions: (0..100).map(|n| format!("a:b{n}")).collect(), ..Named::default() };
        assert!(!many.split(&cell("a:*", "T", "*"), &mut BTreeSet::new()), "it says so when that is not all");
    }
}
