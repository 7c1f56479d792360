//! The shop over HTTP: `GET /quote?items=apple:3,egg:12`.

use serde_json::json;
use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use weft::examples::pricing::{self, Line, Offer, Refusal};

wit_bindgen::generate!({ world: "polyglot-front", path: "../../wit", generate_all });

struct Front;

export!(Front);

impl exports::wasi::http::incoming_handler::Guest for Front {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (status, body) = match target.strip_prefix("/quote?items=").map(lines) {
            Some(Ok(lines)) => pricing::quote(&lines).map_or_else(refused, |offer| (200, offered(&offer))),
            Some(Err(part)) => (400, json!({"error": format!("`{part}` is not item:count")})),
            None => (404, json!({"error": "GET /quote?items=apple:3,egg:12"})),
        };
        respond(out, status, &format!("{body}\n"));
    }
}

/// `apple:3,egg:12`, or the part that is not so.
fn lines(text: &str) -> Result<Vec<Line>, &str> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    let line = |part| {
        let (item, count) = str::split_once(part, ':').ok_or(part)?;
        Ok(Line { item: item.to_owned(), count: count.parse().map_err(|_| part)? })
    };
    parts.map(line).collect()
}

fn offered(offer: &Offer) -> serde_json::Value {
    let lines: Vec<_> = offer
        .lines
        .iter()
        .map(|priced| json!({"item": priced.line.item, "count": priced.line.count, "cents": priced.cents}))
        .collect();
    json!({"lines": lines, "cents": offer.cents})
}

fn refused(refusal: Refusal) -> (u16, serde_json::Value) {
    match refusal {
        Refusal::Empty => (400, json!({"error": "nothing is asked for"})),
        Refusal::Unknown(item) => (404, json!({"error": format!("no `{item}` here")})),
        Refusal::Withdrawn(items) => (410, json!({"error": "not for sale any more", "items": items})),
    }
}

fn respond(out: ResponseOutparam, status: u16, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
    let _ = response.set_status_code(status);
    let Ok(body) = response.body() else { return };
    ResponseOutparam::set(out, Ok(response));
    if let Ok(stream) = body.write() {
        let _ = stream.blocking_write_and_flush(text.as_bytes());
    }
    let _ = OutgoingBody::finish(body, None);
}
