//! One database: its file, how it comes to be, and its connections.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::durable;
use crate::host::capabilities::sqlite::Error;
use crate::host::capabilities::sqlite::rules::{self, Watch};

/// Connections of one database that are in use at once; more wait until their own deadline.
const CONNECTIONS_MAX: usize = 32;
/// Connections kept open while no one uses them.
const IDLE_MAX: usize = 8;
/// How long a seed script may run.
const SEED_DEADLINE: Duration = Duration::from_secs(60);
/// SQLite's default.
const PAGE_BYTES: u64 = 4096;
/// The most a database may grow to, until quotas are set per namespace.
const DATABASE_MAX_BYTES: u64 = 1 << 30;
/// The longest text or blob, and row.
const VALUE_MAX_BYTES: i32 = 4 << 20;
/// The longest statement.
const STATEMENT_MAX_BYTES: i32 = 1 << 20;
/// The most parameters of a statement.
const PARAMETERS_MAX: i32 = 1_000;
/// Prepared statements kept for each connection.
const STATEMENTS_CACHED: usize = 32;

/// Where a database comes from.
pub struct Source {
    /// Its file.
    pub path: PathBuf,
    /// The name a guest opens.
    pub name: String,
    /// Run once, when the file is created.
    pub seed: Option<String>,
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or file cannot be made.
    #[error("the database file `{}` cannot be made", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no database, or SQLite refuses it.
    #[error("the database file `{}` cannot be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The seed script fails; nothing of it is kept.
    #[error("the seed script of database `{name}` fails")]
    Seed {
        /// The database's name.
        name: String,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The seed script leaves a transaction open; nothing of it is kept.
    #[error("the seed script of database `{name}` ends inside a transaction")]
    SeedOpen {
        /// The database's name.
        name: String,
    },
}

/// An open database.
pub struct Database {
    path: PathBuf,
    name: String,
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Link>>,
}

/// A connection and what its hooks watch.
pub(crate) struct Link {
    pub(crate) connection: rusqlite::Connection,
    pub(crate) watch: Arc<Watch>,
}

/// A connection in use by one guest; goes back when dropped.
pub(crate) struct Lease {
    link: Option<Link>,
    database: Arc<Database>,
    /// Set once a statement changed what stays with the connection.
    _slot: OwnedSemaphorePermit,
}

impl Database {
    /// Opens the database, and creates it if it is not there: whole with its seed, or not at all.
    pub fn open(source: Source) -> Result<Arc<Self>, OpenError> {
        if !source.path.exists() {
            create(&source)?;
        }
        let first = connect(&source.path)
            .map_err(|error| OpenError::Open { path: source.path.clone(), source: error })?;
        Ok(Arc::new(Self {
            path: source.path,
            name: source.name,
            slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            idle: Mutex::new(vec![first]),
        }))
    }

    /// The name a guest opens.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection for one guest.
    pub(crate) async fn lease(self: &Arc<Self>) -> Result<Lease, Error> {
        let slot = self.slots.clone().acquire_owned().await.map_err(|_| Error::InvalidConnection)?;
        let link = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(Lease { link, database: self.clone(), _slot: slot })
    }
}

impl Lease {
    /// The connection, opened if it is not. Blocks.
    pub(crate) fn link(&mut self) -> rusqlite::Result<&mut Link> {
        let link = match self.link.take() {
            Some(link) => link,
            None => connect(&self.database.path)?,
        };
        Ok(self.link.insert(link))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(link) = self.link.take() else { return };
        // What a guest left in its connection (a transaction, temporary tables, settings) must not meet the next
        // one; closing a connection rolls back and forgets.
        if !link.connection.is_autocommit() || link.watch.is_tainted() {
            return;
        }
        let mut idle = self.database.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(link);
        }
    }
}

/// Makes the file under another name and renames it when all is in it, so that a seed that was cut off by a crash
/// is run again from nothing.
fn create(source: &Source) -> Result<(), OpenError> {
    let file = |error| OpenError::File { path: source.path.clone(), source: error };
    let seed = |error| OpenError::Seed { name: source.name.clone(), source: error };
    let directory = source.path.parent().unwrap_or(Path::new("."));
    durable::create_folder(directory).map_err(file)?;
    let staged = source.path.with_extension("new");
    for left in ["new", "new-journal", "new-wal", "new-shm"] {
        let _ = fs::remove_file(source.path.with_extension(left));
    }
    let mut link = configured(&staged, false).map_err(seed)?;
    if let Some(script) = &source.seed {
        link.watch.begin(Instant::now() + SEED_DEADLINE, Arc::new(AtomicBool::new(false)));
        link.connection.execute_batch(script).map_err(seed)?;
        if !link.connection.is_autocommit() {
            return Err(OpenError::SeedOpen { name: source.name.clone() });
        }
        link.watch.end();
    } else {
        // A file that was never written to has no header and would be taken for no database.
        link.connection.execute_batch("BEGIN IMMEDIATE; PRAGMA user_version = 0; COMMIT").map_err(seed)?;
    }
    rules::lift(&mut link.connection).map_err(seed)?;
    let _: String =
        link.connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(seed)?;
    link.connection.close().map_err(|(_, error)| seed(error))?;
    fs::File::open(&staged).and_then(|staged| staged.sync_all()).map_err(file)?;
    durable::rename(&staged, &source.path).map_err(file)
}

fn connect(path: &Path) -> rusqlite::Result<Link> {
    configured(path, true)
}

/// A connection as guests get it. An acknowledged write survives power loss: `synchronous = FULL` syncs the
/// write-ahead log at each commit.
fn configured(path: &Path, durable: bool) -> rusqlite::Result<Link> {
    use rusqlite::OpenFlags;
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if !durable {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let mut connection = rusqlite::Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "synchronous", if durable { "FULL" } else { "OFF" })?;
    let _: i64 = connection.query_row(
        &format!("PRAGMA max_page_count = {}", DATABASE_MAX_BYTES / PAGE_BYTES),
        [],
        |row| row.get(0),
    )?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_MAX_BYTES)?;
    connection.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, STATEMENT_MAX_BYTES)?;
    connection.set_limit(Limit::SQLITE_LIMIT_VARIABLE_NUMBER, PARAMETERS_MAX)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    let watch = Arc::new(Watch::default());
    rules::impose(&mut connection, &watch)?;
    Ok(Link { connection, watch })
}
