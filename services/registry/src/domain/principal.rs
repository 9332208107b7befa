//! People and groups of people as declarations name them: `user:NAME` and `group:NAME`.
//!
//! NAME is whatever the company's directory calls them: 1 to 256 bytes without white space and without control,
//! invisible or direction-changing characters. It is compared byte for byte.

use legate_ids::Name;

use super::text::hidden;

/// What is wrong with a text that has to name a person or a group.
pub(super) fn fault_in(text: &str) -> Option<String> {
    if text.starts_with("agent:") {
        return Some("names an agent, and here people are named; give user:NAME or group:NAME".into());
    }
    let Some(name) = text.strip_prefix("user:").or_else(|| text.strip_prefix("group:")) else {
        return Some("names nobody; give user:NAME or group:NAME, such as user:grace@example.com".into());
    };
    if !(1..=256).contains(&name.len()) {
        return Some(format!("has a name of {} bytes after the ':'; give 1 to 256", name.len()));
    }
    if name.contains(char::is_whitespace) {
        return Some("holds white space; a name of a user or group has none".into());
    }
    hidden(name, |_| false)
}

/// What is wrong with a text that has to name who delegates: a person, a group of people, or `agent:NAME` of the same
/// namespace.
pub(super) fn delegator_fault_in(text: &str) -> Option<String> {
    match text.strip_prefix("agent:") {
        Some(name) => Name::parse(name).err().map(|e| format!("names no agent: {e}")),
        None => fault_in(text).map(|why| format!("{why}; or agent:NAME")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_to_the_grammar() {
        for good in [
            "user:grace@example.com",
            "group:payments",
            "user:okta:00u1",
            "user:Ünï",
            &format!("user:{}", "x".repeat(256)),
        ] {
            assert_eq!(fault_in(good), None, "{good}");
        }
        for bad in [
            "",
            "grace",
            "user:",
            "group:",
            "User:grace",
            "agent:x",
            "user: grace",
            "user:a b",
            "user:a\u{a0}b",
            "user:a\n",
            "user:a\u{200b}",
            "user:a\u{202e}b",
            "user:\u{1b}[31m",
            "user:\u{0}",
            &format!("user:{}", "x".repeat(257)),
        ] {
            assert!(fault_in(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn an_agent_is_told_from_nobody() {
        assert!(fault_in("agent:invoice-bot").is_some_and(|why| why.starts_with("names an agent, and here people")));
    }

    #[test]
    fn delegators_may_be_agents_too() {
        for good in ["user:grace@example.com", "group:payments", "agent:invoice-bot"] {
            assert_eq!(delegator_fault_in(good), None, "{good}");
        }
        for bad in
            ["", "grace", "agent:", "agent:Invoice Bot", "agent:payments/bot", "agent:a\u{200b}", "Agent:a", "user:"]
        {
            assert!(delegator_fault_in(bad).is_some(), "{bad:?}");
        }
    }
}
