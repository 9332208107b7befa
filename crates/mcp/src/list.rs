//! The tools that the result of `tools/list` holds, each once.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{BadTool, Definition};

/// Tools in one result at most.
pub const MOST_LISTED: usize = 2_000;
/// The longest result, in bytes.
pub const LONGEST_LIST: usize = 8 << 20;

/// What a list holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed {
    /// The tools, in their order.
    pub tools: Vec<Definition>,
    /// The names that came twice: who is meant by them is not known, so they are nobody's.
    pub twice: BTreeSet<String>,
}

/// The tools of a result of `tools/list`, or of a whole answer of JSON-RPC that holds one.
///
/// # Errors
/// When it holds no list of tools, more than 2,000, or one that is no tool.
pub fn tools_of(result: Value) -> Result<Listed, BadTool> {
    let no_list = || BadTool("there is no list of tools".into());
    let Value::Object(mut result) = result else { return Err(no_list()) };
    if let Some(inner) = result.remove("result") {
        return match inner {
            Value::Object(inner) if !inner.contains_key("result") => tools_of(Value::Object(inner)),
            _ => Err(no_list()),
        };
    }
    let Some(Value::Array(tools)) = result.remove("tools") else { return Err(no_list()) };
    if tools.len() > MOST_LISTED {
        return Err(BadTool(format!("there are more than {MOST_LISTED} tools")));
    }
    let mut tools: Vec<Definition> = tools.into_iter().map(Definition::read).collect::<Result<_, _>>()?;
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for tool in &tools {
        if !seen.insert(tool.name().to_owned()) {
            twice.insert(tool.name().to_owned());
        }
    }
    tools.retain(|tool| !twice.contains(tool.name()));
    Ok(Listed { tools, twice })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_read_and_a_name_that_comes_twice_is_nobodys() {
        let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
        let names = |value: Value| -> Vec<String> {
            tools_of(value).unwrap().tools.iter().map(|tool| tool.name().to_owned()).collect()
        };
        assert_eq!(names(json!({"tools": [tool("a"), tool("b"), tool("a")]})), ["b"]);
        let whole = json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": [tool("a")]}});
        assert_eq!(names(whole), ["a"]);
        let many: Vec<Value> = (0..=MOST_LISTED).map(|n| tool(&format!("t{n}"))).collect();
        for bad in [json!([]), json!({}), json!({"tools": {}}), json!({"tools": [1]}), json!({"tools": many})] {
            assert!(tools_of(bad).is_err());
        }
        assert!(tools_of(json!({"result": {"result": {"tools": []}}})).is_err());
    }
}
