//! The switch: one thread that reads the frames of all hosts and sends each on when its time has come.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep_until;

use super::conditions::Conditions;
use super::frame;
use super::host::Host;
use super::kernel;
use super::wire::{Counters, Wire};
use crate::seed::Choices;

/// No frame is longer: an Ethernet header and what devices take.
const FRAME_MAX_BYTES: usize = 14 + 1_500;

/// The switch; its thread ends when it is dropped.
#[derive(Debug)]
pub(super) struct Switch {
    shared: Arc<Shared>,
    runtime: Handle,
    thread: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

#[derive(Debug)]
struct Shared {
    core: Mutex<Core>,
    /// What waits has changed.
    changed: Notify,
}

#[derive(Debug)]
struct Core {
    seed: u64,
    ports: BTreeMap<Host, Port>,
    wires: BTreeMap<(Host, Host), Wire>,
    waiting: BinaryHeap<Reverse<Waiting>>,
}

#[derive(Debug)]
struct Port {
    packets: Arc<UdpSocket>,
    /// Frames of its host that were read.
    read: u64,
    /// Frames for its host that its cable did not take.
    unsent: u64,
}

/// A frame on its way; the first is the one that is due first, and was sent first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due: Instant,
    number: u64,
    ends: (Host, Host),
    frame: Vec<u8>,
}

impl Switch {
    pub(super) fn start(seed: u64) -> io::Result<Self> {
        let core = Core { seed, ports: BTreeMap::new(), wires: BTreeMap::new(), waiting: BinaryHeap::new() };
        let shared = Arc::new(Shared { core: Mutex::new(core), changed: Notify::new() });
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let clock = send_on(shared.clone());
        let thread = std::thread::Builder::new().name("switch".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = clock => {}
                    // Dropped or sent, it is the end.
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { shared, runtime: handle, thread: Some((stop, thread)) })
    }

    /// Takes the cable of a host.
    pub(super) fn plug_in(&self, host: Host) -> Result<(), String> {
        let port = host.port();
        let packets = kernel::packets(&port).map_err(|error| format!("packets of {port}: {error}"))?;
        let of_runtime = self.runtime.enter();
        let packets = UdpSocket::from_std(packets).map_err(|error| format!("packets of {port}: {error}"))?;
        drop(of_runtime);
        let packets = Arc::new(packets);
        let plugged = Port { packets: packets.clone(), read: 0, unsent: 0 };
        let earlier = self.shared.core().ports.insert(host, plugged);
        assert!(earlier.is_none(), "{host} is plugged in already");
        self.runtime.spawn(read(self.shared.clone(), host, packets));
        Ok(())
    }

    pub(super) fn becomes(&self, from: Host, to: Host, conditions: Conditions) {
        self.shared.core().wire((from, to)).becomes(conditions);
    }

    pub(super) fn heals(&self) {
        self.shared.core().wires.values_mut().for_each(|wire| wire.becomes(Conditions::GOOD));
    }

    pub(super) fn seen(&self, from: Host, to: Host) -> Counters {
        self.shared.core().wire((from, to)).counters()
    }

    /// Frames that came out of cables and were not read, and those that did not get into one.
    pub(super) fn missed(&self) -> u64 {
        let devices = std::fs::read_to_string("/proc/net/dev").expect("the system counts what devices receive");
        let core = self.shared.core();
        let missed = core.ports.iter().map(|(host, port)| {
            // Some may have been read since it was counted.
            received(&devices, &host.port()).saturating_sub(port.read) + port.unsent
        });
        missed.sum()
    }
}

/// How many frames came out of a device, in the table of the system.
fn received(devices: &str, port: &str) -> u64 {
    let mut lines = devices.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(name, _)| name.trim() == port);
    let packets = found.and_then(|(_, numbers)| numbers.split_whitespace().nth(1)?.parse().ok());
    packets.unwrap_or_else(|| panic!("no {port} in {devices}"))
}

impl Drop for Switch {
    fn drop(&mut self) {
        let Some((stop, thread)) = self.thread.take() else { return };
        // It may have ended already, by a panic of its own, which is told by the next test of what arrives.
        let _ = stop.send(());
        let _ = thread.join();
    }
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    fn wire(&mut self, ends: (Host, Host)) -> &mut Wire {
        let seed = self.seed;
        self.wires.entry(ends).or_insert_with(|| {
            let [from, to] = [ends.0, ends.1].map(|host| u64::from(u32::from(host.address())));
            Wire::new(Choices::of(seed ^ (from << 32) ^ to).number())
        })
    }

    /// Takes a frame that came out of the cable of a host. Whether there is more to wait for than before.
    fn takes(&mut self, host: Host, frame: &mut [u8], now: Instant) -> bool {
        // Others came before the port was bound.
        if frame::sender(frame) != Some(host) {
            return false;
        }
        assert!(frame.len() <= FRAME_MAX_BYTES, "{host} sends what no cable carries");
        if let Some(port) = self.ports.get_mut(&host) {
            port.read += 1;
        }
        let Some(receiver) = frame::receiver(frame).filter(|found| self.ports.contains_key(found)) else {
            return false;
        };
        let ends = (host, receiver);
        let wire = self.wire(ends);
        let is_first = wire.is_idle();
        let Some(arrival) = wire.takes(frame.len(), now) else { return false };
        frame::complete(frame);
        if is_first && arrival.due <= now {
            (0..arrival.copies).for_each(|_| self.sends(ends, arrival.number, frame));
            return false;
        }
        for _ in 0..arrival.copies {
            let (due, number) = (arrival.due, arrival.number);
            self.waiting.push(Reverse(Waiting { due, number, ends, frame: frame.to_vec() }));
        }
        true
    }

    /// Sends on what is due; when the next frame is.
    fn sends_due(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse(next)) = self.waiting.peek() {
            if next.due > now {
                return Some(next.due);
            }
            let Some(Reverse(Waiting { ends, number, frame, .. })) = self.waiting.pop() else { break };
            self.sends(ends, number, &frame);
        }
        None
    }

    fn sends(&mut self, ends: (Host, Host), number: u64, frame: &[u8]) {
        if !self.wire(ends).arrives(number, frame.len()) {
            return;
        }
        if let Some(port) = self.ports.get_mut(&ends.1) {
            port.unsent += u64::from(port.packets.try_send(frame).is_err());
        }
    }
}

/// Reads what comes out of the cable of a host.
async fn read(shared: Arc<Shared>, host: Host, packets: Arc<UdpSocket>) {
    let mut buffer = [0; FRAME_MAX_BYTES + 1];
    loop {
        // What a device says once, of its state, is no frame.
        let Ok(length) = packets.recv(&mut buffer).await else { continue };
        if shared.core().takes(host, &mut buffer[..length], Instant::now()) {
            shared.changed.notify_one();
        }
    }
}

/// Sends on what waits when its time has come.
async fn send_on(shared: Arc<Shared>) {
    loop {
        let next = shared.core().sends_due(Instant::now());
        match next {
            // Both may be dropped: what is due is read anew.
            Some(due) => tokio::select! {
                () = sleep_until(due.into()) => {}
                () = shared.changed.notified() => {}
            },
            None => shared.changed.notified().await,
        }
    }
}
