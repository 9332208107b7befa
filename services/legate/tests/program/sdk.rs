//! The SDK's source of tokens, against a running suite.

use std::sync::Arc;
use std::time::Duration;

use legate_client::{Remote, Runtime, TokenSource};
use legate_clock::{Clock, SystemClock, TestClock};
use legate_ids::TrustDomain;
use legate_mtls::{Identity, Trust};

use crate::house::{AGENT, House};

const AUDIENCE: &str = "https://invoices.example.com";

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_used_while_it_is_fresh_and_belongs_to_the_certificate() {
    let home = tempfile::tempdir().unwrap();
    let (house, bot) = tokio::task::spawn_blocking(move || {
        let house = House::raise(&home.path().join("dev"));
        house.declare();
        let bot = home.path().join("bot");
        house.enrol(&bot);
        ((house, home), bot)
    })
    .await
    .unwrap();
    let (house, _home) = house;
    let domain = TrustDomain::parse("dev.legate").unwrap();
    let issuer = Remote {
        endpoint: house.env("LEGATE_ISSUER").to_owned(),
        trust: Trust::from_files(domain, &house.dir.join("ca.pem"), None).unwrap(),
        service: "credential-issuer",
    };
    let file = bot.join("identity.pem");
    let runtime = Runtime::new(&issuer, Identity::from_files(&file, &file).unwrap()).unwrap();
    let clock = TestClock::at(SystemClock::new().now());
    let tokens = Arc::new(TokenSource::new(runtime.clone(), clock.clone()));

    let same = futures_util::future::join_all((0..20).map(|_| tokens.token(AUDIENCE))).await;
    let first = same[0].as_ref().unwrap().clone();
    assert!(same.iter().all(|t| *t.as_ref().unwrap() == first), "callers at one moment share one request");
    clock.advance(Duration::from_secs(140));
    assert_eq!(tokens.token(AUDIENCE).await.unwrap(), first, "used for half of 300 s");
    clock.advance(Duration::from_secs(20));
    let second = tokens.token(AUDIENCE).await.unwrap();
    assert_ne!(second, first);
    runtime.renew().await.unwrap();
    let third = tokens.token(AUDIENCE).await.unwrap();
    assert_ne!(third, second, "the old token is bound to the old certificate");
    tokens.forget(AUDIENCE).await;
    assert_ne!(tokens.token(AUDIENCE).await.unwrap(), third);

    let house = Arc::new(house);
    let stopping = Arc::clone(&house);
    let suspend = move || stopping.run(&["agent", "suspend", AGENT, "--reason", "odd reads"]).with(0);
    tokio::task::spawn_blocking(suspend).await.unwrap();
    clock.advance(Duration::from_secs(280));
    let refused = tokens.token(AUDIENCE).await.unwrap_err();
    assert!(refused.is_refusal() && refused.reason() == "CALLER_NOT_ACTIVE", "{refused}");
    assert!(!format!("{tokens:?}").contains(third.as_str()));
}
