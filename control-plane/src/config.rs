//! What the control plane is told at start: flags, then environment. The sole reader of both.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Weft's control plane: keeps the desired state, checks and links graphs, places them on nodes.
#[derive(Debug, Clone, Parser)]
#[command(name = "control-plane", version, about)]
pub struct Config {
    /// Where the log, the snapshots and the artifacts are kept.
    #[arg(long, env = "WEFT_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Where the gRPC API listens; port 0 takes a free one.
    #[arg(long, env = "WEFT_LISTEN", default_value = "127.0.0.1:7100")]
    pub listen: SocketAddr,
    /// Make a new cluster if the data directory is empty; without effect if it is not.
    #[arg(long)]
    pub init: bool,
    /// How the log is kept on disk.
    #[arg(long, env = "WEFT_STORAGE", value_enum, default_value = "sled")]
    pub storage: Storage,
    /// How long an agent may be silent before its node counts as down, in milliseconds.
    #[arg(long, env = "WEFT_NODE_TIMEOUT_MS", default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(500..=600_000))]
    pub node_timeout_ms: u64,
    /// Listen on an address that is not loopback, without encryption.
    #[arg(long)]
    pub insecure_listen: bool,
    /// The form of the log on standard error.
    #[arg(long, env = "WEFT_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// The two implementations of the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Storage {
    /// sled with a durability barrier.
    Sled,
    /// Plain files.
    Wal,
}

/// The form of the log on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Links between hosts are not encrypted in this version.
    #[error(
        "--listen {0} is not a loopback address, and this version does not encrypt the API: listen on 127.0.0.1 or \
         [::1], or add --insecure-listen if the network itself is trusted"
    )]
    NotLoopback(SocketAddr),
}

impl Config {
    /// Refuses what flags alone cannot.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !self.listen.ip().is_loopback() && !self.insecure_listen {
            return Err(ConfigError::NotLoopback(self.listen));
        }
        Ok(())
    }

    /// How long an agent may be silent.
    pub const fn node_timeout(&self) -> Duration {
        Duration::from_millis(self.node_timeout_ms)
    }
}
