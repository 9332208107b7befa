//! What an argument may be, and what becomes of one that is not.

use serde_json::Value;

use crate::document::{self, Form, Kind};

/// Every whole number up to here is exact in JSON and in Cedar.
const EXACT: i64 = 1 << 53;
/// The longest value where the mapping says nothing.
const LONG: u32 = 64 << 10;
const LONG_IN_ID: u32 = 256;
/// The longest that a mapping can allow.
const LONGEST: u32 = 1 << 20;
/// Values that can be listed, segments that a path can have, strings in a list.
const MOST: usize = 256;
/// Lists and objects within each other.
const DEEPEST: usize = 32;

/// A value that policies can look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A text.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// True or false.
    Bool(bool),
    /// Texts.
    Set(Vec<String>),
}

/// What an argument may be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Argument {
    pub(crate) kind: Kind,
    pub(crate) form: Form,
    pub(crate) parts: Option<u8>,
    max_bytes: usize,
    pub(crate) values: Vec<String>,
    minimum: i64,
    maximum: i64,
    pub(crate) optional: bool,
    pub(crate) default: Option<Value>,
}

/// Whether a text is one segment of an id: nothing in it separates, stands for more, or is read in another way by whoever decodes it.
pub(crate) fn is_segment(text: &str) -> bool {
    let plain = |b: u8| (0x20..0x7f).contains(&b) && !b"/\\*%?#;{}".contains(&b);
    !text.is_empty() && text.bytes().all(plain) && text.trim() == text && !matches!(text, "." | "..")
}

impl Argument {
    /// Reads what is written of an argument; `in_id`: whether it stands in the resource's id.
    pub(crate) fn read(from: &document::Argument, in_id: bool) -> Result<Self, String> {
        let is_text = from.kind == Kind::String;
        let form = from.form.unwrap_or(if in_id { Form::Segment } else { Form::Text });
        if !is_text && (from.form.is_some() || !from.values.is_empty()) {
            return Err("only a string has a form or values".into());
        }
        if from.parts.is_some() && form != Form::Path || from.parts == Some(0) {
            return Err("only a path has parts, and one at least".into());
        }
        if from.kind != Kind::Integer && (from.minimum.is_some() || from.maximum.is_some()) {
            return Err("only an integer has a minimum or a maximum".into());
        }
        if in_id && (!is_text || form == Form::Text) && from.kind != Kind::Integer {
            return Err(
                "stands in the resource's id, so it is a string of the form segment or path, or an integer".into()
            );
        }
        let max_bytes = from.max_bytes.unwrap_or(if in_id { LONG_IN_ID } else { LONG });
        if !(1..=LONGEST).contains(&max_bytes) {
            return Err(format!("maxBytes is 1 to {LONGEST}"));
        }
        if from.values.len() > MOST {
            return Err(format!("there are {MOST} values at most"));
        }
        if from.optional && from.default.is_some() {
            return Err("with a default it may be left out; do not say optional as well".into());
        }
        if in_id && from.optional {
            return Err("stands in the resource's id, so it cannot be left out without a default".into());
        }
        let (minimum, maximum) = (from.minimum.unwrap_or(-EXACT), from.maximum.unwrap_or(EXACT));
        if minimum > maximum || minimum < -EXACT || maximum > EXACT {
            return Err("its range is empty, or goes beyond 2^53".into());
        }
        let read = Self {
            kind: from.kind,
            form,
            parts: from.parts,
            max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
            values: from.values.clone(),
            minimum,
            maximum,
            optional: from.optional,
            default: from.default.clone(),
        };
        for value in &read.values {
            read.text(value).map_err(|why| format!("the value {value:?} {why}"))?;
        }
        if let Some(default) = &read.default {
            read.check(default).map_err(|why| format!("its default {why}"))?;
        }
        Ok(read)
    }

    /// Whether a value is one that it may be; else why not, without a word of the value.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        match (self.kind, value) {
            (Kind::String, Value::String(text)) => self.text(text),
            (Kind::Integer, Value::Number(number)) => match number.as_i64() {
                Some(whole) => self.whole(whole),
                None => Err("has to be a whole number".into()),
            },
            (Kind::Number, Value::Number(_)) | (Kind::Boolean, Value::Bool(_)) => Ok(()),
            (Kind::Strings, Value::Array(all)) if all.len() <= MOST && all.iter().all(Value::is_string) => {
                self.bounded(value)
            }
            (Kind::Any, value) => self.bounded(value),
            (kind, _) => Err(match kind {
                Kind::String => "has to be a string".into(),
                Kind::Integer => "has to be a whole number".into(),
                Kind::Number => "has to be a number".into(),
                Kind::Boolean => "has to be true or false".into(),
                Kind::Strings | Kind::Any => format!("has to be a list of {MOST} strings at most"),
            }),
        }
    }

    fn bounded(&self, value: &Value) -> Result<(), String> {
        fn depth(value: &Value) -> usize {
            match value {
                Value::Array(all) => 1 + all.iter().map(depth).max().unwrap_or(0),
                Value::Object(all) => 1 + all.values().map(depth).max().unwrap_or(0),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
            }
        }
        if depth(value) > DEEPEST {
            return Err(format!("is more than {DEEPEST} deep"));
        }
        if value.to_string().len() > self.max_bytes {
            return Err(format!("is longer than {} bytes", self.max_bytes));
        }
        Ok(())
    }

    fn text(&self, text: &str) -> Result<(), String> {
        if text.len() > self.max_bytes {
            return Err(format!("is longer than {} bytes", self.max_bytes));
        }
        if !self.has_form(text) {
            let segment = "printable ASCII without / \\ * % ? # ; { }, without a space at either end, and not . or ..";
            return Err(match (self.form, self.parts) {
                (Form::Path, Some(parts)) => format!("has to be {parts} segments with / between: {segment}"),
                (Form::Path, None) => format!("has to be segments with / between: {segment}"),
                _ => format!("has to be one segment: {segment}"),
            });
        }
        if !self.values.is_empty() && !self.values.iter().any(|one| one == text) {
            return Err("is none of the values that there are".into());
        }
        Ok(())
    }

    fn has_form(&self, text: &str) -> bool {
        match self.form {
            Form::Text => true,
            Form::Segment => is_segment(text),
            Form::Path => {
                let many = text.split('/').count();
                let fits = self.parts.is_none_or(|parts| usize::from(parts) == many);
                fits && many <= MOST && text.split('/').all(is_segment)
            }
        }
    }

    fn whole(&self, whole: i64) -> Result<(), String> {
        match (self.minimum..=self.maximum).contains(&whole) {
            true => Ok(()),
            false => Err(format!("has to be a whole number from {} to {}", self.minimum, self.maximum)),
        }
    }

    /// Whether some value of it is written so.
    pub(crate) fn can_be(&self, text: &str) -> bool {
        match self.kind {
            Kind::String => self.text(text).is_ok(),
            Kind::Integer => text.parse::<i64>().is_ok_and(|n| n.to_string() == text && self.whole(n).is_ok()),
            _ => false,
        }
    }

    /// Whether policies can look at its values.
    pub(crate) fn is_said(&self) -> bool {
        !matches!(self.kind, Kind::Number | Kind::Any)
    }

    /// A checked value, for policies; `None`: of its kind they can look at none.
    pub(crate) fn said(&self, value: &Value) -> Option<Said> {
        match (self.kind, value) {
            (Kind::String, Value::String(text)) => Some(Said::Text(text.clone())),
            (Kind::Integer, Value::Number(number)) => number.as_i64().map(Said::Whole),
            (Kind::Boolean, Value::Bool(is)) => Some(Said::Bool(*is)),
            (Kind::Strings, Value::Array(all)) => {
                all.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>().map(Said::Set)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    fn argument(from: Value, in_id: bool) -> Result<Argument, String> {
        Argument::read(&serde_json::from_value(from).unwrap(), in_id)
    }

    #[test]
    fn a_segment_is_one_segment_to_everybody() {
        for good in ["apollo", "a b", "7", "a.b", "...", "@x", "a:b", "-", "~"] {
            assert!(is_segment(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "/",
            "a\\b",
            "*",
            "a*",
            "%2e",
            "a?b",
            "a#b",
            "a;b",
            "{x}",
            " a",
            "a ",
            "a\n",
            "a\0",
            "é",
            "a\u{202e}",
            "\u{ff0f}",
            "\t",
        ] {
            assert!(!is_segment(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_value_is_of_its_kind_and_within_its_bounds() {
        let good = |from: Value, value: Value| argument(from, false).unwrap().check(&value);
        assert_eq!(good(json!({"type": "string"}), json!("any\ntext\u{202e}")), Ok(()));
        assert!(good(json!({"type": "string", "maxBytes": 3}), json!("éé")).is_err());
        assert!(good(json!({"type": "string", "values": ["eu", "us"]}), json!("EU")).is_err());
        assert_eq!(good(json!({"type": "string", "values": ["eu", "us"]}), json!("eu")), Ok(()));
        assert_eq!(good(json!({"type": "string", "form": "path"}), json!("a/b/c")), Ok(()));
        assert!(good(json!({"type": "string", "form": "path", "parts": 2}), json!("a/b/c")).is_err());
        for bad in [json!("a//b"), json!("/a"), json!("a/"), json!("a/../b"), json!("a/./b"), json!("")] {
            assert!(good(json!({"type": "string", "form": "path"}), bad.clone()).is_err(), "{bad}");
        }
        for bad in [
            json!(1.5),
            json!(1.0),
            json!("1"),
            json!(null),
            json!(true),
            json!(u64::MAX),
            json!(9_007_199_254_740_993_i64),
        ] {
            assert!(good(json!({"type": "integer"}), bad.clone()).is_err(), "{bad}");
        }
        assert!(good(json!({"type": "integer", "minimum": 1, "maximum": 9}), json!(0)).is_err());
        assert_eq!(good(json!({"type": "integer", "minimum": 1, "maximum": 9}), json!(9)), Ok(()));
        assert_eq!(good(json!({"type": "number"}), json!(1.5)), Ok(()));
        assert!(good(json!({"type": "boolean"}), json!("true")).is_err());
        assert_eq!(good(json!({"type": "strings"}), json!(["a", "b"])), Ok(()));
        assert!(good(json!({"type": "strings"}), json!(["a", 1])).is_err());
        assert!(good(json!({"type": "strings"}), json!(vec!["a"; 257])).is_err());
        assert!(good(json!({"type": "any", "maxBytes": 10}), json!({"a": "0123456789"})).is_err());
        let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
        assert!(good(json!({"type": "any"}), deep).is_err());
    }

    #[test]
    fn what_is_written_of_an_argument_makes_sense() {
        for (bad, in_id) in [
            (json!({"type": "integer", "form": "path"}), false),
            (json!({"type": "string", "parts": 2}), false),
            (json!({"type": "string", "form": "path", "parts": 0}), false),
            (json!({"type": "string", "minimum": 2}), false),
            (json!({"type": "integer", "minimum": 2, "maximum": 1}), false),
            (json!({"type": "string", "maxBytes": 0}), false),
            (json!({"type": "string", "form": "segment", "values": ["a/b"]}), false),
            (json!({"type": "string", "default": 1}), false),
            (json!({"type": "string", "optional": true, "default": "a"}), false),
            (json!({"type": "string", "optional": true}), true),
            (json!({"type": "string", "form": "text"}), true),
            (json!({"type": "string", "default": "a/b"}), true),
            (json!({"type": "boolean"}), true),
            (json!({"type": "any"}), true),
        ] {
            assert!(argument(bad.clone(), in_id).is_err(), "{bad}");
        }
        assert!(argument(json!({"type": "integer", "default": 1}), true).is_ok());
    }
}
