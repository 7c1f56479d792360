//! Holds a tree against the schema of its type: every unknown, missing, repeated or ill-typed field, all at once.
//!
//! What is wrong is reported and then replaced by a stand-in, so that the tree fits the type afterwards.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;

use super::node::{Entry, Kind, Node};
use super::{Rules, Why, covered, join, shorten};
use crate::diagnostic::{Diagnostic, Findings, nearest};

/// Checks and repairs a whole document.
pub(super) fn check(text: &str, tree: &mut Node, rules: &Rules<'_>, findings: &mut Findings) {
    let root = rules.schema.as_value();
    Walk { text, root, rules, findings, path: Vec::new() }.node(tree, root);
}

struct Walk<'a> {
    text: &'a str,
    root: &'a Value,
    rules: &'a Rules<'a>,
    findings: &'a mut Findings,
    /// The steps to where the walk is.
    path: Vec<String>,
}

/// What a schema wants, as far as manifests use schemas.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Map,
    List,
    Text,
    Integer,
    Boolean,
    Anything,
}

impl Wanted {
    fn of(schema: &Value) -> Self {
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => Self::Map,
            Some("array") => Self::List,
            Some("string") => Self::Text,
            Some("integer") => Self::Integer,
            Some("boolean") => Self::Boolean,
            _ => Self::Anything,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Map => "a map",
            Self::List => "a list",
            Self::Text => "a text",
            Self::Integer => "a whole number",
            Self::Boolean => "`true` or `false`",
            Self::Anything => "a value",
        }
    }
}

impl<'a> Walk<'a> {
    /// Afterwards the node fits the schema.
    fn node(&mut self, node: &mut Node, schema: &'a Value) {
        let schema = option_for(self.root, resolve(self.root, schema), &node.kind);
        let wanted = Wanted::of(schema);
        if node.is_tagged {
            self.tag(&node.span);
        }
        match (wanted, &mut node.kind) {
            (Wanted::Map, Kind::Map(entries)) => {
                let entries = std::mem::take(entries);
                node.kind = Kind::Map(self.entries(entries, schema, &node.span));
            }
            (Wanted::List, Kind::List(items)) => {
                let Some(item_schema) = schema.get("items") else { return };
                for (index, item) in items.iter_mut().enumerate() {
                    self.path.push(index.to_string());
                    self.node(item, item_schema);
                    self.path.pop();
                }
            }
            (Wanted::Text, Kind::Text(_)) | (Wanted::Anything, _) => {}
            // Where a pattern decides, as for `128Mi`, a number is read as it is written, and refused by the pattern.
            (Wanted::Text, Kind::Plain) if schema.get("pattern").is_some() => {
                node.kind = Kind::Text(covered(self.text, &node.span).to_owned());
            }
            (Wanted::Integer, Kind::Plain) => self.integer(node, schema),
            (Wanted::Boolean, Kind::Plain) => self.boolean(node, schema),
            _ => self.wrong_type(node, schema, wanted),
        }
    }

    fn tag(&mut self, span: &Range<usize>) {
        let message = "a manifest has no YAML tags: types follow from the fields";
        self.push(Diagnostic::error("yaml_tag", join(&self.path), message).at(Some(span.clone()), "tagged"));
    }

    fn push(&mut self, diagnostic: Diagnostic) {
        self.findings.push(diagnostic);
    }

    fn wrong_type(&mut self, node: &mut Node, schema: &Value, wanted: Wanted) {
        let field = join(&self.path);
        let shown = if self.path.is_empty() { "a manifest".to_owned() } else { format!("`{field}`") };
        let written = shorten(covered(self.text, &node.span));
        let found =
            if matches!(node.kind, Kind::Plain) { format!("`{written}`") } else { node.kind.word().to_owned() };
        let message = format!("{shown} is {}, not {found}", wanted.word());
        let diagnostic = match (wanted, &node.kind) {
            (Wanted::Text, Kind::Plain) => {
                let message = format!("`{written}` is read as a number or a boolean, and a text is wanted");
                Diagnostic::error("expected_string", field, message).help(format!("write \"{written}\""))
            }
            (Wanted::Text, Kind::Null) => Diagnostic::error("expected_string", field, message),
            _ => Diagnostic::error("wrong_type", field, message),
        };
        self.push(diagnostic.at(Some(node.span.clone()), "here"));
        *node = stand_in(self.root, schema, &node.span);
    }

    fn integer(&mut self, node: &mut Node, schema: &Value) {
        let written = covered(self.text, &node.span);
        let digits = written.strip_prefix('-').unwrap_or(written);
        let is_decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_decimal || (digits.len() > 1 && digits.starts_with('0')) {
            return self.wrong_type(node, schema, Wanted::Integer);
        }
        let (least, most) = match schema.get("format").and_then(Value::as_str) {
            Some("uint32") => (0, i64::from(u32::MAX)),
            _ => (i64::from(i32::MIN), i64::from(i32::MAX)),
        };
        match written.parse::<i64>() {
            Ok(number) if (least..=most).contains(&number) => node.kind = Kind::Integer(number),
            _ => {
                let field = join(&self.path);
                let message = format!("`{field}` is a whole number from {least} to {most}");
                let diagnostic = Diagnostic::error("out_of_range", field, message);
                self.push(diagnostic.at(Some(node.span.clone()), "here"));
                *node = stand_in(self.root, schema, &node.span);
            }
        }
    }

    fn boolean(&mut self, node: &mut Node, schema: &Value) {
        match covered(self.text, &node.span) {
            "true" => node.kind = Kind::Boolean(true),
            "false" => node.kind = Kind::Boolean(false),
            _ => self.wrong_type(node, schema, Wanted::Boolean),
        }
    }

    fn entries(&mut self, entries: Vec<Entry>, schema: &'a Value, span: &Range<usize>) -> Vec<Entry> {
        let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
        let mut seen: BTreeMap<String, Range<usize>> = BTreeMap::new();
        for entry in entries {
            self.path.push(entry.key.clone());
            if seen.insert(entry.key.clone(), entry.at.clone()).is_some() {
                self.duplicate(&entry);
            } else {
                kept.extend(self.entry(entry, schema));
            }
            self.path.pop();
        }
        for name in required(schema).filter(|name| !seen.contains_key(*name)) {
            self.path.push(name.to_owned());
            let message = format!("`{name}` is missing");
            let diagnostic = Diagnostic::error("missing_field", join(&self.path), message);
            let diagnostic = diagnostic.at(Some(span.clone()), format!("needs `{name}`"));
            let known = property(schema, name);
            self.push(match known.and_then(|known| examples(name, known)) {
                Some(examples) => diagnostic.help(format!("as in {examples}")),
                None => diagnostic,
            });
            self.path.pop();
            if let Some(known) = known {
                let value = stand_in(self.root, resolve(self.root, known), span);
                kept.push(Entry { key: name.to_owned(), at: span.clone(), is_tagged: false, value });
            }
        }
        kept
    }

    fn duplicate(&mut self, entry: &Entry) {
        let is_component = match &self.path[..] {
            [map, _] => self.rules.components.contains(&map.as_str()),
            _ => false,
        };
        let reason = if is_component { "duplicate_component" } else { "duplicate_key" };
        let message = format!("`{}` stands here twice", entry.shown());
        let diagnostic = Diagnostic::error(reason, join(&self.path), message);
        self.push(diagnostic.at(Some(entry.at.clone()), "the second one"));
    }

    /// The entry as it stays, if it does.
    fn entry(&mut self, mut entry: Entry, schema: &'a Value) -> Option<Entry> {
        if entry.is_tagged {
            self.tag(&entry.at);
        }
        if let Some(known) = property(schema, &entry.key) {
            // A field without a value is one that was left out.
            if matches!(entry.value.kind, Kind::Null) && !required(schema).any(|name| name == entry.key) {
                return None;
            }
            self.node(&mut entry.value, known);
            return Some(entry);
        }
        if covered(self.text, &entry.at).starts_with("<<") {
            let message = "a manifest has no merge keys: write the fields out";
            let diagnostic = Diagnostic::error("yaml_merge", join(&self.path), message);
            self.push(diagnostic.at(Some(entry.at), "a merge key"));
            return None;
        }
        if let Some(any) = schema.get("additionalProperties").filter(|any| any.is_object()) {
            // What has a name is best shown by it.
            if matches!(entry.value.kind, Kind::Map(_) | Kind::Null) {
                entry.value.span = entry.at.clone();
            }
            self.node(&mut entry.value, any);
            return Some(entry);
        }
        self.unknown(&entry, schema);
        None
    }

    fn unknown(&mut self, entry: &Entry, schema: &Value) {
        let (at, field, shown) = (Some(entry.at.clone()), join(&self.path), entry.shown());
        let mut refused = self.rules.refused.iter().copied().flatten();
        let refused = refused.find(|refused| path_matches(refused.path, &self.path));
        let diagnostic = if let Some(refused) = refused {
            match refused.why {
                Why::NotYet(help) => {
                    let message = format!("`{shown}` is not supported yet");
                    let diagnostic = Diagnostic::error("not_supported_yet", field, message);
                    let diagnostic = diagnostic.at(at, "not supported yet");
                    if help.is_empty() { diagnostic } else { diagnostic.help(help) }
                }
                Why::Renamed(name) => {
                    let message = format!("there is no field `{shown}` here: it is called `{name}`");
                    Diagnostic::error("unknown_field", field, message).at(at, format!("write `{name}`"))
                }
            }
        } else if self.rules.read_only.contains(&entry.key.as_str()) {
            let message = format!("`{shown}` is set by the cluster");
            Diagnostic::error("read_only_field", field, message).at(at, "remove this")
        } else {
            let names: Vec<&str> = properties(schema).collect();
            let help = match nearest(&entry.key, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("fields here: {}", names.join(", ")),
            };
            let message = format!("there is no field `{shown}` here");
            Diagnostic::error("unknown_field", field, message).at(at, "not a field").help(help)
        };
        self.push(diagnostic);
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = &str> {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(|all| all.keys())
        .map(String::as_str)
}

fn property<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    schema.get("properties").and_then(Value::as_object).and_then(|all| all.get(name))
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// A field with each value that its schema has as an example: `hold: 10m` or `hold: until-promoted`.
fn examples(name: &str, schema: &Value) -> Option<String> {
    let examples = schema.get("examples").and_then(Value::as_array)?;
    let shown = examples.iter().filter_map(Value::as_str).map(|example| format!("`{name}: {example}`"));
    Some(shown.collect::<Vec<_>>().join(" or "))
}

/// Follows `$ref`; the schemas of manifests refer by it and by nothing else.
fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#'));
    name.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

/// Of a schema that takes a text or a map, the one that a value is read by: by a map what is one, all else by a text.
fn option_for<'s>(root: &'s Value, schema: &'s Value, kind: &Kind) -> &'s Value {
    let options = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    let mut options = options.map(|option| resolve(root, option));
    let wanted = if matches!(kind, Kind::Map(_)) { Wanted::Map } else { Wanted::Text };
    options.find(|option| Wanted::of(option) == wanted).unwrap_or(schema)
}

/// The least that fits a schema.
fn stand_in(root: &Value, schema: &Value, span: &Range<usize>) -> Node {
    let schema = resolve(root, schema);
    let kind = match Wanted::of(schema) {
        Wanted::Map => {
            let entry = |name: &str| {
                let value = stand_in(root, property(schema, name)?, span);
                Some(Entry { key: name.to_owned(), at: span.clone(), is_tagged: false, value })
            };
            Kind::Map(required(schema).filter_map(entry).collect())
        }
        Wanted::List => Kind::List(Vec::new()),
        Wanted::Text | Wanted::Integer | Wanted::Boolean | Wanted::Anything => Kind::StandIn,
    };
    Node { span: span.clone(), is_tagged: false, is_stand_in: true, kind }
}

fn path_matches(pattern: &str, path: &[String]) -> bool {
    let mut parts = pattern.split('.');
    path.iter().all(|part| parts.next().is_some_and(|wanted| wanted == "*" || wanted == part))
        && parts.next().is_none()
}
