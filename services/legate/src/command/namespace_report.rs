//! `legate report`: what there is to show of a namespace as of a moment, held against what laws and standards ask for.

mod measure;

use std::collections::{BTreeMap, BTreeSet};

use legate_wire::audit::IndexedEvent;
use serde_json::{Value, json};

use super::Desk;
use super::dossier::ask::{self, Then, given};
use super::dossier::{finish, fix, made};
use super::evidence::Body;
use crate::cli::NamespaceReport;
use crate::command::agent_usage;
use crate::dossier::requirements::{EVIDENCE, FRAMEWORKS, Measured, REQUIREMENTS, Requirement, command};
use crate::dossier::{About, Cite, Document, Form, Item, Section, Told};
use crate::error::USAGE;
use crate::place::Service;
use crate::{Exit, Failure};

use measure::Found;

/// What holds for every report.
const NOTES: [&str; 5] = [
    "This is evidence and no judgement. It does not say that a requirement applies, that it is met, or how much of it is: that is for people \
     who know what this file cannot know. What a requirement asks for is said in our words; the text that counts is its source's.",
    "What is counted is what the services of whoever made this file told him, by his rights. Of each kind of event the first and the last are in \
     events.jsonl beside this file, with the proof that they stood in the log (legate verify); the events between them are counted by the index.",
    "Missing means that nothing of the kind is on record here. There may be such evidence elsewhere.",
    "Events that belong to no namespace, such as the erasure of a person or a stop of everybody, are not counted here, and those that are refused \
     are recorded without one.",
    "A number with 'at least' was not counted to its end.",
];

pub(super) async fn run(desk: Desk, args: NamespaceReport) -> Result<Exit, Failure> {
    let (how, namespace) = (args.made, args.namespace);
    legate_ids::Name::parse(&namespace)
        .map_err(|e| Failure::local(&USAGE, format!("--namespace {namespace:?}: {e}")))?;
    let body = Body::create(&how.out)?;
    let registry = desk.line(Service::Registry)?;
    let at = ask::moment(&registry, &how.when).await?;
    // Of a namespace that there was not, nothing would be an answer.
    let there = ask::object(&registry, legate_wire::registry::Kind::Namespace, ("", &namespace), &at).await?;
    if there.is_none() {
        let what = format!("there was no namespace {namespace} at revision {}, or you may not see it", at.revision);
        return Err(Failure::local(&USAGE, what));
    }
    let fixed = fix(&desk, &how, &namespace).await?;
    let policy = desk.line(Service::Policy)?;
    let heard = match given(agent_usage::ask(&desk, Vec::new(), false).await)? {
        Ok(answer) => agent_usage::evidence(answer.window.as_ref()),
        Err(withheld) => format!("not given: {}", withheld.what),
    };
    let mut found = BTreeMap::new();
    for one in EVIDENCE {
        let measuring = measure::measure(&registry, &policy, &fixed, &namespace, one, &at).await;
        found.insert(one.id, given(measuring)?);
    }
    let about = About { namespace: namespace.clone(), ..About::default() };
    let mut sections = vec![measured(&found, &namespace, &at)?];
    for framework in FRAMEWORKS {
        let note = format!("Source: {}. Legate does not know whether it applies to this namespace.", framework.source);
        let rows = REQUIREMENTS.iter().filter(|row| std::ptr::eq(row.framework, framework));
        let items = rows.map(|row| requirement(row, &found));
        sections.push(Section::new(framework.id, framework.title, Told::Each, note).with(items, usize::MAX));
    }
    let document = Document {
        form: Form::Report,
        about,
        as_of: at.told.clone(),
        made: made(&desk)?,
        log: fixed.log(heard),
        notes: NOTES.map(str::to_owned).to_vec(),
        sections,
    };
    let events: BTreeMap<u64, IndexedEvent> = found
        .into_values()
        .flatten()
        .flat_map(|found| found.first.into_iter().chain(found.last))
        .map(|event| (event.leaf_index, event))
        .collect();
    let write = |cited: &BTreeSet<u64>, body: &mut Body| {
        events.iter().filter(|(leaf, _)| cited.contains(leaf)).try_for_each(|(_, event)| body.write(event))
    };
    finish(&desk, &how, &fixed, &at, document, write, body).await
}

type All = BTreeMap<&'static str, ask::Given<Found>>;

/// Everything that was counted, and how to see it.
fn measured(all: &All, namespace: &str, at: &Then) -> Result<Section, Failure> {
    let note = "What Legate holds, once each; the sections below name it by the word in the first column. The command shows it to whoever may read.";
    let told = Section::new("evidence", "Evidence", Told::Each, note);
    let as_of = (!at.is_now).then_some(at.told.time.as_str());
    let items = EVIDENCE.iter().map(|one| {
        let (count, told, leaves, note) = match all.get(one.id) {
            Some(Ok(found)) => (found.number(), found.told.words(), found.leaves(), found.note.clone()),
            Some(Err(withheld)) => {
                (format!("not given ({})", withheld.reason), "not given", String::new(), withheld.what.clone())
            }
            None => Default::default(),
        };
        let types = match one.measured {
            Measured::Events(types) => types.join(" "),
            _ => String::new(),
        };
        let mut item = Item::of([
            ("evidence", one.id.to_owned()),
            ("what", one.what.to_owned()),
            ("count", count),
            ("how it is told", told.to_owned()),
            ("to see it", command(one, namespace, as_of)),
            ("event types", types),
            ("leaves, first to last", leaves),
            ("note", note),
        ]);
        if let Some(Ok(found)) = all.get(one.id) {
            item.object = json!({ "id": one.id, "count": found.count, "isAtLeast": found.is_at_least });
            item.events = found.first.iter().chain(&found.last).filter_map(cite).collect();
            item.events.dedup();
        }
        item
    });
    Ok(told.with(items, usize::MAX))
}

fn cite(of: &IndexedEvent) -> Option<Cite> {
    let event = of.event.as_ref()?;
    Some(Cite { leaf: of.leaf_index, event_id: event.event_id.clone(), r#type: event.r#type.clone() })
}

/// A requirement, with what speaks to it and what is missing.
fn requirement(of: &Requirement, all: &All) -> Item {
    let (mut there, mut missing, mut withheld) = (Vec::new(), Vec::new(), Vec::new());
    for one in of.evidence {
        match all.get(one.id) {
            Some(Ok(found)) if found.count > 0 => there.push((one, found)),
            Some(Ok(_)) => missing.push(*one),
            Some(Err(_)) | None => withheld.push(*one),
        }
    }
    let named = |list: &[&crate::dossier::requirements::Evidence]| -> Vec<String> {
        list.iter().map(|one| format!("{} ({})", one.id, one.what)).collect()
    };
    let exists: Vec<String> = there
        .iter()
        .map(|(one, found)| {
            let leaves = found.leaves();
            let leaves = if leaves.is_empty() { leaves } else { format!(", leaves {leaves}") };
            format!("{}: {} {}{leaves}", one.id, found.number(), one.what)
        })
        .collect();
    let none = if of.evidence.is_empty() { "Legate holds nothing that speaks to it" } else { "none" };
    let or_none = |list: Vec<String>| if list.is_empty() { none.to_owned() } else { list.join("\n") };
    let ids = |list: &[&crate::dossier::requirements::Evidence]| -> Value {
        list.iter().map(|one| Value::from(one.id)).collect()
    };
    let object = json!({
        "framework": of.framework.id,
        "clause": of.clause,
        "source": of.framework.source,
        "evidence": there.iter().map(|(one, _)| Value::from(one.id)).collect::<Value>(),
        "missing": ids(&missing),
        "notGiven": ids(&withheld),
        "cannotKnow": of.cannot_know,
    });
    let lacking = named(&missing);
    let cells = [
        ("clause", of.clause.to_owned()),
        ("asks for", of.asks.to_owned()),
        ("evidence that exists", or_none(exists)),
        ("missing", lacking.join("\n")),
        ("not given", named(&withheld).join("\n")),
        ("Legate cannot know", of.cannot_know.to_owned()),
    ];
    Item::of(cells).with(object)
}
