//! Where the programs of a cluster run and listen: all on this machine, or each on a host of a network.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::network::{Host, Namespace, Network};
use crate::seed::Choices;

/// Below the ports that systems give to outgoing connections: the port of a process that is down must not become
/// a client's.
const PORTS: std::ops::Range<u64> = 15_000..30_000;
/// Below the folder of temporary files: a file for each claimed port.
const CLAIMS: &str = "weft-chaos-ports";

/// Where programs run.
#[derive(Debug)]
pub(crate) enum Places {
    /// On this machine, at ports of which others keep off as long as these files are locked.
    Machine {
        /// The files.
        claims: Vec<File>,
    },
    /// Each on its host, where all ports are its own.
    Network {
        /// The network.
        network: Network,
        /// The port that nobody has been given yet.
        next_port: u16,
    },
}

impl Places {
    /// On this machine.
    pub(crate) const fn machine() -> Self {
        Self::Machine { claims: Vec::new() }
    }

    /// On hosts of a network.
    pub(crate) fn network(network: Network) -> Self {
        let next_port = u16::try_from(PORTS.start).expect("a port");
        Self::Network { network, next_port }
    }

    /// Where somebody can listen.
    pub(crate) fn claim(&mut self, host: Host, choices: &mut Choices) -> SocketAddr {
        match self {
            Self::Machine { claims } => claim_address(choices, claims),
            Self::Network { next_port, .. } => {
                *next_port += 1;
                SocketAddr::from((host.address(), *next_port))
            }
        }
    }

    /// What the programs of a host run in, if that is not what this process runs in.
    pub(crate) fn namespace(&self, host: Host) -> Option<Namespace> {
        match self {
            Self::Machine { .. } => None,
            Self::Network { network, .. } => Some(network.namespace(host)),
        }
    }
}

/// A free address; the lock of a file keeps other tests from taking it while a process of this one is down.
fn claim_address(choices: &mut Choices, claims: &mut Vec<File>) -> SocketAddr {
    let folder = std::env::temp_dir().join(CLAIMS);
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    loop {
        let port = u16::try_from(PORTS.start + choices.below(PORTS.end - PORTS.start)).expect("a port");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let claim = File::create(folder.join(port.to_string())).expect("a file can be made");
        if claim.try_lock().is_ok() && TcpListener::bind(address).is_ok() {
            claims.push(claim);
            return address;
        }
    }
}
