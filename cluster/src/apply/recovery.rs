//! A state that goes on outside the log it came from: of a backup, or of the last member of many.
//!
//! No command does this: whoever does it has the data directory of one member to itself, and there is nobody to agree
//! with.

use model::id::{ClusterId, Generation};
use model::node::NodeState;

use crate::member::{FIRST_MEMBER, MemberId};
use crate::state::{GraphRecord, MemberRecord, NodeRecord, State};

/// Revisions that are left out. What came behind a backup, or is still decided by members that were thought to be gone,
/// has lower ones: agents and watchers that have seen it do not take it for news.
pub const REVISIONS_SKIPPED: u64 = 1_000_000;

impl State {
    /// The state of a backup under a new identity. Graphs, policies, artifacts and outcomes of requests are as they
    /// were. Nobody has joined: who had belongs to another cluster. Nodes are known and down, so that what has its data
    /// on them waits for them.
    #[must_use]
    pub fn restored(&self, cluster: ClusterId, now_ms: u64) -> Self {
        let mut state = Self {
            enrolled: imbl::OrdMap::new(),
            tokens: imbl::OrdMap::new(),
            members: imbl::OrdMap::new(),
            last_member: 0,
            member_tokens: imbl::OrdMap::new(),
            revoked: imbl::OrdMap::new(),
            ..self.clone()
        };
        let generation = state.skip(now_ms);
        let before = state.cluster.replace(cluster);
        let down = |node: &NodeRecord| NodeRecord {
            state: NodeState::Down,
            changed_at_ms: state.now_ms,
            accepted: Generation::default(),
            assigned_at: generation,
            ..node.clone()
        };
        state.nodes = state.nodes.iter().map(|(name, node)| (name.clone(), down(node))).collect();
        let unseen =
            |graph: &GraphRecord| GraphRecord { observed: imbl::OrdMap::new(), leaving: None, ..graph.clone() };
        state.graphs = state.graphs.iter().map(|(key, graph)| (key.clone(), unseen(graph))).collect();
        let before = before.map_or_else(String::new, |before| format!(" of cluster {before}"));
        let message =
            format!("from a backup{before} at revision {}: every node has to join again", self.revision);
        state.event("cluster".to_owned(), "restored", message);
        state
    }

    /// The state where one member goes on alone; `None` if it is no member. The ids of the others are not used again.
    #[must_use]
    pub fn left_to(&self, member: MemberId, now_ms: u64) -> Option<Self> {
        let mut state = self.clone();
        let record = state.members.get(&member).cloned();
        // The first one may not have said where it is.
        if record.is_none() && !(member == FIRST_MEMBER && state.members.is_empty()) {
            return None;
        }
        let gone: Vec<String> =
            state.members.keys().filter(|other| **other != member).map(ToString::to_string).collect();
        let alone = record.map(|record| (member, MemberRecord { is_voter: true, ..record }));
        state.members = alone.into_iter().collect();
        state.member_tokens = imbl::OrdMap::new();
        let generation = state.skip(now_ms);
        let assigned = |node: &NodeRecord| NodeRecord { assigned_at: generation, ..node.clone() };
        state.nodes = state.nodes.iter().map(|(name, node)| (name.clone(), assigned(node))).collect();
        let others = if gone.is_empty() { "nobody".to_owned() } else { gone.join(", ") };
        let message = format!("member {member} goes on alone, without {others}");
        state.event("cluster".to_owned(), "recovered", message);
        Some(state)
    }

    fn skip(&mut self, now_ms: u64) -> Generation {
        self.now_ms = self.now_ms.max(now_ms);
        self.revision.0 += REVISIONS_SKIPPED;
        Generation::from(self.revision)
    }
}
