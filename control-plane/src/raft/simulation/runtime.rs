//! What members run on: tokio on one thread and in virtual time, with chance from the seed. Each task belongs to a
//! process, which can be stopped, continued and killed between any two of its steps.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use openraft::{AsyncRuntime, OptionalSend};
use tokio::task::{AbortHandle, JoinError, JoinHandle};
use uuid::Uuid;

use super::chance::Chance;
use super::oracle::Invariant;
use super::watch::OrderedWatch;
use super::world::World;
use crate::raft::types::TokioRuntime;

/// Tasks of a process that have ended are let go of when there are so many.
const TASKS_BEFORE_SWEEP: usize = 64;

thread_local! {
    /// The process whose task is being run.
    static CURRENT: RefCell<Option<Arc<Process>>> = const { RefCell::new(None) };
}

/// One run of a member, from its start to its end.
pub struct Process {
    pub member: u64,
    /// Tells it from the other runs of the member.
    pub run: u64,
    pub world: Arc<World>,
    life: Mutex<Life>,
}

#[derive(Default)]
struct Life {
    is_dead: bool,
    /// As by SIGSTOP.
    is_stopped: bool,
    /// Tasks that would have run meanwhile.
    held: Vec<Waker>,
    tasks: Vec<AbortHandle>,
    sweep_at: usize,
}

impl fmt::Debug for Process {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "run {} of member {}", self.run, self.member)
    }
}

impl Process {
    pub fn new(world: Arc<World>, member: u64, run: u64) -> Arc<Self> {
        Arc::new(Self { member, run, world, life: Mutex::default() })
    }

    /// The process whose task asks; none outside of a simulation.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    fn life<T>(&self, of: impl FnOnce(&mut Life) -> T) -> T {
        of(&mut self.life.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn is_alive(&self) -> bool {
        self.life(|life| !life.is_dead)
    }

    /// Whether it answers now.
    pub fn is_running(&self) -> bool {
        self.life(|life| !life.is_dead && !life.is_stopped)
    }

    pub fn spawn<F>(self: &Arc<Self>, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let task = tokio::spawn(Within { process: self.clone(), future: Box::pin(future) });
        self.life(|life| {
            if life.is_dead {
                task.abort();
            }
            if life.tasks.len() >= life.sweep_at.max(TASKS_BEFORE_SWEEP) {
                life.tasks.retain(|task| !task.is_finished());
                life.sweep_at = life.tasks.len() * 2;
            }
            life.tasks.push(task.abort_handle());
        });
        task
    }

    /// Ends it as `kill -9` does: nothing of it takes another step.
    pub fn kill(&self) {
        let tasks = self.life(|life| {
            life.is_dead = true;
            life.held.clear();
            std::mem::take(&mut life.tasks)
        });
        tasks.iter().for_each(AbortHandle::abort);
    }

    pub fn stop(&self) {
        self.life(|life| life.is_stopped = true);
    }

    pub fn go_on(&self) {
        let held = self.life(|life| {
            life.is_stopped = false;
            std::mem::take(&mut life.held)
        });
        held.into_iter().for_each(Waker::wake);
    }

    /// Whether a task must not run now.
    fn holds(&self, waker: &Waker) -> bool {
        self.life(|life| {
            if life.is_stopped && !life.is_dead {
                life.held.push(waker.clone());
            }
            life.is_stopped || life.is_dead
        })
    }
}

/// A task of a process.
struct Within<F> {
    process: Arc<Process>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.process.holds(context.waker()) {
            return Poll::Pending;
        }
        let before = CURRENT.replace(Some(self.process.clone()));
        let polled = catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(context)));
        CURRENT.set(before);
        polled.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it says nothing");
            self.process.world.broken(Invariant::NoPanic, format!("member {}: {said}", self.process.member));
            resume_unwind(panic)
        })
    }
}

/// As tokio's where there is no simulation. Inside of one, what blocks takes no time.
pub async fn spawn_blocking<F, T>(blocking: F) -> Result<T, JoinError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match Process::current() {
        Some(_) => Ok(blocking()),
        None => tokio::task::spawn_blocking(blocking).await,
    }
}

/// The runtime of consensus under test: in a simulation its tasks belong to a process, and outside of one it is tokio's.
#[derive(Debug)]
pub struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, F: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, F>;
    type ThreadLocalRng = Chance;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = OrderedWatch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<F>(future: F) -> JoinHandle<F::Output>
    where
        F: Future + OptionalSend + 'static,
        F::Output: OptionalSend + 'static,
    {
        match Process::current() {
            Some(process) => process.spawn(future),
            None => TokioRuntime::spawn(future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &JoinError) -> bool {
        error.is_panic()
    }

    fn thread_rng() -> Chance {
        Chance::new(match Process::current() {
            Some(process) => process.world.chance(Chance::next),
            None => Uuid::new_v4().as_u64_pair().0,
        })
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, future: F) -> T {
        self.0.block_on(future)
    }

    async fn spawn_blocking<F, T>(blocking: F) -> Result<T, io::Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn_blocking(blocking).await.map_err(io::Error::other)
    }
}
