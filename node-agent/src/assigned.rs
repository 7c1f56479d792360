//! What this node should run, for parts that are made before the one that takes it from the control plane.

use std::sync::{Arc, OnceLock};

use model::assignment::Assignment;
use tokio::sync::watch;

/// The assignment in force; clones are the same.
#[derive(Clone, Default)]
pub struct Assigned(Arc<OnceLock<watch::Receiver<Option<Arc<Assignment>>>>>);

impl Assigned {
    /// Follows these assignments from now on. Only the first call counts.
    pub fn follow(&self, assignments: watch::Receiver<Option<Arc<Assignment>>>) {
        let _ = self.0.set(assignments);
    }

    /// The one in force now; none before the first.
    pub fn now(&self) -> Option<Arc<Assignment>> {
        self.0.get()?.borrow().clone()
    }
}
