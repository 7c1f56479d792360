//! The last assignment this node accepted, on disk: what it serves from when it starts without a control plane.
//!
//! The file has a checksum; its payload is a `weft.node.v1.Assignment`. It is replaced whole.
//! The only place that refuses assignments: those of another cluster, for another node, or older than this one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::assignment::Assignment;
use model::id::{ClusterId, Generation};
use model::name::NodeName;
use prost::Message as _;
use proto::convert::DecodeError;
use proto::weft::node::v1 as wire;

use crate::checked_file::{self, Mark};
use crate::durable;

const FILE: &str = "ledger";
/// Where a ledger that cannot be read is kept for those who ask why.
const CORRUPT_EXTENSION: &str = "corrupt";
/// Where that of a cluster is kept that the node has left.
const LEFT_EXTENSION: &str = "left";
const MARK: &Mark = b"weftldg1";

/// The last accepted assignment.
#[derive(Debug, Clone)]
pub struct Ledger {
    path: PathBuf,
    node: NodeName,
    accepted: Option<Arc<Assignment>>,
}

/// Why there is no ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file is there but is not what was written.
    #[error(
        "{} is damaged ({problem}): set it aside with Ledger::set_aside and start empty; the control plane sends the \
         assignment again", .path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: Damage,
    },
    /// It cannot be read or written.
    #[error("cannot use {}: check that the disk has room and the file is this user's", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

/// What is wrong with a ledger's bytes.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It is not the file that was written.
    #[error(transparent)]
    File(#[from] checked_file::Damage),
    /// The payload is not an assignment.
    #[error("its payload is not an assignment: {0}")]
    Payload(#[from] prost::DecodeError),
    /// The assignment in it has a wrong field.
    #[error("its assignment is wrong: {0}")]
    Field(#[from] DecodeError),
    /// It was written for another node.
    #[error("it is of node `{0}`")]
    Node(NodeName),
}

/// Why an assignment is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is for another node.
    #[error("the assignment is for node `{found}`, this node is `{expected}`")]
    OtherNode {
        /// The node it is for.
        found: NodeName,
        /// This node.
        expected: NodeName,
    },
    /// It comes from another cluster than the one this node belongs to.
    #[error(
        "the assignment comes from cluster {found}, this node belongs to {expected}: check --control-plane, or give \
         the node a join token of the other cluster"
    )]
    OtherCluster {
        /// The cluster that sent it.
        found: ClusterId,
        /// The cluster of this node.
        expected: ClusterId,
    },
    /// A newer one was accepted before.
    #[error(
        "the assignment has generation {found}, older than {accepted} that this node accepted: if the control plane \
         was restored from an old backup, stop the agent and remove its ledger"
    )]
    Older {
        /// Its generation.
        found: Generation,
        /// The generation of the accepted one.
        accepted: Generation,
    },
    /// It could not be written down.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Ledger {
    /// Reads the ledger in `folder`; none is an empty one.
    pub fn open(folder: &Path, node: NodeName) -> Result<Self, LedgerError> {
        let path = folder.join(FILE);
        let accepted = match fs::read(&path) {
            Ok(bytes) => {
                let read = decode(&bytes, &node);
                Some(read.map_err(|problem| LedgerError::Corrupt { path: path.clone(), problem })?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(LedgerError::Io { path, source }),
        };
        Ok(Self { path, node, accepted: accepted.map(Arc::new) })
    }

    /// Keeps a ledger that cannot be read as `ledger.corrupt`, so that the next [`Ledger::open`] finds none.
    pub fn set_aside(folder: &Path) -> Result<PathBuf, LedgerError> {
        Self::move_to(folder, CORRUPT_EXTENSION)
    }

    /// The same for the ledger of a cluster that the node has left, as `ledger.left`.
    pub fn leave(folder: &Path) -> Result<PathBuf, LedgerError> {
        Self::move_to(folder, LEFT_EXTENSION)
    }

    fn move_to(folder: &Path, extension: &str) -> Result<PathBuf, LedgerError> {
        let path = folder.join(FILE);
        let aside = durable::beside(&path, extension);
        match durable::rename(&path, &aside) {
            Ok(()) => Ok(aside),
            Err(source) => Err(LedgerError::Io { path, source }),
        }
    }

    /// The last accepted assignment.
    pub fn accepted(&self) -> Option<&Arc<Assignment>> {
        self.accepted.as_ref()
    }

    /// Refuses a control plane of another cluster than the one that assigned before.
    pub fn check_cluster(&self, found: &ClusterId) -> Result<(), Refusal> {
        match &self.accepted {
            Some(accepted) if accepted.cluster != *found => {
                Err(Refusal::OtherCluster { found: found.clone(), expected: accepted.cluster.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Accepts an assignment; it is on disk when this returns.
    pub fn accept(&mut self, assignment: Assignment) -> Result<Arc<Assignment>, Refusal> {
        if assignment.node != self.node {
            return Err(Refusal::OtherNode { found: assignment.node, expected: self.node.clone() });
        }
        self.check_cluster(&assignment.cluster)?;
        if let Some(accepted) = &self.accepted {
            if assignment.generation < accepted.generation {
                let (found, accepted) = (assignment.generation, accepted.generation);
                return Err(Refusal::Older { found, accepted });
            }
            if assignment == **accepted {
                return Ok(Arc::clone(accepted));
            }
        }
        // The same generation with other contents is accepted: it is no older, and a control plane of another
        // version may draw the picture of one state differently.
        durable::replace(&self.path, &encode(&assignment))
            .map_err(|source| LedgerError::Io { path: self.path.clone(), source })?;
        let assignment = Arc::new(assignment);
        self.accepted = Some(Arc::clone(&assignment));
        Ok(assignment)
    }
}

fn encode(assignment: &Assignment) -> Vec<u8> {
    checked_file::encode(MARK, &wire::Assignment::from(assignment.clone()).encode_to_vec())
}

fn decode(bytes: &[u8], node: &NodeName) -> Result<Assignment, Damage> {
    let payload = checked_file::decode(MARK, bytes)?;
    let assignment = Assignment::try_from(wire::Assignment::decode(payload)?)?;
    if assignment.node != *node {
        return Err(Damage::Node(assignment.node));
    }
    Ok(assignment)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};

    use super::*;
    use crate::checked_file::Damage as Broken;

    fn assignment(cluster: &str, node: &str, generation: u64) -> Assignment {
        Assignment {
            cluster: ClusterId::new(cluster).unwrap(),
            node: node.parse().unwrap(),
            generation: Generation(generation),
            graphs: vec![model::assignment::AssignedGraph {
                key: "default/customers".parse().unwrap(),
                uid: model::id::Uid::new("u-1").unwrap(),
                revision: model::id::RevisionNumber(1),
                generation: Generation(generation),
                linked: model::linked::LinkedGraph::default(),
                placement: model::placement::Placement::whole(node.parse().unwrap()),
                failing: std::collections::BTreeSet::new(),
            }],
            peers: std::collections::BTreeMap::new(),
            revoked: std::collections::BTreeSet::new(),
            labels: std::collections::BTreeMap::new(),
        }
    }

    fn open(folder: &Path) -> Result<Ledger, LedgerError> {
        Ledger::open(folder, "n1".parse().unwrap())
    }

    #[test]
    fn keeps_the_newest_over_restarts_and_refuses_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(folder.path()).unwrap();
        assert!(ledger.accepted().is_none());
        ledger.accept(assignment("c", "n1", 5)).unwrap();

        let mut ledger = open(folder.path()).unwrap();
        assert_eq!(**ledger.accepted().unwrap(), assignment("c", "n1", 5));
        assert!(matches!(ledger.accept(assignment("c", "n1", 4)), Err(Refusal::Older { .. })));
        assert!(matches!(ledger.accept(assignment("d", "n1", 6)), Err(Refusal::OtherCluster { .. })));
        assert!(matches!(ledger.accept(assignment("c", "n2", 6)), Err(Refusal::OtherNode { .. })));
        assert_eq!(**open(folder.path()).unwrap().accepted().unwrap(), assignment("c", "n1", 5));

        ledger.accept(assignment("c", "n1", 5)).unwrap();
        ledger.accept(assignment("c", "n1", 6)).unwrap();
        assert_eq!(open(folder.path()).unwrap().accepted().unwrap().generation, Generation(6));
    }

    #[test]
    fn a_damaged_ledger_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).unwrap().accept(assignment("c", "n1", 5)).unwrap();
        let path = folder.path().join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();

        let error = open(folder.path()).unwrap_err();
        let is_damage = matches!(error, LedgerError::Corrupt { problem: Damage::File(Broken::Checksum), .. });
        assert!(is_damage, "{error}");
        let aside = Ledger::set_aside(folder.path()).unwrap();
        assert_eq!(fs::read(aside).unwrap(), bytes);
        assert!(open(folder.path()).unwrap().accepted().is_none());

        let other =
            Ledger::open(folder.path(), "n2".parse().unwrap()).unwrap().accept(assignment("c", "n2", 1));
        other.unwrap();
        assert!(matches!(open(folder.path()), Err(LedgerError::Corrupt { problem: Damage::Node(_), .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_changed_or_missing_byte_is_read_as_an_assignment(at in any::<prop::sample::Index>(), cut in any::<bool>()) {
            let whole = encode(&assignment("c", "n1", 5));
            let at = at.index(whole.len());
            let mut damaged = whole.clone();
            if cut {
                damaged.truncate(at);
            } else {
                damaged[at] ^= 0x10;
            }
            prop_assert!(decode(&damaged, &"n1".parse().unwrap()).is_err());
        }
    }
    use proptest::prelude::prop;
}
