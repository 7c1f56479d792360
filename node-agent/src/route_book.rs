//! The routes of the cluster that this node was told of last, on disk: by them its ingress passes requests on to other
//! nodes, also when it starts without a control plane.
//!
//! The file has a checksum; its payload is a `weft.node.v1.RouteMap`. It is replaced whole. One that is damaged is as
//! good as none: the control plane tells all of it again at the next connection.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::id::StateRevision;
use model::routing::RouteMap;
use prost::Message as _;
use proto::weft::node::v1 as wire;

use crate::checked_file::{self, Mark};
use crate::durable;

const FILE: &str = "routes";
const MARK: &Mark = b"weftrts1";

/// The last map.
#[derive(Debug, Clone)]
pub struct RouteBook {
    path: PathBuf,
    latest: Option<Arc<RouteMap>>,
}

/// Why a map is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A newer one was accepted before: this one comes from a member of the control plane that is behind.
    #[error("these routes are of revision {found}, older than {known} which this node knows")]
    Older {
        /// Its revision.
        found: StateRevision,
        /// The revision of the one that is known.
        known: StateRevision,
    },
    /// It could not be written down.
    #[error("cannot write {}: check that the disk has room", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

impl RouteBook {
    /// Reads the file in `folder`; none is an empty book.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(FILE);
        let latest = match std::fs::read(&path) {
            Ok(bytes) => match decode(&bytes) {
                Ok(map) => Some(Arc::new(map)),
                Err(problem) => {
                    tracing::warn!(%problem, file = %path.display(), "routes cannot be read; the control plane tells them again");
                    None
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { path, latest })
    }

    /// The last map.
    pub fn latest(&self) -> Option<&Arc<RouteMap>> {
        self.latest.as_ref()
    }

    /// Accepts a map; it is on disk when this returns. One of another cluster takes the place of the old: the node has
    /// joined that.
    pub fn accept(&mut self, map: RouteMap) -> Result<Arc<RouteMap>, Refusal> {
        let known = self.latest.as_ref().filter(|known| known.cluster == map.cluster);
        if let Some(known) = known {
            if map.at < known.at {
                return Err(Refusal::Older { found: map.at, known: known.at });
            }
            if **known == map {
                return Ok(known.clone());
            }
        }
        let bytes = checked_file::encode(MARK, &wire::RouteMap::from(map.clone()).encode_to_vec());
        durable::replace(&self.path, &bytes)
            .map_err(|source| Refusal::Io { path: self.path.clone(), source })?;
        let map = Arc::new(map);
        self.latest = Some(map.clone());
        Ok(map)
    }
}

fn decode(bytes: &[u8]) -> Result<RouteMap, String> {
    let payload = checked_file::decode(MARK, bytes).map_err(|error| error.to_string())?;
    let map = wire::RouteMap::decode(payload).map_err(|error| error.to_string())?;
    RouteMap::try_from(map).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use model::id::ClusterId;

    use super::*;

    fn map(cluster: &str, at: u64) -> RouteMap {
        let cluster = ClusterId::new(cluster).unwrap();
        RouteMap {
            cluster,
            at: StateRevision(at),
            routes: Vec::new(),
            candidates: Vec::new(),
            nodes: BTreeMap::new(),
        }
    }

    #[test]
    fn keeps_the_newest_over_restarts_and_begins_anew_in_another_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = RouteBook::open(folder.path()).unwrap();
        assert!(book.latest().is_none());
        book.accept(map("c", 5)).unwrap();

        let mut book = RouteBook::open(folder.path()).unwrap();
        assert_eq!(**book.latest().unwrap(), map("c", 5));
        assert!(matches!(book.accept(map("c", 4)), Err(Refusal::Older { .. })));
        book.accept(map("c", 5)).unwrap();
        book.accept(map("d", 1)).unwrap();
        assert_eq!(**RouteBook::open(folder.path()).unwrap().latest().unwrap(), map("d", 1));
    }

    #[test]
    fn a_damaged_one_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        RouteBook::open(folder.path()).unwrap().accept(map("c", 5)).unwrap();
        let path = folder.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        for at in [0, MARK.len(), whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            assert!(RouteBook::open(folder.path()).unwrap().latest().is_none());
        }
        std::fs::write(&path, &whole[..10]).unwrap();
        assert!(RouteBook::open(folder.path()).unwrap().latest().is_none());
    }
}
