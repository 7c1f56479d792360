//! The control plane's API, as a client of its own would use it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use proto::CHUNK_MAX_BYTES;
use proto::weft::artifact::v1 as artifact;
use proto::weft::artifact::v1::artifacts_client::ArtifactsClient;
use proto::weft::event::v1 as event;
use proto::weft::event::v1::events_client::EventsClient;
use proto::weft::graph::v1 as graph;
use proto::weft::graph::v1::graph_status::State;
use proto::weft::graph::v1::graphs_client::GraphsClient;
use proto::weft::log::v1 as log;
use proto::weft::log::v1::logs_client::LogsClient;
use proto::weft::member::v1 as member;
use proto::weft::member::v1::members_client::MembersClient;
use proto::weft::node::v1 as node;
use proto::weft::node::v1::nodes_client::NodesClient;
use proto::weft::policy::v1 as policy;
use proto::weft::policy::v1::policies_client::PoliciesClient;
use proto::weft::trust::v1::enrolment_client::EnrolmentClient;
use proto::weft::trust::v1::{CreateTokenRequest, RevokeRequest};
use sha2::{Digest as _, Sha256};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use trust::{Expect, JoinToken, Keyring};

use crate::bundle::Bundle;
use crate::wait::{SOON, holds, until};

/// An answer that takes longer is none.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The API; a cheap handle that finds a control plane that was restarted.
#[derive(Debug, Clone)]
pub struct Api {
    channel: Channel,
}

/// Chooses the id of a request.
pub fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

impl Api {
    /// The API at `address`, for whoever `keyring` says; nothing is dialled yet.
    pub fn new(address: SocketAddr, keyring: &Keyring) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address is a URI");
        let connector = trust::connector(keyring.clone(), Expect::Member);
        Self { channel: endpoint.timeout(CALL_TIMEOUT).connect_with_connector_lazy(connector) }
    }

    /// The connection itself, for calls that are made in no other way here.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Lets a node join by this token.
    pub async fn allow(&self, node: &str, token: &JoinToken, lifetime: Duration) -> Result<(), Status> {
        let request = CreateTokenRequest {
            request_id: request_id(),
            node: node.to_owned(),
            digest: token.digest(),
            lifetime_ms: u64::try_from(lifetime.as_millis()).expect("a lifetime"),
        };
        EnrolmentClient::new(self.channel.clone()).create_token(request).await.map(drop)
    }

    /// Takes the identity of a node away.
    pub async fn revoke(&self, node: &str) -> Result<(), Status> {
        let request = RevokeRequest { request_id: request_id(), node: node.to_owned() };
        EnrolmentClient::new(self.channel.clone()).revoke(request).await.map(drop)
    }

    /// Says whether a node gets work; a drain has a minute.
    pub async fn admit(&self, node: &str, admission: node::Admission) -> Result<(), Status> {
        let (request_id, node) = (request_id(), node.to_owned());
        let request = node::AdmitRequest { request_id, node, admission: admission.into(), drain_ms: 60_000 };
        NodesClient::new(self.channel.clone()).admit(request).await.map(drop)
    }

    /// Lets a member of the control plane join by this token.
    pub async fn allow_member(&self, token: &JoinToken, lifetime: Duration) -> Result<(), Status> {
        let request = member::CreateTokenRequest {
            request_id: request_id(),
            digest: token.digest(),
            lifetime_ms: u64::try_from(lifetime.as_millis()).expect("a lifetime"),
        };
        MembersClient::new(self.channel.clone()).create_token(request).await.map(drop)
    }

    /// Gives a member of the control plane a vote.
    pub async fn promote(&self, member: u64) -> Result<(), Status> {
        let request = member::PromoteRequest { request_id: request_id(), member };
        MembersClient::new(self.channel.clone()).promote(request).await.map(drop)
    }

    /// Takes a member of the control plane out.
    pub async fn remove_member(&self, member: u64) -> Result<(), Status> {
        let request = member::RemoveRequest { request_id: request_id(), member };
        MembersClient::new(self.channel.clone()).remove(request).await.map(drop)
    }

    /// Lets another member of the control plane lead, whichever is best.
    pub async fn transfer(&self) -> Result<u64, Status> {
        self.transfer_to(0).await
    }

    /// Lets one of them lead.
    pub async fn transfer_to(&self, member: u64) -> Result<u64, Status> {
        let request = member::TransferRequest { member };
        Ok(MembersClient::new(self.channel.clone()).transfer(request).await?.into_inner().leader)
    }

    /// The members of the control plane.
    pub async fn members(&self) -> Result<member::ListResponse, Status> {
        Ok(MembersClient::new(self.channel.clone()).list(member::ListRequest {}).await?.into_inner())
    }

    /// The service itself.
    pub fn graphs(&self) -> GraphsClient<Channel> {
        GraphsClient::new(self.channel.clone())
    }

    fn policies(&self) -> PoliciesClient<Channel> {
        PoliciesClient::new(self.channel.clone())
    }

    fn artifacts(&self) -> ArtifactsClient<Channel> {
        ArtifactsClient::new(self.channel.clone())
    }

    /// The size of an artifact that is stored, or how much of it is.
    pub async fn stored(&self, digest: &str) -> Result<Result<u64, u64>, Status> {
        let request = artifact::StatRequest { digest: digest.to_owned() };
        let stat = self.artifacts().stat(request).await?.into_inner();
        Ok(if stat.complete { Ok(stat.offset) } else { Err(stat.offset) })
    }

    /// Uploads a part of an artifact of `size` bytes, from `offset` on.
    pub async fn put(
        &self,
        digest: &str,
        size: usize,
        offset: u64,
        part: &[u8],
    ) -> Result<artifact::PutResponse, Status> {
        let mut header = Some(artifact::PutHeader { digest: digest.to_owned(), size: size as u64, offset });
        let request = |chunk: &[u8]| artifact::PutRequest { header: header.take(), chunk: chunk.to_vec() };
        let requests: Vec<artifact::PutRequest> = part.chunks(CHUNK_MAX_BYTES).map(request).collect();
        Ok(self.artifacts().put(tokio_stream::iter(requests)).await?.into_inner())
    }

    /// The bytes of an artifact.
    pub async fn download(&self, digest: &str) -> Result<Vec<u8>, Status> {
        let request = artifact::GetRequest { digest: digest.to_owned(), offset: 0 };
        let mut chunks = self.artifacts().get(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(next) = chunks.message().await? {
            bytes.extend(next.chunk);
        }
        Ok(bytes)
    }

    /// Uploads what a manifest names and is not stored yet.
    pub async fn upload(&self, bundle: &Bundle) -> Result<BTreeMap<String, graph::Artifact>, Status> {
        let mut artifacts = BTreeMap::new();
        for (path, bytes) in bundle.files() {
            let digest = digest(&bytes);
            if let Err(offset) = self.stored(&digest).await? {
                let rest = &bytes[usize::try_from(offset).expect("a length")..];
                let put = self.put(&digest, bytes.len(), offset, rest).await?;
                assert!(put.complete, "an upload that was sent whole is complete: {put:?}");
            }
            artifacts.insert(path, graph::Artifact { digest, size: bytes.len() as u64 });
        }
        Ok(artifacts)
    }

    /// Deploys, without waiting until it serves.
    pub async fn deploy(&self, bundle: &Bundle) -> Result<graph::DeployResponse, Status> {
        self.deploy_as(bundle, &request_id()).await
    }

    /// Deploys under a request id.
    pub async fn deploy_as(&self, bundle: &Bundle, request_id: &str) -> Result<graph::DeployResponse, Status> {
        let request = graph::DeployRequest {
            request_id: request_id.to_owned(),
            artifacts: self.upload(bundle).await?,
            manifest: bundle.manifest().to_owned(),
            plan_id: String::new(),
            expected_revision: None,
            strict: false,
            at_once: false,
        };
        Ok(self.graphs().deploy(request).await?.into_inner())
    }

    /// Deploys and waits until it serves.
    pub async fn deploy_and_wait(&self, bundle: &Bundle) -> graph::DeployResponse {
        self.deploy_and_wait_for(bundle, SOON).await
    }

    /// Deploys and waits until it serves, for one that takes longer.
    pub async fn deploy_and_wait_for(&self, bundle: &Bundle, within: Duration) -> graph::DeployResponse {
        let deployed = self.deploy(bundle).await.unwrap_or_else(|status| panic!("deploy: {}", shown(&status)));
        self.serving_within(&deployed.graph, deployed.generation, within).await;
        deployed
    }

    /// Goes back to a revision and waits until it serves.
    pub async fn rollback_and_wait(&self, graph: &str, to_revision: u64) -> graph::DeployResponse {
        let request = graph::RollbackRequest { request_id: request_id(), graph: graph.to_owned(), to_revision };
        let answer =
            self.graphs().rollback(request).await.unwrap_or_else(|status| panic!("{}", shown(&status)));
        let deployed = answer.into_inner();
        self.serving(&deployed.graph, deployed.generation).await;
        deployed
    }

    /// Waits until a graph serves at this generation or a later one; a failure ends the wait.
    pub async fn serving(&self, graph: &str, generation: u64) {
        self.serving_within(graph, generation, SOON).await;
    }

    async fn serving_within(&self, graph: &str, generation: u64, within: Duration) {
        until(&format!("{graph} serves generation {generation}"), within, async || {
            let status = self.status(graph).await.map_err(|status| shown(&status))?;
            match &status.state {
                Some(State::Serving(_)) if status.generation >= generation => Ok(()),
                Some(State::Failed(failed)) => panic!("{graph} failed: {failed:?}"),
                other => Err(format!("generation {}: {other:?}", status.generation)),
            }
        })
        .await;
    }

    /// Where a graph stands.
    pub async fn status(&self, graph: &str) -> Result<graph::GraphStatus, Status> {
        Ok(self.get(graph, 0).await?.status.expect("an answer has a status"))
    }

    /// A graph and one of its revisions; 0 is the current one.
    pub async fn get(&self, graph: &str, revision: u64) -> Result<graph::GetResponse, Status> {
        let request = graph::GetRequest { graph: graph.to_owned(), revision };
        Ok(self.graphs().get(request).await?.into_inner())
    }

    /// The revisions of a graph, newest first.
    pub async fn history(&self, graph: &str) -> Result<Vec<graph::RevisionSummary>, Status> {
        let request = graph::HistoryRequest { graph: graph.to_owned() };
        Ok(self.graphs().history(request).await?.into_inner().revisions)
    }

    /// Takes a graph away.
    pub async fn delete(&self, graph: &str) -> Result<(), Status> {
        let request =
            graph::DeleteRequest { request_id: request_id(), graph: graph.to_owned(), expected_revision: None };
        self.graphs().delete(request).await.map(drop)
    }

    /// Applies a policy, without waiting until it is in force.
    pub async fn apply_as(&self, bundle: &Bundle, request_id: &str) -> Result<policy::ApplyResponse, Status> {
        let request = policy::ApplyRequest {
            request_id: request_id.to_owned(),
            artifacts: self.upload(bundle).await?,
            manifest: bundle.manifest().to_owned(),
            at_once: false,
        };
        Ok(self.policies().apply(request).await?.into_inner())
    }

    /// Applies a policy and waits until it is in force.
    pub async fn apply_and_wait(&self, bundle: &Bundle) -> policy::ApplyResponse {
        let applied = self.apply_as(bundle, &request_id()).await;
        self.in_force(applied.unwrap_or_else(|status| panic!("apply: {}", shown(&status)))).await
    }

    /// Takes a policy away, without waiting until it is out of force.
    pub async fn delete_policy_as(
        &self,
        name: &str,
        request_id: &str,
    ) -> Result<policy::ApplyResponse, Status> {
        let request = policy::DeleteRequest { request_id: request_id.to_owned(), name: name.to_owned() };
        Ok(self.policies().delete(request).await?.into_inner())
    }

    /// Takes a policy away and waits until it is out of force.
    pub async fn delete_policy_and_wait(&self, name: &str) -> policy::ApplyResponse {
        let deleted = self.delete_policy_as(name, &request_id()).await;
        self.in_force(deleted.unwrap_or_else(|status| panic!("delete: {}", shown(&status)))).await
    }

    /// Goes back to the version before and waits until it is in force.
    pub async fn rollback_policy_and_wait(&self, name: &str) -> policy::ApplyResponse {
        let request =
            policy::RollbackRequest { request_id: request_id(), name: name.to_owned(), to_generation: 0 };
        let answer =
            self.policies().rollback(request).await.unwrap_or_else(|status| panic!("{}", shown(&status)));
        self.in_force(answer.into_inner()).await
    }

    /// Waits until a change of a policy is in force.
    pub async fn in_force(&self, change: policy::ApplyResponse) -> policy::ApplyResponse {
        for relinked in &change.relinked {
            self.serving(&relinked.graph, relinked.generation).await;
        }
        change
    }

    /// A policy.
    pub async fn policy(&self, name: &str) -> Result<policy::GetResponse, Status> {
        let request = policy::GetRequest { name: name.to_owned(), generation: 0 };
        Ok(self.policies().get(request).await?.into_inner())
    }

    /// A node.
    pub async fn node(&self, name: &str) -> Result<node::Node, Status> {
        let mut client = NodesClient::new(self.channel.clone());
        Ok(client.get(node::GetRequest { name: name.to_owned() }).await?.into_inner())
    }

    /// The kept log lines of a graph; of one request, if it is named.
    pub async fn logs(&self, graph: &str, request: &str) -> Result<Vec<log::LogLine>, Status> {
        let request = log::TailRequest {
            graph: graph.to_owned(),
            request: request.to_owned(),
            ..log::TailRequest::default()
        };
        let mut lines = LogsClient::new(self.channel.clone()).tail(request).await?.into_inner();
        let mut all = Vec::new();
        while let Some(line) = lines.message().await? {
            all.push(line);
        }
        Ok(all)
    }

    /// Waits until so many lines of a graph's log say this.
    pub async fn said(&self, graph: &str, what: &str, times: usize) {
        until(&format!("{what:?} is said {times} times"), SOON, async || {
            let lines = self.logs(graph, "").await.map_err(|status| status.to_string())?;
            let said = lines.iter().filter(|line| line.message.contains(what)).count();
            holds(said == times, format!("{said} times"))
        })
        .await;
    }

    /// The kept events of a subject.
    pub async fn events(&self, subject: &str) -> Result<Vec<event::Event>, Status> {
        let request = event::WatchRequest { subject: subject.to_owned(), ..event::WatchRequest::default() };
        let mut events = EventsClient::new(self.channel.clone()).watch(request).await?.into_inner();
        let mut all = Vec::new();
        while let Some(event) = events.message().await? {
            all.push(event);
        }
        Ok(all)
    }
}

/// The content address of bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Whether a change is in doubt, or was not made because nobody could decide it.
pub fn is_open(status: &Status) -> bool {
    use tonic::Code;
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled | Code::Internal
    )
}

/// A status on one line, with its stable reason.
pub fn shown(status: &Status) -> String {
    let reason = proto::status::reason(status).unwrap_or_default();
    format!("{:?} {reason}: {}", status.code(), status.message())
}
