//! An agent that is asked to end finishes the requests it has, and takes no new ones.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::{Duration, Instant};

use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::traffic::{Broken, Load};
use chaos_tests::wait::{SOON, holds, until};

const SLEEPERS: usize = 8;
/// Longer than it takes to see that all of them sleep.
const SLEEP_MS: u64 = 2_000;
/// Far below the deadline of the drain, far above the longest request.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_are_answered_before_the_agent_ends() {
    let mut cluster = Cluster::start().await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("faulty").with("deadline: 1s", "deadline: 10s")).await;
    api.deploy_and_wait(&Bundle::graph("hello")).await;
    let load = Load::start(cluster.ingress_address(), "hello.localhost", "/", 8);

    let sleepers: Vec<_> = (0..SLEEPERS)
        .map(|_| {
            let mut client = cluster.client("faulty.localhost");
            tokio::spawn(async move {
                let answer = client.ask(http::Method::GET, &format!("/sleep?ms={SLEEP_MS}"), "").await;
                (answer, Instant::now())
            })
        })
        .collect();
    until("all sleep", SOON, async || {
        let lines = api.logs("default/faulty", "").await.map_err(|status| status.to_string())?;
        let asleep = lines.iter().filter(|line| line.message.contains("sleeping")).count();
        holds(asleep == SLEEPERS && load.answers() > 100, format!("{asleep} sleep"))
    })
    .await;

    let asked = Instant::now();
    cluster.agent.terminate();
    for sleeper in sleepers {
        let (answer, ended) = sleeper.await.unwrap();
        let answer = answer.unwrap_or_else(|broken| panic!("a request under way was lost: {broken:?}"));
        assert_eq!((answer.status, answer.body.as_str()), (200, "slept\n"));
        assert!(ended > asked, "it ended before the agent was asked to end");
    }
    let status = cluster.agent.end_within(ENDS_WITHIN).await;
    assert!(status.success(), "{status}");

    let exchanges = load.stop().await;
    for exchange in &exchanges {
        let allowed = match &exchange.answer {
            Ok(answer) => answer.status == 200,
            // Sent on a connection while it was closed, or after all were.
            Err(Broken::Connect(_) | Broken::NoAnswer(_)) => exchange.started > asked,
            Err(Broken::Cut(_) | Broken::Silent) => false,
        };
        assert!(
            allowed,
            "{:?} after the agent was asked to end: {:?}",
            exchange.started.checked_duration_since(asked),
            exchange.answer
        );
    }
    let after =
        exchanges.iter().filter(|exchange| exchange.started > asked && exchange.good().is_none()).count();
    assert!(after > 0, "the agent was gone and somebody answered");

    // Nothing of it harms the next one.
    cluster.agent.start().await;
    let mut client = cluster.client("hello.localhost");
    until("hello serves again", SOON, async || match client.ask(http::Method::GET, "/", "").await {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(other),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_end_does_not_keep_the_agent() {
    let mut cluster = Cluster::start_with(&["--drain-deadline", "1s"]).await;
    let api = cluster.api();
    api.deploy_and_wait(&Bundle::graph("faulty").with("deadline: 1s", "deadline: 60s")).await;
    let mut client = cluster.client("faulty.localhost");
    let hanging = tokio::spawn(async move { client.ask(http::Method::GET, "/sleep?ms=60000", "").await });
    until("it sleeps", SOON, async || {
        let lines = api.logs("default/faulty", "").await.map_err(|status| status.to_string())?;
        holds(lines.iter().any(|line| line.message.contains("sleeping")), "it does not sleep yet".to_owned())
    })
    .await;
    cluster.agent.terminate();
    cluster.agent.end_within(ENDS_WITHIN).await;
    assert!(matches!(hanging.await.unwrap(), Err(Broken::NoAnswer(_))));
}
