//! The documentation of a manifest's fields, found in the JSON Schema that the parser's own types give.

use std::fmt::Write as _;

use graph::diagnostic::nearest;
use serde_json::{Map, Value};

/// The manifests, and the word a path starts with.
pub(super) const ROOTS: [&str; 2] = ["graph", "policy"];

/// What a field is, and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    /// Its path, with `NAME` in place of the names that people give.
    path: String,
    /// `text`, `list of text`, `map`, …
    kind: String,
    /// Whether it must be there.
    is_required: bool,
    /// What it means.
    means: String,
    /// What can be below it: name, kind, meaning.
    below: Vec<(String, String, String)>,
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no field `{name}` in {parent}")]
pub(super) struct NoField {
    name: String,
    parent: String,
    known: Vec<String>,
}

impl NoField {
    /// What to try instead.
    pub(super) fn help(&self) -> String {
        match nearest(&self.name, self.known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{}.{near}`?", self.parent),
            None if self.known.is_empty() => format!("{} has no fields", self.parent),
            None => format!("fields there: {}", self.known.join(", ")),
        }
    }
}

/// Finds `path` in the schema of the manifest `root`.
pub(super) fn find(root: &str, schema: &Value, path: &[&str]) -> Result<Field, NoField> {
    let mut here =
        Place { root: schema, schema, path: root.to_owned(), is_required: true, means: text(schema) };
    for segment in path {
        here = here.step(segment)?;
    }
    Ok(here.describe())
}

struct Place<'a> {
    root: &'a Value,
    schema: &'a Value,
    path: String,
    is_required: bool,
    means: String,
}

impl<'a> Place<'a> {
    /// Goes to a field; names and positions that people choose may be written or left out.
    fn step(self, segment: &str) -> Result<Self, NoField> {
        let inner = resolve(self.root, self.schema);
        if let Some(found) = properties(inner).and_then(|properties| properties.get(segment)) {
            let required = inner.get("required").and_then(Value::as_array);
            return Ok(Self {
                root: self.root,
                schema: found,
                path: format!("{}.{segment}", self.path),
                is_required: required.is_some_and(|names| names.iter().any(|name| name == segment)),
                means: text(found),
            });
        }
        let element = inner.get("items").map(|items| (items, "[]", segment.parse::<usize>().is_ok()));
        let value = inner.get("additionalProperties").filter(|value| value.is_object());
        let value = value.map(|value| (value, ".NAME", true));
        let Some((below, mark, is_place)) = element.or(value) else {
            return Err(NoField { name: segment.to_owned(), parent: self.path, known: names(inner) });
        };
        let below = Self {
            root: self.root,
            schema: below,
            path: format!("{}{mark}", self.path),
            is_required: self.is_required,
            means: text(resolve(self.root, below)),
        };
        // `components.limits` means `components.NAME.limits`.
        let skipped = names(resolve(self.root, below.schema));
        if skipped.iter().any(|name| name == segment) {
            return below.step(segment);
        }
        if is_place { Ok(below) } else { below.step(segment) }
    }

    fn describe(self) -> Field {
        let inner = resolve(self.root, self.schema);
        let holder = ["items", "additionalProperties"].iter().find_map(|key| inner.get(*key));
        let holder = holder.filter(|value| value.is_object()).map_or(inner, |value| resolve(self.root, value));
        let below = properties(holder).into_iter().flatten();
        let below = below.map(|(name, schema)| (name.clone(), kind(self.root, schema), text(schema))).collect();
        let means = if self.means.is_empty() { text(inner) } else { self.means };
        Field {
            path: self.path,
            kind: kind(self.root, self.schema),
            is_required: self.is_required,
            means,
            below,
        }
    }
}

/// Follows `$ref`, and takes the one that is not null of an option; of a text or a map, the map, which has fields.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(pointer) = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#')) {
        return root.pointer(pointer).map_or(schema, |target| resolve(root, target));
    }
    let options = schema.get("anyOf").and_then(Value::as_array);
    let some =
        options.into_iter().flatten().rfind(|option| option.get("type").is_none_or(|kind| kind != "null"));
    some.map_or(schema, |some| resolve(root, some))
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

fn names(schema: &Value) -> Vec<String> {
    properties(schema).into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// A description as one paragraph: its lines were broken for the source.
fn text(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn kind(root: &Value, schema: &Value) -> String {
    let options = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    let kinds: Vec<String> = options.map(|option| kind(root, option)).filter(|kind| kind != "null").collect();
    if kinds.len() > 1 {
        return kinds.join(" or ");
    }
    let schema = resolve(root, schema);
    let types = match schema.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    match types.iter().find(|name| **name != "null") {
        Some(&"string") => "text".to_owned(),
        Some(&"integer") => "number".to_owned(),
        Some(&"boolean") => "true or false".to_owned(),
        Some(&"array") => match schema.get("items") {
            Some(items) => format!("list of {}", kind(root, items)),
            None => "list".to_owned(),
        },
        Some(&"object") => match schema.get("additionalProperties").filter(|value| value.is_object()) {
            Some(values) => format!("map of {} by name", kind(root, values)),
            None => "map".to_owned(),
        },
        Some(other) => (*other).to_owned(),
        None => "any".to_owned(),
    }
}

/// Columns of text; longer lines are hard to read.
const WIDTH: usize = 96;

/// Breaks a paragraph into indented lines.
pub(super) fn paragraph(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let needed = word.chars().count() + 1;
        if length > 0 && length + needed > WIDTH {
            out.push('\n');
            length = 0;
        }
        if length == 0 {
            out.extend(std::iter::repeat_n(' ', indent));
            length = indent;
        } else {
            out.push(' ');
            length += 1;
        }
        out.push_str(word);
        length += needed - 1;
    }
    out.push('\n');
    out
}

impl Field {
    /// The field as a page.
    pub(super) fn render(&self) -> String {
        let needed = match (self.path.contains('.'), self.is_required) {
            (false, _) => "the whole manifest",
            (true, true) => "required",
            (true, false) => "may be left out",
        };
        let mut out = format!("{}\n  {}, {needed}\n\n", self.path, self.kind);
        out.push_str(&paragraph(&self.means, 2));
        let longest = self.below.iter().map(|(name, _, _)| name.len()).max().unwrap_or(0);
        if longest > 0 {
            out.push_str("\n  fields\n");
        }
        for (name, kind, means) in &self.below {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "    {name:longest$}  {kind}");
            out.push_str(&paragraph(means, 4 + longest + 2));
        }
        out
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn look(path: &str) -> Result<Field, NoField> {
        let mut segments = path.split('.');
        let root = segments.next().unwrap();
        let schema = match root {
            "graph" => graph::schema::graph_schema().to_value(),
            _ => graph::schema::policy_schema().to_value(),
        };
        find(root, &schema, &segments.collect::<Vec<_>>())
    }

    #[test]
    fn names_and_positions_may_be_left_out() {
        let field = look("graph.components.limits.memory").unwrap();
        assert_eq!(field, look("graph.components.app.limits.memory").unwrap());
        assert_eq!(field.path, "graph.components.NAME.limits.memory");
        assert_eq!(field.kind, "text");
        assert!(!field.is_required);
        assert!(field.means.contains("128Mi"), "{}", field.means);
        assert_eq!(look("graph.ingress.0.http.host").unwrap(), look("graph.ingress.http.host").unwrap());
        assert_eq!(look("graph.ingress.0").unwrap().path, "graph.ingress[]");
        assert!(look("graph.components").unwrap().is_required);
    }

    #[test]
    fn a_page_lists_what_is_below() {
        let page = look("policy.match.from").unwrap().render();
        for expected in ["policy.match.from\n", "Who imports.", "labels", "namespaces", "map of text by name"] {
            assert!(page.contains(expected), "{expected:?} is not in\n{page}");
        }
        let graph = look("graph").unwrap();
        assert!(graph.below.iter().any(|(name, _, _)| name == "components"));
        assert!(!graph.means.is_empty());
    }

    #[test]
    fn every_field_of_both_manifests_has_a_page_with_a_meaning() {
        fn visit(path: &str, seen: &mut usize) {
            let field = look(path).unwrap();
            assert!(!field.means.is_empty(), "{path} has no documentation");
            *seen += 1;
            for (name, _, _) in field.below {
                visit(&format!("{path}.{name}"), seen);
            }
        }
        let mut seen = 0;
        ROOTS.iter().for_each(|root| visit(root, &mut seen));
        assert!(seen > 40, "{seen}");
    }

    #[test]
    fn a_wrong_path_names_the_nearest_field() {
        let error = look("graph.components.app.limits.memry").unwrap_err();
        assert_eq!(error.to_string(), "there is no field `memry` in graph.components.NAME.limits");
        assert_eq!(error.help(), "did you mean `graph.components.NAME.limits.memory`?");
        assert_eq!(look("graph.graph.x").unwrap_err().help(), "graph.graph has no fields");
        assert!(look("policy.nothing-like-this").unwrap_err().help().starts_with("fields there: "));
    }

    #[test]
    fn paragraphs_are_broken_at_words() {
        let text = "word ".repeat(60);
        let broken = paragraph(&text, 4);
        assert!(broken.lines().count() > 2);
        assert!(broken.lines().all(|line| line.len() <= WIDTH && line.starts_with("    word")));
    }
}
