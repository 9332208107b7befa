//! At the start: where nobody can say who may do what, those whom the configuration names can from now on.

use std::sync::Arc;

use legate_boot::StartError;
use legate_ids::Name;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Kind, Metadata, OperatorBinding, OperatorBindingSpec, OperatorRole};

use super::mandate::read;
use super::{Call, Desk};
use crate::domain::check;
use crate::domain::diff;
use crate::domain::kind::Key;
use crate::error::LAST_ADMINISTRATOR;
use crate::store::{object, refuse};

/// The binding that the registry writes by itself.
const BOOTSTRAP: &str = "bootstrap";
/// Why, for the record.
const WHY: &str = "nobody was ADMIN everywhere without an end: the administrators of the configuration are";

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
