//! The id of a resource with arguments in it: from other arguments comes another id, and none reaches into a segment of its neighbour.

use std::collections::BTreeMap;

use legate_ids::ResourceId;
use serde_json::{Map, Value};

use crate::argument::{Argument, is_segment};
use crate::document::{Form, Kind};

/// One segment between slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    before: String,
    argument: Option<String>,
    after: String,
}

/// An id in which `{args.NAME}` stands for an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Segment>);

impl Template {
    /// Reads one.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > 512 {
            return Err("an id is 512 bytes at most".into());
        }
        text.split('/').map(Segment::parse).collect::<Result<_, _>>().map(Self)
    }

    /// The arguments in it.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|segment| segment.argument.as_deref())
    }

    /// Whether its arguments are there, and keep to where they stand.
    pub(crate) fn check(&self, arguments: &BTreeMap<String, Argument>) -> Result<(), String> {
        for (n, segment) in self.0.iter().enumerate() {
            let Some(name) = &segment.argument else { continue };
            let argument = arguments.get(name).ok_or_else(|| format!("there is no argument {name:?}"))?;
            if argument.kind == Kind::String && argument.form == Form::Path {
                if !segment.before.is_empty() || !segment.after.is_empty() {
                    return Err(format!("{{args.{name}}} is a path, so nothing stands beside it in its segment"));
                }
                if argument.parts.is_none() && n + 1 < self.0.len() {
                    return Err(format!(
                        "{{args.{name}}} is a path of any length, so it stands at the end; or give parts"
                    ));
                }
            }
        }
        Ok(())
    }

    /// The id for arguments that were checked.
    pub(crate) fn render(&self, arguments: &Map<String, Value>) -> Result<String, String> {
        let mut id = String::new();
        for (n, segment) in self.0.iter().enumerate() {
            if n > 0 {
                id.push('/');
            }
            id.push_str(&segment.before);
            if let Some(name) = &segment.argument {
                match arguments.get(name) {
                    Some(Value::String(text)) => id.push_str(text),
                    Some(Value::Number(number)) => id.push_str(&number.to_string()),
                    _ => return Err(format!("the argument {name:?} is missing")),
                }
            }
            id.push_str(&segment.after);
        }
        ResourceId::parse(&id).map_err(|e| e.to_string())?;
        Ok(id)
    }

    /// Whether some arguments make an id that the pattern of a selector stands for.
    pub(crate) fn meets(&self, pattern: &str, arguments: &BTreeMap<String, Argument>) -> bool {
        let Some(prefix) = pattern.strip_suffix('*') else {
            let segments: Vec<&str> = pattern.split('/').collect();
            return meets(&self.0, &segments, false, arguments);
        };
        let segments: Vec<&str> = prefix.strip_suffix('/').map(|text| text.split('/').collect()).unwrap_or_default();
        meets(&self.0, &segments, true, arguments)
    }

    /// Whether all arguments make an id that the pattern of a selector stands for.
    pub(crate) fn is_within(&self, pattern: &str) -> bool {
        let fixed = |segment: &Segment, text: &str| segment.argument.is_none() && segment.before == text;
        let Some(prefix) = pattern.strip_suffix('*') else {
            let segments: Vec<&str> = pattern.split('/').collect();
            return segments.len() == self.0.len() && self.0.iter().zip(segments).all(|(own, text)| fixed(own, text));
        };
        let segments: Vec<&str> = prefix.strip_suffix('/').map(|text| text.split('/').collect()).unwrap_or_default();
        segments.len() < self.0.len() && self.0.iter().zip(segments).all(|(own, text)| fixed(own, text))
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("the segment {text:?} is not text that may hold one {{args.NAME}}");
        let (before, argument, after) = match text.split_once('{') {
            None => (text, None, ""),
            Some((before, rest)) => {
                let (inside, after) = rest.split_once('}').ok_or_else(bad)?;
                let name = inside.strip_prefix("args.").filter(|name| !name.is_empty()).ok_or_else(bad)?;
                (before, Some(name.to_owned()), after)
            }
        };
        // With anything in the argument's place it has to be a segment.
        let is_good = is_segment(&format!("{before}{}{after}", if argument.is_some() { "x" } else { "" }));
        is_good.then(|| Self { before: before.into(), argument, after: after.into() }).ok_or_else(bad)
    }

    fn can_be(&self, text: &str, arguments: &BTreeMap<String, Argument>) -> bool {
        let Some(name) = &self.argument else { return self.before == text };
        let inner = text.strip_prefix(&self.before).and_then(|rest| rest.strip_suffix(&self.after));
        inner.is_some_and(|inner| arguments.get(name).is_some_and(|argument| argument.can_be(inner)))
    }
}

fn meets(own: &[Segment], pattern: &[&str], is_open: bool, arguments: &BTreeMap<String, Argument>) -> bool {
    let (Some((first, rest)), Some((head, tail))) = (own.split_first(), pattern.split_first()) else {
        // A prefix stands for ids that go on behind it.
        return if is_open { pattern.is_empty() && !own.is_empty() } else { own.is_empty() && pattern.is_empty() };
    };
    let path = first.argument.as_ref().and_then(|name| arguments.get(name));
    let Some(path) = path.filter(|one| one.kind == Kind::String && one.form == Form::Path) else {
        return first.can_be(head, arguments) && meets(rest, tail, is_open, arguments);
    };
    let many = path.parts.map_or(pattern.len(), usize::from);
    if pattern.len() >= many && !(is_open && path.parts.is_none()) {
        return path.can_be(&pattern[..many].join("/")) && meets(rest, &pattern[many..], is_open, arguments);
    }
    // It goes on behind the prefix.
    let begins =
        |text: &str| path.values.is_empty() || path.values.iter().any(|one| one.starts_with(&format!("{text}/")));
    is_open && pattern.iter().all(|one| is_segment(one)) && begins(&pattern.join("/"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_ids::IdPattern;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn arguments(from: Value) -> BTreeMap<String, Argument> {
        let from: BTreeMap<String, crate::document::Argument> = serde_json::from_value(from).unwrap();
        from.iter().map(|(name, one)| (name.clone(), Argument::read(one, true).unwrap())).collect()
    }

    fn all() -> BTreeMap<String, Argument> {
        arguments(json!({
            "a": {"type": "string"}, "b": {"type": "string"}, "n": {"type": "integer"},
            "two": {"type": "string", "form": "path", "parts": 2}, "rest": {"type": "string", "form": "path"},
            "region": {"type": "string", "values": ["eu", "us"]},
        }))
    }

    /// Every template that tests use.
    const TEMPLATES: [&str; 8] = [
        "{args.a}/{args.b}",
        "x-{args.a}/{args.n}",
        "{args.two}/{args.a}",
        "{args.a}/{args.rest}",
        "{args.rest}",
        "v{args.n}z/q/{args.b}",
        "{args.two}",
        "main",
    ];

    #[test]
    fn an_id_that_could_be_read_in_two_ways_is_refused() {
        for bad in [
            "",
            "/",
            "a//b",
            "{args.a}{args.b}",
            "{args.a}-{args.b}",
            "{a}",
            "{args.}",
            "{args.a",
            "args.a}",
            "a*",
            "a/*",
            "..",
            "a/../b",
            "{args.a}}",
            "{{args.a}}",
            "a%2f{args.a}",
            " {args.a}",
            "é",
            "a\\b",
        ] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
        for bad in ["{args.c}", "{args.rest}/{args.a}", "x{args.two}", "{args.rest}y"] {
            assert!(Template::parse(bad).unwrap().check(&all()).is_err(), "{bad}");
        }
        for good in TEMPLATES {
            assert_eq!(Template::parse(good).unwrap().check(&all()), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_a_pattern_meets_and_holds_is_told() {
        let meets = |id: &str, pattern: &str| Template::parse(id).unwrap().meets(pattern, &all());
        assert!(
            meets("{args.a}/{args.b}", "*")
                && meets("{args.a}/{args.b}", "apollo/*")
                && meets("{args.a}/{args.b}", "x/y")
        );
        assert!(!meets("{args.a}/{args.b}", "x/y/*") && !meets("{args.a}/{args.b}", "x") && !meets("{args.a}", "x/*"));
        assert!(meets("{args.region}/{args.a}", "eu/*") && !meets("{args.region}/{args.a}", "de/*"));
        assert!(meets("x-{args.a}/{args.n}", "x-1/7") && !meets("x-{args.a}/{args.n}", "x-1/07"));
        assert!(meets("{args.rest}", "a/b/c/*") && meets("{args.rest}", "a/b/c") && !meets("{args.rest}", "a/../c"));
        assert!(
            meets("{args.two}/{args.a}", "a/*")
                && meets("{args.two}/{args.a}", "a/b/*")
                && !meets("{args.two}/{args.a}", "a/b/c/*")
        );
        let within = |id: &str, pattern: &str| Template::parse(id).unwrap().is_within(pattern);
        assert!(within("{args.a}", "*") && within("main", "main") && within("apollo/{args.n}", "apollo/*"));
        assert!(!within("{args.a}/{args.b}", "apollo/*") && !within("apollo", "apollo/*") && !within("main", "other"));
    }

    /// Values as somebody who wants more than he has would choose them.
    fn hostile() -> impl Strategy<Value = Value> {
        prop_oneof![
            6 => "[a-c]{1,2}".prop_map(Value::from),
            4 => "[a-c](/[a-c]){1,2}".prop_map(Value::from),
            4 => (-3..4_i64).prop_map(Value::from),
            2 => "[a-c./*{}%x -]{0,4}".prop_map(Value::from),
            1 => prop::sample::select(vec!["..", "\u{ff0f}", "a\u{200b}", "a\n"]).prop_map(Value::from),
            1 => Just(Value::Null),
        ]
    }

    fn values() -> impl Strategy<Value = Map<String, Value>> {
        let names = ["a", "b", "n", "two", "rest"];
        prop::collection::vec(hostile(), names.len())
            .prop_map(move |all| names.into_iter().map(str::to_owned).zip(all).collect())
    }

    /// The id, where every argument that stands in it is good.
    fn rendered(template: &Template, values: &Map<String, Value>) -> Option<String> {
        let good =
            template.arguments().all(|name| values.get(name).is_some_and(|value| all()[name].check(value).is_ok()));
        good.then(|| template.render(values).ok()).flatten()
    }

    /// The law of this file: two calls name one resource only where the arguments that name it are the same.
    #[test]
    fn other_arguments_name_another_resource() {
        let texts = [
            "a", "b", "ab", "a/b", "b/a", "a/a", "a/b/a", "a/", "/a", "..", "a/..", ".", "*", "a/*", "", "-", "x-",
            "{args.a}", "1",
        ];
        let universe: Vec<Value> = texts.map(Value::from).into_iter().chain((-1..2).map(Value::from)).collect();
        for text in TEMPLATES {
            let template = Template::parse(text).unwrap();
            let names: Vec<&str> = template.arguments().collect();
            let mut known: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
            for n in 0..universe.len().pow(u32::try_from(names.len()).unwrap()) {
                let value =
                    |at: usize| universe[n / universe.len().pow(u32::try_from(at).unwrap()) % universe.len()].clone();
                let values: Map<String, Value> =
                    names.iter().enumerate().map(|(at, name)| ((*name).to_owned(), value(at))).collect();
                if let Some(id) = rendered(&template, &values)
                    && let Some(other) = known.insert(id.clone(), values.clone())
                {
                    assert_eq!(other, values, "{text} makes {id} of both");
                }
            }
            assert!(!known.is_empty(), "{text}");
        }
    }

    proptest! {
        /// What is told of a template and a pattern holds for every id: within holds all, and what does not meet holds none.
        #[test]
        fn a_pattern_is_told_right(which in 0..TEMPLATES.len(), values in values(), pattern in "([a-cx-]{1,3}/){0,3}([*]|[a-c0-9]{1,2})") {
            let template = Template::parse(TEMPLATES[which]).unwrap();
            let Ok(parsed) = IdPattern::parse(&pattern) else { return Ok(()) };
            if let Some(id) = rendered(&template, &values) {
                let covers = parsed.covers(&ResourceId::parse(&id).unwrap());
                prop_assert!(!template.is_within(&pattern) || covers, "{} {}", pattern, id);
                prop_assert!(template.meets(&pattern, &all()) || !covers, "{} {}", pattern, id);
            }
        }
    }
}
