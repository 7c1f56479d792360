//! A bad road to a node or a member: between the others and its API, and told what becomes of what is sent.
//!
//! What stands on it neither ends nor knows: as where packets are lost, connections stay open and say nothing, and what
//! was sent arrives once there is a way again. Bytes are kept in their order, as TCP keeps them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::seed::Choices;

/// The address that agents are told to be reached at instead of their own: on this machine too.
const ADVERTISED: &str = "127.0.0.2";
/// For [`start_as`](crate::cluster::Cluster::start_as): others reach its agents by way of roads.
pub const ADVERTISE_FLAG: &str = "--advertise=127.0.0.2";
/// Pieces of one connection that are on their way in one direction.
const PIECES_MAX: usize = 256;
const PIECE_BYTES: usize = 16 << 10;

/// Where others look for a process that listens at `address`.
pub fn advertised(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(ADVERTISED.parse().expect("an address"), address.port())
}

/// What becomes of what is sent in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It arrives.
    Open,
    /// Nothing arrives.
    Cut,
    /// It arrives so much later.
    Late(Duration),
    /// One of so many pieces comes so much later, as one whose packet has to be sent again; and what is behind it.
    Lossy {
        /// One of how many.
        one_of: u64,
        /// How much later.
        stall: Duration,
    },
}

/// The road to the agent of one node.
#[derive(Debug)]
pub struct Road {
    there: watch::Sender<Way>,
    back: watch::Sender<Way>,
    serving: JoinHandle<()>,
}

impl Road {
    /// To a process that listens there and that others look for at [`advertised`].
    pub async fn before(process: SocketAddr, mut choices: Choices) -> Self {
        let listener = TcpListener::bind(advertised(process)).await.expect("the port of a process is ours");
        let ((there, to), (back, from)) = (watch::channel(Way::Open), watch::channel(Way::Open));
        let serving = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(process).await else { continue };
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                let (one, other) = (Choices::of(choices.number()), Choices::of(choices.number()));
                tokio::spawn(carry(near_read, far_write, to.clone(), one));
                tokio::spawn(carry(far_read, near_write, from.clone(), other));
            }
        });
        Self { there, back, serving }
    }

    /// From now on this becomes of what is sent to the node, and of what it sends back.
    pub fn becomes(&self, there: Way, back: Way) {
        self.there.send_replace(there);
        self.back.send_replace(back);
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One direction of one connection.
async fn carry(mut from: OwnedReadHalf, to: OwnedWriteHalf, way: watch::Receiver<Way>, mut choices: Choices) {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    tokio::spawn(arrive(pieces, to, way.clone()));
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let Ok(read @ 1..) = from.read(&mut piece).await else { return };
        piece.truncate(read);
        let now = Instant::now();
        let due = match *way.borrow() {
            Way::Open | Way::Cut => now,
            Way::Late(late) => now + late,
            Way::Lossy { one_of, stall } if choices.below(one_of) == 0 => now + stall,
            Way::Lossy { .. } => now,
        };
        if sender.send((due, piece)).await.is_err() {
            return;
        }
    }
}

async fn arrive(
    mut pieces: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
) {
    let mut next = Some((Instant::now(), Vec::new()));
    while let Some((due, piece)) = next {
        tokio::time::sleep_until(due).await;
        if way.wait_for(|way| *way != Way::Cut).await.is_err() || to.write_all(&piece).await.is_err() {
            return;
        }
        next = pieces.recv().await;
    }
    // An end is a packet like others.
    let _ = way.wait_for(|way| *way != Way::Cut).await;
    let _ = to.shutdown().await;
}
