//! `fermyon:spin/sqlite`: databases on this node's disk.
//!
//! What the guest sees is here; a database and its connections are in [`database`], what a statement may do in
//! [`rules`], how one is run in [`statement`].

mod database;
mod rules;
mod statement;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, ResourceType};

use self::database::Lease;
pub use self::database::{Database, OpenError, Source};
use crate::host::state::State;

/// As the interface has it.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum Error {
    #[component(name = "no-such-database")]
    NoSuchDatabase,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "invalid-connection")]
    InvalidConnection,
    #[component(name = "database-full")]
    DatabaseFull,
    #[component(name = "io")]
    Io(String),
}

/// As the interface has it.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum Value {
    #[component(name = "integer")]
    Integer(i64),
    #[component(name = "real")]
    Real(f64),
    #[component(name = "text")]
    Text(String),
    #[component(name = "blob")]
    Blob(Vec<u8>),
    #[component(name = "null")]
    Null,
}

/// As the interface has it.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Row {
    pub(crate) values: Vec<Value>,
}

/// As the interface has it.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct QueryResult {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

/// What a guest's `connection` stands for: a database, and from the first statement on a connection of its own, so
/// that a transaction may span several statements.
struct Connection {
    database: Arc<Database>,
    lease: Option<Lease>,
}

type Execution<'a> = Box<dyn Future<Output = wasmtime::Result<(Result<QueryResult, Error>,)>> + Send + 'a>;

/// Defines the interface under `name`, with one database behind it.
pub(crate) fn offer(linker: &mut Linker<State>, name: &str, database: Arc<Database>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(name)?;
    interface.resource("connection", ResourceType::host::<Connection>(), |mut store, handle| {
        // Dropping the connection rolls back what is open and gives it back to its database.
        store.data_mut().table.delete(Resource::<Connection>::new_own(handle))?;
        Ok(())
    })?;
    interface.func_wrap(
        "[static]connection.open",
        move |mut store: StoreContextMut<'_, State>, (wanted,): (String,)| {
            // Whether another database exists is nothing this guest may learn.
            let opened: Result<Resource<Connection>, Error> = if wanted == database.name() {
                let connection = Connection { database: database.clone(), lease: None };
                Ok(store.data_mut().table.push(connection)?)
            } else {
                Err(Error::AccessDenied)
            };
            Ok((opened,))
        },
    )?;
    interface.func_wrap_async(
        "[method]connection.execute",
        |mut store: StoreContextMut<'_, State>,
         (handle, statement, parameters): (Resource<Connection>, String, Vec<Value>)|
         -> Execution<'_> {
            Box::new(async move {
                let deadline = store.data().call.deadline;
                let connection = store.data_mut().table.get_mut(&handle)?;
                let lease = match connection.lease.take() {
                    Some(lease) => lease,
                    None => match connection.database.lease().await {
                        Ok(lease) => lease,
                        Err(error) => return Ok((Err(error),)),
                    },
                };
                let cancel = CancelOnDrop(Arc::new(AtomicBool::new(false)));
                let flag = cancel.0.clone();
                let run = move || {
                    let mut lease = lease;
                    let result = statement::execute(&mut lease, &statement, parameters, deadline, flag);
                    (lease, result)
                };
                // SQLite blocks on locks and disks, which must not hold up other guests.
                let (lease, result) = tokio::task::spawn_blocking(run).await?;
                drop(cancel);
                store.data_mut().table.get_mut(&handle)?.lease = Some(lease);
                Ok((result,))
            })
        },
    )
}

/// Ends a statement whose caller is gone.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests;
