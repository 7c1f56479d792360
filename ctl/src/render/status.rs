//! Where graphs stand, as people read it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use model::linked::Origin;
use model::placement::Placement;
use model::route::HttpRoute;
use model::status::{GraphState, GraphStatus};
use proto::weft::graph::v1::SuspectNode;

use super::plan::few;
use super::table::{Table, printable};
use super::time;
use super::{policy_rollout, rollout};
use crate::reference::short;

/// A state in a few words on one line: `serving`, `compiling (generation 12 answers meanwhile)`.
pub fn sentence(state: &GraphState) -> String {
    let text = match state {
        GraphState::Pending { why } if why.is_empty() => "pending".to_owned(),
        GraphState::Pending { why } => format!("pending: {}", why.join("; ")),
        GraphState::Starting { phase, serving: None } => phase.clone(),
        GraphState::Starting { phase, serving: Some(generation) } => {
            format!("{phase} (generation {generation} answers meanwhile)")
        }
        GraphState::Serving => "serving".to_owned(),
        GraphState::Failed { failure, serving: None } => format!("failed: {failure}"),
        GraphState::Failed { failure, serving: Some(generation) } => {
            format!("failed: {failure} (generation {generation} answers meanwhile)")
        }
        GraphState::Unknown { why } => format!("unknown: {why}"),
    };
    printable(&text)
}

/// A sentence for each node on which a graph serves and fails.
pub fn failing(status: &GraphStatus) -> Vec<String> {
    status.failing.iter().map(|(node, why)| printable(&format!("failing on {node}: {why}"))).collect()
}

/// The nodes that do not keep all that is reserved for it there, a line each.
pub fn unkept(status: &GraphStatus) -> Vec<String> {
    status.unkept.iter().map(|(node, why)| printable(&format!("{node} keeps {why}"))).collect()
}

/// Where requests can be sent: one URL for each route.
pub fn urls(status: &GraphStatus) -> Vec<String> {
    let Some(address) = &status.ingress_address else { return Vec::new() };
    status.ingress.iter().map(|route| url(route, address)).collect()
}

fn url(route: &HttpRoute, address: &str) -> String {
    let (machine, port) = match address.parse::<SocketAddr>() {
        Ok(socket) => (machine(socket.ip()), socket.port()),
        Err(_) => match address.rsplit_once(':') {
            Some((host, port)) => (host.to_owned(), port.parse().unwrap_or(80)),
            None => (address.to_owned(), 80),
        },
    };
    let host = route.host.as_ref().map_or(machine, ToString::to_string);
    let port = if port == 80 { String::new() } else { format!(":{port}") };
    format!("http://{host}{port}{}", route.path)
}

/// How an address is reached from the machine itself.
fn machine(address: IpAddr) -> String {
    match address {
        address if address.is_unspecified() => "localhost".to_owned(),
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// A line for each graph.
pub fn graphs(statuses: &[GraphStatus], is_wide: bool, now_ms: u64) -> Table {
    let header = ["NAMESPACE", "GRAPH", "REVISION", "STATE", "INGRESS", "AGE"];
    let wide = ["NODE", "GENERATION", "WHY"];
    let mut table = Table::new(header.into_iter().chain(wide.into_iter().filter(|_| is_wide)));
    for status in statuses {
        let mut row = vec![
            status.key.namespace.to_string(),
            status.key.graph.to_string(),
            status.revision.to_string(),
            standing(status),
            urls(status).join(" "),
            time::age(status.deployed_at_ms, now_ms),
        ];
        if is_wide {
            row.push(status.placement.as_ref().map(|placement| few(placement.nodes())).unwrap_or_default());
            row.push(status.generation.to_string());
            row.push(why(status));
        }
        table.row(row);
    }
    table
}

/// The state as a word, and what takes over meanwhile.
fn standing(status: &GraphStatus) -> String {
    let rollout = status.rollout.as_ref().and_then(rollout::hint);
    let policy = status.policy_rollout.as_ref().and_then(policy_rollout::hint_of_graph);
    let failing = match status.failing.len() {
        0 => None,
        1 => Some("failing on 1 node".to_owned()),
        count => Some(format!("failing on {count} nodes")),
    };
    let mut text = status.state.word().to_owned();
    let unkept = (!status.unkept.is_empty()).then(|| "without all that is reserved".to_owned());
    for hint in failing.into_iter().chain(unkept).chain(rollout).chain(policy) {
        text.push_str(&format!(", {hint}"));
    }
    text
}

fn why(status: &GraphStatus) -> String {
    let state = match &status.state {
        GraphState::Serving => None,
        state => Some(sentence(state)),
    };
    state
        .into_iter()
        .chain(failing(status))
        .chain(unkept(status))
        .chain(rollout::sentences(status))
        .collect::<Vec<_>>()
        .join("; ")
}

/// One graph: a line about all of it, what takes over or was given up, its components, and where requests go.
pub fn graph(status: &GraphStatus, width: Option<u16>, now_ms: u64) -> String {
    let placed = |placement: &Placement| format!(" on {}", few(placement.nodes()));
    let node = status.placement.as_ref().map(placed).unwrap_or_default();
    let age = time::age(status.deployed_at_ms, now_ms);
    let mut text = format!(
        "{}@{}  {}{node}  generation {}  deployed {age} ago\n",
        short(&status.key),
        status.revision,
        sentence(&status.state),
        status.generation
    );
    for line in failing(status).into_iter().chain(unkept(status)).chain(rollout::sentences(status)) {
        text.push_str(&format!("{line}\n"));
    }
    for scale in &status.scales {
        text.push_str(&format!("{} is scaled to {scale}\n", scale.name));
    }
    let is_spread = status.components.iter().any(|component| component.nodes > 1);
    let header = ["COMPONENT", "FROM", "ARTIFACT"];
    let mut table = Table::new(header.into_iter().chain(is_spread.then_some("SERVES ON")));
    for component in &status.components {
        let from = match &component.origin {
            Origin::Graph => "graph".to_owned(),
            Origin::Policy(version) => format!("policy {}@{}", version.name, version.generation),
        };
        let counts = format!("{} of {} nodes", component.serving, component.nodes);
        let row = [component.name.to_string(), from, component.artifact.clone()];
        table.row(row.into_iter().chain(is_spread.then_some(counts)));
    }
    text.push_str(&table.render(width));
    for url in urls(status) {
        text.push_str(&format!("{url}\n"));
    }
    text
}

/// A line for each node of a graph that is suspect.
pub fn suspects(nodes: &[SuspectNode]) -> Vec<String> {
    let line = |node: &SuspectNode| {
        let ago = node.silent_ms.map(|silent_ms| time::elapsed(Duration::from_millis(silent_ms)));
        let ago = ago.map(|ago| format!(", last heard of {ago} ago")).unwrap_or_default();
        format!("node {} is suspect{ago}: it gets nothing new, and is given up if it stays silent", node.name)
    };
    nodes.iter().map(line).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use model::id::{Generation, RevisionNumber, StateRevision, Uid};
    use model::policy::PolicyVersion;
    use model::report::Failure;
    use model::scale::{Calls, Scaling};
    use model::status::{ComponentStatus, ScaleStatus};
    use std::time::Duration;

    use model::rollout::{Phase, Reverted};

    use super::*;
    use crate::testing::{policy_rollout, rolling};

    fn status(state: GraphState) -> GraphStatus {
        let component = |name: &str, origin| ComponentStatus {
            name: name.to_owned().try_into().unwrap(),
            origin,
            artifact: "9c1e00112233".to_owned(),
            nodes: 1,
            serving: 1,
        };
        let policy = PolicyVersion { name: "pii".parse().unwrap(), generation: Generation(9) };
        GraphStatus {
            key: "sales/crm".parse().unwrap(),
            uid: Uid::new("u").unwrap(),
            revision: RevisionNumber(7),
            generation: Generation(12),
            state_revision: StateRevision(40),
            deployed_at_ms: 1_000,
            state,
            placement: Some(Placement::whole("n1".parse().unwrap())),
            ingress_address: Some("127.0.0.1:8000".to_owned()),
            ingress: vec![HttpRoute {
                host: Some("crm.localhost".parse().unwrap()),
                path: "/api".parse().unwrap(),
                to: "app".parse().unwrap(),
            }],
            components: vec![component("app", Origin::Graph), component("app--pii", Origin::Policy(policy))],
            rollout: None,
            reverted: None,
            scales: Vec::new(),
            failing: BTreeMap::new(),
            unkept: BTreeMap::new(),
            policy_rollout: None,
        }
    }

    #[test]
    fn one_graph_is_told_with_its_components() {
        let text = graph(&status(GraphState::Serving), None, 181_000);
        insta::assert_snapshot!(text, @r"
        sales/crm@7  serving on n1  generation 12  deployed 3m ago
        COMPONENT  FROM          ARTIFACT
        app        graph         9c1e00112233
        app--pii   policy pii@9  9c1e00112233
        http://crm.localhost:8000/api
        ");
    }

    #[test]
    fn several_graphs_are_a_table() {
        let failure = Failure { reason: "start_failed".to_owned(), message: "a trap".to_owned() };
        let mut failed = status(GraphState::Failed { failure, serving: Some(Generation(8)) });
        failed.ingress.clear();
        let table = graphs(&[status(GraphState::Serving), failed], true, 61_000);
        insta::assert_snapshot!(table.render(None), @r"
        NAMESPACE  GRAPH  REVISION  STATE    INGRESS                        AGE  NODE  GENERATION  WHY
        sales      crm    7         serving  http://crm.localhost:8000/api  1m   n1    12          -
        sales      crm    7         failed   -                              1m   n1    12          failed: start_failed: a trap (generation 8 answers meanwhile)
        ");
    }

    #[test]
    fn what_takes_over_by_steps_is_told_beside_what_answers() {
        let mut rolling = rolling(crate::testing::rollout(Phase::Answering { since_ms: 0 }));
        let table = graphs(std::slice::from_ref(&rolling), true, 61_000).render(None);
        insta::assert_snapshot!(table, @"
        NAMESPACE  GRAPH  REVISION  STATE                       INGRESS                     AGE  NODE  GENERATION  WHY
        default    crm    3         serving, revision 4 at 10%  http://crm.localhost:8000/  1m   n1    9           revision 4 answers 10% for 1m: step 2 of 3
        ");
        rolling.reverted = Some(Reverted { revision: RevisionNumber(2), why: "too slow".to_owned() });
        insta::assert_snapshot!(graph(&rolling, None, 181_000), @"
        crm@3  serving on n1  generation 9  deployed 3m ago
        revision 4 answers 10% for 1m: step 2 of 3
        revision 2 was given up: too slow
        COMPONENT  FROM  ARTIFACT
        http://crm.localhost:8000/
        ");
        rolling.rollout = None;
        assert_eq!(standing(&rolling), "serving");
        assert_eq!(why(&rolling), "revision 2 was given up: too slow");
    }

    #[test]
    fn what_is_scaled_is_told_with_its_figures() {
        let mut scaled = status(GraphState::Serving);
        let scaling = Scaling::new(1, 8, 50, Duration::from_secs(60)).unwrap();
        let calls = Some(Calls::from_thousandths(37_400));
        scaled.scales =
            vec![ScaleStatus { name: "app".to_owned().try_into().unwrap(), replicas: 2, scaling, calls }];
        let text = graph(&scaled, None, 181_000);
        assert_eq!(text.lines().nth(1), Some("app is scaled to 2 of 1-8, 37 calls under way"));
        scaled.scales[0].calls = None;
        let text = graph(&scaled, None, 181_000);
        assert_eq!(text.lines().nth(1), Some("app is scaled to 2 of 1-8"));
    }

    #[test]
    fn where_it_fails_is_told_beside_where_it_serves() {
        let mut failing = status(GraphState::Serving);
        failing.failing.insert("n2".parse().unwrap(), "app does not pass its check GET /ready".to_owned());
        assert_eq!(standing(&failing), "serving, failing on 1 node");
        assert_eq!(why(&failing), "failing on n2: app does not pass its check GET /ready");
        insta::assert_snapshot!(graph(&failing, None, 181_000), @r"
        sales/crm@7  serving on n1  generation 12  deployed 3m ago
        failing on n2: app does not pass its check GET /ready
        COMPONENT  FROM          ARTIFACT
        app        graph         9c1e00112233
        app--pii   policy pii@9  9c1e00112233
        http://crm.localhost:8000/api
        ");
    }

    #[test]
    fn a_policy_that_takes_over_by_steps_is_told_beside_what_answers() {
        let policy = policy_rollout(Phase::Answering { since_ms: 0 }, "it answers where it was placed");
        let mut asked = GraphStatus { policy_rollout: Some(policy), ..status(GraphState::Serving) };
        assert_eq!(standing(&asked), "serving, policy pii@12 at 5%");
        insta::assert_snapshot!(graph(&asked, None, 181_000), @"
        sales/crm@7  serving on n1  generation 12  deployed 3m ago
        policy pii@12 answers 5% for 5m: step 1 of 2; with it, it answers where it was placed
        COMPONENT  FROM          ARTIFACT
        app        graph         9c1e00112233
        app--pii   policy pii@9  9c1e00112233
        http://crm.localhost:8000/api
        ");
        assert_eq!(rollout::look(&asked).unwrap(), "ctl policy rollout status pii");
        asked.policy_rollout = None;
        assert_eq!(rollout::look(&asked), None);
    }

    #[test]
    fn urls_name_the_machine_where_a_route_names_no_host() {
        let mut any = status(GraphState::Serving);
        any.ingress[0].host = None;
        for (address, expected) in [
            ("127.0.0.1:8000", "http://127.0.0.1:8000/api"),
            ("0.0.0.0:80", "http://localhost/api"),
            ("[::1]:8000", "http://[::1]:8000/api"),
            ("n1.example:8000", "http://n1.example:8000/api"),
        ] {
            any.ingress_address = Some(address.to_owned());
            assert_eq!(urls(&any), [expected]);
        }
        any.ingress_address = None;
        assert!(urls(&any).is_empty());
    }
}
