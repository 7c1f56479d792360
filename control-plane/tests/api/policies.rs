//! Policies: planned, applied, deleted, rolled back; refused as a whole where a graph could not be linked.

use proto::weft::policy::v1 as wire;
use tonic::Code;

use crate::member::{Client, Member, fresh_id, refused};
use crate::parts;

async fn plan(client: &mut Client, manifest: &str) -> wire::PlanResponse {
    let request = wire::PlanRequest { manifest: manifest.to_owned(), artifacts: parts::policy_artifacts() };
    client.policies.plan(request).await.unwrap().into_inner()
}

async fn get(client: &mut Client, generation: u64) -> Result<wire::GetResponse, tonic::Status> {
    let request = wire::GetRequest { name: "watch".to_owned(), generation };
    Ok(client.policies.get(request).await?.into_inner())
}

fn graphs(relinked: &[wire::Relinked]) -> Vec<&str> {
    relinked.iter().map(|relinked| relinked.graph.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_stands_on_its_links_until_it_is_deleted() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    client.deploy(&parts::shop("shop", "one")).await.unwrap();
    client.deploy(&parts::lonely("alone")).await.unwrap();
    let (manifest, other) =
        (parts::policy("watch", "./proxy.wasm", 10), parts::policy("watch", "./proxy.wasm", 20));

    let planned = plan(&mut client, &manifest).await;
    assert_eq!((planned.name.as_str(), planned.effects.len(), planned.refused.len()), ("watch", 1, 0));
    assert_eq!(planned.effects[0].graph, "default/shop");
    assert!(client.policies_on("default/shop").await.is_empty(), "planning changes nothing");

    let applied = client.apply(&manifest).await.unwrap();
    assert!(!applied.unchanged && applied.warnings.is_empty());
    assert_eq!(graphs(&applied.relinked), ["default/shop"]);
    let on = client.policies_on("default/shop").await;
    assert_eq!(on.get("watch"), Some(&applied.generation));
    let status = client.status("default/shop").await.unwrap();
    assert_eq!((status.revision, status.generation), (1, applied.relinked[0].generation));
    assert!(client.apply(&manifest).await.unwrap().unchanged);
    // A graph that comes later is under it too.
    client.deploy(&parts::shop("later", "one")).await.unwrap();
    assert_eq!(client.policies_on("default/later").await.len(), 1);
    let shown = get(&mut client, 0).await.unwrap();
    assert_eq!(shown.links.len(), 2, "{:?}", shown.links);
    assert_eq!(shown.policy.unwrap().links, 2);

    let second = client.apply(&other).await.unwrap();
    assert_eq!(graphs(&second.relinked), ["default/later", "default/shop"]);
    let listed = client.policies.list(wire::ListRequest {}).await.unwrap().into_inner().policies;
    assert_eq!((listed.len(), listed[0].priority, listed[0].links), (1, 20, 2));
    let rollback = |to_generation| wire::RollbackRequest {
        request_id: fresh_id(),
        name: "watch".to_owned(),
        to_generation,
    };
    let back = client.policies.rollback(rollback(0)).await.unwrap().into_inner();
    assert_eq!(get(&mut client, 0).await.unwrap().manifest, manifest);
    let generations = get(&mut client, 0).await.unwrap().generations;
    assert_eq!(generations, [back.generation, second.generation, applied.generation]);
    assert_eq!(get(&mut client, second.generation).await.unwrap().manifest, other);
    refused(get(&mut client, 3).await, Code::NotFound, "not_found");
    refused(client.policies.rollback(rollback(3)).await, Code::FailedPrecondition, "no_earlier_revision");

    let delete = |name: &str| wire::DeleteRequest { request_id: fresh_id(), name: name.to_owned() };
    let near = refused(client.policies.delete(delete("wutch")).await, Code::NotFound, "not_found");
    assert!(near.message().contains("did you mean watch?"), "{near:?}");
    let deleted = client.policies.delete(delete("watch")).await.unwrap().into_inner();
    assert_eq!(graphs(&deleted.relinked), ["default/later", "default/shop"]);
    assert!(client.policies_on("default/shop").await.is_empty());
    refused(get(&mut client, 0).await, Code::NotFound, "not_found");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_would_block_a_graph_changes_none() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    for name in ["shop-a", "shop-b"] {
        client.deploy(&parts::shop(name, "one")).await.unwrap();
    }
    client.apply(&parts::policy("watch", "./proxy.wasm", 10)).await.unwrap();
    let before = client.state_revision().await;
    let odd = parts::policy("odd", "./odd.wasm", 20);
    let planned = plan(&mut client, &odd).await;
    let blocked: Vec<&str> = planned.refused.iter().map(|effect| effect.graph.as_str()).collect();
    assert_eq!(blocked, ["default/shop-a", "default/shop-b"], "{planned:?}");
    assert!(planned.refused.iter().all(|effect| !effect.lines.is_empty()));
    let status = refused(client.apply(&odd).await, Code::FailedPrecondition, "policy_unlinkable");
    assert!(status.message().contains("default/shop-a"), "{status:?}");
    // The other way round: a version of the policy that is there.
    let worse = parts::policy("watch", "./odd.wasm", 10);
    refused(client.apply(&worse).await, Code::FailedPrecondition, "policy_unlinkable");
    assert_eq!(client.state_revision().await, before, "nothing was changed");
    assert_eq!(client.policies_on("default/shop-a").await.len(), 1);
    assert_eq!(client.policies.list(wire::ListRequest {}).await.unwrap().into_inner().policies.len(), 1);

    // With no graph in its way it is applied, and a graph that it would block is refused.
    for name in ["default/shop-a", "default/shop-b"] {
        client.delete(name).await.unwrap();
    }
    client.apply(&odd).await.unwrap();
    let answer = client.deploy(&parts::shop("shop-c", "one")).await.unwrap_err();
    assert_ne!(answer.code(), Code::Internal, "{answer:?}");
    refused(client.get("default/shop-c").await, Code::NotFound, "not_found");
    client.deploy(&parts::lonely("alone")).await.unwrap();
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_and_deploys_at_one_time_leave_no_graph_without_them() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let deploys: Vec<_> = (0..4)
        .map(|number| {
            let mut client = client.clone();
            tokio::spawn(async move {
                for turn in 0..10 {
                    let manifest = parts::shop(&format!("shop-{number}"), &turn.to_string());
                    // A policy may win every race of one deploy: it is sent again.
                    while let Err(status) = client.deploy(&manifest).await {
                        assert_eq!(status.code(), Code::Aborted, "{status:?}");
                    }
                }
            })
        })
        .collect();
    let mut last = 0;
    for turn in 0..10 {
        let manifest = parts::policy("watch", "./proxy.wasm", 10 + turn);
        last = loop {
            match client.apply(&manifest).await {
                Ok(applied) => break applied.generation,
                Err(status) => {
                    assert!(matches!(status.code(), Code::Aborted | Code::Unavailable), "{status:?}")
                }
            }
        };
    }
    for deploy in deploys {
        deploy.await.unwrap();
    }
    for number in 0..4 {
        let on = client.policies_on(&format!("default/shop-{number}")).await;
        assert_eq!(on.get("watch"), Some(&last), "shop-{number}");
    }
    member.stop().await;
}
