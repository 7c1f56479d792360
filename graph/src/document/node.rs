//! The tree of a document, with the place of everything in it.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{
    DuplicateKeyPolicy, Error, Location, MergeKeyPolicy, NonFiniteFloatPolicy, Spanned, Tagged,
};

use super::shorten;
use crate::diagnostic::Diagnostic;

/// The deepest nesting.
const DEPTH_MAX: usize = 32;
/// Values in one document: a graph of the largest size has about half as many.
const NODES_MAX: usize = 100_000;
/// The characters of a parser's message that are passed on.
const MESSAGE_MAX_CHARS: usize = 200;

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    /// Whether it has a tag, which no manifest uses.
    pub(super) is_tagged: bool,
    /// Whether it stands in for something that is missing or wrong, and reported.
    pub(super) is_stand_in: bool,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Kind {
    /// `null`, `~` or nothing.
    Null,
    /// A number or a boolean as written: what it stands for depends on what is wanted.
    Plain,
    /// A text.
    Text(String),
    /// A whole number, once one was wanted and found.
    Integer(i64),
    /// A boolean, once one was wanted and found.
    Boolean(bool),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// The scalar of a stand-in: empty, whatever type is asked of it.
    StandIn,
}

/// A key and its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Range<usize>,
    pub(super) is_tagged: bool,
    pub(super) value: Node,
}

/// Reads a text; what a manifest never uses of YAML ends the reading at once.
pub(super) fn read(text: &str) -> Result<Node, Diagnostic> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_documents: 1,
            max_nodes: NODES_MAX,
            max_anchors: 0,
            max_aliases: 0,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        strict_booleans: true,
        ignore_binary_tag_for_string: true,
        with_snippet: false,
    };
    let tree: Node =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| refuse(text, &error))?;
    match tree.kind {
        Kind::Null => Err(empty()),
        _ => Ok(tree),
    }
}

/// What is said of a text that says nothing.
pub(super) fn empty() -> Diagnostic {
    let help = "start with `version: 1` and a name, or see `ctl schema`";
    Diagnostic::error("empty", "", "the manifest is empty").help(help)
}

fn refuse(text: &str, error: &Error) -> Diagnostic {
    let error = error.without_snippet();
    let (reason, message) = match error {
        Error::Eof { .. } => return empty(),
        Error::Budget { breach, .. } => breach_of(breach),
        Error::MultipleDocuments { .. } => TWO_DOCUMENTS,
        Error::UnknownAnchor { .. } | Error::RecursiveReferencesRequireWeakTypes { .. } => ALIAS,
        // A scalar without a tag is never read as something it is not.
        Error::InvalidScalar { .. }
        | Error::TaggedScalarCannotDeserializeIntoString { .. }
        | Error::TaggedEnumMismatch { .. }
        | Error::InvalidBinaryBase64 { .. }
        | Error::BinaryNotUtf8 { .. } => {
            ("yaml_tag", "a manifest has no YAML tags: types follow from the fields")
        }
        Error::NullIntoString { .. } | Error::Unexpected { .. } | Error::SerdeInvalidType { .. } => {
            ("wrong_type", "the name of a field is a text")
        }
        other => {
            let message = other.to_string();
            return if message.contains("nest") || message.contains("recursion") {
                located(text, error, DEEP.0, DEEP.1)
            } else {
                // The place is told by the excerpt.
                let message = message.lines().next().unwrap_or_default();
                let message = message.split(" at line ").next().unwrap_or_default();
                located(text, error, "yaml_syntax", &bounded(message))
            };
        }
    };
    located(text, error, reason, message)
}

const ALIAS: (&str, &str) = ("yaml_alias", "a manifest has no anchors and aliases: write the value out");
const DEEP: (&str, &str) = ("yaml_depth", "a manifest is nested at most 32 deep");
const TWO_DOCUMENTS: (&str, &str) = ("yaml_multi_document", "a manifest is one document");

fn breach_of(breach: &BudgetBreach) -> (&'static str, &'static str) {
    match breach {
        BudgetBreach::Aliases { .. }
        | BudgetBreach::Anchors { .. }
        | BudgetBreach::AliasAnchorRatio { .. }
        | BudgetBreach::RecordedAnchorEvents { .. }
        | BudgetBreach::RecordedAnchorBytes { .. } => ALIAS,
        BudgetBreach::Depth { .. } => DEEP,
        BudgetBreach::Documents { .. } => TWO_DOCUMENTS,
        _ => ("manifest_too_large", "a manifest has at most 100000 values"),
    }
}

fn bounded(message: &str) -> String {
    match message.char_indices().nth(MESSAGE_MAX_CHARS) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

fn located(text: &str, error: &Error, reason: &'static str, message: &str) -> Diagnostic {
    let at = error.location().map(|location| visible(text, &location));
    Diagnostic::error(reason, "", message).at(at, "here")
}

/// The bytes that a location covers: inside the text, on character bounds. Some have a line and a column only.
fn visible(text: &str, location: &Location) -> Range<usize> {
    if location.span().byte_offset().is_none() {
        let line = text.split_inclusive('\n').take(number(location.line()).saturating_sub(1));
        let start: usize = line.map(str::len).sum();
        let line = text[start..].lines().next().unwrap_or_default();
        let column = line.char_indices().nth(number(location.column()).saturating_sub(1));
        let at = start + column.map_or(line.len(), |(at, _)| at);
        return at..at;
    }
    let span = place(location);
    let floor = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

fn place(location: &Location) -> Range<usize> {
    let start = location.span().byte_offset().map_or(0, number);
    start..start.saturating_add(location.span().byte_len().map_or(0, number))
}

fn number(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = Spanned::<Tagged<Kind>>::deserialize(deserializer)?;
        let Tagged(kind, tag) = found.value;
        Ok(Self { span: place(&found.referenced), is_tagged: tag.is_some(), is_stand_in: false, kind })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

macro_rules! plain {
    ($($method:ident: $type:ty)*) => {$(
        fn $method<E>(self, _: $type) -> Result<Kind, E> {
            Ok(Kind::Plain)
        }
    )*};
}

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a YAML value")
    }

    plain! { visit_bool: bool visit_i64: i64 visit_u64: u64 visit_i128: i128 visit_u128: u128 visit_f64: f64 }

    fn visit_str<E>(self, text: &str) -> Result<Kind, E> {
        Ok(Kind::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(Self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut entries = Vec::new();
        while let Some(found) = access.next_key::<Spanned<Tagged<String>>>()? {
            let Tagged(key, tag) = found.value;
            let at = place(&found.referenced);
            entries.push(Entry { key, at, is_tagged: tag.is_some(), value: access.next_value()? });
        }
        Ok(Kind::Map(entries))
    }
}

impl Kind {
    /// What it is, for people.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Plain | Self::Integer(_) | Self::Boolean(_) => "a number or a boolean",
            Self::Text(_) | Self::StandIn => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl Entry {
    /// The key, for people.
    pub(super) fn shown(&self) -> String {
        shorten(&self.key)
    }
}
