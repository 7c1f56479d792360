//! Whether the two ends of a function may be on two nodes.

use model::linked::Verdict;

use crate::interface::types::{FunctionType, Resource, Type};

/// The verdict of one function.
pub fn verdict(function: &FunctionType) -> Verdict {
    let mut found = Found::default();
    if function.is_async {
        found.local.push("async func".to_owned());
    }
    for (_, parameter) in &function.parameters {
        walk(parameter, &mut found);
    }
    function.result.iter().for_each(|result| walk(result, &mut found));
    if !found.local.is_empty() {
        return Verdict::LocalOnly { why: join(found.local) };
    }
    if found.leased.is_empty() {
        Verdict::Remotable
    } else {
        Verdict::RemotableWithLease { why: join(found.leased) }
    }
}

#[derive(Default)]
struct Found {
    local: Vec<String>,
    leased: Vec<String>,
}

fn join(mut reasons: Vec<String>) -> String {
    reasons.sort();
    reasons.dedup();
    reasons.join(", ")
}

fn walk(wit: &Type, found: &mut Found) {
    match wit {
        Type::Primitive("error-context") => found.local.push("error-context".to_owned()),
        Type::Primitive(_) | Type::Enum(_) | Type::Flags(_) => {}
        Type::List(inner) | Type::Option(inner) => walk(inner, found),
        Type::FixedLengthList(..) | Type::Map(..) | Type::Stream(_) | Type::Future(_) => {
            found.local.push(wit.to_string());
        }
        Type::Result(ok, error) => [ok, error].into_iter().flatten().for_each(|inner| walk(inner, found)),
        Type::Tuple(parts) => parts.iter().for_each(|inner| walk(inner, found)),
        Type::Record(fields) => fields.iter().for_each(|(_, inner)| walk(inner, found)),
        Type::Variant(cases) => {
            cases.iter().filter_map(|(_, inner)| inner.as_ref()).for_each(|i| walk(i, found))
        }
        Type::Own(resource) | Type::Borrow(resource) => handle(wit, resource, found),
    }
}

/// A provider's own resources live at the provider under a lease; what belongs to another interface, or to the host,
/// means nothing elsewhere.
fn handle(wit: &Type, resource: &Resource, found: &mut Found) {
    match &resource.interface {
        None => found.leased.push(format!("resource {}", resource.name)),
        Some(interface) => found.local.push(format!("{wit} of {interface}")),
    }
}
