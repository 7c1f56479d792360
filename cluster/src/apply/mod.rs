//! The only writer of the state: one command in, one outcome out.
//!
//! A refused command changes nothing but the clock, so that it can be decided again.

mod enrolment;
mod graph;
mod member;
mod moves;
mod node;
mod policy;
mod recovery;
mod rollout;

pub use recovery::REVISIONS_SKIPPED;

use model::digest::Digest;
use model::event::Event;
use model::id::{Generation, StateRevision};

use crate::command::{Body, Command, RequestTag};
use crate::feature::AGES_REQUESTS;
use crate::outcome::{Outcome, Refusal};
use crate::state::{ARTIFACTS_MAX, EVENTS_MAX, REQUEST_KEPT_MS, REQUESTS_MAX, RequestRecord, State};

/// Artifacts that an event names.
const FORGOTTEN_SHOWN: usize = 8;

impl State {
    /// Applies one command. Total: every command has an outcome, and a refused one has changed nothing.
    pub fn apply(&mut self, command: &Command) -> Outcome {
        self.now_ms = self.now_ms.max(command.now_ms);
        self.forget_old_requests();
        if let Some(known) = command.request.as_ref().and_then(|tag| self.known(tag)) {
            return known;
        }
        let outcome = match self.change(&command.body) {
            Ok(outcome) => outcome,
            Err(refusal) => return Outcome::Refused(refusal),
        };
        if let Some(tag) = &command.request {
            self.remember(tag, &outcome);
        }
        outcome
    }

    fn change(&mut self, body: &Body) -> Result<Outcome, Refusal> {
        // Only these can cut a zone off: to look costs as much as there are nodes.
        let may_cut_off = matches!(
            body,
            Body::Enrol(_)
                | Body::RevokeNode { .. }
                | Body::RegisterNode(_)
                | Body::SetNodeState { .. }
                | Body::LoseNodes { .. }
                | Body::LabelNode(_)
                | Body::RemoveNode(_)
        );
        let cut_off = may_cut_off.then(|| node::zones_cut_off(self));
        let outcome = self.dispatch(body)?;
        if let Some(before) = cut_off {
            // Where an operator took out what is gone, nothing is waited for.
            let came_back = matches!(body, Body::RegisterNode(_) | Body::SetNodeState { .. });
            node::note_cut_off(self, &before, came_back);
        }
        Ok(outcome)
    }

    fn dispatch(&mut self, body: &Body) -> Result<Outcome, Refusal> {
        match body {
            Body::InitCluster { cluster, level } => {
                if self.cluster.is_some() {
                    return Err(Refusal::AlreadyInitialised);
                }
                self.advance();
                self.cluster = Some(cluster.clone());
                if self.members.is_empty() {
                    self.feature_level = *level;
                }
                Ok(self.done())
            }
            Body::Deploy(deploy) => graph::deploy(self, deploy),
            Body::DeleteGraph(delete) => graph::delete(self, delete),
            Body::Relink(relink) => graph::relink(self, relink),
            Body::ChangeRollout(change) => rollout::change(self, change),
            Body::OpenCandidate(open) => rollout::open_candidate(self, open),
            Body::PutPolicy(put) => policy::put(self, put),
            Body::ChangePolicyRollout(change) => policy::change_rollout(self, change),
            Body::DeletePolicy(delete) => policy::delete(self, delete),
            Body::PutArtifact(artifact) => {
                if self.artifacts.contains_key(&artifact.digest) {
                    return Ok(self.done());
                }
                if self.artifacts.len() >= ARTIFACTS_MAX {
                    return Err(Refusal::Exhausted {
                        what: "artifacts".to_owned(),
                        bound: ARTIFACTS_MAX as u64,
                    });
                }
                self.advance();
                self.artifacts.insert(artifact.digest, *artifact);
                Ok(self.done())
            }
            Body::ForgetArtifacts(digests) => Ok(self.forget_artifacts(digests)),
            Body::CreateToken(create) => enrolment::create_token(self, create),
            Body::Enrol(enrol) => enrolment::enrol(self, enrol),
            Body::RevokeNode { node, until_ms } => enrolment::revoke(self, node, *until_ms),
            Body::CreateMemberToken { digest, expires_ms } => member::create_token(self, digest, *expires_ms),
            Body::EnrolMember(enrol) => member::enrol(self, enrol),
            Body::AnnounceMember { member, address, level } => member::announce(self, *member, address, *level),
            Body::RaiseFeatureLevel { level } => member::raise_level(self, *level),
            Body::PromoteMember { member } => member::promote(self, *member),
            Body::RemoveMember { member } => member::remove(self, *member),
            Body::RegisterNode(description) => node::register(self, description),
            Body::SetNodeState { node, state, why } => node::set_state(self, node, *state, why),
            Body::LoseNodes { nodes, why } => Ok(node::lose(self, nodes, why)),
            Body::AdmitNode { node, admission } => node::admit(self, node, *admission),
            Body::LabelNode(label) => node::label(self, label),
            Body::TaintNode(taint) => node::taint(self, taint),
            Body::RemoveNode(remove) => enrolment::remove(self, remove),
            Body::Place(places) => moves::place(self, places),
            Body::Leave(leaves) => moves::leave(self, leaves),
            Body::RecordReport(report) => node::record_report(self, report),
        }
    }

    fn forget_artifacts(&mut self, digests: &[Digest]) -> Outcome {
        let named = self.named_artifacts();
        let is_of_no_use = |digest: &&Digest| self.artifacts.contains_key(*digest) && !named.contains(*digest);
        let unused: Vec<Digest> = digests.iter().filter(is_of_no_use).copied().collect();
        if unused.is_empty() {
            return self.done();
        }
        self.advance();
        for digest in &unused {
            self.artifacts.remove(digest);
        }
        let shown: Vec<String> = unused.iter().take(FORGOTTEN_SHOWN).map(Digest::short).collect();
        let more = if unused.len() > shown.len() { ", …" } else { "" };
        let message =
            format!("nothing names them any more: {}{more}, {} in all", shown.join(", "), unused.len());
        self.event("artifacts".to_owned(), "forgotten", message);
        self.done()
    }

    fn done(&self) -> Outcome {
        Outcome::Done { at: self.revision }
    }

    /// The next revision, for a command that changes something.
    fn advance(&mut self) -> StateRevision {
        self.revision.0 += 1;
        self.revision
    }

    fn event(&mut self, subject: String, reason: &str, message: String) {
        self.events.push_back(Event {
            revision: self.revision,
            time_ms: self.now_ms,
            subject,
            reason: reason.to_owned(),
            message,
        });
        while self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
    }

    /// Marks that what a node should run has changed.
    fn touch_node(&mut self, node: &model::name::NodeName) {
        let generation = Generation::from(self.revision);
        if let Some(record) = self.nodes.get_mut(node) {
            record.assigned_at = generation;
        }
    }

    /// What became of a request that was applied before, or the refusal of its id for another request. One whose id says
    /// when it was made is refused if it may have been applied and forgotten: it is never done twice.
    pub fn known(&self, tag: &RequestTag) -> Option<Outcome> {
        let Some(record) = self.requests.get(&tag.id) else {
            if self.level() < AGES_REQUESTS {
                return None;
            }
            let made_at_ms = tag.id.made_at_ms()?;
            let id = tag.id.to_string();
            return if made_at_ms <= self.requests_forgotten_ms {
                Some(Outcome::Refused(Refusal::RequestExpired { id }))
            } else if made_at_ms > self.now_ms.saturating_add(REQUEST_KEPT_MS) {
                // It could not be told later whether it was forgotten.
                Some(Outcome::Refused(Refusal::RequestEarly { id }))
            } else {
                None
            };
        };
        Some(if record.fingerprint == tag.fingerprint {
            record.outcome.clone()
        } else {
            Outcome::Refused(Refusal::RequestMismatch { id: tag.id.to_string() })
        })
    }

    fn remember(&mut self, tag: &RequestTag, outcome: &Outcome) {
        let record = RequestRecord { fingerprint: tag.fingerprint.clone(), outcome: outcome.clone() };
        self.requests.insert(tag.id.clone(), record);
        self.request_ages.push_back((self.now_ms, tag.id.clone()));
    }

    /// Leaves room for one more.
    fn forget_old_requests(&mut self) {
        while let Some((time_ms, _)) = self.request_ages.front() {
            let old = self.now_ms.saturating_sub(*time_ms) > REQUEST_KEPT_MS;
            if !old && self.request_ages.len() < REQUESTS_MAX {
                return;
            }
            if let Some((applied_at_ms, id)) = self.request_ages.pop_front() {
                self.requests.remove(&id);
                if self.level() < AGES_REQUESTS {
                    continue;
                }
                let made_at_ms = id.made_at_ms().unwrap_or_default();
                self.requests_forgotten_ms = self.requests_forgotten_ms.max(applied_at_ms).max(made_at_ms);
            }
        }
    }
}
