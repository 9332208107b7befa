//! Who receives alerts, and the secret that they are signed with.

use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use base64ct::{Base64, Encoding as _};
use legate_web::reach::Network;
use zeroize::Zeroizing;

use crate::config::{BadConfig, WebhookConfig};
use crate::outward::Address;

/// The receiver.
#[derive(Debug)]
pub(crate) struct Target {
    pub(super) address: Address,
    pub(super) ca: Option<PathBuf>,
    pub(super) allowed: Vec<Network>,
    key: hmac::Key,
}

impl Target {
    /// The receiver of a configuration, where it has one.
    pub(crate) fn of(config: &WebhookConfig) -> Result<Option<Self>, BadConfig> {
        let refused = |why: String| BadConfig::Webhook(why);
        let Some(url) = &config.url else { return Ok(None) };
        let address = Address::parse(url).map_err(refused)?;
        let secret = config.secret_file.as_ref().ok_or_else(|| refused("secret_file is missing".into()))?;
        let key = read_secret(secret).map_err(refused)?;
        Ok(Some(Self { address, ca: config.ca.clone(), allowed: config.allow_private.clone(), key }))
    }

    /// The signature of a message (Standard Webhooks 1.0.0: HMAC-SHA-256 over id, timestamp and body).
    pub(super) fn sign(&self, id: &str, at: &str, body: &[u8]) -> String {
        let mut signing = hmac::Context::with_key(&self.key);
        signing.update(format!("{id}.{at}.").as_bytes());
        signing.update(body);
        format!("v1,{}", Base64::encode_string(signing.sign().as_ref()))
    }
}

/// `whsec_` and 24 to 64 bytes in base64, in a file that nobody else can read.
fn read_secret(path: &Path) -> Result<hmac::Key, String> {
    let refused = |why: &dyn std::fmt::Display| format!("secret_file {}: {why}", path.display());
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| refused(&e))?);
    legate_mtls::pki::refuse_open_key(path).map_err(|e| refused(&e))?;
    let form = "it is not whsec_ and 24 to 64 bytes in base64";
    let secret = text.trim_end().strip_prefix("whsec_").ok_or_else(|| refused(&form))?;
    let secret = Zeroizing::new(Base64::decode_vec(secret).map_err(|_| refused(&form))?);
    if !(24..=64).contains(&secret.len()) {
        return Err(refused(&form));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn config(dir: &Path, url: &str, secret: &str) -> WebhookConfig {
        let secret_file = dir.join("secret");
        // A file that is there keeps its mode.
        drop(std::fs::remove_file(&secret_file));
        legate_mtls::pki::write_private(&secret_file, secret).unwrap();
        WebhookConfig { url: Some(url.into()), secret_file: Some(secret_file), ..WebhookConfig::default() }
    }

    /// The example of the specification, https://github.com/standard-webhooks/standard-webhooks (MIT), spec/standard-webhooks.md.
    #[test]
    fn a_message_is_signed_as_the_standard_says() {
        let dir = tempfile::tempdir().unwrap();
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let target = Target::of(&config(dir.path(), "https://example.com/hook", secret)).unwrap().unwrap();
        let signed = target.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_receiver_that_is_none_is_refused_and_so_is_a_secret_that_others_read() {
        let dir = tempfile::tempdir().unwrap();
        let good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        for url in ["https://a.example/x", "http://127.0.0.1:9/x", "http://localhost/", "http://[::1]:9/"] {
            assert!(Target::of(&config(dir.path(), url, good)).is_ok(), "{url}");
        }
        for url in [
            "http://a.example/x",
            "http://127.0.0.1.example/",
            "http://10.0.0.1/",
            "https://user@a.example/",
            "ftp://a.example/",
            "/x",
            "https:///x",
            "",
        ] {
            assert!(Target::of(&config(dir.path(), url, good)).is_err(), "{url}");
        }
        for secret in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ", "whsec_!!!!"] {
            assert!(Target::of(&config(dir.path(), "https://a.example/x", secret)).is_err(), "{secret}");
        }
        let open = config(dir.path(), "https://a.example/x", good);
        let secret_file = open.secret_file.clone().unwrap();
        std::fs::set_permissions(&secret_file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert!(Target::of(&open).is_err());
        assert!(Target::of(&WebhookConfig { secret_file: None, ..open }).is_err());
        assert!(Target::of(&WebhookConfig::default()).unwrap().is_none());
    }
}
