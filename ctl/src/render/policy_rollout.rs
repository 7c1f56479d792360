//! Versions of policies that take over by steps, as people read them: how far they are, on which graphs, and what comes next.

use model::id::Generation;
use model::policy::PolicyVersion;
use model::rollout::{Phase, PolicyRolloutStatus, Step};
use proto::weft::policy::v1 as wire;

use super::rollout::{Progress, coming, line};
use super::table::printable;
use crate::reference::short;

/// `1 graph`, `2 graphs`
pub fn graphs(count: usize) -> String {
    if count == 1 { "1 graph".to_owned() } else { format!("{count} graphs") }
}

/// `pii-firewall@12`
pub fn named(version: &PolicyVersion) -> String {
    format!("{}@{}", version.name, version.generation)
}

/// How far it is, on one line: `pii-firewall version 12 answers 5% for 5m: step 1 of 2, on 3 graphs`.
pub fn sentence(rollout: &PolicyRolloutStatus) -> String {
    format!("{} version {} {}", rollout.version.name, rollout.version.generation, does(rollout))
}

/// The same in a few words, beside the version in force.
pub fn hint(rollout: &PolicyRolloutStatus) -> Option<String> {
    progress(rollout).hint(&format!("version {}", rollout.version.generation))
}

/// What it is to one graph, and how that is with it.
pub fn of_graph(rollout: &PolicyRolloutStatus) -> String {
    let (name, progress) = (named(&rollout.version), progress(rollout));
    match rollout.phase {
        Phase::Ending => format!("the candidate with policy {name} is let go of"),
        Phase::Answering { .. } if !rollout.candidates.is_empty() => {
            printable(&format!("policy {name} {}; with it, {}", progress.does(), progress.candidate))
        }
        _ => format!("policy {name} {}", progress.does()),
    }
}

/// The same in a few words, beside the state of the graph; nothing once it is decided.
pub fn hint_of_graph(rollout: &PolicyRolloutStatus) -> Option<String> {
    progress(rollout).hint(&format!("policy {}", named(&rollout.version)))
}

/// What became of a version that was given up.
pub fn given_up(version: &wire::GivenUp) -> String {
    printable(&format!("version {} was given up: {}", version.generation, version.why))
}

/// What is in force beside a version that takes over, or after it was given up.
pub fn in_force(name: &str, version: Option<Generation>) -> String {
    match version {
        Some(version) => format!("{name}@{version} is in force"),
        None => format!("no version of {name} is in force"),
    }
}

/// By which steps a version would take over.
pub fn steps(steps: &[Step]) -> String {
    let steps: Vec<String> = steps.iter().map(Step::to_string).collect();
    if steps.is_empty() { "at once".to_owned() } else { format!("by steps: {}", steps.join(", then ")) }
}

/// A page about it: what is in force beside it, each of its steps, and how the graphs are that are asked with it.
pub fn page(rollout: &PolicyRolloutStatus, now_ms: u64) -> String {
    let progress = progress(rollout);
    let mut lines = vec![format!("{}  {}", named(&rollout.version), does(rollout))];
    lines.extend(progress.since(now_ms));
    let what = if matches!(rollout.phase, Phase::Answering { .. }) { "the rest" } else { "everything" };
    let stable = match rollout.stable {
        Some(stable) => format!("{}@{stable}, in force for {what}", rollout.version.name),
        None => format!("none: {what} is answered without this policy"),
    };
    lines.push(line("stable", &stable));
    for candidate in &rollout.candidates {
        lines.push(line("candidate", &format!("{}: {}", short(&candidate.graph), candidate.how)));
    }
    if let Some(more) = rollout.count.checked_sub(rollout.candidates.len()).filter(|more| *more > 0) {
        lines.push(line("candidate", &format!("and {more} more")));
    }
    lines.extend(progress.lines());
    format!("{}\n", lines.join("\n"))
}

/// What to do next, as commands.
pub fn next(rollout: &PolicyRolloutStatus) -> String {
    let name = rollout.version.name.as_str();
    progress(rollout).next("ctl policy rollout", name, &look(name))
}

/// The command that shows how far it is.
pub fn look(name: &str) -> String {
    format!("ctl policy rollout status {name}")
}

/// The candidate of a graph that is not as it should be stands for all of them.
fn progress(rollout: &PolicyRolloutStatus) -> Progress<'_> {
    Progress {
        phase: rollout.phase,
        step: rollout.step,
        steps: &rollout.steps,
        paused: rollout.paused.as_deref(),
        candidate: rollout.candidates.first().map_or("", |candidate| &candidate.how),
    }
}

fn does(rollout: &PolicyRolloutStatus) -> String {
    let on = graphs(rollout.count);
    match (rollout.phase, &rollout.paused, rollout.candidates.first()) {
        (Phase::Starting, None, Some(first)) => {
            printable(&format!("comes up on {on}, {}: {}", short(&first.graph), coming(&first.how)))
        }
        (Phase::Starting, None, None) => "comes up on no graph yet".to_owned(),
        (Phase::Answering { .. }, None, _) => format!("{}, on {on}", progress(rollout).does()),
        _ => progress(rollout).does(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::testing::policy_rollout;

    #[test]
    fn every_phase_has_a_sentence() {
        let starting = policy_rollout(Phase::Starting, "it comes up: compiling");
        assert_eq!(sentence(&starting), "pii version 12 comes up on 2 graphs, crm: compiling");
        assert_eq!(hint(&starting).unwrap(), "version 12 comes up");
        assert_eq!(of_graph(&starting), "policy pii@12 comes up: compiling");
        let linking = PolicyRolloutStatus { candidates: Vec::new(), count: 0, ..starting.clone() };
        assert_eq!(sentence(&linking), "pii version 12 comes up on no graph yet");
        let stuck = PolicyRolloutStatus { paused: Some("a\ntrap".to_owned()), ..starting };
        assert_eq!(sentence(&stuck), "pii version 12 is paused before it answers: a trap");

        let answering = policy_rollout(Phase::Answering { since_ms: 0 }, "it answers where it was placed");
        assert_eq!(sentence(&answering), "pii version 12 answers 5% for 5m: step 1 of 2, on 2 graphs");
        assert_eq!(hint(&answering).unwrap(), "version 12 at 5%");
        assert_eq!(
            of_graph(&answering),
            "policy pii@12 answers 5% for 5m: step 1 of 2; with it, it answers where it was placed"
        );
        assert_eq!(hint_of_graph(&answering).unwrap(), "policy pii@12 at 5%");
        let paused = PolicyRolloutStatus { paused: Some("an operator".to_owned()), ..answering };
        assert_eq!(sentence(&paused), "pii version 12 is paused at 5%, step 1 of 2: an operator");
        assert_eq!(next(&paused), "ctl policy rollout resume pii, or ctl policy rollout revert pii");

        // Of one graph, once it is decided for all of them.
        let promoting = policy_rollout(Phase::Promoting, "it answers where it was placed");
        assert_eq!(of_graph(&promoting), "policy pii@12 is promoted");
        let ending = policy_rollout(Phase::Ending, "it answers where it was placed");
        assert_eq!(of_graph(&ending), "the candidate with policy pii@12 is let go of");
        assert_eq!((hint_of_graph(&promoting), hint_of_graph(&ending)), (None, None));
    }

    #[test]
    fn a_page_shows_the_steps_and_the_graphs() {
        let mut rollout =
            policy_rollout(Phase::Answering { since_ms: 1_000 }, "it answers where it was placed");
        insta::assert_snapshot!(page(&rollout, 13_000), @"
        pii@12  answers 5% for 5m: step 1 of 2, on 2 graphs
          since      12s ago
          stable     pii@9, in force for the rest
          candidate  crm: it answers where it was placed
          candidate  and 1 more
          now        step 1: 5% for 5m
          to come    step 2: 50% until it is promoted
        ");
        assert_eq!(next(&rollout), "ctl policy rollout next pii, or ctl policy rollout revert pii");
        (rollout.phase, rollout.stable, rollout.count) = (Phase::Starting, None, 1);
        insta::assert_snapshot!(page(&rollout, 13_000), @"
        pii@12  comes up on 1 graph, crm: it answers where it was placed
          stable     none: everything is answered without this policy
          candidate  crm: it answers where it was placed
          to come    step 1: 5% for 5m
          to come    step 2: 50% until it is promoted
        ");
        assert_eq!(next(&rollout), "ctl policy rollout status pii, or ctl policy rollout revert pii");
    }

    #[test]
    fn steps_to_come_are_one_line() {
        let rollout = policy_rollout(Phase::Starting, "");
        assert_eq!(steps(&rollout.steps), "by steps: 5% for 5m, then 50% until it is promoted");
        assert_eq!(steps(&[]), "at once");
    }
}
