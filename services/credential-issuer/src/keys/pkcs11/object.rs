//! Keys as objects of the token: made, found, used and destroyed, each under a name that holds its use and its id.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::SessionState;
use legate_token::{EcVerifier as _, KeyId, PublicKey};

use super::line::Open;
use super::trouble::Trouble;
use crate::domain::keyring::KeyUse;
use crate::keys::Verifier;
use crate::store::credential::sha256;

/// The object identifier of P-256 in DER (RFC 5480 section 2.1.1.1): CKA_EC_PARAMS.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// What a new key signs before it is kept.
const TRIAL: &[u8] = b"legate: a new key tries whether it signs";

/// What a key is called in the token.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// CKA_ID: the SHA-256 of its RFC 7638 form, which its key id spells in base64url.
    id: Vec<u8>,
    /// CKA_LABEL: its use too, so that a key is found for no other.
    pub(super) label: String,
}

impl Named {
    pub(super) fn new(purpose: KeyUse, kid: &KeyId) -> Self {
        let id = Base64UrlUnpadded::decode_vec(kid.as_str()).unwrap_or_default();
        Self { id, label: format!("legate {} {kid}", purpose.word()) }
    }

    fn attributes(&self) -> [Attribute; 2] {
        [Attribute::Id(self.id.clone()), Attribute::Label(self.label.clone().into_bytes())]
    }

    fn template(&self, class: ObjectClass) -> Vec<Attribute> {
        let [id, label] = self.attributes();
        vec![Attribute::Class(class), Attribute::Token(true), id, label]
    }
}

/// The one object of that class and name.
fn find(open: &Open, class: ObjectClass, named: &Named) -> Result<Option<ObjectHandle>, Trouble> {
    match open.session.find_objects(&named.template(class))?[..] {
        [one] => Ok(Some(one)),
        [] => {
            // Whoever is not logged in any more sees no private object, and is told so by nobody.
            logged_in(open)?;
            Ok(None)
        }
        _ => Err(Trouble::Wrong(format!("several objects are called {:?}; which one signs is not known", named.label))),
    }
}

/// Whether the session is there, and logged in.
pub(super) fn logged_in(open: &Open) -> Result<(), Trouble> {
    match open.session.get_session_info()?.session_state() {
        SessionState::RwUser => Ok(()),
        _ => Err(Trouble::Line("the session is not logged in any more".into())),
    }
}

/// The handle of a private key; `None`: it is not in the token.
pub(super) fn private(open: &mut Open, named: &Named) -> Result<Option<ObjectHandle>, Trouble> {
    let found = find(open, ObjectClass::PRIVATE_KEY, named)?;
    match found {
        Some(handle) => open.handles.insert(named.label.clone(), handle),
        None => open.handles.remove(&named.label),
    };
    Ok(found)
}

/// The public half of a key whose private half is in the token.
pub(super) fn public(open: &mut Open, named: &Named) -> Result<Option<PublicKey>, Trouble> {
    if private(open, named)?.is_none() {
        return Ok(None);
    }
    let Some(handle) = find(open, ObjectClass::PUBLIC_KEY, named)? else {
        return Err(Trouble::Wrong(format!("the public half of {:?} is not in the token; bring it back", named.label)));
    };
    point(open, handle).map(Some)
}

fn point(open: &Open, public: ObjectHandle) -> Result<PublicKey, Trouble> {
    let found = open.session.get_attributes(public, &[AttributeType::EcPoint])?;
    let bytes = found.into_iter().find_map(|one| match one {
        Attribute::EcPoint(bytes) => Some(bytes),
        _ => None,
    });
    let bytes = bytes.unwrap_or_default();
    // An OCTET STRING around the point (PKCS #11 v3.1 section 6.3.3); some modules give the point alone.
    let bare = bytes.strip_prefix(&[0x04, 0x41]).filter(|rest| rest.len() == 65).unwrap_or(&bytes);
    PublicKey::from_sec1(bare).map_err(|_| Trouble::Wrong("it gives a public key that is none on P-256".into()))
}

/// Makes a key that cannot leave the token.
pub(super) fn make(open: &mut Open, purpose: KeyUse) -> Result<PublicKey, Trouble> {
    let mut id = [0u8; 16];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| Trouble::Wrong("the system gives no randomness".into()))?;
    // Its name is that of its public half, which is not known before it is made.
    let unnamed =
        [Attribute::Id(id.to_vec()), Attribute::Label(format!("legate {} unfinished", purpose.word()).into())];
    let for_public = [
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Verify(true),
        Attribute::KeyType(KeyType::EC),
        Attribute::EcParams(P256.to_vec()),
    ];
    let for_private = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::KeyType(KeyType::EC),
    ];
    let (public, private) = open.session.generate_key_pair(
        &Mechanism::EccKeyPairGen,
        &[&for_public[..], &unnamed].concat(),
        &[&for_private[..], &unnamed].concat(),
    )?;
    let made = name(open, purpose, public, private);
    if made.is_err() {
        for handle in [private, public] {
            // Where it stays it is called unfinished, and signs nothing.
            let _ = open.session.destroy_object(handle);
        }
    }
    made
}

fn name(open: &mut Open, purpose: KeyUse, public: ObjectHandle, private: ObjectHandle) -> Result<PublicKey, Trouble> {
    stays(open, private)?;
    let key = point(open, public)?;
    signed(open, private, &key, TRIAL)?;
    let named = Named::new(purpose, &key.kid());
    for handle in [public, private] {
        open.session.update_attributes(handle, &named.attributes())?;
    }
    // What is kept is what is found again.
    match find(open, ObjectClass::PRIVATE_KEY, &named)? {
        Some(_) => Ok(key),
        None => Err(Trouble::Wrong("a key that it made is not found by its name".into())),
    }
}

/// Whether the module says of a key that it cannot leave it, whatever it was asked for.
fn stays(open: &Open, private: ObjectHandle) -> Result<(), Trouble> {
    let asked = [AttributeType::Sensitive, AttributeType::Extractable];
    let found = open.session.get_attributes(private, &asked)?;
    let (mut sensitive, mut extractable) = (false, true);
    for one in found {
        match one {
            Attribute::Sensitive(is) => sensitive = is,
            Attribute::Extractable(is) => extractable = is,
            _ => {}
        }
    }
    if sensitive && !extractable {
        return Ok(());
    }
    Err(Trouble::Wrong("it makes keys that can be taken out of it (CKA_SENSITIVE, CKA_EXTRACTABLE)".into()))
}

/// ECDSA with SHA-256 over a message by the key of that name, whose public half is known.
pub(super) fn sign(open: &mut Open, named: &Named, key: &PublicKey, message: &[u8]) -> Result<[u8; 64], Trouble> {
    let known = open.handles.get(&named.label).copied();
    if let Some(handle) = known {
        match signed(open, handle, key, message) {
            // It may be there under another, and under this one something else.
            Err(Trouble::Handle | Trouble::Wrong(_)) => {}
            done => return done,
        }
    }
    let handle = private(open, named)?.ok_or(Trouble::Lost)?;
    match signed(open, handle, key, message) {
        Err(Trouble::Handle) => Err(Trouble::Lost),
        done => done,
    }
}

fn signed(open: &Open, handle: ObjectHandle, key: &PublicKey, message: &[u8]) -> Result<[u8; 64], Trouble> {
    let bytes = open.session.sign(&Mechanism::Ecdsa, handle, &sha256(message))?;
    let signature =
        bytes.try_into().map_err(|_| Trouble::Wrong("its signature is not r and s of 32 bytes each".into()))?;
    // What nobody could verify must not leave, whatever lies under that name.
    if !Verifier::new(key).verify(message, &signature) {
        return Err(Trouble::Wrong("its signature is that of another key".into()));
    }
    Ok(signature)
}

/// Destroys both halves of a key, as far as they are there.
pub(super) fn destroy(open: &mut Open, named: &Named) -> Result<bool, Trouble> {
    logged_in(open)?;
    open.handles.remove(&named.label);
    let mut any = false;
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        for handle in open.session.find_objects(&named.template(class))? {
            match open.session.destroy_object(handle).map_err(Trouble::from) {
                Ok(()) => any = true,
                Err(Trouble::Handle) => {}
                Err(why) => return Err(why),
            }
        }
    }
    Ok(any)
}
