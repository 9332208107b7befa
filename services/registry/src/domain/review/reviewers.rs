//! Who decides about an item, and who may not: nobody decides about what he gave, nor an owner about his own agent.

use std::collections::BTreeSet;

use legate_ids::Name;
use legate_wire::registry::{AgentSpec, ReviewCampaignSpec, ReviewerOperators, ReviewerRule};

/// The most who are asked about one item.
const MOST: usize = 256;

/// The operators, by name, by whom somebody decides: an operator himself; a person or a group by those that the campaign names, and
/// a person of whom it names none by the operator of the same name.
pub(crate) fn operators_of(who: &str, people: &[ReviewerOperators]) -> Vec<String> {
    if let Some(operator) = who.strip_prefix("operator:") {
        return vec![operator.to_owned()];
    }
    if let Some(known) = people.iter().find(|one| one.who == who) {
        return known.operators.clone();
    }
    let name = who.strip_prefix("user:").filter(|name| Name::parse(name).is_ok());
    name.map(str::to_owned).into_iter().collect()
}

fn all_of<'a>(who: impl IntoIterator<Item = &'a String>, people: &[ReviewerOperators]) -> BTreeSet<String> {
    who.into_iter().flat_map(|who| operators_of(who, people)).collect()
}

/// The operators who may not decide: whoever wrote what is reviewed (`writers`, as SPIFFE IDs, or `user:NAME` for a person's own
/// grant), and the agent's owners. Where owners are asked, one who alone owns the agent and is alone accountable for it: nobody else
/// would have looked.
pub(crate) fn barred<'w>(
    spec: &ReviewCampaignSpec,
    agent: &AgentSpec,
    writers: impl IntoIterator<Item = &'w str>,
) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for writer in writers {
        match writer.rsplit_once("/legate/operator/") {
            Some((_, operator)) => drop(all.insert(operator.to_owned())),
            None => all.extend(operators_of(writer, &spec.people)),
        }
    }
    let owners = all_of(&agent.owners, &spec.people);
    let is_alone = owners.len() == 1 && all_of(&agent.sponsors, &spec.people) == owners;
    if spec.reviewers() != ReviewerRule::Owners || is_alone {
        all.extend(owners);
    }
    all
}

/// Who is asked about an agent, as `operator:NAME`: whom the campaign's rule names, and where none of these may, those of `escalation`.
pub(crate) fn reviewers(spec: &ReviewCampaignSpec, agent: &AgentSpec, barred: &BTreeSet<String>) -> Vec<String> {
    let asked = match spec.reviewers() {
        ReviewerRule::Owners => &agent.owners,
        ReviewerRule::Named => &spec.named_reviewers,
        ReviewerRule::Sponsors | ReviewerRule::Unspecified => &agent.sponsors,
    };
    let asked = &all_of(asked, &spec.people) - barred;
    let asked = if asked.is_empty() { &escalation(spec) - barred } else { asked };
    asked.into_iter().take(MOST).map(|name| format!("operator:{name}")).collect()
}

/// The operators to whom a round is escalated, by name.
pub(crate) fn escalation(spec: &ReviewCampaignSpec) -> BTreeSet<String> {
    all_of(&spec.escalation, &spec.people)
}
