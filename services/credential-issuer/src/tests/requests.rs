//! Certificate requests that ask what they must not.

use legate_ids::{AgentId, Name, SpiffeId, TrustDomain};
use rcgen::{
    Attribute, BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType,
};

use super::scene::{new_key, plain, request};
use crate::domain::csr::{BadCsr, check};

fn holder() -> SpiffeId {
    let domain = TrustDomain::parse("example.org").unwrap();
    SpiffeId::agent(&domain, &Name::parse("payments").unwrap(), &AgentId::from_parts(1, [1; 10]))
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn asked(change: impl FnOnce(&mut CertificateParams)) -> Result<(), BadCsr> {
    let mut params = plain();
    change(&mut params);
    let key = new_key();
    let csr = params.serialize_request(&key).unwrap();
    let read = check(csr.der(), &holder())?;
    assert_eq!(read.as_sec1()[..], *key.public_key_raw());
    Ok(())
}

#[test]
fn takes_what_asks_for_nothing_more_than_is_given() {
    assert_eq!(asked(|_| {}), Ok(()));
    assert_eq!(asked(|p| p.distinguished_name.push(DnType::CommonName, "admin")), Ok(()));
    assert_eq!(asked(|p| p.is_ca = IsCa::ExplicitNoCa), Ok(()));
    assert_eq!(asked(|p| p.subject_alt_names = vec![uri(holder().as_str())]), Ok(()));
    assert_eq!(
        asked(|p| {
            p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        }),
        Ok(())
    );
}

#[test]
fn refuses_every_other_wish() {
    let other = holder().to_string().replace("agt_0", "agt_1");
    let names: [Vec<SanType>; 8] = [
        vec![uri(&other)],
        vec![uri("spiffe://example.org/legate/registry")],
        vec![uri("spiffe://other.org/ns/payments/agent/x")],
        vec![uri(holder().as_str()), uri(&other)],
        vec![uri(holder().as_str()), uri(holder().as_str())],
        vec![uri(holder().as_str()), SanType::DnsName("localhost".try_into().unwrap())],
        vec![SanType::DnsName("registry".try_into().unwrap())],
        vec![SanType::Rfc822Name("a@example.org".try_into().unwrap())],
    ];
    for names in names {
        assert_eq!(asked(|p| p.subject_alt_names = names.clone()), Err(BadCsr::Name), "{names:?}");
    }
    for ca in [BasicConstraints::Unconstrained, BasicConstraints::Constrained(0)] {
        assert_eq!(asked(|p| p.is_ca = IsCa::Ca(ca)), Err(BadCsr::Ca));
    }
    for usage in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
        assert_eq!(asked(|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature, usage]), Err(BadCsr::Ca));
    }
    for usage in [KeyUsagePurpose::KeyAgreement, KeyUsagePurpose::ContentCommitment, KeyUsagePurpose::DecipherOnly] {
        assert_eq!(asked(|p| p.key_usages = vec![usage]), Err(BadCsr::Usage), "{usage:?}");
    }
    for usage in
        [ExtendedKeyUsagePurpose::Any, ExtendedKeyUsagePurpose::CodeSigning, ExtendedKeyUsagePurpose::OcspSigning]
    {
        assert_eq!(asked(|p| p.extended_key_usages = vec![usage.clone()]), Err(BadCsr::ExtendedUsage), "{usage:?}");
    }
    // Name constraints, and an extension that nobody knows.
    for oid in [&[2, 5, 29, 30][..], &[1, 3, 6, 1, 4, 1, 99_999, 1]] {
        let extension = CustomExtension::from_oid_content(oid, vec![0x30, 0]);
        let refused = asked(|p| p.custom_extensions = vec![extension]).unwrap_err();
        assert!(matches!(refused, BadCsr::Extra | BadCsr::Form), "{oid:?}: {refused}");
    }
}

#[test]
fn refuses_what_hides_in_a_second_attribute() {
    let with = |oid: &'static [u64], values: Vec<u8>| {
        let mut params = plain();
        params.is_ca = IsCa::ExplicitNoCa;
        let csr = params.serialize_request_with_attributes(&new_key(), vec![Attribute { oid, values }]).unwrap();
        check(csr.der(), &holder())
    };
    // SET { SEQUENCE OF Extension { basicConstraints, OCTET STRING { CA:TRUE } } }
    let ca =
        [0x31, 0x10, 0x30, 0x0e, 0x30, 0x0c, 0x06, 0x03, 0x55, 0x1d, 0x13, 0x04, 0x05, 0x30, 0x03, 0x01, 0x01, 0xff];
    assert_eq!(with(&[1, 2, 840, 113_549, 1, 9, 14], ca.to_vec()), Err(BadCsr::Ca));
    let password = vec![0x31, 0x04, 0x0c, 0x02, b'h', b'i'];
    assert_eq!(with(&[1, 2, 840, 113_549, 1, 9, 7], password), Err(BadCsr::Extra));
}

#[test]
fn refuses_keys_of_another_kind() {
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        assert_eq!(check(&request(&key), &holder()), Err(BadCsr::Key));
    }
}

#[test]
fn refuses_a_key_that_is_not_proved_to_be_held() {
    let good = request(&new_key());
    assert!(check(&good, &holder()).is_ok());
    // Another's key, one's own signature.
    let victim = new_key();
    let mine = request(&new_key());
    let at = |csr: &[u8], key: &KeyPair| {
        let raw = key.public_key_raw();
        csr.windows(raw.len()).position(|w| w == raw)
    };
    let theirs = request(&victim);
    let place = at(&theirs, &victim).unwrap();
    let mut stolen = mine.clone();
    stolen[place..place + 65].copy_from_slice(victim.public_key_raw());
    assert_eq!(check(&stolen, &holder()), Err(BadCsr::Signature));
    for (i, bit) in [(good.len() - 1, 1), (20, 0x40), (good.len() / 2, 4)] {
        let mut flipped = good.clone();
        flipped[i] ^= bit;
        assert!(check(&flipped, &holder()).is_err(), "byte {i}");
    }
}

#[test]
fn refuses_what_is_no_request() {
    let good = request(&new_key());
    assert_eq!(check(&[], &holder()), Err(BadCsr::Form));
    assert_eq!(check(&good[..good.len() - 1], &holder()), Err(BadCsr::Form));
    assert_eq!(check(&[&good[..], &[0]].concat(), &holder()), Err(BadCsr::Form));
    assert_eq!(check(&vec![0x30; 16 * 1024 + 1], &holder()), Err(BadCsr::TooLong));
    assert_eq!(check(b"-----BEGIN CERTIFICATE REQUEST-----", &holder()), Err(BadCsr::Form));
    for n in [10, 1_000, 16_000] {
        assert!(check(&vec![0x30; n], &holder()).is_err());
        assert!(check(&vec![0xff; n], &holder()).is_err());
    }
}
