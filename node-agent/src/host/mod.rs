//! Runs components: from verified artifacts to answers. wasmtime is named only below this module.
//!
//! The road: `slice` decides which instances stand behind a component, `fuse` makes one component of them,
//! `compile` makes or finds its code, `link` gives it its imports, `instance` makes one instance for each call,
//! and `request` and `invoke` call it.

mod artifact;
mod body;
mod capabilities;
mod check;
mod code;
mod compile;
mod egress;
mod engine;
mod fuse;
mod grant;
mod http_link;
mod instance;
mod invoke;
mod link;
mod logs;
mod prepare;
mod provide;
mod reach;
mod relay;
mod remote;
mod request;
mod request_id;
mod reserve;
mod running;
mod seal;
mod slice;
mod state;
mod stdio;
mod streams;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use model::assignment::AssignedGraph;
use model::name::NodeName;
use model::report::{Failure, Progress};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::Engine;

pub use self::artifact::Artifacts;
pub use self::body::{Body, BodyError};
pub use self::check::Unchecked;
pub use self::egress::EgressLimits;
pub use self::engine::PoolLimits;
pub(crate) use self::grant::Caller;
pub use self::invoke::InvokeError;
pub use self::logs::LINE_MAX_BYTES;
pub(crate) use self::provide::Inbound;
pub use self::reach::Reach;
pub use self::request::REQUEST_ID;
pub use self::running::Running;

use self::capabilities::sqlite::{Database, OpenError as DatabaseError, Source};
use self::compile::CompileCache;
use self::egress::Client;
use self::grant::Shares;
use self::instance::{Prepared, in_time};
use self::request_id::RequestIds;
use self::reserve::{Claim, Reserves};
use crate::calls::CallBook;
use crate::http_road::HttpRoad;
use crate::lease::Lease;
use crate::link::carrier::Carrier;
use crate::logs::LogBook;
use crate::roads::Roads;
use crate::traces::Traces;

/// Requests that wait for room in the pool at once; more are refused without waiting.
const WAITING_MAX: usize = 1_024;

/// What a host needs to know.
pub struct HostConfig {
    /// Compiled code is kept in `compiled`, data of capabilities in `capabilities` under it.
    pub data_dir: PathBuf,
    /// How much runs at the same time.
    pub pool: PoolLimits,
    /// Where no guest's request may go, whatever its graph lists.
    pub egress: EgressLimits,
    /// The ways to the agents of other nodes.
    pub roads: Arc<dyn Roads>,
    /// Carries requests to them.
    pub http_road: Arc<HttpRoad>,
    /// Told of calls over links.
    pub traces: Traces,
    /// Told of calls of components that are scaled by them.
    pub calls: CallBook,
    /// For how long what stops in isolation may be served.
    pub lease: Lease,
}

/// Why a host cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory cannot be used.
    #[error("the directory for compiled code under `{}` cannot be used", path.display())]
    Directory {
        /// The data directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// wasmtime refuses its settings: usually too little address space for the pool.
    #[error("the wasm engine cannot be made, usually for want of address space (see `ulimit -v`): {message}")]
    Engine {
        /// What wasmtime says.
        message: String,
    },
    /// The thread that cuts time cannot be started.
    #[error("the ticker thread cannot be started")]
    Ticker(#[source] io::Error),
}

/// Runs components; a cheap handle.
#[derive(Clone)]
pub struct Host {
    parts: Arc<Parts>,
}

struct Parts {
    data_dir: PathBuf,
    engine: Engine,
    compiled: CompileCache,
    databases: Databases,
    client: Arc<Client>,
    carrier: Arc<Carrier>,
    http_road: Arc<HttpRoad>,
    logs: LogBook,
    /// One permit for each linear memory of the pool.
    room: Arc<Semaphore>,
    pool: PoolLimits,
    waiting: Semaphore,
    shares: Shares,
    reserves: Reserves,
    ids: RequestIds,
    traces: Traces,
    calls: CallBook,
    lease: Lease,
}

/// The open databases, so that all generations of a graph share one.
#[derive(Default)]
struct Databases {
    open: Mutex<HashMap<PathBuf, Weak<Database>>>,
}

impl Databases {
    fn open(&self, source: Source) -> Result<Arc<Database>, DatabaseError> {
        // Held while a database is created: its seed must not run twice at once.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, database| database.strong_count() > 0);
        if let Some(database) = open.get(&source.path).and_then(Weak::upgrade)
            && database.name() == source.name
        {
            return Ok(database);
        }
        let path = source.path.clone();
        let database = Database::open(source)?;
        open.insert(path, Arc::downgrade(&database));
        Ok(database)
    }
}

impl Host {
    /// Makes the engine and opens the caches under the data directory.
    pub fn open(config: HostConfig, logs: LogBook) -> Result<Self, OpenError> {
        let (sealer, functions) = compile::open_functions(&config.data_dir)
            .map_err(|source| OpenError::Directory { path: config.data_dir.clone(), source })?;
        let engine = engine::engine(config.pool, Some(Arc::new(functions)))
            .map_err(|error| OpenError::Engine { message: format!("{error:#}") })?;
        engine::start_ticker(&engine).map_err(OpenError::Ticker)?;
        let compiled = CompileCache::new(&config.data_dir, sealer, &engine);
        let room = Arc::new(Semaphore::new(config.pool.memories as usize));
        let parts = Parts {
            data_dir: config.data_dir,
            engine,
            compiled,
            databases: Databases::default(),
            client: Arc::new(Client::new(config.egress)),
            carrier: Arc::new(Carrier::new(config.roads)),
            http_road: config.http_road,
            logs,
            reserves: Reserves::new(room.clone(), config.pool.share()),
            room,
            pool: config.pool,
            waiting: Semaphore::new(WAITING_MAX),
            shares: Shares::default(),
            ids: RequestIds::new(),
            traces: config.traces,
            calls: config.calls,
            lease: config.lease,
        };
        Ok(Self { parts: Arc::new(parts) })
    }

    /// From verified artifact files to something that answers: fuse, compile (or load), link, make a first instance.
    pub async fn prepare(
        &self,
        graph: &AssignedGraph,
        artifacts: &dyn Artifacts,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Arc<Running>, Failure> {
        Ok(Arc::new(self.prepare_running(graph, artifacts, progress).await?))
    }

    /// How many slices were compiled, rather than loaded, since this host was opened.
    pub fn compiled(&self) -> u64 {
        self.parts.compiled.compiled()
    }

    /// What the next request is known by.
    fn request_id(&self) -> Arc<str> {
        self.parts.ids.next()
    }

    /// Where work stands that other nodes ask for.
    fn traces(&self) -> &Traces {
        &self.parts.traces
    }

    /// The room that the sessions of another node have.
    fn share(&self, caller: NodeName) -> Arc<Semaphore> {
        self.parts.shares.of(caller, self.parts.pool, &self.parts.reserves)
    }

    /// Room for one instance, if there is some soon enough: in what is kept for it, or in what is there for all.
    async fn room(&self, of: &Prepared, patience: Duration, share: Option<&Arc<Semaphore>>) -> Option<Room> {
        let of_all = self.room_of_all(of.weight, share);
        let found = async {
            let Some(kept) = of.kept.as_ref().map(Claim::room) else { return of_all.await };
            let mut of_kept = pin!(kept.clone().acquire_many_owned(of.weight.min(self.parts.pool.memories)));
            tokio::select! {
                biased;
                of_kept = &mut of_kept => return Some(Room { _of_pool: of_kept.ok()?, _of_share: None }),
                of_all = of_all => {
                    if of_all.is_some() {
                        return of_all;
                    }
                }
            }
            // Too many wait for the rest, and nobody else for this.
            Some(Room { _of_pool: of_kept.await.ok()?, _of_share: None })
        };
        in_time(Instant::now() + patience, found).await.ok()?
    }

    /// Room in the pool, and in the share of whoever has only one; none where too many wait for the pool.
    async fn room_of_all(&self, weight: u32, share: Option<&Arc<Semaphore>>) -> Option<Room> {
        let of_share = match share {
            // Nobody else waits there: it takes no place of theirs.
            Some(share) => {
                Some(share.clone().acquire_many_owned(weight.min(self.parts.pool.share())).await.ok()?)
            }
            None => None,
        };
        let (room, weight) = (&self.parts.room, weight.min(self.parts.pool.memories));
        let of_pool = match room.clone().try_acquire_many_owned(weight) {
            Ok(of_pool) => of_pool,
            Err(_) => {
                let _place = self.parts.waiting.try_acquire().ok()?;
                room.clone().acquire_many_owned(weight).await.ok()?
            }
        };
        Some(Room { _of_pool: of_pool, _of_share: of_share })
    }
}

/// Room for one instance, until this is dropped.
struct Room {
    _of_pool: OwnedSemaphorePermit,
    _of_share: Option<OwnedSemaphorePermit>,
}
