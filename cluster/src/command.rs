//! What can be asked of the cluster: one entry of the log each.
//!
//! A command carries everything that was decided: time, ids, linked graphs. `apply` decides nothing but whether the
//! preconditions still hold.

use std::collections::{BTreeMap, BTreeSet};

use model::digest::Digest;
use model::graph::{Artifact, GraphSpec};
use model::id::{ClusterId, Generation, GraphKey, RequestId, RevisionNumber, StateRevision, Uid};
use model::linked::LinkedGraph;
use model::name::{NodeName, PolicyName};
use model::node::{Admission, NodeDescription, NodeState};
use model::placement::Placement;
use model::policy::{PolicySpec, PolicyVersion};
use model::report::Report;
use model::rollout::Phase;
use serde::{Deserialize, Serialize};

use crate::member::MemberId;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// The proposer's clock, milliseconds since 1970; the state never goes back behind the last one.
    pub now_ms: u64,
    /// Set on each mutation that a client asked for: applied once.
    pub request: Option<RequestTag>,
    /// What is asked.
    pub body: Body,
}

/// Tells a repeated request from another one that reuses its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestTag {
    /// Chosen by the client.
    pub id: RequestId,
    /// A digest of what the client asked for, as hex.
    pub fingerprint: String,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// Gives the cluster its identity; the first command of every log.
    InitCluster {
        /// The identity.
        cluster: ClusterId,
        /// The feature level that it begins with.
        #[serde(default = "crate::feature::first")]
        level: u32,
    },
    /// Makes a new revision of a graph.
    Deploy(Box<Deploy>),
    /// Takes a graph away.
    DeleteGraph(DeleteGraph),
    /// Links a graph again, after the policies have changed.
    Relink(Box<Relink>),
    /// Moves a revision that takes over by steps, or ends it.
    ChangeRollout(Box<ChangeRollout>),
    /// Links a graph with a version of a policy that takes over by steps, beside what it is.
    OpenCandidate(Box<OpenCandidate>),
    /// Makes a new version of a policy.
    PutPolicy(Box<PutPolicy>),
    /// Moves a version of a policy that takes over by steps, or ends it.
    ChangePolicyRollout(Box<ChangePolicyRollout>),
    /// Takes a policy away.
    DeletePolicy(DeletePolicy),
    /// Says that the bytes of an artifact are stored.
    PutArtifact(Artifact),
    /// Lets go of artifacts, as far as nothing names them.
    ForgetArtifacts(Vec<Digest>),
    /// Lets one node join, once.
    CreateToken(CreateToken),
    /// Makes a node of whoever has a token.
    Enrol(Enrol),
    /// Takes a node's identity away from it.
    RevokeNode {
        /// The node.
        node: NodeName,
        /// When the last of its certificates ends, milliseconds since 1970.
        until_ms: u64,
    },
    /// Lets one member of the control plane join, once.
    CreateMemberToken {
        /// SHA-256 of the token's secret, as hex.
        digest: String,
        /// When it ends, milliseconds since 1970.
        expires_ms: u64,
    },
    /// Makes a member of whoever has a token.
    EnrolMember(EnrolMember),
    /// Says where a member is reached.
    AnnounceMember {
        /// The member.
        member: MemberId,
        /// `host:port`.
        address: String,
        /// The feature level that it knows.
        #[serde(default = "crate::feature::first")]
        level: u32,
    },
    /// Lets commands be proposed that members of earlier versions did not know.
    RaiseFeatureLevel {
        /// The level; all members know it.
        level: u32,
    },
    /// Gives a member a vote.
    PromoteMember {
        /// The member.
        member: MemberId,
    },
    /// Takes a member out for good.
    RemoveMember {
        /// The member.
        member: MemberId,
    },
    /// Says which node an agent has come up on.
    RegisterNode(NodeDescription),
    /// Says that a node has been lost or found.
    SetNodeState {
        /// The node.
        node: NodeName,
        /// Its state.
        state: NodeState,
        /// Why, for people.
        why: String,
    },
    /// Says that nodes have been lost, all at one time: whether a zone is cut off is seen from all of them.
    LoseNodes {
        /// The nodes.
        nodes: Vec<NodeName>,
        /// Why they count as lost, for people.
        why: String,
    },
    /// Says whether a node gets work.
    AdmitNode {
        /// The node.
        node: NodeName,
        /// Whether it does.
        admission: Admission,
    },
    /// Gives a node labels, and takes labels away that were given.
    LabelNode(LabelNode),
    /// Taints a node, and takes taints away.
    TaintNode(TaintNode),
    /// Takes a node out for good.
    RemoveNode(RemoveNode),
    /// Puts graphs on nodes.
    Place(Vec<Place>),
    /// Lets go of where graphs were before.
    Leave(Vec<Leave>),
    /// Keeps what a node says it runs.
    RecordReport(Report),
}

impl Body {
    /// Whether it adds to what is kept, and is not made by the cluster itself: what is refused while a disk is full.
    pub const fn takes_room(&self) -> bool {
        matches!(
            self,
            Self::Deploy(_)
                | Self::PutPolicy(_)
                | Self::PutArtifact(_)
                | Self::CreateToken(_)
                | Self::Enrol(_)
                | Self::CreateMemberToken { .. }
                | Self::EnrolMember(_)
        )
    }
}

/// A new revision of a graph, checked and linked against the policies of `policies_at`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deploy {
    /// The graph.
    pub key: GraphKey,
    /// The identity it gets if it is new.
    pub uid: Uid,
    /// The manifest as written, comments and all.
    pub manifest: String,
    /// What it says.
    pub spec: GraphSpec,
    /// The graph as linked.
    pub linked: LinkedGraph,
    /// Refused if the policies have changed since.
    pub policies_at: StateRevision,
    /// Refused if the graph's current revision is another one. `None` stands for "does not exist".
    pub base: Option<RevisionNumber>,
    /// How it came about.
    pub origin: DeployOrigin,
    /// Whether it takes over by the steps of its spec, if it has any and there is something to take over from.
    #[serde(default, skip_serializing_if = "is_false")]
    pub by_steps: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// How a revision came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeployOrigin {
    /// From a manifest.
    Deploy,
    /// By going back to an earlier revision.
    Rollback {
        /// That revision.
        to: RevisionNumber,
    },
}

/// A graph to be taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteGraph {
    /// The graph.
    pub key: GraphKey,
    /// Refused if the current revision is another one.
    pub expected: Option<RevisionNumber>,
}

/// A graph linked again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Relink {
    /// The graph.
    pub key: GraphKey,
    /// Refused if it is another graph by now.
    pub uid: Uid,
    /// Refused if it has another revision by now.
    pub revision: RevisionNumber,
    /// Refused if the policies have changed since.
    pub policies_at: StateRevision,
    /// The graph as linked.
    pub linked: LinkedGraph,
}

/// A change of how far a revision is that takes over by steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeRollout {
    /// The graph.
    pub key: GraphKey,
    /// Refused if it is another graph by now.
    pub uid: Uid,
    /// The revision that takes over; refused if it is another one by now.
    pub revision: RevisionNumber,
    /// How far it was; refused if it is elsewhere by now.
    pub phase: Phase,
    /// The step that it was at; refused if it is at another one by now.
    pub step: usize,
    /// Whether it stayed at its step; refused if that has changed.
    pub is_paused: bool,
    /// What changes.
    pub change: RolloutChange,
}

/// What changes of a revision that takes over by steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutChange {
    /// It answers the share of its first step.
    Begin,
    /// It goes to the next step.
    Next {
        /// How its requests went until now, or who wants it, for people.
        why: String,
    },
    /// It stays at its step.
    Pause {
        /// Why, for people.
        why: String,
    },
    /// It goes on.
    Resume,
    /// The graph becomes what it is.
    Promote {
        /// How its requests went until now, or who wants it, for people.
        why: String,
    },
    /// The revision before stays.
    Revert {
        /// Why, for people.
        why: String,
    },
    /// The graph is what it is: nobody is sent to the candidate any more.
    End,
    /// Every ingress knows that: the candidate is let go of.
    Finish,
}

/// A new version of a policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PutPolicy {
    /// The manifest as written.
    pub manifest: String,
    /// What it says.
    pub spec: PolicySpec,
    /// Refused if a graph was deployed or deleted since the policy was checked against all of them.
    pub graphs_at: StateRevision,
    /// Refused if another policy has changed since.
    pub policies_at: StateRevision,
    /// Whether it takes over by the steps of its spec, if it has any.
    #[serde(default, skip_serializing_if = "is_false")]
    pub by_steps: bool,
}

/// A graph as a version of a policy would have it that takes over by steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenCandidate {
    /// The graph.
    pub key: GraphKey,
    /// Refused if it is another graph by now.
    pub uid: Uid,
    /// Refused if it has another revision by now.
    pub revision: RevisionNumber,
    /// Refused if that does not take over any more.
    pub policy: PolicyVersion,
    /// Refused if the policies have changed since.
    pub policies_at: StateRevision,
    /// The identity of the candidate.
    pub candidate: Uid,
    /// The graph as linked with it.
    pub linked: LinkedGraph,
}

/// A change of how far a version of a policy is that takes over by steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangePolicyRollout {
    /// The policy.
    pub name: PolicyName,
    /// The version that takes over; refused if it is another one by now.
    pub generation: Generation,
    /// How far it was; refused if it is elsewhere by now.
    pub phase: Phase,
    /// The step that it was at; refused if it is at another one by now.
    pub step: usize,
    /// Whether it stayed at its step; refused if that has changed.
    pub is_paused: bool,
    /// What changes.
    pub change: RolloutChange,
}

/// A policy to be taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletePolicy {
    /// The policy.
    pub name: PolicyName,
    /// Refused if a graph was deployed or deleted since the graphs were linked without it.
    pub graphs_at: StateRevision,
    /// Refused if another policy has changed since.
    pub policies_at: StateRevision,
}

/// A graph on its nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The graph.
    pub key: GraphKey,
    /// Refused if it is another graph by now.
    pub uid: Uid,
    /// Refused if it has changed since.
    pub generation: Generation,
    /// Refused if a node that gets a part of it is not ready.
    pub placement: Placement,
}

/// What a graph was moved from, to be let go of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// The graph.
    pub key: GraphKey,
    /// Refused if it is another graph by now.
    pub uid: Uid,
    /// The generation that answers there; refused if it is another one by now.
    pub generation: Generation,
}

/// Labels of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelNode {
    /// The node.
    pub node: NodeName,
    /// Labels that it has from now on.
    pub set: BTreeMap<String, String>,
    /// Labels that it was given and has no more.
    pub unset: BTreeSet<String>,
}

/// Taints of a node: they keep away everything new that does not tolerate them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaintNode {
    /// The node.
    pub node: NodeName,
    /// Taints that it has from now on.
    pub set: BTreeMap<String, String>,
    /// Taints that it has no more.
    pub unset: BTreeSet<String>,
}

/// A node to be taken out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveNode {
    /// The node.
    pub node: NodeName,
    /// When the last of its certificates ends, milliseconds since 1970.
    pub until_ms: u64,
    /// Whether the data of capabilities that it has are given up: what needs them begins anew elsewhere.
    pub loses_data: bool,
}

/// A token that lets one node join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateToken {
    /// SHA-256 of its secret, as hex: the secret itself is never kept.
    pub digest: String,
    /// The name of the node that it is for.
    pub node: NodeName,
    /// When it ends, milliseconds since 1970.
    pub expires_ms: u64,
}

/// A node that joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrol {
    /// SHA-256 of the secret of its token, as hex.
    pub token: String,
    /// Refused unless the token is for it.
    pub node: NodeName,
    /// The identity it gets.
    pub uid: Uid,
    /// SHA-256 of its public key, as hex: who repeats the request shows that it is the same.
    pub key: String,
    /// When the last certificate of whoever had the name before ends, milliseconds since 1970.
    pub revoked_until_ms: u64,
}

/// A member of the control plane that joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolMember {
    /// SHA-256 of the secret of its token, as hex.
    pub token: String,
    /// What shows that it is the same that asks again, as hex.
    pub key: String,
    /// Where others reach it, `host:port`.
    pub address: String,
    /// The feature level that it knows.
    #[serde(default = "crate::feature::first")]
    pub level: u32,
}
