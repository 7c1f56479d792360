//! What is planted for tests is of debug builds alone.

use super::Finding;
use super::tree::File;

/// What has to stand above each place where it can be asked for.
const GUARD: &str = "#[cfg(debug_assertions)]";
/// Where planted bugs come in: a file, and the beginning of the line.
const DOORS: [(&str, &str); 2] =
    [("control-plane/src/planted.rs", "pub struct Flags"), ("control-plane/src/config.rs", "pub planted: ")];

/// Every door without its guard.
pub fn check(files: &[File]) -> Vec<Finding> {
    let file = |path: &str| files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str());
    let open = DOORS.iter().filter(|(path, door)| !is_guarded(file(path), door));
    open.map(|(path, door)| {
        let problem = format!("`{}` is not of debug builds alone", door.trim_end());
        Finding::new(*path, problem, format!("put `{GUARD}` above it: a release build has no planted bug"))
    })
    .collect()
}

/// Whether one of the attributes of the line that begins so is the guard.
fn is_guarded(text: &str, door: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let Some(at) = lines.iter().position(|line| line.starts_with(door)) else { return false };
    let is_above = |line: &&&str| line.starts_with("#[") || line.starts_with("///");
    lines[..at].iter().rev().take_while(is_above).any(|line| *line == GUARD)
}

#[cfg(test)]
mod tests {
    use super::{DOORS, check};
    use crate::tidy::tree::File;

    fn files(above: &str) -> Vec<File> {
        let file = |(path, door): &(&str, &str)| File {
            path: (*path).to_owned(),
            text: format!("//! A.\n/// B.\n{above}#[command(flatten)]\n    {door}x,\n"),
        };
        DOORS.iter().map(file).collect()
    }

    #[test]
    fn doors_are_guarded() {
        assert!(check(&files("#[cfg(debug_assertions)]\n")).is_empty());
        assert_eq!(check(&files("")).len(), DOORS.len());
        assert_eq!(check(&files("#[cfg(debug_assertions)]\nstruct Other;\n")).len(), DOORS.len());
        assert_eq!(check(&[]).len(), DOORS.len());
    }
}
