//! A network of hosts for the programs: each host is a network namespace, and a switch in this process joins them.
//!
//! Every frame between two hosts passes the switch (`switch.rs`), which loses, delays, doubles or holds it back as the
//! [`Conditions`] from the one to the other say: for each pair of hosts and each direction by itself, by choices that come
//! from the test's seed, and counted, so that a test can show that its fault has happened. What the programs see is what
//! they would see of a bad network: TCP sends again, connections stay open and say nothing, handshakes take long.
//!
//! The test is a host too, at [`Host::TEST`], so that its clients ask as they ask anywhere. For that it runs itself once
//! more, in a user namespace and a network namespace of its own ([`Network::enter`]): nothing of the machine's network is
//! touched, no rights are needed where users may make namespaces, and with the last process all of it is gone. Needed are
//! Linux with network namespaces, veth and packet sockets, and `unshare` and `ip` on the path. Where one of them is
//! refused, the test says `SKIPPED` and why; `WEFT_NETWORKS_REQUIRED=1` makes that a failure.

mod conditions;
mod frame;
mod host;
mod kernel;
mod namespace;
mod switch;
mod wire;

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

pub use conditions::{Conditions, Rate};
pub use host::Host;
pub use namespace::Namespace;
pub use wire::Counters;

use crate::say;
use crate::seed::Choices;
use switch::Switch;

/// Says to a test that it runs in namespaces of its own.
const INSIDE: &str = "CHAOS_NETWORK_INSIDE";
/// Makes it a failure that the machine lets no test have a network.
const REQUIRED: &str = "WEFT_NETWORKS_REQUIRED";
/// A user namespace in which the caller has every right, and a network namespace of it.
const UNSHARE: [&str; 2] = ["--map-root-user", "--net"];

/// Hosts and the switch between them; a cheap handle. With the last one the switch ends.
#[derive(Debug, Clone)]
pub struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hosts: Mutex<BTreeMap<Host, Namespace>>,
    switch: Switch,
}

impl Network {
    /// Runs the test of this name in namespaces of its own. There it is given a network in which it is the only host so
    /// far, and its choices. Here it is given nothing, and the test was passed or skipped when this returns.
    pub fn enter(test: &str) -> Option<(Self, Choices)> {
        if std::env::var_os(INSIDE).is_none() {
            outside(test);
            return None;
        }
        let mut choices = Choices::new();
        match Self::make(choices.number()) {
            Ok(network) => Some((network, choices)),
            Err(why) => {
                skip(test, &why);
                None
            }
        }
    }

    fn make(seed: u64) -> Result<Self, String> {
        let switch = Switch::start(seed).map_err(|error| format!("no switch can be started: {error}"))?;
        let hosts = BTreeMap::from([(Host::TEST, namespace::here()?)]);
        switch.plug_in(Host::TEST)?;
        Ok(Self(Arc::new(Inner { hosts: Mutex::new(hosts), switch })))
    }

    /// The namespace of a host, which is made when it is first asked for.
    pub fn namespace(&self, host: Host) -> Namespace {
        let mut hosts = self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let made = hosts.entry(host).or_insert_with(|| {
            let made = namespace::beside(host).unwrap_or_else(|why| panic!("{host} cannot be made: {why}"));
            self.0.switch.plug_in(host).unwrap_or_else(|why| panic!("{host} cannot be plugged in: {why}"));
            made
        });
        made.clone()
    }

    /// From now on this becomes of what one host sends to another.
    pub fn becomes(&self, from: Host, to: Host, conditions: Conditions) {
        self.0.switch.becomes(from, to, conditions);
    }

    /// From now on this becomes of what these send to each other.
    pub fn becomes_among(&self, hosts: &[Host], conditions: Conditions) {
        for (from, to) in pairs(hosts) {
            self.becomes(from, to, conditions);
        }
    }

    /// From now on this becomes of what one host and each of the others send to each other.
    pub fn becomes_between(&self, host: Host, others: &[Host], conditions: Conditions) {
        for other in others {
            self.becomes(host, *other, conditions);
            self.becomes(*other, host, conditions);
        }
    }

    /// From now on everything arrives.
    pub fn heals(&self) {
        self.0.switch.heals();
    }

    /// What became of the frames from one host to another.
    pub fn seen(&self, from: Host, to: Host) -> Counters {
        self.0.switch.seen(from, to)
    }

    /// What became of all frames that these sent to each other.
    pub fn seen_among(&self, hosts: &[Host]) -> Counters {
        pairs(hosts).map(|(from, to)| self.seen(from, to)).sum()
    }

    /// Frames that hosts have sent and the switch has not got: the machine was too busy, and nobody asked for that.
    pub fn missed(&self) -> u64 {
        self.0.switch.missed()
    }

    /// A socket at a host.
    pub fn socket(&self, host: Host) -> UdpSocket {
        let address = SocketAddr::from((host.address(), 0));
        self.namespace(host).within(|| UdpSocket::bind(address)).expect("a host has its address")
    }
}

/// Each of them with each of the others, in both orders.
fn pairs(hosts: &[Host]) -> impl Iterator<Item = (Host, Host)> + '_ {
    hosts.iter().flat_map(|from| hosts.iter().filter(move |to| *to != from).map(|to| (*from, *to)))
}

/// Runs the test again, in namespaces of its own.
fn outside(test: &str) {
    // What fails in these namespaces is for the test to say; that they are refused is no fault of ours.
    let why = match unshared(&["true"]) {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    };
    if let Some(why) = why {
        return skip(test, &why);
    }
    let program = std::env::current_exe().expect("a test knows its own path");
    let program = program.to_str().expect("a path of text");
    let again = ["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"];
    let output = unshared(&[&[program], &again[..]].concat()).expect("what was just run can be run again");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    let is_skip = |line: &&str| line.starts_with("SKIPPED");
    match said.lines().find(is_skip) {
        Some(skipped) => say(skipped),
        None => say(&said),
    }
    assert!(output.status.success(), "{test} failed in its namespaces, as is said above");
    assert!(said.contains("1 passed"), "no test of this file is called {test}");
}

fn unshared(command: &[&str]) -> std::io::Result<Output> {
    let mut unshare = Command::new("unshare");
    unshare.args(UNSHARE).arg("--").args(command).env(INSIDE, "1").stdin(Stdio::null()).output()
}

fn skip(test: &str, why: &str) {
    say(&format!("SKIPPED {test}: this machine lets no test have a network: {why}"));
    assert!(std::env::var_os(REQUIRED).is_none(), "networks are required here: {why}");
}
