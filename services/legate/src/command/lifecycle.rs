//! `legate lifecycle-policy`: what is declared, and what it would do to whom.

use std::collections::BTreeMap;

use legate_clock::{Clock as _, SystemClock, Timestamp};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::lifecycle_service_client::LifecycleServiceClient;
use legate_wire::registry::preview_lifecycle_policy_request::Whose;
use legate_wire::registry::{
    Kind, LifecycleImpact, LifecyclePolicy, PreviewLifecyclePolicyRequest, PreviewLifecyclePolicyResponse,
};

use super::agent::cut;
use super::stop_touches::acted_within_a_day;
use super::{Desk, change, declared, named, search};
use crate::cli::{LifecyclePreview, LifecycleVerb};
use crate::error::USAGE;
use crate::output::{Row, moment};
use crate::place::Service;
use crate::{Exit, Failure, proto};

/// So many at a time.
const PAGE: u32 = 1_000;

pub(super) async fn run(desk: Desk, verb: LifecycleVerb) -> Result<Exit, Failure> {
    match verb {
        LifecycleVerb::Declared(verb) => declared::run(desk, Kind::LifecyclePolicy, verb).await,
        LifecycleVerb::Preview(ask) => preview(desk, ask).await,
    }
}

/// Whose doing is looked at, and in which namespace.
fn whose(ask: &LifecyclePreview) -> Result<(String, Whose), Failure> {
    if let Some(namespace) = &ask.namespace {
        return Ok((namespace.clone(), Whose::All(true)));
    }
    if let Some(name) = &ask.name {
        let (namespace, name) = named(name)?;
        return Ok((namespace, Whose::Name(name)));
    }
    let declared = change::read(&ask.files)?.into_iter().filter_map(|document| match document.declaration.object {
        Some(Object::LifecyclePolicy(policy)) => Some(policy),
        _ => None,
    });
    let mut policies: Vec<LifecyclePolicy> = declared.collect();
    match (policies.pop(), policies.is_empty()) {
        (Some(policy), true) => {
            let namespace = policy.metadata.as_ref().map(|m| m.namespace.clone()).unwrap_or_default();
            Ok((namespace, Whose::Policy(policy)))
        }
        (found, _) => {
            let text = format!(
                "the files hold {} lifecycle policies; give one",
                policies.len() + usize::from(found.is_some())
            );
            Err(Failure::local(&USAGE, text))
        }
    }
}

/// Until when it is looked; none: as the registry usually does.
fn until(ask: &LifecyclePreview, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    if let Some(text) = &ask.within {
        return Ok(Some(now.plus(search::span("--within", text)?)));
    }
    let Some(text) = &ask.as_of else { return Ok(None) };
    let wrong = || Failure::local(&USAGE, format!("--as-of {text:?} is no moment such as 2027-01-31T00:00:00Z"));
    Timestamp::parse_rfc3339(text).map(Some).ok_or_else(wrong)
}

async fn preview(desk: Desk, ask: LifecyclePreview) -> Result<Exit, Failure> {
    let (namespace, whose) = whose(&ask)?;
    let until_time = until(&ask, SystemClock::new().now())?;
    let (mut whole, summary) = impact(&desk, &namespace, whose, until_time).await?;
    cut(&mut whole.impacts, ask.limit.limit);
    let rows: Vec<Row> = whole.impacts.iter().map(|impact| row(&namespace, impact)).collect();
    desk.out().rows(&proto::dynamic(&whole), &rows, &summary)?;
    Ok(Exit::Done)
}

/// What lifecycle policies would do to whom, whole, and that in a sentence.
pub(super) async fn impact(
    desk: &Desk,
    namespace: &str,
    whose: Whose,
    until: Option<Timestamp>,
) -> Result<(PreviewLifecyclePolicyResponse, String), Failure> {
    let registry = desk.line(Service::Registry)?;
    let mut whole = PreviewLifecyclePolicyResponse::default();
    let mut request = PreviewLifecyclePolicyRequest {
        namespace: namespace.to_owned(),
        whose: Some(whose),
        until_time: until.map(Into::into),
        page_size: PAGE,
        page_token: String::new(),
    };
    loop {
        let page = registry
            .ask(
                request.clone(),
                |c, r| async move { LifecycleServiceClient::new(c).preview_lifecycle_policy(r).await },
            )
            .await?;
        whole.impacts.extend(page.impacts);
        whole.looked_at += page.looked_at;
        whole.concerned += page.concerned;
        (whole.until_time, whole.revision) = (page.until_time, page.revision);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    // What the record of decisions knows counts too; that it does not answer keeps nobody from seeing the rest.
    let acted = acted_within_a_day(desk, namespace).await;
    if let Ok((ids, _)) = &acted {
        for impact in &mut whole.impacts {
            impact.used_in_last_day |= ids.contains(&impact.agent_id);
        }
    }
    let summary = summary(&whole, acted.as_ref().map(|(_, is_cut)| *is_cut).map_err(ToString::to_string));
    Ok((whole, summary))
}

/// `would suspend 12 agents, 3 of which acted in the last day, and retire 1; of 40 agents, 30 are concerned, until ...`.
fn summary(whole: &PreviewLifecyclePolicyResponse, acted: Result<bool, String>) -> String {
    let mut counts: BTreeMap<&'static str, (usize, usize, u64)> = BTreeMap::new();
    for impact in &whole.impacts {
        let word = proto::word(impact.action().as_str_name(), "LIFECYCLE_ACTION_");
        let (all, lately, below) = counts.entry(word).or_default();
        *all += 1;
        *below += u64::from(impact.agents_below);
        *lately += usize::from(impact.used_in_last_day);
    }
    let known = match acted {
        Ok(false) => String::new(),
        Ok(true) => " at least".to_owned(),
        Err(why) => format!(" as far as the registry knows (audit-collector: {why})"),
    };
    let each = counts.iter().map(|(word, (all, lately, below))| {
        let plural = if *all == 1 { "" } else { "s" };
        let word = word.to_lowercase();
        // What stops with its maker works again with it; what is retired with it does not.
        let with = match (*below, word.as_str()) {
            (0, _) => String::new(),
            (below, "retire") => format!(" and {below} below, for ever"),
            (below, _) => format!(" and stop {below} below"),
        };
        format!("would {word} {all} agent{plural}{with}, {lately}{known} of which acted in the last day")
    });
    let each: Vec<String> = each.collect();
    let what = if each.is_empty() { "nothing would be done".to_owned() } else { each.join("; ") };
    format!(
        "{what}; until {}; {} of {} agents are concerned",
        moment(whole.until_time.as_ref()),
        whole.concerned,
        whole.looked_at
    )
}

/// The agents that stop or are retired with it: `3: a-bot, b-bot, c-bot`.
fn below(impact: &LifecycleImpact) -> String {
    let many = impact.agents_below as usize;
    let more = many.saturating_sub(impact.below.len());
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    if many == 0 { String::new() } else { format!("{many}: {}{more}", impact.below.join(", ")) }
}

fn row(namespace: &str, impact: &LifecycleImpact) -> Row {
    let name = format!("{namespace}/{}", impact.agent);
    let action = proto::word(impact.action().as_str_name(), "LIFECYCLE_ACTION_");
    let told = if impact.report_only { "only told" } else { "" };
    Row {
        cells: vec![
            ("AGENT", false, name.clone()),
            ("ACTION", false, action.to_owned()),
            ("WHEN", false, moment(impact.act_time.as_ref())),
            ("RULE", false, proto::word(impact.rule().as_str_name(), "LIFECYCLE_RULE_").to_owned()),
            ("POLICY", false, impact.policy.clone()),
            ("WITH IT", false, below(impact)),
            ("ACTED IN THE LAST DAY", false, if impact.used_in_last_day { "yes" } else { "" }.to_owned()),
            ("DUE", true, moment(impact.due_time.as_ref())),
            ("LAST USED", true, moment(impact.last_used_time.as_ref())),
            ("NOTE", true, told.to_owned()),
            ("ID", true, impact.agent_id.clone()),
        ],
        name,
        message: proto::dynamic(impact),
        node: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_wire::registry::LifecycleAction;

    #[test]
    fn the_summary_counts_by_what_is_done_and_says_who_acted() {
        let impact = |action: LifecycleAction, used_in_last_day| LifecycleImpact {
            action: action.into(),
            used_in_last_day,
            ..LifecycleImpact::default()
        };
        let whole = PreviewLifecyclePolicyResponse {
            impacts: vec![
                impact(LifecycleAction::Suspend, true),
                impact(LifecycleAction::Suspend, false),
                impact(LifecycleAction::Retire, false),
            ],
            looked_at: 9,
            concerned: 7,
            until_time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
            ..PreviewLifecyclePolicyResponse::default()
        };
        assert_eq!(
            summary(&whole, Ok(false)),
            "would retire 1 agent, 0 of which acted in the last day; would suspend 2 agents, 1 of which acted in the last \
             day; until 2027-01-15T08:00:00Z; 7 of 9 agents are concerned"
        );
        let of = |action: LifecycleAction| LifecycleImpact { agents_below: 3, ..impact(action, false) };
        let below = PreviewLifecyclePolicyResponse {
            impacts: vec![of(LifecycleAction::Expire), of(LifecycleAction::Retire)],
            ..whole.clone()
        };
        let told = summary(&below, Ok(false));
        assert!(told.contains("would expire 1 agent and stop 3 below, 0 of"), "{told}");
        assert!(told.contains("would retire 1 agent and 3 below, for ever, 0 of"), "{told}");
        let none = PreviewLifecyclePolicyResponse { impacts: Vec::new(), ..whole };
        assert!(summary(&none, Err("away".into())).starts_with("nothing would be done; until "));
    }

    #[test]
    fn a_moment_is_given_in_one_way_or_the_other() {
        let now = Timestamp::from_secs(1_800_000_000);
        let ask = |as_of: Option<&str>, within: Option<&str>| LifecyclePreview {
            name: None,
            files: Vec::new(),
            namespace: Some("payments".into()),
            as_of: as_of.map(Into::into),
            within: within.map(Into::into),
            limit: crate::cli::Limit { limit: 10 },
        };
        assert_eq!(until(&ask(None, None), now).unwrap(), None);
        assert_eq!(until(&ask(None, Some("1d")), now).unwrap().unwrap().secs(), 1_800_086_400);
        assert_eq!(until(&ask(Some("2027-01-15T08:00:00Z"), None), now).unwrap(), Some(now));
        assert_eq!(until(&ask(Some("soon"), None), now).unwrap_err().reason, "USAGE");
    }
}
