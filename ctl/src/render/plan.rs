//! A plan as people read it: what changes, which way every link goes, and what that means for its functions.

use std::collections::BTreeMap;

use model::linked::{Link, LinkOrigin, LinkedGraph, Target, Verdict};
use model::name::{ComponentName, NodeName};
use model::placement::Placement;
use model::plan::{Change, ChangeKind, Plan, Takeover};

use super::linked::distance;
use super::table::{Table, printable};
use crate::reference::short;

/// Other graphs that are named with where they go.
const MOVES_SHOWN: usize = 20;
/// Up to as many nodes are all named.
const NODES_SHOWN: usize = 8;
/// Nodes that are named of more.
const NODES_NAMED: usize = 3;

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
    let places = places(plan);
    if !places.is_empty() {
        text.push('\n');
        text.push_str(&places.render(width));
    }
    text.push_str(&outcome(plan));
    text.push_str(&format!("\nplan {}: {}\n", plan.id, summary(&plan.changes)));
    text
}

/// A line for each component and capability: where it is, and where it would be.
fn places(plan: &Plan) -> Table {
    let mut table = Table::new(["COMPONENT", "NOW ON", "THEN ON"]);
    if plan.placed.is_none() && plan.placement.is_none() {
        return table;
    }
    let is_new = |member: &ComponentName| {
        plan.changes.iter().any(|change| {
            let (kind, name) = change.subject.split_once(' ').unwrap_or_default();
            change.kind == ChangeKind::Add
                && matches!(kind, "component" | "capability")
                && name == member.as_str()
        })
    };
    for member in plan.linked.members() {
        let nodes = |placement: &Placement| few(placement.nodes_of(member));
        let now = plan.placed.as_ref().filter(|_| !is_new(member)).map(nodes).unwrap_or_default();
        let then = plan.placement.as_ref().map_or_else(|| "no node takes it now".to_owned(), nodes);
        table.row([member.to_string(), now, then]);
    }
    table
}

/// How the revision takes over, if there is one, and what else goes elsewhere at the same time.
fn outcome(plan: &Plan) -> String {
    let takeover = Some(plan.takeover.to_string()).filter(|text| !text.is_empty() && !plan.is_empty());
    let mut lines: Vec<String> = takeover.into_iter().collect();
    lines.extend(plan.moves.iter().take(MOVES_SHOWN).map(|planned| {
        let to = few(planned.to.nodes());
        match &planned.from {
            None => format!("places {} on {to}", short(&planned.key)),
            Some(from) => format!("moves {} from {} to {to}", short(&planned.key), few(from.nodes())),
        }
    }));
    let more = plan.moves.len().saturating_sub(MOVES_SHOWN);
    lines.extend((more > 0).then(|| format!("places or moves {more} more")));
    let is_known = plan.takeover != Takeover::Unsaid;
    lines.extend((is_known && plan.moves.is_empty()).then(|| "nothing else is moved".to_owned()));
    if lines.is_empty() { String::new() } else { format!("\n{}\n", printable_lines(&lines)) }
}

fn printable_lines(lines: &[String]) -> String {
    lines.iter().map(|line| printable(line)).collect::<Vec<_>>().join("\n")
}

/// Nodes as people read them: by name if they are few, and else some of them and how many there are.
pub fn few<'a>(nodes: impl IntoIterator<Item = &'a NodeName>) -> String {
    let mut names: Vec<&str> = nodes.into_iter().map(NodeName::as_str).collect();
    let count = names.len();
    if count <= NODES_SHOWN {
        return names.join(", ");
    }
    names.truncate(NODES_NAMED);
    format!("{count} nodes: {}, …", names.join(", "))
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
    use std::collections::BTreeSet;
    use std::time::Duration;

    use model::id::RevisionNumber;
    use model::plan::Move;
    use model::rollout::Step;

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
            placed: None,
            takeover: Takeover::Unsaid,
            moves: Vec::new(),
        }
    }

    fn placed(home: &str, more: &[&str]) -> Placement {
        let mut placement = Placement::whole(home.parse().unwrap());
        let more: BTreeSet<NodeName> = more.iter().map(|name| name.parse().unwrap()).collect();
        placement.more.insert("app".parse().unwrap(), more);
        placement
    }

    #[test]
    fn a_plan_says_what_goes_where_and_what_else_moves() {
        let mut planned = example(vec![change(ChangeKind::Change, "component app", "scale")]);
        planned.placed = Some(Placement::whole("n1".parse().unwrap()));
        planned.placement = Some(placed("n1", &["n2", "n3"]));
        planned.takeover = Takeover::Steps(vec![
            Step { share: "5%".parse().unwrap(), hold: Some(Duration::from_secs(300)) },
            Step { share: "50%".parse().unwrap(), hold: None },
        ]);
        planned.moves = vec![
            Move {
                key: "default/other".parse().unwrap(),
                from: Some(Placement::whole("n1".parse().unwrap())),
                to: Placement::whole("n2".parse().unwrap()),
            },
            Move { key: "default/new".parse().unwrap(), from: None, to: placed("n1", &["n2"]) },
        ];
        let text = plan(&planned, None, false);
        for line in [
            "COMPONENT  NOW ON  THEN ON",
            "app        n1      n1, n2, n3",
            "takes over by steps: 5% for 5m, 50% until it is promoted, then all",
            "moves other from n1 to n2",
            "places new on n1, n2",
        ] {
            assert!(text.lines().any(|found| found.trim_end() == line), "{line}\n{text}");
        }
        assert!(!text.contains("nothing else is moved"), "{text}");
        planned.takeover = Takeover::AtOnce { why: "its manifest has no `rollout`".to_owned() };
        planned.moves.clear();
        planned.placement = None;
        let text = plan(&planned, None, false);
        assert!(
            text.contains("\ntakes over at once: its manifest has no `rollout`\nnothing else is moved\n"),
            "{text}"
        );
        assert!(text.contains("no node takes it now"), "{text}");
    }

    #[test]
    fn of_many_nodes_some_are_named() {
        let nodes: Vec<NodeName> = (1..=9).map(|number| format!("n{number}").parse().unwrap()).collect();
        assert_eq!(few(&nodes[..2]), "n1, n2");
        assert_eq!(few(&nodes), "9 nodes: n1, n2, n3, …");
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
