//! `legate key`: which keys sign, let the next one sign, end one; what wraps them at rest; and the key of the audit log.

use legate_credential_issuer::{FileKeys, Kek, KeyError};
use legate_wire::credential::key_admin_service_client::KeyAdminServiceClient;
use legate_wire::credential::{
    Key, KeyPlace, KeyPurpose, KeyState, ListKeysRequest, ListKeysResponse, PrepareKeyRequest, RetireKeyRequest,
    RotateKeyRequest, TaintKeyRequest,
};

use super::Desk;
use super::agent::{PAGE, cut, note};
use crate::cli::{KeyVerb, Purpose, Rewrap};
use crate::error::{FILE_REFUSED, KEYS_IN_USE};
use crate::output::{Row, moment, say};
use crate::place::Service;
use crate::{Exit, Failure, proto};

pub(super) async fn run(desk: Desk, verb: KeyVerb) -> Result<Exit, Failure> {
    match verb {
        KeyVerb::List { purpose, with_ended, limit } => list(desk, purpose, with_ended, limit.limit).await,
        KeyVerb::Prepare { purpose, reason } => {
            let request = PrepareKeyRequest { purpose: of(purpose).into(), reason };
            let issuer = desk.line(Service::Issuer)?;
            let answer =
                issuer.ask(request, |c, r| async move { KeyAdminServiceClient::new(c).prepare_key(r).await }).await?;
            let key = answer.key.clone().unwrap_or_default();
            desk.out().one(&proto::dynamic(&answer), &row(&key), &details(&key))?;
            Ok(Exit::Done)
        }
        KeyVerb::Rotate { purpose, now, compromised, reason } => {
            let request = RotateKeyRequest { purpose: of(purpose).into(), now, compromised, reason };
            let issuer = desk.line(Service::Issuer)?;
            let answer =
                issuer.ask(request, |c, r| async move { KeyAdminServiceClient::new(c).rotate_key(r).await }).await?;
            let key = answer.key.clone().unwrap_or_default();
            let mut details = details(&key);
            for old in &answer.replaced {
                details.push(("in the place of", format!("{}, {} now", old.kid, state(old))));
            }
            desk.out().one(&proto::dynamic(&answer), &row(&key), &details)?;
            Ok(Exit::Done)
        }
        KeyVerb::Taint { kid, reason } => {
            let issuer = desk.line(Service::Issuer)?;
            let request = TaintKeyRequest { kid, reason };
            let answer =
                issuer.ask(request, |c, r| async move { KeyAdminServiceClient::new(c).taint_key(r).await }).await?;
            let key = answer.key.clone().unwrap_or_default();
            desk.out().one(&proto::dynamic(&answer), &row(&key), &details(&key))?;
            Ok(Exit::Done)
        }
        KeyVerb::Retire { kid, compromised, reason } => {
            let issuer = desk.line(Service::Issuer)?;
            let request = RetireKeyRequest { kid, compromised, reason };
            let answer =
                issuer.ask(request, |c, r| async move { KeyAdminServiceClient::new(c).retire_key(r).await }).await?;
            let key = answer.key.clone().unwrap_or_default();
            let mut details = details(&key);
            if let Some(active) = &answer.active {
                details.push(("signs now", active.kid.clone()));
            }
            desk.out().one(&proto::dynamic(&answer), &row(&key), &details)?;
            Ok(Exit::Done)
        }
        KeyVerb::MakeKek { kek } => {
            if kek.symlink_metadata().is_ok() {
                let what = format!("{} is there already; legate key rewrap adds a version to it", kek.display());
                return Err(Failure::local(&FILE_REFUSED, what));
            }
            Kek::add(&kek).map_err(refused)?;
            say(&format!(
                "{} is made. Keep a copy where those of the keys and of the database are not.",
                kek.display()
            ));
            Ok(Exit::Done)
        }
        KeyVerb::RotateLog { dir, reason } => {
            let made = legate_audit_collector::prepare_log_key(&dir, &reason);
            let made = made.map_err(|e| Failure::local(&FILE_REFUSED, e.to_string()))?;
            let mut out = desk.out();
            out.line(&made)?;
            out.flush()?;
            say(
                "Give this verifier key to whoever verifies the log and to its witnesses. Where collectors share the log, copy log.key.next \
                 into the directory of each, mode 0600. Then restart audit-collector: the key follows on the one before from there on.",
            );
            Ok(Exit::Done)
        }
        KeyVerb::Rewrap(ask) => rewrap(&ask),
    }
}

fn refused(e: impl Into<KeyError>) -> Failure {
    let e = e.into();
    let reason = if matches!(e, KeyError::InUse { .. }) { &KEYS_IN_USE } else { &FILE_REFUSED };
    Failure::local(reason, e.to_string())
}

fn rewrap(ask: &Rewrap) -> Result<Exit, Failure> {
    if !ask.dir.is_dir() {
        return Err(Failure::local(&FILE_REFUSED, format!("{}: there is no such directory", ask.dir.display())));
    }
    // Before anything is changed: everything opens with what there is.
    let keys = FileKeys::new(&ask.dir, Kek::open(&ask.kek).map_err(refused)?).map_err(refused)?;
    if ask.drop_old {
        let found = keys.drop_old(&ask.kek).map_err(refused)?;
        say(&format!("{} secrets are under the one version that is left", found.changed + found.kept));
        return Ok(Exit::Done);
    }
    keys.rewrap().map_err(refused)?;
    let version = Kek::add(&ask.kek).map_err(refused)?;
    let keys = FileKeys::new(&ask.dir, Kek::open(&ask.kek).map_err(refused)?).map_err(refused)?;
    let found = keys.rewrap().map_err(refused)?;
    say(&format!(
        "{} secrets are under version {version}. A credential-issuer that runs takes it up within seconds; one to which systemd hands it \
         has to be restarted. Then drop the old version: legate key rewrap --drop-old",
        found.changed
    ));
    Ok(Exit::Done)
}

async fn list(desk: Desk, purpose: Option<Purpose>, with_ended: bool, limit: usize) -> Result<Exit, Failure> {
    let mut request = ListKeysRequest {
        purpose: purpose.map_or(KeyPurpose::Unspecified, of).into(),
        with_ended,
        page_size: PAGE,
        page_token: String::new(),
    };
    let issuer = desk.line(Service::Issuer)?;
    let mut whole = ListKeysResponse::default();
    loop {
        let page =
            issuer.ask(request.clone(), |c, r| async move { KeyAdminServiceClient::new(c).list_keys(r).await }).await?;
        whole.keys.extend(page.keys);
        whole.next_page_token = page.next_page_token.clone();
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || (limit > 0 && whole.keys.len() >= limit) {
            break;
        }
    }
    let more = cut(&mut whole.keys, limit) || !whole.next_page_token.is_empty();
    let rows: Vec<Row> = whole.keys.iter().map(row).collect();
    let note = note(rows.len(), "key", more, 0);
    desk.out().rows(&proto::dynamic(&whole), &rows, &note)?;
    Ok(Exit::Done)
}

fn of(purpose: Purpose) -> KeyPurpose {
    match purpose {
        Purpose::AccessToken => KeyPurpose::AccessToken,
        Purpose::JwtSvid => KeyPurpose::JwtSvid,
        Purpose::WorkloadsCa => KeyPurpose::WorkloadsCa,
        Purpose::OperatorsCa => KeyPurpose::OperatorsCa,
    }
}

fn state(key: &Key) -> &'static str {
    proto::word(key.state().as_str_name(), "KEY_STATE_")
}

fn purpose(key: &Key) -> &'static str {
    proto::word(key.purpose().as_str_name(), "KEY_PURPOSE_")
}

/// What comes next for it.
fn next(key: &Key) -> String {
    match key.state() {
        KeyState::Prepared if key.usable_time.is_none() => "the registry is to confirm it".to_owned(),
        KeyState::Prepared => format!("may sign from {}", moment(key.usable_time.as_ref())),
        KeyState::Active if key.rotate_time.is_none() => "signs until somebody rotates".to_owned(),
        KeyState::Active => format!("signs until {}", moment(key.rotate_time.as_ref())),
        KeyState::Retiring | KeyState::Tainted => format!("verifies until {}", moment(key.end_time.as_ref())),
        KeyState::Retired | KeyState::Revoked => format!("over since {}", moment(key.retire_time.as_ref())),
        KeyState::Unspecified => String::new(),
    }
}

/// Where its private half lies.
fn place(key: &Key) -> String {
    match key.place() {
        KeyPlace::Pkcs11 => format!("token {:?}", key.token),
        KeyPlace::Unspecified => String::new(),
        place => proto::word(place.as_str_name(), "KEY_PLACE_").to_lowercase(),
    }
}

fn row(key: &Key) -> Row {
    Row {
        cells: vec![
            ("KEY", false, key.kid.clone()),
            ("PURPOSE", false, purpose(key).into()),
            ("STATE", false, state(key).into()),
            ("LIES IN", false, place(key)),
            ("NEXT", false, next(key)),
            ("MADE", true, moment(key.prepare_time.as_ref())),
            ("SIGNED FROM", true, moment(key.activate_time.as_ref())),
            ("PUBLISHED", true, if key.is_published { "yes" } else { "no" }.into()),
        ],
        name: key.kid.clone(),
        message: proto::dynamic(key),
        node: None,
    }
}

fn details(key: &Key) -> Vec<(&'static str, String)> {
    let mut details = vec![
        ("key", key.kid.clone()),
        ("purpose", purpose(key).into()),
        ("state", state(key).into()),
        ("lies in", place(key)),
        ("next", next(key)),
        ("made", moment(key.prepare_time.as_ref())),
    ];
    if key.activate_time.is_some() {
        details.push(("signed from", moment(key.activate_time.as_ref())));
    }
    details
}
