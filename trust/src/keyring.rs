//! What a process has at the moment: its identity, who is revoked, and the open connections, for those that must end.
//!
//! One of these is shared by everything in a process that accepts or connects, so that a renewed certificate and a
//! revocation reach all of it at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::id::Uid;
use tokio_util::sync::CancellationToken;

use crate::identity::Identity;
use crate::refusal::Refusal;
use crate::spiffe::SpiffeId;
use crate::verify::Knowledge;

/// How many connections of peers without a certificate may be open: newcomers that join, each with a call or two, and a
/// third of the file descriptors that a process has where nobody raised them.
pub const ANONYMOUS_MAX: usize = 256;

/// The identity of a process and whom it refuses. A copy is a handle of the same.
#[derive(Clone)]
pub struct Keyring(Arc<Mutex<State>>);

struct State {
    identity: Identity,
    revoked: Arc<BTreeSet<Uid>>,
    open: BTreeMap<u64, Open>,
    next: u64,
    renewals: u64,
}

struct Open {
    /// Nobody, if it showed no certificate.
    peer: Option<Uid>,
    cut: CancellationToken,
}

/// Why an identity may not follow another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate is one of `{found}`, and this is `{expected}`")]
pub struct ReplaceError {
    /// Whose certificate it is.
    pub found: SpiffeId,
    /// Who this process is.
    pub expected: SpiffeId,
}

impl Keyring {
    /// The keyring of a process that is `identity`, and revokes nobody yet.
    pub fn new(identity: Identity) -> Self {
        let (revoked, open) = (Arc::default(), BTreeMap::new());
        Self(Arc::new(Mutex::new(State { identity, revoked, open, next: 0, renewals: 0 })))
    }

    /// The identity at the moment.
    pub fn identity(&self) -> Identity {
        self.state().identity.clone()
    }

    /// Puts a new certificate in the place of the present one, for every handshake from now on. Connections that are
    /// open stay.
    ///
    /// # Errors
    ///
    /// Refuses a certificate of somebody else.
    pub fn replace(&self, identity: Identity) -> Result<(), ReplaceError> {
        let mut state = self.state();
        if identity.id() != state.identity.id() {
            return Err(ReplaceError { found: identity.id().clone(), expected: state.identity.id().clone() });
        }
        state.identity = identity;
        state.renewals += 1;
        Ok(())
    }

    /// How often the certificate was replaced. A connection shows the one of its handshake for as long as it is open: where
    /// that matters to its peer, who holds it has another one made when this number has grown.
    pub fn renewals(&self) -> u64 {
        self.state().renewals
    }

    /// Sets who is revoked: the full picture, which takes the place of the one before. Handshakes with them fail from
    /// now on, and open connections with them are cut, in both directions.
    pub fn revoke(&self, revoked: BTreeSet<Uid>) {
        let mut state = self.state();
        let is_revoked = |open: &&Open| open.peer.as_ref().is_some_and(|peer| revoked.contains(peer));
        let cuts: Vec<_> = state.open.values().filter(is_revoked).map(|open| open.cut.clone()).collect();
        state.revoked = Arc::new(revoked);
        // Who is woken may drop a connection at once, which takes it from the list.
        drop(state);
        cuts.iter().for_each(CancellationToken::cancel);
    }

    /// Who is revoked at the moment.
    pub fn revoked(&self) -> Arc<BTreeSet<Uid>> {
        Arc::clone(&self.state().revoked)
    }

    /// What a handshake that begins now goes by.
    pub(crate) fn knowledge(&self) -> (Identity, Knowledge) {
        let state = self.state();
        let knowledge = Knowledge {
            cluster: state.identity.id().cluster().clone(),
            roots: state.identity.roots(),
            revoked: Arc::clone(&state.revoked),
        };
        (state.identity.clone(), knowledge)
    }

    /// Lists a connection that is open from now on. Whoever was revoked since its handshake began is refused here, and
    /// where there are too many whose peer is nobody, the oldest of them is cut.
    pub(crate) fn list(&self, peer: Option<&SpiffeId>) -> Result<Listed, Refusal> {
        let mut state = self.state();
        if let Some(id) = peer.filter(|id| state.revoked.contains(id.uid())) {
            return Err(Refusal::Revoked { id: id.clone() });
        }
        let oldest = if peer.is_none() { state.make_room() } else { None };
        let number = state.next;
        state.next += 1;
        let cut = CancellationToken::new();
        state.open.insert(number, Open { peer: peer.map(|id| id.uid().clone()), cut: cut.clone() });
        drop(state);
        if let Some(oldest) = oldest {
            oldest.cancel();
        }
        Ok(Listed { keyring: self.clone(), number, cut })
    }

    /// The state is whole between any two of its changes, so a panic elsewhere while it was locked did not break it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes the oldest connection of nobody from the list, if there are as many as may be.
    fn make_room(&mut self) -> Option<CancellationToken> {
        let mut anonymous = self.open.iter().filter(|(_, open)| open.peer.is_none()).map(|(&number, _)| number);
        let oldest = anonymous.next()?;
        let is_full = anonymous.count() + 1 >= ANONYMOUS_MAX;
        let open = is_full.then(|| self.open.remove(&oldest)).flatten()?;
        Some(open.cut)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Keyring").field("identity", &self.identity()).finish_non_exhaustive()
    }
}

/// A connection's place in the list of open ones, as long as it is open.
pub(crate) struct Listed {
    keyring: Keyring,
    number: u64,
    pub(crate) cut: CancellationToken,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.keyring.state().open.remove(&self.number);
    }
}
