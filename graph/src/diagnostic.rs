//! What is wrong with a manifest, where, and what to do about it.

use std::borrow::Cow;
use std::ops::Range;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report, Severity,
};
use model::name::ComponentName;

/// One mistake or doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// A stable word for programs: `unknown_component`.
    pub reason: Cow<'static, str>,
    /// Whether it refuses the manifest.
    pub is_warning: bool,
    /// A sentence.
    pub message: String,
    /// The path in the document: `components.app.source`.
    pub field: String,
    /// Bytes of the document.
    pub span: Option<Range<usize>>,
    /// What to write at the span.
    pub label: String,
    /// What to do.
    pub help: Option<String>,
}

/// What a finding of the linker is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The whole document.
    Graph,
    /// A component.
    Component(ComponentName),
    /// A capability.
    Capability(ComponentName),
    /// An entry of `links`.
    Link(usize),
    /// An entry of `ingress`.
    Ingress(usize),
}

impl Diagnostic {
    /// A mistake at a span.
    pub fn error(reason: impl Into<Cow<'static, str>>, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            is_warning: false,
            message: message.into(),
            field: field.into(),
            span: None,
            label: String::new(),
            help: None,
        }
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, span: Option<Range<usize>>, label: impl Into<String>) -> Self {
        self.span = span;
        self.label = label.into();
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Columns of a rendered report.
const WIDTH: usize = 110;

/// Diagnostics as text for people, with excerpts of the document.
pub fn render(diagnostics: &[Diagnostic], file_name: &str, text: &str, color: bool) -> String {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::none() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(WIDTH).with_links(false);
    let mut out = String::new();
    for diagnostic in diagnostics {
        let mut shown = MietteDiagnostic::new(diagnostic.message.clone()).with_code(diagnostic.reason.clone());
        if diagnostic.is_warning {
            shown = shown.with_severity(Severity::Warning);
        }
        if let Some(help) = &diagnostic.help {
            shown = shown.with_help(help.clone());
        }
        if let Some(span) = diagnostic.span.clone().filter(|span| text.get(span.clone()).is_some()) {
            let label = (!diagnostic.label.is_empty()).then(|| diagnostic.label.clone());
            shown = shown.with_label(LabeledSpan::new_with_span(label, span));
        }
        let report = Report::new(shown).with_source_code(NamedSource::new(file_name, text.to_owned()));
        // Writing to a String cannot fail.
        let _ = handler.render_report(&mut out, report.as_ref());
        out.push('\n');
    }
    out
}

/// The name of `known` that is nearest to `name`, if one is near enough to be meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().max(name.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, on the first bytes of both.
fn distance(a: &str, b: &str) -> usize {
    const COMPARED: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(COMPARED).collect(), b.chars().take(COMPARED).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let cost = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
