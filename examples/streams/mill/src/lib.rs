//! Reads and writes the streams that it is given.

use std::cell::RefCell;

use exports::weft::examples::streaming::{Guest, InputStream, OutputStream, Pollable};
use wasi::clocks::monotonic_clock;
use wasi::io::streams::StreamError;

wit_bindgen::generate!({ world: "streams-mill", path: "../../wit", generate_all });

/// The most bytes that are read at once.
const READ_BYTES: u64 = 64 << 10;

struct Mill;

export!(Mill);

thread_local! {
    static KEPT: RefCell<Option<InputStream>> = const { RefCell::new(None) };
}

/// The next bytes; none at the end.
fn read(data: &InputStream, most: u64) -> Result<Vec<u8>, String> {
    match data.blocking_read(most) {
        Ok(bytes) => Ok(bytes),
        Err(StreamError::Closed) => Ok(Vec::new()),
        Err(StreamError::LastOperationFailed(error)) => Err(error.to_debug_string()),
    }
}

/// Says that something has come.
fn say(what: &str) {
    let _ = wasi::cli::stdout::get_stdout().blocking_write_and_flush(what.as_bytes());
}

/// Writes all, as the stream takes it.
fn write(to: &OutputStream, mut bytes: &[u8]) -> Result<(), String> {
    while !bytes.is_empty() {
        to.subscribe().block();
        let room = to.check_write().map_err(|error| format!("{error:?}"))?;
        let part = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        to.write(&bytes[..part]).map_err(|error| format!("{error:?}"))?;
        bytes = &bytes[part..];
    }
    Ok(())
}

impl Guest for Mill {
    fn measure(data: InputStream) -> Result<(u64, u64), String> {
        let (mut count, mut sum) = (0, 0);
        loop {
            let bytes = read(&data, READ_BYTES)?;
            if bytes.is_empty() {
                return Ok((count, sum));
            }
            if count == 0 {
                say("measuring\n");
            }
            count += bytes.len() as u64;
            sum += bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        }
    }

    fn shout(data: InputStream, to: OutputStream) -> Result<u64, String> {
        let mut count = 0;
        loop {
            let mut bytes = read(&data, READ_BYTES)?;
            if bytes.is_empty() {
                return Ok(count);
            }
            count += bytes.len() as u64;
            bytes.make_ascii_uppercase();
            write(&to, &bytes)?;
        }
    }

    fn line(data: &InputStream) -> Result<String, String> {
        let mut line = Vec::new();
        loop {
            let byte = read(data, 1)?;
            if line.is_empty() {
                say("reading a line\n");
            }
            line.extend_from_slice(&byte);
            if byte.is_empty() || byte == b"\n" {
                return String::from_utf8(line).map_err(|error| error.to_string());
            }
        }
    }

    fn print(text: String, to: &OutputStream) -> Result<(), String> {
        // A part is flushed, and the rest is not.
        let (half, rest) = text.split_at(text.len() / 2);
        to.blocking_write_and_flush(half.as_bytes()).map_err(|error| format!("{error:?}"))?;
        write(to, rest.as_bytes())
    }

    fn keep(data: InputStream) {
        KEPT.replace(Some(data));
    }

    fn kept(most: u64) -> Result<Vec<u8>, String> {
        let bytes = KEPT.with_borrow(|kept| kept.as_ref().map_or(Ok(Vec::new()), |data| read(data, most)));
        if bytes.as_ref().is_ok_and(Vec::is_empty) {
            KEPT.take();
        }
        bytes
    }

    fn through(data: InputStream) -> InputStream {
        data
    }

    fn onto(to: OutputStream) -> OutputStream {
        to
    }

    fn timer(ms: u64) -> Pollable {
        monotonic_clock::subscribe_duration(ms * 1_000_000)
    }

    fn whole(data: Vec<u8>) -> Vec<u8> {
        data
    }

    fn tick(ms: u64) {
        loop {
            monotonic_clock::subscribe_duration(ms * 1_000_000).block();
            say("tick\n");
        }
    }

    fn wait(until: &Pollable) {
        until.block();
    }

    fn wait_once(until: Pollable) {
        until.block();
    }
}
