//! Policies by themselves, and what holds of every chain.

use std::collections::BTreeMap;
use std::sync::Arc;

use graph::link::{Types, check_policy, mismatch};
use graph::plan::{changes, is_own, plan, way};
use graph::policy_manifest;
use model::digest::Digest;
use model::graph::Artifact;
use model::linked::{LinkOrigin, Origin, Target};
use model::plan::ChangeKind;

use crate::support::{Case, Sections, component_type, data, files};

const PACKAGES: &str = "
package acme:db@1.0.0 { interface store { get: func(); } }
package wasi:sockets@0.2.0 { interface tcp { connect: func(); } }
package wasi:clocks@0.2.0 { interface monotonic-clock { now: func() -> u64; } }
";

fn checked(world: &str, interface: &str) -> Vec<(&'static str, String)> {
    let artifact = Artifact { digest: Digest::from_bytes([1; 32]), size: 1 };
    let types = Types::from([(artifact.digest, Arc::new(component_type(PACKAGES, world)))]);
    let text = format!(
        "version: 1\npolicy: p\nmatch: {{interface: \"{interface}\"}}\ninterpose: [{{component: ./p.wasm}}]\n"
    );
    let policy = policy_manifest::parse(text.as_bytes()).unwrap();
    let spec = policy.resolve(&BTreeMap::from([("./p.wasm".to_owned(), artifact)])).unwrap();
    let findings = check_policy(&spec, &types).err().unwrap_or_default();
    findings.into_iter().map(|finding| (finding.reason, finding.message)).collect()
}

#[test]
fn a_policy_exports_and_imports_what_it_matches() {
    let through = "import acme:db/store@1.0.0; export acme:db/store@1.0.0;";
    assert_eq!(checked(through, "acme:db/store@1"), []);
    assert_eq!(checked(through, "acme:db/*"), []);
    assert_eq!(checked(&format!("{through} import wasi:clocks/monotonic-clock@0.2.0;"), "acme:db/store"), []);
    let reasons = |world: &str, interface: &str| {
        checked(world, interface).into_iter().map(|(reason, _)| reason).collect::<Vec<_>>()
    };
    assert_eq!(reasons(through, "acme:db/store@2"), ["policy_unlinkable"]);
    assert_eq!(reasons("export acme:db/store@1.0.0;", "acme:db/store"), ["policy_unlinkable"]);
    assert_eq!(
        reasons(&format!("{through} import wasi:sockets/tcp@0.2.0;"), "acme:db/store"),
        ["import_not_granted"]
    );
}

#[test]
fn a_policy_without_its_component_is_refused() {
    let text = "version: 1\npolicy: p\nmatch: {interface: \"a:b/c\"}\ninterpose: [{component: ./p.wasm}]\n";
    let artifact = Artifact { digest: Digest::from_bytes([1; 32]), size: 1 };
    let policy = policy_manifest::parse(text.as_bytes()).unwrap();
    let spec = policy.resolve(&BTreeMap::from([("./p.wasm".to_owned(), artifact)])).unwrap();
    let findings = check_policy(&spec, &Types::new()).unwrap_err();
    assert_eq!(findings[0].reason, "missing_artifact");
}

/// Whatever the policies are: each chain ends where the link ended without them, each policy stands on a link at most
/// once for each of its components, and no policy's component is reached by itself or by another link of the graph.
#[test]
fn chains_lead_past_themselves() {
    let mut seen = 0;
    for path in files("linking", &["case"]) {
        let mut case = Case::of(&Sections::read(&path));
        let Ok(with) = case.link() else { continue };
        case.policies.clear();
        let without = case.link().unwrap().graph;
        for link in with.graph.links.iter().filter(|link| is_own(&with.graph, link)) {
            let bare = without.links.iter().find(|l| (&l.from, &l.interface) == (&link.from, &link.interface));
            let mut end = &link.to;
            let mut steps = Vec::new();
            while let Target::Component { name, .. } = end {
                if with.graph.components[name].origin == Origin::Graph {
                    break;
                }
                assert!(!steps.contains(name), "{}: {} comes back to {name}", path.display(), link.from);
                steps.push(name.clone());
                let reached = with
                    .graph
                    .links
                    .iter()
                    .filter(|l| matches!(&l.to, Target::Component { name: to, .. } if to == name));
                assert_eq!(reached.count(), 1, "{}: {name} has one caller", path.display());
                let onward =
                    with.graph.links_of(name).find(|onward| onward.interface.same_track(&link.interface));
                end = &onward.unwrap().to;
            }
            assert_eq!(*end, bare.unwrap().to, "{}: the end of {}", path.display(), way(&with.graph, link));
            assert_eq!(steps.is_empty(), !matches!(link.wiring, LinkOrigin::Policy(_)), "{}", path.display());
            seen += steps.len();
        }
    }
    assert!(seen > 10, "only {seen} policies stood on links");
}

#[test]
fn why_a_policy_does_not_select_a_link() {
    let case = Case::of(&Sections::read(&data("linking/policy-selection.case")));
    let linked = case.link().unwrap().graph;
    let link = linked.links.iter().find(|link| link.from.as_str() == "app" && link.interface.package == "db");
    let spec = case.manifest.resolve(&case.artifacts).unwrap();
    let why = |name: &str| {
        let policy = case.policies.iter().find(|policy| policy.spec.name.as_str() == name).unwrap();
        mismatch(case.manifest.key(), &spec, &policy.spec, link.unwrap())
    };
    let said = |text: &str| Some(text.to_owned());
    assert_eq!(why("ns-yes"), None);
    assert_eq!(why("ns-no"), said("it does not select namespace sales"));
    assert_eq!(why("graph-no"), said("it does not select graph crm"));
    assert_eq!(why("label-overridden"), said("it selects label tier=web, and the importer has tier=front"));
    assert_eq!(why("label-no"), said("it selects label team=crm, which the importer does not have"));
    assert_eq!(why("except-component"), said("it makes an exception of this importer"));
    assert_eq!(why("version-no"), said("it is about acme:db/store@2"));
    assert_eq!(why("off"), said("its mode is off"));
}

/// The plan of a policy: what it puts there, and nothing once it is there.
#[test]
fn a_policy_is_a_change_once() {
    let mut case = Case::of(&Sections::read(&data("linking/policy-one.case")));
    let with = case.link().unwrap();
    case.policies.clear();
    let without = case.link().unwrap();
    let shown: Vec<String> = changes(&without.graph, &with.graph)
        .into_iter()
        .map(|change| format!("{} {}: {}", change.kind, change.subject, change.detail))
        .collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(shown[0].starts_with("+ component app--pii: ") && shown[0].ends_with("(policy pii)"), "{shown:?}");
    assert_eq!(shown[1], "~ link app acme:db/store@1.0.0: app -> db => app -> [pii] -> db");
    let same = plan("id".to_owned(), case.manifest.key().clone(), None, &with);
    assert!(same.changes.iter().all(|change| change.kind == ChangeKind::Add));
    assert!(changes(&with.graph, &with.graph).is_empty());
}
