//! `ctl component`: what a wasm file imports and exports, read from its bytes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use graph::interface::{self, ComponentType, Interface};
use graph::link::{builtin, verdict};
use model::digest::Digest;
use model::graph::ARTIFACT_MAX;
use model::interface::InterfaceName;
use model::linked::Verdict;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::cli::Format;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Arguments of `component`.
#[derive(Debug, Args)]
pub struct ComponentArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: ComponentCommand,
}

/// What to do with a component.
#[derive(Debug, Subcommand)]
pub enum ComponentCommand {
    /// Shows what a wasm file exports and imports, and how far each function can reach.
    Inspect(InspectArguments),
}

/// Arguments of `component inspect`.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// The wasm file.
    pub file: PathBuf,
}

/// Does it.
pub async fn run(arguments: ComponentArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let ComponentCommand::Inspect(arguments) = arguments.command;
    let bytes = read(&arguments.file)?;
    let component = interface::read(&bytes).map_err(|error| Failure::Refused {
        reason: Some(error.reason.to_owned()),
        message: match error.offset {
            Some(offset) => format!("{}: {error}, at byte {offset}", arguments.file.display()),
            None => format!("{}: {error}", arguments.file.display()),
        },
        help: None,
        next: Some(format!("ctl explain {}", error.reason)),
    })?;
    let digest = Digest::from_bytes(Sha256::digest(&bytes).into());
    show(&component, &digest, bytes.len() as u64, session)?;
    Ok(Exit::Done)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let name = file.display();
    let about = std::fs::metadata(file).map_err(|error| Failure::refused(format!("{name}: {error}")))?;
    if !about.is_file() {
        return Err(Failure::refused(format!("{name} is not a file")));
    }
    if about.len() > ARTIFACT_MAX.0 {
        return Err(Failure::Refused {
            reason: Some("component_too_large".to_owned()),
            message: format!("{name} has {} bytes; a component has at most {ARTIFACT_MAX}", about.len()),
            help: None,
            next: None,
        });
    }
    std::fs::read(file).map_err(|error| Failure::refused(format!("{name}: {error}")))
}

fn show(
    component: &ComponentType,
    digest: &Digest,
    size: u64,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    match session.format {
        Format::Json | Format::Yaml => session.write_value(&value(component, digest, size)),
        Format::Name => {
            for (_, interface) in sides(component) {
                session.terminal.data_line(&interface.name.to_string())?;
            }
            Ok(())
        }
        Format::Table | Format::Wide => {
            let text = paragraphs(component, session.format == Format::Wide);
            let (size, memory) = (people_size(size), component.memory_at_start);
            Ok(session.terminal.data(&format!("{digest}\n{size}, starts with {memory} of memory\n\n{text}"))?)
        }
    }
}

/// Exports first: what it offers is why it is there.
fn sides(component: &ComponentType) -> impl Iterator<Item = (&'static str, &Interface)> {
    let exports = component.exports.iter().map(|interface| ("export", interface));
    exports.chain(component.imports.iter().map(|interface| ("import", interface)))
}

fn people_size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        _ => format!("{} KiB ({bytes} bytes)", bytes.div_ceil(1024)),
    }
}

/// A paragraph for each interface; functions that stay on their node by nature, as the node offers them, only if asked.
fn paragraphs(component: &ComponentType, is_wide: bool) -> String {
    let mut out = String::new();
    for (side, interface) in sides(component) {
        let by = if side == "import" { satisfied_by(interface) } else { "" };
        let by = if by != NODE && interface.is_types_only { "" } else { by };
        let shown = if by.is_empty() { String::new() } else { format!("  from {by}") };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{side} {}{shown}", interface.name);
        if by == NODE && !is_wide {
            continue;
        }
        let of_provider = beside(if side == "import" { &component.imports } else { &component.exports });
        let longest = interface.functions.iter().map(|function| function.name.len()).max().unwrap_or(0);
        for function in &interface.functions {
            let verdict = verdict(&interface.name, function, &of_provider);
            let _ = writeln!(out, "  {:longest$}  {verdict}", function.name);
            if is_wide {
                let _ = writeln!(out, "  {:longest$}  {function}", "");
            }
        }
        if interface.functions.is_empty() {
            out.push_str("  types only\n");
        }
    }
    out
}

/// The interfaces that a function's handles may be of, if all that is not the node's is of one provider: which links there
/// will be, only a graph says.
fn beside(interfaces: &[Interface]) -> Vec<InterfaceName> {
    let names = interfaces.iter().map(|interface| &interface.name);
    names.filter(|name| !builtin::is_offered(name)).cloned().collect()
}

/// What satisfies the imports that every node grants.
const NODE: &str = "the node";

/// What can satisfy an import, as far as its name tells.
fn satisfied_by(interface: &Interface) -> &'static str {
    let name = &interface.name;
    if builtin::is_offered(name) {
        return NODE;
    }
    let sqlite = model::graph::CapabilitySpec::Sqlite { database: String::new(), seed: None };
    if builtin::capability_interface(&sqlite).is_some_and(|offered| offered.name.same_track(name)) {
        return "a sqlite capability or a component";
    }
    if builtin::is_known_wasi(name) { "a component; no node grants it" } else { "a component" }
}

fn value(component: &ComponentType, digest: &Digest, size: u64) -> Value {
    let side = |interfaces: &[Interface], is_import: bool| -> Vec<Value> {
        let of_provider = beside(interfaces);
        let one = |interface: &Interface| {
            let functions = interface
                .functions
                .iter()
                .map(|function| function_value(&interface.name, function, &of_provider));
            let functions: Vec<Value> = functions.collect();
            let mut value = json!({"interface": interface.name.to_string(), "functions": functions});
            if is_import {
                value["satisfiedBy"] = satisfied_by(interface).into();
            }
            value
        };
        interfaces.iter().map(one).collect()
    };
    json!({
        "digest": digest.to_string(),
        "size": size.to_string(),
        "memoryAtStart": component.memory_at_start.0.to_string(),
        "exports": side(&component.exports, false),
        "imports": side(&component.imports, true),
    })
}

fn function_value(
    interface: &InterfaceName,
    function: &graph::interface::FunctionType,
    of_provider: &[InterfaceName],
) -> Value {
    let (reach, why) = match verdict(interface, function, of_provider) {
        Verdict::Remotable => ("remotable", String::new()),
        Verdict::RemotableWithLease { why } => ("remotable-with-lease", why),
        Verdict::LocalOnly { why } => ("local-only", why),
    };
    json!({"name": function.name, "type": function.to_string(), "reach": reach, "why": why})
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use graph::interface::{FunctionType, Type};
    use model::unit::ByteSize;

    use super::*;

    fn interface(name: &str, functions: &[(&str, Option<Type>)]) -> Interface {
        let function = |(name, result): &(&str, Option<Type>)| FunctionType {
            name: (*name).to_owned(),
            is_async: false,
            parameters: vec![("n".to_owned(), Type::Primitive("u32"))],
            result: result.clone(),
        };
        Interface {
            name: name.parse().unwrap(),
            functions: functions.iter().map(function).collect(),
            uses: Vec::new(),
            is_types_only: false,
        }
    }

    fn component() -> ComponentType {
        let list = Type::List(Box::new(Type::Primitive("u8")));
        ComponentType {
            memory_at_start: ByteSize(0),
            exports: vec![interface(
                "acme:search/index@1.0.0",
                &[("query", Some(list)), ("watch", Some(Type::Stream(None)))],
            )],
            imports: vec![
                interface("wasi:clocks/wall-clock@0.2.0", &[("now", None)]),
                interface("fermyon:spin/sqlite@2.0.0", &[("x", None)]),
                interface("wasi:sockets/tcp@0.2.0", &[]),
                interface("acme:search/words@1.0.0", &[]),
            ],
        }
    }

    #[test]
    fn every_function_has_a_verdict_and_every_import_a_source() {
        insta::assert_snapshot!(paragraphs(&component(), false), @"
        export acme:search/index@1.0.0
          query  remotable
          watch  local only (stream<_>)
        import wasi:clocks/wall-clock@0.2.0  from the node
        import fermyon:spin/sqlite@2.0.0  from a sqlite capability or a component
          x  remotable
        import wasi:sockets/tcp@0.2.0  from a component; no node grants it
          types only
        import acme:search/words@1.0.0  from a component
          types only
        ");
    }

    #[test]
    fn wide_shows_types_and_what_the_node_offers() {
        insta::assert_snapshot!(paragraphs(&component(), true), @"
        export acme:search/index@1.0.0
          query  remotable
                 func(n: u32) -> list<u8>
          watch  local only (stream<_>)
                 func(n: u32) -> stream<_>
        import wasi:clocks/wall-clock@0.2.0  from the node
          now  remotable
               func(n: u32)
        import fermyon:spin/sqlite@2.0.0  from a sqlite capability or a component
          x  remotable
             func(n: u32)
        import wasi:sockets/tcp@0.2.0  from a component; no node grants it
          types only
        import acme:search/words@1.0.0  from a component
          types only
        ");
    }

    #[test]
    fn a_file_is_read_and_named_by_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.wasm");
        let text = r#"(component
            (import "wasi:random/random@0.2.0" (instance (export "get-random-u64" (func (result u64)))))
            (core module $m (memory 3) (func (export "f")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (instance $api (export "f" (func $f)))
            (export "acme:crm/api@1.0.0" (instance $api)))"#;
        let bytes = wat::parse_str(text).unwrap();
        std::fs::write(&file, &bytes).unwrap();
        let path = file.display().to_string();

        let ran = crate::testing::ctl(&["component", "inspect", &path]);
        assert_eq!(ran.exit, Exit::Done, "{}", ran.stderr);
        let digest = Digest::from_bytes(Sha256::digest(&bytes).into());
        let head = format!("{digest}\n{} bytes, starts with 192Ki of memory\n\n", bytes.len());
        let body =
            "export acme:crm/api@1.0.0\n  f  remotable\nimport wasi:random/random@0.2.0  from the node\n";
        assert_eq!(ran.stdout, format!("{head}{body}"));
        let names = crate::testing::ctl(&["component", "inspect", &path, "-q"]);
        assert_eq!(names.stdout, "acme:crm/api@1.0.0\nwasi:random/random@0.2.0\n");

        std::fs::write(&file, text).unwrap();
        let refused = crate::testing::ctl(&["component", "inspect", &path]);
        assert_eq!(refused.exit, Exit::Failed);
        assert!(refused.stderr.starts_with("error[not_binary]: "), "{}", refused.stderr);
    }

    #[test]
    fn programs_read_the_same() {
        let value = value(&component(), &Digest::from_bytes([7; 32]), 5_000);
        assert_eq!(value["exports"][0]["functions"][1]["reach"], "local-only");
        assert_eq!(value["exports"][0]["functions"][1]["why"], "stream<_>");
        assert_eq!(value["imports"][0]["satisfiedBy"], "the node");
        assert_eq!(value["size"], "5000");
        assert_eq!(people_size(5_000), "5 KiB (5000 bytes)");
    }
}
