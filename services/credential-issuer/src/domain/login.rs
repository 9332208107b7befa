//! Which operator a token of an identity provider stands for, by the rules of the configuration.

use std::collections::BTreeMap;

use legate_ids::Name;
use legate_token::ForeignVerified;
use legate_view::IssuerKeys;

use super::foreign::{is_unverified, match_all};

/// An identity provider of operators.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    /// What the configuration calls it.
    pub(crate) name: Name,
    /// The `iss` of its tokens.
    pub(crate) issuer: String,
    /// The `aud` of its tokens is one of these, alone.
    pub(crate) audiences: Vec<String>,
    /// Where its keys are.
    pub(crate) keys: IssuerKeys,
    /// The first whose claims all match decides.
    pub(crate) rules: Vec<LoginRule>,
}

/// Maps tokens to an operator.
#[derive(Clone, Debug)]
pub(crate) struct LoginRule {
    pub(crate) claims: BTreeMap<String, String>,
    pub(crate) operator: Who,
}

/// How the operator is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// So.
    Fixed(Name),
    /// As a claim says.
    Claimed {
        claim: String,
        /// What stands before and after the name in the claim.
        pattern: (String, String),
        /// What is put before and after it.
        template: (String, String),
    },
}

/// Why nobody is an operator by a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoOperator {
    #[error("no identity provider of the configuration has the token's iss and its one aud")]
    NoProvider,
    #[error("no rule of the identity provider matches the token's claims")]
    NoRule,
    #[error("the claim that should name the operator is not there, or does not fit the rule's pattern")]
    Pattern,
    #[error("what the claim holds is no operator's name: 1 to 63 of a-z, 0-9 and '-'")]
    Name,
    #[error("the token says that its e-mail address is not verified")]
    Unverified,
}

/// A rule that says two things, or none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRule {
    #[error("operator: {0:?} is no operator's name (1 to 63 of a-z, 0-9 and '-'), with one '*' where a claim names it")]
    Operator(String),
    #[error("pattern: {0:?} has to hold exactly one '*', which stands for the name")]
    Pattern(String),
    #[error("operator has no '*', so claim and pattern have nothing to say; leave them away")]
    Fixed,
    #[error("operator has a '*', so claim has to say where the name is, and pattern what of it")]
    Claimed,
    #[error("claims is empty, which every token of the provider would match")]
    NoClaims,
}

impl Who {
    /// Reads a rule's words.
    pub(crate) fn parse(operator: &str, claim: Option<&str>, pattern: Option<&str>) -> Result<Self, BadRule> {
        let bad = || BadRule::Operator(operator.to_owned());
        let Some(template) = halves(operator) else {
            let name = Name::parse(operator).map_err(|_| bad())?;
            return if claim.or(pattern).is_none() { Ok(Self::Fixed(name)) } else { Err(BadRule::Fixed) };
        };
        Name::parse(&format!("{}a{}", template.0, template.1)).map_err(|_| bad())?;
        let (Some(claim), Some(pattern)) = (claim, pattern) else {
            return Err(BadRule::Claimed);
        };
        let pattern = halves(pattern).ok_or_else(|| BadRule::Pattern(pattern.to_owned()))?;
        Ok(Self::Claimed { claim: claim.to_owned(), pattern, template })
    }
}

/// Before and after the only `*`.
fn halves(text: &str) -> Option<(String, String)> {
    let (before, after) = text.split_once('*')?;
    (!after.contains('*')).then(|| (before.to_owned(), after.to_owned()))
}

/// The provider of that issuer and audience.
pub(crate) fn choose<'a>(providers: &'a [Provider], issuer: &str, audience: &str) -> Result<&'a Provider, NoOperator> {
    // The configuration is refused where two would fit.
    let fits = |one: &&Provider| one.issuer == issuer && one.audiences.iter().any(|expected| expected == audience);
    providers.iter().find(fits).ok_or(NoOperator::NoProvider)
}

/// The operator for whom the token stands.
pub(crate) fn operator(provider: &Provider, token: &ForeignVerified) -> Result<Name, NoOperator> {
    let rule = provider.rules.iter().find(|rule| match_all(&rule.claims, token)).ok_or(NoOperator::NoRule)?;
    let (claim, pattern, template) = match &rule.operator {
        Who::Fixed(name) => return Ok(name.clone()),
        Who::Claimed { claim, pattern, template } => (claim, pattern, template),
    };
    if is_unverified(claim, token) {
        return Err(NoOperator::Unverified);
    }
    let said = token.claim(claim).ok_or(NoOperator::Pattern)?;
    let part = said.strip_prefix(pattern.0.as_str()).and_then(|rest| rest.strip_suffix(pattern.1.as_str()));
    // The part by itself has to be a name too: nothing of it may run into what is put before and after it.
    let part = Name::parse(part.ok_or(NoOperator::Pattern)?).map_err(|_| NoOperator::Name)?;
    Name::parse(&format!("{}{part}{}", template.0, template.1)).map_err(|_| NoOperator::Name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_rule_names_one_operator_or_says_where_the_name_is() {
        let name = |text: &str| Name::parse(text).unwrap();
        assert_eq!(Who::parse("ci", None, None), Ok(Who::Fixed(name("ci"))));
        let claimed = Who::parse("gh-*", Some("email"), Some("*@example.com")).unwrap();
        assert!(matches!(claimed, Who::Claimed { .. }));
        for (operator, claim, pattern) in [
            ("", None, None),
            ("Ada", None, None),
            ("a/b", None, None),
            ("*/x", Some("sub"), Some("*")),
            ("-*", Some("sub"), Some("*")),
            ("**", Some("sub"), Some("*")),
            ("*", None, None),
            ("*", Some("sub"), None),
            ("*", None, Some("*")),
            ("*", Some("sub"), Some("ada")),
            ("*", Some("sub"), Some("*-*")),
            ("ada", Some("sub"), Some("*")),
            ("ada", Some("sub"), None),
        ] {
            assert!(Who::parse(operator, claim, pattern).is_err(), "{operator} {claim:?} {pattern:?}");
        }
    }
}
