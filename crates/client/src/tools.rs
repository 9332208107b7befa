//! Which tools of an MCP server an agent sees, and which it may call: one policy for both, and nothing that nobody mapped.
//!
//! A mapping says which action on which resource a call is, and pins the definition of each tool that somebody looked at. The guard stands in
//! the server or in a gateway before it. `tools/list` shows what the agent may call with some arguments at least; `tools/call` is
//! decided with the arguments that came, and what was judged is what is to be done.

mod message;
mod refused;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::request::Parts;
use legate_mcp::{Asked, Definition, Given, Listed, Mapping, tools_of};
use legate_wire::policy as wire;
use parking_lot::Mutex;
use prost_types::value::Kind;
use prost_types::{ListValue, Value as Stated};
use serde_json::{Map, Value, json};

pub use legate_mcp::{BadMapping, Mapping as ToolMapping, Reach, Said};
pub use message::Message;
pub use refused::ToolRefused;

use crate::{Decision, Permit, Question, guard, reasons};

/// Says in a tool's `_meta` whether it may be called whatever its arguments are.
const CERTAINTY: &str = "legate/certainty";

/// Who calls: the agent's access token, and by what it was shown.
#[derive(Clone)]
pub struct ToolCaller {
    token: String,
    presented: Option<[u8; 32]>,
    key: Option<[u8; 32]>,
}

/// Never shows the token.
impl std::fmt::Debug for ToolCaller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToolCaller").field("presented", &self.presented.is_some()).finish_non_exhaustive()
    }
}

impl ToolCaller {
    /// By the one bearer token of an HTTP request, and the certificate of its connection, as [`guard`](crate::guard) takes them.
    ///
    /// # Errors
    /// When there is no token, or what there is breaks the grammar.
    pub fn of(head: &Parts) -> Result<Self, ToolRefused> {
        let token = guard::token(head).map_err(|refusal| ToolRefused::of_the_request(&refusal))?.to_owned();
        Ok(Self { token, presented: guard::presented(head), key: None })
    }

    /// By a token that came in another way.
    #[must_use]
    pub fn by_token(token: impl Into<String>) -> Self {
        Self { token: token.into(), presented: None, key: None }
    }

    /// SHA-256 of the certificate with which the agent's connection was made, as the handshake proved it.
    #[must_use]
    pub fn presented_certificate(mut self, x5t_s256: [u8; 32]) -> Self {
        self.presented = Some(x5t_s256);
        self
    }

    /// The RFC 7638 thumbprint of the key whose DPoP proof the server verified for this very request.
    #[must_use]
    pub fn presented_key(mut self, jkt: [u8; 32]) -> Self {
        self.key = Some(jkt);
        self
    }

    fn subject(&self) -> wire::Subject {
        wire::Subject {
            agent: Some(wire::subject::Agent::AccessToken(self.token.clone())),
            presenter_x5t_s256: self.presented.map(Vec::from).unwrap_or_default(),
            presenter_jkt: self.key.map(Vec::from).unwrap_or_default(),
            on_behalf_of: None,
        }
    }

    fn question(&self, asked: &Asked) -> Question {
        let mut question =
            Question::by_token(self.token.as_str(), &*asked.action, &asked.resource_type, &asked.resource_id);
        if let Some(x5t_s256) = self.presented {
            question = question.presented_certificate(x5t_s256);
        }
        if let Some(jkt) = self.key {
            question = question.presented_key(jkt);
        }
        let question = asked.attributes.iter().fold(question, |q, (name, said)| q.attribute(name, stated(said)));
        asked.context.iter().fold(question, |q, (name, said)| q.context(name, stated(said)))
    }
}

/// A value as a question carries it.
pub fn stated(said: &Said) -> Stated {
    let text = |text: &String| Stated { kind: Some(Kind::StringValue(text.clone())) };
    match said {
        Said::Text(value) => text(value),
        #[allow(clippy::cast_precision_loss, reason = "whole and up to 2^53, as the mapping checked")]
        Said::Whole(whole) => Stated { kind: Some(Kind::NumberValue(*whole as f64)) },
        Said::Bool(is) => Stated { kind: Some(Kind::BoolValue(*is)) },
        Said::Set(all) => Stated { kind: Some(Kind::ListValue(ListValue { values: all.iter().map(text).collect() })) },
    }
}

/// A call that may be made, and what exactly it is.
#[derive(Clone, Debug)]
pub struct ToolPermit {
    permit: Permit,
    tool: String,
    arguments: Map<String, Value>,
}

impl ToolPermit {
    /// Who may, by which decision.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The tool.
    #[must_use]
    pub fn tool(&self) -> &str {
        &self.tool
    }

    /// The arguments that were judged, with what stands for those that were left out. Nothing else is to be done.
    #[must_use]
    pub fn arguments(&self) -> &Map<String, Value> {
        &self.arguments
    }
}

/// Stands before the tools of one MCP server. Cheap to clone; clones have seen the same definitions.
#[derive(Clone, Debug)]
pub struct ToolGuard {
    decision: Decision,
    mapping: Arc<Mapping>,
    /// The hash of the definition that was seen last, for mapped tools; empty: of one that came twice.
    seen: Arc<Mutex<BTreeMap<String, String>>>,
}

impl ToolGuard {
    /// Lets through what `decision` allows of what `mapping` says. Until it has seen a tool's definition the tool cannot be called.
    #[must_use]
    pub fn new(decision: Decision, mapping: Mapping) -> Self {
        Self { decision, mapping: Arc::new(mapping), seen: Arc::default() }
    }

    /// Looks at the definitions of the tools that a result of `tools/list` holds: a server shows it its own when it starts. A gateway
    /// need not call this, since [`ToolGuard::filter`] looks at every list that goes through it.
    ///
    /// # Errors
    /// When it is no such result.
    pub fn see(&self, result: Value) -> Result<(), ToolRefused> {
        self.look(result).map(drop)
    }

    fn look(&self, result: Value) -> Result<Listed, ToolRefused> {
        let listed = tools_of(result).map_err(|e| ToolRefused::new(&reasons::TOOL_LIST_INVALID, e.to_string()))?;
        let mut seen = self.seen.lock();
        let tools = listed.tools.iter().map(|tool| (tool.name(), tool.hash()));
        for (name, hash) in tools.chain(listed.twice.iter().map(|name| (name.as_str(), ""))) {
            if self.mapping.does(name).is_none() {
                continue;
            }
            if self.mapping.is_pinned(name, Some(hash)).is_err() {
                tracing::warn!(
                    tool = name,
                    "the definition of a tool is not the one that was mapped; it is hidden and denied"
                );
            }
            seen.insert(name.to_owned(), hash.to_owned());
        }
        Ok(listed)
    }

    /// What of a result of `tools/list` the caller sees: tools that are mapped, as they were when they were mapped, and that it may
    /// call with some arguments at least. Each says in `_meta` whether that is whatever the arguments are (`ALWAYS`) or not (`DEPENDS`).
    /// Nothing is decided by it: a call is decided when it comes.
    ///
    /// # Errors
    /// When the list cannot be read, the token is no good, the agent does not work, or it cannot be told: then nothing is shown.
    pub async fn filter(&self, caller: &ToolCaller, result: Value) -> Result<Value, ToolRefused> {
        let next = result.get("nextCursor").filter(|next| next.is_string()).cloned();
        let listed = self.look(result)?;
        let can = self.decision.what_can(caller.subject()).await.map_err(ToolRefused::undecided)?;
        if !can.reason_code.is_empty() {
            return Err(ToolRefused::denied(&can.reason_code, ""));
        }
        let shown = listed.tools.into_iter().filter_map(|tool| self.shown(tool, &can)).collect::<Vec<_>>();
        let mut answer = json!({ "tools": shown });
        if let Some(next) = next {
            answer["nextCursor"] = next;
        }
        Ok(answer)
    }

    fn shown(&self, tool: Definition, can: &wire::WhatCanResponse) -> Option<Value> {
        self.mapping.is_pinned(tool.name(), Some(tool.hash())).ok()?;
        let word = match reach(&self.mapping, tool.name(), can) {
            Reach::Nothing => return None,
            Reach::Some => "DEPENDS",
            Reach::All => "ALWAYS",
        };
        let mut tool = tool.into_value();
        tool["_meta"] = json!({ CERTAINTY: word });
        Some(tool)
    }

    /// Whether a request `tools/call` may be carried out.
    ///
    /// # Errors
    /// When it is no such request, the tool is not mapped, not seen or changed, an argument is not what it may be, or it is not allowed.
    pub async fn judge(&self, caller: &ToolCaller, message: &Message) -> Result<ToolPermit, ToolRefused> {
        let (tool, arguments) = message.tool_call()?;
        let hash = self.seen.lock().get(tool).cloned();
        self.mapping.is_pinned(tool, hash.as_deref()).map_err(ToolRefused::of_the_mapping)?;
        let asked = self.mapping.asks(tool, arguments).map_err(ToolRefused::of_the_mapping)?;
        let decided = self.decision.ask(caller.question(&asked)).await;
        let permit = decided.permit().map_err(ToolRefused::not_allowed)?;
        Ok(ToolPermit { permit, tool: tool.to_owned(), arguments: asked.arguments })
    }
}

/// How many calls of a tool an agent may make, by what it was said to be able to do.
#[must_use]
pub fn reach(mapping: &Mapping, tool: &str, can: &wire::WhatCanResponse) -> Reach {
    let at = |time: Option<prost_types::Timestamp>| time.map_or((0, 0), |time| (time.seconds, time.nanos));
    let now = at(can.judged_time);
    let of = |one: &wire::Entitlement| {
        if one.certainty() == wire::Certainty::Never
            || one.certainty() == wire::Certainty::Unspecified
            || at(one.from) > now
        {
            return Reach::Nothing;
        }
        let on = |action: &str, resource: Option<&legate_wire::registry::ResourceSelector>| {
            let Some(resource) = resource else { return Reach::Nothing };
            let attributes = resource.attributes.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            let (resource_type, resource_id) = (resource.r#type.as_str(), resource.id.as_str());
            mapping.reach(tool, Given { action, resource_type, resource_id, attributes: &attributes })
        };
        let whole = on(&one.action, one.resource.as_ref());
        let most = match one.certainty() {
            wire::Certainty::Always => Reach::All,
            _ => Reach::Some,
        };
        // What is cut out of it is told in an entitlement of its own.
        let cut = one.except.iter().map(|cut| on(&cut.action, cut.resource.as_ref())).max().unwrap_or(Reach::Nothing);
        let left = match cut {
            Reach::Nothing => Reach::All,
            Reach::Some => Reach::Some,
            Reach::All => Reach::Nothing,
        };
        whole.min(most).min(left)
    };
    can.entitlements.iter().map(of).max().unwrap_or(Reach::Nothing)
}

#[cfg(test)]
mod tests;
