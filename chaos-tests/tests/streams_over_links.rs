//! Streams and pollables of the host that are given over links: whoever reads, writes or waits does so as if the other
//! were on its node.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::Ctl;
use chaos_tests::traffic::Broken;
use chaos_tests::wait::{SOON, holds, until};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

const HOST: &str = "streams.localhost";

/// The graph with each member on its node, in the order of the calls.
fn placed(nodes: [&str; 3]) -> Bundle {
    let files = ["desk.wasm", "pass.wasm", "mill.wasm"];
    files.iter().zip(nodes).fold(Bundle::graph("streams"), |bundle, (file, node)| bundle.on(file, node))
}

/// Each on a node of its own.
async fn apart() -> Cluster {
    let cluster = Cluster::start_nodes(3).await;
    cluster.api().deploy_and_wait(&placed(["n1", "n2", "n3"])).await;
    cluster
}

/// A request whose body is sent piece by piece.
struct Upload {
    body: mpsc::Sender<Result<Frame<Bytes>, Infallible>>,
    answer: JoinHandle<Response<Incoming>>,
}

impl Upload {
    async fn begin(cluster: &Cluster, path: &str) -> Self {
        let stream = TcpStream::connect(cluster.ingress_address()).await.unwrap();
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let (body, pieces) = mpsc::channel(1);
        let request = Request::post(format!("http://{HOST}{path}"));
        let request = request.body(StreamBody::new(ReceiverStream::new(pieces))).unwrap();
        let answer = tokio::spawn(async move { sender.send_request(request).await.unwrap() });
        Self { body, answer }
    }

    async fn send(&self, bytes: impl Into<Bytes>) {
        self.body.send(Ok(Frame::data(bytes.into()))).await.unwrap();
    }

    /// The head of the answer, before the body is sent to its end.
    async fn head(&mut self) -> Response<Incoming> {
        tokio::time::timeout(SOON, &mut self.answer).await.expect("its head").unwrap()
    }

    /// The whole answer.
    async fn end(mut self) -> String {
        let answer = self.head().await;
        drop(self.body);
        let answer = tokio::time::timeout(SOON, answer.into_body().collect()).await.expect("in time");
        String::from_utf8(answer.unwrap().to_bytes().into()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_mean_the_same_however_far_they_go() {
    let cluster = Cluster::start_nodes(3).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    // More than may be on its way at once, with a line's end here and there.
    let long: String = (0..1_000_000_u32).map(|n| if n % 1_000 == 999 { '\n' } else { 'a' }).collect();
    let lines = "a line\n".repeat(500);
    let requests = [
        ("/measure", ""),
        ("/measure", "some bytes"),
        ("/measure", &long),
        ("/shout", "some words"),
        ("/shout", &long),
        ("/line", "one\ntwo\nthree\nfour"),
        ("/line", &long),
        ("/line", "no end"),
        ("/print", ""),
        ("/keep?7", "kept for later"),
        ("/keep?30000", &long[..100_000]),
        ("/through", "there and back"),
        ("/through", &long),
        ("/count", "counted"),
        ("/onto", "there and back"),
        ("/onto", &long),
        ("/timer?20", ""),
        ("/wait?20", ""),
        ("/lines", &lines),
        ("/released", ""),
        ("/released", "some bytes"),
        ("/subscribed?7", "some bytes"),
        // A list, not a stream: all of it at once in one message, in memory twice at each node.
        ("/whole?3000000", ""),
    ];
    let mut fused = Vec::new();
    for nodes in [["n1"; 3], ["n1", "n1", "n2"], ["n1", "n2", "n2"], ["n1", "n2", "n3"], ["n1", "n2", "n1"]] {
        api.deploy_and_wait(&placed(nodes)).await;
        let drawn = ctl.done(&["graph", "streams"]).await;
        let remote = nodes.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!(drawn.matches("(remote: ").count(), remote, "{nodes:?}: {drawn}");
        let mut client = cluster.client(HOST);
        for (number, (path, body)) in requests.iter().enumerate() {
            let answer = client.post(path, body).await;
            let answer = (answer.status, answer.body);
            if nodes == ["n1"; 3] {
                assert_eq!(answer.0, 200, "{path}: {}", answer.1);
                fused.push(answer);
            } else {
                assert_eq!(answer, fused[number], "{path} at {nodes:?}");
            }
        }
    }
    let texts: Vec<&str> = fused.iter().map(|(_, text)| text.get(..60).unwrap_or(text)).collect();
    assert_eq!(texts[0], "Ok((0, 0))");
    assert_eq!(texts[2], format!("Ok((1000000, {}))", 999_000 * 97 + 1_000 * 10));
    assert_eq!(texts[5], r#"Ok("one\n") Ok("two\n") Ok(10)"#);
    assert_eq!(texts[8], "one two three (Ok(()), Ok(()), Ok(()))");
    assert_eq!(texts[9], "kept for later");
    assert_eq!(texts[16], "false [1] true");
    assert_eq!(texts[17..], ["true true", "500 lines, Ok(0)", "dropped", "dropped", "Ok(7)", "3000000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_more_than_a_message_is_refused_where_it_is_sent_and_costs_no_neighbour() {
    let cluster = apart().await;
    let (mut client, ctl) = (cluster.client(HOST), Ctl::new(&cluster));
    // Its head may be on its way already.
    match client.ask(Method::GET, "/whole?5000000", "").await {
        Ok(answer) => assert_eq!(answer.status, 500, "{}", answer.body),
        Err(broken) => assert!(matches!(broken, Broken::Cut(_)), "{broken:?}"),
    }
    let said = "more than 4194304 bytes, and at most so many are carried";
    until("why is in the log", SOON, async || {
        let lines = ctl.done(&["logs", "streams", "--since", "1h"]).await;
        holds(lines.contains(said) && lines.contains("on node n2"), lines)
    })
    .await;
    assert_eq!(client.get("/whole?3000000").await.body, "3000000");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_through_all_nodes_as_they_come() {
    let cluster = apart().await;
    for path in ["/shout", "/through", "/onto"] {
        let mut upload = Upload::begin(&cluster, path).await;
        upload.send("word").await;
        let mut answer = upload.head().await;
        let mut came = Vec::new();
        for number in 1..=50 {
            while came.len() < number * 4 {
                let frame = tokio::time::timeout(SOON, answer.body_mut().frame()).await.expect(path);
                came.extend_from_slice(&frame.unwrap().unwrap().into_data().unwrap());
            }
            upload.send("word").await;
        }
        drop(upload.body);
        let rest = tokio::time::timeout(SOON, answer.into_body().collect()).await.expect(path).unwrap();
        came.extend_from_slice(&rest.to_bytes());
        let word = if path == "/shout" { "WORD" } else { "word" };
        assert_eq!(String::from_utf8(came).unwrap(), word.repeat(51), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_read_holds_back_the_sender_and_nobody_else() {
    let cluster = apart().await;
    // The windows of HTTP/2 and of two pipes, and what is in between.
    const HELD_MAX: usize = 16 << 20;
    let upload = Upload::begin(&cluster, "/idle?2500").await;
    let mut sent = 0;
    let piece = Bytes::from(vec![1; 64 << 10]);
    let stuck = Duration::from_millis(500);
    while tokio::time::timeout(stuck, upload.send(piece.clone())).await.is_ok() {
        sent += piece.len();
        assert!(sent < HELD_MAX, "{sent} bytes were taken of one that is not read");
    }
    let mut client = cluster.client(HOST);
    for _ in 0..20 {
        assert_eq!(client.post("/measure", "neighbour").await.body, "Ok((9, 963))");
    }
    assert_eq!(upload.end().await, "Ok(1)");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_with_a_node_is_an_error_of_the_call_and_of_its_streams() {
    let mut cluster = Cluster::start_nodes(3).await;
    let bundle = placed(["n1", "n2", "n3"])
        .with("to: pass}", "to: pass, on-loss: {error: link-lost}}")
        .with("to: mill}", "to: mill, on-loss: {error: link-lost}}");
    let api = cluster.api();
    api.deploy_and_wait(&bundle).await;
    // A call that has a stream for good; one that was lent it, which the desk reads on; a stream that came back.
    let lost = [
        ("/measure", "measuring", r#"Err("link_lost")"#),
        ("/line", "reading a line", r#"Err("link_lost")"#),
        ("/count", "", r#".Err("link_lost")"#),
    ];
    for (path, said, text) in lost {
        let mut upload = Upload::begin(&cluster, path).await;
        upload.send("some").await;
        let mut answer = upload.head().await;
        if said.is_empty() {
            let frame = tokio::time::timeout(SOON, answer.body_mut().frame()).await.expect("it is read");
            assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), ".");
        } else {
            api.said("default/streams", said, 1).await;
        }
        cluster.others[1].kill();
        let rest = tokio::time::timeout(SOON, answer.into_body().collect()).await.expect("in time");
        let answered = String::from_utf8(rest.unwrap().to_bytes().into()).unwrap();
        assert!(text.ends_with(&answered) || answered.starts_with(text), "{path}: {answered}");
        // Nobody may read on as if nothing were missing.
        assert!(path != "/line" || answered.ends_with(text), "{answered}");
        cluster.others[1].start().await;
        until("it serves again", SOON, async || {
            let answer = cluster.client(HOST).post("/through", "abc").await;
            holds(answer.body == "abc", answer)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_break_off_leave_nothing_behind() {
    let cluster = apart().await;
    let mut client = cluster.client(HOST);
    let open_files =
        || [&cluster.agent, &cluster.others[0], &cluster.others[1]].map(|agent| agent.open_files());
    let memory = || [&cluster.agent, &cluster.others[0], &cluster.others[1]].map(|agent| agent.memory_bytes());
    let break_off = async |times: usize| {
        for number in 0..times {
            let path = ["/measure", "/shout", "/line", "/through", "/onto"][number % 5];
            let mut upload = Upload::begin(&cluster, path).await;
            upload.send(vec![b'a'; 100_000]).await;
            upload.head().await;
            drop(upload);
        }
    };
    break_off(50).await;
    let (files, bytes) = (open_files(), memory());
    break_off(500).await;
    until("what was open is closed", SOON, async || {
        let now = open_files();
        holds(now.iter().zip(files).all(|(now, before)| *now <= before + 10), (files, now))
    })
    .await;
    let grown: Vec<u64> = memory().iter().zip(bytes).map(|(now, before)| now.saturating_sub(before)).collect();
    assert!(grown.iter().all(|grown| *grown < 64 << 20), "{grown:?}");
    assert_eq!(client.post("/measure", "neighbour").await.body, "Ok((9, 963))");
}
