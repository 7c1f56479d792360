//! A client: asks one thing after the other and takes down what it was answered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proto::status::{is_not_sent, reason};
use proto::weft::graph::v1 as wire;
use proto::weft::graph::v1::graphs_client::GraphsClient;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use super::Load;
use super::graph::{Graph, full_name, key, key_of, manifest, value_of};
use super::recorder::Recorder;
use crate::api::{Api, is_open, shown};
use crate::history::{Answer, Ask, Line, Operation, Outcome, Refused};
use crate::seed::Choices;

/// How long a client waits for an answer: longer than an election, shorter than most faults.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// The longest pause between two requests of a client.
const PACE_MAX: Duration = Duration::from_millis(60);
/// How often a request that is in doubt is asked again, at most.
const AGAIN_MAX: usize = 3;
/// Requests that were done which a client remembers, to ask them again.
const REMEMBERED_MAX: usize = 12;
/// One request of so many is one that was done before.
const REPEAT_ONE_OF: u64 = 8;

/// What is asked, whichever member is asked and how often.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) key: String,
    pub(super) ask: Ask,
    pub(super) request: Option<String>,
}

/// A client.
pub(super) struct Client {
    number: u64,
    apis: Vec<Api>,
    graph: Arc<Graph>,
    recorder: Recorder,
    load: Load,
    choices: Choices,
    requests: u64,
    /// The revisions of keys, as it was told last.
    known: BTreeMap<String, u64>,
    done: VecDeque<Asked>,
}

impl Client {
    pub(super) fn new(
        number: u64,
        apis: Vec<Api>,
        graph: Arc<Graph>,
        recorder: Recorder,
        load: Load,
        seed: u64,
    ) -> Self {
        let choices = Choices::of(seed);
        let (known, done) = (BTreeMap::new(), VecDeque::new());
        Self { number, apis, graph, recorder, load, choices, requests: 0, known, done }
    }

    /// Asks until it is told to stop.
    pub(super) async fn run(mut self, stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let asked = self.next();
            let mut outcome = self.attempt(&asked).await;
            let mut again = 0;
            while outcome == Some(Outcome::Unknown) && asked.request.is_some() && again < AGAIN_MAX {
                again += 1;
                // Some are left in doubt.
                if self.choices.below(4) == 0 {
                    break;
                }
                outcome = self.attempt(&asked).await;
            }
            self.learn(asked, outcome.as_ref());
            let random_pause = self.choices.moment(PACE_MAX);
            sleep(random_pause).await;
        }
    }

    fn next(&mut self) -> Asked {
        if !self.done.is_empty() && self.choices.below(REPEAT_ONE_OF) == 0 {
            let index = self.choices.below(self.done.len() as u64);
            return self.done[usize::try_from(index).expect("a small number")].clone();
        }
        let key = key(self.choices.below(self.load.keys));
        self.requests += 1;
        let id = format!("c{}-{}", self.number, self.requests);
        let known = self.known.get(&key).copied();
        let expected = if self.choices.below(2) == 0 { known } else { None };
        let ask = match self.choices.below(20) {
            0..10 => Ask::Put { value: id.clone(), expected },
            10..12 if self.load.deletes => Ask::Delete { expected: expected.filter(|expected| *expected > 0) },
            12..18 => Ask::Get,
            _ => Ask::List,
        };
        let request = matches!(ask, Ask::Put { .. } | Ask::Delete { .. }).then_some(id);
        let key = if ask == Ask::List { String::new() } else { key };
        Asked { key, ask, request }
    }

    /// Asks any member, and takes it down, but for a read without an answer: that says nothing.
    async fn attempt(&mut self, asked: &Asked) -> Option<Outcome> {
        let index = usize::try_from(self.choices.below(self.apis.len() as u64)).expect("a small number");
        ask(self.number, (index, &self.apis[index]), asked, &self.graph, &self.recorder, PATIENCE).await
    }

    fn learn(&mut self, asked: Asked, outcome: Option<&Outcome>) {
        let Some(Outcome::Ok(answer)) = outcome else { return };
        match asked.ask {
            Ask::List => self.known.extend(answer.listed.clone()),
            // What is deleted is at no revision.
            _ => self.known.extend([(asked.key.clone(), answer.revision.unwrap_or_default())]),
        }
        if asked.request.is_some() {
            self.done.push_back(asked);
            if self.done.len() > REMEMBERED_MAX {
                self.done.pop_front();
            }
        }
    }
}

/// Asks one member, by its index, and takes it down.
pub(super) async fn ask(
    client: u64,
    (index, api): (usize, &Api),
    asked: &Asked,
    graph: &Graph,
    recorder: &Recorder,
    patience: Duration,
) -> Option<Outcome> {
    let invoked_us = recorder.now_us();
    let answered = timeout(patience, call(api, asked, graph)).await;
    let returned_us = recorder.now_us();
    let outcome = match answered {
        Ok(Ok(answer)) => Outcome::Ok(answer),
        Ok(Err(status)) => failed(asked, &status, recorder),
        Err(_) => Outcome::Unknown,
    };
    if asked.request.is_none() && !matches!(outcome, Outcome::Ok(_)) {
        return None;
    }
    recorder.add(Line::Operation(Operation {
        client,
        member: index as u64 + 1,
        key: asked.key.clone(),
        ask: asked.ask.clone(),
        request: asked.request.clone(),
        invoked_us,
        returned_us,
        outcome: outcome.clone(),
    }));
    Some(outcome)
}

async fn call(api: &Api, asked: &Asked, graph: &Graph) -> Result<Answer, Status> {
    let mut client = GraphsClient::new(api.channel());
    let request_id = asked.request.clone().unwrap_or_default();
    match &asked.ask {
        Ask::Put { value, expected } => {
            let request = wire::DeployRequest {
                request_id,
                manifest: manifest(&asked.key, value),
                artifacts: graph.artifacts(),
                plan_id: String::new(),
                expected_revision: *expected,
                strict: false,
                at_once: false,
            };
            let done = client.deploy(request).await?.into_inner();
            // Each value is linked otherwise, so that its generation is the state that it made.
            let (position, revision) = (Some(done.generation), Some(done.revision));
            Ok(Answer { position, revision, ..Answer::default() })
        }
        Ask::Delete { expected } => {
            let graph = full_name(&asked.key);
            let request = wire::DeleteRequest { request_id, graph, expected_revision: *expected };
            client.delete(request).await.map(|_| Answer::default())
        }
        Ask::Get => {
            let request = wire::GetRequest { graph: full_name(&asked.key), revision: 0 };
            match client.get(request).await {
                Ok(answer) => Ok(read(answer.into_inner())),
                Err(status) if is_not_found(&status) => Ok(Answer::default()),
                Err(status) => Err(status),
            }
        }
        Ask::List => {
            let request = wire::ListRequest { namespace: String::new() };
            let graphs = client.list(request).await?.into_inner().graphs;
            let position = graphs.first().map(|graph| graph.state_revision);
            let listed = graphs.iter().map(|graph| (key_of(&graph.graph).to_owned(), graph.revision)).collect();
            Ok(Answer { position, listed, ..Answer::default() })
        }
        Ask::Join => unreachable!("clients do not join"),
    }
}

fn read(answer: wire::GetResponse) -> Answer {
    let status = answer.status.unwrap_or_default();
    let value = Some(value_of(&answer.manifest).to_owned());
    Answer {
        position: Some(status.state_revision),
        revision: Some(status.revision),
        value,
        ..Answer::default()
    }
}

pub(super) fn is_not_found(status: &Status) -> bool {
    status.code() == Code::NotFound && reason(status).as_deref() == Some("not_found")
}

/// What a status says of a request; what it does not say is unknown.
fn failed(asked: &Asked, status: &Status, recorder: &Recorder) -> Outcome {
    if is_not_sent(status) {
        return Outcome::Refused(Refused::Other);
    }
    let reason = reason(status).unwrap_or_default();
    let is_delete = matches!(asked.ask, Ask::Delete { .. });
    match (status.code(), reason.as_str()) {
        (Code::FailedPrecondition, "generation_conflict") => Outcome::Refused(Refused::Conflict),
        (Code::NotFound, "not_found") if is_delete => Outcome::Refused(Refused::NotFound),
        // The state was read by nobody, or has changed too often: nothing was proposed, or it was refused.
        (Code::Unavailable, "no_quorum") | (Code::Aborted, "stale") => Outcome::Refused(Refused::Other),
        _ if is_open(status) => Outcome::Unknown,
        _ => {
            recorder.strange(format!("{asked:?}: {}", shown(status)));
            Outcome::Unknown
        }
    }
}
