//! Clients and watchers of a control plane while faults happen to it, and the history of what they saw.
//!
//! Each client asks one thing after the other, of any member: puts of graphs with and without an expected revision,
//! deletions, reads and lists. What is in doubt is asked again under its id at another member, and now and then what was
//! done long ago. Watchers break off and resume elsewhere. At the end every member says what it keeps.

mod client;
mod end;
mod graph;
mod recorder;
mod watcher;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::api::Api;
use crate::cluster::Cluster;
use crate::faults::{Fault, Schedule, leader};
use crate::history::{Ask, History, Line, Outcome, Refused, Report, Seen, check};
use crate::say;
use crate::seed::Choices;
use client::Client;
use graph::Graph;
use recorder::Recorder;

/// How often a member makes a snapshot in place of its log, at this rate of requests: each second.
pub const SMALL_LOG: &str = "--log-max-bytes=32768";

/// How much is asked.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Clients.
    pub clients: u64,
    /// Keys.
    pub keys: u64,
    /// Watchers of all keys.
    pub watchers: u64,
    /// Whether keys are deleted too: without, what is acknowledged is kept until newer revisions replace it.
    pub deletes: bool,
}

/// Few enough that a key's search stays small, and enough that they meet.
pub const LOAD: Load = Load { clients: 6, keys: 3, watchers: 3, deletes: true };

/// What was seen.
#[derive(Debug)]
pub struct Run {
    /// The history.
    pub history: History,
    /// What happened besides.
    pub coverage: Coverage,
    folder: PathBuf,
}

/// Whether what should have been tried has been.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// How often each fault happened.
    pub faults: BTreeMap<Fault, usize>,
    /// Terms that went by: one for each election.
    pub terms: u64,
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Writes whose outcome is unknown.
    pub unknown: usize,
    /// Writes that were refused for their expected revision.
    pub conflicts: usize,
    /// Requests that were asked more than once, and answered more than once.
    pub repeated: usize,
    /// Reads that were answered, by member.
    pub reads: BTreeMap<u64, usize>,
    /// Streams of watchers that went on where one before them had ended.
    pub resumed: usize,
    /// Snapshots that replaced logs.
    pub snapshots: usize,
    /// Answers that are never given to what is asked here.
    pub strange: Vec<String>,
}

/// Asks while the schedule runs; a failure leaves history and schedule in the cluster's folder.
pub async fn run(cluster: &mut Cluster, load: Load, schedule: &Schedule, choices: &mut Choices) -> Run {
    let folder = cluster.folder().to_owned();
    let text = serde_json::to_string(schedule).expect("a schedule is numbers and words");
    say(&format!("schedule: {text}"));
    std::fs::write(folder.join("schedule.json"), &text).expect("a file can be written");
    let apis: Vec<Api> = (1..=cluster.member_addresses().len()).map(|member| cluster.api_of(member)).collect();
    let graph = Arc::new(Graph::uploaded(&apis).await);
    let recorder = Recorder::default();
    let before = term(cluster).await;
    let (stop, stops) = watch::channel(false);
    let (last, ends) = watch::channel(None);
    let clients = (0..load.clients).map(|number| {
        let client = Client::new(number, apis.clone(), graph.clone(), recorder.clone(), load, choices.number());
        tokio::spawn(client.run(stops.clone()))
    });
    let clients: Vec<_> = clients.collect();
    let watchers = (0..load.watchers).map(|number| {
        let choices = Choices::of(choices.number());
        tokio::spawn(watcher::run(number, apis.clone(), recorder.clone(), choices, ends.clone()))
    });
    let watchers: Vec<_> = watchers.collect();
    let faults = schedule.run(cluster).await;
    stop.send_replace(true);
    for client in clients {
        client.await.expect("a client runs to its end");
    }
    let position = end::mark(&apis, &graph, &recorder, load).await;
    last.send_replace(Some(position));
    for watcher in watchers {
        watcher.await.expect("a watcher runs to its end");
    }
    end::kept(&apis, &recorder, load).await;
    let history = History::new(recorder.lines()).expect("what was recorded is a history");
    std::fs::write(folder.join("history.jsonl"), history.to_text()).expect("a file can be written");
    let terms = term(cluster).await - before;
    let (snapshots, strange) = (snapshots(&folder), recorder.all_strange());
    let coverage = Coverage { faults, terms, snapshots, strange, ..Coverage::of(&history) };
    say(&format!("{coverage:?}"));
    Run { history, coverage, folder }
}

impl Run {
    /// What the rules say of it.
    pub fn report(&self) -> Report {
        check(&self.history)
    }

    /// Panics unless every rule holds, and every answer was one of those that are expected.
    pub fn is_legal(&self) {
        let report = self.report();
        assert!(self.coverage.strange.is_empty(), "strange answers: {:#?}", self.coverage.strange);
        assert!(report.is_pass(), "the history in {} is not legal:\n{report}", self.folder.display());
    }
}

impl Coverage {
    fn of(history: &History) -> Self {
        let mut coverage = Self::default();
        let mut answered: BTreeMap<&str, usize> = BTreeMap::new();
        for line in history.lines() {
            match line {
                Line::Operation(operation) => {
                    let is_write = matches!(operation.ask, Ask::Put { .. } | Ask::Delete { .. });
                    match &operation.outcome {
                        Outcome::Ok(_) if is_write => {
                            coverage.acknowledged += 1;
                            *answered.entry(operation.request.as_deref().unwrap_or_default()).or_default() += 1;
                        }
                        Outcome::Ok(_) => *coverage.reads.entry(operation.member).or_default() += 1,
                        Outcome::Unknown => coverage.unknown += 1,
                        Outcome::Refused(Refused::Conflict) => coverage.conflicts += 1,
                        Outcome::Refused(_) => {}
                    }
                }
                Line::Watched(watched) => {
                    let is_resumed = matches!(watched.seen, Seen::Began { after: 1.., .. });
                    coverage.resumed += usize::from(is_resumed);
                }
                Line::Kept(_) => {}
            }
        }
        coverage.repeated = answered.values().filter(|times| **times > 1).count();
        coverage
    }

    /// Panics if a run did not try what it is for: so many elections, and something of everything that is asked.
    pub fn is_enough(&self, terms: u64) {
        assert!(self.terms >= terms, "too few elections: {self:?}");
        assert!(self.acknowledged >= 30 && self.conflicts > 0, "too little was written: {self:?}");
        assert!(self.unknown > 0, "nothing was in doubt: {self:?}");
        assert!(self.repeated > 0, "nothing was repeated: {self:?}");
        assert!(self.resumed > 0, "no watch was resumed: {self:?}");
        assert!((1..=3).all(|member| self.reads.contains_key(&member)), "a member was not read: {self:?}");
    }
}

/// The term of the log, as a leader says.
async fn term(cluster: &Cluster) -> u64 {
    let leader = leader(cluster).await;
    let answer = tokio::time::timeout(Duration::from_secs(10), cluster.api_of(leader).members()).await;
    answer.expect("a leader answers soon").expect("a leader answers").term
}

/// How often a member said that a snapshot has replaced its log.
fn snapshots(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).expect("the folder is there").flatten().map(|entry| entry.path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let said = |path: PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.matches("the log was replaced by a snapshot").count()
    };
    logs.map(said).sum()
}
