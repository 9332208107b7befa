//! A mapping as it is written: YAML or JSON, everything unknown and everything that comes twice refused.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize as Read, Serialize};
use serde_json::Value;

/// A mapping of the tools of one MCP server.
#[derive(Clone, Debug, PartialEq, Read, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// `legate/v1`.
    pub api_version: String,
    /// `ToolMapping`.
    pub kind: String,
    /// Whose it is, and what it is called.
    pub metadata: Metadata,
    /// The server and its tools.
    pub spec: Spec,
}

/// Whose a mapping is, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq, Read, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// The namespace of the enforcement point that the server is.
    pub namespace: String,
}

/// The server and its tools.
#[derive(Clone, Debug, PartialEq, Read, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What the server is called; policies read it as `context.mcp_server`.
    pub server: String,
    /// Its tools, 512 at most. One that is not here is denied, and never shown.
    pub tools: Vec<Tool>,
}

/// What a call of one tool asks for.
#[derive(Clone, Debug, PartialEq, Read, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Its name at the server; policies read it as `context.mcp_tool`.
    pub name: String,
    /// The definition that was looked at, `sha256:...`. With any other the tool is denied.
    pub definition: String,
    /// What a call does, such as `invoice:read`.
    pub action: String,
    /// What it does it to.
    pub resource: Resource,
    /// The arguments that there may be, 64 at most; one that is not here denies the call.
    #[serde(default, skip_serializing_if = "Unique::is_empty")]
    pub arguments: Unique<Argument>,
    /// Attributes of the resource: `{args.NAME}` for an argument as it is, anything else as it stands here.
    #[serde(default, skip_serializing_if = "Unique::is_empty")]
    pub attributes: Unique<Value>,
    /// More about the request, in the same way.
    #[serde(default, skip_serializing_if = "Unique::is_empty")]
    pub context: Unique<Value>,
}

/// What a call does something to.
#[derive(Clone, Debug, PartialEq, Eq, Read, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// Its type, such as `Invoice`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id, in which `{args.NAME}` stands for an argument: one to a segment between slashes.
    pub id: String,
}

/// What an argument may be.
#[derive(Clone, Debug, Default, PartialEq, Read, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Argument {
    /// Of which kind its value is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Of which form a string is; left out: `segment` in a resource's id, `text` elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
    /// How many segments a `path` has; left out: any number, and it stands at the end of the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<u8>,
    /// The longest value in bytes: 256 in a resource's id, 65,536 elsewhere, where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u32>,
    /// The only strings that it may be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// The least whole number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<i64>,
    /// The greatest whole number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<i64>,
    /// Whether it may be left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// What is judged and passed on where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
}

/// Of which kind a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Read, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A string.
    String,
    /// A whole number up to 2^53.
    Integer,
    /// Any number; policies know none that is not whole, so it stands in no template.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A list of strings.
    Strings,
    /// Anything; it stands in no template.
    #[default]
    Any,
}

/// Of which form a string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Read, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// One segment of an id: printable ASCII without separators and wildcards.
    Segment,
    /// Segments with `/` between.
    Path,
    /// Any text.
    Text,
}

/// Names and values, none of them twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Unique<T>(pub BTreeMap<String, T>);

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Unique<T> {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Names<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Names<T> {
            type Value = BTreeMap<String, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let value = map.next_value()?;
                    if all.insert(name.clone(), value).is_some() {
                        return Err(A::Error::custom(format_args!("{name:?} is given twice")));
                    }
                }
                Ok(all)
            }
        }
        from.deserialize_map(Names(PhantomData)).map(Self)
    }
}
