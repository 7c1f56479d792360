//! `weft.policy.v1.Policies`.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::command::{Body, DeletePolicy, PutPolicy, RequestTag};
use cluster::outcome::Refusal;
use cluster::state::{PolicyRecord, PolicyVersionRecord};
use cluster::{Outcome, State, view};
use graph::plan::{is_own, way};
use model::graph::Artifact;
use model::id::{Generation, GraphKey};
use model::name::PolicyName;
use model::policy::{Action, PolicySpec};
use model::rollout::{Ask, RolloutSpec};
use proto::convert::parse;
use proto::status::refuse;
use proto::weft::policy::v1 as wire;
use tonic::{Code, Request, Response, Status};

use super::mutation::{TRIES_MAX, known, propose, tag};
use super::rollouts::{asked, refuse_old_agents};
use super::{Context, refusal};
use crate::leader::relink::relinking;
use crate::leader::rollouts::changing_policy;
use crate::linking::{Effect, PolicySets};
use crate::raft;

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
        let held = self.context.replicas.hold_all(artifacts.values().map(|artifact| artifact.digest)).await;
        held.map_err(|error| refusal::replica(&error))?;
        let (linker, manifest) = (self.context.linker.clone(), manifest.to_owned());
        let checked = self.context.checks.run(move || linker.check_policy(&manifest, &artifacts)).await?;
        checked.map(|checked| checked.spec).map_err(|refused| refusal::manifest(&refused))
    }

    async fn effects(
        &self,
        state: &Arc<State>,
        name: PolicyName,
        spec: Option<PolicySpec>,
    ) -> Result<Vec<Effect>, Status> {
        let (linker, state) = (self.context.linker.clone(), state.clone());
        let effects = move || {
            let mut effects = linker.effects(&state, &PolicySets::with(&state, &name, spec.as_ref()));
            effects.iter_mut().for_each(|effect| refuse_unwritable(&state, effect));
            effects
        };
        self.context.checks.run(effects).await
    }

    /// The steps by which a version takes over, if it says some and whoever applies it does not say otherwise: there must be
    /// a graph that it concerns, and no other policy that does so. Refused where an agent does not know what a candidate is.
    fn steps(
        state: &State,
        manifest: &str,
        spec: &PolicySpec,
        effects: &[Effect],
        at_once: bool,
    ) -> Result<Option<RolloutSpec>, Status> {
        let Some(rollout) = spec.rollout.clone().filter(|_| !at_once && !effects.is_empty()) else {
            return Ok(None);
        };
        let newest = state.policies.get(&spec.name).and_then(PolicyRecord::next);
        if newest.is_some_and(|newest| newest.spec == *spec && newest.manifest == manifest) {
            // Nothing is to be done.
            return Ok(Some(rollout));
        }
        let other =
            state.policies.iter().find(|(name, record)| record.rollout.is_some() && **name != spec.name);
        if let Some((name, _)) = other {
            return Err(refusal::outcome(&Refusal::PolicyRolloutOpen { name: name.to_string() }));
        }
        refuse_old_agents(state)?;
        Ok(Some(rollout))
    }

    /// Commits a version of a policy, unless some graph could not be linked with it.
    async fn put(
        &self,
        tag: RequestTag,
        manifest: String,
        spec: PolicySpec,
        at_once: bool,
    ) -> Result<Response<wire::ApplyResponse>, Status> {
        let name = spec.name.clone();
        self.change(tag, &name, Some(spec.clone()), |state, effects| {
            Ok(Body::PutPolicy(Box::new(PutPolicy {
                manifest: manifest.clone(),
                by_steps: Self::steps(state, &manifest, &spec, effects, at_once)?.is_some(),
                spec: spec.clone(),
                graphs_at: state.graphs_at,
                policies_at: state.policies_at,
            })))
        })
        .await
    }

    async fn change(
        &self,
        tag: RequestTag,
        name: &PolicyName,
        spec: Option<PolicySpec>,
        body: impl Fn(&State, &[Effect]) -> Result<Body, Status>,
    ) -> Result<Response<wire::ApplyResponse>, Status> {
        for _ in 0..TRIES_MAX {
            let state = self.state().await?;
            let outcome = match known(&state, &tag)? {
                Some(outcome) => return self.answer(None, name, &outcome).await,
                None => {
                    let effects = self.effects(&state, name.clone(), spec.clone()).await?;
                    refuse_unlinkable(name, &effects)?;
                    match propose(&self.context, Some(tag.clone()), body(&state, &effects)?).await? {
                        Ok(outcome) => outcome,
                        Err(Refusal::Stale { .. }) => continue,
                        Err(refused) => return Err(refusal::outcome(&refused)),
                    }
                }
            };
            return self.answer(Some(&state), name, &outcome).await;
        }
        Err(refuse(Code::Aborted, "stale", "graphs and policies change too often at this moment: try again"))
    }

    /// Links the graphs again and says which ones the policy concerns: those it stood on `before`, if that is known, or
    /// stands on now.
    async fn answer(
        &self,
        before: Option<&State>,
        name: &PolicyName,
        outcome: &Outcome,
    ) -> Result<Response<wire::ApplyResponse>, Status> {
        let (generation, unchanged) = match outcome {
            Outcome::PolicyPut { generation, unchanged, .. } => (*generation, *unchanged),
            _ => (Generation::default(), false),
        };
        let warnings = self.context.relinker.pass().await.map_err(|error| {
            let message = format!(
                "the change is committed, but not every graph is linked again yet: {error}. Asking again with the same \
                 request id goes on from there"
            );
            refuse(Code::Unavailable, "relink_pending", message)
        })?;
        let after = self.context.raft.state();
        let is_concerned = |key: &GraphKey| {
            let stands = |state: &State| {
                let record = state.graphs.get(key);
                record.is_some_and(|record| record.linked.policies.iter().any(|policy| policy.name == *name))
            };
            let generation = |state: &State| state.graphs.get(key).map(|record| record.generation);
            match before {
                Some(before) => generation(before) != generation(&after) && (stands(before) || stands(&after)),
                // A request that is repeated: what it changed is no longer known, what it wants to be in force is.
                None => stands(&after),
            }
        };
        let relinked = after
            .graphs
            .iter()
            .filter(|(key, _)| is_concerned(key))
            .map(|(key, record)| wire::Relinked { graph: key.to_string(), generation: record.generation.0 })
            .collect();
        let taking_over = after.policies.get(name).and_then(PolicyRecord::taking_over);
        Ok(Response::new(wire::ApplyResponse {
            name: name.to_string(),
            generation: generation.0,
            unchanged,
            relinked,
            warnings,
            by_steps: taking_over.is_some_and(|version| version.generation == generation),
        }))
    }
}

/// A graph that could be linked and not written down would stay without the policy: it is refused before.
fn refuse_unwritable(state: &State, effect: &mut Effect) {
    let (Some(record), Ok(linked)) = (state.graphs.get(&effect.key), &effect.linked) else { return };
    let command = relinking(&effect.key, record, state.policies_at, linked.clone(), state.now_ms);
    if let Err(error) = raft::check_size(&command) {
        effect.linked = Err(vec![error.to_string()]);
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

/// The links that each policy stands on, as sentences.
fn links_by_policy(state: &State) -> BTreeMap<PolicyName, Vec<String>> {
    let mut links: BTreeMap<PolicyName, Vec<String>> = BTreeMap::new();
    for (key, record) in &state.graphs {
        if record.linked.policies.is_empty() {
            continue;
        }
        for link in record.linked.links.iter().filter(|link| is_own(&record.linked, link)) {
            let way = way(&record.linked, link);
            for policy in &record.linked.policies {
                if way.contains(&format!("[{}]", policy.name)) {
                    let sentence = format!("{key} {way} ({})", link.interface);
                    links.entry(policy.name.clone()).or_default().push(sentence);
                }
            }
        }
    }
    links
}

/// The version that people see who name none: the one in force, or else the newest.
fn shown(record: &PolicyRecord) -> Option<&PolicyVersionRecord> {
    record.current().or_else(|| record.versions.last())
}

fn summary(
    state: &State,
    record: &PolicyRecord,
    version: &PolicyVersionRecord,
    links: Option<&Vec<String>>,
) -> wire::PolicySummary {
    let spec = &version.spec;
    wire::PolicySummary {
        name: spec.name.to_string(),
        generation: version.generation.0,
        applied_at_ms: version.applied_at_ms,
        mode: match &spec.action {
            Action::Deny(_) => format!("{} (deny)", spec.mode),
            Action::Interpose(_) => spec.mode.to_string(),
        },
        interface: spec.selector.interface.to_string(),
        phase: spec.order.phase.to_string(),
        priority: spec.order.priority,
        mandatory: spec.mandatory,
        links: links.map_or(0, |links| u32::try_from(links.len()).unwrap_or(u32::MAX)),
        rollout: view::policy_rollout(state, record).map(Into::into),
        not_in_force: record.current().is_none(),
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
        let effects = self.effects(&state, name.clone(), Some(spec.clone())).await?;
        // Why it could not take over by steps now is said when it is applied.
        let steps = Self::steps(&state, &request.manifest, &spec, &effects, false);
        let (steps, warnings) = match steps {
            Ok(steps) => (steps.map(|spec| spec.steps).unwrap_or_default(), Vec::new()),
            Err(status) => (Vec::new(), vec![status.message().to_owned()]),
        };
        let (done, refused): (Vec<&Effect>, Vec<&Effect>) =
            effects.iter().partition(|effect| effect.linked.is_ok());
        Ok(Response::new(wire::PlanResponse {
            name: name.to_string(),
            effects: done.into_iter().map(|effect| describe(&state, effect)).collect(),
            refused: refused.into_iter().map(|effect| describe(&state, effect)).collect(),
            warnings,
            steps: steps.into_iter().map(Into::into).collect(),
        }))
    }

    async fn apply(
        &self,
        request: Request<wire::ApplyRequest>,
    ) -> Result<Response<wire::ApplyResponse>, Status> {
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let tag = tag(&request_id, &request)?;
        if let Some(outcome) = known(&*self.state().await?, &tag)?
            && let Outcome::PolicyPut { name, .. } = &outcome
        {
            return self.answer(None, name, &outcome).await;
        }
        let spec = self.check(&request.manifest, read_artifacts(request.artifacts)?).await?;
        self.put(tag, request.manifest, spec, request.at_once).await
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::GetResponse>, Status> {
        let request = request.into_inner();
        let name: PolicyName = parse("name", &request.name)?;
        let state = self.state().await?;
        let record = state.policies.get(&name).ok_or_else(|| not_found(&state, &name))?;
        let version = match request.generation {
            0 => shown(record),
            wanted => record.versions.iter().find(|version| version.generation.0 == wanted),
        };
        let Some(version) = version else {
            let message = format!("policy {name} has no version {}", request.generation);
            return Err(refuse(Code::NotFound, "not_found", message));
        };
        let read = state.clone();
        let links = self.context.checks.run(move || links_by_policy(&read)).await?;
        let links = links.get(&name);
        let given_up = record.versions.iter().rev().filter_map(|version| {
            let (generation, why) = (version.generation.0, version.given_up.clone()?);
            Some(wire::GivenUp { generation, why })
        });
        Ok(Response::new(wire::GetResponse {
            policy: Some(summary(&state, record, version, links)),
            given_up: given_up.collect(),
            manifest: version.manifest.clone(),
            generations: record.versions.iter().rev().map(|version| version.generation.0).collect(),
            links: links.cloned().unwrap_or_default(),
        }))
    }

    async fn list(&self, _: Request<wire::ListRequest>) -> Result<Response<wire::ListResponse>, Status> {
        let state = self.state().await?;
        let read = state.clone();
        let links = self.context.checks.run(move || links_by_policy(&read)).await?;
        let all = state.policies.iter().filter_map(|(name, record)| Some((name, record, shown(record)?)));
        let policies = all.map(|(name, record, version)| summary(&state, record, version, links.get(name)));
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
        self.change(tag, &name, None, |state, _| {
            Ok(Body::DeletePolicy(DeletePolicy {
                name: name.clone(),
                graphs_at: state.graphs_at,
                policies_at: state.policies_at,
            }))
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
        if let Some(outcome) = known(&state, &tag)? {
            return self.answer(None, &name, &outcome).await;
        }
        let record = state.policies.get(&name).ok_or_else(|| not_found(&state, &name))?;
        let version = match request.to_generation {
            0 => before(record),
            wanted => record.versions.iter().find(|version| version.generation.0 == wanted),
        };
        let Some(version) = version else {
            let message = format!("policy {name} has no such earlier version");
            return Err(refuse(Code::FailedPrecondition, "no_earlier_revision", message));
        };
        // Who goes back wants to be back.
        self.put(tag, version.manifest.clone(), version.spec.clone(), true).await
    }

    async fn rollout(
        &self,
        request: Request<wire::RolloutRequest>,
    ) -> Result<Response<wire::RolloutResponse>, Status> {
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let tag = tag(&request_id, &request)?;
        let name: PolicyName = parse("name", &request.name)?;
        let ask = Ask::try_from(request.ask())?;
        // One step is asked for: one that was made meanwhile by itself is that one.
        let mut from: Option<(Generation, usize)> = None;
        for _ in 0..TRIES_MAX {
            let state = self.state().await?;
            let record = state.policies.get(&name).ok_or_else(|| not_found(&state, &name))?;
            if known(&state, &tag)?.is_none() {
                let Some((rollout, version)) = record.rollout.as_ref().zip(record.taking_over()) else {
                    let message = format!("no version of policy {name} takes over by steps");
                    return Err(refuse(Code::FailedPrecondition, "no_policy_rollout", message));
                };
                let newest = version.generation;
                if request.expected_generation.is_some_and(|expected| expected != newest.0) {
                    let message = format!("version {newest} of policy {name} takes over, not the expected one");
                    return Err(refuse(Code::FailedPrecondition, "generation_conflict", message));
                }
                let at = (newest, rollout.step);
                if ask != Ask::Next || *from.get_or_insert(at) == at {
                    let (steps, is_paused) = (rollout.spec.steps.len(), rollout.paused.is_some());
                    let change = asked(&format!("policy {name}"), rollout.step, steps, is_paused, ask)?;
                    let Some(body) = changing_policy(&name, record, change) else { continue };
                    match propose(&self.context, Some(tag.clone()), body).await? {
                        Ok(_) => {}
                        Err(Refusal::Stale { .. }) => continue,
                        Err(refused) => return Err(refusal::outcome(&refused)),
                    }
                }
            }
            let state = self.state().await?;
            let record = state.policies.get(&name).ok_or_else(|| not_found(&state, &name))?;
            let version = shown(record).ok_or_else(|| not_found(&state, &name))?;
            let read = state.clone();
            let links = self.context.checks.run(move || links_by_policy(&read)).await?;
            let last = record.versions.last().and_then(|version| version.given_up.clone());
            return Ok(Response::new(wire::RolloutResponse {
                policy: Some(summary(&state, record, version, links.get(&name))),
                given_up: last.unwrap_or_default(),
            }));
        }
        Err(refuse(Code::Aborted, "stale", "the rollout changes too often at this moment: try again"))
    }
}

/// The version that was in force before the one that is, or the one that is while another takes over by steps.
fn before(record: &PolicyRecord) -> Option<&PolicyVersionRecord> {
    let taking_over = record.taking_over().map(|version| version.generation);
    let mut were = record.versions.iter().rev();
    let was_in_force =
        |version: &&PolicyVersionRecord| version.given_up.is_none() && Some(version.generation) != taking_over;
    match taking_over {
        Some(_) => were.find(was_in_force),
        None => were.filter(was_in_force).nth(1),
    }
}
