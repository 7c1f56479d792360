//! `weft.graph.v1.Graphs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cluster::command::{Body, DeleteGraph, Deploy, DeployOrigin, RequestTag};
use cluster::outcome::Refusal;
use cluster::state::{GraphRecord, RevisionRecord};
use cluster::{Outcome, State, view};
use futures::StreamExt as _;
use graph::diagnostic::nearest;
use model::graph::{Artifact, DEADLINE_MAX};
use model::id::{GraphKey, RevisionNumber, Uid};
use model::linked::{Link, LinkedGraph};
use model::name::{ComponentName, NamespaceName, NodeName};
use model::node::KNOWS_RECHECKS;
use model::placement::Placement;
use model::plan::{Move, Plan, Takeover};
use model::rollout::Ask;
use proto::convert::{parse, read};
use proto::status::refuse;
use proto::weft::graph::v1 as wire;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use super::mutation::{TRIES_MAX, known, propose, tag};
use super::rollouts::{NODES_SHOWN, asked, refuse_old_agents};
use super::{Answers, Context, logs, nodes, refusal, until_stopped};
use crate::leader::rollouts::changing;
use crate::linking::CheckedGraph;
use crate::planted::Bug;

/// What an agent may take beyond the deadline of a call to say that it has passed.
const INVOKE_MARGIN: Duration = Duration::from_secs(5);

/// The service.
#[derive(Debug, Clone)]
pub struct Graphs {
    context: Context,
}

/// A deploy that was checked and planned against one state.
struct Planned {
    checked: CheckedGraph,
    plan: Plan,
    base: Option<RevisionNumber>,
}

impl Graphs {
    /// The service over `context`.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    async fn state(&self) -> Result<std::sync::Arc<State>, Status> {
        self.context.raft.read().await.map_err(|error| refusal::read(&error))
    }

    async fn plan_on(
        &self,
        state: std::sync::Arc<State>,
        manifest: String,
        artifacts: BTreeMap<String, Artifact>,
    ) -> Result<Planned, Status> {
        let held = self.context.replicas.hold_all(artifacts.values().map(|artifact| artifact.digest)).await;
        held.map_err(|error| refusal::replica(&error))?;
        let linker = self.context.linker.clone();
        let plan = move || {
            let checked = linker
                .check_graph(&manifest, &artifacts, &state)
                .map_err(|refused| refusal::manifest(&refused))?;
            let record = state.graphs.get(&checked.key);
            let base = record.map(|record| (record.number(), &record.linked));
            let id = plan_id(&manifest, &artifacts, &state, &checked.key);
            let mut plan = graph::plan::plan(id, checked.key.clone(), base, &checked.linked);
            let place = cluster::schedule::preview(&state, &checked.linked.graph, record);
            let refused = place.as_ref().err().filter(|_| !plan.linked.reserves.is_empty());
            plan.warnings.extend(refused.map(|why| format!("it would be on no node: {}", why.join("; "))));
            plan.placement = place.ok();
            if let Some(placement) = plan.placement.as_ref().filter(|_| !plan.linked.reserves.is_empty()) {
                let reservations = cluster::schedule::Reservations::of(&state.graphs);
                let unkept = reservations.unkept(&state, &checked.key, &plan.linked, placement);
                plan.warnings.extend(unkept.into_iter().map(|(node, why)| format!("{node} would keep {why}")));
            }
            let fused = plan.placement.iter().flat_map(|placement| plan.linked.unreserved(placement));
            plan.warnings.extend(fused.map(|name| {
                format!(
                    "nothing is reserved for {name}: it is called on the nodes of its callers alone, as a part of their \
                     instances; reserve for these"
                )
            }));
            plan.warnings.extend(plan.placement.iter().flat_map(|placement| apart(&plan.linked, placement)));
            let missing = |placement| cluster::schedule::missing(&state, &plan.linked, record, placement);
            plan.warnings.extend(plan.placement.as_ref().and_then(missing));
            let unchecked = |placement| unchecked(&state, &plan.linked, placement);
            plan.warnings.extend(plan.placement.as_ref().and_then(unchecked));
            let over = cluster::quota::check(&state, &checked.key, &checked.linked.graph).err();
            plan.warnings.extend(over.map(|refused| format!("a deploy would be refused: {refused}")));
            let base = base.map(|(number, _)| number);
            Ok(Planned { checked, plan, base })
        };
        self.context.checks.run(plan).await?
    }

    /// A plan with all that its deploy would come to: where what goes, and how the revision takes over.
    async fn foreseen(
        &self,
        state: std::sync::Arc<State>,
        planned: Planned,
        manifest: String,
    ) -> Result<Plan, Status> {
        let (uid, now_ms) = (new_uid()?, self.context.raft.now_ms());
        let foresee = move || {
            let key = planned.checked.key.clone();
            let takeover = takeover(&state, &planned);
            let by_steps = matches!(takeover, Takeover::Steps(_));
            let placed = |key: &GraphKey| state.graphs.get(key).and_then(|record| record.placement.clone());
            let plan = planned.plan.clone();
            let body = deploy_of(&state, uid, planned, manifest, DeployOrigin::Deploy, by_steps);
            let mut moves = Vec::new();
            for place in cluster::schedule::forecast(&state, body, now_ms) {
                if place.key.base() != key {
                    moves.push(Move { from: placed(&place.key), key: place.key, to: place.placement });
                }
            }
            Plan { placed: placed(&key), takeover, moves, ..plan }
        };
        self.context.checks.run(foresee).await
    }

    async fn commit(
        &self,
        tag: RequestTag,
        state: &State,
        planned: Planned,
        manifest: String,
        origin: DeployOrigin,
        by_steps: bool,
    ) -> Result<Result<wire::DeployResponse, Refusal>, Status> {
        let warnings = planned.plan.warnings.clone();
        let body = deploy_of(state, new_uid()?, planned, manifest, origin, by_steps);
        Ok(match propose(&self.context, Some(tag), body).await? {
            Ok(outcome) => Ok(deployed(&self.context.raft.state(), &outcome, warnings)?),
            Err(refused) => Err(refused),
        })
    }
}

/// The command that a plan comes to.
fn deploy_of(
    state: &State,
    uid: Uid,
    planned: Planned,
    manifest: String,
    origin: DeployOrigin,
    by_steps: bool,
) -> Body {
    Body::Deploy(Box::new(Deploy {
        key: planned.checked.key,
        uid,
        manifest,
        spec: planned.checked.spec,
        linked: planned.checked.linked.graph,
        policies_at: state.policies_at,
        base: planned.base,
        origin,
        by_steps,
    }))
}

/// How a planned revision would take over if it were deployed now.
fn takeover(state: &State, planned: &Planned) -> Takeover {
    let steps = planned.checked.spec.rollout.as_ref().map(|rollout| &rollout.steps);
    match (takes_steps(state, planned, false), steps) {
        (Err(refused), _) => Takeover::Refused { why: refused.message().to_owned() },
        (Ok(true), Some(steps)) => Takeover::Steps(steps.clone()),
        (Ok(_), _) if planned.base.is_none() => Takeover::AtOnce { why: "it is the first revision".to_owned() },
        (Ok(_), None) => Takeover::AtOnce { why: "its manifest has no `rollout`".to_owned() },
        (Ok(_), Some(_)) => {
            Takeover::AtOnce { why: "nothing of the revision before answers, or it is the same".to_owned() }
        }
    }
}

/// A warning for each link between two nodes whose loss ends its caller.
fn apart(linked: &LinkedGraph, placement: &Placement) -> Vec<String> {
    // A request that is lost on the way is answered as such.
    let ends_its_caller = |link: &&Link| link.terms.on_loss.is_none() && !link.interface.is_http_handler();
    let remote = linked.links.iter().filter(|link| placement.is_remote(link)).filter(ends_its_caller);
    let warning = |link: &Link| {
        let there = link.to.member().map_or_else(String::new, |to| placement.shown(to));
        format!(
            "{} on {} calls {} on {there}: a call that is lost on the way ends the instance of {}; `on-loss` maps it to an error",
            link.from,
            placement.shown(&link.from),
            link.to,
            link.from
        )
    };
    remote.map(warning).collect()
}

/// A warning where what is checked again and again would be on nodes whose agents know no such checks.
fn unchecked(state: &State, linked: &LinkedGraph, placement: &Placement) -> Option<String> {
    let is_rechecked = |name: &ComponentName| {
        linked.components.get(name).is_some_and(|found| found.settings.check_terms.every.is_some())
    };
    let is_too_old =
        |name: &NodeName| state.nodes.get(name).is_some_and(|node| node.description.level < KNOWS_RECHECKS);
    let rechecked = linked.components.keys().filter(|name| is_rechecked(name));
    let nodes: BTreeSet<&NodeName> =
        rechecked.flat_map(|name| placement.nodes_of(name)).filter(|name| is_too_old(name)).collect();
    if nodes.is_empty() {
        return None;
    }
    let names: Vec<&str> = nodes.iter().take(NODES_SHOWN).map(|name| name.as_str()).collect();
    Some(format!(
        "{} of its nodes have agents of earlier versions, which check before a revision takes over and never again: {}",
        nodes.len(),
        names.join(", ")
    ))
}

/// Refuses a plan with warnings, if that is asked for.
fn strict(plan: &Plan) -> Result<(), Status> {
    match &plan.warnings[..] {
        [] => Ok(()),
        warnings => {
            let message = format!("there are warnings, and --strict refuses them: {}", warnings.join("; "));
            Err(refuse(Code::FailedPrecondition, "strict_warnings", message))
        }
    }
}

fn new_uid() -> Result<Uid, Status> {
    Uid::new(Uuid::new_v4().to_string()).map_err(|error| Status::internal(error.to_string()))
}

/// Names the inputs of a plan.
fn plan_id(manifest: &str, artifacts: &BTreeMap<String, Artifact>, state: &State, key: &GraphKey) -> String {
    let mut hash = Sha256::new();
    hash.update(manifest);
    for (source, artifact) in artifacts {
        hash.update(format!("\0{source}\0{}", artifact.digest));
    }
    let base = state.graphs.get(key).map(|record| (record.uid.to_string(), record.generation, record.number()));
    hash.update(format!("\0{base:?}\0{}", state.policies_at));
    hex::encode(&hash.finalize()[..6])
}

/// Whether a revision takes over by steps: its manifest says so, whoever deploys it does not say otherwise, and something
/// answers from which it can take over. Refused where an agent does not know what a candidate is.
fn takes_steps(state: &State, planned: &Planned, at_once: bool) -> Result<bool, Status> {
    let answers = |record: &GraphRecord| {
        record.leaving.is_some() || record.observed.values().any(|seen| seen.serving.is_some())
    };
    let is_wanted = planned.checked.spec.rollout.is_some() && !at_once;
    let key = &planned.checked.key;
    let Some(record) = state.graphs.get(key).filter(|record| is_wanted && answers(record)) else {
        return Ok(false);
    };
    let runs = record.running_revision().filter(|_| record.open_rollout().is_none());
    let is_same = |revision: &RevisionRecord| {
        revision.spec == planned.checked.spec && record.linked == planned.checked.linked.graph
    };
    if runs.is_some_and(is_same) {
        // There is nothing to take over.
        return Ok(false);
    }
    if record.is_promoting() {
        let message =
            format!("{} at this moment: deploy again once it serves, or at once", promoted(key, record));
        return Err(refuse(Code::FailedPrecondition, "promoting", message));
    }
    if let Some(policy) = record.open_policy() {
        let message = format!(
            "version {} of policy {} takes over by steps on {key}: deploy again once it has, or at once",
            policy.generation, policy.name
        );
        return Err(refuse(Code::FailedPrecondition, "policy_takes_over", message));
    }
    refuse_old_agents(state)?;
    Ok(true)
}

/// What is promoted of a graph: a revision, or a version of a policy.
fn promoted(key: &GraphKey, record: &GraphRecord) -> String {
    match record.rollout.as_ref().and_then(|rollout| rollout.policy.as_ref()) {
        Some(policy) => format!("version {} of policy {} is promoted on {key}", policy.generation, policy.name),
        None => format!("revision {} of {key} is promoted", record.number()),
    }
}

fn deployed(state: &State, outcome: &Outcome, warnings: Vec<String>) -> Result<wire::DeployResponse, Status> {
    match outcome {
        Outcome::Deployed { key, revision, generation, unchanged } => Ok(wire::DeployResponse {
            graph: key.to_string(),
            revision: revision.0,
            generation: generation.0,
            unchanged: *unchanged,
            warnings,
            by_steps: is_candidate(state, key, *revision),
        }),
        other => Err(Status::internal(format!("a deploy had the outcome {other:?}"))),
    }
}

/// Whether a revision takes over by steps: not a version of a policy, whose candidate is of the revision that runs.
fn is_candidate(state: &State, key: &GraphKey, revision: RevisionNumber) -> bool {
    let rollout = state.graphs.get(key).and_then(|record| record.rollout.as_ref());
    rollout.is_some_and(|rollout| rollout.policy.is_none())
        && state.graphs.get(&key.candidate()).is_some_and(|candidate| candidate.number() == revision)
}

fn read_artifacts(artifacts: BTreeMap<String, wire::Artifact>) -> Result<BTreeMap<String, Artifact>, Status> {
    let read = |(source, artifact): (String, wire::Artifact)| Ok((source, Artifact::try_from(artifact)?));
    artifacts.into_iter().map(read).collect()
}

/// `NOT_FOUND`, with the nearest name there is.
pub(super) fn not_found(state: &State, key: &GraphKey) -> Status {
    let graphs = state.graphs.keys().filter(|key| !key.is_candidate);
    let names: Vec<String> = graphs.map(ToString::to_string).collect();
    let near = nearest(&key.to_string(), names.iter().map(String::as_str));
    let hint = near.map(|near| format!(": did you mean {near}?")).unwrap_or_default();
    refuse(Code::NotFound, "not_found", format!("there is no graph {key}{hint}"))
}

/// A graph that is asked for by itself: what is done to its candidate is done by its rollout.
fn whole(text: &str) -> Result<GraphKey, Status> {
    let key: GraphKey = parse("graph", text)?;
    if key.is_candidate {
        let message = format!("{key} is the candidate of {}: see `ctl rollout`", key.base());
        return Err(refuse(Code::InvalidArgument, "candidate", message));
    }
    Ok(key)
}

/// Somebody has deployed since whoever asks has looked.
fn unexpected(found: RevisionNumber, expected: u64) -> Status {
    let message = format!("the graph is at revision {found}, not at the expected {expected}");
    refuse(Code::FailedPrecondition, "generation_conflict", message)
}

/// The revision that a graph ran before the one that it runs, or that it still runs while another takes over by steps.
fn revision_before(key: &GraphKey, record: &GraphRecord) -> Result<RevisionNumber, Status> {
    let current = record.number();
    if record.open_rollout().is_some() {
        return Ok(record.running());
    }
    if let Some(before) = record.ran_before {
        return Ok(before);
    }
    let message = match &record.reverted {
        // What was given up by itself was never for everybody.
        Some(reverted) if reverted.revision.0 + 1 == current.0 => format!(
            "revision {} of {key} was given up ({}), and {current} is the one before it: name the revision to go back to",
            reverted.revision, reverted.why
        ),
        _ if current.0 <= 1 => format!("{key} has no revision before {current}"),
        _ => return Ok(RevisionNumber(current.0 - 1)),
    };
    Err(refuse(Code::FailedPrecondition, "no_earlier_revision", message))
}

fn deleted(key: &GraphKey) -> Status {
    refuse(Code::NotFound, "not_found", format!("graph {key} was deleted"))
}

fn revision_of<'a>(state: &'a State, key: &GraphKey, number: u64) -> Result<&'a RevisionRecord, Status> {
    let record = state.graphs.get(key).ok_or_else(|| not_found(state, key))?;
    let found = match number {
        0 => record.running_revision(),
        number => record.revision(RevisionNumber(number)),
    };
    found.ok_or_else(|| {
        let kept: Vec<String> = record.revisions.iter().map(|revision| revision.number.to_string()).collect();
        let message = format!("{key} has no revision {number}; kept are {}", kept.join(", "));
        refuse(Code::NotFound, "not_found", message)
    })
}

/// Artifacts under the names that their manifest gives them, as of a kept revision.
fn sources_of(revision: &RevisionRecord) -> Result<BTreeMap<String, Artifact>, Status> {
    let parsed = graph::manifest::parse(revision.manifest.as_bytes())
        .map_err(|_| Status::internal("a kept manifest cannot be read by this version"))?;
    let mut sources = BTreeMap::new();
    for source in parsed.sources() {
        let component = revision.spec.components.get(&source.owner).map(|component| component.artifact);
        let seed = revision.spec.capabilities.get(&source.owner).and_then(|capability| match capability {
            model::graph::CapabilitySpec::Sqlite { seed, .. } => *seed,
        });
        sources.extend(component.or(seed).map(|artifact| (source.path.clone(), artifact)));
    }
    Ok(sources)
}

#[tonic::async_trait]
impl wire::graphs_server::Graphs for Graphs {
    async fn plan(&self, request: Request<wire::PlanRequest>) -> Result<Response<wire::PlanResponse>, Status> {
        let request = request.into_inner();
        let artifacts = read_artifacts(request.artifacts)?;
        let state = self.state().await?;
        let manifest = request.manifest.clone();
        let planned = self.plan_on(state.clone(), request.manifest, artifacts).await?;
        let plan = self.foreseen(state, planned, manifest).await?;
        Ok(Response::new(wire::PlanResponse { plan: Some(plan.into()) }))
    }

    async fn deploy(
        &self,
        request: Request<wire::DeployRequest>,
    ) -> Result<Response<wire::DeployResponse>, Status> {
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let tag = tag(&request_id, &request)?;
        let artifacts = read_artifacts(request.artifacts)?;
        let mut last = None;
        for _ in 0..TRIES_MAX {
            let state = self.state().await?;
            if let Some(outcome) = known(&state, &tag)? {
                return Ok(Response::new(deployed(&state, &outcome, Vec::new())?));
            }
            let planned = self.plan_on(state.clone(), request.manifest.clone(), artifacts.clone()).await?;
            if !request.plan_id.is_empty() && request.plan_id != planned.plan.id {
                let message = format!(
                    "plan {} is of another state or manifest; it would be {} now: plan again",
                    request.plan_id, planned.plan.id
                );
                return Err(refuse(Code::FailedPrecondition, "plan_stale", message));
            }
            if request.strict {
                strict(&planned.plan)?;
            }
            let found = planned.base.unwrap_or_default().0;
            let ignores = self.context.raft.planted().has(Bug::IgnoredExpectation);
            let other = request.expected_revision.filter(|expected| *expected != found && !ignores);
            if let Some(expected) = other {
                return Err(unexpected(RevisionNumber(found), expected));
            }
            let manifest = request.manifest.clone();
            let by_steps = takes_steps(&state, &planned, request.at_once)?;
            let origin = DeployOrigin::Deploy;
            match self.commit(tag.clone(), &state, planned, manifest, origin, by_steps).await? {
                Ok(answer) => return Ok(Response::new(answer)),
                Err(refused @ (Refusal::Stale { .. } | Refusal::RevisionConflict { .. })) => {
                    last = Some(refused)
                }
                Err(refused) => return Err(refusal::outcome(&refused)),
            }
        }
        Err(last.map_or_else(|| Status::aborted("too many changes at once"), |last| refusal::outcome(&last)))
    }

    async fn rollback(
        &self,
        request: Request<wire::RollbackRequest>,
    ) -> Result<Response<wire::DeployResponse>, Status> {
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let tag = tag(&request_id, &request)?;
        let key = whole(&request.graph)?;
        for _ in 0..TRIES_MAX {
            let state = self.state().await?;
            if let Some(outcome) = known(&state, &tag)? {
                return Ok(Response::new(deployed(&state, &outcome, Vec::new())?));
            }
            let record = state.graphs.get(&key).ok_or_else(|| not_found(&state, &key))?;
            let to = match request.to_revision {
                0 => revision_before(&key, record)?.0,
                to => to,
            };
            let revision = revision_of(&state, &key, to)?;
            let (manifest, kept) = (revision.manifest.clone(), revision.clone());
            let sources = self.context.checks.run(move || sources_of(&kept)).await??;
            let origin = DeployOrigin::Rollback { to: revision.number };
            let planned = self.plan_on(state.clone(), manifest.clone(), sources).await?;
            // Who goes back wants to be back.
            match self.commit(tag.clone(), &state, planned, manifest, origin, false).await? {
                Ok(answer) => return Ok(Response::new(answer)),
                Err(Refusal::Stale { .. } | Refusal::RevisionConflict { .. }) => {}
                Err(refused) => return Err(refusal::outcome(&refused)),
            }
        }
        Err(refuse(Code::Aborted, "stale", "the graph changes too often at this moment: try again"))
    }

    async fn rollout(
        &self,
        request: Request<wire::RolloutRequest>,
    ) -> Result<Response<wire::RolloutResponse>, Status> {
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let tag = tag(&request_id, &request)?;
        let key = whole(&request.graph)?;
        let ask = Ask::try_from(request.ask())?;
        // One step is asked for: one that was made meanwhile by itself is that one.
        let mut from: Option<(RevisionNumber, usize)> = None;
        for _ in 0..TRIES_MAX {
            let state = self.state().await?;
            if known(&state, &tag)?.is_none() {
                let record = state.graphs.get(&key).ok_or_else(|| not_found(&state, &key))?;
                let newest = record.number();
                if let Some(expected) = request.expected_revision.filter(|expected| *expected != newest.0) {
                    return Err(unexpected(newest, expected));
                }
                let Some(rollout) = record.open_rollout() else {
                    let how = match (record.is_promoting(), record.open_policy()) {
                        (true, _) => format!("{} already", promoted(&key, record)),
                        (false, Some(policy)) => format!("policy {} does so on it", policy.name),
                        (false, None) => format!("it runs {}", record.running()),
                    };
                    let message = format!("no revision of {key} takes over by steps; {how}");
                    return Err(refuse(Code::FailedPrecondition, "no_rollout", message));
                };
                let at = (newest, rollout.step);
                if ask != Ask::Next || *from.get_or_insert(at) == at {
                    let (steps, is_paused) = (rollout.spec.steps.len(), rollout.paused.is_some());
                    let change = asked(&key.to_string(), rollout.step, steps, is_paused, ask)?;
                    let body = changing(&key, record, rollout, change);
                    match propose(&self.context, Some(tag.clone()), body).await? {
                        Ok(_) => {}
                        Err(Refusal::Stale { .. }) => continue,
                        Err(refused) => return Err(refusal::outcome(&refused)),
                    }
                }
            }
            let state = self.state().await?;
            let status = view::status(&state, &key).ok_or_else(|| not_found(&state, &key))?;
            return Ok(Response::new(wire::RolloutResponse { status: Some(status.into()) }));
        }
        Err(refuse(Code::Aborted, "stale", "the rollout changes too often at this moment: try again"))
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::GetResponse>, Status> {
        let request = request.into_inner();
        let key: GraphKey = parse("graph", &request.graph)?;
        let state = self.state().await?;
        let mut status = view::status(&state, &key).ok_or_else(|| not_found(&state, &key))?;
        let revision = revision_of(&state, &key, request.revision)?;
        let linked = state.graphs.get(&key).map(|record| record.linked.clone().into());
        let keys = [key.candidate(), key];
        let records = keys.iter().filter_map(|key| state.graphs.get(key));
        let on: BTreeSet<NodeName> = records.flat_map(GraphRecord::nodes).collect();
        let suspects = nodes::counts_and_suspects(&self.context, &state, &on, &mut status).await;
        let suspects = suspects.into_iter().map(|(name, silent)| wire::SuspectNode {
            name: name.into(),
            silent_ms: silent.map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)),
        });
        Ok(Response::new(wire::GetResponse {
            suspects: suspects.collect(),
            status: Some(status.into()),
            linked,
            manifest: revision.manifest.clone(),
            manifest_revision: revision.number.0,
        }))
    }

    async fn list(&self, request: Request<wire::ListRequest>) -> Result<Response<wire::ListResponse>, Status> {
        let namespace = request.into_inner().namespace;
        let namespace: Option<NamespaceName> =
            if namespace.is_empty() { None } else { Some(parse("namespace", &namespace)?) };
        let state = self.state().await?;
        let keys = state.graphs.keys().filter(|key| !key.is_candidate);
        let keys = keys.filter(|key| namespace.as_ref().is_none_or(|wanted| key.namespace == *wanted));
        let reservations = cluster::schedule::Reservations::of(&state.graphs);
        let statuses = keys.filter_map(|key| view::status_with(&state, key, &reservations));
        let graphs = statuses.map(|mut status| {
            self.context.tell(&state, &mut status);
            status.into()
        });
        let graphs = graphs.collect();
        Ok(Response::new(wire::ListResponse { graphs }))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteRequest>,
    ) -> Result<Response<wire::DeleteResponse>, Status> {
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let tag = tag(&request_id, &request)?;
        let key = whole(&request.graph)?;
        let state = self.state().await?;
        if known(&state, &tag)?.is_none() && !state.graphs.contains_key(&key) {
            return Err(not_found(&state, &key));
        }
        let expected = request.expected_revision.map(RevisionNumber);
        let body = Body::DeleteGraph(DeleteGraph { key, expected });
        propose(&self.context, Some(tag), body).await?.map_err(|refused| refusal::outcome(&refused))?;
        Ok(Response::new(wire::DeleteResponse {}))
    }

    async fn history(
        &self,
        request: Request<wire::HistoryRequest>,
    ) -> Result<Response<wire::HistoryResponse>, Status> {
        let key: GraphKey = parse("graph", &request.into_inner().graph)?;
        let state = self.state().await?;
        let record = state.graphs.get(&key).ok_or_else(|| not_found(&state, &key))?;
        let (current, newest) = (record.running(), record.number());
        let summary = |revision: &RevisionRecord| wire::RevisionSummary {
            number: revision.number.0,
            deployed_at_ms: revision.deployed_at_ms,
            rollback_to: match revision.origin {
                DeployOrigin::Deploy => 0,
                DeployOrigin::Rollback { to } => to.0,
            },
            current: revision.number == current,
            candidate: revision.number == newest && newest != current,
        };
        let revisions = record.revisions.iter().rev().map(summary).collect();
        Ok(Response::new(wire::HistoryResponse { revisions }))
    }

    type WatchStream = Answers<wire::GraphStatus>;

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let key: GraphKey = parse("graph", &request.into_inner().graph)?;
        let state = self.state().await?;
        let uid = state.graphs.get(&key).ok_or_else(|| not_found(&state, &key))?.uid.clone();
        let states = tokio_stream::wrappers::WatchStream::new(self.context.raft.changes());
        let mut last = None;
        let statuses = states.filter_map(move |state| {
            // Another graph of that name, made meanwhile, is not the one that is watched.
            let status = view::status(&state, &key).filter(|status| status.uid == uid);
            let news = match status {
                None => Some(Err(deleted(&key))),
                Some(status) => {
                    // Changes of other graphs move the state's revision only.
                    let compared = model::status::GraphStatus {
                        state_revision: model::id::StateRevision(0),
                        ..status.clone()
                    };
                    let is_news = last.as_ref() != Some(&compared);
                    last = Some(compared);
                    is_news.then(|| Ok(status.into()))
                }
            };
            std::future::ready(news)
        });
        // The stream ends behind the first error.
        let ended = statuses.scan(false, |over, item| {
            let now = std::mem::replace(over, item.is_err());
            std::future::ready((!now).then_some(item))
        });
        Ok(Response::new(until_stopped(ended, &self.context.stop)))
    }

    async fn invoke(
        &self,
        request: Request<wire::InvokeRequest>,
    ) -> Result<Response<wire::InvokeResponse>, Status> {
        let request = request.into_inner();
        let key: GraphKey = parse("graph", &request.graph)?;
        let component = read("component", request.component.clone())?;
        let state = self.state().await?;
        let (node, channel) = logs::agent_of(&self.context, &state, &key, &component).await?;
        let start = Instant::now();
        let asked = proto::weft::agent::v1::InvokeRequest {
            graph: key.to_string(),
            component: request.component,
            interface: request.interface,
            function: request.function,
            arguments: request.arguments,
            deadline_ms: request.deadline_ms,
        };
        let deadline = match request.deadline_ms {
            0 => DEADLINE_MAX,
            wanted => Duration::from_millis(wanted).min(DEADLINE_MAX),
        };
        let mut asked = Request::new(asked);
        asked.set_timeout(deadline + INVOKE_MARGIN);
        let mut agent = proto::weft::agent::v1::agent_client::AgentClient::new(channel);
        let answered = agent.invoke(asked).await;
        let answer = answered.map_err(|status| logs::from_agent(&node, status))?.into_inner();
        let elapsed_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let node = node.to_string();
        Ok(Response::new(wire::InvokeResponse { result: answer.result, node, elapsed_us }))
    }
}
