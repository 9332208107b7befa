//! What may be declared of a lifecycle policy.

use std::time::Duration;

use legate_filter::{Filter, Scope};
use legate_wire::audit::AlertType;
use legate_wire::registry::{AlertRule, LifecycleAction, LifecycleMode, LifecyclePolicySpec};

use super::findings::{Findings, LIST};
use crate::domain::lifecycle_policy::{SEVERITIES, severity};
use crate::domain::succession::LONGEST_GRACE;
use crate::domain::text::{self, Lines, quoted};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Two years of 365.25 days: what is confirmed or used more seldom is not watched over.
const TWO_YEARS: Duration = Duration::from_secs(63_115_200);
/// Ten years of 365.25 days.
const TEN_YEARS: Duration = Duration::from_secs(315_576_000);
/// The most agents that one policy stops because of alerts, within its time: more is what a stop order is for.
const MOST_STOPPED: u32 = 1_000;

pub(super) fn check(spec: &LifecyclePolicySpec, findings: &mut Findings) {
    findings.text("spec.description", &spec.description, Lines::Many);
    whom(spec, findings);
    let modes = "LIFECYCLE_MODE_ENFORCE or LIFECYCLE_MODE_REPORT";
    findings.choice::<LifecycleMode>("spec.mode", spec.mode, true, modes);
    for (path, value, range, words) in [
        ("spec.attest_every", spec.attest_every, DAY..=TWO_YEARS, "1 day to 2 years"),
        ("spec.expire_after", spec.expire_after, HOUR..=TEN_YEARS, "1 hour to 10 years"),
        ("spec.suspend_when_dormant_for", spec.suspend_when_dormant_for, DAY..=TWO_YEARS, "1 day to 2 years"),
        (
            "spec.suspend_when_orphaned_for",
            spec.suspend_when_orphaned_for,
            Duration::ZERO..=LONGEST_GRACE,
            "0 to 90 days",
        ),
        ("spec.retire_after_suspended_for", spec.retire_after_suspended_for, DAY..=TEN_YEARS, "1 day to 10 years"),
        ("spec.grace", spec.grace, Duration::ZERO..=90 * DAY, "0 to 90 days"),
        ("spec.notify_before", spec.notify_before, Duration::ZERO..=90 * DAY, "0 to 90 days"),
    ] {
        findings.span(path, value, range, words);
    }
    if spec.unattested != 0 {
        stops("spec.unattested", spec.unattested, findings);
        if spec.attest_every.is_none() {
            findings
                .add("spec.unattested", "says what becomes of agents that were not confirmed; give attest_every too");
        }
    }
    if let Some(rule) = &spec.on_alert {
        check_alert(rule, findings);
    }
    let rules = [
        spec.attest_every.is_some(),
        spec.expire_after.is_some(),
        spec.suspend_when_dormant_for.is_some(),
        spec.suspend_when_orphaned_for.is_some(),
        spec.retire_after_suspended_for.is_some(),
        spec.on_alert.is_some(),
    ];
    if !rules.contains(&true) {
        findings.add(
            "spec",
            "has no rule; give attest_every, expire_after, suspend_when_dormant_for, suspend_when_orphaned_for, \
             retire_after_suspended_for or on_alert",
        );
    }
}

fn whom(spec: &LifecyclePolicySpec, findings: &mut Findings) {
    findings.texts("spec.groups", &spec.groups, LIST, Findings::name);
    findings.texts("spec.agent_classes", &spec.agent_classes, LIST, Findings::name);
    if spec.selector.is_empty() {
        return;
    }
    if let Some(why) = text::fault_in(&spec.selector, legate_filter::LONGEST, Lines::Many) {
        findings.add("spec.selector", why);
    } else if let Err(e) = Filter::parse(&spec.selector, Scope::Selector) {
        findings.add("spec.selector", format!("is refused: {e}"));
    }
}

/// What a policy may do to agents that an operator can take back at once.
fn stops(path: &str, action: i32, findings: &mut Findings) {
    let words = "LIFECYCLE_ACTION_SUSPEND or LIFECYCLE_ACTION_QUARANTINE";
    match LifecycleAction::try_from(action) {
        Ok(LifecycleAction::Suspend | LifecycleAction::Quarantine) => {}
        Ok(LifecycleAction::Unspecified) => findings.add(path, format!("is missing; give {words}")),
        Ok(LifecycleAction::Expire | LifecycleAction::Retire) => {
            findings.add(path, format!("is for other rules; give {words}"));
        }
        Err(_) => findings.add(path, format!("{action} is not known; give {words}")),
    }
}

fn check_alert(rule: &AlertRule, findings: &mut Findings) {
    let path = "spec.on_alert";
    if rule.alert_types.is_empty() {
        findings.add(format!("{path}.alert_types"), format!("is empty; give 1 to {LIST}"));
    }
    findings.texts(&format!("{path}.alert_types"), &rule.alert_types, LIST, |findings, path, word| {
        let known = AlertType::from_str_name(&format!("ALERT_TYPE_{word}"));
        if known.is_none_or(|known| known == AlertType::Unspecified) {
            let why = format!("{} is no type of alert, such as ACTION_DESPITE_DENIAL (docs/alerts.md)", quoted(word));
            findings.add(path, why);
        }
    });
    if severity(&rule.min_severity).is_none() {
        let why = format!("{} is none of {}", quoted(&rule.min_severity), SEVERITIES.join(", "));
        findings.add(format!("{path}.min_severity"), why);
    }
    stops(&format!("{path}.action"), rule.action, findings);
    if !(1..=MOST_STOPPED).contains(&rule.max_agents) {
        let why = format!("is {}; give 1 to {MOST_STOPPED}", rule.max_agents);
        findings.add(format!("{path}.max_agents"), why);
    }
    if rule.per.is_none() {
        findings.add(format!("{path}.per"), "is missing; give 1 minute to 30 days");
    }
    findings.span(&format!("{path}.per"), rule.per, MINUTE..=30 * DAY, "1 minute to 30 days");
}
