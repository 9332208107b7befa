//! How often what was decided: the counts that are kept with the index, added up.

use std::collections::{BTreeMap, BTreeSet};

use legate_authority::Reach;
use legate_clock::Timestamp;
use legate_rpc::Fault;

use super::query::{agents, said};
use super::{Call, Desk, database, reads, rights, wait_for_index};
use crate::error::{AUDIT_USAGE_TOO_BROAD, of_index};
use crate::index::NotRead;
use crate::personal::Vault;
use crate::store::condition::keys;
use crate::store::usage::{self, By, Sum, Which};
use crate::store::{custody, head};

const USUAL: u32 = 1_000;
const LARGEST: u32 = 10_000;

/// Counts that are added up for one answer.
const BROADEST: u64 = 500_000;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) agent_id: String,
    pub(crate) descendants: bool,
    pub(crate) namespace: String,
    pub(crate) subject: String,
    pub(crate) action: String,
    pub(crate) resource_type: String,
    pub(crate) outcome: i32,
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
    /// Hours of one row; 0: all of them.
    pub(crate) period: i64,
    pub(crate) by: Vec<By>,
    pub(crate) page_size: u32,
    pub(crate) indexed_at_least: u64,
}

/// The answer.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) sums: Vec<Sum>,
    pub(crate) is_cut: bool,
    pub(crate) indexed_through: u64,
    pub(crate) log_size: u64,
}

const HOUR: i64 = 3_600_000_000;

/// Adds up what the caller may see.
#[tracing::instrument(skip_all)]
pub(crate) async fn usage(desk: &Desk, call: &Call, ask: Ask) -> Result<Told, Fault> {
    let size = match ask.page_size {
        0 => USUAL,
        size @ 1..=LARGEST => size,
        _ => return Err(Fault::invalid("page_size", "1 to 10,000; 0 means 1,000")),
    };
    let judged = rights::ready(desk, call).await?;
    wait_for_index(desk, call, ask.indexed_at_least).await?;
    let (db, asked, now) = (database(desk)?, ask.clone(), desk.clock.now());
    let vault = desk.log.vault().clone();
    let reading = db.read("list_usage", move |tx| {
        let (ask, judged) = (asked.clone(), judged.clone());
        Box::pin(async move {
            let sees = judged.sees(tx, now).await?;
            let through = head::get(tx).await?.map_or(0, |head| head.size());
            let agents = agents(tx, &ask.agent_id, ask.descendants).await?;
            let which = which(ask, agents, sees, &vault);
            if usage::width(tx, &which, BROADEST + 1).await? > BROADEST {
                let text = "more than 500,000 counts answer the question";
                return Err(NotRead::Flow(Fault::refused(&AUDIT_USAGE_TOO_BROAD, text)));
            }
            let sums = usage::sums(tx, &which, u64::from(size) + 1).await?;
            let persons: BTreeSet<String> = sums.iter().map(|sum| sum.subject.clone()).collect();
            let examples = custody::examples(tx, &persons.into_iter().collect::<Vec<_>>()).await?;
            Ok((sums, examples, through))
        })
    });
    let (sums, examples, indexed_through) = reading.await.map_err(of_index)?;
    let mut sums = named(desk, sums, examples).await?;
    let most = usize::try_from(size).unwrap_or(usize::MAX);
    let is_cut = sums.len() > most;
    sums.truncate(most);
    let read = reads::Read {
        kind: "log.usage_read",
        namespace: ask.namespace.clone(),
        asked: said(&parts(&ask)),
        refused: "",
    };
    reads::record(desk, call, read, sums.len()).await?;
    Ok(Told { sums, is_cut, indexed_through, log_size: desk.log.size() })
}

/// Puts persons' names in the place of what the index has for them, by an event of each.
async fn named(desk: &Desk, sums: Vec<Sum>, examples: Vec<(String, u64)>) -> Result<Vec<Sum>, Fault> {
    if examples.is_empty() {
        return Ok(sums);
    }
    let reading = desk.log.reading(move |log| {
        let mut names = BTreeMap::new();
        for (person, leaf) in examples {
            let seen = log.seen(log.read(leaf, leaf + 1, 1)?);
            let mut parts = seen.into_iter().flat_map(|seen| seen.parts);
            let name = parts.find(|part| log.vault().alias(&part.name) == person).map(|part| part.name);
            names.extend(name.map(|name| (person, name)));
        }
        Ok::<_, legate_journal::JournalError>(names)
    });
    let names = reading.await.map_err(Fault::broken)?.map_err(Fault::broken)?;
    let mut out: Vec<Sum> = Vec::with_capacity(sums.len());
    for mut sum in sums {
        if let Some(name) = names.get(&sum.subject) {
            sum.subject.clone_from(name);
            // What was logged before names were kept apart is counted under the name itself.
            if let Some(same) = out.iter_mut().find(|other| other.is_of_the_same(&sum)) {
                same.add(&sum);
                continue;
            }
        }
        out.push(sum);
    }
    Ok(out)
}

fn which(ask: Ask, agents: Vec<String>, sees: Reach, vault: &Vault) -> Which {
    let own = match sees {
        Reach::Everywhere => None,
        Reach::In(names) => Some(names.iter().map(ToString::to_string).collect::<Vec<_>>()),
    };
    let namespaces = match (ask.namespace.as_str(), own) {
        ("", own) => own,
        (asked, None) => Some(vec![crate::store::event::key(asked)]),
        (asked, Some(own)) => Some(own.into_iter().filter(|name| name == asked).collect()),
    };
    // The hour of the first moment counts, and that of the last where the moment is not its beginning.
    let from = ask.from.map(|at| at.micros().div_euclid(HOUR));
    let to = ask.to.map(|at| at.micros().div_euclid(HOUR) + i64::from(at.micros().rem_euclid(HOUR) > 0));
    Which {
        agents: Some(agents).filter(|agents| !agents.is_empty()),
        namespaces,
        subjects: match crate::domain::question::plain(&ask.subject) {
            subject if subject.is_empty() => Vec::new(),
            subject => keys(&subject, vault),
        },
        action: ask.action,
        resource_type: ask.resource_type,
        outcome: ask.outcome,
        hours: (from, to),
        period: ask.period,
        by: ask.by,
    }
}

fn parts(ask: &Ask) -> Vec<(&'static str, String)> {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    vec![
        ("agent_id", ask.agent_id.clone()),
        ("namespace", ask.namespace.clone()),
        ("subject", ask.subject.clone()),
        ("action", ask.action.clone()),
        ("resource_type", ask.resource_type.clone()),
        ("from_time", time(ask.from)),
        ("to_time", time(ask.to)),
    ]
}
