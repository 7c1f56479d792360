//! Python's protobuf, which shares no code with us: given the schema, it reads of our bytes the values that we meant, and
//! we read what it writes of these values.
//!
//! `cargo xtask test` installs it. Elsewhere the test says `SKIPPED`, and `WEFT_PYTHON_REQUIRED` makes that an error.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::strategy::{Strategy as _, ValueTree as _};
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::{FileDescriptorProto, FileDescriptorSet};
use serde::Deserialize;
use serde_json::json;

use super::strategies::{Call, calls, random};
use super::*;

/// Random functions: twice as many messages.
const CALLS: usize = 400;
/// How few types and messages would show too little.
const TYPES_MIN: usize = 100;
const MESSAGES_MIN: usize = 500;
const PACKAGE: &str = "cross.v1";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/link/encoding/tests/python.py");

/// Where `cargo xtask test` puts it, in the folder that holds `debug/deps/` with this test; or why it is not there.
fn python() -> Result<PathBuf, String> {
    let test = env::current_exe().unwrap();
    let target_dir = test.ancestors().nth(3).ok_or("this test is not in a target folder")?;
    let python = target_dir.join("python/protobuf/bin/python");
    let output = Command::new(&python)
        .args(["-c", "import google.protobuf"])
        .output()
        .map_err(|error| format!("{}: {error}", python.display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(python)
}

/// The lines of the table and random functions.
fn examples(session: &Session) -> Vec<Call> {
    let handles = [true, false].map(|owned| (handle(owned), Val::Resource(session.handles[2])));
    let lines = bytes::all().into_iter().map(|line| (line.shape, line.value)).chain(handles);
    let lines = lines.map(|(shape, value)| {
        let signature = function(vec![("x", shape.clone())], Some(shape));
        Call { signature, arguments: vec![value.clone()], result: Some(value) }
    });
    let mut runner = random(1);
    let strategy = calls(session);
    let random = (0..CALLS).map(|_| strategy.new_tree(&mut runner).unwrap().current());
    lines.chain(random).collect()
}

/// The schema of all of them: `call-1`, `call-2` and so on.
fn file(examples: &[Call]) -> FileDescriptorProto {
    let names: Vec<String> = (1..=examples.len()).map(|number| format!("call-{number}")).collect();
    let functions: Vec<_> =
        names.iter().zip(examples).map(|(name, call)| (name.as_str(), &call.signature)).collect();
    descriptor::file(PACKAGE, &functions)
}

/// A line of JSON for each message: its type, its bytes, and what it says. Each call has two.
fn messages(examples: &[Call], pool: &DescriptorPool, session: &mut Session) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, Call { signature, arguments, result }) in (1..).zip(examples) {
        let schema = |end: &str| pool.get_message_by_name(&format!("{PACKAGE}.Call{number}{end}")).unwrap();
        let mut line = |schema: &MessageDescriptor, bytes: &[u8], value: serde_json::Value| {
            let line = json!({ "type": schema.full_name(), "bytes": hex(bytes), "value": value });
            lines.push(format!("{line}\n"));
        };
        let (of_arguments, of_result) = (schema("Arguments"), schema("Result"));
        let value = json::arguments(&of_arguments, signature, arguments, session);
        let mut bytes = Vec::new();
        signature.encode_arguments(arguments, session, &mut bytes).unwrap();
        line(&of_arguments, &bytes, value);
        let value = json::result(&of_result, signature, result.as_ref(), session);
        let mut bytes = Vec::new();
        signature.encode_result(result.as_ref(), session, &mut bytes).unwrap();
        line(&of_result, &bytes, value);
    }
    lines
}

/// A message as Python writes it.
#[derive(Debug, Deserialize)]
struct Written {
    bytes: String,
    /// With the last field first.
    backwards: String,
}

fn written(folder: &Path) -> Vec<Written> {
    let lines = fs::read_to_string(folder.join("written.jsonl")).unwrap();
    lines.split_terminator('\n').map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn python_reads_what_we_write_and_we_what_it_writes() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            say(&format!("SKIPPED: Python's protobuf, which `cargo xtask test` installs: {}", why.trim()));
            assert!(env::var_os("WEFT_PYTHON_REQUIRED").is_none(), "Python's protobuf is required here: {why}");
            return;
        }
    };
    let mut session = Session::new();
    let examples = examples(&session);
    let types: BTreeSet<&str> = examples.iter().map(|call| call.signature.text()).collect();
    let file = file(&examples);
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_proto(file.clone()).unwrap();
    let lines = messages(&examples, &pool, &mut session);
    assert!(types.len() >= TYPES_MIN && lines.len() >= MESSAGES_MIN);

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("schema.binpb"), FileDescriptorSet { file: vec![file] }.encode_to_vec())
        .unwrap();
    fs::write(folder.path().join("messages.jsonl"), lines.concat()).unwrap();
    // -B: no bytecode beside the script.
    let output = Command::new(python).args(["-B", SCRIPT]).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let written = written(folder.path());
    assert_eq!(written.len(), lines.len());
    for (call, pair) in examples.iter().zip(written.chunks_exact(2)) {
        let text = call.signature.text();
        for bytes in [&pair[0].bytes, &pair[0].backwards] {
            let read = call.signature.decode_arguments(&unhex(bytes), &mut session);
            assert_eq!(read.as_ref(), Ok(&call.arguments), "{text}: {bytes}");
        }
        for bytes in [&pair[1].bytes, &pair[1].backwards] {
            let read = call.signature.decode_result(&unhex(bytes), &mut session);
            assert_eq!(read.as_ref(), Ok(&call.result), "{text}: {bytes}");
        }
    }
    say(&format!("Python's protobuf: {} messages of {} types, read and written", lines.len(), types.len()));
}

/// Says a line that the test harness does not keep for itself when a test passes.
fn say(line: &str) {
    // There is nowhere else to say that standard error is closed.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
