//! What stands for a stream at the end that it was given to.

use std::sync::Arc;

use bytes::Bytes;
use model::link::{LinkReason, Piped};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::Pipes;
use super::end::{Item, Over, Receiver, Sender};

/// An input stream of the other end.
pub(super) struct Input {
    receiver: Arc<Receiver>,
    pipes: Arc<Pipes>,
    pipe: u64,
    /// Its failure was told: it is merely closed since.
    is_told: bool,
}

/// An output stream of the other end.
pub(super) struct Output {
    sender: Arc<Sender>,
    pipes: Arc<Pipes>,
    pipe: u64,
    /// Its failure was told: it is merely closed since.
    is_told: bool,
}

/// A pollable of the other end.
pub(super) struct Awaited {
    sender: Arc<Sender>,
    pipes: Arc<Pipes>,
    pipe: u64,
    /// Whether it was asked for, and the answer not yet told.
    is_asked: bool,
    /// Tells others whether this is still there.
    _life: Arc<()>,
}

impl Awaited {
    pub(super) fn new(sender: Arc<Sender>, pipes: Arc<Pipes>, pipe: u64, life: Arc<()>) -> Self {
        Self { sender, pipes, pipe, is_asked: false, _life: life }
    }
}

#[async_trait]
impl Pollable for Awaited {
    async fn ready(&mut self) {
        // A guest that only looks asks once, and finds the answer when it looks again.
        if !std::mem::replace(&mut self.is_asked, true) && self.sender.wait() {
            self.pipes.say(self.pipe, Piped::Wait);
        }
        self.sender.answered().await;
        self.is_asked = false;
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.pipes.end(self.pipe, None, 0);
    }
}

impl Input {
    pub(super) fn new(receiver: Arc<Receiver>, pipes: Arc<Pipes>, pipe: u64) -> Self {
        pipes.grant(pipe, &receiver);
        Self { receiver, pipes, pipe, is_told: false }
    }
}

impl Output {
    pub(super) fn new(sender: Arc<Sender>, pipes: Arc<Pipes>, pipe: u64) -> Self {
        Self { sender, pipes, pipe, is_told: false }
    }

    fn check(&mut self) -> StreamResult<()> {
        self.sender.over().map_or(Ok(()), |over| Err(error(&over, &mut self.is_told)))
    }
}

/// What a guest is told, once; then the stream is closed.
fn error(over: &Over, is_told: &mut bool) -> StreamError {
    let why = match over {
        Over::Ended { failure: None, .. } => return StreamError::Closed,
        Over::Ended { failure: Some(failure), .. } => failure,
        Over::Lost => LinkReason::Lost.word(),
    };
    if std::mem::replace(is_told, true) {
        return StreamError::Closed;
    }
    StreamError::LastOperationFailed(wasmtime::format_err!("{why}"))
}

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        self.receiver.ready().await;
    }
}

#[async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match self.receiver.next(size) {
            Ok(Some(Item::Data(bytes, _))) => {
                self.pipes.grant(self.pipe, &self.receiver);
                Ok(bytes)
            }
            // What is sent here is never written on.
            Ok(Some(Item::Wait) | None) => Ok(Bytes::new()),
            Err(over) => Err(error(&over, &mut self.is_told)),
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.pipes.end(self.pipe, None, self.receiver.taken());
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        self.sender.ready().await;
    }
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.check()?;
        if bytes.is_empty() {
            return Ok(());
        }
        if !self.sender.spend(bytes.len()) {
            return Err(StreamError::trap("more was written than the stream takes"));
        }
        self.pipes.say(self.pipe, Piped::Data(bytes));
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.check()?;
        if self.sender.wait() {
            self.pipes.say(self.pipe, Piped::Wait);
        }
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.check()?;
        Ok(self.sender.credit())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.pipes.end(self.pipe, None, 0);
    }
}
