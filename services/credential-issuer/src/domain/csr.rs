//! What a certificate request may ask (PKCS #10, RFC 2986): a certificate for a key that it proves to hold, and no more.
//!
//! Names in the subject are ignored: the subject alternative name is set by us. A request for something that would not
//! be given is refused and not silently cut down, since its maker believes something that is not so.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use legate_ids::SpiffeId;
use legate_token::PublicKey;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256};
use x509_parser::prelude::FromDer;

/// The longest request, in bytes.
const LONGEST: usize = 16 * 1024;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadCsr {
    #[error("it is longer than 16,384 bytes")]
    TooLong,
    #[error("it is not one PKCS #10 request in DER")]
    Form,
    #[error("its key is not on P-256 in uncompressed form")]
    Key,
    #[error("it is not signed by ECDSA with SHA-256")]
    Algorithm,
    #[error("it is not signed with the key that it names, so the key is not proved to be held")]
    Signature,
    #[error("it asks for a CA certificate")]
    Ca,
    #[error("it asks for a name other than the SPIFFE ID that it would get")]
    Name,
    #[error("it asks for a key usage other than digitalSignature")]
    Usage,
    #[error("it asks for an extended key usage other than clientAuth and serverAuth")]
    ExtendedUsage,
    #[error(
        "it carries an extension or attribute other than subjectAltName, basicConstraints, keyUsage, extKeyUsage and subjectKeyIdentifier"
    )]
    Extra,
}

/// Reads a request for a certificate of `holder`; the key that comes back was proved to be held.
pub(crate) fn check(der: &[u8], holder: &SpiffeId) -> Result<PublicKey, BadCsr> {
    if der.len() > LONGEST {
        return Err(BadCsr::TooLong);
    }
    let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| BadCsr::Form)?;
    if !rest.is_empty() {
        return Err(BadCsr::Form);
    }
    let info = &request.certification_request_info;
    let key = key_of(&info.subject_pki)?;
    if request.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256 {
        return Err(BadCsr::Algorithm);
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.as_sec1())
        .verify(info.raw, &request.signature_value.data)
        .map_err(|_| BadCsr::Signature)?;
    // Every attribute and every extension, not the first of each: the last one must not slip through.
    for attribute in info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else {
            return Err(BadCsr::Extra);
        };
        for extension in &asked.extensions {
            check_extension(extension, holder)?;
        }
    }
    Ok(key)
}

fn key_of(spki: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> Result<PublicKey, BadCsr> {
    let curve = spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
    if spki.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY || curve != Some(OID_EC_P256) {
        return Err(BadCsr::Key);
    }
    let point: &[u8] = &spki.subject_public_key.data;
    // One form only: the same key in two forms would be two keys to whoever compares.
    if point.len() != 65 || spki.subject_public_key.unused_bits != 0 {
        return Err(BadCsr::Key);
    }
    PublicKey::from_sec1(point).map_err(|_| BadCsr::Key)
}

fn check_extension(extension: &X509Extension<'_>, holder: &SpiffeId) -> Result<(), BadCsr> {
    match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => match names.general_names.as_slice() {
            [GeneralName::URI(uri)] if *uri == holder.as_str() => Ok(()),
            _ => Err(BadCsr::Name),
        },
        ParsedExtension::BasicConstraints(basic) if basic.ca || basic.path_len_constraint.is_some() => Err(BadCsr::Ca),
        ParsedExtension::BasicConstraints(_) | ParsedExtension::SubjectKeyIdentifier(_) => Ok(()),
        // Bit 0 is digitalSignature.
        ParsedExtension::KeyUsage(usage) if usage.key_cert_sign() || usage.crl_sign() => Err(BadCsr::Ca),
        ParsedExtension::KeyUsage(usage) if usage.flags & !1 != 0 => Err(BadCsr::Usage),
        ParsedExtension::KeyUsage(_) => Ok(()),
        ParsedExtension::ExtendedKeyUsage(usage) => {
            let more = usage.any
                || usage.code_signing
                || usage.email_protection
                || usage.time_stamping
                || usage.ocsp_signing
                || !usage.other.is_empty();
            if more { Err(BadCsr::ExtendedUsage) } else { Ok(()) }
        }
        _ => Err(BadCsr::Extra),
    }
}
