//! Databases as guests use them, without a guest: what statements may do, what they leave behind, how they end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::database::Lease;
use super::{Database, Error, OpenError, QueryResult, Row, Source, Value, statement};

const SEED: &str =
    "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (1, 'Ada'), (2, 'Grace');";

fn source(folder: &Path, seed: Option<&str>) -> Source {
    Source { path: folder.join("data/t.sqlite"), name: "default".to_owned(), seed: seed.map(str::to_owned) }
}

async fn lease(database: &Arc<Database>) -> Lease {
    database.lease().await.unwrap()
}

fn run(lease: &mut Lease, statement: &str, parameters: Vec<Value>) -> Result<QueryResult, Error> {
    let deadline = Instant::now() + Duration::from_secs(20);
    statement::execute(lease, statement, parameters, deadline, Arc::new(AtomicBool::new(false)))
}

fn count(lease: &mut Lease) -> Value {
    run(lease, "SELECT count(*) FROM t", Vec::new()).unwrap().rows[0].values[0].clone()
}

#[tokio::test]
async fn values_of_every_kind_come_back_as_they_went() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(source(folder.path(), None)).unwrap();
    let mut lease = lease(&database).await;
    let values = vec![
        Value::Integer(i64::MIN),
        Value::Real(0.1),
        Value::Text("ä\0b".to_owned()),
        Value::Blob(vec![0, 255]),
        Value::Null,
    ];
    let found = run(&mut lease, "SELECT ? AS i, ? AS r, ? AS t, ? AS b, ? AS n", values.clone()).unwrap();
    assert_eq!(
        found,
        QueryResult {
            columns: ["i", "r", "t", "b", "n"].map(str::to_owned).into(),
            rows: vec![Row { values }]
        }
    );
    let error = run(&mut lease, "SELECT ?, ?", vec![Value::Null]).unwrap_err();
    assert_eq!(error, Error::Io("the statement has 2 parameters, 1 are given".to_owned()));
}

#[tokio::test]
async fn a_seed_is_run_once_and_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    for broken in ["CREATE TABLE t (id); INSERT INTO nowhere VALUES (1)", "BEGIN; CREATE TABLE t (id)"] {
        let error = Database::open(source(folder.path(), Some(broken))).map(drop).unwrap_err();
        assert!(matches!(error, OpenError::Seed { .. } | OpenError::SeedOpen { .. }), "{error}");
        assert!(!source(folder.path(), None).path.exists(), "a broken seed leaves no database");
    }
    // A seed that a crash cut off leaves its file under another name.
    std::fs::write(folder.path().join("data/t.new"), "half").unwrap();
    let database = Database::open(source(folder.path(), Some(SEED))).unwrap();
    let mut first = lease(&database).await;
    run(&mut first, "INSERT INTO t VALUES (3, 'Edsger')", Vec::new()).unwrap();
    drop((first, database));
    let database = Database::open(source(folder.path(), Some(SEED))).unwrap();
    assert_eq!(count(&mut lease(&database).await), Value::Integer(3));
}

#[tokio::test]
async fn statements_reach_nothing_outside_of_their_database() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(source(folder.path(), Some(SEED))).unwrap();
    let mut lease = lease(&database).await;
    let other = folder.path().join("other.sqlite");
    for denied in [
        format!("ATTACH '{}' AS other", other.display()),
        format!("VACUUM INTO '{}'", other.display()),
        "SELECT load_extension('libc.so.6')".to_owned(),
        "PRAGMA journal_mode = DELETE".to_owned(),
        "PRAGMA synchronous = OFF".to_owned(),
        "PRAGMA max_page_count = 1000000000".to_owned(),
        "PRAGMA writable_schema = ON".to_owned(),
        "PRAGMA temp_store_directory = '/'".to_owned(),
        "PRAGMA mmap_size = 1000000000".to_owned(),
    ] {
        let found = run(&mut lease, &denied, Vec::new());
        assert!(found.is_err(), "{denied}: {found:?}");
    }
    assert!(!other.exists());
    // What reads the schema is allowed.
    assert!(run(&mut lease, "PRAGMA table_info(t)", Vec::new()).is_ok());
    assert_eq!(count(&mut lease), Value::Integer(2));
}

#[tokio::test]
async fn what_a_guest_leaves_in_its_connection_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(source(folder.path(), Some(SEED))).unwrap();
    let mut first = lease(&database).await;
    run(&mut first, "BEGIN", Vec::new()).unwrap();
    run(&mut first, "DELETE FROM t", Vec::new()).unwrap();
    assert_eq!(count(&mut first), Value::Integer(0));
    drop(first);
    let mut second = lease(&database).await;
    assert_eq!(count(&mut second), Value::Integer(2), "an open transaction is rolled back");
    run(&mut second, "CREATE TEMP TABLE leak (secret)", Vec::new()).unwrap();
    drop(second);
    let error = run(&mut lease(&database).await, "SELECT * FROM leak", Vec::new()).unwrap_err();
    assert!(matches!(&error, Error::Io(message) if message.contains("no such table")), "{error:?}");
}

#[tokio::test]
async fn a_statement_ends_at_its_deadline_or_when_its_caller_is_gone() {
    const ENDLESS: &str =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(source(folder.path(), Some(SEED))).unwrap();
    let mut lease = lease(&database).await;
    let late = Instant::now();
    let ended = statement::execute(&mut lease, ENDLESS, Vec::new(), late, Arc::new(AtomicBool::new(false)));
    assert_eq!(ended.unwrap_err(), Error::Io("the call's deadline has passed".to_owned()));
    let gone = Arc::new(AtomicBool::new(true));
    let far = Instant::now() + Duration::from_secs(600);
    assert!(statement::execute(&mut lease, ENDLESS, Vec::new(), far, gone).is_err());
    assert_eq!(count(&mut lease), Value::Integer(2), "the connection works on");
}

#[tokio::test]
async fn results_and_values_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(source(folder.path(), Some(SEED))).unwrap();
    let mut lease = lease(&database).await;
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200000) SELECT i FROM n";
    let error = run(&mut lease, many, Vec::new()).unwrap_err();
    assert!(matches!(&error, Error::Io(message) if message.contains("more than 100000 rows")), "{error:?}");
    assert!(run(&mut lease, "SELECT zeroblob(5000000)", Vec::new()).is_err());
    assert!(run(&mut lease, &format!("SELECT '{}'", "x".repeat(2 << 20)), Vec::new()).is_err());
}
