//! Traces: a span for each request and for each call over a link, told to a collector.
//!
//! Without a collector there are no spans and nothing is allocated for them; where a trace stands is then passed on as
//! it came, so that one node without a collector does not break the traces of others. Knows nothing of wasm.

mod call;
mod export;
mod request;

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use model::trace::{TraceContext, TraceFlags, TraceState};
use opentelemetry::trace::{Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceId};
use opentelemetry::trace::{SpanBuilder, Tracer as _};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

pub(crate) use self::call::{CallSpan, Over};
pub use self::export::{OpenError, Settings, read_endpoint, read_ratio};
pub(crate) use self::request::Answering;

/// Where a request stands in its trace, as W3C Trace Context names it.
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// What others keep there.
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");

/// Makes spans, if there is somebody to tell them to; clones are the same.
#[derive(Clone, Default)]
pub struct Traces {
    on: Option<Arc<On>>,
}

struct On {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// Where a piece of work stands in its trace, and what makes the spans below it.
#[derive(Clone, Default)]
pub struct Trace {
    traces: Traces,
    context: Option<TraceContext>,
    state: Option<TraceState>,
}

/// A span that ends when it is dropped; or nothing.
#[derive(Default)]
pub(crate) struct Span(Option<Box<opentelemetry_sdk::trace::Span>>);

impl Traces {
    /// Where work stands that another node asked for.
    pub(crate) fn at(&self, context: Option<TraceContext>, state: Option<TraceState>) -> Trace {
        Trace { traces: self.clone(), context, state }
    }

    /// Begins a span below `parent`, or a trace without one. Whether it is recorded is said by the parent's flag, else
    /// by the ratio.
    fn begin(&self, kind: SpanKind, parent: Option<TraceContext>, state: Option<&TraceState>) -> Span {
        let Some(on) = &self.on else { return Span(None) };
        let context = match parent {
            None => Context::new(),
            Some(parent) => {
                // Checked by the same rules before.
                let state = state.and_then(|state| state.as_str().parse().ok()).unwrap_or_default();
                let flags = opentelemetry::TraceFlags::new(parent.flags.bits());
                let (trace, span) = (TraceId::from(parent.trace.get()), SpanId::from(parent.span.get()));
                // The consumer of a link is on this node, and whoever asks for a request or an answer is not.
                let is_remote = kind == SpanKind::Server;
                Context::new().with_remote_span_context(SpanContext::new(trace, span, flags, is_remote, state))
            }
        };
        let builder = SpanBuilder::from_name("").with_kind(kind);
        Span(Some(Box::new(on.tracer.build_with_context(builder, &context))))
    }
}

impl Trace {
    /// What is carried to another node: nothing of a trace that nobody records.
    pub(crate) fn carried(&self) -> Option<TraceContext> {
        self.context.filter(|context| context.flags.is_sampled())
    }

    /// What others keep in the trace.
    pub(crate) fn state(&self) -> Option<&TraceState> {
        self.state.as_ref()
    }

    /// Tells the receiver of a request where it stands, unless the request says so itself.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let Some(context) = &self.context else { return };
        if headers.contains_key(TRACE_PARENT) {
            return;
        }
        put(headers, TRACE_PARENT, &context.to_string());
        if let Some(state) = &self.state {
            put(headers, TRACE_STATE, state.as_str());
        }
    }
}

/// For the end of a sentence in the log: ` (trace 4bf9…)`, or nothing.
impl fmt::Display for Trace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.carried() {
            Some(context) => write!(out, " (trace {:032x})", context.trace),
            None => Ok(()),
        }
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

impl Span {
    /// Where it stands; nothing if there is no span.
    fn context(&self) -> Option<TraceContext> {
        let context = self.0.as_ref()?.span_context();
        Some(TraceContext {
            trace: NonZeroU128::new(u128::from_be_bytes(context.trace_id().to_bytes()))?,
            span: NonZeroU64::new(u64::from_be_bytes(context.span_id().to_bytes()))?,
            flags: TraceFlags::new(context.trace_flags().to_u8()),
        })
    }

    /// Whether it is worth describing.
    fn is_recording(&self) -> bool {
        self.0.as_ref().is_some_and(|span| span.is_recording())
    }

    fn name(&mut self, name: String) {
        if let Some(span) = &mut self.0 {
            span.update_name(name);
        }
    }

    fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// Says that what it stands for failed; `kind` is one of a few words.
    fn failed(&mut self, kind: impl Into<Value>, message: String) {
        self.set("error.type", kind);
        if let Some(span) = &mut self.0 {
            span.set_status(Status::error(message));
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Trace").field(&self.context).finish()
    }
}
