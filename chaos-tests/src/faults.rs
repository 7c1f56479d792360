//! Schedules of faults: which comes when and how long it lasts, from a seed, as a value that is written down.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::api::Api;
use crate::cluster::Cluster;
use crate::network::{Conditions, Host};
use crate::road::Way;
use crate::seed::Choices;
use crate::wait::{SOON, until};

/// The longest pause before a fault.
const PAUSE_MAX: Duration = Duration::from_millis(800);
/// How long a fault lasts: some of them less than an election takes, most of them more.
const LASTS_MIN: Duration = Duration::from_millis(300);
const LASTS_MAX: Duration = Duration::from_millis(2_300);
/// A member that does not say soon who leads is asked again later.
const LEADER_PATIENCE: Duration = Duration::from_secs(1);
const LATE: Way = Way::Late(Duration::from_millis(40));
const LOSSY: Way = Way::Lossy { one_of: 20, stall: Duration::from_millis(150) };
/// So many of a thousand packets are lost on a network: as many as TCP can do with.
const LOST_IN_THOUSAND: u64 = 300;

/// What happens to members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// `kill -9`, and a start when it is over.
    Kill(Whom),
    /// `kill -9` of all members at once, and a start when it is over.
    KillAll,
    /// An ordered end, and a start when it is over.
    Stop(Whom),
    /// It stands still, and goes on when it is over.
    Pause(Whom),
    /// Nothing comes from it to the others or from them to it.
    Isolate(Whom),
    /// Nobody can ask it anything; what it asks is answered. On roads only: packets do not say who asked.
    Unreachable(Whom),
    /// What the others send does not come to it.
    Deafen(Whom),
    /// What it sends does not come to the others.
    Silence(Whom),
    /// Everything between members comes late.
    Late,
    /// Now and then something between members is lost, and sent again. On a network, packets are lost, late, doubled and
    /// out of order.
    Lossy,
    /// Another member is made to lead.
    Transfer,
}

/// Which member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whom {
    /// Who leads then.
    Leader,
    /// One that does not lead then.
    Follower,
    /// This one.
    Member(usize),
}

/// A fault and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Step {
    /// How long nothing happens before it.
    pub pause_ms: u64,
    /// What happens.
    pub fault: Fault,
    /// How long it lasts.
    pub lasts_ms: u64,
}

/// Faults, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Schedule {
    /// Of each fault, when and how long.
    pub steps: Vec<Step>,
}

impl Schedule {
    /// Each of these at least once, `count` in all, in any order and at any time.
    pub fn random(faults: &[Fault], count: usize, choices: &mut Choices) -> Self {
        let mut left = Vec::new();
        let step = |_| {
            if left.is_empty() {
                left.extend_from_slice(faults);
            }
            let fault = left.swap_remove(usize::try_from(choices.below(left.len() as u64)).expect("a length"));
            let (pause, lasts) = (choices.moment(PAUSE_MAX), LASTS_MIN + choices.moment(LASTS_MAX - LASTS_MIN));
            Step { pause_ms: milliseconds(pause), fault, lasts_ms: milliseconds(lasts) }
        };
        Self { steps: (0..count).map(step).collect() }
    }

    /// These, each for so long.
    pub fn of(faults: &[Fault], lasts: Duration) -> Self {
        let step = |fault: &Fault| Step { pause_ms: 500, fault: *fault, lasts_ms: milliseconds(lasts) };
        Self { steps: faults.iter().map(step).collect() }
    }

    /// Lets it happen; how often each fault did. All members run and hear each other afterwards.
    pub async fn run(&self, cluster: &mut Cluster) -> BTreeMap<Fault, usize> {
        let mut done = BTreeMap::new();
        for step in &self.steps {
            let random_moment = Duration::from_millis(step.pause_ms);
            sleep(random_moment).await;
            let random_time = Duration::from_millis(step.lasts_ms);
            step.fault.happens(cluster, random_time).await;
            *done.entry(step.fault).or_default() += 1;
            leader(cluster).await;
        }
        done
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a short time")
}

impl Fault {
    async fn happens(self, cluster: &mut Cluster, random_time: Duration) {
        let count = cluster.member_addresses().len();
        match self {
            Self::Kill(whom) => {
                let member = whom.member(cluster).await;
                cluster.member(member).kill();
                sleep(random_time).await;
                cluster.member(member).start().await;
            }
            Self::KillAll => {
                (1..=count).for_each(|member| cluster.member(member).kill());
                sleep(random_time).await;
                // One that starts alone waits for nobody.
                (1..=count).for_each(|member| cluster.member(member).spawn());
                for member in 1..=count {
                    cluster.member(member).listens().await;
                }
            }
            Self::Stop(whom) => {
                let member = whom.member(cluster).await;
                cluster.member(member).terminate();
                assert!(
                    cluster.member(member).end_within(SOON).await.success(),
                    "member {member} ends in order"
                );
                sleep(random_time).await;
                cluster.member(member).start().await;
            }
            Self::Pause(whom) => {
                let member = whom.member(cluster).await;
                cluster.member(member).pause();
                sleep(random_time).await;
                cluster.member(member).resume();
            }
            Self::Isolate(whom) => cut(cluster, whom, Way::Cut, Way::Cut, random_time).await,
            Self::Unreachable(whom) => {
                let member = whom.member(cluster).await;
                cluster.roads[member - 1].becomes(Way::Cut, Way::Cut);
                sleep(random_time).await;
                cluster.roads[member - 1].becomes(Way::Open, Way::Open);
            }
            Self::Deafen(whom) => cut(cluster, whom, Way::Cut, Way::Open, random_time).await,
            Self::Silence(whom) => cut(cluster, whom, Way::Open, Way::Cut, random_time).await,
            Self::Late => all_ways(cluster, LATE, random_time).await,
            Self::Lossy => all_ways(cluster, LOSSY, random_time).await,
            Self::Transfer => {
                let leader = leader(cluster).await;
                // Nobody may lead by then, or somebody else: that is asked for by the next fault.
                let _ = timeout(SOON, cluster.api_of(leader).transfer()).await;
                sleep(random_time).await;
            }
        }
    }
}

impl Whom {
    /// Who that is now.
    pub async fn member(self, cluster: &Cluster) -> usize {
        let count = cluster.member_addresses().len();
        match self {
            Self::Leader => leader(cluster).await,
            Self::Follower => leader(cluster).await % count + 1,
            Self::Member(member) => member,
        }
    }
}

/// What becomes of what comes to one member, and of what it sends.
async fn cut(cluster: &mut Cluster, whom: Whom, incoming: Way, outgoing: Way, random_time: Duration) {
    let member = whom.member(cluster).await;
    if let Some(network) = cluster.network() {
        let host = Host::member(member);
        for other in members(cluster).into_iter().filter(|other| *other != host) {
            network.becomes(other, host, packets(incoming));
            network.becomes(host, other, packets(outgoing));
        }
        sleep(random_time).await;
        return network.heals();
    }
    let process = cluster.member(member).process_id();
    for (index, road) in cluster.roads.iter().enumerate() {
        if index + 1 == member {
            road.becomes(incoming, outgoing);
        } else {
            // It asks over this one, and is answered.
            road.becomes_for(process, outgoing, incoming);
        }
    }
    sleep(random_time).await;
    cluster.roads.iter().for_each(|road| road.becomes(Way::Open, Way::Open));
}

async fn all_ways(cluster: &Cluster, way: Way, random_time: Duration) {
    if let Some(network) = cluster.network() {
        network.becomes_among(&members(cluster), packets(way));
        sleep(random_time).await;
        return network.heals();
    }
    cluster.roads.iter().for_each(|road| road.becomes(way, way));
    sleep(random_time).await;
    cluster.roads.iter().for_each(|road| road.becomes(Way::Open, Way::Open));
}

/// The hosts of the members.
fn members(cluster: &Cluster) -> Vec<Host> {
    (1..=cluster.member_addresses().len()).map(Host::member).collect()
}

/// What becomes of packets where this becomes of what is sent.
fn packets(way: Way) -> Conditions {
    match way {
        Way::Open => Conditions::GOOD,
        Way::Cut => Conditions::CUT,
        Way::Late(late) => Conditions::late(late),
        Way::Lossy { .. } => Conditions::rough(LOST_IN_THOUSAND),
    }
}

/// Who leads, as soon as a member says so.
pub async fn leader(cluster: &Cluster) -> usize {
    let apis: Vec<Api> = (1..=cluster.member_addresses().len()).map(|member| cluster.api_of(member)).collect();
    until("a member leads", SOON, async || {
        let mut last = String::new();
        for api in &apis {
            match timeout(LEADER_PATIENCE, api.members()).await {
                Ok(Ok(answer)) if answer.leader != 0 => {
                    return Ok(usize::try_from(answer.leader).expect("a small number"));
                }
                other => last = format!("{other:?}"),
            }
        }
        Err(last)
    })
    .await
}
