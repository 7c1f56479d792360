//! A control plane of one member in this process, and clients of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser as _;
use control_plane::config::Config;
use control_plane::server::{self, ServerError};
use futures::stream;
use proto::CHUNK_MAX_BYTES;
use proto::weft::artifact::v1 as artifact;
use proto::weft::artifact::v1::artifacts_client::ArtifactsClient;
use proto::weft::event::v1::events_client::EventsClient;
use proto::weft::graph::v1 as graph;
use proto::weft::graph::v1::graphs_client::GraphsClient;
use proto::weft::node::v1::nodes_client::NodesClient;
use proto::weft::policy::v1 as policy;
use proto::weft::policy::v1::policies_client::PoliciesClient;
use proto::weft::trust::v1 as trust_wire;
use proto::weft::trust::v1::enrolment_client::EnrolmentClient;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use trust::{Expect, Fingerprint, Identity, JoinToken, Key, Keyring};

use crate::parts;

/// How long anything may take on a loaded machine before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The member.
pub(crate) struct Member {
    pub(crate) address: SocketAddr,
    folder: Option<TempDir>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServerError>>,
}

impl Member {
    /// A new cluster of one.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same, with flags.
    pub(crate) async fn start_with(flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), flags).await
    }

    async fn start_in(folder: TempDir, flags: &[&str]) -> Self {
        let mut words = vec!["control-plane", "--listen", "127.0.0.1:0", "--init", "--data-dir"];
        words.push(folder.path().to_str().unwrap());
        words.extend(flags);
        let config = Config::parse_from(words);
        let stop = CancellationToken::new();
        let mut task = tokio::spawn(server::run(config, stop.clone().cancelled_owned()));
        let ready = folder.path().join("ready.json");
        let address = tokio::select! {
            ended = &mut task => panic!("the member did not start: {ended:?}"),
            address = address_in(&ready) => address,
        };
        Self { address, folder: Some(folder), stop, task }
    }

    /// Stops it in order and starts it again on the same data.
    pub(crate) async fn restart(mut self) -> Self {
        let folder = self.folder.take().unwrap();
        self.stop().await;
        Self::start_in(folder, &[]).await
    }

    /// Stops it in order.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops").unwrap().unwrap();
    }

    /// Where its data is.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address, self.folder())
    }

    /// A client of an operator that takes little ahead of what it has read.
    pub(crate) fn slow_client(&self) -> Client {
        let windows = |endpoint: Endpoint| {
            endpoint.initial_stream_window_size(16 << 10).initial_connection_window_size(64 << 10)
        };
        Client::over(channel(self.address, operator(self.folder()), windows))
    }

    /// A node that has just joined.
    pub(crate) async fn enrol(&self, name: &str) -> Enrolled {
        let operator = operator(self.folder());
        let authority = Fingerprint::of(operator.identity().authorities().next().unwrap());
        let token = JoinToken::generate(authority).unwrap();
        let request = trust_wire::CreateTokenRequest {
            request_id: fresh_id(),
            node: name.to_owned(),
            digest: token.digest(),
            lifetime_ms: 60_000,
        };
        let channel_of = |keyring| channel(self.address, keyring, |endpoint| endpoint);
        EnrolmentClient::new(channel_of(operator)).create_token(request).await.unwrap();
        let key = Key::generate().unwrap();
        let answer = self.join(name, &token, &key).await.unwrap();
        let identity = Identity::new(key, answer.certificate, answer.authorities).unwrap();
        let keyring = Keyring::new(identity);
        Enrolled {
            uid: keyring.identity().id().uid().to_string(),
            channel: channel_of(keyring.clone()),
            keyring,
            token,
        }
    }

    /// Asks to join, as somebody who has nothing but a token and a key.
    pub(crate) async fn join(
        &self,
        name: &str,
        token: &JoinToken,
        key: &Key,
    ) -> Result<trust_wire::JoinResponse, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        let connector = trust::pinned_connector(token.authority());
        let mut client = EnrolmentClient::new(endpoint.connect_with_connector_lazy(connector));
        let request = trust_wire::JoinRequest {
            token: token.reveal().to_string(),
            node: name.to_owned(),
            certificate_request: key.request().unwrap(),
        };
        Ok(client.join(request).await?.into_inner())
    }
}

/// A node that has joined: who it is, and its way to the member.
pub(crate) struct Enrolled {
    pub(crate) uid: String,
    pub(crate) channel: Channel,
    pub(crate) keyring: Keyring,
    pub(crate) token: JoinToken,
}

/// What a member has made for its operators.
pub(crate) fn operator(folder: &Path) -> Keyring {
    let text = std::fs::read_to_string(folder.join("operator.pem")).unwrap();
    Keyring::new(Identity::from_pem(&text).unwrap())
}

pub(crate) fn channel(
    address: SocketAddr,
    keyring: Keyring,
    tune: impl FnOnce(Endpoint) -> Endpoint,
) -> Channel {
    let endpoint = tune(Endpoint::from_shared(format!("http://{address}")).unwrap());
    endpoint.connect_with_connector_lazy(trust::connector(keyring, Expect::Member))
}

/// What a member says of itself once it is ready.
pub(crate) async fn address_in(ready: &Path) -> SocketAddr {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = std::fs::read_to_string(ready).ok();
        let said = said.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        if let Some(said) = said {
            return said["api_address"].as_str().unwrap().parse().unwrap();
        }
        assert!(Instant::now() < deadline, "the member is not ready");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Clients of all services.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) channel: Channel,
    pub(crate) graphs: GraphsClient<Channel>,
    pub(crate) policies: PoliciesClient<Channel>,
    pub(crate) artifacts: ArtifactsClient<Channel>,
    pub(crate) nodes: NodesClient<Channel>,
    pub(crate) events: EventsClient<Channel>,
}

impl Client {
    /// Of an operator, whose credentials are in the data directory.
    pub(crate) fn new(address: SocketAddr, folder: &Path) -> Self {
        Self::over(channel(address, operator(folder), |endpoint| endpoint))
    }

    fn over(channel: Channel) -> Self {
        Self {
            graphs: GraphsClient::new(channel.clone()),
            policies: PoliciesClient::new(channel.clone()),
            artifacts: ArtifactsClient::new(channel.clone()),
            nodes: NodesClient::new(channel.clone()),
            events: EventsClient::new(channel.clone()),
            channel,
        }
    }

    /// Uploads bytes from `offset` on, in chunks, announcing `size` bytes under the digest of `whole`.
    pub(crate) async fn put(
        &mut self,
        whole: &graph::Artifact,
        offset: usize,
        bytes: &[u8],
    ) -> Result<artifact::PutResponse, Status> {
        let header =
            artifact::PutHeader { digest: whole.digest.clone(), size: whole.size, offset: offset as u64 };
        let chunks = bytes.chunks(CHUNK_MAX_BYTES);
        let mut messages: Vec<artifact::PutRequest> =
            chunks.map(|chunk| artifact::PutRequest { header: None, chunk: chunk.to_vec() }).collect();
        if messages.is_empty() {
            messages.push(artifact::PutRequest::default());
        }
        messages[0].header = Some(header);
        Ok(self.artifacts.put(stream::iter(messages)).await?.into_inner())
    }

    /// Uploads what the graphs and policies of these tests are made of.
    pub(crate) async fn upload_parts(&mut self) {
        for bytes in [parts::store(), parts::front(), parts::web(), parts::proxy(), parts::odd_proxy()] {
            assert!(self.put(&parts::artifact(&bytes), 0, &bytes).await.unwrap().complete);
        }
    }

    pub(crate) async fn deploy(&mut self, manifest: &str) -> Result<graph::DeployResponse, Status> {
        self.deploy_as(&fresh_id(), manifest).await
    }

    pub(crate) async fn deploy_as(
        &mut self,
        request_id: &str,
        manifest: &str,
    ) -> Result<graph::DeployResponse, Status> {
        let request = graph::DeployRequest {
            request_id: request_id.to_owned(),
            manifest: manifest.to_owned(),
            artifacts: parts::shop_artifacts(),
            ..graph::DeployRequest::default()
        };
        Ok(self.graphs.deploy(request).await?.into_inner())
    }

    pub(crate) async fn apply(&mut self, manifest: &str) -> Result<policy::ApplyResponse, Status> {
        let request = policy::ApplyRequest {
            at_once: false,
            request_id: fresh_id(),
            manifest: manifest.to_owned(),
            artifacts: parts::policy_artifacts(),
        };
        Ok(self.policies.apply(request).await?.into_inner())
    }

    pub(crate) async fn status(&mut self, name: &str) -> Result<graph::GraphStatus, Status> {
        Ok(self.get(name).await?.status.unwrap())
    }

    pub(crate) async fn get(&mut self, name: &str) -> Result<graph::GetResponse, Status> {
        let request = graph::GetRequest { graph: name.to_owned(), revision: 0 };
        Ok(self.graphs.get(request).await?.into_inner())
    }

    pub(crate) async fn delete(&mut self, name: &str) -> Result<graph::DeleteResponse, Status> {
        let request =
            graph::DeleteRequest { request_id: fresh_id(), graph: name.to_owned(), expected_revision: None };
        Ok(self.graphs.delete(request).await?.into_inner())
    }

    /// How often the state has changed so far: mutations that are applied once do not move it again.
    pub(crate) async fn state_revision(&mut self) -> u64 {
        let all = proto::weft::event::v1::WatchRequest::default();
        let mut events = self.events.watch(all).await.unwrap().into_inner();
        let mut last = 0;
        while let Some(event) = events.message().await.unwrap() {
            last = event.revision;
        }
        last
    }

    /// The names that policies stand with in a graph, in the order of its links' way.
    pub(crate) async fn policies_on(&mut self, name: &str) -> BTreeMap<String, u64> {
        let linked = self.get(name).await.unwrap().linked.unwrap();
        linked.policies.into_iter().map(|policy| (policy.name, policy.generation)).collect()
    }
}

/// A request id that no other request has.
pub(crate) fn fresh_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst))
}

/// A refusal with this code and reason, and nothing else.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, reason: &str) -> Status {
    let status = answer.expect_err(reason);
    assert_eq!((status.code(), proto::status::reason(&status).as_deref()), (code, Some(reason)), "{status:?}");
    status
}
