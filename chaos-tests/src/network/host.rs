//! The hosts of a network, and what addresses they have.

use std::fmt;
use std::net::Ipv4Addr;

/// The hosts of a network are this one and those below it.
pub(super) const HOSTS_MAX: u8 = 32;
/// The first member of the control plane is behind this one, and so is the first node behind the other one.
const MEMBERS: u8 = 10;
const NODES: u8 = 20;

/// A host, by the last number of its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host(u8);

impl Host {
    /// Where the test itself is, with its clients.
    pub const TEST: Self = Self(1);

    /// Where a member of the control plane is, from 1 on.
    pub fn member(number: usize) -> Self {
        Self(MEMBERS + place_below(number, NODES - MEMBERS))
    }

    /// Where the agent of a node is, from 1 on.
    pub fn node(number: usize) -> Self {
        Self(NODES + place_below(number, HOSTS_MAX - NODES))
    }

    /// Every host that there may be.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (1..=HOSTS_MAX).map(Self)
    }

    /// The host of this hardware address.
    pub(super) fn of(mac: [u8; 6]) -> Option<Self> {
        let host = Self(mac[5]);
        (mac == host.mac() && host.0 <= HOSTS_MAX).then_some(host)
    }

    /// Its address.
    pub const fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.0)
    }

    /// Its hardware address: one of those that are given locally, with the address in it.
    pub(super) const fn mac(self) -> [u8; 6] {
        let [first, second, third, last] = self.address().octets();
        [2, 0, first, second, third, last]
    }

    /// The end of its cable that is in the switch.
    pub(super) fn port(self) -> String {
        format!("port{}", self.0)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(formatter)
    }
}

fn place_below(number: usize, bound: u8) -> u8 {
    let place = u8::try_from(number).ok().filter(|place| (1..bound).contains(place));
    place.unwrap_or_else(|| panic!("a network has no place for number {number}"))
}
