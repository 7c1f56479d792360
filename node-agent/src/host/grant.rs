//! What another node may open here: a session for a link that leads from a component of its own to one of this node's.
//!
//! Nothing is granted by itself: the right follows from the graph and its placement, which both nodes have from the
//! control plane, and ends with the generation. The caller is who its certificate says; what it says of itself in a
//! frame gives it nothing.

use std::fmt;

use model::assignment::AssignedGraph;
use model::link::{BINDINGS_MAX, GraphVersion, Open};
use model::name::NodeName;

use crate::host::prepare::Plan;

/// What every caller is told whose session is not granted, whatever the reason: nothing can be learnt from it.
pub(crate) const DENIED: &str = "this session is not granted";

/// Why a session is not granted; for the audit of this node alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Denial {
    /// The caller's certificate is of no node that shares a graph with this one.
    UnknownNode,
    /// The graph, or that generation of it, is not here.
    UnknownGeneration,
    /// The consumer does not run on the caller's node.
    OtherConsumer {
        /// Where the caller is.
        node: NodeName,
    },
    /// No link of the graph leads there.
    NoLink {
        /// What was asked for.
        function: String,
    },
    /// The session is for no function at all.
    Nothing,
}

impl fmt::Display for Denial {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownNode => out.write_str("the caller is no node that shares a graph with this one"),
            Self::UnknownGeneration => out.write_str("the generation of the graph is not here"),
            Self::OtherConsumer { node } => {
                write!(out, "the consumer does not run on the caller's node, {node}")
            }
            Self::NoLink { function } => write!(out, "the graph has no such link for {function}"),
            Self::Nothing => out.write_str("no function was asked for"),
        }
    }
}

/// Whether `caller`, a node, may have this session of the graph.
pub(crate) fn check(plan: &Plan, open: &Open, caller: &NodeName) -> Result<(), Denial> {
    if !plan.assigned.placement.runs_on(&open.from, caller) {
        return Err(Denial::OtherConsumer { node: caller.clone() });
    }
    if open.functions.is_empty() {
        return Err(Denial::Nothing);
    }
    // More than there may be are refused for that, before anything is done with them.
    for binding in open.functions.iter().take(BINDINGS_MAX) {
        let mut links = plan.linked().links_of(&open.from);
        let granted = links.any(|link| {
            link.interface == binding.interface
                && link.to.member() == Some(&open.to)
                && link.functions.iter().any(|function| function.name == binding.function)
        });
        if !granted {
            let function = format!("{}/{}", binding.interface, binding.function);
            return Err(Denial::NoLink { function });
        }
    }
    Ok(())
}

/// Whether `caller` has a part in `known`, and asks for that graph as it is now or will be.
pub(crate) fn may_wait(known: &AssignedGraph, version: &GraphVersion, caller: &NodeName) -> bool {
    known.key == version.graph
        && known.uid == version.uid
        && known.generation <= version.generation
        && known.placement.is_on(caller)
}
