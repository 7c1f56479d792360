//! An upload that broke off goes on where it stopped, also after a kill -9; bytes that are not what they are called
//! are never stored.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use chaos_tests::api::digest;
use chaos_tests::cluster::Cluster;
use tonic::Code;

const SIZE: usize = 6 << 20;
const FIRST_PART: usize = 2 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_a_kill() {
    let mut cluster = Cluster::start().await;
    let api = cluster.api();
    let bytes: Vec<u8> = (0..SIZE / 8).flat_map(|_| cluster.choices.number().to_le_bytes()).collect();
    let name = digest(&bytes);
    assert_eq!(api.stored(&name).await.unwrap(), Err(0));

    // The stream ends early: what came is kept.
    let answer = api.put(&name, SIZE, 0, &bytes[..FIRST_PART]).await.unwrap();
    assert!(!answer.complete && answer.offset as usize == FIRST_PART, "{answer:?}");
    cluster.control_plane.restart().await;
    let Err(offset) = api.stored(&name).await.unwrap() else { panic!("a part is not the whole") };
    assert!(offset as usize <= FIRST_PART, "{offset}");
    let wrong = api.put(&name, SIZE, offset + 1, &bytes[FIRST_PART..]).await.unwrap_err();
    assert_eq!(proto::status::reason(&wrong).as_deref(), Some("upload_offset"));
    let answer = api.put(&name, SIZE, offset, &bytes[usize::try_from(offset).unwrap()..]).await.unwrap();
    assert!(answer.complete, "{answer:?}");
    cluster.control_plane.restart().await;
    assert_eq!(api.stored(&name).await.unwrap(), Ok(SIZE as u64));
    assert!(api.download(&name).await.unwrap() == bytes, "the same bytes come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_not_stored() {
    let cluster = Cluster::start().await;
    let api = cluster.api();
    let name = digest(b"what it is called");
    let refused = api.put(&name, 17, 0, b"what was sent 17!").await.unwrap_err();
    assert_eq!(refused.code(), Code::DataLoss, "{refused:?}");
    assert_eq!(api.stored(&name).await.unwrap(), Err(0), "nothing of it is kept");
    assert!(api.put(&name, 17, 0, b"what it is called").await.unwrap().complete);
}
