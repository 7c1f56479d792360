//! What the graphs of a namespace may use together: refused where it would be more, whoever asks first.

use proto::weft::graph::v1::PlanRequest;
use proto::weft::namespace::v1 as wire;
use proto::weft::namespace::v1::namespaces_client::NamespacesClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::member::{Client, Member, fresh_id, refused};
use crate::parts;

/// The memory of a component that names no limit.
const COMPONENT_BYTES: u64 = 64 << 20;

fn namespaces(client: &Client) -> NamespacesClient<Channel> {
    NamespacesClient::new(client.channel.clone())
}

fn replicas(most: u64) -> wire::Quota {
    wire::Quota { replicas: Some(most), ..wire::Quota::default() }
}

async fn set(client: &Client, id: &str, quota: wire::Quota) -> Result<wire::Namespace, Status> {
    let request = wire::SetQuotaRequest {
        request_id: id.to_owned(),
        namespace: "default".to_owned(),
        quota: Some(quota),
    };
    Ok(namespaces(client).set_quota(request).await?.into_inner().namespace.unwrap())
}

async fn get(client: &Client, name: &str) -> Result<wire::GetResponse, Status> {
    Ok(namespaces(client).get(wire::GetRequest { name: name.to_owned() }).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_stops_what_would_use_more() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    refused(get(&client, "default").await, Code::NotFound, "not_found");
    client.deploy(&parts::shop("shop", "one")).await.unwrap();
    let used = wire::Usage { graphs: 1, replicas: 2, memory_bytes: 2 * COMPONENT_BYTES, reserved: 0 };
    let id = fresh_id();
    let told = set(&client, &id, replicas(3)).await.unwrap();
    assert_eq!((told.quota, told.used), (Some(replicas(3)), Some(used)));

    // A request is applied once, whatever was said meanwhile.
    let at = client.state_revision().await;
    assert_eq!(set(&client, &id, replicas(3)).await.unwrap(), told);
    assert_eq!(client.state_revision().await, at);
    refused(set(&client, &id, replicas(4)).await, Code::AlreadyExists, "idempotency_mismatch");

    let over = client.deploy(&parts::shop("more", "one")).await;
    let said = refused(over, Code::ResourceExhausted, "quota_exceeded");
    assert!(said.message().contains("its other graphs use 2, and default/more would use 2"), "{said:?}");
    let request = PlanRequest { manifest: parts::shop("more", "one"), artifacts: parts::shop_artifacts() };
    let plan = client.graphs.plan(request).await.unwrap().into_inner().plan.unwrap();
    let warning = plan.warnings.iter().find(|warning| warning.contains("a deploy would be refused"));
    assert!(
        warning.is_some_and(|warning| warning.contains("`replicas` of namespace default is 3")),
        "{:?}",
        plan.warnings
    );
    client.deploy(&parts::lonely("more")).await.unwrap();
    client.deploy(&parts::shop("shop", "two")).await.expect("it uses as much as it did");

    // It may be less than what is used.
    set(&client, &fresh_id(), replicas(1)).await.unwrap();
    client.deploy(&parts::shop("shop", "three")).await.unwrap();
    refused(client.deploy(&parts::shop("more", "one")).await, Code::ResourceExhausted, "quota_exceeded");
    let shown = get(&client, "default").await.unwrap();
    let graphs: Vec<(&str, u64)> =
        shown.graphs.iter().map(|graph| (graph.graph.as_str(), graph.used.unwrap().replicas)).collect();
    assert_eq!(graphs, [("default/more", 1), ("default/shop", 2)]);
    let listed = namespaces(&client).list(wire::ListRequest {}).await.unwrap().into_inner().namespaces;
    assert_eq!(listed, [shown.namespace.unwrap()]);

    let member = member.restart().await;
    let mut client = member.client();
    refused(client.deploy(&parts::lonely("third")).await, Code::ResourceExhausted, "quota_exceeded");
    let none = set(&client, &fresh_id(), wire::Quota::default()).await.unwrap();
    assert_eq!((none.quota, none.quota_changed_at_ms), (Some(wire::Quota::default()), 0));
    client.deploy(&parts::lonely("third")).await.unwrap();
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_deploys_at_one_moment_as_many_pass_as_there_is_room_for() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let quota = wire::Quota { graphs: Some(3), ..wire::Quota::default() };
    set(&client, &fresh_id(), quota).await.unwrap();
    let deploys = (0..8).map(|number| {
        let mut client = client.clone();
        tokio::spawn(async move { client.deploy(&parts::lonely(&format!("g{number}"))).await })
    });
    let (mut passed, mut stopped) = (0, 0);
    for deploy in deploys.collect::<Vec<_>>() {
        match deploy.await.unwrap() {
            Ok(_) => passed += 1,
            Err(status) => {
                refused::<()>(Err(status), Code::ResourceExhausted, "quota_exceeded");
                stopped += 1;
            }
        }
    }
    assert_eq!((passed, stopped), (3, 5));
    assert_eq!(get(&client, "default").await.unwrap().graphs.len(), 3);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reserved_is_bounded_by_how_much_and_by_priority() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let quota = wire::Quota { reserved: Some(40), priority: Some(50), ..wire::Quota::default() };
    set(&client, &fresh_id(), quota).await.unwrap();
    let reserving = |name: &str, scale: &str, priority: &str| {
        let component = "{source: ./store.wasm, scale: {".to_owned() + scale + "}}";
        format!("version: 1\ngraph: {name}\n{priority}components:\n  store: {component}\n")
    };
    // Its priority is 50 where it does not say.
    client.deploy(&reserving("a", "replicas: 2, reserved: 15", "")).await.unwrap();
    let over = client.deploy(&reserving("b", "reserved: 11", "")).await;
    let said = refused(over, Code::ResourceExhausted, "quota_exceeded");
    assert!(said.message().contains("its other graphs use 30, and default/b would use 11"), "{said:?}");
    let above = client.deploy(&reserving("b", "reserved: 10", "priority: 51\n")).await;
    let said = refused(above, Code::ResourceExhausted, "quota_exceeded");
    assert!(said.message().contains("`priority: 50` or less"), "{said:?}");
    let manifest = reserving("b", "reserved: 10", "priority: 51\n");
    let request = PlanRequest { manifest, artifacts: parts::shop_artifacts() };
    let plan = client.graphs.plan(request).await.unwrap().into_inner().plan.unwrap();
    let is_told =
        |warning: &String| warning.contains("a deploy would be refused") && warning.contains("priority");
    assert!(plan.warnings.iter().any(is_told), "{:?}", plan.warnings);
    client.deploy(&reserving("b", "reserved: 10", "priority: 50\n")).await.unwrap();

    let member = member.restart().await;
    let told = get(&member.client(), "default").await.unwrap().namespace.unwrap();
    assert_eq!((told.quota, told.used.unwrap().reserved), (Some(quota), 40));
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_quota_is_refused() {
    let member = Member::start().await;
    let client = member.client();
    let mut service = namespaces(&client);
    let request =
        |name: &str, quota| wire::SetQuotaRequest { request_id: fresh_id(), namespace: name.to_owned(), quota };
    refused(service.set_quota(request("sales", None)).await, Code::InvalidArgument, "missing_field");
    let none = Some(wire::Quota::default());
    refused(service.set_quota(request("No", none)).await, Code::InvalidArgument, "malformed");
    let above = Some(wire::Quota { priority: Some(101), ..wire::Quota::default() });
    let said = refused(service.set_quota(request("sales", above)).await, Code::InvalidArgument, "malformed");
    assert!(said.message().contains("quota.priority: a priority is 0 to 100, not 101"), "{said:?}");
    let without_id = wire::SetQuotaRequest { request_id: String::new(), ..request("sales", none) };
    refused(service.set_quota(without_id).await, Code::InvalidArgument, "missing_field");
    service.set_quota(request("sales", Some(replicas(1)))).await.unwrap();
    let near = refused(get(&client, "sale").await, Code::NotFound, "not_found");
    assert!(near.message().contains("did you mean sales?"), "{near:?}");
    member.stop().await;
}
