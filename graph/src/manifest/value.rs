//! The values that both manifests have: names, labels, settings, sources.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use model::egress::EgressRule;
use model::graph::{DEADLINE_MAX, Limits, MEMORY_MAX, MEMORY_MIN, Settings};
use model::unit::{ByteSize, parse_duration};

use super::shape::LimitsEntry;
use crate::diagnostic::{Diagnostic, Findings};
use crate::document::{Placed, shorten};

/// The bytes that all labels of one object may have.
const LABELS_MAX_BYTES: usize = 4 << 10;
/// The entries and bytes of one component's config or variables.
const CONFIG_MAX_BYTES: usize = 32 << 10;
/// The origins of one component.
const EGRESS_MAX: usize = 64;
/// The longest path of a source: what file systems take at most.
const SOURCE_MAX_BYTES: usize = 1_024;

impl Findings {
    /// Reads a text into a type, or reports why not.
    pub(crate) fn read<T>(&mut self, reason: &'static str, field: &str, text: &Placed<String>) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        if text.is_stand_in {
            return None;
        }
        match text.value.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.push(Diagnostic::error(reason, field, error.to_string()).at(place(text), "here"));
                None
            }
        }
    }

    /// Reads a name that is the key of a map.
    pub(crate) fn key<T>(&mut self, field: &str, text: &str, at: Option<Range<usize>>) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                let message = format!("`{}` is not a name: {error}", shorten(text));
                self.push(Diagnostic::error("name", field, message).at(at, "this name"));
                None
            }
        }
    }

    /// Whether this is the format that this version reads.
    pub(crate) fn format_version(&mut self, version: &Placed<u32>) {
        if version.value != 1 && !version.is_stand_in {
            let message = format!("this version reads format 1, not {}", version.value);
            self.push(Diagnostic::error("format_version", "version", message).at(place(version), "write 1"));
        }
    }

    /// Reads one of a few words.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        field: &str,
        text: Option<&Placed<String>>,
        options: &[(&str, T)],
        left_out: T,
    ) -> T {
        let Some(text) = text.filter(|text| !text.is_stand_in) else { return left_out };
        if let Some((_, value)) = options.iter().find(|(word, _)| *word == text.value) {
            return *value;
        }
        let words: Vec<&str> = options.iter().map(|(word, _)| *word).collect();
        let message = format!("`{field}` is one of: {}", words.join(", "));
        self.push(Diagnostic::error("unknown_value", field, message).at(place(text), "here"));
        left_out
    }

    pub(crate) fn labels(
        &mut self,
        field: &str,
        labels: BTreeMap<String, Placed<String>>,
    ) -> BTreeMap<String, String> {
        let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.value.len()).sum();
        if bytes > LABELS_MAX_BYTES {
            let message = format!("labels have at most {LABELS_MAX_BYTES} bytes together, these have {bytes}");
            let at = labels.values().next().and_then(place);
            self.push(Diagnostic::error("labels", field, message).at(at, "the first of them"));
        }
        for (key, value) in &labels {
            if key.is_empty() || key.chars().chain(value.value.chars()).any(char::is_control) {
                let message = "a label has a name, and no control characters in name or value";
                let field = format!("{field}.{}", shorten(key));
                self.push(Diagnostic::error("labels", field, message).at(place(value), "this label"));
            }
        }
        labels.into_iter().map(|(key, value)| (key, value.value)).collect()
    }

    pub(crate) fn settings(
        &mut self,
        field: &str,
        config: BTreeMap<String, String>,
        variables: BTreeMap<String, String>,
        egress: &[Placed<String>],
        limits: &LimitsEntry,
        at: Option<Range<usize>>,
    ) -> Settings {
        for (name, values) in [("config", &config), ("variables", &variables)] {
            let bytes: usize = values.iter().map(|(key, value)| key.len() + value.len()).sum();
            if bytes > CONFIG_MAX_BYTES {
                let message = format!("`{name}` has at most {CONFIG_MAX_BYTES} bytes, this one has {bytes}");
                let diagnostic = Diagnostic::error("config_too_large", format!("{field}.{name}"), message);
                self.push(diagnostic.at(at.clone(), format!("its `{name}`")));
            }
        }
        if let Some(first_over) = egress.get(EGRESS_MAX) {
            let message = format!("`egress` has at most {EGRESS_MAX} origins, this one has {}", egress.len());
            let diagnostic = Diagnostic::error("egress_rule", format!("{field}.egress"), message);
            self.push(diagnostic.at(place(first_over), "one too many"));
        }
        let rules = egress.iter().take(EGRESS_MAX).enumerate().filter_map(|(index, rule)| {
            self.read::<EgressRule>("egress_rule", &format!("{field}.egress.{index}"), rule)
        });
        let egress = rules.collect();
        Settings { config, variables, egress, limits: self.limits(field, limits), ..Settings::default() }
    }

    fn limits(&mut self, field: &str, entry: &LimitsEntry) -> Limits {
        let mut limits = Limits::default();
        if let Some(text) = &entry.memory {
            let field = format!("{field}.limits.memory");
            if let Some(memory) = self.read::<ByteSize>("memory_limit", &field, text) {
                if memory < MEMORY_MIN || memory > MEMORY_MAX {
                    let message = format!("memory is between {MEMORY_MIN} and {MEMORY_MAX}");
                    let diagnostic = Diagnostic::error("memory_limit", field, message);
                    self.push(diagnostic.at(place(text), "out of bounds"));
                }
                limits.memory = memory;
            }
        }
        if let Some(text) = &entry.deadline
            && let Some(deadline) = self.deadline(&format!("{field}.limits.deadline"), text)
        {
            limits.deadline = deadline;
        }
        limits
    }

    /// How long a call may take.
    pub(crate) fn deadline(&mut self, field: &str, text: &Placed<String>) -> Option<Duration> {
        if text.is_stand_in {
            return None;
        }
        match parse_duration(&text.value) {
            Ok(deadline) if deadline >= Duration::from_millis(1) && deadline <= DEADLINE_MAX => Some(deadline),
            Ok(_) => {
                let message = "a deadline is between 1ms and 10m";
                self.push(Diagnostic::error("deadline", field, message).at(place(text), "out of bounds"));
                None
            }
            Err(error) => {
                self.push(Diagnostic::error("deadline", field, error.to_string()).at(place(text), "here"));
                None
            }
        }
    }

    /// A path of a file, relative to the manifest; everything else is refused by name.
    pub(crate) fn source(&mut self, field: &str, text: &Placed<String>) -> Option<String> {
        if text.is_stand_in {
            return None;
        }
        let Some((reason, message, help)) = refused_source(&text.value) else {
            return Some(text.value.clone());
        };
        self.push(Diagnostic::error(reason, field, message).at(place(text), "this source").help(help));
        None
    }
}

/// Why a text is not a source, and what to write.
fn refused_source(text: &str) -> Option<(&'static str, &'static str, &'static str)> {
    const PATH: &str = "a source is a path relative to the manifest";
    const EXAMPLE: &str = "as in ./build/app.wasm";
    if let Some(rest) = text.strip_prefix("oci://") {
        let host = rest.split('/').next().unwrap_or_default();
        if host.contains('@') {
            return Some((
                "source_address",
                "a source carries no user or password",
                "use the registry's own login",
            ));
        }
        let message = "`oci://` sources are not supported yet";
        return Some(("not_supported_yet", message, "pull the file and name its path"));
    }
    if text.contains("://") {
        return Some(("source_scheme", PATH, EXAMPLE));
    }
    if text.is_empty() || text.len() > SOURCE_MAX_BYTES || text.chars().any(char::is_control) {
        return Some(("source_address", PATH, EXAMPLE));
    }
    text.starts_with('/').then_some((
        "source_address",
        "an absolute path is another file on every machine",
        "write it relative to the manifest",
    ))
}

/// The bytes that a value covers.
pub(crate) fn place<T>(value: &Placed<T>) -> Option<Range<usize>> {
    Some(value.span.clone())
}
