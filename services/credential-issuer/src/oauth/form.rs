//! Forms and Basic credentials as ordinary clients send them, read strictly where it matters.

use axum::http::{HeaderMap, HeaderValue, header};
use base64ct::{Base64, Encoding as _};
use legate_web::decode;
use zeroize::Zeroizing;

/// More parameters than any request here has.
const MOST: usize = 32;

/// Why a form cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadForm {
    #[error("the request has to be a form: content-type application/x-www-form-urlencoded")]
    Type,
    #[error("parameters belong into the body; a query is not read")]
    Query,
    #[error("the form is malformed: pairs of name=value joined by '&', percent-encoded UTF-8, 32 at most")]
    Form,
    #[error("a parameter came several times")]
    Twice,
    #[error("the authorization header is not Basic with base64 of client_id:client_secret")]
    Basic,
}

/// The parameters of one request, each of which came once. They are wiped when it is over, since some are secrets.
pub(super) struct Form(Vec<(String, Zeroizing<String>)>);

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Form {
    /// Reads a body.
    pub(super) fn read(headers: &HeaderMap, query: Option<&str>, body: &[u8]) -> Result<Self, BadForm> {
        if query.is_some() {
            return Err(BadForm::Query);
        }
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(BadForm::Type);
        }
        let body = std::str::from_utf8(body).map_err(|_| BadForm::Form)?;
        let mut all: Vec<(String, Zeroizing<String>)> = Vec::new();
        for pair in body.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or(BadForm::Form)?;
            let value = decode(value).ok_or(BadForm::Form)?;
            if all.len() >= MOST {
                return Err(BadForm::Form);
            }
            // RFC 6749 section 3.2: no parameter more than once; one without a value counts as left out.
            if all.iter().any(|(known, _)| *known == *name) {
                return Err(BadForm::Twice);
            }
            all.push((name.to_string(), value));
        }
        Ok(Self(all))
    }

    /// A parameter that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        (!value.is_empty()).then_some(value.as_str())
    }
}

/// Client and secret of a Basic header, where there is one of that scheme or any other.
///
/// RFC 6749 section 2.3.1 has both parts form-encoded first; many clients do not, or do so in part. Ids and secrets of ours
/// are of `[A-Za-z0-9_]`, which is the same either way, so decoding does no harm.
pub(super) fn basic(value: &HeaderValue) -> Result<(String, Zeroizing<String>), BadForm> {
    let text = value.to_str().map_err(|_| BadForm::Basic)?;
    let (scheme, encoded) = text.split_once(' ').ok_or(BadForm::Basic)?;
    if !scheme.eq_ignore_ascii_case("Basic") || encoded.len() > 4096 {
        return Err(BadForm::Basic);
    }
    let bytes = Zeroizing::new(Base64::decode_vec(encoded.trim()).map_err(|_| BadForm::Basic)?);
    let pair = std::str::from_utf8(&bytes).map_err(|_| BadForm::Basic)?;
    let (client, secret) = pair.split_once(':').ok_or(BadForm::Basic)?;
    let client = decode(client).ok_or(BadForm::Basic)?;
    Ok((client.to_string(), decode(secret).ok_or(BadForm::Basic)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn form(kind: &str, query: Option<&str>, body: &str) -> Result<Form, BadForm> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        Form::read(&headers, query, body.as_bytes())
    }

    const FORM: &str = "application/x-www-form-urlencoded";

    #[test]
    fn a_form_is_read_once_and_from_the_body_only() {
        let read = form("Application/X-WWW-Form-URLEncoded; charset=utf-8", None, "a=1+2%263&b=&c").unwrap();
        assert_eq!((read.get("a"), read.get("b"), read.get("c"), read.get("d")), (Some("1 2&3"), None, None, None));
        assert_eq!(format!("{read:?}"), r#"["a", "b", "c"]"#);
        let refused = |kind, query, body| form(kind, query, body).err();
        assert_eq!(refused("application/json", None, "{}"), Some(BadForm::Type));
        assert_eq!(refused(FORM, Some(""), "a=1"), Some(BadForm::Query));
        assert_eq!(refused(FORM, None, "a=1&a=1"), Some(BadForm::Twice));
        assert_eq!(refused(FORM, None, "a=1&%61="), Some(BadForm::Twice));
        for bad in ["a=%", "a=%2", "a=%zz", "a=%ff", &"a&".repeat(33).replace('a', "x=1&y"), &many()] {
            assert!(refused(FORM, None, bad).is_some(), "{bad}");
        }
    }

    fn many() -> String {
        (0..33).map(|n| format!("p{n}=1&")).collect()
    }

    #[test]
    fn basic_is_read_however_it_was_encoded() {
        let header = |pair: &str| format!("Basic {}", Base64::encode_string(pair.as_bytes())).parse().unwrap();
        for pair in ["agt_01:lgt_sec_0", "agt%5F01:lgt%5Fsec%5F0", "%61gt_01:lgt_sec%5f0"] {
            let (client, secret) = basic(&header(pair)).unwrap();
            assert_eq!((client.as_str(), secret.as_str()), ("agt_01", "lgt_sec_0"), "{pair}");
        }
        assert_eq!(basic(&header("a:b:c")).unwrap().1.as_str(), "b:c");
        for bad in ["Basic", "Basic !", "Bearer YTpi", "Basic YQ", "Basic YQ=="] {
            assert_eq!(basic(&bad.parse().unwrap()), Err(BadForm::Basic), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in "\\PC{0,40}", every: bool) {
            let encoded: String = text.bytes().map(|b| match b {
                b if b.is_ascii_alphanumeric() && !every => char::from(b).to_string(),
                b => format!("%{b:02X}"),
            }).collect();
            let decoded = decode(&encoded).unwrap();
            prop_assert_eq!(decoded.as_str(), text.as_str());
        }

        #[test]
        fn no_bytes_break_it(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(FORM));
            let _read_or_refused = Form::read(&headers, None, &body);
        }
    }
}
