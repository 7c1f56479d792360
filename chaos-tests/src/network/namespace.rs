//! Network namespaces, each with one cable to the switch.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use super::host::Host;
use super::kernel;

/// The end of a host's cable that is at the host.
const DEVICE: &str = "eth0";
/// The namespace of the thread that looks at it.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace; a cheap handle. It is gone with its last handle and its last process.
#[derive(Debug, Clone)]
pub struct Namespace(Arc<File>);

impl Namespace {
    /// Does something in it. Sockets and processes that are made there stay there.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        aside(|| {
            kernel::join(&self.0).expect("a namespace of our own can be joined");
            work()
        })
    }

    /// For programs that are told which namespace they should use.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// On a thread of its own, which alone is in another namespace.
fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The namespace that this process is in, with the test's own cable.
pub(super) fn here() -> Result<Namespace, String> {
    let own = File::open(OWN).map_err(|error| format!("{OWN}: {error}"))?;
    let port = Host::TEST.port();
    ip(&format!("link add {port} type veth peer name {DEVICE}\n{}{}", at_switch(&port), at_host(Host::TEST)))?;
    Ok(Namespace(Arc::new(own)))
}

/// A namespace for a host, whose cable comes out in that of this process.
pub(super) fn beside(host: Host) -> Result<Namespace, String> {
    let made = aside(|| kernel::leave().and_then(|()| File::open(OWN)));
    let made = Namespace(Arc::new(made.map_err(|error| error.to_string())?));
    let port = host.port();
    let cable = format!("link add {port} type veth peer name {DEVICE} netns {}\n", made.path());
    ip(&format!("{cable}{}", at_switch(&port)))?;
    made.within(|| ip(&at_host(host)))?;
    Ok(made)
}

/// No frame is longer than the device says, as if it had to be sent as it is; and nothing is sent that nobody asked for.
const PLAIN: &str = "gso_max_segs 1 addrgenmode none";

fn at_switch(port: &str) -> String {
    format!("link set dev {port} {PLAIN} up\n")
}

/// Hosts know each other's hardware addresses: what is lost between them are packets, and not the questions of one
/// cable, which long roads do not have.
fn at_host(host: Host) -> String {
    let mut batch = format!(
        "link set dev lo up\n\
         link set dev {DEVICE} address {} {PLAIN} up\n\
         address add {host}/24 dev {DEVICE}\n",
        shown(host.mac())
    );
    for other in Host::all().filter(|other| *other != host) {
        let mac = shown(other.mac());
        batch.push_str(&format!("neighbour add {other} lladdr {mac} dev {DEVICE} nud permanent\n"));
    }
    batch
}

fn shown(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Runs `ip` with these commands.
fn ip(batch: &str) -> Result<(), String> {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("ip: {error}"))?;
    let mut commands = child.stdin.take().expect("it was asked for");
    // It says itself why it did not read all of them.
    let _ = commands.write_all(batch.as_bytes());
    drop(commands);
    let output = child.wait_with_output().map_err(|error| format!("ip: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("ip: {}", said.trim())) }
}
