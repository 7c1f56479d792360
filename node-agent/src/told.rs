//! What the control plane has told this node last, for parts that are made before the one that listens to it.

use std::sync::{Arc, OnceLock};

use model::assignment::Assignment;
use tokio::sync::watch;

/// The latest of one thing that the control plane tells; clones are the same.
pub struct Told<T>(Arc<OnceLock<watch::Receiver<Option<Arc<T>>>>>);

/// What this node should run.
pub type Assigned = Told<Assignment>;

impl<T> Told<T> {
    /// Follows what comes from now on. Only the first call counts.
    pub fn follow(&self, told: watch::Receiver<Option<Arc<T>>>) {
        let _ = self.0.set(told);
    }

    /// Wakes on each change; nothing before it is followed.
    pub fn changes(&self) -> Option<watch::Receiver<Option<Arc<T>>>> {
        self.0.get().cloned()
    }

    /// What holds now; nothing before the first.
    pub fn now(&self) -> Option<Arc<T>> {
        self.0.get()?.borrow().clone()
    }
}

impl<T> Default for Told<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Told<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
