//! Route maps.

use model::id::{Generation, RevisionNumber, StateRevision};
use model::routing::{Candidate, PlacedRoute, RouteMap};

use super::assignment::peers;
use super::rollout::share;
use super::{DecodeError, each, parse, read, required};
use crate::weft::node::v1 as wire;

impl From<RouteMap> for wire::RouteMap {
    fn from(map: RouteMap) -> Self {
        Self {
            cluster: map.cluster.into(),
            at: map.at.0,
            routes: map.routes.into_iter().map(Into::into).collect(),
            nodes: map.nodes.into_iter().map(|(node, peer)| (node.into(), peer.into())).collect(),
            candidates: map.candidates.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::RouteMap> for RouteMap {
    type Error = DecodeError;

    fn try_from(map: wire::RouteMap) -> Result<Self, DecodeError> {
        Ok(Self {
            cluster: read("cluster", map.cluster)?,
            at: StateRevision(map.at),
            routes: each("routes", map.routes)?,
            nodes: peers("nodes", map.nodes)?,
            candidates: each("candidates", map.candidates)?,
        })
    }
}

impl From<Candidate> for wire::Candidate {
    fn from(candidate: Candidate) -> Self {
        Self {
            graph: candidate.graph.into(),
            revision: candidate.revision.0,
            generation: candidate.generation.0,
            share: candidate.share.thousandths().into(),
            routes: candidate.routes.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::Candidate> for Candidate {
    type Error = DecodeError;

    fn try_from(candidate: wire::Candidate) -> Result<Self, DecodeError> {
        Ok(Self {
            graph: parse("graph", &candidate.graph)?,
            revision: RevisionNumber(candidate.revision),
            generation: Generation(candidate.generation),
            share: share("share", candidate.share)?,
            routes: each("routes", candidate.routes)?,
        })
    }
}

impl From<PlacedRoute> for wire::PlacedRoute {
    fn from(placed: PlacedRoute) -> Self {
        Self {
            graph: placed.graph.into(),
            route: Some(placed.route.into()),
            node: placed.nodes.first().map(ToString::to_string).unwrap_or_default(),
            nodes: placed.nodes.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::PlacedRoute> for PlacedRoute {
    type Error = DecodeError;

    fn try_from(placed: wire::PlacedRoute) -> Result<Self, DecodeError> {
        let nodes = match placed.nodes {
            nodes if nodes.is_empty() => vec![read("node", placed.node)?],
            nodes => nodes.into_iter().map(|node| read("nodes", node)).collect::<Result<_, DecodeError>>()?,
        };
        Ok(Self {
            graph: parse("graph", &placed.graph)?,
            route: required("route", placed.route)?.try_into()?,
            nodes,
        })
    }
}
