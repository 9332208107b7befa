//! `legate policy shadow`: which decisions policies in LOG_ONLY would have turned round, with the last of them.

use legate_wire::policy::preview_service_client::PreviewServiceClient;
use legate_wire::policy::{GetShadowRequest, ShadowCount};

use super::super::{Desk, named, shadow::example};
use crate::error::USAGE;
use crate::output::{Row, escape::visible, moment};
use crate::place::Service;
use crate::{Exit, Failure, proto};

/// Examples that are shown to people, unless they ask for `wide`.
const SHOWN: usize = 5;

pub(super) async fn run(desk: Desk, name: &str) -> Result<Exit, Failure> {
    let (namespace, name) = match name.split_once('/') {
        Some(_) => named(name)?,
        None => match legate_ids::Name::parse(name) {
            Ok(namespace) => (namespace.to_string(), String::new()),
            Err(e) => {
                return Err(Failure::local(&USAGE, format!("{name:?} is neither NAMESPACE/NAME nor NAMESPACE: {e}")));
            }
        },
    };
    let policy = desk.line(Service::Policy)?;
    let request = GetShadowRequest { namespace, name };
    let answer = policy.ask(request, |c, r| async move { PreviewServiceClient::new(c).get_shadow(r).await }).await?;
    let mut out = desk.out();
    if !out.is_table() {
        let row = |count: &ShadowCount| Row {
            cells: Vec::new(),
            name: format!(
                "{}@{} would_allow={} would_deny={}",
                count.policy, count.version, count.would_allow, count.would_deny
            ),
            message: proto::dynamic(count),
            node: None,
        };
        let rows: Vec<Row> = answer.counts.iter().map(row).collect();
        out.rows(&proto::dynamic(&answer), &rows, "")?;
        return Ok(Exit::Done);
    }
    let most = if out.format == crate::output::Format::Wide { usize::MAX } else { SHOWN };
    for line in answer.counts.iter().flat_map(|count| lines(count, most)) {
        out.line(&visible(&line))?;
    }
    if answer.counts.is_empty() {
        out.line("No policy in LOG_ONLY was evaluated since this policy-decision started.")?;
    }
    out.line("Counted by this policy-decision alone; others count for themselves.")?;
    out.flush()?;
    Ok(Exit::Done)
}

fn lines(count: &ShadowCount, most: usize) -> Vec<String> {
    let ShadowCount { policy, version, decisions, would_allow, would_deny, .. } = count;
    let since = moment(count.since.as_ref());
    let mut lines = vec![format!(
        "{policy}@{version}: of {decisions} decisions since {since} it would have denied {would_deny} that were allowed, \
         and allowed {would_allow} that were denied"
    )];
    lines.extend(count.examples.iter().take(most).map(example));
    lines
}

#[cfg(test)]
mod tests {
    use legate_wire::policy::{Decision, ShadowExample};

    use super::*;

    #[test]
    fn a_count_reads_as_a_sentence_with_its_examples_below() {
        let one = ShadowExample {
            decision_id: "dec_1".into(),
            agent_id: "agt_1".into(),
            action: "invoice:read".into(),
            resource_type: "Invoice".into(),
            resource_id: "apollo/7".into(),
            would: Decision::Deny.into(),
            time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        };
        let count = ShadowCount {
            policy: "pay/trial".into(),
            version: 2,
            decisions: 9,
            would_deny: 3,
            since: one.time,
            examples: vec![one.clone(), one],
            ..ShadowCount::default()
        };
        assert_eq!(
            lines(&count, 1),
            [
                "pay/trial@2: of 9 decisions since 2027-01-15T08:00:00Z it would have denied 3 that were allowed, and allowed 0 that were denied",
                "  would deny agt_1 invoice:read Invoice:apollo/7 2027-01-15T08:00:00Z dec_1",
            ]
        );
    }
}
