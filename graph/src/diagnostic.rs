//! What is wrong with a manifest, where, and what to do about it.

use std::borrow::Cow;
use std::ops::Range;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, MietteError, MietteSpanContents,
    Report, Severity, SourceCode, SourceSpan, SpanContents,
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
    pub fn error(
        reason: impl Into<Cow<'static, str>>,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
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

/// The mistakes of one document that are reported: more would only bury the first ones.
const FINDINGS_MAX: usize = 100;

/// Collects the mistakes of one document.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    found: Vec<Diagnostic>,
    has_more: bool,
}

impl Findings {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        if self.found.len() < FINDINGS_MAX {
            self.found.push(diagnostic);
        } else {
            self.has_more = true;
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The mistakes in the order of the text; those without a place first.
    pub(crate) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|diagnostic| diagnostic.span.as_ref().map(|span| span.start));
        if self.has_more {
            let message = format!("only {FINDINGS_MAX} mistakes are shown, there are more");
            self.found.push(Diagnostic::error("more_mistakes", "", message));
        }
        self.found
    }
}

/// Columns of a rendered report.
const WIDTH: usize = 110;
/// Diagnostics that are rendered of one list.
const RENDERED_MAX: usize = FINDINGS_MAX + 1;
/// The longest line that is shown whole, with the lines around it: a line may be as long as the document.
const LINE_MAX_BYTES: usize = 200;
/// Of a longer line: bytes before and behind the start of a span.
const CUT_BYTES: (usize, usize) = (40, 60);

/// Diagnostics as text for people, with excerpts of the document.
pub fn render(diagnostics: &[Diagnostic], file_name: &str, text: &str, color: bool) -> String {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::none() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(WIDTH).with_links(false);
    let mut out = String::new();
    for diagnostic in diagnostics.iter().take(RENDERED_MAX) {
        let mut shown = MietteDiagnostic::new(diagnostic.message.clone()).with_code(diagnostic.reason.clone());
        if diagnostic.is_warning {
            shown = shown.with_severity(Severity::Warning);
        }
        if let Some(help) = &diagnostic.help {
            shown = shown.with_help(help.clone());
        }
        let span = diagnostic.span.clone().filter(|span| text.get(span.clone()).is_some());
        let report = match span {
            Some(span) => {
                let excerpt = Excerpt::of(file_name, text, &span);
                let label = (!diagnostic.label.is_empty()).then(|| diagnostic.label.clone());
                let label = LabeledSpan::new_with_span(label, excerpt.marked.clone());
                Report::new(shown.with_label(label)).with_source_code(excerpt)
            }
            None => Report::new(shown),
        };
        // Writing to a String cannot fail.
        let _ = handler.render_report(&mut out, report.as_ref());
        out.push('\n');
    }
    if let Some(more) = diagnostics.len().checked_sub(RENDERED_MAX).filter(|more| *more > 0) {
        out.push_str(&format!("… and {more} more\n"));
    }
    out
}

/// The part of a document around a span, with the line and column it starts at.
struct Excerpt {
    file_name: String,
    text: String,
    /// The span in this part.
    marked: Range<usize>,
    line: usize,
    column: usize,
}

impl Excerpt {
    fn of(file_name: &str, document: &str, span: &Range<usize>) -> Self {
        let line_start = document[..span.start].rfind('\n').map_or(0, |line_end| line_end + 1);
        let line_end = document[span.start..].find('\n').map_or(document.len(), |length| span.start + length);
        let (start, end) = if line_end - line_start > LINE_MAX_BYTES {
            let start = line_start.max(bound(document, span.start.saturating_sub(CUT_BYTES.0)));
            (start, line_end.min(bound(document, span.start + CUT_BYTES.1)))
        } else {
            (short_line_before(document, line_start), short_line_behind(document, line_end))
        };
        let before = &document[..start];
        let first_line_start = before.rfind('\n').map_or(0, |line_end| line_end + 1);
        Self {
            file_name: file_name.to_owned(),
            text: document[start..end].chars().map(harmless).collect(),
            marked: span.start - start..span.end.clamp(span.start, end.max(span.start)) - start,
            line: before.matches('\n').count(),
            column: start - first_line_start,
        }
    }
}

/// The start of the line before, if it is short enough to be shown.
fn short_line_before(document: &str, line_start: usize) -> usize {
    let Some(before) = line_start.checked_sub(1) else { return line_start };
    let start = document[..before].rfind('\n').map_or(0, |line_end| line_end + 1);
    if before - start > LINE_MAX_BYTES { line_start } else { start }
}

/// The end of the line behind, if it is short enough to be shown.
fn short_line_behind(document: &str, line_end: usize) -> usize {
    let Some(behind) = document.get(line_end + 1..) else { return line_end };
    let length = behind.find('\n').unwrap_or(behind.len());
    if length > LINE_MAX_BYTES { line_end } else { line_end + 1 + length }
}

/// The character, or one of the same length in place of what a terminal would act on.
fn harmless(c: char) -> char {
    match (c, c.len_utf8()) {
        ('\r', _) => ' ',
        ('\n' | '\t', _) => c,
        (_, 1) if c.is_control() => '?',
        (_, 2) if c.is_control() => '\u{00bf}',
        ('\u{feff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}', _) => '\u{fffd}',
        _ => c,
    }
}

/// The nearest character bound at or before `at`.
fn bound(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let found = self.text.read_span(span, before, after)?;
        let column = if found.line() == 0 { self.column + found.column() } else { found.column() };
        Ok(Box::new(MietteSpanContents::new_named(
            self.file_name.clone(),
            found.data(),
            *found.span(),
            self.line + found.line(),
            column,
            found.line_count(),
        )))
    }
}

/// The name of `known` that is nearest to `name`, if one is near enough to be meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .filter_map(|candidate| Some((distance(name, candidate)?, candidate)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance of the beginnings of both, if it is small enough for one to be meant by the other.
fn distance(a: &str, b: &str) -> Option<usize> {
    const COMPARED: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(COMPARED).collect(), b.chars().take(COMPARED).collect());
    let most = 1 + a.len().max(b.len()) / 4;
    if a.len().abs_diff(b.len()) > most {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let cost = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
        // It only grows from row to row.
        if row.iter().all(|distance| *distance > most) {
            return None;
        }
    }
    row.last().copied().filter(|distance| *distance <= most)
}
