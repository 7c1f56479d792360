//! What two agents say to each other over a link: frames of many sessions on one stream.
//!
//! A session ties one instance of a consumer to an instance of a provider that is made for it. It is opened together
//! with its first call; it has at most one call under way, since its consumer waits for the answer.

use std::fmt;

use bytes::Bytes;

use crate::digest::Digest;
use crate::id::{Generation, GraphKey, Uid};
use crate::interface::{InterfaceName, Track};
use crate::name::ComponentName;
use crate::trace::{TraceContext, TraceState};

/// The most bytes of the arguments or the result of one call.
pub const MESSAGE_MAX_BYTES: usize = 4 << 20;
/// No session: a failure with this number is the provider's agent saying that its stream takes no new ones.
pub const STREAM: u64 = 0;
/// The most bytes of one pipe that are on their way or wait to be taken: what its receiver has agreed to hold.
pub const PIPE_WINDOW_BYTES: usize = 256 << 10;
/// The most bytes of one frame of a pipe: what others on the same stream wait behind.
pub const PIPE_DATA_MAX_BYTES: usize = 64 << 10;
/// What the smallest frame of a pipe costs of that: what holds a few bytes takes more memory than they.
pub const PIPE_DATA_LEAST_BYTES: usize = 256;
/// The most pipes of one session that are open at once.
pub const PIPES_MAX: usize = 64;
/// The most functions of one session, which are those of all links from one component to one other.
pub const BINDINGS_MAX: usize = 1_024;
/// The deepest nesting of types. Each level is one message at most, and protobuf libraries read 100 of them: what we
/// write, any of them reads. It bounds the stack as well.
pub const TYPES_DEPTH_MAX: usize = 64;
/// How many types and names one function has, each counted wherever it stands. Types are shared in WIT and written out
/// here, so a short text can grow to billions; the longest function of the WASI interfaces has some hundreds.
pub const TYPES_MAX: usize = 10_000;
/// The longest name. Every value of a record, variant, enum or flags holds copies of its names, which cost the reader
/// memory that no byte of the message paid for.
pub const NAME_MAX_BYTES: usize = 128;
/// Flags are the bits of a `uint64`.
pub const FLAGS_MAX: usize = 64;

/// One thing said about one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Chosen by the consumer's agent, never used twice on one stream, and not [`STREAM`].
    pub session: u64,
    /// What is said.
    pub body: Body,
}

/// What is said about a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The consumer's first frame.
    Open(Box<Open>),
    /// The consumer calls.
    Call(Call),
    /// The call is done; the result in protobuf derived from WIT.
    Returned(Vec<u8>),
    /// The call has no result. The session is over with it.
    Failed(LinkFailure),
    /// The consumer has dropped these handles.
    Dropped(Vec<u64>),
    /// The consumer is gone: its instance, its handles, its call.
    Closed,
    /// About a pipe of the session.
    Pipe {
        /// Its handle: odd if the consumer's agent gave it, even if the provider's did; never used twice in a session.
        pipe: u64,
        /// What is said.
        piped: Piped,
    },
}

/// What is said about a pipe: a `wasi:io` stream or pollable that was given over a link. It stays where it is, at its
/// home; what stands for it at the other end is filled or emptied by these.
///
/// Bytes flow from a sender to a receiver: from the home of an input stream, to the home of an output stream. A sender
/// sends no more than it has credit for, each time at the price of [`PIPE_DATA_LEAST_BYTES`] at least. A pollable is an output stream without bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piped {
    /// The sender's next bytes, at most [`PIPE_DATA_MAX_BYTES`].
    Data(Bytes),
    /// The receiver takes so many more bytes.
    Credit(u64),
    /// The sender wants to know when all that it has sent is written out; asked again only after the answer.
    Wait,
    /// The answer to [`Piped::Wait`].
    Ready,
    /// This end is done with it. A sender has sent all; a receiver wants no more.
    Ended {
        /// Why it could not go on, where it should have.
        failure: Option<String>,
        /// How many bytes a receiver has taken in all: the others go back to who lent the stream.
        taken: u64,
    },
}

/// Which graph a consumer is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphVersion {
    /// Its full name.
    pub graph: GraphKey,
    /// Its identity.
    pub uid: Uid,
    /// Its generation.
    pub generation: Generation,
}

/// Who wants to call what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The graph that both are of.
    pub version: GraphVersion,
    /// The consumer.
    pub from: ComponentName,
    /// The provider: a component or a capability.
    pub to: ComponentName,
    /// The request that this is done for, as the log has it.
    pub request: String,
    /// What others keep in the trace that its calls are of.
    pub trace_state: Option<TraceState>,
    /// The functions that may be called; calls name them by their place in this list.
    pub functions: Vec<Binding>,
}

/// One function as the consumer knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The interface, as the consumer names it.
    pub interface: InterfaceName,
    /// The function, as WIT names it.
    pub function: String,
    /// The digest of its type.
    pub digest: Digest,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The place of the function in the session's list.
    pub function: u32,
    /// The arguments in protobuf derived from WIT.
    pub arguments: Vec<u8>,
    /// How long it may take, in microseconds.
    pub deadline_us: u64,
    /// The consumer's span, if the trace is recorded.
    pub trace: Option<TraceContext>,
}

/// A resource of the host's own that can be given over a link: it stays where it is and is carried as a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostResource {
    /// `wasi:io/streams.input-stream`
    InputStream,
    /// `wasi:io/streams.output-stream`
    OutputStream,
    /// `wasi:io/poll.pollable`
    Pollable,
}

impl HostResource {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::InputStream, Self::OutputStream, Self::Pollable];

    /// The interface that defines it, without its version, and its name there.
    pub const fn path(self) -> (&'static str, &'static str) {
        match self {
            Self::InputStream => ("wasi:io/streams", "input-stream"),
            Self::OutputStream => ("wasi:io/streams", "output-stream"),
            Self::Pollable => ("wasi:io/poll", "pollable"),
        }
    }

    /// Whether this is the interface that defines it, on the track of it that hosts have: `@0.2`.
    pub fn is_of(self, interface: &InterfaceName) -> bool {
        interface.track() == Track::Minor(2) && interface.path() == self.path().0
    }
}

/// Why a call over a link has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct LinkFailure {
    /// What kind of failure.
    pub reason: LinkReason,
    /// A sentence for people.
    pub message: String,
}

impl LinkFailure {
    /// A failure with its sentence.
    pub fn new(reason: LinkReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkReason {
    /// The call was not delivered: the other node is not reached, or does not serve that part yet. May be tried again.
    Unavailable,
    /// The call was not delivered: the other node has no room for it now. May be tried again.
    Busy,
    /// The link does not exist there, or not for this consumer.
    Denied,
    /// A function is missing there, or has another type.
    Mismatch,
    /// The way to the other node was lost after the call was sent: whether it was done is not known.
    Lost,
    /// The call did not end in time; it was ended.
    Deadline,
    /// The provider trapped.
    Trapped,
    /// The other agent broke the protocol.
    Protocol,
}

impl LinkReason {
    /// The stable word: `link_lost`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unavailable => "link_unavailable",
            Self::Busy => "link_busy",
            Self::Denied => "link_denied",
            Self::Mismatch => "link_mismatch",
            Self::Lost => "link_lost",
            Self::Deadline => "link_deadline",
            Self::Trapped => "link_trapped",
            Self::Protocol => "link_protocol",
        }
    }

    /// Whether the other node or the way to it is at fault, and neither of the two components nor the graph.
    pub const fn is_loss(self) -> bool {
        matches!(self, Self::Unavailable | Self::Busy | Self::Lost | Self::Deadline)
    }

    /// Whether it is certain that nothing was done, so that the call may be made again.
    pub const fn is_undelivered(self) -> bool {
        matches!(self, Self::Unavailable | Self::Busy)
    }
}

impl fmt::Display for LinkReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.word())
    }
}
