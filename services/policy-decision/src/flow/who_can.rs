//! Which agents may do something: those whom a class, a binding or a group could give it are found, and each is decided about.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::Name;
use legate_rpc::{Fault, OPERATOR_NOT_PERMITTED};
use legate_view::{Agent, AgentState, Group, Snapshot};
use tokio::time::Instant;

use super::asker::{Asker, Right};
use super::asking::{AGAIN, known, seat, told};
use super::evaluate::{Desk, judge};
use super::record;
use super::roster::{Place, place};
use crate::convert::{Ask, OnBehalfOf, Subject};
use crate::domain::answer::{Answer, Cause, CauseKind, Why};
use crate::domain::approval;
use crate::domain::preview::compare::Book;
use crate::domain::preview::outlook::{Holds, On, look};
use crate::domain::preview::weaken::Fixed;
use crate::domain::question::Question;
use crate::error::{CALLER_MAY_NOT_ASK, POLICY_NOT_READY, QUESTION_INVALID};

/// Agents of one page.
pub(crate) const LARGEST: u32 = 1_000;
const USUAL: usize = 100;
/// Agents that are decided about for one page.
const DECIDED: usize = 20_000;
/// Agents that are walked past after which it is looked at the clock.
const AT_ONCE: usize = 4_096;
/// The longest that is looked for one page.
const LONGEST: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Debug)]
pub(crate) struct WhoCan {
    pub(crate) question: Question,
    pub(crate) namespace: Option<Name>,
    pub(crate) on_behalf_of: Option<OnBehalfOf>,
    pub(crate) page_size: u32,
    pub(crate) page_token: String,
    pub(crate) at_least_revision: u64,
    /// Everything that was asked, for which a page token is good.
    pub(crate) said: String,
}

/// An agent that may do it.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) agent: Arc<Agent>,
    pub(crate) causes: Vec<Cause>,
    /// On what it hangs; `None`: on nothing.
    pub(crate) on: Option<Vec<On>>,
}

/// One page of them.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) holders: Vec<Holder>,
    pub(crate) next_page_token: String,
    pub(crate) revision: u64,
    pub(crate) view_age: Option<Duration>,
    pub(crate) has_moved: bool,
    pub(crate) decided: u32,
}

/// Where a page begins: after this agent, where the page before was of this revision and the first of that one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Begin {
    revision: u64,
    begun: u64,
    after: Place,
}

impl Begin {
    fn parse(text: &str) -> Result<Self, Fault> {
        let broken = || Fault::broken("an authentic page token names no place");
        let parts: Vec<&str> = text.split(' ').collect();
        let [revision, begun, namespace, name, id] = parts[..] else { return Err(broken()) };
        let number = |text: &str| text.parse().map_err(|_| broken());
        let after = (namespace.to_owned(), name.to_owned(), id.to_owned());
        Ok(Self { revision: number(revision)?, begun: number(begun)?, after })
    }
}

/// One page of the agents that may do it.
///
/// # Errors
/// When the caller may not search or not there, the token is not of this question, the view is old, policies are being
/// compiled, others ask already, or it cannot be recorded.
#[tracing::instrument(skip_all)]
pub(crate) async fn who_can(desk: &Arc<Desk>, asker: &Asker, ask: WhoCan) -> Result<Found, Fault> {
    if ask.page_size > LARGEST {
        let why = "1 to 1,000; 0 means 100";
        return Err(Fault::refused(&QUESTION_INVALID, format!("page_size: {why}")).field("page_size", why));
    }
    let question = ["who-can".to_owned(), asker.spiffe_id.clone(), ask.said.clone()];
    let question: Vec<&str> = question.iter().map(String::as_str).collect();
    let from = desk.pages.read(&question, &ask.page_token)?.map(|text| Begin::parse(&text)).transpose()?;
    let may = |right: &Right| {
        right.may_search()?;
        let kind = ask.question.resource_type.as_str();
        if !right.asks_about(kind) {
            let text = format!("the caller may not ask about {kind}");
            return Err(Fault::refused(&CALLER_MAY_NOT_ASK, text).with("resource_type", kind));
        }
        match &ask.namespace {
            Some(namespace) if !right.shows(namespace) => {
                let text = format!("the caller may not read the namespace {namespace}");
                Err(Fault::refused(&OPERATOR_NOT_PERMITTED, text))
            }
            _ => Ok(()),
        }
    };
    let seat = seat(desk, asker, ask.at_least_revision, LONGEST, may).await?;
    let (revision, view_age) = (seat.reading.snapshot.revision(), seat.reading.age());
    let has_moved = from.as_ref().is_some_and(|begin| begin.revision != revision);
    let event = record::searched(
        asker,
        ask.namespace.as_ref().map_or("", Name::as_str),
        revision,
        desk.clock.now(),
        [
            ("question", "who_can".to_owned()),
            (
                "asked",
                record::cut(format!(
                    "{} {}:{}",
                    ask.question.action, ask.question.resource_type, ask.question.resource_id
                )),
            ),
        ],
    );
    let begun = from.as_ref().map_or(revision, |begin| begin.begun);
    let working = Arc::clone(desk);
    let made = tokio::task::spawn_blocking(move || {
        // The turn ends with the work, also where the caller has left.
        let _turn = seat.turn;
        page(&working, &seat.reading.snapshot, &seat.right, &ask, from, seat.now, seat.until)
    });
    let (holders, next, decided) = made.await.map_err(Fault::broken)??;
    told(desk, asker, event).await?;
    desk.metrics.asked("who_can");
    let next = next.map(|(namespace, name, id)| {
        desk.pages.after(&question, &format!("{revision} {begun} {namespace} {name} {id}"))
    });
    let decided = u32::try_from(decided).unwrap_or(u32::MAX);
    Ok(Found { holders, next_page_token: next.unwrap_or_default(), revision, view_age, has_moved, decided })
}

/// Whom a class, a binding or a group could give what is asked, now.
struct Candidates<'a> {
    classes: HashSet<(&'a str, &'a str)>,
    agents: HashSet<(&'a str, &'a str)>,
    groups: HashMap<&'a str, Vec<&'a Arc<Group>>>,
}

impl<'a> Candidates<'a> {
    fn of(snapshot: &'a Snapshot, question: &Question, now: Timestamp) -> Self {
        let request = question.request();
        let mut found = Self { classes: HashSet::new(), agents: HashSet::new(), groups: HashMap::new() };
        let place = |label: &'a legate_view::Label| (label.namespace.as_str(), label.name.as_str());
        for class in snapshot.classes_with(&request) {
            found.classes.insert(place(&class.label));
        }
        for binding in snapshot.bindings_with(&request) {
            let within = binding.narrowing.as_ref().is_none_or(|all| all.iter().any(|one| one.covers(&request)));
            if !within || !binding.window.holds_at(now.micros()) {
                continue;
            }
            let namespace = binding.label.namespace.as_str();
            found.agents.extend(binding.agents.iter().map(|name| (namespace, name.as_str())));
            let groups = binding.groups.iter().filter_map(|name| snapshot.group(namespace, name));
            found.groups.entry(namespace).or_default().extend(groups);
        }
        for groups in found.groups.values_mut() {
            groups.sort_by(|a, b| a.label.name.cmp(&b.label.name));
            groups.dedup_by(|a, b| a.label.name == b.label.name);
        }
        found
    }

    fn has(&self, snapshot: &Snapshot, agent: &Agent) -> bool {
        let holder = match snapshot.inherits(agent) {
            true => snapshot.ancestors_of(agent).last().flatten().map(|top| &**top),
            false => Some(agent),
        };
        holder.is_some_and(|one| {
            let namespace = one.label.namespace.as_str();
            self.classes.contains(&(namespace, one.class.as_str()))
                || self.agents.contains(&(namespace, one.label.name.as_str()))
                || self.groups.get(namespace).is_some_and(|groups| groups.iter().any(|group| group.has(one)))
        })
    }
}

type Page = (Vec<Holder>, Option<Place>, usize);

fn page(
    desk: &Desk,
    snapshot: &Snapshot,
    right: &Right,
    ask: &WhoCan,
    from: Option<Begin>,
    now: Timestamp,
    until: Instant,
) -> Result<Page, Fault> {
    let size = if ask.page_size == 0 { USUAL } else { ask.page_size as usize };
    let candidates = Candidates::of(snapshot, &ask.question, now);
    let begun = from.as_ref().map_or(snapshot.revision(), |begin| begin.begun);
    let roster = desk.rosters.of(snapshot, ask.namespace.as_ref(), begun);
    let mut books = HashMap::new();
    let (mut holders, mut decided, mut last) = (Vec::new(), 0, None);
    for (walked, agent) in roster.after(snapshot, from.as_ref().map(|begin| &begin.after)).enumerate() {
        // One at least, so that every page goes on. To walk past one costs little, and to decide about one does not.
        if walked > 0 && walked % AT_ONCE == 0 && Instant::now() >= until {
            return Ok((holders, last, decided));
        }
        let is_meant = agent.state == AgentState::Active
            && right.shows(&agent.label.namespace)
            && (ask.on_behalf_of.is_none() || !snapshot.delegation_grants_to(agent).is_empty())
            && candidates.has(snapshot, agent);
        if is_meant {
            let is_enough = holders.len() >= size || decided >= DECIDED;
            if is_enough || (decided > 0 && Instant::now() >= until) {
                return Ok((holders, last, decided));
            }
            holders.extend(decide(desk, snapshot, right, ask, agent, now, &mut books)?);
            decided += 1;
        }
        last = Some(place(agent));
    }
    Ok((holders, None, decided))
}

fn decide(
    desk: &Desk,
    snapshot: &Snapshot,
    right: &Right,
    ask: &WhoCan,
    agent: &Arc<Agent>,
    now: Timestamp,
    books: &mut HashMap<Name, Book>,
) -> Result<Option<Holder>, Fault> {
    let single = Ask {
        subject: Subject::Asserted(agent.id.clone()),
        presenter: None,
        presenter_key: None,
        on_behalf_of: ask.on_behalf_of.clone(),
        question: ask.question.clone(),
        at_least_revision: 0,
        max_staleness: None,
        correlation_id: String::new(),
    };
    let judged = judge(desk, right, &single, snapshot, now, |namespace| desk.policies(snapshot, namespace));
    let not_ready = |_| Fault::unavailable(&POLICY_NOT_READY, "the newest policies are still being compiled", AGAIN);
    let Answer { denied, causes, .. } = judged.map_err(not_ready)?.answer;
    let Some(why) = denied else { return Ok(Some(Holder { agent: Arc::clone(agent), causes, on: None })) };
    if ask.on_behalf_of.is_some() || !may_depend(why) {
        return Ok(None);
    }
    let namespace = &agent.label.namespace;
    let book = books.entry(namespace.clone()).or_insert_with(|| {
        Book::open(snapshot, namespace.as_str(), known(desk, snapshot, namespace.as_str()).as_deref())
    });
    let attributes = ask.question.attributes.0.keys().cloned().collect();
    let fixed = Fixed { action: true, kind: true, id: true, attributes };
    let outlook = book.outlook(&fixed);
    let verdict = look(&desk.bench, snapshot, agent, &ask.question, outlook, now);
    // Of what holds it back, something was approved; what else it hangs on was not told apart.
    let is_lifted = || {
        let towards = right.towards(None);
        let approved =
            |towards: Option<&[&str]>| !approval::of(snapshot, agent, &ask.question, towards, now).is_empty();
        let each = towards.iter().flatten().any(|one| approved(Some(&[one])));
        each || approved(towards.as_deref())
    };
    Ok(match verdict.holds {
        Holds::Depends(on) => Some(Holder { agent: Arc::clone(agent), causes: verdict.causes, on: Some(on) }),
        Holds::Never if is_lifted() => {
            let cause = Cause::plain(CauseKind::View, "a person approved something that policies hold back");
            let on = Some(vec![On { cause, content: String::new() }]);
            Some(Holder { agent: Arc::clone(agent), causes: verdict.causes, on })
        }
        // What is denied as it was asked is not allowed whatever is stated.
        Holds::Always | Holds::Never => None,
    })
}

/// Whether other arguments, or another hour, could make another answer.
fn may_depend(why: Why) -> bool {
    let of_boundary = matches!(
        why,
        Why::BoundaryRegion | Why::BoundaryData | Why::BoundaryPurpose | Why::BoundaryRegime | Why::BoundaryHours
    );
    of_boundary
        || matches!(
            why,
            Why::NoPolicyPermits
                | Why::ForbiddenByPolicy
                | Why::ApprovalRequired
                | Why::PolicyError
                | Why::OutsideSchema
        )
}
