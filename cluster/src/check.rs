//! The invariants of the state, as a list of those that are broken.

use std::collections::BTreeSet;

use model::graph::Artifact;
use model::id::GraphKey;
use model::name::{ComponentName, NodeName};
use model::node::TAINTS_MAX;
use model::policy::Action;

use crate::state::{
    ARTIFACTS_MAX, EVENTS_MAX, GRAPHS_MAX, GraphRecord, HISTORY_MAX, MEMBERS_MAX, NODES_MAX, POLICIES_MAX,
    PolicyVersionRecord, REQUESTS_MAX, REVOKED_MAX, State, TOKENS_MAX, VOTERS_MAX,
};

/// Every broken invariant, as sentences; empty for a sound state.
pub fn check(state: &State) -> Vec<String> {
    let mut broken = Broken(Vec::new());
    for (key, record) in &state.graphs {
        graph(state, key, record, &mut broken);
    }
    policies(state, &mut broken);
    for (name, node) in &state.nodes {
        broken.unless(node.accepted <= node.assigned_at && node.assigned_at.0 <= state.revision.0, || {
            format!("node {name} has accepted {} of {} of {}", node.accepted, node.assigned_at, state.revision)
        });
        broken.unless(node.taints.len() <= TAINTS_MAX, || {
            format!("node {name} has {} taints", node.taints.len())
        });
        broken.unless(node.description.name == *name, || format!("node {name} is {}", node.description.name));
    }
    for (name, record) in &state.enrolled {
        broken.unless(!state.revoked.contains_key(&record.uid), || {
            format!("node {name} is revoked and has joined")
        });
        broken.unless(state.nodes.get(name).is_none_or(|node| node.description.uid == record.uid), || {
            format!("node {name} is known with another identity than it has joined with")
        });
    }
    for member in state.members.keys() {
        broken.unless(member.0 <= state.last_member, || {
            format!("member {member} has an id beyond {}, the last that was given", state.last_member)
        });
    }
    for (member, record) in &state.members {
        broken.unless(record.level >= state.level(), || {
            format!("member {member} knows level {} of {}", record.level, state.level())
        });
    }
    broken.unless(state.members.is_empty() || state.members.values().any(|record| record.is_voter), || {
        "no member has a vote".to_owned()
    });
    bounds(state, &mut broken);
    broken.0
}

struct Broken(Vec<String>);

impl Broken {
    fn unless(&mut self, holds: bool, sentence: impl FnOnce() -> String) {
        if !holds {
            self.0.push(sentence());
        }
    }
}

fn graph(state: &State, key: &GraphKey, record: &GraphRecord, broken: &mut Broken) {
    let numbers: Vec<u64> = record.revisions.iter().map(|r| r.number.0).collect();
    broken.unless(!numbers.is_empty(), || format!("{key} has no revision"));
    broken.unless(numbers.len() <= HISTORY_MAX, || format!("{key} keeps {} revisions", numbers.len()));
    // While another one takes over by steps, the one that runs may be older than those that are kept.
    let may_be_apart = usize::from(record.rollout.is_some());
    let are_consecutive = numbers.iter().skip(may_be_apart).is_sorted_by(|a, b| **b == **a + 1)
        && numbers.is_sorted_by(|a, b| a < b);
    broken.unless(are_consecutive, || format!("the revisions of {key} are not consecutive: {numbers:?}"));
    broken.unless(record.running_revision().is_some(), || {
        format!("{key} runs revision {}, which is not kept", record.running())
    });
    rollout(state, key, record, broken);
    broken.unless(record.generation.0 > 0 && record.generation.0 <= state.revision.0, || {
        format!("generation {} of {key} is not a state that was", record.generation)
    });
    for node in &record.nodes() {
        broken
            .unless(state.nodes.contains_key(node), || format!("{key} is on node {node}, which is not known"));
    }
    let leaving = record.leaving.iter().map(|leaving| &leaving.placement);
    for placement in record.placement.iter().chain(leaving) {
        let is_sound = |(member, nodes): (&ComponentName, &BTreeSet<NodeName>)| {
            !nodes.is_empty() && !nodes.contains(placement.first_node_of(member))
        };
        broken.unless(placement.more.iter().all(is_sound), || {
            format!("{key} is twice on one node, or on no other: {:?}", placement.more)
        });
    }
    broken.unless(record.leaving.is_none() || record.placement.is_some(), || {
        format!("{key} is moved and has nowhere to go")
    });
    for artifact in record.leaving.iter().flat_map(|leaving| leaving.linked.artifacts()) {
        stored(state, &artifact, || key.to_string(), broken);
    }
    for route in &record.linked.ingress {
        if let Some(by) = state.route_owner(route, key) {
            broken.unless(false, || format!("{} leads to {key} and to {by}", route.origin()));
        }
    }
    for artifact in record.linked.artifacts() {
        stored(state, &artifact, || key.to_string(), broken);
    }
    for node in record.data.values() {
        broken.unless(state.nodes.contains_key(node), || {
            format!("{key} has data on node {node}, which is not known")
        });
    }
    for (node, seen) in &record.observed {
        broken
            .unless(seen.uid == record.uid && seen.desired <= record.generation && record.is_on(node), || {
                format!("what is observed of {key} is of another graph")
            });
    }
}

/// A candidate is there as long as its graph says so, and no longer.
fn rollout(state: &State, key: &GraphKey, record: &GraphRecord, broken: &mut Broken) {
    if key.is_candidate {
        let of = state.graphs.get(&key.base()).and_then(|graph| graph.rollout.as_ref());
        broken
            .unless(of.is_some() && record.rollout.is_none(), || format!("{key} is the candidate of no graph"));
        return;
    }
    let Some(rollout) = &record.rollout else { return };
    let candidate = state.graphs.get(&key.candidate());
    let is_of_it = candidate.is_some_and(|candidate| candidate.number() == record.number());
    broken.unless(candidate.is_some() && (is_of_it || !rollout.is_open()), || {
        format!("{key} has no candidate of revision {}", record.number())
    });
    if let Some(version) = record.open_policy() {
        let policy = state.policies.get(&version.name);
        let is_it = |of: &PolicyVersionRecord| of.generation == version.generation;
        broken.unless(policy.and_then(|policy| policy.taking_over()).is_some_and(is_it), || {
            format!(
                "{key} is asked with version {} of {}, which does not take over",
                version.generation, version.name
            )
        });
    }
    broken.unless(rollout.step < rollout.spec.steps.len(), || {
        format!("{key} is at step {} of {}", rollout.step, rollout.spec.steps.len())
    });
    broken.unless(rollout.is_open() || rollout.running == record.number(), || {
        format!("{key} runs revision {} of {}, which nothing replaces", rollout.running, record.number())
    });
}

fn policies(state: &State, broken: &mut Broken) {
    let taking_over = state.policies.values().filter(|policy| policy.rollout.is_some()).count();
    broken.unless(taking_over <= 1, || format!("{taking_over} policies take over by steps"));
    for (name, policy) in &state.policies {
        broken.unless(!policy.versions.is_empty(), || format!("policy {name} has no version"));
        broken.unless(policy.taking_over().is_none_or(|version| version.given_up.is_none()), || {
            format!("a version of policy {name} takes over that was given up")
        });
        broken.unless(policy.versions.len() <= HISTORY_MAX, || {
            format!("policy {name} keeps {} versions", policy.versions.len())
        });
        let generations: Vec<u64> = policy.versions.iter().map(|version| version.generation.0).collect();
        broken.unless(generations.is_sorted_by(|a, b| a < b), || {
            format!("the versions of policy {name} are not in order: {generations:?}")
        });
        broken.unless(generations.last().is_none_or(|last| *last <= state.policies_at.0), || {
            format!("policy {name} has changed later than the policies")
        });
        for version in &policy.versions {
            broken.unless(version.spec.name == *name, || format!("policy {name} is {}", version.spec.name));
            if let Action::Interpose(components) = &version.spec.action {
                for component in components {
                    stored(state, &component.artifact, || format!("policy {name}"), broken);
                }
            }
        }
    }
}

fn stored(state: &State, artifact: &Artifact, what: impl FnOnce() -> String, broken: &mut Broken) {
    broken.unless(state.artifacts.contains_key(&artifact.digest), || {
        format!("{} needs artifact {}, which is not stored", what(), artifact.digest)
    });
}

fn bounds(state: &State, broken: &mut Broken) {
    let counts = [
        ("graphs", state.graph_count(), GRAPHS_MAX),
        ("policies", state.policies.len(), POLICIES_MAX),
        ("nodes", state.nodes.len(), NODES_MAX),
        ("nodes that have joined", state.enrolled.len(), NODES_MAX),
        ("join tokens", state.tokens.len(), TOKENS_MAX),
        ("members", state.members.len(), MEMBERS_MAX),
        ("votes", state.members.values().filter(|record| record.is_voter).count(), VOTERS_MAX),
        ("join tokens of members", state.member_tokens.len(), TOKENS_MAX),
        ("revoked identities", state.revoked.len(), REVOKED_MAX),
        ("artifacts", state.artifacts.len(), ARTIFACTS_MAX),
        ("events", state.events.len(), EVENTS_MAX),
        ("requests", state.requests.len(), REQUESTS_MAX),
    ];
    for (what, count, most) in counts {
        broken.unless(count <= most, || format!("{count} {what}"));
    }
    broken.unless(state.requests.len() == state.request_ages.len(), || {
        format!("{} requests, {} ages", state.requests.len(), state.request_ages.len())
    });
    broken.unless(state.request_ages.iter().all(|(_, id)| state.requests.contains_key(id)), || {
        "a request has an age and no outcome".to_owned()
    });
    broken.unless(state.graphs_at <= state.revision && state.policies_at <= state.revision, || {
        "a change is later than the state".to_owned()
    });
    let of: Vec<u64> = state.events.iter().map(|event| event.revision.0).collect();
    broken.unless(of.is_sorted() && of.last().is_none_or(|last| *last <= state.revision.0), || {
        "the events are not in order".to_owned()
    });
}
