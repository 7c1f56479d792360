//! Whatever comes in: it is read or refused, in bounds of time and words, and nothing panics.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use graph::diagnostic::{Diagnostic, render};
use graph::{interface, manifest, policy_manifest};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert, proptest};
use proptest::sample::{Index, select};
use proptest::test_runner::TestCaseResult;

use crate::support::{component, files, random};

/// Far above what any of these inputs takes, far below what a hang takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// The good manifests, to be spoilt.
static MANIFESTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let all = files("manifests", &["yaml"]).into_iter().chain(files("policies", &["yaml"]));
    all.map(|path| std::fs::read(path).unwrap()).collect()
});

/// Pieces that mean something to YAML or to a manifest.
const PIECES: &[&str] = &[
    "version: 1\n",
    "graph: a\n",
    "policy: p\n",
    "components:\n",
    "  app: {source: ./a.wasm}\n",
    "links:\n",
    "  - ",
    "{from: app, interface: \"a:b/c\", to: db}\n",
    "match: {interface: \"a:b/c\"}\n",
    "interpose:\n",
    "? ",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\n",
    "  ",
    "\t",
    "&a ",
    "*a",
    "<<: ",
    "!!binary ",
    "!x ",
    "|\n",
    ">-\n",
    "\"",
    "'",
    "# c\n",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "null",
    "~",
    "1e9",
    "0x1",
    ".nan",
    "true",
    "\u{feff}",
    "\r\n",
    "\u{85}",
    "é",
    "limits: {memory: 64Mi}\n",
    "egress: [",
    "https://a",
    "rollout:\n",
    "  steps:\n",
    "    - {share: 10%, hold: 1m}\n",
    "  - {share: 0.5%, hold: until-promoted}\n",
    "max-latency: 150%\n",
];

/// What a reader makes of bytes is in bounds, and can be shown.
fn is_sound(bytes: &[u8]) -> TestCaseResult {
    let started = Instant::now();
    let text = String::from_utf8_lossy(bytes);
    let found = [
        manifest::parse(bytes).map(drop).err().unwrap_or_default(),
        policy_manifest::parse(bytes).map(drop).err().unwrap_or_default(),
    ];
    for found in found {
        for diagnostic in &found {
            is_bounded(diagnostic, bytes)?;
        }
        let shown = render(&found, "a.yaml", &text, false);
        prop_assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
        prop_assert!(shown.len() <= 4_000 * found.len(), "{} bytes for {}", shown.len(), found.len());
    }
    prop_assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    Ok(())
}

fn is_bounded(found: &Diagnostic, bytes: &[u8]) -> TestCaseResult {
    prop_assert!(!found.reason.is_empty() && !found.message.is_empty());
    prop_assert!(found.message.len() <= 600, "{}", found.message);
    prop_assert!(!found.message.chars().any(char::is_control), "{:?}", found.message);
    if let (Some(span), Ok(text)) = (&found.span, std::str::from_utf8(bytes)) {
        prop_assert!(text.get(span.clone()).is_some(), "{span:?} of {}: {found:?}", text.len());
    }
    Ok(())
}

/// A change of bytes.
#[derive(Debug, Clone)]
enum Spoil {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    Cut(Index),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    proptest::prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Spoil::Set(at, byte)),
        (any::<Index>(), vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Spoil::Insert(at, bytes)),
        (any::<Index>(), select(PIECES)).prop_map(|(at, piece)| Spoil::Insert(at, piece.into())),
        (any::<Index>(), 1_usize..40).prop_map(|(at, count)| Spoil::Remove(at, count)),
        (any::<Index>(), 1_usize..60).prop_map(|(at, count)| Spoil::Repeat(at, count)),
        any::<Index>().prop_map(Spoil::Cut),
    ]
}

fn spoilt(mut bytes: Vec<u8>, changes: &[Spoil]) -> Vec<u8> {
    for change in changes {
        let at = |index: &Index| index.index(bytes.len() + 1).min(bytes.len());
        match change {
            Spoil::Set(index, byte) => {
                let at = at(index);
                if let Some(found) = bytes.get_mut(at) {
                    *found = *byte;
                }
            }
            Spoil::Insert(index, more) => {
                let at = at(index);
                bytes.splice(at..at, more.iter().copied());
            }
            Spoil::Remove(index, count) => {
                let at = at(index);
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Spoil::Repeat(index, count) => {
                let at = at(index);
                let part = bytes[at..(at + count).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
            Spoil::Cut(index) => {
                let at = at(index);
                bytes.truncate(at);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(random(512))]

    #[test]
    fn any_bytes_are_a_manifest_or_are_refused(bytes in vec(any::<u8>(), 0..400)) {
        is_sound(&bytes)?;
    }

    #[test]
    fn any_pieces_are_a_manifest_or_are_refused(pieces in vec(select(PIECES), 0..60)) {
        is_sound(pieces.concat().as_bytes())?;
    }

    #[test]
    fn spoilt_manifests_are_read_or_refused(which in any::<Index>(), changes in vec(spoil(), 1..6)) {
        is_sound(&spoilt(MANIFESTS[which.index(MANIFESTS.len())].clone(), &changes))?;
    }
}

/// The largest manifests of each kind take no longer than they should.
#[test]
fn large_manifests_are_read_in_time() {
    let head = "version: 1\ngraph: a\ncomponents:\n  app: {source: ./a.wasm}\n";
    let fill = |line: &str| format!("{head}{}", line.repeat((1 << 20) / line.len() - 1));
    for text in [
        format!("{head}links:\n{}", "  - {from: ap, interface: \"a:b/c\", to: dp}\n".repeat(4_999)),
        fill("labels: {a: b}\n"),
        fill("unknown-field-of-some-length-that-is-near-nothing: 1\n"),
        format!("{head}labels: {{{}}}\n", "aaaaaaaaaaaaaaaa: \"b\", ".repeat(40_000)),
        format!("{head}labels: {}{}\n", "[".repeat(500_000), "]".repeat(500_000)),
        format!("{head}x: \"{}\"\n", "\\u0041".repeat(170_000)),
        "a: ".repeat(300_000),
        "- ".repeat(500_000),
        "? ".repeat(500_000),
        "!".repeat(1_000_000),
        format!("a: |\n{}", "  x\n".repeat(260_000)),
    ] {
        let started = Instant::now();
        let found = manifest::parse(text.as_bytes()).err().unwrap_or_default();
        let shown = render(&found, "a.yaml", &text, false);
        assert!(started.elapsed() < PATIENCE, "{:?} for {:?}", started.elapsed(), &text[..60]);
        assert!(shown.len() < 400_000);
    }
}

// ---- components ----

static COMPONENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    component(
        "package acme:db@1.0.0 {
           interface store {
             resource row { constructor(id: u32); name: func() -> string; }
             record key { id: u32, tags: list<option<string>> }
             variant error { missing, io(string) }
             flags rights { read, write }
             enum colour { red, green }
             get: func(key: key, rights: rights) -> result<row, error>;
             put: func(row: borrow<row>) -> tuple<u8, char, colour>;
           }
         }
         package acme:web@0.2.0 { interface page { use acme:db/store@1.0.0.{row}; show: func(row: row); } }",
        "import acme:db/store@1.0.0; export acme:web/page@0.2.0;",
    )
});

fn is_read_or_refused(bytes: &[u8]) -> TestCaseResult {
    let started = Instant::now();
    if let Err(error) = interface::read(bytes) {
        prop_assert!(!error.message.is_empty() && error.message.chars().count() <= 402, "{error}");
        prop_assert!(!error.message.chars().any(char::is_control), "{error:?}");
        prop_assert!(error.offset.is_none_or(|at| at <= bytes.len()), "{error:?} of {}", bytes.len());
    }
    prop_assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    Ok(())
}

proptest! {
    #![proptest_config(random(2_000))]

    #[test]
    fn any_bytes_are_a_component_or_are_refused(bytes in vec(any::<u8>(), 0..300)) {
        is_read_or_refused(&bytes)?;
        is_read_or_refused(&[b"\0asm\x0d\0\x01\0", &bytes[..]].concat())?;
        is_read_or_refused(&[b"\0asm\x0d\0\x01\0\x07", &bytes[..]].concat())?;
    }

    #[test]
    fn spoilt_components_are_read_or_refused(changes in vec(spoil(), 1..5)) {
        is_read_or_refused(&spoilt(COMPONENT.clone(), &changes))?;
    }
}
