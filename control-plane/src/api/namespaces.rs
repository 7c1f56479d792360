//! `weft.namespace.v1.Namespaces`: what the graphs of a namespace may use together, and what they do.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::command::{Body, SetQuota};
use cluster::{State, quota};
use graph::diagnostic::nearest;
use model::name::NamespaceName;
use model::quota::{Quota, Usage};
use proto::convert::{parse, required};
use proto::status::refuse;
use proto::weft::namespace::v1 as wire;
use tonic::{Code, Request, Response, Status};

use super::mutation::{once, tag};
use super::{Context, refusal};

/// The service.
#[derive(Debug, Clone)]
pub struct Namespaces {
    context: Context,
}

impl Namespaces {
    /// The service over `context`.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    async fn state(&self) -> Result<Arc<State>, Status> {
        self.context.raft.read().await.map_err(|error| refusal::read(&error))
    }
}

fn show(state: &State, name: &NamespaceName, used: Usage) -> wire::Namespace {
    let record = state.namespaces.get(name);
    wire::Namespace {
        name: name.to_string(),
        quota: Some(record.map(|record| record.quota).unwrap_or_default().into()),
        used: Some(used.into()),
        quota_changed_at_ms: record.map(|record| record.changed_at_ms).unwrap_or_default(),
    }
}

/// Those that there are, and what each uses: in one pass over all graphs.
fn all(state: &State) -> BTreeMap<&NamespaceName, Usage> {
    let mut all: BTreeMap<&NamespaceName, Usage> =
        state.namespaces.keys().map(|name| (name, Usage::default())).collect();
    for (key, usage) in quota::of_all(state) {
        let used = all.entry(&key.namespace).or_default();
        *used = used.and(usage);
    }
    all
}

fn not_found(state: &State, name: &NamespaceName) -> Status {
    let known = all(state);
    let near = nearest(name.as_str(), known.keys().map(|known| known.as_str()));
    let hint = near.map(|near| format!(": did you mean {near}?")).unwrap_or_default();
    let message = format!("no graph is in namespace {name}, and it has no quota{hint}");
    refuse(Code::NotFound, "not_found", message)
}

#[tonic::async_trait]
impl wire::namespaces_server::Namespaces for Namespaces {
    async fn list(&self, _: Request<wire::ListRequest>) -> Result<Response<wire::ListResponse>, Status> {
        let state = self.state().await?;
        let namespaces = all(&state).into_iter().map(|(name, used)| show(&state, name, used)).collect();
        Ok(Response::new(wire::ListResponse { namespaces }))
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::GetResponse>, Status> {
        let name: NamespaceName = parse("name", &request.into_inner().name)?;
        let state = self.state().await?;
        let (mut graphs, mut all) = (Vec::new(), Usage::default());
        for (key, usage) in quota::by_graph(&state, &name) {
            all = all.and(usage);
            graphs.push(wire::GraphUsage { graph: key.to_string(), used: Some(usage.into()) });
        }
        if graphs.is_empty() && !state.namespaces.contains_key(&name) {
            return Err(not_found(&state, &name));
        }
        Ok(Response::new(wire::GetResponse { namespace: Some(show(&state, &name, all)), graphs }))
    }

    async fn set_quota(
        &self,
        request: Request<wire::SetQuotaRequest>,
    ) -> Result<Response<wire::SetQuotaResponse>, Status> {
        let mut request = request.into_inner();
        let id = std::mem::take(&mut request.request_id);
        let tag = tag(&id, &request)?;
        let namespace: NamespaceName = parse("namespace", &request.namespace)?;
        let quota = required("quota", request.quota)?;
        let quota = Quota::try_from(quota).map_err(|error| error.under("quota"))?;
        once(&self.context, tag, Body::SetQuota(SetQuota { namespace: namespace.clone(), quota })).await?;
        let state = self.state().await?;
        let used = quota::used(&state, &namespace);
        Ok(Response::new(wire::SetQuotaResponse { namespace: Some(show(&state, &namespace, used)) }))
    }
}
