//! Revisions that take over by steps, as people read them: how far they are, and what comes next. What is true of all that
//! takes over by steps is here as well.

use model::rollout::{Phase, Reverted, RolloutStatus, Step, StepTraffic};
use model::status::GraphStatus;
use model::traffic::{Answered, LATENCY_PERCENT};

use super::table::printable;
use super::{policy_rollout, status, time};
use crate::reference::short;

/// How far it is, on one line: `revision 4 answers 10% for 1m: step 1 of 3`.
pub fn sentence(rollout: &RolloutStatus) -> String {
    match rollout.phase {
        Phase::Ending => format!("the candidate of revision {} is let go of", rollout.revision),
        _ => format!("revision {} {}", rollout.revision, Progress::from(rollout).does()),
    }
}

/// What became of one that was given up.
pub fn given_up(reverted: &Reverted) -> String {
    printable(&format!("revision {} was given up: {}", reverted.revision, reverted.why))
}

/// All there is to say of what takes over by steps on a graph, a revision of it or a version of a policy, and of what was
/// given up; nothing where there is neither.
pub fn sentences(status: &GraphStatus) -> Vec<String> {
    let rollout = status.rollout.as_ref().map(sentence);
    let policy = status.policy_rollout.as_ref().map(policy_rollout::of_graph);
    rollout.into_iter().chain(policy).chain(status.reverted.as_ref().map(given_up)).collect()
}

/// The same in a few words, beside the state of the graph; nothing once the graph is what the revision is.
pub fn hint(rollout: &RolloutStatus) -> Option<String> {
    Progress::from(rollout).hint(&format!("revision {}", rollout.revision))
}

/// The command that shows what takes over by steps on a graph; nothing where nothing does.
pub fn look(status: &GraphStatus) -> Option<String> {
    match (&status.rollout, &status.policy_rollout) {
        (Some(_), _) => Some(format!("ctl rollout status {}", short(&status.key))),
        (None, Some(policy)) => Some(format!("ctl policy rollout status {}", policy.version.name)),
        (None, None) => None,
    }
}

/// A page about it: each of its steps, and how both revisions are.
pub fn page(status: &GraphStatus, rollout: &RolloutStatus, now_ms: u64) -> String {
    let (name, progress) = (short(&status.key), Progress::from(rollout));
    let mut lines = vec![format!("{name}@{}  {}", rollout.revision, progress.does())];
    lines.extend(progress.since(now_ms));
    let state = status::sentence(&status.state);
    if status.revision == rollout.revision {
        lines.push(line("graph", &state));
    } else {
        let what = if matches!(rollout.phase, Phase::Answering { .. }) { "the rest" } else { "everything" };
        let stable = format!("{name}@{}, which answers {what}: {state}", status.revision);
        lines.push(line("stable", &stable));
    }
    if rollout.phase != Phase::Ending {
        lines.push(line("candidate", &rollout.candidate));
    }
    lines.extend(rollout.traffic.iter().flat_map(|traffic| answered(rollout, traffic, now_ms)));
    lines.extend(progress.lines());
    format!("{}\n", lines.join("\n"))
}

/// How the requests of its step went, as lines of a page.
fn answered(rollout: &RolloutStatus, traffic: &StepTraffic, now_ms: u64) -> [String; 2] {
    let age = time::age(traffic.since_ms, now_ms);
    let went = |who: &str, answered: &Answered| {
        let mut text = format!("{who} answered {} in the last {age}", answered.requests);
        if answered.requests > 0 {
            text.push_str(&format!(", {} with an error", percent(answered.failures, answered.requests)));
        }
        if let Some(within_us) = answered.within_us {
            text.push_str(&format!(", {LATENCY_PERCENT} of 100 within {}", milliseconds(within_us)));
        }
        line("requests", &text)
    };
    let (new, stable) = (format!("revision {}", rollout.revision), format!("revision {}", rollout.stable));
    [went(&new, &traffic.candidate), went(&stable, &traffic.stable)]
}

/// How many of them, in words: `none`, `0.3%`, or as a number where that is less than a thousandth.
fn percent(part: u64, whole: u64) -> String {
    let whole = u128::from(whole.max(1));
    let thousandths = (u128::from(part) * 1_000 + whole / 2) / whole;
    match (part, thousandths) {
        (0, _) => "none".to_owned(),
        (_, 0) => format!("{part} of them"),
        _ => format!("{}.{}%", thousandths / 10, thousandths % 10),
    }
}

/// No less than it is: `2.5 ms`, and whole ones from ten on.
fn milliseconds(micros: u64) -> String {
    let tenths = micros.div_ceil(100);
    match tenths {
        0..100 => format!("{}.{} ms", tenths / 10, tenths % 10),
        _ => format!("{} ms", micros.div_ceil(1_000)),
    }
}

/// What to do next, as commands.
pub fn next(name: &str, rollout: &RolloutStatus) -> String {
    Progress::from(rollout).next("ctl rollout", name, &format!("ctl status {name} --watch"))
}

/// One line of a page about something that takes over by steps.
pub(super) fn line(what: &str, value: &str) -> String {
    format!("  {what:9}  {}", printable(value))
}

/// How far something is that takes over by steps, whatever it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress<'a> {
    pub(super) phase: Phase,
    /// The step it is at, from 0.
    pub(super) step: usize,
    pub(super) steps: &'a [Step],
    /// Set where it stays at its step: by whom or why.
    pub(super) paused: Option<&'a str>,
    /// How its candidate is, as a sentence.
    pub(super) candidate: &'a str,
}

impl<'a> From<&'a RolloutStatus> for Progress<'a> {
    fn from(rollout: &'a RolloutStatus) -> Self {
        Self {
            phase: rollout.phase,
            step: rollout.step,
            steps: &rollout.steps,
            paused: rollout.paused.as_deref(),
            candidate: &rollout.candidate,
        }
    }
}

impl Progress<'_> {
    /// What it does, behind its name.
    pub(super) fn does(&self) -> String {
        let at = format!("step {} of {}", self.step + 1, self.steps.len());
        let text = match (self.phase, self.paused) {
            (Phase::Starting, Some(why)) => format!("is paused before it answers: {why}"),
            (Phase::Answering { .. }, Some(why)) => format!("is paused at {}, {at}: {why}", self.share()),
            (Phase::Starting, None) => format!("comes up: {}", coming(self.candidate)),
            (Phase::Answering { .. }, None) => match self.steps.get(self.step) {
                Some(step) => format!("answers {step}: {at}"),
                None => "answers".to_owned(),
            },
            (Phase::Promoting, _) => "is promoted".to_owned(),
            (Phase::Ending, _) => "its candidate is let go of".to_owned(),
        };
        printable(&text)
    }

    /// The same in a few words with its name; nothing once it is decided.
    pub(super) fn hint(&self, name: &str) -> Option<String> {
        match (self.phase, self.paused) {
            (Phase::Starting, None) => Some(format!("{name} comes up")),
            (Phase::Starting, Some(_)) => Some(format!("{name} paused")),
            (Phase::Answering { .. }, None) => Some(format!("{name} at {}", self.share())),
            (Phase::Answering { .. }, Some(_)) => Some(format!("{name} paused at {}", self.share())),
            (Phase::Promoting | Phase::Ending, _) => None,
        }
    }

    /// Since when it is at its step, as a line of a page.
    pub(super) fn since(&self, now_ms: u64) -> Option<String> {
        let Phase::Answering { since_ms } = self.phase else { return None };
        Some(line("since", &format!("{} ago", time::age(since_ms, now_ms))))
    }

    /// Its steps, as lines of a page.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let steps = self.steps.iter().enumerate();
        steps.map(|(nth, step)| line(self.mark(nth), &format!("step {}: {step}", nth + 1)))
    }

    /// What to do next, as commands that begin with `rollout`; or to look.
    pub(super) fn next(&self, rollout: &str, name: &str, look: &str) -> String {
        let ask = match self.phase {
            Phase::Promoting | Phase::Ending => return look.to_owned(),
            _ if self.paused.is_some() => "resume",
            Phase::Starting => return format!("{look}, or {rollout} revert {name}"),
            // Promoted, it would leave out the steps behind this one.
            Phase::Answering { .. } if self.waits() && self.step + 1 < self.steps.len() => {
                return format!(
                    "{rollout} promote {name}, {rollout} next {name} for its next step, or {rollout} revert {name}"
                );
            }
            Phase::Answering { .. } if self.waits() => "promote",
            Phase::Answering { .. } => "next",
        };
        format!("{rollout} {ask} {name}, or {rollout} revert {name}")
    }

    fn share(&self) -> String {
        self.steps.get(self.step).map(|step| step.share.to_string()).unwrap_or_default()
    }

    /// Whether it stays at its step until somebody promotes it.
    fn waits(&self) -> bool {
        self.steps.get(self.step).is_some_and(|step| step.hold.is_none())
    }

    /// Where the `nth` step is, from 0.
    fn mark(&self, nth: usize) -> &'static str {
        match self.phase {
            Phase::Starting => "to come",
            Phase::Answering { .. } if nth < self.step => "done",
            Phase::Answering { .. } if nth == self.step => "now",
            Phase::Answering { .. } => "to come",
            Phase::Promoting | Phase::Ending if nth <= self.step => "done",
            Phase::Promoting | Phase::Ending => "left out",
        }
    }
}

/// How a candidate comes up, without saying that it does.
pub(super) fn coming(candidate: &str) -> &str {
    candidate.strip_prefix("it comes up: ").unwrap_or(candidate)
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
        let stable = Answered { requests: 2_000, failures: 1, within_us: Some(9_051) };
        let candidate = Answered { requests: 220, failures: 5, within_us: Some(12_800) };
        let traffic = StepTraffic { since_ms: 3_000, stable, candidate };
        let answering =
            RolloutStatus { traffic: Some(traffic), ..rollout(Phase::Answering { since_ms: 1_000 }) };
        insta::assert_snapshot!(shown(answering.clone()), @"
        crm@4  answers 10% for 1m: step 2 of 3
          since      12s ago
          stable     crm@3, which answers the rest: serving
          candidate  it answers where it was placed
          requests   revision 4 answered 220 in the last 10s, 2.3% with an error, 95 of 100 within 13 ms
          requests   revision 3 answered 2000 in the last 10s, 0.1% with an error, 95 of 100 within 9.1 ms
          done       step 1: 0% until it is promoted
          now        step 2: 10% for 1m
          to come    step 3: 50% for 5m
        ");
        let stable = Answered { failures: 0, ..stable };
        let traffic = StepTraffic { since_ms: 3_000, candidate: Answered::default(), stable };
        let quiet = shown(RolloutStatus { traffic: Some(traffic), ..answering });
        assert!(quiet.contains("revision 4 answered 0 in the last 10s\n"), "{quiet}");
        assert!(
            quiet.contains("revision 3 answered 2000 in the last 10s, none with an error, 95 of"),
            "{quiet}"
        );
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
