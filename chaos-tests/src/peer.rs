//! A peer of an agent that breaks its rules: `chain` on two nodes, and somebody who opens sessions at its provider.

use std::collections::VecDeque;

use proto::weft::link::v1 as wire;
use proto::weft::link::v1::frame::Body;
use proto::weft::link::v1::links_client::LinksClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use trust::{Expect, Keyring};

use crate::api::digest;
use crate::bundle::Bundle;
use crate::cluster::Cluster;
use crate::traffic::Load;
use crate::wait::SOON;

const GREETER: &str = "weft:examples/greeter@1.0.0";
const HOST: &str = "chain.localhost";

/// `chain` with the provider on n1, whose agent is broken in on, and its rightful consumer on n2.
pub struct Chain {
    /// The two nodes, and one more if it was asked for.
    pub cluster: Cluster,
    uid: String,
    generation: u64,
}

impl Chain {
    /// On a cluster of at least two nodes.
    pub async fn start(cluster: Cluster) -> Self {
        let bundle = Bundle::graph("chain").on("front.wasm", "n2").on("back.wasm", "n1");
        cluster.api().deploy_and_wait(&bundle).await;
        let status = cluster.api().status("default/chain").await.unwrap();
        Self { cluster, uid: status.uid, generation: status.generation }
    }

    /// Requests that call over the link.
    pub fn load(&self) -> Load {
        Load::start(self.cluster.ingress_address_of("n2"), HOST, "/add?n=3", 2)
    }

    /// A session as the rightful consumer opens it.
    pub fn open(&self) -> wire::Open {
        let binding = wire::Binding {
            interface: GREETER.to_owned(),
            function: "add".to_owned(),
            digest: digest(b"func(a: u32, b: u32) -> u32"),
        };
        wire::Open {
            graph: "default/chain".to_owned(),
            uid: self.uid.clone(),
            generation: self.generation,
            from: "front".to_owned(),
            to: "back".to_owned(),
            request: "a-peer".to_owned(),
            functions: vec![binding],
            trace_state: String::new(),
        }
    }

    /// The same with a mistake.
    pub fn wrong(&self, mistake: impl FnOnce(&mut wire::Open)) -> Vec<Body> {
        let mut open = self.open();
        mistake(&mut open);
        vec![Body::Open(open), call(&[8, 2, 16, 3])]
    }

    /// The rightful consumer's node, as whoever has broken into it.
    pub async fn peer(&self) -> Peer {
        self.peer_as(self.cluster.keyring_of("n2")).await
    }

    /// Another node with a stream to n1.
    pub async fn peer_as(&self, keyring: Keyring) -> Peer {
        Peer::connect(&self.cluster, keyring).await.expect("n1 takes streams of nodes")
    }
}

/// A call of the first function.
pub fn call(arguments: &[u8]) -> Body {
    Body::Call(wire::Call {
        function: 0,
        arguments: arguments.to_vec(),
        deadline_us: 5_000_000,
        trace: Vec::new(),
    })
}

/// Another agent, as far as this one can tell.
pub struct Peer {
    /// Beside the stream.
    pub client: LinksClient<Channel>,
    /// What it says.
    pub outgoing: mpsc::Sender<wire::Frames>,
    incoming: Streaming<wire::Frames>,
    ready: VecDeque<wire::Frame>,
}

impl Peer {
    /// To n1, as another node.
    pub async fn connect(cluster: &Cluster, keyring: Keyring) -> Result<Self, String> {
        let n1 = cluster.keyring_of("n1").identity().id().uid().clone();
        let endpoint = Endpoint::from_shared(format!("http://{}", cluster.agent_api_address())).expect("a URI");
        let connector = trust::connector(keyring, Expect::Node(n1));
        let channel = endpoint.connect_with_connector(connector).await.map_err(|error| format!("{error:?}"))?;
        let mut client = LinksClient::new(channel);
        let (outgoing, frames) = mpsc::channel(16);
        let carried =
            client.carry(ReceiverStream::new(frames)).await.map_err(|status| format!("{status:?}"))?;
        Ok(Self { client, outgoing, incoming: carried.into_inner(), ready: VecDeque::new() })
    }

    /// Sends frames in one message.
    pub async fn say(&self, frames: impl IntoIterator<Item = (u64, Body)>) {
        let frame = |(session, body)| wire::Frame { session, body: Some(body) };
        self.outgoing.send(wire::Frames { frames: frames.into_iter().map(frame).collect() }).await.unwrap();
    }

    /// What comes next; none if the stream has ended.
    pub async fn next(&mut self) -> Option<(u64, Body)> {
        while self.ready.is_empty() {
            let message = tokio::time::timeout(SOON, self.incoming.message()).await.expect("an answer");
            self.ready.extend(message.ok()??.frames);
        }
        let frame = self.ready.pop_front()?;
        Some((frame.session, frame.body.unwrap()))
    }

    /// A session is refused for this reason.
    pub async fn refused(&mut self, session: u64, reason: wire::Reason, about: &str) {
        match self.next().await {
            Some((of, Body::Failed(failed))) => {
                assert_eq!((of, failed.reason()), (session, reason), "{about}: {}", failed.message);
            }
            other => panic!("{about}: {other:?}"),
        }
    }

    /// Whether what comes next is an answer, rather than that there is no room.
    pub async fn is_served(&mut self) -> bool {
        match self.next().await {
            Some((_, Body::Returned(_))) => true,
            Some((_, Body::Failed(failed))) => {
                assert_eq!(failed.reason(), wire::Reason::Busy, "{}", failed.message);
                false
            }
            other => panic!("{other:?}"),
        }
    }

    /// Two and three are five.
    pub async fn returned(&mut self, session: u64) {
        let returned = Body::Returned(wire::Returned { result: vec![8, 5] });
        assert_eq!(self.next().await, Some((session, returned)));
    }
}
