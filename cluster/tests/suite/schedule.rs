//! The scheduler: which graph goes where, and why not.

use cluster::command::{Body, TaintNode};
use cluster::feature::{FIRST_LEVEL, WISHES};
use cluster::schedule::{explain, schedule, unmet};
use model::condition::Condition;
use model::id::Generation;
use model::linked::{Function, Link, LinkOrigin, LinkedComponent, LinkedGraph, Origin, Target, Verdict};
use model::node::NodeState;
use model::placement::Wishes;
use model::policy::PolicyVersion;
use model::unit::ByteSize;

use crate::support::{Cluster, key, linked, linked_with_database, name, node};

fn down(cluster: &mut Cluster, text: &str) {
    cluster.done(Body::SetNodeState { node: name(text), state: NodeState::Down, why: "lost".to_owned() });
}

fn why(cluster: &Cluster, graph: &str) -> Vec<String> {
    explain(&cluster.state, &key(graph), &cluster.state.graphs[&key(graph)])
}

#[test]
fn the_node_with_the_fewest_graphs_is_next() {
    let mut cluster = Cluster::new();
    for number in 0..6 {
        cluster.deployed(&format!("sales/g{number}"), linked(1));
    }
    assert_eq!(cluster.schedule(), 6);
    let on = |node: &str| cluster.state.graphs.values().filter(|g| g.is_on(&name(node))).count();
    assert_eq!((on("n1"), on("n2")), (3, 3));
}

#[test]
fn a_planned_state_plans_to_nothing() {
    let mut cluster = Cluster::new();
    cluster.deployed("sales/crm", linked(1));
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
    // A new revision stays where the graph is.
    cluster.deployed("sales/crm", linked(2));
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
    assert_eq!(cluster.node_of("sales/crm").as_deref(), Some("n1"));
}

#[test]
fn a_graph_waits_for_a_node_that_fits() {
    let mut cluster = Cluster::new();
    let mut plain = node("n3");
    plain.capabilities.clear();
    cluster.done(Body::RegisterNode(plain));
    let mut small = node("n4");
    small.capacity.memory_bytes = 1 << 20;
    cluster.done(Body::RegisterNode(small));
    down(&mut cluster, "n1");
    down(&mut cluster, "n2");
    cluster.deployed("sales/crm", linked_with_database(1, None));
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
    assert_eq!(
        why(&cluster, "sales/crm"),
        ["n1 no: down", "n2 no: down", "n3 no: offers no sqlite", "n4 no: has 1 MiB, needs 64 MiB"]
    );
    // Without the database it fits where none is offered.
    cluster.deployed("sales/crm", linked(1));
    assert_eq!(why(&cluster, "sales/crm")[2], "n3 fits: it is placed at the next pass");
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of("sales/crm").as_deref(), Some("n3"));
}

#[test]
fn without_a_node_the_reason_is_that() {
    let mut cluster = Cluster::new();
    cluster.deployed("sales/crm", linked(1));
    cluster.state.nodes.clear();
    assert_eq!(why(&cluster, "sales/crm"), ["no node has joined: start a node agent"]);
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
}

#[test]
fn memory_counts_every_component_of_an_instance() {
    let mut cluster = Cluster::new();
    let mut large = linked(1);
    let component = large.components.values().next().unwrap().clone();
    for number in 0..9 {
        let mut more = component.clone();
        more.settings.limits.memory = ByteSize::mebibytes(128);
        large.components.insert(format!("more{number}").parse().unwrap(), more);
    }
    cluster.deployed("sales/large", large);
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
    assert_eq!(why(&cluster, "sales/large")[0], "n1 no: has 1024 MiB, needs 1216 MiB");
}

fn require(linked: &mut LinkedGraph, member: &str, labels: &[(&str, &str)]) {
    let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned().into()));
    linked.require.insert(member.parse().unwrap(), labels.collect());
}

/// `app -> proxy -> db`, the proxy by a policy.
pub(crate) fn chain() -> LinkedGraph {
    let mut linked = linked_with_database(1, None);
    let app = linked.components.values().next().unwrap().clone();
    let policy = PolicyVersion { name: "pii".parse().unwrap(), generation: Generation(1) };
    let proxy = LinkedComponent { origin: Origin::Policy(policy), ..app };
    linked.components.insert("proxy".parse().unwrap(), proxy);
    let to = |name: &str| Target::Component { name: name.parse().unwrap(), export: "a:b/c".parse().unwrap() };
    linked.links = vec![
        link("app", to("proxy"), Verdict::Remotable),
        link("proxy", Target::Capability { name: "db".parse().unwrap() }, Verdict::Remotable),
    ];
    linked
}

fn link(from: &str, to: Target, verdict: Verdict) -> Link {
    Link {
        from: from.parse().unwrap(),
        interface: "a:b/c".parse().unwrap(),
        to,
        wiring: LinkOrigin::Inferred,
        functions: vec![Function { name: "f".to_owned(), verdict }],
        terms: model::placement::LinkTerms::default(),
    }
}

/// `app=n1 db=n2 proxy=n1`
fn placed(cluster: &Cluster, graph: &str) -> String {
    let record = &cluster.state.graphs[&key(graph)];
    let placement = record.placement.as_ref().unwrap();
    let members = record.linked.components.keys().chain(record.linked.capabilities.keys());
    let shown = members.map(|member| format!("{member}={}", placement.first_node_of(member)));
    shown.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
}

#[test]
fn members_go_where_their_labels_are_and_policies_beside_their_callers() {
    let mut cluster = Cluster::new();
    let mut third = node("n3");
    third.labels.insert("disk".to_owned(), "ssd".to_owned());
    cluster.done(Body::RegisterNode(third));

    let mut linked = chain();
    require(&mut linked, "db", &[("disk", "ssd")]);
    cluster.deployed("sales/one", linked.clone());
    // A node that meets what is required is the best home: nothing crosses then.
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(placed(&cluster, "sales/one"), "app=n3 db=n3 proxy=n3");

    require(&mut linked, "app", &[("node", "n1")]);
    cluster.deployed("sales/two", linked.clone());
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(placed(&cluster, "sales/two"), "app=n1 db=n3 proxy=n1");

    require(&mut linked, "proxy", &[("node", "n2")]);
    cluster.deployed("sales/two", linked.clone());
    let before = cluster.state.graphs[&key("sales/two")].generation;
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(placed(&cluster, "sales/two"), "app=n1 db=n3 proxy=n2");
    assert!(cluster.state.graphs[&key("sales/two")].generation > before, "its links go other ways now");
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
    for node in ["n1", "n2", "n3"] {
        let assignment = cluster::view::assignment(&cluster.state, &name(node)).unwrap();
        assert!(assignment.graphs.iter().any(|graph| graph.key == key("sales/two")), "{node}");
        assert_eq!(assignment.peers.len(), 2, "{node}: {:?}", assignment.peers);
        assert!(!assignment.peers.contains_key(&name(node)));
    }

    // A lost node keeps what it has.
    down(&mut cluster, "n3");
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
}

#[test]
fn what_cannot_be_carried_stays_together() {
    let mut cluster = Cluster::new();
    let mut linked = chain();
    linked.links[1].functions[0].verdict = Verdict::LocalOnly { why: "stream<u8>".to_owned() };
    require(&mut linked, "db", &[("node", "n2")]);
    require(&mut linked, "app", &[("node", "n1")]);
    cluster.deployed("sales/crm", linked.clone());
    // The proxy follows its caller, and the database must be where the proxy is.
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
    assert_eq!(
        why(&cluster, "sales/crm"),
        ["app, db must be on one node, but node=n1 and node=n2 are required of it"]
    );
    assert!(unmet(&cluster.state, &linked, None).is_some());

    require(&mut linked, "proxy", &[("node", "n2")]);
    cluster.deployed("sales/crm", linked);
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(placed(&cluster, "sales/crm"), "app=n1 db=n2 proxy=n2");
}

#[test]
fn a_label_that_no_node_has_is_named() {
    let mut cluster = Cluster::new();
    let mut linked = chain();
    require(&mut linked, "db", &[("disk", "ssd")]);
    let expected = ["db: n1 no: has not the label disk=ssd", "db: n2 no: has not the label disk=ssd"];
    assert_eq!(unmet(&cluster.state, &linked, None).unwrap(), expected);
    cluster.deployed("sales/crm", linked.clone());
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
    assert_eq!(why(&cluster, "sales/crm"), expected);
    cluster.state.nodes.clear();
    assert_eq!(unmet(&cluster.state, &linked, None), None, "nodes may still join");
}

#[test]
fn a_capability_stays_with_its_data() {
    let mut cluster = Cluster::new();
    let plain = chain();
    cluster.deployed("sales/crm", plain.clone());
    assert_eq!(cluster.schedule(), 1);
    let mut elsewhere = plain.clone();
    require(&mut elsewhere, "db", &[("node", "n2")]);
    let record = cluster.state.graphs[&key("sales/crm")].clone();
    let expected = "db has its data on n1, which has not the label node=n2, and does not move";
    assert_eq!(unmet(&cluster.state, &elsewhere, Some(&record)).unwrap(), [expected]);
    assert_eq!(unmet(&cluster.state, &elsewhere, None), None, "a new graph may have it there");
    // Committed all the same, it stays where it is.
    cluster.deployed("sales/crm", elsewhere);
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
    assert_eq!(placed(&cluster, "sales/crm"), "app=n1 db=n1 proxy=n1");

    // One that comes later has no data yet: it goes where it is wanted, and stays when nobody asks for that any more.
    let mut more = plain.clone();
    let database = more.capabilities.values().next().unwrap().clone();
    more.capabilities.insert("log".parse().unwrap(), database);
    more.links.push(link("app", Target::Capability { name: "log".parse().unwrap() }, Verdict::Remotable));
    require(&mut more, "log", &[("node", "n2")]);
    let record = cluster.state.graphs[&key("sales/crm")].clone();
    assert_eq!(unmet(&cluster.state, &more, Some(&record)), None);
    cluster.deployed("sales/crm", more.clone());
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(placed(&cluster, "sales/crm"), "app=n1 db=n1 log=n2 proxy=n1");
    more.require.clear();
    cluster.deployed("sales/crm", more);
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
    assert_eq!(placed(&cluster, "sales/crm"), "app=n1 db=n1 log=n2 proxy=n1");
}

/// Nodes n1 to n4 of the classes fast, spot, plain and plain.
fn classes() -> Cluster {
    let mut cluster = Cluster::new();
    for (number, class) in [(1, "fast"), (2, "spot"), (3, "plain"), (4, "plain")] {
        let mut described = node(&format!("n{number}"));
        described.labels.insert("class".to_owned(), class.to_owned());
        cluster.done(Body::RegisterNode(described));
    }
    cluster
}

fn taint(cluster: &mut Cluster, node: &str) {
    let set = [("gpu".to_owned(), "only".to_owned())].into();
    cluster.done(Body::TaintNode(TaintNode { node: name(node), set, unset: [].into() }));
}

/// `prefer`, `avoid`, `tolerate`, each of one label as `key=value`, or nothing.
fn wish(linked: &mut LinkedGraph, member: &str, [prefer, avoid, tolerate]: [&str; 3]) {
    let label = |text: &str| text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    let conditions =
        |text: &str| label(text).map(|(key, value)| (key, Condition::Is(value))).into_iter().collect();
    let tolerate = label(tolerate).into_iter().collect();
    let wishes = Wishes { prefer: conditions(prefer), avoid: conditions(avoid), tolerate };
    linked.wishes.insert(member.parse().unwrap(), wishes);
}

fn wishing(wishes: [&str; 3]) -> LinkedGraph {
    let mut linked = linked(1);
    wish(&mut linked, "app", wishes);
    linked
}

#[test]
fn wishes_count_before_load_and_move_nothing() {
    let mut cluster = classes();
    for number in 0..3 {
        cluster.deployed(&format!("sales/fast{number}"), wishing(["class=fast", "", ""]));
        cluster.deployed(&format!("sales/other{number}"), wishing(["", "class=plain", ""]));
    }
    assert_eq!(cluster.schedule(), 6);
    for number in 0..3 {
        assert_eq!(cluster.node_of(&format!("sales/fast{number}")).as_deref(), Some("n1"));
    }
    // Of the two that it does not avoid, the one with fewer graphs.
    let on = |node: &str| cluster.state.graphs.values().filter(|graph| graph.is_on(&name(node))).count();
    assert_eq!((on("n1"), on("n2"), on("n3"), on("n4")), (3, 3, 0, 0));
    // Where nothing else is, what is avoided will do; and there it stays.
    for node in ["n1", "n3", "n4"] {
        down(&mut cluster, node);
    }
    cluster.deployed("sales/late", wishing(["class=fast", "class=spot", ""]));
    assert_eq!(cluster.schedule(), 1);
    cluster.done(Body::SetNodeState { node: name("n1"), state: NodeState::Ready, why: String::new() });
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
    cluster.deployed("sales/other0", wishing(["class=fast", "class=spot", ""]));
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), [], "a new revision stays as well");
    assert_eq!(cluster.node_of("sales/late").as_deref(), Some("n2"));
}

#[test]
fn members_wish_together_where_they_are_together() {
    let mut cluster = classes();
    // One for n1, two for n2 and against n1: nothing keeps the database from being where all are.
    let mut linked = chain();
    wish(&mut linked, "app", ["class=fast", "", ""]);
    wish(&mut linked, "db", ["class=spot", "class=fast", ""]);
    cluster.deployed("sales/one", linked.clone());
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(placed(&cluster, "sales/one"), "app=n2 db=n2 proxy=n2");
    // What is required of one part leaves it the choice among the rest.
    require(&mut linked, "app", &[("node", "n1")]);
    require(&mut linked, "db", &[("class", "plain")]);
    wish(&mut linked, "db", ["node=n4", "", ""]);
    cluster.deployed("sales/two", linked);
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(placed(&cluster, "sales/two"), "app=n1 db=n4 proxy=n1");
}

#[test]
fn a_taint_keeps_off_what_does_not_tolerate_it() {
    let mut cluster = Cluster::new();
    cluster.deployed("sales/before", linked(1));
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of("sales/before").as_deref(), Some("n1"));
    let assigned = cluster.state.nodes[&name("n1")].assigned_at;
    taint(&mut cluster, "n1");
    assert_eq!(cluster.last_event(), "node/n1 tainted");
    assert_eq!(cluster.state.nodes[&name("n1")].assigned_at, assigned, "its agent is told nothing");
    // What is there stays, also its next revision.
    cluster.deployed("sales/before", linked(2));
    assert_eq!(schedule(&cluster.state, cluster.state.now_ms), []);
    for number in 0..3 {
        cluster.deployed(&format!("sales/g{number}"), linked(1));
    }
    cluster.deployed("sales/other", wishing(["", "", "gpu=some"]));
    assert_eq!(cluster.schedule(), 4);
    let on = |cluster: &Cluster, node: &str| {
        cluster.state.graphs.values().filter(|graph| graph.is_on(&name(node))).count()
    };
    assert_eq!((on(&cluster, "n1"), on(&cluster, "n2")), (1, 4));
    cluster.deployed("sales/tolerant", wishing(["", "", "gpu=only"]));
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of("sales/tolerant").as_deref(), Some("n1"));
    cluster.done(Body::RaiseFeatureLevel { level: cluster::FEATURE_LEVEL });
    cluster.serves("n2");
    assert_eq!(
        cluster::schedule::rebalance(&cluster.state, &[].into()),
        [],
        "nor is anything moved there on request"
    );

    down(&mut cluster, "n2");
    cluster.deployed("sales/late", linked(1));
    cluster.schedule();
    let expected = ["n1 no: is tainted gpu=only, which app does not tolerate", "n2 no: down"];
    assert_eq!(why(&cluster, "sales/late"), expected);
    assert_eq!(unmet(&cluster.state, &linked(1), None), None, "taints come and go");
    let untaint = TaintNode { node: name("n1"), set: [].into(), unset: ["gpu".to_owned()].into() };
    cluster.done(Body::TaintNode(untaint));
    cluster.schedule();
    assert_eq!(cluster.node_of("sales/late").as_deref(), Some("n1"));
}

#[test]
fn members_of_earlier_versions_are_told_of_no_taints_and_wishes() {
    let mut cluster = Cluster::new();
    let taint = TaintNode { node: name("n1"), set: [].into(), unset: [].into() };
    assert_eq!(Body::TaintNode(taint).level(), WISHES);
    let wishing = wishing(["", "", "gpu=only"]);
    assert_eq!(Body::Deploy(Box::new(cluster.deploy("sales/crm", wishing.clone()))).level(), WISHES);
    let mut of_spec = cluster.deploy("sales/crm", linked(1));
    assert_eq!(Body::Deploy(Box::new(of_spec.clone())).level(), FIRST_LEVEL);
    of_spec.spec.wishes = wishing.wishes.clone();
    assert_eq!(Body::Deploy(Box::new(of_spec)).level(), WISHES);
    cluster.deployed("sales/crm", linked(1));
    assert_eq!(Body::Relink(Box::new(cluster.relink("sales/crm", wishing))).level(), WISHES);
    assert_eq!(Body::Relink(Box::new(cluster.relink("sales/crm", linked(2)))).level(), FIRST_LEVEL);
}

#[test]
fn all_that_is_together_must_tolerate_a_taint() {
    let mut cluster = Cluster::new();
    down(&mut cluster, "n2");
    taint(&mut cluster, "n1");
    let mut linked = chain();
    wish(&mut linked, "app", ["", "", "gpu=only"]);
    cluster.deployed("sales/crm", linked.clone());
    assert_eq!(cluster.schedule(), 0);
    let expected = ["n1 no: is tainted gpu=only, which db does not tolerate", "n2 no: down"];
    assert_eq!(why(&cluster, "sales/crm"), expected);
    // The policy's component is not asked: it goes where its caller is.
    wish(&mut linked, "db", ["", "", "gpu=only"]);
    cluster.deployed("sales/crm", linked);
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(placed(&cluster, "sales/crm"), "app=n1 db=n1 proxy=n1");
}

#[test]
fn replicas_honour_taints_and_wishes() {
    let mut cluster = classes();
    cluster.done(Body::RaiseFeatureLevel { level: cluster::FEATURE_LEVEL });
    taint(&mut cluster, "n1");
    let on = |replicas: u32, wishes: [&str; 3]| {
        let mut linked = wishing(wishes);
        linked.replicas.insert("app".parse().unwrap(), replicas);
        linked
    };
    cluster.deployed("sales/crm", on(2, ["class=fast", "class=spot", ""]));
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of("sales/crm").as_deref(), Some("n3, n4"));
    cluster.deployed("sales/crm", on(4, ["", "", ""]));
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of("sales/crm").as_deref(), Some("n2, n3, n4"));
    let record = &cluster.state.graphs[&key("sales/crm")];
    let placement = record.placement.as_ref().unwrap();
    let missing = cluster::schedule::missing(&cluster.state, &record.linked, Some(record), placement).unwrap();
    assert_eq!(missing, "app on 3 of 4 nodes: n1 no: is tainted gpu=only, which app does not tolerate");
    // One of its nodes is tainted, and its home is drained: the rest of it takes over all the same.
    taint(&mut cluster, "n2");
    taint(&mut cluster, "n4");
    cluster.drain("n3");
    assert_eq!(cluster.schedule(), 1);
    assert_eq!(cluster.node_of("sales/crm").as_deref(), Some("n2, n4"));
}
