//! The configuration file of credential-issuer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use legate_boot::HasTelemetry;
use legate_boot::config::{Outbox, Telemetry, Tls};
use legate_ids::Name;
use legate_token::ForeignKeys;
use legate_view::IssuerKeys;
use serde::Deserialize;

use crate::domain::keyring::Pace;
use crate::domain::login::{BadRule, LoginRule, Provider, Who};
use crate::federation::FederationConfig;

/// What credential-issuer is told. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it serves gRPC over mutual TLS.
    pub listen: SocketAddr,
    /// Where it serves `/livez`, `/readyz` and `/metrics`, plaintext, on a loopback address; absent: nowhere.
    #[serde(default)]
    pub probes: Option<SocketAddr>,
    /// The `iss` of the tokens that it signs: an https URI that never changes, 512 characters at most. Absent: that of `oauth`
    /// by its address, `https://IP:PORT`, for development.
    #[serde(default)]
    pub issuer: Option<String>,
    /// The OAuth facade over HTTPS; absent: none.
    #[serde(default)]
    pub oauth: Option<OauthConfig>,
    /// Status lists at the OAuth facade, by revision 21 of draft-ietf-oauth-status-list; absent: none.
    #[serde(default)]
    pub status_list_draft_ietf_21: Option<StatusListConfig>,
    /// `sqlite:PATH` or `postgres://USER@HOST/DATABASE`.
    pub database: String,
    /// The registry, `https://HOST:PORT`.
    pub registry: String,
    /// policy-decision, `https://HOST:PORT`.
    pub policy_decision: String,
    /// audit-collector, `https://HOST:PORT`.
    pub audit_collector: String,
    /// Who it is and whom it believes. `tls.workloads_ca` is required here: where there is no such file, a CA is made
    /// and its certificate is written there, for the other services to read. So is `tls.operators_ca` where operators log in.
    pub tls: Tls,
    /// Its keys.
    pub keys: KeysConfig,
    /// How tokens of issuers outside are believed.
    #[serde(default)]
    pub federation: FederationConfig,
    /// How operators log in.
    #[serde(default)]
    pub operators: OperatorsConfig,
    /// How long what ended is kept.
    #[serde(default)]
    pub retention: RetentionConfig,
    /// The audit outbox.
    #[serde(default)]
    pub outbox: Outbox,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: Telemetry,
}

/// The OAuth facade.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OauthConfig {
    /// Where it serves HTTPS. Clients reach it at `issuer`, whose name or address its certificate has to carry.
    pub listen: SocketAddr,
}

/// Status lists.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusListConfig {
    /// For how long verifiers keep a list, in seconds: 5 to 300. So long a token may be believed after it was taken back.
    #[serde(default = "half_a_minute")]
    pub ttl_seconds: u64,
}

impl StatusListConfig {
    pub(crate) fn ttl(self) -> Duration {
        Duration::from_secs(self.ttl_seconds)
    }
}

const fn half_a_minute() -> u64 {
    30
}

/// How long what ended is kept.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// For so many days after their end rows of credentials, running copies and enrolment tokens are kept: 30 to 36,500; 0: for ever.
    /// So long a secret or key that works no longer is known for one, which is an alarm.
    pub ended_days: u32,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { ended_days: 400 }
    }
}

impl RetentionConfig {
    /// How long, where it is not for ever.
    pub(crate) fn ended(self) -> Option<Duration> {
        (self.ended_days > 0).then(|| Duration::from_secs(u64::from(self.ended_days) * 86_400))
    }
}

/// The keys, and how they follow one another.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysConfig {
    /// A directory for the private keys and the peppers, each in a file of mode 0600 that is wrapped under `kek`, and made where it
    /// is missing. Keep a copy of it where the copies of the database and of `kek` are not.
    pub dir: PathBuf,
    /// The file of the key-encryption key, outside `dir`; a name without a slash is a credential that systemd hands over. Without
    /// it nothing starts. `legate key make-kek` makes one.
    pub kek: PathBuf,
    /// Where new signing keys are made: `files`, under `dir`, or `pkcs11`, in the token that `pkcs11` names. Keys that lie in the other place
    /// sign on until they are over, as long as it is configured.
    #[serde(default)]
    pub store: KeyStoreConfig,
    /// A token of a PKCS #11 module. Needs a program that was built with the feature `pkcs11`.
    #[serde(default)]
    pub pkcs11: Option<Pkcs11Config>,
    /// How long a key of tokens signs before the next one takes over, in days: 1 to 365; 0: until an operator rotates.
    #[serde(default = "thirty_days")]
    pub rotate_days: u64,
    /// How long a key is published before it signs, in hours: 1 to 168. Verifiers that keep the key set for longer than this
    /// refuse what a new key signs.
    #[serde(default = "a_day")]
    pub publish_hours: u64,
}

/// Where new signing keys are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyStoreConfig {
    /// In files, encrypted under the key-encryption key.
    #[default]
    Files,
    /// In a hardware module.
    Pkcs11,
}

/// A token of a PKCS #11 module. Its PIN is in a file or in the environment variable `LEGATE_PKCS11_PIN`, never here.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11Config {
    /// The maker's library, an absolute path.
    pub module: PathBuf,
    /// The label of the token, 1 to 32 characters.
    pub token: String,
    /// The file that holds the user's PIN, mode 0600; a name without a slash is a credential that systemd hands over. Absent: the PIN is in
    /// `LEGATE_PKCS11_PIN`.
    #[serde(default)]
    pub pin_file: Option<PathBuf>,
    /// Sessions at once, 1 to 64: as many signatures are made side by side.
    #[serde(default = "four")]
    pub sessions: u8,
    /// How long the module may take for one call, in milliseconds: 100 to 4,000. Then the caller hears that nothing can be signed.
    #[serde(default = "two_seconds")]
    pub timeout_ms: u64,
}

const fn four() -> u8 {
    4
}

const fn two_seconds() -> u64 {
    2_000
}

impl Pkcs11Config {
    fn check(&self) -> Result<(), BadConfig> {
        let bad = |key, why: &'static str| Err(BadConfig { key, why: why.into() });
        if !self.module.is_absolute() {
            return bad(
                "keys.pkcs11.module",
                "an absolute path: what is loaded must not hang on where it is looked for",
            );
        }
        // CK_TOKEN_INFO: 32 characters, padded with blanks.
        if !(1..=32).contains(&self.token.len()) || self.token.trim() != self.token {
            return bad("keys.pkcs11.token", "1 to 32 characters, no blank at either end");
        }
        if !(1..=64).contains(&self.sessions) {
            return bad("keys.pkcs11.sessions", "1 to 64");
        }
        if !(100..=4_000).contains(&self.timeout_ms) {
            return bad("keys.pkcs11.timeout_ms", "100 to 4,000: a caller waits 5 s by default");
        }
        Ok(())
    }
}

const fn thirty_days() -> u64 {
    30
}

const fn a_day() -> u64 {
    24
}

impl KeysConfig {
    pub(crate) fn pace(&self) -> Pace {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        Pace {
            rotate: (self.rotate_days > 0).then(|| hours(self.rotate_days * 24)),
            publish: hours(self.publish_hours),
        }
    }

    fn check(&self) -> Result<(), BadConfig> {
        let bad = |key, why: &'static str| Err(BadConfig { key, why: why.into() });
        if self.rotate_days > 365 {
            return bad("keys.rotate_days", "1 to 365; 0: by hand only");
        }
        if !(1..=168).contains(&self.publish_hours) {
            let why =
                "1 to 168: verifiers that keep the key set for longer than a key is published refuse what it signs";
            return bad("keys.publish_hours", why);
        }
        if self.rotate_days > 0 && self.rotate_days * 24 < self.publish_hours {
            return bad("keys.rotate_days", "is less than keys.publish_hours: no key could be published long enough");
        }
        // Who takes the one takes the other.
        if self.kek.starts_with(&self.dir) {
            return bad("keys.kek", "lies within keys.dir: whoever takes the keys would take what opens them");
        }
        match &self.pkcs11 {
            None if self.store == KeyStoreConfig::Pkcs11 => bad(
                "keys.pkcs11",
                "is needed where keys.store is \"pkcs11\": the module, its token, and where the PIN is",
            ),
            None => Ok(()),
            Some(token) => token.check(),
        }
    }
}

/// How operators log in by an identity provider. Without a provider they do not.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OperatorsConfig {
    /// How long their certificates live, in seconds: 60 to 3600.
    pub certificate_seconds: u64,
    /// The identity providers. They are named here and nowhere else: whoever could declare one could make himself an operator.
    pub providers: Vec<ProviderConfig>,
}

impl Default for OperatorsConfig {
    fn default() -> Self {
        Self { certificate_seconds: 900, providers: Vec::new() }
    }
}

/// An identity provider of operators.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// What it is called in the audit trail.
    pub name: String,
    /// The `iss` of its tokens, compared byte for byte: an https URL.
    pub issuer: String,
    /// The `aud` of its tokens has to be one of these, alone. 1 to 16. Not one that any TrustedIssuer lists.
    pub audiences: Vec<String>,
    /// Where its keys are, an https URL. Exactly one of `jwks_uri` and `jwks` is given.
    #[serde(default)]
    pub jwks_uri: Option<String>,
    /// Its public keys as a JWK set in JSON.
    #[serde(default)]
    pub jwks: Option<String>,
    /// Which operator its tokens stand for; the first rule whose claims all match. 1 to 64.
    pub rules: Vec<LoginRuleConfig>,
}

/// Maps tokens of an identity provider to an operator.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginRuleConfig {
    /// Claims by path, names joined by `/`, that have to be present and equal to these texts.
    pub claims: BTreeMap<String, String>,
    /// The operator's name; with a `*` the name is what `pattern` finds in `claim`.
    pub operator: String,
    /// The claim that holds the name, such as `email`.
    #[serde(default)]
    pub claim: Option<String>,
    /// What of the claim is the name, with one `*`, such as `*@example.com`.
    #[serde(default)]
    pub pattern: Option<String>,
}

impl OperatorsConfig {
    /// The providers, read.
    pub(crate) fn read(&self) -> Result<Vec<Provider>, BadConfig> {
        let bad = |why: String| BadConfig { key: "operators", why: why.into() };
        if !(60..=3600).contains(&self.certificate_seconds) {
            return Err(bad("certificate_seconds: 60 to 3600".into()));
        }
        let providers: Vec<_> =
            self.providers.iter().map(ProviderConfig::read).collect::<Result<_, _>>().map_err(bad)?;
        for (n, one) in providers.iter().enumerate() {
            for other in &providers[..n] {
                let both = one.issuer == other.issuer && one.audiences.iter().any(|a| other.audiences.contains(a));
                if one.name == other.name || both {
                    let why = format!(
                        "providers {} and {} have one name, or an issuer and audience in common",
                        other.name, one.name
                    );
                    return Err(bad(why));
                }
            }
        }
        Ok(providers)
    }
}

impl ProviderConfig {
    fn read(&self) -> Result<Provider, String> {
        let of = |why: &str| format!("provider {:?}: {why}", self.name);
        let url = |text: &str| {
            text.starts_with("https://") && text.len() <= 512 && text.bytes().all(|b| b.is_ascii_graphic())
        };
        let name = Name::parse(&self.name).map_err(|e| of(&e.to_string()))?;
        if !url(&self.issuer) {
            return Err(of("issuer: an https URL, 512 characters at most"));
        }
        if !(1..=16).contains(&self.audiences.len()) || self.audiences.iter().any(String::is_empty) {
            return Err(of("audiences: 1 to 16, none empty"));
        }
        let keys = match (&self.jwks_uri, &self.jwks) {
            (Some(at), None) if url(at) => IssuerKeys::At(at.as_str().into()),
            (None, Some(set)) => {
                ForeignKeys::parse(set.as_bytes()).map_err(|e| of(&format!("jwks: {e}")))?;
                IssuerKeys::Inline(set.as_str().into())
            }
            _ => return Err(of("give exactly one of jwks_uri (an https URL) and jwks")),
        };
        if !(1..=64).contains(&self.rules.len()) {
            return Err(of("rules: 1 to 64"));
        }
        let rule = |rule: &LoginRuleConfig| {
            if rule.claims.is_empty() {
                return Err(BadRule::NoClaims);
            }
            let operator = Who::parse(&rule.operator, rule.claim.as_deref(), rule.pattern.as_deref())?;
            Ok(LoginRule { claims: rule.claims.clone(), operator })
        };
        let rules = self.rules.iter().map(rule).collect::<Result<_, _>>().map_err(|e: BadRule| of(&e.to_string()))?;
        let (issuer, audiences) = (self.issuer.clone(), self.audiences.clone());
        Ok(Provider { name, issuer, audiences, keys, rules })
    }
}

/// A value that the service will not start with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct BadConfig {
    key: &'static str,
    why: Cow<'static, str>,
}

impl Config {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), BadConfig> {
        let bad = |key, why: &'static str| Err(BadConfig { key, why: why.into() });
        match &self.issuer {
            None if self.oauth.is_none() => {
                return bad("issuer", "is needed where there is no oauth.listen to name it by");
            }
            None => {}
            Some(issuer) => {
                let is_uri = issuer.starts_with("https://") && issuer.bytes().all(|b| b.is_ascii_graphic());
                if !is_uri || issuer.len() > 512 || issuer.contains(['#', '?']) {
                    return bad("issuer", "an https URI without query and fragment, 512 characters at most");
                }
                // RFC 8414 section 3: a path would stand within the well-known one, which a proxy could not know.
                if self.oauth.is_some() && issuer["https://".len()..].contains('/') {
                    return bad("issuer", "has no path and no '/' at its end where the OAuth facade is served");
                }
            }
        }
        if self.tls.workloads_ca.is_none() {
            return bad("tls.workloads_ca", "is needed: the file in which others find the CA certificate");
        }
        if !self.operators.providers.is_empty() && self.tls.operators_ca.is_none() {
            return bad(
                "tls.operators_ca",
                "is needed where operators log in: the file in which others find the CA certificate",
            );
        }
        if let Some(lists) = &self.status_list_draft_ietf_21 {
            if self.oauth.is_none() {
                return bad("status_list_draft_ietf_21", "needs oauth.listen, where the lists are served");
            }
            if !(5..=300).contains(&lists.ttl_seconds) {
                return bad("status_list_draft_ietf_21.ttl_seconds", "5 to 300");
            }
        }
        // Longer than a status list lives, and than the misuse of what ended is told of.
        if !matches!(self.retention.ended_days, 0 | 30..=36_500) {
            return bad("retention.ended_days", "30 to 36,500; 0: for ever");
        }
        self.keys.check()?;
        self.operators.read().map(drop)
    }
}

impl HasTelemetry for Config {
    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}
