//! What became of a command: data, replicated and kept for the request that asked.

use model::id::{Generation, GraphKey, RevisionNumber, StateRevision};
use model::name::{NamespaceName, NodeName, PolicyName};
use model::reserve::Priority;
use serde::{Deserialize, Serialize};

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A graph has this revision now.
    Deployed {
        /// The graph.
        key: GraphKey,
        /// Its revision.
        revision: RevisionNumber,
        /// Its generation.
        generation: Generation,
        /// Whether the deploy changed nothing.
        unchanged: bool,
    },
    /// A graph is gone.
    GraphDeleted,
    /// A policy has this version now.
    PolicyPut {
        /// The policy.
        name: PolicyName,
        /// Its version.
        generation: Generation,
        /// Whether it was there, the same, before.
        unchanged: bool,
    },
    /// A policy is gone.
    PolicyDeleted,
    /// Done, with nothing to tell.
    Done {
        /// The state it is in.
        at: StateRevision,
    },
    /// Not done, for a reason the proposer can act on; nothing has changed.
    Refused(Refusal),
}

/// Why a command was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// What it was decided from has changed: decide again.
    #[error("{what} changed meanwhile")]
    Stale {
        /// What has changed.
        what: String,
    },
    /// The graph's revision is not the expected one.
    #[error("{key} is at revision {}, not at the expected {}", shown(*.found), shown(*.expected))]
    RevisionConflict {
        /// The graph.
        key: GraphKey,
        /// What was expected.
        expected: Option<RevisionNumber>,
        /// What it is.
        found: Option<RevisionNumber>,
    },
    /// There is no such object.
    #[error("there is no {what}")]
    NotFound {
        /// The object.
        what: String,
    },
    /// The request id was used for something else.
    #[error("request id {id} was already used for another request")]
    RequestMismatch {
        /// The id.
        id: String,
    },
    /// The request is older than what is remembered of requests.
    #[error(
        "request {id} is so old that it is not known any more whether it was applied: look at what it was to change, \
         and ask under a new id"
    )]
    RequestExpired {
        /// Its id.
        id: String,
    },
    /// The request was made by a clock that is far ahead.
    #[error("request {id} says that it was made more than a day from now: set the clock of who made it")]
    RequestEarly {
        /// Its id.
        id: String,
    },
    /// A member's version does not know what the cluster uses, or is to use.
    #[error(
        "member {member} knows feature level {known}, and {needed} is needed: run a version that is as new as that of the \
         other members"
    )]
    LevelTooLow {
        /// Who.
        member: String,
        /// What it knows.
        known: u32,
        /// What is needed.
        needed: u32,
    },
    /// A bound of the cluster is reached.
    #[error("{what}: the bound is {bound}")]
    Exhausted {
        /// What there is too much of.
        what: String,
        /// The bound.
        bound: u64,
    },
    /// A version of another policy takes over by steps, which one does at a time.
    #[error(
        "a version of policy {name} takes over by steps, which one policy does at a time: wait for it, end it with \
         `ctl policy rollout promote {name}` or `revert {name}`, or apply at once"
    )]
    PolicyRolloutOpen {
        /// That policy.
        name: String,
    },
    /// The graphs of a namespace would use more than they may.
    #[error(
        "quota `{measure}` of namespace {namespace} is {bound}: its other graphs use {others}, and {key} would use {asks} \
         where it uses {has} now. Let it use less, delete what is not needed, or have the quota raised"
    )]
    QuotaExceeded {
        /// The namespace.
        namespace: NamespaceName,
        /// What is measured: `graphs`, `replicas`, `memory` or `reserved`.
        measure: String,
        /// How much there may be.
        bound: String,
        /// How much the other graphs use.
        others: String,
        /// The graph that was to be deployed.
        key: GraphKey,
        /// How much it would use.
        asks: String,
        /// How much it uses as it is.
        has: String,
    },
    /// What is reserved for a graph would come before more than its namespace may.
    #[error(
        "quota `priority` of namespace {namespace} is {bound}: what is reserved for {key} would have priority {asks}. Say \
         `priority: {bound}` or less in its manifest, or have the quota raised"
    )]
    PriorityExceeded {
        /// The namespace.
        namespace: NamespaceName,
        /// The highest priority there may be.
        bound: Priority,
        /// The graph that was to be deployed.
        key: GraphKey,
        /// Its priority.
        asks: Priority,
    },
    /// Another graph answers at this host and path already.
    #[error("{route} is taken by graph {by}: a host and path lead to one graph")]
    RouteTaken {
        /// The host and path.
        route: String,
        /// Whose they are.
        by: GraphKey,
    },
    /// The cluster has its identity already.
    #[error("the cluster is initialised already")]
    AlreadyInitialised,
    /// No token that is good lets whoever asks join: which of the reasons it is, is not told.
    #[error(
        "no join token for {who} that is still good has this secret: it may be used, too old, or for another"
    )]
    TokenRefused {
        /// A node or a member.
        who: String,
    },
    /// The cluster would have nobody to decide.
    #[error("member {member} is the last that has a vote: give another one a vote first")]
    LastVoter {
        /// The member.
        member: u64,
    },
    /// What the node has would be lost.
    #[error("{}", in_use(.node, .key, *.has_data))]
    NodeInUse {
        /// The node.
        node: NodeName,
        /// A graph that has a part there.
        key: GraphKey,
        /// Whether that has data there.
        has_data: bool,
    },
    /// The node's identity was revoked.
    #[error("the identity of node {name} was revoked: it joins again only by a new token")]
    NodeRevoked {
        /// The node.
        name: String,
    },
    /// A node of that name with another identity is known.
    #[error("node {name} is known with another identity ({known}): an identity is never replaced")]
    NodeIdentity {
        /// The name.
        name: String,
        /// The identity that is known.
        known: String,
    },
}

fn in_use(node: &NodeName, key: &GraphKey, has_data: bool) -> String {
    if has_data {
        format!(
            "{key} has data on node {node}, which would be lost: delete the graph, or say that they are given up"
        )
    } else {
        format!("{key} is on node {node}: drain the node first")
    }
}

fn shown(revision: Option<RevisionNumber>) -> String {
    revision.map_or_else(|| "none".to_owned(), |revision| revision.to_string())
}
