//! What is done to a data directory while no control plane runs on it.

mod init;
mod recover;
mod restore;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use cluster::state::MemberId;
use model::id::ClusterId;
use proto::backup::BackupError;

use crate::artifacts::ArtifactError;
use crate::config::Storage;
use crate::credentials::CredentialsError;
use crate::joining::NotJoined;
use crate::planted::Planted;
use crate::raft::{ELECTION_TIMEOUT, LOG_MAX_BYTES, OpenError, Peers, RaftConfig, Room, Start};
use crate::server::NotInitialised;

pub use restore::is_unfinished;

/// How long this member's certificate lives while something is done: one that runs makes its own.
const CERTIFICATE_LIFETIME: Duration = Duration::from_hours(1);

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Maintenance {
    /// Make a new cluster in an empty data directory, and stop. Refused where there is one.
    Init(init::Arguments),
    /// Let this member go on alone after most others were lost for good. What only they had is lost.
    Recover(recover::Arguments),
    /// Make a new cluster in an empty data directory from a backup of `ctl cluster snapshot save`, and stop.
    Restore(restore::Arguments),
}

/// Where, and how it is kept.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// Where the log, the snapshots and the artifacts are kept.
    #[arg(long, env = "WEFT_DATA_DIR")]
    pub data_dir: PathBuf,
    /// How the log is kept on disk.
    #[arg(long, env = "WEFT_STORAGE", value_enum, default_value = "sled")]
    pub storage: Storage,
}

impl Place {
    fn raft(&self, member: MemberId, start: Start) -> RaftConfig {
        RaftConfig {
            data_dir: self.data_dir.clone(),
            node_id: member.0,
            storage: self.storage.into(),
            start,
            peers: Peers::default(),
            log_max_bytes: LOG_MAX_BYTES,
            election_timeout: ELECTION_TIMEOUT,
            room: Room::default(),
            planted: Planted::default(),
        }
    }
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// There is a cluster.
    #[error("{} holds cluster {cluster} already: nothing was changed", .path.display())]
    Initialised {
        /// Where.
        path: PathBuf,
        /// Which.
        cluster: ClusterId,
    },
    /// There is something.
    #[error("{} is not empty: a backup is restored into an empty data directory", .path.display())]
    NotEmpty {
        /// Where.
        path: PathBuf,
    },
    /// There is nothing.
    #[error("{} holds no cluster: there is nothing to go on with. `control-plane restore` takes a backup", .path.display())]
    Empty {
        /// Where.
        path: PathBuf,
    },
    /// Others are there.
    #[error(
        "member {member} at {address} answers: while others are there, going on alone makes two clusters of one. Give \
         it a quorum, or stop it for good first"
    )]
    PeerAnswers {
        /// Who.
        member: MemberId,
        /// Where.
        address: String,
    },
    /// This is none of the members.
    #[error("member {0} was taken out of the cluster: it cannot go on as the last of it")]
    NoMember(MemberId),
    /// The backup.
    #[error("the backup {} cannot be restored", .path.display())]
    Backup {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: BackupError,
    },
    /// What the backup says is not sound.
    #[error("the backup {} cannot be restored: {what}", .path.display())]
    Unsound {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The member's log.
    #[error("the member's storage cannot be used")]
    Open(#[from] OpenError),
    /// Which member this is.
    #[error("it is not known which member this is")]
    Joining(#[from] NotJoined),
    /// The authority.
    #[error("the cluster's authority cannot be used")]
    Credentials(#[from] CredentialsError),
    /// The identity of a new cluster.
    #[error(transparent)]
    NotInitialised(#[from] NotInitialised),
    /// Artifacts.
    #[error("the artifact store cannot be used")]
    Artifacts(#[from] ArtifactError),
    /// A file.
    #[error("cannot use {}", .path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> MaintenanceError + '_ {
    move |source| MaintenanceError::File { path: path.to_owned(), source }
}

impl Maintenance {
    /// Does it, and says what was done.
    pub async fn run(self) -> Result<(), MaintenanceError> {
        let said = match self {
            Self::Init(arguments) => init::run(arguments).await?,
            Self::Recover(arguments) => recover::run(arguments).await?,
            Self::Restore(arguments) => restore::run(arguments).await?,
        };
        // Whoever has closed standard output does not want to know.
        let _ = writeln!(io::stdout(), "{said}");
        Ok(())
    }
}
