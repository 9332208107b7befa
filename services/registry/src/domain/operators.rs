//! Operator bindings as what they give, and which right a write of each kind of object takes, and where.

use std::collections::BTreeMap;

use legate_authority::{Appointment, OperatorRole, Place, Right, Rights, Window};
use legate_clock::Timestamp;
use legate_ids::Name;
use legate_wire::registry as wire;
use legate_wire::registry::Kind;

use super::delegation::permission;
use super::kind::Key;

/// The operator bindings in force, by operator.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operators(BTreeMap<Name, Vec<Given>>);

/// A role that an operator was given, and the binding that gives it.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) binding: String,
    pub(crate) appointment: Appointment,
}

impl Operators {
    /// What these bindings give. One that cannot be read gives nothing.
    pub(crate) fn of<'a>(bindings: impl IntoIterator<Item = &'a wire::OperatorBinding>) -> Self {
        let mut by_operator: BTreeMap<Name, Vec<Given>> = BTreeMap::new();
        for binding in bindings {
            let (Some(metadata), Some(spec)) = (&binding.metadata, &binding.spec) else { continue };
            let Some(appointment) = appointment(&metadata.namespace, spec) else {
                tracing::error!(binding = metadata.name, "an operator binding cannot be read; it gives nothing");
                continue;
            };
            for operator in spec.operators.iter().filter_map(|name| Name::parse(name).ok()) {
                let given = Given { binding: metadata.name.clone(), appointment: appointment.clone() };
                by_operator.entry(operator).or_default().push(given);
            }
        }
        Self(by_operator)
    }

    /// What an operator was given, in the order of namespace and name.
    pub(crate) fn of_operator(&self, operator: &Name) -> &[Given] {
        self.0.get(operator).map_or(&[], Vec::as_slice)
    }

    /// What an operator may do at `now`.
    pub(crate) fn rights(&self, operator: &Name, now: Timestamp) -> Rights {
        Rights::at(self.of_operator(operator).iter().map(|given| &given.appointment), now.micros())
    }

    /// Whether somebody is an administrator everywhere, now and without an end.
    pub(crate) fn have_an_administrator(&self, now: Timestamp) -> bool {
        self.0.values().flatten().any(|given| given.appointment.is_unending_admin(now.micros()))
    }
}

fn appointment(namespace: &str, spec: &wire::OperatorBindingSpec) -> Option<Appointment> {
    let role = match spec.role() {
        wire::OperatorRole::Viewer => OperatorRole::Viewer,
        wire::OperatorRole::Editor => OperatorRole::Editor,
        wire::OperatorRole::Approver => OperatorRole::Approver,
        wire::OperatorRole::Admin => OperatorRole::Admin,
        wire::OperatorRole::BreakGlass => OperatorRole::BreakGlass,
        wire::OperatorRole::Unspecified => return None,
    };
    let namespace = match namespace {
        "" => None,
        name => Some(Name::parse(name).ok()?),
    };
    let micros = |at: Option<prost_types::Timestamp>| match at {
        None => Ok(None),
        Some(at) => Timestamp::try_from(at).map(|at| Some(at.micros())),
    };
    let window = Window::new(micros(spec.not_before).ok()?, micros(spec.not_after).ok()?).ok()?;
    Some(Appointment { role, namespace, window })
}

/// The namespace in which a right on an object counts: its own, and for a namespace itself, that one.
pub(crate) fn place(key: &Key) -> Place<'_> {
    match key.kind {
        Kind::Namespace => Place::In(&key.name),
        _ => Place::of(&key.namespace),
    }
}

/// The right that writing an object of this kind takes. Whoever gives roles to agents does not say who looks at that.
pub(crate) fn to_write(kind: Kind) -> Right {
    match kind {
        Kind::Namespace | Kind::OperatorBinding | Kind::ReviewCampaign => Right::Administer,
        _ => Right::Write,
    }
}

/// Whether it is a class that asks for an approver: taken back, it could be declared anew without.
pub(crate) fn asks_for_an_approver(declaration: &wire::Declaration) -> bool {
    matches!(
        &declaration.object,
        Some(wire::declaration::Object::AgentClass(wire::AgentClass { spec: Some(spec), .. })) if spec.requires_approval
    )
}

/// Whether a class that asks for an approver would guard less: new agents no longer wait for one, or those that were
/// approved could be granted what was above their ceiling.
pub(crate) fn loosens(current: &wire::AgentClass, wanted: &wire::AgentClass) -> bool {
    let (Some(old), Some(new)) = (&current.spec, &wanted.spec) else { return false };
    if !old.requires_approval {
        return false;
    }
    let ceiling = |spec: &wire::AgentClassSpec| spec.ceiling.iter().filter_map(permission).collect::<Vec<_>>();
    let is_raised = || {
        let old = ceiling(old);
        ceiling(new).iter().any(|entry| !old.iter().any(|old| old.includes(entry)))
    };
    !new.requires_approval || old.ceiling != new.ceiling && is_raised()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn binding(name: &str, namespace: &str, operators: &[&str], role: wire::OperatorRole) -> wire::OperatorBinding {
        wire::OperatorBinding {
            metadata: Some(wire::Metadata {
                name: name.into(),
                namespace: namespace.into(),
                ..wire::Metadata::default()
            }),
            spec: Some(wire::OperatorBindingSpec {
                operators: operators.iter().map(|name| (*name).to_owned()).collect(),
                role: role.into(),
                ..wire::OperatorBindingSpec::default()
            }),
        }
    }

    #[test]
    fn bindings_add_up_and_what_cannot_be_read_gives_nothing() {
        let mut backwards = binding("backwards", "", &["ada"], wire::OperatorRole::Admin);
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let spec = backwards.spec.as_mut().unwrap();
        (spec.not_before, spec.not_after) = (at(20), at(10));
        let all = [
            binding("a", "payments", &["ada", "grace"], wire::OperatorRole::Editor),
            binding("b", "sales", &["ada"], wire::OperatorRole::Viewer),
            binding("c", "", &["ada"], wire::OperatorRole::Unspecified),
            binding("d", "No Name", &["ada"], wire::OperatorRole::Admin),
            backwards,
        ];
        let operators = Operators::of(&all);
        let now = Timestamp::from_secs(15);
        let ada = operators.rights(&Name::parse("ada").unwrap(), now);
        assert!(ada.may(Right::Write, Place::In("payments")) && ada.may(Right::Read, Place::In("sales")));
        assert!(!ada.may(Right::Write, Place::In("sales")) && !ada.may(Right::Read, Place::Everywhere));
        let names: Vec<_> = operators.of_operator(&Name::parse("ada").unwrap()).iter().map(|g| &g.binding).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(operators.rights(&Name::parse("joan").unwrap(), now), Rights::default());
        assert!(!operators.have_an_administrator(now));
        let admin = Operators::of(&[binding("a", "", &["ada"], wire::OperatorRole::Admin)]);
        assert!(admin.have_an_administrator(now));
        assert!(!Operators::of(&[binding("a", "", &[], wire::OperatorRole::Admin)]).have_an_administrator(now));
    }

    #[test]
    fn a_namespace_is_its_own_place() {
        assert_eq!(place(&Key::new(Kind::Namespace, "", "payments")), Place::In("payments"));
        assert_eq!(place(&Key::new(Kind::Agent, "payments", "bot")), Place::In("payments"));
        assert_eq!(place(&Key::new(Kind::OperatorBinding, "", "admins")), Place::Everywhere);
        assert_eq!(place(&Key::new(Kind::SigningKey, "", "key-1")), Place::Everywhere);
    }
}
