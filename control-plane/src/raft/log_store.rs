//! The log as openraft sees it: the not yet purged tail in memory, every change through the disk's thread.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, PoisonError, RwLock};

use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};

use super::codec;
use super::disk::{Disk, DiskError, Write, Writer};
use super::types::{Entry, EntryPayload, LeaderId, LogId, TypeConfig, Vote};
use crate::planted::{Bug, Planted};

/// Stands on the disk until the member votes for the first time.
const NO_VOTE: Vote = Vote { leader_id: LeaderId { term: 0, node_id: 0 }, committed: false };

const VOTE: &str = "vote";
const PURGED: &str = "purged";
const COMMITTED: &str = "committed";

/// The log; a cheap handle.
#[derive(Debug, Clone)]
pub struct LogStore {
    tail: Arc<RwLock<Tail>>,
    disk: Arc<Writer>,
    planted: Planted,
}

/// How much there is in a log. It does not keep the log's disk open.
#[derive(Debug, Clone)]
pub struct LogSize(Arc<RwLock<Tail>>);

impl LogSize {
    /// How much memory the commands in the log take.
    pub fn bytes(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).bytes
    }
}

#[derive(Debug, Default)]
struct Tail {
    entries: BTreeMap<u64, Entry>,
    /// The sum of [`weight`] over the entries.
    bytes: usize,
    purged: Option<LogId>,
    vote: Option<Vote>,
    /// Whether the disk holds a vote or [`NO_VOTE`], or is being given one.
    has_vote: bool,
    committed: Option<LogId>,
    /// Whether the disk has not been told of `committed`.
    is_committed_new: bool,
}

impl LogStore {
    /// Reads the log from `disk` and gives the disk to its thread.
    pub fn open(mut disk: impl Disk, path: &std::path::Path, planted: Planted) -> Result<Self, DiskError> {
        let loaded = disk.load()?;
        let damaged = |what: String| DiskError::Damaged { path: path.to_owned(), what };
        let mut tail = Tail::default();
        let value = |key: &str| loaded.values.get(key).map(Vec::as_slice);
        let log_id = |key: &str| {
            value(key).map(codec::decode_log_id).transpose().map_err(|error| damaged(format!("{key}: {error}")))
        };
        tail.purged = log_id(PURGED)?;
        tail.committed = log_id(COMMITTED)?;
        tail.vote = value(VOTE)
            .map(codec::decode_vote)
            .transpose()
            .map_err(|error| damaged(format!("the vote: {error}")))?;
        tail.has_vote = tail.vote.is_some();
        tail.vote = tail.vote.filter(|vote| *vote != NO_VOTE);
        for (index, bytes) in &loaded.entries {
            // A crash between writing `purged` and removing the entries leaves some behind it.
            if tail.purged.as_ref().is_some_and(|purged| *index <= purged.index) {
                continue;
            }
            let entry =
                codec::decode_entry(bytes).map_err(|error| damaged(format!("entry {index}: {error}")))?;
            if entry.log_id.index != *index {
                return Err(damaged(format!("entry {} is stored as {index}", entry.log_id.index)));
            }
            tail.put(entry);
        }
        tail.verify().map_err(damaged)?;
        let disk =
            Writer::start("raft", disk).map_err(|source| DiskError::Io { path: path.to_owned(), source })?;
        Ok(Self { tail: Arc::new(RwLock::new(tail)), disk: Arc::new(disk), planted })
    }

    /// How much there is in it, from now on.
    pub fn size(&self) -> LogSize {
        LogSize(self.tail.clone())
    }

    /// The last entry that was removed behind a snapshot.
    pub fn purged(&self) -> Option<LogId> {
        self.read(|tail| tail.purged)
    }

    /// The last entry, there or removed.
    pub fn last(&self) -> Option<LogId> {
        self.read(Tail::last)
    }

    /// The entries of these places that are there.
    pub fn entries(&self, range: impl RangeBounds<u64>) -> Vec<Entry> {
        self.read(|tail| tail.entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    /// Whether the disk says how the member has voted, if it has.
    pub fn has_vote(&self) -> bool {
        self.read(|tail| tail.has_vote)
    }

    fn read<T>(&self, of: impl FnOnce(&Tail) -> T) -> T {
        // The tail is changed by single calls that cannot panic half-way.
        of(&self.tail.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, of: impl FnOnce(&mut Tail) -> T) -> T {
        of(&mut self.tail.write().unwrap_or_else(PoisonError::into_inner))
    }
}

fn weight(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(payload) => payload.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

impl Tail {
    fn put(&mut self, entry: Entry) {
        self.bytes += weight(&entry);
        let before = self.entries.insert(entry.log_id.index, entry);
        self.bytes -= before.as_ref().map_or(0, weight);
    }

    /// Keeps the entries from `from` on, or those before it.
    fn split(&mut self, from: u64, keep_later: bool) {
        let later = self.entries.split_off(&from);
        let dropped = if keep_later { std::mem::replace(&mut self.entries, later) } else { later };
        self.bytes -= dropped.values().map(weight).sum::<usize>();
    }

    fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, entry)| entry.log_id).or(self.purged)
    }

    fn verify(&self) -> Result<(), String> {
        // The hint is written behind the entry that it names.
        if let Some(committed) = self.committed.filter(|committed| Some(*committed) > self.last()) {
            return Err(format!("entry {} was committed and is missing", committed.index));
        }
        let Some((first, _)) = self.entries.first_key_value() else { return Ok(()) };
        let expected = self.purged.as_ref().map_or(0, |purged| purged.index + 1);
        if *first != expected {
            return Err(format!("the log starts at {first}, expected {expected}"));
        }
        if !self.has_vote {
            return Err("there is a log but no vote".to_owned());
        }
        let mut before: Option<&LogId> = self.purged.as_ref();
        for entry in self.entries.values() {
            if before.is_some_and(|before| entry.log_id.leader_id < before.leader_id) {
                return Err(format!("the term goes down at entry {}", entry.log_id.index));
            }
            before = Some(&entry.log_id);
        }
        Ok(())
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        Ok(self.entries(range))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.read(|tail| tail.vote))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        Ok(self.read(|tail| LogState { last_purged_log_id: tail.purged, last_log_id: tail.last() }))
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.change(|tail| tail.has_vote = true);
        let write = Write::Put { key: VOTE, bytes: codec::encode_vote(vote) };
        if !self.planted.has(Bug::UnsavedVote) {
            self.disk.write_and_wait(vec![write]).await?;
        }
        self.change(|tail| tail.vote = Some(*vote));
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        // Only a hint that shortens the replay at start: it goes with the next entries, since a barrier of its own would
        // keep those waiting.
        self.change(|tail| {
            tail.is_committed_new |= tail.committed != committed;
            tail.committed = committed;
        });
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.read(|tail| tail.committed.min(tail.last())))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        // A new cluster's first entry is written before its first vote. Since a log whose vote is missing counts as
        // damage, the disk is told first that there was none.
        let is_first = self.change(|tail| !std::mem::replace(&mut tail.has_vote, true));
        let no_vote = is_first.then(|| Write::Put { key: VOTE, bytes: codec::encode_vote(&NO_VOTE) });
        // What it names was queued before.
        let committed =
            self.change(|tail| tail.committed.filter(|_| std::mem::take(&mut tail.is_committed_new)));
        let committed =
            committed.map(|committed| Write::Put { key: COMMITTED, bytes: codec::encode_log_id(&committed) });
        let append =
            |entry: &Entry| Write::Append { index: entry.log_id.index, bytes: codec::encode_entry(entry) };
        let writes = no_vote.into_iter().chain(committed).chain(entries.iter().map(append)).collect();
        self.change(|tail| entries.into_iter().for_each(|entry| tail.put(entry)));
        if self.planted.has(Bug::UnwaitedBarrier) {
            callback.io_completed(Ok(()));
            self.disk.write(writes, Box::new(|_| {}));
            return Ok(());
        }
        self.disk.write(writes, Box::new(move |result| callback.io_completed(result)));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index + 1);
        self.change(|tail| tail.split(from, false));
        self.disk.write_and_wait(vec![Write::TruncateFrom(from)]).await
    }

    async fn purge(&mut self, to: LogId) -> io::Result<()> {
        self.change(|tail| {
            tail.purged = Some(to);
            tail.split(to.index + 1, true);
        });
        let purged = Write::Put { key: PURGED, bytes: codec::encode_log_id(&to) };
        self.disk.write_and_wait(vec![purged, Write::PurgeTo(to.index)]).await
    }
}

#[cfg(test)]
mod tests;
