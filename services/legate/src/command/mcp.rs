//! `legate mcp`: tools of MCP servers mapped to actions, tried by hand as the guard of the client does it.

mod schema;

use std::io::{Read as _, Write as _};
use std::path::Path;

use legate_client::tools::{ToolMapping, reach, stated};
use legate_json::Names;
use legate_mcp::{Asked, LONGEST_FILE, LONGEST_LIST, Listed, Reach, Refusal, Said, Why, tools_of};
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::{
    Decision, EvaluateRequest, EvaluateResponse, OnBehalfOf, Resource, Subject, WhatCanRequest, subject,
};
use prost_types::Struct;
use serde_json::{Value, json};

use super::{Desk, check, explain};
use crate::cli::{McpCheck, McpList, McpVerb};
use crate::error::{MAPPING_INVALID, USAGE};
use crate::output::Format;
use crate::place::Service;
use crate::yaml::Node;
use crate::{Exit, Failure, proto};

pub(super) async fn run(desk: Desk, verb: McpVerb) -> Result<Exit, Failure> {
    match verb {
        McpVerb::Schema(args) => schema::run(&args),
        McpVerb::PolicySchema { file } => policy_schema(&file),
        McpVerb::Check(args) => try_call(desk, args).await,
        McpVerb::List(args) => list(desk, args).await,
    }
}

/// A file, so long at most.
fn read(path: &Path, most: usize) -> Result<String, Failure> {
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = String::new();
    let read = match path == Path::new("-") {
        true => std::io::stdin().lock().take(limit).read_to_string(&mut text),
        false => std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text)),
    };
    read.map_err(|e| Failure::file(path, e))?;
    match text.len() <= most {
        true => Ok(text),
        false => Err(Failure::file(path, format!("is longer than {most} bytes"))),
    }
}

fn mapping(path: &Path) -> Result<ToolMapping, Failure> {
    let text = read(path, LONGEST_FILE)?;
    ToolMapping::parse(&text).map_err(|e| Failure::local(&MAPPING_INVALID, format!("{}: {e}", path.display())))
}

/// Prints what calls state; it fits a namespace as it is, or is told why not.
fn policy_schema(file: &Path) -> Result<Exit, Failure> {
    let invalid = |e: &dyn std::fmt::Display| Failure::local(&MAPPING_INVALID, format!("{}: {e}", file.display()));
    let text = mapping(file)?.stated().map_err(|e| invalid(&e))?;
    legate_cedar::Declared::parse(&text).map_err(|e| invalid(&e))?;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(Exit::Done)
}

/// The tools that a server lists.
fn listed(path: &Path) -> Result<Listed, Failure> {
    let text = read(path, LONGEST_LIST)?;
    let value = legate_json::value(text.as_bytes(), Names::AsWritten);
    let value = value.map_err(|why| Failure::file(path, format!("what is in it {why}")))?;
    tools_of(value).map_err(|e| Failure::file(path, e))
}

/// Why the guard would refuse a tool, by what the server lists; `None`: it would not.
fn unpinned(mapping: &ToolMapping, listed: &Listed, tool: &str) -> Option<Refusal> {
    let found = listed.tools.iter().find(|one| one.name() == tool).map(|one| one.hash().to_owned());
    let hash = found.or_else(|| listed.twice.contains(tool).then(String::new));
    mapping.is_pinned(tool, hash.as_deref()).err()
}

/// What the guard says of it.
fn refused(refusal: &Refusal) -> Failure {
    let word = match refusal.why {
        Why::NotMapped => "TOOL_NOT_MAPPED",
        Why::Changed => "TOOL_CHANGED",
        Why::NotSeen => "TOOL_NOT_SEEN",
        Why::Arguments => "TOOL_ARGUMENTS_INVALID",
    };
    let cure = legate_client::REASONS.iter().find(|reason| reason.name == word).map_or("", |reason| reason.cure);
    Failure {
        exit: Exit::Denied,
        reason: word.into(),
        what: refusal.text.clone(),
        fields: Vec::new(),
        next: cure.into(),
    }
}

/// The id of an agent that is named by its name alone, too.
async fn agent_id(desk: &Desk, mapping: &ToolMapping, text: &str) -> Result<String, Failure> {
    let is_name = !text.contains('/') && !text.starts_with("agt_");
    match is_name {
        true => desk.agent_id(&format!("{}/{text}", mapping.namespace())).await,
        false => desk.agent_id(text).await,
    }
}

async fn try_call(desk: Desk, args: McpCheck) -> Result<Exit, Failure> {
    let mapping = mapping(&args.file)?;
    if let Some(from) = &args.from
        && let Some(refusal) = unpinned(&mapping, &listed(from)?, &args.tool)
    {
        return Err(refused(&refusal));
    }
    let given = legate_json::object(args.args.as_bytes(), Names::AsWritten);
    let given = given.map_err(|why| Failure::local(&USAGE, format!("--args {why}")))?;
    let asked = mapping.asks(&args.tool, given).map_err(|refusal| refused(&refusal))?;
    let agent = agent_id(&desk, &mapping, &args.agent).await?;
    let request = question(&asked, agent, args.on_behalf_of);
    let policy = desk.line(Service::Policy)?;
    let answer = policy.ask(request, |c, r| async move { DecisionServiceClient::new(c).evaluate(r).await }).await?;
    tell(&desk, &asked, &answer)?;
    Ok(if answer.decision() == Decision::Allow { Exit::Done } else { Exit::Denied })
}

fn question(asked: &Asked, agent: String, on_behalf_of: Option<String>) -> EvaluateRequest {
    let all = |from: &[(String, Said)]| {
        let fields = from.iter().map(|(name, said)| (name.clone(), stated(said))).collect();
        (!from.is_empty()).then_some(Struct { fields })
    };
    let resource = Resource {
        r#type: asked.resource_type.clone(),
        id: asked.resource_id.clone(),
        attributes: all(&asked.attributes),
    };
    EvaluateRequest {
        subject: Some(Subject {
            agent: Some(subject::Agent::AgentId(agent)),
            on_behalf_of: on_behalf_of.map(|subject| OnBehalfOf { subject, grant: String::new() }),
            ..Subject::default()
        }),
        action: asked.action.clone(),
        resource: Some(resource),
        context: all(&asked.context),
        ..EvaluateRequest::default()
    }
}

fn tell(desk: &Desk, asked: &Asked, answer: &EvaluateResponse) -> Result<(), Failure> {
    let said = |all: &[(String, Said)]| {
        let value = |said: &Said| match said {
            Said::Text(text) => Value::from(text.as_str()),
            Said::Whole(whole) => Value::from(*whole),
            Said::Bool(is) => Value::from(*is),
            Said::Set(all) => Value::from(all.clone()),
        };
        Value::Object(all.iter().map(|(name, one)| (name.clone(), value(one))).collect())
    };
    let (attributes, context) = (said(&asked.attributes), said(&asked.context));
    let mut out = desk.out();
    if out.is_table() {
        let resource = format!("{}:{}", asked.resource_type, asked.resource_id);
        out.details(&[
            ("action", asked.action.clone()),
            ("resource", resource),
            ("attributes", if asked.attributes.is_empty() { String::new() } else { attributes.to_string() }),
            ("context", context.to_string()),
        ])?;
        out.details(&check::details(answer))?;
        return out.flush();
    }
    if out.format == Format::Name {
        out.line(&answer.reason_code)?;
        return out.flush();
    }
    let text = proto::json(&proto::dynamic(answer), false).map_err(std::io::Error::other)?;
    let answer: Value = serde_json::from_str(&text).map_err(std::io::Error::other)?;
    let resource = json!({"type": asked.resource_type, "id": asked.resource_id, "attributes": attributes});
    let question = json!({"action": asked.action, "resource": resource, "context": context});
    let whole = json!({"question": question, "arguments": asked.arguments, "answer": answer});
    match out.format {
        Format::Yaml => out.document(&Node::of(&whole))?,
        _ => out.value(&whole)?,
    }
    out.flush()
}

async fn list(desk: Desk, args: McpList) -> Result<Exit, Failure> {
    let mapping = mapping(&args.file)?;
    let listed = args.from.as_deref().map(listed).transpose()?;
    let agent_id = agent_id(&desk, &mapping, &args.agent).await?;
    let can = explain::ask_what_can(&desk, WhatCanRequest { agent_id, ..WhatCanRequest::default() }).await?;
    let mut shown = Vec::new();
    for tool in mapping.tools() {
        let word = match reach(&mapping, tool, &can) {
            Reach::Nothing => continue,
            Reach::Some => "DEPENDS",
            Reach::All => "ALWAYS",
        };
        if listed.as_ref().is_some_and(|listed| unpinned(&mapping, listed, tool).is_some()) {
            continue;
        }
        let (action, resource_type) = mapping.does(tool).unwrap_or_default();
        shown.push((tool, word, action, resource_type));
    }
    let mut out = desk.out();
    match out.format {
        Format::Table | Format::Wide => {
            for (tool, word, action, resource_type) in &shown {
                out.line(&format!("{tool}  {word}  {action} on {resource_type}"))?;
            }
            let many = mapping.tools().count();
            let why = if can.reason_code.is_empty() { String::new() } else { format!("; {}", can.reason_code) };
            out.line(&format!("{} of {many} tools{why}", shown.len()))?;
        }
        Format::Name => shown.iter().try_for_each(|one| out.line(one.0))?,
        format => {
            let one = |(tool, word, action, resource_type): &(&str, &str, &str, &str)| json!({"tool": tool, "certainty": word, "action": action, "resourceType": resource_type});
            let tools: Vec<Value> = shown.iter().map(one).collect();
            let whole = json!({"agentId": can.agent_id, "tools": tools, "reasonCode": can.reason_code, "revision": can.revision});
            match format {
                Format::Yaml => out.document(&Node::of(&whole))?,
                _ => out.value(&whole)?,
            }
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}
