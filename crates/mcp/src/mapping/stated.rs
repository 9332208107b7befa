//! What calls of the tools state, as a Cedar schema: what a namespace declares whose policies are to look at it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{BadMapping, Mapped, Mapping, SERVER, Source, TOOL};
use crate::argument::Said;
use crate::document::Kind;

/// Of which type in Cedar something is that calls state, and whether every call states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Value {
    kind: &'static str,
    always: bool,
}

/// What is stated under names.
type Values = BTreeMap<String, Value>;

/// What the tools with one action, or on one type, state together; how many they are.
#[derive(Debug, Default)]
struct Together {
    values: Values,
    tools: usize,
}

impl Mapping {
    /// The types, actions and contexts of the tools as a Cedar schema.
    ///
    /// # Errors
    /// When two tools state something of another type under one name, so that no schema fits both.
    pub fn stated(&self) -> Result<String, BadMapping> {
        let mut types: BTreeMap<&str, Together> = BTreeMap::new();
        let mut actions: BTreeMap<&str, (Together, Vec<&str>)> = BTreeMap::new();
        for (name, mapped) in &self.tools {
            let (action, kind) = (mapped.action.as_str(), mapped.resource_type.as_str());
            let odd = |why: String| BadMapping(format!("tool {name}: {why}"));
            types.entry(kind).or_default().add(mapped.values(&mapped.attributes)).map_err(odd)?;
            let mut context = mapped.values(&mapped.context);
            context.extend([SERVER, TOOL].map(|given| (given.to_owned(), Value { kind: "String", always: true })));
            let (together, on) = actions.entry(action).or_default();
            together.add(context).map_err(odd)?;
            if !on.contains(&kind) {
                on.push(kind);
            }
        }
        let mut text = format!(
            "// What calls of the tools of {} state; made of the mapping {}/{}.\n",
            self.server, self.namespace, self.name
        );
        for (name, together) in &types {
            let (space, name) = name.rsplit_once("::").unwrap_or(("", name));
            let entity = format!("entity {name} {};", together.record());
            _ = if space.is_empty() {
                writeln!(text, "{entity}")
            } else {
                writeln!(text, "namespace {space} {{\n{entity}\n}}")
            };
        }
        for (name, (context, on)) in &actions {
            _ = writeln!(
                text,
                "action {name:?} appliesTo {{ principal: [Agent], resource: [{}], context: {} }};",
                on.join(", "),
                context.record()
            );
        }
        Ok(text)
    }
}

impl Mapped {
    fn values(&self, sources: &BTreeMap<String, Source>) -> Values {
        let value = |source: &Source| match source {
            Source::Fixed(said) => Some(Value { kind: kind(said), always: true }),
            Source::Argument(name) => {
                let argument = self.arguments.get(name)?;
                let kind = match argument.kind {
                    Kind::String => "String",
                    Kind::Integer => "Long",
                    Kind::Boolean => "Bool",
                    Kind::Strings => "Set<String>",
                    Kind::Number | Kind::Any => return None,
                };
                Some(Value { kind, always: !argument.optional || argument.default.is_some() })
            }
        };
        sources.iter().filter_map(|(name, source)| Some((name.clone(), value(source)?))).collect()
    }
}

fn kind(said: &Said) -> &'static str {
    match said {
        Said::Bool(_) => "Bool",
        Said::Whole(_) => "Long",
        Said::Text(_) => "String",
        Said::Set(_) => "Set<String>",
    }
}

impl Together {
    /// Adds what one more tool states.
    fn add(&mut self, values: Values) -> Result<(), String> {
        for (name, known) in &mut self.values {
            known.always &= values.get(name).is_some_and(|value| value.always);
        }
        for (name, value) in values {
            let is_first = self.tools == 0;
            let known = self.values.entry(name.clone()).or_insert(Value { always: value.always && is_first, ..value });
            if known.kind != value.kind {
                return Err(format!(
                    "{name} is a {} here, and a {} where another tool states it",
                    value.kind, known.kind
                ));
            }
        }
        self.tools += 1;
        Ok(())
    }

    fn record(&self) -> String {
        if self.values.is_empty() {
            return "{}".to_owned();
        }
        let one = |(name, value): (&String, &Value)| {
            let mark = if value.always { "" } else { "?" };
            format!("{name:?}{mark}: {}", value.kind)
        };
        format!("{{ {} }}", self.values.iter().map(one).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn mapping(tools: &str) -> Mapping {
        let head = "apiVersion: legate/v1\nkind: ToolMapping\nmetadata: {name: ledger, namespace: payments}\nspec:\n  server: ledger\n  tools:\n";
        let hash = "0".repeat(64);
        Mapping::parse(&format!("{head}{}", tools.replace("HASH", &format!("sha256:{hash}")))).unwrap()
    }

    const READ: &str = "  - {name: read, definition: HASH, action: 'invoice:read', resource: {type: Invoice, id: '{args.id}'}, arguments: {id: {type: string}, region: {type: string, optional: true}, n: {type: integer, default: 1}}, attributes: {region: '{args.region}', kind: paper}, context: {n: '{args.n}', dry: true}}\n";

    #[test]
    fn what_calls_state_is_a_schema() {
        let list = "  - {name: list, definition: HASH, action: 'invoice:read', resource: {type: 'Acme::Book', id: all}, context: {n: 2}}\n";
        let pay = "  - {name: pay, definition: HASH, action: 'invoice:pay', resource: {type: Invoice, id: all}, attributes: {kind: paper}}\n";
        assert_eq!(
            mapping(&format!("{READ}{list}{pay}")).stated().unwrap(),
            "// What calls of the tools of ledger state; made of the mapping payments/ledger.\n\
             namespace Acme {\nentity Book {};\n}\n\
             entity Invoice { \"kind\": String, \"region\"?: String };\n\
             action \"invoice:pay\" appliesTo { principal: [Agent], resource: [Invoice], context: { \"mcp_server\": String, \"mcp_tool\": String } };\n\
             action \"invoice:read\" appliesTo { principal: [Agent], resource: [Acme::Book, Invoice], context: { \"dry\"?: Bool, \"mcp_server\": String, \"mcp_tool\": String, \"n\": Long } };\n"
        );
    }

    #[test]
    fn tools_that_disagree_have_no_schema() {
        let other = "  - {name: other, definition: HASH, action: 'invoice:read', resource: {type: Invoice, id: all}, context: {n: text}}\n";
        let why = mapping(&format!("{READ}{other}")).stated().unwrap_err().to_string();
        assert_eq!(why, "tool read: n is a Long here, and a String where another tool states it");
    }
}
