//! `ctl check`: manifests, the components they name, and how these link, with files alone.

use std::path::PathBuf;

use clap::Args;
use graph::diagnostic::Diagnostic;
use graph::link::Linked;
use graph::manifest::Manifest;
use model::policy::{Action, PolicySpec};
use serde_json::{Value, json};

use crate::cli::Format;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::manifest::Document;
use crate::offline::{self, CheckedPolicy};
use crate::session::Session;

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Manifests of graphs and policies; the graphs are linked with all of the policies.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

/// What one file turned out to be.
enum Checked {
    Graph { name: String, linked: Box<Linked>, warnings: Vec<Diagnostic> },
    Policy { name: String, policy: Box<CheckedPolicy> },
    Wrong { kind: &'static str, found: Vec<Diagnostic> },
}

/// Checks: the policies first, as the graphs are linked with them.
pub async fn run(arguments: CheckArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let mut documents = Vec::new();
    for path in &arguments.files {
        documents.push(Document::read(path)?);
    }
    let mut checked: Vec<Option<Checked>> =
        documents.iter().map(|document| document.is_policy().then(|| check_policy(document))).collect();
    let policies: Vec<CheckedPolicy> = checked
        .iter()
        .filter_map(|checked| match checked {
            Some(Checked::Policy { policy, .. }) => Some(policy.as_ref().clone()),
            _ => None,
        })
        .collect();
    for (document, slot) in documents.iter().zip(&mut checked) {
        slot.get_or_insert_with(|| check_graph(document, &policies));
    }
    let checked: Vec<Checked> = checked.into_iter().flatten().collect();
    report(session, &documents, &checked)
}

fn check_policy(document: &Document) -> Checked {
    let checked = graph::policy_manifest::parse(&document.bytes)
        .and_then(|manifest| Ok((manifest.name().to_string(), offline::check_policy(document, &manifest)?)));
    match checked {
        Ok((name, policy)) => Checked::Policy { name, policy: Box::new(policy) },
        Err(found) => Checked::Wrong { kind: "policy", found },
    }
}

fn check_graph(document: &Document, policies: &[CheckedPolicy]) -> Checked {
    let link = |manifest: Manifest| -> Result<Checked, Vec<Diagnostic>> {
        let linked = offline::link_graph(document, &manifest, policies)?;
        let warn = |finding| Diagnostic { is_warning: true, ..offline::locate(&manifest, finding) };
        let warnings = linked.warnings.iter().map(warn).collect();
        Ok(Checked::Graph { name: manifest.key().to_string(), linked: Box::new(linked), warnings })
    };
    graph::manifest::parse(&document.bytes)
        .and_then(link)
        .unwrap_or_else(|found| Checked::Wrong { kind: "graph", found })
}

fn report(session: &mut Session<'_>, documents: &[Document], checked: &[Checked]) -> Result<Exit, Failure> {
    let color = session.terminal.look().color;
    let mut wrong = Vec::new();
    for (document, checked) in documents.iter().zip(checked) {
        match checked {
            Checked::Wrong { found, .. } => {
                wrong.push(&document.name);
                session.terminal.error_text(&document.show(found, color))?;
            }
            Checked::Graph { warnings, .. } => session.terminal.error_text(&document.show(warnings, color))?,
            Checked::Policy { .. } => {}
        }
    }
    match session.format {
        Format::Json | Format::Yaml => {
            let values: Vec<Value> =
                documents.iter().zip(checked).map(|(document, checked)| value(document, checked)).collect();
            session.write_value(&Value::Array(values))?;
        }
        Format::Name => {
            for name in checked.iter().filter_map(name) {
                session.terminal.data_line(name)?;
            }
        }
        Format::Table | Format::Wide => {
            for (document, checked) in documents.iter().zip(checked) {
                if let Some(line) = line(checked) {
                    let prefix =
                        if documents.len() > 1 { format!("{}: ", document.name) } else { String::new() };
                    session.terminal.data_line(&format!("{prefix}{line}"))?;
                }
            }
        }
    }
    if wrong.is_empty() {
        return Ok(Exit::Done);
    }
    let count: usize = checked.iter().map(mistakes).sum();
    let plural = if count == 1 { "" } else { "s" };
    let names: Vec<&str> = wrong.into_iter().map(String::as_str).collect();
    Err(Failure::refused(format!("{}: {count} mistake{plural}", names.join(", "))))
}

fn mistakes(checked: &Checked) -> usize {
    match checked {
        Checked::Wrong { found, .. } => found.len(),
        Checked::Graph { .. } | Checked::Policy { .. } => 0,
    }
}

fn name(checked: &Checked) -> Option<&str> {
    match checked {
        Checked::Graph { name, .. } | Checked::Policy { name, .. } => Some(name),
        Checked::Wrong { .. } => None,
    }
}

fn line(checked: &Checked) -> Option<String> {
    let count = |number: usize, word: &str| {
        if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
    };
    match checked {
        Checked::Graph { linked, warnings, .. } => Some(format!(
            "ok: {}, {}, {}",
            count(linked.graph.components.len(), "component"),
            count(linked.graph.links.len(), "link"),
            count(warnings.len(), "warning")
        )),
        Checked::Policy { policy, .. } => Some(format!("ok: {}", what_it_does(&policy.policy.spec))),
        Checked::Wrong { .. } => None,
    }
}

fn what_it_does(spec: &PolicySpec) -> String {
    match &spec.action {
        Action::Interpose(components) if components.len() == 1 => {
            format!("puts 1 component on {}", spec.selector.interface)
        }
        Action::Interpose(components) => {
            format!("puts {} components on {}", components.len(), spec.selector.interface)
        }
        Action::Deny(_) => format!("forbids {}", spec.selector.interface),
    }
}

fn value(document: &Document, checked: &Checked) -> Value {
    let (kind, found) = match checked {
        Checked::Graph { warnings, .. } => ("graph", warnings.as_slice()),
        Checked::Policy { .. } => ("policy", [].as_slice()),
        Checked::Wrong { kind, found } => (*kind, found.as_slice()),
    };
    let mut value = json!({
        "file": document.name,
        "kind": kind,
        "ok": !matches!(checked, Checked::Wrong { .. }),
        "name": name(checked),
        "diagnostics": found.iter().map(|one| diagnostic(document, one)).collect::<Vec<_>>(),
    });
    if let Checked::Graph { linked, .. } = checked {
        value["components"] = linked.graph.components.len().into();
        value["links"] = linked.graph.links.len().into();
    }
    value
}

fn diagnostic(document: &Document, found: &Diagnostic) -> Value {
    let place = found.span.as_ref().map(|span| place(&document.text(), span.start));
    json!({
        "reason": found.reason,
        "isWarning": found.is_warning,
        "message": found.message,
        "field": found.field,
        "line": place.map(|(line, _)| line),
        "column": place.map(|(_, column)| column),
        "help": found.help,
    })
}

/// Line and column, both from 1, of a byte of a text.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::testing::{Ran, ctl};

    /// A component that exports `acme:crm/api@1.0.0`, and imports what it is given.
    fn component(imports: &str) -> Vec<u8> {
        wat::parse_str(format!(
            r#"(component {imports}
                (core module $m (func (export "f")))
                (core instance $i (instantiate $m))
                (func $f (canon lift (core func $i "f")))
                (instance $api (export "f" (func $f)))
                (export "acme:crm/api@1.0.0" (instance $api)))"#
        ))
        .unwrap()
    }

    const IMPORT: &str = r#"(import "acme:crm/api@1.0.0" (instance (export "f" (func))))"#;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn check(folder: &Path, files: &[&str], more: &[&str]) -> Ran {
        let paths: Vec<String> = files.iter().map(|file| folder.join(file).display().to_string()).collect();
        let mut arguments = vec!["check"];
        arguments.extend(paths.iter().map(String::as_str));
        arguments.extend(more);
        let mut ran = ctl(&arguments);
        let shown = format!("{}/", folder.display());
        ran.stdout = ran.stdout.replace(&shown, "");
        ran.stderr = ran.stderr.replace(&shown, "");
        ran
    }

    const GRAPH: &[u8] = b"version: 1
graph: crm
components:
  app: {source: ./app.wasm}
  api: {source: ./api.wasm}
links:
  - {from: app, interface: \"acme:crm/api@1\", to: api}
";

    const POLICY: &[u8] = b"version: 1
policy: guard
match: {interface: \"acme:crm/api@1\"}
interpose:
  - component: ./guard.wasm
";

    #[test]
    fn a_graph_is_linked_with_the_policies_beside_it() {
        let (plain, both) = (component(""), component(IMPORT));
        let folder = folder(&[
            ("graph.yaml", GRAPH),
            ("guard.yaml", POLICY),
            ("app.wasm", &both),
            ("api.wasm", &plain),
            ("guard.wasm", &both),
        ]);
        let ran = check(folder.path(), &["graph.yaml"], &[]);
        assert_eq!((ran.exit, ran.stderr.as_str()), (Exit::Done, ""), "{}", ran.stdout);
        assert_eq!(ran.stdout, "ok: 2 components, 1 link, 0 warnings\n");

        let ran = check(folder.path(), &["graph.yaml", "guard.yaml"], &[]);
        assert_eq!((ran.exit, ran.stderr.as_str()), (Exit::Done, ""), "{}", ran.stdout);
        assert_eq!(
            ran.stdout,
            "graph.yaml: ok: 3 components, 2 links, 0 warnings\nguard.yaml: ok: puts 1 component on acme:crm/api@1\n"
        );
    }

    #[test]
    fn every_mistake_of_every_file_is_shown() {
        let (plain, both) = (component(""), component(IMPORT));
        let folder = folder(&[
            ("graph.yaml", GRAPH),
            ("guard.yaml", POLICY),
            ("app.wasm", b"\x7fELF then something"),
            ("api.wasm", b"(component)"),
            ("guard.wasm", &plain),
        ]);
        let ran = check(folder.path(), &["graph.yaml", "guard.yaml"], &[]);
        assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::Failed, ""));
        for expected in [
            "precompiled",
            "not_binary",
            "field: components.app.source",
            "graph.yaml:4:",
            "guard.yaml",
            "error: graph.yaml, guard.yaml: 3 mistakes",
        ] {
            assert!(ran.stderr.contains(expected), "{expected} is not in:\n{}", ran.stderr);
        }

        std::fs::write(folder.path().join("api.wasm"), &plain).unwrap();
        std::fs::write(folder.path().join("app.wasm"), &both).unwrap();
        std::fs::remove_file(folder.path().join("guard.wasm")).unwrap();
        let ran = check(folder.path(), &["graph.yaml", "guard.yaml"], &["-o", "json"]);
        assert_eq!(ran.exit, Exit::Failed);
        let read: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(read[0]["ok"], json!(true));
        assert_eq!(read[0]["name"], json!("default/crm"));
        assert_eq!(read[1]["diagnostics"][0]["reason"], json!("source_missing"));
        assert_eq!(read[1]["diagnostics"][0]["field"], json!("interpose.0.component"));
        assert_eq!(read[1]["diagnostics"][0]["line"], json!(5));
    }

    #[test]
    fn places_count_characters_of_a_line() {
        assert_eq!(place("ab\nçd", 0), (1, 1));
        assert_eq!(place("ab\nçd", 5), (2, 2));
        assert_eq!(place("ab", 9), (1, 3));
    }
}
