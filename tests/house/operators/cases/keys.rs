//! The methods of signing keys and CAs.

use legate_rpc::Client;
use legate_wire::credential;

use super::{Ask, Case, told};

type KeyAdmins = credential::key_admin_service_client::KeyAdminServiceClient<Client>;
type Keys = credential::key_service_client::KeyServiceClient<Client>;

pub(super) fn add(case: &mut impl FnMut(&'static str, Case)) {
    case(
        "/legate.credential.v1.KeyAdminService/ListKeys",
        call!(issuer, KeyAdmins, list_keys, |ask| {
            let _nothing_of_it = &ask.namespace;
            credential::ListKeysRequest::default()
        }),
    );
    case(
        "/legate.credential.v1.KeyAdminService/PrepareKey",
        call!(issuer, KeyAdmins, prepare_key, |ask| {
            let _nothing_of_it = &ask.namespace;
            let purpose = credential::KeyPurpose::JwtSvid.into();
            credential::PrepareKeyRequest { purpose, reason: "a test".into() }
        }),
    );
    case(
        "/legate.credential.v1.KeyAdminService/RotateKey",
        call!(issuer, KeyAdmins, rotate_key, |ask| {
            let _nothing_of_it = &ask.namespace;
            let purpose = credential::KeyPurpose::JwtSvid.into();
            credential::RotateKeyRequest { purpose, reason: "a test".into(), ..Default::default() }
        }),
    );
    case(
        "/legate.credential.v1.KeyAdminService/TaintKey",
        call!(issuer, KeyAdmins, taint_key, |ask| {
            let _nothing_of_it = &ask.namespace;
            credential::TaintKeyRequest { kid: "nobodys".into(), reason: "a test".into() }
        }),
    );
    case(
        "/legate.credential.v1.KeyAdminService/RetireKey",
        call!(issuer, KeyAdmins, retire_key, |ask| {
            let _nothing_of_it = &ask.namespace;
            credential::RetireKeyRequest { kid: "nobodys".into(), reason: "a test".into(), ..Default::default() }
        }),
    );
    case(
        "/legate.credential.v1.KeyService/GetJwks",
        call!(issuer, Keys, get_jwks, |ask| {
            let _nothing_of_it = &ask.namespace;
            credential::GetJwksRequest {}
        }),
    );
    case(
        "/legate.credential.v1.KeyService/GetTrustBundle",
        call!(issuer, Keys, get_trust_bundle, |ask| {
            let _nothing_of_it = &ask.namespace;
            credential::GetTrustBundleRequest {}
        }),
    );
}
