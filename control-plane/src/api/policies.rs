//! `weft.policy.v1.Policies`.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::command::{Body, DeletePolicy, PutPolicy, RequestTag};
use cluster::outcome::Refusal;
use cluster::{Outcome, State};
use graph::plan::{is_own, way};
use model::graph::Artifact;
use model::id::{Generation, GraphKey};
use model::name::PolicyName;
use model::policy::{Action, PolicySpec};
use proto::convert::parse;
use proto::status::refuse;
use proto::weft::policy::v1 as wire;
use tonic::{Code, Request, Response, Status};

use super::mutation::{TRIES_MAX, blocking, known, propose, tag};
use super::{Context, refusal};
use crate::linking::{Effect, policies_with};

/// The service.
#[derive(Debug, Clone)]
pub struct Policies {
    context: Context,
}

impl Policies {
    /// The service over `context`.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    async fn state(&self) -> Result<Arc<State>, Status> {
        self.context.raft.read().await.map_err(|error| refusal::read(&error))
    }

    async fn check(&self, manifest: &str, artifacts: BTreeMap<String, Artifact>) -> Result<PolicySpec, Status> {
        let (linker, manifest) = (self.context.linker.clone(), manifest.to_owned());
        let checked = blocking(move || linker.check_policy(&manifest, &artifacts)).await?;
        checked.map(|checked| checked.spec).map_err(|refused| refusal::manifest(&refused))
    }

    async fn effects(
        &self,
        state: &Arc<State>,
        name: PolicyName,
        spec: Option<PolicySpec>,
    ) -> Result<Vec<Effect>, Status> {
        let (linker, state) = (self.context.linker.clone(), state.clone());
        blocking(move || linker.effects(&state, &policies_with(&state, &name, spec.as_ref()))).await
    }

    /// Commits a version of a policy, unless some graph could not be linked with it.
    async fn put(
        &self,
        tag: RequestTag,
        manifest: String,
        spec: PolicySpec,
    ) -> Result<Response<wire::ApplyResponse>, Status> {
        let name = spec.name.clone();
        self.change(tag, &name, Some(spec.clone()), |state| {
            Body::PutPolicy(Box::new(PutPolicy {
                manifest: manifest.clone(),
                spec: spec.clone(),
                graphs_at: state.graphs_at,
                policies_at: state.policies_at,
            }))
        })
        .await
    }

    async fn change(
        &self,
        tag: RequestTag,
        name: &PolicyName,
        spec: Option<PolicySpec>,
        body: impl Fn(&State) -> Body,
    ) -> Result<Response<wire::ApplyResponse>, Status> {
        for _ in 0..TRIES_MAX {
            let state = self.state().await?;
            let outcome = match known(&state, &tag)? {
                Some(outcome) => outcome,
                None => {
                    let effects = self.effects(&state, name.clone(), spec.clone()).await?;
                    refuse_unlinkable(name, &effects)?;
                    match propose(&self.context, Some(tag.clone()), body(&state)).await? {
                        Ok(outcome) => outcome,
                        Err(Refusal::Stale { .. }) => continue,
                        Err(refused) => return Err(refusal::outcome(&refused)),
                    }
                }
            };
            return self.answer(&state, name, &outcome).await;
        }
        Err(refuse(Code::Aborted, "stale", "graphs and policies change too often at this moment: try again"))
    }

    /// Links the graphs again and says which ones changed.
    async fn answer(
        &self,
        before: &State,
        name: &PolicyName,
        outcome: &Outcome,
    ) -> Result<Response<wire::ApplyResponse>, Status> {
        let (generation, unchanged) = match outcome {
            Outcome::PolicyPut { generation, unchanged, .. } => (*generation, *unchanged),
            _ => (Generation::default(), false),
        };
        self.context.relinker.pass().await;
        let after = self.context.raft.state();
        let is_concerned = |key: &GraphKey, generation: Generation| {
            let changed = before.graphs.get(key).is_none_or(|record| record.generation != generation);
            let stands = |state: &State| {
                let record = state.graphs.get(key);
                record.is_some_and(|record| record.linked.policies.iter().any(|policy| policy.name == *name))
            };
            changed && (stands(before) || stands(&after))
        };
        let relinked = after
            .graphs
            .iter()
            .filter(|(key, record)| is_concerned(key, record.generation))
            .map(|(key, record)| wire::Relinked { graph: key.to_string(), generation: record.generation.0 })
            .collect();
        let name = name.to_string();
        Ok(Response::new(wire::ApplyResponse {
            name,
            generation: generation.0,
            unchanged,
            relinked,
            warnings: Vec::new(),
        }))
    }
}

fn refuse_unlinkable(name: &PolicyName, effects: &[Effect]) -> Result<(), Status> {
    let broken: Vec<String> = effects
        .iter()
        .filter_map(|effect| Some((&effect.key, effect.linked.as_ref().err()?)))
        .map(|(key, why)| format!("{key}: {}", why.join("; ")))
        .collect();
    if broken.is_empty() {
        return Ok(());
    }
    let message = format!(
        "policy {name} would leave {} graphs that cannot be linked, so nothing was changed: {}",
        broken.len(),
        broken.join(" | ")
    );
    Err(refuse(Code::FailedPrecondition, "policy_unlinkable", message))
}

fn read_artifacts(
    artifacts: BTreeMap<String, proto::weft::graph::v1::Artifact>,
) -> Result<BTreeMap<String, Artifact>, Status> {
    artifacts.into_iter().map(|(source, artifact)| Ok((source, Artifact::try_from(artifact)?))).collect()
}

fn describe(state: &State, effect: &Effect) -> wire::GraphEffect {
    let lines = match &effect.linked {
        Err(why) => why.clone(),
        Ok(linked) => {
            let empty = model::linked::LinkedGraph::default();
            let before = state.graphs.get(&effect.key).map_or(&empty, |record| &record.linked);
            let changes = graph::plan::changes(before, linked);
            changes
                .iter()
                .map(|change| format!("{} {}: {}", change.kind, change.subject, change.detail))
                .collect()
        }
    };
    wire::GraphEffect { graph: effect.key.to_string(), lines }
}

fn links_of(state: &State, name: &PolicyName) -> Vec<String> {
    let mut links = Vec::new();
    for (key, record) in &state.graphs {
        for link in record.linked.links.iter().filter(|link| is_own(&record.linked, link)) {
            let way = way(&record.linked, link);
            if way.contains(&format!("[{name}]")) {
                links.push(format!("{key} {way} ({})", link.interface));
            }
        }
    }
    links
}

fn summary(
    state: &State,
    spec: &PolicySpec,
    generation: Generation,
    applied_at_ms: u64,
) -> wire::PolicySummary {
    wire::PolicySummary {
        name: spec.name.to_string(),
        generation: generation.0,
        applied_at_ms,
        mode: match &spec.action {
            Action::Deny(_) => format!("{} (deny)", spec.mode),
            Action::Interpose(_) => spec.mode.to_string(),
        },
        interface: spec.selector.interface.to_string(),
        phase: spec.order.phase.to_string(),
        priority: spec.order.priority,
        mandatory: spec.mandatory,
        links: u32::try_from(links_of(state, &spec.name).len()).unwrap_or(u32::MAX),
    }
}

fn not_found(state: &State, name: &PolicyName) -> Status {
    let known = state.policies.keys().map(PolicyName::as_str);
    let near = graph::diagnostic::nearest(name.as_str(), known);
    let hint = near.map(|near| format!(": did you mean {near}?")).unwrap_or_default();
    refuse(Code::NotFound, "not_found", format!("there is no policy {name}{hint}"))
}

#[tonic::async_trait]
impl wire::policies_server::Policies for Policies {
    async fn plan(&self, request: Request<wire::PlanRequest>) -> Result<Response<wire::PlanResponse>, Status> {
        let request = request.into_inner();
        let spec = self.check(&request.manifest, read_artifacts(request.artifacts)?).await?;
        let state = self.state().await?;
        let name = spec.name.clone();
        let effects = self.effects(&state, name.clone(), Some(spec)).await?;
        let (done, refused): (Vec<&Effect>, Vec<&Effect>) =
            effects.iter().partition(|effect| effect.linked.is_ok());
        Ok(Response::new(wire::PlanResponse {
            name: name.to_string(),
            effects: done.into_iter().map(|effect| describe(&state, effect)).collect(),
            refused: refused.into_iter().map(|effect| describe(&state, effect)).collect(),
            warnings: Vec::new(),
        }))
    }

    async fn apply(
        &self,
        request: Request<wire::ApplyRequest>,
    ) -> Result<Response<wire::ApplyResponse>, Status> {
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let tag = tag(&request_id, &request)?;
        let spec = self.check(&request.manifest, read_artifacts(request.artifacts)?).await?;
        self.put(tag, request.manifest, spec).await
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::GetResponse>, Status> {
        let request = request.into_inner();
        let name: PolicyName = parse("name", &request.name)?;
        let state = self.state().await?;
        let record = state.policies.get(&name).ok_or_else(|| not_found(&state, &name))?;
        let version = match request.generation {
            0 => record.current(),
            wanted => record.versions.iter().find(|version| version.generation.0 == wanted),
        };
        let Some(version) = version else {
            let message = format!("policy {name} has no version {}", request.generation);
            return Err(refuse(Code::NotFound, "not_found", message));
        };
        Ok(Response::new(wire::GetResponse {
            policy: Some(summary(&state, &version.spec, version.generation, version.applied_at_ms)),
            manifest: version.manifest.clone(),
            generations: record.versions.iter().rev().map(|version| version.generation.0).collect(),
            links: links_of(&state, &name),
        }))
    }

    async fn list(&self, _: Request<wire::ListRequest>) -> Result<Response<wire::ListResponse>, Status> {
        let state = self.state().await?;
        let current = state.policies.values().filter_map(|record| record.current());
        let policies =
            current.map(|version| summary(&state, &version.spec, version.generation, version.applied_at_ms));
        Ok(Response::new(wire::ListResponse { policies: policies.collect() }))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteRequest>,
    ) -> Result<Response<wire::ApplyResponse>, Status> {
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let tag = tag(&request_id, &request)?;
        let name: PolicyName = parse("name", &request.name)?;
        let state = self.state().await?;
        if known(&state, &tag)?.is_none() && !state.policies.contains_key(&name) {
            return Err(not_found(&state, &name));
        }
        self.change(tag, &name, None, |state| {
            Body::DeletePolicy(DeletePolicy {
                name: name.clone(),
                graphs_at: state.graphs_at,
                policies_at: state.policies_at,
            })
        })
        .await
    }

    async fn rollback(
        &self,
        request: Request<wire::RollbackRequest>,
    ) -> Result<Response<wire::ApplyResponse>, Status> {
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let tag = tag(&request_id, &request)?;
        let name: PolicyName = parse("name", &request.name)?;
        let state = self.state().await?;
        let record = state.policies.get(&name).ok_or_else(|| not_found(&state, &name))?;
        let version = match request.to_generation {
            0 => record.versions.iter().rev().nth(1),
            wanted => record.versions.iter().find(|version| version.generation.0 == wanted),
        };
        let Some(version) = version else {
            let message = format!("policy {name} has no such earlier version");
            return Err(refuse(Code::FailedPrecondition, "no_earlier_revision", message));
        };
        self.put(tag, version.manifest.clone(), version.spec.clone()).await
    }
}
