//! HTTP requests to graphs: single ones, and steady load of which every answer is kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::wait;

/// A request without an answer for so long has failed: longer than any deadline of the examples.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two requests of one connection, so that load leaves room for what it runs beside.
const PACE: Duration = Duration::from_millis(4);

/// Asks one host of an ingress, over one connection that is kept.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    host: String,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, complete.
    pub body: String,
}

/// Why there is no whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// No connection.
    Connect(String),
    /// The connection ended before the head of an answer.
    NoAnswer(String),
    /// The connection ended inside the body, of which so many bytes came.
    Cut(usize),
    /// No answer in time.
    Silent,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    /// The request's id in the body of a failure, which is the one in the header too.
    pub fn request_id(&self) -> String {
        let id = self.json()["request"].as_str().expect("the body names the request").to_owned();
        assert_eq!(self.headers["weft-request-id"], id, "header and body name one request");
        id
    }
}

impl Client {
    /// Asks `host` at `address`; nothing is dialled yet.
    pub fn new(address: SocketAddr, host: &str) -> Self {
        Self { address, host: host.to_owned(), sender: None }
    }

    /// Opens the connection, so that the next request finds it open.
    pub async fn connect(&mut self) -> Result<(), Broken> {
        self.sender = None;
        let connect = |error: &dyn std::error::Error| Broken::Connect(error.to_string());
        let stream = TcpStream::connect(self.address).await.map_err(|error| connect(&error))?;
        stream.set_nodelay(true).map_err(|error| connect(&error))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| connect(&error))?;
        tokio::spawn(connection);
        self.sender = Some(sender);
        Ok(())
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.sender.as_ref().is_none_or(SendRequest::is_closed)
    }

    /// GET, which must be answered.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask(Method::GET, path, "").await.unwrap_or_else(|broken| panic!("GET {path}: {broken:?}"))
    }

    /// POST, which must be answered.
    pub async fn post(&mut self, path: &str, body: &str) -> Answer {
        self.ask(Method::POST, path, body).await.unwrap_or_else(|broken| panic!("POST {path}: {broken:?}"))
    }

    /// Any request. A failed one is not repeated; the next one dials again.
    pub async fn ask(&mut self, method: Method, path: &str, body: &str) -> Result<Answer, Broken> {
        self.send(method, path, HeaderMap::new(), body).await
    }

    /// GET with headers of one's own.
    pub async fn ask_with(&mut self, path: &str, headers: HeaderMap) -> Result<Answer, Broken> {
        self.send(Method::GET, path, headers, "").await
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: &str,
    ) -> Result<Answer, Broken> {
        if self.is_closed() {
            self.connect().await?;
        }
        let mut request = Request::new(Full::new(Bytes::from(body.to_owned())));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("a path");
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, self.host.parse().expect("a host"));
        let asking = self.send_once(request);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, asking).await.unwrap_or(Err(Broken::Silent));
        if answer.is_err() {
            self.sender = None;
        }
        answer
    }

    async fn send_once(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Broken> {
        let sender = self.sender.as_mut().expect("it is connected");
        let no_answer = |error: hyper::Error| Broken::NoAnswer(format!("{error:?}"));
        sender.ready().await.map_err(no_answer)?;
        let (head, mut body) = sender.send_request(request).await.map_err(no_answer)?.into_parts();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Broken::Cut(bytes.len()))?;
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
            }
        }
        let body = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }
}

/// One request of a load, and what came of it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// When it was sent.
    pub started: Instant,
    /// When its answer was whole, or it failed.
    pub ended: Instant,
    /// What came.
    pub answer: Result<Answer, Broken>,
}

impl Exchange {
    /// The body of a good answer.
    pub fn good(&self) -> Option<&str> {
        match &self.answer {
            Ok(answer) if answer.status == 200 => Some(&answer.body),
            _ => None,
        }
    }
}

/// Steady load on one path.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<Vec<Exchange>>>,
}

impl Load {
    /// So many connections that each ask `path` over and over.
    pub fn start(address: SocketAddr, host: &str, path: &str, connections: usize) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let connection = |_| {
            let (mut client, path) = (Client::new(address, host), path.to_owned());
            let (stop, answers) = (stop.clone(), answers.clone());
            tokio::spawn(async move {
                let mut exchanges = Vec::new();
                while !stop.load(Ordering::Acquire) {
                    let started = Instant::now();
                    let answer = client.ask(Method::GET, &path, "").await;
                    exchanges.push(Exchange { started, ended: Instant::now(), answer });
                    answers.fetch_add(1, Ordering::AcqRel);
                    tokio::time::sleep(PACE).await;
                }
                exchanges
            })
        };
        let tasks = (0..connections).map(connection).collect();
        Self { stop, answers, tasks }
    }

    /// How many requests have ended, well or not.
    pub fn answers(&self) -> usize {
        self.answers.load(Ordering::Acquire)
    }

    /// Ends it, once the requests under way are answered, and returns all in the order of their starts.
    pub async fn stop(self) -> Vec<Exchange> {
        self.stop.store(true, Ordering::Release);
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await.expect("a load does not panic"));
        }
        all.sort_by_key(|exchange| exchange.started);
        all
    }

    /// Ends it once there were enough answers to prove something; every one must have been good.
    pub async fn stop_all_good(self, least: usize) -> Vec<Exchange> {
        wait::until("enough answers", wait::SOON, async || {
            wait::holds(self.answers() >= least, self.answers())
        })
        .await;
        let all = self.stop().await;
        all_good(&all, least);
        all
    }
}

/// Panics with the failed ones, if there are any; and if there were hardly any requests, which would prove nothing.
pub fn all_good(exchanges: &[Exchange], least: usize) {
    let first = exchanges.first().map(|exchange| exchange.started);
    let bad: Vec<_> = exchanges
        .iter()
        .filter(|exchange| exchange.good().is_none())
        .map(|bad| (first.map(|first| bad.started - first), bad.ended - bad.started, &bad.answer))
        .collect();
    assert!(
        bad.is_empty(),
        "{} of {} requests failed: {:#?}",
        bad.len(),
        exchanges.len(),
        &bad[..bad.len().min(5)]
    );
    assert!(exchanges.len() >= least, "only {} requests were made, which proves little", exchanges.len());
}
