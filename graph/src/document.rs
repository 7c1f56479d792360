//! A YAML document as a tree with places, and what every document must obey before its shape is looked at.

use std::fmt;
use std::ops::Range;

use schemars::Schema;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use crate::diagnostic::{Diagnostic, nearest};

/// The longest manifest.
pub const DOCUMENT_MAX_BYTES: usize = 1 << 20;
/// The deepest nesting.
const DEPTH_MAX: usize = 32;
/// Values in one document: a graph of the largest size has far fewer.
const NODES_MAX: usize = 200_000;

/// A value with its place.
#[derive(Debug, Clone)]
pub enum Node {
    /// A text, number, boolean or null.
    Scalar,
    /// A list.
    List(Vec<Spanned<Node>>),
    /// A map, in the order of the text.
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

macro_rules! scalars {
    ($($method:ident: $type:ty)*) => {$(
        fn $method<E>(self, _: $type) -> Result<Node, E> {
            Ok(Node::Scalar)
        }
    )*};
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a YAML value")
    }

    scalars! { visit_bool: bool visit_i64: i64 visit_u64: u64 visit_i128: i128 visit_u128: u128 visit_f64: f64
    visit_str: &str }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(Self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            entries.push((key, access.next_value()?));
        }
        Ok(Node::Map(entries))
    }
}

/// The bytes of the document that a location covers.
pub fn span(location: &Location) -> Option<Range<usize>> {
    let start = usize::try_from(location.span().byte_offset()?).ok()?;
    let length = usize::try_from(location.span().byte_len()?).ok()?;
    Some(start..start.checked_add(length)?)
}

/// Checks what is not YAML's matter: size, encoding, and the parts of YAML that a manifest does not use.
pub fn read_text(bytes: &[u8]) -> Result<&str, Diagnostic> {
    if bytes.len() > DOCUMENT_MAX_BYTES {
        let message =
            format!("a manifest has at most {DOCUMENT_MAX_BYTES} bytes, this one has {}", bytes.len());
        return Err(Diagnostic::error("manifest_too_large", "", message));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let message = format!("the manifest is not UTF-8 from byte {} on", error.valid_up_to());
        Diagnostic::error("encoding", "", message)
    })?;
    let control = text
        .char_indices()
        .find(|(at, c)| (c.is_control() && !matches!(c, '\n' | '\r' | '\t')) || (*c == '\u{feff}' && *at > 0));
    if let Some((at, c)) = control {
        let message = format!("the character U+{:04X} cannot be in a manifest", u32::from(c));
        return Err(Diagnostic::error("encoding", "", message).at(Some(at..at + c.len_utf8()), "here"));
    }
    if text.trim().is_empty() {
        let help = "start with `version: 1` and `graph: <name>`, or see `ctl schema graph`";
        return Err(Diagnostic::error("empty", "", "the manifest is empty").help(help));
    }
    Ok(text)
}

/// Reads a document into a type.
pub fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Diagnostic> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_documents: 1,
            max_nodes: NODES_MAX,
            max_anchors: 0,
            max_aliases: 0,
            max_merge_keys: 0,
        },
        strict_booleans: true,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let message = error.to_string();
        let reason = reason_of(error, &message);
        let field = String::new();
        let first_line = message.lines().next().unwrap_or_default().to_owned();
        Diagnostic::error(reason, field, first_line)
            .at(error.location().as_ref().and_then(span).map(|span| visible(text, span)), "here")
    })
}

/// A span that excerpts can show: inside the text, on character bounds, not empty where that is possible.
fn visible(text: &str, span: Range<usize>) -> Range<usize> {
    let floor = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

fn reason_of(error: &serde_saphyr::Error, message: &str) -> &'static str {
    use serde_saphyr::Error;
    let message = message.to_ascii_lowercase();
    match error {
        Error::MultipleDocuments { .. } => "yaml_multi_document",
        Error::DuplicateMappingKey { .. } => "duplicate_key",
        Error::SerdeMissingField { .. } => "missing_field",
        Error::SerdeUnknownField { .. } => "unknown_field",
        Error::SerdeUnknownVariant { .. } => "unknown_value",
        Error::SerdeInvalidType { .. } | Error::Unexpected { .. } | Error::InvalidScalar { .. } => "wrong_type",
        _ if message.contains("alias") || message.contains("anchor") || message.contains("merge") => {
            "yaml_alias"
        }
        _ if message.contains("depth") || message.contains("nest") => "yaml_depth",
        _ if message.contains("tag") => "yaml_tag",
        _ if message.contains("document") => "yaml_multi_document",
        _ if message.contains("invalid type") => "wrong_type",
        _ => "yaml_syntax",
    }
}

/// A field that is known and whose work comes later.
pub struct Later {
    /// The path, with `*` for any key or item.
    pub path: &'static str,
    /// What stands in for it, or when it comes.
    pub help: &'static str,
}

/// Compares the keys of a document with a schema: every key that is not in it, all at once.
pub fn check_fields(
    root: &Spanned<Node>,
    schema: &Schema,
    later: &[Later],
    read_only: &[&str],
) -> Vec<Diagnostic> {
    let schema = schema.as_value();
    let mut found = Vec::new();
    Walk { root: schema, later, read_only, found: &mut found }.node(root, schema, &mut Vec::new());
    found
}

struct Walk<'a> {
    root: &'a Value,
    later: &'a [Later],
    read_only: &'a [&'a str],
    found: &'a mut Vec<Diagnostic>,
}

impl<'a> Walk<'a> {
    fn node(&mut self, node: &Spanned<Node>, schema: &'a Value, path: &mut Vec<String>) {
        let schema = resolve(self.root, schema);
        match &node.value {
            Node::Scalar => {}
            Node::List(items) => {
                let Some(item_schema) = schema.get("items") else { return };
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    self.node(item, item_schema, path);
                    path.pop();
                }
            }
            Node::Map(entries) => {
                for (key, value) in entries {
                    path.push(key.value.clone());
                    self.entry(key, value, schema, path);
                    path.pop();
                }
            }
        }
    }

    fn entry(
        &mut self,
        key: &Spanned<String>,
        value: &Spanned<Node>,
        schema: &'a Value,
        path: &mut Vec<String>,
    ) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let known = properties.and_then(|properties| properties.get(&key.value));
        if let Some(known) = known.or_else(|| schema.get("additionalProperties").filter(|s| s.is_object())) {
            return self.node(value, known, path);
        }
        let at = span(&key.referenced);
        let field = path.join(".");
        if let Some(later) = self.later.iter().find(|later| path_matches(later.path, path)) {
            let message = format!("`{}` is not supported yet", key.value);
            let diagnostic = Diagnostic::error("not_supported_yet", field, message).at(at, "not supported yet");
            self.found.push(diagnostic.help(later.help));
        } else if self.read_only.contains(&key.value.as_str()) {
            let message = format!("`{}` is set by the cluster", key.value);
            self.found.push(Diagnostic::error("read_only_field", field, message).at(at, "remove this"));
        } else {
            let names: Vec<&str> = properties.into_iter().flat_map(|p| p.keys()).map(String::as_str).collect();
            let message = format!("there is no field `{}` here", shorten(&key.value));
            let help = match nearest(&key.value, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("fields here: {}", names.join(", ")),
            };
            self.found
                .push(Diagnostic::error("unknown_field", field, message).at(at, "not a field").help(help));
        }
    }
}

/// Follows `$ref`, and takes the one object of an `anyOf` that stands for an option.
fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let target = name.strip_prefix("#").and_then(|pointer| root.pointer(pointer));
        return target.map_or(schema, |target| resolve(root, target));
    }
    let options = schema.get("anyOf").and_then(Value::as_array);
    let object =
        options.into_iter().flatten().find(|option| option.get("type").and_then(Value::as_str) != Some("null"));
    object.map_or(schema, |object| resolve(root, object))
}

fn path_matches(pattern: &str, path: &[String]) -> bool {
    let mut parts = pattern.split('.');
    path.iter().all(|part| parts.next().is_some_and(|wanted| wanted == "*" || wanted == part))
        && parts.next().is_none()
}

/// At most 64 bytes of what came in are echoed.
pub fn shorten(text: &str) -> String {
    const SHOWN: usize = 48;
    if text.chars().count() <= SHOWN {
        text.to_owned()
    } else {
        text.chars().take(SHOWN).collect::<String>() + "…"
    }
}
