//! What tests share: a command line run in this process, a control plane that answers as it is told to, and graphs to be
//! shown.

mod graphs;
mod namespaces;
mod policies;

use std::collections::{BTreeMap, BTreeSet};

use std::time::{Duration, SystemTime};

use clap::Parser as _;
use model::digest::Digest;
use model::graph::{Artifact, CapabilitySpec, Settings};
use model::id::{ClusterId, Generation, RevisionNumber, StateRevision, Uid};
use model::interface::InterfaceName;
use model::linked::{Function, Link, LinkOrigin, LinkedComponent, LinkedGraph, Origin, Target, Verdict};
use model::name::ComponentName;
use model::placement::Placement;
use model::policy::PolicyVersion;
use model::reserve::Reserves;
use model::rollout::{CandidateStatus, Phase, PolicyRolloutStatus, RolloutStatus, Step};
use model::route::HttpRoute;
use model::status::{GraphState, GraphStatus};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::transport::server::Router;
use trust::{Authority, Clients, Identity, Key, Keyring, Role, SpiffeId};

use crate::cli::Cli;
use crate::exit::Exit;
use crate::session::Session;
use crate::terminal::{Look, Terminal};
pub(crate) use graphs::{Answers, FakeGraphs};
pub(crate) use namespaces::FakeNamespaces;
pub(crate) use policies::{FakePolicies, PolicyAnswers};

/// What a run wrote, and how it ended.
pub(crate) struct Ran {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `ctl` with these arguments, as a pipe sees it.
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) fn ctl(arguments: &[&str]) -> Ran {
    let cli = Cli::try_parse_from(std::iter::once("ctl").chain(arguments.iter().copied())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut stdin, mut stdout, mut stderr) = (std::io::empty(), Vec::new(), Vec::new());
    let look = Look { quiet: cli.global.quiet, ..Look::plain() };
    let terminal = Terminal::new(&mut stdin, &mut stdout, &mut stderr, look);
    let mut session = Session::new(terminal, &cli.global);
    let exit = runtime.block_on(crate::run(cli.command, &mut session));
    drop(session);
    Ran { exit, stdout: String::from_utf8(stdout).unwrap(), stderr: String::from_utf8(stderr).unwrap() }
}

/// The identity of a member, and in a folder the `operator.pem` that it lets in.
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) fn credentials() -> (Keyring, TempDir) {
    let cluster = ClusterId::new("c").unwrap();
    let now = SystemTime::now();
    let authority = Authority::generate(&cluster, now).unwrap();
    let issue = |role| {
        let key = Key::generate().unwrap();
        let id = SpiffeId::new(cluster.clone(), role, Uid::new("1").unwrap()).unwrap();
        let hour = Duration::from_secs(3600);
        let certificate = authority.issue(&key.request().unwrap(), &id, now..now + hour).unwrap();
        Identity::new(key, certificate, vec![authority.certificate_der().to_vec()]).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("operator.pem"), issue(Role::Operator).to_pem().as_bytes()).unwrap();
    (Keyring::new(issue(Role::Member)), folder)
}

/// Serves in a thread of its own, as long as the process lives, and says where.
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) fn serve(keyring: Keyring, router: Router) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let incoming = trust::incoming(listener, keyring, Clients::Required);
            router.serve_with_incoming(incoming).await.unwrap();
        });
    });
    address
}

/// A revision at the second of its three steps, where that says something.
pub(crate) fn rollout(phase: Phase) -> RolloutStatus {
    RolloutStatus {
        revision: RevisionNumber(4),
        generation: Generation(12),
        stable: RevisionNumber(3),
        phase,
        step: 1,
        steps: vec![step("0%", None), step("10%", Some(60)), step("50%", Some(300))],
        paused: None,
        candidate: "it answers where it was placed".to_owned(),
        traffic: None,
    }
}

#[allow(clippy::unwrap_used, reason = "tests")]
fn step(share: &str, hold: Option<u64>) -> Step {
    Step { share: share.parse().unwrap(), hold: hold.map(Duration::from_secs) }
}

/// A version of a policy at the first of its two steps, where that says something, on two graphs, of which one is like this.
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) fn policy_rollout(phase: Phase, how: &str) -> PolicyRolloutStatus {
    PolicyRolloutStatus {
        version: PolicyVersion { name: "pii".parse().unwrap(), generation: Generation(12) },
        stable: Some(Generation(9)),
        phase,
        step: 0,
        steps: vec![step("5%", Some(300)), step("50%", None)],
        paused: None,
        candidates: vec![CandidateStatus { graph: "default/crm".parse().unwrap(), how: how.to_owned() }],
        count: 2,
    }
}

/// A graph whose revision 3 serves while another one takes over.
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) fn rolling(rollout: RolloutStatus) -> GraphStatus {
    GraphStatus {
        key: "default/crm".parse().unwrap(),
        uid: Uid::new("u").unwrap(),
        revision: RevisionNumber(3),
        generation: Generation(9),
        state_revision: StateRevision(12),
        deployed_at_ms: 0,
        state: GraphState::Serving,
        placement: Some(Placement::whole("n1".parse().unwrap())),
        ingress_address: Some("127.0.0.1:8000".to_owned()),
        ingress: vec![HttpRoute {
            host: Some("crm.localhost".parse().unwrap()),
            path: "/".parse().unwrap(),
            to: "app".parse().unwrap(),
        }],
        components: Vec::new(),
        rollout: Some(rollout),
        reverted: None,
        policy_rollout: None,
        scales: Vec::new(),
        failing: BTreeMap::new(),
        unkept: BTreeMap::new(),
    }
}

#[allow(clippy::unwrap_used, reason = "tests")]
fn name(text: &str) -> ComponentName {
    ComponentName::try_from(text.to_owned()).unwrap()
}

#[allow(clippy::unwrap_used, reason = "tests")]
fn link(from: &str, interface: &str, to: Target, wiring: LinkOrigin, functions: &[(&str, Verdict)]) -> Link {
    let function =
        |(name, verdict): &(&str, Verdict)| Function { name: (*name).to_owned(), verdict: verdict.clone() };
    Link {
        from: name(from),
        interface: interface.parse().unwrap(),
        to,
        wiring,
        functions: functions.iter().map(function).collect(),
        terms: model::placement::LinkTerms::default(),
    }
}

/// An application with a search beside it and a policy in front of its database.
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) fn customers() -> LinkedGraph {
    const SQLITE: &str = "fermyon:spin/sqlite@2.0.0";
    const SEARCH: &str = "acme:search/index@1.0.0";
    let pii = PolicyVersion { name: "pii".parse().unwrap(), generation: Generation(9) };
    let component = |byte: u8, origin, export: &str| LinkedComponent {
        artifact: Artifact { digest: Digest::from_bytes([byte; 32]), size: 1 },
        origin,
        exports: vec![export.parse::<InterfaceName>().unwrap()],
        settings: Settings::default(),
    };
    let database = || Target::Capability { name: name("crm-db") };
    let of = |component: &str, export: &str| Target::Component {
        name: name(component),
        export: export.parse().unwrap(),
    };
    let leased = || Verdict::RemotableWithLease { why: "resource connection".to_owned() };
    let local = || Verdict::LocalOnly { why: "stream<u8>".to_owned() };
    LinkedGraph {
        ingress: vec![HttpRoute {
            host: Some("crm.localhost".parse().unwrap()),
            path: "/api".parse().unwrap(),
            to: name("app"),
        }],
        components: [
            (name("app"), component(0xa1, Origin::Graph, "wasi:http/incoming-handler@0.2.0")),
            (name("app--pii"), component(0xb2, Origin::Policy(pii.clone()), SQLITE)),
            (name("search"), component(0xc3, Origin::Graph, SEARCH)),
        ]
        .into(),
        capabilities: [(name("crm-db"), CapabilitySpec::Sqlite { database: "default".to_owned(), seed: None })]
            .into(),
        links: vec![
            link(
                "app",
                SEARCH,
                of("search", SEARCH),
                LinkOrigin::Inferred,
                &[("query", Verdict::Remotable), ("snapshot", local())],
            ),
            link("app", SQLITE, of("app--pii", SQLITE), LinkOrigin::Explicit, &[("open", leased())]),
            link("app", "wasi:http/types@0.2.0", Target::Host, LinkOrigin::BuiltIn, &[]),
            link("app", "wasi:io/streams@0.2.0", Target::Host, LinkOrigin::BuiltIn, &[]),
            link("app--pii", SQLITE, database(), LinkOrigin::Policy(pii.clone()), &[("open", leased())]),
            link("search", SQLITE, database(), LinkOrigin::Inferred, &[("open", Verdict::Remotable)]),
        ],
        policies: vec![pii],
        require: BTreeMap::new(),
        replicas: BTreeMap::new(),
        each_node: BTreeSet::new(),
        scaling: BTreeMap::new(),
        wishes: BTreeMap::new(),
        reserves: Reserves::default(),
    }
}
