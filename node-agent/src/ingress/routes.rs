//! The route table: which graph a request is for.
//!
//! Where nothing answers, the assignment tells whether something should.
//!
//! Exact hosts come before routes for any host; among those of one host the longest path prefix wins.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use model::id::GraphKey;
use model::name::NodeName;
use model::route::HttpRoute;

use crate::assigned::Assigned;
use crate::host::Running;

/// The table in force; a cheap handle.
#[derive(Clone)]
pub struct RouteTableHandle {
    table: Arc<ArcSwap<Table<Running>>>,
    assigned: Assigned,
}

/// A route that leads to nothing that answers here now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unanswered {
    /// The graph that it is of.
    pub(crate) graph: GraphKey,
    /// The node that answers instead; none if this one will.
    pub(crate) elsewhere: Option<NodeName>,
}

impl RouteTableHandle {
    /// An empty table. `assigned` tells why nothing answers.
    pub fn new(assigned: Assigned) -> Self {
        Self { table: Arc::default(), assigned }
    }

    /// Puts another table in force for all requests from now on. Requests under way end where they began.
    pub fn replace(&self, graphs: Vec<Arc<Running>>) {
        let routes = graphs.into_iter().flat_map(|running| {
            let routes = running.routes().cloned().collect::<Vec<_>>();
            routes.into_iter().map(move |route| (route, running.clone()))
        });
        self.table.store(Arc::new(Table::new(routes)));
    }

    /// The graph that should answer a request for which nothing was found.
    pub(crate) fn unanswered(&self, host: Option<&str>, path: &str) -> Option<Unanswered> {
        let assigned = self.assigned.now()?;
        let takes = |route: &HttpRoute| {
            let is_host = route
                .host
                .as_ref()
                .is_none_or(|wanted| host.is_some_and(|host| host.eq_ignore_ascii_case(wanted.as_str())));
            is_host && route.path.takes(path)
        };
        assigned.graphs.iter().find_map(|graph| {
            let route = graph.linked.ingress.iter().find(|route| takes(route))?;
            let node = graph.placement.node_of(&route.to);
            Some(Unanswered {
                graph: graph.key.clone(),
                elsewhere: (*node != assigned.node).then(|| node.clone()),
            })
        })
    }

    /// What answers a request.
    pub(crate) fn find(&self, host: Option<&str>, path: &str) -> Option<(Arc<Running>, Arc<HttpRoute>)> {
        let table = self.table.load();
        table.find(host, path).map(|(route, running)| (running.clone(), route.clone()))
    }
}

/// Routes and what answers them, the longest path first.
type Routes<T> = Vec<(Arc<HttpRoute>, Arc<T>)>;

struct Table<T> {
    by_host: HashMap<String, Routes<T>>,
    any_host: Routes<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { by_host: HashMap::new(), any_host: Vec::new() }
    }
}

impl<T> Table<T> {
    fn new(routes: impl IntoIterator<Item = (HttpRoute, Arc<T>)>) -> Self {
        let mut table = Self::default();
        for (route, target) in routes {
            let route = Arc::new(route);
            match &route.host {
                Some(host) => {
                    table.by_host.entry(host.as_str().to_owned()).or_default().push((route, target));
                }
                None => table.any_host.push((route, target)),
            }
        }
        let longest_first = |routes: &mut Routes<T>| {
            // Stable: of two equal routes the first one stays, whatever the cluster should have refused.
            routes.sort_by_key(|(route, _)| std::cmp::Reverse(route.path.as_str().len()));
        };
        table.by_host.values_mut().for_each(longest_first);
        longest_first(&mut table.any_host);
        table
    }

    fn find(&self, host: Option<&str>, path: &str) -> Option<(&Arc<HttpRoute>, &Arc<T>)> {
        let exact = host.and_then(|host| match self.by_host.get(host) {
            Some(routes) => Some(routes),
            None if host.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                self.by_host.get(&host.to_ascii_lowercase())
            }
            None => None,
        });
        exact
            .into_iter()
            .flatten()
            .chain(&self.any_host)
            .find(|(route, _)| route.path.takes(path))
            .map(|(route, target)| (route, target))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;
    use model::name::ComponentName;

    fn route(text: &str) -> (HttpRoute, Arc<String>) {
        let (host, path) = text.split_at(text.find('/').unwrap());
        let host = (!host.is_empty()).then(|| host.parse().unwrap());
        let to = ComponentName::new("app").unwrap();
        (HttpRoute { host, path: path.parse().unwrap(), to }, Arc::new(text.to_owned()))
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
        ];
        for (host, path, expected) in cases {
            let found = table.find(host, path).map(|(_, target)| target.as_str());
            assert_eq!(found, expected, "{host:?} {path}");
        }
        assert!(Table::new(["a.example/x"].map(route)).find(Some("b.example"), "/x").is_none());
    }
}
