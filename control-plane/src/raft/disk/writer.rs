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
}

impl Writer {
    /// Gives `disk` to a thread of its own.
    pub fn start(name: &str, disk: impl Disk) -> io::Result<Self> {
        let (requests, queue) = sync_channel(QUEUE_MAX);
        let thread =
            std::thread::Builder::new().name(format!("disk-{name}")).spawn(move || run(disk, &queue))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
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
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by the panic hook; there is no one left to tell.
            let _ = thread.join();
        }
    }
}

fn run(mut disk: impl Disk, queue: &Receiver<Request>) {
    while let Ok(first) = queue.recv() {
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
        // A panic of the disk is an error like any other: whoever waits must hear of it.
        let committed = catch_unwind(AssertUnwindSafe(|| disk.commit(&writes)))
            .unwrap_or_else(|_| Err(io::Error::other("the disk's code panicked")));
        match committed {
            Ok(()) => group.into_iter().for_each(|request| (request.done)(Ok(()))),
            Err(error) => return stop(group, queue, &error),
        }
    }
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
