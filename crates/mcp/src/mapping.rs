//! A mapping that was read and makes sense: which question a call of a tool is.

mod stated;

use std::collections::BTreeMap;

use legate_ids::{Action, ActionPattern, Name, ResourceType};
use serde_json::{Map, Value};

use crate::argument::{Argument, Said};
use crate::document::{self, Document};
use crate::template::Template;
use crate::{API_VERSION, KIND, LONGEST_FILE};

/// Tools of a server, and arguments of a tool, at most.
const MOST_TOOLS: usize = 512;
const MOST_ARGUMENTS: usize = 64;
/// What the context of every question holds; a mapping says nothing else by these names.
const SERVER: &str = "mcp_server";
const TOOL: &str = "mcp_tool";

/// Why a mapping cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadMapping(pub String);

/// Why a tool cannot be called, or is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No mapping names it.
    NotMapped,
    /// Its definition is another than the one that was looked at.
    Changed,
    /// Its definition was not seen yet.
    NotSeen,
    /// An argument is missing, not declared, or not what it may be.
    Arguments,
}

/// Why a tool cannot be called, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Why.
    pub why: Why,
    /// The same in a sentence; no word of what was said is in it.
    pub text: String,
}

/// The question that a call of a tool is.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// What is done.
    pub action: String,
    /// To a resource of which type.
    pub resource_type: String,
    /// To which one.
    pub resource_id: String,
    /// Its attributes.
    pub attributes: Vec<(String, Said)>,
    /// More about the request.
    pub context: Vec<(String, Said)>,
    /// The arguments that were judged, with what stands for those that were left out: what is to be done, and nothing else.
    pub arguments: Map<String, Value>,
}

/// What an agent is given: an action pattern on resources.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The action pattern.
    pub action: &'a str,
    /// The resources' type; `*`: every one.
    pub resource_type: &'a str,
    /// The pattern of their ids.
    pub resource_id: &'a str,
    /// The attributes that they have.
    pub attributes: &'a BTreeMap<String, String>,
}

/// How many calls of a tool something given covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// None.
    Nothing,
    /// Some: that hangs on the arguments.
    Some,
    /// All, whatever the arguments are.
    All,
}

/// A value of an attribute or of the context.
#[derive(Clone, Debug, PartialEq)]
enum Source {
    Argument(String),
    Fixed(Said),
}

#[derive(Clone, Debug, PartialEq)]
struct Mapped {
    definition: String,
    action: Action,
    resource_type: ResourceType,
    resource_id: Template,
    arguments: BTreeMap<String, Argument>,
    attributes: BTreeMap<String, Source>,
    context: BTreeMap<String, Source>,
}

/// Which question a call of a tool is, for the tools of one server.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    namespace: Name,
    name: Name,
    server: Name,
    tools: BTreeMap<String, Mapped>,
}

impl Mapping {
    /// Reads YAML or JSON.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, BadMapping> {
        Self::of(&Self::document(text)?)
    }

    /// Reads what is written, whether or not it makes sense.
    ///
    /// # Errors
    /// When it is no document of a mapping.
    pub fn document(text: &str) -> Result<Document, BadMapping> {
        if text.len() > LONGEST_FILE {
            return Err(BadMapping(format!("a mapping is {LONGEST_FILE} bytes at most")));
        }
        serde_norway::from_str(text).map_err(|e| BadMapping(e.to_string()))
    }

    /// Checks what was read.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub fn of(from: &Document) -> Result<Self, BadMapping> {
        if from.api_version != API_VERSION || from.kind != KIND {
            return Err(BadMapping(format!("a mapping begins with apiVersion: {API_VERSION} and kind: {KIND}")));
        }
        let named = |field: &str, text: &str| Name::parse(text).map_err(|e| BadMapping(format!("{field}: {e}")));
        if from.spec.tools.len() > MOST_TOOLS {
            return Err(BadMapping(format!("spec.tools: there are {MOST_TOOLS} at most")));
        }
        let mut tools = BTreeMap::new();
        for tool in &from.spec.tools {
            let name = tool.name.escape_debug().take(128).collect::<String>();
            let mapped = Mapped::of(tool).map_err(|why| BadMapping(format!("tool {name}: {why}")))?;
            if tools.insert(tool.name.clone(), mapped).is_some() {
                return Err(BadMapping(format!("tool {name} is there twice")));
            }
        }
        Ok(Self {
            namespace: named("metadata.namespace", &from.metadata.namespace)?,
            name: named("metadata.name", &from.metadata.name)?,
            server: named("spec.server", &from.spec.server)?,
            tools,
        })
    }

    /// Whose it is.
    #[must_use]
    pub fn namespace(&self) -> &Name {
        &self.namespace
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The names of its tools.
    pub fn tools(&self) -> impl Iterator<Item = &str> {
        self.tools.keys().map(String::as_str)
    }

    /// What a tool does, to which type of resource; `None`: it is not mapped.
    #[must_use]
    pub fn does(&self, tool: &str) -> Option<(&str, &str)> {
        self.tools.get(tool).map(|mapped| (mapped.action.as_str(), mapped.resource_type.as_str()))
    }

    /// Whether a definition is the one that was looked at.
    ///
    /// # Errors
    /// When the tool is not mapped, or its definition is another, or `hash` is `None`: it was not seen.
    pub fn is_pinned(&self, tool: &str, hash: Option<&str>) -> Result<(), Refusal> {
        let mapped = self.mapped(tool)?;
        match hash {
            Some(hash) if hash == mapped.definition => Ok(()),
            Some(_) => Err(refusal(Why::Changed, "the tool's definition is another than the one that was mapped")),
            None => Err(refusal(Why::NotSeen, "the tool's definition has not been seen yet")),
        }
    }

    /// The question that a call is.
    ///
    /// # Errors
    /// When the tool is not mapped, or an argument is missing, not declared, or not what it may be.
    pub fn asks(&self, tool: &str, mut arguments: Map<String, Value>) -> Result<Asked, Refusal> {
        let mapped = self.mapped(tool)?;
        let wrong = |text: String| refusal(Why::Arguments, text);
        if arguments.keys().any(|name| !mapped.arguments.contains_key(name)) {
            return Err(wrong("there is an argument that the mapping does not declare".into()));
        }
        for (name, argument) in &mapped.arguments {
            match (arguments.get(name), &argument.default) {
                (Some(value), _) => argument.check(value).map_err(|why| wrong(format!("the argument {name} {why}")))?,
                (None, Some(default)) => drop(arguments.insert(name.clone(), default.clone())),
                (None, None) if argument.optional => {}
                (None, None) => return Err(wrong(format!("the argument {name} is missing"))),
            }
        }
        let resource_id =
            mapped.resource_id.render(&arguments).map_err(|why| wrong(format!("the resource's id: {why}")))?;
        let said = |all: &BTreeMap<String, Source>| -> Vec<(String, Said)> {
            let value = |source: &Source| match source {
                Source::Fixed(value) => Some(value.clone()),
                Source::Argument(name) => mapped.arguments.get(name)?.said(arguments.get(name)?),
            };
            all.iter().filter_map(|(name, source)| Some((name.clone(), value(source)?))).collect()
        };
        let (attributes, mut context) = (said(&mapped.attributes), said(&mapped.context));
        context.push((SERVER.to_owned(), Said::Text(self.server.to_string())));
        context.push((TOOL.to_owned(), Said::Text(tool.to_owned())));
        Ok(Asked {
            action: mapped.action.to_string(),
            resource_type: mapped.resource_type.to_string(),
            resource_id,
            attributes,
            context,
            arguments,
        })
    }

    /// How many calls of a tool something given covers.
    #[must_use]
    pub fn reach(&self, tool: &str, given: Given<'_>) -> Reach {
        let Some(mapped) = self.tools.get(tool) else { return Reach::Nothing };
        let covers = ActionPattern::parse(given.action).is_ok_and(|pattern| pattern.covers(&mapped.action));
        let is_type = given.resource_type == "*" || given.resource_type == mapped.resource_type.as_str();
        if !covers || !is_type || !mapped.resource_id.meets(given.resource_id, &mapped.arguments) {
            return Reach::Nothing;
        }
        let id = if mapped.resource_id.is_within(given.resource_id) { Reach::All } else { Reach::Some };
        let attributes = given.attributes.iter().map(|(name, value)| mapped.has(name, value));
        attributes.fold(id, Reach::min)
    }

    fn mapped(&self, tool: &str) -> Result<&Mapped, Refusal> {
        self.tools.get(tool).ok_or_else(|| refusal(Why::NotMapped, "no mapping names the tool, so nobody may call it"))
    }
}

fn refusal(why: Why, text: impl Into<String>) -> Refusal {
    Refusal { why, text: text.into() }
}

impl Mapped {
    fn of(from: &document::Tool) -> Result<Self, String> {
        if !crate::is_tool_name(&from.name) {
            return Err("a name is 1 to 128 of A-Z a-z 0-9 _ - . /".into());
        }
        let hash = from.definition.strip_prefix("sha256:").unwrap_or_default();
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err("definition: has to be sha256: and 64 of 0-9 a-f; legate mcp schema writes it".into());
        }
        if from.arguments.0.len() > MOST_ARGUMENTS {
            return Err(format!("arguments: there are {MOST_ARGUMENTS} at most"));
        }
        let resource_id = Template::parse(&from.resource.id).map_err(|why| format!("resource.id: {why}"))?;
        let mut arguments = BTreeMap::new();
        for (name, argument) in &from.arguments.0 {
            let is_name = (1..=64).contains(&name.len())
                && !name.chars().any(|c| legate_ids::is_deceptive(c) || "{}".contains(c));
            if !is_name {
                return Err("arguments: a name is 1 to 64 bytes of text without braces and hidden characters".into());
            }
            let in_id = resource_id.arguments().any(|used| used == name);
            let argument = Argument::read(argument, in_id).map_err(|why| format!("arguments.{name}: {why}"))?;
            arguments.insert(name.clone(), argument);
        }
        resource_id.check(&arguments).map_err(|why| format!("resource.id: {why}"))?;
        Ok(Self {
            definition: from.definition.clone(),
            action: Action::parse(&from.action).map_err(|e| format!("action: {e}"))?,
            resource_type: ResourceType::parse(&from.resource.kind).map_err(|e| format!("resource.type: {e}"))?,
            resource_id,
            attributes: sources("attributes", &from.attributes.0, &arguments)?,
            context: sources("context", &from.context.0, &arguments)?,
            arguments,
        })
    }

    /// Whether the resource has an attribute.
    fn has(&self, name: &str, value: &str) -> Reach {
        match self.attributes.get(name) {
            Some(Source::Fixed(Said::Text(text))) if text == value => Reach::All,
            Some(Source::Argument(argument)) if self.arguments.get(argument).is_some_and(|one| one.can_be(value)) => {
                Reach::Some
            }
            _ => Reach::Nothing,
        }
    }
}

/// Reads attributes or a context.
fn sources(
    field: &str,
    from: &BTreeMap<String, Value>,
    arguments: &BTreeMap<String, Argument>,
) -> Result<BTreeMap<String, Source>, String> {
    let mut all = BTreeMap::new();
    for (name, value) in from {
        if field == "context" && matches!(name.as_str(), SERVER | TOOL) {
            return Err(format!("{field}.{name}: is said by the guard"));
        }
        let source = source(value, arguments).map_err(|why| format!("{field}.{name}: {why}"))?;
        all.insert(name.clone(), source);
    }
    Ok(all)
}

fn source(value: &Value, arguments: &BTreeMap<String, Argument>) -> Result<Source, String> {
    let fixed = |said| Ok(Source::Fixed(said));
    match value {
        Value::Bool(is) => fixed(Said::Bool(*is)),
        Value::Number(number) => match number.as_i64().filter(|whole| whole.unsigned_abs() <= 1 << 53) {
            Some(whole) => fixed(Said::Whole(whole)),
            None => Err("policies know whole numbers up to 2^53 only".into()),
        },
        Value::String(text) if text.contains(['{', '}']) => {
            let name = text.strip_prefix("{args.").and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
            match arguments.get(name) {
                Some(argument) if argument.is_said() => Ok(Source::Argument(name.to_owned())),
                Some(_) => Err(format!("policies cannot look at the argument {name}: it is a number or anything")),
                None => Err("has to be a text without braces, or {args.NAME} of an argument that there is".into()),
            }
        }
        Value::String(text) => fixed(Said::Text(text.clone())),
        Value::Array(all) => {
            let texts: Option<Vec<String>> = all.iter().map(|one| one.as_str().map(str::to_owned)).collect();
            fixed(Said::Set(texts.ok_or("a list holds texts only")?))
        }
        Value::Null | Value::Object(_) => {
            Err("has to be a text, a whole number, true or false, or a list of texts".into())
        }
    }
}

#[cfg(test)]
mod tests;
