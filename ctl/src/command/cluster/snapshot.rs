//! `ctl cluster snapshot`: backups.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::{Args, Subcommand};
use proto::backup::{BackupError, Reader, Writer};
use proto::weft::backup::v1 as wire;
use tokio::time::timeout;

use crate::cli::Format;
use crate::client::Services;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::program;
use crate::render::time;
use crate::session::Session;

/// How long a part may take: packing the largest state takes some seconds.
const PART_PATIENCE: Duration = Duration::from_secs(60);

/// Arguments of `cluster snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: SnapshotCommand,
}

/// What to do with backups.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Takes a backup: graphs, policies, artifacts and what is known of nodes, and no keys. Databases of components are
    /// not in it.
    Save(SaveArguments),
    /// Verifies a backup and says what it is of, without a control plane.
    Inspect(InspectArguments),
    /// Makes a new cluster from a backup, in an empty data directory on this machine. It has an identity of its own: other
    /// members and all nodes join it by new tokens.
    Restore(RestoreArguments),
}

/// Arguments of `cluster snapshot save`.
#[derive(Debug, Args)]
pub struct SaveArguments {
    /// The file to write; it is there once all of it is.
    pub file: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `cluster snapshot inspect`.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// The backup.
    pub file: PathBuf,
}

/// Arguments of `cluster snapshot restore`.
#[derive(Debug, Args)]
pub struct RestoreArguments {
    /// The backup.
    pub file: PathBuf,
    /// The data directory of the new cluster's first member: empty, or not there yet.
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: PathBuf,
    /// How the log is kept on disk: `sled`, or `wal` for plain files.
    #[arg(long, default_value = "sled", value_parser = ["sled", "wal"])]
    pub storage: String,
}

/// Does it.
pub async fn run(arguments: SnapshotArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    match arguments.command {
        SnapshotCommand::Save(arguments) => save(arguments, session).await?,
        SnapshotCommand::Inspect(arguments) => inspect(&arguments.file, session)?,
        SnapshotCommand::Restore(arguments) => restore(&arguments, session)?,
    }
    Ok(Exit::Done)
}

async fn save(arguments: SaveArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let SaveArguments { file, force } = arguments;
    if !force && file.exists() {
        let message = format!("{} is there already", file.display());
        return Err(
            Failure::refused(message).next(format!("ctl cluster snapshot save {} --force", file.display()))
        );
    }
    let partial = partial(&file);
    let saved = write(&partial, session).await;
    let head = match saved.and_then(|head| put_in_place(&partial, &file).map(|()| head)) {
        Ok(head) => head,
        Err(failure) => {
            // What is there of it is of no use.
            let _ = fs::remove_file(&partial);
            return Err(failure);
        }
    };
    let size = fs::metadata(&file).map_err(|error| cannot_use(&file, &error))?.len();
    show(&head, size, session)?;
    session.terminal.note(&format!(
        "saved to {}; it holds no keys, and what manifests say: keep it as safe as those",
        file.display()
    ))?;
    Ok(())
}

fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

async fn write(path: &Path, session: &Session<'_>) -> Result<wire::Head, Failure> {
    let call = |services: Services| async move { services.backups().save(wire::SaveRequest {}).await };
    let mut parts = session.client.stream(call).await?;
    let to = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    let to = to.map_err(|error| cannot_use(path, &error))?;
    let failed = |error: BackupError| match error {
        BackupError::Io(error) => cannot_use(path, &error),
        wrong => Failure::refused(format!("what the control plane sends is no backup: {wrong}")),
    };
    let mut writer = Writer::new(BufWriter::new(to)).map_err(failed)?;
    loop {
        let next = timeout(PART_PATIENCE, parts.message()).await;
        let next = next.map_err(|_| {
            Failure::refused(format!("nothing came for {} s: no backup was taken", PART_PATIENCE.as_secs()))
        })?;
        match next {
            Ok(Some(part)) => writer.put(&part).map_err(failed)?,
            Ok(None) => break,
            Err(status) => return Err(session.client.error(status).into()),
        }
    }
    let (head, buffered) = writer.finish().map_err(failed)?;
    let written = buffered.into_inner().map_err(io::IntoInnerError::into_error);
    written
        .and_then(|mut to| to.flush().and_then(|()| to.sync_all()))
        .map_err(|error| cannot_use(path, &error))?;
    Ok(head)
}

/// Gives a file that is whole its name, durably.
fn put_in_place(partial: &Path, file: &Path) -> Result<(), Failure> {
    let folder =
        file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let placed = fs::rename(partial, file).and_then(|()| File::open(folder)?.sync_all());
    placed.map_err(|error| cannot_use(file, &error))
}

fn inspect(file: &Path, session: &mut Session<'_>) -> Result<(), Failure> {
    let opened = File::open(file).map_err(|error| cannot_use(file, &error))?;
    let size = opened.metadata().map_err(|error| cannot_use(file, &error))?.len();
    let read = Reader::new(BufReader::new(opened)).and_then(Reader::verify);
    let head = read.map_err(|error| match error {
        BackupError::Io(error) => cannot_use(file, &error),
        wrong => Failure::refused(format!("{} cannot be restored: {wrong}", file.display()))
            .help("take another copy of it, or another backup"),
    })?;
    show(&head, size, session)
}

fn show(head: &wire::Head, size: u64, session: &mut Session<'_>) -> Result<(), Failure> {
    match session.format {
        Format::Json | Format::Yaml => return session.write_message(head),
        Format::Name => return Ok(session.terminal.data_line(&head.cluster)?),
        Format::Table | Format::Wide => {}
    }
    let rows = [
        ("cluster", head.cluster.clone()),
        ("revision", head.revision.to_string()),
        ("taken", format!("{}, by version {}", time::stamp(head.taken_at_ms), head.version)),
        ("graphs", head.graphs.to_string()),
        ("policies", head.policies.to_string()),
        ("nodes", head.nodes.to_string()),
        ("artifacts", format!("{}, {} bytes", head.artifacts, head.artifact_bytes)),
        ("size", format!("{size} bytes, all as written")),
    ];
    for (name, value) in rows {
        session.terminal.data_line(&format!("{name:10} {value}"))?;
    }
    Ok(())
}

fn restore(arguments: &RestoreArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let control_plane = program::find("control-plane")?;
    let output = Command::new(&control_plane)
        .arg("restore")
        .arg("--from")
        .arg(&arguments.file)
        .arg("--data-dir")
        .arg(&arguments.data_dir)
        .arg("--storage")
        .arg(&arguments.storage)
        .output()
        .map_err(|error| Failure::refused(format!("{} cannot be run: {error}", control_plane.display())))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr);
        let why = log.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or_else(|| log.trim());
        return Err(Failure::refused(why));
    }
    session.terminal.note(&said)?;
    session.terminal.note(&format!("next: control-plane --data-dir {}", arguments.data_dir.display()))?;
    Ok(())
}

fn cannot_use(path: &Path, error: &io::Error) -> Failure {
    Failure::refused(format!("cannot use {}: {error}", path.display()))
}
