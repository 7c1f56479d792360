//! The load of `cargo xtask bench raft`, on three members of Weft's control plane or of etcd, over gRPC with TLS and a
//! certificate at both ends.
//!
//! - `put_load STORE put|get CLIENTS SECONDS FOLDER ADDRESS...`: so many clients, over at most eight connections to the
//!   leader, each asks again when it has its answer. A put is of 256 bytes; a get is linearizable. Prints how many answers
//!   there were and how long they took.
//! - `put_load STORE gap SECONDS FOLDER ADDRESS...`: one client puts, and turns to the next member after 250 ms without an
//!   answer. Prints the longest time between two answers.
//! - `put_load STORE fill OBJECTS BYTES FOLDER ADDRESS...`: so many objects of so many random bytes each, by 16 clients.
//!   Prints how long that took.
//! - `put_load STORE behind INDEX FOLDER ADDRESS...`: prints how many entries the member at that address lacks of what the
//!   leader has, from 0 on.
//! - `put_load STORE leader FOLDER ADDRESS...`: prints which of the addresses leads, from 0 on.
//!
//! STORE is `weft`, and FOLDER the data directory of a member, whose authority makes the client; or `etcd`, and FOLDER has
//! `ca.pem`, `client.pem` and `client-key.pem`. All output is one JSON value.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a load that is read by its output")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use cluster::command::Body;
use cluster::{Command, Outcome};
use control_plane::raft;
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use model::id::Uid;
use model::node::{Capacity, NodeDescription};
use prost::Message;
use proto::weft::member::v1 as wire;
use proto::weft::member::v1::consensus_client::ConsensusClient;
use proto::weft::member::v1::members_client::MembersClient;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;
use trust::{Authority, Expect, Identity, Key, Keyring, Role, SpiffeId};

const VALUE_BYTES: usize = 256;
const CONNECTIONS_MAX: usize = 8;
const FILL_CLIENTS: usize = 16;
/// Random bytes are written as text, and a label has no more.
const LABEL_MAX_BYTES: usize = 4 << 10;
/// As a client that has other members to ask.
const PATIENCE: Duration = Duration::from_millis(250);
/// Answers before that are of caches and connections.
const WARM_UP: Duration = Duration::from_millis(500);

/// `etcdserverpb.PutRequest`, and `RangeRequest` without a value.
#[derive(Clone, PartialEq, Message)]
struct EtcdKeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// Of any response, what is read here.
#[derive(Clone, PartialEq, Message)]
struct EtcdResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<EtcdHeader>,
    /// Of `StatusResponse` alone.
    #[prost(uint64, tag = "4")]
    leader: u64,
    #[prost(uint64, tag = "7")]
    applied: u64,
}

#[derive(Clone, PartialEq, Message)]
struct EtcdHeader {
    #[prost(uint64, tag = "2")]
    member: u64,
}

/// One connection to one member.
#[derive(Clone)]
enum Member {
    Weft { id: u64, consensus: ConsensusClient<Channel>, members: MembersClient<Channel> },
    Etcd(Grpc<Channel>),
}

impl Member {
    async fn put(&mut self, client: usize, number: u64) -> Result<(), Status> {
        match self {
            Self::Weft { id, consensus, .. } => {
                let request = wire::ProposeRequest { to: *id, command: command(client, number) };
                consensus.propose(request).await.map(drop)
            }
            Self::Etcd(grpc) => {
                let key = format!("k{client}/{}", number % 10_000).into_bytes();
                call(grpc, "/etcdserverpb.KV/Put", EtcdKeyValue { key, value: vec![b'v'; VALUE_BYTES] })
                    .await
                    .map(drop)
            }
        }
    }

    /// Makes an object of so many bytes that are not to be packed.
    async fn fill(&mut self, object: u64, bytes: usize) -> Result<(), Status> {
        match self {
            Self::Weft { id, consensus, .. } => {
                let command = object_of(&format!("bench-{object}"), &object.to_string(), labels(object, bytes));
                let answer = consensus.propose(wire::ProposeRequest { to: *id, command }).await?.into_inner();
                match serde_json::from_slice(&answer.outcome) {
                    Ok(Outcome::Refused(refusal)) => Err(Status::failed_precondition(refusal.to_string())),
                    Ok(_) => Ok(()),
                    Err(error) => Err(Status::internal(error.to_string())),
                }
            }
            Self::Etcd(grpc) => {
                let (key, value) = (format!("f{object}").into_bytes(), random(object, bytes));
                call(grpc, "/etcdserverpb.KV/Put", EtcdKeyValue { key, value }).await.map(drop)
            }
        }
    }

    /// The last entry that the member with this number has for certain, and that of the one that is asked, which leads.
    async fn applied(&mut self, number: u64) -> Result<(u64, u64), Status> {
        match self {
            Self::Weft { members, .. } => {
                let all = members.list(wire::ListRequest {}).await?.into_inner().members;
                let found = all.iter().find(|member| member.id == number);
                let (matched, last) = found.map_or((None, None), |member| (member.matched, member.last));
                Ok((matched.unwrap_or(0), last.unwrap_or(u64::MAX)))
            }
            Self::Etcd(grpc) => {
                let status = call(grpc, "/etcdserverpb.Maintenance/Status", EtcdKeyValue::default()).await?;
                Ok((status.applied, status.applied))
            }
        }
    }

    async fn get(&mut self, client: usize) -> Result<(), Status> {
        match self {
            Self::Weft { members, .. } => members.list(wire::ListRequest {}).await.map(drop),
            Self::Etcd(grpc) => {
                let key = format!("k{client}/0").into_bytes();
                call(grpc, "/etcdserverpb.KV/Range", EtcdKeyValue { key, value: Vec::new() }).await.map(drop)
            }
        }
    }

    async fn leads(&mut self) -> Result<bool, Status> {
        match self {
            Self::Weft { id, members, .. } => {
                Ok(members.list(wire::ListRequest {}).await?.into_inner().leader == *id)
            }
            Self::Etcd(grpc) => {
                let nothing = EtcdKeyValue::default();
                let status = call(grpc, "/etcdserverpb.Maintenance/Status", nothing).await?;
                Ok(status.header.is_some_and(|header| header.member == status.leader))
            }
        }
    }
}

async fn call(
    grpc: &mut Grpc<Channel>,
    path: &'static str,
    request: EtcdKeyValue,
) -> Result<EtcdResponse, Status> {
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let codec: ProstCodec<EtcdKeyValue, EtcdResponse> = ProstCodec::default();
    let answer = grpc.unary(tonic::Request::new(request), PathAndQuery::from_static(path), codec).await?;
    Ok(answer.into_inner())
}

/// A change of one object: its label has the bytes.
fn command(client: usize, number: u64) -> Vec<u8> {
    let labels = [("value".to_owned(), "v".repeat(VALUE_BYTES))].into();
    object_of(&format!("bench-{client}"), &number.to_string(), labels)
}

/// So many random bytes, the same ones for the same object.
fn random(object: u64, bytes: usize) -> Vec<u8> {
    let blocks = (0_u64..).flat_map(|block| Sha256::digest([object, block].map(u64::to_be_bytes).concat()));
    blocks.take(bytes).collect()
}

fn labels(object: u64, bytes: usize) -> BTreeMap<String, String> {
    let text = hex::encode(random(object, bytes.div_ceil(2)));
    let parts = text.as_bytes().chunks(LABEL_MAX_BYTES).enumerate();
    parts.map(|(index, part)| (format!("part-{index}"), String::from_utf8_lossy(part).into_owned())).collect()
}

fn object_of(name: &str, version: &str, labels: BTreeMap<String, String>) -> Vec<u8> {
    let description = NodeDescription {
        name: name.parse().expect("a name"),
        uid: Uid::new(name).expect("an id"),
        api_address: String::new(),
        ingress_address: String::new(),
        version: version.to_owned(),
        labels,
        capabilities: Vec::new(),
        capacity: Capacity { memory_bytes: 0, cpus: 0, instances: 0 },
        level: 0,
    };
    let command = Command { now_ms: 1, request: None, body: Body::RegisterNode(description) };
    raft::encode(&command).expect("a command that fits")
}

/// Makes connections.
enum Store {
    Weft { member: Keyring, operator: Keyring },
    Etcd(TlsConnector),
}

impl Store {
    fn open(name: &str, folder: &Path) -> anyhow::Result<Self> {
        match name {
            "weft" => {
                let authority = Authority::from_pem(&std::fs::read_to_string(folder.join("authority.pem"))?)?;
                let id = SpiffeId::new(authority.cluster().clone(), Role::Member, Uid::new("1")?)?;
                let (key, now) = (Key::generate()?, SystemTime::now());
                let certificate = authority.issue(&key.request()?, &id, now..now + Duration::from_hours(1))?;
                let identity = Identity::new(key, certificate, vec![authority.certificate_der().to_vec()])?;
                let operator = std::fs::read_to_string(folder.join("operator.pem"))?;
                let operator = Keyring::new(Identity::from_pem(&operator)?);
                Ok(Self::Weft { member: Keyring::new(identity), operator })
            }
            "etcd" => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_file_iter(folder.join("ca.pem"))? {
                    roots.add(certificate?)?;
                }
                let chain: Result<Vec<_>, _> =
                    CertificateDer::pem_file_iter(folder.join("client.pem"))?.collect();
                let key = PrivateKeyDer::from_pem_file(folder.join("client-key.pem"))?;
                let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
                let mut config = ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()?
                    .with_root_certificates(roots)
                    .with_client_auth_cert(chain?, key)?;
                config.alpn_protocols = vec![b"h2".to_vec()];
                Ok(Self::Etcd(TlsConnector::from(Arc::new(config))))
            }
            other => bail!("there is no store {other}"),
        }
    }

    /// One connection to the member at an address, made when it is first used.
    fn member(&self, index: usize, address: &str) -> anyhow::Result<Member> {
        let endpoint =
            Endpoint::from_shared(format!("http://{address}"))?.connect_timeout(PATIENCE).tcp_nodelay(true);
        Ok(match self {
            Self::Weft { member, operator } => {
                let connector = |keyring: &Keyring| trust::connector(keyring.clone(), Expect::Member);
                let consensus = endpoint.connect_with_connector_lazy(connector(member));
                let members = endpoint.connect_with_connector_lazy(connector(operator));
                Member::Weft {
                    id: index as u64 + 1,
                    consensus: ConsensusClient::new(consensus),
                    members: MembersClient::new(members),
                }
            }
            Self::Etcd(tls) => {
                let (tls, address) = (tls.clone(), address.to_owned());
                let connect = tower::service_fn(move |_: Uri| {
                    let (tls, address) = (tls.clone(), address.clone());
                    async move {
                        let stream = TcpStream::connect(&address).await?;
                        stream.set_nodelay(true)?;
                        let name = ServerName::try_from("127.0.0.1").map_err(std::io::Error::other)?;
                        tls.connect(name, stream).await.map(TokioIo::new)
                    }
                });
                Member::Etcd(Grpc::new(endpoint.connect_with_connector_lazy(connect)))
            }
        })
    }

    async fn leader(&self, addresses: &[String]) -> anyhow::Result<usize> {
        for (index, address) in addresses.iter().enumerate() {
            let mut member = self.member(index, address)?;
            if tokio::time::timeout(PATIENCE * 4, member.leads())
                .await
                .is_ok_and(|leads| leads.unwrap_or(false))
            {
                return Ok(index);
            }
        }
        bail!("nobody leads")
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let value = match words[..] {
        [store, "leader", folder, _, ..] => {
            let store = Store::open(store, folder.as_ref())?;
            json!({ "leader": leader(&store, &arguments[3..]).await? })
        }
        [store, "gap", seconds, folder, _, ..] => {
            let store = Store::open(store, folder.as_ref())?;
            gap(&store, Duration::from_secs(seconds.parse()?), &arguments[4..]).await?
        }
        [store, "fill", objects, bytes, folder, _, ..] => {
            let store = Store::open(store, folder.as_ref())?;
            fill(&store, objects.parse()?, bytes.parse()?, &arguments[5..]).await?
        }
        [store, "behind", index, folder, _, ..] => {
            let store = Store::open(store, folder.as_ref())?;
            let (index, addresses) = (index.parse::<usize>()?, &arguments[4..]);
            let leader = leader(&store, addresses).await?;
            let mut leading = store.member(leader, &addresses[leader])?;
            let number = index as u64 + 1;
            let (mut has, last) =
                leading.applied(number).await.map_err(|status| anyhow::anyhow!("{status}"))?;
            if matches!(store, Store::Etcd(_)) {
                let mut member = store.member(index, &addresses[index])?;
                (has, _) = member.applied(number).await.map_err(|status| anyhow::anyhow!("{status}"))?;
            }
            json!({ "behind": last.saturating_sub(has) })
        }
        [store, operation @ ("put" | "get"), clients, seconds, folder, _, ..] => {
            let store = Store::open(store, folder.as_ref())?;
            let seconds = Duration::from_secs(seconds.parse()?);
            load(&store, operation == "put", clients.parse()?, seconds, &arguments[5..]).await?
        }
        _ => bail!("usage: see the head of this file"),
    };
    println!("{value}");
    Ok(())
}

/// Waits for one: an election may be under way.
async fn leader(store: &Store, addresses: &[String]) -> anyhow::Result<usize> {
    for _ in 0..40 {
        if let Ok(leader) = store.leader(addresses).await {
            return Ok(leader);
        }
        tokio::time::sleep(PATIENCE).await;
    }
    bail!("nobody leads")
}

async fn load(
    store: &Store,
    is_put: bool,
    clients: usize,
    seconds: Duration,
    addresses: &[String],
) -> anyhow::Result<serde_json::Value> {
    let leader = leader(store, addresses).await?;
    let connections: Vec<Member> = (0..clients.min(CONNECTIONS_MAX))
        .map(|_| store.member(leader, &addresses[leader]))
        .collect::<Result<_, _>>()?;
    let began = Instant::now();
    let mut running = JoinSet::new();
    for client in 0..clients {
        let mut member = connections[client % connections.len()].clone();
        running.spawn(async move {
            let mut took = Vec::new();
            let mut number = 0;
            while began.elapsed() < WARM_UP + seconds {
                number += 1;
                let asked = Instant::now();
                match is_put {
                    true => member.put(client, number).await?,
                    false => member.get(client).await?,
                }
                if began.elapsed() > WARM_UP {
                    took.push(asked.elapsed());
                }
            }
            Ok::<_, Status>(took)
        });
    }
    let mut took = Vec::new();
    while let Some(client) = running.join_next().await {
        took.extend(client?.map_err(|status| anyhow::anyhow!("{status}"))?);
    }
    took.sort_unstable();
    let at =
        |share: f64| took.get((took.len() as f64 * share) as usize).map_or(f64::NAN, Duration::as_secs_f64);
    Ok(json!({
        "per_second": took.len() as f64 / seconds.as_secs_f64(),
        "p50_us": at(0.50) * 1e6,
        "p99_us": at(0.99) * 1e6,
    }))
}

async fn fill(
    store: &Store,
    objects: u64,
    bytes: usize,
    addresses: &[String],
) -> anyhow::Result<serde_json::Value> {
    let leader = leader(store, addresses).await?;
    let began = Instant::now();
    let mut running = JoinSet::new();
    for client in 0..FILL_CLIENTS as u64 {
        let mut member = store.member(leader, &addresses[leader])?;
        running.spawn(async move {
            for object in (client..objects).step_by(FILL_CLIENTS) {
                member.fill(object, bytes).await?;
            }
            Ok::<_, Status>(())
        });
    }
    while let Some(client) = running.join_next().await {
        client?.map_err(|status| anyhow::anyhow!("{status}"))?;
    }
    Ok(json!({ "seconds": began.elapsed().as_secs_f64() }))
}

async fn gap(store: &Store, seconds: Duration, addresses: &[String]) -> anyhow::Result<serde_json::Value> {
    let mut members: Vec<Member> = addresses
        .iter()
        .enumerate()
        .map(|(index, address)| store.member(index, address))
        .collect::<Result<_, _>>()?;
    let mut at = leader(store, addresses).await?;
    let (began, mut number, mut longest) = (Instant::now(), 0, Duration::ZERO);
    let mut last = None;
    while began.elapsed() < seconds {
        number += 1;
        let count = members.len();
        let member = members.get_mut(at).context("a member")?;
        match tokio::time::timeout(PATIENCE, member.put(0, number)).await {
            Ok(Ok(())) => {
                let now = Instant::now();
                longest = last.map_or(longest, |last| longest.max(now - last));
                last = Some(now);
            }
            Ok(Err(_)) | Err(_) => {
                at = (at + 1) % count;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    Ok(json!({ "answers": number, "longest_ms": longest.as_secs_f64() * 1e3 }))
}
