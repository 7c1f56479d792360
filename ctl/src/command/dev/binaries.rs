//! The programs that `ctl dev` starts.

use std::path::PathBuf;

use crate::failure::Failure;
use crate::program;

/// The programs of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    /// `ctl` itself.
    pub(super) ctl: PathBuf,
    /// The control plane.
    pub(super) control_plane: PathBuf,
    /// The node agent.
    pub(super) node_agent: PathBuf,
}

/// Finds them.
pub(super) fn find() -> Result<Binaries, Failure> {
    Ok(Binaries {
        control_plane: program::find("control-plane")?,
        node_agent: program::find("node-agent")?,
        ctl: program::own()?,
    })
}
