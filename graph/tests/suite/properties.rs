//! What holds of every linked graph and every plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use graph::interface::{ComponentType, FunctionType, Interface, Type};
use graph::link::{Finding, Linked, PolicyInForce, Types, link};
use graph::plan;
use model::digest::Digest;
use model::graph::{Artifact, ComponentSpec, GraphSpec, LinkSpec, Settings, Wiring};
use model::id::{Generation, GraphKey};
use model::interface::InterfaceName;
use model::linked::{LinkedGraph, Origin, Target};
use model::policy::{Action, Interposed, Mode, OnFailure, Order, Phase, PolicySpec, Selector};
use model::reserve::Reserves;
use model::unit::ByteSize;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::{select, subsequence};
use proptest::test_runner::TestCaseResult;

use crate::support::random;

/// Interfaces of the made graphs; component `n` exports the `n`th, so that links lead to later components only.
const INTERFACES: usize = 6;

#[derive(Debug, Clone)]
struct Made {
    /// The imports of each component: numbers of interfaces.
    imports: Vec<Vec<usize>>,
    /// Links that are written out: (from, interface).
    explicit: Vec<(usize, usize)>,
    labelled: Vec<bool>,
    policies: Vec<MadePolicy>,
}

#[derive(Debug, Clone)]
struct MadePolicy {
    /// `None` is the whole package.
    interface: Option<usize>,
    /// Whether each of its components has the right type.
    components: Vec<bool>,
    phase: Phase,
    priority: i32,
    mode: Mode,
    on_failure: OnFailure,
    by_label: bool,
}

fn made() -> impl Strategy<Value = Made> {
    let imports = (0..INTERFACES).map(|own| {
        let later: Vec<usize> = (own + 1..INTERFACES).collect();
        let count = later.len();
        subsequence(later, 0..=count)
    });
    let imports: Vec<_> = imports.collect();
    (
        imports,
        vec((0..INTERFACES, 0..INTERFACES), 0..3),
        vec(any::<bool>(), INTERFACES),
        vec(made_policy(), 0..5),
    )
        .prop_map(|(imports, explicit, labelled, policies)| Made { imports, explicit, labelled, policies })
}

fn made_policy() -> impl Strategy<Value = MadePolicy> {
    (
        proptest::option::of(0..INTERFACES),
        vec(proptest::bool::weighted(0.9), 1..3),
        select(vec![Phase::Authn, Phase::Authz, Phase::Inspect, Phase::Observe]),
        -3..3_i32,
        select(vec![Mode::Enforce, Mode::Enforce, Mode::Enforce, Mode::Audit, Mode::Off]),
        select(vec![OnFailure::Open, OnFailure::Open, OnFailure::Closed]),
        any::<bool>(),
    )
        .prop_map(|(interface, components, phase, priority, mode, on_failure, by_label)| MadePolicy {
            interface,
            components,
            phase,
            priority,
            mode,
            on_failure,
            by_label,
        })
}

fn name_of(interface: usize) -> InterfaceName {
    format!("acme:made/i{interface}@1.{interface}.0").parse().unwrap()
}

fn interface(number: usize, is_right: bool) -> Interface {
    let own = Type::Primitive(if is_right { "u32" } else { "string" });
    let function = |name: &str, wit: Type| FunctionType {
        name: name.to_owned(),
        is_async: false,
        parameters: vec![("it".to_owned(), wit)],
        result: None,
    };
    let functions = vec![function("one", own), function("two", Type::List(Box::new(Type::Primitive("u8"))))];
    Interface { name: name_of(number), functions, uses: Vec::new(), is_types_only: false }
}

fn artifact(kind: u8, number: usize) -> Artifact {
    let mut bytes = [kind; 32];
    bytes[0] = u8::try_from(number).unwrap();
    Artifact { digest: Digest::from_bytes(bytes), size: 1 }
}

/// A spec, the types of its components and the policies.
fn build(made: &Made) -> (GraphSpec, Types, Vec<PolicyInForce>) {
    let component_name = |number: usize| format!("c{number}").parse().unwrap();
    let mut types = Types::new();
    let mut components = BTreeMap::new();
    for (own, imports) in made.imports.iter().enumerate() {
        let imports = imports.iter().map(|number| interface(*number, true)).collect();
        let found =
            ComponentType { imports, exports: vec![interface(own, true)], memory_at_start: ByteSize(0) };
        types.insert(artifact(1, own).digest, Arc::new(found));
        let labels = made.labelled[own].then(|| ("data".to_owned(), "pii".to_owned()));
        let labels = labels.into_iter().collect();
        let spec = ComponentSpec { artifact: artifact(1, own), labels, settings: Settings::default() };
        components.insert(component_name(own), spec);
    }
    for number in 0..INTERFACES {
        for (kind, is_right) in [(2, true), (3, false)] {
            let through = || vec![interface(number, is_right)];
            let found = ComponentType { imports: through(), exports: through(), memory_at_start: ByteSize(0) };
            types.insert(artifact(kind, number).digest, Arc::new(found));
        }
    }
    let links: BTreeSet<_> =
        made.explicit.iter().filter(|(from, to)| made.imports[*from].contains(to)).collect();
    let links = links.into_iter().map(|(from, to)| LinkSpec {
        terms: model::placement::LinkTerms::default(),
        from: component_name(*from),
        interface: name_of(*to).to_string().parse().unwrap(),
        to: component_name(*to),
    });
    let spec = GraphSpec {
        labels: BTreeMap::new(),
        wiring: Wiring::Inferred,
        ingress: Vec::new(),
        components,
        capabilities: BTreeMap::new(),
        links: links.collect(),
        require: BTreeMap::new(),
        replicas: BTreeMap::new(),
        each_node: BTreeSet::new(),
        scaling: BTreeMap::new(),
        wishes: BTreeMap::new(),
        reserves: Reserves::default(),
        rollout: None,
    };
    let policies = made.policies.iter().enumerate().map(|(number, policy)| in_force(number, policy));
    (spec, types, policies.collect())
}

fn in_force(number: usize, made: &MadePolicy) -> PolicyInForce {
    let pattern = made.interface.map_or("acme:made/*".to_owned(), |interface| name_of(interface).to_string());
    // The components of a policy for the whole package pass the first interface on, and stand on nothing else.
    let about = made.interface.unwrap_or(1);
    let component = |is_right: &bool| Interposed {
        artifact: artifact(if *is_right { 2 } else { 3 }, about),
        settings: Settings::default(),
        require: BTreeMap::new(),
    };
    let labels = made.by_label.then(|| ("data".to_owned(), "pii".to_owned())).into_iter().collect();
    let spec = PolicySpec {
        name: format!("p{number}").parse().unwrap(),
        selector: Selector {
            interface: pattern.parse().unwrap(),
            namespaces: BTreeSet::new(),
            graphs: BTreeSet::new(),
            labels,
            except: Vec::new(),
        },
        action: Action::Interpose(made.components.iter().map(component).collect()),
        order: Order { phase: made.phase, priority: made.priority },
        mandatory: false,
        on_failure: made.on_failure,
        mode: made.mode,
        rollout: None,
    };
    PolicyInForce { generation: Generation(number as u64 + 1), spec }
}

fn key() -> GraphKey {
    "sales/made".parse().unwrap()
}

fn link_made(made: &Made) -> Result<Linked, Vec<Finding>> {
    let (spec, types, policies) = build(made);
    link(&key(), &spec, &types, &policies)
}

/// Every import of every component has exactly one link, to something that is there.
fn is_whole(graph: &LinkedGraph, types: &Types) -> TestCaseResult {
    let mut wanted = BTreeSet::new();
    for (name, component) in &graph.components {
        for import in &types[&component.artifact.digest].imports {
            wanted.insert((name.clone(), import.name.clone()));
        }
    }
    let found: BTreeSet<_> =
        graph.links.iter().map(|link| (link.from.clone(), link.interface.clone())).collect();
    prop_assert_eq!(&found, &wanted);
    prop_assert_eq!(graph.links.len(), wanted.len());
    for link in &graph.links {
        let Target::Component { name, export } = &link.to else { continue };
        prop_assert!(name != &link.from, "{name} links to itself");
        let provider = &types[&graph.components[name].artifact.digest];
        let export = provider.exports.iter().find(|found| found.name == *export);
        prop_assert!(export.is_some_and(|export| export.name.same_track(&link.interface)));
        prop_assert_eq!(link.functions.len(), 2);
    }
    Ok(())
}

/// The policies from each caller on have falling ranks: phase, then priority, then name.
fn is_ordered(graph: &LinkedGraph, policies: &[PolicyInForce]) -> TestCaseResult {
    let rank = |name: &model::name::ComponentName| match &graph.components[name].origin {
        Origin::Graph => None,
        Origin::Policy(version) => {
            policies.iter().find(|policy| policy.spec.name == version.name).map(|policy| {
                let order = &policy.spec.order;
                (order.phase, std::cmp::Reverse(order.priority), policy.spec.name.clone())
            })
        }
    };
    for link in &graph.links {
        let Target::Component { name, .. } = &link.to else { continue };
        if let (Some(near), Some(far)) = (rank(&link.from), rank(name)) {
            prop_assert!(near <= far, "{} stands before {name}", link.from);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(random(512))]

    #[test]
    fn linking_depends_on_nothing_but_what_it_is_given(
        (made, links, policies) in made().prop_flat_map(|made| {
            let (links, policies) = (made.explicit.clone(), made.policies.len());
            (Just(made), Just(links).prop_shuffle(), Just((0..policies).collect::<Vec<_>>()).prop_shuffle())
        }),
    ) {
        let (mut spec, types, in_order) = build(&made);
        let first = link(&key(), &spec, &types, &in_order);
        prop_assert_eq!(&first, &link(&key(), &spec, &types, &in_order));
        let shuffled: Vec<PolicyInForce> = policies.iter().map(|at| in_order[*at].clone()).collect();
        prop_assert_eq!(&first, &link(&key(), &spec, &types, &shuffled), "another order of policies");
        let (others, _, _) = build(&Made { explicit: links, ..made });
        spec.links = others.links;
        spec.links.reverse();
        let other = link(&key(), &spec, &types, &in_order);
        prop_assert_eq!(first.ok(), other.ok(), "another order of links");
    }

    #[test]
    fn a_linked_graph_is_whole_and_its_chains_are_ordered(made in made()) {
        let (spec, types, policies) = build(&made);
        match link(&key(), &spec, &types, &policies) {
            Ok(linked) => {
                is_whole(&linked.graph, &types)?;
                is_ordered(&linked.graph, &policies)?;
            }
            // Without policies, what is made is always sound.
            Err(findings) => {
                prop_assert!(findings.iter().all(|found| found.reason.starts_with("policy_")), "{findings:?}");
                prop_assert!(link(&key(), &spec, &types, &[]).is_ok());
            }
        }
    }

    #[test]
    fn a_plan_is_empty_if_nothing_changes_and_only_then(a in made(), b in made()) {
        let (Ok(a), Ok(b)) = (link_made(&a), link_made(&b)) else { return Ok(()) };
        prop_assert!(plan::changes(&a.graph, &a.graph).is_empty());
        prop_assert_eq!(plan::changes(&a.graph, &b.graph).is_empty(), a.graph == b.graph);
        let (there, back) = (plan::changes(&a.graph, &b.graph), plan::changes(&b.graph, &a.graph));
        prop_assert_eq!(there.len(), back.len());
    }

    #[test]
    fn a_policy_that_is_new_only_in_version_is_a_change(made in made()) {
        let (spec, types, mut policies) = build(&made);
        let Ok(before) = link(&key(), &spec, &types, &policies) else { return Ok(()) };
        policies.iter_mut().for_each(|policy| policy.generation.0 += 100);
        let after = link(&key(), &spec, &types, &policies).unwrap();
        prop_assert_eq!(plan::changes(&before.graph, &after.graph).is_empty(), before.graph.policies.is_empty());
    }
}

/// The generator is of use only if most of what it makes can be linked, with policies on it.
#[test]
fn most_made_graphs_link_with_policies() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut linked, mut interposed) = (0, 0);
    for _ in 0..200 {
        if let Ok(found) = link_made(&made().new_tree(&mut runner).unwrap().current()) {
            linked += 1;
            interposed += usize::from(!found.graph.policies.is_empty());
        }
    }
    assert!(linked > 60 && interposed > 20, "{linked} linked, {interposed} with policies");
}

/// The largest graph, with every policy that a cluster may have, a few of them on its links.
#[test]
fn the_largest_graph_is_linked_in_time() {
    const FAN: usize = 5;
    let name = |number: usize| format!("c{number}").parse().unwrap();
    let offers = |number: usize| Interface {
        name: format!("acme:large/i{number}@1.0.0").parse().unwrap(),
        ..interface(0, true)
    };
    let of = |kind: u8, number: usize| {
        let mut bytes = [kind; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
        Artifact { digest: Digest::from_bytes(bytes), size: 1 }
    };
    let count = model::graph::COMPONENTS_MAX;
    let (mut types, mut components) = (Types::new(), BTreeMap::new());
    for number in 0..count {
        let imports = (number + 1..count.min(number + 1 + FAN)).map(offers).collect();
        let found = ComponentType { imports, exports: vec![offers(number)], memory_at_start: ByteSize(0) };
        types.insert(of(1, number).digest, Arc::new(found));
        let spec =
            ComponentSpec { artifact: of(1, number), labels: BTreeMap::new(), settings: Settings::default() };
        components.insert(name(number), spec);
    }
    let through =
        ComponentType { imports: vec![offers(7)], exports: vec![offers(7)], memory_at_start: ByteSize(0) };
    types.insert(of(2, 7).digest, Arc::new(through));
    let spec = GraphSpec {
        labels: BTreeMap::new(),
        wiring: Wiring::Inferred,
        ingress: Vec::new(),
        components,
        capabilities: BTreeMap::new(),
        links: Vec::new(),
        require: BTreeMap::new(),
        replicas: BTreeMap::new(),
        each_node: BTreeSet::new(),
        scaling: BTreeMap::new(),
        wishes: BTreeMap::new(),
        reserves: Reserves::default(),
        rollout: None,
    };
    let policy = |number: usize| {
        let about = if number < 8 { "acme:large/i7".to_owned() } else { format!("acme:other{number}/*") };
        let made = MadePolicy {
            interface: None,
            components: vec![true],
            phase: Phase::Inspect,
            priority: i32::try_from(number).unwrap(),
            mode: Mode::Enforce,
            on_failure: OnFailure::Closed,
            by_label: false,
        };
        let mut policy = in_force(number, &made);
        policy.spec.selector.interface = about.parse().unwrap();
        policy.spec.action = Action::Interpose(vec![Interposed {
            artifact: of(2, 7),
            settings: Settings::default(),
            require: BTreeMap::new(),
        }]);
        policy
    };
    let policies: Vec<PolicyInForce> = (0..1_000).map(policy).collect();
    let started = Instant::now();
    let linked = link(&key(), &spec, &types, &policies).unwrap();
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(linked.graph.components.len(), count + FAN * 8);
    assert!(plan::changes(&linked.graph, &linked.graph).is_empty());
}
