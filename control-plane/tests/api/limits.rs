//! Messages that are too large or are none, headers, deadlines, health, reflection.

use std::time::Duration;

use proto::weft::graph::v1 as graph;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::member::{Client, Member, refused};
use crate::parts;

/// Bytes as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, bytes: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use bytes::BufMut as _;
        out.put_slice(&bytes);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        use bytes::Buf as _;
        Ok(Some(bytes.copy_to_bytes(bytes.remaining()).to_vec()))
    }
}

async fn raw(client: &Client, method: &'static str, request: Request<Vec<u8>>) -> Result<Vec<u8>, Status> {
    let mut grpc = Grpc::new(client.channel.clone());
    grpc.ready().await.unwrap();
    Ok(grpc.unary(request, PathAndQuery::from_static(method), Raw).await?.into_inner())
}

const DEPLOY: &str = "/weft.graph.v1.Graphs/Deploy";
const GET: &str = "/weft.graph.v1.Graphs/Get";

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_none_are_refused() {
    let member = Member::start().await;
    let client = member.client();
    // A field that goes on behind the end; a wire type that there is none of; a length of 2^31 and more; a number that
    // never ends.
    let malformed: [&[u8]; 5] =
        [&[0x0a, 0x05, b'a'], &[0x0f, 0x00], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0x0a], &[0xff; 11]];
    for bytes in malformed {
        for method in [DEPLOY, GET, "/weft.policy.v1.Policies/Apply", "/weft.artifact.v1.Artifacts/Stat"] {
            let answer = raw(&client, method, Request::new(bytes.to_vec())).await;
            refused(answer, Code::InvalidArgument, "malformed");
        }
    }
    // A text that is no UTF-8.
    let answer = raw(&client, GET, Request::new(vec![0x0a, 0x02, 0xff, 0xfe])).await;
    refused(answer, Code::InvalidArgument, "malformed");
    // Groups in each other, which prost follows to a depth of 100.
    let answer = raw(&client, GET, Request::new(vec![0x7b; 10_000])).await;
    refused(answer, Code::InvalidArgument, "malformed");
    refused(raw(&client, GET, Request::new(vec![])).await, Code::InvalidArgument, "malformed");
    let unknown = raw(&client, "/weft.graph.v1.Graphs/Explode", Request::new(vec![])).await.unwrap_err();
    assert_eq!(unknown.code(), Code::PermissionDenied, "no role may call what is not in the table");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_too_large_are_refused() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let answer = raw(&client, DEPLOY, Request::new(vec![0; (4 << 20) + 1])).await;
    refused(answer, Code::ResourceExhausted, "message_too_large");

    let comment = "# comment\n".repeat((1 << 20) / 10);
    let manifest = format!("{comment}{}", parts::shop("shop", "one"));
    refused(client.deploy(&manifest).await, Code::ResourceExhausted, "manifest_too_large");
    // Within every bound but that of one entry of the log.
    let mut text = String::new();
    let mut seed = 7_u64;
    while text.len() < 700_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text.push_str(&format!("# {seed:x}\n"));
    }
    let manifest = format!("{text}{}", parts::shop("shop", "one"));
    refused(client.deploy(&manifest).await, Code::ResourceExhausted, "command_too_large");
    refused(client.get("default/shop").await, Code::NotFound, "not_found");

    // Many mistakes: as many as fit are shown, and the reason always arrives.
    let many: String =
        (0..2_000).map(|n| format!("  part-{n}: {{source: ./{n}.wasm, colour: red}}\n")).collect();
    let manifest = format!("version: 1\ngraph: shop\ncomponents:\n{many}");
    let status = client.deploy(&manifest).await.unwrap_err();
    assert_eq!(proto::status::reason(&status).as_deref(), Some("unknown_field"), "{status:?}");
    assert!(proto::status::diagnostics(&status).unwrap().diagnostics.len() > 5);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_and_headers_have_bounds() {
    let member = Member::start().await;
    let mut client = member.client();
    client.upload_parts().await;
    let manifest = parts::shop("shop", "one");
    for id in ["a".repeat(129), "with space".to_owned(), "ümlaut".to_owned()] {
        refused(client.deploy_as(&id, &manifest).await, Code::InvalidArgument, "malformed");
    }
    refused(client.deploy_as("", &manifest).await, Code::InvalidArgument, "missing_field");
    let mut request = Request::new(vec![]);
    let value = "x".repeat(20 << 10);
    request.metadata_mut().insert("x-large", value.parse().unwrap());
    raw(&client, GET, request).await.unwrap_err();
    // The connection was refused, not the member.
    client.deploy(&manifest).await.unwrap();
    let mut request = Request::new(graph::ListRequest::default());
    request.set_timeout(Duration::ZERO);
    // An answer that is ready at once may be as fast as a deadline of no time; what must not be is another error.
    if let Err(late) = client.graphs.list(request).await {
        assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late:?}");
    }
    let mut request = Request::new(graph::ListRequest::default());
    request.metadata_mut().insert("grpc-timeout", "99999999H".parse().unwrap());
    client.graphs.list(request).await.unwrap();
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer() {
    let member = Member::start().await;
    let client = member.client();
    let mut health = HealthClient::new(client.channel.clone());
    let services = ["graph.v1.Graphs", "policy.v1.Policies", "artifact.v1.Artifacts", "node.v1.Nodes"];
    let services = services
        .iter()
        .chain(&["event.v1.Events", "log.v1.Logs", "trust.v1.Enrolment"])
        .map(|name| format!("weft.{name}"));
    for service in services.chain([String::new()]) {
        let request = HealthCheckRequest { service: service.clone() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let request = HealthCheckRequest { service: "weft.unknown".to_owned() };
    assert_eq!(health.check(request).await.unwrap_err().code(), Code::NotFound);

    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let symbol = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol("weft.graph.v1.Graphs".to_owned())),
    };
    let mut reflection = ServerReflectionClient::new(client.channel.clone());
    let asked = futures::stream::iter([list, symbol]);
    let mut answers = reflection.server_reflection_info(asked).await.unwrap().into_inner();
    let message = |answer: ServerReflectionResponse| answer.message_response.unwrap();
    let first = message(answers.message().await.unwrap().unwrap());
    let MessageResponse::ListServicesResponse(listed) = first else { panic!("{first:?}") };
    let names: Vec<&str> = listed.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["weft.graph.v1.Graphs", "weft.policy.v1.Policies", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let second = message(answers.message().await.unwrap().unwrap());
    assert!(matches!(second, MessageResponse::FileDescriptorResponse(_)), "{second:?}");
    drop(answers);

    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let stopping = tokio::spawn(member.stop());
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    stopping.await.unwrap();
}
