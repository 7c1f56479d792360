//! What is sent is what arrives, for every value; and what arrives is read or refused, whatever it is.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::num::{NonZeroU64, NonZeroU128};
use std::time::Duration;

use model::assignment::{AssignedGraph, Assignment, Peer};
use model::condition::{Condition, Expression, NumberRange};
use model::digest::Digest;
use model::event::Event;
use model::graph::{Artifact, CapabilitySpec, Check, CheckTerms, Limits, OnIsolation, Settings};
use model::id::{ClusterId, Generation, GraphKey, RevisionNumber, StateRevision, Uid};
use model::link::{Binding, Body, Call as LinkCall, Frame, GraphVersion, LinkFailure, LinkReason, Open, Piped};
use model::linked::{Function, Link, LinkOrigin, LinkedComponent, LinkedGraph, Origin, Target, Verdict};
use model::log::{Level, LogLine, LogSource};
use model::name::{ComponentName, GraphName, NamespaceName, NodeName, PolicyName};
use model::node::{Capacity, NodeDescription};
use model::placement::{LinkTerms, Locality, Placement, Wishes};
use model::plan::{Change, ChangeKind, Move, Plan, Takeover};
use model::policy::PolicyVersion;
use model::quota::{Quota, Usage};
use model::report::{Failure, GraphReport, Progress, Report};
use model::reserve::{PRIORITIES, Priority, RESERVED, Reserves};
use model::rollout::{
    CandidateStatus, Phase, PolicyRolloutStatus, Reverted, RolloutStatus, Share, Step, StepTraffic,
};
use model::route::{Host, HttpRoute, PathPrefix};
use model::routing::{Candidate, PlacedRoute, RouteMap};
use model::scale::{CONCURRENCY, Calls, Scaling};
use model::status::{ComponentStatus, GraphState, GraphStatus, ScaleStatus};
use model::trace::{TraceContext, TraceFlags};
use model::traffic::Answered;
use model::unit::ByteSize;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use prost::Message;
use proto::convert::DecodeError;
use proto::weft::event::v1 as event;
use proto::weft::graph::v1 as graph;
use proto::weft::link::v1 as link_wire;
use proto::weft::log::v1 as log;
use proto::weft::namespace::v1 as namespace;
use proto::weft::node::v1 as node;

/// Any text, with what is special to nobody and to everybody.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[ -~]{0,20}", "\\PC{0,12}", Just("\u{0}\n\"\\".to_owned())]
}

/// A text that stands for something: where the wire writes "none" as the empty text.
fn some_text() -> impl Strategy<Value = String> {
    "[!-~]{1,20}"
}

fn name() -> impl Strategy<Value = String> {
    // Names that Weft makes travel too.
    prop_oneof!["[a-z][a-z0-9]{0,10}", "[a-z]{1,5}--[a-z0-9]{1,5}"]
}

fn node_name() -> impl Strategy<Value = NodeName> {
    name().prop_map(|name| NodeName::try_from(name).unwrap())
}

fn component() -> impl Strategy<Value = ComponentName> {
    name().prop_map(|name| ComponentName::try_from(name).unwrap())
}

fn key() -> impl Strategy<Value = GraphKey> {
    ("[a-z]{1,8}", "[a-z]{1,8}", any::<bool>()).prop_map(|(namespace, graph, is_candidate)| GraphKey {
        namespace: NamespaceName::new(namespace).unwrap(),
        graph: GraphName::new(graph).unwrap(),
        is_candidate,
    })
}

fn uid() -> impl Strategy<Value = Uid> {
    some_text().prop_map(|text| Uid::new(text).unwrap())
}

/// Generations are state revisions, which begin at 1.
fn generation() -> impl Strategy<Value = Generation> {
    (1..u64::MAX).prop_map(Generation)
}

fn version() -> impl Strategy<Value = PolicyVersion> {
    (name(), any::<u64>()).prop_map(|(name, generation)| PolicyVersion {
        name: PolicyName::try_from(name).unwrap(),
        generation: Generation(generation),
    })
}

fn interface() -> impl Strategy<Value = model::interface::InterfaceName> {
    let versions = prop_oneof![Just(""), Just("@1.2.3"), Just("@0.2.0-rc.1+build"), Just("@0.0.1")];
    ("[a-z]{1,6}", "[a-z]{1,6}", "[a-z]{1,6}", versions).prop_map(|(namespace, package, interface, version)| {
        format!("{namespace}:{package}/{interface}{version}").parse().unwrap()
    })
}

fn artifact() -> impl Strategy<Value = Artifact> {
    (any::<[u8; 32]>(), any::<u64>())
        .prop_map(|(digest, size)| Artifact { digest: Digest::from_bytes(digest), size })
}

fn path() -> impl Strategy<Value = PathPrefix> {
    "(/[a-z0-9%~.-]{1,6}){0,3}".prop_filter_map("a path", |path| {
        format!("/{}", path.trim_start_matches('/')).parse::<PathPrefix>().ok()
    })
}

fn route() -> impl Strategy<Value = HttpRoute> {
    let host = "[a-z]{1,6}(\\.[a-z0-9]{1,6}){0,2}".prop_map(|host| host.parse::<Host>().unwrap());
    (option::of(host), path(), component()).prop_map(|(host, path, to)| HttpRoute { host, path, to })
}

fn settings() -> impl Strategy<Value = Settings> {
    let rule = ("[a-z]{2,6}", 1..u16::MAX).prop_map(|(host, port)| format!("https://{host}.example:{port}"));
    let rules = vec(rule.prop_map(|rule| rule.parse().unwrap()), 0..3);
    let texts = || btree_map(some_text(), text(), 0..3);
    let check = prop_oneof![
        path().prop_map(Check::Http),
        (interface(), "[a-z]{1,8}").prop_map(|(interface, function)| Check::Call {
            interface: interface.to_string().parse().unwrap(),
            function,
        }),
    ];
    let terms = (1_u64.., 0..9_u64, 1_u32..).prop_map(|(timeout, every, failures)| CheckTerms {
        timeout: Duration::from_millis(timeout),
        every: (every > 0).then(|| Duration::from_millis(every)),
        failures,
    });
    let stops = prop_oneof![Just(OnIsolation::Serve), Just(OnIsolation::Stop)];
    (texts(), texts(), rules, any::<u64>(), any::<u32>(), option::of((check, terms)), stops).prop_map(
        |(config, variables, egress, memory, milliseconds, check, on_isolation)| Settings {
            config,
            variables,
            egress,
            limits: Limits {
                memory: ByteSize(memory),
                deadline: Duration::from_millis(u64::from(milliseconds)),
            },
            check: check.clone().map(|(check, _)| check),
            check_terms: check.map(|(_, terms)| terms).unwrap_or_default(),
            on_isolation,
        },
    )
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![Just(Origin::Graph), version().prop_map(Origin::Policy)]
}

fn linked_component() -> impl Strategy<Value = LinkedComponent> {
    (artifact(), origin(), vec(interface(), 0..3), settings()).prop_map(
        |(artifact, origin, exports, settings)| LinkedComponent { artifact, origin, exports, settings },
    )
}

fn link() -> impl Strategy<Value = Link> {
    let to = prop_oneof![
        (component(), interface()).prop_map(|(name, export)| Target::Component { name, export }),
        component().prop_map(|name| Target::Capability { name }),
        Just(Target::Host),
    ];
    let wiring = prop_oneof![
        Just(LinkOrigin::Explicit),
        Just(LinkOrigin::Inferred),
        version().prop_map(LinkOrigin::Policy),
        Just(LinkOrigin::BuiltIn),
    ];
    let verdict = prop_oneof![
        Just(Verdict::Remotable),
        text().prop_map(|why| Verdict::RemotableWithLease { why }),
        text().prop_map(|why| Verdict::LocalOnly { why }),
    ];
    let functions = vec((text(), verdict).prop_map(|(name, verdict)| Function { name, verdict }), 0..3);
    let locality = prop_oneof![Just(Locality::Any), Just(Locality::SameNode)];
    let timeout = option::of((1..u64::from(u32::MAX)).prop_map(Duration::from_millis));
    let terms = (locality, timeout, option::of(some_text()), any::<bool>()).prop_map(
        |(locality, timeout, on_loss, idempotent)| LinkTerms { locality, timeout, on_loss, idempotent },
    );
    (component(), interface(), to, wiring, functions, terms).prop_map(
        |(from, interface, to, wiring, functions, terms)| Link {
            from,
            interface,
            to,
            wiring,
            functions,
            terms,
        },
    )
}

fn condition() -> impl Strategy<Value = Condition> {
    let values = || btree_set(text(), 0..3);
    let bounds = (option::of(any::<u64>()), option::of(any::<u64>()));
    prop_oneof![
        text().prop_map(Condition::Is),
        values().prop_map(|values| Condition::Of(Expression::In(values))),
        values().prop_map(|values| Condition::Of(Expression::NotIn(values))),
        any::<bool>().prop_map(|wanted| Condition::Of(Expression::Exists(wanted))),
        (0_u32..9, 0_u32..99).prop_map(|(major, minor)| {
            let range = format!(">={major}.{minor}, <{}", major + 1).parse().unwrap();
            Condition::Of(Expression::Version(range))
        }),
        bounds.prop_map(|(at_least, at_most)| {
            Condition::Of(Expression::Number(NumberRange { at_least, at_most }))
        }),
    ]
}

fn scaling() -> impl Strategy<Value = Scaling> {
    (1..50_u32, 0..50_u32, CONCURRENCY, 1..86_400_u64).prop_map(|(min, more, concurrency, seconds)| {
        Scaling::new(min, min + more, concurrency, Duration::from_secs(seconds)).unwrap()
    })
}

fn reserves() -> impl Strategy<Value = Reserves> {
    (PRIORITIES, btree_map(component(), RESERVED, 0..3))
        .prop_map(|(priority, instances)| Reserves { priority: Priority::new(priority).unwrap(), instances })
}

fn linked() -> impl Strategy<Value = LinkedGraph> {
    let capability =
        (text(), option::of(artifact())).prop_map(|(database, seed)| CapabilitySpec::Sqlite { database, seed });
    let labels = || btree_map(some_text(), text(), 0..3);
    let conditions = || btree_map(some_text(), condition(), 0..3);
    let wishes = (conditions(), conditions(), labels());
    let wishes = wishes.prop_map(|(prefer, avoid, tolerate)| Wishes { prefer, avoid, tolerate });
    let parts = (
        vec(route(), 0..3),
        btree_map(component(), linked_component(), 0..3),
        btree_map(component(), capability, 0..3),
        vec(link(), 0..4),
        vec(version(), 0..3),
        btree_map(component(), conditions(), 0..3),
        btree_map(component(), any::<u32>(), 0..3),
        btree_map(component(), wishes, 0..3),
        (btree_set(component(), 0..3), btree_map(component(), scaling(), 0..3), reserves()),
    );
    parts.prop_map(
        |(
            ingress,
            components,
            capabilities,
            links,
            policies,
            require,
            replicas,
            wishes,
            (each_node, scaling, reserves),
        )| {
            LinkedGraph {
                ingress,
                components,
                capabilities,
                links,
                policies,
                require,
                replicas,
                each_node,
                scaling,
                wishes,
                reserves,
            }
        },
    )
}

fn placement() -> impl Strategy<Value = Placement> {
    let more = btree_map(component(), btree_set(node_name(), 1..3), 0..3);
    (node_name(), btree_map(component(), node_name(), 0..3), more).prop_map(|(home, away, more)| Placement {
        home,
        away,
        more,
    })
}

fn peer() -> impl Strategy<Value = Peer> {
    (text(), uid(), text()).prop_map(|(address, uid, zone)| Peer { address, uid, zone })
}

fn assignment() -> impl Strategy<Value = Assignment> {
    let failing = btree_set(node_name(), 0..3);
    let graph = (key(), uid(), any::<u64>(), any::<u64>(), linked(), placement(), failing).prop_map(
        |(key, uid, revision, generation, linked, placement, failing)| AssignedGraph {
            key,
            uid,
            revision: RevisionNumber(revision),
            generation: Generation(generation),
            linked,
            placement,
            failing,
        },
    );
    let peers = btree_map(node_name(), peer(), 0..3);
    let labels = btree_map(text(), text(), 0..3);
    let all = (some_text(), node_name(), any::<u64>(), vec(graph, 0..3), peers, btree_set(uid(), 0..3), labels);
    all.prop_map(|(cluster, node, generation, graphs, peers, revoked, labels)| Assignment {
        cluster: ClusterId::new(cluster).unwrap(),
        node,
        generation: Generation(generation),
        graphs,
        peers,
        revoked,
        labels,
    })
}

fn routes() -> impl Strategy<Value = RouteMap> {
    let placed = (key(), linked(), vec(node_name(), 1..3)).prop_map(|(graph, linked, nodes)| {
        let routes = linked.ingress.into_iter();
        routes
            .map(|route| PlacedRoute { graph: graph.clone(), route, nodes: nodes.clone() })
            .collect::<Vec<_>>()
    });
    let share = (0..=1_000_u16).prop_map(|share| Share::new(share).unwrap());
    let candidate = option::of((key(), generation(), share));
    (some_text(), any::<u64>(), placed, btree_map(node_name(), peer(), 0..3), candidate).prop_map(
        |(cluster, at, routes, nodes, candidate)| RouteMap {
            cluster: ClusterId::new(cluster).unwrap(),
            at: StateRevision(at),
            candidates: candidate
                .map(|(graph, generation, share)| Candidate {
                    graph,
                    revision: RevisionNumber(generation.0 / 2),
                    generation,
                    share,
                    routes: routes.clone(),
                })
                .into_iter()
                .collect(),
            routes,
            nodes,
        },
    )
}

fn quota() -> impl Strategy<Value = Quota> {
    let bound = || option::of(any::<u64>());
    let priority = option::of(PRIORITIES.prop_map(|priority| Priority::new(priority).unwrap()));
    let all = (bound(), bound(), bound(), bound(), priority);
    all.prop_map(|(graphs, replicas, memory, reserved, priority)| Quota {
        graphs,
        replicas,
        memory: memory.map(ByteSize),
        reserved,
        priority,
    })
}

fn usage() -> impl Strategy<Value = Usage> {
    any::<[u64; 4]>().prop_map(|[graphs, replicas, memory, reserved]| Usage {
        graphs,
        replicas,
        memory: ByteSize(memory),
        reserved,
    })
}

fn frame() -> impl Strategy<Value = Frame> {
    let digest = any::<[u8; 32]>().prop_map(Digest::from_bytes);
    let binding = (interface(), text(), digest).prop_map(|(interface, function, digest)| Binding {
        interface,
        function,
        digest,
    });
    let state = option::of(Just("a=1,b=2".parse().unwrap()));
    let members = (component(), component());
    let open = (key(), uid(), any::<u64>(), members, text(), vec(binding, 0..3), state).prop_map(
        |(graph, uid, generation, (from, to), request, functions, trace_state)| Open {
            version: GraphVersion { graph, uid, generation: Generation(generation) },
            from,
            to,
            request,
            functions,
            trace_state,
        },
    );
    let bytes = || vec(any::<u8>(), 0..32);
    let trace = (1_u128.., 1_u64.., any::<u8>()).prop_map(|(trace, span, flags)| TraceContext {
        trace: NonZeroU128::new(trace).unwrap(),
        span: NonZeroU64::new(span).unwrap(),
        flags: TraceFlags::new(flags),
    });
    let call = (any::<u32>(), bytes(), any::<u64>(), option::of(trace)).prop_map(
        |(function, arguments, deadline_us, trace)| LinkCall { function, arguments, deadline_us, trace },
    );
    let reason = prop_oneof![
        Just(LinkReason::Unavailable),
        Just(LinkReason::Busy),
        Just(LinkReason::Denied),
        Just(LinkReason::Mismatch),
        Just(LinkReason::Lost),
        Just(LinkReason::Deadline),
        Just(LinkReason::Trapped),
        Just(LinkReason::Protocol),
    ];
    let piped = prop_oneof![
        bytes().prop_map(|bytes| Piped::Data(bytes.into())),
        any::<u64>().prop_map(Piped::Credit),
        Just(Piped::Wait),
        Just(Piped::Ready),
        (option::of(text()), any::<u64>()).prop_map(|(failure, taken)| Piped::Ended { failure, taken }),
    ];
    let body = prop_oneof![
        open.prop_map(|open| Body::Open(Box::new(open))),
        call.prop_map(Body::Call),
        bytes().prop_map(Body::Returned),
        (reason, text()).prop_map(|(reason, message)| Body::Failed(LinkFailure { reason, message })),
        vec(any::<u64>(), 0..4).prop_map(Body::Dropped),
        Just(Body::Closed),
        (any::<u64>(), piped).prop_map(|(pipe, piped)| Body::Pipe { pipe, piped }),
    ];
    (any::<u64>(), body).prop_map(|(session, body)| Frame { session, body })
}

fn failure() -> impl Strategy<Value = Failure> {
    (text(), text()).prop_map(|(reason, message)| Failure { reason, message })
}

fn report() -> impl Strategy<Value = Report> {
    let progress = prop_oneof![
        Just(Progress::Fetching),
        Just(Progress::Compiling),
        Just(Progress::Starting),
        Just(Progress::Serving),
        failure().prop_map(Progress::Failed),
        failure().prop_map(Progress::Retrying),
    ];
    let failing = option::of(some_text());
    let graph = (key(), uid(), option::of(generation()), any::<u64>(), progress, failing).prop_map(
        |(key, uid, serving, desired, progress, failing)| GraphReport {
            key,
            uid,
            serving,
            desired: Generation(desired),
            progress,
            failing,
        },
    );
    (node_name(), any::<u64>(), vec(graph, 0..4)).prop_map(|(node, accepted, graphs)| Report {
        node,
        accepted: Generation(accepted),
        graphs,
    })
}

fn status() -> impl Strategy<Value = GraphStatus> {
    let serving = || option::of(generation());
    let state = prop_oneof![
        vec(text(), 0..3).prop_map(|why| GraphState::Pending { why }),
        (text(), serving()).prop_map(|(phase, serving)| GraphState::Starting { phase, serving }),
        Just(GraphState::Serving),
        (failure(), serving()).prop_map(|(failure, serving)| GraphState::Failed { failure, serving }),
        text().prop_map(|why| GraphState::Unknown { why }),
    ];
    let counts = any::<[u32; 2]>();
    let component = (component(), origin(), text(), counts);
    let component = component.prop_map(|(name, origin, artifact, [nodes, serving])| ComponentStatus {
        name,
        origin,
        artifact,
        nodes,
        serving,
    });
    let numbers = any::<[u64; 4]>();
    let reverted =
        (any::<u64>(), text()).prop_map(|(revision, why)| Reverted { revision: RevisionNumber(revision), why });
    let failing = btree_map(node_name(), text(), 0..3);
    let unkept = btree_map(node_name(), text(), 0..3);
    let rollouts = (option::of(rollout()), option::of(policy_rollout()), failing, unkept);
    let place = (option::of(placement()), option::of(some_text()), rollouts, option::of(reverted));
    let calls = option::of(any::<u64>().prop_map(Calls::from_thousandths));
    let scale = (self::component(), any::<u32>(), scaling(), calls)
        .prop_map(|(name, replicas, scaling, calls)| ScaleStatus { name, replicas, scaling, calls });
    let components = (vec(component, 0..3), vec(scale, 0..3));
    (key(), uid(), numbers, state, place, vec(route(), 0..2), components).prop_map(
        |(
            key,
            uid,
            [revision, generation, state_revision, deployed_at_ms],
            state,
            place,
            ingress,
            (components, scales),
        )| {
            GraphStatus {
                key,
                uid,
                revision: RevisionNumber(revision),
                generation: Generation(generation),
                state_revision: StateRevision(state_revision),
                deployed_at_ms,
                state,
                placement: place.0,
                ingress_address: place.1,
                ingress,
                components,
                rollout: place.2.0,
                reverted: place.3,
                policy_rollout: place.2.1,
                scales,
                failing: place.2.2,
                unkept: place.2.3,
            }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let hold = option::of((0..u64::MAX).prop_map(Duration::from_millis));
    let share = (0..=1_000_u16).prop_map(|share| Share::new(share).unwrap());
    (share, hold).prop_map(|(share, hold)| Step { share, hold })
}

fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        Just(Phase::Starting),
        any::<u64>().prop_map(|since_ms| Phase::Answering { since_ms }),
        Just(Phase::Promoting),
        Just(Phase::Ending),
    ]
}

fn policy_rollout() -> impl Strategy<Value = PolicyRolloutStatus> {
    let stable = option::of((1..u64::MAX).prop_map(Generation));
    let candidate = (key(), text()).prop_map(|(graph, how)| CandidateStatus { graph, how });
    let at = (phase(), 0..20_usize, vec(step(), 1..4), option::of(some_text()));
    (version(), stable, at, vec(candidate, 0..3), 0..9_usize).prop_map(
        |(version, stable, (phase, step, steps, paused), candidates, count)| PolicyRolloutStatus {
            version,
            stable,
            phase,
            step,
            steps,
            paused,
            candidates,
            count,
        },
    )
}

fn rollout() -> impl Strategy<Value = RolloutStatus> {
    let at = (phase(), 0..20_usize, vec(step(), 1..4), option::of(some_text()));
    let answered =
        || {
            (any::<[u64; 2]>(), option::of(any::<u64>()))
                .prop_map(|([requests, failures], within_us)| Answered { requests, failures, within_us })
        };
    let traffic = (answered(), answered(), any::<u64>())
        .prop_map(|(stable, candidate, since_ms)| StepTraffic { stable, candidate, since_ms });
    (any::<[u64; 3]>(), at, text(), option::of(traffic)).prop_map(
        |([revision, generation, stable], (phase, step, steps, paused), candidate, traffic)| RolloutStatus {
            revision: RevisionNumber(revision),
            generation: Generation(generation),
            stable: RevisionNumber(stable),
            phase,
            step,
            steps,
            paused,
            candidate,
            traffic,
        },
    )
}

fn plan() -> impl Strategy<Value = Plan> {
    let kind = prop_oneof![Just(ChangeKind::Add), Just(ChangeKind::Change), Just(ChangeKind::Remove)];
    let change = (kind, text(), text()).prop_map(|(kind, subject, detail)| Change { kind, subject, detail });
    let base = option::of((1..u64::MAX).prop_map(RevisionNumber));
    let takeover = prop_oneof![
        Just(Takeover::Unsaid),
        text().prop_map(|why| Takeover::AtOnce { why }),
        vec(step(), 0..3).prop_map(Takeover::Steps),
        text().prop_map(|why| Takeover::Refused { why }),
    ];
    let moved =
        (key(), option::of(placement()), placement()).prop_map(|(key, from, to)| Move { key, from, to });
    let places = (option::of(placement()), option::of(placement()), takeover, vec(moved, 0..3));
    (text(), key(), base, vec(change, 0..3), linked(), vec(text(), 0..3), places).prop_map(
        |(id, key, base, changes, linked, warnings, (placement, placed, takeover, moves))| Plan {
            id,
            key,
            base,
            changes,
            linked,
            warnings,
            placement,
            placed,
            takeover,
            moves,
        },
    )
}

fn description() -> impl Strategy<Value = NodeDescription> {
    let texts = (text(), text(), text());
    let labels = btree_map(some_text(), text(), 0..3);
    let capacity = (any::<u64>(), any::<u32>(), any::<u32>())
        .prop_map(|(memory_bytes, cpus, instances)| Capacity { memory_bytes, cpus, instances });
    (node_name(), uid(), texts, labels, vec(text(), 0..3), capacity, any::<u32>()).prop_map(
        |(name, uid, (api_address, ingress_address, version), labels, capabilities, capacity, level)| {
            let labels: BTreeMap<String, String> = labels;
            NodeDescription {
                name,
                uid,
                api_address,
                ingress_address,
                version,
                labels,
                capabilities,
                capacity,
                level,
            }
        },
    )
}

fn line() -> impl Strategy<Value = LogLine> {
    let level = prop_oneof![
        Just(Level::Trace),
        Just(Level::Debug),
        Just(Level::Info),
        Just(Level::Warn),
        Just(Level::Error),
    ];
    let source = prop_oneof![
        Just(LogSource::Stdout),
        Just(LogSource::Stderr),
        Just(LogSource::Logging),
        Just(LogSource::Agent),
    ];
    let numbers = any::<[u64; 2]>();
    let who = (node_name(), key(), option::of(component()), option::of(some_text()));
    (numbers, who, level, source, text()).prop_map(
        |([sequence, time_ms], (node, graph, component, request), level, source, message)| LogLine {
            sequence,
            time_ms,
            node,
            graph,
            component,
            request,
            level,
            source,
            message,
        },
    )
}

fn any_event() -> impl Strategy<Value = Event> {
    (any::<[u64; 2]>(), text(), text(), text()).prop_map(|([revision, time_ms], subject, reason, message)| {
        Event { revision: StateRevision(revision), time_ms, subject, reason, message }
    })
}

/// Sends a value as bytes and reads it again.
fn sent<T, W>(value: &T) -> T
where
    T: Clone + TryFrom<W>,
    T::Error: Debug,
    W: From<T> + Message + Default,
{
    let bytes = W::from(value.clone()).encode_to_vec();
    T::try_from(W::decode(&bytes[..]).unwrap()).unwrap()
}

/// Reads bytes that may be anything; what is read is what it says when it is sent again.
fn read<T, W>(bytes: &[u8])
where
    T: Clone + PartialEq + Debug + TryFrom<W, Error = DecodeError>,
    W: From<T> + Message + Default,
{
    if let Ok(value) = W::decode(bytes).map_err(|_| ()).and_then(|wire| T::try_from(wire).map_err(|_| ())) {
        assert_eq!(sent::<T, W>(&value), value);
    }
}

proptest! {
    #[test]
    fn what_is_sent_arrives(
        assignment in assignment(),
        report in report(),
        status in status(),
        plan in plan(),
        description in description(),
        line in line(),
        event in any_event(),
        frame in frame(),
        routes in routes(),
        (quota, usage) in (quota(), usage()),
    ) {
        assert_eq!(sent::<_, namespace::Quota>(&quota), quota);
        assert_eq!(sent::<_, namespace::Usage>(&usage), usage);
        assert_eq!(sent::<_, node::RouteMap>(&routes), routes);
        assert_eq!(sent::<_, link_wire::Frame>(&frame), frame);
        assert_eq!(sent::<_, node::Assignment>(&assignment), assignment);
        assert_eq!(sent::<_, node::Report>(&report), report);
        assert_eq!(sent::<_, graph::GraphStatus>(&status), status);
        assert_eq!(sent::<_, graph::Plan>(&plan), plan);
        assert_eq!(sent::<_, node::NodeDescription>(&description), description);
        assert_eq!(sent::<_, log::LogLine>(&line), line);
        assert_eq!(sent::<_, event::Event>(&event), event);
    }

    #[test]
    fn what_arrives_is_read_or_refused(
        assignment in assignment(),
        status in status(),
        frame in frame(),
        flips in vec((any::<usize>(), any::<u8>()), 1..6),
        noise in vec(any::<u8>(), 0..64),
    ) {
        let spoil = |mut bytes: Vec<u8>| {
            for (at, with) in &flips {
                if !bytes.is_empty() {
                    let at = at % bytes.len();
                    bytes[at] ^= with;
                }
            }
            bytes
        };
        let assignment = spoil(node::Assignment::from(assignment).encode_to_vec());
        let status = spoil(graph::GraphStatus::from(status).encode_to_vec());
        let frame = spoil(link_wire::Frame::from(frame).encode_to_vec());
        for bytes in [&assignment, &status, &frame, &noise] {
            read::<Frame, link_wire::Frame>(bytes);
            read::<Assignment, node::Assignment>(bytes);
            read::<RouteMap, node::RouteMap>(bytes);
            read::<Report, node::Report>(bytes);
            read::<GraphStatus, graph::GraphStatus>(bytes);
            read::<Plan, graph::Plan>(bytes);
            read::<NodeDescription, node::NodeDescription>(bytes);
            read::<LogLine, log::LogLine>(bytes);
        }
    }
}

#[test]
fn what_is_missing_or_unknown_is_named() {
    let refused = |assignment: node::Assignment| {
        let error = Assignment::try_from(assignment).unwrap_err();
        (error.field, error.reason)
    };
    let named = node::Assignment { cluster: "c".to_owned(), node: "n1".to_owned(), ..Default::default() };
    assert_eq!(refused(node::Assignment::default()), ("cluster".to_owned(), "malformed"));
    let graph = node::AssignedGraph { graph: "a/b".to_owned(), uid: "u".to_owned(), ..Default::default() };
    let with = |linked: Option<graph::LinkedGraph>| node::Assignment {
        graphs: vec![node::AssignedGraph { linked, ..graph.clone() }],
        ..named.clone()
    };
    assert_eq!(refused(with(None)), ("graphs.linked".to_owned(), "missing_field"));
    let component = graph::LinkedComponent { name: "app".to_owned(), ..Default::default() };
    let linked = graph::LinkedGraph { components: vec![component], ..Default::default() };
    let field = "graphs.linked.components.artifact".to_owned();
    assert_eq!(refused(with(Some(linked))), (field, "missing_field"));
    let change = graph::Change { kind: 99, ..Default::default() };
    let error = Change::try_from(change).unwrap_err();
    assert_eq!((error.field.as_str(), error.reason), ("kind", "unknown_enum"));
}
