//! `control-plane init`.

use clap::Args;
use cluster::FEATURE_LEVEL;

use super::{CERTIFICATE_LIFETIME, MaintenanceError, Place};
use crate::credentials::{Credentials, OPERATOR_FILE};
use crate::durable;
use crate::joining;
use crate::raft::Handle;
use crate::server;

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where.
    #[command(flatten)]
    pub place: Place,
}

pub(super) async fn run(Arguments { place }: Arguments) -> Result<String, MaintenanceError> {
    let folder = &place.data_dir;
    durable::create_folder(folder).map_err(super::file(folder))?;
    let (member, start) = joining::known(folder, true)?;
    let raft = Handle::open(place.raft(member, start)).await?;
    if let Some(cluster) = raft.state().cluster.clone() {
        raft.shutdown().await;
        return Err(MaintenanceError::Initialised { path: folder.clone(), cluster });
    }
    let authority = server::initialise(&raft, folder, FEATURE_LEVEL).await;
    raft.shutdown().await;
    let authority = authority?;
    let cluster = authority.cluster().clone();
    Credentials::open(folder, authority, member.0, CERTIFICATE_LIFETIME)?;
    Ok(format!("cluster {cluster} is made; operators are let in by {}", folder.join(OPERATOR_FILE).display()))
}
