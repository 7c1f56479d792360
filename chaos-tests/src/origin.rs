//! An HTTP server outside of the cluster, which counts who comes.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::header::LOCATION;
use http::{Request, Response};
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
    serving: JoinHandle<()>,
}

impl Origin {
    /// Answers 200; and 302 to `redirect`, if there is one.
    pub async fn start(redirect: Option<String>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (came, asked) = (connections.clone(), requests.clone());
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                came.fetch_add(1, Ordering::AcqRel);
                let (asked, redirect) = (asked.clone(), redirect.clone());
                let service = service_fn(move |_: Request<Incoming>| {
                    asked.fetch_add(1, Ordering::AcqRel);
                    let answer = answer(redirect.as_deref());
                    async move { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, connections, requests, serving }
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
