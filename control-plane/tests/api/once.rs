//! Every mutation carries a request id and is applied once.

use proto::weft::graph::v1 as graph;
use proto::weft::policy::v1 as policy;
use tonic::Code;

use crate::member::{Client, Member, fresh_id, refused};
use crate::parts;

/// What a mutation answered, as text, so that answers of all kinds can be compared.
type Answer = Result<String, tonic::Status>;

/// A mutation: sent with a request id, in one of two wordings.
#[derive(Debug, Clone, Copy)]
enum Mutation {
    Deploy,
    Rollback,
    Delete,
    Apply,
    RollbackPolicy,
    DeletePolicy,
}

impl Mutation {
    const ALL: [Self; 6] =
        [Self::Deploy, Self::Rollback, Self::Apply, Self::RollbackPolicy, Self::DeletePolicy, Self::Delete];

    async fn send(self, client: &mut Client, request_id: &str, wording: u32) -> Answer {
        let request_id = request_id.to_owned();
        let graph = "default/shop".to_owned();
        let text = |answer: &dyn std::fmt::Debug| format!("{answer:?}");
        Ok(match self {
            Self::Deploy => {
                let request = graph::DeployRequest {
                    request_id,
                    manifest: parts::shop("shop", &format!("wording {wording}")),
                    artifacts: parts::shop_artifacts(),
                    ..graph::DeployRequest::default()
                };
                let mut answer = client.graphs.deploy(request).await?.into_inner();
                // Of the first answer only: they are not kept.
                answer.warnings.clear();
                text(&answer)
            }
            Self::Rollback => {
                let to_revision = u64::from(wording);
                let request = graph::RollbackRequest { request_id, graph, to_revision };
                text(&client.graphs.rollback(request).await?.into_inner())
            }
            Self::Delete => {
                let expected_revision = (wording == 2).then_some(77);
                let request = graph::DeleteRequest { request_id, graph, expected_revision };
                text(&client.graphs.delete(request).await?.into_inner())
            }
            Self::Apply => {
                let manifest = parts::policy("watch", "./proxy.wasm", 10 + wording);
                let artifacts = parts::policy_artifacts();
                let request = policy::ApplyRequest { request_id, manifest, artifacts, at_once: false };
                text(&client.policies.apply(request).await?.into_inner())
            }
            Self::RollbackPolicy => {
                let to_generation = if wording == 2 { 12_345 } else { 0 };
                let request = policy::RollbackRequest { request_id, name: "watch".to_owned(), to_generation };
                text(&client.policies.rollback(request).await?.into_inner())
            }
            Self::DeletePolicy => {
                let name = if wording == 2 { "other" } else { "watch" }.to_owned();
                let mut answer =
                    client.policies.delete(policy::DeleteRequest { request_id, name }).await?.into_inner();
                // What a deletion changed is not known when it is repeated.
                answer.relinked.clear();
                text(&answer)
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutation_is_applied_once() {
    let mut member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    for setting in ["one", "two"] {
        client.deploy(&parts::shop("shop", setting)).await.unwrap();
        client.apply(&parts::policy("watch", "./proxy.wasm", setting.len() as u32)).await.unwrap();
        client.apply(&parts::policy("watch", "./proxy.wasm", 5)).await.unwrap();
    }
    for mutation in Mutation::ALL {
        let none = mutation.send(&mut client, "", 1).await;
        refused(none, Code::InvalidArgument, "missing_field");
        let before = client.state_revision().await;
        let id = fresh_id();
        let first = mutation.send(&mut client, &id, 1).await.unwrap();
        let after = client.state_revision().await;
        assert!(after > before, "{mutation:?} changes something");

        assert_eq!(mutation.send(&mut client, &id, 1).await.unwrap(), first, "{mutation:?}");
        refused(mutation.send(&mut client, &id, 2).await, Code::AlreadyExists, "idempotency_mismatch");
        for other in Mutation::ALL {
            if std::mem::discriminant(&other) != std::mem::discriminant(&mutation) {
                let answer = other.send(&mut client, &id, 1).await;
                refused(answer, Code::AlreadyExists, "idempotency_mismatch");
            }
        }
        assert_eq!(client.state_revision().await, after, "{mutation:?} was applied once");

        member = member.restart().await;
        client = member.client();
        // It listens at another port, and said so.
        let after = client.state_revision().await;
        assert_eq!(mutation.send(&mut client, &id, 1).await.unwrap(), first, "{mutation:?}, after a restart");
        assert_eq!(client.state_revision().await, after, "{mutation:?} was applied once");
    }
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_sent_many_times_at_one_moment_is_applied_once() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let id = fresh_id();
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (mut client, id) = (client.clone(), id.clone());
            tokio::spawn(async move { client.deploy_as(&id, &parts::shop("shop", "one")).await })
        })
        .collect();
    for task in tasks {
        let answer = task.await.unwrap().unwrap();
        assert_eq!((answer.revision, answer.unchanged), (1, false));
    }
    assert_eq!(client.status("default/shop").await.unwrap().revision, 1);
    member.stop().await;
}
