//! What stands on a link, read off the linked graph: the policies from the caller on, and what is behind them.

use model::linked::{Link, LinkOrigin, LinkedGraph, Origin, Target};
use model::name::ComponentName;
use model::policy::PolicyVersion;

/// One component that a policy put on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::command) struct Standing {
    /// The policy.
    pub(in crate::command) policy: PolicyVersion,
    /// The component it put there.
    pub(in crate::command) component: ComponentName,
}

/// The components that policies put on `link`, from the caller on, and what satisfies the last of them.
pub(in crate::command) fn chain<'a>(graph: &'a LinkedGraph, link: &'a Link) -> (Vec<Standing>, &'a Target) {
    let mut standing = Vec::new();
    let mut link = link;
    loop {
        let Target::Component { name, .. } = &link.to else { return (standing, &link.to) };
        let Some(Origin::Policy(policy)) = graph.components.get(name).map(|component| &component.origin) else {
            return (standing, &link.to);
        };
        standing.push(Standing { policy: policy.clone(), component: name.clone() });
        let onward = graph.links_of(name).find(|onward| {
            onward.interface.same_track(&link.interface) && matches!(onward.wiring, LinkOrigin::Policy(_))
        });
        match onward {
            // A linked graph has no circles; should one appear, the walk still ends.
            Some(onward) if standing.len() <= graph.components.len() => link = onward,
            _ => return (standing, &link.to),
        }
    }
}

/// A target as people read it: `crm-db (sqlite "default")`, `search`, `node`.
pub(in crate::command) fn describe(graph: &LinkedGraph, target: &Target) -> String {
    match target {
        Target::Capability { name } => match graph.capabilities.get(name) {
            Some(model::graph::CapabilitySpec::Sqlite { database, .. }) => {
                format!("{name} (sqlite \"{database}\")")
            }
            None => name.to_string(),
        },
        Target::Component { .. } | Target::Host => target.to_string(),
    }
}
