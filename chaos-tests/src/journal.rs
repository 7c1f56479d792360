//! Writes over a link of which a journal is kept where they are done: what was done twice, or not at all, is seen there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use tokio::task::JoinHandle;

use crate::bundle::Bundle;
use crate::cluster::Cluster;
use crate::traffic::{Answer, Broken, Client, Exchange};

/// The host that the graph is asked by.
pub const HOST: &str = "customers.localhost";
/// The deadline of `customers`, and what a busy machine may add.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5 + 3);
/// Makes a row of each change of a name, so that it can be counted how often a change was done.
const JOURNAL: &str = "
CREATE TRIGGER journal AFTER UPDATE OF name ON customers
BEGIN INSERT INTO customers (name, email) VALUES ('journal', NEW.name); END;
";

/// `customers` with the application on n1 and the database, with a journal, on n3.
pub fn journalled(cluster: &Cluster) -> Bundle {
    let parted = Bundle::example("customers", "graph-apart.yaml");
    let folder = cluster.folder().join("journalled");
    parted.write(&folder, "graph.yaml");
    let seed = folder.join("seed.sql");
    let text = std::fs::read_to_string(&seed).expect("the example has a seed");
    std::fs::write(seed, text + JOURNAL).expect("a file can be written");
    Bundle::of(folder, parted.manifest().to_owned())
}

/// A change of a name, and what came of it.
pub type Write = (String, Result<Answer, Broken>);

/// Connections that change a name over and over, each time to one that never was.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<Vec<Write>>>,
}

impl Writers {
    /// So many connections.
    pub fn start(address: SocketAddr, connections: usize) -> Self {
        let (stop, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let writer = |writer: usize| {
            let (stop, good) = (stop.clone(), good.clone());
            let mut client = Client::new(address, HOST);
            tokio::spawn(async move {
                let mut writes = Vec::new();
                while !stop.load(Ordering::Acquire) {
                    let name = format!("writer {writer}, write {}", writes.len());
                    let body = format!(r#"{{"name":"{name}"}}"#);
                    let answer = client.ask(Method::POST, "/customers/1", &body).await;
                    good.fetch_add(usize::from(is_good(&answer)), Ordering::AcqRel);
                    writes.push((name, answer));
                }
                writes
            })
        };
        let tasks = (0..connections).map(writer).collect();
        Self { stop, good, tasks }
    }

    /// How many were done.
    pub fn good(&self) -> usize {
        self.good.load(Ordering::Acquire)
    }

    /// Ends it, once the writes under way are answered.
    pub async fn stop(self) -> Vec<Write> {
        self.stop.store(true, Ordering::Release);
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await.expect("a writer does not panic"));
        }
        all
    }
}

/// Whether it was done.
pub fn is_good(answer: &Result<Answer, Broken>) -> bool {
    answer.as_ref().is_ok_and(|answer| answer.status == 200)
}

/// Whether it is an answer, or what is declared where there is none.
fn is_declared(answer: &Result<Answer, Broken>) -> bool {
    let Ok(answer) = answer else { return false };
    let declared = [(502, "link_lost"), (503, "link_unavailable"), (504, "deadline_exceeded")];
    answer.status == 200
        || declared.contains(&(answer.status, answer.json()["error"].as_str().unwrap_or_default()))
}

/// Everything was answered as declared, in time.
pub fn are_declared(exchanges: &[Exchange]) {
    for exchange in exchanges {
        let took = exchange.ended - exchange.started;
        assert!(
            is_declared(&exchange.answer) && took < ANSWERED_WITHIN,
            "after {took:?}: {:?}",
            exchange.answer
        );
    }
}

/// Each write was done once if it was answered with 200, and at most once if it was not.
pub async fn are_done_once(client: &mut Client, writes: &[Write]) {
    let rows = client.get("/customers").await.json();
    let rows = rows.as_array().expect("a list of customers");
    let mut done: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows.iter().filter(|row| row["name"] == "journal") {
        *done.entry(row["email"].as_str().expect("the name that was written")).or_default() += 1;
    }
    for (name, answer) in writes {
        let times = done.get(name.as_str()).copied().unwrap_or_default();
        assert!(is_declared(answer), "{name}: {answer:?}");
        assert!(times == 1 || times == 0 && !is_good(answer), "{name} was done {times} times: {answer:?}");
    }
}
