//! Checks: whether the components of a graph answer, by an instance of their own, before the graph takes over and while it
//! serves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http_body_util::{BodyExt as _, Empty, Limited};
use model::graph::{Check, CheckTerms};
use model::name::ComponentName;
use model::report::Failure;
use model::unit::format_duration;

use crate::host::instance::Prepared;
use crate::host::invoke::InvokeError;
use crate::host::running::Running;
use crate::lease::ISOLATED;

/// The longest body that a check is answered with.
const BODY_MAX_BYTES: usize = 1 << 20;
/// Who asks, for a component that wants to know.
const ASKER: &str = "weft-check";
/// How long checks before a take-over wait for the lease of a node that is cut off: about as long as a node is until another
/// member leads. After that other graphs are prepared, and this one is tried again.
const LEASE_PATIENCE: Duration = Duration::from_secs(5);

/// Why a component does not pass its check.
#[derive(Debug)]
pub enum Unchecked {
    /// This node's pool has no room for an instance: that says nothing of the component.
    NoRoom,
    /// It does not answer as it should.
    Failed(String),
}

impl Unchecked {
    /// For people.
    fn message(self) -> String {
        match self {
            Self::NoRoom => "this node has no room for its check".to_owned(),
            Self::Failed(why) => why,
        }
    }
}

impl Running {
    /// Fails unless every component here that is checked passes, or says which one does not.
    pub(crate) async fn passes_checks(&self) -> Result<(), Failure> {
        for (at, (name, check, terms)) in self.checked().enumerate() {
            if at == 0 {
                // What is asked may ask others.
                self.can_call().await?;
            }
            self.may_be_asked().await?;
            let checked = self.check_by(name, check, terms.timeout).await;
            // It was cut off under way.
            self.may_be_asked().await?;
            let failed = |why: Unchecked| Failure { reason: "check_failed".to_owned(), message: why.message() };
            checked.map_err(failed)?;
        }
        Ok(())
    }

    /// Waits a while until it may serve: before that it refuses its own checks.
    async fn may_be_asked(&self) -> Result<(), Failure> {
        let Some(lease) = self.lease() else { return Ok(()) };
        let isolated = |_| Failure { reason: "isolated".to_owned(), message: ISOLATED.to_owned() };
        tokio::time::timeout(LEASE_PATIENCE, lease.held()).await.map_err(isolated)
    }

    /// The components here that are checked, and how.
    pub(crate) fn checked(&self) -> impl Iterator<Item = (&ComponentName, &Check, &CheckTerms)> {
        let site = self.plan.site();
        let components = self.plan.linked().components.iter().filter(move |(name, _)| site.is_here(name));
        components.filter_map(|(name, component)| {
            Some((name, component.settings.check.as_ref()?, &component.settings.check_terms))
        })
    }

    /// Checks one component; says why it does not pass.
    pub(crate) async fn check(&self, name: &ComponentName) -> Result<(), Unchecked> {
        match self.checked().find(|(checked, ..)| *checked == name) {
            Some((name, check, terms)) => self.check_by(name, check, terms.timeout).await,
            None => Ok(()),
        }
    }

    async fn check_by(&self, name: &ComponentName, check: &Check, timeout: Duration) -> Result<(), Unchecked> {
        let failed = |why: Unchecked| match why {
            Unchecked::Failed(why) => {
                Unchecked::Failed(format!("{name} does not pass its check {check}: {why}"))
            }
            Unchecked::NoRoom => Unchecked::NoRoom,
        };
        // One that only its check asks for is compiled now, which takes as long as it takes.
        let prepared = self.entry(name).await.map_err(|error| failed(Unchecked::Failed(error.to_string())))?;
        let checking = async {
            match check {
                Check::Http(path) => self.answers_get(name, &prepared, path.as_str(), timeout).await,
                Check::Call { interface, function } => {
                    self.returns(name, &interface.to_string(), function).await
                }
            }
        };
        let late = |_| Err(Unchecked::Failed(format!("nothing came within {}", format_duration(timeout))));
        tokio::time::timeout(timeout, checking).await.unwrap_or_else(late).map_err(failed)
    }

    async fn answers_get(
        &self,
        component: &ComponentName,
        prepared: &Arc<Prepared>,
        path: &str,
        longest: Duration,
    ) -> Result<(), Unchecked> {
        let routes = self.plan.linked().ingress.iter().filter(|route| route.to == *component);
        let host = routes.filter_map(|route| route.host.as_ref()).map(|host| host.as_str()).next();
        let request = http::Request::get(path)
            .header(HOST, host.unwrap_or("localhost"))
            .header(USER_AGENT, ASKER)
            .body(Empty::<Bytes>::new().map_err(|never| match never {}))
            .map_err(|error| Unchecked::Failed(error.to_string()))?;
        let id: Arc<str> = self.host.request_id();
        let response = self.answer_check(prepared, component, &id, longest, request).await;
        let response = response.ok_or(Unchecked::NoRoom)?;
        let (status, body) = (response.status(), response.into_body());
        if !status.is_success() && !status.is_redirection() {
            return Err(Unchecked::Failed(format!("it answered {status} (request {id})")));
        }
        let whole = Limited::new(body, BODY_MAX_BYTES).collect().await;
        let broken = |error| Unchecked::Failed(format!("its answer broke off: {error} (request {id})"));
        whole.map(drop).map_err(broken)
    }

    async fn returns(
        &self,
        component: &ComponentName,
        interface: &str,
        function: &str,
    ) -> Result<(), Unchecked> {
        let result = self.invoke(component, interface, function, "()").await.map_err(|error| match error {
            InvokeError::Busy => Unchecked::NoRoom,
            error => Unchecked::Failed(error.to_string()),
        })?;
        if result == "false" || result.starts_with("err") {
            return Err(Unchecked::Failed(format!("it returned {result}")));
        }
        Ok(())
    }
}
