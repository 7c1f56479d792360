//! Whether the two ends of a function may be on two nodes.

use std::collections::{BTreeMap, BTreeSet};

use model::interface::InterfaceName;
use model::link::{BINDINGS_MAX, FLAGS_MAX, HostResource, NAME_MAX_BYTES, TYPES_DEPTH_MAX, TYPES_MAX};
use model::linked::{Link, LinkedGraph, Target, Verdict};
use model::name::ComponentName;

use super::Types;
use crate::interface::types::{FunctionType, Resource, Type};

/// The verdict of one function of an interface whose streams are the host's, and whose provider has these interfaces
/// besides.
pub fn verdict(interface: &InterfaceName, function: &FunctionType, of_provider: &[InterfaceName]) -> Verdict {
    judge(interface, function, Origins { of_provider, are_streams_of_host: true })
}

/// Where handles are from that are of another interface than their function.
#[derive(Clone, Copy)]
struct Origins<'a> {
    /// What else the consumer has of the same provider.
    of_provider: &'a [InterfaceName],
    /// Whether both ends have their streams from the host.
    are_streams_of_host: bool,
}

fn judge(interface: &InterfaceName, function: &FunctionType, origins: Origins<'_>) -> Verdict {
    if is_http(interface, function) {
        return Verdict::Remotable;
    }
    let mut found = Found { local: BTreeSet::new(), leased: BTreeSet::new(), left: TYPES_MAX, origins };
    if function.is_async {
        found.local.insert("async func".to_owned());
    }
    for (name, parameter) in &function.parameters {
        found.name(name);
        found.walk(parameter, TYPES_DEPTH_MAX);
    }
    function.result.iter().for_each(|result| found.walk(result, TYPES_DEPTH_MAX));
    if !found.local.is_empty() {
        return Verdict::LocalOnly { why: join(&found.local) };
    }
    if found.leased.is_empty() {
        Verdict::Remotable
    } else {
        Verdict::RemotableWithLease { why: join(&found.leased) }
    }
}

/// Whether a call of it is an HTTP request, which is carried as that: its resources are the host's at both ends.
fn is_http(interface: &InterfaceName, function: &FunctionType) -> bool {
    let is_own = |wit: &Type, name: &str| match wit {
        Type::Own(Resource { interface: Some(of), name: found }) => {
            of.path() == "wasi:http/types" && of.track() == interface.track() && found == name
        }
        _ => false,
    };
    interface.is_http_handler()
        && !function.is_async
        && function.result.is_none()
        && matches!(&function.parameters[..], [(_, request), (_, out)]
            if is_own(request, "incoming-request") && is_own(out, "response-outparam"))
}

/// Judges again what carries handles of other interfaces. All links of one component to one provider lead to one instance
/// of it: what one of them gave, another may be given. Streams and pollables cross as the host's; where a component gives
/// another its own of them, they are resources of that component like all others.
pub(super) fn judge_handles(linked: &mut LinkedGraph, types: &Types) {
    let is_stream = |link: &Link| HostResource::ALL.iter().any(|resource| resource.is_of(&link.interface));
    let mut shared: BTreeMap<(ComponentName, ComponentName), Vec<InterfaceName>> = BTreeMap::new();
    let mut has_other_streams: BTreeSet<ComponentName> = BTreeSet::new();
    for link in &linked.links {
        if let Some(to) = link.to.member() {
            shared.entry((link.from.clone(), to.clone())).or_default().push(link.interface.clone());
        }
        if is_stream(link) && link.to != Target::Host {
            has_other_streams.insert(link.from.clone());
        }
    }
    let LinkedGraph { components, links, .. } = linked;
    for link in links.iter_mut() {
        let Some(to) = link.to.member() else { continue };
        let component = components.get(&link.from).and_then(|from| types.get(&from.artifact.digest));
        let import = component.and_then(|found| found.imports.iter().find(|i| i.name == link.interface));
        let Some(import) = import.filter(|import| !import.uses.is_empty()) else { continue };
        let of_provider = shared.get(&(link.from.clone(), to.clone())).map(Vec::as_slice).unwrap_or_default();
        let are_streams_of_host = ![&link.from, to].into_iter().any(|end| has_other_streams.contains(end));
        let origins = Origins { of_provider, are_streams_of_host };
        for function in &mut link.functions {
            if let Some(found) = import.function(&function.name) {
                function.verdict = judge(&link.interface, found, origins);
            }
        }
    }
}

/// All links of an instance to a provider lead to one instance of it, and a carried request has one of its own: one that
/// is not the only link to its provider stays on the node.
pub(super) fn keep_instances_whole(links: &mut [Link]) {
    let mut ways: BTreeMap<(ComponentName, ComponentName), usize> = BTreeMap::new();
    for link in &*links {
        if let Some(to) = link.to.member() {
            *ways.entry((link.from.clone(), to.clone())).or_default() += 1;
        }
    }
    for link in links.iter_mut().filter(|link| link.interface.is_http_handler()) {
        let to = link.to.member().cloned();
        let count = to.and_then(|to| ways.get(&(link.from.clone(), to))).copied().unwrap_or_default();
        if count > 1 {
            for function in &mut link.functions {
                let why = "it shares its provider's instance with another link".to_owned();
                function.verdict = Verdict::LocalOnly { why };
            }
        }
    }
}

/// The links of one component to one other share a session: where it had too many functions, none of them crosses.
pub(super) fn bound_sessions(links: &mut [Link]) {
    let mut functions: BTreeMap<(&ComponentName, &ComponentName), usize> = BTreeMap::new();
    for link in &*links {
        if let Some(to) = link.to.member() {
            *functions.entry((&link.from, to)).or_default() += link.functions.len();
        }
    }
    let is_over = |link: &Link| {
        link.to.member().is_some_and(|to| functions.get(&(&link.from, to)).is_some_and(|n| *n > BINDINGS_MAX))
    };
    let over: Vec<bool> = links.iter().map(is_over).collect();
    for (link, _) in links.iter_mut().zip(over).filter(|(_, is_over)| *is_over) {
        for function in &mut link.functions {
            if !matches!(function.verdict, Verdict::LocalOnly { .. }) {
                let why =
                    format!("one of more than {BINDINGS_MAX} functions that one component uses of another");
                function.verdict = Verdict::LocalOnly { why };
            }
        }
    }
}

struct Found<'a> {
    local: BTreeSet<String>,
    leased: BTreeSet<String>,
    /// How many types and names there may still be.
    left: usize,
    origins: Origins<'a>,
}

fn join(reasons: &BTreeSet<String>) -> String {
    reasons.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

impl Found<'_> {
    /// `depth` is how deep it may still be.
    fn walk(&mut self, wit: &Type, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else {
            self.local.insert(format!("types nested deeper than {TYPES_DEPTH_MAX}"));
            return;
        };
        if !self.count() {
            return;
        }
        match wit {
            Type::Primitive("error-context") => {
                self.local.insert("error-context".to_owned());
            }
            Type::Primitive(_) => {}
            Type::Enum(names) => names.iter().for_each(|name| self.name(name)),
            Type::Flags(names) => {
                if names.len() > FLAGS_MAX {
                    self.local.insert(format!("more than {FLAGS_MAX} flags"));
                }
                names.iter().for_each(|name| self.name(name));
            }
            Type::List(inner) | Type::Option(inner) => self.walk(inner, depth),
            Type::FixedLengthList(..) | Type::Map(..) | Type::Stream(_) | Type::Future(_) => {
                self.local.insert(wit.to_string());
            }
            Type::Result(ok, error) => {
                [ok, error].into_iter().flatten().for_each(|inner| self.walk(inner, depth));
            }
            Type::Tuple(parts) => parts.iter().for_each(|inner| self.walk(inner, depth)),
            Type::Record(fields) => fields.iter().for_each(|(name, inner)| {
                self.name(name);
                self.walk(inner, depth);
            }),
            Type::Variant(cases) => cases.iter().for_each(|(name, inner)| {
                self.name(name);
                inner.iter().for_each(|inner| self.walk(inner, depth));
            }),
            Type::Own(resource) | Type::Borrow(resource) => self.handle(wit, resource),
        }
    }

    fn name(&mut self, name: &str) {
        if self.count() && name.len() > NAME_MAX_BYTES {
            self.local.insert(format!("a name longer than {NAME_MAX_BYTES} bytes"));
        }
    }

    /// Counts one type or name, if there may be one more.
    fn count(&mut self) -> bool {
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            return true;
        }
        self.local.insert(format!("more than {TYPES_MAX} types and names, written out"));
        false
    }

    /// A provider's own resources live at the provider under a lease, of whichever of its interfaces they are, and the
    /// host's streams where they are from; what else belongs to another interface means nothing elsewhere.
    fn handle(&mut self, wit: &Type, resource: &Resource) {
        let Origins { of_provider, are_streams_of_host } = self.origins;
        let is_carried = |interface: &InterfaceName| {
            HostResource::ALL.iter().any(|host| host.is_of(interface) && host.path().1 == resource.name)
        };
        match &resource.interface {
            None => self.leased.insert(format!("resource {}", resource.name)),
            Some(interface) if of_provider.iter().any(|of| of.same_track(interface)) => {
                self.leased.insert(format!("resource {} of {interface}", resource.name))
            }
            Some(interface) if are_streams_of_host && is_carried(interface) => {
                self.leased.insert(format!("{} of {interface}", resource.name))
            }
            Some(interface) => self.local.insert(format!("{wit} of {interface}")),
        };
    }
}
