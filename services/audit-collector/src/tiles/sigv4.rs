//! Requests to S3, signed by AWS Signature Version 4 in their headers.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use legate_clock::Timestamp;
use zeroize::Zeroizing;

/// Whose requests they are.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) access_key: String,
    pub(super) secret_key: Zeroizing<String>,
    /// Of credentials that are good for a while only.
    pub(super) session_token: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// A request that is to be signed.
#[derive(Debug)]
pub(super) struct Unsigned<'a> {
    pub(super) method: &'a str,
    /// As it is sent, escapes included.
    pub(super) path: &'a str,
    /// Names in lower case, sorted; `host`, `x-amz-date` and `x-amz-content-sha256` among them.
    pub(super) headers: &'a [(&'a str, &'a str)],
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// `20130524T000000Z`.
pub(super) fn date(now: Timestamp) -> String {
    let text: String = now.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let seconds = text.split(['.', 'Z']).next().unwrap_or_default();
    format!("{seconds}Z")
}

/// The value of the header `authorization`.
pub(super) fn authorization(request: &Unsigned<'_>, region: &str, credentials: &Credentials) -> String {
    let value = |name: &str| request.headers.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| *value);
    let (at, body) = (value("x-amz-date"), value("x-amz-content-sha256"));
    let day = at.get(..8).unwrap_or_default();
    let headers: String = request.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let names: Vec<&str> = request.headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let canonical = format!("{}\n{}\n\n{headers}\n{names}\n{body}", request.method, request.path);
    let scope = format!("{day}/{region}/s3/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
    let first = Zeroizing::new(format!("AWS4{}", credentials.secret_key.as_str()));
    let key = [day, region, "s3", "aws4_request"]
        .iter()
        .fold(Zeroizing::new(first.as_bytes().to_vec()), |key, part| Zeroizing::new(mac(&key, part.as_bytes())));
    let signature = hex(&mac(&key, to_sign.as_bytes()));
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}",
        credentials.access_key
    )
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of "Authenticating Requests: Using the Authorization Header", Amazon S3 API Reference.
    #[test]
    fn requests_are_signed_as_the_examples_are() {
        let credentials = Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: Zeroizing::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
            session_token: None,
        };
        let empty = sha256_hex(b"");
        let body = sha256_hex(b"Welcome to Amazon S3.");
        let get = Unsigned {
            method: "GET",
            path: "/test.txt",
            headers: &[
                ("host", "examplebucket.s3.amazonaws.com"),
                ("range", "bytes=0-9"),
                ("x-amz-content-sha256", &empty),
                ("x-amz-date", "20130524T000000Z"),
            ],
        };
        let put = Unsigned {
            method: "PUT",
            path: "/test%24file.text",
            headers: &[
                ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                ("host", "examplebucket.s3.amazonaws.com"),
                ("x-amz-content-sha256", &body),
                ("x-amz-date", "20130524T000000Z"),
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ],
        };
        for (request, signature) in [
            (get, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
            (put, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
        ] {
            let signed = authorization(&request, "us-east-1", &credentials);
            assert!(signed.ends_with(&format!("Signature={signature}")), "{signed}");
            assert!(signed.contains("Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"));
        }
        assert!(!format!("{credentials:?}").contains("wJalr"));
        assert_eq!(date(Timestamp::from_secs(1_369_353_600)), "20130524T000000Z");
    }
}
