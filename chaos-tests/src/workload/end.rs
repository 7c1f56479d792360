//! When nothing is asked any more: a last write, which watchers must see, and what every member keeps.

use std::time::Duration;

use proto::weft::graph::v1 as wire;
use proto::weft::graph::v1::graphs_client::GraphsClient;

use super::Load;
use super::client::{Asked, ask, is_not_found};
use super::graph::{Graph, full_name, keys, value_of};
use super::recorder::Recorder;
use crate::api::{Api, shown};
use crate::history::{Ask, Kept, KeptRevision, Line, Outcome};
use crate::wait::{SOON, until};

/// How long one answer may take when all members are well again.
const PATIENCE: Duration = Duration::from_secs(10);
/// A key that clients know nothing of.
const LAST: &str = "last";

/// Writes for the last time, and reads every key at every member; the state that the write made.
pub(super) async fn mark(apis: &[Api], graph: &Graph, recorder: &Recorder, load: Load) -> u64 {
    let put = Ask::Put { value: LAST.to_owned(), expected: None };
    let asked = Asked { key: LAST.to_owned(), ask: put, request: Some(LAST.to_owned()) };
    let position = until("the last write is acknowledged", SOON, async || {
        for member in apis.iter().enumerate() {
            if let Some(Outcome::Ok(answer)) =
                ask(load.clients, member, &asked, graph, recorder, PATIENCE).await
            {
                return answer.position.ok_or("no position");
            }
        }
        Err("no answer")
    })
    .await;
    for key in keys(load.keys) {
        let asked = Asked { key, ask: Ask::Get, request: None };
        for member in apis.iter().enumerate() {
            until("every member answers", SOON, async || {
                let answered = ask(load.clients, member, &asked, graph, recorder, PATIENCE).await;
                answered.ok_or("no answer")
            })
            .await;
        }
    }
    position
}

/// Takes down what every member keeps of every key.
pub(super) async fn kept(apis: &[Api], recorder: &Recorder, load: Load) {
    for (index, api) in apis.iter().enumerate() {
        for key in keys(load.keys) {
            let revisions = until("every member says what it keeps", SOON, async || {
                revisions(api, &full_name(&key)).await.map_err(|status| shown(&status))
            })
            .await;
            recorder.add(Line::Kept(Kept { member: index as u64 + 1, key, revisions }));
        }
    }
}

async fn revisions(api: &Api, graph: &str) -> Result<Vec<KeptRevision>, tonic::Status> {
    let history = match api.history(graph).await {
        Ok(history) => history,
        Err(status) if is_not_found(&status) => return Ok(Vec::new()),
        Err(status) => return Err(status),
    };
    let mut revisions = Vec::new();
    for summary in history.iter().rev() {
        let request = wire::GetRequest { graph: graph.to_owned(), revision: summary.number };
        let answer = GraphsClient::new(api.channel()).get(request).await?.into_inner();
        revisions.push(KeptRevision {
            revision: summary.number,
            value: value_of(&answer.manifest).to_owned(),
            made_ms: summary.deployed_at_ms,
        });
    }
    Ok(revisions)
}
