//! Passes every call of `streaming` on.

use exports::weft::examples::streaming::{Guest, InputStream, OutputStream, Pollable};
use weft::examples::streaming;

wit_bindgen::generate!({ world: "streams-pass", path: "../../wit", generate_all });

struct Pass;

export!(Pass);

impl Guest for Pass {
    fn measure(data: InputStream) -> Result<(u64, u64), String> {
        streaming::measure(data)
    }

    fn shout(data: InputStream, to: OutputStream) -> Result<u64, String> {
        streaming::shout(data, to)
    }

    fn line(data: &InputStream) -> Result<String, String> {
        streaming::line(data)
    }

    fn print(text: String, to: &OutputStream) -> Result<(), String> {
        streaming::print(&text, to)
    }

    fn keep(data: InputStream) {
        streaming::keep(data);
    }

    fn kept(most: u64) -> Result<Vec<u8>, String> {
        streaming::kept(most)
    }

    fn through(data: InputStream) -> InputStream {
        streaming::through(data)
    }

    fn onto(to: OutputStream) -> OutputStream {
        streaming::onto(to)
    }

    fn timer(ms: u64) -> Pollable {
        streaming::timer(ms)
    }

    fn whole(data: Vec<u8>) -> Vec<u8> {
        streaming::whole(&data)
    }

    fn tick(ms: u64) {
        streaming::tick(ms);
    }

    fn wait(until: &Pollable) {
        streaming::wait(until);
    }

    fn wait_once(until: Pollable) {
        streaming::wait_once(until);
    }
}
