//! Changing only the fields that a mask names.

use std::collections::{BTreeSet, HashMap};

use legate_wire::registry as wire;
use prost_reflect::{DynamicMessage, FieldDescriptor, MapKey, MessageDescriptor, ReflectMessage as _, Value};

use super::problem::Problem;
use super::reflect::{declaration, inner, is_identity, is_output_only, is_text_map, object, value};
use super::text::quoted;

/// The most paths that a mask may have.
const MOST: usize = 64;

/// Where the problems of a mask are found.
const MASK: &str = "update_mask.paths";

/// A path that was found in the object: the fields one within the other, then perhaps an entry of a map.
struct Place {
    fields: Vec<FieldDescriptor>,
    key: Option<String>,
}

/// `current` with the fields that the mask names as they are in `wanted`; what `wanted` lacks is cleared.
///
/// A path names a field (`spec.purpose`, `spec.permissions` as a whole, `spec`) or an entry of a map
/// (`metadata.labels[team]`). What only the registry sets stays as it is in `current`.
///
/// # Errors
/// Everything that is wrong with the mask.
pub(crate) fn merge(
    current: &wire::Declaration,
    wanted: &wire::Declaration,
    paths: &[String],
) -> Result<wire::Declaration, Vec<Problem>> {
    let (Some((kind, mut onto)), Some((wanted_kind, from))) = (object(current), object(wanted)) else {
        return Err(vec![Problem::invalid("declaration", "holds no object; give one of the kinds")]);
    };
    if kind != wanted_kind {
        let why = format!("is a {}, and the object in force is a {}", wanted_kind.name(), kind.name());
        return Err(vec![Problem::invalid("declaration", why)]);
    }
    for place in places(&onto.descriptor(), paths)? {
        copy(&mut onto, Some(&from), &place.fields, place.key.as_deref());
    }
    Ok(declaration(&kind, onto))
}

fn places(message: &MessageDescriptor, paths: &[String]) -> Result<Vec<Place>, Vec<Problem>> {
    if paths.is_empty() {
        return Err(vec![Problem::invalid(MASK, "is empty; name the fields to change, such as spec.purpose")]);
    }
    if paths.len() > MOST {
        return Err(vec![Problem::invalid(MASK, format!("has {} paths; give at most {MOST}", paths.len()))]);
    }
    let (mut found, mut problems, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (n, path) in paths.iter().enumerate() {
        let place = if seen.insert(path) { find(message, path) } else { Err("is given twice".to_owned()) };
        match place {
            Ok(place) => found.push(place),
            Err(why) => problems.push(Problem::invalid(format!("{MASK}[{n}]"), format!("{} {why}", quoted(path)))),
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

/// Finds what a path names, or says why it may not be changed.
fn find(message: &MessageDescriptor, path: &str) -> Result<Place, String> {
    // A key may hold dots, so it goes first.
    let (path, key) = match path.strip_suffix(']').and_then(|path| path.split_once('[')) {
        Some((path, key)) => (path, Some(key.to_owned())),
        None => (path, None),
    };
    let (mut within, mut fields): (_, Vec<FieldDescriptor>) = (message.clone(), Vec::new());
    let mut names = path.split('.').peekable();
    while let Some(name) = names.next() {
        let Some(field) = within.get_field_by_name(name) else {
            return Err(format!("names no field; there are {}", writable(&within)));
        };
        if is_output_only(&field) {
            return Err("is output only; the registry sets it".to_owned());
        }
        if is_identity(&field) {
            return Err("says which object it is, and never changes".to_owned());
        }
        if names.peek().is_some() {
            let Some(inner) = inner(&field) else {
                return Err(format!("goes on after {}, which is named as a whole", field.name()));
            };
            within = inner;
        }
        fields.push(field);
    }
    let Some(last) = fields.last() else {
        return Err("is empty".to_owned());
    };
    if key.is_some() && !is_text_map(last) {
        return Err(format!("goes on after {}, which is named as a whole", last.name()));
    }
    if let Some(inner) = inner(last)
        && inner.fields().any(|field| is_output_only(&field) || is_identity(&field))
    {
        return Err(format!("holds fields that do not change; name those within: {}", writable(&inner)));
    }
    Ok(Place { fields, key })
}

fn writable(message: &MessageDescriptor) -> String {
    let fields = message.fields().filter(|field| !is_output_only(field) && !is_identity(field));
    fields.map(|field| field.name().to_owned()).collect::<Vec<_>>().join(", ")
}

fn copy(onto: &mut DynamicMessage, from: Option<&DynamicMessage>, fields: &[FieldDescriptor], key: Option<&str>) {
    let Some((field, within)) = fields.split_first() else {
        return;
    };
    let wanted = value(from, field);
    match (within, key) {
        ([], None) => match wanted {
            Some(wanted) => onto.set_field(field, wanted),
            None => onto.clear_field(field),
        },
        ([], Some(key)) => {
            let key = MapKey::String(key.to_owned());
            let wanted = wanted.as_ref().and_then(Value::as_map).and_then(|map| map.get(&key)).cloned();
            let mut map = match value(Some(onto), field) {
                Some(Value::Map(map)) => map,
                _ => HashMap::new(),
            };
            match wanted {
                Some(wanted) => map.insert(key, wanted),
                None => map.remove(&key),
            };
            onto.set_field(field, Value::Map(map));
        }
        _ => {
            let wanted = wanted.as_ref().and_then(Value::as_message);
            // To clear a field of what is absent must not make it present.
            if (wanted.is_some() || onto.has_field(field))
                && let Some(inner) = onto.get_field_mut(field).as_message_mut()
            {
                copy(inner, wanted, within, key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
