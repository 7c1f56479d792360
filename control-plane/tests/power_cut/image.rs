//! What a power cut leaves of the files that a recording is about.
//!
//! Durable is what was synced, and nothing else. Of the rest, the kernel may have written any part: each block of a
//! file has the bytes of some moment between its last sync and the cut, and of the names that were given or taken away
//! and not synced, the first few count. That is more than a journal of a file system would let happen.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::chance::Chance;
use super::recorder::{Event, Node, ROOT};

/// How much of what was not synced is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// None of it: the kernel has written nothing by itself.
    Nothing,
    /// All of it: the cut came behind the last write-back.
    Everything,
    /// Some blocks of this size, each from some moment.
    Blocks(u64),
}

/// The ways of losing what was not synced: pages are what kernels write, sectors what disks do.
pub const WAYS: [Kept; 4] = [Kept::Nothing, Kept::Blocks(4_096), Kept::Blocks(512), Kept::Everything];

/// The disk at one moment of a recording.
#[derive(Debug, Default)]
pub struct Disk {
    /// Events that have happened.
    done: usize,
    files: BTreeMap<Node, FileState>,
    folders: BTreeMap<Node, BTreeMap<OsString, Node>>,
    /// Changes of names that are not synced, oldest first.
    names: Vec<(usize, NameChange)>,
}

#[derive(Debug, Default)]
struct FileState {
    durable: Vec<u8>,
    pending: Vec<(usize, Change)>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Debug, Clone)]
struct NameChange {
    gives: Option<(Node, OsString, Node)>,
    takes: Option<(Node, OsString)>,
}

impl NameChange {
    fn is_in(&self, folder: Node) -> bool {
        let gives = self.gives.as_ref().is_some_and(|(at, ..)| *at == folder);
        gives || self.takes.as_ref().is_some_and(|(at, _)| *at == folder)
    }

    fn apply(&self, folders: &mut BTreeMap<Node, BTreeMap<OsString, Node>>) {
        if let Some((folder, name)) = &self.takes {
            folders.entry(*folder).or_default().remove(name);
        }
        if let Some((folder, name, node)) = &self.gives {
            folders.entry(*folder).or_default().insert(name.clone(), *node);
        }
    }
}

impl Disk {
    /// Goes on to the moment behind the first `until` events. `ignored` syncs count for nothing.
    pub fn advance(&mut self, events: &[Event], until: usize, ignored: impl Fn(&Event) -> bool) {
        for (index, event) in events.iter().enumerate().take(until).skip(self.done) {
            if !ignored(event) {
                self.take(index, event);
            }
        }
        self.done = self.done.max(until);
    }

    fn take(&mut self, index: usize, event: &Event) {
        match event {
            Event::Write { node, offset, bytes } => {
                let change = Change::Write(*offset, bytes.clone());
                self.files.entry(*node).or_default().pending.push((index, change));
            }
            Event::Truncate { node, length } => {
                self.files.entry(*node).or_default().pending.push((index, Change::Truncate(*length)));
            }
            Event::Name { folder, name, node, is_folder, from } => {
                if *is_folder {
                    self.folders.entry(*node).or_default();
                }
                let gives = Some((*folder, name.clone(), *node));
                self.names.push((index, NameChange { gives, takes: from.clone() }));
            }
            Event::Unname { folder, name } => {
                let takes = Some((*folder, name.clone()));
                self.names.push((index, NameChange { gives: None, takes }));
            }
            Event::Sync { node, upto, .. } => self.sync(*node, *upto),
            Event::Said(_) => {}
        }
    }

    fn sync(&mut self, node: Node, upto: usize) {
        if let Some(file) = self.files.get_mut(&node) {
            let later = file.pending.split_off(file.pending.partition_point(|(index, _)| *index < upto));
            for (_, change) in std::mem::replace(&mut file.pending, later) {
                change.apply(&mut file.durable);
            }
        }
        let folders = &mut self.folders;
        self.names.retain(|(index, change)| {
            let synced = *index < upto && change.is_in(node);
            if synced {
                change.apply(folders);
            }
            !synced
        });
    }

    /// Writes what a power cut at this moment leaves into an empty folder.
    pub fn cut(&self, into: &Path, kept: Kept, chance: &mut Chance) -> io::Result<()> {
        let mut folders = self.folders.clone();
        let count = match kept {
            Kept::Nothing => 0,
            Kept::Everything => self.names.len(),
            Kept::Blocks(_) => chance.below(self.names.len() + 1),
        };
        for (_, change) in &self.names[..count] {
            change.apply(&mut folders);
        }
        self.write_folder(ROOT, into, &folders, kept, chance)
    }

    fn write_folder(
        &self,
        node: Node,
        into: &Path,
        folders: &BTreeMap<Node, BTreeMap<OsString, Node>>,
        kept: Kept,
        chance: &mut Chance,
    ) -> io::Result<()> {
        for (name, node) in folders.get(&node).into_iter().flatten() {
            let path = into.join(name);
            if let Some(file) = self.files.get(node) {
                write_sparse(&path, &file.cut(kept, chance))?;
            } else if folders.contains_key(node) {
                fs::create_dir(&path)?;
                self.write_folder(*node, &path, folders, kept, chance)?;
            } else {
                File::create(&path)?;
            }
        }
        Ok(())
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Truncate(length) => bytes.resize(*length as usize, 0),
            Self::Write(offset, written) => {
                let end = *offset as usize + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset as usize..end].copy_from_slice(written);
            }
        }
    }
}

impl FileState {
    fn cut(&self, kept: Kept, chance: &mut Chance) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        match kept {
            Kept::Nothing => {}
            Kept::Everything => self.pending.iter().for_each(|(_, change)| change.apply(&mut bytes)),
            Kept::Blocks(size) => {
                let mut pending = &self.pending[..];
                while let Some(at) =
                    pending.iter().position(|(_, change)| matches!(change, Change::Truncate(_)))
                {
                    // A new length is one change of the file system: it is there or not.
                    if chance.below(2) == 0 {
                        pending = &pending[..at];
                        break;
                    }
                    pending[..=at].iter().for_each(|(_, change)| change.apply(&mut bytes));
                    pending = &pending[at + 1..];
                }
                keep_blocks(&mut bytes, pending, size, chance);
            }
        }
        bytes
    }
}

/// Each block has the bytes of some moment; a file is as long as its last block, or as long as it was.
fn keep_blocks(bytes: &mut Vec<u8>, pending: &[(usize, Change)], size: u64, chance: &mut Chance) {
    let mut blocks: BTreeMap<u64, Vec<(u64, &[u8])>> = BTreeMap::new();
    let mut end = bytes.len();
    for (_, change) in pending {
        let Change::Write(offset, written) = change else { continue };
        end = end.max(*offset as usize + written.len());
        let mut at = *offset;
        let mut rest = &written[..];
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(rest.len().min((size - at % size) as usize));
            blocks.entry(at / size).or_default().push((at, part));
            at += part.len() as u64;
            rest = behind;
        }
    }
    for writes in blocks.into_values() {
        // Often all or nothing: those are the likely moments.
        let count = match chance.below(3) {
            0 => 0,
            1 => writes.len(),
            _ => chance.below(writes.len() + 1),
        };
        for (offset, written) in &writes[..count] {
            Change::Write(*offset, written.to_vec()).apply(bytes);
        }
    }
    // The length may be on the disk before the blocks are.
    if chance.below(4) == 0 {
        bytes.resize(end, 0);
    }
}

/// Leaves blocks of zeros out, as the recorded file may have done.
fn write_sparse(path: &Path, bytes: &[u8]) -> io::Result<()> {
    const BLOCK: usize = 64 << 10;
    let file = File::create(path)?;
    file.set_len(bytes.len() as u64)?;
    for (number, block) in bytes.chunks(BLOCK).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, (number * BLOCK) as u64)?;
        }
    }
    Ok(())
}
