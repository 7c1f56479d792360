//! The provider of a link.

wit_bindgen::generate!({ world: "back", path: "../../wit", generate_all });

struct Back;

export!(Back);

impl exports::weft::examples::greeter::Guest for Back {
    fn greet(name: String) -> String {
        let line = format!("back greets {name}\n");
        let _ = wasi::cli::stdout::get_stdout().blocking_write_and_flush(line.as_bytes());
        format!("hello, {name}")
    }

    fn add(a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }
}
