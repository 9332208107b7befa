//! Every metric that a service tells is documented, and dashboards and alerts ask for metrics and labels that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use legate_wire::credential::FindLeakedRequest;
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::find_leaked_request::Found;
use legate_wire::envoy::CheckRequest;
use legate_wire::envoy::authorization_client::AuthorizationClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::SERVICES;
use crate::asking::{Shown, ask, at_least, question};
use crate::blessed::{compare_part, read};
use crate::raised::{AUDIENCE, Raised};

/// One family of metrics, as OpenMetrics tells it.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
    services: Vec<&'static str>,
    /// The names of its series, such as `..._total`.
    series: BTreeSet<String>,
}

/// What a service tells on its probe port.
async fn metrics(raised: &Raised, service: &str) -> String {
    let address = raised.suite.running(service).unwrap().probes_addr().unwrap();
    let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    tcp.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    tcp.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.trim_end().ends_with("# EOF"), "{text}");
    text
}

/// The names in `{a="b",c="d"}`, outside of the quotes.
fn labels(braces: &str) -> impl Iterator<Item = String> {
    let outside = braces.split('"').step_by(2).map(|part| part.trim_matches(|c| ",{}=!~ ".contains(c)).to_owned());
    outside.filter(|name| !name.is_empty()).collect::<Vec<_>>().into_iter()
}

fn families(service: &'static str, text: &str, into: &mut BTreeMap<String, Family>) {
    let mut current = String::new();
    for line in text.lines() {
        if let Some(told) = line.strip_prefix("# HELP ") {
            let (name, help) = told.split_once(' ').unwrap();
            current = name.to_owned();
            let family = into.entry(current.clone()).or_default();
            help.trim_end_matches('.').clone_into(&mut family.help);
            family.services.push(service);
        } else if let Some(told) = line.strip_prefix("# TYPE ") {
            let (name, kind) = told.split_once(' ').unwrap();
            kind.clone_into(&mut into.get_mut(name).unwrap().kind);
        } else if line.starts_with("legate_") {
            let family = into.get_mut(&current).unwrap();
            let end = line.find(['{', ' ']).unwrap();
            family.series.insert(line[..end].to_owned());
            if let Some((braces, _)) = line[end..].rsplit_once('}') {
                family.labels.extend(labels(braces).filter(|l| l != "le"));
            }
        }
    }
}

/// A suite that has done something of everything.
async fn busy() -> Raised {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let token = payments.runtime.token(AUDIENCE).await.unwrap();
    let shown = Shown { token: token.access_token, presenter: payments.runtime.identity().x5t_s256().unwrap() };
    let backend = raised.dial("policy-decision", payments.backend.clone());
    ask(&backend, at_least(question(&shown, "invoice:read", "apollo/1"), token.revision)).await;
    ask(&backend, question(&shown, "invoice:read", "zeus/1")).await;
    // A request about which there is nothing to decide.
    AuthorizationClient::new(backend.clone()).check(CheckRequest::default()).await.unwrap();
    payments.runtime.token("https://nobody.example.com").await.unwrap_err();
    crate::oauth::use_a_retired_secret(&raised).await;
    crate::explaining::ask_what_the_agent_can(&raised).await;
    let leaked = raised.enrolment_token(Holder::AgentId(crate::raised::id_of(&payments.agent))).await;
    let request = FindLeakedRequest { found: Some(Found::Text(leaked)), ..FindLeakedRequest::default() };
    let mut admin = CredentialAdminServiceClient::new(raised.operator("credential-issuer"));
    assert!(admin.find_leaked(request).await.unwrap().into_inner().works);
    raised.wait_for_record(1).await;
    raised
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_documented_and_what_asks_for_them_asks_for_such() {
    let raised = busy().await;
    let mut all: BTreeMap<String, Family> = BTreeMap::new();
    let mut told = String::new();
    for service in SERVICES {
        let text = metrics(&raised, service).await;
        families(service, &text, &mut all);
        told += &text;
    }
    raised.suite.shutdown().await;

    let mut table = String::from("| metric | kind | labels | told by | what |\n|---|---|---|---|---|\n");
    for (name, family) in &all {
        assert!(name.starts_with("legate_") && !name.starts_with("legate_legate"), "{name}");
        let labels: Vec<&str> = family.labels.iter().map(String::as_str).collect();
        let by = if family.services.len() == SERVICES.len() { "all".to_owned() } else { family.services.join(", ") };
        let (kind, help) = (&family.kind, &family.help);
        writeln!(table, "| `{name}` | {kind} | {} | {by} | {help} |", labels.join(", ")).unwrap();
    }
    compare_part("docs/telemetry.md", "metrics", &table);

    let series: BTreeSet<&String> = all.values().flat_map(|family| &family.series).collect();
    let known: BTreeSet<&str> = all.values().flat_map(|family| &family.labels).map(String::as_str).collect();
    let mut asked = 0;
    for (place, expression) in expressions() {
        for name in words(&expression).filter(|word| word.starts_with("legate_")) {
            asked += 1;
            assert!(series.contains(&name), "{place} asks for {name}, which nobody tells: {expression}");
        }
        for method in expression.split('"').filter(|text| text.starts_with("/legate.")) {
            assert!(told.contains(&format!("method=\"{method}\"")), "{place} asks for the method {method}");
        }
        for label in labels_of(&expression) {
            let from_prometheus = matches!(label.as_str(), "instance" | "le" | "job");
            assert!(from_prometheus || known.contains(label.as_str()), "{place}: no label {label}: {expression}");
        }
    }
    assert!(asked > 20, "{asked} metrics are asked for");
}

fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|w| !w.is_empty()).map(str::to_owned)
}

/// The labels that an expression selects or groups by.
fn labels_of(expression: &str) -> Vec<String> {
    let selected = expression.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    let mut all: Vec<String> = selected.flat_map(|(inside, _)| labels(inside)).collect();
    let grouped = expression.split(" by (").skip(1).filter_map(|rest| rest.split_once(')'));
    all.extend(grouped.flat_map(|(inside, _)| words(inside).collect::<Vec<_>>()));
    all
}

/// Every expression of the alerts and of the dashboard, and where it stands.
fn expressions() -> Vec<(String, String)> {
    let alerts: serde_norway::Value = serde_norway::from_str(&read("deploy/prometheus/alerts.yaml")).unwrap();
    let mut all = Vec::new();
    for group in alerts["groups"].as_sequence().unwrap() {
        for rule in group["rules"].as_sequence().unwrap() {
            let name = rule["alert"].as_str().unwrap();
            assert!(
                rule["annotations"]["summary"].is_string() && rule["annotations"]["description"].is_string(),
                "{name}"
            );
            assert!(matches!(rule["labels"]["severity"].as_str(), Some("page" | "ticket")), "{name}");
            all.push((name.to_owned(), rule["expr"].as_str().unwrap().to_owned()));
        }
    }
    let board: serde_json::Value = serde_json::from_str(&read("deploy/grafana/legate.json")).unwrap();
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            all.push((panel["title"].to_string(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    all
}
