//! Bodies by SCIM: their media type, and names that are the same in any case.

use http::{HeaderMap, header};
use legate_rpc::Fault;
use legate_web::json::{Names, object};
use serde_json::{Map, Value};

use super::answer::refused;

/// The object that a body holds.
pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Fault> {
    let kind = super::header(headers, header::CONTENT_TYPE.as_str())?.unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    // RFC 7644 section 3.8 lets a server take the latter as well.
    if !["application/scim+json", "application/json"].iter().any(|known| kind.eq_ignore_ascii_case(known)) {
        return Err(refused("invalidSyntax", "content-type", "has to be application/scim+json"));
    }
    object(body, Names::InAnyCase).map_err(|why| refused("invalidSyntax", "body", why))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn body(body: &[u8]) -> Result<Map<String, Value>, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, "application/scim+json; charset=utf-8".parse().unwrap());
        read(&headers, body).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        assert_eq!(body(br#"{"a": [1, {"b": null}]}"#).unwrap()["a"][1]["b"], Value::Null);
        let deep = "{\"a\":".repeat(500) + "1" + &"}".repeat(500);
        for (bad, why) in [
            (r#"{"active": true, "active": false}"#, "comes twice"),
            (r#"{"active": true, "ACTIVE": false}"#, "comes twice"),
            (r#"{"a": {"b": 1, "B": 2}}"#, "comes twice"),
            ("[1]", "has to be a JSON object"),
            ("", "no good JSON"),
            ("{", "no good JSON"),
            ("{} {}", "no good JSON"),
            (r#"{"a": NaN}"#, "no good JSON"),
            (&deep, "recursion limit"),
        ] {
            let refused = body(bad.as_bytes()).unwrap_err();
            assert!(refused.contains(why), "{bad}: {refused}");
        }
        assert!(body(b"{\"a\": \"\xff\"}").is_err());
        assert!(read(&HeaderMap::new(), b"{}").unwrap_err().to_string().contains("application/scim+json"));
    }

    proptest! {
        #[test]
        fn any_body_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = body(&bytes);
        }
    }
}
