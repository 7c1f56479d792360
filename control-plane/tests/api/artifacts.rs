//! Artifacts: uploaded in parts, verified, read from anywhere.

use futures::stream;
use proto::CHUNK_MAX_BYTES;
use proto::weft::artifact::v1 as wire;
use tonic::Code;

use crate::member::{Client, Member, refused};
use crate::parts;

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 31 % 251) as u8).collect()
}

async fn stat(client: &mut Client, digest: &str) -> (bool, u64) {
    let request = wire::StatRequest { digest: digest.to_owned() };
    let answer = client.artifacts.stat(request).await.unwrap().into_inner();
    (answer.complete, answer.offset)
}

async fn get(client: &mut Client, digest: &str, offset: u64) -> Result<(Vec<u8>, usize), tonic::Status> {
    let request = wire::GetRequest { digest: digest.to_owned(), offset };
    let mut chunks = client.artifacts.get(request).await?.into_inner();
    let (mut all, mut largest) = (Vec::new(), 0);
    while let Some(message) = chunks.message().await? {
        largest = largest.max(message.chunk.len());
        all.extend(message.chunk);
    }
    Ok((all, largest))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_where_it_ended() {
    let member = Member::start().await;
    let mut client = member.client();
    let whole = bytes(CHUNK_MAX_BYTES * 3 + 17);
    let artifact = parts::artifact(&whole);
    let half = CHUNK_MAX_BYTES + 5;
    assert_eq!(stat(&mut client, &artifact.digest).await, (false, 0));
    let part = client.put(&artifact, 0, &whole[..half]).await.unwrap();
    assert_eq!((part.complete, part.offset), (false, half as u64));
    refused(get(&mut client, &artifact.digest, 0).await, Code::NotFound, "not_found");

    let member = member.restart().await;
    let mut client = member.client();
    assert_eq!(stat(&mut client, &artifact.digest).await, (false, half as u64));
    for wrong in [0, half - 1, half + 1] {
        let answer = client.put(&artifact, wrong, &whole[wrong..]).await;
        refused(answer, Code::FailedPrecondition, "upload_offset");
    }
    let rest = client.put(&artifact, half, &whole[half..]).await.unwrap();
    assert_eq!((rest.complete, rest.offset), (true, artifact.size));
    assert_eq!(stat(&mut client, &artifact.digest).await, (true, artifact.size));
    // Again: it is there.
    assert!(client.put(&artifact, 0, &whole[..10]).await.unwrap().complete);

    for from in [0, 1, half, whole.len() - 1, whole.len()] {
        let (found, largest) = get(&mut client, &artifact.digest, from as u64).await.unwrap();
        assert!(found == whole[from..], "from {from}");
        assert!(largest <= CHUNK_MAX_BYTES);
    }
    let beyond = get(&mut client, &artifact.digest, artifact.size + 1).await;
    refused(beyond, Code::OutOfRange, "offset");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_not_kept() {
    let member = Member::start().await;
    let mut client = member.client();
    let whole = bytes(1_000);
    let artifact = parts::artifact(&whole);
    let mut wrong = whole.clone();
    wrong[999] ^= 1;
    refused(client.put(&artifact, 0, &wrong).await, Code::DataLoss, "digest_mismatch");
    assert_eq!(stat(&mut client, &artifact.digest).await, (false, 0), "nothing is kept");
    refused(get(&mut client, &artifact.digest, 0).await, Code::NotFound, "not_found");

    let short = proto::weft::graph::v1::Artifact { size: 10, ..artifact.clone() };
    refused(client.put(&short, 0, &whole).await, Code::InvalidArgument, "upload_too_long");
    assert!(client.put(&artifact, 0, &whole).await.unwrap().complete);
    let other_size = proto::weft::graph::v1::Artifact { size: 1_001, ..artifact.clone() };
    refused(client.put(&other_size, 0, &whole).await, Code::InvalidArgument, "artifact_size");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_have_bounds() {
    let member = Member::start().await;
    let mut client = member.client();
    let artifact = parts::artifact(b"hello");
    let huge = proto::weft::graph::v1::Artifact { size: (64 << 20) + 1, ..artifact.clone() };
    refused(client.put(&huge, 0, b"hello").await, Code::ResourceExhausted, "component_too_large");

    let header = |digest: &str| Some(wire::PutHeader { digest: digest.to_owned(), size: 5, offset: 0 });
    let put = |messages: Vec<wire::PutRequest>| {
        let mut client = client.artifacts.clone();
        async move { client.put(stream::iter(messages)).await }
    };
    let large = wire::PutRequest { header: header(&artifact.digest), chunk: vec![0; CHUNK_MAX_BYTES + 1] };
    refused(put(vec![large]).await, Code::ResourceExhausted, "chunk_too_large");
    refused(put(vec![]).await, Code::InvalidArgument, "empty");
    refused(put(vec![wire::PutRequest::default()]).await, Code::InvalidArgument, "missing_field");
    for digest in ["", "sha256:12", "md5:00", &artifact.digest.to_uppercase()] {
        let message = wire::PutRequest { header: header(digest), chunk: b"hello".to_vec() };
        refused(put(vec![message]).await, Code::InvalidArgument, "malformed");
    }
    let first = wire::PutRequest { header: header(&artifact.digest), chunk: b"he".to_vec() };
    let empty = wire::PutRequest::default();
    refused(put(vec![first, empty]).await, Code::InvalidArgument, "missing_field");
    let too_large = wire::PutRequest { header: header(&artifact.digest), chunk: vec![0; 5 << 20] };
    refused(put(vec![too_large]).await, Code::ResourceExhausted, "message_too_large");
    assert_eq!(stat(&mut client, &artifact.digest).await, (false, 2));
    assert!(client.put(&artifact, 2, b"llo").await.unwrap().complete);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_do_not_write_one_upload() {
    let member = Member::start().await;
    let mut client = member.client();
    let whole = bytes(100);
    let artifact = parts::artifact(&whole);
    let header = wire::PutHeader { digest: artifact.digest.clone(), size: 100, offset: 0 };
    let (sender, receiver) = tokio::sync::mpsc::channel(2);
    let first = wire::PutRequest { header: Some(header), chunk: whole[..50].to_vec() };
    sender.send(first).await.unwrap();
    let mut other = client.artifacts.clone();
    let upload = tokio::spawn(async move {
        other.put(tokio_stream::wrappers::ReceiverStream::new(receiver)).await.unwrap().into_inner()
    });
    // Once the first chunk is on the disk, the other client has the upload.
    while stat(&mut client, &artifact.digest).await != (false, 50) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    refused(client.put(&artifact, 50, &whole[50..]).await, Code::Aborted, "upload_busy");
    sender.send(wire::PutRequest { header: None, chunk: whole[50..].to_vec() }).await.unwrap();
    drop(sender);
    assert!(upload.await.unwrap().complete);
    member.stop().await;
}
