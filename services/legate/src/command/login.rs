//! `legate login`: prove by an identity provider who you are, and be that operator for a while.

use std::path::Path;

use legate_client::login;
use legate_mtls::{Identity, pki};
use legate_wire::credential::LoginRequest;

use super::Desk;
use super::credential::secret_in;
use crate::cli::Login;
use crate::error::{FILE_REFUSED, USAGE};
use crate::output::{Row, moment, say};
use crate::place::Service;
use crate::{Exit, Failure, proto};

pub(super) async fn run(desk: Desk, args: Login) -> Result<Exit, Failure> {
    let token = token_in(args.token_file.as_deref(), args.token_env.as_deref())?;
    let refused = |e: legate_mtls::TlsError| Failure::local(&FILE_REFUSED, e.to_string());
    let out = desk.place.login_file()?;
    // Made before the token is spent, so that a full or foreign disk costs none.
    let dir = out.parent().unwrap_or(&out);
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| Failure::file(dir, e))?;
    let probe = dir.join(".probe");
    pki::write_private(&probe, "").map_err(refused)?;
    std::fs::remove_file(&probe).map_err(|e| Failure::file(&probe, e))?;

    // Whoever logs in shows no certificate; an old one only tells the trust domain where nobody says it.
    let known = desk.place.operator().unwrap_or_else(|_| Identity::anonymous());
    let issuer = desk.place.remote(Service::Issuer, &known)?;
    if desk.show {
        say(&proto::shown(&LoginRequest { token: token.clone(), csr: Vec::new() }));
    }
    let logged_in =
        login(&issuer, &token).await.map_err(|e| Failure::client(Service::Issuer.name(), &issuer.endpoint, e))?;
    let key = logged_in.key.to_pem();
    pki::write_private(&out, &format!("{}{}", &*key, logged_in.chain_pem)).map_err(refused)?;
    let credential = &logged_in.credential;
    let row =
        Row { cells: Vec::new(), name: credential.spiffe_id.clone(), message: proto::dynamic(credential), node: None };
    let details = [
        ("you are", credential.spiffe_id.clone()),
        ("until", moment(credential.not_after.as_ref())),
        ("identity", format!("{} (private key and certificate, mode 0600)", out.display())),
        ("", "Commands use it where neither --cert nor --key is said; legate whoami shows your roles".to_owned()),
    ];
    desk.out().one(&row.message, &row, &details)?;
    Ok(Exit::Done)
}

/// A token of an issuer outside, from a file or from the environment.
pub(super) fn token_in(file: Option<&Path>, variable: Option<&str>) -> Result<String, Failure> {
    match (file, variable) {
        (Some(file), _) => secret_in(file),
        (None, Some(name)) => match std::env::var(name) {
            Ok(token) if !token.trim().is_empty() => Ok(token.trim().to_owned()),
            _ => Err(Failure::local(&USAGE, format!("the environment variable {name} holds no token"))),
        },
        (None, None) => Err(Failure::local(&USAGE, "say where the token is: --token-file or --token-env")),
    }
}
