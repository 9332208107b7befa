//! Two sets of policies, read, laid side by side namespace by namespace, and given to the solver.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use legate_cedar::analyze::{Comparison, Example, NotAnalyzed, Relation, Row, Solver, compare};
use legate_cedar::{Declared, PolicySet, Unproved};
use legate_wire::registry::PolicyMode;
use serde_json::{Map, Value, json};

use super::super::super::Desk;
use super::super::validate;
use super::super::written::{All, From, Written};
use crate::cli::PolicyAnalyze;
use crate::error::{ANALYSIS_INCOMPLETE, ANALYSIS_UNAVAILABLE, NOT_PROVABLE, POLICY_INVALID, USAGE};
use crate::output::{
    Format,
    escape::{visible, visible_json},
};
use crate::yaml::Node;
use crate::{Exit, Failure};

/// What was found of one namespace.
#[derive(Debug)]
struct Found {
    namespace: String,
    /// Whether what callers state is declared.
    is_declared: bool,
    /// Policies in LOG_ONLY, which decide nothing.
    left_out: usize,
    rows: Vec<Row>,
}

/// What `active` stands for, or manifests.
fn named(path: PathBuf) -> From {
    if path == Path::new("active") { From::Active } else { From::Files(vec![path]) }
}

pub(in super::super) async fn run(desk: Desk, args: PolicyAnalyze) -> Result<Exit, Failure> {
    let (from, to) = (named(args.from), named(args.to));
    if from == to {
        return Err(Failure::local(&USAGE, "--from and --to are the same"));
    }
    let only: Vec<String> = args.namespace.iter().cloned().collect();
    // Of what is in force only that is read which there is something to compare with.
    let (before, after) = match (&from, &to) {
        (From::Active, _) => {
            let after = to.read(&desk, &[]).await?;
            (from.read(&desk, &spoken_of(&only, &after)).await?, after)
        }
        _ => {
            let before = from.read(&desk, &[]).await?;
            let after = to.read(&desk, &spoken_of(&only, &before)).await?;
            (before, after)
        }
    };
    let mut namespaces: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    namespaces.retain(|name| args.namespace.as_ref().is_none_or(|only| only == *name));
    let solver = Solver {
        program: args.solver.clone(),
        each: Duration::from_secs(args.each),
        all: Duration::from_secs(args.timeout),
    };
    let mut all = Vec::new();
    for namespace in namespaces {
        let (was, mut is) = (side(&before, namespace), side(&after, namespace));
        if args.merge {
            let kept = was.policies.iter().filter(|(name, _)| !is.policies.contains_key(*name));
            let kept: Vec<_> = kept.map(|(name, spec)| (name.clone(), spec.clone())).collect();
            is.policies.extend(kept);
        }
        if was.policies.is_empty() && is.policies.is_empty() {
            continue;
        }
        let solver = solver.clone();
        let (comparison, is_declared, left_out) = laid(namespace, &was, &is)?;
        let working = tokio::task::spawn_blocking(move || compare(&comparison, &solver));
        let rows = working.await.map_err(|e| Failure::local(&NOT_PROVABLE, e.to_string()))?.map_err(unproved)?;
        all.push(Found { namespace: namespace.clone(), is_declared, left_out, rows });
    }
    if all.is_empty() {
        return Err(Failure::local(&USAGE, "there is no policy on either side"));
    }
    tell(&desk, &all)?;
    let rows = || all.iter().flat_map(|found| &found.rows);
    let unknown = rows().filter(|row| row.relation == Relation::Unknown).count();
    if unknown > 0 {
        let what = format!("of {unknown} of {} pairs of an action and a type nothing was found out", rows().count());
        return Err(Failure::local(&ANALYSIS_INCOMPLETE, what));
    }
    let differs = rows().any(|row| row.relation != Relation::Equivalent);
    Ok(if differs && args.detailed_exitcode { Exit::Changes } else { Exit::Done })
}

fn spoken_of(only: &[String], other: &All) -> Vec<String> {
    if only.is_empty() { other.keys().cloned().collect() } else { only.to_vec() }
}

fn side(all: &All, namespace: &str) -> Written {
    all.get(namespace).cloned().unwrap_or_default()
}

fn unproved(why: NotAnalyzed) -> Failure {
    match why {
        NotAnalyzed::NoSolver(..) => Failure::local(&ANALYSIS_UNAVAILABLE, why.to_string()),
        NotAnalyzed::Failed(why) => Failure::local(&NOT_PROVABLE, why),
    }
}

/// Both sides of a namespace under one schema: that of what would be, where something says what it is.
fn laid(namespace: &str, was: &Written, is: &Written) -> Result<(Comparison, bool, usize), Failure> {
    let declared = if is.schema.is_some() { is.declared(namespace)? } else { was.declared(namespace)? };
    let (from, left) = set(namespace, was)?;
    let (to, right) = set(namespace, is)?;
    let is_declared = declared.is_some();
    let declared = match declared {
        Some(declared) => declared,
        None => closed(namespace, &from, &to)?,
    };
    for written in [was, is] {
        fits(namespace, written, &declared, is_declared)?;
    }
    let comparison = Comparison { from, to, declared, namespace: namespace.to_owned() };
    Ok((comparison, is_declared, left + right))
}

fn closed(namespace: &str, from: &PolicySet, to: &PolicySet) -> Result<Declared, Failure> {
    legate_cedar::closed([from, to]).map_err(|why| {
        let whose = |why: &Unproved| why.policy().and_then(|id| id.split_once('#')).map(|(name, _)| name.to_owned());
        let place = whose(&why).map_or_else(String::new, |name| format!("the policy {namespace}/{name}: "));
        Failure::local(&NOT_PROVABLE, format!("{place}{why}"))
    })
}

/// The policies that decide, as one set, and how many do not.
fn set(namespace: &str, written: &Written) -> Result<(PolicySet, usize), Failure> {
    let decide = written.policies.iter().filter(|(_, spec)| spec.mode() == PolicyMode::Enforce);
    let texts: Vec<(&str, &str)> = decide.map(|(name, spec)| (name.as_str(), spec.cedar.as_str())).collect();
    let set = legate_cedar::joined(&texts)
        .map_err(|(name, why)| Failure::local(&POLICY_INVALID, format!("{namespace}/{name} {why}")))?;
    Ok((set, written.policies.len() - texts.len()))
}

fn fits(namespace: &str, written: &Written, declared: &Declared, is_declared: bool) -> Result<(), Failure> {
    let decide = written.policies.iter().filter(|(_, spec)| spec.mode() == PolicyMode::Enforce);
    let texts: Vec<(&str, &str)> = decide.map(|(name, spec)| (name.as_str(), spec.cedar.as_str())).collect();
    let unfit = validate::of(namespace, &texts, Some(declared));
    let Some(unfit) = unfit.first() else { return Ok(()) };
    let reason = if is_declared { &POLICY_INVALID } else { &NOT_PROVABLE };
    let why = unfit.why.first().map_or("", String::as_str);
    Err(Failure::local(reason, format!("{}: {why}", unfit.name)))
}

fn word(relation: Relation) -> &'static str {
    match relation {
        Relation::Equivalent => "equivalent",
        Relation::More => "permits more",
        Relation::Less => "permits less",
        Relation::MoreAndLess => "permits more and less",
        Relation::Disjoint => "disjoint",
        Relation::Unknown => "unknown",
    }
}

fn tell(desk: &Desk, all: &[Found]) -> Result<(), Failure> {
    let mut out = desk.out();
    let flat = || all.iter().flat_map(|found| found.rows.iter().map(move |row| (found, row)));
    match out.format {
        Format::Table | Format::Wide => {
            all.iter().flat_map(lines).try_for_each(|line| out.line(&visible(&line)))?;
        }
        Format::Json => out.value(&json!({ "rows": flat().map(value).collect::<Vec<Value>>() }))?,
        Format::Yaml => {
            out.document(&Node::of(&json!({ "rows": flat().map(value).collect::<Vec<Value>>() })))?;
        }
        Format::Jsonl => flat().try_for_each(|of| out.line(&visible_json(&value(of).to_string())))?,
        Format::Name => flat().try_for_each(|(found, row)| {
            out.line(&visible(&format!(
                "{} {} {} {}",
                found.namespace,
                row.action,
                row.resource_type,
                word(row.relation)
            )))
        })?,
    }
    out.flush()
}

fn lines(found: &Found) -> Vec<String> {
    let Found { namespace, rows, .. } = found;
    let equal = rows.iter().filter(|row| row.relation == Relation::Equivalent).count();
    let mut lines = Vec::new();
    for row in rows.iter().filter(|row| row.relation != Relation::Equivalent) {
        let why = if row.why.is_empty() { String::new() } else { format!(" ({})", row.why) };
        lines.push(format!("{namespace}: {} on {}: {}{why}", row.action, row.resource_type, word(row.relation)));
        for (mark, what, example) in [("+", "permitted now", &row.more), ("-", "not permitted any more", &row.less)] {
            let Some(example) = example else { continue };
            lines.push(format!("  {mark} {what}: to {}", who(example)));
            lines.push(format!("    {}", check(namespace, row, example)));
        }
    }
    let all = match found.is_declared {
        true => "every request that fits policySchema".to_owned(),
        false => {
            "every request: any:other stands for every action that no policy names, AnyOther for every type".to_owned()
        }
    };
    let left_out = match found.left_out {
        0 => String::new(),
        n => format!(" {n} policies in LOG_ONLY are left out."),
    };
    lines.push(format!(
        "{namespace}: {equal} of {} pairs of an action and a type are equivalent, over {all}.{left_out}",
        rows.len()
    ));
    lines
}

/// The agent of an example, in words.
fn who(example: &Example) -> String {
    let within = match example.within.as_slice() {
        [] => String::new(),
        all => format!(" in {}", all.join(", ")),
    };
    let attributes = match example.attributes.is_empty() {
        true => String::new(),
        false => format!(" with {}", Value::Object(example.attributes.clone())),
    };
    format!("an agent{within}{attributes}")
}

/// The example as `legate check` takes it.
fn check(namespace: &str, row: &Row, example: &Example) -> String {
    let agent = example.agent.clone().unwrap_or_else(|| format!("{namespace}/AGENT"));
    let resource = format!("{}:{}", row.resource_type, example.resource_id);
    let mut text = format!("legate check --agent {agent} --action {} --resource {}", row.action, quoted(&resource));
    let mut context = example.context.clone();
    if let Some(subject) = context.remove("on_behalf_of").and_then(|of| of.get("subject")?.as_str().map(str::to_owned))
    {
        text += &format!(" --on-behalf-of {}", quoted(&subject));
    }
    for (flag, map) in [("--attributes", &example.resource), ("--context", &context)] {
        if !map.is_empty() {
            text += &format!(" {flag} {}", quoted(&Value::Object(map.clone()).to_string()));
        }
    }
    text
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

fn value((found, row): (&Found, &Row)) -> Value {
    let example = |example: &Example| {
        json!({
            "agent": { "id": example.agent, "within": example.within, "attributes": example.attributes },
            "resource": { "type": row.resource_type, "id": example.resource_id, "attributes": example.resource },
            "context": example.context,
            "check": check(&found.namespace, row, example),
        })
    };
    let mut whole = Map::new();
    whole.insert("namespace".into(), json!(found.namespace));
    whole.insert("action".into(), json!(row.action));
    whole.insert("resourceType".into(), json!(row.resource_type));
    whole.insert("relation".into(), json!(word(row.relation).replace(' ', "_").to_uppercase()));
    whole.insert("declared".into(), json!(found.is_declared));
    if !row.why.is_empty() {
        whole.insert("why".into(), json!(row.why));
    }
    for (name, one) in [("more", &row.more), ("less", &row.less)] {
        whole.extend(one.as_ref().map(|one| (name.to_owned(), example(one))));
    }
    Value::Object(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_a_check_that_a_shell_takes() {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        let row = Row {
            action: "invoice:pay".into(),
            resource_type: "Invoice".into(),
            relation: Relation::More,
            more: None,
            less: None,
            why: String::new(),
        };
        let example = Example {
            agent: None,
            within: vec!["Role::\"payer\"".into()],
            attributes: object(json!({"environment": "prod"})),
            resource_id: "a'b".into(),
            resource: object(json!({"amount": 100})),
            context: object(json!({"mfa": true, "on_behalf_of": {"subject": "user:ada"}})),
        };
        assert_eq!(
            check("pay", &row, &example),
            "legate check --agent pay/AGENT --action invoice:pay --resource 'Invoice:a'\\''b' --on-behalf-of user:ada \
             --attributes '{\"amount\":100}' --context '{\"mfa\":true}'"
        );
        assert_eq!(who(&example), "an agent in Role::\"payer\" with {\"environment\":\"prod\"}");
    }
}
