//! `legate plan`: what an apply would change, what agents would gain and lose, and how the policy tests would end.

use legate_wire::policy::{PreviewChangeResponse, SimulateResponse};
use legate_wire::registry::ChangeAction;

use super::Desk;
use super::change::{self, Change};
use super::{plan_file, search};
use crate::cli::Plan;
use crate::error::USAGE;
use crate::output::{Format, change_lines, change_rows, markdown, preview_lines, simulation_lines};
use crate::yaml::Node;
use crate::{Exit, Failure};

pub(super) async fn run(desk: Desk, args: Plan) -> Result<Exit, Failure> {
    if args.wanted.files.is_empty() {
        return Err(Failure::local(&USAGE, "say which manifests: -f FILE or -f DIR"));
    }
    let change = change::planned(&desk, &args.wanted).await?;
    let preview = match args.objects_only {
        true => None,
        false => Some(change.preview(&desk, Default::default()).await?),
    };
    let simulation = match &args.simulate {
        Some(text) => Some(change.simulate(&desk, search::span("--simulate", text)?).await?),
        None => None,
    };
    if let Some(file) = &args.out {
        plan_file::keep(file, &change)?;
    }
    tell(&desk, &args, &change, preview.as_ref(), simulation.as_ref())?;
    if let Some(preview) = &preview {
        change::passed(&preview.tests)?;
    }
    let differs = change.planned.changes.iter().any(|c| c.action() != ChangeAction::Unchanged);
    Ok(if differs && args.detailed_exitcode { Exit::Changes } else { Exit::Done })
}

fn tell(
    desk: &Desk,
    args: &Plan,
    change: &Change,
    preview: Option<&PreviewChangeResponse>,
    simulation: Option<&SimulateResponse>,
) -> Result<(), Failure> {
    let planned = &change.planned;
    let mut out = desk.out();
    if args.markdown {
        out.line(&markdown(planned, preview))?;
        return out.flush();
    }
    match out.format {
        Format::Table | Format::Wide => {
            let words = ["will be created", "will change", "stays", "will be removed"];
            change_lines(&planned.changes, words).iter().try_for_each(|line| out.line(line))?;
            if let Some(preview) = preview {
                preview_lines(preview).iter().try_for_each(|line| out.line(line))?;
            }
            if let Some(simulation) = simulation {
                let window = args.simulate.as_deref().unwrap_or_default();
                simulation_lines(simulation, window).iter().try_for_each(|line| out.line(line))?;
            }
            out.line(&format!(
                "Planned at revision {}; legate apply --base-revision {0} refuses a moved base.",
                planned.revision
            ))?;
            out.flush()
        }
        Format::Json | Format::Yaml => {
            let mut whole = change::value(planned)?;
            if let (Some(map), Some(preview)) = (whole.as_object_mut(), preview) {
                map.insert("preview".into(), change::value(preview)?);
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
