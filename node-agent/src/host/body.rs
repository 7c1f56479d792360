//! The body of a response: a text of the agent's own, what a guest is still writing, or what comes from another node.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::task::JoinHandle;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::host::running::Pass;
use crate::traces::Span;

/// The body of a response.
pub struct Body {
    inner: Inner,
    /// Held, not used: it lasts until the last byte is sent, or nobody takes it.
    _span: Span,
}

enum Inner {
    Text(Full<Bytes>),
    Guest(Box<GuestBody>),
    Carried {
        body: Incoming,
        /// Held, not used: that of passing the request on.
        _span: Span,
    },
}

/// The guest failed, or its node was lost, after the head of its response was sent.
#[derive(Debug, thiserror::Error)]
#[error("the component did not finish its response")]
pub struct BodyError;

/// What a guest writes. Dropping it early (the client is gone) ends the guest.
pub(crate) struct GuestBody {
    pub(crate) body: HyperOutgoingBody,
    /// What `content-length` promises and is not sent yet.
    pub(crate) remaining: Option<u64>,
    /// The guest, if it runs on.
    pub(crate) guest: Option<Running>,
    /// Counts the request as under way until its last byte.
    pub(crate) _pass: Pass,
}

/// A guest that runs on behind its response; ended when dropped, unless let go.
pub(crate) struct Running(pub(crate) Option<JoinHandle<()>>);

impl Running {
    /// Lets the guest end by itself: its response is complete.
    fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(guest) = self.0.take() {
            guest.abort();
        }
    }
}

impl Body {
    /// A body that is known whole.
    pub fn text(text: impl Into<Bytes>) -> Self {
        Self { inner: Inner::Text(Full::new(text.into())), _span: Span::default() }
    }

    pub(crate) fn guest(body: GuestBody) -> Self {
        Self { inner: Inner::Guest(Box::new(body)), _span: Span::default() }
    }

    /// What another node answers with.
    pub(crate) fn carried(body: Incoming, span: Span) -> Self {
        Self { inner: Inner::Carried { body, _span: span }, _span: Span::default() }
    }

    /// The same, the last part of what `span` stands for.
    pub(crate) fn within(self, span: Span) -> Self {
        Self { _span: span, ..self }
    }
}

impl GuestBody {
    fn complete(&mut self) {
        if let Some(guest) = self.guest.take() {
            guest.let_go();
        }
    }

    fn count(&mut self, sent: usize) {
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(sent as u64);
            // A server stops reading here and drops the body.
            if *remaining == 0 {
                self.complete();
            }
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.inner {
            Inner::Text(text) => Pin::new(text)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Inner::Guest(guest) => {
                let frame = std::task::ready!(Pin::new(&mut guest.body).poll_frame(context));
                match &frame {
                    None => guest.complete(),
                    Some(Ok(frame)) => {
                        let sent = frame.data_ref().map_or(0, Bytes::len);
                        guest.count(sent);
                    }
                    Some(Err(_)) => {}
                }
                Poll::Ready(frame.map(|frame| frame.map_err(|_| BodyError)))
            }
            Inner::Carried { body, .. } => {
                Pin::new(body).poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(|_| BodyError)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Text(text) => text.is_end_stream(),
            Inner::Guest(guest) => guest.body.is_end_stream(),
            Inner::Carried { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Text(text) => text.size_hint(),
            Inner::Guest(guest) => guest.body.size_hint(),
            Inner::Carried { body, .. } => body.size_hint(),
        }
    }
}
