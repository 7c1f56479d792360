//! Where a stream is: what empties or fills it for the other end.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use model::link::{LinkReason, PIPE_WINDOW_BYTES, Piped};
use tokio::task::{JoinHandle, yield_now};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, InputStream, Pollable, StreamError, StreamResult};

use super::end::{Item, Over, Receiver, Sender, bounded, cost};
use super::{LentBy, Pipes};

/// A stream that the other end has for a while.
pub(crate) struct Lent<S>(JoinHandle<S>);

impl<S: Send + 'static> Lent<S> {
    pub(super) fn new(work: impl Future<Output = S> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    /// The stream, once the other end is done with it or the session is over; only once. May be given up and asked
    /// again.
    pub(crate) async fn back(&mut self) -> Option<S> {
        (&mut self.0).await.ok()
    }
}

/// Sends what an input stream has that was given away.
pub(super) async fn give(mut stream: DynInputStream, sender: Arc<Sender>, pipes: Arc<Pipes>, pipe: u64) {
    if let Some(failure) = send(&mut stream, &sender, &pipes, pipe, |_| {}).await {
        pipes.end(pipe, failure, 0);
    }
    stream.cancel().await;
    drop(stream);
    pipes.forget(pipe);
}

/// Writes to an output stream that was given away.
pub(super) async fn take(stream: DynOutputStream, receiver: Arc<Receiver>, pipes: Arc<Pipes>, pipe: u64) {
    write_out(stream, receiver, pipes, pipe).await.cancel().await;
}

/// Sends what an input stream has that was lent, and brings back what was not taken.
pub(super) async fn lend(
    mut stream: DynInputStream,
    unread: Arc<Unread>,
    from: Option<LentBy>,
    sender: Arc<Sender>,
    pipes: Arc<Pipes>,
    pipe: u64,
) -> DynInputStream {
    let mut sent = Sent::default();
    if let Some(from) = &from {
        from.lend();
    }
    let mut heard = |progress: Progress<'_>| match progress {
        Progress::Sent(bytes) => sent.push(bytes),
        Progress::Granted(granted) => {
            let confirmed = sent.confirm(granted);
            if let Some(from) = from.as_ref().filter(|_| confirmed > 0) {
                from.confirm(confirmed);
            }
        }
    };
    if let Some(failure) = send(&mut stream, &sender, &pipes, pipe, &mut heard).await {
        // The other end may have some of it still to read.
        pipes.say(pipe, Piped::Ended { failure, taken: 0 });
        sender.ended().await;
    }
    pipes.forget(pipe);
    let failure = match sender.over() {
        Some(Over::Ended { taken, failure: None }) => sent.taken(taken).err(),
        // How far it was read is not known.
        Some(Over::Ended { .. } | Over::Lost) | None => (sent.total > 0).then_some(LinkReason::Lost),
    };
    match (failure, from) {
        (Some(failure), from) => {
            unread.fail(failure);
            if let Some(from) = from {
                from.returned(Err(failure));
            }
        }
        // What is left goes back to where it is from, and its owner hears how much was taken.
        (None, Some(from)) => from.returned(Ok(sent.unread)),
        (None, None) => unread.put_back(sent.unread),
    }
    stream
}

/// Writes what comes, until the other end is done; then the stream is given back.
pub(super) async fn write_out(
    mut stream: DynOutputStream,
    receiver: Arc<Receiver>,
    pipes: Arc<Pipes>,
    pipe: u64,
) -> DynOutputStream {
    match write(&mut stream, &receiver, &pipes, pipe).await {
        Ok(()) => pipes.forget(pipe),
        Err(error) => pipes.end(pipe, failure(error), 0),
    }
    stream
}

/// Reads until the other end is done, or the stream: then with its failure, if that is why. `heard` is told
/// how it goes.
async fn send(
    stream: &mut DynInputStream,
    sender: &Sender,
    pipes: &Pipes,
    pipe: u64,
    mut heard: impl FnMut(Progress<'_>),
) -> Option<Option<String>> {
    loop {
        let granted = sender.granted();
        heard(Progress::Granted(granted));
        if sender.over().is_some() {
            return None;
        }
        let credit = sender.credit();
        if credit == 0 {
            sender.more(granted).await;
            continue;
        }
        tokio::select! {
            biased;
            () = sender.more(granted) => continue,
            () = stream.ready() => {}
        }
        match stream.read(credit) {
            // Ready too early.
            Ok(bytes) if bytes.is_empty() => yield_now().await,
            Ok(bytes) => {
                sender.spend(bytes.len());
                heard(Progress::Sent(&bytes));
                pipes.say(pipe, Piped::Data(bytes));
            }
            Err(error) => return Some(failure(error)),
        }
    }
}

/// How it goes with what is sent.
enum Progress<'a> {
    /// These were sent.
    Sent(&'a Bytes),
    /// All credit that was given.
    Granted(u64),
}

async fn write(
    stream: &mut DynOutputStream,
    receiver: &Receiver,
    pipes: &Pipes,
    pipe: u64,
) -> StreamResult<()> {
    loop {
        receiver.ready().await;
        if receiver.is_lost() {
            return Ok(());
        }
        match receiver.next(usize::MAX) {
            Ok(Some(Item::Data(mut bytes, _))) => {
                while !bytes.is_empty() {
                    let Some(permit) = permit(stream, receiver).await? else { return Ok(()) };
                    stream.write(bytes.split_to(permit.min(bytes.len())))?;
                }
                pipes.grant(pipe, receiver);
            }
            Ok(Some(Item::Wait)) => {
                stream.flush()?;
                if permit(stream, receiver).await?.is_none() {
                    return Ok(());
                }
                pipes.say(pipe, Piped::Ready);
            }
            Ok(None) => {}
            Err(Over::Ended { .. } | Over::Lost) => return Ok(()),
        }
    }
}

/// How much the stream takes, once it takes something; none if the session ends first.
async fn permit(stream: &mut DynOutputStream, receiver: &Receiver) -> StreamResult<Option<usize>> {
    loop {
        tokio::select! {
            biased;
            () = receiver.lost() => return Ok(None),
            () = stream.ready() => {}
        }
        match stream.check_write()? {
            0 => yield_now().await,
            permit => return Ok(Some(permit)),
        }
    }
}

/// What the other end is told of an error; nothing of a stream that is merely closed.
fn failure(error: StreamError) -> Option<String> {
    match error {
        StreamError::Closed => None,
        StreamError::LastOperationFailed(error) | StreamError::Trap(error) => {
            Some(bounded(format!("{error:#}")))
        }
    }
}

/// What was sent of an input stream that is lent, and perhaps not taken: the other end may not want it.
#[derive(Default)]
struct Sent {
    unread: VecDeque<Bytes>,
    unread_bytes: usize,
    total: u64,
    /// The credit that was used for what is known to be taken.
    confirmed: u64,
}

impl Sent {
    fn push(&mut self, bytes: &Bytes) {
        self.total += bytes.len() as u64;
        self.unread_bytes += bytes.len();
        self.unread.push_back(bytes.clone());
    }

    /// Leaves out what was taken for all this credit, and says how many bytes that are. The first window was given for
    /// nothing.
    fn confirm(&mut self, granted: u64) -> usize {
        let mut used = granted.saturating_sub(PIPE_WINDOW_BYTES as u64).saturating_sub(self.confirmed);
        let mut confirmed = 0;
        while let Some(first) = self.unread.front().map(Bytes::len)
            && used >= cost(first) as u64
        {
            used -= cost(first) as u64;
            self.confirmed += cost(first) as u64;
            confirmed += first;
            self.unread.pop_front();
        }
        self.unread_bytes -= confirmed;
        confirmed
    }

    /// Leaves what was not taken. An error is that the other end is mistaken.
    fn taken(&mut self, taken: u64) -> Result<(), LinkReason> {
        let unread = self.total.checked_sub(taken).and_then(|bytes| usize::try_from(bytes).ok());
        let unread = unread.filter(|bytes| *bytes <= self.unread_bytes).ok_or(LinkReason::Protocol)?;
        let mut taken = self.unread_bytes - unread;
        while let Some(first) = self.unread.front_mut()
            && taken > 0
        {
            let part = taken.min(first.len());
            taken -= part;
            if part == first.len() {
                self.unread.pop_front();
            } else {
                let _ = first.split_to(part);
            }
        }
        self.unread_bytes = unread;
        Ok(())
    }
}

/// What was sent of an input stream that was lent, and not taken: it is read before what the stream has.
#[derive(Default)]
pub(crate) struct Unread(Mutex<Left>);

#[derive(Default)]
struct Left {
    pieces: VecDeque<Bytes>,
    /// Nobody knows how far it was read: it cannot be read on as if nothing were missing.
    failure: Option<LinkReason>,
}

impl Unread {
    fn left(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, failure: LinkReason) {
        self.left().failure = Some(failure);
    }

    fn put_back(&self, pieces: VecDeque<Bytes>) {
        let mut left = self.left();
        for piece in pieces.into_iter().rev() {
            left.pieces.push_front(piece);
        }
    }
}

/// An input stream that is lent, perhaps more than once.
pub(super) struct Lendable {
    unread: Arc<Unread>,
    stream: DynInputStream,
}

impl Lendable {
    pub(super) fn new(stream: DynInputStream, unread: Arc<Unread>) -> Self {
        Self { unread, stream }
    }
}

#[async_trait]
impl Pollable for Lendable {
    async fn ready(&mut self) {
        let has_something = {
            let left = self.unread.left();
            !left.pieces.is_empty() || left.failure.is_some()
        };
        if !has_something {
            self.stream.ready().await;
        }
    }
}

#[async_trait]
impl InputStream for Lendable {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut left = self.unread.left();
        if let Some(failure) = left.failure {
            return Err(StreamError::LastOperationFailed(wasmtime::format_err!("{failure}")));
        }
        let Some(mut first) = left.pieces.pop_front() else {
            drop(left);
            return self.stream.read(size);
        };
        if first.len() > size {
            left.pieces.push_front(first.split_off(size));
        }
        Ok(first)
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}
