//! Which role may call which method: a layer in front of a tonic server. What its table does not name is refused.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures::future::{Either, Ready, ready};
use http::{Request, Response};
use model::id::Uid;
use tonic::Status;
use tower::{Layer, Service};

use crate::connection::Peer;
use crate::spiffe::Role;

/// What everybody who is refused is told, so that nothing is learnt from it.
pub const REFUSAL: &str = "this identity may not call this method";

/// Who calls, where that is somebody in this role: for methods behind a gate that act for their caller.
///
/// # Errors
///
/// Refuses everybody else, as the gate does.
pub fn caller<T>(request: &tonic::Request<T>, role: Role) -> Result<Uid, Status> {
    let peer = request.extensions().get::<Peer>().and_then(|peer| peer.id.as_ref());
    let caller = peer.filter(|id| id.role() == role);
    caller.map(|id| id.uid().clone()).ok_or_else(|| Status::unauthenticated(REFUSAL))
}

/// When the certificate ends that the caller showed, if it showed one.
pub fn certificate_ends<T>(request: &tonic::Request<T>) -> Option<SystemTime> {
    request.extensions().get::<Peer>().and_then(|peer| peer.certificate_ends)
}

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, also without a certificate.
    Anyone,
    /// Identities of these roles.
    Roles(&'static [Role]),
}

impl Access {
    /// Nobody.
    pub const NOBODY: Self = Self::Roles(&[]);

    /// Whether a role, or somebody without a certificate, is among them.
    pub fn allows(self, role: Option<Role>) -> bool {
        match self {
            Self::Anyone => true,
            Self::Roles(roles) => role.is_some_and(|role| roles.contains(&role)),
        }
    }
}

/// What the gate did with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It was passed on.
    Allowed,
    /// It was refused.
    Refused,
}

/// Sees each call at the gate: who (absent where the connection is none of ours), the path of the method, and what was
/// decided. It runs before the call does, and must not wait.
pub type Observer = dyn Fn(Option<&Peer>, &str, Decision) + Send + Sync;

/// A layer that passes on what the table allows to the [`Peer`] of a connection.
#[derive(Clone)]
pub struct Gate {
    table: fn(&str) -> Access,
    observer: Option<Arc<Observer>>,
}

impl Gate {
    /// A gate over a table of paths such as `/weft.node.v1.Nodes/Session`. The table gives [`Access::NOBODY`] for what
    /// it does not know.
    pub const fn new(table: fn(&str) -> Access) -> Self {
        Self { table, observer: None }
    }

    /// The same, showing each call to an observer.
    #[must_use]
    pub fn observed(self, observer: impl Fn(Option<&Peer>, &str, Decision) + Send + Sync + 'static) -> Self {
        Self { observer: Some(Arc::new(observer)), ..self }
    }

    fn decide<B>(&self, request: &Request<B>) -> Result<(), Status> {
        let peer = request.extensions().get::<Peer>();
        let role = peer.and_then(|peer| peer.id.as_ref()).map(crate::spiffe::SpiffeId::role);
        let path = request.uri().path();
        let is_allowed = (self.table)(path).allows(role);
        if let Some(observe) = &self.observer {
            observe(peer, path, if is_allowed { Decision::Allowed } else { Decision::Refused });
        }
        match (is_allowed, role) {
            (true, _) => Ok(()),
            (false, Some(_)) => Err(Status::permission_denied(REFUSAL)),
            (false, None) => Err(Status::unauthenticated(REFUSAL)),
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Gate").field("is_observed", &self.observer.is_some()).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.clone(), inner }
    }
}

/// A service behind a [`Gate`].
#[derive(Debug, Clone)]
pub struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Gated<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Either<Ready<Result<Response<R>, S::Error>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.gate.decide(&request) {
            Ok(()) => Either::Right(self.inner.call(request)),
            Err(status) => Either::Left(ready(Ok(status.into_http()))),
        }
    }
}
