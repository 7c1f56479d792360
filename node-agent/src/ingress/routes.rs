//! The route table: what answers a request.
//!
//! It is made of three things: the graphs that serve here, those that should, and the routes of the whole cluster. What
//! serves here goes before what is elsewhere.
//!
//! Exact hosts come before routes for any host; among those of one host the longest path prefix wins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use model::assignment::Assignment;
use model::id::GraphKey;
use model::name::NodeName;
use model::route::HttpRoute;
use model::routing::RouteMap;

use crate::host::Running;
use crate::told::{Assigned, Told};

/// The table in force; a cheap handle.
#[derive(Clone)]
pub struct RouteTableHandle(Arc<Shared>);

struct Shared {
    /// This node.
    node: NodeName,
    /// What should serve here.
    assigned: Assigned,
    /// What the cluster has.
    cluster: Told<RouteMap>,
    /// What serves here. Held while a table is made of it.
    running: Mutex<Vec<Arc<Running>>>,
    table: ArcSwap<Table<Target>>,
}

/// What answers the requests of a route.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// It serves on this node.
    Here(Arc<Running>),
    /// It is on another node, or comes to this one.
    Placed(Arc<Placed>),
}

/// Where a graph that does not serve here should answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) graph: GraphKey,
    /// Any of these; none where it comes to this node alone.
    pub(crate) nodes: Arc<[NodeName]>,
}

impl RouteTableHandle {
    /// The table of `node`, empty at first.
    pub fn new(node: NodeName, assigned: Assigned, cluster: Told<RouteMap>) -> Self {
        let (running, table) = (Mutex::default(), ArcSwap::default());
        Self(Arc::new(Shared { node, assigned, cluster, running, table }))
    }

    /// This node.
    pub(crate) fn node(&self) -> &NodeName {
        &self.0.node
    }

    /// From now on these graphs serve here. Requests under way end where they began.
    pub fn replace(&self, graphs: Vec<Arc<Running>>) {
        self.0.make(|running| *running = graphs);
    }

    /// Makes the table anew on each change of what is told, for as long as there is somebody who tells it.
    pub async fn follow(self) {
        let changes = (self.0.assigned.changes(), self.0.cluster.changes());
        let (Some(mut assigned), Some(mut cluster)) = changes else { return };
        loop {
            // Seen before the table is made, so that a later change is told again.
            assigned.mark_unchanged();
            cluster.mark_unchanged();
            self.0.make(|_| {});
            // Both are cancel safe: a change that is not seen here is seen by the next call.
            let told = tokio::select! {
                told = assigned.changed() => told,
                told = cluster.changed() => told,
            };
            if told.is_err() {
                return;
            }
        }
    }

    /// What answers a request.
    pub(crate) fn find(&self, host: Option<&str>, path: &str) -> Option<(Target, Arc<HttpRoute>)> {
        let table = self.0.table.load();
        table.find(host, path).map(|(route, target)| (target.clone(), route.clone()))
    }
}

impl Shared {
    /// Makes the table anew, one change after the other.
    fn make(&self, change: impl FnOnce(&mut Vec<Arc<Running>>)) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut running);
        let (assigned, cluster) = (self.assigned.now(), self.cluster.now());
        let routes = routes(&self.node, &running, assigned.as_deref(), cluster.as_deref());
        self.table.store(Arc::new(Table::new(routes)));
    }
}

/// All routes, and of equal ones the one that counts first. The routes of the cluster say who serves; the assignment of this
/// node knows earlier of what is new.
fn routes(
    here: &NodeName,
    running: &[Arc<Running>],
    assigned: Option<&Assignment>,
    cluster: Option<&RouteMap>,
) -> impl Iterator<Item = (HttpRoute, Target)> {
    let serving = running
        .iter()
        .flat_map(|running| running.routes().map(move |route| (route.clone(), Target::Here(running.clone()))));
    let placed = move |graph: &GraphKey, nodes: Vec<&NodeName>| {
        let nodes = nodes.into_iter().filter(|node| *node != here).cloned().collect();
        Target::Placed(Arc::new(Placed { graph: graph.clone(), nodes }))
    };
    let cluster = cluster.into_iter().flat_map(|cluster| &cluster.routes);
    let cluster = cluster
        .filter(move |known| known.nodes.iter().any(|node| node != here))
        .map(move |known| (known.route.clone(), placed(&known.graph, known.nodes.iter().collect())));
    let should = assigned.into_iter().flat_map(|assigned| &assigned.graphs).flat_map(move |graph| {
        let routes = graph.linked.ingress.iter();
        routes.map(move |route| {
            (route.clone(), placed(&graph.key, graph.placement.nodes_of(&route.to).collect()))
        })
    });
    // What comes here answers elsewhere until it serves.
    serving.chain(cluster).chain(should)
}

/// Routes and what answers them.
struct Table<T> {
    by_host: HashMap<String, Paths<T>>,
    any_host: Paths<T>,
}

/// The routes of one host, by their paths.
struct Paths<T> {
    by_path: HashMap<String, (Arc<HttpRoute>, T)>,
    /// The bytes of the longest path: nothing longer has to be looked for, whatever a client sends.
    longest: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { by_host: HashMap::new(), any_host: Paths::default() }
    }
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { by_path: HashMap::new(), longest: 0 }
    }
}

impl<T> Table<T> {
    /// Of two equal routes the first one counts.
    fn new(routes: impl IntoIterator<Item = (HttpRoute, T)>) -> Self {
        let mut table = Self::default();
        for (route, target) in routes {
            let paths = match &route.host {
                Some(host) => table.by_host.entry(host.as_str().to_owned()).or_default(),
                None => &mut table.any_host,
            };
            let path = route.path.as_str();
            paths.longest = paths.longest.max(path.len());
            paths.by_path.entry(path.to_owned()).or_insert_with(|| (Arc::new(route), target));
        }
        table
    }

    fn find(&self, host: Option<&str>, path: &str) -> Option<&(Arc<HttpRoute>, T)> {
        let exact = host.and_then(|host| match self.by_host.get(host) {
            Some(paths) => Some(paths),
            None if host.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                self.by_host.get(&host.to_ascii_lowercase())
            }
            None => None,
        });
        exact.and_then(|paths| paths.find(path)).or_else(|| self.any_host.find(path))
    }
}

impl<T> Paths<T> {
    /// The longest prefix by whole segments: the path itself, then what is before each `/` from the last one on.
    fn find(&self, path: &str) -> Option<&(Arc<HttpRoute>, T)> {
        let cuts = path.rmatch_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
        let prefixes = std::iter::once(path.len()).chain(cuts).filter(|length| *length <= self.longest);
        let mut found = prefixes.filter_map(|length| self.by_path.get(&path[..length]));
        found.next().or_else(|| self.by_path.get("/"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use model::name::ComponentName;
    use proptest::collection;
    use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

    use super::*;

    fn route(text: &str) -> (HttpRoute, String) {
        let (host, path) = text.split_at(text.find('/').unwrap());
        let host = (!host.is_empty()).then(|| host.parse().unwrap());
        let to = ComponentName::new("app").unwrap();
        (HttpRoute { host, path: path.parse().unwrap(), to }, text.to_owned())
    }

    #[test]
    fn exact_hosts_first_then_the_longest_prefix() {
        let table = Table::new(
            ["/", "/api", "a.example/", "a.example/api/v1", "a.example/api", "b.example/x"].map(route),
        );
        let cases = [
            (Some("a.example"), "/", Some("a.example/")),
            (Some("A.Example"), "/api/v1/x", Some("a.example/api/v1")),
            (Some("a.example"), "/api/v2", Some("a.example/api")),
            (Some("a.example"), "/apis", Some("a.example/")),
            (Some("b.example"), "/x/y", Some("b.example/x")),
            (Some("b.example"), "/api", Some("/api")),
            (Some("c.example"), "/apis", Some("/")),
            (None, "/api/x", Some("/api")),
            (None, "/api/", Some("/api")),
            (None, "//api", Some("/")),
            (None, "*", Some("/")),
            (None, "", Some("/")),
        ];
        for (host, path, expected) in cases {
            let found = table.find(host, path).map(|(_, target)| target.as_str());
            assert_eq!(found, expected, "{host:?} {path}");
        }
        assert!(Table::new(["a.example/x"].map(route)).find(Some("b.example"), "/x").is_none());
    }

    #[test]
    fn of_equal_routes_the_first_counts() {
        let first = |name: &str| (route("a.example/x").0, name.to_owned());
        let table = Table::new(["here", "elsewhere"].map(first));
        assert_eq!(table.find(Some("a.example"), "/x").unwrap().1, "here");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_path_finds_the_longest_prefix_that_takes_it(
            prefixes in collection::btree_set("(/[ab]{1,2}){0,3}", 0..8),
            path in "(/{1,2}[ab]{0,2}){0,5}/?",
        ) {
            let routes = prefixes.iter().map(|prefix| if prefix.is_empty() { "/" } else { prefix }).map(route);
            let routes: Vec<_> = routes.collect();
            let taking = routes.iter().filter(|(route, _)| route.path.takes(&path));
            let expected = taking.max_by_key(|(route, _)| route.path.as_str().len()).map(|(_, name)| name.clone());
            let table = Table::new(routes);
            prop_assert_eq!(table.find(None, &path).map(|(_, name)| name.clone()), expected, "{}", path);
        }
    }
}
