//! Changing policies and graphs under steady load loses no request, and once a change is said to be in force, every
//! new request sees it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Instant;

use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::traffic::{Exchange, Load, all_good};
use chaos_tests::wait::{SOON, holds, until};

const CONNECTIONS: usize = 8;
/// Answers of a load between two changes: some on each connection.
const ANSWERS_BETWEEN: usize = 3 * CONNECTIONS;
const WHOLE: &str = r#"{"id":1,"name":"Ada Lovelace","email":"ada@example.com"}"#;
const MASKED: &str = r#"{"id":1,"name":"Ada Lovelace","email":"ada@*******.com"}"#;

#[derive(Debug, Clone, Copy)]
enum Change {
    /// The policy stands in front of the database.
    Mask,
    /// The policy selects other graphs.
    Elsewhere,
    /// The policy is gone.
    Unmask,
    /// A revision that answers otherwise.
    Revise,
    /// A revision that answers the same.
    Resize,
}

/// What a graph answers from some change on.
struct Step {
    begun: Instant,
    done: Instant,
    body: String,
}

/// Every answer is of a step that was in force at some moment between question and answer; a step is in force from
/// the begin of its change to the end of the next one.
fn check(exchanges: &[Exchange], steps: &[Step]) {
    all_good(exchanges, steps.len() * CONNECTIONS);
    for exchange in exchanges {
        let body = exchange.good().unwrap();
        let may_be = |(index, step): (usize, &Step)| {
            step.begun <= exchange.ended
                && steps.get(index + 1).is_none_or(|next| exchange.started <= next.done)
                && step.body == body
        };
        let found = steps.iter().enumerate().any(may_be);
        let since = |instant: Instant| instant.saturating_duration_since(steps[0].begun);
        assert!(
            found,
            "{body:?} was answered to a request from {:?} to {:?}; the changes were {:#?}",
            since(exchange.started),
            since(exchange.ended),
            steps.iter().map(|step| (since(step.begun), since(step.done), &step.body)).collect::<Vec<_>>()
        );
    }
    for step in steps {
        let seen = exchanges.iter().any(|exchange| exchange.good() == Some(&step.body));
        assert!(seen, "nothing was answered with {:?}", step.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_and_none_sees_what_was_before() {
    let mut cluster = Cluster::start().await;
    let api = cluster.api();
    let policy = Bundle::example("customers", "pii-firewall.yaml");
    let revision = |number: usize| {
        Bundle::graph("faulty").with("{greeting: from config}", &format!("{{greeting: \"{number}\"}}"))
    };
    let settings = |number: usize| format!("config={number} variable=from variables\n");
    let size =
        |number: usize| Bundle::graph("customers").with("memory: 32Mi", &format!("memory: {}Mi", 32 + number));
    api.deploy_and_wait(&Bundle::graph("customers")).await;
    api.deploy_and_wait(&revision(0)).await;

    let mut changes = [
        Change::Mask,
        Change::Unmask,
        Change::Mask,
        Change::Elsewhere,
        Change::Mask,
        Change::Unmask,
        Change::Elsewhere,
        Change::Revise,
        Change::Revise,
        Change::Revise,
        Change::Revise,
        Change::Resize,
        Change::Resize,
    ];
    for last in (1..changes.len()).rev() {
        let other = usize::try_from(cluster.choices.below(last as u64 + 1)).unwrap();
        changes.swap(last, other);
    }

    let address = cluster.ingress_address();
    let start = Instant::now();
    let customers = Load::start(address, "customers.localhost", "/customers/1", CONNECTIONS);
    let faulty = Load::start(address, "faulty.localhost", "/config", CONNECTIONS);
    let first = |body: &str| vec![Step { begun: start, done: start, body: body.to_owned() }];
    let (mut rows, mut greetings) = (first(WHOLE), first(&settings(0)));
    let mut has_policy = false;
    for (number, change) in (1..).zip(changes) {
        let answered = (customers.answers(), faulty.answers());
        until("load between changes", SOON, async || {
            let now = (customers.answers() - answered.0, faulty.answers() - answered.1);
            holds(now.0 >= ANSWERS_BETWEEN && now.1 >= ANSWERS_BETWEEN, now)
        })
        .await;
        let begun = Instant::now();
        let (steps, body) = match change {
            Change::Mask => {
                api.apply_and_wait(&policy).await;
                has_policy = true;
                (&mut rows, MASKED.to_owned())
            }
            Change::Elsewhere => {
                api.apply_and_wait(&policy.clone().with("{data: pii}", "{data: payroll}")).await;
                has_policy = true;
                (&mut rows, WHOLE.to_owned())
            }
            Change::Unmask => {
                if has_policy {
                    api.delete_policy_and_wait("pii-firewall").await;
                }
                has_policy = false;
                (&mut rows, WHOLE.to_owned())
            }
            Change::Revise => {
                api.deploy_and_wait(&revision(number)).await;
                (&mut greetings, settings(number))
            }
            Change::Resize => {
                api.deploy_and_wait(&size(number)).await;
                let body = rows.last().unwrap().body.clone();
                (&mut rows, body)
            }
        };
        steps.push(Step { begun, done: Instant::now(), body });
    }
    let answered = (customers.answers(), faulty.answers());
    until("load after the last change", SOON, async || {
        let now = (customers.answers() - answered.0, faulty.answers() - answered.1);
        holds(now.0 >= ANSWERS_BETWEEN && now.1 >= ANSWERS_BETWEEN, now)
    })
    .await;
    check(&customers.stop().await, &rows);
    check(&faulty.stop().await, &greetings);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_end_where_they_began() {
    let cluster = Cluster::start().await;
    let api = cluster.api();
    let revision = |greeting: &str| {
        Bundle::graph("faulty").with("from config", greeting).with("deadline: 1s", "deadline: 10s")
    };
    api.deploy_and_wait(&revision("one")).await;
    let asleep = async |count: usize| {
        until("requests are under way", SOON, async || {
            let lines = api.logs("default/faulty", "").await.map_err(|status| status.to_string())?;
            let now = lines.iter().filter(|line| line.message.contains("sleeping")).count();
            holds(now == count, format!("{now} are"))
        })
        .await;
    };
    let sleep = |milliseconds: u64| {
        let mut client = cluster.client("faulty.localhost");
        tokio::spawn(async move { client.get(&format!("/sleep?ms={milliseconds}")).await })
    };

    // Over a new revision.
    let slow = sleep(1_500);
    asleep(1).await;
    api.deploy_and_wait(&revision("two")).await;
    let mut client = cluster.client("faulty.localhost");
    assert_eq!(client.get("/config").await.body, "config=two variable=from variables\n");
    assert!(!slow.is_finished(), "it ended before the change did, which proves nothing");
    assert_eq!(slow.await.unwrap().body, "slept\n");

    // Over the graph's end.
    let slow = sleep(1_500);
    asleep(2).await;
    api.delete("default/faulty").await.unwrap();
    until("new requests find no graph", SOON, async || match client.get("/config").await.status {
        404 => Ok(()),
        other => Err(other),
    })
    .await;
    assert!(!slow.is_finished(), "it ended before the change did, which proves nothing");
    assert_eq!(slow.await.unwrap().body, "slept\n");
}
