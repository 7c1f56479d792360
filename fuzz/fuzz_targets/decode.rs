//! Any bytes are a type and a message: reading it must hold what `encoding/fuzz/` says.

#![no_main]

#[path = "../../node-agent/src/link/encoding/mod.rs"]
#[allow(dead_code, unused_imports, reason = "links use the rest of it")]
mod encoding;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

use encoding::fuzz::{Session, trial};

thread_local! {
    /// Made once: it is never changed, and takes longer than a trial.
    static SESSION: RefCell<Session> = RefCell::new(Session::new());
}

fuzz_target!(|input: &[u8]| {
    SESSION.with_borrow_mut(|session| trial(input, session));
});
