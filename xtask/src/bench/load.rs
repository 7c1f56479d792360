//! A load of HTTP/1.1 requests on kept-alive connections: a thread for each, the same bytes every time.
//!
//! Blocking sockets and no HTTP library, so that little of the machine goes to the client and nothing to guessing
//! what a library does. The answers are read whole and their status is checked.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// No answer for so long ends the measurement.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer: those of the measured guests are some hundred bytes.
const RESPONSE_MAX: usize = 1 << 20;
const READ_BYTES: usize = 16 << 10;
/// However fast the server is, a round ends.
const REQUESTS_MAX: usize = 10_000_000;

/// What is asked, and where.
#[derive(Debug, Clone)]
pub struct Target {
    /// The server.
    pub address: SocketAddr,
    /// The host named in requests.
    pub host: String,
    /// The path and query.
    pub path: String,
}

/// What one round brought.
#[derive(Debug, Clone)]
pub struct Round {
    /// How long it took.
    pub elapsed: Duration,
    /// How long each answer took, shortest first.
    pub latencies: Vec<Duration>,
}

impl Round {
    /// Answers per second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that `share` of all answers did not exceed, in microseconds.
    pub fn latency_us(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = ((self.latencies.len() as f64 * share) as usize).min(last);
        self.latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    }
}

/// Asks on so many connections at once for so long.
pub fn drive(target: &Target, connections: usize, length: Duration) -> anyhow::Result<Round> {
    let mut opened = (0..connections).map(|_| Connection::open(target)).collect::<Result<Vec<_>, _>>()?;
    let started = Instant::now();
    let threads = std::thread::scope(|scope| {
        let each: Vec<_> = opened
            .iter_mut()
            .map(|connection| scope.spawn(move || connection.ask_until(started + length)))
            .collect();
        each.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let elapsed = started.elapsed();
    let mut latencies = Vec::new();
    for thread in threads {
        match thread {
            Ok(measured) => latencies.extend(measured?),
            Err(_) => bail!("a thread of the load generator panicked"),
        }
    }
    ensure!(!latencies.is_empty(), "no answer from {}", target.address);
    latencies.sort_unstable();
    Ok(Round { elapsed, latencies })
}

/// One kept-alive connection.
pub struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

/// An answer.
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(target: &Target) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(target.address).with_context(|| format!("connect to {}", target.address))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", target.path, target.host).into_bytes();
        Ok(Self { stream, request, buffer: Vec::new() })
    }

    /// Connects, to send a body with each request.
    pub fn open_with(target: &Target, body: &[u8]) -> anyhow::Result<Self> {
        let mut connection = Self::open(target)?;
        let (path, host, length) = (&target.path, &target.host, body.len());
        let head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n");
        connection.request = [head.as_bytes(), body].concat();
        Ok(connection)
    }

    /// Sends the request and reads the answer.
    pub fn ask(&mut self) -> anyhow::Result<Response> {
        self.stream.write_all(&self.request)?;
        self.buffer.clear();
        let head = loop {
            if let Some(head) = find(&self.buffer, b"\r\n\r\n") {
                break head + 4;
            }
            self.fill()?;
        };
        let text = std::str::from_utf8(&self.buffer[..head]).context("the head of the answer")?;
        let status = text.get(9..12).and_then(|status| status.parse().ok()).context("a status line")?;
        let field = |name: &str| {
            text.lines()
                .filter_map(|line| line.split_once(':'))
                .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned()))
        };
        let body = match (field("content-length"), field("transfer-encoding")) {
            (Some(length), _) => self.whole(head, length.parse()?)?,
            (None, Some(coding)) if coding == "chunked" => self.chunks(head)?,
            _ => bail!("an answer without a length"),
        };
        Ok(Response { status, body })
    }

    fn ask_until(&mut self, end: Instant) -> anyhow::Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        let mut now = Instant::now();
        while now < end && latencies.len() < REQUESTS_MAX {
            let response = self.ask()?;
            if response.status != 200 {
                bail!("status {}: {}", response.status, String::from_utf8_lossy(&response.body));
            }
            let answered = Instant::now();
            latencies.push(answered - now);
            now = answered;
        }
        Ok(latencies)
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        ensure!(self.buffer.len() < RESPONSE_MAX, "an answer of more than {RESPONSE_MAX} bytes");
        let at = self.buffer.len();
        self.buffer.resize(at + READ_BYTES, 0);
        let read = self.stream.read(&mut self.buffer[at..])?;
        self.buffer.truncate(at + read);
        ensure!(read > 0, "the server closed the connection");
        Ok(())
    }

    fn whole(&mut self, head: usize, length: usize) -> anyhow::Result<Vec<u8>> {
        while self.buffer.len() < head + length {
            self.fill()?;
        }
        Ok(self.buffer[head..head + length].to_vec())
    }

    fn chunks(&mut self, mut at: usize) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(line) = find(&self.buffer[at..], b"\r\n") {
                    break line;
                }
                self.fill()?;
            };
            let size = std::str::from_utf8(&self.buffer[at..at + line])?;
            let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)?;
            let data = at + line + 2;
            while self.buffer.len() < data + size + 2 {
                self.fill()?;
            }
            body.extend_from_slice(&self.buffer[data..data + size]);
            at = data + size + 2;
            if size == 0 {
                return Ok(body);
            }
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Between two pieces of an answer, so that they arrive one by one.
    const PACE: Duration = Duration::from_millis(1);

    /// A server that answers every request on one connection with `answer`, in pieces of `piece` bytes.
    fn server(answer: &'static [u8], piece: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            let mut request = [0; 1024];
            while stream.read(&mut request).is_ok_and(|read| read > 0) {
                for piece in answer.chunks(piece) {
                    stream.write_all(piece).unwrap();
                    std::thread::sleep(PACE);
                }
            }
        });
        address
    }

    #[test]
    fn answers_with_a_length_and_in_chunks_are_read_whole_however_they_come() {
        let answers: [(&[u8], &str); 2] = [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"),
            (
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
                "hello",
            ),
        ];
        for (answer, body) in answers {
            for piece in [1, 7, 1024] {
                let target =
                    Target { address: server(answer, piece), host: "x".to_owned(), path: "/".to_owned() };
                let mut connection = Connection::open(&target).unwrap();
                for _ in 0..2 {
                    let response = connection.ask().unwrap();
                    assert_eq!((response.status, response.body.as_slice()), (200, body.as_bytes()), "{piece}");
                }
            }
        }
    }

    #[test]
    fn a_refusal_ends_the_round() {
        let answer = b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy";
        let target = Target { address: server(answer, 1024), host: "x".to_owned(), path: "/".to_owned() };
        let error = drive(&target, 1, Duration::from_secs(5)).unwrap_err();
        assert!(error.to_string().contains("503"), "{error}");
    }
}
