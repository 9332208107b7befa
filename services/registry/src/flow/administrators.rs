//! At the start: where nobody can say who may do what, those whom the configuration names can from now on.

use std::sync::Arc;

use legate_boot::StartError;
use legate_ids::Name;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Kind, Metadata, OperatorBinding, OperatorBindingSpec, OperatorRole};

use super::mandate::{MOST, read};
use super::{Call, Desk};
use crate::convert;
use crate::domain::check;
use crate::domain::diff;
use crate::domain::kind::{Key, key_of};
use crate::error::LAST_ADMINISTRATOR;
use crate::store::{object, refuse};

/// The binding that the registry writes by itself.
const BOOTSTRAP: &str = "bootstrap";
/// Why, for the record.
const WHY: &str = "nobody was ADMIN everywhere without an end: the administrators of the configuration are";

/// Why, for the record.
const WHY_STATED: &str = "the registry has started: these are the operator bindings in force";

/// What is wrong with the names in the configuration.
///
/// # Errors
/// When one of them is no operator's name, or there are too many.
pub(crate) fn check(names: &[String]) -> Result<(), StartError> {
    let wrong = |why: String| StartError::new("administrators", why);
    if names.len() > 64 {
        return Err(wrong("give 64 at most".into()));
    }
    names.iter().try_for_each(|name| Name::parse(name).map(|_| ()).map_err(|e| wrong(format!("{name:?}: {e}"))))
}

/// Makes the given operators administrators, where there are none; whether it did.
///
/// # Errors
/// `LAST_ADMINISTRATOR` where there are none and none are given.
pub(crate) async fn appoint(desk: &Arc<Desk>, names: &[String]) -> Result<bool, Fault> {
    let (call, names) = (Call::own(desk, WHY), Arc::new(names.to_vec()));
    let before = desk.write("appoint_administrators", Standard::Stopping, call, move |writing| {
        let names = Arc::clone(&names);
        Box::pin(async move {
            if read(writing.tx).await?.0.have_an_administrator(writing.now) {
                return Ok(0);
            }
            if names.is_empty() {
                let text = "nobody is ADMIN everywhere, and the configuration names no administrators";
                return Err(refuse(Fault::refused(&LAST_ADMINISTRATOR, text)));
            }
            let mut operators = names.to_vec();
            operators.sort();
            operators.dedup();
            let metadata = Some(Metadata { name: BOOTSTRAP.into(), ..Metadata::default() });
            let role = OperatorRole::Admin.into();
            let spec = Some(OperatorBindingSpec { operators, role, ..OperatorBindingSpec::default() });
            let wanted = Object::OperatorBinding(OperatorBinding { metadata, spec });
            let mut wanted = Declaration { object: Some(wanted) };
            check::strip_output_only(&mut wanted);
            // Somebody may have given it another role, or an end.
            let current = object::by_key(writing.tx, &Key::new(Kind::OperatorBinding, "", BOOTSTRAP)).await?;
            let current = current.map(|row| row.declaration()).transpose()?;
            let fields = diff::diff(current.as_ref(), &wanted);
            let verb = if current.is_some() { "updated" } else { "created" };
            writing.put(wanted, current.as_ref(), verb, &fields).await?;
            Ok(writing.revision())
        })
    });
    Ok(before.await? > 0)
}

/// Puts every operator binding in force on record, so that the audit log tells who may read it, whatever it held before: a
/// database that was restored from a copy knows others than the log does.
///
/// # Errors
/// When the bindings cannot be read or the outbox is full.
pub(crate) async fn state(desk: &Arc<Desk>) -> Result<(), Fault> {
    let call = Call::own(desk, WHY_STATED);
    let stated = desk.write("state_operators", Standard::Stopping, call, move |writing| {
        Box::pin(async move {
            let rows = object::in_force(writing.tx, Kind::OperatorBinding, MOST + 1).await?;
            let (by, now) = (writing.by, writing.now);
            writing.record(convert::operators_stated(by, rows.len(), now));
            for row in &rows {
                let binding = row.declaration()?;
                if let Some(key) = key_of(&binding) {
                    writing.record(convert::object_event(by, &key, &binding, "stated", &[], now));
                }
            }
            Ok(writing.revision())
        })
    });
    stated.await.map(drop)
}
