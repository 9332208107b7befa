//! The formula for an agent that acts for another: what it may itself, what every grant of the chain lets through, and what
//! everybody who delegates may himself; each link can only cut.

use legate_authority::{Answer as Granted, Cut, carried, decide};
use legate_clock::Timestamp;
use legate_view::{Agent, Broken, Delegation, DelegationGrant, Delegator, Person, Snapshot, Source};

use super::answer::{Answer, Cause, CauseKind, Denial, Why};
use super::approval;
use super::authority::{Bench, cut_everywhere};
use super::policies::Compiled;
use super::question::{Question, Record, Value};
use super::shadow;

/// The name in a policy's context of that for whom the agent acts. Absent when it acts for itself.
pub(crate) const ON_BEHALF_OF: &str = "on_behalf_of";

/// The word and the cause of a chain that does not hold.
pub(crate) fn broken(why: &Broken) -> (Why, String) {
    let word = match why {
        Broken::NoGrant(_) => Why::GrantNotInForce,
        Broken::Window(_) => Why::GrantOutsideWindow,
        Broken::Loose(_) => Why::ChainInvalid,
        Broken::TooLong(_) => Why::ChainTooLong,
        Broken::Stopped(..) => Why::DelegatorStopped,
    };
    (word, why.to_string())
}

/// The subject as it is told and recorded: `user:NAME`, or an agent's id.
pub(crate) fn subject(delegation: &Delegation) -> String {
    match delegation.subject() {
        Some(Delegator::Person(person)) => person.name.clone(),
        Some(Delegator::Agent(agent)) => agent.id.to_string(),
        None => String::new(),
    }
}

/// The groups of people that the person for whom the agent acts was proved to be a member of, and that count.
pub(crate) fn groups(delegation: &Delegation) -> &[String] {
    match delegation.subject() {
        Some(Delegator::Person(person)) => &person.groups,
        Some(Delegator::Agent(_)) | None => &[],
    }
}

/// The question with that for whom the agent acts in its context.
pub(crate) fn question(question: &Question, delegation: &Delegation) -> Question {
    let texts = |all: Vec<String>| Value::Set(all.into_iter().map(Value::Text).collect());
    let kind = if matches!(delegation.subject(), Some(Delegator::Person(_))) { "user" } else { "agent" };
    let said = Record::from([
        ("subject".to_owned(), Value::Text(subject(delegation))),
        ("kind".to_owned(), Value::Text(kind.to_owned())),
        ("actors".to_owned(), texts(delegation.hops.iter().map(|hop| hop.delegate.id.to_string()).collect())),
        ("grants".to_owned(), texts(delegation.hops.iter().map(|hop| hop.grant.label.name.to_string()).collect())),
        ("groups".to_owned(), texts(groups(delegation).to_vec())),
        ("depth".to_owned(), Value::Long(i64::try_from(delegation.hops.len()).unwrap_or(i64::MAX))),
    ]);
    let mut question = question.clone();
    question.context.insert(ON_BEHALF_OF.to_owned(), Value::Record(said));
    question
}

/// The grants of a chain as the caller reads them, newest first.
pub(crate) fn grants(delegation: &Delegation) -> impl Iterator<Item = Cause> {
    delegation.hops.iter().map(|hop| {
        let text = format!("lets {} act for {}", hop.delegate.label.name, hop.delegator);
        Cause::of(CauseKind::Grant, &hop.grant.label, text)
    })
}

impl Bench {
    /// Cuts `answer`, what the acting agent itself may and allowed so far, by the whole chain; `towards` are the audiences
    /// one of which it is for, `None` where that is not asked.
    #[allow(clippy::too_many_arguments, reason = "what a decision rests on, in one place")]
    pub(crate) fn on_behalf(
        &self,
        snapshot: &Snapshot,
        delegation: &Delegation,
        question: &Question,
        towards: Option<&[&str]>,
        policies: Option<&Compiled>,
        now: Timestamp,
        mut answer: Answer,
    ) -> Answer {
        answer.until = answer.until.into_iter().chain(delegation.ends).min();
        if let Err(denied) = through(delegation, question, towards, now) {
            return denied;
        }
        answer.causes.extend(grants(delegation));
        for hop in &delegation.hops {
            let said = match &hop.delegator {
                Delegator::Agent(agent) => self.delegator(snapshot, agent, question, towards, policies, now),
                Delegator::Person(one) => person(snapshot, &hop.grant, one, question, now),
            };
            answer.until = answer.until.into_iter().chain(said.until).min();
            answer.log_only.extend(said.log_only);
            shadow::add(&mut answer.shadow, said.shadow);
            match said.denied {
                None => answer.causes.extend(said.causes),
                Some(why) => {
                    answer.denied = Some(word_above(why));
                    let told = format!("{}: it acts for him, and he may not", hop.delegator);
                    answer.causes = vec![Cause::of(CauseKind::Grant, &hop.grant.label, told)];
                    answer.causes.extend(said.causes);
                    return answer;
                }
            }
        }
        answer
    }

    /// What an agent that delegates may itself, by everything that an agent is judged by.
    fn delegator(
        &self,
        snapshot: &Snapshot,
        agent: &Agent,
        question: &Question,
        towards: Option<&[&str]>,
        policies: Option<&Compiled>,
        now: Timestamp,
    ) -> Answer {
        let mut answer = self.before_policies(snapshot, agent, question, now);
        if answer.denied.is_none() {
            // He is judged as if he asked himself, so by what was approved for him.
            let approvals = approval::of(snapshot, agent, question, towards, now);
            answer = self.with_policies(snapshot, agent, question, policies, &approvals, now, answer);
        }
        if answer.denied.is_none() {
            let text = "may do it itself, and another acts for it";
            // What was approved for him is named with what is his own.
            answer.causes.retain(|cause| cause.kind == CauseKind::Approval);
            answer.causes.insert(0, Cause::of_agent(CauseKind::Delegator, agent, text));
        }
        answer
    }
}

/// Whether every grant lets the question through, towards one and the same audience.
pub(crate) fn through(
    delegation: &Delegation,
    question: &Question,
    towards: Option<&[&str]>,
    now: Timestamp,
) -> Result<(), Answer> {
    let links: Vec<_> = delegation.hops.iter().map(|hop| hop.grant.link()).collect();
    let carried = |audience| carried(&links, &question.request(), audience, now.micros());
    let found = match towards {
        None => carried(None),
        Some(all) => {
            let mut tried = all.iter().map(|audience| carried(Some(audience)));
            // To whom no audience belongs, a grant that is for some only lets nothing through.
            let first = tried.next().unwrap_or_else(|| carried(Some("")));
            if first.is_ok() || tried.any(|one| one.is_ok()) { Ok(()) } else { first }
        }
    };
    found.map_err(|(n, cut)| {
        let (why, text) = match cut {
            Cut::Window => (Why::GrantOutsideWindow, "cuts it: it does not hold now"),
            Cut::Audience => (Why::GrantAudience, "cuts it: it is for other audiences"),
            Cut::Permission => (Why::GrantNotPermitted, "cuts it: it lets other things be done"),
        };
        let cause = match delegation.hops.get(n) {
            Some(hop) => Cause::of(CauseKind::Grant, &hop.grant.label, text),
            None => Cause::plain(CauseKind::Grant, text),
        };
        Answer::deny(why, cause)
    })
}

/// The word of a denial where somebody for whom an agent acts is denied with `why`.
pub(crate) fn word_above(why: Why) -> Why {
    match why.kind() {
        Denial::NotPermitted => Why::DelegatorNotPermitted,
        Denial::Forbidden | Denial::Undecided => why,
    }
}

/// Whether the grant alone bounds the person: the namespace says so, and it was not the person who made it. What somebody
/// says of himself is never taken for what he may.
pub(super) fn is_bounded_by(snapshot: &Snapshot, grant: &DelegationGrant) -> bool {
    snapshot.rules_of(grant.label.namespace.as_str()).people_by_grant && !grant.is_by_person
}

/// What a person may: what role bindings give, or, where the namespace says so, whatever the grants let through.
pub(crate) fn person(
    snapshot: &Snapshot,
    by: &DelegationGrant,
    person: &Person,
    question: &Question,
    now: Timestamp,
) -> Answer {
    let (namespace, name) = (by.label.namespace.as_str(), &person.name);
    let mut answer = Answer::allow(Vec::new());
    if is_bounded_by(snapshot, by) {
        let text = format!("{name}: the namespace takes a person's grant for his authority");
        answer.causes.push(Cause::plain(CauseKind::Delegator, text));
        return answer;
    }
    let given: Vec<_> = snapshot.grants_of_person(namespace, person).collect();
    let changes = given.iter().filter_map(|grant| grant.window.next_change(now.micros()));
    answer.until = changes.map(Timestamp::from_micros).min();
    let none: [((), &legate_authority::Ceiling); 0] = [];
    match decide(&question.request(), now.micros(), given, none) {
        Granted::Granted { by } => answer.causes.extend(by.iter().filter_map(|source| match source {
            Source::Binding(binding, role, _) => {
                let text = format!("gives it to {name} (role {})", role.label);
                Some(Cause::of(CauseKind::Delegator, &binding.label, text))
            }
            Source::Class(_) => None,
        })),
        Granted::Denied(_) => {
            answer.denied = Some(Why::DelegatorNotPermitted);
            let text = format!(
                "{name}: no role binding gives it to this person now, nor to a group that a token shows him in"
            );
            answer.causes.push(Cause::plain(CauseKind::Delegator, text));
        }
    }
    answer
}

/// What of a chain cuts whatever is asked now, where something does.
pub(crate) fn cut_anywhere(snapshot: &Snapshot, delegation: &Delegation, now: Timestamp) -> Option<(Why, Cause)> {
    delegation.delegators().find_map(|agent| cut_everywhere(snapshot, agent, now))
}
