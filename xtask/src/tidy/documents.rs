//! Rules about the documents: they say how to begin, name every folder, and their links lead somewhere.

use std::path::Path;

use cargo_metadata::Metadata;

use super::Finding;
use super::tree::File;

/// A map that is longer is a book.
const ARCHITECTURE_LINES_MAX: usize = 150;
/// What `README.md` must name: the two commands everything begins with.
const COMMANDS: [&str; 2] = ["cargo xtask demo", "cargo xtask test"];

/// Every rule that the documents break.
pub fn check(root: &Path, files: &[File], workspace: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    let readme = text(files, "README.md");
    for command in COMMANDS.iter().filter(|command| !readme.contains(**command)) {
        findings.push(Finding::new("README.md", format!("does not name `{command}`"), "say how to begin"));
    }
    let architecture = text(files, "ARCHITECTURE.md");
    let lines = architecture.lines().count();
    if lines > ARCHITECTURE_LINES_MAX {
        findings.push(Finding::new(
            "ARCHITECTURE.md",
            format!("{lines} lines, and {ARCHITECTURE_LINES_MAX} are the most"),
            "move detail to docs/ and to the modules",
        ));
    }
    for package in &workspace.packages {
        if !architecture.contains(&format!("`{}/`", package.name)) {
            findings.push(Finding::new(
                "ARCHITECTURE.md",
                format!("does not name `{}/`", package.name),
                "add the folder to its map",
            ));
        }
    }
    for file in files.iter().filter(|file| file.extension() == "md") {
        findings.extend(check_links(file, root));
    }
    findings
}

fn text<'a>(files: &'a [File], path: &str) -> &'a str {
    files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str())
}

/// Links to files of the repository.
fn check_links(file: &File, root: &Path) -> Vec<Finding> {
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    links(&file.text)
        .into_iter()
        .filter(|(_, link)| !root.join(folder).join(link).exists())
        .map(|(line, link)| {
            Finding::new(format!("{}:{line}", file.path), format!("`{link}` is not there"), "link to what is")
        })
        .collect()
}

/// Targets of `[text](target)` that are paths, without the place inside the file, and their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut is_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code {
            continue;
        }
        for part in line.split("](").skip(1) {
            let Some((target, _)) = part.split_once(')') else { continue };
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains(':') {
                found.push((index + 1, path));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::links;

    #[test]
    fn links_to_files_are_found() {
        let text = "a [b](c.md) [d](https://e.example/f) [g](h/i.md#j)\n[k](#l)\n```\n[m](n)\n```\n[o](p)\n";
        assert_eq!(links(text), [(1, "c.md"), (1, "h/i.md"), (6, "p")]);
    }
}
