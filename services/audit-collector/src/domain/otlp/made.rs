//! A signal becomes an event: who vouches for what is settled here.

use legate_clock::Timestamp;
use legate_ids::{AgentId, InstanceId, Name};
use legate_wire::audit::{ActingMode, AuditEvent, EventDecision, EventResource, Outcome};

use super::{ACTIVITY, Kind, Signal, Unfit};
use crate::domain::detect::fact::EXECUTED;
use crate::domain::teller::Teller;
use crate::domain::text::hex;

/// A log record that tells of the same operation as the span that it is in.
pub(super) const OF_SPAN: &str = "log of span";

/// The event of the conventions that repeats what its span says, with contents.
const DETAILS_EVENT: &str = "gen_ai.client.inference.operation.details";

/// The operation that is an action on something outside the agent.
const EXECUTE_TOOL: &str = "execute_tool";

/// Operations whose gen_ai.agent.id names what they are done to, and not who does them.
const ON_AGENTS: [&str; 2] = ["invoke_agent", "create_agent"];

/// The event that a signal of this teller becomes, without emitter and id.
///
/// What the certificate says (who told it, the namespace, of an agent also whose act it was) is authenticated. Everything else is the
/// teller's word: what was done to what, for whom, and by which decision.
pub(crate) fn made(signal: &Signal, teller: &Teller) -> Result<AuditEvent, Unfit> {
    let get = |key| signal.attributes.get(key);
    let operation = get("gen_ai.operation.name");
    let action = get("legate.action");
    if operation.is_empty() && action.is_empty() {
        return Err(Unfit::NotAnAct);
    }
    if ![operation, action].into_iter().all(|word| word.is_empty() || is_word(word)) {
        return Err(Unfit::Operation);
    }
    let (trace_id, span_id) = ids(signal)?;
    let (namespace, agent_id, instance_id) = whose(signal, teller, operation)?;
    let time = moment(signal)?;
    let is_action = !action.is_empty() || operation == EXECUTE_TOOL;
    let subject = subject(signal);
    let decision_id = get("legate.decision.id");
    let decision = EventDecision { decision_id: decision_id.to_owned(), allowed: true, ..EventDecision::default() };
    let outcome = if signal.is_error || !get("error.type").is_empty() { Outcome::Failure } else { Outcome::Success };
    let mut event = AuditEvent {
        time: Some(time.into()),
        r#type: if is_action { EXECUTED } else { ACTIVITY }.to_owned(),
        namespace: namespace.to_string(),
        agent_id: agent_id.to_string(),
        instance_id: instance_id.map(ToString::to_string).unwrap_or_default(),
        // Without a subject nobody says that there is none.
        acting_mode: if subject.is_empty() { ActingMode::Unspecified } else { ActingMode::OnBehalfOf }.into(),
        subject,
        action: if action.is_empty() { format!("gen_ai:{operation}") } else { action.to_owned() },
        resource: Some(resource(signal, operation)),
        outcome: outcome.into(),
        reason_code: Some(get("error.type")).filter(|word| is_word(word)).unwrap_or_default().to_owned(),
        decision: (!decision_id.is_empty()).then_some(decision),
        grant_id: get("legate.grant.id").to_owned(),
        credential_id: get("legate.credential.id").to_owned(),
        correlation_id: get("gen_ai.conversation.id").to_owned(),
        trace_id,
        span_id,
        ..AuditEvent::default()
    };
    details(signal, operation, &mut event);
    Ok(event)
}

/// 1 to 64 characters of which actions, operations and types of errors are made.
fn is_word(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'/' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(is_part)
}

/// Trace and span as text. A log record may have none.
fn ids(signal: &Signal) -> Result<(String, String), Unfit> {
    let id = |bytes: &[u8], wanted: usize| match bytes {
        [] if signal.kind == Kind::Log => Ok(String::new()),
        bytes if bytes.len() == wanted && bytes.iter().any(|b| *b != 0) => Ok(hex(bytes)),
        // The SDKs' way to say that there is none.
        bytes if signal.kind == Kind::Log && bytes.len() == wanted => Ok(String::new()),
        _ => Err(Unfit::Ids),
    };
    Ok((id(&signal.trace_id, 16)?, id(&signal.span_id, 8)?))
}

/// When it began: what it rests on was decided before that, whenever it ended.
fn moment(signal: &Signal) -> Result<Timestamp, Unfit> {
    let nanos = i64::try_from(signal.start).ok().filter(|nanos| *nanos > 0).ok_or(Unfit::Time)?;
    if signal.end < signal.start || i64::try_from(signal.end).is_err() {
        return Err(Unfit::Time);
    }
    Ok(Timestamp::from_micros(nanos / 1_000))
}

/// Whose act it was. An agent tells of itself; an enforcement point says of whom it tells.
fn whose<'a>(
    signal: &Signal,
    teller: &'a Teller,
    operation: &str,
) -> Result<(&'a Name, AgentId, Option<&'a InstanceId>), Unfit> {
    let mut claims = vec![signal.attributes.get("legate.agent.id")];
    if !ON_AGENTS.contains(&operation) {
        claims.push(signal.attributes.get("gen_ai.agent.id"));
    }
    // Frameworks have ids of their own for agents: those claim nothing.
    let mut claimed = claims.into_iter().filter_map(|text| AgentId::parse(text).ok());
    match teller {
        Teller::Agent { namespace, id, instance } => match claimed.find(|claimed| claimed != id) {
            Some(_) => Err(Unfit::OtherAgent),
            None => Ok((namespace, id.clone(), instance.as_ref())),
        },
        Teller::Enforcer { namespace } => Ok((namespace, claimed.next().ok_or(Unfit::NoAgent)?, None)),
        Teller::Service => Err(Unfit::Event),
    }
}

/// On whose behalf, as it is claimed.
fn subject(signal: &Signal) -> String {
    let stated = signal.attributes.get("legate.subject");
    let person = signal.attributes.first(&["user.id", "enduser.id"]);
    match (stated, person) {
        ("", "") => String::new(),
        ("", person) => format!("user:{}", person.strip_prefix("user:").unwrap_or(person)),
        (stated, _) => stated.to_owned(),
    }
}

/// What it was done to.
fn resource(signal: &Signal, operation: &str) -> EventResource {
    let get = |key| signal.attributes.get(key);
    let (kind, id) = match (get("legate.resource.type"), get("legate.resource.id"), operation) {
        ("", "", EXECUTE_TOOL) => ("GenAiTool", get("gen_ai.tool.name")),
        ("", "", "invoke_agent" | "create_agent") => {
            ("GenAiAgent", signal.attributes.first(&["gen_ai.agent.id", "gen_ai.agent.name"]))
        }
        ("", "", "invoke_workflow") => ("GenAiWorkflow", get("gen_ai.workflow.name")),
        ("", "", "retrieval") => ("GenAiDataSource", get("gen_ai.data_source.id")),
        ("", "", "") => ("", ""),
        ("", "", operation) if operation.ends_with("_memory") => ("GenAiMemoryStore", get("gen_ai.memory.store.id")),
        ("", "", _) => ("GenAiModel", signal.attributes.first(&["gen_ai.request.model", "gen_ai.response.model"])),
        (kind, id, _) => (kind, id),
    };
    EventResource { r#type: kind.to_owned(), id: id.to_owned(), ..EventResource::default() }
}

/// What is left: at most as many as an agent may tell, each the teller's word.
fn details(signal: &Signal, operation: &str, event: &mut AuditEvent) {
    let get = |key| signal.attributes.get(key);
    let is_of_span = signal.event_name == DETAILS_EVENT && !event.trace_id.is_empty() && !event.span_id.is_empty();
    let kind = if signal.kind == Kind::Log && is_of_span { OF_SPAN } else { signal.kind.word() };
    let parent = match signal.parent_span_id.as_slice() {
        parent if parent.len() == 8 && parent.iter().any(|b| *b != 0) => hex(parent),
        _ => String::new(),
    };
    let took = (signal.kind == Kind::Span).then(|| ((signal.end - signal.start) / 1_000_000).to_string());
    let all = [
        ("otlp", kind),
        ("operation", operation),
        ("provider", signal.attributes.first(&["gen_ai.provider.name", "gen_ai.system"])),
        ("model", get("gen_ai.request.model")),
        ("response_model", get("gen_ai.response.model")),
        ("input_tokens", get("gen_ai.usage.input_tokens")),
        ("output_tokens", get("gen_ai.usage.output_tokens")),
        ("tool", get("gen_ai.tool.name")),
        ("tool_type", get("gen_ai.tool.type")),
        ("tool_call_id", get("gen_ai.tool.call.id")),
        ("claimed_agent", signal.attributes.first(&["gen_ai.agent.id", "gen_ai.agent.name"])),
        ("service", get("service.name")),
        ("mcp_method", get("mcp.method.name")),
        ("token_id", get("legate.token.id")),
        ("parent_span_id", &parent),
        ("duration_ms", took.as_deref().unwrap_or_default()),
    ];
    let said = all.into_iter().filter(|(_, text)| !text.is_empty());
    event.details.extend(said.map(|(name, text)| (name.to_owned(), text.to_owned())));
}
