//! Answers of members that are broken.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::SystemTime;

use model::id::Uid;
use openraft::network::RPCOption;
use proto_wire::consensus_server::{Consensus, ConsensusServer};
use tokio::net::TcpListener;
use tonic::{Request, Streaming};
use trust::{Authority, Clients, Identity, Key, Role, SpiffeId};

use super::*;
use crate::raft::types::{LeaderId, SnapshotMeta};

const PATIENCE: Duration = Duration::from_secs(30);
/// The term in which it is asked.
const OURS: u64 = 7;

/// A member that answers everything in one term.
struct InTerm(u64);

impl InTerm {
    const fn ballot(&self) -> proto_wire::Ballot {
        proto_wire::Ballot { term: self.0, member: 2, committed: false }
    }
}

#[tonic::async_trait]
impl Consensus for InTerm {
    async fn append(
        &self,
        _: Request<proto_wire::AppendRequest>,
    ) -> Result<Response<proto_wire::AppendResponse>, Status> {
        let higher = proto_wire::append_response::Result::Higher(self.ballot());
        Ok(Response::new(proto_wire::AppendResponse {
            result: Some(higher),
            ..proto_wire::AppendResponse::default()
        }))
    }

    async fn vote(
        &self,
        _: Request<proto_wire::VoteRequest>,
    ) -> Result<Response<proto_wire::VoteResponse>, Status> {
        let vote = Some(self.ballot());
        Ok(Response::new(proto_wire::VoteResponse { vote, ..proto_wire::VoteResponse::default() }))
    }

    async fn install(
        &self,
        parts: Request<Streaming<proto_wire::SnapshotPart>>,
    ) -> Result<Response<proto_wire::SnapshotResponse>, Status> {
        let mut parts = parts.into_inner();
        while parts.message().await?.is_some() {}
        Ok(Response::new(proto_wire::SnapshotResponse { vote: Some(self.ballot()) }))
    }

    async fn lead(
        &self,
        _: Request<proto_wire::LeadRequest>,
    ) -> Result<Response<proto_wire::LeadResponse>, Status> {
        Err(Status::unimplemented("lead"))
    }

    async fn propose(
        &self,
        _: Request<proto_wire::ProposeRequest>,
    ) -> Result<Response<proto_wire::ProposeResponse>, Status> {
        Err(Status::unimplemented("propose"))
    }

    async fn read_index(
        &self,
        _: Request<proto_wire::ReadIndexRequest>,
    ) -> Result<Response<proto_wire::ReadIndexResponse>, Status> {
        Err(Status::unimplemented("read_index"))
    }

    async fn section(
        &self,
        _: Request<proto_wire::SectionRequest>,
    ) -> Result<Response<proto_wire::SectionResponse>, Status> {
        Err(Status::unimplemented("section"))
    }
}

fn keyring(authority: &Authority, member: &str) -> Keyring {
    let (key, now) = (Key::generate().unwrap(), SystemTime::now());
    let id = SpiffeId::new(authority.cluster().clone(), Role::Member, Uid::new(member).unwrap()).unwrap();
    let leaf = authority.issue(&key.request().unwrap(), &id, now..now + Duration::from_hours(1)).unwrap();
    Keyring::new(Identity::new(key, leaf, vec![authority.certificate_der().to_vec()]).unwrap())
}

/// What all three ways of asking come to at a member that answers in `term`.
async fn asked(term: u64) -> [Result<(), String>; 3] {
    let authority = Authority::generate(&"c".to_owned().try_into().unwrap(), SystemTime::now()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let incoming = trust::incoming(listener, keyring(&authority, "2"), Clients::Required);
    let server = tonic::transport::Server::builder().add_service(ConsensusServer::new(InTerm(term)));
    let serving = tokio::spawn(async move { server.serve_with_incoming(incoming).await });
    let peers = Peers::default();
    peers.identify(keyring(&authority, "1"));
    let mut peer = Peer { peers, me: 1, id: 2, address };
    let vote = Vote { leader_id: LeaderId { term: OURS, node_id: 1 }, committed: true };
    let option = || RPCOption::new(PATIENCE);
    let append = AppendEntriesRequest { vote, prev_log_id: None, entries: Vec::new(), leader_commit: None };
    let appended = peer.append_entries(append, option()).await.map(drop).map_err(|error| error.to_string());
    let voted = peer.vote(VoteRequest::new(vote, None), option()).await;
    let snapshot = Snapshot { meta: SnapshotMeta::default(), snapshot: Arc::new(vec![1]) };
    let installed = peer.full_snapshot(vote, snapshot, std::future::pending(), option()).await;
    serving.abort();
    [
        appended,
        voted.map(drop).map_err(|error| error.to_string()),
        installed.map(drop).map_err(|error| error.to_string()),
    ]
}

/// Row 66, in the other direction: consensus takes the term of an answer for its own.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_a_term_that_is_out_of_reach_does_not_come_to_consensus() {
    for term in [OURS, OURS + 1, OURS + wire::TERM_JUMP_MAX] {
        for answer in asked(term).await {
            answer.unwrap();
        }
    }
    for term in [OURS + wire::TERM_JUMP_MAX + 1, u64::MAX] {
        for answer in asked(term).await {
            let why = answer.unwrap_err();
            assert!(why.contains(&format!("term {term} is more than 4294967296 above {OURS}")), "{why}");
        }
    }
}
