//! A YAML document on its way to a type: what every document must obey before its meaning is looked at.
//!
//! Text becomes a tree with places ([`node`]); the tree is held against the schema of its type, which reports every
//! mistake of its shape and puts stand-ins where something is missing or wrong ([`fields`]); what is left always fits
//! the type ([`reader`]), so that the checks of meaning run too and one round shows everything.

mod fields;
mod node;
mod reader;

use std::ops::Range;

use schemars::Schema;
use serde::de::DeserializeOwned;

use crate::diagnostic::{Diagnostic, Findings};

pub use reader::Placed;

/// The longest manifest.
pub const DOCUMENT_MAX_BYTES: usize = 1 << 20;
/// The characters that are echoed of a name or value; the excerpt shows the rest.
const ECHO_MAX_CHARS: usize = 48;

/// What a document may say besides what its schema knows.
pub struct Rules<'a> {
    /// The schema of the type it is read into.
    pub schema: &'a Schema,
    /// Fields that are known and refused by name, section by section.
    pub refused: &'a [&'a [Refused]],
    /// Fields that only the cluster sets.
    pub read_only: &'a [&'a str],
    /// The maps at the root whose keys name components.
    pub components: &'a [&'a str],
}

/// A field that is known, and refused by name.
pub struct Refused {
    /// The path, with `*` for any key or item.
    pub path: &'static str,
    /// Why.
    pub why: Why,
}

/// Why a known field is refused.
#[derive(Clone, Copy)]
pub enum Why {
    /// Its work comes later; this stands in for it meanwhile.
    NotYet(&'static str),
    /// It has another name here.
    Renamed(&'static str),
}

/// Reads a document into a type. The mistakes of its shape are in `findings`; without a value, it cannot be read at
/// all.
pub fn read<T: DeserializeOwned>(bytes: &[u8], rules: &Rules<'_>, findings: &mut Findings) -> Option<T> {
    let tree = read_text(bytes).and_then(|text| Ok((text, node::read(text)?)));
    let (text, mut tree) = match tree {
        Ok(found) => found,
        Err(diagnostic) => {
            findings.push(diagnostic);
            return None;
        }
    };
    fields::check(text, &mut tree, rules, findings);
    match reader::read(&tree) {
        Ok(value) => Some(value),
        Err(error) => {
            findings.push(Diagnostic::error("wrong_type", "", error.to_string()));
            None
        }
    }
}

/// Checks what is not YAML's matter: size and encoding.
fn read_text(bytes: &[u8]) -> Result<&str, Diagnostic> {
    if bytes.len() > DOCUMENT_MAX_BYTES {
        let message =
            format!("a manifest has at most {DOCUMENT_MAX_BYTES} bytes, this one has {}", bytes.len());
        return Err(Diagnostic::error("manifest_too_large", "", message));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let message = format!("the manifest is not UTF-8 from byte {} on", error.valid_up_to());
        Diagnostic::error("encoding", "", message)
    })?;
    if let Some((at, c)) = text.char_indices().find(|(at, c)| is_refused(*at, *c)) {
        let message = format!("the character U+{:04X} cannot be in a manifest", u32::from(c));
        return Err(Diagnostic::error("encoding", "", message).at(Some(at..at + c.len_utf8()), "here"));
    }
    if text.trim_start_matches('\u{feff}').trim().is_empty() {
        return Err(node::empty());
    }
    Ok(text)
}

/// Control characters, a byte-order mark that does not open the text, and those that turn the direction of reading: what
/// is reviewed must be what is deployed.
fn is_refused(at: usize, c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && !matches!(c, '\n' | '\r' | '\t')) || (c == '\u{feff}' && at > 0) || turns
}

/// A short echo of what came in, without anything that a terminal would act on.
pub fn shorten(text: &str) -> String {
    let mut shown: String =
        text.chars().take(ECHO_MAX_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(ECHO_MAX_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// Joins the steps of a path.
fn join(path: &[String]) -> String {
    path.iter().map(|step| shorten(step)).collect::<Vec<_>>().join(".")
}

/// The text that a place covers.
fn covered<'a>(text: &'a str, span: &Range<usize>) -> &'a str {
    text.get(span.clone()).unwrap_or_default()
}
