//! The measure for links between nodes: what a call over gRPC costs with tonic and no component.
//!
//! `raw_echo serve FILE` echoes messages on a free port of loopback, as a unary method and as a stream in both
//! directions, and writes to the file who may connect. `raw_echo call ADDRESS FILE` takes the place of the consumer's agent: `GET /unary?n=1000` makes so many calls one after
//! another and answers their number, `GET /bidi?n=1000` sends as many messages on a stream that it opens for it, each
//! when the one before has come back; with `&bytes=N` either carries so many more. `POST /pour` sends its body on such a
//! stream, in messages of 64 KiB at most, and answers how much came back. Both print where they listen. Connections, their TLS and their settings are those
//! of the agent, and the message has the bytes of a call of `add: func(u32, u32) -> u32`.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use http::uri::PathAndQuery;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use model::id::{ClusterId, Uid};
use model::link::PIPE_DATA_MAX_BYTES;
use proto::weft::link::v1::{Call, Frame, Frames, Pipe, frame, pipe};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codegen::Service;
use tonic::server::{NamedService, StreamingService, UnaryService};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use trust::{Authority, Clients, Expect, Identity, Key, Keyring, Role, SpiffeId};

/// As the agent's carrier.
const CONNECTIONS: usize = 2;
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

const UNARY: &str = "/raw.Echo/Unary";
const BIDI: &str = "/raw.Echo/Bidi";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", file] => serve(file).await,
        ["call", address, file] => call(address, file).await,
        _ => anyhow::bail!("usage: raw_echo serve FILE | raw_echo call ADDRESS FILE"),
    }
}

async fn listen() -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    Ok(listener)
}

/// An identity of a cluster that is made for this run.
fn issue(authority: &Authority, role: Role) -> anyhow::Result<Identity> {
    let (key, now) = (Key::generate()?, SystemTime::now());
    let id = SpiffeId::new(authority.cluster().clone(), role, Uid::new("1")?)?;
    let day = Duration::from_hours(24);
    let certificate = authority.issue(&key.request()?, &id, now..now + day)?;
    Ok(Identity::new(key, certificate, vec![authority.certificate_der().to_vec()])?)
}

async fn serve(file: &str) -> anyhow::Result<()> {
    let authority = Authority::generate(&ClusterId::new("raw-echo")?, SystemTime::now())?;
    std::fs::write(file, issue(&authority, Role::Node)?.to_pem().as_bytes())?;
    let keyring = Keyring::new(issue(&authority, Role::Member)?);
    let incoming = trust::incoming(listen().await?, keyring, Clients::Required);
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_service(Echo)
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

/// Both methods, as generated code would offer them.
#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "raw.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Frames, Frames>::default());
            Ok(match request.uri().path() {
                UNARY => grpc.unary(Echo, request).await,
                BIDI => grpc.streaming(Echo, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        }
        .boxed()
    }
}

impl UnaryService<Frames> for Echo {
    type Response = Frames;
    type Future = std::future::Ready<Result<Response<Frames>, Status>>;

    fn call(&mut self, request: Request<Frames>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

impl StreamingService<Frames> for Echo {
    type Response = Frames;
    type ResponseStream = Streaming<Frames>;
    type Future = std::future::Ready<Result<Response<Streaming<Frames>>, Status>>;

    fn call(&mut self, request: Request<Streaming<Frames>>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

async fn call(address: &str, file: &str) -> anyhow::Result<()> {
    let address: SocketAddr = address.parse()?;
    let keyring = Keyring::new(Identity::from_pem(&std::fs::read_to_string(file)?)?);
    let connector = trust::connector(keyring, Expect::Member);
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        channels.push(endpoint.connect_with_connector(connector.clone()).await?);
    }
    let caller = Arc::new(Caller { channels, next: AtomicUsize::new(0) });
    let listener = listen().await?;
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        let caller = caller.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| caller.answer(request));
            // A client that goes away is no failure of the measurement; the load generator counts what it got.
            let _ =
                http1::Builder::new().keep_alive(true).serve_connection(TokioIo::new(client), service).await;
        });
    }
}

struct Caller {
    channels: Vec<Channel>,
    next: AtomicUsize,
}

impl Caller {
    async fn answer(
        &self,
        request: hyper::Request<Incoming>,
    ) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
        let query = request.uri().query().unwrap_or_default();
        let number = |name: &str| {
            let value = query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            value.and_then(|value| value.parse().ok())
        };
        let (count, bytes) = (number("n"), number("bytes").unwrap_or_default());
        let done = match (request.uri().path(), count) {
            ("/unary", Some(count)) => self.unary(count, bytes).await,
            ("/bidi", Some(count)) => self.bidi(count, bytes).await,
            ("/pour", None) => self.pour(request.into_body()).await,
            _ => Err(anyhow::anyhow!("/unary?n=…, /bidi?n=… or /pour")),
        };
        let (status, text) = match done {
            Ok(count) => (http::StatusCode::OK, count.to_string()),
            Err(error) => (http::StatusCode::BAD_GATEWAY, format!("{error:#}")),
        };
        let mut response = hyper::Response::new(Full::new(text.into()));
        *response.status_mut() = status;
        Ok(response)
    }

    fn grpc(&self) -> Grpc<Channel> {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.channels.len();
        Grpc::new(self.channels[at].clone())
    }

    async fn unary(&self, count: u32, bytes: u32) -> anyhow::Result<u32> {
        let mut grpc = self.grpc();
        for number in 0..count {
            grpc.ready().await?;
            let (path, codec) = (PathAndQuery::from_static(UNARY), ProstCodec::default());
            let answer: Response<Frames> =
                grpc.unary(Request::new(message(number, bytes)), path, codec).await?;
            check(number, &answer.into_inner())?;
        }
        Ok(count)
    }

    async fn bidi(&self, count: u32, bytes: u32) -> anyhow::Result<u32> {
        if count == 0 {
            return Ok(0);
        }
        let mut grpc = self.grpc();
        grpc.ready().await?;
        let (sender, messages) = mpsc::channel(1);
        // The first message goes with the stream: no one waits for an empty answer.
        sender.send(message(0, bytes)).await?;
        let (path, codec) = (PathAndQuery::from_static(BIDI), ProstCodec::default());
        let messages = ReceiverStream::new(messages);
        let answers: Response<Streaming<Frames>> = grpc.streaming(Request::new(messages), path, codec).await?;
        let mut answers = answers.into_inner();
        for number in 0..count {
            if number > 0 {
                sender.send(message(number, bytes)).await?;
            }
            let answer = answers.next().await.context("the stream has ended")??;
            check(number, &answer)?;
        }
        Ok(count)
    }

    /// How many bytes came back.
    async fn pour(&self, body: Incoming) -> anyhow::Result<u32> {
        let mut grpc = self.grpc();
        grpc.ready().await?;
        let (sender, messages) = mpsc::channel(4);
        let fed = tokio::spawn(feed(body, sender));
        let (path, codec) = (PathAndQuery::from_static(BIDI), ProstCodec::default());
        let messages = ReceiverStream::new(messages);
        let answers: Response<Streaming<Frames>> = grpc.streaming(Request::new(messages), path, codec).await?;
        let (mut answers, mut came) = (answers.into_inner(), 0);
        while let Some(answer) = answers.next().await {
            for frame in answer?.frames {
                if let Some(frame::Body::Pipe(Pipe { piped: Some(pipe::Piped::Data(data)), .. })) = frame.body {
                    came += u32::try_from(data.len())?;
                }
            }
        }
        fed.await??;
        Ok(came)
    }
}

/// A body of a request, in messages as the agent's.
async fn feed(mut body: Incoming, sender: mpsc::Sender<Frames>) -> anyhow::Result<()> {
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame?.into_data() else { continue };
        while !data.is_empty() {
            let part = data.split_to(data.len().min(PIPE_DATA_MAX_BYTES));
            let pipe = Pipe { pipe: 1, piped: Some(pipe::Piped::Data(part)) };
            let frame = Frame { session: 1, body: Some(frame::Body::Pipe(pipe)) };
            sender.send(Frames { frames: vec![frame] }).await?;
        }
    }
    Ok(())
}

/// What the agent sends for `add(number, 1)`, and so many bytes.
fn message(number: u32, bytes: u32) -> Frames {
    /// Most of the ten seconds that a call has.
    const LEFT_US: u64 = 9_900_000;
    let mut arguments = vec![0x08];
    let mut left = number;
    while left >= 0x80 {
        arguments.push(left.to_le_bytes()[0] | 0x80);
        left >>= 7;
    }
    arguments.extend([left.to_le_bytes()[0], 0x10, 1]);
    arguments.resize(arguments.len() + bytes as usize, 7);
    let call = Call { function: 0, arguments, deadline_us: LEFT_US, trace: Vec::new() };
    Frames { frames: vec![Frame { session: u64::from(number), body: Some(frame::Body::Call(call)) }] }
}

fn check(number: u32, answer: &Frames) -> anyhow::Result<()> {
    let is_it = answer.frames.iter().any(|frame| frame.session == u64::from(number));
    anyhow::ensure!(is_it, "another message came back than number {number}");
    Ok(())
}
