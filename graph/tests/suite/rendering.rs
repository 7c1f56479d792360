//! Diagnostics as people see them: bounded, and harmless to a terminal.

use graph::diagnostic::{Diagnostic, nearest, render};

fn at(text: &str, what: &str) -> Diagnostic {
    let start = text.find(what).unwrap();
    Diagnostic::error("reason", "field", "a sentence")
        .at(Some(start..start + what.len()), "here")
        .help("do this")
}

#[test]
fn the_excerpt_has_line_and_column() {
    let text = "one: 1\ntwo:\n  three: wrong\nfour: 4\n";
    let shown = render(&[at(text, "wrong")], "graph.yaml", text, false);
    assert!(shown.contains("[graph.yaml:3:10]"), "{shown}");
    assert!(shown.contains("three: wrong") && shown.contains("here") && shown.contains("do this"), "{shown}");
}

/// A manifest may be one line of a megabyte, and have a hundred mistakes.
#[test]
fn an_excerpt_is_cut_from_a_long_line() {
    let text = format!("{}wrong{}", "é, ".repeat(100_000), "ü, ".repeat(100_000));
    let shown = render(&vec![at(&text, "wrong"); 200], "graph.yaml", &text, false);
    assert!(shown.len() < 100_000, "{}", shown.len());
    assert!(shown.contains("[graph.yaml:1:400001]"), "{}", &shown[..400]);
    assert!(shown.contains("… and 99 more"), "{}", &shown[shown.len() - 400..]);
}

#[test]
fn nothing_reaches_the_terminal_that_it_would_act_on() {
    let text = "a: \u{1b}[31mred\u{7} \u{85} \u{202e}wrong\n";
    let shown = render(&[at(text, "wrong")], "graph.yaml", text, false);
    assert!(!shown.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{shown:?}");
    assert!(shown.contains("wrong"), "{shown}");
}

#[test]
fn a_place_outside_the_text_is_left_out() {
    let found = Diagnostic::error("reason", "", "a sentence").at(Some(100..200), "here");
    let shown = render(&[found], "graph.yaml", "short", false);
    assert!(shown.contains("a sentence") && !shown.contains("here"), "{shown}");
}

#[test]
fn the_nearest_name_is_near_enough_to_be_meant() {
    let known = ["source", "digest", "labels", "config"];
    assert_eq!(nearest("sorce", known), Some("source"));
    assert_eq!(nearest("lables", known), Some("labels"));
    assert_eq!(nearest("placement", known), None);
    assert_eq!(nearest("", known), None);
    assert_eq!(nearest(&"s".repeat(1_000), known), None);
}
