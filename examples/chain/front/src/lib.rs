//! The caller of a link: HTTP in, `greeter` out.

use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use weft::examples::greeter;

wit_bindgen::generate!({ world: "front", path: "../../wit", generate_all });

struct Front;

export!(Front);

impl exports::wasi::http::incoming_handler::Guest for Front {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let text = match path {
            "/greet" => {
                let name = query.strip_prefix("name=").unwrap_or("world");
                let line = format!("front asks for {name}\n");
                let _ = wasi::cli::stdout::get_stdout().blocking_write_and_flush(line.as_bytes());
                greeter::greet(name)
            }
            "/add" => {
                let count: u32 = query.strip_prefix("n=").and_then(|n| n.parse().ok()).unwrap_or(1);
                (0..count).fold(0, |sum, _| greeter::add(sum, 1)).to_string()
            }
            _ => "/greet?name=… or /add?n=…".to_owned(),
        };
        let response = OutgoingResponse::new(Fields::new());
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(out, Ok(response));
        if let Ok(stream) = body.write() {
            let _ = stream.blocking_write_and_flush(text.as_bytes());
        }
        let _ = OutgoingBody::finish(body, None);
    }
}
