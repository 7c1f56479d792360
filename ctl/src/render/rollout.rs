//! Revisions that take over by steps, as people read them: how far they are, and what comes next.

use model::rollout::{Phase, Reverted, RolloutStatus};
use model::status::GraphStatus;

use super::status;
use super::table::printable;
use super::time;
use crate::reference::short;

/// How far it is, on one line: `revision 4 answers 10% for 1m: step 1 of 3`.
pub fn sentence(rollout: &RolloutStatus) -> String {
    match rollout.phase {
        Phase::Ending => format!("the candidate of revision {} is let go of", rollout.revision),
        _ => format!("revision {} {}", rollout.revision, does(rollout)),
    }
}

/// What became of one that was given up.
pub fn given_up(reverted: &Reverted) -> String {
    printable(&format!("revision {} was given up: {}", reverted.revision, reverted.why))
}

/// All there is to say of the steps of a graph's revisions; nothing where none takes over by steps or was given up.
pub fn sentences(status: &GraphStatus) -> Vec<String> {
    let rollout = status.rollout.as_ref().map(sentence);
    rollout.into_iter().chain(status.reverted.as_ref().map(given_up)).collect()
}

/// The same in a few words, beside the state of the graph; nothing once the graph is what the revision is.
pub fn hint(rollout: &RolloutStatus) -> Option<String> {
    let revision = rollout.revision;
    match (rollout.phase, &rollout.paused) {
        (Phase::Starting, None) => Some(format!("revision {revision} comes up")),
        (Phase::Starting, Some(_)) => Some(format!("revision {revision} paused")),
        (Phase::Answering { .. }, None) => Some(format!("revision {revision} at {}", share(rollout))),
        (Phase::Answering { .. }, Some(_)) => Some(format!("revision {revision} paused at {}", share(rollout))),
        (Phase::Promoting | Phase::Ending, _) => None,
    }
}

/// A page about it: each of its steps, and how both revisions are.
pub fn page(status: &GraphStatus, rollout: &RolloutStatus, now_ms: u64) -> String {
    let name = short(&status.key);
    let mut lines = vec![format!("{name}@{}  {}", rollout.revision, does(rollout))];
    let mut line = |what: &str, value: String| lines.push(format!("  {what:9}  {}", printable(&value)));
    if let Phase::Answering { since_ms } = rollout.phase {
        line("since", format!("{} ago", time::age(since_ms, now_ms)));
    }
    let state = status::sentence(&status.state);
    if status.revision == rollout.revision {
        line("graph", state);
    } else {
        let what = if matches!(rollout.phase, Phase::Answering { .. }) { "the rest" } else { "everything" };
        line("stable", format!("{name}@{}, which answers {what}: {state}", status.revision));
    }
    if rollout.phase != Phase::Ending {
        line("candidate", rollout.candidate.clone());
    }
    for (nth, step) in rollout.steps.iter().enumerate() {
        line(mark(rollout, nth), format!("step {}: {step}", nth + 1));
    }
    format!("{}\n", lines.join("\n"))
}

/// What to do next, as commands.
pub fn next(name: &str, rollout: &RolloutStatus) -> String {
    let ask = match rollout.phase {
        Phase::Promoting | Phase::Ending => return format!("ctl status {name} --watch"),
        _ if rollout.paused.is_some() => "resume",
        Phase::Starting => return format!("ctl status {name} --watch, or ctl rollout revert {name}"),
        // Promoted, it would leave out the steps behind this one.
        Phase::Answering { .. } if waits(rollout) && rollout.step + 1 < rollout.steps.len() => {
            return format!(
                "ctl rollout promote {name}, ctl rollout next {name} for its next step, or ctl rollout revert {name}"
            );
        }
        Phase::Answering { .. } if waits(rollout) => "promote",
        Phase::Answering { .. } => "next",
    };
    format!("ctl rollout {ask} {name}, or ctl rollout revert {name}")
}

fn does(rollout: &RolloutStatus) -> String {
    let at = format!("step {} of {}", rollout.step + 1, rollout.steps.len());
    let text = match (rollout.phase, &rollout.paused) {
        (Phase::Starting, Some(why)) => format!("is paused before it answers: {why}"),
        (Phase::Answering { .. }, Some(why)) => format!("is paused at {}, {at}: {why}", share(rollout)),
        (Phase::Starting, None) => {
            let how = rollout.candidate.strip_prefix("it comes up: ").unwrap_or(&rollout.candidate);
            format!("comes up: {how}")
        }
        (Phase::Answering { .. }, None) => match rollout.steps.get(rollout.step) {
            Some(step) => format!("answers {step}: {at}"),
            None => "answers".to_owned(),
        },
        (Phase::Promoting, _) => "is promoted".to_owned(),
        (Phase::Ending, _) => "its candidate is let go of".to_owned(),
    };
    printable(&text)
}

fn share(rollout: &RolloutStatus) -> String {
    rollout.steps.get(rollout.step).map(|step| step.share.to_string()).unwrap_or_default()
}

/// Whether it stays at its step until somebody promotes it.
fn waits(rollout: &RolloutStatus) -> bool {
    rollout.steps.get(rollout.step).is_some_and(|step| step.hold.is_none())
}

/// Where the `nth` step is, from 0.
fn mark(rollout: &RolloutStatus, nth: usize) -> &'static str {
    match rollout.phase {
        Phase::Starting => "to come",
        Phase::Answering { .. } if nth < rollout.step => "done",
        Phase::Answering { .. } if nth == rollout.step => "now",
        Phase::Answering { .. } => "to come",
        Phase::Promoting | Phase::Ending if nth <= rollout.step => "done",
        Phase::Promoting | Phase::Ending => "left out",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::testing::{rolling, rollout};

    use super::*;

    #[test]
    fn every_phase_has_a_sentence() {
        let starting =
            RolloutStatus { candidate: "it comes up: compiling".to_owned(), ..rollout(Phase::Starting) };
        assert_eq!(sentence(&starting), "revision 4 comes up: compiling");
        let stuck = RolloutStatus { paused: Some("it does\nnot".to_owned()), ..starting };
        assert_eq!(sentence(&stuck), "revision 4 is paused before it answers: it does not");
        assert_eq!(hint(&stuck).unwrap(), "revision 4 paused");

        let answering = rollout(Phase::Answering { since_ms: 1_000 });
        assert_eq!(sentence(&answering), "revision 4 answers 10% for 1m: step 2 of 3");
        assert_eq!(hint(&answering).unwrap(), "revision 4 at 10%");
        let waiting = RolloutStatus { step: 0, ..answering.clone() };
        assert_eq!(sentence(&waiting), "revision 4 answers 0% until it is promoted: step 1 of 3");
        let paused = RolloutStatus { paused: Some("an operator".to_owned()), ..answering };
        assert_eq!(sentence(&paused), "revision 4 is paused at 10%, step 2 of 3: an operator");
        assert_eq!(hint(&paused).unwrap(), "revision 4 paused at 10%");

        let promoting = rollout(Phase::Promoting);
        assert_eq!((sentence(&promoting).as_str(), hint(&promoting)), ("revision 4 is promoted", None));
        let ending = rollout(Phase::Ending);
        assert_eq!(sentence(&ending), "the candidate of revision 4 is let go of");
        let reverted = Reverted { revision: ending.revision, why: "3 of its 20 requests failed".to_owned() };
        let mut status = rolling(ending);
        status.reverted = Some(reverted);
        assert_eq!(sentences(&status)[1], "revision 4 was given up: 3 of its 20 requests failed");
    }

    #[test]
    fn a_page_shows_where_among_its_steps_a_revision_is() {
        let shown = |rollout: RolloutStatus| page(&rolling(rollout.clone()), &rollout, 13_000);
        insta::assert_snapshot!(shown(rollout(Phase::Answering { since_ms: 1_000 })), @"
        crm@4  answers 10% for 1m: step 2 of 3
          since      12s ago
          stable     crm@3, which answers the rest: serving
          candidate  it answers where it was placed
          done       step 1: 0% until it is promoted
          now        step 2: 10% for 1m
          to come    step 3: 50% for 5m
        ");
        let candidate = "it comes up: compiling".to_owned();
        insta::assert_snapshot!(shown(RolloutStatus { step: 0, candidate, ..rollout(Phase::Starting) }), @"
        crm@4  comes up: compiling
          stable     crm@3, which answers everything: serving
          candidate  it comes up: compiling
          to come    step 1: 0% until it is promoted
          to come    step 2: 10% for 1m
          to come    step 3: 50% for 5m
        ");
        let mut promoted = rolling(rollout(Phase::Promoting));
        promoted.revision = model::id::RevisionNumber(4);
        insta::assert_snapshot!(page(&promoted, &rollout(Phase::Promoting), 13_000), @"
        crm@4  is promoted
          graph      serving
          candidate  it answers where it was placed
          done       step 1: 0% until it is promoted
          done       step 2: 10% for 1m
          left out   step 3: 50% for 5m
        ");
    }

    #[test]
    fn what_comes_next_is_what_it_waits_for() {
        let answering = rollout(Phase::Answering { since_ms: 0 });
        assert_eq!(next("crm", &answering), "ctl rollout next crm, or ctl rollout revert crm");
        let waiting = RolloutStatus { step: 0, ..answering.clone() };
        assert_eq!(
            next("crm", &waiting),
            "ctl rollout promote crm, ctl rollout next crm for its next step, or ctl rollout revert crm"
        );
        let last = RolloutStatus { steps: waiting.steps[..1].to_vec(), ..waiting };
        assert_eq!(next("crm", &last), "ctl rollout promote crm, or ctl rollout revert crm");
        let paused = RolloutStatus { paused: Some("an operator".to_owned()), ..answering };
        assert_eq!(next("crm", &paused), "ctl rollout resume crm, or ctl rollout revert crm");
        assert_eq!(next("crm", &rollout(Phase::Ending)), "ctl status crm --watch");
    }
}
