//! The smallest HTTP component: the benchmark's guest.

use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wit_bindgen::generate!({ world: "hello", path: "../../wit", generate_all });

struct Hello;

export!(Hello);

impl exports::wasi::http::incoming_handler::Guest for Hello {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        let response = OutgoingResponse::new(Fields::new());
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(out, Ok(response));
        if let Ok(stream) = body.write() {
            let _ = stream.blocking_write_and_flush(b"hello from weft\n");
        }
        let _ = OutgoingBody::finish(body, None);
    }
}
