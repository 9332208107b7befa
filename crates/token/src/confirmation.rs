//! What the bearer of a token has to show beside it (RFC 7800): a certificate, a key, or nothing.

use alloc::string::String;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::{Deserialize, Serialize};

use crate::BadClaims;
use crate::json::present;

/// What the bearer has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Confirmation {
    /// `x5t#S256` (RFC 8705 section 3.1): that it holds the key of the certificate with this SHA-256 of its DER.
    Certificate([u8; 32]),
    /// `jkt` (RFC 9449 section 6.1): that it holds the key with this RFC 7638 thumbprint.
    Key([u8; 32]),
    /// Nothing: whoever has the token may use it. Written as no `cnf` at all.
    Bearer,
}

impl Confirmation {
    /// The SHA-256 of the certificate that the token is bound to, where it is bound to one.
    #[must_use]
    pub fn certificate(&self) -> Option<&[u8; 32]> {
        match self {
            Self::Certificate(x5t) => Some(x5t),
            Self::Key(_) | Self::Bearer => None,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct CnfOut {
    #[serde(rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    x5t: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jkt: Option<String>,
}

impl CnfOut {
    /// `None` for what is bound to nothing.
    pub(crate) fn of(confirmation: &Confirmation) -> Option<Self> {
        match confirmation {
            Confirmation::Certificate(x5t) => {
                Some(Self { x5t: Some(Base64UrlUnpadded::encode_string(x5t)), jkt: None })
            }
            Confirmation::Key(jkt) => Some(Self { x5t: None, jkt: Some(Base64UrlUnpadded::encode_string(jkt)) }),
            Confirmation::Bearer => None,
        }
    }
}

/// Exactly one member: with two, a verifier that knows only one of them would ask for half.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CnfIn {
    #[serde(rename = "x5t#S256", default, deserialize_with = "present")]
    x5t: Option<String>,
    #[serde(default, deserialize_with = "present")]
    jkt: Option<String>,
}

impl CnfIn {
    pub(crate) fn read(self) -> Result<Confirmation, BadClaims> {
        let bad = BadClaims { claim: "cnf", why: "is not one SHA-256 in base64url, as x5t#S256 or as jkt" };
        let (text, make): (_, fn([u8; 32]) -> Confirmation) = match (self.x5t, self.jkt) {
            (Some(x5t), None) => (x5t, Confirmation::Certificate),
            (None, Some(jkt)) => (jkt, Confirmation::Key),
            _ => return Err(bad),
        };
        let mut bytes = [0u8; 32];
        match Base64UrlUnpadded::decode(&text, &mut bytes) {
            Ok(all) if all.len() == 32 => Ok(make(bytes)),
            _ => Err(bad),
        }
    }
}
