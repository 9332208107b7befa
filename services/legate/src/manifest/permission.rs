//! The short forms of permissions and selectors: `invoice:read on Invoice:apollo/*`.

use legate_ids::{ActionPattern, IdPattern, ResourceType};
use legate_wire::registry::{Permission, ResourceSelector};

/// Splits `TYPE:ID`; `TYPE` alone leaves the id empty. A type may hold `::`.
pub(super) fn selector(text: &str) -> Result<ResourceSelector, String> {
    let mut at = None;
    let bytes = text.as_bytes();
    let mut i = 0;
    while let Some(byte) = bytes.get(i) {
        if *byte == b':' {
            if bytes.get(i + 1) == Some(&b':') {
                i += 1;
            } else {
                at = Some(i);
                break;
            }
        }
        i += 1;
    }
    let (kind, id) = match at {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    };
    if at.is_some() && id.is_empty() {
        return Err(format!("{text:?} ends after the colon; write TYPE:ID, or TYPE:* for every one"));
    }
    let out = ResourceSelector { r#type: kind.into(), id: id.into(), ..ResourceSelector::default() };
    check_selector(&out)?;
    Ok(out)
}

/// Splits `ACTION on TYPE:ID`.
pub(crate) fn permission(text: &str) -> Result<Permission, String> {
    let Some((action, resource)) = text.split_once(" on ") else {
        return Err(format!(
            "{text:?} is not a permission; write ACTION on TYPE:ID, such as invoice:read on Invoice:*"
        ));
    };
    let out = Permission { action: action.trim().into(), resource: Some(selector(resource.trim())?) };
    check_permission(&out)?;
    Ok(out)
}

pub(super) fn check_permission(of: &Permission) -> Result<(), String> {
    ActionPattern::parse(&of.action).map_err(|e| format!("{:?}: {e}", of.action))?;
    match &of.resource {
        Some(selector) => check_selector(selector),
        None => Err("a permission needs a resource".into()),
    }
}

pub(super) fn check_selector(of: &ResourceSelector) -> Result<(), String> {
    ResourceType::parse(&of.r#type).map_err(|e| format!("{:?}: {e}", of.r#type))?;
    if !of.id.is_empty() {
        IdPattern::parse(&of.id).map_err(|e| format!("{:?}: {e}", of.id))?;
    }
    Ok(())
}

/// The short form, where there is one that reads back the same.
pub(super) fn short_selector(of: &ResourceSelector) -> Option<String> {
    let text = if of.id.is_empty() { of.r#type.clone() } else { format!("{}:{}", of.r#type, of.id) };
    (of.attributes.is_empty() && selector(&text).as_ref() == Ok(of)).then_some(text)
}

/// The short form, where there is one that reads back the same.
pub(super) fn short_permission(of: &Permission) -> Option<String> {
    let text = format!("{} on {}", of.action, short_selector(of.resource.as_ref()?)?);
    (permission(&text).as_ref() == Ok(of)).then_some(text)
}

/// A permission for people.
pub(crate) fn text(of: &Permission) -> String {
    short_permission(of).unwrap_or_else(|| {
        let resource = of.resource.clone().unwrap_or_default();
        format!("{} on {}:{} {:?}", of.action, resource.r#type, resource.id, resource.attributes)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn reads_the_short_forms() {
        let p = permission("invoice:read on Invoice:apollo/*").unwrap();
        assert_eq!((p.action.as_str(), p.resource.as_ref().unwrap().id.as_str()), ("invoice:read", "apollo/*"));
        let s = selector("Acme::Invoice:a:b").unwrap();
        assert_eq!((s.r#type.as_str(), s.id.as_str()), ("Acme::Invoice", "a:b"));
        assert_eq!(selector("Invoice").unwrap().id, "");
        for bad in
            ["invoice:read", "invoice:read on", "Read on Invoice:*", "a on Invoice:", "a on Invoice:a*", "a on 1:x"]
        {
            assert!(permission(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_short_form_is_only_used_when_it_reads_back_the_same() {
        let odd = ResourceSelector { r#type: "Invoice".into(), id: ":x".into(), ..Default::default() };
        assert_eq!(short_selector(&odd), None);
        let plain = ResourceSelector { r#type: "Invoice".into(), id: "*".into(), ..Default::default() };
        assert_eq!(short_selector(&plain).as_deref(), Some("Invoice:*"));
    }
}
