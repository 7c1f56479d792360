//! What has to be done so that what runs becomes what should run: a pure function from desired and observed to
//! actions. Knows no clock, no task and no wasm; a reconciled state needs no action.

use std::collections::BTreeMap;

use model::assignment::Assignment;
use model::id::{Generation, GraphKey, Uid};

/// One generation of one graph.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The graph's identity: another graph of the same name has another.
    pub uid: Uid,
    /// Its generation.
    pub generation: Generation,
}

/// What runs of one graph, and what is being done about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// The version that answers requests.
    pub serving: Option<Version>,
    /// The attempt at another one.
    pub attempt: Option<Attempt>,
}

/// An attempt at making a version answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The version.
    pub version: Version,
    /// How it stands.
    pub state: AttemptState,
}

/// How an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptState {
    /// It is under way.
    Preparing,
    /// It went wrong; its time to be tried again has not come.
    Waiting,
    /// It went wrong; its time to be tried again has come.
    Due,
    /// It went wrong for good.
    Failed,
}

/// One thing to do. Actions are done in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Give up and forget the attempt.
    Abandon(GraphKey),
    /// Give the serving version no new requests, and drain it.
    Stop(GraphKey),
    /// Start an attempt.
    Prepare(GraphKey, Version),
}

/// What should run, as far as this module has to know.
pub fn desired(assignment: &Assignment) -> BTreeMap<GraphKey, Version> {
    let version = |uid: &Uid, generation| Version { uid: uid.clone(), generation };
    assignment.graphs.iter().map(|graph| (graph.key.clone(), version(&graph.uid, graph.generation))).collect()
}

/// What has to be done; at most `room` attempts are under way at one time.
pub fn actions(
    desired: &BTreeMap<GraphKey, Version>,
    observed: &BTreeMap<GraphKey, Observed>,
    room: usize,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut under_way = 0;
    for (key, observed) in observed {
        let wanted = desired.get(key);
        if let Some(attempt) = &observed.attempt {
            let served = observed.serving.as_ref() == wanted;
            if wanted != Some(&attempt.version) || served {
                actions.push(Action::Abandon(key.clone()));
            } else if attempt.state == AttemptState::Preparing {
                under_way += 1;
            }
        }
        // An older generation serves until the newer one does; another graph of the same name does not.
        if let Some(serving) = &observed.serving
            && wanted.is_none_or(|wanted| wanted.uid != serving.uid)
        {
            actions.push(Action::Stop(key.clone()));
        }
    }

    let (mut fresh, mut again) = (Vec::new(), Vec::new());
    for (key, wanted) in desired {
        let observed = observed.get(key);
        if observed.is_some_and(|observed| observed.serving.as_ref() == Some(wanted)) {
            continue;
        }
        let attempt = observed.and_then(|observed| observed.attempt.as_ref());
        match attempt.filter(|attempt| attempt.version == *wanted).map(|attempt| attempt.state) {
            None => fresh.push(Action::Prepare(key.clone(), wanted.clone())),
            Some(AttemptState::Due) => again.push(Action::Prepare(key.clone(), wanted.clone())),
            Some(AttemptState::Preparing | AttemptState::Waiting | AttemptState::Failed) => {}
        }
    }
    // What was never tried goes first: what went wrong before may keep going wrong.
    actions.extend(fresh.into_iter().chain(again).take(room.saturating_sub(under_way)));
    actions
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use proptest::prelude::{
        Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
    };
    use proptest::{collection, option};

    use super::*;

    fn key(number: u8) -> GraphKey {
        format!("g{number}").parse().unwrap()
    }

    fn version(uid: u8, generation: u64) -> Version {
        Version { uid: Uid::new(format!("u{uid}")).unwrap(), generation: Generation(generation) }
    }

    /// Does what the loop does, with every attempt succeeding when `finish` is set.
    fn act(observed: &mut BTreeMap<GraphKey, Observed>, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Abandon(key) => observed.get_mut(key).unwrap().attempt = None,
                Action::Stop(key) => observed.get_mut(key).unwrap().serving = None,
                Action::Prepare(key, version) => {
                    let attempt = Attempt { version: version.clone(), state: AttemptState::Preparing };
                    observed.entry(key.clone()).or_default().attempt = Some(attempt);
                }
            }
        }
        observed.retain(|_, observed| observed.serving.is_some() || observed.attempt.is_some());
    }

    fn finish(observed: &mut BTreeMap<GraphKey, Observed>) {
        for observed in observed.values_mut() {
            let Some(attempt) = &mut observed.attempt else { continue };
            match attempt.state {
                AttemptState::Preparing => {
                    observed.serving = Some(attempt.version.clone());
                    observed.attempt = None;
                }
                AttemptState::Waiting => attempt.state = AttemptState::Due,
                AttemptState::Due | AttemptState::Failed => {}
            }
        }
    }

    fn preparing(observed: &BTreeMap<GraphKey, Observed>) -> usize {
        let under_way = |observed: &&Observed| {
            observed.attempt.as_ref().is_some_and(|attempt| attempt.state == AttemptState::Preparing)
        };
        observed.values().filter(under_way).count()
    }

    fn versions() -> impl Strategy<Value = Version> {
        (0..2_u8, 1..4_u64).prop_map(|(uid, generation)| version(uid, generation))
    }

    fn observations() -> impl Strategy<Value = BTreeMap<GraphKey, Observed>> {
        let state = prop_oneof![
            Just(AttemptState::Preparing),
            Just(AttemptState::Waiting),
            Just(AttemptState::Due),
            Just(AttemptState::Failed),
        ];
        let attempt = (versions(), state).prop_map(|(version, state)| Attempt { version, state });
        let observed = (option::of(versions()), option::of(attempt))
            .prop_map(|(serving, attempt)| Observed { serving, attempt });
        collection::btree_map((0..6_u8).prop_map(key), observed, 0..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_serves_is_what_is_desired_unless_it_failed_and_then_nothing_is_to_do(
            desired in collection::btree_map((0..6_u8).prop_map(key), versions(), 0..6),
            mut observed in observations(),
            room in 1..4_usize,
        ) {
            // Failures of an attempt at what is desired stay; everything else must come right.
            let failed = |key: &GraphKey, observed: &BTreeMap<GraphKey, Observed>| {
                observed.get(key).and_then(|observed| observed.attempt.as_ref()).is_some_and(|attempt| {
                    attempt.state == AttemptState::Failed && desired.get(key) == Some(&attempt.version)
                })
            };
            let already = preparing(&observed);
            for _ in 0..20 {
                let next = actions(&desired, &observed, room);
                act(&mut observed, &next);
                prop_assert!(preparing(&observed) <= room.max(already), "more attempts than there is room for");
                prop_assert_eq!(actions(&desired, &observed, room), vec![], "done actions are not asked for again");
                finish(&mut observed);
            }
            prop_assert_eq!(actions(&desired, &observed, room), vec![]);
            for (key, wanted) in &desired {
                let serving = observed.get(key).and_then(|observed| observed.serving.as_ref());
                prop_assert!(serving == Some(wanted) || failed(key, &observed), "{key}: {serving:?}");
                prop_assert!(serving.is_none_or(|serving| serving.uid == wanted.uid));
            }
            prop_assert!(observed.keys().all(|key| desired.contains_key(key)));
        }

        #[test]
        fn a_reconciled_state_needs_nothing(
            desired in collection::btree_map((0..6_u8).prop_map(key), versions(), 0..6),
            room in any::<u8>(),
        ) {
            let observed = desired
                .iter()
                .map(|(key, version)| (key.clone(), Observed { serving: Some(version.clone()), attempt: None }))
                .collect();
            prop_assert_eq!(actions(&desired, &observed, room.into()), vec![]);
        }
    }

    #[test]
    fn an_older_generation_serves_on_and_another_graph_of_the_same_name_does_not() {
        let serving = |version| Observed { serving: Some(version), attempt: None };
        let observed = BTreeMap::from([(key(1), serving(version(1, 1))), (key(2), serving(version(1, 1)))]);
        let desired = BTreeMap::from([(key(1), version(1, 2)), (key(2), version(2, 2))]);
        assert_eq!(
            actions(&desired, &observed, 4),
            [
                Action::Stop(key(2)),
                Action::Prepare(key(1), version(1, 2)),
                Action::Prepare(key(2), version(2, 2))
            ]
        );
    }

    #[test]
    fn a_newer_generation_supersedes_an_attempt_under_way_and_one_that_failed() {
        let attempt =
            |state| Observed { serving: None, attempt: Some(Attempt { version: version(1, 1), state }) };
        for state in [AttemptState::Preparing, AttemptState::Failed] {
            let observed = BTreeMap::from([(key(1), attempt(state))]);
            let desired = BTreeMap::from([(key(1), version(1, 2))]);
            let expected = [Action::Abandon(key(1)), Action::Prepare(key(1), version(1, 2))];
            assert_eq!(actions(&desired, &observed, 1), expected, "{state:?}");
        }
    }
}
