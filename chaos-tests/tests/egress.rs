//! No request leaves the cluster unless the manifest lists its origin and the node's operator allows its address; the
//! ports of the cluster itself are never reached.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::net::SocketAddr;

use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::origin::Origin;
use chaos_tests::traffic::Client;

const HOST: &str = "faulty.localhost";

fn granted(origins: &[String]) -> Bundle {
    let list: Vec<String> = origins.iter().map(|origin| format!("\"{origin}\"")).collect();
    let line = format!("    egress: [{}]\n    limits:", list.join(", "));
    Bundle::graph("faulty").with("    limits:", &line)
}

async fn fetch(client: &mut Client, url: &str) -> String {
    let answer = client.get(&format!("/fetch?url={url}")).await;
    assert_eq!(answer.status, 200, "{url}: {}", answer.body);
    answer.body.trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_reached_unless_it_is_listed_and_allowed() {
    let cluster = Cluster::start().await;
    let (api, mut client) = (cluster.api(), cluster.client(HOST));
    let origin = Origin::start(None).await;
    let url = format!("http://{}", origin.address);

    api.deploy_and_wait(&Bundle::graph("faulty")).await;
    assert_eq!(fetch(&mut client, &url).await, "error ErrorCode::HttpRequestDenied", "not listed");
    api.deploy_and_wait(&granted(std::slice::from_ref(&url))).await;
    let prohibited = fetch(&mut client, &url).await;
    assert_eq!(
        prohibited, "error ErrorCode::DestinationIpProhibited",
        "listed, and not of the public internet"
    );
    assert_eq!(origin.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_private_addresses_allowed_exactly_the_listed_origins_are_reached() {
    let cluster = Cluster::start_with(&["--allow-private-egress"]).await;
    let (api, mut client) = (cluster.api(), cluster.client(HOST));
    let (origin, other) = (Origin::start(None).await, Origin::start(None).await);
    let redirect = Origin::start(Some(format!("http://{}/", other.address))).await;
    let url = |origin: &Origin| format!("http://{}", origin.address);
    api.deploy_and_wait(&granted(&[url(&origin), url(&redirect)])).await;

    assert_eq!(fetch(&mut client, &format!("{}/a?b=c", url(&origin))).await, "status 200");
    assert_eq!(origin.requests(), 1);
    let port = origin.address.port();
    for unlisted in [
        url(&other),
        format!("http://localhost:{port}"),
        format!("http://127.0.0.2:{port}"),
        format!("https://127.0.0.1:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}"),
        "http://example.com".to_owned(),
    ] {
        assert_eq!(fetch(&mut client, &unlisted).await, "error ErrorCode::HttpRequestDenied", "{unlisted}");
    }
    let user = format!("http://{}@{}", origin.address, other.address);
    let refused = fetch(&mut client, &user).await;
    assert!(refused.starts_with("bad url") || refused.contains("ErrorCode::"), "{refused}");
    assert_eq!((origin.connections(), other.connections()), (1, 0));

    assert_eq!(fetch(&mut client, &url(&redirect)).await, "status 302", "a redirect is shown, not followed");
    assert_eq!((redirect.requests(), other.connections()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ports_of_the_cluster_are_refused_under_every_name() {
    let cluster = Cluster::start_with(&["--allow-private-egress"]).await;
    let (api, mut client) = (cluster.api(), cluster.client(HOST));
    let own: [SocketAddr; 3] =
        [cluster.control_plane_address(), cluster.agent_api_address(), cluster.ingress_address()];
    let names = ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"];
    for name in names {
        let urls: Vec<String> = own.iter().map(|address| format!("http://{name}:{}", address.port())).collect();
        let bundle = granted(&urls);
        // Names that no manifest may list are out of reach even earlier.
        if let Err(wrong) = graph::manifest::parse(bundle.manifest().as_bytes()) {
            assert!(wrong.iter().all(|diagnostic| diagnostic.reason == "egress_rule"), "{name}: {wrong:?}");
            continue;
        }
        api.deploy_and_wait(&bundle).await;
        for url in urls {
            assert_eq!(fetch(&mut client, &url).await, "error ErrorCode::DestinationIpProhibited", "{url}");
        }
    }
}
