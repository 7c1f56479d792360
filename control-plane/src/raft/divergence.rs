//! Whether this member has come to another state than the others: looked for after each section of the log.
//!
//! A member that most others contradict stops, and does not start again from its data: whatever it serves is wrong.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::type_config::TypeConfigExt as _;
use proto::weft::member::v1 as wire;
use tokio::time::timeout;

use super::Machine;
use super::chain::Sections;
use super::peers::{Peers, Road};
use super::types::TypeConfig;
use crate::durable;

/// Stands in the data directory of a member whose state is not that of the others.
const MARK: &str = "diverged";
/// The others apply an entry a moment later.
const COMPARE_AFTER: Duration = Duration::from_millis(500);
/// How often others are asked that have not come so far.
const TRIES_MAX: usize = 20;
/// How long another member may take to answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// What is known of one section.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// A majority of those that vote agrees with this member.
    Agreed,
    /// A majority agrees on something else.
    Diverged,
    /// There are two opinions, and no majority has one of them yet.
    Disputed,
    /// Too few have come so far.
    Open,
}

/// What is compared, and with whom.
pub struct Comparison {
    /// This member.
    pub me: u64,
    /// Consensus, which is stopped.
    pub raft: Raft<TypeConfig, Machine>,
    /// The sections of this member.
    pub sections: Sections,
    /// The way to the others.
    pub peers: Peers,
    /// Where the mark is put.
    pub data_dir: PathBuf,
    /// Set, once, to why this member stops.
    pub found: Arc<OnceLock<String>>,
}

/// Why a data directory must not be used any more, if it must not.
pub fn marked(data_dir: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(data_dir.join(MARK)) {
        Ok(what) => Ok(Some(what)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Comparison {
    /// Runs until consensus stops, or this member is found to be wrong.
    pub async fn run(self) {
        let mut last = self.sections.follow();
        while last.changed().await.is_ok() {
            let Some(index) = *last.borrow_and_update() else { continue };
            for _ in 0..TRIES_MAX {
                tokio::time::sleep(COMPARE_AFTER).await;
                match self.compare(index).await {
                    Verdict::Agreed => break,
                    Verdict::Diverged => return self.stop(index),
                    Verdict::Disputed => tracing::error!(
                        index,
                        "members have come to different states, and no majority tells which is right"
                    ),
                    Verdict::Open => {}
                }
                // The next section says as much of this one's effects.
                if last.has_changed().unwrap_or(false) {
                    break;
                }
            }
        }
    }

    async fn compare(&self, index: u64) -> Verdict {
        let (voters, addresses) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let membership = metrics.membership_config.membership();
            let voters: Vec<u64> = membership.voter_ids().collect();
            let addresses: Vec<(u64, String)> =
                membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect();
            (voters, addresses)
        };
        let others = addresses.into_iter().filter(|(id, _)| *id != self.me && voters.contains(id));
        let asked = others.map(|(id, address)| self.ask(id, self.peers.address(id, address), index));
        let said = futures::future::join_all(asked).await;
        let mine = self.sections.get(index);
        let own = voters.contains(&self.me).then_some(mine).flatten();
        verdict(voters.len(), mine, said.into_iter().flatten().chain(own))
    }

    async fn ask(&self, to: u64, address: String, index: u64) -> Option<u32> {
        let mut client = self.peers.client(&address, Road::Calls)?;
        let asked = timeout(ANSWER_PATIENCE, client.section(wire::SectionRequest { to, index })).await;
        asked.ok()?.ok()?.into_inner().checksum
    }

    fn stop(self, index: u64) {
        let what = format!(
            "what entry {index} and those before it have come to here is not what they have come to in most members"
        );
        tracing::error!(index, "this member's state is not that of the others: it stops for good");
        if let Err(error) = durable::replace(&self.data_dir.join(MARK), what.as_bytes()) {
            tracing::error!(%error, "that could not be written down: do not start this member again");
        }
        // It is empty: a member is found to be wrong once.
        let _ = self.found.set(what);
        // In a task of its own: this one is ended with the member, and consensus must not be left while it stops.
        drop(TypeConfig::spawn(async move {
            if let Err(error) = self.raft.shutdown().await {
                tracing::warn!(%error, "consensus did not stop in order");
            }
        }));
    }
}

/// `said` has this member's own opinion in it, if it has a vote.
fn verdict(voters: usize, mine: Option<u32>, said: impl Iterator<Item = u32>) -> Verdict {
    let Some(mine) = mine else { return Verdict::Open };
    let mut counts = std::collections::BTreeMap::<u32, usize>::new();
    said.for_each(|checksum| *counts.entry(checksum).or_default() += 1);
    let majority = counts.iter().find(|(_, count)| **count > voters / 2).map(|(checksum, _)| *checksum);
    match majority {
        Some(checksum) if checksum == mine => Verdict::Agreed,
        Some(_) => Verdict::Diverged,
        None if counts.keys().any(|checksum| *checksum != mine) => Verdict::Disputed,
        None => Verdict::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_of_those_that_vote_is_right() {
        let cases: [(usize, Option<u32>, &[u32], Verdict); 10] = [
            (1, Some(1), &[1], Verdict::Agreed),
            (3, Some(1), &[1, 1], Verdict::Agreed),
            (3, Some(1), &[1, 1, 2], Verdict::Agreed),
            (3, Some(2), &[1, 1, 2], Verdict::Diverged),
            (3, Some(2), &[1, 2], Verdict::Disputed),
            (3, Some(1), &[1], Verdict::Open),
            (3, None, &[1, 1], Verdict::Open),
            (5, Some(1), &[1, 2, 2, 3, 3], Verdict::Disputed),
            (5, Some(1), &[1, 2, 2, 2], Verdict::Diverged),
            // One without a vote, whose opinion does not count.
            (2, Some(7), &[1, 1], Verdict::Diverged),
        ];
        for (voters, mine, said, expected) in cases {
            assert_eq!(verdict(voters, mine, said.iter().copied()), expected, "{voters} {mine:?} {said:?}");
        }
    }
}
