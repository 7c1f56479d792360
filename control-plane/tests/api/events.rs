//! Events: followed from a revision on, and never skipped in silence.

use proto::weft::event::v1 as wire;
use proto::weft::graph::v1 as graph;
use tonic::{Code, Streaming};

use crate::member::{Client, Member, PATIENCE, fresh_id, refused};
use crate::parts;

/// Events that a member keeps.
const KEPT: usize = cluster::state::EVENTS_MAX;
/// Graphs that change at one time.
const GRAPHS: usize = 16;

async fn watch(
    client: &mut Client,
    subject: &str,
    after_revision: u64,
    follow: bool,
) -> Result<Streaming<wire::Event>, tonic::Status> {
    let subject = subject.to_owned();
    let request = wire::WatchRequest { subject, after_revision, follow, bookmarks: false };
    Ok(client.events.watch(request).await?.into_inner())
}

async fn next(events: &mut Streaming<wire::Event>) -> Result<Option<wire::Event>, tonic::Status> {
    tokio::time::timeout(PATIENCE, events.message()).await.expect("an event, or the end")
}

/// Makes at least `count` events, of a few graphs at one time.
async fn make_events(client: &Client, count: usize) {
    let tasks: Vec<_> = (0..GRAPHS)
        .map(|number| {
            let mut client = client.clone();
            tokio::spawn(async move {
                for turn in 0..count.div_ceil(GRAPHS) {
                    let name = format!("a-graph-with-a-name-that-is-as-long-as-a-name-may-be-at-all-{number}");
                    client.deploy(&parts::shop(&name, &turn.to_string())).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_followed_from_a_revision_on() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let one = client.deploy(&parts::shop("one", "1")).await.unwrap();
    client.deploy(&parts::shop("one-more", "1")).await.unwrap();

    let mut all = watch(&mut client, "", 0, false).await.unwrap();
    let mut subjects = Vec::new();
    while let Some(event) = next(&mut all).await.unwrap() {
        subjects.push((event.subject, event.reason));
    }
    let deployed = |subject: &str| (subject.to_owned(), "deployed".to_owned());
    let began = ("member/1".to_owned(), "announced".to_owned());
    assert_eq!(subjects, [began, deployed("graph/default/one"), deployed("graph/default/one-more")]);

    // A subject is what it names and what is below it, not what begins alike.
    let mut of_one = watch(&mut client, "graph/default/one", 0, true).await.unwrap();
    assert_eq!(next(&mut of_one).await.unwrap().unwrap().revision, one.generation);
    client.deploy(&parts::shop("one-more", "2")).await.unwrap();
    client.delete("default/one").await.unwrap();
    assert_eq!(next(&mut of_one).await.unwrap().unwrap().reason, "deleted");

    let mut later = watch(&mut client, "", one.generation, false).await.unwrap();
    assert_eq!(next(&mut later).await.unwrap().unwrap().subject, "graph/default/one-more");
    let future = watch(&mut client, "", 1_000_000, true).await;
    refused(future, Code::OutOfRange, "future_revision");

    let stopping = tokio::spawn(member.stop());
    refused(next(&mut of_one).await, Code::Unavailable, "member_stopped");
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bookmark_says_how_far_a_watch_is_where_nothing_happens() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let subject = "graph/default/watched".to_owned();
    let request = wire::WatchRequest { subject, after_revision: 0, follow: true, bookmarks: true };
    let mut events = client.events.watch(request.clone()).await.unwrap().into_inner();
    let other = client.deploy(&parts::shop("other", "1")).await.unwrap();
    let bookmark = loop {
        let event = next(&mut events).await.unwrap().unwrap();
        assert!(event.bookmark && event.subject.is_empty(), "{event:?}");
        if event.revision >= other.generation {
            break event.revision;
        }
    };
    // What it is about comes behind the bookmark, also to a watch that begins there.
    let watched = client.deploy(&parts::shop("watched", "1")).await.unwrap();
    assert!(watched.generation > bookmark);
    let resumed = wire::WatchRequest { after_revision: bookmark, ..request };
    let mut resumed = client.events.watch(resumed).await.unwrap().into_inner();
    for events in [&mut events, &mut resumed] {
        let event = next(events).await.unwrap().unwrap();
        assert_eq!(
            (event.bookmark, event.revision, event.reason.as_str()),
            (false, watched.generation, "deployed")
        );
    }
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_gone_are_said_to_be_gone() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let first = client.deploy(&parts::shop("shop-0", "first")).await.unwrap();
    // It reads the first event and then no more, while more come than are kept and than the way to it holds.
    let mut slow = watch(&mut member.slow_client(), "graph", 0, true).await.unwrap();
    assert_eq!(next(&mut slow).await.unwrap().unwrap().revision, first.generation);
    make_events(&client, 4 * KEPT).await;

    let compacted = watch(&mut client, "", first.generation, true).await;
    let status = refused(compacted, Code::OutOfRange, "compacted");
    let oldest: u64 = status
        .message()
        .split_once("revision ")
        .and_then(|(_, rest)| rest.split(':').next())
        .and_then(|number| number.parse().ok())
        .expect("it names the oldest");
    let mut kept = watch(&mut client, "", oldest, false).await.unwrap();
    let mut revisions = Vec::new();
    while let Some(event) = next(&mut kept).await.unwrap() {
        revisions.push(event.revision);
    }
    assert!(revisions.iter().all(|revision| *revision > oldest) && revisions.len() > KEPT / 2);
    let mut all = watch(&mut client, "", 0, false).await.unwrap();
    let mut count = 0;
    while next(&mut all).await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, KEPT, "0 asks for what there is");

    // The slow reader has what was sent to it, in order and without a hole, and is then told.
    let mut last = first.generation;
    let ended = loop {
        match next(&mut slow).await {
            Ok(Some(event)) => {
                assert_eq!(event.revision, last + 1, "each of these revisions has one event");
                last = event.revision;
            }
            other => break other,
        }
    };
    refused(ended, Code::OutOfRange, "compacted");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_change_one_graph_in_some_order() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let mut revisions = Vec::new();
                while revisions.len() < 10 {
                    let manifest = parts::shop("shop", &format!("{number}-{}", revisions.len()));
                    let request = graph::DeployRequest {
                        request_id: fresh_id(),
                        manifest,
                        artifacts: parts::shop_artifacts(),
                        ..graph::DeployRequest::default()
                    };
                    match client.graphs.deploy(request).await {
                        Ok(answer) => revisions.push(answer.into_inner().revision),
                        // It lost too many races: nothing was done.
                        Err(status) => assert!(
                            matches!(status.code(), Code::Aborted | Code::FailedPrecondition),
                            "{status:?}"
                        ),
                    }
                }
                revisions
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        let revisions = task.await.unwrap();
        assert!(revisions.is_sorted(), "{revisions:?}");
        all.extend(revisions);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=80).collect::<Vec<u64>>(), "each revision is one client's");
    member.stop().await;
}
