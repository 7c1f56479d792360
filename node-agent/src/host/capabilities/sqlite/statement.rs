//! Runs one statement of a guest.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;

use crate::host::capabilities::sqlite::database::Lease;
use crate::host::capabilities::sqlite::{Error, QueryResult, Row, Value};

/// How long a statement waits for another one's lock; its deadline may be shorter.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The most rows of one result.
const ROWS_MAX: usize = 100_000;
/// The most bytes of one result; what a guest can take in one call is bounded too.
const RESULT_MAX_BYTES: usize = 4 << 20;
/// What a value costs besides its text or blob.
const VALUE_BYTES: usize = 16;

/// Runs `statement`. Blocks until it has ended, its deadline has passed, or `cancelled` is set.
pub(crate) fn execute(
    lease: &mut Lease,
    statement: &str,
    parameters: Vec<Value>,
    deadline: Instant,
    cancelled: Arc<AtomicBool>,
) -> Result<QueryResult, Error> {
    let link = lease.link()?;
    let patience = deadline.saturating_duration_since(Instant::now()).min(BUSY_TIMEOUT);
    link.connection.busy_timeout(patience)?;
    link.watch.begin(deadline, cancelled);
    let result = run(&link.connection, statement, parameters);
    link.watch.end();
    result
}

fn run(
    connection: &rusqlite::Connection,
    statement: &str,
    parameters: Vec<Value>,
) -> Result<QueryResult, Error> {
    let mut prepared = connection.prepare_cached(statement)?;
    let wanted = prepared.parameter_count();
    if parameters.len() != wanted {
        return Err(Error::Io(format!(
            "the statement has {wanted} parameters, {} are given",
            parameters.len()
        )));
    }
    for (index, value) in parameters.into_iter().enumerate() {
        prepared.raw_bind_parameter(index + 1, rusqlite::types::Value::from(value))?;
    }
    let width = prepared.column_count();
    let mut rows = Vec::new();
    let mut bytes = 0;
    let mut found = prepared.raw_query();
    while let Some(row) = found.next()? {
        let mut values = Vec::with_capacity(width);
        for column in 0..width {
            let value = value(row.get_ref(column)?)?;
            bytes += size(&value);
            values.push(value);
        }
        rows.push(Row { values });
        if rows.len() > ROWS_MAX || bytes > RESULT_MAX_BYTES {
            return Err(Error::Io(format!(
                "the result has more than {ROWS_MAX} rows or {} MiB: select less at once",
                RESULT_MAX_BYTES >> 20
            )));
        }
    }
    drop(found);
    // Read after the steps: SQLite prepares anew where the schema has changed.
    let columns = prepared.column_names().map(str::to_owned).collect();
    Ok(QueryResult { columns, rows })
}

fn value(value: ValueRef<'_>) -> Result<Value, Error> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => Value::Text(
            std::str::from_utf8(text)
                .map_err(|_| Error::Io("a text in the result is not UTF-8".to_owned()))?
                .to_owned(),
        ),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    })
}

fn size(value: &Value) -> usize {
    VALUE_BYTES
        + match value {
            Value::Text(text) => text.len(),
            Value::Blob(bytes) => bytes.len(),
            Value::Integer(_) | Value::Real(_) | Value::Null => 0,
        }
}

impl From<Value> for rusqlite::types::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Integer(number) => Self::Integer(number),
            Value::Real(number) => Self::Real(number),
            Value::Text(text) => Self::Text(text),
            Value::Blob(bytes) => Self::Blob(bytes),
            Value::Null => Self::Null,
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DatabaseFull,
            Some(ErrorCode::AuthorizationForStatementDenied) => Self::AccessDenied,
            Some(ErrorCode::OperationInterrupted) => Self::Io("the call's deadline has passed".to_owned()),
            _ => Self::Io(error.to_string()),
        }
    }
}
