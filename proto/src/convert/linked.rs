//! Linked graphs.

use std::time::Duration;

use model::graph::{
    Artifact, CHECK_FAILURES_DEFAULT, CHECK_TIMEOUT_DEFAULT, CapabilitySpec, Check, CheckTerms, Limits,
    OnIsolation, Settings,
};
use model::id::Generation;
use model::linked::{Function, Link, LinkOrigin, LinkedComponent, LinkedGraph, Origin, Target, Verdict};
use model::name::ComponentName;
use model::placement::{LinkTerms, Locality, Placement, Requirements, Wishes};
use model::policy::PolicyVersion;
use model::reserve::{Priority, RESERVED, Reserves};
use model::route::{HttpRoute, PathPrefix};
use model::scale::Scaling;
use model::unit::ByteSize;

use super::condition::{joined, parted};
use super::{DecodeError, each, parse, read, required};
use crate::weft::graph::v1 as wire;

impl From<LinkedGraph> for wire::LinkedGraph {
    fn from(graph: LinkedGraph) -> Self {
        Self {
            ingress: graph.ingress.into_iter().map(Into::into).collect(),
            components: graph.components.into_iter().map(Into::into).collect(),
            capabilities: graph.capabilities.into_iter().map(Into::into).collect(),
            links: graph.links.into_iter().map(Into::into).collect(),
            policies: graph.policies.into_iter().map(Into::into).collect(),
            require: graph.require.into_iter().map(requirements).collect(),
            replicas: graph.replicas.into_iter().map(|(member, count)| (member.into(), count)).collect(),
            wishes: graph.wishes.into_iter().map(wishes).collect(),
            each_node: graph.each_node.into_iter().map(Into::into).collect(),
            scaling: graph.scaling.into_iter().map(|(member, how)| (member.into(), how.into())).collect(),
            reserves: (!graph.reserves.is_default()).then(|| graph.reserves.into()),
        }
    }
}

impl TryFrom<wire::LinkedGraph> for LinkedGraph {
    type Error = DecodeError;

    fn try_from(graph: wire::LinkedGraph) -> Result<Self, DecodeError> {
        Ok(Self {
            ingress: each("ingress", graph.ingress)?,
            components: each::<_, Named<LinkedComponent>>("components", graph.components)?
                .into_iter()
                .map(|named| (named.name, named.value))
                .collect(),
            capabilities: each::<_, Named<CapabilitySpec>>("capabilities", graph.capabilities)?
                .into_iter()
                .map(|named| (named.name, named.value))
                .collect(),
            links: each("links", graph.links)?,
            policies: each("policies", graph.policies)?,
            require: graph
                .require
                .into_iter()
                .map(|require| {
                    let member = read("require.member", require.member)?;
                    Ok((member, joined("require", require.labels, require.conditions)?))
                })
                .collect::<Result<_, DecodeError>>()?,
            replicas: graph
                .replicas
                .into_iter()
                .map(|(member, count)| Ok((read("replicas", member)?, count)))
                .collect::<Result<_, DecodeError>>()?,
            wishes: graph
                .wishes
                .into_iter()
                .map(|wishes| {
                    let member = read("wishes.member", wishes.member)?;
                    let wishes = Wishes {
                        prefer: joined("wishes.prefer", wishes.prefer, wishes.prefer_conditions)?,
                        avoid: joined("wishes.avoid", wishes.avoid, wishes.avoid_conditions)?,
                        tolerate: wishes.tolerate.into_iter().collect(),
                    };
                    Ok((member, wishes))
                })
                .collect::<Result<_, DecodeError>>()?,
            each_node: graph
                .each_node
                .into_iter()
                .map(|member| read("each_node", member))
                .collect::<Result<_, DecodeError>>()?,
            scaling: graph
                .scaling
                .into_iter()
                .map(|(member, how)| Ok((read("scaling", member)?, how.try_into()?)))
                .collect::<Result<_, DecodeError>>()?,
            reserves: graph.reserves.map(Reserves::try_from).transpose()?.unwrap_or_default(),
        })
    }
}

impl From<Reserves> for wire::Reserves {
    fn from(reserves: Reserves) -> Self {
        let instances = reserves.instances.into_iter().map(|(member, count)| (member.into(), count));
        Self { priority: reserves.priority.get(), instances: instances.collect() }
    }
}

/// Reads a priority.
pub(super) fn priority(field: &str, number: u32) -> Result<Priority, DecodeError> {
    Priority::new(number).map_err(|error| DecodeError::malformed(field, error.to_string()))
}

impl TryFrom<wire::Reserves> for Reserves {
    type Error = DecodeError;

    fn try_from(reserves: wire::Reserves) -> Result<Self, DecodeError> {
        let priority = priority("reserves.priority", reserves.priority)?;
        let instances = reserves.instances.into_iter().map(|(member, count)| {
            let member = read("reserves.instances", member)?;
            if RESERVED.contains(&count) {
                return Ok((member, count));
            }
            let message = format!("{} to {} instances are kept, not {count}", RESERVED.start(), RESERVED.end());
            Err(DecodeError::malformed("reserves.instances", message))
        });
        Ok(Self { priority, instances: instances.collect::<Result<_, DecodeError>>()? })
    }
}

impl From<Scaling> for wire::Scaling {
    fn from(scaling: Scaling) -> Self {
        Self {
            min: scaling.min(),
            max: scaling.max(),
            concurrency: scaling.concurrency(),
            down_after_ms: u64::try_from(scaling.down_after().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl TryFrom<wire::Scaling> for Scaling {
    type Error = DecodeError;

    fn try_from(scaling: wire::Scaling) -> Result<Self, DecodeError> {
        let down_after = Duration::from_millis(scaling.down_after_ms);
        Self::new(scaling.min, scaling.max, scaling.concurrency, down_after)
            .map_err(|error| DecodeError::malformed("scaling", error.to_string()))
    }
}

fn requirements((member, require): (ComponentName, Requirements)) -> wire::Requirements {
    let (labels, conditions) = parted(require);
    wire::Requirements { member: member.into(), labels, conditions }
}

fn wishes((member, wishes): (ComponentName, Wishes)) -> wire::Wishes {
    let (prefer, prefer_conditions) = parted(wishes.prefer);
    let (avoid, avoid_conditions) = parted(wishes.avoid);
    let tolerate = wishes.tolerate.into_iter().collect();
    wire::Wishes { member: member.into(), prefer, avoid, tolerate, prefer_conditions, avoid_conditions }
}

impl From<Placement> for wire::Placement {
    fn from(placement: Placement) -> Self {
        let away = placement.away.into_iter().map(|(member, node)| (member.into(), node.into()));
        let more = placement.more.into_iter().map(|(member, nodes)| wire::MoreNodes {
            member: member.into(),
            nodes: nodes.into_iter().map(Into::into).collect(),
        });
        Self { home: placement.home.into(), away: away.collect(), more: more.collect() }
    }
}

impl TryFrom<wire::Placement> for Placement {
    type Error = DecodeError;

    fn try_from(placement: wire::Placement) -> Result<Self, DecodeError> {
        let away = placement.away.into_iter();
        let away = away.map(|(member, node)| Ok((read("away", member)?, read("away", node)?)));
        let more = placement.more.into_iter().map(|more| {
            let nodes = more.nodes.into_iter().map(|node| read("more.nodes", node));
            Ok((read("more.member", more.member)?, nodes.collect::<Result<_, DecodeError>>()?))
        });
        Ok(Self {
            home: read("home", placement.home)?,
            away: away.collect::<Result<_, DecodeError>>()?,
            more: more.collect::<Result<_, DecodeError>>()?,
        })
    }
}

/// An entry of a map, as the wire writes it.
struct Named<T> {
    name: ComponentName,
    value: T,
}

impl From<HttpRoute> for wire::HttpRoute {
    fn from(route: HttpRoute) -> Self {
        Self {
            host: route.host.map(String::from).unwrap_or_default(),
            path: route.path.into(),
            to: route.to.into(),
        }
    }
}

impl TryFrom<wire::HttpRoute> for HttpRoute {
    type Error = DecodeError;

    fn try_from(route: wire::HttpRoute) -> Result<Self, DecodeError> {
        Ok(Self {
            host: if route.host.is_empty() { None } else { Some(parse("host", &route.host)?) },
            path: parse::<PathPrefix>("path", &route.path)?,
            to: read("to", route.to)?,
        })
    }
}

impl From<Artifact> for wire::Artifact {
    fn from(artifact: Artifact) -> Self {
        Self { digest: artifact.digest.to_string(), size: artifact.size }
    }
}

impl TryFrom<wire::Artifact> for Artifact {
    type Error = DecodeError;

    fn try_from(artifact: wire::Artifact) -> Result<Self, DecodeError> {
        Ok(Self { digest: parse("digest", &artifact.digest)?, size: artifact.size })
    }
}

impl From<PolicyVersion> for wire::PolicyVersion {
    fn from(version: PolicyVersion) -> Self {
        Self { name: version.name.into(), generation: version.generation.0 }
    }
}

impl TryFrom<wire::PolicyVersion> for PolicyVersion {
    type Error = DecodeError;

    fn try_from(version: wire::PolicyVersion) -> Result<Self, DecodeError> {
        Ok(Self { name: read("name", version.name)?, generation: Generation(version.generation) })
    }
}

impl From<(ComponentName, LinkedComponent)> for wire::LinkedComponent {
    fn from((name, component): (ComponentName, LinkedComponent)) -> Self {
        Self {
            name: name.into(),
            artifact: Some(component.artifact.into()),
            policy: match component.origin {
                Origin::Graph => None,
                Origin::Policy(version) => Some(version.into()),
            },
            exports: component.exports.into_iter().map(String::from).collect(),
            settings: Some(component.settings.into()),
        }
    }
}

impl TryFrom<wire::LinkedComponent> for Named<LinkedComponent> {
    type Error = DecodeError;

    fn try_from(component: wire::LinkedComponent) -> Result<Self, DecodeError> {
        let exports = component.exports.into_iter().map(|export| read("exports", export));
        let value = LinkedComponent {
            artifact: required("artifact", component.artifact)?
                .try_into()
                .map_err(|error: DecodeError| error.under("artifact"))?,
            origin: match component.policy {
                None => Origin::Graph,
                Some(version) => {
                    Origin::Policy(version.try_into().map_err(|error: DecodeError| error.under("policy"))?)
                }
            },
            exports: exports.collect::<Result<_, _>>()?,
            settings: required("settings", component.settings)?
                .try_into()
                .map_err(|error: DecodeError| error.under("settings"))?,
        };
        Ok(Self { name: read("name", component.name)?, value })
    }
}

impl From<(Check, CheckTerms)> for wire::Check {
    fn from((check, CheckTerms { timeout, every, failures }): (Check, CheckTerms)) -> Self {
        let kind = match check {
            Check::Http(path) => wire::check::Kind::HttpPath(path.into()),
            Check::Call { .. } => wire::check::Kind::Call(check.to_string()),
        };
        Self {
            kind: Some(kind),
            timeout_ms: milliseconds(timeout),
            every_ms: every.map_or(0, milliseconds),
            failures,
        }
    }
}

impl TryFrom<wire::Check> for (Check, CheckTerms) {
    type Error = DecodeError;

    fn try_from(check: wire::Check) -> Result<Self, DecodeError> {
        let said = |number: u64| (number != 0).then(|| Duration::from_millis(number));
        let terms = CheckTerms {
            timeout: said(check.timeout_ms).unwrap_or(CHECK_TIMEOUT_DEFAULT),
            every: said(check.every_ms),
            failures: if check.failures == 0 { CHECK_FAILURES_DEFAULT } else { check.failures },
        };
        let check = match required("check", check.kind)? {
            wire::check::Kind::HttpPath(path) => Check::Http(parse("check.http_path", &path)?),
            wire::check::Kind::Call(text) => {
                let (interface, function) = text.split_once('#').unwrap_or((&text, ""));
                Check::Call { interface: parse("check.call", interface)?, function: function.to_owned() }
            }
        };
        Ok((check, terms))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<Settings> for wire::Settings {
    fn from(settings: Settings) -> Self {
        Self {
            config: settings.config.into_iter().collect(),
            variables: settings.variables.into_iter().collect(),
            egress: settings.egress.into_iter().map(String::from).collect(),
            memory_bytes: settings.limits.memory.0,
            deadline_ms: milliseconds(settings.limits.deadline),
            check: settings.check.map(|check| (check, settings.check_terms).into()),
            stops_in_isolation: !settings.on_isolation.serves(),
        }
    }
}

impl TryFrom<wire::Settings> for Settings {
    type Error = DecodeError;

    fn try_from(settings: wire::Settings) -> Result<Self, DecodeError> {
        let egress = settings.egress.into_iter().map(|rule| read("egress", rule));
        let check = settings.check.map(<(Check, CheckTerms)>::try_from).transpose()?;
        let (check, check_terms) = check.map_or_else(Default::default, |(check, terms)| (Some(check), terms));
        Ok(Self {
            config: settings.config.into_iter().collect(),
            variables: settings.variables.into_iter().collect(),
            egress: egress.collect::<Result<_, _>>()?,
            limits: Limits {
                memory: ByteSize(settings.memory_bytes),
                deadline: Duration::from_millis(settings.deadline_ms),
            },
            check,
            check_terms,
            on_isolation: if settings.stops_in_isolation { OnIsolation::Stop } else { OnIsolation::Serve },
        })
    }
}

impl From<(ComponentName, CapabilitySpec)> for wire::Capability {
    fn from((name, capability): (ComponentName, CapabilitySpec)) -> Self {
        let CapabilitySpec::Sqlite { database, seed } = capability;
        let sqlite = wire::Sqlite { database, seed: seed.map(Into::into) };
        Self { name: name.into(), r#type: Some(wire::capability::Type::Sqlite(sqlite)) }
    }
}

impl TryFrom<wire::Capability> for Named<CapabilitySpec> {
    type Error = DecodeError;

    fn try_from(capability: wire::Capability) -> Result<Self, DecodeError> {
        let wire::capability::Type::Sqlite(sqlite) = required("type", capability.r#type)?;
        let seed = sqlite.seed.map(Artifact::try_from).transpose();
        let value = CapabilitySpec::Sqlite {
            database: sqlite.database,
            seed: seed.map_err(|error| error.under("seed"))?,
        };
        Ok(Self { name: read("name", capability.name)?, value })
    }
}

impl From<Link> for wire::Link {
    fn from(link: Link) -> Self {
        Self {
            from: link.from.into(),
            interface: link.interface.into(),
            target: Some(match link.to {
                Target::Component { name, export } => wire::link::Target::Component(wire::ComponentTarget {
                    name: name.into(),
                    export: export.into(),
                }),
                Target::Capability { name } => wire::link::Target::Capability(name.into()),
                Target::Host => wire::link::Target::Host(wire::HostTarget {}),
            }),
            wiring: Some(match link.wiring {
                LinkOrigin::Explicit => wire::link::Wiring::Explicit(wire::ExplicitWiring {}),
                LinkOrigin::Inferred => wire::link::Wiring::Inferred(wire::InferredWiring {}),
                LinkOrigin::Policy(version) => wire::link::Wiring::Policy(version.into()),
                LinkOrigin::BuiltIn => wire::link::Wiring::BuiltIn(wire::BuiltInWiring {}),
            }),
            functions: link.functions.into_iter().map(Into::into).collect(),
            terms: Some(wire::LinkTerms {
                same_node: link.terms.locality == Locality::SameNode,
                timeout_ms: link
                    .terms
                    .timeout
                    .map_or(0, |timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
                on_loss: link.terms.on_loss.unwrap_or_default(),
                idempotent: link.terms.idempotent,
            }),
        }
    }
}

impl TryFrom<wire::Link> for Link {
    type Error = DecodeError;

    fn try_from(link: wire::Link) -> Result<Self, DecodeError> {
        let to = match required("target", link.target)? {
            wire::link::Target::Component(target) => Target::Component {
                name: read("target.name", target.name)?,
                export: read("target.export", target.export)?,
            },
            wire::link::Target::Capability(name) => {
                Target::Capability { name: read("target.capability", name)? }
            }
            wire::link::Target::Host(_) => Target::Host,
        };
        let wiring = match required("wiring", link.wiring)? {
            wire::link::Wiring::Explicit(_) => LinkOrigin::Explicit,
            wire::link::Wiring::Inferred(_) => LinkOrigin::Inferred,
            wire::link::Wiring::Policy(version) => LinkOrigin::Policy(version.try_into()?),
            wire::link::Wiring::BuiltIn(_) => LinkOrigin::BuiltIn,
        };
        Ok(Self {
            from: read("from", link.from)?,
            interface: read("interface", link.interface)?,
            to,
            wiring,
            functions: each("functions", link.functions)?,
            terms: link.terms.map(terms).unwrap_or_default(),
        })
    }
}

fn terms(terms: wire::LinkTerms) -> LinkTerms {
    LinkTerms {
        locality: if terms.same_node { Locality::SameNode } else { Locality::Any },
        timeout: (terms.timeout_ms != 0).then(|| Duration::from_millis(terms.timeout_ms)),
        on_loss: (!terms.on_loss.is_empty()).then_some(terms.on_loss),
        idempotent: terms.idempotent,
    }
}

impl From<Function> for wire::Function {
    fn from(function: Function) -> Self {
        let (verdict, why) = match function.verdict {
            Verdict::Remotable => (wire::Verdict::Remotable, String::new()),
            Verdict::RemotableWithLease { why } => (wire::Verdict::RemotableWithLease, why),
            Verdict::LocalOnly { why } => (wire::Verdict::LocalOnly, why),
        };
        Self { name: function.name, verdict: verdict.into(), why }
    }
}

impl TryFrom<wire::Function> for Function {
    type Error = DecodeError;

    fn try_from(function: wire::Function) -> Result<Self, DecodeError> {
        let why = function.why;
        let verdict = match wire::Verdict::try_from(function.verdict) {
            Ok(wire::Verdict::Remotable) => Verdict::Remotable,
            Ok(wire::Verdict::RemotableWithLease) => Verdict::RemotableWithLease { why },
            Ok(wire::Verdict::LocalOnly) => Verdict::LocalOnly { why },
            Ok(wire::Verdict::Unspecified) | Err(_) => return Err(DecodeError::unknown("verdict")),
        };
        Ok(Self { name: function.name, verdict })
    }
}
