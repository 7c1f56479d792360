//! The consumer's half of sessions: one for each provider that an instance calls on another node, opened by its first
//! call.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use model::link::{Binding, Body, Call, GraphVersion, LinkFailure, LinkReason, MESSAGE_MAX_BYTES, Open};
use model::name::{ComponentName, NodeName};
use model::trace::{TraceContext, TraceState};
use tokio::time::{Sleep, sleep_until};

use crate::choice::{Candidate, choose};
use crate::health::{self, Admission, Breaker, Budget};
use crate::link::carrier::{Carrier, Line};
use crate::link::pipe::{Pipes, SessionPipes};
use crate::roads::Tries;

/// How often a call that nobody may be asked for waits a moment for who is tried; all of it is a third of a second.
const OPEN_TRIES_MAX: u32 = 4;

/// A provider on other nodes, as one instance of a consumer may call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    /// The consumer.
    pub(crate) from: ComponentName,
    /// The provider.
    pub(crate) to: ComponentName,
    /// Where it runs: a session is with any of these, never none.
    pub(crate) nodes: Arc<[NodeName]>,
    /// The functions that may be called, by their place.
    pub(crate) functions: Vec<Binding>,
}

/// What an instance needs to call providers on other nodes; the same for all instances of a slice.
pub(crate) struct Links {
    version: GraphVersion,
    remotes: Vec<(Remote, Health)>,
    carrier: Arc<Carrier>,
}

/// How it goes with one provider.
struct Health {
    /// For each of its nodes.
    breakers: Vec<Breaker>,
    budget: Budget,
}

/// The node that is asked, by its place among those of the provider, and the right to.
type Asked<'a> = (usize, Admission<'a>);

/// What a call is done for, and by when.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    /// What the log calls it.
    pub(crate) request: &'a str,
    /// When it must have ended.
    pub(crate) deadline: Instant,
    /// The span that waits for it, if the trace is recorded.
    pub(crate) trace: Option<TraceContext>,
    /// What others keep in the trace.
    pub(crate) trace_state: Option<&'a TraceState>,
    /// Whether it may be done again, on another instance, where it is not known whether it was done.
    pub(crate) is_repeatable: bool,
}

/// A call that opens a session.
struct FirstCall<'a> {
    function: u32,
    arguments: Vec<u8>,
    /// Those that the session will have.
    pipes: Option<&'a Arc<Pipes>>,
    work: Work<'a>,
}

/// The sessions of one instance. Dropped with it, which ends them.
pub(crate) struct Sessions {
    links: Arc<Links>,
    calls: Vec<Calls>,
    /// Goes off at the end of a call's time, which is that of all calls of a request, mostly: it is set once for them.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// What one instance has with one provider.
#[derive(Default)]
struct Calls {
    /// None before the first call, and after one that was lost: the next opens another.
    opened: Option<Opened>,
    /// The node that was asked last, by its place.
    asked: usize,
    /// Counts the sessions. A handle is of one of them.
    epoch: u64,
    /// The provider's handles, each with its session; what stands for one in the store is its place here.
    handles: Vec<Option<(u64, u64)>>,
    /// Places without a handle.
    free: Vec<u32>,
    /// The streams that the session has, or that the next one will have.
    pipes: SessionPipes,
}

/// A session at the other end; dropped, it is closed there.
struct Opened {
    line: Arc<Line>,
    id: u64,
    /// Its node, by its place among those of the provider.
    node: usize,
    /// Handles that were dropped since the last call.
    dropped: Vec<u64>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.line.close(self.id);
    }
}

impl Opened {
    /// None where the pipes that are to be its are lost.
    fn new(line: Arc<Line>, node: usize, pipes: Option<&Arc<Pipes>>) -> Option<Self> {
        let id = line.session();
        let is_whole = pipes.is_none_or(|pipes| line.attach(id, pipes));
        let opened = Self { line, id, node, dropped: Vec::new() };
        is_whole.then_some(opened)
    }
}

impl Sessions {
    /// None open yet.
    pub(crate) fn new(links: Arc<Links>) -> Self {
        let calls = links.remotes.iter().map(|_| Calls::default()).collect();
        Self { links, calls, alarm: None }
    }

    /// What stands in the store for a handle that the provider at this place has just given.
    pub(crate) fn proxy(&mut self, remote: usize, handle: u64) -> Option<u32> {
        let calls = self.calls.get_mut(remote)?;
        let entry = Some((calls.epoch, handle));
        if let Some(free) = calls.free.pop() {
            *calls.handles.get_mut(usize::try_from(free).ok()?)? = entry;
            return Some(free);
        }
        calls.handles.push(entry);
        u32::try_from(calls.handles.len() - 1).ok()
    }

    /// The provider's handle behind a proxy, if its session is still open; an owned one is given away with that.
    pub(crate) fn handle(&mut self, remote: usize, proxy: u32, owned: bool) -> Option<u64> {
        let calls = self.calls.get_mut(remote)?;
        let (epoch, handle) = if owned { calls.take(proxy)? } else { calls.get(proxy)? };
        (epoch == calls.epoch && calls.opened.is_some()).then_some(handle)
    }

    /// The guest has dropped a proxy.
    pub(crate) fn dropped(&mut self, remote: usize, proxy: u32) {
        let Some(calls) = self.calls.get_mut(remote) else { return };
        if let Some((epoch, handle)) = calls.take(proxy)
            && epoch == calls.epoch
            && let Some(opened) = &mut calls.opened
        {
            opened.dropped.push(handle);
        }
    }

    /// The pipes of the session with the provider at this place, if it has any.
    pub(crate) fn given(&self, remote: usize) -> Option<Arc<Pipes>> {
        self.calls.get(remote)?.pipes.get().cloned()
    }

    /// Ends the session with the provider at this place.
    pub(crate) fn end(&mut self, remote: usize) {
        if let Some(calls) = self.calls.get_mut(remote) {
            (calls.opened, calls.pipes) = (None, SessionPipes::default());
            calls.epoch += 1;
        }
    }

    /// The pipes of the session with the provider at this place; those of the next one, if none is open.
    pub(crate) fn pipes(&mut self, remote: usize) -> Option<&Arc<Pipes>> {
        // Those of a session that was lost between two calls are no good for the next.
        if self.given(remote).is_some_and(|pipes| pipes.are_lost()) {
            self.end(remote);
        }
        let Calls { pipes, opened, .. } = self.calls.get_mut(remote)?;
        let is_new = pipes.get().is_none();
        let pipes = pipes.get_or_make();
        if let Some(opened) = opened.as_ref().filter(|_| is_new) {
            opened.line.attach(opened.id, pipes);
        }
        Some(pipes)
    }

    /// The node that was asked last, where there are several.
    pub(crate) fn asked(&self, remote: usize) -> Option<&NodeName> {
        let nodes = &self.remote(remote)?.nodes;
        nodes.get(self.calls.get(remote)?.asked).filter(|_| nodes.len() > 1)
    }

    /// The provider at this place.
    pub(crate) fn remote(&self, remote: usize) -> Option<&Remote> {
        self.links.remotes.get(remote).map(|(remote, _)| remote)
    }

    /// Calls a function of the provider at this place.
    ///
    /// After a failure the provider's instance is gone, and its handles with it.
    pub(crate) async fn call(
        &mut self,
        remote: usize,
        function: u32,
        mut arguments: Vec<u8>,
        work: Work<'_>,
    ) -> Result<Vec<u8>, LinkFailure> {
        if arguments.len() > MESSAGE_MAX_BYTES {
            let message = format!(
                "the arguments have {} bytes, at most {MESSAGE_MAX_BYTES} are carried",
                arguments.len()
            );
            return Err(LinkFailure::new(LinkReason::Protocol, message));
        }
        let links = self.links.clone();
        let (Some(calls), Some((to, health))) = (self.calls.get_mut(remote), links.remotes.get(remote)) else {
            return Err(not_known());
        };
        let first = match &calls.opened {
            Some(opened) => health.admit(opened.node),
            None => links.choose(to, health, &[]),
        };
        // What may be done on another instance is done where somebody answers.
        let first = match (first, &calls.opened) {
            (Err(_), Some(opened)) if work.is_repeatable && to.nodes.len() > 1 => {
                let chosen = links.choose(to, health, &[opened.node]);
                (calls.opened, calls.pipes) = (None, SessionPipes::default());
                chosen
            }
            (first, _) => first,
        };
        let mut asked = match first {
            Ok(asked) => Some(asked),
            // Of several, somebody may try one already.
            Err(_) if to.nodes.len() > 1 && calls.opened.is_none() => None,
            Err(open) => return Err(is_open(open)),
        };
        health.budget.deposit();
        // Taken out, and another session's number: a call that fails or is given up half-way ends the session.
        let (opened, epoch) = (calls.opened.take(), calls.epoch);
        let mut pipes = std::mem::take(&mut calls.pipes);
        calls.epoch += 1;
        let calling = async {
            let (mut lost, mut avoided) = (None, Vec::new());
            pipes.drained().await;
            if let Some(mut opened) = opened {
                let dropped = std::mem::take(&mut opened.dropped);
                let dropped = (!dropped.is_empty()).then_some(Body::Dropped(dropped));
                let arguments =
                    if work.is_repeatable { arguments.clone() } else { std::mem::take(&mut arguments) };
                match opened.line.call(opened.id, dropped, call(function, arguments, work)).await {
                    Ok(answer) => {
                        pipes.settled().await;
                        return Ok((opened, epoch, answer));
                    }
                    // The instance is gone with its session. Only what bears that is done on another.
                    Err(failure) if work.is_repeatable && health.may_repeat(&failure, work) => {
                        avoided.push(opened.node);
                        lost = Some(to.turn_away(&mut asked, failure));
                        pipes = SessionPipes::default();
                    }
                    Err(failure) => return Err(failure),
                }
            }
            let first = FirstCall { function, arguments, pipes: pipes.get(), work };
            // On the heap: it dials, which takes kilobytes that each further call would be moved about with.
            let first = Box::pin(links.first_call((to, health), &mut asked, first, (lost, avoided)));
            let (opened, answer) = first.await?;
            pipes.settled().await;
            Ok((opened, epoch + 1, answer))
        };
        let deadline = work.deadline.into();
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if alarm.deadline() != deadline {
            alarm.as_mut().reset(deadline);
        }
        let outcome = tokio::select! {
            biased;
            outcome = calling => outcome,
            () = alarm.as_mut() => {
                let message = "no answer came in time; whether the call was done is not known";
                Err(LinkFailure::new(LinkReason::Deadline, message))
            }
        };
        if let Some((node, _)) = asked {
            calls.asked = node;
        }
        let (opened, epoch, answer) = match outcome {
            Ok(done) => done,
            Err(failure) => return Err(to.failed(asked, failure)),
        };
        to.judge(asked, None);
        (calls.opened, calls.epoch, calls.pipes) = (Some(opened), epoch, pipes);
        Ok(answer)
    }
}

impl Calls {
    fn get(&self, proxy: u32) -> Option<(u64, u64)> {
        *self.handles.get(usize::try_from(proxy).ok()?)?
    }

    fn take(&mut self, proxy: u32) -> Option<(u64, u64)> {
        let taken = self.handles.get_mut(usize::try_from(proxy).ok()?)?.take();
        if taken.is_some() {
            self.free.push(proxy);
        }
        taken
    }
}

fn is_open(open: health::Open) -> LinkFailure {
    LinkFailure::new(LinkReason::Unavailable, format!("the circuit of the link is open: {open}"))
}

fn not_known() -> LinkFailure {
    LinkFailure::new(LinkReason::Protocol, "the link is not known")
}

/// A call with the time that is left.
fn call(function: u32, arguments: Vec<u8>, work: Work<'_>) -> Body {
    let left = work.deadline.saturating_duration_since(Instant::now()).as_micros();
    let deadline_us = u64::try_from(left).unwrap_or(u64::MAX);
    Body::Call(Call { function, arguments, deadline_us, trace: work.trace })
}

impl Health {
    fn new(nodes: usize) -> Self {
        let breakers = (0..nodes).map(|_| Breaker::default()).collect();
        Self { breakers, budget: Budget::new(Instant::now()) }
    }

    /// Lets a caller ask the node at a place.
    fn admit(&self, node: usize) -> Result<Asked<'_>, health::Open> {
        let Some(breaker) = self.breakers.get(node) else { return Err(health::Open::default()) };
        Ok((node, breaker.admit(Instant::now())?))
    }

    /// Lets a caller try a node whose circuit is open, where all are.
    fn admit_early(&self) -> Result<Asked<'_>, health::Open> {
        let mut open = health::Open::default();
        for (at, breaker) in self.breakers.iter().enumerate() {
            match breaker.admit_early(Instant::now()) {
                Ok(admission) => return Ok((at, admission)),
                Err(why) => open = why,
            }
        }
        Err(open)
    }

    /// Whether a call may be sent again after this failure, which another node gave or was lost with.
    fn may_repeat(&self, failure: &LinkFailure, work: Work<'_>) -> bool {
        let is_safe =
            failure.reason.is_undelivered() || work.is_repeatable && failure.reason == LinkReason::Lost;
        is_safe && self.budget.withdraw(Instant::now())
    }
}

impl Remote {
    /// Tells the circuit of the node that was asked what became of a call.
    fn judge(&self, asked: Option<Asked<'_>>, failure: Option<&LinkFailure>) {
        let Some((at, admission)) = asked else { return };
        let Self { from, to, .. } = self;
        let node = self.node(at);
        match failure.filter(|failure| failure.reason.is_loss()) {
            None => {
                if admission.answered() {
                    tracing::info!(%from, %to, %node, "the circuit of a link is closed: it was answered again");
                }
            }
            Some(failure) => {
                if let Some(wait) = admission.failed(Instant::now()) {
                    let wait_ms = wait.as_millis();
                    tracing::warn!(%from, %to, %node, %failure, wait_ms, "the circuit of a link is open");
                }
            }
        }
    }

    fn node(&self, at: usize) -> &str {
        self.nodes.get(at).map_or("", NodeName::as_str)
    }

    /// A call has failed: whoever was asked is judged, and where there are several the failure says which it was.
    fn failed(&self, asked: Option<Asked<'_>>, failure: LinkFailure) -> LinkFailure {
        let at = asked.as_ref().map(|(at, _)| *at);
        self.judge(asked, Some(&failure));
        match at {
            Some(at) if self.nodes.len() > 1 => {
                LinkFailure { message: format!("node {}: {}", self.node(at), failure.message), ..failure }
            }
            _ => failure,
        }
    }

    /// A call that may be made again has failed: where there are several nodes, that one is judged, and another is asked.
    fn turn_away(&self, asked: &mut Option<Asked<'_>>, failure: LinkFailure) -> LinkFailure {
        if self.nodes.len() < 2 { failure } else { self.failed(asked.take(), failure) }
    }
}

impl Links {
    /// For a slice of a graph at `version` that calls these.
    pub(crate) fn new(version: GraphVersion, remotes: Vec<Remote>, carrier: Arc<Carrier>) -> Self {
        let with_health = |remote: Remote| {
            let health = Health::new(remote.nodes.len());
            (remote, health)
        };
        Self { version, remotes: remotes.into_iter().map(with_health).collect(), carrier }
    }

    /// One of a provider's nodes that may be asked and is not among `avoided`, or of all that may be asked if each is.
    fn choose<'a>(
        &self,
        to: &Remote,
        health: &'a Health,
        avoided: &[usize],
    ) -> Result<Asked<'a>, health::Open> {
        if to.nodes.len() < 2 {
            return health.admit(0);
        }
        let now = Instant::now();
        let all = || health.breakers.iter().enumerate().filter(|(_, breaker)| !breaker.is_open(now));
        let candidate = |(at, breaker): (usize, &Breaker)| Candidate {
            who: at,
            is_failing: to.nodes.get(at).is_some_and(|node| self.carrier.is_failing(&self.version.graph, node)),
            is_near: to.nodes.get(at).is_some_and(|node| self.carrier.is_near(node)),
            asking: breaker.asking(),
        };
        let chosen = choose(all().filter(|(at, _)| !avoided.contains(at)).map(candidate));
        match chosen.or_else(|| choose(all().map(candidate))) {
            Some(at) => health.admit(at),
            // Nobody may be asked: one that failed before may be back.
            None => health.admit_early(),
        }
    }

    /// Opens a session with a call, and tries again while that may be done, with another node at once. `lost` is how an
    /// earlier try ended that may have been done, and `avoided` where. Who was asked is judged where it fails.
    async fn first_call<'a>(
        &self,
        (to, health): (&Remote, &'a Health),
        asked: &mut Option<Asked<'a>>,
        FirstCall { function, arguments, pipes, work }: FirstCall<'_>,
        (mut lost, mut avoided): (Option<LinkFailure>, Vec<usize>),
    ) -> Result<(Opened, Vec<u8>), LinkFailure> {
        let mut tries = Tries::until(work.deadline);
        let mut open_tries = 0;
        loop {
            let chosen = match asked.take() {
                Some(asked) => Ok(asked),
                None => self.choose(to, health, &avoided),
            };
            let failure = match chosen {
                Err(open) => {
                    open_tries += 1;
                    if open_tries > OPEN_TRIES_MAX {
                        return Err(lost.unwrap_or_else(|| is_open(open)));
                    }
                    is_open(open)
                }
                Ok((at, admission)) => {
                    *asked = Some((at, admission));
                    // Those that were asked in vain since the last wait.
                    avoided.push(at);
                    match self.try_first(to, at, (function, &arguments, pipes), work).await {
                        Ok(done) => return Ok(done),
                        Err((failure, may_repeat)) => {
                            if !may_repeat.is_some_and(|asks| !asks || health.may_repeat(&failure, work)) {
                                let failure = to.failed(asked.take(), failure);
                                return Err(lost.unwrap_or(failure));
                            }
                            to.turn_away(asked, failure)
                        }
                    }
                }
            };
            let now = Instant::now();
            let mut others = health.breakers.iter().enumerate();
            let is_another = others.any(|(at, breaker)| !avoided.contains(&at) && !breaker.is_open(now));
            if !is_another {
                if !tries.again().await {
                    let failure = to.failed(asked.take(), failure);
                    return Err(lost.unwrap_or(failure));
                }
                avoided.clear();
            }
            if failure.reason == LinkReason::Lost {
                lost = Some(failure);
            }
        }
    }

    /// Tries it with one node. A failure says whether it may be tried again: not at all, or without or with asking whether
    /// it may be repeated.
    async fn try_first(
        &self,
        to: &Remote,
        at: usize,
        (function, arguments, pipes): (u32, &[u8], Option<&Arc<Pipes>>),
        work: Work<'_>,
    ) -> Result<(Opened, Vec<u8>), (LinkFailure, Option<bool>)> {
        let node = to.nodes.get(at).ok_or_else(|| (not_known(), None))?;
        let line = self.carrier.line(node).await.map_err(|failure| (failure, Some(false)))?;
        let Some(opened) = Opened::new(line, at, pipes) else {
            let message = "the streams that it was given are lost with an earlier try";
            return Err((LinkFailure::new(LinkReason::Lost, message), None));
        };
        let call = call(function, arguments.to_vec(), work);
        self.open(opened, to, call, work).await.map_err(|failure| (failure, Some(true)))
    }

    /// Opens a session with its first call.
    async fn open(
        &self,
        opened: Opened,
        to: &Remote,
        call: Body,
        work: Work<'_>,
    ) -> Result<(Opened, Vec<u8>), LinkFailure> {
        let open = Body::Open(Box::new(Open {
            version: self.version.clone(),
            from: to.from.clone(),
            to: to.to.clone(),
            request: work.request.to_owned(),
            functions: to.functions.clone(),
            trace_state: work.trace.and(work.trace_state).cloned(),
        }));
        let answer = opened.line.call(opened.id, Some(open), call).await?;
        Ok((opened, answer))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use model::id::{Generation, Uid};

    use super::*;

    /// Some hundreds of bytes; with a dial in it, it had many thousands.
    const CALL_MAX_BYTES: usize = 2_048;

    fn sessions() -> Sessions {
        let remote = Remote {
            from: "app".parse().unwrap(),
            to: "db".parse().unwrap(),
            nodes: ["n2".parse().unwrap()].into(),
            functions: Vec::new(),
        };
        let version = GraphVersion {
            graph: "default/g".parse().unwrap(),
            uid: Uid::new("u").unwrap(),
            generation: Generation(1),
        };
        let carrier = Arc::new(Carrier::new(Arc::new(|_: &_| None)));
        Sessions::new(Arc::new(Links::new(version, vec![remote], carrier)))
    }

    fn until(deadline: Instant) -> Work<'static> {
        Work { request: "r", deadline, trace: None, trace_state: None, is_repeatable: false }
    }

    #[tokio::test]
    async fn a_call_that_is_never_delivered_ends_with_that_before_its_deadline() {
        let mut sessions = sessions();
        let deadline = Instant::now() + Duration::from_millis(200);
        let failure = sessions.call(0, 0, Vec::new(), until(deadline)).await.unwrap_err();
        assert_eq!(failure.reason, LinkReason::Unavailable);
        let large = vec![0; MESSAGE_MAX_BYTES + 1];
        let failure = sessions.call(0, 0, large, until(deadline)).await.unwrap_err();
        assert_eq!(failure.reason, LinkReason::Protocol);
    }

    /// Each call of a guest is a future that is made, put on the heap and dropped.
    #[test]
    fn a_call_is_small() {
        let mut sessions = sessions();
        let call = sessions.call(0, 0, Vec::new(), until(Instant::now()));
        assert!(size_of_val(&call) <= CALL_MAX_BYTES, "{} bytes", size_of_val(&call));
    }

    #[tokio::test]
    async fn handles_are_of_the_session_that_gave_them() {
        let mut sessions = sessions();
        // As after a call that was answered with two handles.
        let (one, two) = (sessions.proxy(0, 7).unwrap(), sessions.proxy(0, 8).unwrap());
        assert_ne!(one, two);
        sessions.dropped(0, one);
        assert_eq!(sessions.proxy(0, 9), Some(one), "places are used again");
        assert_eq!(sessions.handle(0, two, false), None, "without a session, no handle means anything");
        assert_eq!(sessions.handle(0, 99, true), None);
        assert_eq!(sessions.handle(9, one, true), None);
        let deadline = Instant::now() + Duration::from_millis(50);
        sessions.call(0, 0, Vec::new(), until(deadline)).await.unwrap_err();
        let calls = &sessions.calls[0];
        assert_ne!(calls.get(two).unwrap().0, calls.epoch);
    }
}
