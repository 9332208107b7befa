//! What people may let agents do of their own accord, by what is declared of the issuer that vouches for them.

use std::collections::BTreeMap;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_authority::{Agreed, Consent};
use legate_clock::Timestamp;
use legate_wire::registry::{MakePersonalGrantRequest, Permission, PersonalDelegation, ProvenPerson};

use super::delegation;
use super::problem::Problem;
use crate::error::{CONSENT_NOT_BOUND, PERSONAL_GRANT_TOO_WIDE, SIGN_IN_NOT_GOOD};

/// Where it is not declared how long ago a person may have signed in.
const USUAL_SIGN_IN: Duration = Duration::from_secs(3_600);
/// How far the clocks of the issuer and the registry may be apart.
const LEEWAY: Duration = Duration::from_secs(5);

/// What a person asks, as far as the rule is about it.
pub(crate) struct Wish<'a> {
    pub(crate) permissions: &'a [Permission],
    /// The class of the agent that acts; `None`: there is no such agent, which is told elsewhere.
    pub(crate) class: Option<&'a str>,
    pub(crate) ttl: Duration,
    pub(crate) max_depth: u32,
}

fn span(of: Option<prost_types::Duration>) -> Option<Duration> {
    of.and_then(|span| Duration::try_from(span).ok())
}

/// In what a wish goes beyond what people may delegate.
pub(crate) fn beyond(rule: &PersonalDelegation, wish: &Wish<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |path: String, why: String| problems.push(Problem::of(&PERSONAL_GRANT_TOO_WIDE, path, why));
    // What cannot be read lets nothing be delegated.
    let within: Vec<_> = rule.permissions.iter().filter_map(delegation::permission).collect();
    for (n, one) in wish.permissions.iter().enumerate() {
        let lies_within = delegation::permission(one).is_some_and(|one| within.iter().any(|all| all.includes(&one)));
        if !lies_within {
            let why = "lies within none of the permissions that the trusted issuer lets its people delegate";
            add(format!("permissions[{n}]"), why.to_owned());
        }
    }
    if let Some(class) = wish.class
        && !rule.agent_classes.iter().any(|one| one == class)
    {
        add("delegate".to_owned(), format!("is of the class {class}, whose agents people may not let act for them"));
    }
    let longest = span(rule.max_ttl).unwrap_or(Duration::ZERO);
    if wish.ttl > longest {
        add("ttl".to_owned(), format!("is longer than the {} s that people may delegate for", longest.as_secs()));
    }
    if wish.max_depth > rule.max_depth {
        let why = format!("is {}; people may let {} more agents follow", wish.max_depth, rule.max_depth);
        add("max_depth".to_owned(), why);
    }
    problems
}

/// Why the way in which a person signed in is not good enough.
pub(crate) fn sign_in_fault(rule: &PersonalDelegation, who: &ProvenPerson, now: Timestamp) -> Option<Problem> {
    let no = |why: String| Some(Problem::of(&SIGN_IN_NOT_GOOD, "token", why));
    let longest = span(rule.max_auth_age).unwrap_or(USUAL_SIGN_IN);
    let Some(at) = who.auth_time.and_then(|at| Timestamp::try_from(at).ok()) else {
        return no(
            "does not say when the person signed in (auth_time); ask for it with max_age or as an essential claim"
                .to_owned(),
        );
    };
    if at > now.plus(LEEWAY) {
        return no("says that the person signed in later than now".to_owned());
    }
    if now.since(at) > longest.saturating_add(LEEWAY) {
        return no(format!("was signed in for more than {} s ago; sign in again", longest.as_secs()));
    }
    if !rule.acr_values.is_empty() && !rule.acr_values.contains(&who.acr) {
        return no(format!("says another acr than {}", rule.acr_values.join(", ")));
    }
    None
}

/// What a person agrees to, in words.
pub(crate) fn consent_text(ask: &MakePersonalGrantRequest, ttl: Duration) -> String {
    let who = ask.person.clone().unwrap_or_default();
    let nowhere = BTreeMap::new();
    let permissions: Vec<Agreed<'_>> = ask
        .permissions
        .iter()
        .map(|one| Agreed {
            action: &one.action,
            resource_type: one.resource.as_ref().map_or("", |resource| &resource.r#type),
            id: one.resource.as_ref().map_or("", |resource| &resource.id),
            attributes: one.resource.as_ref().map_or(&nowhere, |resource| &resource.attributes),
        })
        .collect();
    let consent = Consent {
        person: &who.person,
        namespace: &who.namespace,
        name: &ask.name,
        delegate: &ask.delegate,
        permissions: &permissions,
        audiences: &ask.audiences,
        purpose: &ask.purpose,
        seconds: ttl.as_secs(),
        max_depth: ask.max_depth,
    };
    consent.text()
}

/// How the consent was given, by the hash of its text: bound to the token that says so, or beside it. A problem where it has to
/// be bound and is not.
pub(crate) fn consent_given(rule: &PersonalDelegation, nonce: &str, text: &[u8; 32]) -> Result<&'static str, Problem> {
    if nonce == Base64UrlUnpadded::encode_string(text) {
        return Ok("oidc-nonce");
    }
    if rule.consent_bound {
        let why = "has to have the SHA-256 of the text that the grant says, in base64url, as its nonce (legate grant as-person consent)";
        return Err(Problem::of(&CONSENT_NOT_BOUND, "token", why));
    }
    Ok("oidc")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_wire::registry::ResourceSelector;
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_900_000_000;

    fn permission(action: &str, id: &str) -> Permission {
        let resource = ResourceSelector { r#type: "Invoice".into(), id: id.into(), ..ResourceSelector::default() };
        Permission { action: action.into(), resource: Some(resource) }
    }

    fn rule() -> PersonalDelegation {
        PersonalDelegation {
            permissions: vec![permission("invoice:*", "apollo/*")],
            agent_classes: vec!["clerk".into()],
            max_ttl: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
            max_depth: 1,
            ..PersonalDelegation::default()
        }
    }

    fn paths(problems: Vec<Problem>) -> Vec<String> {
        problems.into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn a_wish_keeps_within_the_rule() {
        let good = [permission("invoice:read", "apollo/7"), permission("invoice:*", "apollo/*")];
        let wish = |permissions, class, seconds, max_depth| {
            let ttl = Duration::from_secs(seconds);
            paths(beyond(&rule(), &Wish { permissions, class, ttl, max_depth }))
        };
        assert_eq!(wish(&good, Some("clerk"), 600, 1), [""; 0]);
        assert_eq!(wish(&good, None, 600, 1), [""; 0]);
        let wide = [permission("ledger:read", "apollo/7"), permission("invoice:read", "")];
        let all = ["permissions[0]", "permissions[1]", "delegate", "ttl", "max_depth"];
        assert_eq!(wish(&wide, Some("clerks"), 601, 2), all);
        // A rule that says nothing lets nothing be delegated.
        let none = PersonalDelegation::default();
        let wish = Wish { permissions: &good[..1], class: Some("clerk"), ttl: Duration::from_secs(60), max_depth: 0 };
        assert_eq!(paths(beyond(&none, &wish)), ["permissions[0]", "delegate", "ttl"]);
    }

    #[test]
    fn a_person_has_signed_in_lately_and_as_is_asked() {
        let at = |seconds: i64| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let fault = |rule: &PersonalDelegation, auth_time, acr: &str| {
            let who = ProvenPerson { auth_time, acr: acr.into(), ..ProvenPerson::default() };
            sign_in_fault(rule, &who, Timestamp::from_secs(NOW)).is_some()
        };
        let usual = rule();
        let within = |fault_at: &dyn Fn(i64) -> bool, first: i64| {
            assert_eq!([first - 1, first, NOW, NOW + 5, NOW + 6].map(fault_at), [true, false, false, false, true]);
        };
        within(&|seconds| fault(&usual, at(seconds), ""), NOW - 3_605);
        let strict = PersonalDelegation {
            max_auth_age: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            acr_values: vec!["mfa".into(), "hardware".into()],
            ..rule()
        };
        within(&|seconds| fault(&strict, at(seconds), "hardware"), NOW - 65);
        assert!(fault(&usual, None, "") && fault(&strict, None, "mfa"));
        assert!(fault(&strict, at(NOW), "") && fault(&strict, at(NOW), "MFA"));
    }

    #[test]
    fn consent_is_bound_to_its_text_or_said_beside() {
        let bound = PersonalDelegation { consent_bound: true, ..rule() };
        let nonce = Base64UrlUnpadded::encode_string(&[7; 32]);
        assert_eq!(consent_given(&bound, &nonce, &[7; 32]).unwrap(), "oidc-nonce");
        assert_eq!(consent_given(&rule(), &nonce, &[7; 32]).unwrap(), "oidc-nonce");
        assert_eq!(consent_given(&rule(), "", &[7; 32]).unwrap(), "oidc");
        for other in ["", "x", &Base64UrlUnpadded::encode_string(&[8; 32])] {
            assert_eq!(consent_given(&bound, other, &[7; 32]).unwrap_err().reason.name, "CONSENT_NOT_BOUND");
        }
    }

    proptest! {
        /// Whatever the rule lets through, it lets a part of it through too.
        #[test]
        fn less_is_never_too_wide(
            actions in prop::collection::vec(prop::sample::select(vec!["invoice:read", "invoice:*", "ledger:read", "*"]), 1..4),
            seconds in 0..1_200u64, max_depth in 0..4u32, less in any::<prop::sample::Index>(),
        ) {
            let all: Vec<Permission> = actions.iter().map(|action| permission(action, "apollo/1")).collect();
            let fits = |permissions: &[Permission], seconds, max_depth| {
                let ttl = Duration::from_secs(seconds);
                beyond(&rule(), &Wish { permissions, class: Some("clerk"), ttl, max_depth }).is_empty()
            };
            if fits(&all, seconds, max_depth) {
                let one = less.index(all.len());
                prop_assert!(fits(&all[one..=one], seconds / 2, max_depth / 2));
                prop_assert!(seconds <= 600 && max_depth <= 1);
            }
        }
    }
}
