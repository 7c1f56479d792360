//! Graphs: plan, deploy, roll back, list, watch, delete.

use proto::weft::graph::v1 as graph;
use tonic::Code;

use crate::member::{Client, Member, PATIENCE, fresh_id, refused};
use crate::parts;

fn deploy_request(manifest: &str) -> graph::DeployRequest {
    graph::DeployRequest {
        request_id: fresh_id(),
        manifest: manifest.to_owned(),
        artifacts: parts::shop_artifacts(),
        ..graph::DeployRequest::default()
    }
}

async fn plan(client: &mut Client, manifest: &str) -> graph::Plan {
    let request = graph::PlanRequest { manifest: manifest.to_owned(), artifacts: parts::shop_artifacts() };
    client.graphs.plan(request).await.unwrap().into_inner().plan.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_expected_revision_changes_nothing() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let expecting = |setting: &str, expected| graph::DeployRequest {
        expected_revision: Some(expected),
        ..deploy_request(&parts::shop("shop", setting))
    };
    refused(client.graphs.deploy(expecting("one", 1)).await, Code::FailedPrecondition, "generation_conflict");
    let first = client.graphs.deploy(expecting("one", 0)).await.unwrap().into_inner();
    assert_eq!(first.revision, 1);
    for stale in [0, 2, 77] {
        let answer = client.graphs.deploy(expecting("two", stale)).await;
        refused(answer, Code::FailedPrecondition, "generation_conflict");
    }
    assert_eq!(client.graphs.deploy(expecting("two", 1)).await.unwrap().into_inner().revision, 2);
    let delete = |expected| graph::DeleteRequest {
        request_id: fresh_id(),
        graph: "default/shop".to_owned(),
        expected_revision: Some(expected),
    };
    refused(client.graphs.delete(delete(1)).await, Code::FailedPrecondition, "generation_conflict");
    client.graphs.delete(delete(2)).await.unwrap();
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_deployed_as_it_was_shown_or_not_at_all() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let (one, two) = (parts::shop("shop", "one"), parts::shop("shop", "two"));
    let planned = plan(&mut client, &one).await;
    assert_eq!((planned.graph.as_str(), planned.base_revision), ("default/shop", 0));
    assert!(!planned.changes.is_empty());
    assert_eq!(plan(&mut client, &one).await.id, planned.id, "planning changes nothing");
    refused(client.get("default/shop").await, Code::NotFound, "not_found");

    let of_plan =
        |manifest: &str, id: &str| graph::DeployRequest { plan_id: id.to_owned(), ..deploy_request(manifest) };
    let other = client.graphs.deploy(of_plan(&two, &planned.id)).await;
    refused(other, Code::FailedPrecondition, "plan_stale");
    client.graphs.deploy(of_plan(&one, &planned.id)).await.unwrap();

    // Deployed meanwhile.
    let stale = plan(&mut client, &two).await;
    assert_eq!(stale.base_revision, 1);
    client.deploy(&parts::shop("shop", "three")).await.unwrap();
    let answer = client.graphs.deploy(of_plan(&two, &stale.id)).await;
    refused(answer, Code::FailedPrecondition, "plan_stale");
    // A policy meanwhile.
    let stale = plan(&mut client, &two).await;
    client.apply(&parts::policy("watch", "./proxy.wasm", 10)).await.unwrap();
    let answer = client.graphs.deploy(of_plan(&two, &stale.id)).await;
    refused(answer, Code::FailedPrecondition, "plan_stale");
    let fresh = plan(&mut client, &two).await;
    assert_eq!(fresh.linked.as_ref().unwrap().policies.len(), 1);
    client.graphs.deploy(of_plan(&two, &fresh.id)).await.unwrap();
    assert!(plan(&mut client, &two).await.changes.is_empty(), "what is deployed plans to nothing");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_whose_artifacts_are_not_there_is_refused_whole() {
    let member = Member::start().await;
    let mut client = member.client();
    let status =
        refused(client.deploy(&parts::shop("shop", "one")).await, Code::FailedPrecondition, "missing_artifact");
    let found = proto::status::diagnostics(&status).unwrap();
    let fields: Vec<&str> = found.diagnostics.iter().map(|diagnostic| diagnostic.field.as_str()).collect();
    assert_eq!(fields, ["components.front.source", "components.store.source"], "all of them are named");
    client.upload_parts().await;
    let mut lying = deploy_request(&parts::shop("shop", "one"));
    lying.artifacts.get_mut("./front.wasm").unwrap().size += 1;
    refused(client.graphs.deploy(lying).await, Code::InvalidArgument, "artifact_size");
    let mut unnamed = deploy_request(&parts::shop("shop", "one"));
    unnamed.artifacts.remove("./front.wasm");
    assert!(client.graphs.deploy(unnamed).await.is_err());
    refused(client.get("default/shop").await, Code::NotFound, "not_found");
    client.deploy(&parts::shop("shop", "one")).await.unwrap();
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_are_kept_and_returned_to() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let rollback = |to_revision| graph::RollbackRequest {
        request_id: fresh_id(),
        graph: "default/shop".to_owned(),
        to_revision,
    };
    refused(client.graphs.rollback(rollback(0)).await, Code::NotFound, "not_found");
    client.deploy(&parts::shop("shop", "one")).await.unwrap();
    refused(client.graphs.rollback(rollback(0)).await, Code::FailedPrecondition, "no_earlier_revision");
    client.deploy(&parts::shop("shop", "two")).await.unwrap();
    let again = client.deploy(&parts::shop("shop", "two")).await.unwrap();
    assert_eq!((again.revision, again.unchanged), (2, true));
    assert_eq!(client.graphs.rollback(rollback(0)).await.unwrap().into_inner().revision, 3);
    refused(client.graphs.rollback(rollback(9)).await, Code::NotFound, "not_found");

    let of = |revision| graph::GetRequest { graph: "default/shop".to_owned(), revision };
    let first = client.graphs.get(of(1)).await.unwrap().into_inner();
    let third = client.graphs.get(of(0)).await.unwrap().into_inner();
    assert_eq!(first.manifest, third.manifest);
    assert_eq!(third.manifest_revision, 3);
    let history = graph::HistoryRequest { graph: "default/shop".to_owned() };
    let history = client.graphs.history(history).await.unwrap().into_inner().revisions;
    let shown: Vec<(u64, u64, bool)> = history.iter().map(|r| (r.number, r.rollback_to, r.current)).collect();
    assert_eq!(shown, [(3, 1, true), (2, 0, false), (1, 0, false)]);

    client.deploy(&parts::lonely("other/store")).await.unwrap_err();
    client
        .deploy("version: 1\nnamespace: sales\ngraph: store\ncomponents: {store: {source: ./store.wasm}}\n")
        .await
        .unwrap();
    let list = |namespace: &str| graph::ListRequest { namespace: namespace.to_owned() };
    let names = |answer: graph::ListResponse| -> Vec<String> {
        answer.graphs.into_iter().map(|status| status.graph).collect()
    };
    assert_eq!(
        names(client.graphs.list(list("")).await.unwrap().into_inner()),
        ["default/shop", "sales/store"]
    );
    assert_eq!(names(client.graphs.list(list("sales")).await.unwrap().into_inner()), ["sales/store"]);
    refused(client.graphs.list(list("No Namespace")).await, Code::InvalidArgument, "malformed");
    let near = refused(client.get("default/shap").await, Code::NotFound, "not_found");
    assert!(near.message().contains("did you mean default/shop?"), "{near:?}");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_each_change_and_ends_with_the_graph() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let request = graph::WatchRequest { graph: "default/shop".to_owned() };
    refused(client.graphs.watch(request.clone()).await, Code::NotFound, "not_found");
    client.deploy(&parts::shop("shop", "one")).await.unwrap();
    let mut watch = client.graphs.watch(request.clone()).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!(first.revision, 1);
    assert!(matches!(first.state, Some(graph::graph_status::State::Pending(_))), "{first:?}");
    // Another graph's change is none of this one's.
    client.deploy(&parts::lonely("other")).await.unwrap();
    client.deploy(&parts::shop("shop", "two")).await.unwrap();
    assert_eq!(watch.message().await.unwrap().unwrap().revision, 2);
    client.delete("default/shop").await.unwrap();
    // Made anew before the watcher looks: it is another graph.
    client.deploy(&parts::shop("shop", "three")).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, watch.message()).await.expect("the watch ends");
    refused(ended, Code::NotFound, "not_found");

    let mut watch = client.graphs.watch(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().revision, 1);
    let stopping = tokio::spawn(member.stop());
    let ended = tokio::time::timeout(PATIENCE, watch.message()).await.expect("the watch ends");
    refused(ended, Code::Unavailable, "member_stopped");
    stopping.await.unwrap();
}

/// Rows 34–41 and 53 of the list of bad inputs, as a client sees them: what is stored is not yet accepted.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_component_are_refused() {
    let member = Member::start().await;
    let mut client = member.client();
    let store = parts::store();
    let cases: [(&[u8], &str); 9] = [
        (b"", "not_wasm"),
        (b"\0asm", "not_wasm"),
        (b"\0asm\x01\0\0\0", "core_module"),
        (b"\0asm\x0d\0\x01\0", "no_exports"),
        (b"(component)", "not_binary"),
        (b"\x1f\x8b\x08\0", "compressed"),
        (b"PK\x03\x04", "compressed"),
        (b"\x7fELF\x02\x01\x01", "precompiled"),
        (&store[..store.len() - 3], "malformed"),
    ];
    for (bytes, reason) in cases {
        let artifact = parts::artifact(bytes);
        assert!(client.put(&artifact, 0, bytes).await.unwrap().complete);
        let mut request = deploy_request(&parts::lonely("store"));
        request.artifacts.insert("./store.wasm".to_owned(), artifact);
        let status = refused(client.graphs.deploy(request).await, Code::InvalidArgument, reason);
        let found = proto::status::diagnostics(&status).unwrap().diagnostics;
        assert_eq!(found[0].field, "components.store.source", "{found:?}");
    }
    refused(client.get("default/store").await, Code::NotFound, "not_found");
    member.stop().await;
}
