//! One message of JSON-RPC 2.0, as MCP has it: read strictly, and no batches.

use legate_json::Names;
use serde_json::{Map, Value, json};

use super::ToolRefused;
use crate::reasons::TOOL_MESSAGE_INVALID;

/// The longest message, in bytes.
const LONGEST: usize = 1 << 20;
/// The longest id, in bytes.
const LONGEST_ID: usize = 256;

/// A request or a notification.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    id: Option<Value>,
    method: String,
    params: Map<String, Value>,
}

impl Message {
    /// The longest message that is read, in bytes.
    pub const LONGEST: usize = LONGEST;

    /// Reads one.
    ///
    /// # Errors
    /// When it is not JSON in which no name comes twice, no single request or notification, or too long.
    pub fn read(body: &[u8]) -> Result<Self, ToolRefused> {
        let bad = |why: &str| ToolRefused::new(&TOOL_MESSAGE_INVALID, why);
        if body.len() > LONGEST {
            return Err(bad("the message is longer than 1 MiB"));
        }
        let message = legate_json::object(body, Names::AsWritten).map_err(|why| bad(&format!("the message {why}")))?;
        if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return Err(bad("the message is not JSON-RPC 2.0"));
        }
        // MCP: a string or a whole number, and never null.
        let id = match message.get("id") {
            None => None,
            Some(Value::String(text)) if text.len() <= LONGEST_ID => Some(Value::String(text.clone())),
            Some(Value::Number(number)) if !number.is_f64() => Some(Value::Number(number.clone())),
            Some(_) => return Err(bad("the id is neither a string of 256 bytes at most nor a whole number")),
        };
        let Some(Value::String(method)) = message.get("method") else {
            return Err(bad("the message has no method"));
        };
        let params = match message.get("params") {
            None => Map::new(),
            Some(Value::Object(params)) => params.clone(),
            Some(_) => return Err(bad("params is no object")),
        };
        Ok(Self { id, method: method.clone(), params })
    }

    /// The id of a request; `None`: it is a notification.
    #[must_use]
    pub fn id(&self) -> Option<&Value> {
        self.id.as_ref()
    }

    /// What is asked for.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// With what.
    #[must_use]
    pub fn params(&self) -> &Map<String, Value> {
        &self.params
    }

    /// The answer with a result.
    #[must_use]
    pub fn answer(&self, result: Value) -> Value {
        json!({"jsonrpc": "2.0", "id": self.id, "result": result})
    }

    /// The tool that is called, and the arguments.
    pub(super) fn tool_call(&self) -> Result<(&str, Map<String, Value>), ToolRefused> {
        let bad = |why: &str| ToolRefused::new(&TOOL_MESSAGE_INVALID, why);
        if self.method != "tools/call" {
            return Err(bad("the message calls no tool"));
        }
        if self.id.is_none() {
            return Err(bad("a call of a tool has an id"));
        }
        let Some(Value::String(tool)) = self.params.get("name") else {
            return Err(bad("the call has no name of a tool"));
        };
        let arguments = match self.params.get("arguments") {
            None => Map::new(),
            Some(Value::Object(arguments)) => arguments.clone(),
            Some(_) => return Err(bad("arguments is no object")),
        };
        Ok((tool, arguments))
    }
}
