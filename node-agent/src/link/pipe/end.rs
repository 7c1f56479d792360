//! The two ends of a pipe, as the frames see them: how far they may go, and whether they are over.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use model::link::{PIPE_DATA_LEAST_BYTES, PIPE_DATA_MAX_BYTES, PIPE_WINDOW_BYTES, Piped};
use tokio::sync::Notify;

use super::FAILURE_MAX_CHARS;

/// What is told of a failure, and kept of one that another node tells.
pub(super) fn bounded(failure: String) -> String {
    if failure.len() > FAILURE_MAX_CHARS { failure.chars().take(FAILURE_MAX_CHARS).collect() } else { failure }
}

/// What data cost of the credit.
pub(super) fn cost(bytes: usize) -> usize {
    bytes.max(PIPE_DATA_LEAST_BYTES)
}

/// The end that bytes come from.
pub(super) struct Sender {
    state: Mutex<Sending>,
    changed: Notify,
}

#[derive(Default)]
struct Sending {
    credit: usize,
    /// All credit that was ever given.
    granted: u64,
    /// It waits to hear that all is written out.
    waits: bool,
    over: Option<Over>,
}

/// The end that bytes go to.
#[derive(Default)]
pub(super) struct Receiver {
    state: Mutex<Receiving>,
    changed: Notify,
}

#[derive(Default)]
struct Receiving {
    items: VecDeque<Item>,
    /// What they have cost of the credit.
    held: usize,
    /// The bytes that were taken, in all.
    taken: u64,
    /// The credit that was used for what was taken, and not given again.
    owed: usize,
    /// What is taken may come back unread: only what is confirmed is owed.
    is_lent: bool,
    /// What was taken since, with its cost.
    unconfirmed: VecDeque<(usize, usize)>,
    over: Option<Over>,
    /// The session is over, whether the sender has sent all or not.
    is_lost: bool,
}

/// What a receiver has next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Bytes, and what is left of what they cost.
    Data(Bytes, usize),
    /// The sender waits for what was before this.
    Wait,
}

/// Why an end goes on no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Over {
    /// The other end is done.
    Ended {
        /// Why it could not go on.
        failure: Option<String>,
        /// How much it has taken.
        taken: u64,
    },
    /// The session is over.
    Lost,
}

impl Sender {
    /// For an input stream: its reader gives credit.
    pub(super) fn without_credit() -> Self {
        Self { state: Mutex::default(), changed: Notify::new() }
    }

    /// For an output stream: its home takes a window of bytes without saying so.
    pub(super) fn with_credit() -> Self {
        let state = Sending { credit: PIPE_WINDOW_BYTES, ..Sending::default() };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, Sending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hear(&self, piped: Piped) -> Result<(), String> {
        let mut state = self.state();
        match piped {
            Piped::Credit(bytes) => {
                let credit = usize::try_from(bytes).ok().and_then(|bytes| state.credit.checked_add(bytes));
                let credit = credit.filter(|credit| *credit <= PIPE_WINDOW_BYTES);
                state.credit =
                    credit.ok_or_else(|| format!("it has credit for more than {PIPE_WINDOW_BYTES} bytes"))?;
                state.granted += bytes;
            }
            Piped::Ready => {
                if !std::mem::take(&mut state.waits) {
                    return Err("an answer that nobody waits for".to_owned());
                }
            }
            Piped::Ended { failure, taken } => {
                state.over = Some(Over::Ended { failure: failure.map(bounded), taken });
            }
            Piped::Data(_) | Piped::Wait => return Err("a receiver sends no data".to_owned()),
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    pub(super) fn lose(&self) {
        self.state().over.get_or_insert(Over::Lost);
        self.changed.notify_one();
    }

    /// How much may be sent now.
    pub(super) fn credit(&self) -> usize {
        let state = self.state();
        if state.may_send() { state.credit.min(PIPE_DATA_MAX_BYTES) } else { 0 }
    }

    /// Takes credit for what is sent; `false` if there is too little.
    pub(super) fn spend(&self, bytes: usize) -> bool {
        let mut state = self.state();
        let left = state.credit.checked_sub(cost(bytes)).filter(|_| bytes <= PIPE_DATA_MAX_BYTES);
        state.credit = left.unwrap_or(state.credit);
        left.is_some()
    }

    /// Waits from now on to hear that all is written out; `false` if it does already.
    pub(super) fn wait(&self) -> bool {
        !std::mem::replace(&mut self.state().waits, true)
    }

    /// All credit that was ever given: what was sent first has been taken for all of it but the first window.
    pub(super) fn granted(&self) -> u64 {
        self.state().granted
    }

    /// Resolves when there is more credit than this was all of, or the other end is done.
    pub(super) async fn more(&self, granted: u64) {
        self.until(|state| state.over.is_some() || state.granted != granted).await;
    }

    pub(super) fn over(&self) -> Option<Over> {
        self.state().over.clone()
    }

    /// Resolves when something may be sent, or never more.
    pub(super) async fn ready(&self) {
        self.until(|state| state.over.is_some() || state.may_send()).await;
    }

    /// Resolves when the other end has answered, or never will.
    pub(super) async fn answered(&self) {
        self.until(|state| state.over.is_some() || !state.waits).await;
    }

    /// Resolves when the other end is done.
    pub(super) async fn ended(&self) {
        self.until(|state| state.over.is_some()).await;
    }

    async fn until(&self, is_so: impl Fn(&Sending) -> bool) {
        // One waits at a time, so that what is told in between is not missed.
        while !is_so(&self.state()) {
            self.changed.notified().await;
        }
    }
}

impl Sending {
    fn may_send(&self) -> bool {
        !self.waits && self.credit >= PIPE_DATA_LEAST_BYTES
    }
}

impl Receiver {
    /// For an input stream: its reader gives all credit, the first too.
    pub(super) fn without_window() -> Self {
        let state = Receiving { owed: PIPE_WINDOW_BYTES, ..Receiving::default() };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, Receiving> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hear(&self, piped: Piped) -> Result<(), String> {
        let mut state = self.state();
        match piped {
            Piped::Data(bytes) => {
                let unconfirmed: usize = state.unconfirmed.iter().map(|(_, cost)| cost).sum();
                let limit = PIPE_WINDOW_BYTES.saturating_sub(state.owed + unconfirmed);
                let held = state.held + cost(bytes.len());
                if bytes.is_empty() || bytes.len() > PIPE_DATA_MAX_BYTES || held > limit {
                    let sent = bytes.len();
                    return Err(format!("{sent} bytes at once, {held} in all, are not what it has credit for"));
                }
                state.held = held;
                let cost = cost(bytes.len());
                state.items.push_back(Item::Data(bytes, cost));
            }
            Piped::Wait => {
                if state.items.contains(&Item::Wait) {
                    return Err("it waits already".to_owned());
                }
                state.items.push_back(Item::Wait);
            }
            Piped::Ended { failure, taken } => {
                state.over = Some(Over::Ended { failure: failure.map(bounded), taken });
            }
            Piped::Credit(_) | Piped::Ready => return Err("a sender gives no credit".to_owned()),
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    pub(super) fn lose(&self) {
        let mut state = self.state();
        // What has come may still be read, but is written out no more.
        state.over.get_or_insert(Over::Lost);
        state.is_lost = true;
        drop(state);
        self.changed.notify_one();
    }

    /// The next thing, with at most `bytes` bytes, or that there will be none; neither if there is none yet.
    pub(super) fn next(&self, bytes: usize) -> Result<Option<Item>, Over> {
        let mut state = self.state();
        let Some(item) = state.items.pop_front() else {
            return state.over.clone().map_or(Ok(None), Err);
        };
        Ok(Some(match item {
            Item::Data(mut data, mut cost) => {
                if data.len() > bytes {
                    let rest = data.split_off(bytes);
                    let rest_cost = cost.saturating_sub(bytes);
                    state.items.push_front(Item::Data(rest, rest_cost));
                    cost -= rest_cost;
                }
                state.held -= cost;
                if state.is_lent {
                    state.unconfirmed.push_back((data.len(), cost));
                } else {
                    state.owed += cost;
                }
                state.taken += data.len() as u64;
                Item::Data(data, cost)
            }
            Item::Wait => Item::Wait,
        }))
    }

    /// It is lent on: what is taken from now on may come back unread.
    pub(super) fn lend(&self) {
        self.state().is_lent = true;
    }

    /// So many bytes more of what was taken will not come back.
    pub(super) fn confirm(&self, mut bytes: usize) {
        let mut state = self.state();
        while let Some((length, cost)) = state.unconfirmed.front_mut() {
            let part = bytes.min(*length);
            let is_whole = part == *length;
            let part_cost = if is_whole { *cost } else { part.min(*cost) };
            (*length, *cost) = (*length - part, *cost - part_cost);
            bytes -= part;
            state.owed += part_cost;
            if !is_whole {
                break;
            }
            state.unconfirmed.pop_front();
        }
    }

    /// It has come back, with what was taken last and is unread.
    pub(super) fn returned(&self, unread: VecDeque<Bytes>) {
        let mut state = self.state();
        state.is_lent = false;
        for bytes in unread.into_iter().rev() {
            let Some((length, cost)) = state.unconfirmed.pop_back() else { break };
            // The first piece may be a part of what was taken.
            let rest_cost = cost.saturating_sub(length.saturating_sub(bytes.len()));
            state.owed += cost - rest_cost;
            state.held += rest_cost;
            state.taken -= bytes.len() as u64;
            state.items.push_front(Item::Data(bytes, rest_cost));
        }
        let confirmed: usize = state.unconfirmed.drain(..).map(|(_, cost)| cost).sum();
        state.owed += confirmed;
    }

    /// What the sender may have more: in pieces worth a frame, or whatever there is if it has nothing to do.
    pub(super) fn grant(&self) -> Option<u64> {
        let mut state = self.state();
        let is_due = state.owed >= PIPE_WINDOW_BYTES / 4 || state.owed > 0 && state.items.is_empty();
        (is_due && state.over.is_none()).then(|| std::mem::take(&mut state.owed) as u64)
    }

    /// How much was taken in all.
    pub(super) fn taken(&self) -> u64 {
        self.state().taken
    }

    /// What waits to be taken has cost so much.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.state().held
    }

    pub(super) fn is_lost(&self) -> bool {
        self.state().is_lost
    }

    /// Resolves when there is something, or never more.
    pub(super) async fn ready(&self) {
        self.until(|state| !state.items.is_empty() || state.over.is_some()).await;
    }

    /// Resolves when the session is over.
    pub(super) async fn lost(&self) {
        self.until(|state| state.is_lost).await;
    }

    async fn until(&self, is_so: impl Fn(&Receiving) -> bool) {
        while !is_so(&self.state()) {
            self.changed.notified().await;
        }
    }
}
