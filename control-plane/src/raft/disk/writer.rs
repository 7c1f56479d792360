//! The thread that owns a disk: group commit, answers in order, and a full stop at the first error.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::{Disk, Write};

/// Called once the writes of a request are durable, or cannot be made so.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Requests that may wait for the disk; more make the callers wait.
const QUEUE_MAX: usize = 4_096;
/// Requests that share one barrier at most, so that the first of them does not wait for ever.
const GROUP_MAX: usize = 1_024;
/// Bytes that share one barrier at most, but for a single request that has more.
const GROUP_MAX_BYTES: usize = 8 << 20;

struct Request {
    writes: Vec<Write>,
    done: Done,
}

impl Request {
    fn bytes(&self) -> usize {
        self.writes.iter().map(Write::bytes).sum()
    }
}

/// A handle on the thread. The thread ends when the last request is done and the handle is dropped.
#[derive(Debug)]
pub struct Writer {
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
    /// Wakes the task that stands for the thread where time is simulated.
    #[cfg(test)]
    queued: Option<std::sync::Arc<tokio::sync::Notify>>,
}

impl Writer {
    /// Gives `disk` to a thread of its own.
    pub fn start(name: &str, disk: impl Disk) -> io::Result<Self> {
        let (requests, queue) = sync_channel(QUEUE_MAX);
        #[cfg(test)]
        if let Some(process) = crate::raft::simulation::Process::current() {
            let queued = std::sync::Arc::new(tokio::sync::Notify::new());
            drop(process.spawn(simulated::run(disk, queue, queued.clone())));
            return Ok(Self { requests: Some(requests), thread: None, queued: Some(queued) });
        }
        let thread =
            std::thread::Builder::new().name(format!("disk-{name}")).spawn(move || run(disk, &queue))?;
        Ok(Self {
            requests: Some(requests),
            thread: Some(thread),
            #[cfg(test)]
            queued: None,
        })
    }

    /// Queues writes; `done` is called on the disk's thread.
    pub fn write(&self, writes: Vec<Write>, done: Done) {
        let request = Request { writes, done };
        let refused = match &self.requests {
            Some(requests) => requests.send(request).err().map(|error| error.0),
            None => Some(request),
        };
        if let Some(request) = refused {
            (request.done)(Err(io::Error::other("the disk has stopped after an error")));
        }
        #[cfg(test)]
        self.queued.iter().for_each(|queued| queued.notify_one());
    }

    /// Queues writes and waits for them without blocking an async worker.
    pub async fn write_and_wait(&self, writes: Vec<Write>) -> io::Result<()> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let done: Done = Box::new(move |result| {
            // Nobody waits any more: the write is as durable as it is.
            let _ = sender.send(result);
        });
        self.write(writes, done);
        receiver.await.unwrap_or_else(|_| Err(io::Error::other("the disk's thread has ended")))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests.take();
        #[cfg(test)]
        self.queued.iter().for_each(|queued| queued.notify_one());
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by the panic hook; there is no one left to tell.
            let _ = thread.join();
        }
    }
}

fn run(mut disk: impl Disk, queue: &Receiver<Request>) {
    while let Ok(first) = queue.recv() {
        let (group, writes) = gather(first, queue);
        match commit(&mut disk, &writes) {
            Ok(()) => group.into_iter().for_each(|request| (request.done)(Ok(()))),
            Err(error) => return stop(group, queue, &error),
        }
    }
}

/// The requests that share the next barrier, and what they write.
fn gather(first: Request, queue: &Receiver<Request>) -> (Vec<Request>, Vec<Write>) {
    let mut bytes = first.bytes();
    let mut group = vec![first];
    while group.len() < GROUP_MAX && bytes < GROUP_MAX_BYTES {
        let Ok(next) = queue.try_recv() else { break };
        bytes += next.bytes();
        group.push(next);
    }
    let mut writes = Vec::new();
    for request in &mut group {
        writes.append(&mut request.writes);
    }
    (group, writes)
}

/// A panic of the disk is an error like any other: whoever waits must hear of it.
fn commit(disk: &mut impl Disk, writes: &[Write]) -> io::Result<()> {
    catch_unwind(AssertUnwindSafe(|| disk.commit(writes)))
        .unwrap_or_else(|_| Err(io::Error::other("the disk's code panicked")))
}

/// A failed barrier is never tried again: the kernel may have dropped the pages and would answer `Ok`.
fn stop(group: Vec<Request>, queue: &Receiver<Request>, error: &io::Error) {
    tracing::error!(%error, "the disk refused a write: this member stops");
    let again = || io::Error::new(error.kind(), format!("the disk refused a write: {error}"));
    group.into_iter().for_each(|request| (request.done)(Err(again())));
    while let Ok(request) = queue.recv() {
        (request.done)(Err(again()));
    }
}

#[cfg(test)]
mod simulated {
    //! The same as a task: virtual time knows nothing of threads.

    use std::io;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, TryRecvError};

    use tokio::sync::Notify;

    use super::{Disk, Request, commit, gather};

    pub(super) async fn run(mut disk: impl Disk, queue: Receiver<Request>, queued: Arc<Notify>) {
        let mut refused: Option<io::ErrorKind> = None;
        loop {
            let first = match queue.try_recv() {
                Ok(first) => first,
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {
                    queued.notified().await;
                    continue;
                }
            };
            let (group, writes) = gather(first, &queue);
            if refused.is_none() {
                let moment = disk.begin(&writes);
                tokio::time::sleep(moment).await;
                refused = commit(&mut disk, &writes).err().map(|error| error.kind());
            }
            for request in group {
                let done = refused.map_or(Ok(()), |kind| Err(io::Error::new(kind, "the disk refused a write")));
                (request.done)(done);
            }
        }
    }
}
