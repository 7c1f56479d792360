//! Which member this is: the first of a new cluster, one that was there before, or one that joins by a token.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::state::{FIRST_MEMBER, MemberId};
use proto::status::{causes, deepest, is_final};
use proto::weft::member::v1 as wire;
use proto::weft::member::v1::members_client::MembersClient;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Endpoint;
use trust::authority::AuthorityError;
use trust::token::JoinTokenError;
use trust::{Authority, JoinToken, Refusal, pinned_connector};
use zeroize::Zeroizing;

use crate::config::{Config, member_address};
use crate::credentials::{self, CredentialsError};
use crate::durable;
use crate::raft::{Handle, LOG_FOLDER, Start};

/// Which member this is: there once it has joined.
const MEMBER_FILE: &str = "member.json";
/// What shows that a join that is repeated is of the same member: kept until it has an answer.
const KEY_FILE: &str = "join.key";
/// How long a member may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The wait between two rounds over the members.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Why this is no member.
#[derive(Debug, thiserror::Error)]
pub enum NotJoined {
    /// A file of the data directory.
    #[error("cannot use {}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is damaged.
    #[error("{} is damaged: {what}; join anew with an empty data directory", .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The token.
    #[error("{} holds no join token: {source}", .path.display())]
    Token {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: JoinTokenError,
    },
    /// Its log is gone.
    #[error(
        "{} has the authority of a cluster and no log: it was lost. Let this machine join anew with an empty data \
         directory, or restore a backup", .path.display()
    )]
    LogLost {
        /// Where it should be.
        path: PathBuf,
    },
    /// Nobody could reach it.
    #[error("others must reach a member that joins: give it --advertise host:port, or a port to listen on")]
    Address,
    /// The cluster does not let it in.
    #[error("the cluster does not let this member join: {0}")]
    Refused(String),
    /// What answers is not the cluster of the token.
    #[error("{address} is not of the cluster that the join token is for: {refusal}")]
    OtherCluster {
        /// The member's address.
        address: String,
        /// What was found.
        refusal: Refusal,
    },
    /// The answer.
    #[error("the cluster's answer is no authority")]
    Answer(#[source] AuthorityError),
    /// What is kept.
    #[error("the cluster's authority cannot be kept")]
    Keep(#[from] CredentialsError),
}

/// Which member this is, and what an empty log of it may become.
pub async fn member(config: &Config) -> Result<(MemberId, Start), NotJoined> {
    let folder = &config.data_dir;
    let Some(path) = config.join_token_file.as_ref() else { return known(folder, config.init) };
    if stored(folder)?.is_some() {
        return known(folder, false);
    }
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    let text = text.map_err(|source| NotJoined::File { path: path.clone(), source })?;
    let token: JoinToken = text.parse().map_err(|source| NotJoined::Token { path: path.clone(), source })?;
    let address = address(config, config.listen.port())?;
    durable::create_folder(folder).map_err(|source| NotJoined::File { path: folder.clone(), source })?;
    let (member, authority) =
        join(&config.members, &token, key(folder)?, address, config.feature_level()).await?;
    credentials::adopt(folder, &authority)?;
    write(folder, member, false)?;
    let _ = std::fs::remove_file(folder.join(KEY_FILE));
    tracing::info!(%member, cluster = %authority.cluster(), "this member has joined the cluster");
    Ok((member, Start::Join))
}

/// Which member a data directory is of; an empty one is that of the first member, which may make a cluster if it is
/// asked to.
pub fn known(folder: &Path, may_init: bool) -> Result<(MemberId, Start), NotJoined> {
    if let Some((member, has_begun)) = stored(folder)? {
        // A log that is empty now was lost: whoever has lost its vote must not vote again.
        return Ok((member, if has_begun { Start::Again } else { Start::Join }));
    }
    let is_new = may_init && !credentials::is_founded(folder);
    // The authority is made after the log: without that, it was lost, and its member must not vote again.
    if may_init && !is_new && !folder.join(LOG_FOLDER).exists() {
        return Err(NotJoined::LogLost { path: folder.to_owned() });
    }
    Ok((FIRST_MEMBER, if is_new { Start::Init } else { Start::Again }))
}

/// Notes that the member has a log, which is never empty again, once it has.
pub async fn note_begun(raft: Handle, data_dir: PathBuf, member: MemberId, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = raft.has_log() => {}
    }
    if let Err(error) = begun(&data_dir, member) {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "it was not noted that this member has begun"
        );
    }
    // A loop that ends is one that is lost.
    stop.cancelled().await;
}

fn begun(data_dir: &Path, member: MemberId) -> Result<(), NotJoined> {
    if member == FIRST_MEMBER { Ok(()) } else { write(data_dir, member, true) }
}

/// Where others reach this member, which listens on `port`.
pub fn address(config: &Config, port: u16) -> Result<String, NotJoined> {
    match &config.advertise {
        Some(address) => Ok(address.clone()),
        None if port != 0 && !config.listen.ip().is_unspecified() => {
            let address = std::net::SocketAddr::new(config.listen.ip(), port).to_string();
            member_address(&address).map_err(|_| NotJoined::Address)
        }
        None => Err(NotJoined::Address),
    }
}

fn stored(folder: &Path) -> Result<Option<(MemberId, bool)>, NotJoined> {
    let path = folder.join(MEMBER_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(NotJoined::File { path, source }),
    };
    let damaged = |what: &str| NotJoined::Damaged { path: path.clone(), what: what.to_owned() };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| damaged(&error.to_string()))?;
    let member = value["member"].as_u64().ok_or_else(|| damaged("it names no member"))?;
    let has_begun = value["begun"].as_bool().ok_or_else(|| damaged("it does not say whether it has begun"))?;
    Ok(Some((MemberId(member), has_begun)))
}

fn write(folder: &Path, member: MemberId, has_begun: bool) -> Result<(), NotJoined> {
    let path = folder.join(MEMBER_FILE);
    let text = json!({"member": member.0, "begun": has_begun}).to_string();
    durable::replace(&path, text.as_bytes()).map_err(|source| NotJoined::File { path, source })
}

/// The secret of a join that may be under way since an earlier start, or a new one.
fn key(folder: &Path) -> Result<String, NotJoined> {
    let path = folder.join(KEY_FILE);
    if let Ok(known) = std::fs::read_to_string(&path)
        && !known.is_empty()
    {
        return Ok(known);
    }
    let secret = uuid::Uuid::new_v4().to_string();
    durable::replace(&path, secret.as_bytes()).map_err(|source| NotJoined::File { path, source })?;
    Ok(secret)
}

async fn join(
    members: &[String],
    token: &JoinToken,
    key: String,
    address: String,
    feature_level: u32,
) -> Result<(MemberId, Authority), NotJoined> {
    let (token_text, key) = (token.reveal().to_string(), hex::encode(Sha256::digest(key)));
    let request = wire::JoinRequest { token: token_text, key, address, feature_level };
    loop {
        let mut other = None;
        for address in members {
            let Ok(endpoint) = Endpoint::from_shared(format!("http://{address}")) else { continue };
            let connector = pinned_connector(token.authority());
            let mut client = MembersClient::new(endpoint.connect_with_connector_lazy(connector));
            match timeout(ANSWER_TIMEOUT, client.join(request.clone())).await {
                Ok(Ok(answer)) => {
                    let answer = answer.into_inner();
                    let authority = Zeroizing::new(answer.authority);
                    let authority = Authority::from_pem(&authority).map_err(NotJoined::Answer)?;
                    return Ok((MemberId(answer.member), authority));
                }
                Ok(Err(status)) if is_final(&status) => {
                    return Err(NotJoined::Refused(status.message().to_owned()));
                }
                Ok(Err(status)) => match refusal(&status) {
                    Some(refusal) => {
                        let (address, refusal) = (address.clone(), refusal.clone());
                        other = Some(NotJoined::OtherCluster { address, refusal });
                    }
                    None => {
                        tracing::info!(member = address, why = %deepest(&status), "this member lets nobody join yet");
                    }
                },
                Err(_) => tracing::info!(member = address, "this member does not answer"),
            }
        }
        if let Some(error) = other {
            return Err(error);
        }
        sleep(ASK_AGAIN).await;
    }
}

/// Why the other end is not the one that was expected, if that is why the call failed.
fn refusal(status: &Status) -> Option<&Refusal> {
    causes(status).find_map(|cause| cause.downcast_ref::<io::Error>().and_then(Refusal::of))
}
