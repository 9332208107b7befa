//! Chapter: one distributed trace covers all four services.

use super::collect::{Collector, services_in, tree};
use super::narrate::{Broken, timed};
use super::{PATIENCE, Stage};
use crate::dev::pki::SERVICES;

/// Lines of the tree that are shown.
const MOST_LINES: usize = 60;

pub(super) async fn tell(
    stage: &mut Stage,
    mut collector: Collector,
    guard: legate_boot::Guard,
    trace: &str,
) -> Result<(), Broken> {
    stage.tell.chapter("One trace covers it all, exported by OTLP to a collector in this process");
    guard.flush().await;
    let (spans, took) = timed(collector.trace(trace, &SERVICES, PATIENCE)).await;
    let seen = services_in(&spans);
    let all = SERVICES.iter().all(|s| seen.iter().any(|n| n == s));
    let told = format!("{} spans from {}", spans.len(), seen.join(", "));
    stage.tell.check(all, &format!("trace {trace}"), &told, took);
    let lines = tree(&spans);
    stage.tell.show(&lines[..lines.len().min(MOST_LINES)]);
    if lines.len() > MOST_LINES {
        stage.tell.say(&format!("and {} lines more", lines.len() - MOST_LINES));
    }
    Ok(())
}
