//! What may be declared of a boundary.

use std::collections::BTreeSet;

use legate_wire::registry::{BoundarySpec, Environment, Hours, Weekday};

use super::findings::{Findings, LIST};
use crate::domain::text::Lines;

/// The most agents that a boundary names.
const AGENTS: usize = 256;
/// Minutes of a day.
const DAY: u32 = 24 * 60;

pub(super) fn check(spec: &BoundarySpec, findings: &mut Findings) {
    findings.text("spec.description", &spec.description, Lines::Many);
    findings.texts("spec.agents", &spec.agents, AGENTS, Findings::name);
    findings.texts("spec.groups", &spec.groups, LIST, Findings::name);
    findings.texts("spec.agent_classes", &spec.agent_classes, LIST, Findings::name);
    for (path, values) in [
        ("spec.regions", &spec.regions),
        ("spec.data_classifications", &spec.data_classifications),
        ("spec.purposes", &spec.purposes),
        ("spec.regimes", &spec.regimes),
    ] {
        findings.texts(path, values, LIST, |findings, path, value| findings.required(path, value, Lines::One));
    }
    let environments = "ENVIRONMENT_DEV, ENVIRONMENT_TEST or ENVIRONMENT_PROD";
    findings.choices::<Environment>("spec.environments", &spec.environments, environments);
    if findings.at_most("spec.hours", spec.hours.len(), LIST) {
        let mut seen = BTreeSet::new();
        for (n, hours) in spec.hours.iter().enumerate() {
            let path = format!("spec.hours[{n}]");
            check_hours(&path, hours, findings);
            if !seen.insert((hours.days.clone(), hours.from_minute, hours.until_minute)) {
                findings.add(path, "is given twice");
            }
        }
    }
}

fn check_hours(path: &str, hours: &Hours, findings: &mut Findings) {
    findings.choices::<Weekday>(&format!("{path}.days"), &hours.days, "WEEKDAY_MONDAY to WEEKDAY_SUNDAY");
    if hours.from_minute >= DAY {
        findings.add(format!("{path}.from_minute"), format!("is {}; give 0 to {}", hours.from_minute, DAY - 1));
    } else if hours.until_minute > DAY {
        findings.add(format!("{path}.until_minute"), format!("is {}; give 1 to {DAY}", hours.until_minute));
    } else if hours.until_minute <= hours.from_minute {
        let why = format!(
            "is {} and not later than from_minute, {}; give the hours past midnight as hours of the next day",
            hours.until_minute, hours.from_minute
        );
        findings.add(format!("{path}.until_minute"), why);
    }
}
