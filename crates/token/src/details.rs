//! `authorization_details` (RFC 9396): what a token is narrowed to, by action, place, kind of resource and resource.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use legate_ids::{Action, IdPattern, ResourceId, ResourceType};
use serde::{Deserialize, Serialize};

use crate::BadClaims;
use crate::json::{Object, present};

/// The one type of details that is known.
pub const DETAILS_TYPE: &str = "legate";
/// The longest text, in bytes.
pub const MAX_DETAILS_TEXT: usize = 4 * 1024;
/// The most of them in one token.
const MOST: usize = 16;
/// The most actions, places or kinds in one of them.
const MOST_IN_ONE: usize = 64;

/// Where a token may be used, for what: one of these has to fit. None: it is not narrowed by details.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details(Vec<Detail>);

/// One of them; what is empty is not narrowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// `actions`.
    pub actions: Vec<Action>,
    /// `locations`: the audiences of resource servers.
    pub locations: Vec<String>,
    /// `datatypes`: types of resources.
    pub datatypes: Vec<ResourceType>,
    /// `identifier`: one resource, or a prefix that ends in `/` followed by `*`.
    pub identifier: Option<IdPattern>,
}

impl Detail {
    fn covers(&self, action: &Action, (kind, id): (&ResourceType, &ResourceId), audience: &str) -> bool {
        (self.actions.is_empty() || self.actions.contains(action))
            && self.admits(audience)
            && (self.datatypes.is_empty() || self.datatypes.contains(kind))
            && self.identifier.as_ref().is_none_or(|pattern| pattern.covers(id))
    }

    fn admits(&self, audience: &str) -> bool {
        self.locations.is_empty() || self.locations.iter().any(|one| one == audience)
    }

    fn includes(&self, other: &Self) -> bool {
        fn all<T: PartialEq>(of: &[T], other: &[T]) -> bool {
            of.is_empty() || (!other.is_empty() && other.iter().all(|one| of.contains(one)))
        }
        let by_id = match (&self.identifier, &other.identifier) {
            (None, _) => true,
            (Some(of), Some(other)) => of.includes(other),
            (Some(_), None) => false,
        };
        all(&self.actions, &other.actions)
            && all(&self.locations, &other.locations)
            && all(&self.datatypes, &other.datatypes)
            && by_id
    }
}

impl Details {
    /// Those of a token.
    ///
    /// # Errors
    /// When there are too many.
    pub fn new(details: Vec<Detail>) -> Result<Self, BadClaims> {
        Self(details).checked()
    }

    /// Reads a JSON array.
    ///
    /// # Errors
    /// When it is longer than [`MAX_DETAILS_TEXT`], no array of objects, empty, has a type or a member that is not known
    /// (what is not understood could narrow), or a value breaks its grammar.
    pub fn read(json: &str) -> Result<Self, BadClaims> {
        if json.len() > MAX_DETAILS_TEXT {
            return Err(bad("is longer than 4,096 bytes"));
        }
        let read: Vec<Object<DetailIn>> = serde_json::from_str(json)
            .map_err(|_| bad("is no JSON array of objects with type, actions, locations, datatypes and identifier"))?;
        if read.is_empty() {
            return Err(bad("is an empty array, which narrows to nothing"));
        }
        Self::of(read)
    }

    pub(crate) fn of(read: Vec<Object<DetailIn>>) -> Result<Self, BadClaims> {
        Self(read.into_iter().map(|Object(one)| one.read()).collect::<Result<_, _>>()?).checked()
    }

    fn checked(self) -> Result<Self, BadClaims> {
        let is_long = |one: &Detail| {
            [one.actions.len(), one.locations.len(), one.datatypes.len()].into_iter().any(|n| n > MOST_IN_ONE)
        };
        if self.0.len() > MOST || self.0.iter().any(is_long) {
            return Err(bad("has more than 16 members, or one with more than 64 actions, locations or datatypes"));
        }
        Ok(self)
    }

    pub(crate) fn check(&self) -> Result<(), BadClaims> {
        self.clone().checked().map(drop)
    }

    /// Whether they narrow nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a token that is addressed to `audience` may be used for this, as far as they go.
    #[must_use]
    pub fn cover(&self, action: &Action, resource: (&ResourceType, &ResourceId), audience: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|one| one.covers(action, resource, audience))
    }

    /// Whether one of them lets the token be used at `audience` at all.
    #[must_use]
    pub fn admit(&self, audience: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|one| one.admits(audience))
    }

    /// Whether each of `other` lies within one of these: a token with those gives no more than one with these.
    #[must_use]
    pub fn include(&self, other: &Self) -> bool {
        self.0.is_empty()
            || (!other.0.is_empty() && other.0.iter().all(|wanted| self.0.iter().any(|given| given.includes(wanted))))
    }

    pub(crate) fn out(&self) -> Vec<DetailOut> {
        let texts = |of: &Detail| DetailOut {
            r#type: DETAILS_TYPE,
            actions: of.actions.iter().map(ToString::to_string).collect(),
            locations: of.locations.clone(),
            datatypes: of.datatypes.iter().map(ToString::to_string).collect(),
            identifier: of.identifier.as_ref().map(ToString::to_string),
        };
        self.0.iter().map(texts).collect()
    }
}

/// As a JSON array; empty where there are none.
impl fmt::Display for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        f.write_str(&serde_json::to_string(&self.out()).map_err(|_| fmt::Error)?)
    }
}

fn bad(why: &'static str) -> BadClaims {
    BadClaims { claim: "authorization_details", why }
}

#[derive(Serialize)]
pub(crate) struct DetailOut {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    actions: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    locations: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    datatypes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identifier: Option<String>,
}

/// RFC 9396 section 5: a type or a member that is not known is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DetailIn {
    r#type: String,
    #[serde(default, deserialize_with = "present")]
    actions: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    locations: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    datatypes: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    identifier: Option<String>,
}

impl DetailIn {
    fn read(self) -> Result<Detail, BadClaims> {
        if self.r#type != DETAILS_TYPE {
            return Err(bad("has a type other than legate"));
        }
        // Left out is not narrowed; given and empty would be to nothing, which no token is for.
        let given = [&self.actions, &self.locations, &self.datatypes];
        if given.into_iter().flatten().any(Vec::is_empty) {
            return Err(bad("has an empty list; leave it out, or name something"));
        }
        let is_place = |text: &&String| (1..=512).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        let locations = self.locations.unwrap_or_default();
        if !locations.iter().all(|text| is_place(&text)) {
            return Err(bad("has a location that is not 1 to 512 printable ASCII characters"));
        }
        let actions = self.actions.unwrap_or_default();
        let actions = actions.iter().map(|text| Action::parse(text).map_err(|_| bad("has an action that is none")));
        let kinds = self.datatypes.unwrap_or_default();
        let kinds = kinds.iter().map(|text| ResourceType::parse(text).map_err(|_| bad("has a datatype that is none")));
        let identifier = self.identifier.map(|text| IdPattern::parse(&text));
        Ok(Detail {
            actions: actions.collect::<Result<_, _>>()?,
            locations,
            datatypes: kinds.collect::<Result<_, _>>()?,
            identifier: identifier
                .transpose()
                .map_err(|_| bad("has an identifier that is no resource id or prefix/*"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use alloc::format;
    use alloc::vec;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn is_read_strictly_and_written_as_it_was_read() {
        let text = r#"[{"type":"legate","actions":["invoice:read"],"locations":["https://a.example"],"datatypes":["Invoice"],"identifier":"apollo/*"},{"type":"legate"}]"#;
        let read = Details::read(text).unwrap();
        assert_eq!(read.to_string(), text);
        assert_eq!(Details::default().to_string(), "");
        for bad in [
            "",
            "[]",
            "{}",
            "[[]]",
            "[{}]",
            r#"[{"type":"payment"}]"#,
            r#"[{"type":"legate","privileges":["admin"]}]"#,
            r#"[{"type":"legate","actions":[]}]"#,
            r#"[{"type":"legate","actions":null}]"#,
            r#"[{"type":"legate","actions":["No Action"]}]"#,
            r#"[{"type":"legate","actions":"invoice:read"}]"#,
            r#"[{"type":"legate","locations":[""]}]"#,
            r#"[{"type":"legate","locations":["a b"]}]"#,
            r#"[{"type":"legate","datatypes":["if"]}]"#,
            r#"[{"type":"legate","identifier":"a*"}]"#,
            r#"[{"type":"legate","type":"legate"}]"#,
            &format!("[{}]", vec![r#"{"type":"legate"}"#; 17].join(",")),
            &format!("[{}{{\"type\":\"legate\"}}]", " ".repeat(MAX_DETAILS_TEXT)),
        ] {
            assert!(Details::read(bad).is_err(), "{bad}");
        }
    }

    fn some<T: Clone + fmt::Debug + 'static>(of: &'static [T]) -> impl Strategy<Value = Vec<T>> {
        prop::sample::subsequence(of.to_vec(), 0..=of.len())
    }

    fn detail() -> impl Strategy<Value = Detail> {
        let ids = vec!["*", "a/*", "a/b/*", "a/b/c", "z"];
        (
            some(&["read", "pay", "seal"]),
            some(&["https://a", "https://b"]),
            some(&["Invoice", "Order"]),
            prop::option::of(prop::sample::select(ids)),
        )
            .prop_map(|(actions, locations, kinds, identifier)| Detail {
                actions: actions.iter().map(|text| Action::parse(text).unwrap()).collect(),
                locations: locations.iter().map(ToString::to_string).collect(),
                datatypes: kinds.iter().map(|text| ResourceType::parse(text).unwrap()).collect(),
                identifier: identifier.map(|text| IdPattern::parse(text).unwrap()),
            })
    }

    fn details() -> impl Strategy<Value = Details> {
        prop::collection::vec(detail(), 0..4).prop_map(Details)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// What lies within others gives nothing that those do not give, whatever is asked; and nothing is wider than itself.
        #[test]
        fn what_is_included_never_widens(
            given in details(), wanted in details(), action in prop::sample::select(vec!["read", "pay", "seal", "other"]),
            kind in prop::sample::select(vec!["Invoice", "Order", "Other"]),
            id in prop::sample::select(vec!["a/b", "a/b/c", "a/x", "z", "q"]),
            audience in prop::sample::select(vec!["https://a", "https://b", "https://c"]),
        ) {
            let action = Action::parse(action).unwrap();
            let resource = (&ResourceType::parse(kind).unwrap(), &ResourceId::parse(id).unwrap());
            prop_assert!(given.include(&given));
            prop_assert!(Details::default().include(&wanted));
            if given.include(&wanted) && wanted.cover(&action, resource, audience) {
                prop_assert!(given.cover(&action, resource, audience), "{given} {wanted}");
            }
            if given.cover(&action, resource, audience) {
                prop_assert!(given.admit(audience));
            }
            if !given.is_empty() {
                prop_assert_eq!(&Details::read(&given.to_string()).unwrap(), &given);
            }
        }
    }
}
