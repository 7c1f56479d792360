//! One process of a development cluster: how it is started, how it says that it is ready, how it ends.
//!
//! A child first becomes `ctl dev --child-of`, which asks the kernel to end it with its parent and then becomes the
//! program: the request survives that step, and no unsafe code between fork and exec is needed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::SystemTime;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::process::{Child, Command};
use trust::Identity;
use zeroize::Zeroizing;

use super::folder::{self, Folder};
use crate::failure::Failure;

/// Settings of the environment that would send a child elsewhere than its flags say.
const FOREIGN_SETTINGS: [&str; 2] = ["WEFT_CONFIG", "WEFT_ADVERTISE"];
/// A development cluster is left alone for days, and must start again then.
const CERTIFICATE_LIFETIME: &str = "720h";

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// The control plane.
    Member {
        /// Where its API listens.
        listen: SocketAddr,
    },
    /// A node's agent.
    Agent {
        /// Where the control plane's API listens.
        api: SocketAddr,
        /// Where its ingress listens.
        ingress: SocketAddr,
        /// Whether guests may reach addresses that are not public.
        allow_private_egress: bool,
    },
}

/// How one process is run.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    /// Its name: `control-plane`, `n1`.
    pub(super) name: String,
    /// What it is.
    pub(super) role: Role,
    program: PathBuf,
    ctl: PathBuf,
    data: PathBuf,
    log: PathBuf,
    pid_file: PathBuf,
}

/// What a process says when it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Ready {
    pid: u32,
    /// Where its API listens.
    pub(super) api_address: SocketAddr,
    /// Where its ingress listens; an agent's.
    #[serde(default)]
    pub(super) ingress_address: Option<SocketAddr>,
}

/// A process that was started.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Its id.
    pub(super) pid: u32,
    log: PathBuf,
    log_start: u64,
    pid_file: PathBuf,
    ready_file: PathBuf,
}

impl Recipe {
    /// How `role` is run as `name`, with its data in `folder`.
    pub(super) fn new(name: &str, role: Role, program: &Path, ctl: &Path, folder: &Folder) -> Self {
        Self {
            name: name.to_owned(),
            role,
            program: program.to_owned(),
            ctl: ctl.to_owned(),
            data: folder.data_of(name),
            log: folder.log_of(name),
            pid_file: folder.pid_of(name),
        }
    }

    /// Listens again where it was listened before, so that the addresses which people were told stay true.
    pub(super) fn keep_addresses(&mut self, ready: &Ready) {
        match (&mut self.role, ready.ingress_address) {
            (Role::Member { listen }, _) => *listen = ready.api_address,
            (Role::Agent { ingress, .. }, Some(address)) => *ingress = address,
            (Role::Agent { .. }, None) => {}
        }
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["--data-dir".into(), self.data.clone().into()];
        match &self.role {
            Role::Member { listen } => {
                words.extend(["--init".into(), "--listen".into(), listen.to_string().into()]);
                words.extend(["--certificate-lifetime".into(), CERTIFICATE_LIFETIME.into()]);
            }
            Role::Agent { api, ingress, allow_private_egress } => {
                // Only the control plane asks for it, and learns the port from the agent.
                let own = SocketAddr::new(ingress.ip(), 0);
                words.extend(["--name".into(), self.name.clone().into()]);
                words.extend(["--control-plane".into(), format!("https://{api}").into()]);
                words.extend(["--join-token-file".into(), self.token_file().into()]);
                words.extend(["--api-listen".into(), own.to_string().into()]);
                words.extend(["--ingress-listen".into(), ingress.to_string().into()]);
                words.extend(allow_private_egress.then(|| "--allow-private-egress".into()));
            }
        }
        words
    }

    /// Where an agent finds its join token.
    pub(super) fn token_file(&self) -> PathBuf {
        self.data.join("join-token")
    }

    /// Whether its process has an identity that is still good.
    pub(super) fn has_identity(&self) -> bool {
        let text = fs::read_to_string(self.data.join("identity.pem")).map(Zeroizing::new);
        let identity = text.ok().and_then(|text| Identity::from_pem(&text).ok());
        identity.is_some_and(|identity| identity.expires() > SystemTime::now())
    }

    fn ready_file(&self) -> PathBuf {
        self.data.join(match self.role {
            Role::Member { .. } => "ready.json",
            Role::Agent { .. } => "agent.json",
        })
    }

    /// Begins a new log.
    pub(super) fn rotate_log(&self) -> Result<(), Failure> {
        Ok(folder::rotate(&self.log)?)
    }

    /// Starts it.
    pub(super) fn start(&self) -> Result<Process, Failure> {
        let failed = |error: io::Error| Failure::refused(format!("{} cannot be started: {error}", self.name));
        fs::create_dir_all(&self.data).map_err(failed)?;
        let log = File::options().create(true).append(true).open(&self.log).map_err(failed)?;
        let log_start = log.metadata().map_err(failed)?.len();
        let mut command = Command::new(&self.ctl);
        command.args(["dev", "--child-of", &std::process::id().to_string(), "--"]);
        command.arg(&self.program).args(self.arguments());
        for setting in FOREIGN_SETTINGS {
            command.env_remove(setting);
        }
        // A group of its own: Ctrl-C reaches `ctl dev` only, which ends its children in order.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log);
        let child = command.spawn().map_err(failed)?;
        let Some(pid) = child.id() else {
            return Err(Failure::refused(format!("{} ended at once", self.name)));
        };
        folder::replace(&self.pid_file, &format!("{pid}\n")).map_err(failed)?;
        Ok(Process {
            child,
            pid,
            log: self.log.clone(),
            log_start,
            pid_file: self.pid_file.clone(),
            ready_file: self.ready_file(),
        })
    }

    /// Where its log is.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }
}

impl Process {
    /// What it says when it is ready. A file that another process left there does not count.
    pub(super) fn ready(&self) -> Option<Ready> {
        let text = fs::read(&self.ready_file).ok()?;
        serde_json::from_slice::<Ready>(&text).ok().filter(|ready| ready.pid == self.pid)
    }

    /// Waits until it has ended. Cancel safe.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        // The id may be another process's from now on.
        let _ = fs::remove_file(&self.pid_file);
        Ok(status)
    }

    /// Asks it to end, or ends it.
    pub(super) fn signal(&self, signal: Signal) {
        // A child that was waited for has no id any more; until then its id is nobody else's.
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may end at this moment, which is what is wanted.
            let _ = kill_process(pid, signal);
        }
    }

    /// The last lines it wrote.
    pub(super) fn last_words(&self) -> Vec<String> {
        folder::tail(&self.log, self.log_start)
    }
}

/// How a process ended, as people read it.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "it ended by itself".to_owned(),
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}

/// Makes this process the program of `words`, to be ended when `parent` ends. Returns only if that fails.
pub(super) fn become_program(parent: u32, words: &[OsString]) -> Failure {
    let Some((program, arguments)) = words.split_first() else {
        return Failure::Usage("--child-of is for `ctl dev` itself".to_owned());
    };
    if let Err(failure) = end_with(parent) {
        return failure;
    }
    let error = std::process::Command::new(program).args(arguments).exec();
    Failure::refused(format!("{} cannot be started: {error}", Path::new(program).display()))
}

/// Asks the kernel to end this process when its parent does.
#[cfg(target_os = "linux")]
fn end_with(parent: u32) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM)).map_err(io::Error::from)?;
    // It may have ended before the kernel was asked.
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    if now.and_then(|pid| u32::try_from(pid).ok()) == Some(parent) {
        return Ok(());
    }
    Err(Failure::refused("the `ctl dev` that started this process is gone"))
}

/// Elsewhere children outlive a parent that is killed; the next run refuses to share their data directories.
#[cfg(not(target_os = "linux"))]
fn end_with(_parent: u32) -> Result<(), Failure> {
    Ok(())
}

/// The addresses of `count` nodes from `first` on: one port after the other, or a free one for each.
pub(super) fn ingress_addresses(first: SocketAddr, count: u16) -> Result<Vec<SocketAddr>, Failure> {
    let address = |nth: u16| match first.port() {
        0 => Some(first),
        port => port.checked_add(nth).map(|port| SocketAddr::new(first.ip(), port)),
    };
    let addresses: Option<Vec<SocketAddr>> = (0..count).map(address).collect();
    addresses.ok_or_else(|| {
        Failure::Usage(format!("--ingress {first}: there are not {count} ports from {} on", first.port()))
    })
}

/// Refuses an address that others could reach: nothing here is encrypted.
pub(super) fn check_loopback(flag: &str, address: SocketAddr) -> Result<(), Failure> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    let message = format!("{flag} {address}: `ctl dev` listens on loopback addresses only");
    Err(Failure::Usage(format!("{message}, as in 127.0.0.1:{}", address.port())))
}

/// Refuses addresses that are in use.
pub(super) fn check_free(wanted: &[(&str, SocketAddr)]) -> Result<(), Failure> {
    // Held until all are tried, so that two flags with one address are found too.
    let mut held = Vec::new();
    for (flag, address) in wanted {
        match std::net::TcpListener::bind(address) {
            Ok(listener) => held.push(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let free = SocketAddr::new(address.ip(), 0);
                let help = format!(
                    "stop what listens there, or give another address: {flag} {free} takes a free port"
                );
                return Err(Failure::refused(format!("{flag} {address} is in use")).help(help));
            }
            Err(error) => return Err(Failure::refused(format!("{flag} {address} cannot be used: {error}"))),
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_the_next_port_or_a_free_one() {
        let addresses = |first: &str, count| {
            let found = ingress_addresses(first.parse().unwrap(), count);
            found.map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(addresses("127.0.0.1:8000", 2).unwrap(), ["127.0.0.1:8000", "127.0.0.1:8001"]);
        assert_eq!(addresses("[::1]:0", 2).unwrap(), ["[::1]:0", "[::1]:0"]);
        assert!(matches!(addresses("127.0.0.1:65535", 2), Err(Failure::Usage(_))));
    }

    #[test]
    fn an_address_in_use_is_refused_by_the_flag_that_names_it() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let refused = check_free(&[("--ingress", address)]).unwrap_err().to_string();
        assert_eq!(refused, format!("--ingress {address} is in use"));
        let free = "127.0.0.1:0".parse().unwrap();
        check_free(&[("--listen", free), ("--ingress", free)]).unwrap();
        drop(held);
        let twice = check_free(&[("--listen", address), ("--ingress", address)]).unwrap_err().to_string();
        assert!(twice.starts_with("--ingress "), "{twice}");
        let outside = check_loopback("--listen", "0.0.0.0:7100".parse().unwrap()).unwrap_err();
        assert!(matches!(outside, Failure::Usage(_)), "{outside}");
    }

    #[test]
    fn addresses_are_kept_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let place = Folder::open(folder.path()).unwrap();
        let free = "127.0.0.1:0".parse().unwrap();
        let role =
            Role::Agent { api: "127.0.0.1:7100".parse().unwrap(), ingress: free, allow_private_egress: true };
        let mut recipe = Recipe::new("n1", role, Path::new("p"), Path::new("c"), &place);
        let text = br#"{"pid": 7, "api_address": "127.0.0.1:1", "ingress_address": "127.0.0.1:8000"}"#;
        recipe.keep_addresses(&serde_json::from_slice(text).unwrap());
        let words: Vec<String> =
            recipe.arguments().iter().skip(2).map(|word| word.to_string_lossy().into_owned()).collect();
        let expected = format!(
            "--name n1 --control-plane https://127.0.0.1:7100 --join-token-file {} --api-listen 127.0.0.1:0 \
             --ingress-listen 127.0.0.1:8000 --allow-private-egress",
            recipe.token_file().display()
        );
        assert_eq!(words.join(" "), expected);
        assert!(!recipe.has_identity());
    }
}
