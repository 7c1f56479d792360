//! Runs a program and records, in order, what it asks the kernel to do to the files below one folder.
//!
//! The program is traced (`ptrace`), so what is recorded is what it did, not what it says of itself. A call that could
//! change a file and that is not understood here is kept in [`Recording::unknown`]: the test must not pass over it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A file or folder, over its whole life and all its names.
pub type Node = usize;
/// The folder that is watched; it is there before the program starts.
pub const ROOT: Node = 0;

/// The longest path of the program: far above those that tests make.
const PATH_MAX: usize = 4_096;

/// What happened, in the order in which the kernel finished it.
#[derive(Debug)]
pub enum Event {
    /// A file has these bytes from there on, in memory.
    Write { node: Node, offset: u64, bytes: Vec<u8> },
    /// A file has this length.
    Truncate { node: Node, length: u64 },
    /// A name was given: of a new file or folder, or of one that had another name.
    Name { folder: Node, name: OsString, node: Node, is_folder: bool, from: Option<(Node, OsString)> },
    /// A name was taken away.
    Unname { folder: Node, name: OsString },
    /// Everything done to the node by events before `upto` is on the disk.
    Sync { node: Node, upto: usize, data_only: bool },
    /// The program wrote this to its standard output.
    Said(String),
}

impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { node, offset, bytes } => {
                write!(out, "write of {} bytes at {offset} of {node}", bytes.len())
            }
            Self::Truncate { node, length } => write!(out, "truncate {node} to {length}"),
            Self::Name { folder, name, node, from, .. } => {
                write!(out, "name {node} {} in {folder}, before: {from:?}", name.display())
            }
            Self::Unname { folder, name } => write!(out, "unname {} in {folder}", name.display()),
            Self::Sync { node, upto, .. } => write!(out, "sync {node} up to event {upto}"),
            Self::Said(said) => write!(out, "said {}", said.trim()),
        }
    }
}

/// What was recorded.
#[derive(Debug, Default)]
pub struct Recording {
    /// In order.
    pub events: Vec<Event>,
    /// Calls that may have changed files and are not understood.
    pub unknown: Vec<String>,
}

/// A program that stands still until it is followed.
pub struct Stopped {
    child: Child,
    root: PathBuf,
}

/// Starts a program in a stopped state. An error means that this machine does not allow tracing.
pub fn start(program: &mut Command, root: &Path) -> io::Result<Stopped> {
    // The shell waits for a line, so that nothing of the program is missed.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "read go && exec \"$@\"", "sh"]).arg(program.get_program()).args(program.get_args());
    for (key, value) in program.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let pid = pid_of(&child);
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_EXITKILL;
    let mut stopped = Stopped { child, root: root.canonicalize()? };
    let seized = ptrace::seize(pid, options).and_then(|()| ptrace::interrupt(pid));
    if let Err(error) = seized {
        stopped.child.kill()?;
        stopped.child.wait()?;
        return Err(error.into());
    }
    Ok(stopped)
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process id is an i32"))
}

impl Stopped {
    /// Lets the program run to its end. Must be called on the thread that started it.
    pub fn follow(mut self) -> io::Result<Recording> {
        if let Some(mut stdin) = self.child.stdin.take() {
            stdin.write_all(b"go\n")?;
        }
        let leader = pid_of(&self.child);
        let mut tracer = Tracer::new(self.root);
        loop {
            // Only what this thread traces: other tests have children of their own.
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::PtraceSyscall(pid)) => {
                    tracer.stop(pid);
                    resume(pid, None)?;
                }
                Ok(WaitStatus::PtraceEvent(pid, ..)) => resume(pid, None)?,
                Ok(WaitStatus::Stopped(pid, signal)) => resume(pid, Some(signal))?,
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) if pid == leader => break,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => break,
                Err(error) => return Err(error.into()),
            }
        }
        // It was waited for above.
        let _ = self.child.wait();
        Ok(tracer.recording)
    }
}

fn resume(pid: Pid, signal: Option<nix::sys::signal::Signal>) -> io::Result<()> {
    match ptrace::syscall(pid, signal) {
        // It was killed meanwhile; its end is reported by itself.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A call that a thread is in.
#[derive(Clone, Copy)]
struct Call {
    number: i64,
    arguments: [u64; 5],
    /// Events there were when it began.
    began: usize,
}

struct Tracer {
    root: PathBuf,
    names: BTreeMap<PathBuf, Node>,
    folders: BTreeSet<Node>,
    next: Node,
    inside: BTreeMap<Pid, Call>,
    recording: Recording,
}

impl Tracer {
    fn new(root: PathBuf) -> Self {
        let names = BTreeMap::from([(root.clone(), ROOT)]);
        Self {
            root,
            names,
            folders: BTreeSet::from([ROOT]),
            next: ROOT + 1,
            inside: BTreeMap::new(),
            recording: Recording::default(),
        }
    }

    /// A thread stands at the beginning or at the end of a call.
    fn stop(&mut self, pid: Pid) {
        // It may have been killed meanwhile.
        let Ok(registers) = ptrace::getregs(pid) else { return };
        let result = registers.rax.cast_signed();
        match self.inside.remove(&pid) {
            None if result == -i64::from(libc::ENOSYS) => {
                let call = Call {
                    number: registers.orig_rax.cast_signed(),
                    arguments: [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8],
                    began: self.recording.events.len(),
                };
                self.inside.insert(pid, call);
            }
            // The end of the call in which the thread was when the tracing began.
            None => {}
            Some(call) => self.end(pid, call, result),
        }
    }

    fn end(&mut self, pid: Pid, call: Call, result: i64) {
        if result < 0 {
            return;
        }
        let [first, second, third, fourth, _] = call.arguments;
        match call.number {
            libc::SYS_open => self.opened(self.path(pid, None, first), second),
            libc::SYS_openat => self.opened(self.path(pid, Some(first), second), third),
            libc::SYS_mkdir => self.made(self.path(pid, None, first), true),
            libc::SYS_mkdirat => self.made(self.path(pid, Some(first), second), true),
            libc::SYS_rename => self.renamed(self.path(pid, None, first), self.path(pid, None, second)),
            libc::SYS_renameat | libc::SYS_renameat2 => {
                self.renamed(self.path(pid, Some(first), second), self.path(pid, Some(third), fourth));
            }
            libc::SYS_unlink | libc::SYS_rmdir => self.unnamed(self.path(pid, None, first)),
            libc::SYS_unlinkat => self.unnamed(self.path(pid, Some(first), second)),
            libc::SYS_write => self.wrote(pid, first, second, result, None),
            libc::SYS_pwrite64 => self.wrote(pid, first, second, result, Some(fourth)),
            libc::SYS_ftruncate => {
                if let Some(node) = self.node(pid, first) {
                    self.recording.events.push(Event::Truncate { node, length: second });
                }
            }
            libc::SYS_fsync | libc::SYS_fdatasync => {
                if let Some(node) = self.node(pid, first) {
                    let data_only = call.number == libc::SYS_fdatasync;
                    self.recording.events.push(Event::Sync { node, upto: call.began, data_only });
                }
            }
            other => self.doubt(pid, other, call.arguments),
        }
    }

    /// Keeps a call that may have changed a file below the root in a way that is not recorded.
    fn doubt(&mut self, pid: Pid, number: i64, [first, _, third, fourth, fifth]: [u64; 5]) {
        let writes_shared = third & libc::PROT_WRITE as u64 != 0 && fourth & libc::MAP_SHARED as u64 != 0;
        let descriptor = match number {
            libc::SYS_writev | libc::SYS_pwritev | libc::SYS_pwritev2 | libc::SYS_fallocate => first,
            libc::SYS_sendfile => first,
            libc::SYS_copy_file_range | libc::SYS_splice => third,
            libc::SYS_mmap if writes_shared => fifth,
            libc::SYS_io_uring_setup | libc::SYS_sync | libc::SYS_syncfs => {
                return self.recording.unknown.push(format!("system call {number}"));
            }
            libc::SYS_truncate | libc::SYS_link | libc::SYS_linkat | libc::SYS_symlink | libc::SYS_creat => {
                return self.recording.unknown.push(format!("system call {number}"));
            }
            _ => return,
        };
        if let Some(node) = self.node(pid, descriptor) {
            self.recording.unknown.push(format!("system call {number} on file {node}"));
        }
    }

    fn opened(&mut self, path: Option<PathBuf>, flags: u64) {
        let Some(path) = path.filter(|path| path.starts_with(&self.root)) else { return };
        let has = |flag: i32| flags & flag as u64 != 0;
        match self.names.get(&path) {
            None if has(libc::O_CREAT) => self.made(Some(path), false),
            Some(node) if has(libc::O_TRUNC) => {
                self.recording.events.push(Event::Truncate { node: *node, length: 0 });
            }
            _ => {}
        }
    }

    fn made(&mut self, path: Option<PathBuf>, is_folder: bool) {
        let Some((folder, name, path)) = self.place(path) else { return };
        let node = self.next;
        self.next += 1;
        self.names.insert(path, node);
        if is_folder {
            self.folders.insert(node);
        }
        self.recording.events.push(Event::Name { folder, name, node, is_folder, from: None });
    }

    fn renamed(&mut self, from: Option<PathBuf>, to: Option<PathBuf>) {
        let (Some((old_folder, old_name, from)), Some((folder, name, to))) = (self.place(from), self.place(to))
        else {
            return;
        };
        let moved: Vec<(PathBuf, Node)> = self
            .names
            .iter()
            .filter(|(path, _)| path.starts_with(&from))
            .map(|(path, node)| (path.clone(), *node))
            .collect();
        let Some(node) = self.names.get(&from).copied() else { return };
        self.names.retain(|path, _| !path.starts_with(&from) && !path.starts_with(&to));
        for (path, node) in moved {
            let rest = path.strip_prefix(&from).expect("it starts with it");
            let path = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
            self.names.insert(path, node);
        }
        let is_folder = self.folders.contains(&node);
        let from = Some((old_folder, old_name));
        self.recording.events.push(Event::Name { folder, name, node, is_folder, from });
    }

    fn unnamed(&mut self, path: Option<PathBuf>) {
        let Some((folder, name, path)) = self.place(path) else { return };
        self.names.remove(&path);
        self.recording.events.push(Event::Unname { folder, name });
    }

    fn wrote(&mut self, pid: Pid, descriptor: u64, address: u64, length: i64, offset: Option<u64>) {
        let length = usize::try_from(length).expect("it did not fail");
        if descriptor == 1 {
            let said = String::from_utf8_lossy(&memory(pid, address, length)).into_owned();
            return self.recording.events.push(Event::Said(said));
        }
        let Some(node) = self.node(pid, descriptor) else { return };
        // The position of the descriptor has moved behind the bytes; that holds for appending too.
        let offset = offset.unwrap_or_else(|| position(pid, descriptor) - length as u64);
        let bytes = memory(pid, address, length);
        self.recording.events.push(Event::Write { node, offset, bytes });
    }

    /// The node behind a descriptor, if it is one below the root.
    fn node(&self, pid: Pid, descriptor: u64) -> Option<Node> {
        let path = fs::read_link(format!("/proc/{pid}/fd/{}", descriptor.cast_signed() as i32)).ok()?;
        self.names.get(&path).copied()
    }

    /// The folder and the name of a path below the root.
    fn place(&self, path: Option<PathBuf>) -> Option<(Node, OsString, PathBuf)> {
        let path = path.filter(|path| path.starts_with(&self.root))?;
        let folder = self.names.get(path.parent()?).copied()?;
        Some((folder, path.file_name()?.to_owned(), path))
    }

    fn path(&self, pid: Pid, folder: Option<u64>, address: u64) -> Option<PathBuf> {
        let path = PathBuf::from(OsString::from_vec(text(pid, address)));
        if path.is_absolute() {
            return Some(path);
        }
        let base = match folder.map(|folder| folder as i32) {
            None | Some(libc::AT_FDCWD) => format!("/proc/{pid}/cwd"),
            Some(folder) => format!("/proc/{pid}/fd/{folder}"),
        };
        Some(fs::read_link(base).ok()?.join(path))
    }
}

fn memory(pid: Pid, address: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let file = File::open(format!("/proc/{pid}/mem")).expect("the memory of a traced process can be read");
    file.read_exact_at(&mut bytes, address).expect("the kernel has read it too");
    bytes
}

/// The bytes up to the first zero.
fn text(pid: Pid, address: u64) -> Vec<u8> {
    let file = File::open(format!("/proc/{pid}/mem")).expect("the memory of a traced process can be read");
    let mut bytes = vec![0; PATH_MAX];
    // A path may end at the end of the last mapped page.
    let count = file.read_at(&mut bytes, address).unwrap_or_default();
    bytes.truncate(count);
    bytes.into_iter().take_while(|byte| *byte != 0).collect()
}

fn position(pid: Pid, descriptor: u64) -> u64 {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")).expect("the descriptor is open");
    let position = info.lines().find_map(|line| line.strip_prefix("pos:"));
    position.and_then(|text| text.trim().parse().ok()).expect("it has a position")
}
