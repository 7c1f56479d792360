//! The value itself. Only `apply` writes to it.

use std::collections::BTreeSet;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, Vector};
use model::digest::Digest;
use model::event::Event;
use model::graph::{Artifact, CapabilitySpec, GraphSpec};
use model::id::{ClusterId, Generation, GraphKey, RequestId, RevisionNumber, StateRevision, Uid};
use model::linked::LinkedGraph;
use model::name::{ComponentName, NodeName, PolicyName};
use model::node::{Admission, Labels, NodeDescription, NodeState};
use model::placement::{Placement, Requirements};
use model::policy::{Action, PolicySpec, PolicyVersion};
use model::report::GraphReport;
use model::rollout::{Phase, Reverted, RolloutSpec, Share};
use model::route::HttpRoute;
use serde::{Deserialize, Serialize};

use crate::command::DeployOrigin;
use crate::outcome::Outcome;

pub use crate::member::{FIRST_MEMBER, MemberId};

/// Revisions of a graph and versions of a policy that are kept for rollback and diff.
pub const HISTORY_MAX: usize = 10;
/// Events that are kept.
pub const EVENTS_MAX: usize = 2_048;
/// Requests whose outcome is kept; with [`REQUEST_KEPT_MS`], about one mutation a second over the whole day.
pub const REQUESTS_MAX: usize = 65_536;
/// How long the outcome of a request is kept, in milliseconds: 24 hours.
pub const REQUEST_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;
/// Graphs in a cluster.
pub const GRAPHS_MAX: usize = 20_000;
/// Policies in a cluster.
pub const POLICIES_MAX: usize = 1_000;
/// Artifacts that are stored: each graph's and policy's kept versions, a few components each.
pub const ARTIFACTS_MAX: usize = 500_000;
/// Nodes in a cluster.
pub const NODES_MAX: usize = 10_000;

/// Members of the control plane that vote: more cost time at every write and survive little more.
pub const VOTERS_MAX: usize = 7;
/// Members of the control plane, learners and all.
pub const MEMBERS_MAX: usize = 16;
/// Join tokens that are good at one time.
pub const TOKENS_MAX: usize = 1_000;
/// Identities that are revoked and whose certificates have not ended by themselves: all agents are told of each.
pub const REVOKED_MAX: usize = 10_000;

/// The replicated cluster. Cloning costs nothing: the maps are persistent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The identity; set by the first command.
    pub cluster: Option<ClusterId>,
    /// +1 for each command that changed something.
    pub revision: StateRevision,
    /// What all members know; [`State::level`] reads it.
    #[serde(default)]
    pub feature_level: u32,
    /// The latest time a command carried.
    pub now_ms: u64,
    /// The state in which a graph was last deployed or deleted.
    pub graphs_at: StateRevision,
    /// The state in which a graph last became what its candidate was.
    #[serde(default)]
    pub promoted_at: StateRevision,
    /// The state in which a policy last changed.
    pub policies_at: StateRevision,
    /// The graphs.
    pub graphs: OrdMap<GraphKey, GraphRecord>,
    /// The policies.
    pub policies: OrdMap<PolicyName, PolicyRecord>,
    /// The nodes.
    pub nodes: OrdMap<NodeName, NodeRecord>,
    /// Which nodes have joined, and as whom.
    #[serde(default)]
    pub enrolled: OrdMap<NodeName, EnrolmentRecord>,
    /// The tokens by which nodes may join, by the digest of their secrets.
    #[serde(default)]
    pub tokens: OrdMap<String, TokenRecord>,
    /// The members of the control plane as they should be; consensus follows.
    #[serde(default)]
    pub members: OrdMap<MemberId, MemberRecord>,
    /// The last id that a member was given.
    #[serde(default)]
    pub last_member: u64,
    /// The tokens by which members may join, by the digest of their secrets.
    #[serde(default)]
    pub member_tokens: OrdMap<String, MemberTokenRecord>,
    /// The identities that are worth nothing any more.
    #[serde(default)]
    pub revoked: OrdMap<Uid, RevokedRecord>,
    /// The artifacts whose bytes are stored.
    pub artifacts: OrdMap<Digest, Artifact>,
    /// Outcomes of client requests.
    pub requests: OrdMap<RequestId, RequestRecord>,
    /// The same requests by age: (time, id), oldest first.
    pub request_ages: Vector<(u64, RequestId)>,
    /// No request that was made at this time or earlier is known any more, milliseconds since 1970.
    #[serde(default)]
    pub requests_forgotten_ms: u64,
    /// What happened, oldest first.
    pub events: Vector<Event>,
}

impl State {
    /// Whether a node is known and heard of.
    pub fn is_ready(&self, node: &NodeName) -> bool {
        self.nodes.get(node).is_some_and(|record| record.state == NodeState::Ready)
    }

    /// Graphs, without the candidates beside them.
    pub fn graph_count(&self) -> usize {
        self.graphs.keys().filter(|key| !key.is_candidate).count()
    }

    /// The graph other than `asking` and its candidate that answers at the host and path of `route`.
    pub fn route_owner(&self, route: &HttpRoute, asking: &GraphKey) -> Option<&GraphKey> {
        let takes = |other: &HttpRoute| other.host == route.host && other.path == route.path;
        let is_other = |key: &GraphKey| key.graph != asking.graph || key.namespace != asking.namespace;
        let mut others = self.graphs.iter().filter(|(key, _)| is_other(key));
        others.find(|(_, record)| record.linked.ingress.iter().any(takes)).map(|(key, _)| key)
    }
}

impl State {
    /// The artifacts that something can still come to need: what runs, and what can be gone back to.
    pub fn named_artifacts(&self) -> BTreeSet<Digest> {
        let mut named = BTreeSet::new();
        for graph in self.graphs.values() {
            let leaving = graph.leaving.iter().flat_map(|leaving| leaving.linked.artifacts());
            named.extend(graph.linked.artifacts().chain(leaving).map(|artifact| artifact.digest));
            for revision in &graph.revisions {
                named.extend(revision.spec.components.values().map(|component| component.artifact.digest));
                named.extend(revision.spec.capabilities.values().filter_map(|capability| match capability {
                    CapabilitySpec::Sqlite { seed, .. } => seed.map(|artifact| artifact.digest),
                }));
            }
        }
        for policy in self.policies.values() {
            for version in &policy.versions {
                if let Action::Interpose(components) = &version.spec.action {
                    named.extend(components.iter().map(|component| component.artifact.digest));
                }
            }
        }
        named
    }

    /// The artifacts that this state has and an earlier one has not. Takes as long as there are changes.
    pub fn artifacts_beyond(&self, before: &Self) -> Vec<Artifact> {
        let added = before.artifacts.diff(&self.artifacts).filter_map(|change| match change {
            DiffItem::Add(_, artifact) => Some(*artifact),
            DiffItem::Update { .. } | DiffItem::Remove(..) => None,
        });
        added.collect()
    }
}

/// One graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GraphRecord {
    /// Its identity.
    pub uid: Uid,
    /// When it was first deployed, milliseconds since 1970.
    pub created_at_ms: u64,
    /// Its revisions, oldest first, the current one last; never empty.
    pub revisions: Vector<RevisionRecord>,
    /// The state in which its linked form last changed.
    pub generation: Generation,
    /// The revision that it runs, as linked.
    pub linked: LinkedGraph,
    /// Which part of it is placed where.
    pub placement: Option<Placement>,
    /// Where its capabilities have their data: they stay there.
    pub data: OrdMap<ComponentName, NodeName>,
    /// What the nodes of its placement say of it.
    pub observed: OrdMap<NodeName, GraphReport>,
    /// The nodes that got a part they did not have, and the generation that has it: what they say of earlier ones is of
    /// other parts.
    #[serde(default, skip_serializing_if = "OrdMap::is_empty")]
    pub gained: OrdMap<NodeName, Generation>,
    /// What it is moved from, as long as that answers.
    #[serde(default)]
    pub leaving: Option<Box<Leaving>>,
    /// The revision that takes over by steps: as long as there is one, its candidate is a graph beside this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Box<Rollout>>,
    /// The revision that it ran for everybody before the one that it runs, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran_before: Option<RevisionNumber>,
    /// The last revision that took over by steps and was given up, until the next deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverted: Option<Reverted>,
}

/// A revision that takes over by steps. It is the last of its graph; its candidate has it as linked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The revision that the graph runs: the one before, and the new one once that is promoted.
    pub running: RevisionNumber,
    /// The steps, and what ends it.
    pub spec: RolloutSpec,
    /// When it began, milliseconds since 1970.
    pub started_ms: u64,
    /// How far it is.
    pub phase: Phase,
    /// The step that it is at, or comes to first.
    pub step: usize,
    /// Why it stays at its step, if it does.
    pub paused: Option<String>,
    /// Set where it is not a revision of the graph that takes over, but a version of a policy: how far that is counts, and
    /// what is here follows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyVersion>,
}

impl Rollout {
    /// What the candidate answers now.
    pub fn share(&self) -> Share {
        match self.phase {
            Phase::Starting | Phase::Ending => Share::default(),
            Phase::Answering { .. } => {
                self.spec.steps.get(self.step).map(|step| step.share).unwrap_or_default()
            }
            // The graph changes its generation underneath, node by node.
            Phase::Promoting => Share::ALL,
        }
    }

    /// Whether it is not decided yet which of the two revisions stays.
    pub const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Answering { .. })
    }
}

/// What a graph is moved from: it goes on answering until the new placement does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leaving {
    /// Where it was.
    pub placement: Placement,
    /// The revision that answers there.
    pub revision: RevisionNumber,
    /// Its generation.
    pub generation: Generation,
    /// That revision as linked.
    pub linked: LinkedGraph,
    /// Since when the new placement answers, milliseconds since 1970. From then on nobody is sent here any more.
    pub answered_ms: Option<u64>,
}

impl GraphRecord {
    /// One of which nothing is known but what it links to: without a revision, and at no generation yet.
    pub fn new(uid: Uid, created_at_ms: u64, linked: LinkedGraph) -> Self {
        Self {
            uid,
            created_at_ms,
            revisions: Vector::new(),
            generation: Generation::default(),
            linked,
            placement: None,
            data: OrdMap::new(),
            observed: OrdMap::new(),
            gained: OrdMap::new(),
            leaving: None,
            rollout: None,
            ran_before: None,
            reverted: None,
        }
    }

    /// The rollout of a revision of its own, as long as it is not decided which of the two stays.
    pub fn open_rollout(&self) -> Option<&Rollout> {
        self.rollout.as_deref().filter(|rollout| rollout.is_open() && rollout.policy.is_none())
    }

    /// The version of a policy that takes over by steps on it, as long as it is not decided whether that stays.
    pub fn open_policy(&self) -> Option<&PolicyVersion> {
        self.rollout.as_deref().filter(|rollout| rollout.is_open())?.policy.as_ref()
    }

    /// Whether it becomes what its candidate is.
    pub fn is_promoting(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| rollout.phase == Phase::Promoting)
    }

    /// The current revision.
    pub fn current(&self) -> Option<&RevisionRecord> {
        self.revisions.last()
    }

    /// Whether `node` has a part of it.
    pub fn is_on(&self, node: &NodeName) -> bool {
        self.placement.as_ref().is_some_and(|placement| placement.is_on(node))
    }

    /// The nodes that should run a part of it, or go on running one.
    pub fn nodes(&self) -> BTreeSet<NodeName> {
        let leaving = self.leaving.iter().flat_map(|leaving| leaving.placement.nodes());
        self.placement.iter().flat_map(Placement::nodes).chain(leaving).cloned().collect()
    }

    /// The number of the current revision.
    pub fn number(&self) -> RevisionNumber {
        self.current().map(|revision| revision.number).unwrap_or_default()
    }

    /// The number of the revision that it runs: the one before the current, as long as that takes over by steps.
    pub fn running(&self) -> RevisionNumber {
        self.rollout.as_ref().map_or_else(|| self.number(), |rollout| rollout.running)
    }

    /// The revision that it runs.
    pub fn running_revision(&self) -> Option<&RevisionRecord> {
        self.revision(self.running())
    }

    /// One of its revisions, as long as it is kept.
    pub fn revision(&self, number: RevisionNumber) -> Option<&RevisionRecord> {
        self.revisions.iter().rev().find(|revision| revision.number == number)
    }

    /// Lets go of the oldest revisions beyond those that are kept; never of the one that it runs.
    pub(crate) fn trim(&mut self, running: RevisionNumber) {
        let follows = |pair: (&RevisionRecord, &RevisionRecord)| pair.0.number.0 + 1 == pair.1.number.0;
        while self.revisions.front().zip(self.revisions.get(1)).is_some_and(|pair| !follows(pair)) {
            // It was kept because it ran.
            if self.revisions.front().is_some_and(|oldest| oldest.number == running) {
                break;
            }
            self.revisions.pop_front();
        }
        while self.revisions.len() > HISTORY_MAX {
            let is_running = self.revisions.front().is_some_and(|oldest| oldest.number == running);
            self.revisions.remove(usize::from(is_running));
        }
    }
}

/// One revision of a graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RevisionRecord {
    /// 1, 2, 3, …
    pub number: RevisionNumber,
    /// When it was deployed, milliseconds since 1970.
    pub deployed_at_ms: u64,
    /// How it came about.
    pub origin: DeployOrigin,
    /// The manifest as written.
    pub manifest: String,
    /// What it says.
    pub spec: GraphSpec,
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// Its versions, oldest first; never empty.
    pub versions: Vector<PolicyVersionRecord>,
    /// How far the last version is, as long as it takes over by steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Box<PolicyRollout>>,
}

impl PolicyRecord {
    /// The version in force: the last one that neither takes over by steps nor was given up. None where the first one does.
    pub fn current(&self) -> Option<&PolicyVersionRecord> {
        let taking_over = self.taking_over().map(|version| version.generation);
        let is_in_force = |version: &&PolicyVersionRecord| {
            version.given_up.is_none() && Some(version.generation) != taking_over
        };
        self.versions.iter().rev().find(is_in_force)
    }

    /// The version that takes over by steps.
    pub fn taking_over(&self) -> Option<&PolicyVersionRecord> {
        self.rollout.as_ref().and_then(|_| self.versions.last())
    }

    /// The version in force once what takes over by steps has done so.
    pub fn next(&self) -> Option<&PolicyVersionRecord> {
        self.taking_over().or_else(|| self.current())
    }

    /// Lets go of the oldest versions beyond those that are kept; never of the one in force.
    pub(crate) fn trim(&mut self) {
        let in_force = self.current().map(|version| version.generation);
        while self.versions.len() > HISTORY_MAX {
            let is_in_force = self.versions.front().map(|oldest| oldest.generation) == in_force;
            self.versions.remove(usize::from(is_in_force));
        }
    }
}

/// A version of a policy that takes over by steps: each graph that it concerns has a candidate that is linked with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyRollout {
    /// The steps, and what ends it.
    pub spec: RolloutSpec,
    /// When it began, milliseconds since 1970.
    pub started_ms: u64,
    /// Whether it is asked yet: [`Phase::Starting`] or [`Phase::Answering`].
    pub phase: Phase,
    /// The step that it is at, or comes to first.
    pub step: usize,
    /// Why it stays at its step, if it does.
    pub paused: Option<String>,
}

/// One version of a policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyVersionRecord {
    /// The state that brought it.
    pub generation: Generation,
    /// When, milliseconds since 1970.
    pub applied_at_ms: u64,
    /// The manifest as written.
    pub manifest: String,
    /// What it says.
    pub spec: PolicySpec,
    /// Why it was given up, if it was to take over by steps and did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<String>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// What its agent says of it.
    pub description: NodeDescription,
    /// Whether it can be given work.
    pub state: NodeState,
    /// When it was first seen, milliseconds since 1970.
    pub joined_at_ms: u64,
    /// When its state last changed, milliseconds since 1970.
    pub changed_at_ms: u64,
    /// The assignment its agent has accepted.
    pub accepted: Generation,
    /// The state in which its assignment last changed.
    pub assigned_at: Generation,
    /// Whether it gets work.
    #[serde(default)]
    pub admission: Admission,
    /// Labels that an operator has given it; they count before those that its agent says.
    #[serde(default)]
    pub labels: Labels,
    /// Taints that an operator has given it: they keep away everything new that does not tolerate them.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub taints: Labels,
    /// Until when nothing is moved off it though it is down, milliseconds since 1970: its zone was cut off until shortly
    /// before, and it may come back as the others did.
    #[serde(default)]
    pub stays_until_ms: Option<u64>,
}

impl NodeRecord {
    /// The value of a label; its name is the label `node`.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.description.label(&self.labels, name)
    }

    /// Whether it has these labels.
    pub fn meets(&self, require: &Requirements) -> bool {
        self.description.meets(&self.labels, require)
    }

    /// Why it gets nothing new, if it does not.
    pub fn refuses(&self) -> Option<&'static str> {
        match (self.state, self.admission) {
            (NodeState::Down, _) => Some("down"),
            (NodeState::Ready, Admission::Open) => None,
            (NodeState::Ready, admission) => Some(admission.word()),
        }
    }
}

/// The identity of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentRecord {
    /// What its certificates say.
    pub uid: Uid,
    /// When it joined, milliseconds since 1970.
    pub enrolled_at_ms: u64,
}

/// One join token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The node it is for.
    pub node: NodeName,
    /// When it ends, milliseconds since 1970.
    pub expires_ms: u64,
    /// Who has used it.
    pub used: Option<TokenUse>,
}

/// What a join token was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUse {
    /// SHA-256 of the public key of whoever has used it, as hex.
    pub key: String,
    /// The identity that came of it.
    pub uid: Uid,
}

/// One member of the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Where others reach it, `host:port`.
    pub address: String,
    /// When it joined, milliseconds since 1970.
    pub joined_at_ms: u64,
    /// Whether it should have a vote.
    pub is_voter: bool,
    /// The feature level that it knows.
    #[serde(default = "crate::feature::first")]
    pub level: u32,
}

/// One token of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberTokenRecord {
    /// When it ends, milliseconds since 1970.
    pub expires_ms: u64,
    /// Who has used it.
    pub used: Option<MemberTokenUse>,
}

/// What a token of a member was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberTokenUse {
    /// What whoever repeats the request shows, as hex.
    pub key: String,
    /// The member that came of it.
    pub member: MemberId,
}

/// One identity that is worth nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedRecord {
    /// The node that had it.
    pub node: NodeName,
    /// When the last of its certificates ends, milliseconds since 1970.
    pub until_ms: u64,
}

/// One client request that was applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// What was asked for.
    pub fingerprint: String,
    /// What became of it.
    pub outcome: Outcome,
}
