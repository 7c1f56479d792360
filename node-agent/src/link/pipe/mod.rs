//! Streams that cross a link: what a session has given away of the host's `wasi:io` streams, and been given.
//!
//! A stream stays at its home. There a task of its own empties or fills it; at the other end something that behaves like
//! it stands in for it. Between the two are frames, and what was not yet taken is bounded by credit: whoever does not
//! read stops one pipe and nothing else. [`Piped`] has the rules.
//!
//! What is said about pipes is in order with the calls of their session, in both directions: before a call or its result
//! is sent, all that was said before is on its way ([`Pipes::drained`]), and what was over by then has reached its
//! stream when it is taken ([`Pipes::settled`]). So a stream that was written and dropped can be finished, as if it had
//! been on one node all the time.

mod end;
mod far;
mod home;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use model::link::{Body, Frame, LinkReason, PIPE_DATA_LEAST_BYTES, PIPE_WINDOW_BYTES, PIPES_MAX, Piped};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, Pollable};

use self::end::{Receiver, Sender};
pub(crate) use self::home::{Lent, Unread};
use crate::link::encoding::HandleError;

/// What waits to be sent of the pipes of one session. Of each that is as many frames as there is credit for, in either
/// direction, and as few as it takes to end it; a call waits for all of it, so that only one call's are added to it.
const SAID_WAITING_MAX: usize = 2 * PIPES_MAX * (PIPE_WINDOW_BYTES / PIPE_DATA_LEAST_BYTES + 16);

/// How much of a failure is told to the other end: that its stream failed counts, and why is for people.
const FAILURE_MAX_CHARS: usize = 1_024;

/// The pipes of one session, as one of its ends has them. They are lost when this is dropped.
#[derive(Default)]
pub(crate) struct SessionPipes(Option<Arc<Pipes>>);

/// The pipes of one session at one end.
pub(crate) struct Pipes {
    state: Mutex<State>,
    /// Something of a pollable was heard.
    polled: Notify,
}

struct State {
    /// The next that this end gives.
    next: u64,
    /// The last that the other end gave.
    last_taken: u64,
    open: HashMap<u64, End>,
    /// Of those that the other end is done with: they may have something left to write.
    ending: Vec<JoinHandle<()>>,
    /// The places of pollables that were given away for good, and that the other end is done with.
    released: Vec<u32>,
    way: Way,
}

/// Where frames go.
enum Way {
    /// There is no session yet.
    None,
    /// One on this stream; nothing was said yet.
    To(mpsc::Sender<Frame>, u64),
    /// By way of a task, since who speaks cannot wait.
    Over(mpsc::Sender<Said>, AbortHandle),
    /// The session is over.
    Lost,
}

enum Said {
    Frame(u64, Piped),
    /// All that was said before is on its way.
    Mark(oneshot::Sender<()>),
}

/// The pipe of an input stream that was lent to this end.
#[derive(Clone)]
pub(crate) struct LentBy {
    pub(crate) pipes: Arc<Pipes>,
    pub(crate) pipe: u64,
}

/// Takes a stream from where it is.
pub(crate) trait Take<S>: FnOnce() -> Result<S, HandleError> {}

impl<S, F: FnOnce() -> Result<S, HandleError>> Take<S> for F {}

/// An open pipe at this end.
struct End {
    role: Role,
    /// What works for it, at its home.
    task: Option<JoinHandle<()>>,
}

enum Role {
    Sends(Arc<Sender>),
    Receives(Arc<Receiver>),
    /// A pollable, which stays in its store: whoever has that asks it.
    Polled(Polled),
}

/// A pollable that was given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Polled {
    /// Where it is in the table of its store.
    pub(crate) place: u32,
    /// Whether it was given away for good.
    pub(crate) owned: bool,
    /// Whether the other end waits for it.
    is_asked: bool,
}

/// Which of the two agents has these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Party {
    /// Its pipes have odd numbers.
    Consumer,
    /// Its pipes have even numbers.
    Provider,
}

impl SessionPipes {
    /// Those of a provider, whose sessions have them from the beginning.
    pub(crate) fn of(pipes: Arc<Pipes>) -> Self {
        Self(Some(pipes))
    }

    /// Those that there are.
    pub(crate) fn get(&self) -> Option<&Arc<Pipes>> {
        self.0.as_ref()
    }

    /// [`Pipes::drained`], if there are any.
    pub(crate) async fn drained(&self) {
        if let Some(pipes) = &self.0 {
            pipes.drained().await;
        }
    }

    /// [`Pipes::settled`], if there are any.
    pub(crate) async fn settled(&self) {
        if let Some(pipes) = &self.0 {
            pipes.settled().await;
        }
    }

    /// Those of a consumer are made when the first is needed: most sessions have none.
    pub(crate) fn get_or_make(&mut self) -> &Arc<Pipes> {
        self.0.get_or_insert_with(|| Arc::new(Pipes::new(Party::Consumer)))
    }
}

impl Drop for SessionPipes {
    fn drop(&mut self) {
        if let Some(pipes) = &self.0 {
            pipes.lose();
        }
    }
}

impl Pipes {
    /// None yet.
    pub(crate) fn new(party: Party) -> Self {
        let next = match party {
            Party::Consumer => 1,
            Party::Provider => 2,
        };
        let state = State {
            next,
            last_taken: 0,
            open: HashMap::new(),
            ending: Vec::new(),
            released: Vec::new(),
            way: Way::None,
        };
        Self { state: Mutex::new(state), polled: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// They are of this session from now on; an earlier one has not begun. `false` if they are lost.
    pub(crate) fn attach(&self, outgoing: mpsc::Sender<Frame>, session: u64) -> bool {
        let mut state = self.state();
        if matches!(state.way, Way::Lost) {
            return false;
        }
        state.way = Way::To(outgoing, session);
        true
    }

    /// Whether their session is over.
    pub(crate) fn are_lost(&self) -> bool {
        matches!(self.state().way, Way::Lost)
    }

    /// Gives an input stream away for good, which is taken once it is sure that it can be.
    pub(crate) fn give_input(self: &Arc<Self>, take: impl Take<DynInputStream>) -> Result<u64, HandleError> {
        let sender = Arc::new(Sender::without_credit());
        let (pipe, stream) = self.begin_with(Role::Sends(sender.clone()), take)?;
        let task = tokio::spawn(home::give(stream, sender, self.clone(), pipe));
        self.works(pipe, task);
        Ok(pipe)
    }

    /// Gives an output stream away for good, which is taken once it is sure that it can be.
    pub(crate) fn give_output(self: &Arc<Self>, take: impl Take<DynOutputStream>) -> Result<u64, HandleError> {
        let receiver = Arc::new(Receiver::default());
        let (pipe, stream) = self.begin_with(Role::Receives(receiver.clone()), take)?;
        let task = tokio::spawn(home::take(stream, receiver, self.clone(), pipe));
        self.works(pipe, task);
        Ok(pipe)
    }

    /// Lends an input stream, until the other end is done with it. One that was lent to this end is of the pipe `from`;
    /// one that this end has lent before has `unread`, and gets it else.
    pub(crate) fn lend_input(
        self: &Arc<Self>,
        take: impl Take<DynInputStream>,
        from: Option<LentBy>,
        unread: Option<Arc<Unread>>,
    ) -> Result<(u64, Lent<DynInputStream>, Arc<Unread>), HandleError> {
        let sender = Arc::new(Sender::without_credit());
        let (pipe, mut stream) = self.begin_with(Role::Sends(sender.clone()), take)?;
        let unread = match unread {
            Some(unread) => unread,
            None => {
                let unread = Arc::<Unread>::default();
                stream = Box::new(home::Lendable::new(stream, unread.clone()));
                unread
            }
        };
        let lent = Lent::new(home::lend(stream, unread.clone(), from, sender, self.clone(), pipe));
        Ok((pipe, lent, unread))
    }

    /// Lends an output stream, until the other end is done with it.
    pub(crate) fn lend_output(
        self: &Arc<Self>,
        take: impl Take<DynOutputStream>,
    ) -> Result<(u64, Lent<DynOutputStream>), HandleError> {
        let receiver = Arc::new(Receiver::default());
        let (pipe, stream) = self.begin_with(Role::Receives(receiver.clone()), take)?;
        Ok((pipe, Lent::new(home::write_out(stream, receiver, self.clone(), pipe))))
    }

    /// Stands for an input stream of the other end.
    pub(crate) fn input(self: &Arc<Self>, pipe: u64) -> Result<DynInputStream, HandleError> {
        let receiver = Arc::new(Receiver::without_window());
        self.accept(pipe, Role::Receives(receiver.clone()))?;
        Ok(Box::new(far::Input::new(receiver, self.clone(), pipe)))
    }

    /// Stands for an output stream of the other end.
    pub(crate) fn output(self: &Arc<Self>, pipe: u64) -> Result<DynOutputStream, HandleError> {
        let sender = Arc::new(Sender::with_credit());
        self.accept(pipe, Role::Sends(sender.clone()))?;
        Ok(Box::new(far::Output::new(sender, self.clone(), pipe)))
    }

    /// Gives a pollable away, which is at this place of its store's table: for good if it is `owned`.
    pub(crate) fn give_pollable(&self, place: u32, owned: bool) -> Result<u64, HandleError> {
        self.begin(Role::Polled(Polled { place, owned, is_asked: false }))
    }

    /// Stands for a pollable of the other end.
    /// The second lives as long as that.
    pub(crate) fn pollable(
        self: &Arc<Self>,
        pipe: u64,
    ) -> Result<(impl Pollable + use<>, Weak<()>), HandleError> {
        let sender = Arc::new(Sender::without_credit());
        self.accept(pipe, Role::Sends(sender.clone()))?;
        let life = Arc::new(());
        let alive = Arc::downgrade(&life);
        Ok((far::Awaited::new(sender, self.clone(), pipe, life), alive))
    }

    /// The pollables that the other end waits for.
    pub(crate) fn asked(&self) -> Vec<(u64, Polled)> {
        let state = self.state();
        let polled = state.open.iter().filter_map(|(pipe, end)| match end.role {
            Role::Polled(polled) if polled.is_asked => Some((*pipe, polled)),
            _ => None,
        });
        polled.collect()
    }

    /// The places of the pollables that may be dropped.
    pub(crate) fn released(&self) -> Vec<u32> {
        std::mem::take(&mut self.state().released)
    }

    /// One of those that are asked for is ready.
    pub(crate) fn is_ready(&self, pipe: u64) {
        let mut state = self.state();
        if let Some(End { role: Role::Polled(polled), .. }) = state.open.get_mut(&pipe)
            && std::mem::take(&mut polled.is_asked)
        {
            state.way.say(Said::Frame(pipe, Piped::Ready));
        }
    }

    /// Resolves when another pollable is asked for, or may be dropped.
    pub(crate) async fn polled(&self) {
        self.polled.notified().await;
    }

    /// A pipe that this end gives.
    fn begin(&self, role: Role) -> Result<u64, HandleError> {
        let mut state = self.state();
        let pipe = state.next;
        state.insert(pipe, role)?;
        state.next += 2;
        Ok(pipe)
    }

    /// The same, with the stream for it.
    fn begin_with<S>(&self, role: Role, take: impl Take<S>) -> Result<(u64, S), HandleError> {
        let pipe = self.begin(role)?;
        match take() {
            Ok(stream) => Ok((pipe, stream)),
            Err(error) => {
                self.forget(pipe);
                Err(error)
            }
        }
    }

    /// A pipe that the other end has given. Each is taken once, in the order of their numbers.
    fn accept(&self, pipe: u64, role: Role) -> Result<(), HandleError> {
        let mut state = self.state();
        let is_ours = pipe % 2 == state.next % 2;
        if is_ours || pipe <= state.last_taken {
            return Err(HandleError::Unknown { id: pipe });
        }
        state.last_taken = pipe;
        state.insert(pipe, role)
    }

    fn works(&self, pipe: u64, task: JoinHandle<()>) {
        if let Some(end) = self.state().open.get_mut(&pipe) {
            end.task = Some(task);
        }
    }

    /// One end of a pipe says something to the other.
    fn say(&self, pipe: u64, piped: Piped) {
        self.state().way.say(Said::Frame(pipe, piped));
    }

    /// The receiving end of a pipe gives what credit is due.
    fn grant(&self, pipe: u64, receiver: &Receiver) {
        if let Some(credit) = receiver.grant() {
            self.say(pipe, Piped::Credit(credit));
        }
    }

    /// This end is done with a pipe, and says so.
    fn end(&self, pipe: u64, failure: Option<String>, taken: u64) {
        let mut state = self.state();
        if state.open.remove(&pipe).is_some() {
            state.way.say(Said::Frame(pipe, Piped::Ended { failure, taken }));
        }
    }

    /// This end is done with a pipe, as the other knows.
    fn forget(&self, pipe: u64) {
        self.state().open.remove(&pipe);
    }

    /// What the other agent says about a pipe. An error is what it has done wrong.
    pub(crate) fn hear(&self, pipe: u64, piped: Piped) -> Result<(), String> {
        let mut state = self.state();
        let Some(End { role, .. }) = state.open.get_mut(&pipe) else {
            // This end may have been done with it before the other knew.
            let is_ours = pipe % 2 == state.next % 2;
            let has_been = pipe < if is_ours { state.next } else { state.last_taken + 1 };
            let is_over = has_been || matches!(state.way, Way::Lost);
            return if is_over { Ok(()) } else { Err(format!("there is no pipe {pipe}")) };
        };
        let is_over = matches!(piped, Piped::Ended { .. });
        match role {
            Role::Sends(sender) => sender.hear(piped),
            Role::Receives(receiver) => receiver.hear(piped),
            Role::Polled(polled) => polled.hear(&piped),
        }
        .map_err(|why| format!("of pipe {pipe}: {why}"))?;
        if let Role::Polled(polled) = role {
            let released = (is_over && polled.owned).then_some(polled.place);
            state.released.extend(released);
            if is_over {
                state.open.remove(&pipe);
            }
            self.polled.notify_one();
            return Ok(());
        }
        if is_over && let Some(task) = state.open.get_mut(&pipe).and_then(|end| end.task.take()) {
            state.ending.push(task);
        }
        Ok(())
    }

    /// Resolves when all that was said so far is on its way.
    pub(crate) async fn drained(&self) {
        let (mark, reached) = oneshot::channel();
        {
            let mut state = self.state();
            // Where nothing was said, nothing is waited for.
            if !matches!(state.way, Way::Over(..)) {
                return;
            }
            state.way.say(Said::Mark(mark));
        }
        let _ = reached.await;
    }

    /// Resolves when what the other end is done with has been written out and let go of.
    pub(crate) async fn settled(&self) {
        loop {
            let Some(task) = self.state().ending.pop() else { return };
            let _ = task.await;
        }
    }

    /// The session is over: both what was given and what stands for something are told.
    pub(crate) fn lose(&self) {
        let mut state = self.state();
        // What waits there is of no use to anybody.
        if let Way::Over(_, task) = std::mem::replace(&mut state.way, Way::Lost) {
            task.abort();
        }
        state.ending.clear();
        let State { open, released, .. } = &mut *state;
        for (_, End { role, .. }) in open.drain() {
            match role {
                Role::Sends(sender) => sender.lose(),
                Role::Receives(receiver) => receiver.lose(),
                Role::Polled(polled) => released.extend(polled.owned.then_some(polled.place)),
            }
        }
    }
}

impl LentBy {
    fn receiver(&self) -> Option<Arc<Receiver>> {
        match &self.pipes.state().open.get(&self.pipe)?.role {
            Role::Receives(receiver) => Some(receiver.clone()),
            Role::Sends(_) | Role::Polled(_) => None,
        }
    }

    /// It is lent on.
    fn lend(&self) {
        if let Some(receiver) = self.receiver() {
            receiver.lend();
        }
    }

    /// So many bytes more are not coming back.
    fn confirm(&self, bytes: usize) {
        if let Some(receiver) = self.receiver() {
            receiver.confirm(bytes);
            self.pipes.grant(self.pipe, &receiver);
        }
    }

    /// It has come back, with what is unread; or nobody knows how far it was read.
    pub(crate) fn returned(&self, unread: Result<VecDeque<Bytes>, LinkReason>) {
        match unread {
            Ok(unread) => {
                if let Some(receiver) = self.receiver() {
                    receiver.returned(unread);
                    self.pipes.grant(self.pipe, &receiver);
                }
            }
            Err(failure) => self.pipes.end(self.pipe, Some(failure.word().to_owned()), 0),
        }
    }
}

impl Polled {
    fn hear(&mut self, piped: &Piped) -> Result<(), String> {
        match piped {
            Piped::Wait if !std::mem::replace(&mut self.is_asked, true) => Ok(()),
            Piped::Wait => Err("it is waited for already".to_owned()),
            Piped::Ended { .. } => Ok(()),
            Piped::Data(_) | Piped::Credit(_) | Piped::Ready => Err("it is a pollable".to_owned()),
        }
    }
}

impl State {
    fn insert(&mut self, pipe: u64, role: Role) -> Result<(), HandleError> {
        if self.open.len() >= PIPES_MAX {
            return Err(HandleError::Pipes { max: PIPES_MAX });
        }
        if matches!(self.way, Way::Lost) {
            return Err(HandleError::Lost);
        }
        self.open.insert(pipe, End { role, task: None });
        Ok(())
    }
}

impl Way {
    fn say(&mut self, said: Said) {
        if let Self::To(outgoing, session) = self {
            let (queue, waiting) = mpsc::channel(SAID_WAITING_MAX);
            let task = tokio::spawn(forward(waiting, outgoing.clone(), *session));
            *self = Self::Over(queue, task.abort_handle());
        }
        if let Self::Over(queue, _) = self
            && queue.try_send(said).is_err()
        {
            // Its stream is gone, and who reads that says so to all.
            *self = Self::Lost;
        }
    }
}

/// Sends what is said, as fast as the stream takes it.
async fn forward(mut waiting: mpsc::Receiver<Said>, outgoing: mpsc::Sender<Frame>, session: u64) {
    while let Some(said) = waiting.recv().await {
        match said {
            Said::Frame(pipe, piped) => {
                let frame = Frame { session, body: Body::Pipe { pipe, piped } };
                if outgoing.send(frame).await.is_err() {
                    return;
                }
            }
            Said::Mark(mark) => {
                let _ = mark.send(());
            }
        }
    }
}
