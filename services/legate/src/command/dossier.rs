//! `legate dossier`: what there is to say about one agent as of a moment, with the events that made it so, in one file that anybody
//! verifies.

pub(super) mod ask;
mod gather;
mod proof;
mod sections;

use std::collections::BTreeSet;

use legate_clock::{Clock as _, SystemClock};
use legate_merkle::{Checkpoint, KeyChain};
use legate_wire::audit::QueryEventsRequest;

use super::audit::{Newest, newest, page, verifier_key};
use super::evidence::{Body, Draft, put_together, rotated};
use super::{Desk, agent_ref};
use crate::cli::{Dossier, MadeSo};
use crate::dossier::{About, Document, Form, LARGEST, Log, Made, html};
use crate::evidence::{CHECKPOINT, KEY, MADE_WITH, README, readme};
use crate::place::{Line, Service};
use crate::{Exit, Failure};

use ask::Then;
use proof::Book;

/// What holds for every dossier.
const NOTES: [&str; 3] = [
    "What is said here is what the services of whoever made this file told him, by his rights. What can be verified without \
     trusting him are the events that are cited: each is in events.jsonl beside this file, with the proof that it stood in the log \
     (legate verify).",
    "Each section says how it is told. As of the moment: by the registry's history, exactly. By the log: what audit-collector had \
     heard, up to the moment. Known now, with times up to the moment: what is kept has times, and what was changed since may hide how \
     it stood then. As of now only: nobody keeps how it was.",
    "An entry without a leaf is not less true: its event was not among the newest of its kind that were looked at, or its object was \
     last written before the log began.",
];

/// The log as it is when a document is made.
pub(super) struct Fixed {
    pub(super) audit: Line,
    pub(super) signed: Checkpoint,
    keys: KeyChain,
    note: String,
    rotations: Option<(String, Vec<u8>)>,
}

/// Fixes a tree that holds what the log holds now: every question is asked of it, however the log grows meanwhile.
pub(super) async fn fix(desk: &Desk, how: &MadeSo, namespace: &str) -> Result<Fixed, Failure> {
    let key = verifier_key(&how.key)?;
    let audit = desk.line(Service::Audit)?;
    let ask = QueryEventsRequest { namespace: namespace.to_owned(), page_size: 1, ..Default::default() };
    let logged = page(&audit, &ask).await?.log_size;
    let newest = newest(&audit, &key, how.cosigned, logged).await?;
    let rotations = rotated(newest.rotations())?;
    let Newest { answer, tree: signed, keys } = newest;
    Ok(Fixed { audit, signed, keys, note: answer.checkpoint, rotations })
}

pub(super) async fn run(desk: Desk, args: Dossier) -> Result<Exit, Failure> {
    let how = args.made;
    let body = Body::create(&how.out)?;
    let registry = desk.line(Service::Registry)?;
    let at = ask::moment(&registry, &how.when).await?;
    let agent = ask::agent(&registry, agent_ref(&args.agent)?, &at).await?;
    let namespace = agent.metadata.as_ref().map(|m| m.namespace.clone()).unwrap_or_default();
    let fixed = fix(&desk, &how, &namespace).await?;
    let gathered = gather::gather(&desk, &registry, &fixed, agent, &at).await?;

    let mut book = Book::default();
    let agent_id = gathered.id();
    book.of_agent(&fixed.audit, &fixed.signed, &agent_id, &at).await?;
    book.of_objects(&fixed.audit, &fixed.signed, &namespace, &gathered.named(), &at).await?;
    let about = About { namespace, agent: gathered.name(), agent_id };
    let document = Document {
        form: Form::Dossier,
        about,
        as_of: at.told.clone(),
        made: made(&desk)?,
        log: fixed.log(gathered.heard()),
        notes: NOTES.map(str::to_owned).to_vec(),
        sections: sections::all(&gathered, &book, &at)?,
    };
    finish(&desk, &how, &fixed, &at, document, |cited, body| book.write(cited, body), body).await
}

impl Fixed {
    /// For the document.
    pub(super) fn log(&self, heard: String) -> Log {
        Log { name: self.keys.name().to_owned(), tree_size: self.signed.size, heard }
    }
}

/// Who makes a document, when and with what.
pub(super) fn made(desk: &Desk) -> Result<Made, Failure> {
    let by = desk.place.operator()?.spiffe_id().map(|id| id.to_string()).unwrap_or_default();
    Ok(Made { by, time: SystemClock::new().now().to_string(), with: MADE_WITH.to_owned() })
}

/// Writes a document and the events that it cites into a pack, and has the log record it.
pub(super) async fn finish(
    desk: &Desk,
    how: &MadeSo,
    fixed: &Fixed,
    at: &Then,
    mut document: Document,
    write: impl Fn(&BTreeSet<u64>, &mut Body) -> Result<(), Failure>,
    mut body: Body,
) -> Result<Exit, Failure> {
    document.fit(LARGEST).map_err(std::io::Error::other)?;
    write(&document.cited(), &mut body)?;
    let (form, about) = (document.form, document.about.clone());
    let asked = QueryEventsRequest {
        agent_id: about.agent_id.clone(),
        namespace: about.namespace.clone(),
        to_time: at.until(),
        ..Default::default()
    };
    let (page, json) = form.files();
    let mut files = vec![
        (README.to_owned(), readme(fixed.keys.name(), Some(form)).into_bytes()),
        (KEY.to_owned(), format!("{}\n", fixed.keys.newest()).into_bytes()),
        (CHECKPOINT.to_owned(), fixed.note.clone().into_bytes()),
        (page.to_owned(), html(&document).into_bytes()),
        (json.to_owned(), document.json().map_err(std::io::Error::other)?.into_bytes()),
    ];
    files.extend(fixed.rotations.clone());
    let draft = Draft {
        body,
        files,
        asked,
        asked_by: document.made.by.clone(),
        is_complete: document.is_whole(),
        cosigned: how.cosigned,
        about: Some((form, about.clone())),
    };
    let tree = (fixed.signed.size, fixed.signed.root);
    let (events, seal) = put_together(&fixed.audit, &fixed.keys, tree, &how.out, draft).await?;
    let missing = missing(&document);
    let whole = if missing.is_empty() { String::new() } else { format!("; not all of it was given: {missing}") };
    let text = format!(
        "the {} of {} as of {} (revision {}) is in {}, with {events} events of the log's first {} leaves{whole}; that it was made is \
         leaf {seal} of the log",
        form.word(),
        about.name(),
        at.told.time,
        at.revision,
        how.out.display(),
        fixed.signed.size
    );
    let mut out = desk.out();
    out.line(&crate::output::escape::visible(&text))?;
    out.flush()?;
    Ok(Exit::Done)
}

/// Which sections are not whole, for people.
fn missing(of: &Document) -> String {
    let told = of.sections.iter().filter_map(|section| match (&section.withheld, section.left_out) {
        (Some(withheld), _) => Some(format!("{} ({})", section.id, withheld.reason)),
        (None, 0) => None,
        (None, more) => Some(format!("{} ({more} more)", section.id)),
    });
    told.collect::<Vec<_>>().join(", ")
}
