//! The disk of a member: what is synced stays, and of what is not, a crash keeps the first few writes.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::plants::Plant;
use super::runtime::Process;
use crate::raft::disk::{Disk, DiskError, Loaded, Write};

/// Where time is lost on a disk that is well, in milliseconds.
const COMMIT_MS: (u64, u64) = (0, 4);
/// On a slow one.
const SLOW_COMMIT_MS: (u64, u64) = (50, 400);
/// A disk that answers before it syncs does sync, once in so many thousand commits.
const LATE_SYNCS_IN_THOUSAND: u64 = 50;

/// How a disk does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    #[default]
    Well,
    Slow,
    /// It refuses the next commit.
    Full,
    /// It fails at the next commit.
    Failing,
}

/// What is on one disk of a member; it outlives the runs of the member.
#[derive(Debug, Default)]
pub struct Image {
    synced: Loaded,
    unsynced: Vec<Write>,
    /// The run that writes it.
    run: u64,
    pub health: Health,
}

impl Image {
    /// Keeps the first few of what was not synced, as chance decides; how many of how many.
    pub fn crash(&mut self, kept: usize) -> (usize, usize) {
        let unsynced = std::mem::take(&mut self.unsynced);
        let kept = kept.min(unsynced.len());
        unsynced.iter().take(kept).for_each(|write| do_write(&mut self.synced, write));
        self.run = 0;
        if matches!(self.health, Health::Full | Health::Failing) {
            self.health = Health::Well;
        }
        (kept, unsynced.len())
    }

    pub const fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    pub fn value(&self, key: &str) -> Option<&[u8]> {
        self.synced.values.get(key).map(Vec::as_slice)
    }
}

fn do_write(loaded: &mut Loaded, write: &Write) {
    let entries = &mut loaded.entries;
    match write {
        Write::Append { index, bytes } => entries.push((*index, bytes.clone())),
        Write::TruncateFrom(from) => entries.truncate(entries.partition_point(|(index, _)| index < from)),
        Write::PurgeTo(to) => drop(entries.drain(..entries.partition_point(|(index, _)| index <= to))),
        Write::Put { key, bytes } => drop(loaded.values.insert((*key).to_owned(), bytes.clone())),
        Write::Snapshot(bytes) => loaded.snapshot = Some(bytes.to_vec()),
    }
}

/// The disk of that name of the process whose task asks; none outside of a simulation.
pub fn disk(name: &str) -> Option<Box<dyn Disk>> {
    let process = Process::current()?;
    let image = process.world.image(process.member, name);
    change(&image, |image| image.run = process.run);
    Some(Box::new(SimulatedDisk { image, process }))
}

pub fn change<T>(image: &Mutex<Image>, of: impl FnOnce(&mut Image) -> T) -> T {
    of(&mut image.lock().unwrap_or_else(PoisonError::into_inner))
}

struct SimulatedDisk {
    image: Arc<Mutex<Image>>,
    process: Arc<Process>,
}

impl SimulatedDisk {
    /// Of a run that is over, nothing is written any more.
    fn own<T>(&self, of: impl FnOnce(&mut Image) -> T) -> io::Result<T> {
        change(&self.image, |image| {
            if image.run == self.process.run { Ok(of(image)) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        })
    }
}

impl Disk for SimulatedDisk {
    fn load(&mut self) -> Result<Loaded, DiskError> {
        let failed = |source| DiskError::Io { path: PathBuf::from("simulated"), source };
        self.own(|image| image.synced.clone()).map_err(failed)
    }

    fn commit(&mut self, writes: &[Write]) -> io::Result<()> {
        let world = self.process.world.clone();
        let keeps_votes = !world.has(Plant::ForgetsVotes);
        let is_late = world.has(Plant::AnswersBeforeSync)
            && !world.chance(|chance| chance.in_thousand(LATE_SYNCS_IN_THOUSAND));
        let cut = world.chance(|chance| chance.below(writes.len() + 1));
        self.own(|image| {
            // What is said at the opening comes without a beginning.
            if image.unsynced.is_empty() {
                image.unsynced = writes.to_vec();
            }
            let refused = match image.health {
                Health::Well | Health::Slow => None,
                Health::Full => Some(io::ErrorKind::StorageFull),
                Health::Failing => Some(io::ErrorKind::Other),
            };
            if let Some(refused) = refused {
                image.unsynced.truncate(cut);
                return Err(refused.into());
            }
            if !is_late {
                let is_forgotten =
                    |write: &Write| matches!(write, Write::Put { key: "vote", .. }) && !keeps_votes;
                let unsynced = std::mem::take(&mut image.unsynced);
                let has_vote = image.synced.values.contains_key("vote");
                let kept = unsynced.iter().filter(|write| !(has_vote && is_forgotten(write)));
                kept.for_each(|write| do_write(&mut image.synced, write));
            }
            Ok(())
        })?
    }

    fn begin(&mut self, writes: &[Write]) -> Duration {
        let is_slow = self.own(|image| {
            image.unsynced.extend_from_slice(writes);
            image.health == Health::Slow
        });
        let (from, to) = if is_slow.unwrap_or_default() { SLOW_COMMIT_MS } else { COMMIT_MS };
        self.process.world.chance(|chance| chance.millis(from, to))
    }
}
