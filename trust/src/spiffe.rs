//! The name in a certificate: `spiffe://CLUSTER/ROLE/UID`, and nothing else that a URI may hold.
//!
//! A name has one spelling only, so that comparing text and comparing meaning are the same.

use std::fmt;
use std::str::FromStr;

use model::id::{ClusterId, Uid};

const SCHEME: &str = "spiffe://";

/// What an identity is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A member of the control plane.
    Member,
    /// An agent's node.
    Node,
    /// A person, or a program that acts for one.
    Operator,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Member, Self::Node, Self::Operator];

    /// As it stands in a name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Node => "node",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(SpiffeIdError::Role)
    }
}

/// Who somebody is: a uid in a role of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    cluster: ClusterId,
    role: Role,
    uid: Uid,
}

/// Why a text or its parts are not a [`SpiffeId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// It does not begin with `spiffe://`.
    #[error("the name of an identity begins with `spiffe://`")]
    Scheme,
    /// It has not the three parts cluster, role and uid.
    #[error("the name of an identity has three parts: spiffe://CLUSTER/ROLE/UID")]
    Parts,
    /// The role is none of ours.
    #[error("the role of an identity is `member`, `node` or `operator`")]
    Role,
    /// The cluster is empty, too long, or has a character that may not be in it.
    #[error(
        "the cluster of an identity has 1 to 128 of `a-z`, `0-9`, `.`, `-` and `_`, and a letter or digit first"
    )]
    Cluster,
    /// The uid is empty, too long, or has a character that may not be in it.
    #[error(
        "the uid of an identity has 1 to 128 of `a-z`, `0-9`, `.`, `-` and `_`, and a letter or digit first"
    )]
    Uid,
}

impl SpiffeId {
    /// An identity of its parts.
    ///
    /// # Errors
    ///
    /// Ids of a cluster are any printable text; those in a name are lower-case letters, digits, `.`, `-` and `_`, and
    /// begin with a letter or a digit.
    pub fn new(cluster: ClusterId, role: Role, uid: Uid) -> Result<Self, SpiffeIdError> {
        if !is_plain(cluster.as_str()) {
            return Err(SpiffeIdError::Cluster);
        }
        if !is_plain(uid.as_str()) {
            return Err(SpiffeIdError::Uid);
        }
        Ok(Self { cluster, role, uid })
    }

    /// The cluster that it belongs to.
    pub const fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// What it is there.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Which one of them it is.
    pub const fn uid(&self) -> &Uid {
        &self.uid
    }
}

/// Whether a part needs no escape in a URI and has one spelling only.
pub(crate) fn is_plain(part: &str) -> bool {
    part.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'))
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let mut parts = rest.split('/');
        let (Some(cluster), Some(role), Some(uid), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SpiffeIdError::Parts);
        };
        let cluster = ClusterId::new(cluster).map_err(|_| SpiffeIdError::Cluster)?;
        let uid = Uid::new(uid).map_err(|_| SpiffeIdError::Uid)?;
        Self::new(cluster, role.parse()?, uid)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{SCHEME}{}/{}/{}", self.cluster, self.role, self.uid)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn refused(text: &str, reason: &SpiffeIdError) {
        assert_eq!(text.parse::<SpiffeId>().as_ref(), Err(reason), "{text}");
    }

    #[test]
    fn a_name_has_one_spelling() {
        let id: SpiffeId = "spiffe://west-1/node/0a1b.c_d".parse().unwrap();
        assert_eq!((id.cluster().as_str(), id.role(), id.uid().as_str()), ("west-1", Role::Node, "0a1b.c_d"));
        refused("", &SpiffeIdError::Scheme);
        refused("SPIFFE://c/node/u", &SpiffeIdError::Scheme);
        refused("https://c/node/u", &SpiffeIdError::Scheme);
        refused("spiffe://c/node", &SpiffeIdError::Parts);
        refused("spiffe://c/node/u/", &SpiffeIdError::Parts);
        refused("spiffe://c/node/u/v", &SpiffeIdError::Parts);
        refused("spiffe://c/Node/u", &SpiffeIdError::Role);
        refused("spiffe://c//u", &SpiffeIdError::Role);
        refused("spiffe:///node/u", &SpiffeIdError::Cluster);
        refused("spiffe://c:443/node/u", &SpiffeIdError::Cluster);
        refused("spiffe://me@c/node/u", &SpiffeIdError::Cluster);
        refused("spiffe://West/node/u", &SpiffeIdError::Cluster);
        refused("spiffe://c/node/", &SpiffeIdError::Uid);
        refused("spiffe://c/node/U", &SpiffeIdError::Uid);
        refused("spiffe://c/node/..", &SpiffeIdError::Uid);
        refused("spiffe://c/node/u?admin", &SpiffeIdError::Uid);
        refused("spiffe://c/node/u#v", &SpiffeIdError::Uid);
        refused("spiffe://c/node/%75", &SpiffeIdError::Uid);
        refused("spiffe://c/node/u\n", &SpiffeIdError::Uid);
        refused(&format!("spiffe://c/node/{}", "u".repeat(129)), &SpiffeIdError::Uid);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(cluster in "[a-z0-9][a-z0-9._-]{0,127}", uid in "[a-z0-9][a-z0-9._-]{0,127}", role in 0..3usize) {
            let id = SpiffeId::new(ClusterId::new(cluster).unwrap(), Role::ALL[role], Uid::new(uid).unwrap()).unwrap();
            prop_assert_eq!(id.to_string().parse::<SpiffeId>().unwrap(), id);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(spiffe://)?\\PC{0,80}") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
