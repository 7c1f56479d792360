//! A guest's standard output and error, line by line into its log.

use std::sync::Arc;

use bytes::Bytes;
use model::log::{Level, LogSource};
use model::name::ComponentName;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::host::logs::{GraphLog, LINE_MAX_BYTES};

/// What one write may carry, as wasi streams usually allow.
const WRITE_MAX_BYTES: usize = 64 << 10;

/// One stream of one component in one request.
///
/// A guest that asks for its standard output several times has several of these; a line split over two of them
/// becomes two lines.
pub(crate) struct LineStream {
    log: Arc<GraphLog>,
    component: ComponentName,
    request: Arc<str>,
    source: LogSource,
    pending: Vec<u8>,
}

impl LineStream {
    pub(crate) fn new(
        log: Arc<GraphLog>,
        component: ComponentName,
        request: Arc<str>,
        source: LogSource,
    ) -> Self {
        Self { log, component, request, source, pending: Vec::new() }
    }

    fn say(&mut self, end: usize) {
        let line: Vec<u8> = self.pending.drain(..end).collect();
        let level = if self.source == LogSource::Stderr { Level::Warn } else { Level::Info };
        let line = String::from_utf8_lossy(&line);
        self.log.guest(&self.component, &self.request, level, self.source, &line);
    }
}

impl Drop for LineStream {
    fn drop(&mut self) {
        if !self.pending.is_empty() {
            self.say(self.pending.len());
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LineStream {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for LineStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.pending.extend_from_slice(&bytes);
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            self.say(end + 1);
        }
        while self.pending.len() > LINE_MAX_BYTES {
            self.say(LINE_MAX_BYTES);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_MAX_BYTES)
    }
}
