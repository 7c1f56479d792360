//! What is asked of Linux, through the safe calls of `nix`: other systems have none of it.

pub(super) use system::{join, leave, packets};

#[cfg(target_os = "linux")]
mod system {
    use std::fs::File;
    use std::io;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd as _;

    use nix::ifaddrs::getifaddrs;
    use nix::sched::{CloneFlags, setns, unshare};
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockProtocol, SockType, bind, setsockopt, socket, sockopt::RcvBuf,
    };

    /// What a port keeps until the switch reads it; systems give less, if they are not told otherwise.
    const RECEIVE_BYTES: usize = 4 << 20;

    /// Puts this thread into a new network namespace.
    pub(in super::super) fn leave() -> io::Result<()> {
        Ok(unshare(CloneFlags::CLONE_NEWNET)?)
    }

    /// Puts this thread into a network namespace.
    pub(in super::super) fn join(namespace: &File) -> io::Result<()> {
        Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
    }

    /// Whatever comes out of a device, frame by frame, and what is sent goes in there. Before it is bound it gets frames
    /// of other devices, too. The type is that of the datagrams which the standard library knows: to send and to
    /// receive is the same for all.
    pub(in super::super) fn packets(device: &str) -> io::Result<UdpSocket> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let packets = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
        setsockopt(&packets, RcvBuf, &RECEIVE_BYTES)?;
        let mut addresses = getifaddrs()?.filter(|found| found.interface_name == device);
        let address = addresses.find_map(|found| found.address?.as_link_addr().copied());
        let address = address.ok_or_else(|| io::Error::other(format!("{device} has no address")))?;
        bind(packets.as_raw_fd(), &address)?;
        Ok(UdpSocket::from(packets))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::fs::File;
    use std::io;
    use std::net::UdpSocket;

    pub(in super::super) fn leave() -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(in super::super) fn join(_: &File) -> io::Result<()> {
        leave()
    }

    pub(in super::super) fn packets(_: &str) -> io::Result<UdpSocket> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
