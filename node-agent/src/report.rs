//! What this node says of itself: the full picture of what it runs or tries to, built from what should and what does.

use std::collections::BTreeMap;

use model::assignment::Assignment;
use model::id::{Generation, GraphKey};
use model::name::NodeName;
use model::report::{GraphReport, Progress, Report};

use crate::reconcile::Version;

/// One graph as the loop sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sight {
    /// The version that answers requests.
    pub serving: Option<Version>,
    /// The attempt at another one, and how far it is.
    pub attempt: Option<(Version, Progress)>,
    /// Why what answers requests fails, if it does.
    pub failing: Option<String>,
}

/// The report of a node that has accepted nothing yet.
pub fn empty(node: NodeName) -> Report {
    Report { node, accepted: Generation::default(), graphs: Vec::new() }
}

/// The report of a node that works towards `assignment` and sees `sights`.
pub fn build(assignment: &Assignment, sights: &BTreeMap<GraphKey, Sight>) -> Report {
    let nothing = Sight::default();
    let graphs = assignment.graphs.iter().map(|graph| {
        let sight = sights.get(&graph.key).unwrap_or(&nothing);
        let wanted = Version { uid: graph.uid.clone(), generation: graph.generation };
        let serving = sight.serving.as_ref().filter(|serving| serving.uid == wanted.uid);
        let attempted = sight.attempt.as_ref().filter(|(version, _)| *version == wanted);
        let progress = match attempted {
            _ if serving == Some(&wanted) => Progress::Serving,
            Some((_, progress)) => progress.clone(),
            // It waits for room to be prepared; fetching is what it will begin with.
            None => Progress::Fetching,
        };
        GraphReport {
            key: graph.key.clone(),
            uid: graph.uid.clone(),
            serving: serving.map(|serving| serving.generation),
            desired: graph.generation,
            progress,
            failing: sight.failing.clone().filter(|_| serving.is_some()),
        }
    });
    let mut graphs: Vec<GraphReport> = graphs.collect();
    graphs.sort_by(|a, b| a.key.cmp(&b.key));
    Report { node: assignment.node.clone(), accepted: assignment.generation, graphs }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use model::assignment::AssignedGraph;
    use model::id::{ClusterId, RevisionNumber, Uid};
    use model::linked::LinkedGraph;
    use model::placement::Placement;
    use model::report::Failure;

    use super::*;

    #[test]
    fn says_what_serves_and_how_far_the_rest_is() {
        let uid = Uid::new("u").unwrap();
        let graph = |name: &str| AssignedGraph {
            key: name.parse().unwrap(),
            uid: uid.clone(),
            revision: RevisionNumber(1),
            generation: Generation(7),
            linked: LinkedGraph::default(),
            placement: Placement::whole("n1".parse().unwrap()),
            failing: std::collections::BTreeSet::new(),
        };
        let assignment = Assignment {
            cluster: ClusterId::new("c").unwrap(),
            node: "n1".parse().unwrap(),
            generation: Generation(9),
            graphs: ["waits", "serves", "replaces", "foreign"].map(graph).into(),
            peers: BTreeMap::new(),
            revoked: std::collections::BTreeSet::new(),
            labels: BTreeMap::new(),
        };
        let version = |generation| Version { uid: uid.clone(), generation: Generation(generation) };
        let failure = Progress::Failed(Failure { reason: "start_failed".into(), message: "trap".into() });
        let sight = |serving, attempt| Sight { serving, attempt, failing: Some("why".to_owned()) };
        let foreign = Version { uid: Uid::new("other").unwrap(), generation: Generation(7) };
        let sights = BTreeMap::from([
            ("serves".parse().unwrap(), sight(Some(version(7)), None)),
            ("replaces".parse().unwrap(), sight(Some(version(6)), Some((version(7), failure.clone())))),
            ("foreign".parse().unwrap(), sight(Some(foreign), Some((version(6), failure.clone())))),
        ]);
        let report = build(&assignment, &sights);
        assert_eq!(report.accepted, Generation(9));
        let lines: Vec<_> = report
            .graphs
            .iter()
            .map(|graph| (graph.key.graph.as_str(), graph.serving.map(|g| g.0), graph.progress.clone()))
            .collect();
        let failing = report.graphs.iter().filter(|graph| graph.failing.is_some());
        let failing: Vec<_> = failing.map(|graph| graph.key.graph.as_str()).collect();
        assert_eq!(failing, ["replaces", "serves"], "what does not serve does not fail");
        assert_eq!(
            lines,
            [
                ("foreign", None, Progress::Fetching),
                ("replaces", Some(6), failure),
                ("serves", Some(7), Progress::Serving),
                ("waits", None, Progress::Fetching),
            ]
        );
    }
}
