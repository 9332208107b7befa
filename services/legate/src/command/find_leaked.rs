//! `legate credential find`: whose it is what was found in a repository, a log or a message, whether it works, and its end.

use std::io::Read as _;
use std::path::Path;

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use legate_client::RuntimeKey;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::find_leaked_request::Found;
use legate_wire::credential::{FindLeakedRequest, FindLeakedResponse};

use super::Desk;
use crate::error::FILE_REFUSED;
use crate::leaked::{Candidate, What, candidates, public_half};
use crate::output::{Row, moment};
use crate::place::Service;
use crate::{Exit, Failure, proto};

/// The most that is read, in bytes.
const LARGEST: u64 = 4 << 20;
/// The most that is asked about in one go.
const MOST: usize = 256;

pub(super) async fn run(desk: Desk, file: &Path, revoke: bool, why: Option<String>) -> Result<Exit, Failure> {
    let (text, comment) = (read(file)?, why.unwrap_or_default());
    let mut all = candidates(&text);
    let more = all.len().saturating_sub(MOST);
    all.truncate(MOST);
    let issuer = desk.line(Service::Issuer)?;
    let (mut rows, mut live) = (Vec::new(), 0);
    for one in all {
        let Some(found) = found(&one.what) else {
            rows.push(unreadable(&one));
            continue;
        };
        let request = FindLeakedRequest { found: Some(found), revoke, comment: comment.clone() };
        let answer = issuer
            .ask(request, |c, r| async move { CredentialAdminServiceClient::new(c).find_leaked(r).await })
            .await?;
        live += usize::from(answer.works);
        rows.push(row(one.line, &answer));
    }
    let mut note = match rows.len() {
        0 => "nothing in it looks like a secret, token, certificate or key of Legate".to_owned(),
        n => format!("{n} found; {live} of them work"),
    };
    if more > 0 {
        note.push_str(&format!("; {more} more were not looked at"));
    }
    let mut out = desk.out();
    if out.is_table() {
        out.rows(&proto::dynamic(&FindLeakedResponse::default()), &rows, &note)?;
    } else {
        out.items(&rows)?;
    }
    // For whoever runs it before something is published.
    Ok(if live > 0 { Exit::Unverified } else { Exit::Done })
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let done = if file == Path::new("-") {
        std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
    };
    done.map_err(|e| Failure::file(file, e))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Failure::local(
            &FILE_REFUSED,
            format!("{} is larger than 4 MiB; give a part of it", file.display()),
        ));
    }
    // What is no text may hold some.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What is asked: of a private key only its public half leaves this process.
fn found(what: &What) -> Option<Found> {
    match what {
        What::Text(text) => Some(Found::Text(text.clone())),
        What::Jwk(jwk) => public_half(jwk).map(Found::PublicJwk),
        What::Pem(label, pem) => match label.as_str() {
            "CERTIFICATE" => der(pem).map(Found::Certificate),
            "PRIVATE KEY" => RuntimeKey::from_pem(pem).and_then(|key| key.to_public_jwk()).ok().map(Found::PublicJwk),
            "PUBLIC KEY" => der(pem).and_then(|der| point(&der)).map(Found::PublicJwk),
            _ => None,
        },
    }
}

fn der(pem: &str) -> Option<Vec<u8>> {
    let body: String = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
    Base64::decode_vec(&body).ok()
}

/// The JWK of a SubjectPublicKeyInfo on P-256 (RFC 5480): a fixed head, then the uncompressed point.
fn point(spki: &[u8]) -> Option<String> {
    let point = spki.get(26..).filter(|point| point.len() == 65 && point[0] == 4)?;
    let part = |at: std::ops::Range<usize>| Base64UrlUnpadded::encode_string(&point[at]);
    Some(serde_json::json!({"kty": "EC", "crv": "P-256", "x": part(1..33), "y": part(33..65)}).to_string())
}

fn row(line: usize, of: &FindLeakedResponse) -> Row {
    let kind = proto::word(of.kind().as_str_name(), "LEAKED_KIND_");
    let verdict = match (of.known, of.works, of.revoked) {
        (false, ..) => "unknown here",
        (true, _, true) => "revoked now",
        (true, true, false) => "WORKS",
        (true, false, false) => "works no longer",
    };
    let ids = of.credentials.iter().map(|one| one.id.clone());
    let key = of.key.clone().unwrap_or_default().kid;
    let ids = ids.chain([of.enrolment_id.clone(), of.token_id.clone(), key]).filter(|id| !id.is_empty());
    Row {
        cells: vec![
            ("LINE", false, line.to_string()),
            ("WHAT", false, kind.to_string()),
            ("VERDICT", false, verdict.to_owned()),
            ("HOLDER", false, of.spiffe_id.clone()),
            ("OWNERS", false, of.owners.join(", ")),
            ("RECORD", false, ids.collect::<Vec<_>>().join(", ")),
            ("ENDS", true, moment(of.expire_time.as_ref())),
            ("WHY", true, of.why_not.clone()),
            ("WHAT TO DO", false, of.advice.clone()),
        ],
        name: line.to_string(),
        message: proto::dynamic(of),
        node: None,
    }
}

fn unreadable(of: &Candidate) -> Row {
    let label = match &of.what {
        What::Pem(label, _) => label.clone(),
        What::Text(_) | What::Jwk(_) => "JWK".to_owned(),
    };
    let answer = FindLeakedResponse::default();
    let mut row = row(of.line, &answer);
    row.cells[1].2 = label;
    row.cells[2].2 = "not read: no certificate, PKCS #8 key or public key on P-256".to_owned();
    row
}
