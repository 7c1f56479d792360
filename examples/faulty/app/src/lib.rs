//! A component that fails in every way a guest can, by path; and that shows what its host tells it.

use fermyon::spin::variables;
use wasi::clocks::monotonic_clock;
use wasi::config::store;
use wasi::http::outgoing_handler;
use wasi::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};
use wasi::logging::logging::{Level, log};

wit_bindgen::generate!({ world: "faulty", path: "../../wit", generate_all });

struct Faulty;

export!(Faulty);

const HOUR_NS: u64 = 3_600_000_000_000;

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
            "/fetch" => respond(out, &fetch(query.strip_prefix("url=").unwrap_or_default())),
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
    let response = OutgoingResponse::new(Fields::new());
    let Ok(body) = response.body() else { return };
    ResponseOutparam::set(out, Ok(response));
    if let Ok(stream) = body.write() {
        let _ = stream.blocking_write_and_flush(text.as_bytes());
    }
    let _ = OutgoingBody::finish(body, None);
}
