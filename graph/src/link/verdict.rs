//! Whether the two ends of a function may be on two nodes.

use std::collections::{BTreeMap, BTreeSet};

use model::link::{BINDINGS_MAX, FLAGS_MAX, NAME_MAX_BYTES, TYPES_DEPTH_MAX, TYPES_MAX};
use model::linked::{Link, Verdict};
use model::name::ComponentName;

use crate::interface::types::{FunctionType, Resource, Type};

/// The verdict of one function.
pub fn verdict(function: &FunctionType) -> Verdict {
    let mut found = Found { local: BTreeSet::new(), leased: BTreeSet::new(), left: TYPES_MAX };
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

struct Found {
    local: BTreeSet<String>,
    leased: BTreeSet<String>,
    /// How many types and names there may still be.
    left: usize,
}

fn join(reasons: &BTreeSet<String>) -> String {
    reasons.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

impl Found {
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

    /// A provider's own resources live at the provider under a lease; what belongs to another interface, or to the
    /// host, means nothing elsewhere.
    fn handle(&mut self, wit: &Type, resource: &Resource) {
        match &resource.interface {
            None => self.leased.insert(format!("resource {}", resource.name)),
            Some(interface) => self.local.insert(format!("{wit} of {interface}")),
        };
    }
}
