//! The programs as hosts of a network whose packets are lost, late, doubled, out of order or cut off, one way or both: a
//! majority goes on, nobody disturbs it, and what was acknowledged stays.
//!
//! Each test shows by the counters of the switch that what it is about has happened. See [`chaos_tests::network`] for what
//! it needs, and when it says `SKIPPED`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use chaos_tests::api::{Api, digest, is_open, request_id, shown};
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::faults::{Fault, Schedule, Whom};
use chaos_tests::journal::{self, Writers, are_declared, are_done_once, is_good, journalled};
use chaos_tests::network::{Conditions, Counters, Host, Network, Rate};
use chaos_tests::say;
use chaos_tests::seed::Choices;
use chaos_tests::traffic::Load;
use chaos_tests::wait::{SOON, holds, until};
use chaos_tests::workload::{self, LOAD};
use tonic::Code;

const GRAPH: &str = "default/faulty";
const HOST: &str = "faulty.localhost";
/// A heartbeat that is not answered in three sixteenths of it is none, and round trips take up to 140 ms on a rough road
/// and on a narrow one that is full.
const FAR_APART: &str = "--election-timeout=1200ms";

fn revision(number: usize) -> Bundle {
    Bundle::graph("faulty").with("{greeting: from config}", &format!("{{greeting: \"{number}\"}}"))
}

fn members(numbers: impl IntoIterator<Item = usize>) -> Vec<Host> {
    numbers.into_iter().map(Host::member).collect()
}

fn others(member: usize) -> Vec<usize> {
    (1..=3).filter(|other| *other != member).collect()
}

async fn term(api: &Api) -> u64 {
    api.members().await.unwrap().term
}

/// Waits until all members show this revision, and have the same history.
async fn agree(cluster: &Cluster, revision: u64) {
    let mut histories = BTreeSet::new();
    for member in 1..=cluster.member_addresses().len() {
        let api = cluster.api_of(member);
        until(&format!("member {member} has it all"), SOON, async || match api.status(GRAPH).await {
            Ok(status) => holds(status.revision >= revision, status.revision.to_string()),
            Err(status) => Err(shown(&status)),
        })
        .await;
        let history = api.history(GRAPH).await.unwrap();
        histories.insert(format!("{history:?}"));
    }
    assert_eq!(histories.len(), 1, "{histories:#?}");
}

/// A datagram with its number.
fn send(socket: &UdpSocket, to: SocketAddr, number: u32, length: usize) {
    let mut datagram = vec![0; length];
    datagram[..4].copy_from_slice(&number.to_be_bytes());
    socket.send_to(&datagram, to).unwrap();
}

/// Sends so many datagrams, a few of them each millisecond, and takes down when each was sent.
fn send_all(socket: &UdpSocket, to: SocketAddr, (count, burst): (u32, u32)) -> Vec<Instant> {
    const PACE: Duration = Duration::from_millis(1);
    let mut sent = Vec::new();
    for number in 0..count {
        sent.push(Instant::now());
        send(socket, to, number, 64);
        if number % burst == burst - 1 {
            std::thread::sleep(PACE);
        }
    }
    sent
}

/// Takes what arrives until nothing has for a while, in its order.
fn receive_all(socket: UdpSocket) -> std::thread::JoinHandle<Vec<(u32, Instant)>> {
    const SILENCE: Duration = Duration::from_millis(400);
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    std::thread::spawn(move || {
        let (mut all, mut datagram) = (Vec::new(), [0; 1_500]);
        while socket.recv(&mut datagram).is_ok() {
            all.push((u32::from_be_bytes(datagram[..4].try_into().unwrap()), Instant::now()));
        }
        all
    })
}

/// Two hosts, and datagrams from the one to the other: what arrived, how long each was on its way, and what was counted.
struct Sent {
    arrived: Vec<u32>,
    took: Vec<Duration>,
    counted: Counters,
}

const ONE: usize = 1;
const OTHER: usize = 2;

fn datagrams(
    network: &Network,
    (from, to): (usize, usize),
    conditions: Conditions,
    (count, burst): (u32, u32),
) -> Sent {
    let (from, to) = (Host::node(from), Host::node(to));
    let (near, far) = (network.socket(from), network.socket(to));
    network.becomes(from, to, conditions);
    let before = network.seen(from, to);
    let address = far.local_addr().unwrap();
    let receiving = receive_all(far);
    let sent = send_all(&near, address, (count, burst));
    let arrived = receiving.join().unwrap();
    let after = network.seen(from, to);
    let counted = Counters {
        sent: after.sent - before.sent,
        cut: after.cut - before.cut,
        lost: after.lost - before.lost,
        doubled: after.doubled - before.doubled,
        arrived: after.arrived - before.arrived,
        overtaken: after.overtaken - before.overtaken,
        ..Counters::default()
    };
    assert_eq!(counted.sent, u64::from(count), "the switch saw what was sent");
    assert_eq!(counted.arrived, arrived.len() as u64, "what it sent on has arrived");
    let took = arrived.iter().map(|(number, at)| *at - sent[*number as usize]).collect();
    Sent { arrived: arrived.into_iter().map(|(number, _)| number).collect(), took, counted }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_switch_does_what_it_is_told() {
    let Some((network, _)) = Network::enter("the_switch_does_what_it_is_told") else { return };
    let there = (ONE, OTHER);

    let good = datagrams(&network, there, Conditions::GOOD, (1_000, 8));
    assert_eq!(good.arrived, (0..1_000).collect::<Vec<_>>(), "all of it, in its order");

    // Three in ten, give or take four standard deviations.
    let lossy =
        datagrams(&network, there, Conditions { lost_in_thousand: 300, ..Conditions::GOOD }, (4_000, 8));
    assert!((1_084..=1_316).contains(&lossy.counted.lost), "{:?}", lossy.counted);

    // A busy machine may be late, and never early.
    let late = Conditions { jitter: Duration::from_millis(20), ..Conditions::late(Duration::from_millis(50)) };
    let late = datagrams(&network, there, late, (800, 1));
    let (least, most) = (*late.took.iter().min().unwrap(), *late.took.iter().max().unwrap());
    let mean = late.took.iter().sum::<Duration>() / 800;
    say(&format!("asked for 50 ± 20 ms: from {least:?} to {most:?}, {mean:?} on average"));
    assert!(least >= Duration::from_millis(30) && most > Duration::from_millis(55), "{least:?} to {most:?}");
    assert!((Duration::from_millis(42)..Duration::from_millis(75)).contains(&mean), "{mean:?}");
    assert!(late.arrived.is_sorted());

    let held = Conditions { held_back_in_thousand: 100, doubled_in_thousand: 100, ..Conditions::GOOD };
    let held = datagrams(&network, there, held, (1_000, 8));
    let passed = held.arrived.iter().scan(0, |newest, number| {
        let is_behind = number < newest;
        *newest = *number.max(newest);
        Some(is_behind)
    });
    let passed = passed.filter(|is_behind| *is_behind).count() as u64;
    assert!(passed > 50 && passed == held.counted.overtaken, "{passed}, {:?}", held.counted);
    assert_eq!(held.arrived.len() as u64, 1_000 + held.counted.doubled);
    assert!((60..=140).contains(&held.counted.doubled), "{:?}", held.counted);
    let distinct: BTreeSet<u32> = held.arrived.iter().copied().collect();
    assert_eq!(distinct.len(), 1_000, "nothing is lost");

    let cut = datagrams(&network, there, Conditions::CUT, (100, 8));
    assert_eq!((cut.arrived.len(), cut.counted.cut), (0, 100));
    let back = datagrams(&network, (OTHER, ONE), Conditions::GOOD, (100, 8));
    assert_eq!(back.arrived.len(), 100, "the way back is open");

    assert_eq!(network.missed(), 0, "nothing was lost but what should be");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_switch_keeps_to_a_rate_and_drops_what_does_not_fit_its_queue() {
    const TEST: &str = "the_switch_keeps_to_a_rate_and_drops_what_does_not_fit_its_queue";
    let Some((network, _)) = Network::enter(TEST) else { return };
    let (from, to) = (Host::node(ONE), Host::node(OTHER));
    let (near, far) = (network.socket(from), network.socket(to));
    let rate = Rate::megabit(64 << 10);
    network.becomes(from, to, Conditions { rate: Some(rate), ..Conditions::GOOD });
    let address = far.local_addr().unwrap();
    let receiving = receive_all(far);
    let began = Instant::now();
    (0..200).for_each(|number| send(&near, address, number, 1_400));
    let arrived = receiving.join().unwrap();
    let Counters { sent, overflowed, bytes, .. } = network.seen(from, to);
    let took = arrived.last().unwrap().1 - began;
    say(&format!("{bytes} bytes in {took:?}, {overflowed} of {sent} frames dropped"));
    assert!(overflowed > 100 && overflowed + arrived.len() as u64 == 200);
    let share = bytes as f64 / took.as_secs_f64() / rate.bytes_per_second as f64;
    assert!((0.8..=1.01).contains(&share), "{share} of the rate");
}

/// Row 10.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_acknowledges_nothing_and_the_majority_goes_on() {
    const TEST: &str = "a_leader_that_is_cut_off_acknowledges_nothing_and_the_majority_goes_on";
    /// The others find out and elect another one in less than a second; a busy machine takes longer. A connection to one
    /// that is cut off is given up after four.
    const WRITES_WITHIN: Duration = Duration::from_secs(3);
    let Some((network, mut choices)) = Network::enter(TEST) else { return };
    let cluster = Cluster::start_in(&network, 3, 1, &[], Choices::of(choices.number())).await;
    cluster.api().deploy_and_wait(&revision(0)).await;
    let load = Load::start(cluster.ingress_address(), HOST, "/config", 2);
    for round in 1..=2 {
        let leader = cluster.leader().await;
        let (old, others) = (cluster.api_of(leader), others(leader));
        let before = term(&old).await;
        let cut = network.seen_among(&members(1..=3)).cut;
        network.becomes_between(Host::member(leader), &members(others.clone()), Conditions::CUT);
        let began = Instant::now();
        cluster.deploy_by_any(&others, &revision(round)).await;
        let took = began.elapsed();
        say(&format!("round {round}: without member {leader}, written after {took:?}"));
        assert!(took < WRITES_WITHIN, "{took:?}");
        // Neither a write nor a read of the old one is answered, however long they wait.
        let (id, lost) = (request_id(), revision(100 + round));
        let (written, read) = tokio::join!(old.deploy_as(&lost, &id), old.status(GRAPH));
        let (written, read) = (written.unwrap_err(), read.unwrap_err());
        assert!(is_open(&written), "{}", shown(&written));
        assert_eq!(read.code(), Code::Unavailable, "{}", shown(&read));
        let after = term(&cluster.api_of(others[0])).await;
        assert!(after > before && after - before <= 2, "terms {before} to {after}");
        assert!(network.seen_among(&members(1..=3)).cut > cut + 10, "nothing was cut off");

        network.heals();
        agree(&cluster, round as u64 + 1).await;
        // What was in doubt is done at most once, whoever is asked for it again.
        for member in 1..=3 {
            cluster.api_of(member).deploy_as(&revision(100 + round), &id).await.unwrap();
        }
        cluster.deploy_by_any(&[1, 2, 3], &revision(round)).await;
        agree(&cluster, 0).await;
    }
    let history = cluster.api().history(GRAPH).await.unwrap();
    assert_eq!(history.len(), 1 + 2 * 3, "{history:?}");
    load.stop_all_good(100).await;
}

/// Row 11.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_in_one_direction_is_replaced_by_few_elections() {
    const TEST: &str = "a_leader_that_is_cut_off_in_one_direction_is_replaced_by_few_elections";
    /// One to two seconds; less than it takes to give up a connection.
    const WRITES_WITHIN: Duration = Duration::from_millis(3_500);
    const ELECTIONS_MAX: u64 = 2;
    let Some((network, mut choices)) = Network::enter(TEST) else { return };
    let cluster = Cluster::start_in(&network, 3, 1, &[], Choices::of(choices.number())).await;
    cluster.api().deploy_and_wait(&revision(0)).await;
    let mut number = 0;
    for is_deaf in [true, false, true, false] {
        let leader = cluster.leader().await;
        let others = others(leader);
        let before = term(&cluster.api_of(leader)).await;
        let cut = network.seen_among(&members(1..=3)).cut;
        for other in members(others.clone()) {
            let (from, to) =
                if is_deaf { (other, Host::member(leader)) } else { (Host::member(leader), other) };
            network.becomes(from, to, Conditions::CUT);
        }
        number += 1;
        let began = Instant::now();
        cluster.deploy_by_any(&others, &revision(number)).await;
        let took = began.elapsed();
        // It goes on like that.
        for _ in 0..5 {
            number += 1;
            cluster.deploy_by_any(&others, &revision(number)).await;
        }
        let after = term(&cluster.api_of(others[0])).await;
        let what = if is_deaf { "hears nothing" } else { "is not heard" };
        say(&format!("a leader {what}: written after {took:?}, terms {before} to {after}"));
        assert!(network.seen_among(&members(1..=3)).cut > cut + 5, "nothing was cut off");
        assert!(took < WRITES_WITHIN, "{what}: {took:?}");
        assert!(after - before <= ELECTIONS_MAX, "{what}: terms {before} to {after}");
        network.heals();
        agree(&cluster, number as u64 + 1).await;
    }
}

/// Row 12.
#[tokio::test(flavor = "multi_thread")]
async fn two_members_that_see_each_other_only_through_the_third_do_not_unseat_each_other() {
    const TEST: &str = "two_members_that_see_each_other_only_through_the_third_do_not_unseat_each_other";
    const A_WHILE: Duration = Duration::from_secs(5);
    const ELECTIONS_MAX: u64 = 3;
    let Some((network, mut choices)) = Network::enter(TEST) else { return };
    let cluster = Cluster::start_in(&network, 3, 1, &[], Choices::of(choices.number())).await;
    cluster.api().deploy_and_wait(&revision(0)).await;
    let mut number = 0;
    // The one between them is a follower, or leads.
    for leads_between in [false, true] {
        let leader = cluster.leader().await;
        let followers = others(leader);
        let before = term(&cluster.api_of(leader)).await;
        let (one, other) = if leads_between { (followers[0], followers[1]) } else { (leader, followers[0]) };
        let between = 6 - one - other;
        let cut = network.seen_among(&members([one, other])).cut;
        network.becomes_among(&members([one, other]), Conditions::CUT);
        let (began, first) = (Instant::now(), number);
        while began.elapsed() < A_WHILE {
            number += 1;
            cluster.deploy_by_any(&[between], &revision(number)).await;
        }
        let after = term(&cluster.api_of(between)).await;
        let writes = number - first;
        say(&format!("the third leads: {leads_between}; {writes} writes, terms {before} to {after}"));
        assert!(network.seen_among(&members([one, other])).cut > cut, "nothing was cut off");
        assert!(after - before <= ELECTIONS_MAX, "terms {before} to {after}");
        assert!(writes >= 20, "{writes} writes in {A_WHILE:?}");
        network.heals();
        agree(&cluster, number as u64 + 1).await;
    }
}

/// Row 13, first half.
#[tokio::test(flavor = "multi_thread")]
async fn a_rough_road_makes_no_election() {
    const TEST: &str = "a_rough_road_makes_no_election";
    const A_WHILE: Duration = Duration::from_secs(10);
    let Some((network, mut choices)) = Network::enter(TEST) else { return };
    let cluster = Cluster::start_in(&network, 3, 1, &[FAR_APART], Choices::of(choices.number())).await;
    cluster.api().deploy_and_wait(&revision(0)).await;
    let leader = cluster.leader().await;
    let (api, all) = (cluster.api_of(leader), members(1..=3));
    let before = term(&api).await;
    network.becomes_among(&all, Conditions::rough(50));
    let (began, mut number) = (Instant::now(), 0);
    while began.elapsed() < A_WHILE {
        number += 1;
        let member = 1 + number % 3;
        cluster.deploy_by_any(&[member], &revision(number)).await;
    }
    let seen = network.seen_among(&all);
    say(&format!("{number} writes; {seen:?}"));
    assert_eq!((cluster.leader().await, term(&api).await), (leader, before), "after {number} writes");
    assert!(seen.lost > 20 && seen.doubled > 10 && seen.overtaken > 0, "{seen:?}");
    assert!(number >= 8, "{number} writes in {A_WHILE:?}");
    network.heals();
    agree(&cluster, number as u64 + 1).await;
}

/// Row 13, second half, with the cuts of rows 10 and 11 between.
#[tokio::test(flavor = "multi_thread")]
async fn a_third_of_all_packets_lost_leaves_a_legal_history() {
    const TEST: &str = "a_third_of_all_packets_lost_leaves_a_legal_history";
    const FAULTS: [Fault; 5] = [
        Fault::Lossy,
        Fault::Isolate(Whom::Leader),
        Fault::Deafen(Whom::Leader),
        Fault::Silence(Whom::Leader),
        Fault::Late,
    ];
    let Some((network, mut choices)) = Network::enter(TEST) else { return };
    let mut schedule = Schedule::random(&FAULTS, FAULTS.len(), &mut choices);
    schedule.steps.extend(Schedule::of(&[Fault::Lossy; 2], Duration::from_secs(5)).steps);
    let choices_of_cluster = Choices::of(choices.number());
    let mut cluster = Cluster::start_control_plane_in(&network, 3, &[], choices_of_cluster).await;
    let run = workload::run(&mut cluster, LOAD, &schedule, &mut choices).await;
    let seen = network.seen_among(&members(1..=3));
    say(&format!("{seen:?}"));
    run.is_legal();
    run.coverage.is_enough(1);
    let happened: BTreeMap<Fault, usize> = run.coverage.faults;
    assert_eq!(happened.len(), FAULTS.len(), "{happened:?}");
    assert!(seen.lost > 200 && seen.doubled > 10 && seen.overtaken > 10 && seen.cut > 20, "{seen:?}");
}

/// Row 14.
#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_road_that_is_full_changes_no_leader() {
    const TEST: &str = "a_narrow_road_that_is_full_changes_no_leader";
    const ARTIFACT_BYTES: usize = 500_000;
    const NOISE_BYTES: usize = 120_000;
    /// What is in it is an eighth of a second behind.
    const QUEUE_BYTES: u64 = 16 << 10;
    let Some((network, mut choices)) = Network::enter(TEST) else { return };
    let flags = [FAR_APART, "--log-max-bytes=262144"];
    let mut cluster = Cluster::start_in(&network, 3, 1, &flags, Choices::of(choices.number())).await;
    let noise = |choices: &mut Choices, length: usize| -> Vec<u8> {
        (0..length / 8).flat_map(|_| choices.number().to_be_bytes()).collect()
    };
    for number in 0..10 {
        let noise = hex::encode(noise(&mut choices, NOISE_BYTES / 2));
        let bundle = revision(number);
        let manifest = format!("{}\n# {noise}\n", bundle.manifest().trim_end());
        cluster.api().deploy_and_wait(&Bundle::of(bundle.folder().to_owned(), manifest)).await;
    }
    let leader = cluster.leader().await;
    let before = term(&cluster.api_of(leader)).await;
    let narrow = Conditions { rate: Some(Rate::megabit(QUEUE_BYTES)), ..Conditions::GOOD };
    network.becomes_among(&members(1..=4), narrow);

    // Bytes of an artifact, which a majority has to have.
    let bytes = noise(&mut choices, ARTIFACT_BYTES);
    let asked = cluster.api_of(leader);
    let began = Instant::now();
    let put = asked.put(&digest(&bytes), bytes.len(), 0, &bytes).await.unwrap();
    assert!(put.complete, "{put:?}");
    let uploaded = network.seen_among(&members(1..=3));
    say(&format!("an artifact after {:?}; {uploaded:?}", began.elapsed()));
    assert!(uploaded.bytes > ARTIFACT_BYTES as u64 && uploaded.queued > 100, "{uploaded:?}");
    assert_eq!((cluster.leader().await, term(&asked).await), (leader, before), "the upload");

    // All of the state, to a new member, while others write.
    let joining = cluster.add_member();
    let api = cluster.api_of(leader);
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn(async move {
        let mut number = 100;
        while stopped.try_recv().is_err() {
            number += 1;
            api.deploy(&revision(number)).await.unwrap();
        }
        number - 100
    });
    let began = Instant::now();
    cluster.let_member_join(joining).await;
    let fourth = cluster.api_of(joining);
    until("the new member has what there was", SOON, async || match fourth.status(GRAPH).await {
        Ok(status) => holds(status.revision >= 10, status.revision.to_string()),
        Err(status) => Err(shown(&status)),
    })
    .await;
    stop.send(()).unwrap();
    let writes = writing.await.unwrap();
    let joined = network.seen(Host::member(leader), Host::member(joining));
    say(&format!("a member after {:?}, with {writes} writes; {joined:?}", began.elapsed()));
    assert!(joined.bytes > 400_000 && joined.queued > 100, "{joined:?}");
    assert_eq!((cluster.leader().await, term(&asked).await), (leader, before), "the snapshot");
    network.heals();
    agree(&cluster, 0).await;
}

/// Of links between nodes: what `link_faults` asks of roads, asked of packets.
#[tokio::test(flavor = "multi_thread")]
async fn calls_between_nodes_that_lose_packets_are_answered_and_none_is_made_twice() {
    const TEST: &str = "calls_between_nodes_that_lose_packets_are_answered_and_none_is_made_twice";
    const ENOUGH: usize = 50;
    let Some((network, mut choices)) = Network::enter(TEST) else { return };
    let cluster = Cluster::start_in(&network, 1, 3, &[], Choices::of(choices.number())).await;
    let api = cluster.api();
    api.deploy_and_wait(&journalled(&cluster)).await;
    let nodes: Vec<Host> = (1..=3).map(Host::node).collect();
    let load = Load::start(cluster.ingress_address(), journal::HOST, "/customers/2", 4);
    let writers = Writers::start(cluster.ingress_address(), 2);
    let until_busy = async |what: &str| {
        let least = (load.answers() + ENOUGH, writers.good() + ENOUGH / 5);
        until(what, SOON, async || {
            let seen = (load.answers(), writers.good());
            holds(seen.0 >= least.0 && seen.1 >= least.1, (seen, least))
        })
        .await;
    };
    until_busy("load").await;
    let road = |lost_in_thousand| Conditions {
        delay: Duration::from_millis(10),
        jitter: Duration::from_millis(5),
        ..Conditions::rough(lost_in_thousand)
    };
    for lost_in_thousand in [10, 50, 150] {
        network.becomes_among(&nodes, road(lost_in_thousand));
        until_busy(&format!("load with {lost_in_thousand} of a thousand lost")).await;
    }
    // One way, until it is noticed.
    for (from, to) in [(nodes[0], nodes[2]), (nodes[2], nodes[0])] {
        network.heals();
        until_busy("load").await;
        network.becomes(from, to, Conditions::CUT);
        let least = load.answers() + 4;
        until("declared failures", SOON, async || holds(load.answers() >= least, load.answers())).await;
    }
    network.heals();
    let mut client = cluster.client(journal::HOST);
    until("it answers again", SOON, async || {
        let answer = client.get("/customers/2").await;
        holds(answer.status == 200, answer)
    })
    .await;
    let healed = Instant::now();
    until_busy("load").await;
    let (exchanges, writes) = (load.stop().await, writers.stop().await);
    let seen = network.seen_among(&nodes);
    let good = writes.iter().filter(|(_, answer)| is_good(answer)).count();
    say(&format!("{} answers, {good} of {} writes; {seen:?}", exchanges.len(), writes.len()));
    are_declared(&exchanges);
    let after = exchanges.iter().filter(|exchange| exchange.started > healed && exchange.good().is_none());
    assert_eq!(after.count(), 0, "all is as it was");
    assert!(seen.lost > 20 && seen.doubled > 5 && seen.overtaken > 0 && seen.cut > 5, "{seen:?}");
    are_done_once(&mut client, &writes).await;
}
