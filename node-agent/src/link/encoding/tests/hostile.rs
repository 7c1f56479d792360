//! Bytes that were a message once. A reader refuses them, or reads a value of the type; it never panics, and never
//! takes more memory than it counted.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::{Strategy, any, prop};
use proptest::prop_oneof;
use proptest::sample::Index;

use super::strategies::{calls, random};
use super::*;

/// Every cut of a longer message takes too long, and shows nothing new.
const CUTS_MAX: usize = 300;

/// What happens to a message.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Cut(Index),
    /// A part of it once more, elsewhere.
    Copy(Index, Index, Index),
}

pub(super) fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = any::<Index>;
    let change = prop_oneof![
        // Lengths, tags and ends of varints are small or at the edges.
        (at(), prop::sample::select(vec![0, 1, 2, 8, 10, 0x7f, 0x80, 0xff]))
            .prop_map(|(at, to)| Change::Set(at, to)),
        (at(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        at().prop_map(Change::Remove),
        at().prop_map(Change::Cut),
        (at(), at(), at()).prop_map(|(from, to, into)| Change::Copy(from, to, into)),
    ];
    prop::collection::vec(change, 1..6)
}

pub(super) fn apply(change: &Change, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return bytes.push(0);
    }
    let length = bytes.len();
    match change {
        Change::Set(at, to) => bytes[at.index(length)] = *to,
        Change::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
        Change::Insert(at, byte) => bytes.insert(at.index(length), *byte),
        Change::Remove(at) => drop(bytes.remove(at.index(length))),
        Change::Cut(at) => bytes.truncate(at.index(length)),
        Change::Copy(from, to, into) => {
            let (from, to) = (from.index(length), to.index(length));
            let part = bytes[from.min(to)..from.max(to)].to_vec();
            let into = into.index(length);
            bytes.splice(into..into, part);
        }
    }
}

#[test]
fn a_cut_message_is_refused_or_is_another() {
    let session = Session::new();
    let checked = random(200).run(&calls(&session), |call| {
        let mut session = session.clone();
        let mut whole = Vec::new();
        call.signature.encode_arguments(&call.arguments, &mut session, &mut whole).unwrap();
        for end in 0..whole.len().min(CUTS_MAX) {
            fuzz::arguments(&call.signature, &whole[..end], &mut session);
        }
        Ok(())
    });
    checked.unwrap();
}

#[test]
fn a_changed_message_is_refused_or_is_another() {
    let session = Session::new();
    let changed = (calls(&session), prop::collection::vec(changes(), 20));
    let checked = random(400).run(&changed, |(call, changes)| {
        let mut session = session.clone();
        let mut whole = Vec::new();
        call.signature.encode_arguments(&call.arguments, &mut session, &mut whole).unwrap();
        for changes in changes {
            let mut bytes = whole.clone();
            changes.iter().for_each(|change| apply(change, &mut bytes));
            fuzz::arguments(&call.signature, &bytes, &mut session);
        }
        Ok(())
    });
    checked.unwrap();
}

#[test]
fn noise_is_refused_or_is_a_message() {
    let session = Session::new();
    let noise = (calls(&session), prop::collection::vec(any::<u8>(), 0..300));
    let checked = random(400).run(&noise, |(call, bytes)| {
        fuzz::arguments(&call.signature, &bytes, &mut session.clone());
        Ok(())
    });
    checked.unwrap();
}

/// What libFuzzer starts from, and what it would do first.
#[test]
fn an_input_of_the_fuzzer_is_refused_or_comes_back() {
    let corpus = std::env::var_os("WEFT_FUZZ_CORPUS").map(PathBuf::from);
    let session = Session::new();
    let changed = (calls(&session), prop::collection::vec(changes(), 20));
    let number = Cell::new(0);
    let checked = random(400).run(&changed, |(call, changes)| {
        let mut session = session.clone();
        let mut whole = fuzz::write(&call.signature);
        call.signature.encode_arguments(&call.arguments, &mut session, &mut whole).unwrap();
        assert!(fuzz::trial(&whole, &mut session), "{}", call.signature.text());
        for changes in changes {
            let mut input = whole.clone();
            changes.iter().for_each(|change| apply(change, &mut input));
            fuzz::trial(&input, &mut session);
        }
        if let Some(folder) = &corpus {
            number.set(number.get() + 1);
            fs::write(folder.join(format!("call-{}", number.get())), &whole).unwrap();
        }
        Ok(())
    });
    checked.unwrap();
}

#[test]
fn any_input_of_the_fuzzer_is_a_type_and_bytes() {
    let session = Session::new();
    let checked = random(4_000).run(&prop::collection::vec(any::<u8>(), 0..300), |input| {
        fuzz::trial(&input, &mut session.clone());
        Ok(())
    });
    checked.unwrap();
}
