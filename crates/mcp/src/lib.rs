//! Tools of MCP servers mapped to actions on resources: what a call asks for, and which definition of a tool somebody looked at.
//!
//! Everything here is text in and text out: who calls is not known, and nothing is decided. A tool that no mapping names is nobody's,
//! and arguments are taken for hostile: what they may be is declared one by one, and no value of one can name the resource of another.

mod argument;
mod definition;
mod document;
mod list;
mod mapping;
mod skeleton;
mod template;

pub use argument::Said;
pub use definition::{BadTool, Definition};
pub use document::{Argument, Document, Form, Kind, Metadata, Resource, Spec, Tool, Unique};
pub use list::{LONGEST_LIST, Listed, MOST_LISTED, tools_of};
pub use mapping::{Asked, BadMapping, Given, Mapping, Reach, Refusal, Why};
pub use skeleton::{Made, skeleton};

/// The version that a mapping names.
pub const API_VERSION: &str = "legate/v1";
/// The kind that a mapping names.
pub const KIND: &str = "ToolMapping";
/// The longest file of a mapping, in bytes.
pub const LONGEST_FILE: usize = 1 << 20;

/// Whether a text can be the name of a tool: 1 to 128 of `A-Z a-z 0-9 _ - . /`.
#[must_use]
pub fn is_tool_name(text: &str) -> bool {
    let part = |b: u8| b.is_ascii_alphanumeric() || b"_-./".contains(&b);
    (1..=128).contains(&text.len()) && text.bytes().all(part)
}
