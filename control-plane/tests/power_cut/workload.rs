//! A disk by itself: what the recorded program writes to it, and what may be found after it was cut off.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use control_plane::raft::disk::{self, Kind, Loaded, Write};

use super::chance::Chance;
use super::cuts::{Progress, Subject, chain};

/// The name of the disk below the folder.
const NAME: &str = "raft";
/// Commits of a recording: with them, sled fills several of its segments and uses them again.
const COMMITS: usize = 160;
/// After this many commits the disk is opened anew, as after a restart: opening writes too.
const COMMITS_TO_RESTART: usize = 20;

/// The disk and what is written to it.
pub struct Commits {
    kind: Kind,
    commits: Vec<Vec<Write>>,
}

impl Commits {
    /// Those of a seed.
    pub fn new(kind: Kind, seed: u64) -> Self {
        Self { kind, commits: commits(seed) }
    }
}

impl Subject for Commits {
    fn steps(&self) -> usize {
        self.commits.len()
    }

    fn run(&self, folder: &Path, progress: &mut Progress) -> io::Result<()> {
        let mut opened = None;
        for (number, commit) in self.commits.iter().enumerate() {
            if number % COMMITS_TO_RESTART == 0 {
                drop(opened.take());
                opened = Some(disk::open(self.kind, folder, NAME).map_err(io::Error::other)?);
            }
            let disk = opened.as_mut().ok_or_else(|| io::Error::other("the disk is not open"))?;
            progress.begins(number + 1)?;
            disk.commit(commit)?;
            progress.acknowledges(number + 1)?;
        }
        Ok(())
    }

    fn check(&self, folder: &Path, acknowledged: usize, begun: usize, goes_on: bool) -> Result<(), String> {
        let open = || disk::open(self.kind, folder, NAME).map_err(|error| chain(&error));
        let mut opened = open()?;
        let mut found = opened.load().map_err(|error| chain(&error))?;
        judge(&found, &self.commits, acknowledged, begun)?;
        if !goes_on {
            return Ok(());
        }
        let index = found.entries.last().map_or(1, |(last, _)| last + 1);
        opened.commit(&[Write::Append { index, bytes: vec![7; 100] }]).map_err(|error| error.to_string())?;
        found.entries.push((index, vec![7; 100]));
        drop(opened);
        let again = open()?.load().map_err(|error| chain(&error))?;
        if again == found { Ok(()) } else { Err("a write behind the power cut is not there".to_owned()) }
    }
}

/// The commits of a seed: what a log does, in proportion, and now and then much at once.
fn commits(seed: u64) -> Vec<Vec<Write>> {
    let mut chance = Chance::new(seed);
    let (mut first, mut next) = (1_u64, 1_u64);
    let mut commits = Vec::new();
    while commits.len() < COMMITS {
        let mut append = |chance: &mut Chance, bytes: usize| {
            next += 1;
            Write::Append { index: next - 1, bytes: chance.bytes(bytes) }
        };
        let commit = match chance.below(20) {
            0..10 => {
                let bytes = 100 + chance.below(2_000);
                vec![append(&mut chance, bytes)]
            }
            // A group of clients.
            10..14 => (0..64).map(|_| append(&mut chance, 256)).collect(),
            // Large commands, in parts.
            14 => (0..6).map(|_| append(&mut chance, 256 << 10)).collect(),
            15 => vec![Write::Put { key: "vote", bytes: chance.bytes(12) }, append(&mut chance, 300)],
            16 if next > first => {
                // A new leader's log wins: usually over a few entries.
                let from = next - 1 - (chance.below(20) as u64).min(next - first - 1);
                next = from;
                vec![Write::TruncateFrom(from)]
            }
            17 if next > first => {
                let to = first + chance.below((next - first) as usize) as u64;
                first = to + 1;
                vec![Write::Put { key: "purged", bytes: to.to_be_bytes().to_vec() }, Write::PurgeTo(to)]
            }
            18 => {
                let bytes = chance.below(2 << 20);
                vec![Write::Snapshot(Arc::new(chance.bytes(bytes)))]
            }
            _ => vec![Write::Put { key: "committed", bytes: chance.bytes(20) }],
        };
        commits.push(commit);
    }
    commits
}

/// Refuses what is found unless it is the effect of the first few writes, with all of the first `acknowledged`
/// commits and nothing behind the first `begun`.
fn judge(found: &Loaded, commits: &[Vec<Write>], acknowledged: usize, begun: usize) -> Result<(), String> {
    let mut expected = Expected::default();
    commits[..acknowledged].iter().flatten().for_each(|write| expected.apply(write));
    let mut nearest = expected.difference(found);
    for write in commits[acknowledged..begun].iter().flatten() {
        if nearest.is_none() {
            return Ok(());
        }
        expected.apply(write);
        nearest = expected.difference(found).and(nearest);
    }
    match nearest {
        None => Ok(()),
        Some(what) => Err(format!("{acknowledged} commits were acknowledged and {begun} begun: {what}")),
    }
}

/// What the writes mean, without a disk.
#[derive(Debug, Default)]
struct Expected {
    entries: BTreeMap<u64, Vec<u8>>,
    values: BTreeMap<String, Vec<u8>>,
    snapshot: Option<Arc<Vec<u8>>>,
}

impl Expected {
    fn apply(&mut self, write: &Write) {
        match write {
            Write::Append { index, bytes } => drop(self.entries.insert(*index, bytes.clone())),
            Write::TruncateFrom(from) => drop(self.entries.split_off(from)),
            Write::PurgeTo(to) => self.entries = self.entries.split_off(&(to + 1)),
            Write::Put { key, bytes } => drop(self.values.insert((*key).to_owned(), bytes.clone())),
            Write::Snapshot(bytes) => self.snapshot = Some(bytes.clone()),
        }
    }

    /// What differs, in a sentence; `None` if nothing does.
    fn difference(&self, found: &Loaded) -> Option<String> {
        let pairs = self.entries.iter().zip(&found.entries);
        let mut pairs = pairs.map(|((at, bytes), (found_at, found))| at == found_at && bytes == found);
        if self.entries.len() != found.entries.len() || !pairs.all(|same| same) {
            let span = |first: Option<u64>, last: Option<u64>| format!("{first:?} to {last:?}");
            let wanted = span(self.entries.keys().next().copied(), self.entries.keys().last().copied());
            let is = span(found.entries.first().map(|e| e.0), found.entries.last().map(|e| e.0));
            return Some(format!("the log has entries {is}, not {wanted}, or other bytes in them"));
        }
        if self.values != found.values {
            return Some(format!("the values are {:?}, not {:?}", found.values, self.values));
        }
        let (wanted, is) = (self.snapshot.as_deref(), found.snapshot.as_ref());
        (wanted != is).then(|| {
            let length = |bytes: Option<&Vec<u8>>| bytes.map(Vec::len);
            format!("the snapshot has {:?} bytes, not {:?}", length(is), length(wanted))
        })
    }
}
