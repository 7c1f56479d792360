//! The limit for the ingress: hyper answering the bytes of the hello guest by itself, on a free port of loopback.

use std::convert::Infallible;
use std::io::Write as _;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        tokio::spawn(async move {
            let service = service_fn(|_| async {
                Ok::<_, Infallible>(hyper::Response::new(Full::new(Bytes::from_static(b"hello from weft\n"))))
            });
            // A client that goes away is no failure of the measurement; the load generator counts what it got.
            let _ =
                http1::Builder::new().keep_alive(true).serve_connection(TokioIo::new(client), service).await;
        });
    }
}
