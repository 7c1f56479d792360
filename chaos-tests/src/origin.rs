//! An HTTP server outside of the cluster, which counts who comes.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::LOCATION;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server on loopback.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    /// The processes that are answered 500.
    refused: Arc<Mutex<BTreeSet<u32>>>,
    serving: JoinHandle<()>,
}

impl Origin {
    /// Answers 200; and 302 to `redirect`, if there is one.
    pub async fn start(redirect: Option<String>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (came, asked) = (connections.clone(), requests.clone());
        let refused: Arc<Mutex<BTreeSet<u32>>> = Arc::default();
        let refuses = refused.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                came.fetch_add(1, Ordering::AcqRel);
                let (asked, redirect, refuses) = (asked.clone(), redirect.clone(), refuses.clone());
                let service = service_fn(move |_: Request<Incoming>| {
                    asked.fetch_add(1, Ordering::AcqRel);
                    let refused = refuses.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let answer = match refused.into_iter().any(|process| is_of(peer, process)) {
                        true => refusal(),
                        false => answer(redirect.as_deref()),
                    };
                    async move { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, connections, requests, refused, serving }
    }

    /// Answers 500 to these processes from now on, and to no others.
    pub fn refuse(&self, processes: &[u32]) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused = processes.iter().copied().collect();
    }

    /// Connections that were made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Requests that were made.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }
}

/// Whether a process has the other end of a connection over loopback, by what the system says of its sockets.
fn is_of(peer: SocketAddr, process: u32) -> bool {
    let local = format!("0100007F:{:04X}", peer.port());
    let sockets = fs::read_to_string("/proc/net/tcp").expect("the system tells of its sockets");
    let inode = sockets.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        (fields.next()? == local).then(|| fields.nth(7)).flatten()
    });
    let Some(socket) = inode.map(|inode| format!("socket:[{inode}]")) else { return false };
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    let mut targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    targets.any(|target| target.as_os_str() == socket.as_str())
}

fn refusal() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"refused\n")));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

fn answer(redirect: Option<&str>) -> Response<Full<Bytes>> {
    let response = Response::builder();
    let response = match redirect {
        None => response.status(200),
        Some(target) => response.status(302).header(LOCATION, target),
    };
    response.body(Full::new(Bytes::from_static(b"origin\n"))).expect("a response")
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
