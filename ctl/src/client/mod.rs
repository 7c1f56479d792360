//! The control plane as seen from here: one connection, bounded patience, and mutations that are applied at most once.
//!
//! A call whose answer was lost is repeated a bounded number of times. Mutations carry a request id, so that repeating
//! one never applies it twice.

mod error;
mod upload;

use std::future::Future;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::id::RequestId;
use proto::weft::artifact::v1::artifacts_client::ArtifactsClient;
use proto::weft::backup::v1::backups_client::BackupsClient;
use proto::weft::event::v1::events_client::EventsClient;
use proto::weft::graph::v1::graphs_client::GraphsClient;
use proto::weft::log::v1::logs_client::LogsClient;
use proto::weft::member::v1::members_client::MembersClient;
use proto::weft::namespace::v1::namespaces_client::NamespacesClient;
use proto::weft::node::v1::nodes_client::NodesClient;
use proto::weft::policy::v1::policies_client::PoliciesClient;
use proto::weft::trust::v1::enrolment_client::EnrolmentClient;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};
use trust::{Expect, Keyring};

use crate::cli::Address;
use crate::credentials;
pub use error::CallError;
use error::{Kind, kind};
pub use upload::Uploaded;

/// How long a connection may take: the control plane is near, and the next try makes a new one.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// How long one call may take: checking and linking the largest graph takes a second or two.
const CALL_PATIENCE: Duration = Duration::from_secs(15);
/// A connection whose peer does not answer is closed after these two, so that a watch of a dead machine ends.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PATIENCE: Duration = Duration::from_secs(5);
/// The waits before a lost call is repeated: a restarted control plane listens again within a second.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(300), Duration::from_millis(900)];
/// The largest answer: a linked graph of the largest size, with names of the largest length, stays below.
const ANSWER_MAX_BYTES: usize = 32 << 20;

/// The control plane; connected when it is first asked something.
#[derive(Debug)]
pub struct Client {
    address: Address,
    credentials: Option<PathBuf>,
    patience: Duration,
    /// One for each address.
    channels: Vec<OnceLock<Channel>>,
    /// The member that is asked: another one after each that did not answer.
    asked: AtomicUsize,
}

/// The services of a control plane over one connection.
#[derive(Debug, Clone)]
pub struct Services {
    channel: Channel,
}

impl Services {
    /// Graphs.
    pub fn graphs(&self) -> GraphsClient<Channel> {
        GraphsClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX_BYTES)
    }

    /// Policies.
    pub fn policies(&self) -> PoliciesClient<Channel> {
        PoliciesClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX_BYTES)
    }

    /// Artifacts.
    pub fn artifacts(&self) -> ArtifactsClient<Channel> {
        ArtifactsClient::new(self.channel.clone())
    }

    /// Nodes.
    pub fn nodes(&self) -> NodesClient<Channel> {
        NodesClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX_BYTES)
    }

    /// Namespaces.
    pub fn namespaces(&self) -> NamespacesClient<Channel> {
        NamespacesClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX_BYTES)
    }

    /// Events.
    pub fn events(&self) -> EventsClient<Channel> {
        EventsClient::new(self.channel.clone())
    }

    /// The members of the control plane.
    pub fn members(&self) -> MembersClient<Channel> {
        MembersClient::new(self.channel.clone())
    }

    /// Backups.
    pub fn backups(&self) -> BackupsClient<Channel> {
        BackupsClient::new(self.channel.clone())
    }

    /// Who is a node.
    pub fn enrolment(&self) -> EnrolmentClient<Channel> {
        EnrolmentClient::new(self.channel.clone())
    }

    /// Logs.
    pub fn logs(&self) -> LogsClient<Channel> {
        LogsClient::new(self.channel.clone())
    }
}

impl Client {
    /// The control plane at `address`, to which the credentials in this file are shown, or those that are usually; one
    /// call takes at most `deadline`, if that is shorter than the usual patience.
    pub fn new(address: Address, credentials: Option<PathBuf>, deadline: Option<Duration>) -> Self {
        let patience = deadline.map_or(CALL_PATIENCE, |deadline| deadline.min(CALL_PATIENCE));
        let channels = address.authorities().iter().map(|_| OnceLock::new()).collect();
        Self { address, credentials, patience, channels, asked: AtomicUsize::new(0) }
    }

    /// Where it is.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Asks for something that changes nothing.
    pub async fn read<T, F>(&self, call: impl Fn(Services) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.read_within(self.patience, call).await
    }

    /// The same, with another patience than usual.
    pub async fn read_within<T, F>(
        &self,
        patience: Duration,
        call: impl Fn(Services) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut pauses = PAUSES.iter();
        loop {
            let status = match self.once(patience, &call).await? {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            let is_worth_repeating = match kind(&status) {
                Kind::Refused => return Err(CallError::refused(status)),
                Kind::NotSent | Kind::NotReady => true,
                // It has had all the time there was.
                Kind::Lost => status.code() != tonic::Code::DeadlineExceeded,
            };
            if is_worth_repeating && self.ask_another() {
                continue;
            }
            match pauses.next().filter(|_| is_worth_repeating) {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => return Err(self.unreachable(&status, None)),
            }
        }
    }

    /// Changes something, once: under `request_id`, or a new id.
    pub async fn mutate<T, F>(
        &self,
        request_id: Option<&RequestId>,
        call: impl Fn(Services, String) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let id = match request_id {
            Some(id) => id.clone(),
            None => new_request_id()?,
        };
        let mut pauses = PAUSES.iter();
        let mut may_be_applied = false;
        loop {
            let status = match self.once(self.patience, |services| call(services, id.to_string())).await? {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            match kind(&status) {
                Kind::Refused => return Err(CallError::refused(status)),
                Kind::NotSent | Kind::NotReady => {}
                Kind::Lost => may_be_applied = true,
            }
            if self.ask_another() {
                continue;
            }
            if let Some(pause) = pauses.next() {
                tokio::time::sleep(*pause).await;
                continue;
            }
            return Err(match kind(&status) {
                Kind::Lost => CallError::Unknown { message: status.message().to_owned(), request: id },
                _ => self.unreachable(&status, may_be_applied.then_some(id)),
            });
        }
    }

    /// Asks once and never again: for what may do something each time it is asked.
    pub async fn once_within<T, F>(
        &self,
        patience: Duration,
        call: impl FnOnce(Services) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.once(patience, call).await?.map_err(|status| self.error(status))
    }

    /// Opens a stream of answers. Its items have no deadline; [`Client::error`] reads the error that ends it.
    pub async fn stream<T, F>(&self, call: impl Fn(Services) -> F) -> Result<Streaming<T>, CallError>
    where
        F: Future<Output = Result<Response<Streaming<T>>, Status>>,
    {
        self.read(call).await
    }

    /// What the status that ended a stream means.
    pub fn error(&self, status: Status) -> CallError {
        match kind(&status) {
            Kind::Refused => CallError::refused(status),
            _ => self.unreachable(&status, None),
        }
    }

    async fn once<T, F>(
        &self,
        patience: Duration,
        call: impl FnOnce(Services) -> F,
    ) -> Result<Result<T, Status>, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let services = self.services().await?;
        Ok(match timeout(patience, call(services)).await {
            Ok(answered) => answered.map(Response::into_inner),
            Err(_) => {
                let took = model::unit::format_duration(patience);
                Err(Status::deadline_exceeded(format!("no answer within {took}")))
            }
        })
    }

    /// Who this is to the control plane.
    pub fn credentials(&self) -> Result<Keyring, CallError> {
        Ok(credentials::read(&self.address, self.credentials.as_deref())?)
    }

    /// Turns to the next member; whether there is one that was not asked since the last pause.
    fn ask_another(&self) -> bool {
        let next = self.asked.load(Ordering::Relaxed) + 1;
        self.asked.store(next, Ordering::Relaxed);
        !next.is_multiple_of(self.channels.len().max(1))
    }

    async fn services(&self) -> Result<Services, CallError> {
        let index = self.asked.load(Ordering::Relaxed) % self.channels.len().max(1);
        let authority = self.address.authorities().get(index).map_or("", String::as_str);
        let unknown = OnceLock::new();
        let known = self.channels.get(index).unwrap_or(&unknown);
        if let Some(channel) = known.get() {
            return Ok(Services { channel: channel.clone() });
        }
        let unreachable = |message: String| CallError::Unreachable {
            address: self.address.to_string(),
            message,
            request: None,
        };
        let keyring = match self.credentials() {
            Ok(keyring) => keyring,
            // Where nobody listens there are no credentials either, and they are not what is missing.
            Err(error) => {
                let reached = timeout(CONNECT_PATIENCE, TcpStream::connect(authority)).await;
                return Err(match reached {
                    Ok(Err(refused)) => unreachable(refused.to_string()),
                    Ok(Ok(_)) | Err(_) => error,
                });
            }
        };
        // tonic looks for its own TLS behind `https`; the connector brings ours.
        let endpoint = Endpoint::from_shared(format!("http://{authority}"))
            .map_err(|error| unreachable(error.to_string()))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_PATIENCE)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_PATIENCE);
        let connector = trust::connector(keyring, Expect::Member);
        let channel = known.get_or_init(|| endpoint.connect_with_connector_lazy(connector)).clone();
        Ok(Services { channel })
    }

    fn unreachable(&self, status: &Status, request: Option<RequestId>) -> CallError {
        CallError::Unreachable {
            address: self.address.to_string(),
            message: proto::status::deepest(status),
            request,
        }
    }
}

fn new_request_id() -> Result<RequestId, CallError> {
    // It says when it was made, so that it is refused when nobody knows any more whether it was applied.
    let id = uuid::Uuid::now_v7().to_string();
    RequestId::new(id)
        .map_err(|error| CallError::Answer(proto::convert::DecodeError::malformed("request_id", error)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
