//! The routes of the cluster, read from the state once for all agents that are told of them.

use std::sync::Arc;
use std::time::Duration;

use cluster::{State, view};
use model::routing::RouteMap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A map is read at most this often: each agent is told of all routes, and one deploy changes the state several times.
const INTERVAL: Duration = Duration::from_millis(100);

/// The latest map; none before the cluster has an identity.
pub type Routes = watch::Receiver<Option<Arc<RouteMap>>>;

/// Follows the state until `stop`; those who read are woken only by maps that say something new.
pub async fn follow(
    mut states: watch::Receiver<Arc<State>>,
    routes: watch::Sender<Option<Arc<RouteMap>>>,
    stop: CancellationToken,
) {
    loop {
        let state = states.borrow_and_update().clone();
        if let Some(latest) = view::route_map(&state) {
            routes.send_if_modified(|known| {
                let is_news = known.as_ref().is_none_or(|known| !known.is_like(&latest));
                if is_news {
                    *known = Some(Arc::new(latest));
                }
                is_news
            });
        }
        let next = async {
            tokio::time::sleep(INTERVAL).await;
            states.changed().await
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = next => if changed.is_err() { return },
        }
    }
}
