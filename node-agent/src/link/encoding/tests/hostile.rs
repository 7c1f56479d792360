//! Bytes that were a message once. A reader refuses them, or reads a value of the type; it never panics, and never
//! takes more memory than it counted.

use proptest::prelude::{Strategy, any, prop};
use proptest::prop_oneof;
use proptest::sample::Index;
use wasmtime::component::Val;

use super::super::decode::Decoder;
use super::strategies::{calls, random};
use super::*;

/// Every cut of a longer message takes too long, and shows nothing new.
const CUTS_MAX: usize = 300;

/// What happens to a message.
#[derive(Debug, Clone)]
enum Change {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Cut(Index),
    /// A part of it once more, elsewhere.
    Copy(Index, Index, Index),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
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

fn apply(change: &Change, bytes: &mut Vec<u8>) {
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

/// Reads bytes as arguments. If they are some, they are written and read as the same.
fn read(signature: &Signature, bytes: &[u8], session: &mut Session) {
    let mut decoder = Decoder::new(session);
    let read = decoder.arguments(&signature.parameters, bytes);
    let spent = decoder.spent();
    let Ok(values) = read else { return };
    let held = size_of_val(values.as_slice()) + values.iter().map(held).sum::<usize>();
    assert!(held <= spent, "{held} bytes are held, {spent} were counted: {}", signature.text());
    let mut again = Vec::new();
    signature.encode_arguments(&values, session, &mut again).unwrap();
    assert_eq!(signature.decode_arguments(&again, session).unwrap(), values);
}

/// What a value holds beside itself.
fn held(value: &Val) -> usize {
    let boxed = |value: &Option<Box<Val>>| value.as_ref().map_or(0, |value| size_of::<Val>() + held(value));
    match value {
        Val::String(text) | Val::Enum(text) => text.capacity(),
        Val::List(values) | Val::Tuple(values) => {
            values.capacity() * size_of::<Val>() + values.iter().map(held).sum::<usize>()
        }
        Val::Record(fields) => {
            let inner = fields.iter().map(|(name, value)| name.capacity() + held(value));
            fields.capacity() * size_of::<(String, Val)>() + inner.sum::<usize>()
        }
        Val::Variant(name, payload) => name.capacity() + boxed(payload),
        Val::Option(inner) | Val::Result(Ok(inner) | Err(inner)) => boxed(inner),
        Val::Flags(names) => {
            names.capacity() * size_of::<String>() + names.iter().map(String::capacity).sum::<usize>()
        }
        _ => 0,
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
            read(&call.signature, &whole[..end], &mut session);
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
            read(&call.signature, &bytes, &mut session);
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
        read(&call.signature, &bytes, &mut session.clone());
        Ok(())
    });
    checked.unwrap();
}
