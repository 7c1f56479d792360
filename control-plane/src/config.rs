//! What the control plane is told at start: flags, then environment. The sole reader of both.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand as _, ValueEnum};
use model::unit::{ByteSize, ByteSizeError, parse_duration};

use crate::maintenance::Maintenance;
use crate::planted::Planted;
use crate::raft::{LOG_MAX_BYTES, STATE_QUOTA_MAX, disk};

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
    /// Join a cluster that there is: the file with a token of `ctl member token`. Without effect once this member has
    /// joined.
    #[arg(
        long,
        env = "WEFT_JOIN_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "init",
        requires = "members"
    )]
    pub join_token_file: Option<PathBuf>,
    /// Members of the cluster to join, `host:port` of each.
    #[arg(long, env = "WEFT_MEMBERS", value_name = "ADDRESS", value_delimiter = ',', value_parser = member_address)]
    pub members: Vec<String>,
    /// Where other members reach this one, `host:port`, if that is not where it listens.
    #[arg(long, env = "WEFT_ADVERTISE", value_name = "ADDRESS", value_parser = member_address)]
    pub advertise: Option<String>,
    /// How the log is kept on disk.
    #[arg(long, env = "WEFT_STORAGE", value_enum, default_value = "sled")]
    pub storage: Storage,
    /// How long members wait for a leader that is silent before another one may lead; that takes up to twice as long. The
    /// same for all members: eight round trips between them, since a heartbeat that is not answered in three sixteenths of
    /// it is none, and several times what a disk takes to sync.
    #[arg(long, env = "WEFT_ELECTION_TIMEOUT", value_name = "DURATION", default_value = "400ms", value_parser = election_timeout)]
    pub election_timeout: Duration,
    /// How long an agent may be silent before its node counts as down and what is there is moved, in milliseconds. The
    /// same for all members: what stops on nodes that are cut off does so within two thirds of it.
    #[arg(long, env = "WEFT_NODE_TIMEOUT_MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(500..=600_000))]
    pub node_timeout_ms: u64,
    /// How long the certificates of nodes and members live; each is renewed at half its life.
    #[arg(long, env = "WEFT_CERTIFICATE_LIFETIME", value_name = "DURATION", default_value = "24h", value_parser = certificate_lifetime)]
    pub certificate_lifetime: Duration,
    /// How long artifacts are kept that no graph and no policy names any more.
    #[arg(long, env = "WEFT_ARTIFACT_GRACE", value_name = "DURATION", default_value = "24h", value_parser = artifact_grace)]
    pub artifact_grace: Duration,
    /// How much all artifacts may have on each member's disk; more are refused.
    #[arg(long, env = "WEFT_ARTIFACT_QUOTA", value_name = "SIZE", default_value = "64Gi")]
    pub artifact_quota: ByteSize,
    /// How large the state of the cluster may be, as its snapshots are; beyond it nothing new is taken, and what exists can
    /// be read and deleted. From 64Ki to 2Gi.
    #[arg(long, env = "WEFT_STATE_QUOTA", value_name = "SIZE", default_value = "512Mi", value_parser = state_quota)]
    pub state_quota: ByteSize,
    /// How much room is kept on the disk: a member with less takes no new changes and lets another one lead. What exists
    /// can be read and deleted.
    #[arg(long, env = "WEFT_DISK_RESERVE", value_name = "SIZE", default_value = "256Mi")]
    pub disk_reserve: ByteSize,
    /// The form of the log on standard error.
    #[arg(long, env = "WEFT_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// What only tests say.
    #[cfg(debug_assertions)]
    #[command(flatten)]
    pub planted: crate::planted::Flags,
}

/// What the program is asked to do.
#[derive(Debug)]
pub enum Program {
    /// To run the control plane.
    Run(Box<Config>),
    /// Something with the data directory alone.
    Maintain(Maintenance),
}

impl Program {
    /// From the command line and the environment; a mistake there, or a question, ends the process.
    pub fn parse() -> Self {
        let matches = Self::command().get_matches();
        Self::of(&matches).unwrap_or_else(|error| error.format(&mut Self::command()).exit())
    }

    /// Flags that run it, and commands beside them that do not.
    fn command() -> clap::Command {
        let (run, about) = (Config::command(), Config::command().get_about().cloned().unwrap_or_default());
        // The commands would say what they are, in the place of what the program is.
        Maintenance::augment_subcommands(run)
            .about(about)
            .subcommand_negates_reqs(true)
            .args_conflicts_with_subcommands(true)
            .disable_help_subcommand(true)
    }

    fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(match matches.subcommand() {
            Some(_) => Self::Maintain(Maintenance::from_arg_matches(matches)?),
            None => Self::Run(Box::new(Config::from_arg_matches(matches)?)),
        })
    }
}

/// The two implementations of the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Storage {
    /// sled with a durability barrier.
    Sled,
    /// Plain files.
    Wal,
}

impl From<Storage> for disk::Kind {
    fn from(storage: Storage) -> Self {
        match storage {
            Storage::Sled => Self::Sled,
            Storage::Wal => Self::Wal,
        }
    }
}

/// The form of the log on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// The feature level that this member says that it knows.
    pub fn feature_level(&self) -> u32 {
        #[cfg(debug_assertions)]
        if let Some(level) = self.planted.pretend_feature_level {
            return level;
        }
        cluster::FEATURE_LEVEL
    }

    /// How long an agent may be silent.
    pub const fn node_timeout(&self) -> Duration {
        Duration::from_millis(self.node_timeout_ms)
    }

    /// The bug that a test has planted.
    #[cfg(debug_assertions)]
    pub const fn planted(&self) -> Planted {
        Planted::of(self.planted.planted_bug)
    }

    /// The bug that a test has planted: none.
    #[cfg(not(debug_assertions))]
    pub const fn planted(&self) -> Planted {
        Planted::of(None)
    }

    /// Bytes of commands after which the log is replaced by a snapshot. What was deleted counts as part of the state until
    /// then.
    pub fn log_max_bytes(&self) -> usize {
        #[cfg(debug_assertions)]
        if let Some(bytes) = self.planted.log_max_bytes {
            return bytes;
        }
        usize::try_from(self.state_quota.0 / 4).map_or(LOG_MAX_BYTES, |part| part.min(LOG_MAX_BYTES))
    }
}

/// The longest address of a member.
const ADDRESS_MAX_BYTES: usize = 255;

/// `host:port`, as it stands in a URI.
pub fn member_address(text: &str) -> Result<String, String> {
    if text.len() > ADDRESS_MAX_BYTES {
        return Err(format!("at most {ADDRESS_MAX_BYTES} bytes were expected"));
    }
    let authority: http::uri::Authority =
        text.parse().map_err(|_| "a host and a port were expected, such as cp-1.example:7100".to_owned())?;
    match authority.port_u16() {
        Some(1..) if !authority.host().is_empty() && !text.contains('@') => Ok(text.to_owned()),
        _ => Err("a host and a port were expected, such as cp-1.example:7100".to_owned()),
    }
}

/// Shorter ones end while a process is not given the processor, longer ones are an outage.
const ELECTION_TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30);

/// Less is full at once, and with what is added until that is noticed, a snapshot of more can not be read.
const STATE_QUOTAS: RangeInclusive<ByteSize> = ByteSize(64 << 10)..=STATE_QUOTA_MAX;

fn state_quota(text: &str) -> Result<ByteSize, String> {
    let quota: ByteSize = text.parse().map_err(|error: ByteSizeError| error.to_string())?;
    if STATE_QUOTAS.contains(&quota) {
        Ok(quota)
    } else {
        Err("a size from 64Ki to 2Gi was expected".to_owned())
    }
}

fn election_timeout(text: &str) -> Result<Duration, String> {
    duration_within(&ELECTION_TIMEOUTS, "from 100ms to 30s", text)
}

/// Shorter ones end while their graph is deployed, longer ones are no grace.
const ARTIFACT_GRACES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(366 * 24);

fn artifact_grace(text: &str) -> Result<Duration, String> {
    duration_within(&ARTIFACT_GRACES, "from 1s to 8784h", text)
}

/// Shorter ones end while they are renewed, and longer ones while nobody remembers them.
const CERTIFICATE_LIFETIMES: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(90 * 24);

fn certificate_lifetime(text: &str) -> Result<Duration, String> {
    duration_within(&CERTIFICATE_LIFETIMES, "from 10s to 2160h", text)
}

/// A duration within bounds; `words` are the bounds for people.
fn duration_within(bounds: &RangeInclusive<Duration>, words: &str, text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    if bounds.contains(&duration) { Ok(duration) } else { Err(format!("it must be {words}")) }
}
