//! What was gathered, as the sections of a dossier.

use legate_clock::Timestamp;
use legate_wire::audit::{Outcome, Usage};
use legate_wire::credential::Credential;
use legate_wire::policy::DriftFinding;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, HistoryEntry, Kind, Metadata, ReviewDecision, ReviewItem};
use serde_json::Value;

use super::ask::{Given, Then};
use super::gather::{Gathered, MOST, Written};
use super::proof::{Book, LOOKED_AT, name_of};
use crate::command::change::value;
use crate::dossier::{Item, Section, Told};
use crate::output::{agent_details, can_row, moment};
use crate::{Failure, manifest, proto};

/// Entries of one section; policy-decision tells 2,000 entitlements at most.
const ENTRIES: usize = 2_000;

/// A section of what was given, or of why it was not.
fn section<T>(
    mut of: Section,
    given: &Given<T>,
    fill: impl FnOnce(&T, Section) -> Result<Section, Failure>,
) -> Result<Section, Failure> {
    match given {
        Ok(told) => fill(told, of),
        Err(withheld) => {
            of.withheld = Some(withheld.clone());
            Ok(of)
        }
    }
}

pub(super) fn all(of: &Gathered, book: &Book, at: &Then) -> Result<Vec<Section>, Failure> {
    Ok(vec![
        configuration(of, book)?,
        class(of, book)?,
        authority(of)?,
        rests_on(of, book)?,
        boundaries(of, book)?,
        people(of, at)?,
        delegations(of, book)?,
        credentials(of, book, at)?,
        reviews(of, book, at)?,
        changes(of, book)?,
        decisions(of)?,
        drift(of, at)?,
        alerts(of)?,
    ])
}

fn object<M: prost::Message + prost::Name>(of: &M) -> Result<Value, Failure> {
    value(of)
}

fn configuration(of: &Gathered, book: &Book) -> Result<Section, Failure> {
    let note = format!(
        "The agent's record at its last write before the moment. When it was last used is known of the present only, and is not part of \
         it. How far back: {}.",
        of.horizon
    );
    let told = Section::new("configuration", "Configuration", Told::AsOf, note);
    let metadata = of.agent.metadata.clone().unwrap_or_default();
    let declared = Declaration { object: Some(Object::Agent(of.agent.clone())) };
    let mut whole = Item::of([("what", "manifest".to_owned()), ("is", manifest::write(&declared))]);
    whole.object = object(&of.agent)?;
    whole.events = book.written(Kind::Agent, &metadata.name, metadata.revision);
    let charter = of
        .agent
        .spec
        .as_ref()
        .and_then(|spec| spec.charter.clone())
        .map(|charter| ("charter", format!("{} (SHA-256 {})", charter.uri, charter.sha256)));
    let facts = agent_details(&of.agent).into_iter().chain(charter).filter(|(_, text)| !text.is_empty());
    let facts = facts.map(|(label, text)| Item::of([("what", label.to_owned()), ("is", text)]));
    Ok(told.with(facts.chain([whole]), ENTRIES))
}

fn class(of: &Gathered, book: &Book) -> Result<Section, Failure> {
    let note = "The template that the agent is made from, at the version that was in force: what every agent of it may do, and the most \
                that any can have.";
    section(Section::new("class", "Class", Told::AsOf, note), &of.class, |class, told| {
        let items = class.iter().map(|one| declared(one, book)).collect::<Result<Vec<_>, _>>()?;
        Ok(told.with(items, ENTRIES))
    })
}

/// A declared object: what it says, who wrote it, when and why.
fn declared(of: &Declaration, book: &Book) -> Result<Item, Failure> {
    let metadata = of.metadata().cloned().unwrap_or_default();
    let kind = of.kind().unwrap_or_default();
    let mut item = Item::of([
        ("kind", name_of(kind)),
        ("name", versioned(&metadata)),
        ("says", manifest::write(of)),
        ("written", written(&metadata)),
        ("first written", format!("{} by {}", moment(metadata.create_time.as_ref()), metadata.created_by)),
    ]);
    item.object = object(of)?;
    item.events = book.written(kind, &metadata.name, metadata.revision);
    Ok(item)
}

fn versioned(of: &Metadata) -> String {
    if of.version == 0 { of.name.clone() } else { format!("{}@{}", of.name, of.version) }
}

fn written(of: &Metadata) -> String {
    let why = if of.reason.is_empty() { String::new() } else { format!(": {}", of.reason) };
    format!("revision {}, {} by {}{why}", of.revision, moment(of.update_time.as_ref()), of.updated_by)
}

fn authority(of: &Gathered) -> Result<Section, Failure> {
    let told = Section::new(
        "authority",
        "Effective authority",
        Told::AsOf,
        "What the agent could do by itself: what it was given, cut by ceilings, boundaries and policies, decided by the engine that \
         decides checks. What it was given and could never use is told as never. What it may do for others is under delegations.",
    );
    section(told, &of.can, |can, mut told| {
        if !can.reason_code.is_empty() {
            told.note += &format!(
                " It did not work then: {} ({}). This is what it could do if it did.",
                can.message, can.reason_code
            );
        }
        told.note += &format!(" Judged by {}.", moment(can.judged_time.as_ref()));
        let items = can.entitlements.iter().map(|one| {
            let cells = can_row(one).cells.into_iter().map(|(label, _, text)| (label, text));
            Ok(Item::of(cells).with(object(one)?))
        });
        let mut told = told.with(items.collect::<Result<Vec<_>, Failure>>()?, ENTRIES);
        told.left_out += u64::from(can.left_out);
        Ok(told)
    })
}

fn rests_on(of: &Gathered, book: &Book) -> Result<Section, Failure> {
    let note = "The role bindings, roles, groups, policies and boundaries that the reasons above name: what each says, and who wrote it, \
                when and why.";
    section(Section::new("rests-on", "What that rests on", Told::AsOf, note), &of.rests_on, |part, told| {
        let items = part.all.iter().map(|one| declared(one, book)).collect::<Result<Vec<_>, _>>()?;
        let mut told = told.with(items, ENTRIES);
        told.left_out += u64::from(part.is_cut);
        Ok(told)
    })
}

fn boundaries(of: &Gathered, book: &Book) -> Result<Section, Failure> {
    let note = "Every boundary that applied to the agent, and why it did.";
    section(Section::new("boundaries", "Boundaries", Told::AsOf, note), &of.boundaries, |part, told| {
        let items = part.all.iter().map(|(one, why)| {
            let mut item = declared(one, book)?;
            let regimes = match &one.object {
                Some(Object::Boundary(boundary)) => boundary.spec.clone().unwrap_or_default().regimes,
                _ => Vec::new(),
            };
            item.cells.extend(Item::of([("applies because", why.clone()), ("regimes", regimes.join(", "))]).cells);
            Ok(item)
        });
        let mut told = told.with(items.collect::<Result<Vec<_>, Failure>>()?, ENTRIES);
        told.left_out += u64::from(part.is_cut);
        Ok(told)
    })
}

fn people(of: &Gathered, at: &Then) -> Result<Section, Failure> {
    let note = "Who answered for the agent technically (owner) and who was accountable for it (sponsor), as its record named them; whether a \
                person had left by then. Who belongs to a group of people Legate does not know.";
    section(Section::new("people", "Owners and sponsors", Told::AsOf, note), &of.departures, |departures, told| {
        let spec = of.agent.spec.clone().unwrap_or_default();
        let manager = Some(spec.manager.clone()).filter(|manager| !manager.is_empty());
        let named = spec.owners.iter().map(|who| ("owner", who));
        let named = named.chain(spec.sponsors.iter().map(|who| ("sponsor", who)));
        let named = named.chain(manager.iter().map(|who| ("manager", who)));
        let items = named.map(|(role, who)| {
            let left = departures.iter().filter(|one| one.person == *who && at.covers(one.time.as_ref()));
            let left: Vec<String> = left
                .map(|one| {
                    let back = match at.covers(one.withdraw_time.as_ref()) {
                        true => format!("; taken back {}", moment(one.withdraw_time.as_ref())),
                        false => String::new(),
                    };
                    format!("left {}: {}{back}", moment(one.time.as_ref()), one.reason)
                })
                .collect();
            let is_group = who.starts_with("group:");
            let left = match (is_group, left.is_empty()) {
                (true, _) => "a group of people".to_owned(),
                (false, true) => "no departure is on record".to_owned(),
                (false, false) => left.join("\n"),
            };
            Item::of([("role", role.to_owned()), ("who", who.clone()), ("standing", left)])
        });
        Ok(told.with(items, ENTRIES))
    })
}

fn delegations(of: &Gathered, book: &Book) -> Result<Section, Failure> {
    let note = "Delegation grants in both directions: by which the agent acts for somebody, and by which another agent acts for it. A grant \
                gives no more than its delegator has.";
    section(Section::new("delegations", "Delegations", Told::AsOf, note), &of.grants, |part, told| {
        let name = of.name();
        let items = part.all.iter().map(|one| {
            let Some(Object::DelegationGrant(grant)) = &one.object else { return Ok(Item::default()) };
            let spec = grant.spec.clone().unwrap_or_default();
            let direction = if spec.delegate == name { "the agent acts for" } else { "acts for the agent" };
            let other = if spec.delegate == name { spec.delegator.clone() } else { format!("agent:{}", spec.delegate) };
            let consent = spec.consent.clone().unwrap_or_default();
            let consent = match consent.method.as_str() {
                "" => "none is recorded".to_owned(),
                method => format!("{method}: {} ({})", consent.reference, moment(consent.time.as_ref())),
            };
            let cells = Item::of([
                ("direction", direction.to_owned()),
                ("other", other),
                ("purpose", spec.purpose.clone()),
                ("until", moment(spec.not_after.as_ref())),
                ("consent", consent),
            ]);
            let mut item = declared(one, book)?;
            drop(item.cells.splice(0..1, cells.cells));
            Ok(item)
        });
        let mut told = told.with(items.collect::<Result<Vec<_>, Failure>>()?, ENTRIES);
        told.left_out += u64::from(part.is_cut);
        Ok(told)
    })
}

/// How a credential stood at the moment, by its times.
fn stood(of: &Credential, at: &Then) -> &'static str {
    let is_behind = |time: Option<&prost_types::Timestamp>| at.covers(time);
    if is_behind(of.revoke_time.as_ref()) {
        "revoked"
    } else if of.not_after.and_then(|end| Timestamp::try_from(end).ok()).is_some_and(|end| end <= at.time) {
        "ended"
    } else if is_behind(of.not_before.as_ref()) {
        "in its time"
    } else {
        "not yet in its time"
    }
}

fn credentials(of: &Gathered, book: &Book, at: &Then) -> Result<Section, Failure> {
    let note = format!(
        "What had been issued to the agent, by fingerprint; no secret is kept that could be told. credential-issuer tells its credentials \
         as they are now, and how each stood is reckoned from its times; where a secret or key was replaced since, its end was brought \
         forward, and it may have been further off. What ended long ago may be forgotten; the log keeps its events (the newest {LOOKED_AT} \
         were looked at). Access tokens are not listed: they are not kept, and each is an event of the log."
    );
    section(Section::new("credentials", "Credentials", Told::ByItsTimes, note), &of.credentials, |part, told| {
        let items = part.all.iter().map(|one| {
            let print = if one.key_id.is_empty() { one.x5t_s256.clone() } else { format!("key {}", one.key_id) };
            let mut item = Item::of([
                ("credential", one.id.clone()),
                ("type", proto::word(one.r#type().as_str_name(), "CREDENTIAL_TYPE_").to_owned()),
                ("fingerprint (SHA-256)", print),
                ("serial", one.serial.clone()),
                ("from", moment(one.not_before.as_ref())),
                ("until", moment(one.not_after.as_ref())),
                ("stood", stood(one, at).to_owned()),
                ("revoked", moment(one.revoke_time.as_ref().filter(|time| at.covers(Some(*time))))),
                ("instance", one.instance_id.clone()),
            ]);
            item.object = object(one)?;
            item.events = book.credential(&one.id);
            Ok(item)
        });
        let mut told = told.with(items.collect::<Result<Vec<_>, Failure>>()?, MOST);
        told.left_out += u64::from(part.is_cut);
        Ok(told)
    })
}

fn reviews(of: &Gathered, book: &Book, at: &Then) -> Result<Section, Failure> {
    let note = "What people decided about the agent in access reviews that had begun. A decision can be changed until its round closes; the \
                registry keeps the last one, and the log every one.";
    section(Section::new("reviews", "Reviews", Told::ByItsTimes, note), &of.reviews, |part, told| {
        let items = part.all.iter().map(|(round, item)| {
            let is_decided = at.covers(item.decide_time.as_ref());
            let came = item.remediation.as_ref().filter(|came| at.covers(came.time.as_ref()));
            let silent = item.decide_time.is_none() && at.covers(round.close_time.as_ref());
            let decision = match (is_decided, silent) {
                (true, _) => decision(item),
                (false, true) => "REVOKE, by silence".to_owned(),
                (false, false) => "not decided yet".to_owned(),
            };
            let only = |text: &str| if is_decided { text.to_owned() } else { String::new() };
            let mut out = Item::of([
                ("round", format!("{} #{} ({})", round.campaign, round.number, round.id)),
                ("about", proto::word(item.reviewed().as_str_name(), "REVIEWED_THING_").to_owned()),
                ("given", item.granted.clone()),
                ("decision", decision),
                ("by", only(&item.decided_by)),
                ("when", only(&moment(item.decide_time.as_ref()))),
                ("why", only(&item.decide_reason)),
                ("came of it", came.map(|came| came.told.clone()).unwrap_or_default()),
            ]);
            out.object = object(item)?;
            out.events = book.review_item(&item.id);
            Ok(out)
        });
        let mut told = told.with(items.collect::<Result<Vec<_>, Failure>>()?, MOST);
        told.left_out += u64::from(part.is_cut);
        if told.items.is_empty() {
            told.note += " None is on record: nobody has been asked about this agent by then, as far as whoever made this may see.";
        }
        Ok(told)
    })
}

fn decision(of: &ReviewItem) -> String {
    let word = proto::word(of.decision().as_str_name(), "REVIEW_DECISION_").to_owned();
    if of.decision() != ReviewDecision::Reduce {
        return word;
    }
    let keep: Vec<String> = of.keep.iter().map(manifest::permission_text).collect();
    format!("{word}; keeps {}", keep.join(", "))
}

fn changes(of: &Gathered, book: &Book) -> Result<Section, Failure> {
    let note = match of.reviewed {
        Some(at) => format!(
            "Every write of the agent, and of what its authority rests on, since the last decision of a review ({at})."
        ),
        None => {
            "No review had decided about the agent, so this is every write of it, and of what its authority rests on."
                .to_owned()
        }
    };
    let note = format!(
        "{note} What was taken away entirely since is not among the objects that are looked at. {}.",
        of.horizon
    );
    section(Section::new("changes", "Changes since the last review", Told::AsOf, note), &of.changes, |all, told| {
        let mut entries: Vec<(&Written, &HistoryEntry)> =
            all.iter().flat_map(|one| one.entries.iter().map(move |entry| (one, entry))).collect();
        entries.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.revision));
        let items = entries.into_iter().map(|(one, entry)| {
            let fields = entry.fields.iter().map(|field| {
                let shown = |text: &str| if text.is_empty() { "(unset)".to_owned() } else { text.to_owned() };
                format!("{}: {} -> {}", field.path, shown(&field.before), shown(&field.after))
            });
            let mut item = Item::of([
                ("revision", entry.revision.to_string()),
                ("when", moment(entry.time.as_ref())),
                ("object", format!("{} {}", name_of(one.kind), one.name)),
                ("what", proto::word(entry.action().as_str_name(), "HISTORY_ACTION_").to_owned()),
                ("by", entry.actor.clone()),
                ("why", entry.reason.clone()),
                ("fields", fields.collect::<Vec<_>>().join("\n")),
            ]);
            item.object = object(entry)?;
            item.events = book.written(one.kind, &one.name, entry.revision);
            Ok(item)
        });
        let mut told = told.with(items.collect::<Result<Vec<_>, Failure>>()?, ENTRIES);
        told.left_out += all.iter().filter(|one| one.is_cut).count() as u64;
        Ok(told)
    })
}

fn decisions(of: &Gathered) -> Result<Section, Failure> {
    let note = format!(
        "How often policy-decision allowed and denied what the agent asked, by the counts of audit-collector, which are exactly what the log \
         says; the last hour counts whole. The log was heard: {}. Take the decisions themselves with legate audit evidence.",
        of.heard()
    );
    section(Section::new("decisions", "Decisions", Told::ByTheLog, note), &of.usage, |usage, told| {
        let items = usage.usage.iter().map(|row| Ok(Item::of(counted(row)).with(object(row)?)));
        let mut told = told.with(items.collect::<Result<Vec<_>, Failure>>()?, ENTRIES);
        told.left_out += u64::from(usage.is_cut);
        Ok(told)
    })
}

/// A count of decisions.
fn counted(of: &Usage) -> [(&'static str, String); 6] {
    let outcome = match of.outcome() {
        Outcome::Success => "allowed",
        Outcome::Denied => "denied",
        Outcome::Failure | Outcome::Unspecified => "",
    };
    [
        ("action", of.action.clone()),
        ("resource type", of.resource_type.clone()),
        ("outcome", outcome.to_owned()),
        ("count", of.count.to_string()),
        ("first", moment(of.first_time.as_ref())),
        ("last", moment(of.last_time.as_ref())),
    ]
}

fn drift(of: &Gathered, at: &Then) -> Result<Section, Failure> {
    let now = if at.is_now { "" } else { " It is NOT of the moment." };
    let note = format!(
        "What the agent was given and does not need, by what it used. It is computed from what is declared now and from what the registry heard of \
         the log; how it would have been computed earlier nobody keeps.{now} The log was heard: {}.",
        of.heard()
    );
    section(Section::new("drift", "Permission drift", Told::Now, note), &of.drift, |found, mut told| {
        if found.not_judged > 0 {
            told.note += &format!(" {} cannot be judged yet: too young, or older than the evidence.", found.not_judged);
        }
        if let Err(withheld) = &of.stale {
            told.note += &format!(" Which credentials are stale is not given: {}.", withheld.what);
        }
        let stale = of.stale.iter().flatten();
        let items = found.findings.iter().chain(stale).map(|one| Ok(Item::of(finding(one)).with(object(one)?)));
        let mut told = told.with(items.collect::<Result<Vec<_>, Failure>>()?, ENTRIES);
        told.left_out += u64::from(found.left_out);
        Ok(told)
    })
}

fn finding(of: &DriftFinding) -> [(&'static str, String); 6] {
    [
        ("severity", proto::word(of.severity().as_str_name(), "DRIFT_SEVERITY_").to_owned()),
        ("finding", proto::word(of.r#type().as_str_name(), "DRIFT_TYPE_").to_owned()),
        ("permission", of.permission.as_ref().map(manifest::permission_text).unwrap_or_default()),
        ("last used", moment(of.last_used_time.as_ref())),
        ("uses", of.uses.to_string()),
        ("why", of.text.clone()),
    ]
}

fn alerts(of: &Gathered) -> Result<Section, Failure> {
    let note = "What the rules over the log found about the agent by then. What became of an alert is told as it is now. The leaves that an alert \
                rests on are named in it, and are not in this file.";
    section(Section::new("alerts", "Alerts", Told::ByItsTimes, note), &of.alerts, |part, told| {
        let items = part.all.iter().map(|one| {
            let leaves: Vec<String> = one.leaf_indices.iter().map(u64::to_string).collect();
            let item = Item::of([
                ("alert", one.alert_id.clone()),
                ("type", proto::word(one.r#type().as_str_name(), "ALERT_TYPE_").to_owned()),
                ("severity", proto::word(one.severity().as_str_name(), "ALERT_SEVERITY_").to_owned()),
                ("status", proto::word(one.status().as_str_name(), "ALERT_STATUS_").to_owned()),
                (
                    "found",
                    format!(
                        "{} times, {} to {}",
                        one.count,
                        moment(one.first_time.as_ref()),
                        moment(one.last_time.as_ref())
                    ),
                ),
                ("what", one.summary.clone()),
                ("rests on leaves", leaves.join(" ")),
            ]);
            Ok(item.with(object(one)?))
        });
        let mut told = told.with(items.collect::<Result<Vec<_>, Failure>>()?, MOST);
        told.left_out += u64::from(part.is_cut);
        Ok(told)
    })
}
