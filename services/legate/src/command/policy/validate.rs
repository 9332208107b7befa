//! `legate policy validate`: which policies do not fit what there is; also those that were written before anybody looked.

use legate_cedar::{Declared, Finding, Spoken, validate};
use serde_json::{Value, json};

use super::super::Desk;
use super::written::{All, From};
use crate::cli::PolicyValidate;
use crate::error::POLICY_INVALID;
use crate::output::{
    Format,
    escape::{visible, visible_json},
};
use crate::yaml::Node;
use crate::{Exit, Failure};

/// What is wrong with one policy.
#[derive(Clone, Debug)]
pub(super) struct Unfit {
    /// `NAMESPACE/NAME`.
    pub(super) name: String,
    /// What, each with its place.
    pub(super) why: Vec<String>,
}

pub(super) async fn run(desk: Desk, args: PolicyValidate) -> Result<Exit, Failure> {
    let from = if args.files.is_empty() { From::Active } else { From::Files(args.files) };
    let all = from.read(&desk, &args.namespaces).await?;
    let count: usize = all.values().map(|written| written.policies.len()).sum();
    let mut unfit = Vec::new();
    for (namespace, written) in &all {
        unfit.extend(of(namespace, &one(&all, namespace), written.declared(namespace)?.as_ref()));
    }
    tell(&desk, count, &unfit)?;
    match unfit.len() {
        0 => Ok(Exit::Done),
        n => Err(Failure::local(&POLICY_INVALID, format!("{n} of {count} policies do not fit what there is"))),
    }
}

/// The policies of one namespace, with their texts.
fn one<'a>(all: &'a All, namespace: &str) -> Vec<(&'a str, &'a str)> {
    let written = all.get(namespace).into_iter().flat_map(|written| &written.policies);
    written.map(|(name, spec)| (name.as_str(), spec.cedar.as_str())).collect()
}

/// Those of a namespace's policies that do not fit.
pub(super) fn of(namespace: &str, policies: &[(&str, &str)], declared: Option<&Declared>) -> Vec<Unfit> {
    let spoken: Vec<Spoken<'_>> = policies.iter().map(|(_, text)| Spoken { text, declared }).collect();
    let found = policies.iter().zip(validate(&spoken)).filter(|(_, found)| !found.is_empty());
    found
        .map(|((name, text), found)| Unfit {
            name: format!("{namespace}/{name}"),
            why: found.iter().map(|one: &Finding| one.told(text)).collect(),
        })
        .collect()
}

fn tell(desk: &Desk, count: usize, unfit: &[Unfit]) -> Result<(), Failure> {
    let mut out = desk.out();
    let value = |one: &Unfit| json!({ "policy": one.name, "findings": one.why });
    match out.format {
        Format::Table | Format::Wide => {
            for one in unfit {
                one.why.iter().try_for_each(|why| out.line(&visible(&format!("{}: {why}", one.name))))?;
            }
            if unfit.is_empty() {
                out.line(&format!("{count} policies fit what there is."))?;
            }
        }
        Format::Json => {
            out.value(&json!({ "policies": count, "unfit": unfit.iter().map(value).collect::<Vec<Value>>() }))?
        }
        Format::Yaml => {
            let whole = json!({ "policies": count, "unfit": unfit.iter().map(value).collect::<Vec<Value>>() });
            out.document(&Node::of(&whole))?;
        }
        Format::Jsonl => unfit.iter().try_for_each(|one| out.line(&visible_json(&value(one).to_string())))?,
        Format::Name => unfit.iter().try_for_each(|one| out.line(&visible(&one.name)))?,
    }
    out.flush()
}
