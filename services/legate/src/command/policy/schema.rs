//! `legate policy schema`: what policies can speak of, in Cedar's words and as Cedar's JSON.

use std::collections::BTreeSet;
use std::io::Write as _;

use super::super::Desk;
use super::written::{From, Written};
use crate::cli::PolicySchema;
use crate::error::{POLICY_INVALID, POLICY_SCHEMA_INVALID, USAGE};
use crate::output::Format;
use crate::yaml::Node;
use crate::{Exit, Failure};

pub(super) async fn run(desk: Desk, args: PolicySchema) -> Result<Exit, Failure> {
    let (namespace, written) = match (&args.namespace, args.files.is_empty()) {
        (None, true) => (String::new(), Written::default()),
        (Some(name), true) => {
            let mut all = From::Active.read(&desk, std::slice::from_ref(name)).await?;
            (name.clone(), all.remove(name).unwrap_or_default())
        }
        (name, false) => {
            let mut all = From::Files(args.files.clone()).read(&desk, &[]).await?;
            let names: Vec<String> = all.keys().cloned().collect();
            let name = match (name, names.as_slice()) {
                (Some(name), _) => name.clone(),
                (None, [only]) => only.clone(),
                (None, _) => {
                    let what = format!("the manifests speak of {} namespaces with policies; name one", names.len());
                    return Err(Failure::local(&USAGE, what));
                }
            };
            let written = all.remove(&name).unwrap_or_default();
            (name, written)
        }
    };
    let declared = written.declared(&namespace)?;
    let mut labels = BTreeSet::new();
    for (name, spec) in &written.policies {
        let set = legate_cedar::parse(&spec.cedar)
            .map_err(|why| Failure::local(&POLICY_INVALID, format!("{namespace}/{name} {why}")))?;
        labels.extend(legate_cedar::label_keys(&set));
    }
    let mut out = desk.out();
    match out.format {
        Format::Json | Format::Jsonl | Format::Yaml => {
            let json = legate_cedar::as_json(declared.as_ref(), &labels)
                .map_err(|e| Failure::local(&POLICY_SCHEMA_INVALID, e.to_string()))?;
            match out.format {
                Format::Yaml => out.document(&Node::of(&json))?,
                _ => out.value(&json)?,
            }
            out.flush()?;
        }
        Format::Table | Format::Wide | Format::Name => {
            let mut out = std::io::stdout().lock();
            out.write_all(legate_cedar::as_text(declared.as_ref(), &labels).as_bytes())?;
            out.flush()?;
        }
    }
    Ok(Exit::Done)
}
