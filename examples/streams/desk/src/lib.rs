//! Takes requests, and gives their bodies and those of its answers to `streaming`.

use wasi::clocks::monotonic_clock;
use wasi::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasi::io::poll;
use wasi::io::streams::{InputStream, OutputStream, StreamError};
use weft::examples::streaming;

wit_bindgen::generate!({ world: "streams-desk", path: "../../wit", generate_all });

struct Desk;

export!(Desk);

impl exports::wasi::http::incoming_handler::Guest for Desk {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let Ok(asked) = request.consume() else { return };
        let Ok(data) = asked.stream() else { return };
        let response = OutgoingResponse::new(Fields::new());
        let Ok(body) = response.body() else { return };
        let Ok(to) = body.write() else { return };
        ResponseOutparam::set(out, Ok(response));
        answer(&path, data, to);
        // Whoever it was given to must be done with it by now.
        let finished = OutgoingBody::finish(body, None);
        assert!(finished.is_ok(), "{finished:?}");
        drop(IncomingBody::finish(asked));
    }
}

fn answer(path: &str, data: InputStream, to: OutputStream) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let number: u64 = query.parse().unwrap_or(50);
    let text = match path {
        "/measure" => format!("{:?}", streaming::measure(data)),
        // What it says cannot be told: the stream is gone.
        "/shout" => return drop(streaming::shout(data, to)),
        "/line" => {
            let line = streaming::line(&data);
            let next = streaming::line(&data);
            format!("{line:?} {next:?} {:?}", rest(&data, None))
        }
        "/lines" => {
            let mut count = 0;
            while streaming::line(&data).is_ok_and(|line| !line.is_empty()) {
                count += 1;
            }
            format!("{count} lines, {:?}", rest(&data, None))
        }
        // What was given away for good is let go of: else the stream could not be dropped.
        "/released" => {
            streaming::wait_once(data.subscribe());
            drop(data);
            "dropped".to_owned()
        }
        // The stream is given away before what waits for it is dropped.
        "/subscribed" => {
            let waits = data.subscribe();
            waits.block();
            streaming::keep(data);
            drop(waits);
            format!("{:?}", streaming::kept(number).map(|bytes| bytes.len()))
        }
        "/print" => {
            let printed = (streaming::print("one ", &to), write(&to, "two "), streaming::print("three ", &to));
            format!("{printed:?}")
        }
        "/keep" => {
            streaming::keep(data);
            let mut parts = Vec::new();
            while let Ok(part) = streaming::kept(number) {
                if part.is_empty() {
                    break;
                }
                parts.push(String::from_utf8_lossy(&part).into_owned());
            }
            parts.concat()
        }
        "/through" => return copy(&streaming::through(data), &to),
        "/whole" => {
            let data = vec![7; usize::try_from(number).unwrap_or_default()];
            streaming::whole(&data).len().to_string()
        }
        "/echo" => format!("{:?}", rest(&streaming::through(data), None)),
        // Reads what comes back itself, and says so each time.
        "/count" => format!("{:?}", rest(&streaming::through(data), Some(&to))),
        "/onto" => return copy(&data, &streaming::onto(to)),
        "/timer" => {
            let begun = monotonic_clock::now();
            let timer = streaming::timer(number);
            let was_ready = timer.ready();
            timer.block();
            // Whoever only looks may have to look again.
            while !timer.ready() {
                monotonic_clock::subscribe_duration(1_000_000).block();
            }
            let took_ms = (monotonic_clock::now() - begun) / 1_000_000;
            let never = streaming::timer(3_600_000);
            let both = poll::poll(&[&never, &timer]);
            format!("{was_ready} {both:?} {}", took_ms >= number)
        }
        "/tick" => return streaming::tick(number),
        "/wait" => {
            let begun = monotonic_clock::now();
            let timer = monotonic_clock::subscribe_duration(number * 1_000_000);
            streaming::wait(&timer);
            let is_ready = timer.ready();
            streaming::wait_once(timer);
            streaming::wait_once(monotonic_clock::subscribe_duration(number * 1_000_000));
            let took_ms = (monotonic_clock::now() - begun) / 1_000_000;
            format!("{is_ready} {}", took_ms >= 2 * number)
        }
        // Reads nothing, so that whoever sends has to wait.
        "/idle" => {
            streaming::keep(data);
            let first = streaming::kept(1);
            monotonic_clock::subscribe_duration(number * 1_000_000).block();
            let _ = streaming::kept(0);
            format!("{:?}", first.map(|bytes| bytes.len()))
        }
        _ => {
            "/measure, /shout, /line, /lines, /released, /subscribed, /print, /keep, /through, /whole, /echo, /count, /onto, /timer, /tick, /wait or /idle".to_owned()
        }
    };
    let _ = write(&to, &text);
}

/// How much is left to read; and says each time that something was read.
fn rest(data: &InputStream, to: Option<&OutputStream>) -> Result<usize, String> {
    let mut count = 0;
    loop {
        match data.blocking_read(64 << 10) {
            Ok(bytes) => {
                count += bytes.len();
                if let Some(to) = to {
                    let _ = write(to, ".");
                }
            }
            Err(StreamError::Closed) => return Ok(count),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
}

fn copy(data: &InputStream, to: &OutputStream) {
    while to.blocking_splice(data, 64 << 10).is_ok() {}
}

fn write(to: &OutputStream, text: &str) -> Result<(), StreamError> {
    text.as_bytes().chunks(4_096).try_for_each(|part| to.blocking_write_and_flush(part))
}
