//! An MCP server that policy-decision guards, over streamable HTTP and mutual TLS: an agent sees the tools that it may call, and no others.
//!
//! It keeps no sessions and opens no streams: each message is answered where it comes. Its settings are those of the tool server beside it,
//! and `MAPPING`, the file of its mapping.

#[path = "tool_server.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own; how it listens is taken from it")]
pub mod tool_server;

use std::error::Error;
use std::path::PathBuf;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use http::{HeaderMap, StatusCode, header};
use legate_client::Decision;
use legate_client::tools::{Message, ToolCaller, ToolGuard, ToolMapping, ToolPermit, ToolRefused};
use legate_clock::SystemClock;
use legate_mtls::{Identity, Limits, Listener, Trust};
use serde_json::{Value, json};

/// Versions of MCP that it speaks, the newest first; a client that names none speaks 2025-03-26.
const VERSIONS: [&str; 2] = ["2025-06-18", "2025-03-26"];

/// The tools, as `tools/list` tells of them.
pub fn tools() -> Value {
    let invoice = json!({"project": {"type": "string"}, "number": {"type": "integer", "minimum": 1}});
    let schema =
        |properties: &Value, required: Value| json!({"type": "object", "properties": properties, "required": required});
    json!({"tools": [
        {"name": "read_invoice", "description": "Reads an invoice of a project.", "inputSchema": schema(&invoice, json!(["project", "number"]))},
        {"name": "pay_invoice", "description": "Pays an invoice.", "inputSchema": schema(&invoice, json!(["project", "number"]))},
        {"name": "dump_ledger", "description": "For whoever maintains the server.", "inputSchema": {"type": "object"}},
    ]})
}

/// The server's one address, behind the guard.
///
/// # Errors
/// When the server's own list of tools cannot be read.
pub fn app(guard: ToolGuard) -> Result<Router, ToolRefused> {
    guard.see(tools())?;
    Ok(Router::new().route("/mcp", post(receive)).with_state(guard))
}

async fn receive(State(guard): State<ToolGuard>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    // A browser sends Origin; none has a business here (MCP 2025-06-18, transports, security warning).
    if head.headers.contains_key(header::ORIGIN) {
        return plain(StatusCode::FORBIDDEN);
    }
    if !speaks(&head.headers) {
        return plain(StatusCode::BAD_REQUEST);
    }
    let caller = match ToolCaller::of(&head) {
        Ok(caller) => caller,
        Err(refused) => return refusal(&refused, None),
    };
    let Ok(body) = to_bytes(body, Message::LONGEST).await else { return plain(StatusCode::PAYLOAD_TOO_LARGE) };
    let message = match Message::read(&body) {
        Ok(message) => message,
        Err(refused) => return refusal(&refused, None),
    };
    // What wants no answer is taken, and does nothing.
    if message.id().is_none() {
        return plain(StatusCode::ACCEPTED);
    }
    match answer(&guard, &caller, &message).await {
        Ok(answer) => json_of(StatusCode::OK, &answer),
        Err(refused) => refusal(&refused, message.id()),
    }
}

async fn answer(guard: &ToolGuard, caller: &ToolCaller, message: &Message) -> Result<Value, ToolRefused> {
    match message.method() {
        "initialize" => {
            let wanted = message.params().get("protocolVersion").and_then(Value::as_str);
            let version = VERSIONS.into_iter().find(|one| Some(*one) == wanted).unwrap_or(VERSIONS[0]);
            let server = json!({"name": "invoices", "version": "1.0.0"});
            Ok(message.answer(json!({"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server})))
        }
        "ping" => Ok(message.answer(json!({}))),
        "tools/list" => Ok(message.answer(guard.filter(caller, tools()).await?)),
        "tools/call" => Ok(message.answer(call(&guard.judge(caller, message).await?))),
        _ => Ok(
            json!({"jsonrpc": "2.0", "id": message.id(), "error": {"code": -32_601, "message": "there is no such method"}}),
        ),
    }
}

/// A tool; the permit says which, with what, and for whom.
fn call(permit: &ToolPermit) -> Value {
    let (arguments, by) = (permit.arguments(), permit.permit());
    let text = format!("{} {}/{} for {}", permit.tool(), arguments["project"], arguments["number"], by.agent_id());
    json!({"content": [{"type": "text", "text": text}], "_meta": {"legate/decisionId": by.decision_id()}})
}

fn speaks(headers: &HeaderMap) -> bool {
    let version = headers.get("mcp-protocol-version");
    version.is_none_or(|version| VERSIONS.iter().any(|one| version == one))
}

fn refusal(refused: &ToolRefused, id: Option<&Value>) -> Response {
    let mut answer = json_of(refused.status(), &refused.answer(id));
    if let Some(challenge) = refused.challenge() {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, http::HeaderValue::from_static(challenge));
    }
    answer
}

fn json_of(status: StatusCode, body: &Value) -> Response {
    let mut answer = Response::new(Body::from(body.to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    answer
}

fn plain(status: StatusCode) -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}

fn setting(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("{name} is not set"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let file = |name| setting(name).map(PathBuf::from);
    let mapping = ToolMapping::parse(&std::fs::read_to_string(file("MAPPING")?)?)?;
    let domain = legate_ids::TrustDomain::parse(&setting("LEGATE_TRUST_DOMAIN")?)?;
    let trust = Trust::from_files(domain, &file("LEGATE_CA")?, Some(&file("LEGATE_WORKLOADS_CA")?))?;
    let point = Identity::from_files(&file("LEGATE_CERT")?, &file("LEGATE_KEY")?)?;
    let policy = setting("LEGATE_POLICY")?;
    let decision = Decision::builder(policy.split(','), point, trust.clone()).build()?;
    let host = Identity::from_files(&file("LISTEN_CERT")?, &file("LISTEN_KEY")?)?;
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8443".into()).parse()?;
    let listener = Listener::bind_web(listen, host, Some(trust), SystemClock::shared(), Limits::default()).await?;
    tool_server::serve(listener, app(ToolGuard::new(decision, mapping))?).await;
    Ok(())
}
