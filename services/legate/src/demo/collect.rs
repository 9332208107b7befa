//! A small OTLP collector in this process: takes the suite's spans over gRPC and draws one trace as a tree.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

/// Spans kept at most; later ones are counted and dropped.
const MOST_SPANS: usize = 50_000;

/// The collector, while it runs.
#[derive(Debug)]
pub(super) struct Collector {
    /// Where it listens, plaintext on loopback.
    pub(super) addr: SocketAddr,
    spans: watch::Receiver<Vec<Kept>>,
    task: tokio::task::JoinHandle<()>,
}

/// What is kept of a span.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    trace: String,
    id: Vec<u8>,
    parent: Vec<u8>,
    name: String,
    service: String,
    start: u64,
    end: u64,
}

struct Intake(Arc<watch::Sender<Vec<Kept>>>);

#[tonic::async_trait]
impl TraceService for Intake {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request
            .into_inner()
            .resource_spans
            .into_iter()
            .flat_map(|r| r.scope_spans)
            .flat_map(|s| s.spans)
            .map(Kept::from);
        self.0.send_modify(|kept| {
            let room = MOST_SPANS.saturating_sub(kept.len());
            kept.extend(spans.take(room));
        });
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl From<Span> for Kept {
    fn from(span: Span) -> Self {
        let attribute = |key: &str| {
            let found = span.attributes.iter().find(|a| a.key == key)?;
            match &found.value.as_ref()?.value {
                Some(Value::StringValue(text)) => Some(text.clone()),
                _ => None,
            }
        };
        Self {
            service: attribute("legate.service").unwrap_or_default(),
            trace: hex(&span.trace_id),
            id: span.span_id,
            parent: span.parent_span_id,
            name: span.name,
            start: span.start_time_unix_nano,
            end: span.end_time_unix_nano,
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Collector {
    /// Listens on a free port of the loopback.
    ///
    /// # Errors
    /// When no port can be bound.
    pub(super) async fn start() -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let (sender, spans) = watch::channel(Vec::new());
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(Intake(Arc::new(sender))))
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
        let task = tokio::spawn(async move {
            if let Err(e) = server.await {
                tracing::warn!(error = %e, "the demo's collector stopped");
            }
        });
        Ok(Self { addr, spans, task })
    }

    /// Waits until the trace holds a span of each of `services`, `wait` at most; gives what is there then.
    pub(super) async fn trace(&mut self, trace: &str, services: &[&str], wait: Duration) -> Vec<Kept> {
        let of_trace = |all: &Vec<Kept>| -> Vec<Kept> { all.iter().filter(|s| s.trace == trace).cloned().collect() };
        let complete = |all: &Vec<Kept>| {
            let here = of_trace(all);
            services.iter().all(|s| here.iter().any(|k| k.service == *s))
        };
        let waited = tokio::time::timeout(wait, self.spans.wait_for(complete)).await;
        drop(waited);
        of_trace(&self.spans.borrow())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The services that have a span in `spans`.
#[must_use]
pub(super) fn services_in(spans: &[Kept]) -> Vec<String> {
    let mut names: Vec<String> = spans.iter().map(|s| s.service.clone()).collect();
    names.sort();
    names.dedup();
    names.retain(|n| !n.is_empty());
    names
}

/// The spans as an indented tree, one line each; repeated siblings of one name are folded into one line.
#[must_use]
pub(super) fn tree(spans: &[Kept]) -> Vec<String> {
    let mut children: BTreeMap<&[u8], Vec<&Kept>> = BTreeMap::new();
    let mut roots = Vec::new();
    for span in spans {
        if spans.iter().any(|s| s.id == span.parent) {
            children.entry(&span.parent).or_default().push(span);
        } else {
            roots.push(span);
        }
    }
    let mut lines = Vec::new();
    draw(&roots, &children, 0, &mut lines);
    lines
}

fn draw(level: &[&Kept], children: &BTreeMap<&[u8], Vec<&Kept>>, depth: usize, out: &mut Vec<String>) {
    let mut level = level.to_vec();
    level.sort_by_key(|s| s.start);
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for span in &level {
        let key = (span.service.as_str(), span.name.as_str());
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let alike = level.iter().filter(|s| (s.service.as_str(), s.name.as_str()) == key).count();
        let times = if alike > 1 { format!("  x{alike}") } else { String::new() };
        let micros = span.end.saturating_sub(span.start) / 1_000;
        let name = span.name.rsplit("v1.").next().unwrap_or(&span.name);
        out.push(format!(
            "{:indent$}{name:<width$} {:<18} {:>9.3} ms{times}",
            "",
            span.service,
            f64::from(u32::try_from(micros).unwrap_or(u32::MAX)) / 1_000.0,
            indent = depth * 2,
            width = 52usize.saturating_sub(depth * 2),
        ));
        if depth < 12
            && let Some(below) = children.get(span.id.as_slice())
        {
            draw(below, children, depth + 1, out);
        }
    }
}
