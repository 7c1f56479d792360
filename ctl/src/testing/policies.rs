//! A control plane of one policy that answers as a test says and keeps what it was asked, for whole command lines.

use std::sync::{Arc, Mutex, MutexGuard};

use proto::weft::policy::v1 as wire;
use proto::weft::policy::v1::policies_server::{Policies, PoliciesServer};
use tonic::{Request, Response, Status};

use super::Ran;
use super::graphs::{Answers, FakeServer, Service as GraphsService, routes, unasked};

/// What it answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct PolicyAnswers {
    /// `Plan`.
    pub(crate) planned: wire::PlanResponse,
    /// `Apply`.
    pub(crate) applied: wire::ApplyResponse,
    /// `Get`: one after the other, and from then on the last one.
    pub(crate) seen: Vec<wire::GetResponse>,
    /// `Rollout`.
    pub(crate) rolled: wire::RolloutResponse,
    /// Instead of all mutations.
    pub(crate) refusal: Option<Status>,
    /// What is asked about graphs.
    pub(crate) graphs: Answers,
}

/// What it was asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct PolicyAsked {
    pub(crate) applies: Vec<wire::ApplyRequest>,
    pub(crate) rollouts: Vec<wire::RolloutRequest>,
    pub(crate) gets: usize,
}

/// A control plane with a policy.
pub(crate) struct FakePolicies {
    server: FakeServer,
    asked: Arc<Mutex<PolicyAsked>>,
}

#[allow(clippy::unwrap_used, reason = "tests")]
impl FakePolicies {
    /// Listens at once.
    pub(crate) fn start(answers: PolicyAnswers) -> Self {
        let asked = Arc::<Mutex<PolicyAsked>>::default();
        let graphs = GraphsService { answers: answers.graphs.clone(), asked: Arc::default() };
        let service = Service { answers, asked: asked.clone() };
        let router = routes(graphs).add_service(PoliciesServer::new(service));
        Self { server: FakeServer::start(router), asked }
    }

    /// Runs `ctl` against it.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Ran {
        self.server.ctl(arguments)
    }

    /// What it was asked until now.
    pub(crate) fn asked(&self) -> MutexGuard<'_, PolicyAsked> {
        self.asked.lock().unwrap()
    }

    /// A manifest beside the file that it names.
    pub(crate) fn manifest(&self) -> String {
        self.server.file("pii.wasm", "pii");
        let text = "version: 1\npolicy: pii\nmatch: {interface: 'a:b/c'}\ninterpose: [{component: pii.wasm}]\n\
                    rollout: {steps: [{share: 5%, hold: 5m}, {share: 50%, hold: until-promoted}]}\n";
        self.server.file("policy.yaml", text)
    }
}

#[derive(Debug, Clone)]
struct Service {
    answers: PolicyAnswers,
    asked: Arc<Mutex<PolicyAsked>>,
}

impl Service {
    #[allow(clippy::unwrap_used, clippy::result_large_err, reason = "tests")]
    fn mutate(&self, keep: impl FnOnce(&mut PolicyAsked)) -> Result<(), Status> {
        keep(&mut self.asked.lock().unwrap());
        self.answers.refusal.clone().map_or(Ok(()), Err)
    }
}

#[tonic::async_trait]
impl Policies for Service {
    async fn plan(&self, _: Request<wire::PlanRequest>) -> Result<Response<wire::PlanResponse>, Status> {
        Ok(Response::new(self.answers.planned.clone()))
    }

    async fn apply(
        &self,
        request: Request<wire::ApplyRequest>,
    ) -> Result<Response<wire::ApplyResponse>, Status> {
        self.mutate(|asked| asked.applies.push(request.into_inner()))?;
        Ok(Response::new(self.answers.applied.clone()))
    }

    #[allow(clippy::unwrap_used, reason = "tests")]
    async fn get(&self, _: Request<wire::GetRequest>) -> Result<Response<wire::GetResponse>, Status> {
        let mut asked = self.asked.lock().unwrap();
        let seen = self.answers.seen.get(asked.gets).or_else(|| self.answers.seen.last());
        asked.gets += 1;
        seen.cloned().map(Response::new).ok_or_else(|| Status::not_found("there is no policy pii"))
    }

    async fn rollout(
        &self,
        request: Request<wire::RolloutRequest>,
    ) -> Result<Response<wire::RolloutResponse>, Status> {
        self.mutate(|asked| asked.rollouts.push(request.into_inner()))?;
        Ok(Response::new(self.answers.rolled.clone()))
    }

    async fn list(&self, _: Request<wire::ListRequest>) -> Result<Response<wire::ListResponse>, Status> {
        let policies = self.answers.seen.iter().filter_map(|seen| seen.policy.clone()).collect();
        Ok(Response::new(wire::ListResponse { policies }))
    }

    async fn delete(&self, _: Request<wire::DeleteRequest>) -> Result<Response<wire::ApplyResponse>, Status> {
        unasked()
    }

    async fn rollback(
        &self,
        _: Request<wire::RollbackRequest>,
    ) -> Result<Response<wire::ApplyResponse>, Status> {
        unasked()
    }
}
