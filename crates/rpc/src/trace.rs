//! W3C trace context (www.w3.org/TR/trace-context) in gRPC metadata, in and out.

use http::HeaderMap;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The trace a call belongs to; empty texts when it belongs to none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// 32 hexadecimal digits, or empty.
    pub trace_id: String,
    /// 16 hexadecimal digits, or empty.
    pub span_id: String,
    /// `00-TRACE-SPAN-FLAGS`, or empty.
    pub traceparent: String,
}

tokio::task_local! {
    /// The trace of the call that is being served. It is there with no collector of spans as well, so that records of
    /// several services can be put together.
    static SERVED: TraceContext;
}

impl TraceContext {
    /// The trace that the current span belongs to, or else the one of the call that is being served.
    #[must_use]
    pub fn current() -> Self {
        let context = tracing::Span::current().context();
        let own = Self::from_span(context.span().span_context());
        if own.trace_id.is_empty() { SERVED.try_with(Self::clone).unwrap_or_default() } else { own }
    }

    /// The trace that a `traceparent` names; `None`: it names none.
    #[must_use]
    pub fn named(traceparent: &str) -> Option<Self> {
        parse(traceparent).map(|span| Self::from_span(&span))
    }

    /// A new trace that nobody samples.
    pub(crate) fn new() -> Self {
        // Neither may be zero (W3C Trace Context, "trace-id", "parent-id").
        let (trace, span) = (rand::random::<u128>().max(1), rand::random::<u64>().max(1));
        Self {
            trace_id: format!("{trace:032x}"),
            span_id: format!("{span:016x}"),
            traceparent: format!("00-{trace:032x}-{span:016x}-00"),
        }
    }

    /// Whether it names no trace.
    pub(crate) fn is_none(&self) -> bool {
        self.trace_id.is_empty()
    }

    fn from_span(span: &SpanContext) -> Self {
        if !span.is_valid() {
            return Self::default();
        }
        Self {
            trace_id: span.trace_id().to_string(),
            span_id: span.span_id().to_string(),
            traceparent: format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8()),
        }
    }
}

impl TraceContext {
    /// Serves a call within this trace.
    pub async fn serving<F: Future>(self, call: F) -> F::Output {
        SERVED.scope(self, call).await
    }
}

/// Makes a call's span a child of the one that the request names, where it names one; the trace that the call belongs to:
/// a new one, which nobody samples, where it would belong to none.
#[must_use]
pub fn continue_trace(span: &tracing::Span, headers: &HeaderMap) -> TraceContext {
    let parent = incoming(headers);
    if let Some(parent) = parent.clone() {
        // Without an OpenTelemetry layer there is nobody to tell.
        let _nobody = span.set_parent(opentelemetry::Context::new().with_remote_span_context(parent));
    }
    let own = TraceContext::from_span(span.context().span().span_context());
    if !own.is_none() {
        return own;
    }
    parent.map_or_else(TraceContext::new, |parent| TraceContext::from_span(&parent))
}

/// The span that a request's `traceparent` names; `None` when there is none or it is broken.
fn incoming(headers: &HeaderMap) -> Option<SpanContext> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    parse(text)
}

/// Reads `00-TRACE-SPAN-FLAGS`.
fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lower = |t: &str| t.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if version != "00" || parts.next().is_some() || trace.len() != 32 || span.len() != 16 || flags.len() != 2 {
        return None;
    }
    if !(lower(trace) && lower(span) && lower(flags)) {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let written = parse(text).map(|c| TraceContext::from_span(&c).traceparent);
        assert_eq!(written.as_deref(), Some(text));
        let new = TraceContext::new();
        assert_eq!(parse(&new.traceparent).map(|c| TraceContext::from_span(&c)), Some(new));
        for bad in [
            "",
            "00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
