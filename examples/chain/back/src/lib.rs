//! The provider of a link: pure computation.

wit_bindgen::generate!({ world: "back", path: "../../wit", generate_all });

struct Back;

export!(Back);

impl exports::weft::examples::greeter::Guest for Back {
    fn greet(name: String) -> String {
        format!("hello, {name}")
    }

    fn add(a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }
}
