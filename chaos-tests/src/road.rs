//! A bad road to a node or a member: between the others and its API, and told what becomes of what is sent.
//!
//! What stands on it neither ends nor knows: as where packets are lost, connections stay open and say nothing, and what
//! was sent arrives once there is a way again. Bytes are kept in their order, as TCP keeps them. Those who come over a
//! road are told apart by their processes, so that one of them can be cut off from all others.

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

/// What becomes of what is sent to a process, and of what it sends back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ways {
    there: Way,
    back: Way,
}

/// The ways of all, but for those of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    all: Ways,
    one: Option<(u32, Ways)>,
}

/// One direction of one connection.
#[derive(Debug, Clone)]
struct Direction {
    told: watch::Receiver<Told>,
    is_there: bool,
    /// The process at the near end.
    source: Option<u32>,
}

impl Direction {
    fn of(&self, told: &Told) -> Way {
        let ways =
            told.one.filter(|(process, _)| Some(*process) == self.source).map_or(told.all, |(_, ways)| ways);
        if self.is_there { ways.there } else { ways.back }
    }

    fn now(&self) -> Way {
        self.of(&self.told.borrow())
    }

    /// Waits until what is sent arrives; whether there is a road still.
    async fn opens(&mut self) -> bool {
        let this = self.clone();
        self.told.wait_for(|told| this.of(told) != Way::Cut).await.is_ok()
    }
}

/// The road to the agent of one node, or to a member.
#[derive(Debug)]
pub struct Road {
    told: watch::Sender<Told>,
    serving: JoinHandle<()>,
}

impl Road {
    /// To a process that listens there and that others look for at [`advertised`].
    pub async fn before(process: SocketAddr, mut choices: Choices) -> Self {
        let listener = TcpListener::bind(advertised(process)).await.expect("the port of a process is ours");
        let all = Ways { there: Way::Open, back: Way::Open };
        let (told, hears) = watch::channel(Told { all, one: None });
        let serving = tokio::spawn(async move {
            while let Ok((near, address)) = listener.accept().await {
                let source = process_of(address);
                let direction = |is_there| Direction { told: hears.clone(), is_there, source };
                let Ok(far) = TcpStream::connect(process).await else { continue };
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                let (one, other) = (Choices::of(choices.number()), Choices::of(choices.number()));
                tokio::spawn(carry(near_read, far_write, direction(true), one));
                tokio::spawn(carry(far_read, near_write, direction(false), other));
            }
        });
        Self { told, serving }
    }

    /// From now on this becomes of what is sent to the node, and of what it sends back.
    pub fn becomes(&self, there: Way, back: Way) {
        self.told.send_replace(Told { all: Ways { there, back }, one: None });
    }

    /// From now on this becomes of what one process sends over it, and of what it is sent back; others have it open.
    pub fn becomes_for(&self, process: u32, there: Way, back: Way) {
        let all = Ways { there: Way::Open, back: Way::Open };
        self.told.send_replace(Told { all, one: Some((process, Ways { there, back })) });
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One direction of one connection.
async fn carry(mut from: OwnedReadHalf, to: OwnedWriteHalf, way: Direction, mut choices: Choices) {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    tokio::spawn(arrive(pieces, to, way.clone()));
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let Ok(read @ 1..) = from.read(&mut piece).await else { return };
        piece.truncate(read);
        let now = Instant::now();
        let due = match way.now() {
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

async fn arrive(mut pieces: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf, mut way: Direction) {
    let mut next = Some((Instant::now(), Vec::new()));
    while let Some((due, piece)) = next {
        tokio::time::sleep_until(due).await;
        if !way.opens().await || to.write_all(&piece).await.is_err() {
            return;
        }
        next = pieces.recv().await;
    }
    // An end is a packet like others.
    let _ = way.opens().await;
    let _ = to.shutdown().await;
}

/// The process of this machine that has a TCP socket at an address; none where the system does not say.
fn process_of(address: SocketAddr) -> Option<u32> {
    let SocketAddr::V4(address) = address else { return None };
    // As the kernel writes it: the bytes of the address in the order of the machine.
    let ip = u32::from_ne_bytes(address.ip().octets());
    let wanted = format!("{ip:08X}:{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let inode = fields.filter(|fields| fields.get(1) == Some(&wanted.as_str())).find_map(|fields| {
        let inode = *fields.get(9)?;
        (inode != "0").then(|| inode.to_owned())
    })?;
    let socket = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut ids = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    ids.find(|id| {
        let files = std::fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
        files
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .any(|link| link.as_os_str() == socket.as_str())
    })
}
