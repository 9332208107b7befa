//! Alerts go out: signed, in order, again until they are taken, and not around the guard.

use std::sync::Arc;

use aws_lc_rs::hmac;
use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use base64ct::{Base64, Encoding as _};
use legate_audit_collector::{Config, WebhookConfig};
use tokio::sync::mpsc;

use crate::alerts::{alerts, config, declare, told, turned};
use crate::house::{EPOCH, House, LONG, send};

const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Headers and body of what came to `/hook`; what comes elsewhere has no headers.
type Message = (HeaderMap, String);

/// A receiver on this machine that answers so, one after the other, and then with 204.
async fn receiver(answers: Vec<StatusCode>) -> (String, mpsc::UnboundedReceiver<Message>) {
    let (out, messages) = mpsc::unbounded_channel();
    let astray = out.clone();
    let answers = Arc::new(std::sync::Mutex::new(answers.into_iter()));
    let hook = post(move |headers: HeaderMap, body: String| async move {
        let status = answers.lock().unwrap().next().unwrap_or(StatusCode::NO_CONTENT);
        out.send((headers, body)).unwrap();
        (status, [(header::LOCATION, "/elsewhere")])
    });
    let elsewhere = post(move |body: String| async move {
        astray.send((HeaderMap::new(), body)).unwrap();
        StatusCode::NO_CONTENT
    });
    let app = Router::new().route("/hook", hook).route("/elsewhere", elsewhere);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, messages)
}

fn to(house: &House, url: &str) -> Config {
    let secret_file = house.log_dir().with_extension("secret");
    if !secret_file.exists() {
        legate_mtls::pki::write_private(&secret_file, &format!("whsec_{SECRET}\n")).unwrap();
    }
    let webhook = WebhookConfig { url: Some(url.into()), secret_file: Some(secret_file), ..WebhookConfig::default() };
    Config { webhook, ..config(house) }
}

async fn next(messages: &mut mpsc::UnboundedReceiver<Message>) -> Message {
    tokio::time::timeout(LONG, messages.recv()).await.unwrap().unwrap()
}

/// The message is signed with the secret, as Standard Webhooks says.
fn is_signed((headers, body): &Message) {
    let of = |name: &str| headers[name].to_str().unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &Base64::decode_vec(SECRET).unwrap());
    let text = format!("{}.{}.{body}", of("webhook-id"), of("webhook-timestamp"));
    let signature = Base64::decode_vec(of("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    hmac::verify(&key, text.as_bytes(), &signature).unwrap();
    assert!(of("webhook-id").starts_with("evt_"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_sent_signed_until_it_is_taken_and_once_after_that() {
    let (house, clock) = turned();
    // Away, elsewhere, and only then there.
    let (url, mut messages) = receiver(vec![StatusCode::INTERNAL_SERVER_ERROR, StatusCode::TEMPORARY_REDIRECT]).await;
    let running = house.raise_with(to(&house, &url)).await;
    declare(&house, &running).await;
    let enforcer = house.enforcer();
    let mut ingest = house.ingest(&running, &enforcer);
    send(&mut ingest, EPOCH, 1, vec![told(&house, &enforcer, 1, |_| {})]).await.unwrap();
    let found = alerts(&house, &running, &clock, 2).await;
    let tries = [next(&mut messages).await, next(&mut messages).await, next(&mut messages).await];
    tries.iter().for_each(is_signed);
    assert!(
        tries.iter().all(|(headers, body)| headers["webhook-id"] == tries[0].0["webhook-id"] && *body == tries[0].1)
    );
    let second = next(&mut messages).await;
    is_signed(&second);
    assert!(second.0["webhook-id"] != tries[0].0["webhook-id"]);
    for alert in &found {
        let bodies = [&tries[0].1, &second.1];
        let body = bodies.into_iter().find(|body| body.contains(&alert.alert_id)).unwrap();
        assert!(body.contains("\"type\":\"alert.raised\"") && body.contains("\"namespace\":\"payments\""), "{body}");
        assert!(body.contains(&format!("\"rests_on\":[{}]", alert.leaf_indices[0])), "{body}");
    }
    running.shutdown().await;

    // After a restart there is nothing to send but what is new, and what was sent before nobody could note that it was taken.
    let running = house.raise_with(to(&house, &url)).await;
    let agents = house.agent();
    let mut ingest = house.ingest(&running, &agents);
    let another = told(&house, &agents, 1, |e| e.action = "invoice:shred".into());
    send(&mut ingest, EPOCH, 1, vec![another]).await.unwrap();
    alerts(&house, &running, &clock, 4).await;
    let mut third = next(&mut messages).await;
    if third.0["webhook-id"] == second.0["webhook-id"] {
        assert_eq!(third.1, second.1);
        third = next(&mut messages).await;
    }
    assert!(third.1.contains("invoice:shred"), "{}", third.1);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lifecycle_policies_say_beforehand_is_sent_as_the_registry_tells_it_and_as_nobody_else_does() {
    let (house, _) = turned();
    let (url, mut messages) = receiver(Vec::new()).await;
    let running = house.raise_with(to(&house, &url)).await;
    declare(&house, &running).await;
    let notice = |who: &legate_mtls::Identity, seq: u64| {
        told(&house, who, seq, |e| {
            e.r#type = "agent.lifecycle_due".into();
            e.reason = format!("lifecycle policy payments/tidy: told by {seq}");
            e.resource.as_mut().unwrap().id = "invoice-bot".into();
            let details = [
                ("policy", "tidy"),
                ("action", "SUSPEND"),
                ("rule", "UNATTESTED"),
                ("below", "1: a-bot"),
                ("other", "x"),
            ];
            e.details = details.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        })
    };
    // Another service says so first, which counts for nothing.
    let issuer = house.service("credential-issuer");
    send(&mut house.ingest(&running, &issuer), EPOCH, 1, vec![notice(&issuer, 1)]).await.unwrap();
    let registry = house.service("registry");
    send(&mut house.ingest(&running, &registry), EPOCH, 6, vec![notice(&registry, 6)]).await.unwrap();
    let message = loop {
        let message = next(&mut messages).await;
        is_signed(&message);
        // That the other one told it is an alert.
        if !message.1.contains("FORGED_EVENT") {
            break message;
        }
    };
    for part in [
        "\"type\":\"agent.lifecycle_due\"",
        "\"agent\":\"invoice-bot\"",
        "\"policy\":\"tidy\"",
        "\"action\":\"SUSPEND\"",
        "\"below\":\"1: a-bot\"",
        "told by 6",
    ] {
        assert!(message.1.contains(part), "{part}: {}", message.1);
    }
    assert!(!message.1.contains("other"), "{}", message.1);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_none_keeps_the_collector_from_starting() {
    let (house, _) = turned();
    for url in ["http://alerts.example.org/", "https://user@alerts.example.org/", "alerts"] {
        let refused = house.try_raise(to(&house, url)).await.unwrap_err();
        assert!(format!("{refused:?} {refused}").contains("webhook"), "{refused:?}");
    }
}
