//! One bucket of an S3-compatible store: objects are put, read and removed, each by one signed request.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use legate_clock::Clock;
use zeroize::Zeroizing;

use super::sigv4::{Credentials, Unsigned, authorization, date, sha256_hex};
use crate::config::{BadConfig, TilesConfig};
use crate::outward::{Address, Answer, Outward};

/// A request takes no longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// No object of a log is larger: a bundle has 256 entries of 64 KiB at most.
const LARGEST: usize = (256 << 16) + (64 << 10);

/// When an object is put.
#[derive(Clone, Copy, Debug)]
pub(super) enum Only<'a> {
    /// Whatever is there.
    Always,
    /// Nothing is there.
    IfNew,
    /// What is there has this tag.
    IfStill(&'a str),
}

/// Why a request had no success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotStored {
    /// Something else is there than was expected.
    #[error("another object is there")]
    Other,
    /// It may succeed later.
    #[error("{0}")]
    Away(String),
}

/// A bucket, and the place of the log in it.
#[derive(Debug)]
pub(super) struct Bucket {
    at: Address,
    /// `/BUCKET/PREFIX/`, without anything that needs an escape.
    path: String,
    region: String,
    credentials: Credentials,
    outward: Outward,
    clock: Arc<dyn Clock>,
}

impl Bucket {
    /// That of a configuration, where it has one.
    pub(super) fn of(config: &TilesConfig, clock: Arc<dyn Clock>) -> Result<Option<Self>, BadConfig> {
        let refused = |why: String| BadConfig::Tiles(why);
        let Some(store) = &config.store else { return Ok(None) };
        let path = path_of(store).map_err(refused)?;
        let endpoint = config.endpoint.clone();
        let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{}.amazonaws.com", config.region));
        let at = Address::parse(endpoint.trim_end_matches('/')).map_err(|e| refused(format!("endpoint: {e}")))?;
        if at.url.path() != "/" || at.url.query().is_some() {
            return Err(refused("endpoint: is https://HOST[:PORT], without a path".into()));
        }
        let credentials = credentials(config.credentials.as_deref()).map_err(refused)?;
        let outward = Outward::new(config.ca.as_deref(), &config.allow_private, Arc::clone(&clock));
        let outward = outward.map_err(|e| refused(format!("ca: {e}")))?;
        Ok(Some(Self { at, path, region: config.region.clone(), credentials, outward, clock }))
    }

    /// Puts an object; its tag.
    pub(super) async fn put(
        &self,
        key: &str,
        kind: &str,
        body: Bytes,
        only: Only<'_>,
    ) -> Result<Option<String>, NotStored> {
        let mut headers = vec![("content-type", kind)];
        match only {
            Only::Always => {}
            Only::IfNew => headers.push(("if-none-match", "*")),
            Only::IfStill(tag) => headers.push(("if-match", tag)),
        }
        let answer = self.send(Method::PUT, key, &headers, body).await?;
        match answer.status {
            status if status.is_success() => Ok(tag(&answer)),
            StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => Err(NotStored::Other),
            _ => Err(said(&answer)),
        }
    }

    /// Reads an object, and its tag; `None`: there is none.
    pub(super) async fn get(&self, key: &str) -> Result<Option<(Bytes, Option<String>)>, NotStored> {
        let answer = self.send(Method::GET, key, &[], Bytes::new()).await?;
        match answer.status {
            status if status.is_success() => {
                let tag = tag(&answer);
                Ok(Some((answer.body.map_err(NotStored::Away)?, tag)))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(said(&answer)),
        }
    }

    /// Removes an object, if it is there.
    pub(super) async fn remove(&self, key: &str) -> Result<(), NotStored> {
        let answer = self.send(Method::DELETE, key, &[], Bytes::new()).await?;
        let is_gone = answer.status.is_success() || answer.status == StatusCode::NOT_FOUND;
        if is_gone { Ok(()) } else { Err(said(&answer)) }
    }

    async fn send(&self, method: Method, key: &str, more: &[(&str, &str)], body: Bytes) -> Result<Answer, NotStored> {
        let path = format!("{}{key}", self.path);
        let (hash, at) = (sha256_hex(&body), date(self.clock.now()));
        let host = self.at.url.authority().map_or("", |authority| authority.as_str());
        let mut headers = vec![("host", host), ("x-amz-content-sha256", &hash), ("x-amz-date", &at)];
        if let Some(token) = &self.credentials.session_token {
            headers.push(("x-amz-security-token", token));
        }
        headers.extend(more);
        headers.sort_unstable();
        let unsigned = Unsigned { method: method.as_str(), path: &path, headers: &headers };
        let signed = authorization(&unsigned, &self.region, &self.credentials);
        // The host is said by whoever connects.
        headers.retain(|(name, _)| *name != "host");
        headers.push(("authorization", &signed));
        let sending = self.outward.send(&self.at, method, &path, &headers, body, LARGEST);
        let answer = tokio::time::timeout(PATIENCE, sending).await;
        let late = || NotStored::Away(format!("no answer within {} s", PATIENCE.as_secs()));
        answer.map_err(|_| late())?.map_err(NotStored::Away)
    }
}

fn tag(answer: &Answer) -> Option<String> {
    answer.headers.get(http::header::ETAG)?.to_str().ok().map(str::to_owned)
}

/// What the store said, as far as it is fit to be told: its error code, and nothing of what was sent.
fn said(answer: &Answer) -> NotStored {
    let text = answer.body.as_ref().map(|body| String::from_utf8_lossy(body).into_owned()).unwrap_or_default();
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    let code = code.filter(|code| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric()));
    NotStored::Away(format!("the store answers with {} {}", answer.status.as_u16(), code.unwrap_or_default()))
}

/// `s3://BUCKET/PREFIX` as the beginning of paths.
fn path_of(store: &str) -> Result<String, String> {
    let form = "store: is s3://BUCKET or s3://BUCKET/PREFIX, of A-Z a-z 0-9 . _ - and /";
    let rest = store.strip_prefix("s3://").ok_or(form)?.trim_end_matches('/');
    let is_fit = |part: &str| {
        let fit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        !part.is_empty() && !matches!(part, "." | "..") && part.bytes().all(fit)
    };
    let bucket = rest.split('/').next().unwrap_or_default();
    if !(3..=63).contains(&bucket.len()) || rest.len() > 512 || !rest.split('/').all(is_fit) {
        return Err(form.into());
    }
    Ok(format!("/{rest}/"))
}

/// Out of a file as AWS's tools have it, section `default`, or out of the environment.
fn credentials(file: Option<&Path>) -> Result<Credentials, String> {
    let (access_key, secret_key, session_token) = match file {
        None => {
            let of = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
            (of("AWS_ACCESS_KEY_ID"), of("AWS_SECRET_ACCESS_KEY"), of("AWS_SESSION_TOKEN"))
        }
        Some(path) => {
            let refused = |why: String| format!("credentials {}: {why}", path.display());
            let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| refused(e.to_string()))?);
            legate_mtls::pki::refuse_open_key(path).map_err(|e| refused(e.to_string()))?;
            let of = |name: &str| {
                let mut section = "default";
                text.lines().map(str::trim).find_map(|line| {
                    if let Some(named) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                        section = named.trim();
                    }
                    let (key, value) = line.split_once('=').filter(|_| section == "default")?;
                    (key.trim() == name).then(|| value.trim().to_owned())
                })
            };
            (of("aws_access_key_id"), of("aws_secret_access_key"), of("aws_session_token"))
        }
    };
    let missing = "credentials: aws_access_key_id and aws_secret_access_key are in the file, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment";
    Ok(Credentials {
        access_key: access_key.ok_or(missing)?,
        secret_key: secret_key.ok_or(missing)?.into(),
        session_token: session_token.map(Zeroizing::new),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_place_in_a_bucket_has_no_other_characters_than_keys_have() {
        assert_eq!(path_of("s3://audit-log").unwrap(), "/audit-log/");
        assert_eq!(path_of("s3://audit-log/a/b_2/").unwrap(), "/audit-log/a/b_2/");
        for bad in [
            "audit-log",
            "s3://",
            "s3://ab",
            "s3://audit-log//a",
            "s3://audit-log/../b",
            "s3://a b/c",
            "s3://abc/%2e",
            "s3://abc?x",
        ] {
            assert!(path_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials_are_of_the_default_section_and_of_nobody_who_leaves_them_open() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        let text =
            "[other]\naws_access_key_id = X\n[default]\naws_access_key_id = AKIA1\naws_secret_access_key=s/e=c\n";
        legate_mtls::pki::write_private(&file, text).unwrap();
        let found = credentials(Some(&file)).unwrap();
        assert_eq!((found.access_key.as_str(), found.secret_key.as_str()), ("AKIA1", "s/e=c"));
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert!(credentials(Some(&file)).unwrap_err().contains("credentials"));
    }
}
