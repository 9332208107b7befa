//! Who may administer what: the operator bindings, by operator.

use std::collections::BTreeMap;
use std::sync::Arc;

use legate_authority::{Appointment, Rights};
use legate_clock::Timestamp;
use legate_ids::{Name, Principal};
use legate_mtls::Peer;
use legate_rpc::{Fault, Mandate};

use crate::snapshot::Snapshot;

/// A role and those who have it.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) operators: Vec<Name>,
    pub(crate) appointment: Appointment,
}

/// The operator bindings in force. A clone is cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operators(Arc<BTreeMap<Place, Binding>>, Arc<BTreeMap<Name, Vec<Place>>>);

/// Namespace and name of a binding.
type Place = (String, String);

impl Operators {
    /// Puts a binding in the place of what there was of it; `None`: it is taken out.
    pub(crate) fn set(&mut self, namespace: &str, name: &str, binding: Option<Binding>) {
        let place = (namespace.to_owned(), name.to_owned());
        let (bindings, index) = (Arc::make_mut(&mut self.0), Arc::make_mut(&mut self.1));
        for operator in bindings.remove(&place).iter().flat_map(|old| &old.operators) {
            let places = index.entry(operator.clone()).or_default();
            places.retain(|at| *at != place);
            if places.is_empty() {
                index.remove(operator);
            }
        }
        let Some(binding) = binding else { return };
        for operator in &binding.operators {
            index.entry(operator.clone()).or_default().push(place.clone());
        }
        bindings.insert(place, binding);
    }

    fn rights(&self, operator: &Name, now: Timestamp) -> Rights {
        let places = self.1.get(operator).into_iter().flatten();
        Rights::at(places.filter_map(|place| self.0.get(place)).map(|binding| &binding.appointment), now.micros())
    }
}

impl Snapshot {
    /// What an operator may do by what is held here, at `now`.
    #[must_use]
    pub fn operator_rights(&self, operator: &Name, now: Timestamp) -> Rights {
        self.operators().rights(operator, now)
    }

    /// What the caller may do by what is held here, at `now`: an operator what his roles give, also in the emergency that
    /// he states; a service what the access table gives it.
    ///
    /// # Errors
    /// `BREAK_GLASS_REFUSED` when an operator states an emergency and may not.
    pub fn mandate(&self, peer: &Peer, emergency: Option<&str>, now: Timestamp) -> Result<Mandate, Fault> {
        match &peer.principal {
            Some(Principal::Operator(name)) => {
                Mandate::of_operator(peer.id_text(), self.operator_rights(name, now), emergency)
            }
            _ => Ok(Mandate::of_service(peer.id_text())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_authority::{OperatorRole, Place, Right};
    use legate_wire::registry as wire;

    fn binding(namespace: &str, name: &str, operators: &[&str], role: wire::OperatorRole) -> wire::Declaration {
        let metadata = wire::Metadata { namespace: namespace.into(), name: name.into(), ..wire::Metadata::default() };
        let spec = wire::OperatorBindingSpec {
            operators: operators.iter().map(|o| (*o).to_owned()).collect(),
            role: role.into(),
            ..wire::OperatorBindingSpec::default()
        };
        let object = wire::OperatorBinding { metadata: Some(metadata), spec: Some(spec) };
        wire::Declaration { object: Some(wire::declaration::Object::OperatorBinding(object)) }
    }

    #[test]
    fn bindings_come_change_and_go() {
        use wire::OperatorRole::{Admin, Editor, Viewer};
        let ada = Name::parse("ada").unwrap();
        let grace = Name::parse("grace").unwrap();
        let now = Timestamp::from_secs(1);
        let mut snapshot = Snapshot::default();
        let may = |s: &Snapshot, who: &Name, right, place| s.operator_rights(who, now).may(right, place);
        snapshot.apply(&binding("", "admins", &["ada"], Admin), false).unwrap();
        snapshot.apply(&binding("payments", "team", &["grace", "ada"], Editor), false).unwrap();
        let before = snapshot.clone();
        assert!(may(&snapshot, &ada, Right::Administer, Place::Everywhere));
        assert!(may(&snapshot, &grace, Right::Write, Place::In("payments")));
        assert!(!may(&snapshot, &grace, Right::Read, Place::In("sales")));
        // Another role, and ada is out of it.
        snapshot.apply(&binding("payments", "team", &["grace"], Viewer), false).unwrap();
        assert!(!may(&snapshot, &grace, Right::Write, Place::In("payments")));
        assert!(may(&snapshot, &grace, Right::Read, Place::In("payments")));
        // One of the same name elsewhere is another one.
        snapshot.apply(&binding("sales", "team", &["grace"], Editor), false).unwrap();
        snapshot.apply(&binding("payments", "team", &["grace"], Viewer), true).unwrap();
        assert!(!may(&snapshot, &grace, Right::Read, Place::In("payments")));
        assert!(may(&snapshot, &grace, Right::Write, Place::In("sales")));
        snapshot.apply(&binding("", "admins", &["ada"], Admin), true).unwrap();
        assert_eq!(snapshot.operator_rights(&ada, now), Rights::default());
        // A change that cannot be read takes away what there was.
        snapshot.apply(&binding("sales", "team", &["grace"], wire::OperatorRole::Unspecified), false).unwrap();
        assert_eq!(snapshot.operator_rights(&grace, now), Rights::default());
        assert!(may(&before, &ada, Right::Administer, Place::Everywhere), "a look does not change");
        assert!(!OperatorRole::BreakGlass.gives(Right::Read));
    }
}
