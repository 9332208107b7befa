//! A signature as it rests: the event by which the log tells of it, and back.

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding as _};
use legate_mtls::ECDSA_P256_SHA256;
use legate_wire::audit::{AuditEvent, Outcome};

use crate::{Attested, MOST_CERTIFICATES, NotSigned, Statement};

/// The type of that event.
pub const KIND: &str = "batch.attested";

/// The scheme's name in RFC 8446 section 4.2.3.
const SCHEME: &str = "ecdsa_secp256r1_sha256";

/// Where the certificates rest, leaf first.
const CERTIFICATES: [&str; MOST_CERTIFICATES] = ["certificate", "issuer_1", "issuer_2", "issuer_3"];

impl From<&Attested> for AuditEvent {
    fn from(from: &Attested) -> Self {
        let statement = &from.statement;
        let mut details = BTreeMap::from([
            ("epoch".to_owned(), statement.epoch.clone()),
            ("first_seq".to_owned(), statement.first_seq.to_string()),
            ("count".to_owned(), statement.count.to_string()),
            ("root".to_owned(), Base64::encode_string(&statement.root)),
            ("scheme".to_owned(), SCHEME.to_owned()),
            ("signature".to_owned(), Base64::encode_string(&from.signature)),
        ]);
        let certificates = CERTIFICATES.into_iter().zip(&from.certificates);
        details.extend(certificates.map(|(name, der)| (name.to_owned(), Base64::encode_string(der))));
        Self { actor: statement.emitter.clone(), outcome: Outcome::Success.into(), details, ..Self::default() }
    }
}

/// Reads it again. Nothing is verified but its form.
impl TryFrom<&AuditEvent> for Attested {
    type Error = NotSigned;

    fn try_from(from: &AuditEvent) -> Result<Self, NotSigned> {
        let bad = NotSigned::Form("it is no batch.attested event with epoch, first_seq, count, root and signature");
        let text = |name: &str| from.details.get(name).map(String::as_str);
        let bytes = |name: &str| text(name).and_then(|text| Base64::decode_vec(text).ok());
        let read = || {
            let statement = Statement {
                emitter: from.actor.clone(),
                epoch: text("epoch")?.to_owned(),
                first_seq: text("first_seq")?.parse().ok()?,
                count: text("count")?.parse().ok()?,
                root: bytes("root")?.try_into().ok()?,
            };
            let given = CERTIFICATES.into_iter().take_while(|name| text(name).is_some());
            let certificates: Option<Vec<Vec<u8>>> = given.map(bytes).collect();
            let (signature, certificates) = (bytes("signature")?, certificates?);
            let is_it = from.r#type == KIND && text("scheme") == Some(SCHEME);
            is_it.then_some(Self { statement, scheme: ECDSA_P256_SHA256, signature, certificates })
        };
        read().ok_or(bad)?.of_form()
    }
}
