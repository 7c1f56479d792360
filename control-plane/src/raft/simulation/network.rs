//! The way between members: the product's client and server with their wire encodings, and in place of the connection
//! one that delays, loses, doubles and reorders what is sent, and may be cut in either direction.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use prost::Message;
use proto::weft::member::v1 as wire;
use proto::weft::member::v1::consensus_server::ConsensusServer;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::ConnectError;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{Layer as _, Service};
use trust::gate::Gated;
use trust::{Gate, Peer, Role, SpiffeId, access};

use super::chance::Chance;
use super::runtime::Process;
use crate::raft::handle::Handle;
use crate::raft::peers::{Peers, Road};
use crate::raft::service::Consensus;
use crate::raft::wire::vote_from_wire;

/// Gives up a connection whose other end is silent, as the keep-alive of the product does.
const SILENCE: Duration = Duration::from_secs(4);
/// How often it is looked whether the other end is silent.
const LOOK_PACE: Duration = Duration::from_secs(2);
/// Gives up a connection that nobody takes.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);
/// The frame of a message: whether it is compressed, and its length.
const FRAME_BYTES: usize = 5;

type Server = Gated<ConsensusServer<Consensus>>;
type Failure = Box<dyn Error + Send + Sync>;
type Answer = Response<Body>;

/// How messages fare.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub delay_ms: (u64, u64),
    pub lost_in_thousand: u64,
    pub doubled_in_thousand: u64,
}

impl Weather {
    pub const FINE: Self = Self { delay_ms: (0, 3), lost_in_thousand: 0, doubled_in_thousand: 0 };
}

/// Who listens where, and which roads are cut.
pub struct Network {
    servers: BTreeMap<String, (Arc<Process>, Server)>,
    /// From a member to a member.
    cuts: BTreeSet<(u64, u64)>,
    pub weather: Weather,
    /// Messages that were sent, and of those, that did not come through.
    pub sent: u64,
    pub lost: u64,
}

impl Default for Network {
    fn default() -> Self {
        let (servers, cuts) = (BTreeMap::new(), BTreeSet::new());
        Self { servers, cuts, weather: Weather::FINE, sent: 0, lost: 0 }
    }
}

impl Network {
    /// A member listens at an address from now on.
    pub fn listen(&mut self, address: String, process: Arc<Process>, handle: Handle) {
        let server = Gate::new(access::of_member).layer(Consensus::server(handle));
        self.servers.insert(address, (process, server));
    }

    /// Nobody of this run listens any more.
    pub fn hang_up(&mut self, run: u64) {
        self.servers.retain(|_, (process, _)| process.run != run);
    }

    pub fn cut(&mut self, from: u64, to: u64) {
        self.cuts.insert((from, to));
    }

    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    pub fn hang_up_all(&mut self) {
        self.servers.clear();
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// After how long a message arrives; `None` if it does not.
    fn fate(&mut self, from: u64, to: u64, chance: &mut Chance) -> Option<Duration> {
        self.sent += 1;
        let (least, most) = self.weather.delay_ms;
        let is_lost = self.is_cut(from, to) || chance.in_thousand(self.weather.lost_in_thousand);
        self.lost += u64::from(is_lost);
        (!is_lost).then(|| chance.millis(least, most + 1))
    }
}

/// What the product's clients speak through: its own connections, or a simulated road.
#[derive(Debug, Clone)]
pub enum Transport {
    Channel(Channel),
    Simulated { from: Arc<Process>, address: String },
}

impl Transport {
    pub fn find(peers: &Peers, address: &str, road: Road) -> Option<Self> {
        match Process::current() {
            Some(from) => Some(Self::Simulated { from, address: address.to_owned() }),
            None => peers.channel(address, road).map(Self::Channel),
        }
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Failure>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match self {
            Self::Channel(channel) => channel.poll_ready(context).map_err(Into::into),
            Self::Simulated { .. } => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self {
            Self::Channel(channel) => {
                let answer = channel.call(request);
                Box::pin(async move { answer.await.map_err(Into::into) })
            }
            Self::Simulated { from, address } => {
                let (from, address) = (from.clone(), address.clone());
                Box::pin(async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    carry(&from, &address, parts, body).await
                })
            }
        }
    }
}

fn refused(address: &str) -> Failure {
    Box::new(ConnectError(format!("nobody takes connections at {address}").into()))
}

fn broken() -> Failure {
    Box::new(io::Error::from(io::ErrorKind::ConnectionReset))
}

/// Takes a request to whoever listens at an address, and the answer back.
async fn carry(from: &Arc<Process>, address: &str, parts: Parts, body: Bytes) -> Result<Answer, Failure> {
    let world = from.world.clone();
    let found = world.network(|network| network.servers.get(address).cloned());
    let Some((to, server)) = found else {
        let moment = world.chance(|chance| chance.millis(0, 5));
        tokio::time::sleep(moment).await;
        return Err(refused(address));
    };
    let fate =
        |from: u64, to: u64| world.network(|network| world.chance(|chance| network.fate(from, to, chance)));
    let Some(delay) = fate(from.member, to.member) else {
        // Whether there was a connection already decides what is known of the request.
        let is_connected = world.chance(|chance| chance.in_thousand(500));
        let silence = if is_connected { SILENCE } else { CONNECT_PATIENCE };
        tokio::time::sleep(silence).await;
        return Err(if is_connected { broken() } else { refused(address) });
    };
    tokio::time::sleep(delay).await;
    let is_cut = world.network(|network| network.is_cut(from.member, to.member));
    if is_cut || !to.is_alive() {
        tokio::time::sleep(if is_cut { SILENCE } else { delay }).await;
        return Err(broken());
    }
    world.saw(from.member, to.member, &body);
    let doubled = world.network(|network| network.weather.doubled_in_thousand);
    let is_doubled = is_of_raft(parts.uri.path()) && world.chance(|chance| chance.in_thousand(doubled));
    if is_doubled {
        drop(serve(&to, server.clone(), from, &parts, body.clone()));
    }
    let mut answered = serve(&to, server, from, &parts, body);
    let answer = loop {
        match timeout(LOOK_PACE, &mut answered).await {
            Ok(answer) => break answer.map_err(|_| broken())?,
            // It takes its time, unless it is stopped: then the connection ends when it has been silent.
            Err(_) if to.is_running() => {}
            Err(_) => {
                tokio::time::sleep(SILENCE - LOOK_PACE).await;
                if !to.is_running() {
                    return Err(broken());
                }
            }
        }
    };
    match fate(to.member, from.member) {
        Some(delay) => tokio::time::sleep(delay).await,
        None => {
            tokio::time::sleep(SILENCE).await;
            return Err(broken());
        }
    }
    world.saw(to.member, from.member, &[]);
    Ok(answer)
}

/// Whether a message may come twice: consensus must bear it, while a proposal that comes twice is two.
fn is_of_raft(path: &str) -> bool {
    !path.ends_with("/Propose")
}

/// Gives a request to a process; its answer comes out of the other end.
fn serve(
    to: &Arc<Process>,
    mut server: Server,
    from: &Arc<Process>,
    parts: &Parts,
    body: Bytes,
) -> oneshot::Receiver<Answer> {
    let mut request = Request::new(Body::new(Full::new(body.clone())));
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    *request.version_mut() = parts.version;
    *request.headers_mut() = parts.headers.clone();
    if let Some(peer) = caller(from.member) {
        request.extensions_mut().insert(peer);
    }
    let (answer, answered) = oneshot::channel();
    let path = parts.uri.path().to_owned();
    let process = to.clone();
    let served = async move {
        let served: Result<Response<Body>, Infallible> = server.call(request).await;
        let Ok(served) = served;
        let (parts, served) = served.into_parts();
        let Ok(served) = served.collect().await else { return };
        let trailers = served.trailers().cloned();
        let served = served.to_bytes();
        note_promise(&process, &path, &body, &served);
        let served = Full::new(served).with_trailers(std::future::ready(trailers.map(Ok)));
        // The one that asked may be gone.
        let _ = answer.send(Response::from_parts(parts, Body::new(served)));
    };
    drop(to.spawn(served));
    answered
}

/// Who a member is, as its certificate would say.
fn caller(member: u64) -> Option<Peer> {
    let (cluster, uid) = ("simulated".to_owned().try_into().ok()?, member.to_string().try_into().ok()?);
    let id = SpiffeId::new(cluster, Role::Member, uid).ok()?;
    Some(Peer { address: ([127, 0, 0, 1], 1).into(), id: Some(id), certificate_ends: None })
}

/// The oracle knows what a member has said yes to.
fn note_promise(process: &Process, path: &str, asked: &[u8], answered: &[u8]) {
    let ballot = if path.ends_with("/Vote") {
        let asked = unframed::<wire::VoteRequest>(asked).filter(|asked| !asked.is_trial);
        let granted = unframed::<wire::VoteResponse>(answered).is_some_and(|answered| answered.granted);
        asked.filter(|_| granted).and_then(|asked| asked.vote)
    } else if path.ends_with("/Append") {
        use wire::append_response::Result as Appended;
        let answered = unframed::<wire::AppendResponse>(answered).and_then(|answered| answered.result);
        let is_taken = matches!(answered, Some(Appended::Success(_) | Appended::Partial(_)));
        unframed::<wire::AppendRequest>(asked).filter(|_| is_taken).and_then(|asked| asked.vote)
    } else {
        None
    };
    if let Ok(vote) = vote_from_wire("vote", ballot) {
        process.world.oracle(|oracle| oracle.promises(process.member, vote));
    }
}

fn unframed<M: Message + Default>(framed: &[u8]) -> Option<M> {
    framed.get(FRAME_BYTES..).and_then(|bytes| M::decode(bytes).ok())
}
