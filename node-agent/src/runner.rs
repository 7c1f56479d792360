//! What the loop needs of whatever runs graphs: to prepare one, to make the prepared ones answer, to call into one.
//!
//! A trait, so that the loop is tested and simulated without wasm. Knows neither wasmtime nor the network.

use std::future::Future;
use std::time::Duration;

use model::assignment::AssignedGraph;
use model::graph::CheckTerms;
use model::id::GraphKey;
use model::name::ComponentName;
use model::report::{Failure, Progress};

/// Runs graphs.
pub trait Runner: Send + Sync + 'static {
    /// A graph that can answer.
    type Running: Running;

    /// Makes a graph able to answer. Its artifacts are on disk.
    ///
    /// Dropping the future gives the preparation up and leaves nothing half-made behind.
    fn prepare(
        &self,
        graph: &AssignedGraph,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> impl Future<Output = Result<Self::Running, PrepareError>> + Send;

    /// Waits a moment until a prepared graph, which passes its checks, can take over from the generation before it: what it
    /// calls on other nodes can be called there, and passes its checks too. An error says what is missing, and may heal.
    fn can_take_over(&self, graph: &Self::Running) -> impl Future<Output = Result<(), PrepareError>> + Send;

    /// Whether the components of a prepared graph pass the checks that their owner asks for. Those that have passed them as
    /// what serves now, under the name that is returned, are not asked again. An error says which does not, and may heal.
    fn passes_checks(
        &self,
        graph: &Self::Running,
    ) -> impl Future<Output = Result<Option<GraphKey>, PrepareError>> + Send;

    /// From now on these graphs, and no others, get new requests.
    fn serve(&self, graphs: Vec<Self::Running>);
}

/// A graph that can answer. Clones are the same graph.
pub trait Running: Clone + Send + Sync + 'static {
    /// The components of it here that are checked, and how.
    fn checked(&self) -> Vec<(ComponentName, CheckTerms)>;

    /// Checks one of them, unless nothing may be asked of it now. An error says why it does not pass.
    fn check(&self, component: &ComponentName) -> impl Future<Output = Option<Result<(), String>>> + Send;

    /// From now on it fails here or passes, as its checks have come out; it is made to serve once more after that.
    fn judge(&self, is_failing: bool);

    /// Calls an exported function.
    fn invoke(&self, call: Call) -> impl Future<Output = Result<String, InvokeError>> + Send;

    /// Waits until no request is under way; only asked of a graph that gets no new ones.
    fn drained(&self) -> impl Future<Output = ()> + Send;
}

/// Why a graph is not able to answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// It will go wrong in the same way again.
    #[error("{0}")]
    Certain(Failure),
    /// It may go well later without anyone's doing.
    #[error("{0}")]
    MayHeal(Failure),
}

/// One call of an exported function with WAVE values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The component that exports it.
    pub component: ComponentName,
    /// The exported interface; empty for a function of the world itself.
    pub interface: String,
    /// The function.
    pub function: String,
    /// Its arguments as WAVE values, separated by commas.
    pub arguments: String,
    /// How long it may take.
    pub deadline: Duration,
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// There is no such component, interface or function.
    #[error("{0}")]
    NotFound(Failure),
    /// The arguments do not fit the function.
    #[error("{0}")]
    BadArguments(Failure),
    /// It took too long.
    #[error("{0}")]
    Deadline(Failure),
    /// The node has no room for one more call now.
    #[error("{0}")]
    Busy(Failure),
    /// The guest failed.
    #[error("{0}")]
    Guest(Failure),
}
