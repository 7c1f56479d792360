//! Both ends of pipes in one process, with the frames between them carried by hand.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use model::link::{Body, Frame, PIPE_DATA_MAX_BYTES, PIPE_WINDOW_BYTES, PIPES_MAX, Piped};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::sync::mpsc;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use super::{LentBy, Party, Pipes};

/// The most that a test waits for something.
const SOON: Duration = Duration::from_secs(20);

/// Both ends of a session, whose frames are carried until they are dropped.
fn session() -> (Arc<Pipes>, Arc<Pipes>) {
    let (consumer, provider) = (Arc::new(Pipes::new(Party::Consumer)), Arc::new(Pipes::new(Party::Provider)));
    carry(&consumer, &provider);
    carry(&provider, &consumer);
    (consumer, provider)
}

fn carry(from: &Arc<Pipes>, to: &Arc<Pipes>) {
    let (outgoing, mut frames) = mpsc::channel::<Frame>(4);
    from.attach(outgoing, 1);
    let to = to.clone();
    tokio::spawn(async move {
        while let Some(Frame { body, .. }) = frames.recv().await {
            let Body::Pipe { pipe, piped } = body else { panic!("{body:?}") };
            to.hear(pipe, piped).unwrap();
        }
    });
}

fn in_time<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(SOON, test).await.expect("it ends in time") })
}

/// Gives its pieces one by one, each only after it was waited for.
struct Source {
    pieces: VecDeque<Bytes>,
    is_ready: bool,
    failure: Option<&'static str>,
}

impl Source {
    fn of(sizes: &[usize]) -> (DynInputStream, Vec<u8>) {
        let all: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|at| (at % 251) as u8).collect();
        let mut rest = Bytes::from(all.clone());
        let pieces = sizes.iter().map(|size| rest.split_to(*size)).collect();
        (Box::new(Self { pieces, is_ready: false, failure: None }), all)
    }
}

#[async_trait]
impl Pollable for Source {
    async fn ready(&mut self) {
        tokio::task::yield_now().await;
        self.is_ready = true;
    }
}

#[async_trait]
impl InputStream for Source {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if !std::mem::take(&mut self.is_ready) {
            return Ok(Bytes::new());
        }
        match self.pieces.front_mut() {
            None => Err(match self.failure.take() {
                Some(failure) => StreamError::LastOperationFailed(wasmtime::format_err!("{failure}")),
                None => StreamError::Closed,
            }),
            Some(piece) => {
                let part = piece.split_to(size.min(piece.len()));
                if piece.is_empty() {
                    self.pieces.pop_front();
                }
                Ok(part)
            }
        }
    }
}

/// Keeps what is written, and takes only so much at once.
struct Sink {
    written: Arc<Mutex<Written>>,
    room: usize,
}

#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    flushed: usize,
    is_closed: bool,
    is_dropped: bool,
}

impl Sink {
    fn of(room: usize) -> (DynOutputStream, Arc<Mutex<Written>>) {
        let written = Arc::<Mutex<Written>>::default();
        (Box::new(Self { written: written.clone(), room }), written)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.written.lock().unwrap().is_dropped = true;
    }
}

#[async_trait]
impl Pollable for Sink {
    async fn ready(&mut self) {
        tokio::task::yield_now().await;
    }
}

#[async_trait]
impl OutputStream for Sink {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        assert!(bytes.len() <= self.room, "no more than it takes");
        self.written.lock().unwrap().bytes.extend_from_slice(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        let mut written = self.written.lock().unwrap();
        written.flushed = written.bytes.len();
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.written.lock().unwrap().is_closed { Err(StreamError::Closed) } else { Ok(self.room) }
    }
}

/// Reads up to so many bytes, in reads of this size.
async fn read(stream: &mut DynInputStream, mut most: usize, size: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while most > 0 {
        match stream.blocking_read(size.min(most)).await {
            Ok(bytes) => {
                most -= bytes.len();
                read.extend_from_slice(&bytes);
            }
            Err(StreamError::Closed) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    read
}

async fn write(stream: &mut DynOutputStream, mut bytes: &[u8], size: usize) {
    while !bytes.is_empty() {
        let room = stream.write_ready().await.unwrap();
        let part = bytes.len().min(room).min(size);
        stream.write(Bytes::copy_from_slice(&bytes[..part])).unwrap();
        bytes = &bytes[part..];
    }
}

/// Sizes from single bytes to more than a window.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![4 => 1..40_usize, 4 => 1..9_000_usize, 2 => 1..300_000_usize], 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_lent_comes_back_as_it_was_left(
        sizes in sizes(),
        shares in vec(0..=100_usize, 1..6),
        size in 1..70_000_usize,
        hops in 1..4_usize,
    ) {
        in_time(async {
            let (stream, all) = Source::of(&sizes);
            let (mut stream, mut kept) = (Some(stream), None);
            let mut read_so_far = Vec::new();
            // It is lent several times, and each time a share of it is read at the end of some hops.
            let sessions: Vec<_> = (0..hops).map(|_| session()).collect();
            for share in shares {
                let (mut lent, mut from, mut far) = (Vec::new(), None, stream.take().unwrap());
                for (consumer, provider) in &sessions {
                    let before = if lent.is_empty() { kept.take() } else { None };
                    let (pipe, back, unread) = consumer.lend_input(|| Ok(far), from, before).unwrap();
                    if lent.is_empty() {
                        kept = Some(unread);
                    }
                    far = provider.input(pipe).unwrap();
                    from = Some(LentBy { pipes: provider.clone(), pipe });
                    lent.push(back);
                }
                let most = all.len() * share / 100;
                read_so_far.extend(read(&mut far, most, size).await);
                drop(far);
                // Who borrowed it last gives it back first.
                while let Some(mut back) = lent.pop() {
                    let back = back.back().await.unwrap();
                    stream = lent.is_empty().then_some(back);
                }
            }
            read_so_far.extend(read(&mut stream.unwrap(), usize::MAX, 10_000).await);
            assert!(read_so_far == all, "{} of {} bytes", read_so_far.len(), all.len());
        });
    }

    #[test]
    fn what_is_given_is_read_to_its_end(sizes in sizes(), size in 1..70_000_usize, hops in 1..4_usize) {
        in_time(async {
            let (mut stream, all) = Source::of(&sizes);
            let sessions: Vec<_> = (0..hops).map(|_| session()).collect();
            for (consumer, provider) in &sessions {
                stream = provider.input(consumer.give_input(|| Ok(stream)).unwrap()).unwrap();
            }
            let read = read(&mut stream, usize::MAX, size).await;
            assert!(read == all, "{} of {} bytes", read.len(), all.len());
        });
    }

    #[test]
    fn what_is_written_is_there_when_the_other_end_is_told(
        sizes in sizes(),
        size in 1..70_000_usize,
        room in 1..70_000_usize,
        is_flushed: bool,
    ) {
        in_time(async {
            let (consumer, provider) = session();
            let (sink, written) = Sink::of(room);
            let (pipe, mut back) = consumer.lend_output(|| Ok(sink)).unwrap();
            let mut far = provider.output(pipe).unwrap();
            let (_, all) = Source::of(&sizes);
            write(&mut far, &all, size).await;
            if is_flushed {
                far.flush().unwrap();
                far.write_ready().await.unwrap();
                assert_eq!(written.lock().unwrap().flushed, all.len());
            }
            drop(far);
            let back = back.back().await.unwrap();
            assert!(written.lock().unwrap().bytes == all);
            drop(back);
        });
    }
}

#[test]
fn a_stream_that_is_written_and_dropped_is_let_go_of_before_the_call_is_told() {
    in_time(async {
        let (consumer, provider) = session();
        let (sink, written) = Sink::of(1_000);
        let mut far = provider.output(consumer.give_output(|| Ok(sink)).unwrap()).unwrap();
        write(&mut far, &[7; 200_000], 50_000).await;
        drop(far);
        // As around a result that is sent.
        provider.drained().await;
        wait(|| consumer.state().open.is_empty() || !consumer.state().ending.is_empty()).await;
        consumer.settled().await;
        let written = written.lock().unwrap();
        assert_eq!((written.bytes.len(), written.is_dropped), (200_000, true));
    });
}

/// What has been said is carried by a task of its own.
async fn wait(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn whoever_does_not_read_holds_up_no_more_than_a_window() {
    in_time(async {
        let (consumer, provider) = session();
        let (stream, all) = Source::of(&[60_000; 100]);
        let mut slow = provider.input(consumer.give_input(|| Ok(stream)).unwrap()).unwrap();
        let (stream, _) = Source::of(&[10; 1_000]);
        let mut quick = provider.input(consumer.give_input(|| Ok(stream)).unwrap()).unwrap();
        // The neighbour ends, and the slow one has what it may have.
        assert_eq!(read(&mut quick, usize::MAX, 10_000).await.len(), 10_000);
        let held = || match &provider.state().open[&1].role {
            super::Role::Receives(receiver) => receiver.held(),
            _ => panic!("it is an input stream"),
        };
        wait(|| held() > PIPE_WINDOW_BYTES - PIPE_DATA_MAX_BYTES).await;
        assert!(held() <= PIPE_WINDOW_BYTES, "{}", held());
        assert!(read(&mut slow, usize::MAX, 70_000).await == all);
    });
}

#[test]
fn failures_are_told_once_and_then_the_stream_is_closed() {
    in_time(async {
        let (consumer, provider) = session();
        let stream =
            Source { pieces: [Bytes::from("some")].into(), is_ready: false, failure: Some("it broke") };
        let mut far = provider.input(consumer.give_input(|| Ok(Box::new(stream))).unwrap()).unwrap();
        assert_eq!(read(&mut far, 4, 10).await, b"some");
        let told = far.blocking_read(10).await.unwrap_err();
        assert_eq!(told.to_string(), "last operation failed: it broke");
        assert!(matches!(far.blocking_read(10).await, Err(StreamError::Closed)));

        let (sink, written) = Sink::of(10);
        written.lock().unwrap().is_closed = true;
        let mut far = provider.output(consumer.give_output(|| Ok(sink)).unwrap()).unwrap();
        far.write(Bytes::from("nobody reads this")).unwrap();
        far.flush().unwrap();
        assert!(matches!(far.write_ready().await, Err(StreamError::Closed)));
        assert!(matches!(far.write(Bytes::from("nor this")), Err(StreamError::Closed)));
    });
}

#[test]
fn with_the_session_everything_is_lost_and_said_so() {
    in_time(async {
        let (consumer, provider) = session();
        let (stream, _) = Source::of(&[1_000; 10]);
        let (pipe, mut lent, _) = consumer.lend_input(|| Ok(stream), None, None).unwrap();
        let mut input = provider.input(pipe).unwrap();
        read(&mut input, 10, 10).await;
        let (sink, written) = Sink::of(10);
        let mut output = provider.output(consumer.give_output(|| Ok(sink)).unwrap()).unwrap();
        output.write_ready().await.unwrap();
        provider.lose();
        consumer.lose();
        // What had come is still read.
        let mut rest = 0;
        let failure = loop {
            match input.blocking_read(100_000).await {
                Ok(bytes) => rest += bytes.len(),
                Err(error) => break error,
            }
        };
        assert!(rest <= 9_990, "{rest}");
        assert_eq!(failure.to_string(), "last operation failed: link_lost");
        assert!(matches!(input.blocking_read(1).await, Err(StreamError::Closed)));
        let failure = output.write_ready().await.unwrap_err();
        assert_eq!(failure.to_string(), "last operation failed: link_lost");
        wait(|| written.lock().unwrap().is_dropped).await;
        // How far it was read is not known: its owner is told, and not given what may be the wrong bytes.
        let mut back = lent.back().await.unwrap();
        let failure = back.blocking_read(1).await.unwrap_err();
        assert_eq!(failure.to_string(), "last operation failed: link_lost");
        assert!(provider.input(99).is_err() && consumer.give_pollable(0, true).is_err());
    });
}

#[test]
fn an_agent_that_breaks_the_rules_is_found_out() {
    in_time(async {
        let ended = || Piped::Ended { failure: None, taken: 0 };
        let data = |bytes: usize| Piped::Data(vec![0; bytes].into());
        let (consumer, provider) = session();
        // Of pipes that never were; of one that is over.
        assert!(provider.hear(1, data(1)).is_err());
        assert!(provider.hear(2, ended()).is_err());
        let (sink, _) = Sink::of(10);
        let pipe = consumer.give_output(|| Ok(sink)).unwrap();
        let far = provider.output(pipe).unwrap();
        for wrong in [Piped::Credit(1), Piped::Ready, data(1), Piped::Wait] {
            let text = format!("{wrong:?}");
            assert!(provider.hear(pipe, wrong).is_err(), "{text}");
        }
        // A pipe is taken once, and not by who gave it.
        assert!(provider.output(pipe).is_err());
        assert!(consumer.output(3).is_err());
        for wrong in [data(0), data(PIPE_DATA_MAX_BYTES + 1), Piped::Credit(1), Piped::Ready] {
            let text = format!("{wrong:?}");
            assert!(consumer.hear(pipe, wrong).is_err(), "{text}");
        }
        drop(far);
        assert!(provider.hear(pipe, data(1)).is_ok(), "the other may not know that it is over");

        // More than there is credit for, in bytes and in pieces.
        for size in [PIPE_DATA_MAX_BYTES, 1] {
            let (stuck, _) = Sink::of(0);
            let consumer = Arc::new(Pipes::new(Party::Consumer));
            let pipe = consumer.give_output(|| Ok(stuck)).unwrap();
            let pieces = PIPE_WINDOW_BYTES / super::end::cost(size);
            for _ in 0..pieces {
                consumer.hear(pipe, data(size)).unwrap();
            }
            let wrong = consumer.hear(pipe, data(size)).unwrap_err();
            assert!(wrong.contains("not what it has credit for"), "{wrong}");
            consumer.lose();
        }

        let pollable = consumer.give_pollable(7, true).unwrap();
        consumer.hear(pollable, Piped::Wait).unwrap();
        assert!(consumer.hear(pollable, Piped::Wait).is_err());
        assert!(consumer.hear(pollable, data(1)).is_err());
        consumer.hear(pollable, ended()).unwrap();
        assert_eq!(consumer.released(), [7]);
    });
}

#[test]
fn a_session_has_so_many_pipes_and_no_more() {
    in_time(async {
        let (consumer, provider) = session();
        let given: Vec<u64> =
            (0..PIPES_MAX as u32).map(|at| consumer.give_pollable(at, true).unwrap()).collect();
        assert!(consumer.give_pollable(0, true).is_err());
        let (mut far, alive) = provider.pollable(given[0]).unwrap();
        let asked = tokio::spawn(async move {
            far.ready().await;
            far
        });
        wait(|| !consumer.asked().is_empty()).await;
        assert_eq!(consumer.asked()[0].0, given[0]);
        consumer.is_ready(given[0]);
        drop(asked.await.unwrap());
        assert_eq!(alive.strong_count(), 0);
        wait(|| !consumer.released().is_empty()).await;
        assert!(consumer.give_pollable(0, true).is_ok());
    });
}
