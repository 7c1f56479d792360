//! Compiled code, kept on disk and authenticated: whole slices, and below them single functions, so that a slice in
//! which one member changed is not compiled anew but for that member.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rusqlite::OptionalExtension as _;
use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;
use wasmtime::{CacheStore, Engine};

use crate::host::code;
use crate::host::seal::Sealer;

const FOLDER: &str = "compiled";
const KEY_FILE: &str = "compiled.key";
const FUNCTIONS_FILE: &str = "functions.sqlite";
/// Compiled slices that are kept; the ones used longest ago go first.
const SLICES_MAX_BYTES: u64 = 4 << 30;
/// When the cache of functions is this large, it is begun anew at the next start.
const FUNCTIONS_MAX_BYTES: u64 = 1 << 30;

/// The compiled slices of this node.
pub(crate) struct CompileCache {
    folder: PathBuf,
    sealer: Arc<Sealer>,
    settings: [u8; 32],
    /// The code that a graph holds now, by its name on disk: graphs that run the same slice share one copy of it, and
    /// the memories that it used last.
    held: Mutex<HashMap<String, Weak<Component>>>,
    compiled: AtomicU64,
}

/// Single functions by what they were compiled from.
pub(crate) struct Functions {
    sealer: Arc<Sealer>,
    database: Mutex<rusqlite::Connection>,
}

/// Opens what an engine needs before it is made.
pub(crate) fn open_functions(data_dir: &Path) -> io::Result<(Arc<Sealer>, Functions)> {
    let folder = data_dir.join(FOLDER);
    fs::create_dir_all(&folder)?;
    let sealer = Arc::new(Sealer::open(&data_dir.join(KEY_FILE))?);
    let path = folder.join(FUNCTIONS_FILE);
    if fs::metadata(&path).is_ok_and(|file| file.len() > FUNCTIONS_MAX_BYTES) {
        remove_database(&path);
    }
    let database = match open_database(&path) {
        Ok(database) => database,
        Err(error) => {
            // It holds nothing that cannot be made again.
            tracing::warn!(%error, "the cache of compiled functions is damaged; it is begun anew");
            remove_database(&path);
            open_database(&path).map_err(io::Error::other)?
        }
    };
    Ok((sealer.clone(), Functions { sealer, database: Mutex::new(database) }))
}

fn open_database(path: &Path) -> rusqlite::Result<rusqlite::Connection> {
    let database = rusqlite::Connection::open(path)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "OFF")?;
    database
        .execute_batch("CREATE TABLE IF NOT EXISTS functions (key BLOB PRIMARY KEY, code BLOB NOT NULL)")?;
    Ok(database)
}

fn remove_database(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _ = fs::remove_file(name);
    }
}

impl std::fmt::Debug for Functions {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Functions").finish_non_exhaustive()
    }
}

impl CacheStore for Functions {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let sealed: Vec<u8> = {
            let database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
            let mut query = database.prepare_cached("SELECT code FROM functions WHERE key = ?1").ok()?;
            query.query_row([key], |row| row.get(0)).optional().ok()??
        };
        let opened = self.sealer.unseal(&hex::encode(key), sealed)?;
        Some(Cow::Owned(opened.bytes().to_vec()))
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        let Some(sealed) = self.sealer.seal(&hex::encode(key), &value) else { return false };
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let insert = database.prepare_cached("INSERT OR REPLACE INTO functions (key, code) VALUES (?1, ?2)");
        insert.and_then(|mut insert| insert.execute((key, sealed))).is_ok()
    }
}

impl CompileCache {
    pub(crate) fn new(data_dir: &Path, sealer: Arc<Sealer>, engine: &Engine) -> Self {
        let mut settings = Settings(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut settings);
        settings.0.update(std::env::consts::ARCH);
        let folder = data_dir.join(FOLDER);
        if let Err(error) = trim(&folder) {
            tracing::warn!(%error, "old compiled code cannot be removed");
        }
        let settings = settings.0.finalize().into();
        Self { folder, sealer, settings, held: Mutex::default(), compiled: AtomicU64::new(0) }
    }

    /// How many slices were compiled rather than loaded.
    pub(crate) fn compiled(&self) -> u64 {
        self.compiled.load(Ordering::Relaxed)
    }

    /// The compiled form of a component: found, or made and kept.
    pub(crate) fn component(&self, engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Arc<Component>> {
        let mut name = Sha256::new();
        name.update(self.settings);
        name.update(bytes);
        let name = format!("{}.cwasm", hex::encode(name.finalize()));
        if let Some(component) = self.held().get(&name).and_then(Weak::upgrade) {
            return Ok(component);
        }
        // Two graphs that come here at once with one new slice both make it, and one copy is held: rare, and only
        // a little memory and time.
        let component = Arc::new(self.load_or_make(engine, bytes, &name)?);
        let mut held = self.held();
        held.retain(|_, component| component.strong_count() > 0);
        held.insert(name, Arc::downgrade(&component));
        Ok(component)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Weak<Component>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load_or_make(&self, engine: &Engine, bytes: &[u8], name: &str) -> wasmtime::Result<Component> {
        if let Some(opened) = self.sealer.read(&self.folder, name) {
            match code::load(engine, &opened) {
                Ok(component) => return Ok(component),
                Err(error) => tracing::warn!(%error, "compiled code is of another engine; it is made again"),
            }
        }
        self.compiled.fetch_add(1, Ordering::Relaxed);
        let component = Component::new(engine, bytes)?;
        let kept = component
            .serialize()
            .map_err(io::Error::other)
            .and_then(|code| self.sealer.write(&self.folder, name, &code));
        if let Err(error) = kept {
            tracing::warn!(%error, "compiled code is not kept");
        }
        Ok(component)
    }
}

/// Removes the slices that were written longest ago until the rest fits, and files that were never completed.
fn trim(folder: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            fs::remove_file(entry.path())?;
        } else if name.ends_with(".cwasm") {
            let metadata = entry.metadata()?;
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
    }
    files.sort();
    let mut total: u64 = files.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in files {
        if total <= SLICES_MAX_BYTES {
            break;
        }
        fs::remove_file(path)?;
        total -= length;
    }
    Ok(())
}

/// Feeds a `Hash` into SHA-256.
struct Settings(Sha256);

impl Hasher for Settings {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
