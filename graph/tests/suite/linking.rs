//! Linking: components with interfaces, a graph, policies; the linked graph or what hinders it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use graph::interface::ComponentType;
use graph::link::{Finding, PolicyInForce, Types, check_policy, link};
use graph::{manifest, policy_manifest};
use model::digest::Digest;
use model::graph::{Artifact, LINKS_MAX};
use model::id::Generation;
use model::link::BINDINGS_MAX;
use model::unit::ByteSize;

use crate::support::{Case, Sections, component_type, files};

#[test]
fn cases() {
    for path in files("linking", &["case"]) {
        let sections = Sections::read(&path);
        let case = Case::of(&sections);
        sections.expect(&path, &case.show(&case.link()));
    }
}

/// Row 22: links that are not written out count like those that are.
#[test]
fn inferred_links_are_bounded() {
    let (mut packages, mut imports, mut exports) = (String::new(), String::new(), String::new());
    for number in 0..51 {
        writeln!(packages, "package acme:p{number}@1.0.0 {{ interface i {{ go: func(); }} }}").unwrap();
        writeln!(imports, "import acme:p{number}/i@1.0.0;").unwrap();
        writeln!(exports, "export acme:p{number}/i@1.0.0;").unwrap();
    }
    writeln!(packages, "package acme:main@1.0.0 {{ interface i {{ go: func(); }} }}").unwrap();
    let importer = component_type(&packages, &format!("{imports}\nexport acme:main/i@1.0.0;"));
    let exporter = component_type(&packages, &exports);
    let artifact = |byte| Artifact { digest: Digest::from_bytes([byte; 32]), size: 1 };
    let types =
        Types::from([(artifact(1).digest, Arc::new(importer)), (artifact(2).digest, Arc::new(exporter))]);
    let artifacts =
        BTreeMap::from([("./a.wasm".to_owned(), artifact(1)), ("./b.wasm".to_owned(), artifact(2))]);
    let graph_of = |importers: usize| {
        let mut text = "version: 1\ngraph: large\ncomponents:\n  all: {source: ./b.wasm}\n".to_owned();
        (0..importers).for_each(|number| writeln!(text, "  c{number}: {{source: ./a.wasm}}").unwrap());
        let manifest = manifest::parse(text.as_bytes()).unwrap();
        link(manifest.key(), &manifest.resolve(&artifacts).unwrap(), &types, &[])
    };
    let fits = graph_of(LINKS_MAX / 51).unwrap();
    assert_eq!(fits.graph.links.len(), LINKS_MAX / 51 * 51);
    let refused = graph_of(LINKS_MAX / 51 + 1).unwrap_err();
    assert_eq!(refused.iter().map(|finding| finding.reason).collect::<Vec<_>>(), ["graph_too_large"]);
}

/// The functions that one component uses of another share a session, by however many links.
#[test]
fn functions_of_one_session_are_bounded() {
    let verdicts = |first: usize, second: usize| {
        let functions = |count: usize| (0..count).map(|n| format!("go{n}: func();")).collect::<String>();
        let packages = format!(
            "package acme:db@1.0.0 {{ interface one {{ {} }} interface two {{ {} }} interface page {{ show: func(); }} }}",
            functions(first),
            functions(second)
        );
        let both = |what: &str| format!("{what} acme:db/one@1.0.0; {what} acme:db/two@1.0.0;");
        let app = component_type(&packages, &format!("{} export acme:db/page@1.0.0;", both("import")));
        let db = component_type(&packages, &both("export"));
        let artifact = |byte| Artifact { digest: Digest::from_bytes([byte; 32]), size: 1 };
        let types = Types::from([(artifact(1).digest, Arc::new(app)), (artifact(2).digest, Arc::new(db))]);
        let artifacts =
            BTreeMap::from([("./app.wasm".to_owned(), artifact(1)), ("./db.wasm".to_owned(), artifact(2))]);
        let text =
            "version: 1\ngraph: wide\ncomponents:\n  app: {source: ./app.wasm}\n  db: {source: ./db.wasm}\n";
        let manifest = manifest::parse(text.as_bytes()).unwrap();
        let linked = link(manifest.key(), &manifest.resolve(&artifacts).unwrap(), &types, &[]).unwrap();
        let functions = linked.graph.links.iter().flat_map(|link| &link.functions);
        functions.map(|function| function.verdict.to_string()).collect::<BTreeSet<_>>()
    };
    assert_eq!(verdicts(BINDINGS_MAX - 1, 1), BTreeSet::from(["remotable".to_owned()]));
    let why = "local only (one of more than 1024 functions that one component uses of another)";
    assert_eq!(verdicts(BINDINGS_MAX, 1), BTreeSet::from([why.to_owned()]));
}

/// Row 45: what cannot begin within its limit is found before it is deployed, in the graph and in a policy.
#[test]
fn memory_at_start_stays_within_the_limit() {
    let store = "package acme:db@1.0.0 { interface store { go: func(); } interface page { show: func(); } }";
    let with_memory = |world: &str, bytes: ByteSize| {
        Arc::new(ComponentType { memory_at_start: bytes, ..component_type(store, world) })
    };
    let artifact = |byte| Artifact { digest: Digest::from_bytes([byte; 32]), size: 1 };
    let case = |app: u64, proxy: u64| {
        let app =
            with_memory("import acme:db/store@1.0.0; export acme:db/page@1.0.0;", ByteSize::mebibytes(app));
        let db = with_memory("export acme:db/store@1.0.0;", ByteSize(0));
        let proxy =
            with_memory("import acme:db/store@1.0.0; export acme:db/store@1.0.0;", ByteSize::mebibytes(proxy));
        let types = (1..).zip([app, db, proxy]).map(|(byte, found)| (artifact(byte).digest, found)).collect();
        let names = ["./app.wasm", "./db.wasm", "./proxy.wasm"].map(str::to_owned);
        let artifacts: BTreeMap<String, Artifact> = names.into_iter().zip((1..).map(artifact)).collect();
        let text = "version: 1\ngraph: small\ncomponents:\n  app: {source: ./app.wasm, limits: {memory: 2Mi}}\n  db: {source: ./db.wasm}\n";
        let manifest = manifest::parse(text.as_bytes()).unwrap();
        let text = "version: 1\npolicy: guard\nmatch: {interface: \"acme:db/store\"}\ninterpose: [{component: ./proxy.wasm, limits: {memory: 1Mi}}]\n";
        let policy = policy_manifest::parse(text.as_bytes()).unwrap().resolve(&artifacts).unwrap();
        let at_apply = check_policy(&policy, &types).err();
        let policy = PolicyInForce { generation: Generation(1), spec: policy };
        let at_deploy = link(manifest.key(), &manifest.resolve(&artifacts).unwrap(), &types, &[policy]).err();
        let shown = |found: Option<Vec<Finding>>| -> Vec<String> {
            let found = found.unwrap_or_default().into_iter();
            found.map(|f| format!("{} {:?}: {}; {}", f.reason, f.place, f.message, f.help.unwrap())).collect()
        };
        (shown(at_apply), shown(at_deploy))
    };
    assert_eq!(case(2, 1), (vec![], vec![]));
    let app = "memory_limit Component(ComponentName(\"app\")): component app starts with 3Mi of memory, and its limit is 2Mi; set `limits.memory` to 3Mi or more";
    assert_eq!(case(3, 1), (vec![], vec![app.to_owned()]));
    let alone = "memory_limit Graph: the component starts with 2Mi of memory, and its limit is 1Mi; set `limits.memory` to 2Mi or more";
    let in_graph = alone.replace("the component", "the component of policy guard");
    assert_eq!(case(2, 2), (vec![alone.to_owned()], vec![in_graph]));
}

/// A provider instance is private to its consumer: a ladder of diamonds doubles with each rung.
#[test]
fn instances_below_one_root_are_bounded() {
    let rungs = 9;
    let mut packages =
        "package wasi:http@0.2.0 { interface incoming-handler { handle: func(); } }\n".to_owned();
    for rung in 0..=rungs {
        for side in ["l", "r"] {
            writeln!(packages, "package acme:{side}{rung}@1.0.0 {{ interface i {{ go: func(); }} }}").unwrap();
        }
    }
    let mut text =
        "version: 1\ngraph: ladder\ningress: [{http: {path: /}, to: root}]\ncomponents:\n".to_owned();
    let (mut types, mut artifacts) = (Types::new(), BTreeMap::new());
    let mut add = |name: &str, world: &str| {
        let artifact = Artifact { digest: Digest::from_bytes([types.len() as u8 + 1; 32]), size: 1 };
        types.insert(artifact.digest, Arc::new(component_type(&packages, world)));
        artifacts.insert(format!("./{name}.wasm"), artifact);
        writeln!(text, "  {name}: {{source: ./{name}.wasm}}").unwrap();
    };
    add("root", "import acme:l0/i@1.0.0; import acme:r0/i@1.0.0; export wasi:http/incoming-handler@0.2.0;");
    for rung in 0..=rungs {
        for side in ["l", "r"] {
            let next = rung + 1;
            let below = if rung == rungs {
                String::new()
            } else {
                format!("import acme:l{next}/i@1.0.0; import acme:r{next}/i@1.0.0;")
            };
            add(&format!("{side}{rung}"), &format!("{below} export acme:{side}{rung}/i@1.0.0;"));
        }
    }
    let manifest = manifest::parse(text.as_bytes()).unwrap();
    let spec = manifest.resolve(&artifacts).unwrap();
    let refused = link(manifest.key(), &spec, &types, &[]).unwrap_err();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].reason, "graph_too_large");
    assert!(refused[0].message.contains("2047 instances"), "{}", refused[0].message);
}
