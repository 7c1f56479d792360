//! `ctl diff`: two revisions as they were written, comments and all.

use clap::Args;
use model::id::GraphKey;
use similar::TextDiff;

use crate::cli::Format;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lookup;
use crate::reference::{GraphReference, short};
use crate::session::Session;

/// Unchanged lines around a change.
const CONTEXT_LINES: usize = 3;

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// One side, `[namespace/]graph[@revision]`; the previous revision if both sides are left open.
    pub from: GraphReference,
    /// The other side; the current revision of the same graph if left out.
    pub to: Option<GraphReference>,
}

/// One side of a comparison.
struct Side {
    name: String,
    text: String,
    revision: u64,
}

/// Compares.
pub async fn run(arguments: DiffArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let from_key = arguments.from.key(&session.namespace);
    let (from, to) = match (&arguments.to, arguments.from.revision) {
        (Some(to), revision) => {
            let to_key = to.key(&session.namespace);
            let to = side(session, &to_key, to.revision.map_or(0, |number| number.0)).await?;
            (side(session, &from_key, revision.map_or(0, |number| number.0)).await?, to)
        }
        (None, Some(revision)) => {
            let to = side(session, &from_key, 0).await?;
            (side(session, &from_key, revision.0).await?, to)
        }
        (None, None) => {
            let to = side(session, &from_key, 0).await?;
            if to.revision <= 1 {
                let message = format!("{from_key} has one revision only: there is nothing to compare");
                return Err(Failure::refused(message).next(format!("ctl history {}", short(&from_key))));
            }
            (side(session, &from_key, to.revision - 1).await?, to)
        }
    };
    show(&from, &to, session)
}

async fn side(session: &Session<'_>, key: &GraphKey, revision: u64) -> Result<Side, Failure> {
    let answer = lookup::graph(&session.client, key, revision).await?;
    Ok(Side {
        name: format!("{}@{}", short(key), answer.manifest_revision),
        text: answer.manifest,
        revision: answer.manifest_revision,
    })
}

fn show(from: &Side, to: &Side, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let text = unified(from, to);
    match session.format {
        Format::Json | Format::Yaml => {
            let value = serde_json::json!({
                "from": from.name, "to": to.name, "isEqual": text.is_empty(), "unifiedDiff": text,
            });
            session.write_value(&value)?;
        }
        _ if text.is_empty() => {
            session.terminal.note(&format!("{} and {} are written the same", from.name, to.name))?;
        }
        _ => {
            let color = session.terminal.look().color && session.terminal.look().width.is_some();
            session.terminal.data(&if color { painted(&text) } else { text })?;
        }
    }
    Ok(Exit::Done)
}

fn unified(from: &Side, to: &Side) -> String {
    TextDiff::from_lines(&from.text, &to.text)
        .unified_diff()
        .context_radius(CONTEXT_LINES)
        .header(&from.name, &to.name)
        .to_string()
}

fn painted(text: &str) -> String {
    let paint = |line: &str| match line.as_bytes().first() {
        Some(b'+') => format!("\u{1b}[32m{line}\u{1b}[0m\n"),
        Some(b'-') => format!("\u{1b}[31m{line}\u{1b}[0m\n"),
        Some(b'@') => format!("\u{1b}[36m{line}\u{1b}[0m\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(paint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_part_of_what_was_written() {
        let side = |name: &str, text: &str| Side { name: name.to_owned(), text: text.to_owned(), revision: 1 };
        let from = side("crm@6", "graph: crm\n# old\nversion: 1\n");
        let to = side("crm@7", "graph: crm\n# new\nversion: 1\n");
        insta::assert_snapshot!(unified(&from, &to), @r"
        --- crm@6
        +++ crm@7
        @@ -1,3 +1,3 @@
         graph: crm
        -# old
        +# new
         version: 1
        ");
        assert_eq!(unified(&from, &from), "");
        assert!(painted(&unified(&from, &to)).contains("\u{1b}[31m-# old\u{1b}[0m\n"));
    }
}
