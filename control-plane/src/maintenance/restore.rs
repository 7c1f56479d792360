//! `control-plane restore`: a new cluster from a backup.

use std::fs::{self, File};
use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use clap::Args;
use cluster::State;
use cluster::state::FIRST_MEMBER;
use model::graph::Artifact;
use proto::backup::{BackupError, Reader};
use proto::weft::backup::v1 as wire;
use proto::weft::backup::v1::part::Part;

use super::{MaintenanceError, Place, file};
use crate::artifacts::{ArtifactStore, Upload};
use crate::clock::now_ms;
use crate::credentials;
use crate::durable;
use crate::raft::{self, Offline, Start};

/// Stands in a data directory while a backup is restored into it.
const MARK: &str = "restoring";
/// What a restore that was cut off may have left.
const LEFT: [&str; 4] = ["raft", "state", "artifacts", "authority.pem"];
/// What an empty data directory may have: it is where a file system begins.
const OF_THE_SYSTEM: &str = "lost+found";

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// The backup.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
}

/// Whether a backup was being restored into this data directory, and was not finished.
pub fn is_unfinished(folder: &Path) -> bool {
    folder.join(MARK).exists()
}

pub(super) async fn run(Arguments { place, from }: Arguments) -> Result<String, MaintenanceError> {
    let folder = &place.data_dir;
    refuse_full(folder)?;
    let reading = from.clone();
    // Nothing is written before all of it was read.
    let read = tokio::task::spawn_blocking(move || read(&reading)).await;
    let (head, state) = read.map_err(|error| file(&from)(std::io::Error::other(error)))??;
    prepare(folder)?;
    // On disk before anything of it is: without the authority the rest is of no use.
    let authority = credentials::found(folder)?;
    let (data_dir, reading) = (folder.clone(), from.clone());
    let stored = tokio::task::spawn_blocking(move || store(&data_dir, &reading)).await;
    stored.map_err(|error| file(&from)(std::io::Error::other(error)))??;
    let state = state.restored(authority.cluster().clone(), now_ms());
    let offline = Offline::open(place.raft(FIRST_MEMBER, Start::Init)).await?;
    offline.go_on_with(&state).await.map_err(file(folder))?;
    let mark = folder.join(MARK);
    fs::remove_file(&mark).and_then(|()| durable::sync_folder(folder)).map_err(file(&mark))?;
    Ok(format!(
        "cluster {} is made from a backup of cluster {} at revision {}: {} graphs, {} policies, {} artifacts. It has one \
         member, which starts from {}; other members and all nodes join it by new tokens",
        authority.cluster(),
        head.cluster,
        head.revision,
        head.graphs,
        head.policies,
        head.artifacts,
        folder.display()
    ))
}

/// Refuses a data directory that has anything in it, but for what a restore that was cut off has left.
fn refuse_full(folder: &Path) -> Result<(), MaintenanceError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(file(folder)(source)),
    };
    if is_unfinished(folder) {
        return Ok(());
    }
    for entry in entries {
        if entry.map_err(file(folder))?.file_name() != OF_THE_SYSTEM {
            return Err(MaintenanceError::NotEmpty { path: folder.to_owned() });
        }
    }
    Ok(())
}

/// Marks the data directory, and removes what a restore that was cut off has left.
fn prepare(folder: &Path) -> Result<(), MaintenanceError> {
    durable::create_folder(folder).map_err(file(folder))?;
    durable::replace(&folder.join(MARK), b"").map_err(file(folder))?;
    for name in LEFT {
        let path = folder.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(source) if source.kind() != ErrorKind::NotFound => return Err(file(&path)(source)),
            _ => {}
        }
    }
    durable::sync_folder(folder).map_err(file(folder))
}

/// Reads all of a backup: what it says of itself, and its state, with what must hold of it.
fn read(path: &Path) -> Result<(wire::Head, State), MaintenanceError> {
    let wrong = |source: BackupError| MaintenanceError::Backup { path: path.to_owned(), source };
    let unsound = |what: String| MaintenanceError::Unsound { path: path.to_owned(), what };
    let mut reader = open(path)?;
    let mut bytes = Vec::new();
    let mut head = None;
    let mut artifacts = std::collections::BTreeSet::new();
    while let Some(part) = reader.next().map_err(wrong)? {
        match part {
            Part::Head(found) => head = Some(found),
            Part::State(chunk) => bytes.extend_from_slice(&chunk),
            Part::Artifact(found) => drop(artifacts.insert(found.digest)),
            Part::Chunk(_) | Part::End(_) => {}
        }
    }
    let head = head.ok_or_else(|| wrong(BackupError::CutOff("it has no head")))?;
    let state =
        raft::decode_state(&bytes).map_err(|error| unsound(format!("its state cannot be read: {error}")))?;
    if let Some(broken) = cluster::check(&state).into_iter().next() {
        return Err(unsound(format!("its state is not sound: {broken}")));
    }
    match state.artifacts.keys().find(|digest| !artifacts.contains(&digest.to_string())) {
        Some(missing) => Err(unsound(format!("it lacks artifact {missing}"))),
        None => Ok((head, state)),
    }
}

fn open(path: &Path) -> Result<Reader<BufReader<File>>, MaintenanceError> {
    let opened = File::open(path).map_err(file(path))?;
    let reader = Reader::new(BufReader::new(opened));
    reader.map_err(|source| MaintenanceError::Backup { path: path.to_owned(), source })
}

/// Stores the artifacts of a backup.
fn store(data_dir: &Path, path: &Path) -> Result<(), MaintenanceError> {
    let wrong = |source: BackupError| MaintenanceError::Backup { path: path.to_owned(), source };
    let store = ArtifactStore::open(data_dir)?;
    let mut reader = open(path)?;
    let mut under_way: Option<Upload> = None;
    while let Some(part) = reader.next().map_err(wrong)? {
        match part {
            Part::Chunk(chunk) => {
                if let Some(upload) = &mut under_way {
                    upload.append(&chunk)?;
                }
            }
            Part::Artifact(head) => {
                finish(under_way.take())?;
                let digest =
                    head.digest.parse().map_err(|error| wrong(BackupError::Damaged(format!("{error}"))))?;
                under_way = store.upload(Artifact { digest, size: head.size }, 0)?;
            }
            Part::Head(_) | Part::State(_) | Part::End(_) => {}
        }
    }
    finish(under_way)
}

fn finish(upload: Option<Upload>) -> Result<(), MaintenanceError> {
    if let Some(upload) = upload {
        upload.finish()?;
    }
    Ok(())
}
