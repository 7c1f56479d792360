//! The spans of one call over a link: the consumer's, and below it the provider's.

use model::id::GraphKey;
use model::interface::InterfaceName;
use model::link::LinkFailure;
use model::name::{ComponentName, NodeName};
use opentelemetry::trace::SpanKind;

use crate::traces::{Span, Trace};

/// What is called over which link.
pub(crate) struct Over<'a> {
    pub(crate) graph: &'a GraphKey,
    /// The consumer.
    pub(crate) from: &'a ComponentName,
    /// The provider.
    pub(crate) to: &'a ComponentName,
    /// The provider's node.
    pub(crate) node: &'a NodeName,
    pub(crate) interface: &'a InterfaceName,
    pub(crate) function: &'a str,
}

/// The span of one call at one of its ends. Dropped before the call has ended, it says that it was given up.
pub(crate) struct CallSpan {
    span: Span,
    trace: Trace,
    has_ended: bool,
}

impl Trace {
    /// Begins a call over a link at its consumer.
    pub(crate) fn calling<'a>(&self, over: impl FnOnce() -> Option<Over<'a>>) -> CallSpan {
        self.call(SpanKind::Client, over)
    }

    /// Begins a call over a link at its provider.
    pub(crate) fn answering<'a>(&self, over: impl FnOnce() -> Option<Over<'a>>) -> CallSpan {
        self.call(SpanKind::Server, over)
    }

    fn call<'a>(&self, kind: SpanKind, over: impl FnOnce() -> Option<Over<'a>>) -> CallSpan {
        let mut call = CallSpan { span: Span(None), trace: self.clone(), has_ended: false };
        // Most calls end here: there is no trace, or none that is recorded.
        let (Some(parent), true) = (self.carried(), self.traces.on.is_some()) else { return call };
        call.span = self.traces.begin(kind, Some(parent), self.state.as_ref());
        if let Some(context) = call.span.context() {
            call.trace.context = Some(context);
        }
        if call.span.is_recording()
            && let Some(over) = over()
        {
            describe(&mut call.span, &over);
        }
        call
    }
}

impl CallSpan {
    /// Where the work below it stands.
    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The bytes of the arguments.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.count("weft.link.request_bytes", bytes);
    }

    /// The bytes of the result.
    pub(crate) fn returned(&mut self, bytes: usize) {
        self.count("weft.link.answer_bytes", bytes);
    }

    /// The node that was asked, of several.
    pub(crate) fn node(&mut self, node: &NodeName) {
        if self.span.is_recording() {
            self.span.set("weft.link.node", node.to_string());
        }
    }

    /// The session at the provider that the call is of.
    pub(crate) fn session(&mut self, number: u64) {
        self.count("weft.link.session", number);
    }

    fn count(&mut self, key: &'static str, count: impl TryInto<i64>) {
        self.span.set(key, count.try_into().unwrap_or(i64::MAX));
    }

    /// Says how the call ended.
    pub(crate) fn ended<T>(&mut self, outcome: Result<T, LinkFailure>) -> Result<T, LinkFailure> {
        self.has_ended = true;
        if self.span.is_recording() {
            match &outcome {
                Ok(_) => self.span.set(OUTCOME, "returned"),
                Err(failure) => {
                    self.span.set(OUTCOME, failure.reason.word());
                    self.span.failed(failure.reason.word(), failure.message.clone());
                }
            }
        }
        outcome
    }
}

/// `returned`, the word of a failure, or `given_up`.
const OUTCOME: &str = "weft.link.outcome";

impl Drop for CallSpan {
    fn drop(&mut self) {
        if !self.has_ended && self.span.is_recording() {
            self.span.set(OUTCOME, "given_up");
            self.span.failed("given_up", "the consumer did not wait for the answer".to_owned());
        }
    }
}

fn describe(span: &mut Span, over: &Over<'_>) {
    let Over { graph, from, to, node, interface, function } = over;
    let interface = interface.to_string();
    span.name(format!("{interface}/{function}"));
    span.set("rpc.system", "weft");
    span.set("rpc.service", interface);
    span.set("rpc.method", (*function).to_owned());
    span.set("weft.graph", graph.to_string());
    span.set("weft.link.name", format!("{from} -> {to}"));
    span.set("weft.link.node", node.to_string());
}
