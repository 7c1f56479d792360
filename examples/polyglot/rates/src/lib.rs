//! What the shop asks for one thing.

use exports::weft::examples::rates::{Bulk, Guest, Rate};

wit_bindgen::generate!({ world: "polyglot-rates", path: "../../wit", generate_all });

struct Rates;

export!(Rates);

impl Guest for Rates {
    fn find(item: String) -> Option<Rate> {
        match item.as_str() {
            "apple" => Some(Rate::Each(40)),
            "egg" => Some(Rate::Bulk(Bulk { each: 35, over: 6, then: 25 })),
            "lead" | "radium" => Some(Rate::Withdrawn),
            _ => None,
        }
    }
}
