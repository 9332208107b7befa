//! What a token of an issuer outside says of the process that was given it, one thing at a time.
//!
//! Kubernetes' tokens for service accounts have a claim `kubernetes.io` with the namespace, the service account and, where they were made
//! for a pod, that pod; `sub` says the first two once more. A token in which these do not agree says nothing of the kind.

use alloc::borrow::Cow;
use core::fmt;

use super::{Claims, ForeignToken, ForeignVerified};

/// What is looked for in a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFact {
    /// `iss`.
    Issuer,
    /// `sub`.
    Subject,
    /// A claim, as `PATH=TEXT`.
    Claim,
    /// The namespace of its pod.
    KubernetesNamespace,
    /// The service account of its pod, as `NAMESPACE/NAME`.
    KubernetesServiceAccount,
    /// The UID of its pod.
    KubernetesPodUid,
}

impl Claims {
    fn text(&self, path: &str) -> Option<Cow<'_, str>> {
        self.at(path)?.as_text()
    }

    /// The namespace and the service account, where everything says the same.
    fn service_account(&self) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
        let namespace = self.text("kubernetes.io/namespace")?;
        let name = self.text("kubernetes.io/serviceaccount/name")?;
        let subject = self.text("sub")?;
        let mut said = subject.strip_prefix("system:serviceaccount:")?.splitn(2, ':');
        (said.next() == Some(&*namespace) && said.next() == Some(&*name)).then_some((namespace, name))
    }

    fn says(&self, fact: TokenFact, value: &str) -> bool {
        let is = |found: Option<Cow<'_, str>>| found.is_some_and(|found| found == value);
        match fact {
            TokenFact::Issuer => is(self.text("iss")),
            TokenFact::Subject => is(self.text("sub")),
            TokenFact::Claim => {
                value.split_once('=').is_some_and(|(path, text)| self.text(path).is_some_and(|found| found == text))
            }
            TokenFact::KubernetesNamespace => is(self.service_account().map(|(namespace, _)| namespace)),
            TokenFact::KubernetesServiceAccount => self.service_account().is_some_and(|(namespace, name)| {
                value.split_once('/').is_some_and(|(a, b)| a == namespace && b == name)
            }),
            TokenFact::KubernetesPodUid => self.service_account().is_some() && is(self.text("kubernetes.io/pod/uid")),
        }
    }
}

/// What a token would say, were it good: to choose among tokens, and for nothing else.
#[derive(Clone, PartialEq)]
pub struct ClaimedFacts(Claims);

/// Never shows the claims.
impl fmt::Debug for ClaimedFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimedFacts(hidden)")
    }
}

impl ClaimedFacts {
    /// Whether it would say so.
    #[must_use]
    pub fn would_say(&self, fact: TokenFact, value: &str) -> bool {
        self.0.says(fact, value)
    }

    /// Whose token it would be.
    #[must_use]
    pub fn issuer(&self) -> Option<Cow<'_, str>> {
        self.0.text("iss")
    }
}

impl ForeignToken<'_> {
    /// What it would say, were it good.
    #[must_use]
    pub fn claimed(self) -> ClaimedFacts {
        ClaimedFacts(self.claims)
    }
}

impl ForeignVerified {
    /// Whether it says so.
    #[must_use]
    pub fn says(&self, fact: TokenFact, value: &str) -> bool {
        self.claims.says(fact, value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::foreign::object;
    use proptest::prelude::*;

    fn claims(json: &str) -> Claims {
        Claims(object(json.as_bytes()).unwrap())
    }

    /// As a cluster makes it (Kubernetes documentation, "Managing Service Accounts", bound tokens).
    const POD: &str = r#"{"iss":"https://kubernetes.default.svc","sub":"system:serviceaccount:pay:bot","aud":["legate"],
        "kubernetes.io":{"namespace":"pay","node":{"name":"worker-1","uid":"u1"},
        "pod":{"name":"bot-0","uid":"123e4567-e89b-42d3-a456-426614174000"},
        "serviceaccount":{"name":"bot","uid":"u2"}}}"#;

    #[test]
    fn a_projected_token_says_whose_pod_it_is_for() {
        let pod = claims(POD);
        for (fact, value) in [
            (TokenFact::Issuer, "https://kubernetes.default.svc"),
            (TokenFact::Subject, "system:serviceaccount:pay:bot"),
            (TokenFact::Claim, "kubernetes.io/node/name=worker-1"),
            (TokenFact::KubernetesNamespace, "pay"),
            (TokenFact::KubernetesServiceAccount, "pay/bot"),
            (TokenFact::KubernetesPodUid, "123e4567-e89b-42d3-a456-426614174000"),
        ] {
            assert!(pod.says(fact, value), "{fact:?}");
            for other in ["", "x", "pay/", "/bot", "pay/bot/", "kubernetes.io/node=worker-1", "kubernetes.io/node/name"]
            {
                assert!(!pod.says(fact, other), "{fact:?} {other}");
            }
        }
    }

    #[test]
    fn a_token_that_contradicts_itself_says_nothing_of_kubernetes() {
        for (is, lie) in [
            ("serviceaccount:pay:bot", "serviceaccount:ops:bot"),
            ("serviceaccount:pay:bot", "serviceaccount:pay:bot:x"),
            ("system:serviceaccount", "user"),
            (r#""namespace":"pay""#, r#""namespace":"ops""#),
            (r#""name":"bot","#, r#""name":["bot"],"#),
            ("kubernetes.io", "kubernetes.example"),
        ] {
            let token = claims(&POD.replace(is, lie));
            for (fact, value) in [
                (TokenFact::KubernetesNamespace, "pay"),
                (TokenFact::KubernetesNamespace, "ops"),
                (TokenFact::KubernetesServiceAccount, "pay/bot"),
                (TokenFact::KubernetesServiceAccount, "ops/bot"),
                (TokenFact::KubernetesPodUid, "123e4567-e89b-42d3-a456-426614174000"),
            ] {
                assert!(!token.says(fact, value), "{lie}: {fact:?} {value}");
            }
        }
    }

    proptest! {
        /// A claim is met by its own text and by no other, whatever stands in either.
        #[test]
        fn a_claim_is_what_it_says(is in "[ -!#-\\[\\]-~]{1,20}", asked in "[ -!#-\\[\\]-~]{0,20}") {
            let json = alloc::format!(r#"{{"a":{{"b":"{}"}}}}"#, is);
            let token = claims(&json);
            let (of_it, of_another) = (alloc::format!("a/b={}", asked), alloc::format!("a={}", is));
            let says = [&of_it, &of_another].map(|value| token.says(TokenFact::Claim, value));
            prop_assert_eq!(says, [is == asked, false]);
        }
    }
}
