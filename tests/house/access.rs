//! Who may call what: the matrix of every method and every kind of caller, from the tables and from the raised suite.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use legate_mtls::Identity;
use legate_rpc::{Caller, Client, Code, Rule, Told};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_prost::ProstCodec;

use crate::blessed::compare;
use crate::raised::{Raised, crossed};

const HEAD: &str = "\
# Every method and every kind of caller. Made from the access tables, and by calling every method of a raised suite.
# yes: admitted   no: ACCESS_DENIED   cert: UNAUTHENTICATED   tls: the handshake is refused
";

/// A method, as the wire knows it.
#[derive(Clone, Debug)]
struct Method {
    path: String,
    client_streams: bool,
    server_streams: bool,
}

/// Those whom the tables know, as columns.
const KNOWN: [(&str, Caller); 9] = [
    ("operator", Caller::Operator),
    ("registry", Caller::Service("registry")),
    ("credential-issuer", Caller::Service("credential-issuer")),
    ("policy-decision", Caller::Service("policy-decision")),
    ("audit-collector", Caller::Service("audit-collector")),
    ("agent", Caller::Agent),
    ("enforcer", Caller::Enforcer),
    ("node", Caller::Node),
    ("nobody", Caller::Anonymous),
];

/// Those whom TLS refuses.
const CROSSED: [&str; 5] =
    ["other-ca", "other-domain", "operator-by-workloads-ca", "service-by-workloads-ca", "agent-by-services-ca"];

fn tables() -> [(&'static str, &'static [Rule]); 4] {
    [
        (legate_registry::NAME, legate_registry::ACCESS),
        (legate_credential_issuer::NAME, legate_credential_issuer::ACCESS),
        (legate_policy_decision::NAME, legate_policy_decision::ACCESS),
        (legate_audit_collector::NAME, legate_audit_collector::ACCESS),
    ]
}

/// The methods of OpenTelemetry, whose protobufs are a library's.
const OPENTELEMETRY: [&str; 2] = [
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
];

/// Every method of our protobufs and of OpenTelemetry's.
fn methods() -> BTreeMap<String, Method> {
    let all = FileDescriptorSet::decode(legate_wire::DESCRIPTORS).unwrap();
    let unary = |path: &str| Method { path: path.into(), client_streams: false, server_streams: false };
    let mut methods: BTreeMap<_, _> = OPENTELEMETRY.map(|path| (path.to_owned(), unary(path))).into();
    // Those of a node's socket admit whom the kernel says (docs/workload-api.md); they are of no service.
    let of_services = |package: &str| {
        package.starts_with("legate.") || package.starts_with("envoy.") && package != "envoy.service.secret.v3"
    };
    for file in all.file.iter().filter(|f| of_services(f.package())) {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let (client_streams, server_streams) = (method.client_streaming(), method.server_streaming());
                methods.insert(path.clone(), Method { path, client_streams, server_streams });
            }
        }
    }
    methods
}

fn health() -> [Method; 2] {
    let method = |name, server_streams| Method {
        path: format!("/grpc.health.v1.Health/{name}"),
        client_streams: false,
        server_streams,
    };
    [method("Check", false), method("Watch", true)]
}

/// Which service serves a method, and whom its row admits.
fn rows() -> BTreeMap<&'static str, (&'static str, &'static Rule)> {
    let mut rows = BTreeMap::new();
    for (service, table) in tables() {
        for rule in table {
            assert!(rows.insert(rule.method, (service, rule)).is_none(), "{} has two rows", rule.method);
        }
    }
    rows
}

#[test]
fn every_method_has_one_row_and_every_row_a_method() {
    let methods: BTreeSet<String> = methods().into_keys().collect();
    let rows: BTreeSet<String> = rows().into_keys().map(str::to_owned).collect();
    assert_eq!(methods, rows);
}

/// The matrix as a text; `cell` says what a caller meets.
fn matrix(mut cell: impl FnMut(&'static str, &Method, &str) -> String) -> String {
    let methods = methods();
    let columns: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).chain(CROSSED).collect();
    let mut text = String::from(HEAD);
    for (service, table) in tables() {
        let own = table.iter().map(|rule| methods[rule.method].clone());
        let listed: Vec<Method> = own.chain(health()).collect();
        let width = listed.iter().map(|m| m.path.len()).max().unwrap_or(0);
        writeln!(text, "\n{:width$}  {}", service, columns.join("  ")).unwrap();
        for method in &listed {
            let mut line = format!("{:width$}", method.path);
            for column in &columns {
                write!(line, "  {:1$}", cell(service, method, column), column.len()).unwrap();
            }
            writeln!(text, "{}", line.trim_end()).unwrap();
        }
    }
    text
}

/// What the tables say.
fn by_table() -> String {
    let rows = rows();
    matrix(|_, method, column| {
        let Some((_, caller)) = KNOWN.iter().find(|(name, _)| *name == column) else {
            return "tls".into();
        };
        // Whoever has a certificate may ask for health.
        let is_health = !rows.contains_key(method.path.as_str());
        let admitted = match rows.get(method.path.as_str()) {
            Some((_, rule)) => rule.callers.contains(caller) || rule.callers.contains(&Caller::Anonymous),
            None => is_health && *caller != Caller::Anonymous,
        };
        match caller {
            _ if admitted => "yes".into(),
            Caller::Anonymous => "cert".into(),
            _ => "no".into(),
        }
    })
}

#[test]
fn the_matrix_of_the_tables_is_the_golden_one() {
    compare("tests/golden/access.txt", &by_table());
}

/// What the table of AuthZEN says; that the door keeps to it is tried where policy-decision is raised (its test `authzen`).
#[test]
fn the_matrix_of_authzen_is_the_golden_one() {
    let rules = legate_policy_decision::AUTHZEN_ACCESS;
    let width = rules.iter().map(|rule| rule.method.len()).max().unwrap();
    let columns: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
    let mut text = String::from(
        "# The paths of AuthZEN, over HTTPS, and every kind of caller. Made from the access table.\n\
         # yes: admitted   no: ACCESS_DENIED   cert: UNAUTHENTICATED\n",
    );
    writeln!(text, "\n{:width$}  {}", legate_policy_decision::NAME, columns.join("  ")).unwrap();
    for rule in rules {
        let mut line = format!("{:width$}", rule.method);
        for (name, caller) in KNOWN {
            let cell = match caller {
                _ if rule.callers.contains(&caller) || rule.callers.contains(&Caller::Anonymous) => "yes",
                Caller::Anonymous => "cert",
                _ => "no",
            };
            write!(line, "  {cell:0$}", name.len()).unwrap();
        }
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    compare("tests/golden/authzen.txt", &text);
}

/// Calls a method with an empty message; what the caller meets.
async fn call(client: &Client, method: &Method) -> Result<(), Told> {
    let mut grpc = tonic::client::Grpc::new(client.clone());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::try_from(method.path.as_str()).unwrap();
    let codec = ProstCodec::<(), ()>::default();
    let told = match (method.client_streams, method.server_streams) {
        (false, false) => grpc.unary(tonic::Request::new(()), path, codec).await.map(|_| ()),
        (false, true) => grpc.server_streaming(tonic::Request::new(()), path, codec).await.map(|_| ()),
        (true, _) => grpc.streaming(tonic::Request::new(tokio_stream::iter([()])), path, codec).await.map(|_| ()),
    };
    told.map_err(|status| Told::from_status(&status))
}

/// The word of the matrix for an outcome.
fn word(outcome: &Result<(), Told>) -> String {
    match outcome {
        Err(told) if told.reason == "ACCESS_DENIED" && told.code == Code::PermissionDenied => "no".into(),
        Err(told) if told.reason == "UNAUTHENTICATED" && told.code == Code::Unauthenticated => "cert".into(),
        // What a client sees of an alert depends on how far it has come.
        Err(told)
            if told.reason.is_empty() && matches!(told.code, Code::Unavailable | Code::Unknown | Code::Cancelled) =>
        {
            "tls".into()
        }
        // Refused for another reason of ours: the caller was admitted, and its empty request was not.
        Err(told) if told.reason.is_empty() => format!("{:?}", told.code),
        _ => "yes".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raised_suite_admits_whom_the_golden_matrix_admits() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let mut callers: Vec<(&str, Identity)> = vec![
        ("operator", raised.suite.operator().unwrap()),
        ("agent", payments.enrolled.identity().unwrap()),
        ("enforcer", payments.backend.clone()),
        ("node", raised.node("payments", "vm-1").await),
        ("nobody", Identity::anonymous()),
    ];
    callers.extend(KNOWN.iter().filter_map(|(name, caller)| match caller {
        Caller::Service(service) => Some((*name, raised.service(service))),
        _ => None,
    }));
    callers.extend(crossed(&raised));

    let methods = methods();
    let mut met: BTreeMap<(&str, String, &str), String> = BTreeMap::new();
    for (service, table) in tables() {
        let listed = table.iter().map(|rule| methods[rule.method].clone()).chain(health());
        let listed: Vec<Method> = listed.collect();
        for (name, identity) in &callers {
            let client = raised.dial(service, identity.clone());
            for method in &listed {
                let outcome = call(&client, method).await;
                met.insert((service, method.path.clone(), name), word(&outcome));
            }
        }
    }
    let called = matrix(|service, method, column| {
        let column = KNOWN.iter().map(|(name, _)| *name).chain(CROSSED).find(|name| *name == column).unwrap();
        met[&(service, method.path.clone(), column)].clone()
    });
    for (called, golden) in called.lines().zip(by_table().lines()) {
        assert_eq!(called, golden);
    }
    assert_eq!(called.lines().count(), by_table().lines().count());

    // What is not in a service's table is not there, for nobody.
    let operator = raised.suite.operator().unwrap();
    for (service, table) in tables() {
        let client = raised.dial(service, operator.clone());
        let foreign = methods.values().filter(|m| !table.iter().any(|rule| rule.method == m.path));
        let odd = ["/", "/legate.registry.v1.AgentService/", "/legate.registry.v1.AgentService/GetAgent/x", "/metrics"]
            .map(|path| Method { path: path.into(), client_streams: false, server_streams: false });
        for method in foreign.chain(&odd) {
            let told = call(&client, method).await.expect_err("a method of another service was served");
            assert_eq!(told.code, Code::Unimplemented, "{service} {}: {told:?}", method.path);
        }
    }
    raised.suite.shutdown().await;
}
