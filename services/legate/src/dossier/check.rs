//! Whether the document in a pack is what its pack says: of the same thing, citing events that are there, and the same for people as
//! for machines.

use std::collections::BTreeMap;

use super::{About, Document, Form, html};

/// Which file is wrong, and how.
pub(crate) type Wrong = (&'static str, String);

/// Events of a pack by their leaves: id and type.
pub(crate) type Events = BTreeMap<u64, (String, String)>;

/// Reads the two files of a document. `ours` is the program that reads: what the same one wrote, it would write again.
pub(crate) fn read(
    form: Form,
    about: &About,
    (page_bytes, bytes): (&[u8], &[u8]),
    made_with: &str,
    ours: &str,
) -> Result<Document, Wrong> {
    let (page, name) = form.files();
    let document: Document = serde_json::from_slice(bytes).map_err(|e| (name, e.to_string()))?;
    if document.form != form || document.about != *about {
        return Err((name, "it is about something else than the manifest says".to_owned()));
    }
    if document.made.with != made_with {
        return Err((name, format!("{:?} made it, and the pack is by {made_with:?}", document.made.with)));
    }
    // Another version may lay the page out otherwise.
    if made_with == ours && html(&document).as_bytes() != page_bytes {
        return Err((page, format!("it does not tell what {name} tells")));
    }
    Ok(document)
}

/// Every event that the document cites is in the pack, and is what it is cited as.
pub(crate) fn cites(document: &Document, events: &Events) -> Result<(), Wrong> {
    for section in &document.sections {
        for cite in section.items.iter().flat_map(|item| &item.events) {
            let is_there =
                events.get(&cite.leaf).is_some_and(|(id, kind)| (id, kind) == (&cite.event_id, &cite.r#type));
            if !is_there {
                let what = format!(
                    "{} cites leaf {} as {} {}, and the events of the pack hold no such one",
                    section.id, cite.leaf, cite.event_id, cite.r#type
                );
                return Err((document.form.files().1, what));
            }
        }
    }
    Ok(())
}
