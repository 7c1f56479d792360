//! The members of the control plane as this agent reaches them: one lazy connection each, and which one answered last.
//!
//! Knows addresses and connections only; what is said over them is the business of `session` and `artifacts`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use tonic::transport::{Channel, Endpoint};
use trust::Connector;

/// A member that does not take a connection for so long is given up for this round.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A silent member is asked for a sign of life this often, so that a dead machine is noticed without an answer.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// Without that sign for so long the connection is closed.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// The members. Clones share their connections.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    members: Arc<[Member]>,
    preferred: Arc<AtomicUsize>,
}

/// One member.
#[derive(Debug)]
pub struct Member {
    uri: Uri,
    channel: Channel,
}

impl Member {
    /// Its address.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The connection to it, made when first used and again when lost.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

impl ControlPlane {
    /// The members at these addresses, reached through `connector`; nothing is connected yet. Must be called on a tokio
    /// runtime.
    pub fn new(addresses: &[Uri], connector: &Connector) -> Self {
        Self::over(addresses, |endpoint| endpoint.connect_with_connector_lazy(connector.clone()))
    }

    /// The members at these addresses without any encryption, for what tests put there.
    #[cfg(test)]
    pub(crate) fn unencrypted(addresses: &[Uri]) -> Self {
        Self::over(addresses, |endpoint| endpoint.connect_lazy())
    }

    fn over(addresses: &[Uri], connect: impl Fn(Endpoint) -> Channel) -> Self {
        let member = |uri: &Uri| {
            let endpoint = Endpoint::from(plain(uri))
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
                .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
                .keep_alive_while_idle(true);
            Member { uri: uri.clone(), channel: connect(endpoint) }
        };
        Self { members: addresses.iter().map(member).collect(), preferred: Arc::default() }
    }

    /// All members, the one that answered last first.
    pub fn members(&self) -> impl Iterator<Item = (usize, &Member)> {
        let (count, first) = (self.members.len(), self.preferred.load(Ordering::Relaxed));
        (0..count).map(move |offset| (first + offset) % count).map(|index| (index, &self.members[index]))
    }

    /// Remembers the member that answered.
    pub fn prefer(&self, index: usize) {
        self.preferred.store(index, Ordering::Relaxed);
    }
}

/// The same address as tonic wants it where the connector brings the encryption: behind `https` it looks for its own.
fn plain(uri: &Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    // Only the scheme has changed.
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_member_that_answered_is_tried_first() {
        let addresses = ["https://a:1", "https://b:2", "https://c:3"].map(Uri::from_static);
        let control_plane = ControlPlane::unencrypted(&addresses);
        let order = || control_plane.members().map(|(index, _)| index).collect::<Vec<_>>();
        assert_eq!(order(), [0, 1, 2]);
        control_plane.prefer(1);
        assert_eq!(order(), [1, 2, 0]);
        assert_eq!(control_plane.members().next().map(|(_, member)| member.uri()), Some(&addresses[1]));
    }
}
