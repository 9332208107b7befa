//! Tokens: forged, foreign, old, stolen, narrowed, and those of an earlier life.

use base64ct::Encoding as _;
use legate_ids::Action;
use legate_token::{Claims, Confirmation, Scope, mint};
use legate_wire::registry as wire;
use legate_wire::registry::declaration::Object;

use crate::convert::{Ask, Subject};
use crate::domain::answer::Denial;
use crate::testing::*;

async fn with(stage: &Stage, change: impl FnOnce(&mut Claims)) -> &'static str {
    let mut claims = stage.claims();
    change(&mut claims);
    stage.word(stage.with_token(mint(&claims, &stage.signer).unwrap())).await
}

#[tokio::test]
async fn every_claim_is_judged() {
    let stage = Stage::set().await;
    assert_eq!(with(&stage, |_| ()).await, "ALLOWED");
    assert_eq!(with(&stage, |c| c.issuer = "https://evil.example.com".into()).await, "TOKEN_INVALID");
    assert_eq!(with(&stage, |c| c.audience = "https://invoices.example".into()).await, "TOKEN_AUDIENCE");
    assert_eq!(with(&stage, |c| c.audience = format!("{AUDIENCE}/more")).await, "TOKEN_AUDIENCE");
    assert_eq!(with(&stage, |c| c.lifecycle_version = 2).await, "TOKEN_OUTLIVED");
    assert_eq!(with(&stage, |c| c.lifecycle_version = 0).await, "TOKEN_OUTLIVED");
    assert_eq!(with(&stage, |c| c.confirmation = Confirmation::Certificate([8; 32])).await, "TOKEN_BINDING");
    assert_eq!(with(&stage, |c| c.confirmation = Confirmation::Key([7; 32])).await, "TOKEN_BINDING");
    assert_eq!(with(&stage, |c| c.confirmation = Confirmation::Bearer).await, "TOKEN_BINDING");
    assert_eq!(
        with(&stage, |c| {
            c.agent = agent_id(99);
            c.subject = subject(99);
        })
        .await,
        "AGENT_UNKNOWN"
    );
    let read = Action::parse("invoice:read").unwrap();
    let list = Action::parse("invoice:list").unwrap();
    assert_eq!(with(&stage, |c| c.scope = Scope::Actions([read].into_iter().collect())).await, "ALLOWED");
    assert_eq!(with(&stage, |c| c.scope = Scope::Actions([list].into_iter().collect())).await, "TOKEN_SCOPE");
    // Details narrow, and never give what the agent may not.
    for (detail, expected) in [
        (r#""actions":["invoice:read"],"datatypes":["Invoice"],"identifier":"apollo/*""#, "ALLOWED"),
        (r#""identifier":"zeus/*""#, "TOKEN_SCOPE"),
        (r#""datatypes":["Order"]"#, "TOKEN_SCOPE"),
        (r#""actions":["invoice:pay"]"#, "TOKEN_SCOPE"),
        (r#""locations":["https://elsewhere.example"]"#, "TOKEN_SCOPE"),
    ] {
        let details = legate_token::Details::read(&format!(r#"[{{"type":"legate",{detail}}}]"#)).unwrap();
        assert_eq!(with(&stage, |c| c.details = details).await, expected, "{detail}");
    }
}

#[tokio::test]
async fn its_time_is_judged_at_every_call_though_its_signature_is_remembered() {
    let mut stage = Stage::set().await;
    let token = mint(&stage.claims(), &stage.signer).unwrap();
    assert_eq!(stage.word(stage.with_token(token.clone())).await, "ALLOWED");
    assert_eq!(stage.desk.tokens.len(), 1);
    stage.pass(std::time::Duration::from_secs(304)).await;
    assert_eq!(stage.word(stage.with_token(token.clone())).await, "ALLOWED", "within five seconds of leeway");
    stage.pass(std::time::Duration::from_secs(1)).await;
    assert_eq!(stage.word(stage.with_token(token)).await, "TOKEN_EXPIRED");
    let secs = u64::try_from(NOW).unwrap();
    let early = |c: &mut Claims| (c.issued_at, c.expires_at) = (secs + 400, secs + 500);
    assert_eq!(with(&stage, early).await, "TOKEN_EXPIRED", "not valid yet");
}

#[tokio::test]
async fn forged_and_foreign_ones_are_not_believed() {
    let stage = Stage::set().await;
    let good = mint(&stage.claims(), &stage.signer).unwrap();
    let stranger = mint(&stage.claims(), &signer(2)).unwrap();
    assert_eq!(stage.word(stage.with_token(stranger)).await, "TOKEN_KEY_UNKNOWN");
    let parts: Vec<&str> = good.split('.').collect();
    let base64 = |text: &str| base64ct::Base64UrlUnpadded::encode_string(text.as_bytes());
    let none = format!("{}.{}.", base64(r#"{"alg":"none","typ":"at+jwt"}"#), parts[1]);
    let stripped = format!("{}.{}.", parts[0], parts[1]);
    // Another agent's claims under this one's signature.
    let mut claims = stage.claims();
    (claims.agent, claims.subject) = (agent_id(2), subject(2));
    let other = mint(&claims, &stage.signer).unwrap();
    let mixed = format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2]);
    let mut flipped = good.clone().into_bytes();
    let at = flipped.len() - 10;
    flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
    for bad in [
        "",
        ".",
        "..",
        "x.y.z",
        &none,
        &stripped,
        &mixed,
        &String::from_utf8(flipped).unwrap(),
        &good[1..],
        &format!("{good} "),
        &format!("{good}.x"),
    ] {
        // Twice, since a memory must not make it better.
        for _ in 0..2 {
            let spoken = stage.ask(&enforcer("invoices"), stage.with_token(bad.to_owned())).await;
            assert_eq!(spoken.answer.word(), "TOKEN_INVALID", "{bad}");
            assert_eq!(spoken.answer.denied.unwrap().kind(), Denial::NotPermitted);
        }
    }
}

#[tokio::test]
async fn nobody_but_its_holder_can_show_it() {
    let stage = Stage::set().await;
    for presenter in [None, Some([0; 32]), Some([8; 32])] {
        let mut ask = stage.good();
        ask.presenter = presenter;
        assert_eq!(stage.word(ask).await, "TOKEN_BINDING");
    }
}

#[tokio::test]
async fn a_revoked_certificate_kills_the_tokens_bound_to_it() {
    let mut stage = Stage::set().await;
    let spec = wire::RevocationSpec {
        credential_id: legate_ids::CredentialId::from_parts(1, [1; 10]).to_string(),
        x5t_s256: CERTIFICATE.to_vec(),
        ..wire::RevocationSpec::default()
    };
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    let revocation = wire::Revocation { metadata: meta("cred-1"), spec: Some(spec) };
    stage.change(vec![(declared(Object::Revocation(revocation)), false)]).await;
    assert_eq!(stage.word(stage.good()).await, "CREDENTIAL_REVOKED");
}

#[tokio::test]
async fn one_revoked_token_is_denied_and_so_is_what_a_revoked_secret_gave() {
    let mut stage = Stage::set().await;
    let secret = legate_ids::CredentialId::from_parts(1, [9; 10]);
    let by_secret = |claims: &mut Claims| claims.credential = Some(secret.clone());
    assert_eq!(with(&stage, by_secret).await, "ALLOWED");
    let spec = wire::RevocationSpec { token_id: stage.claims().token_id, ..wire::RevocationSpec::default() };
    let one = wire::Revocation { metadata: meta("token-1"), spec: Some(spec) };
    stage.change(vec![(declared(Object::Revocation(one.clone())), false)]).await;
    assert_eq!(stage.word(stage.good()).await, "CREDENTIAL_REVOKED");
    let another = |claims: &mut Claims| claims.token_id = "another-token-of-the-same-agent".into();
    assert_eq!(with(&stage, another).await, "ALLOWED");
    // Forgotten once it would have ended by itself.
    stage.change(vec![(declared(Object::Revocation(one)), true)]).await;
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");

    let spec = wire::RevocationSpec { credential_id: secret.to_string(), ..wire::RevocationSpec::default() };
    let revoked = wire::Revocation { metadata: meta("cred-9"), spec: Some(spec) };
    stage.change(vec![(declared(Object::Revocation(revoked)), false)]).await;
    assert_eq!(with(&stage, by_secret).await, "CREDENTIAL_REVOKED");
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
}

#[tokio::test]
async fn a_token_is_bound_to_a_key_or_to_nothing_as_long_as_the_policy_allows_that() {
    let mut stage = Stage::set().await;
    let minted = |stage: &Stage, confirmation| mint(&Claims { confirmation, ..stage.claims() }, &stage.signer).unwrap();
    let shown = async |stage: &Stage, token: &str, presenter, presenter_key| {
        stage.word(Ask { presenter, presenter_key, ..stage.with_token(token.into()) }).await
    };
    let bound = minted(&stage, Confirmation::Key([7; 32]));
    assert_eq!(shown(&stage, &bound, None, Some([7; 32])).await, "ALLOWED");
    for (certificate, key) in [(None, None), (None, Some([8; 32])), (Some([7; 32]), None), (Some(CERTIFICATE), None)] {
        assert_eq!(shown(&stage, &bound, certificate, key).await, "TOKEN_BINDING");
    }
    let by_certificate = minted(&stage, Confirmation::Certificate(CERTIFICATE));
    assert_eq!(shown(&stage, &by_certificate, None, Some(CERTIFICATE)).await, "TOKEN_BINDING");

    let bearer = minted(&stage, Confirmation::Bearer);
    assert_eq!(shown(&stage, &bearer, Some(CERTIFICATE), Some([7; 32])).await, "TOKEN_BINDING");
    let policy = |binding: wire::TokenBinding| {
        let spec =
            wire::CredentialPolicySpec { token_binding: binding.into(), ..wire::CredentialPolicySpec::default() };
        declared(Object::CredentialPolicy(wire::CredentialPolicy { metadata: meta("loose"), spec: Some(spec) }))
    };
    let class = everything(&stage.signer).into_iter().find_map(|one| match one.object {
        Some(Object::AgentClass(mut class)) => {
            class.spec.as_mut()?.credential_policy = "loose".into();
            Some(declared(Object::AgentClass(class)))
        }
        _ => None,
    });
    stage.change(vec![(policy(wire::TokenBinding::Optional), false), (class.unwrap(), false)]).await;
    assert_eq!(shown(&stage, &bearer, None, None).await, "ALLOWED");
    stage.change(vec![(policy(wire::TokenBinding::Required), false)]).await;
    assert_eq!(shown(&stage, &bearer, None, None).await, "TOKEN_BINDING");
}

#[tokio::test]
async fn nothing_of_an_earlier_life_works_after_reactivation() {
    let mut stage = Stage::set().await;
    let old = mint(&stage.claims(), &stage.signer).unwrap();
    assert_eq!(stage.word(stage.with_token(old.clone())).await, "ALLOWED");
    let cutoff = Some(prost_types::Timestamp { seconds: NOW + 2, nanos: 500_000_000 });
    let resumed = agent(1, |a| {
        let status = a.status.as_mut().unwrap();
        (status.lifecycle_version, status.authorization_cutoff) = (3, cutoff);
    });
    stage.change(vec![(resumed, false)]).await;
    assert_eq!(stage.word(stage.with_token(old)).await, "TOKEN_OUTLIVED");
    // One with the right version that was made before the cut-off, as in a race, is dead as well.
    assert_eq!(with(&stage, |c| c.lifecycle_version = 3).await, "TOKEN_OUTLIVED");
    stage.pass(std::time::Duration::from_secs(3)).await;
    assert_eq!(with(&stage, |c| c.lifecycle_version = 3).await, "ALLOWED");
}

#[tokio::test]
async fn a_key_that_is_taken_back_or_out_of_its_time_verifies_nothing() {
    let mut stage = Stage::set().await;
    let token = mint(&stage.claims(), &stage.signer).unwrap();
    assert_eq!(stage.word(stage.with_token(token.clone())).await, "ALLOWED");
    let at = |secs| Some(prost_types::Timestamp { seconds: secs, nanos: 0 });
    let key = signing_key(&stage.signer, |k| k.not_before = at(NOW + 1));
    stage.change(vec![(key, false)]).await;
    assert_eq!(stage.word(stage.with_token(token.clone())).await, "TOKEN_INVALID");
    let key = signing_key(&stage.signer, |k| k.not_after = at(NOW - 1));
    stage.change(vec![(key, false)]).await;
    assert_eq!(stage.word(stage.with_token(token.clone())).await, "TOKEN_INVALID");
    let key = signing_key(&stage.signer, |k| k.r#use = wire::SigningKeyUse::JwtSvid.into());
    stage.change(vec![(key, false)]).await;
    assert_eq!(stage.word(stage.with_token(token.clone())).await, "TOKEN_KEY_UNKNOWN");
    // Another key under the same name: the remembered check was made with the first.
    let key = signing_key(&stage.signer, |k| k.jwk = legate_token::EcSigner::public_key(&signer(2)).to_jwk());
    stage.change(vec![(key, false)]).await;
    assert_eq!(stage.word(stage.with_token(token.clone())).await, "TOKEN_KEY_UNKNOWN");
    let key = signing_key(&stage.signer, |_| ());
    stage.change(vec![(key, false)]).await;
    assert_eq!(stage.word(stage.with_token(token.clone())).await, "ALLOWED");
    // Compromised: whatever it signed is worth nothing, also where a clock here is behind that of whoever took it back.
    let key = signing_key(&stage.signer, |k| (k.revoke_time, k.not_after) = (at(NOW + 60), at(NOW + 60)));
    stage.change(vec![(key, false)]).await;
    assert_eq!(stage.word(stage.with_token(token.clone())).await, "TOKEN_KEY_UNKNOWN");
    let key = signing_key(&stage.signer, |_| ());
    stage.change(vec![(key, true)]).await;
    assert_eq!(stage.word(stage.with_token(token)).await, "TOKEN_KEY_UNKNOWN");
}

#[tokio::test]
async fn a_token_is_never_recorded() {
    let stage = Stage::set().await;
    let ask = stage.good();
    let Subject::Token(token) = &ask.subject else { panic!("no token") };
    let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    stage.word(ask).await;
    let told = format!("{:?}", stage.paper.events());
    assert!(parts.iter().all(|part| !told.contains(part)));
}
