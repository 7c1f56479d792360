//! Identities that Weft gives: never reused, made by the proposer and carried in the command.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{GraphName, NameError, NamespaceName};

/// The revision of the replicated state: +1 for each command that changed something, starting at 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StateRevision(pub u64);

/// A graph's revision: 1 for the first deploy, +1 for each deploy or rollback after it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RevisionNumber(pub u64);

/// Orders what a receiver may act on: it refuses an older generation than the one it has.
///
/// Generations are state revisions, so they are never reused, not even by a graph of the same name made again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

macro_rules! numbers {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, out)
            }
        }
    )*};
}

numbers! { StateRevision RevisionNumber Generation }

impl From<StateRevision> for Generation {
    fn from(revision: StateRevision) -> Self {
        Self(revision.0)
    }
}

/// The longest [`Uid`] and [`RequestId`], in bytes: a UUID has 36; a CI job's key may be longer.
pub const ID_MAX_BYTES: usize = 128;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// It is empty or longer than [`ID_MAX_BYTES`].
    #[error("an id has 1 to {ID_MAX_BYTES} characters, this one has {length}")]
    Length {
        /// Its length in bytes.
        length: usize,
    },
    /// A character outside printable ASCII without spaces.
    #[error("an id has printable ASCII characters only, without spaces")]
    Character,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Refuses a text that is not an id.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                if text.is_empty() || text.len() > ID_MAX_BYTES {
                    return Err(IdError::Length { length: text.len() });
                }
                if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(IdError::Character);
                }
                Ok(Self(text))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.pad(&self.0)
            }
        }
    )*};
}

ids! {
    /// The identity of an object over its whole life: another graph of the same name has another.
    Uid;
    /// Chosen by the caller for one mutation; the same id is applied once.
    RequestId;
    /// The identity of a cluster, made when it is initialised.
    ClusterId;
}

/// Where the version of a UUID stands in its text, and the one whose first 48 bits are the time.
const UUID_VERSION_AT: usize = 14;
const TIMED: u8 = b'7';

impl RequestId {
    /// When the request was made, milliseconds since 1970, if it is a UUID of version 7 (RFC 9562).
    pub fn made_at_ms(&self) -> Option<u64> {
        let text = self.0.as_bytes();
        let is_hyphen = |at: usize| matches!(at, 8 | 13 | 18 | 23);
        let is_uuid = text.len() == 36
            && text.iter().enumerate().all(|(at, byte)| match is_hyphen(at) {
                true => *byte == b'-',
                false => byte.is_ascii_hexdigit(),
            });
        if !is_uuid || text[UUID_VERSION_AT] != TIMED {
            return None;
        }
        let (high, low) = (self.0.get(..8)?, self.0.get(9..13)?);
        u64::from_str_radix(&[high, low].concat(), 16).ok()
    }
}

/// What stands behind the name of a graph's candidate: `namespace/graph@candidate`.
pub const CANDIDATE: &str = "candidate";

/// A graph's full name, written `namespace/graph`.
///
/// While a graph is rolled out by steps there is a second one beside it, its *candidate*, `namespace/graph@candidate`:
/// the next revision, which runs as a graph of its own until it replaces the other or is given up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GraphKey {
    /// The namespace it is in.
    pub namespace: NamespaceName,
    /// Its name there.
    pub graph: GraphName,
    /// Whether it is the candidate of the graph of this name.
    pub is_candidate: bool,
}

impl GraphKey {
    /// A key of its two parts.
    pub const fn new(namespace: NamespaceName, graph: GraphName) -> Self {
        Self { namespace, graph, is_candidate: false }
    }

    /// The candidate of this graph.
    pub fn candidate(&self) -> Self {
        Self { is_candidate: true, ..self.clone() }
    }

    /// The graph that a candidate is to replace; a graph that is none itself.
    pub fn base(&self) -> Self {
        Self { is_candidate: false, ..self.clone() }
    }
}

impl FromStr for GraphKey {
    type Err = NameError;

    /// Reads `namespace/graph`, or `graph` in the default namespace; `@candidate` may stand behind either.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, is_candidate) = match text.rsplit_once('@') {
            Some((name, CANDIDATE)) => (name, true),
            _ => (text, false),
        };
        let (namespace, graph) = match name.split_once('/') {
            Some((namespace, graph)) => (namespace.parse()?, graph),
            None => (NamespaceName::default_namespace(), name),
        };
        Ok(Self { namespace, graph: graph.parse()?, is_candidate })
    }
}

impl TryFrom<String> for GraphKey {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<GraphKey> for String {
    fn from(key: GraphKey) -> String {
        key.to_string()
    }
}

impl fmt::Display for GraphKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.graph)?;
        if self.is_candidate { write!(out, "@{CANDIDATE}") } else { Ok(()) }
    }
}
