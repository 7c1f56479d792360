//! A plan as people read it: what changes, which way every link goes, and what that means for its functions.

use std::collections::BTreeMap;

use model::linked::{Link, LinkOrigin, LinkedGraph, Target, Verdict};
use model::placement::Placement;
use model::plan::{Change, ChangeKind, Plan};

use super::linked::distance;
use super::table::Table;
use crate::reference::short;

/// A whole plan.
pub fn plan(plan: &Plan, width: Option<u16>, is_wide: bool) -> String {
    let before = plan.base.map_or_else(|| "new".to_owned(), |number| format!("@{number}"));
    let after = plan.base.map_or(1, |number| number.0 + 1);
    let mut text = if plan.is_empty() {
        format!("{} {before}: no changes\n", short(&plan.key))
    } else {
        format!("{} {before} -> @{after}\n{}", short(&plan.key), changes(&plan.changes))
    };
    let links = links(&plan.linked, plan.placement.as_ref(), is_wide);
    if !links.is_empty() {
        text.push('\n');
        text.push_str(&links.render(width));
    }
    text.push_str(&format!("\nplan {}: {}\n", plan.id, summary(&plan.changes)));
    text
}

/// A line for each change.
pub fn changes(changes: &[Change]) -> String {
    let longest = changes.iter().map(|change| change.subject.chars().count()).max().unwrap_or(0);
    let line = |change: &Change| {
        let line = format!("  {} {:longest$}  {}", change.kind, change.subject, change.detail);
        format!("{}\n", line.trim_end())
    };
    changes.iter().map(line).collect()
}

/// `1 to add, 2 to change, 0 to remove`
pub fn summary(changes: &[Change]) -> String {
    let count = |kind| changes.iter().filter(|change| change.kind == kind).count();
    format!(
        "{} to add, {} to change, {} to remove",
        count(ChangeKind::Add),
        count(ChangeKind::Change),
        count(ChangeKind::Remove)
    )
}

/// The graph's own links, built-ins of the node left out unless asked for; wide has a row for each function.
///
/// Where the graph goes to several nodes, each link's place is shown.
pub fn links(graph: &LinkedGraph, placed: Option<&Placement>, is_wide: bool) -> Table {
    let parted = placed.filter(|placed| placed.is_parted());
    let mut header = vec!["LINK", "INTERFACE", "WIRING"];
    header.extend(parted.map(|_| "PLACE"));
    header.push("REACH");
    header.extend(is_wide.then_some("FUNCTION"));
    let mut table = Table::new(header);
    let own = graph.links.iter().filter(|link| graph::plan::is_own(graph, link));
    for link in own.filter(|link| is_wide || link.to != Target::Host) {
        let way = graph::plan::way(graph, link);
        let mut start = vec![way, link.interface.to_string(), wiring(&link.wiring)];
        start.extend(parted.map(|placed| distance(graph, link, placed)));
        if !is_wide {
            table.row(start.into_iter().chain([reach(link)]));
            continue;
        }
        if link.functions.is_empty() {
            table.row(start.clone().into_iter().chain(["types only".to_owned(), String::new()]));
        }
        for function in &link.functions {
            let verdict = function.verdict.to_string();
            table.row(start.clone().into_iter().chain([verdict, function.name.clone()]));
        }
    }
    table
}

/// How a link came to be.
pub fn wiring(origin: &LinkOrigin) -> String {
    match origin {
        LinkOrigin::Explicit => "written".to_owned(),
        LinkOrigin::Inferred => "inferred".to_owned(),
        LinkOrigin::Policy(version) => format!("policy {}@{}", version.name, version.generation),
        LinkOrigin::BuiltIn => "built in".to_owned(),
    }
}

/// How far a link can reach, all of its functions taken together, and what holds it back.
pub fn reach(link: &Link) -> String {
    let mut local: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut leased = false;
    for function in &link.functions {
        match &function.verdict {
            Verdict::Remotable => {}
            Verdict::RemotableWithLease { .. } => leased = true,
            Verdict::LocalOnly { why } => local.entry(why).or_default().push(&function.name),
        }
    }
    if !local.is_empty() {
        let why: Vec<String> =
            local.iter().map(|(why, functions)| format!("{} ({why})", functions.join(", "))).collect();
        return format!("same node: {}", why.join("; "));
    }
    if leased { "may cross hosts, with a lease".to_owned() } else { "may cross hosts".to_owned() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use model::id::RevisionNumber;

    use super::*;
    use crate::testing::customers;

    fn change(kind: ChangeKind, subject: &str, detail: &str) -> Change {
        Change { kind, subject: subject.to_owned(), detail: detail.to_owned() }
    }

    fn example(changes: Vec<Change>) -> Plan {
        Plan {
            id: "7f3a00112233".to_owned(),
            key: "sales/crm".parse().unwrap(),
            base: Some(RevisionNumber(6)),
            changes,
            linked: customers(),
            placement: None,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_plan_shows_changes_ways_and_how_far_they_reach() {
        let changes = vec![
            change(ChangeKind::Change, "component app", "a1a1a1a1a1a1 => 9c1e00112233"),
            change(ChangeKind::Add, "component search", "c3c3c3c3c3c3"),
            change(ChangeKind::Remove, "ingress crm.localhost/old", "app"),
        ];
        insta::assert_snapshot!("plan", plan(&example(changes), None, false));
        insta::assert_snapshot!("functions", links(&customers(), None, true).render(None));
    }

    #[test]
    fn a_plan_of_nothing_says_so() {
        let text = plan(&example(Vec::new()), None, false);
        assert!(text.starts_with("sales/crm @6: no changes\n"), "{text}");
        assert!(text.ends_with("plan 7f3a00112233: 0 to add, 0 to change, 0 to remove\n"), "{text}");
    }
}
