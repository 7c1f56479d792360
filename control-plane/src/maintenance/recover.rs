//! `control-plane recover --force-new-cluster`: what is left after a quorum was lost for good.

use std::time::Duration;

use clap::Args;
use cluster::State;
use cluster::state::MemberId;
use proto::status::is_not_sent;
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use trust::{Expect, Keyring};

use super::{CERTIFICATE_LIFETIME, MaintenanceError, Place};
use crate::clock::now_ms;
use crate::credentials::{self, Credentials};
use crate::joining;
use crate::raft::{LOG_FOLDER, Offline, Start};

/// How long another member may take to say that it is there.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);

/// Arguments of `recover`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// Go on without the other members, for good: they are out, and must join anew with empty data directories.
    #[arg(long, required = true)]
    pub force_new_cluster: bool,
}

pub(super) async fn run(Arguments { place, .. }: Arguments) -> Result<String, MaintenanceError> {
    let folder = &place.data_dir;
    let empty = || MaintenanceError::Empty { path: folder.clone() };
    // Nothing is made where nothing is.
    if !credentials::is_founded(folder) || !folder.join(LOG_FOLDER).exists() {
        return Err(empty());
    }
    let (member, _) = joining::known(folder, false)?;
    let offline = Offline::open(place.raft(member, Start::Again)).await?;
    let state = offline.state().map_err(super::file(folder))?;
    let cluster = state.cluster.clone().ok_or_else(empty)?;
    let authority = credentials::load(folder, &cluster)?;
    let alone = state.left_to(member, now_ms()).ok_or(MaintenanceError::NoMember(member))?;
    let credentials = Credentials::open(folder, authority, member.0, CERTIFICATE_LIFETIME)?;
    let others = others(&state, member);
    for (other, address) in &others {
        if answers(address, credentials.keyring()).await {
            return Err(MaintenanceError::PeerAnswers { member: *other, address: address.clone() });
        }
    }
    offline.go_on_with(&alone).await.map_err(super::file(folder))?;
    let gone = match others.len() {
        0 => String::new(),
        _ => {
            let ids: Vec<String> = others.iter().map(|(other, _)| other.to_string()).collect();
            format!(
                ". Members {} are out for good: remove their data directories, and let them join again with `ctl \
                 member token`",
                ids.join(", ")
            )
        }
    };
    Ok(format!("member {member} goes on alone as cluster {cluster}, at revision {}{gone}", alone.revision))
}

fn others(state: &State, me: MemberId) -> Vec<(MemberId, String)> {
    let others = state.members.iter().filter(|(member, _)| **member != me);
    others.map(|(member, record)| (*member, record.address.clone())).collect()
}

/// Whether a member of this cluster is at an address: one that says anything is there.
async fn answers(address: &str, keyring: Keyring) -> bool {
    let Ok(endpoint) = Endpoint::from_shared(format!("http://{address}")) else { return false };
    let connector = trust::connector(keyring, Expect::Member);
    let mut client = HealthClient::new(endpoint.connect_with_connector_lazy(connector));
    match timeout(ANSWER_PATIENCE, client.check(HealthCheckRequest::default())).await {
        Ok(Ok(_)) => true,
        Ok(Err(status)) => !is_not_sent(&status),
        // A member whose process stands still, or whose disk does, takes the connection and may come back.
        Err(_) => timeout(ANSWER_PATIENCE, tokio::net::TcpStream::connect(address))
            .await
            .is_ok_and(|taken| taken.is_ok()),
    }
}
