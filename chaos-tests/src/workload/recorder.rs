//! Takes down what clients and watchers see, on one clock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::history::Line;

/// Takes lines down; a cheap handle.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    began: Instant,
    lines: Arc<Mutex<Vec<Line>>>,
    strange: Arc<Mutex<Vec<String>>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { began: Instant::now(), lines: Arc::default(), strange: Arc::default() }
    }
}

impl Recorder {
    /// Now, in microseconds of the history's clock.
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).expect("a history is short")
    }

    /// Takes a line down.
    pub(super) fn add(&self, line: Line) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// Takes down an answer that a control plane never gives to what is asked here.
    pub(super) fn strange(&self, what: String) {
        self.strange.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// The strange answers.
    pub(super) fn all_strange(&self) -> Vec<String> {
        self.strange.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything that was taken down.
    pub(super) fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
