//! How this node comes to its identity: by a join token, once; and keeps it: by asking for the next certificate at half
//! of the present one's life.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use http::Uri;
use model::name::NodeName;
use proto::status::{causes, deepest, is_final};
use proto::weft::trust::v1 as wire;
use proto::weft::trust::v1::enrolment_client::EnrolmentClient;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use trust::identity::IdentityError;
use trust::key::KeyError;
use trust::token::JoinTokenError;
use trust::{Fingerprint, Identity, JoinToken, Key, Keyring, Refusal, Role, pinned_connector};
use zeroize::Zeroizing;

use crate::backoff::Backoff;
use crate::control_plane::ControlPlane;
use crate::durable;

/// Certificate, key and authority: a secret.
const IDENTITY_FILE: &str = "identity.pem";
/// The key that asks for the first certificate: kept, so that an answer that was lost can be asked for again.
const KEY_FILE: &str = "key.pem";
/// How long a member may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The waits between rounds over all members.
const BACKOFF_LEAST: Duration = Duration::from_millis(100);
const BACKOFF_MOST: Duration = Duration::from_secs(5);
/// The clock that certificates go by may be set, or stand still while this machine sleeps: it is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Why a node has no identity.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// It never had one, and nothing says how to get one.
    #[error(
        "node {0} has not joined a cluster: make a token for it with `ctl node token {0}`, write it to a file, and \
         start the agent with --join-token-file"
    )]
    NotJoined(NodeName),
    /// Its certificate ended while it was away.
    #[error(
        "the certificate of node {0} has ended, since it was away for too long: make a token for it with `ctl node \
         token {0}`, and start the agent with --join-token-file to join again; its data stays"
    )]
    Ended(NodeName),
    /// The token's file is not readable.
    #[error("the join token cannot be read from {}", .path.display())]
    TokenFile {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The token is damaged.
    #[error("{} holds no join token: {source}", .path.display())]
    Token {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: JoinTokenError,
    },
    /// The control plane does not let this node in.
    #[error("the control plane does not let node {node} join: {message}")]
    Refused {
        /// The node.
        node: NodeName,
        /// What it said.
        message: String,
    },
    /// What answers at the addresses is not the cluster of the token.
    #[error("{address} is not of the cluster that the join token is for: {refusal}")]
    OtherCluster {
        /// The member's address.
        address: Uri,
        /// What was found.
        refusal: Refusal,
    },
    /// The answer makes no identity.
    #[error("the control plane's answer makes no identity for node {node}: {source}")]
    Answer {
        /// The node.
        node: NodeName,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// The identity on disk is damaged.
    #[error(
        "{} is damaged: restore it, or remove it and join again with a new token; the node's data stays", .path.display()
    )]
    Damaged {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// A file cannot be read or written.
    #[error("cannot use {}", .path.display())]
    File {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key.
    #[error("no key can be made")]
    Key(#[from] KeyError),
}

/// A node that has an identity or wants one.
#[derive(Debug, Clone)]
pub struct Enrolment {
    node: NodeName,
    folder: PathBuf,
}

impl Enrolment {
    /// That of a node whose data directory this is.
    pub fn new(node: NodeName, folder: PathBuf) -> Self {
        Self { node, folder }
    }

    /// The identity on disk if it is still good, else a new one by the token in a file: also where that is of another
    /// cluster, as after a backup was restored. Waits for a control plane that is not there; one that refuses ends it.
    pub async fn identity(&self, members: &[Uri], token: Option<&Path>) -> Result<Identity, EnrolmentError> {
        let stored = self.stored()?;
        if let Some(identity) = &stored
            && SystemTime::now() < identity.expires()
            && !token.is_some_and(|token| is_of_another_cluster(token, identity))
        {
            return Ok(identity.clone());
        }
        let Some(path) = token else {
            let node = self.node.clone();
            return Err(if stored.is_some() {
                EnrolmentError::Ended(node)
            } else {
                EnrolmentError::NotJoined(node)
            });
        };
        let text = std::fs::read_to_string(path).map(Zeroizing::new);
        let text = text.map_err(|source| EnrolmentError::TokenFile { path: path.to_owned(), source })?;
        let token: JoinToken =
            text.parse().map_err(|source| EnrolmentError::Token { path: path.to_owned(), source })?;
        self.join(members, &token).await
    }

    fn stored(&self) -> Result<Option<Identity>, EnrolmentError> {
        let path = self.folder.join(IDENTITY_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(EnrolmentError::File { path, source }),
        };
        Identity::from_pem(&text).map(Some).map_err(|source| EnrolmentError::Damaged { path, source })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), EnrolmentError> {
        let path = self.folder.join(name);
        durable::replace(&path, bytes).map_err(|source| EnrolmentError::File { path, source })
    }

    /// The key of a join that may be under way since an earlier start, or a new one.
    fn key(&self) -> Result<Key, EnrolmentError> {
        let text = std::fs::read_to_string(self.folder.join(KEY_FILE)).map(Zeroizing::new);
        if let Some(key) = text.ok().and_then(|text| Key::from_pem(&text).ok()) {
            return Ok(key);
        }
        let key = Key::generate()?;
        self.write(KEY_FILE, key.to_pem().as_bytes())?;
        Ok(key)
    }

    async fn join(&self, members: &[Uri], token: &JoinToken) -> Result<Identity, EnrolmentError> {
        let key = self.key()?;
        let request = wire::JoinRequest {
            token: token.reveal().to_string(),
            node: self.node.to_string(),
            certificate_request: key.request()?,
        };
        let control_plane = ControlPlane::new(members, &pinned_connector(token.authority()));
        let mut backoff = Backoff::new(BACKOFF_LEAST, BACKOFF_MOST);
        loop {
            let mut other = None;
            for (_, member) in control_plane.members() {
                let mut client = EnrolmentClient::new(member.channel());
                match timeout(ANSWER_TIMEOUT, client.join(request.clone())).await {
                    Ok(Ok(answer)) => {
                        let wire::JoinResponse { certificate, authorities } = answer.into_inner();
                        return self.keep_first(key, certificate, authorities);
                    }
                    Ok(Err(status)) if is_final(&status) => {
                        let (node, message) = (self.node.clone(), status.message().to_owned());
                        return Err(EnrolmentError::Refused { node, message });
                    }
                    Ok(Err(status)) => match refusal(&status) {
                        Some(refusal) => {
                            let refusal = refusal.clone();
                            other =
                                Some(EnrolmentError::OtherCluster { address: member.uri().clone(), refusal });
                        }
                        None => {
                            tracing::info!(member = %member.uri(), why = %deepest(&status), "this member lets nobody join yet");
                        }
                    },
                    Err(_) => tracing::info!(member = %member.uri(), "this member does not answer"),
                }
            }
            if let Some(error) = other {
                return Err(error);
            }
            sleep(backoff.after_failure()).await;
        }
    }

    fn keep_first(
        &self,
        key: Key,
        certificate: Vec<u8>,
        authorities: Vec<Vec<u8>>,
    ) -> Result<Identity, EnrolmentError> {
        let identity = Identity::new(key, certificate, authorities)
            .map_err(|source| EnrolmentError::Answer { node: self.node.clone(), source })?;
        if identity.id().role() != Role::Node {
            let message = format!("it made this node {}", identity.id());
            return Err(EnrolmentError::Refused { node: self.node.clone(), message });
        }
        self.write(IDENTITY_FILE, identity.to_pem().as_bytes())?;
        // What it was for is done; the next join is another one.
        let _ = std::fs::remove_file(self.folder.join(KEY_FILE));
        tracing::info!(id = %identity.id(), "this node has joined the cluster");
        Ok(identity)
    }

    /// Keeps the certificate young until `stop`.
    pub async fn keep(self, keyring: Keyring, control_plane: ControlPlane, stop: CancellationToken) {
        let mut backoff = Backoff::new(BACKOFF_LEAST, LOOK_EVERY);
        loop {
            let due = keyring.identity().renew_at().duration_since(SystemTime::now()).unwrap_or_default();
            let wait = if due.is_zero() { backoff.after_failure() } else { due.min(LOOK_EVERY) };
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(wait) => {}
            }
            if SystemTime::now() < keyring.identity().renew_at() {
                continue;
            }
            match self.renew(&keyring, &control_plane).await {
                Ok(()) => backoff.reset(),
                Err(error) => tracing::warn!(error = %error, "this node's certificate was not renewed yet"),
            }
        }
    }

    async fn renew(&self, keyring: &Keyring, control_plane: &ControlPlane) -> Result<(), String> {
        // A new key each time, so that one that leaked is of use for one life only.
        let key = Key::generate().map_err(|error| error.to_string())?;
        let request =
            wire::RenewRequest { certificate_request: key.request().map_err(|error| error.to_string())? };
        let mut last = "there is no member".to_owned();
        for (_, member) in control_plane.members() {
            let mut client = EnrolmentClient::new(member.channel());
            let answer = match timeout(ANSWER_TIMEOUT, client.renew(request.clone())).await {
                Ok(Ok(answer)) => answer.into_inner(),
                Ok(Err(status)) => {
                    last = format!("{}: {}", member.uri(), deepest(&status));
                    continue;
                }
                Err(_) => {
                    last = format!("{}: no answer", member.uri());
                    continue;
                }
            };
            let identity = Identity::new(key, answer.certificate, answer.authorities);
            let identity = identity.map_err(|error| error.to_string())?;
            let pem = identity.to_pem();
            keyring.replace(identity).map_err(|error| error.to_string())?;
            self.write(IDENTITY_FILE, pem.as_bytes()).map_err(|error| error.to_string())?;
            tracing::info!(serial = keyring.identity().serial(), "this node's certificate is renewed");
            return Ok(());
        }
        Err(last)
    }
}

/// Whether a file has a token of another cluster than that of an identity. One that was used, and is gone or cleared
/// since, has none.
fn is_of_another_cluster(token: &Path, identity: &Identity) -> bool {
    let text = std::fs::read_to_string(token).map(Zeroizing::new);
    let token = text.ok().and_then(|text| text.parse::<JoinToken>().ok());
    token.is_some_and(|token| !identity.authorities().any(|der| Fingerprint::of(der) == token.authority()))
}

/// Why the other end is not the one that was expected, if that is why the call failed.
fn refusal(status: &Status) -> Option<&Refusal> {
    causes(status).find_map(|cause| cause.downcast_ref::<io::Error>().and_then(Refusal::of))
}
