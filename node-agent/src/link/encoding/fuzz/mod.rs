//! Trials of the decoder: a type and bytes, both of anybody's making. Nothing panics, nothing is allocated that was not
//! counted before, and what is read is written and read as the same.
//!
//! Tests run them with messages that were changed by chance. libFuzzer runs [`trial`] for as long as it is let:
//! `fuzz/README.md`.

mod memory;
mod session;
mod types;

use wasmtime::component::Val;

use super::decode::{DECODED_MAX_BYTES, Decoder};
use super::{DecodeError, Signature};

pub(crate) use self::session::Session;
#[cfg(test)]
pub(super) use self::types::write;

/// What an error may take that nobody counts: its steps, of which there is one for each level of the type, in a vector
/// that doubles.
const ERROR_BYTES: usize = 8 << 10;

/// What one input is: a function, and bytes that are tried as its arguments and as its result. Whether they are either.
pub(crate) fn trial(input: &[u8], session: &mut Session) -> bool {
    let (signature, bytes) = types::read(input);
    // Both, even if the first is read.
    arguments(&signature, bytes, session) | result(&signature, bytes, session)
}

/// Reads bytes as the arguments of a call. Whether they are.
pub(super) fn arguments(signature: &Signature, bytes: &[u8], session: &mut Session) -> bool {
    let read = |bytes: &[u8], session: &mut Session| {
        counted(session, |decoder| decoder.arguments(&signature.parameters, bytes))
    };
    let write = |values: &Vec<Val>, session: &mut Session, out: &mut Vec<u8>| {
        signature.encode_arguments(values, session, out).unwrap();
    };
    comes_back(signature, bytes, session, read, write)
}

/// Reads bytes as the result of a call. Whether they are.
pub(super) fn result(signature: &Signature, bytes: &[u8], session: &mut Session) -> bool {
    let read = |bytes: &[u8], session: &mut Session| {
        counted(session, |decoder| decoder.result(signature.result.as_ref(), bytes))
    };
    let write = |value: &Option<Val>, session: &mut Session, out: &mut Vec<u8>| {
        signature.encode_result(value.as_ref(), session, out).unwrap();
    };
    comes_back(signature, bytes, session, read, write)
}

/// Reads a message, and holds what the decoder counted against what it allocated.
fn counted<T>(
    session: &mut Session,
    read: impl FnOnce(&mut Decoder<'_>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let mut decoder = Decoder::new(session);
    let (read, peak) = memory::peak(|| read(&mut decoder));
    let spent = decoder.spent();
    let allowed = if read.is_ok() { spent } else { spent + ERROR_BYTES };
    assert!(peak <= allowed, "{peak} bytes were allocated, {spent} were counted");
    assert!(spent <= DECODED_MAX_BYTES);
    read
}

/// What is read is written, and that is read as the same and written as the same.
fn comes_back<T: PartialEq + std::fmt::Debug>(
    signature: &Signature,
    bytes: &[u8],
    session: &mut Session,
    read: impl Fn(&[u8], &mut Session) -> Result<T, DecodeError>,
    write: impl Fn(&T, &mut Session, &mut Vec<u8>),
) -> bool {
    let Ok(value) = read(bytes, session) else { return false };
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    write(&value, session, &mut once);
    let back = read(&once, session).unwrap_or_else(|error| panic!("{}: {error}", signature.text()));
    assert_eq!(back, value, "{}", signature.text());
    write(&back, session, &mut twice);
    assert_eq!(once, twice, "{}", signature.text());
    true
}
