//! The routes of the cluster, read from the state once for all agents that are told of them.

use std::sync::Arc;
use std::time::Duration;

use cluster::{State, view};
use model::routing::RouteMap;
use prost::Message as _;
use prost::bytes::Bytes;
use proto::weft::node::v1 as wire;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A map is read at most this often: each agent is told of all routes, and one deploy changes the state several times.
const INTERVAL: Duration = Duration::from_millis(100);
/// The longest time between two, however many are told how much: what was moved goes on for longer where it was.
const INTERVAL_MOST: Duration = Duration::from_secs(1);
/// What it takes to tell one agent of one route, or some more: a fleet that is told of all routes at each change leaves no
/// time for anything else.
const COST: Duration = Duration::from_micros(2);

/// The latest map; none before the cluster has an identity.
pub type Routes = watch::Receiver<Option<Arc<EncodedRoutes>>>;

/// A map, and its bytes: what is told to all agents is written once.
#[derive(Debug)]
pub struct EncodedRoutes {
    /// The map.
    pub map: RouteMap,
    /// The same as it goes over the wire.
    pub bytes: Bytes,
}

impl From<RouteMap> for EncodedRoutes {
    fn from(map: RouteMap) -> Self {
        let bytes = wire::RouteMap::from(map.clone()).encode_to_vec().into();
        Self { map, bytes }
    }
}

/// Follows the state until `stop`; those who read are woken only by maps that say something new.
pub async fn follow(
    mut states: watch::Receiver<Arc<State>>,
    routes: watch::Sender<Option<Arc<EncodedRoutes>>>,
    stop: CancellationToken,
) {
    loop {
        let state = states.borrow_and_update().clone();
        let mut interval = INTERVAL;
        if let Some(latest) = view::route_map(&state) {
            interval = paced(routes.receiver_count(), latest.routes.len());
            routes.send_if_modified(|known| {
                let is_news = known.as_ref().is_none_or(|known| !known.map.is_like(&latest));
                if is_news {
                    *known = Some(Arc::new(latest.into()));
                }
                is_news
            });
        }
        let next = async {
            tokio::time::sleep(interval).await;
            states.changed().await
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = next => if changed.is_err() { return },
        }
    }
}

/// How long to wait until so many agents are told of so many routes again.
fn paced(agents: usize, routes: usize) -> Duration {
    let told = u32::try_from(agents.saturating_mul(routes)).unwrap_or(u32::MAX);
    COST.saturating_mul(told).clamp(INTERVAL, INTERVAL_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_who_are_told_much_are_told_less_often_and_within_a_second() {
        assert_eq!(paced(0, 0), INTERVAL);
        assert_eq!(paced(50, 1_000), INTERVAL);
        assert_eq!(paced(300, 300), Duration::from_millis(180));
        assert_eq!(paced(1_000, 1_000), INTERVAL_MOST);
        assert_eq!(paced(usize::MAX, usize::MAX), INTERVAL_MOST);
    }
}
