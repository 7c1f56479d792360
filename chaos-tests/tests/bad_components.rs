//! Components that are valid and misbehave at the boundary to their host: rows 47–50 of the bad inputs, hand-written
//! in `bad_components/*.wat`. What becomes of each is a snapshot.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fmt::Write as _;
use std::path::Path;

use chaos_tests::api::Api;
use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::{Ctl, Ended, argument};

/// Calls for components that can be deployed.
const CALLS: &[(&str, &[&str])] = &[
    ("47-start-asks-the-host", &["f()"]),
    ("48-large-values", &["list()", "text()", "log()"]),
    (
        "49-broken-values",
        &[
            "utf8()",
            "discriminant()",
            "char()",
            "unaligned()",
            "outside()",
            "longest()",
            "unaligned-result()",
            "result-outside()",
        ],
    ),
    (
        "50-realloc",
        &[
            r#"calls("ada")"#,
            r#"outside("ada lovelace")"#,
            "unaligned([1, 2])",
            r#"traps("ada")"#,
            r#"loops("ada")"#,
            "cleans-up()",
        ],
    ),
];

/// The part of an error that is the same on every run: the line of the error itself, without the request's id.
fn outcome(ended: &Ended) -> (String, Option<String>) {
    if ended.code == 0 {
        return ("done".to_owned(), None);
    }
    let line = ended.stderr.lines().find(|line| line.starts_with("error")).unwrap_or(&ended.stderr);
    // Generations count what else the cluster has written.
    let line = line.split_once("; generation ").map_or(line, |(before, _)| before);
    match line.split_once("(request ") {
        Some((before, rest)) => {
            let (id, after) = rest.split_once(')').unwrap();
            (format!("exit {}: {before}(request …){after}", ended.code), Some(id.to_owned()))
        }
        None => (format!("exit {}: {line}", ended.code), None),
    }
}

/// What the log says of one request, without the stacks, which depend on how the code was built.
async fn logged(api: &Api, request: &str) -> String {
    let lines = api.logs("default/bad", request).await.unwrap();
    let causes = lines.iter().map(|line| line.message.rsplit("Caused by:").next().unwrap_or_default().trim());
    causes.collect::<Vec<_>>().join("; ")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_ends_as_expected_and_the_node_serves_on() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_components");
    let cluster = Cluster::start().await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    let mut found = String::new();
    for name in names {
        let made = cluster.folder().join(&name);
        std::fs::create_dir_all(&made).unwrap();
        let bytes = wat::parse_file(folder.join(format!("{name}.wat"))).unwrap();
        std::fs::write(made.join("app.wasm"), bytes).unwrap();
        let manifest = made.join("graph.yaml");
        let text = "version: 1\ngraph: bad\ncomponents:\n  app: {source: ./app.wasm, limits: {memory: 128Mi, deadline: 1s}}\n";
        std::fs::write(&manifest, text).unwrap();
        let (deployed, _) = outcome(&ctl.run(&["deploy", argument(&manifest)]).await);
        writeln!(found, "{name}: deploy: {deployed}").unwrap();
        let calls = CALLS.iter().find(|(called, _)| *called == name).map_or(&[][..], |(_, calls)| calls);
        for call in calls {
            let (answer, id) =
                outcome(&ctl.run(&["invoke", "bad/app", &format!("acme:bad/api@1.0.0#{call}")]).await);
            writeln!(found, "  {call}: {answer}").unwrap();
            if let Some(id) = id {
                writeln!(found, "    | {}", logged(&api, &id).await).unwrap();
            }
        }
    }
    insta::assert_snapshot!(found);

    let hurried = ["invoke", "bad/app", r#"acme:bad/api@1.0.0#loops("ada")"#, "--deadline", "100ms"];
    let (answer, _) = outcome(&ctl.run(&hurried).await);
    assert!(answer.contains("deadline_exceeded") && answer.contains("100 ms"), "{answer}");
    ctl.done(&["deploy", argument(&Bundle::graph("hello").folder().join("graph.yaml"))]).await;
    assert_eq!(cluster.client("hello.localhost").get("/").await.body, "hello from weft\n");
}
