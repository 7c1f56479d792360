//! Stands before a component that takes HTTP requests: who names no user is turned away here, all others go on as they
//! are.

use wasi::http::incoming_handler;
use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wit_bindgen::generate!({ world: "guard", path: "../../wit", generate_all });

struct Guard;

export!(Guard);

impl exports::wasi::http::incoming_handler::Guest for Guard {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        if request.headers().get("user").is_empty() {
            turn_away(out);
        } else {
            incoming_handler::handle(request, out);
        }
    }
}

fn turn_away(out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    if response.set_status_code(401).is_err() {
        return;
    }
    let Ok(body) = response.body() else { return };
    ResponseOutparam::set(out, Ok(response));
    if let Ok(stream) = body.write() {
        let _ = stream.blocking_write_and_flush(b"who are you?\n");
    }
    let _ = OutgoingBody::finish(body, None);
}
