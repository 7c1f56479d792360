//! What is asked of nodes besides values of labels: which nodes take it, what contradicts itself, and who is told of it.

use cluster::command::Body;
use cluster::feature::{CONDITIONS, FIRST_LEVEL};
use cluster::schedule::{explain, schedule, unmet};
use model::condition::{Condition, Expression, NumberRange};
use model::linked::{Link, LinkOrigin, LinkedGraph, Target};
use model::node::NodeDescription;
use model::placement::{LinkTerms, Locality};
use model::policy::Action;

use crate::support::{Cluster, key, linked, name, node};

/// n1 in zone a with 2 processors, n2 in b with 2, n3 in c with 16.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new();
    for (number, zone, cpus) in [(1, "a", 2), (2, "b", 2), (3, "c", 16)] {
        let described = node(&format!("n{number}"));
        let capacity = model::node::Capacity { cpus, ..described.capacity };
        let labels = [("zone".to_owned(), zone.to_owned())].into();
        cluster.done(Body::RegisterNode(NodeDescription { labels, capacity, ..described }));
    }
    cluster
}

fn one_of(values: &[&str]) -> Condition {
    Condition::Of(Expression::In(values.iter().map(|value| (*value).to_owned()).collect()))
}

fn none_of(values: &[&str]) -> Condition {
    Condition::Of(Expression::NotIn(values.iter().map(|value| (*value).to_owned()).collect()))
}

fn at_least(least: u64) -> Condition {
    Condition::Of(Expression::Number(NumberRange { at_least: Some(least), at_most: None }))
}

fn requiring(label: &str, condition: Condition) -> LinkedGraph {
    let require = [("app".parse().unwrap(), [(label.to_owned(), condition)].into())].into();
    LinkedGraph { require, ..linked(1) }
}

#[test]
fn a_graph_goes_where_its_conditions_hold() {
    let version = |range: &str| Condition::Of(Expression::Version(range.parse().unwrap()));
    let rows = [
        ("zone", one_of(&["b", "c"]), Some("n2")),
        ("zone", none_of(&["a", "b"]), Some("n3")),
        ("rack", none_of(&["r1"]), Some("n1")),
        ("rack", Condition::Of(Expression::Exists(true)), None),
        ("weft.cpus", at_least(8), Some("n3")),
        ("weft.memory", at_least(1 << 30), Some("n1")),
        ("weft.memory", at_least((1 << 30) + 1), None),
        ("weft.version", version(">=0.1, <1"), Some("n1")),
        ("weft.version", version(">=1"), None),
        ("node", none_of(&["n1"]), Some("n2")),
    ];
    for (label, condition, on) in rows {
        let mut cluster = cluster();
        let said = condition.of(label);
        cluster.deployed("sales/crm", requiring(label, condition));
        cluster.schedule();
        assert_eq!(cluster.node_of("sales/crm").as_deref(), on, "{said}");
        assert_eq!(schedule(&cluster.state, cluster.state.now_ms), [], "{said}");
    }
}

#[test]
fn why_a_node_does_not_take_it_names_what_the_node_has() {
    let mut cluster = cluster();
    cluster.deployed("sales/crm", requiring("weft.cpus", at_least(32)));
    let record = &cluster.state.graphs[&key("sales/crm")];
    assert_eq!(
        explain(&cluster.state, &key("sales/crm"), record)[2],
        "app: n3 no: has weft.cpus=16, and required is weft.cpus at least 32"
    );
    let required = requiring("rack", one_of(&["r1", "r2"]));
    let why = unmet(&cluster.state, &required, None).unwrap();
    assert_eq!(why[0], "app: n1 no: has no rack, and required is rack in r1, r2");
}

#[test]
fn what_must_be_on_one_node_may_ask_for_the_same_in_two_ways_and_not_for_two_things() {
    let pair = |one: Condition, other: Condition| {
        let mut linked = linked(1);
        let app = linked.components.values().next().unwrap().clone();
        linked.components.insert("back".parse().unwrap(), app);
        let interface: model::interface::InterfaceName = "a:b/c@1.0.0".parse().unwrap();
        linked.links = vec![Link {
            from: "app".parse().unwrap(),
            interface: interface.clone(),
            to: Target::Component { name: "back".parse().unwrap(), export: interface },
            wiring: LinkOrigin::Explicit,
            functions: Vec::new(),
            terms: LinkTerms { locality: Locality::SameNode, ..LinkTerms::default() },
        }];
        linked.require.insert("app".parse().unwrap(), [("zone".to_owned(), one)].into());
        linked.require.insert("back".parse().unwrap(), [("zone".to_owned(), other)].into());
        linked
    };
    let mut cluster = cluster();
    cluster.deployed("sales/crm", pair(one_of(&["a", "b"]), one_of(&["b", "c"])));
    cluster.schedule();
    assert_eq!(cluster.node_of("sales/crm").as_deref(), Some("n2"));
    let against = pair(Condition::Is("a".to_owned()), one_of(&["b", "c"]));
    assert_eq!(
        unmet(&cluster.state, &against, None).unwrap(),
        ["app, back must be on one node, but zone=a and zone in b, c are required of it"]
    );
    // What no two conditions alone show is shown by the nodes.
    let nowhere = pair(one_of(&["a", "x"]), none_of(&["a"]));
    assert!(unmet(&cluster.state, &nowhere, None).is_some());
}

#[test]
fn a_graph_leaves_a_node_of_which_its_conditions_hold_no_more() {
    let mut cluster = cluster();
    cluster.done(Body::RaiseFeatureLevel { level: cluster::FEATURE_LEVEL });
    cluster.deployed("sales/crm", requiring("zone", one_of(&["a", "b"])));
    cluster.schedule();
    assert_eq!(cluster.node_of("sales/crm").as_deref(), Some("n1"));
    let set = [("zone".to_owned(), "c".to_owned())].into();
    let label = cluster::command::LabelNode { node: name("n1"), set, unset: [].into() };
    cluster.done(Body::LabelNode(label));
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of("sales/crm").as_deref(), Some("n2"));
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
}

#[test]
fn members_of_earlier_versions_are_given_no_conditions() {
    let mut cluster = Cluster::new();
    let deploy =
        |cluster: &Cluster, linked| Body::Deploy(Box::new(cluster.deploy("sales/crm", linked))).level();
    assert_eq!(deploy(&cluster, requiring("zone", Condition::Is("a".to_owned()))), FIRST_LEVEL);
    assert_eq!(deploy(&cluster, requiring("zone", one_of(&["a"]))), CONDITIONS);
    // They take an attribute for a label that no node has.
    assert_eq!(deploy(&cluster, requiring("weft.cpus", Condition::Is("2".to_owned()))), CONDITIONS);
    let mut of_spec = cluster.deploy("sales/crm", linked(1));
    of_spec.spec.require = requiring("zone", one_of(&["a"])).require;
    assert_eq!(Body::Deploy(Box::new(of_spec)).level(), CONDITIONS);
    let mut of_wishes = linked(1);
    let wishes = model::placement::Wishes {
        avoid: [("zone".to_owned(), one_of(&["a"]))].into(),
        ..model::placement::Wishes::default()
    };
    of_wishes.wishes.insert("app".parse().unwrap(), wishes);
    assert_eq!(deploy(&cluster, of_wishes), CONDITIONS);
    cluster.deployed("sales/crm", linked(1));
    let relink = cluster.relink("sales/crm", requiring("zone", one_of(&["a"])));
    assert_eq!(Body::Relink(Box::new(relink)).level(), CONDITIONS);
    let mut put = cluster.put("pii", 1);
    assert_eq!(Body::PutPolicy(Box::new(put.clone())).level(), FIRST_LEVEL);
    if let Action::Interpose(components) = &mut put.spec.action {
        components[0].require = [("zone".to_owned(), one_of(&["a"]))].into();
    }
    assert_eq!(Body::PutPolicy(Box::new(put)).level(), CONDITIONS);
}

/// What was stored before there were conditions is read, and what has none is stored as it was.
#[test]
fn a_state_of_earlier_versions_is_read() {
    let linked = requiring("zone", Condition::Is("a".to_owned()));
    let stored = serde_json::to_value(&linked).unwrap();
    assert_eq!(stored["require"], serde_json::json!({"app": {"zone": "a"}}));
    assert!(stored.get("each_node").is_none());
    assert_eq!(serde_json::from_value::<LinkedGraph>(stored).unwrap(), linked);
}
