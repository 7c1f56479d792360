//! Who this member is, and the authority that says who everybody is: made with the cluster, kept in the data directory.
//!
//! The member's own certificate lives in memory and is made anew at each start and at half its life; the one for its
//! operators is a file beside, for `ctl` to use.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use model::id::{ClusterId, IdError, Uid};
use tokio_util::sync::CancellationToken;
use trust::authority::{AuthorityError, IssueError};
use trust::identity::IdentityError;
use trust::key::KeyError;
use trust::spiffe::SpiffeIdError;
use trust::{Authority, Identity, Key, Keyring, Role, SpiffeId};
use zeroize::Zeroizing;

use crate::durable;
use crate::raft::Handle;

/// The cluster's greatest secret: whoever has it can be anybody.
const AUTHORITY_FILE: &str = "authority.pem";
/// What operators show, a secret too.
pub const OPERATOR_FILE: &str = "operator.pem";
/// How long the operators' certificate lives: it is copied by hand to where people work, and nothing renews the copies.
const OPERATOR_LIFETIME: Duration = Duration::from_hours(30 * 24);
/// The uid in the operators' certificate.
const OPERATOR_UID: &str = "operator";
/// How long to wait after a certificate could not be made or written: it has half its life left.
const RETRY: Duration = Duration::from_secs(10);
/// The clocks that certificates go by may be set, or stand still while this machine sleeps: they are looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The authority and this member's place under it; a cheap handle.
#[derive(Debug, Clone)]
pub struct Credentials {
    authority: Arc<Authority>,
    keyring: Keyring,
    operator: Identity,
    operator_path: PathBuf,
    member: Uid,
    lifetime: Duration,
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file of the authority is missing.
    #[error(
        "{} is missing, which holds the authority of cluster {cluster}: restore it from a backup of this data \
         directory; no node believes in another one", .path.display()
    )]
    Lost {
        /// Where it should be.
        path: PathBuf,
        /// The cluster.
        cluster: ClusterId,
    },
    /// The file of the authority is missing, and it is not known which cluster's it is.
    #[error("{} is missing, which a member has: restore it, or join anew with an empty data directory", .path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The file of the authority is one of another cluster.
    #[error("{} is the authority of cluster {found}, and this is {expected}: restore the right one", .path.display())]
    OtherCluster {
        /// Where it is.
        path: PathBuf,
        /// The cluster it belongs to.
        found: ClusterId,
        /// This cluster.
        expected: ClusterId,
    },
    /// The file cannot be understood.
    #[error("{} is damaged: restore it from a backup", .path.display())]
    Authority {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: AuthorityError,
    },
    /// The file cannot be read or written.
    #[error("cannot use {}", .path.display())]
    File {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A new authority.
    #[error("the cluster's authority cannot be made")]
    Generate(#[from] AuthorityError),
    /// A key.
    #[error("no key can be made")]
    Key(#[from] KeyError),
    /// A certificate.
    #[error("a certificate cannot be made")]
    Issue(#[from] IssueError),
    /// An identity.
    #[error("an identity cannot be made")]
    Identity(#[from] IdentityError),
    /// A name of an identity.
    #[error("an identity cannot be named")]
    Name(#[from] SpiffeIdError),
    /// An id.
    #[error("an identity cannot be named")]
    Id(#[from] IdError),
}

/// The authority of a cluster that has none yet: one that an earlier start made before it was stopped, or a new one.
pub fn found(data_dir: &Path) -> Result<Authority, CredentialsError> {
    let path = data_dir.join(AUTHORITY_FILE);
    if let Some(authority) = read(&path)? {
        return Ok(authority);
    }
    let cluster = ClusterId::new(uuid::Uuid::new_v4().to_string())?;
    let authority = Authority::generate(&cluster, SystemTime::now())?;
    // On disk before anybody can know of the cluster: without it nothing of it is of use.
    write(&path, authority.to_pem().as_bytes())?;
    Ok(authority)
}

/// Whether there is the authority of a cluster.
pub fn is_founded(data_dir: &Path) -> bool {
    data_dir.join(AUTHORITY_FILE).exists()
}

/// The authority of a cluster that this member has joined, and of whose state it may know nothing yet.
pub fn joined(data_dir: &Path) -> Result<Authority, CredentialsError> {
    let path = data_dir.join(AUTHORITY_FILE);
    read(&path)?.ok_or(CredentialsError::Missing { path })
}

/// Keeps the authority of a cluster that this member joins.
pub fn adopt(data_dir: &Path, authority: &Authority) -> Result<(), CredentialsError> {
    write(&data_dir.join(AUTHORITY_FILE), authority.to_pem().as_bytes())
}

/// The authority of a cluster that there is.
pub fn load(data_dir: &Path, cluster: &ClusterId) -> Result<Authority, CredentialsError> {
    let path = data_dir.join(AUTHORITY_FILE);
    match read(&path)? {
        None => Err(CredentialsError::Lost { path, cluster: cluster.clone() }),
        Some(authority) if authority.cluster() != cluster => {
            let (found, expected) = (authority.cluster().clone(), cluster.clone());
            Err(CredentialsError::OtherCluster { path, found, expected })
        }
        Some(authority) => Ok(authority),
    }
}

fn read(path: &Path) -> Result<Option<Authority>, CredentialsError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CredentialsError::File { path: path.to_owned(), source }),
    };
    let authority = Authority::from_pem(&text);
    authority.map(Some).map_err(|source| CredentialsError::Authority { path: path.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CredentialsError> {
    durable::replace(path, bytes).map_err(|source| CredentialsError::File { path: path.to_owned(), source })
}

impl Credentials {
    /// Makes this member's identity under the authority, and the operators' if the one on disk is past half its life.
    pub fn open(
        data_dir: &Path,
        authority: Authority,
        member: u64,
        lifetime: Duration,
    ) -> Result<Self, CredentialsError> {
        let member = Uid::new(member.to_string())?;
        let operator_path = data_dir.join(OPERATOR_FILE);
        // Nobody has said yet what time it is.
        let now = SystemTime::now();
        let keyring = Keyring::new(issue(&authority, Role::Member, member.clone(), lifetime, now)?);
        let operator = match std::fs::read_to_string(&operator_path).map(Zeroizing::new) {
            Ok(text) => Identity::from_pem(&text).ok().filter(|operator| is_fresh(&authority, operator, now)),
            Err(_) => None,
        };
        let operator = match operator {
            Some(operator) => operator,
            None => write_operator(&authority, &operator_path, now)?,
        };
        Ok(Self { authority: Arc::new(authority), keyring, operator, operator_path, member, lifetime })
    }

    /// What this member shows and believes.
    pub fn keyring(&self) -> Keyring {
        self.keyring.clone()
    }

    /// How long the certificates of nodes and members live.
    pub const fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// The authorities of the cluster, in DER.
    pub fn authorities(&self) -> Vec<Vec<u8>> {
        vec![self.authority.certificate_der().to_vec()]
    }

    /// The authority with its key, for a member that joins.
    pub fn authority_pem(&self) -> Zeroizing<String> {
        self.authority.to_pem()
    }

    /// A certificate for the key of a request, under the name of a node, in DER.
    pub fn certify(&self, request: &[u8], node: Uid, now: SystemTime) -> Result<Vec<u8>, CredentialsError> {
        let id = SpiffeId::new(self.authority.cluster().clone(), Role::Node, node)?;
        Ok(self.authority.issue(request, &id, now..now + self.lifetime)?)
    }

    /// Keeps certificates young and believes in nobody that was revoked, until `stop`.
    pub async fn keep(mut self, raft: Handle, stop: CancellationToken) {
        let mut states = raft.changes();
        loop {
            let revoked = states.borrow_and_update().revoked.keys().cloned().collect();
            if *self.keyring.revoked() != revoked {
                self.keyring.revoke(revoked);
            }
            let now = raft.now();
            let due = self.keyring.identity().renew_at().min(self.operator.renew_at());
            let wait = due.duration_since(now).unwrap_or_default().min(LOOK_EVERY);
            tokio::select! {
                () = stop.cancelled() => return,
                changed = states.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {
                    if let Err(error) = self.renew(raft.now()) {
                        tracing::error!(error = &error as &dyn std::error::Error, "a certificate was not renewed");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        }
    }

    /// Makes anew what is past half its life.
    fn renew(&mut self, now: SystemTime) -> Result<(), CredentialsError> {
        if self.keyring.identity().is_due(now) {
            let identity = issue(&self.authority, Role::Member, self.member.clone(), self.lifetime, now)?;
            tracing::info!(serial = identity.serial(), "this member's certificate is renewed");
            // It is of the same name: made from the same parts.
            if let Err(error) = self.keyring.replace(identity) {
                tracing::error!(%error, "this member's certificate was not renewed");
            }
        }
        if self.operator.is_due(now) {
            self.operator = write_operator(&self.authority, &self.operator_path, now)?;
        }
        Ok(())
    }
}

/// Whether an identity on disk is still good for half its life, and of this authority.
fn is_fresh(authority: &Authority, operator: &Identity, now: SystemTime) -> bool {
    operator.id().role() == Role::Operator
        && operator.authorities().eq([authority.certificate_der()])
        && !operator.is_due(now)
}

fn write_operator(authority: &Authority, path: &Path, now: SystemTime) -> Result<Identity, CredentialsError> {
    let operator = issue(authority, Role::Operator, Uid::new(OPERATOR_UID)?, OPERATOR_LIFETIME, now)?;
    write(path, operator.to_pem().as_bytes())?;
    Ok(operator)
}

fn issue(
    authority: &Authority,
    role: Role,
    uid: Uid,
    lifetime: Duration,
    now: SystemTime,
) -> Result<Identity, CredentialsError> {
    let key = Key::generate()?;
    let id = SpiffeId::new(authority.cluster().clone(), role, uid)?;
    let certificate = authority.issue(&key.request()?, &id, now..now + lifetime)?;
    Ok(Identity::new(key, certificate, vec![authority.certificate_der().to_vec()])?)
}
