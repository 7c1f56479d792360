//! A component that fails in every way a guest can, by path; and that shows what its host tells it.

use fermyon::spin::variables;
use wasi::clocks::monotonic_clock;
use wasi::config::store;
use wasi::http::outgoing_handler;
use wasi::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam,
    Scheme,
};
use wasi::logging::logging::{Level, log};

wit_bindgen::generate!({ world: "faulty", path: "../../wit", generate_all });

struct Faulty;

export!(Faulty);

const MILLISECOND_NS: u64 = 1_000_000;
const HOUR_NS: u64 = 3_600_000 * MILLISECOND_NS;
/// What a stream of wasi:io takes in one blocking write.
const WRITE_BYTES: usize = 4_096;

impl exports::wasi::http::incoming_handler::Guest for Faulty {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/trap" => core::arch::wasm32::unreachable(),
            "/loop" => spin(),
            "/grow" => respond(out, &grow()),
            "/silent" => {}
            "/hang" => monotonic_clock::subscribe_duration(HOUR_NS).block(),
            "/log" => respond(out, speak()),
            "/config" => respond(out, &settings()),
            "/probe" => {
                probe();
                respond(out, "well\n");
            }
            "/fetch" => respond(out, &fetch(query.strip_prefix("url=").unwrap_or_default())),
            "/deep" => respond(out, &format!("{}\n", deep(1))),
            "/sleep" => respond(out, sleep(number(query, "ms="))),
            "/big" => stream(out, number(query, "kib=")),
            "/half" => half(out, number(query, "ms=")),
            "/shown" => respond(out, &shown(&request)),
            "/echo" => echo(request, out),
            _ => respond(out, "ok\n"),
        }
    }
}

fn spin() -> ! {
    let mut count = 0_u64;
    loop {
        count = std::hint::black_box(count).wrapping_add(1);
    }
}

/// Recurses until the stack is used up; with little of its own memory in each step, so that the host's stack is.
fn deep(depth: u64) -> u64 {
    if std::hint::black_box(depth) == 0 { depth } else { deep(depth + 1).wrapping_mul(31) ^ depth }
}

/// Says that it has begun, so that others know that its request is under way.
fn sleep(milliseconds: u64) -> &'static str {
    log(Level::Info, "faulty", "sleeping");
    monotonic_clock::subscribe_duration(milliseconds * MILLISECOND_NS).block();
    "slept\n"
}

fn number(query: &str, key: &str) -> u64 {
    query.strip_prefix(key).and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn grow() -> String {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(std::hint::black_box(vec![1; 1 << 20]));
        if held.len() > 4_096 {
            return format!("{} MiB\n", held.len());
        }
    }
}

fn speak() -> &'static str {
    for (stream, line) in [
        (wasi::cli::stdout::get_stdout(), "a line on stdout\n"),
        (wasi::cli::stderr::get_stderr(), "a line on stderr\n"),
    ] {
        let _ = stream.blocking_write_and_flush(line.as_bytes());
    }
    log(Level::Warn, "faulty", "a line by wasi:logging");
    "spoken\n"
}

fn settings() -> String {
    let config = match store::get("greeting") {
        Ok(Some(value)) => value,
        Ok(None) => "none".to_owned(),
        Err(_) => "error".to_owned(),
    };
    let variable = variables::get("greeting").unwrap_or_else(|_| "undefined".to_owned());
    format!("config={config} variable={variable}\n")
}

/// Fails unless the origin of its config answers as it should.
fn probe() {
    let origin = store::get("origin").ok().flatten().unwrap_or_default();
    if fetch(&origin) != "status 200\n" {
        core::arch::wasm32::unreachable()
    }
}

fn fetch(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some((_, rest)) => (Scheme::Http, rest),
        None => return "bad url\n".to_owned(),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let request = OutgoingRequest::new(Fields::new());
    let set = request.set_scheme(Some(&scheme)).is_ok()
        && request.set_authority(Some(authority)).is_ok()
        && request.set_path_with_query(Some(path)).is_ok();
    if !set {
        return "bad url\n".to_owned();
    }
    let future = match outgoing_handler::handle(request, None) {
        Ok(future) => future,
        Err(code) => return format!("refused {code:?}\n"),
    };
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok(response))) => format!("status {}\n", response.status()),
        Some(Ok(Err(code))) => format!("error {code:?}\n"),
        _ => "no answer\n".to_owned(),
    }
}

fn respond(out: ResponseOutparam, text: &str) {
    let Some(body) = begin(out) else { return };
    write(&body, text.as_bytes());
    let _ = OutgoingBody::finish(body, None);
}

/// Answers with so many KiB, whatever the client reads of them.
fn stream(out: ResponseOutparam, kib: u64) {
    let Some(body) = begin(out) else { return };
    if let Ok(stream) = body.write() {
        for _ in 0..kib * 1_024 / WRITE_BYTES as u64 {
            if stream.blocking_write_and_flush(&[b'x'; WRITE_BYTES]).is_err() {
                return;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

/// Fails with its answer under way: at once, or when a part of it was sent.
fn half(out: ResponseOutparam, milliseconds: u64) {
    let Some(body) = begin(out) else { return };
    write(&body, b"the first half");
    monotonic_clock::subscribe_duration(milliseconds * MILLISECOND_NS).block();
    core::arch::wasm32::unreachable()
}

/// What the host tells of a request.
fn shown(request: &IncomingRequest) -> String {
    let fields = request.headers().entries();
    let mut lines: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect();
    lines.sort();
    let (method, scheme) = (request.method(), request.scheme());
    let authority = request.authority().unwrap_or_default();
    let target = request.path_with_query().unwrap_or_default();
    format!("{method:?} {scheme:?} {authority} {target}\n{}\n", lines.join("\n"))
}

/// Answers with the body of the request as it comes, and with its trailers.
fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let (Ok(incoming), Some(body)) = (request.consume(), begin(out)) else { return };
    if let (Ok(from), Ok(to)) = (incoming.stream(), body.write()) {
        while let Ok(bytes) = from.blocking_read(WRITE_BYTES as u64) {
            if !bytes.is_empty() && to.blocking_write_and_flush(&bytes).is_err() {
                return;
            }
        }
    }
    let trailers = IncomingBody::finish(incoming);
    trailers.subscribe().block();
    let Some(Ok(Ok(trailers))) = trailers.get() else { return };
    let _ = OutgoingBody::finish(body, trailers);
}

fn begin(out: ResponseOutparam) -> Option<OutgoingBody> {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().ok()?;
    ResponseOutparam::set(out, Ok(response));
    Some(body)
}

fn write(body: &OutgoingBody, bytes: &[u8]) {
    if let Ok(stream) = body.write() {
        let _ = stream.blocking_write_and_flush(bytes);
    }
}
