//! Somebody asks what lifecycle policies would do until a moment; told by the code that does it, without changing anything.

use std::sync::Arc;
use std::time::Duration;

use legate_authority::{Place as Somewhere, Right};
use legate_clock::Timestamp;
use legate_db::TxResult;
use legate_ids::Name;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::preview_lifecycle_policy_request::Whose;
use legate_wire::registry::{
    Declaration, Kind, LifecycleImpact, LifecyclePolicy, PreviewLifecyclePolicyRequest, PreviewLifecyclePolicyResponse,
};
use prost::Message as _;

use super::desk::Look;
use super::family::{self, Family, NAMED};
use super::lifecycle::{heard, with_groups};
use super::list::page_size;
use super::update::not_found;
use super::{By, Desk};
use crate::domain::check;
use crate::domain::kind::Key;
use crate::domain::lifecycle_policy::{self, Due, Heard, MOST, Policies};
use crate::store::{object, refuse};

/// Agents that are looked at for one page.
const LOOKED_AT: usize = 2_000;
/// Agents that are read at once.
const AT_ONCE: u64 = 500;
/// How far ahead it is looked where a question about every policy does not say.
const USUAL: Duration = Duration::from_secs(90 * 86_400);
/// How far ahead it may be: ten years of 365.25 days.
const FARTHEST: Duration = Duration::from_secs(315_576_000);
/// What was used within so long is told to be in use.
const LATELY: Duration = Duration::from_secs(86_400);

/// Says what would become of whom.
#[tracing::instrument(skip_all)]
pub(crate) async fn preview(
    desk: &Arc<Desk>,
    by: &By,
    ask: PreviewLifecyclePolicyRequest,
) -> Result<PreviewLifecyclePolicyResponse, Fault> {
    Name::parse(&ask.namespace).map_err(|e| Fault::invalid("namespace", e.to_string()))?;
    let whose = whose(&ask)?;
    let size = page_size(ask.page_size)?;
    let now = desk.clock.now();
    let until = ask.until_time.map(|at| until(at, now)).transpose()?;
    // What is asked, whole; only where it goes on is left out.
    let asked = PreviewLifecyclePolicyRequest { page_token: String::new(), ..ask.clone() }.encode_to_vec();
    let asked: String = asked.iter().map(|b| format!("{b:02x}")).collect();
    let question = ["lifecycle", by.actor.as_str(), asked.as_str()];
    let place = desk.pages.read(&question, &ask.page_token)?.map(|text| Place::parse(&text)).transpose()?;
    let looked = desk.look("preview_lifecycle_policy", by, move |look| {
        Box::pin(async move {
            look.mandate.demand(Right::Read, Somewhere::In(&ask.namespace)).map_err(refuse)?;
            let asked = Asked::read(&look, &ask.namespace, whose, until, now).await?;
            look_at(&look, &asked, place, size).await
        })
    });
    let (mut answer, next) = looked.await?;
    answer.next_page_token = next.map(|place| desk.pages.after(&question, &place.told())).unwrap_or_default();
    Ok(answer)
}

/// Whose doing is looked at: that of one policy, as it is or as it would be, or of all of them.
#[derive(Clone, Debug)]
enum Which {
    Named(String),
    Wanted(Box<LifecyclePolicy>),
    All,
}

fn whose(ask: &PreviewLifecyclePolicyRequest) -> Result<Which, Fault> {
    match ask.whose.clone() {
        Some(Whose::Name(name)) => {
            Name::parse(&name).map_err(|e| Fault::invalid("name", e.to_string()))?;
            Ok(Which::Named(name))
        }
        Some(Whose::All(true)) => Ok(Which::All),
        Some(Whose::Policy(mut policy)) => {
            let metadata = policy.metadata.get_or_insert_default();
            if metadata.namespace.is_empty() {
                metadata.namespace.clone_from(&ask.namespace);
            }
            if metadata.namespace != ask.namespace {
                return Err(Fault::invalid("policy.metadata.namespace", "is another one than is asked about"));
            }
            let mut wanted = Declaration { object: Some(Object::LifecyclePolicy(policy)) };
            let problems = check::check(&wanted).into_iter();
            let problems = problems.map(|mut problem| {
                problem.path = format!("policy.{}", problem.path);
                problem
            });
            super::refusal(problems.collect())?;
            check::strip_output_only(&mut wanted);
            match wanted.object {
                Some(Object::LifecyclePolicy(policy)) => Ok(Which::Wanted(Box::new(policy))),
                _ => Err(Fault::broken("a lifecycle policy was read and is none")),
            }
        }
        Some(Whose::All(false)) | None => Err(Fault::invalid("whose", "give name, policy, or all as true")),
    }
}

fn until(at: prost_types::Timestamp, now: Timestamp) -> Result<Timestamp, Fault> {
    let at = Timestamp::try_from(at).map_err(|e| Fault::invalid("until_time", e.to_string()))?;
    if at < now || at > now.plus(FARTHEST) {
        return Err(Fault::invalid("until_time", format!("is {at}; give now, which is {now}, to 10 years ahead")));
    }
    Ok(at)
}

/// The policies that are looked at, until when, and whose doing is told.
struct Asked {
    namespace: String,
    policies: Policies,
    /// The policy that is asked about alone, by name.
    only: Option<String>,
    /// The policies whose doing is told.
    told: Policies,
    until: Timestamp,
    heard: Heard,
    now: Timestamp,
}

impl Asked {
    async fn read(
        look: &Look<'_>,
        namespace: &str,
        which: Which,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> TxResult<Self, Fault> {
        let mut all = Vec::new();
        for row in object::in_namespace(look.tx, Kind::LifecyclePolicy, namespace, MOST as u64).await? {
            if let Some(Object::LifecyclePolicy(policy)) = row.declaration()?.object {
                all.push(policy);
            }
        }
        let name_of = |policy: &LifecyclePolicy| policy.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default();
        let only = match which {
            Which::All => None,
            Which::Named(name) => {
                if !all.iter().any(|policy| name_of(policy) == name) {
                    let key = Key::new(Kind::LifecyclePolicy, namespace, &name);
                    return Err(refuse(not_found(&key)));
                }
                Some(name)
            }
            Which::Wanted(policy) => {
                let name = name_of(&policy);
                let current = all.iter().position(|policy| name_of(policy) == name).map(|at| all.remove(at));
                let status = lifecycle_policy::effective(&policy, current.as_ref(), now);
                all.push(LifecyclePolicy { status: Some(status), ..*policy });
                Some(name)
            }
        };
        let told: Vec<LifecyclePolicy> =
            all.iter().filter(|policy| only.as_ref().is_none_or(|only| *only == name_of(policy))).cloned().collect();
        let spec = told.first().filter(|_| only.is_some()).and_then(|policy| policy.spec.as_ref());
        let ahead = spec.map_or(USUAL, lifecycle_policy::grace);
        Ok(Self {
            namespace: namespace.to_owned(),
            told: with_groups(look.tx, namespace, told).await?,
            policies: with_groups(look.tx, namespace, all).await?,
            only,
            until: until.unwrap_or_else(|| now.plus(ahead)),
            heard: heard(look.tx, look.desk.heard.to()).await?,
            now,
        })
    }

    /// What becomes of the agent first, where that is told and comes until then. One that would only be told counts as if it were carried
    /// out where it is asked about, and after everything that is carried out where all are.
    fn first(&self, dues: Vec<Due>) -> Option<Due> {
        let due = match &self.only {
            Some(only) => dues.into_iter().find(|due| !due.report || due.policy == *only),
            None => {
                let enforced = dues.iter().position(|due| !due.report && due.act_at <= self.until);
                dues.into_iter().nth(enforced.unwrap_or(0))
            }
        };
        let is_told = |due: &Due| self.only.as_ref().is_none_or(|only| due.policy == *only);
        due.filter(|due| is_told(due) && due.act_at <= self.until)
    }
}

/// Behind which agent it goes on.
struct Place {
    name: String,
    id: String,
}

impl Place {
    /// Names and ids have no spaces.
    fn told(&self) -> String {
        format!("{} {}", self.name, self.id)
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        let (name, id) = text.split_once(' ').ok_or_else(|| Fault::broken("an authentic page token names no place"))?;
        Ok(Self { name: name.to_owned(), id: id.to_owned() })
    }
}

async fn look_at(
    look: &Look<'_>,
    asked: &Asked,
    place: Option<Place>,
    size: usize,
) -> TxResult<(PreviewLifecyclePolicyResponse, Option<Place>), Fault> {
    let mut answer = PreviewLifecyclePolicyResponse {
        until_time: Some(asked.until.into()),
        revision: look.revision,
        ..PreviewLifecyclePolicyResponse::default()
    };
    let mut at = place.unwrap_or(Place { name: String::new(), id: String::new() });
    let mut looked_at = 0;
    loop {
        let after = [asked.namespace.as_str(), &at.name, &at.id];
        let rows = object::after(look.tx, Kind::Agent, &asked.namespace, after, AT_ONCE).await?;
        let is_last = (rows.len() as u64) < AT_ONCE;
        let families = family::of(look.tx, &rows.iter().collect::<Vec<_>>()).await?;
        for row in rows {
            if answer.impacts.len() >= size || looked_at >= LOOKED_AT {
                return Ok((answer, Some(at)));
            }
            looked_at += 1;
            answer.looked_at += 1;
            let agent = row.declaration()?;
            answer.concerned += u64::from(asked.told.concern(&agent));
            let family = families.get(&row.id).cloned().unwrap_or_default();
            let used = family.used;
            let mut dues = asked.policies.dues(&agent, asked.heard.silent_since(used));
            asked.heard.hold_back(&mut dues, asked.now);
            let first = asked.first(dues);
            answer.impacts.extend(first.map(|due| impact(&row, family, due, asked.now)));
            at = Place { name: row.name, id: row.id };
        }
        if is_last {
            return Ok((answer, None));
        }
    }
}

fn impact(row: &object::Model, family: Family, due: Due, now: Timestamp) -> LifecycleImpact {
    let used = family.used;
    LifecycleImpact {
        agent_id: row.id.clone(),
        agent: row.name.clone(),
        action: due.action.into(),
        rule: due.rule.into(),
        due_time: Some(due.due_at.into()),
        act_time: Some(due.act_at.into()),
        last_used_time: used.map(Into::into),
        used_in_last_day: used.is_some_and(|used| used >= now.minus(LATELY)),
        report_only: due.report,
        policy: due.policy,
        agents_below: u32::try_from(family.below.len()).unwrap_or(u32::MAX),
        below: family.below.into_iter().take(NAMED).collect(),
    }
}
