//! `ctl explain`: what a reason or a field means, without a cluster.

mod field;
mod pages;

use std::fmt::Write as _;

use clap::Args;
use graph::diagnostic::nearest;
use serde_json::Value;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use field::{ROOTS, paragraph};
use pages::Page;

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// A reason as errors and events show it, or the path of a field; without it, all reasons are listed.
    #[arg(value_name = "REASON|FIELD")]
    pub subject: Option<String>,
}

/// Explains.
pub async fn run(arguments: ExplainArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let text = match &arguments.subject {
        None => contents(),
        Some(subject) => explain(subject)?,
    };
    session.terminal.data(&text)?;
    Ok(Exit::Done)
}

fn explain(subject: &str) -> Result<String, Failure> {
    // Copied out of an error: `error[unknown_field]`, `graph::unknown_field`.
    let subject = subject.trim().trim_start_matches("error");
    let subject = subject.trim_start_matches('[').trim_end_matches(']');
    let subject = subject.rsplit("::").next().unwrap_or(subject);
    if let Some(page) = pages::find(subject) {
        return Ok(render(page));
    }
    match field_of(subject) {
        Some(Ok(field)) => Ok(field.render()),
        Some(Err(error)) => Err(Failure::refused(error.to_string()).help(error.help())),
        None => Err(unknown(subject)),
    }
}

/// The field a path names; `None` where it is not the path of a field at all.
fn field_of(path: &str) -> Option<Result<field::Field, field::NoField>> {
    let segments: Vec<&str> = path.split('.').collect();
    let (first, rest) = segments.split_first()?;
    if ROOTS.contains(first) {
        let found = field::find(first, &schema(first), rest);
        // The manifest's own first field has its root's name: `graph` stands for the document then.
        return Some(found);
    }
    // As diagnostics write it, from the top of the document.
    let found = ROOTS.iter().filter_map(|root| field::find(root, &schema(root), &segments).ok()).next();
    match found {
        Some(found) => Some(Ok(found)),
        None if segments.len() > 1 => Some(field::find("graph", &schema("graph"), &segments)),
        None => None,
    }
}

fn schema(root: &str) -> Value {
    match root {
        "policy" => graph::schema::policy_schema().to_value(),
        _ => graph::schema::graph_schema().to_value(),
    }
}

fn unknown(subject: &str) -> Failure {
    let reasons = pages::all().map(|page| page.reason);
    let failure = Failure::refused(format!("there is no reason and no field `{subject}`"));
    match nearest(subject, reasons.chain(ROOTS)) {
        Some(near) => failure.help(format!("did you mean `{near}`?")),
        None => failure.help("`ctl explain` lists all reasons; fields start with `graph.` or `policy.`"),
    }
}

fn render(page: &Page) -> String {
    let mut out = format!("{}\n", page.reason);
    out.push_str(&paragraph(page.means, 2));
    out.push_str("\n  What to do\n");
    out.push_str(&paragraph(page.remedy, 2));
    out
}

fn contents() -> String {
    let mut out = String::new();
    for (group, pages) in pages::GROUPS {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "Reasons {group}");
        let names: Vec<&str> = pages.iter().map(|page| page.reason).collect();
        out.push_str(&paragraph(&names.join(" "), 2));
        out.push('\n');
    }
    out.push_str("Fields\n");
    out.push_str("  ctl explain graph.components.limits.memory\n  ctl explain policy.match.from\n");
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_found_as_errors_show_it() {
        let plain = explain("unsatisfied_import").unwrap();
        assert!(plain.starts_with("unsatisfied_import\n  Nothing in the graph"), "{plain}");
        assert_eq!(explain("error[unsatisfied_import]").unwrap(), plain);
        assert_eq!(explain("graph::unsatisfied_import").unwrap(), plain);
    }

    #[test]
    fn a_field_is_found_with_and_without_its_document() {
        let page = explain("graph.components.limits.memory").unwrap();
        assert_eq!(explain("components.app.limits.memory").unwrap(), page);
        assert!(explain("policy.match.from").unwrap().contains("Who imports."));
        assert_eq!(explain("match.from").unwrap(), explain("policy.match.from").unwrap());
        assert!(explain("graph").unwrap().contains("components"));
    }

    #[test]
    fn what_is_not_there_is_answered_with_what_is_near() {
        let help = |subject: &str| match explain(subject).unwrap_err() {
            Failure::Refused { help, .. } => help.unwrap(),
            other => panic!("{other}"),
        };
        assert_eq!(help("unsatisfied_imprt"), "did you mean `unsatisfied_import`?");
        assert_eq!(help("graph.componets"), "did you mean `graph.components`?");
        assert!(help("x").contains("lists all reasons"));
    }

    #[test]
    fn the_contents_name_every_reason() {
        let text = contents();
        for page in pages::all() {
            assert!(text.split_whitespace().any(|word| word == page.reason), "{}", page.reason);
        }
    }
}
