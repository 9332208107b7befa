//! `legate plan`: what an apply would change, what agents would gain and lose, which of them would end, and how the policy tests would.

use legate_wire::policy::{PreviewChangeResponse, SimulateResponse};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::preview_lifecycle_policy_request::Whose;
use legate_wire::registry::{ChangeAction, PreviewLifecyclePolicyResponse};

use super::Desk;
use super::change::{self, Change};
use super::{lifecycle, plan_file, search, shadow};
use crate::cli::Plan;
use crate::error::USAGE;
use crate::output::escape::visible;
use crate::output::{Format, change_lines, change_rows, markdown, preview_lines, simulation_lines};
use crate::yaml::Node;
use crate::{Exit, Failure};

pub(super) async fn run(desk: Desk, args: Plan) -> Result<Exit, Failure> {
    if args.wanted.files.is_empty() {
        return Err(Failure::local(&USAGE, "say which manifests: -f FILE or -f DIR"));
    }
    let change = change::planned(&desk, &args.wanted, 0).await?;
    let preview = match args.objects_only {
        true => None,
        false => Some(change.preview(&desk, Default::default()).await?),
    };
    let simulation = match &args.simulate {
        Some(text) => Some(change.simulate(&desk, search::span("--simulate", text)?).await?),
        None => None,
    };
    let ends = if args.objects_only { Vec::new() } else { ends(&desk, &change).await };
    if let Some(file) = &args.out {
        plan_file::keep(file, &change)?;
    }
    let unasked = unasked(&change);
    let (preview, simulation) = (preview.as_ref(), simulation.as_ref());
    let told = Told { change: &change, preview, simulation, ends: &ends, unasked: &unasked };
    tell(&desk, &args, &told)?;
    if let Some(text) = &args.shadow {
        shadow::follow(&desk, &change, search::span("--shadow", text)?).await?;
    }
    if let Some(preview) = preview {
        change::passed(&preview.tests)?;
    }
    let differs = change.planned.changes.iter().any(|c| c.action() != ChangeAction::Unchanged);
    Ok(if differs && args.detailed_exitcode { Exit::Changes } else { Exit::Done })
}

/// What a lifecycle policy that is new or changes would do to whom.
struct End {
    policy: String,
    /// In a sentence.
    text: String,
    impact: Option<PreviewLifecyclePolicyResponse>,
}

/// What the lifecycle policies among the changes would do, by agents as they are declared now. That it cannot be told keeps nobody from seeing the rest.
async fn ends(desk: &Desk, change: &Change) -> Vec<End> {
    let mut ends = Vec::new();
    for (declaration, planned) in change.declarations.iter().zip(&change.planned.changes) {
        let Some(Object::LifecyclePolicy(policy)) = &declaration.object else { continue };
        if planned.action() == ChangeAction::Unchanged {
            continue;
        }
        let asked = lifecycle::impact(desk, &planned.namespace, Whose::Policy(policy.clone()), None).await;
        let (text, impact) = match asked {
            Ok((impact, text)) => (text, Some(impact)),
            Err(failure) => (format!("what it would do is not known: {failure}"), None),
        };
        ends.push(End { policy: format!("{}/{}", planned.namespace, planned.name), text, impact });
    }
    ends
}

/// Review campaigns among the changes in whose rounds nobody may be left to decide about an agent: by silence it loses what it has.
fn unasked(change: &Change) -> Vec<String> {
    let changed = change.declarations.iter().zip(&change.planned.changes);
    let changed = changed.filter(|(_, planned)| planned.action() != ChangeAction::Unchanged);
    let unasked = changed.filter_map(|(declaration, planned)| match &declaration.object {
        Some(Object::ReviewCampaign(campaign))
            if campaign.spec.as_ref().is_none_or(|spec| spec.escalation.is_empty()) =>
        {
            Some(format!("{}/{}", planned.namespace, planned.name))
        }
        _ => None,
    });
    unasked.collect()
}

/// What comes of that.
const UNASKED: &str = "it names no escalation, so where none of its reviewers may decide, such as sponsors who own the agent or gave it what it has, \
                       nobody is asked, and silence takes it from the agent or suspends it";

/// What is told.
struct Told<'a> {
    change: &'a Change,
    preview: Option<&'a PreviewChangeResponse>,
    simulation: Option<&'a SimulateResponse>,
    ends: &'a [End],
    unasked: &'a [String],
}

fn tell(desk: &Desk, args: &Plan, told: &Told<'_>) -> Result<(), Failure> {
    let Told { change, preview, simulation, ends, unasked } = *told;
    let planned = &change.planned;
    let mut out = desk.out();
    if args.markdown {
        out.line(&markdown(planned, preview))?;
        ends.iter().try_for_each(|end| {
            out.line(&format!("- lifecycle policy `{}`: {}", visible(&end.policy), visible(&end.text)))
        })?;
        unasked.iter().try_for_each(|name| out.line(&format!("- review campaign `{}`: {UNASKED}", visible(name))))?;
        return out.flush();
    }
    match out.format {
        Format::Table | Format::Wide => {
            let words = ["will be created", "will change", "stays", "will be removed"];
            change_lines(&planned.changes, words).iter().try_for_each(|line| out.line(line))?;
            if let Some(preview) = preview {
                preview_lines(preview).iter().try_for_each(|line| out.line(line))?;
            }
            ends.iter().try_for_each(|end| {
                out.line(&format!("Lifecycle policy {}: {}.", visible(&end.policy), visible(&end.text)))
            })?;
            unasked.iter().try_for_each(|name| out.line(&format!("Review campaign {}: {UNASKED}.", visible(name))))?;
            if let Some(simulation) = simulation {
                let window = args.simulate.as_deref().unwrap_or_default();
                simulation_lines(simulation, window).iter().try_for_each(|line| out.line(line))?;
            }
            out.line(&format!(
                "Planned at revision {}; legate apply --base-revision {0} refuses what was written since.",
                planned.revision
            ))?;
            out.flush()
        }
        Format::Json | Format::Yaml => {
            let mut whole = change::value(planned)?;
            if let (Some(map), Some(preview)) = (whole.as_object_mut(), preview) {
                map.insert("preview".into(), change::value(preview)?);
            }
            if let (Some(map), false) = (whole.as_object_mut(), ends.is_empty()) {
                let told = ends.iter().map(|end| {
                    let impact = end.impact.as_ref().map(change::value).transpose()?;
                    Ok(serde_json::json!({ "policy": end.policy, "text": end.text, "impact": impact }))
                });
                map.insert("lifecycle".into(), told.collect::<Result<Vec<_>, Failure>>()?.into());
            }
            if let Some(map) = whole.as_object_mut().filter(|_| !unasked.is_empty()) {
                let told = unasked.iter().map(|name| serde_json::json!({ "campaign": name, "text": UNASKED }));
                map.insert("reviews".into(), told.collect::<Vec<_>>().into());
            }
            if let (Some(map), Some(simulation)) = (whole.as_object_mut(), simulation) {
                map.insert("simulation".into(), change::value(simulation)?);
            }
            if out.format == Format::Json {
                out.value(&whole)?;
            } else {
                out.document(&Node::of(&whole))?;
            }
            out.flush()
        }
        Format::Jsonl | Format::Name => out.items(&change_rows(&planned.changes)),
    }
}
