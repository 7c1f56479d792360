//! The route table: what answers a request.
//!
//! It is made of three things: the graphs that serve here, those that should, and the routes of the whole cluster. What
//! serves here goes before what is elsewhere, unless it fails its checks here and passes elsewhere.
//!
//! A candidate answers a share of its graph's requests: one is drawn for it by chance, of those that both can answer.
//!
//! Exact hosts come before routes for any host; among those of one host the longest path prefix wins.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use model::assignment::Assignment;
use model::id::{GraphKey, RevisionNumber};
use model::name::NodeName;
use model::rollout::Share;
use model::route::HttpRoute;
use model::routing::{PlacedRoute, RouteMap};

use crate::host::Running;
use crate::told::{Assigned, Told};
use crate::traffic::{Both, Counted, TrafficCounts};

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
    /// How requests went that two revisions share.
    traffic: TrafficCounts,
    /// What serves here. Held while a table is made of it.
    running: Mutex<Vec<Arc<Running>>>,
    tables: ArcSwap<Tables>,
}

/// What answers the requests of a route.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// It serves on this node.
    Here(Arc<Running>),
    /// It is on another node, or comes to this one.
    Placed(Arc<Placed>),
}

impl Target {
    /// The graph.
    pub(crate) fn graph(&self) -> &GraphKey {
        match self {
            Self::Here(running) => running.key(),
            Self::Placed(placed) => &placed.graph,
        }
    }
}

/// Where a graph should answer that does not serve here, or fails here and passes elsewhere.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) graph: GraphKey,
    /// The revision that a candidate is.
    pub(crate) candidate: Option<RevisionNumber>,
    /// Any of these; none where it comes to this node alone.
    pub(crate) nodes: Arc<[NodeName]>,
    /// What serves here and fails: it answers what other nodes carry here.
    pub(crate) here: Option<Arc<Running>>,
}

/// What answers one request.
pub(crate) struct Found {
    pub(crate) target: Target,
    pub(crate) route: Arc<HttpRoute>,
    /// Set where two revisions share the requests of the graph.
    pub(crate) counted: Option<Counted>,
}

impl From<&(Arc<HttpRoute>, Target)> for Found {
    fn from((route, target): &(Arc<HttpRoute>, Target)) -> Self {
        Self { target: target.clone(), route: route.clone(), counted: None }
    }
}

/// All that is known of routes.
#[derive(Default)]
struct Tables {
    /// Of graphs.
    graphs: Table<Target>,
    /// Of their candidates, by the graph that each is to replace.
    candidates: HashMap<GraphKey, Split>,
}

/// A candidate that serves here, or answers a share of its graph's requests, or both.
struct Split {
    /// What serves here, and of which revision that is.
    here: Option<(RevisionNumber, Table<Target>)>,
    /// What this node's ingress sends to it; none as long as nobody is to be sent there.
    drawn: Option<Draw>,
}

/// The candidate that requests are drawn for.
struct Draw {
    revision: RevisionNumber,
    share: Share,
    counts: Arc<Both>,
    /// Where it is, this node before others.
    table: Table<Target>,
}

impl RouteTableHandle {
    /// The table of `node`, empty at first.
    pub fn new(node: NodeName, assigned: Assigned, cluster: Told<RouteMap>, traffic: TrafficCounts) -> Self {
        let (running, tables) = (Mutex::default(), ArcSwap::default());
        Self(Arc::new(Shared { node, assigned, cluster, traffic, running, tables }))
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

    /// What answers a request of a client: where two revisions share the requests of a graph, one of them by chance.
    pub(crate) fn find(&self, host: Option<&str>, path: &str) -> Option<Found> {
        let tables = self.0.tables.load();
        let found = tables.graphs.find(host, path)?;
        let split = tables.candidates.get(found.1.graph());
        let Some(draw) = split.and_then(|split| split.drawn.as_ref()) else { return Some(found.into()) };
        // What only one of them can answer, that one answers.
        let candidate = is_drawn(draw.share).then(|| draw.table.find(host, path)).flatten();
        let counted = Some(Counted::by(draw.counts.clone(), candidate.is_some()));
        Some(Found { counted, ..candidate.unwrap_or(found).into() })
    }

    /// What answers a request that another node carries here: the candidate of this revision, if the request is for one and
    /// that serves here, or else the graph.
    pub(crate) fn find_carried(
        &self,
        candidate: Option<RevisionNumber>,
        host: Option<&str>,
        path: &str,
    ) -> Option<Found> {
        let tables = self.0.tables.load();
        let of_graph = tables.graphs.find(host, path);
        let Some(revision) = candidate else { return of_graph.map(Found::from) };
        let split = of_graph.and_then(|(_, target)| tables.candidates.get(target.graph()));
        let here = split.and_then(|split| split.here.as_ref()).filter(|(here, _)| *here == revision);
        here.and_then(|(_, table)| table.find(host, path)).or(of_graph).map(Found::from)
    }

    /// Whether what of a graph should be here stops once this node is cut off.
    pub(crate) fn stops_in_isolation(&self, graph: &GraphKey) -> bool {
        let assigned = self.0.assigned.now();
        let graph = assigned.as_ref().and_then(|assigned| assigned.graph(graph));
        graph.is_some_and(|graph| graph.stops_in_isolation(&self.0.node))
    }

    /// The nodes that answer the requests of a graph or a candidate now. Those of its graph where nobody is sent to that
    /// candidate any more; none where nothing is known of either.
    pub(crate) fn whither(&self, placed: &Placed, host: Option<&str>, path: &str) -> Option<Arc<[NodeName]>> {
        let tables = self.0.tables.load();
        let of_graph = tables.graphs.find(host, path);
        let split = placed.candidate.and_then(|_| tables.candidates.get(&placed.graph.base()));
        let draw = split.and_then(|split| split.drawn.as_ref());
        let draw = draw.filter(|draw| Some(draw.revision) == placed.candidate);
        let of_candidate = draw.and_then(|draw| draw.table.find(host, path));
        let (_, target) = of_candidate.or(of_graph)?;
        if target.graph().base() != placed.graph.base() {
            return None;
        }
        Some(match target {
            Target::Here(_) => [self.0.node.clone()].into(),
            Target::Placed(now) => now.nodes.clone(),
        })
    }
}

/// Whether a request is one of these, by chance.
fn is_drawn(share: Share) -> bool {
    let all = u64::from(Share::ALL.thousandths());
    // A draw out of 2^64 is even enough over a thousand.
    share == Share::ALL || getrandom::u64().unwrap_or(u64::MAX) % all < u64::from(share.thousandths())
}

impl Shared {
    /// Makes the table anew, one change after the other.
    fn make(&self, change: impl FnOnce(&mut Vec<Arc<Running>>)) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut running);
        let (assigned, cluster) = (self.assigned.now(), self.cluster.now());
        let routes = routes(&self.node, &running, assigned.as_deref(), cluster.as_deref());
        let graphs = Table::new(routes);
        let candidates = self.splits(&running, cluster.as_deref());
        self.tables.store(Arc::new(Tables { graphs, candidates }));
    }

    /// The candidates that serve here, and those of the cluster.
    fn splits(&self, running: &[Arc<Running>], cluster: Option<&RouteMap>) -> HashMap<GraphKey, Split> {
        let known = || cluster.into_iter().flat_map(|cluster| &cluster.candidates);
        self.traffic.keep(&known().map(|known| (known.graph.clone(), known.generation)).collect());
        let here =
            running.iter().filter(|running| running.key().is_candidate).map(|running| running.key().base());
        let graphs: BTreeSet<GraphKey> = here.chain(known().map(|known| known.graph.clone())).collect();
        let split = |graph: GraphKey| {
            let candidate = graph.candidate();
            let running = running.iter().find(|running| *running.key() == candidate);
            let here =
                running.map(|running| (running.revision(), Table::new(serving(&self.node, running, &[]))));
            let told = known().find(|known| known.graph == graph);
            let drawn = told.map(|told| {
                // Another revision that serves here has a share of its own, or none.
                let here = running.filter(|running| running.revision() == told.revision);
                let elsewhere = told.routes.iter();
                let elsewhere =
                    elsewhere.filter_map(|known| placed_elsewhere(&self.node, known, Some(told.revision)));
                Draw {
                    revision: told.revision,
                    share: told.share,
                    counts: self.traffic.of((graph.clone(), told.generation)),
                    table: Table::new(
                        here.into_iter()
                            .flat_map(|here| serving(&self.node, here, &told.routes))
                            .chain(elsewhere),
                    ),
                }
            });
            (graph, Split { here, drawn })
        };
        graphs.into_iter().map(split).collect()
    }
}

/// The routes of one that serves on this node. Where it fails here, and the nodes that the cluster (`known`) sends its requests
/// to are others, these are asked.
fn serving<'a>(
    here: &'a NodeName,
    running: &'a Arc<Running>,
    known: &'a [PlacedRoute],
) -> impl Iterator<Item = (HttpRoute, Target)> {
    running.routes().map(move |route| {
        let is_same = |known: &&PlacedRoute| known.graph == *running.key() && known.route == *route;
        let known = known.iter().filter(|_| running.is_failing()).find(is_same);
        let passing = known.filter(|known| !known.nodes.contains(here));
        let target = match passing {
            None => Target::Here(running.clone()),
            Some(known) => Target::Placed(Arc::new(Placed {
                graph: known.graph.clone(),
                candidate: running.key().is_candidate.then(|| running.revision()),
                nodes: known.nodes.clone().into(),
                here: Some(running.clone()),
            })),
        };
        (route.clone(), target)
    })
}

/// Where a graph, or the candidate that is a revision, answers besides this node.
fn placed<'a>(
    here: &NodeName,
    graph: &GraphKey,
    candidate: Option<RevisionNumber>,
    nodes: impl Iterator<Item = &'a NodeName>,
) -> Target {
    let nodes = nodes.filter(|node| *node != here).cloned().collect();
    Target::Placed(Arc::new(Placed { graph: graph.clone(), candidate, nodes, here: None }))
}

/// A route of the cluster, if it is answered on other nodes.
fn placed_elsewhere(
    here: &NodeName,
    known: &PlacedRoute,
    candidate: Option<RevisionNumber>,
) -> Option<(HttpRoute, Target)> {
    let is_elsewhere = known.nodes.iter().any(|node| node != here);
    is_elsewhere.then(|| (known.route.clone(), placed(here, &known.graph, candidate, known.nodes.iter())))
}

/// All routes of graphs, and of equal ones the one that counts first. The routes of the cluster say who serves; the
/// assignment of this node knows earlier of what is new.
fn routes<'a>(
    here: &'a NodeName,
    running: &'a [Arc<Running>],
    assigned: Option<&'a Assignment>,
    cluster: Option<&'a RouteMap>,
) -> impl Iterator<Item = (HttpRoute, Target)> + 'a {
    let graphs = running.iter().filter(|running| !running.key().is_candidate);
    let known = cluster.map(|cluster| cluster.routes.as_slice()).unwrap_or_default();
    let serving = graphs.flat_map(move |running| serving(here, running, known));
    let cluster = cluster.into_iter().flat_map(|cluster| &cluster.routes);
    let cluster = cluster.filter_map(move |known| placed_elsewhere(here, known, None));
    let should = assigned.into_iter().flat_map(|assigned| &assigned.graphs);
    let should = should.filter(|graph| !graph.key.is_candidate).flat_map(move |graph| {
        let routes = graph.linked.ingress.iter();
        routes.map(move |route| {
            (route.clone(), placed(here, &graph.key, None, graph.placement.nodes_of(&route.to)))
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

    #[test]
    fn requests_are_drawn_by_their_share() {
        let drawn = |share: &str| (0..4_000).filter(|_| is_drawn(share.parse().unwrap())).count();
        assert_eq!((drawn("0%"), drawn("100%")), (0, 4_000));
        // Ten standard deviations: a failure by chance is not to be expected.
        let (few, half) = (drawn("10%"), drawn("50%"));
        assert!(few.abs_diff(400) < 190 && half.abs_diff(2_000) < 317, "{few} {half}");
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
