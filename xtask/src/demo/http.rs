//! One HTTP request, as `curl` makes it: enough for a demo, so that it needs no HTTP library.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// How long an answer may take: the example's deadline is 5 s.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer that is read: the example's is some hundred bytes.
const ANSWER_MAX_BYTES: u64 = 1 << 20;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body, which is text.
    pub body: String,
}

/// Asks for a path of a host that is served at an address.
pub fn get(address: SocketAddr, host: &str, path: &str) -> anyhow::Result<Answer> {
    let mut stream =
        TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let port = address.port();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_MAX_BYTES).read_to_end(&mut bytes).with_context(|| format!("read from {address}"))?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> anyhow::Result<Answer> {
    let text = std::str::from_utf8(bytes).context("the answer is not text")?;
    let (head, rest) = text.split_once("\r\n\r\n").context("the answer ends in its head")?;
    let status =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("the answer has no status")?;
    let header = |name: &str| {
        head.lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .find_map(|(found, value)| found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned()))
    };
    let body = if header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        unchunk(rest)?
    } else {
        if let Some(length) = header("content-length") {
            ensure!(length == rest.len().to_string(), "the body has {} bytes of {length}", rest.len());
        }
        rest.to_owned()
    };
    Ok(Answer { status, body })
}

fn unchunk(mut rest: &str) -> anyhow::Result<String> {
    let mut body = String::new();
    loop {
        let (size, behind) = rest.split_once("\r\n").context("the body ends before its last chunk")?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).with_context(|| format!("a chunk of size {size:?}"))?;
        if size == 0 {
            return Ok(body);
        }
        body.push_str(behind.get(..size).context("the body ends inside a chunk")?);
        rest = behind.get(size..).and_then(|rest| rest.strip_prefix("\r\n")).context("a chunk has no end")?;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{Answer, parse};

    #[test]
    fn bodies_are_read_with_a_length_and_in_chunks() {
        let expected = Answer { status: 200, body: "abcde".to_owned() };
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nServer: a\r\n\r\nabcde",
        ] {
            assert_eq!(parse(answer.as_bytes()).unwrap(), expected, "{answer:?}");
        }
    }

    #[test]
    fn answers_that_break_off_are_errors() {
        for answer in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ] {
            assert!(parse(answer.as_bytes()).is_err(), "{answer:?}");
        }
    }
}
