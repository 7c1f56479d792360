//! What people and nodes are told.

use cluster::command::Body;
use cluster::view::{assignment, parts, route_map, status};
use model::assignment::Peer;
use model::id::Generation;
use model::node::NodeState;
use model::report::{Failure, GraphReport, Progress, Report};
use model::route::HttpRoute;
use model::routing::PlacedRoute;
use model::status::GraphState;

use crate::support::{Cluster, key, linked, linked_at, linked_with_database, name};

fn state_of(cluster: &Cluster) -> GraphState {
    status(&cluster.state, &key("sales/crm")).unwrap().state
}

fn say(cluster: &mut Cluster, serving: Option<Generation>, desired: Generation, progress: Progress) {
    let record = &cluster.state.graphs[&key("sales/crm")];
    let node = record.placement.clone().unwrap().home;
    let graphs = vec![GraphReport {
        key: key("sales/crm"),
        uid: record.uid.clone(),
        serving,
        desired,
        progress,
        failing: None,
    }];
    let accepted = cluster.state.nodes[&node].assigned_at;
    cluster.done(Body::RecordReport(Report { node, accepted, graphs }));
}

#[test]
fn a_node_is_told_all_that_it_should_run() {
    let mut cluster = Cluster::new();
    let empty = assignment(&cluster.state, &name("n1")).unwrap();
    assert!(empty.graphs.is_empty());
    for graph in ["sales/b", "sales/a", "hr/c"] {
        cluster.deployed(graph, linked(1));
    }
    cluster.schedule();
    let (one, two) =
        (assignment(&cluster.state, &name("n1")).unwrap(), assignment(&cluster.state, &name("n2")).unwrap());
    let keys = |of: &model::assignment::Assignment| of.graphs.iter().map(|g| g.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&one).len() + keys(&two).len(), 3);
    assert!(keys(&one).is_sorted() && keys(&two).is_sorted());
    assert!(one.generation > empty.generation);
    assert_eq!(one.cluster.as_str(), "cluster-1");
    assert_eq!(assignment(&cluster.state, &name("n9")), None);
}

#[test]
fn the_routes_of_placed_graphs_lead_to_their_nodes() {
    let mut cluster = Cluster::new();
    let routes = |cluster: &Cluster| route_map(&cluster.state).unwrap();
    assert!(routes(&cluster).routes.is_empty());
    let mut routed = linked(1);
    let to = routed.components.keys().next().unwrap().clone();
    routed.ingress = vec![HttpRoute { host: None, path: "/a".parse().unwrap(), to }];
    cluster.deployed("sales/crm", routed.clone());
    assert!(routes(&cluster).routes.is_empty(), "nobody answers what is not placed");
    cluster.schedule();
    let node = cluster.state.graphs[&key("sales/crm")].placement.clone().unwrap().home;
    let map = routes(&cluster);
    let route = routed.ingress[0].clone();
    assert_eq!(map.routes, [PlacedRoute { graph: key("sales/crm"), route, nodes: vec![node.clone()] }]);
    let described = cluster.state.nodes[&node].description.clone();
    let peer = Peer { address: described.api_address, uid: described.uid, zone: String::new() };
    assert_eq!(map.nodes, [(node, peer)].into());
}

/// Whatever changes what a node should run makes its assignment's generation grow, and nothing else does.
#[test]
fn an_assignment_has_a_new_generation_when_it_changes() {
    let mut cluster = Cluster::new();
    cluster.deployed("sales/crm", linked(1));
    cluster.schedule();
    let mut last = assignment(&cluster.state, &name("n1")).unwrap();
    let mut moved = |cluster: &Cluster, changes: bool| {
        let now = assignment(&cluster.state, &name("n1")).unwrap();
        assert_eq!(now.graphs != last.graphs, changes);
        assert_eq!(now.generation > last.generation, changes);
        last = now;
    };
    cluster.deployed("sales/crm", linked(2));
    moved(&cluster, true);
    let relink = cluster.relink("sales/crm", linked(3));
    cluster.done(Body::Relink(Box::new(relink)));
    moved(&cluster, true);
    cluster.deployed("sales/other", linked(1));
    cluster.schedule();
    assert_eq!(cluster.node_of("sales/other").as_deref(), Some("n2"));
    moved(&cluster, false);
    cluster.done(Body::PutPolicy(Box::new(cluster.put("pii", 1))));
    moved(&cluster, false);
    cluster.delete("sales/crm");
    moved(&cluster, true);
}

#[test]
fn a_status_follows_desired_and_observed() {
    let mut cluster = Cluster::new();
    assert_eq!(status(&cluster.state, &key("sales/crm")), None);
    let (_, first, _) = cluster.deployed("sales/crm", linked_at(1, "crm.example.com"));
    let first = Generation(first);
    assert!(matches!(state_of(&cluster), GraphState::Pending { why } if why.len() == 2));
    cluster.schedule();
    let starting = |phase: &str, serving| GraphState::Starting { phase: phase.to_owned(), serving };
    assert_eq!(state_of(&cluster), starting("waiting for node n1", None));
    for progress in [Progress::Fetching, Progress::Compiling, Progress::Starting] {
        let word = progress.word();
        say(&mut cluster, None, first, progress);
        assert_eq!(state_of(&cluster), starting(word, None));
    }
    say(&mut cluster, Some(first), first, Progress::Serving);
    assert_eq!(state_of(&cluster), GraphState::Serving);

    // A new revision: the old one serves meanwhile, and is not taken for the new one.
    let (_, second, _) = cluster.deployed("sales/crm", linked_at(2, "crm.example.com"));
    let second = Generation(second);
    assert_eq!(state_of(&cluster), starting("waiting for node n1", Some(first)));
    say(&mut cluster, Some(first), second, Progress::Compiling);
    assert_eq!(state_of(&cluster), starting("compiling", Some(first)));
    let failure = Failure { reason: "start_failed".to_owned(), message: "it trapped".to_owned() };
    say(&mut cluster, Some(first), second, Progress::Retrying(failure.clone()));
    assert_eq!(state_of(&cluster), starting("retrying after start_failed: it trapped", Some(first)));
    say(&mut cluster, Some(first), second, Progress::Failed(failure.clone()));
    assert_eq!(state_of(&cluster), GraphState::Failed { failure, serving: Some(first) });
    say(&mut cluster, Some(second), second, Progress::Serving);
    assert_eq!(state_of(&cluster), GraphState::Serving);

    let down = Body::SetNodeState { node: name("n1"), state: NodeState::Down, why: "lost".to_owned() };
    cluster.done(down);
    assert!(matches!(state_of(&cluster), GraphState::Unknown { .. }));
    let told = status(&cluster.state, &key("sales/crm")).unwrap();
    assert_eq!(told.ingress_address.as_deref(), Some("127.0.0.1:2"));
    assert_eq!((told.revision.0, told.ingress.len(), told.components.len()), (2, 1, 1));
}

#[test]
fn what_is_on_a_node_is_told_graph_by_graph() {
    let mut cluster = crate::moves::cluster();
    cluster.deployed("sales/crm", linked_with_database(1, None));
    cluster.deployed("sales/site", linked(2));
    cluster.schedule();
    let shown = |cluster: &Cluster, node: &str| {
        let shown = |part: cluster::view::Part| {
            let names = |names: &[model::name::ComponentName]| {
                names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join("+")
            };
            let (members, data) = (names(&part.members), names(&part.data));
            format!("{}@{} {} [{members}] [{data}]", part.key, part.revision, part.state.word())
        };
        parts(&cluster.state, &name(node)).into_iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(shown(&cluster, "n1"), ["sales/crm@1 waiting [app+db] [db]"]);
    assert_eq!(shown(&cluster, "n2"), ["sales/site@1 waiting [app] []"]);
    let generation = cluster.state.graphs[&key("sales/crm")].generation;
    say(&mut cluster, None, generation, Progress::Compiling);
    assert_eq!(shown(&cluster, "n1"), ["sales/crm@1 compiling [app+db] [db]"]);
    let failure = Failure { reason: "start_failed".to_owned(), message: "a trap".to_owned() };
    say(&mut cluster, None, generation, Progress::Failed(failure.clone()));
    assert_eq!(parts(&cluster.state, &name("n1"))[0].state.failure(), Some(&failure));

    // What is moved is told of both nodes until it answers where it goes.
    cluster.serves("n2");
    cluster.drain("n2");
    cluster.schedule();
    assert_eq!(shown(&cluster, "n2"), ["sales/site@1 leaving [app] []"]);
    assert_eq!(shown(&cluster, "n3"), ["sales/site@1 waiting [app] []"]);
    assert!(shown(&cluster, "n4").is_empty() && shown(&cluster, "n9").is_empty());
}
