//! Assignments.

use std::collections::{BTreeMap, BTreeSet};

use model::assignment::{AssignedGraph, Assignment, Peer};
use model::id::{Generation, RevisionNumber};
use model::name::NodeName;

use super::{DecodeError, each, parse, read, required};
use crate::weft::node::v1 as wire;

impl From<Assignment> for wire::Assignment {
    fn from(assignment: Assignment) -> Self {
        Self {
            cluster: assignment.cluster.into(),
            node: assignment.node.into(),
            generation: assignment.generation.0,
            graphs: assignment.graphs.into_iter().map(Into::into).collect(),
            peers: assignment.peers.into_iter().map(|(node, peer)| (node.into(), peer.into())).collect(),
            revoked: assignment.revoked.into_iter().map(Into::into).collect(),
            labels: assignment.labels.into_iter().collect(),
        }
    }
}

impl TryFrom<wire::Assignment> for Assignment {
    type Error = DecodeError;

    fn try_from(assignment: wire::Assignment) -> Result<Self, DecodeError> {
        Ok(Self {
            cluster: read("cluster", assignment.cluster)?,
            node: read("node", assignment.node)?,
            generation: Generation(assignment.generation),
            graphs: each("graphs", assignment.graphs)?,
            peers: peers("peers", assignment.peers)?,
            revoked: assignment
                .revoked
                .into_iter()
                .map(|uid| read("revoked", uid))
                .collect::<Result<_, DecodeError>>()?,
            labels: assignment.labels.into_iter().collect(),
        })
    }
}

fn names(field: &'static str, names: Vec<String>) -> Result<BTreeSet<NodeName>, DecodeError> {
    names.into_iter().map(|name| read(field, name)).collect()
}

pub(super) fn peers(
    field: &'static str,
    peers: impl IntoIterator<Item = (String, wire::Peer)>,
) -> Result<BTreeMap<NodeName, Peer>, DecodeError> {
    let peers = peers.into_iter().map(|(node, peer)| Ok((read("name", node)?, peer.try_into()?)));
    peers.collect::<Result<_, DecodeError>>().map_err(|error| error.under(field))
}

impl From<Peer> for wire::Peer {
    fn from(peer: Peer) -> Self {
        Self { address: peer.address, uid: peer.uid.into(), zone: peer.zone }
    }
}

impl TryFrom<wire::Peer> for Peer {
    type Error = DecodeError;

    fn try_from(peer: wire::Peer) -> Result<Self, DecodeError> {
        Ok(Self { address: peer.address, uid: read("uid", peer.uid)?, zone: peer.zone })
    }
}

impl From<AssignedGraph> for wire::AssignedGraph {
    fn from(graph: AssignedGraph) -> Self {
        Self {
            graph: graph.key.into(),
            uid: graph.uid.into(),
            revision: graph.revision.0,
            generation: graph.generation.0,
            linked: Some(graph.linked.into()),
            placement: Some(graph.placement.into()),
            failing: graph.failing.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::AssignedGraph> for AssignedGraph {
    type Error = DecodeError;

    fn try_from(graph: wire::AssignedGraph) -> Result<Self, DecodeError> {
        Ok(Self {
            key: parse("graph", &graph.graph)?,
            uid: read("uid", graph.uid)?,
            revision: RevisionNumber(graph.revision),
            generation: Generation(graph.generation),
            linked: required("linked", graph.linked)?
                .try_into()
                .map_err(|error: DecodeError| error.under("linked"))?,
            placement: required("placement", graph.placement)?
                .try_into()
                .map_err(|error: DecodeError| error.under("placement"))?,
            failing: names("failing", graph.failing)?,
        })
    }
}
