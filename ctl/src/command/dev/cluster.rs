//! The processes of one run and the loop that owns them: brings them up in order, starts again what dies, stops agents
//! before the control plane.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::time::Duration;

use futures::future::select_all;
use rustix::process::Signal;
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

use super::folder::{Folder, Running, RunningNode};
use super::process::{Process, Ready, Recipe, Role, describe};
use crate::failure::Failure;
use crate::terminal::Terminal;

/// How often a file that says "ready" is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a first start may take: a control plane reads its whole log, on a slow disk.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// The pauses before a process that died is started again: the first hardly noticed, the longest bearable to watch.
const PAUSE_LEAST: Duration = Duration::from_millis(200);
const PAUSE_MOST: Duration = Duration::from_secs(10);
/// A process that ran for this long begins again with the shortest pause.
const SETTLED_AFTER: Duration = Duration::from_secs(20);
/// How long agents may drain: a little more than their own drain deadline of 20 s.
const AGENT_PATIENCE: Duration = Duration::from_secs(25);
/// How long the control plane may end its streams: a little more than its own 3 s.
const MEMBER_PATIENCE: Duration = Duration::from_secs(10);

/// The signals that end a run.
pub(super) struct Stop {
    listeners: [Listener; 3],
}

impl Stop {
    /// Listens for them.
    pub(super) fn listen() -> io::Result<Self> {
        let listeners =
            [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
        Ok(Self { listeners })
    }

    /// Waits for one of them. Cancel safe.
    pub(super) async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.listeners;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Whether something was done, or the run is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It was done.
    Done,
    /// A signal asked to stop.
    Stop,
}

enum Life {
    /// Not ready yet.
    Starting { process: Process, since: Instant, is_late: bool },
    /// Ready.
    Running { process: Process, since: Instant, ready: Ready },
    /// Died, and waits to be started again.
    Waiting { until: Instant },
    /// Not started, or ended for good.
    Over,
}

struct Seat {
    recipe: Recipe,
    pause: Duration,
    life: Life,
}

impl Seat {
    fn process(&self) -> Option<&Process> {
        match &self.life {
            Life::Starting { process, .. } | Life::Running { process, .. } => Some(process),
            Life::Waiting { .. } | Life::Over => None,
        }
    }

    fn process_mut(&mut self) -> Option<&mut Process> {
        match &mut self.life {
            Life::Starting { process, .. } | Life::Running { process, .. } => Some(process),
            Life::Waiting { .. } | Life::Over => None,
        }
    }

    fn start(&mut self) -> Result<(), Failure> {
        let process = self.recipe.start()?;
        self.life = Life::Starting { process, since: Instant::now(), is_late: false };
        Ok(())
    }

    /// Looks whether a start is over, and keeps its addresses if it is.
    fn look(&mut self) -> Option<Ready> {
        let Life::Starting { process, .. } = &self.life else { return None };
        let ready = process.ready()?;
        self.recipe.keep_addresses(&ready);
        if let Life::Starting { process, .. } = std::mem::replace(&mut self.life, Life::Over) {
            self.life = Life::Running { process, since: Instant::now(), ready };
        }
        Some(ready)
    }

    /// Whether a start takes suspiciously long; said once.
    fn is_newly_late(&mut self) -> bool {
        match &mut self.life {
            Life::Starting { since, is_late, .. } if !*is_late && since.elapsed() > START_PATIENCE => {
                *is_late = true;
                true
            }
            _ => false,
        }
    }

    /// The pause before the next start.
    fn next_pause(&mut self) -> Duration {
        let is_settled = matches!(&self.life, Life::Running { since, .. } if since.elapsed() > SETTLED_AFTER);
        let pause = if is_settled { PAUSE_LEAST } else { self.pause };
        self.pause = (pause * 2).min(PAUSE_MOST);
        pause
    }
}

/// The processes of one run. The control plane is the first seat.
pub(super) struct Cluster {
    folder: Folder,
    seats: Vec<Seat>,
}

impl Cluster {
    /// A cluster in `folder`, without processes.
    pub(super) const fn new(folder: Folder) -> Self {
        Self { folder, seats: Vec::new() }
    }

    /// Its data directory.
    pub(super) const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Where the API listens, once the control plane was ready.
    pub(super) fn api_address(&self) -> Option<SocketAddr> {
        self.seats.first().and_then(|seat| match &seat.life {
            Life::Running { ready, .. } => Some(ready.api_address),
            _ => None,
        })
    }

    /// The nodes by name, and where their ingress listens.
    pub(super) fn nodes(&self) -> Vec<RunningNode> {
        let node = |seat: &Seat| match &seat.life {
            Life::Running { process, ready, .. } => Some(RunningNode {
                name: seat.recipe.name.clone(),
                pid: process.pid,
                api_address: ready.api_address,
                ingress_address: ready.ingress_address?,
            }),
            _ => None,
        };
        self.seats.iter().skip(1).filter_map(node).collect()
    }

    /// Starts processes and waits until all of them are ready; the first that fails ends the run.
    pub(super) async fn bring_up(&mut self, recipes: Vec<Recipe>, stop: &mut Stop) -> Result<Step, Failure> {
        let first = self.seats.len();
        for recipe in recipes {
            recipe.rotate_log()?;
            let mut seat = Seat { recipe, pause: PAUSE_LEAST, life: Life::Over };
            seat.start()?;
            self.seats.push(seat);
        }
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            for seat in &mut self.seats[first..] {
                seat.look();
            }
            if self.seats[first..].iter().all(|seat| matches!(seat.life, Life::Running { .. })) {
                return Ok(Step::Done);
            }
            tokio::select! {
                () = stop.asked() => return Ok(Step::Stop),
                (index, status) = ended(&mut self.seats) => return Err(self.failed_start(index, &status)),
                () = sleep_until(deadline) => return Err(self.late_start()),
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn failed_start(&mut self, index: usize, status: &io::Result<ExitStatus>) -> Failure {
        let seat = &mut self.seats[index];
        let words = seat.process().map(Process::last_words).unwrap_or_default();
        seat.life = Life::Over;
        let name = &seat.recipe.name;
        let message = format!("{name} did not start: {}{}", how(status), quoted(&words));
        Failure::refused(message).help(format!("its whole log is {}", seat.recipe.log().display()))
    }

    fn late_start(&self) -> Failure {
        let late = self.seats.iter().find(|seat| matches!(seat.life, Life::Starting { .. }));
        let Some(seat) = late else { return Failure::refused("a process is not ready") };
        let words = seat.process().map(Process::last_words).unwrap_or_default();
        let seconds = START_PATIENCE.as_secs();
        let message = format!("{} is not ready after {seconds} s{}", seat.recipe.name, quoted(&words));
        Failure::refused(message).help(format!("its whole log is {}", seat.recipe.log().display()))
    }

    /// Says what runs, for programs.
    pub(super) fn write_state(&self) -> io::Result<()> {
        let Some(seat) = self.seats.first() else { return Ok(()) };
        let (Some(process), Some(api_address)) = (seat.process(), self.api_address()) else { return Ok(()) };
        self.folder.write(&Running {
            pid: std::process::id(),
            api_address,
            control_plane_pid: process.pid,
            nodes: self.nodes(),
        })
    }

    /// Keeps everything running until a signal asks to stop.
    pub(super) async fn keep(&mut self, stop: &mut Stop, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        loop {
            let due = self.seats.iter().filter_map(|seat| match seat.life {
                Life::Waiting { until } => Some(until),
                _ => None,
            });
            let due = due.min();
            let is_starting = self.seats.iter().any(|seat| matches!(seat.life, Life::Starting { .. }));
            // Every arm is cancel safe: what it would have told is told by the next round.
            tokio::select! {
                () = stop.asked() => return Ok(()),
                (index, status) = ended(&mut self.seats) => self.died(index, &status, terminal)?,
                () = at(due) => self.start_due(terminal)?,
                () = sleep(LOOK_EVERY), if is_starting => self.look_at_starts(terminal)?,
            }
        }
    }

    fn died(
        &mut self,
        index: usize,
        status: &io::Result<ExitStatus>,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let seat = &mut self.seats[index];
        let words = seat.process().map(Process::last_words).unwrap_or_default();
        let pause = seat.next_pause();
        seat.life = Life::Waiting { until: Instant::now() + pause };
        let again = model::unit::format_duration(pause);
        let name = &seat.recipe.name;
        terminal.warning(&format!(
            "{name} died: {}{}\n{name} is started again in {again}",
            how(status),
            quoted(&words)
        ))?;
        Ok(())
    }

    fn start_due(&mut self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let now = Instant::now();
        for seat in &mut self.seats {
            if !matches!(seat.life, Life::Waiting { until } if until <= now) {
                continue;
            }
            if let Err(failure) = seat.start() {
                let pause = seat.next_pause();
                seat.life = Life::Waiting { until: now + pause };
                terminal
                    .warning(&format!("{failure}; tried again in {}", model::unit::format_duration(pause)))?;
            }
        }
        Ok(())
    }

    fn look_at_starts(&mut self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let mut is_news = false;
        for seat in &mut self.seats {
            if let Some(ready) = seat.look() {
                is_news = true;
                let mut line = format!("{} runs again", seat.recipe.name);
                // The one address that people were told and that is not kept.
                if matches!(seat.recipe.role, Role::Agent { .. }) {
                    line = format!("{line}, its agent at {}", ready.api_address);
                }
                terminal.progress(&line)?;
            } else if seat.is_newly_late() {
                let log = seat.recipe.log().display().to_string();
                terminal.warning(&format!("{} takes long to start; its log is {log}", seat.recipe.name))?;
            }
        }
        if is_news {
            self.write_state()?;
        }
        Ok(())
    }

    /// Stops everything: agents first, so that requests under way end while the control plane still answers.
    pub(super) async fn stop(mut self, stop: &mut Stop) {
        let mut is_hurried = false;
        let first_agent = 1.min(self.seats.len());
        end_all(&mut self.seats[first_agent..], AGENT_PATIENCE, stop, &mut is_hurried).await;
        end_all(&mut self.seats, MEMBER_PATIENCE, stop, &mut is_hurried).await;
        self.folder.clear();
    }
}

/// Ends processes: asks, waits within bounds, then ends them by force; at once if someone is in a hurry.
async fn end_all(seats: &mut [Seat], patience: Duration, stop: &mut Stop, is_hurried: &mut bool) {
    let mut force = *is_hurried;
    let deadline = Instant::now() + patience;
    let signal_all = |seats: &[Seat], force: bool| {
        let signal = if force { Signal::KILL } else { Signal::TERM };
        seats.iter().filter_map(Seat::process).for_each(|process| process.signal(signal));
    };
    signal_all(seats, force);
    while seats.iter().any(|seat| seat.process().is_some()) {
        tokio::select! {
            (index, _) = ended(seats) => seats[index].life = Life::Over,
            () = stop.asked(), if !force => {
                (force, *is_hurried) = (true, true);
                signal_all(seats, force);
            }
            () = sleep_until(deadline), if !force => {
                force = true;
                signal_all(seats, force);
            }
        }
    }
}

/// The next process that ends, by its place. Cancel safe.
async fn ended(seats: &mut [Seat]) -> (usize, io::Result<ExitStatus>) {
    let waits: Vec<_> = seats
        .iter_mut()
        .enumerate()
        .filter_map(|(index, seat)| seat.process_mut().map(|process| (index, process)))
        .map(|(index, process)| Box::pin(async move { (index, process.ended().await) }))
        .collect();
    if waits.is_empty() {
        return pending().await;
    }
    select_all(waits).await.0
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}

fn how(status: &io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => describe(*status),
        Err(error) => format!("its end could not be seen: {error}"),
    }
}

/// The end of a log, below the sentence it belongs to.
fn quoted(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    format!("; its last lines:\n  {}", lines.join("\n  "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
