//! Logs and traces, set up once per process.

use std::sync::OnceLock;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::StartError;
use crate::config::{LogFormat, Telemetry};

/// Where attribute names come from.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";

/// The process's tracer, if it has one.
static PROVIDER: OnceLock<Option<SdkTracerProvider>> = OnceLock::new();

/// Hands over spans that are still here.
#[derive(Clone, Copy, Debug)]
pub struct Guard;

impl Guard {
    /// Sends every finished span; waits for it.
    pub async fn flush(self) {
        let Some(Some(provider)) = PROVIDER.get() else {
            return;
        };
        let provider = provider.clone();
        let flushed = tokio::task::spawn_blocking(move || provider.force_flush()).await;
        if let Ok(Err(error)) = flushed {
            tracing::debug!(%error, "spans could not be handed over");
        }
    }
}

/// Sets up logs on standard error, and spans to an OTLP collector where one is named. Later calls in the same process change nothing.
///
/// # Errors
/// When a directive or the endpoint is broken.
pub fn init(telemetry: &Telemetry, service: &'static str) -> Result<Guard, StartError> {
    if PROVIDER.get().is_some() {
        return Ok(Guard);
    }
    let filter = EnvFilter::try_new(&telemetry.log).map_err(|e| StartError::new("telemetry.log", e))?;
    // Colours are for people: in a file they would only be in the way.
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let lines = match telemetry.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let provider = telemetry.otlp_endpoint.as_deref().map(|to| exporter(to, service)).transpose()?;
    let spans = provider.as_ref().map(|provider| {
        // Our own spans only: those of the libraries below would drown them, and the exporter would export itself.
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("legate"))
            .with_filter(filter_fn(|meta| meta.target().starts_with("legate")))
    });
    if PROVIDER.set(provider).is_err() {
        return Ok(Guard);
    }
    let set = tracing_subscriber::registry().with(spans).with(lines.with_filter(filter)).try_init();
    if let Err(error) = set {
        tracing::debug!(%error, "somebody else has set up logging");
    }
    Ok(Guard)
}

fn exporter(endpoint: &str, service: &'static str) -> Result<SdkTracerProvider, StartError> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|e| StartError::new("telemetry.otlp_endpoint", e))?;
    let resource = Resource::builder().with_service_name(service).with_schema_url([], SCHEMA_URL).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}
