//! The files for Compose: their schema, what they name, and how they start our programs.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::{Map, Value};

use super::dockerfile::{self, Dockerfile};
use super::invocation::{Invocation, Program};
use crate::tidy::Finding;
use crate::tidy::tree::File;

/// The cluster.
pub const PATH: &str = "deploy/compose/compose.yaml";
/// What is laid over it for the first start.
pub const INIT_PATH: &str = "deploy/compose/compose.init.yaml";
/// The schema of the Compose Specification.
pub const SCHEMA_PATH: &str = "deploy/compose/compose-spec.schema.json";
/// Where the repository is from the folder of the files.
const CONTEXT: &str = "../..";
/// Where containers find secrets.
const SECRETS_FOLDER: &str = "/run/secrets/";
/// Variables that name the hosts of services.
const HOST_VARIABLES: [&str; 3] = ["WEFT_MEMBERS", "WEFT_CONTROL_PLANE", "CTL_ADDR"];

/// What is found, and how programs are started if that could be read.
pub type Checked = (Vec<Finding>, Vec<Invocation>);

/// Both files, the second laid over the first.
pub fn check(compose: &File, init: &File, schema: &File, dockerfile: &Dockerfile) -> anyhow::Result<Checked> {
    let schema: Value = serde_json::from_str(&schema.text).with_context(|| format!("read {SCHEMA_PATH}"))?;
    let schema =
        jsonschema::validator_for(&schema).map_err(|error| anyhow::anyhow!("{SCHEMA_PATH}: {error}"))?;
    let mut findings = Vec::new();
    let mut read = Vec::new();
    for file in [compose, init] {
        match serde_saphyr::from_str::<Value>(&file.text) {
            Err(error) => findings.push(Finding::new(&file.path, format!("is not YAML: {error}"), "mend it")),
            Ok(value) => {
                findings.extend(schema.iter_errors(&value).map(|error| {
                    let place = format!("{}: {}", file.path, error.instance_path());
                    Finding::new(
                        place,
                        shortened(&error.to_string()),
                        "the Compose Specification says what there is",
                    )
                }));
                read.push(value);
            }
        }
    }
    let [compose, init] = read.as_slice() else { return Ok((findings, Vec::new())) };
    if !findings.is_empty() {
        return Ok((findings, Vec::new()));
    }
    let mut invocations = Vec::new();
    for (path, value) in [(PATH, compose.clone()), (INIT_PATH, laid_over(compose, init))] {
        let file = Compose { path, value: &value, dockerfile };
        for name in table(&value, "services").map(Map::keys).into_iter().flatten() {
            if path == INIT_PATH && init["services"].get(name).is_none() {
                continue;
            }
            let (found, invocation) = file.check(name);
            findings.extend(found);
            invocations.extend(invocation);
        }
    }
    Ok((findings, invocations))
}

/// Whole services are shown by what the schema says of them, which is long.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 300;
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

/// Compose merges mappings and replaces commands.
fn laid_over(under: &Value, over: &Value) -> Value {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            let mut merged = under.clone();
            for (key, value) in over {
                let value = under.get(key).map_or_else(|| value.clone(), |under| laid_over(under, value));
                merged.insert(key.clone(), value);
            }
            Value::Object(merged)
        }
        _ => over.clone(),
    }
}

fn table<'a>(value: &'a Value, key: &str) -> Option<&'a Map<String, Value>> {
    value.get(key)?.as_object()
}

/// The texts of a list.
fn texts<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    value.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

struct Compose<'a> {
    path: &'static str,
    value: &'a Value,
    dockerfile: &'a Dockerfile,
}

impl Compose<'_> {
    /// A service: what it names is there, and how it starts its program.
    fn check(&self, name: &str) -> (Vec<Finding>, Option<Invocation>) {
        let service = &self.value["services"][name];
        let place = format!("{}: {name}", self.path);
        let wrong = |problem: String, instead: &str| Finding::new(&place, problem, instead);
        let mut findings: Vec<Finding> = self
            .missing(service)
            .into_iter()
            .map(|(key, missing)| {
                wrong(format!("`{missing}` is none of {key}"), "declare it at the end of the file")
            })
            .collect();

        let build = &service["build"];
        let target = build["target"].as_str().unwrap_or_default();
        let is_ours = build["context"] == CONTEXT && build["dockerfile"] == dockerfile::PATH;
        let Some((program, mut variables)) = self.dockerfile.image(target).filter(|_| is_ours) else {
            let instead =
                format!("context: {CONTEXT}, dockerfile: {}, and one of its stages", dockerfile::PATH);
            findings.push(wrong(format!("is built of `{target}`, which is no image of ours"), &instead));
            return (findings, None);
        };
        variables.retain(|variable, _| dockerfile::is_for(program, variable));
        for (variable, value) in table(service, "environment").into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            variables.insert(variable.clone(), value);
        }
        findings.extend(
            self.check_names(name, &variables).into_iter().map(|(problem, instead)| wrong(problem, instead)),
        );
        let arguments = texts(service, "command").into_iter().map(str::to_owned).collect();
        // What ctl is asked is not known here.
        let is_whole = program != Program::Ctl;
        (findings, Some(Invocation { place, program, arguments, variables, is_whole }))
    }

    /// Networks, volumes and secrets that are named and not declared.
    fn missing(&self, service: &Value) -> Vec<(&'static str, String)> {
        let volumes = texts(service, "volumes").into_iter().filter_map(|text| text.split(':').next());
        let named = [
            ("networks", texts(service, "networks")),
            ("volumes", volumes.collect()),
            ("secrets", texts(service, "secrets")),
        ];
        let mut missing = Vec::new();
        for (key, names) in named {
            let declared = table(self.value, key);
            for name in names {
                // A path is no name.
                let is_path = key == "volumes" && name.starts_with(['.', '/', '~', '$']);
                if !is_path && !declared.is_some_and(|declared| declared.contains_key(name)) {
                    missing.push((key, name.to_owned()));
                }
            }
        }
        missing
    }

    /// Names of others are services that can be reached, its own is its own, and its token is shown to it.
    fn check_names(&self, name: &str, variables: &BTreeMap<String, String>) -> Vec<(String, &'static str)> {
        let services = &self.value["services"];
        let networks = texts(&services[name], "networks");
        let mut found = Vec::new();
        for variable in HOST_VARIABLES {
            for host in variables.get(variable).into_iter().flat_map(|value| value.split(',')).map(host) {
                let shares = services.get(host).is_some_and(|other| {
                    texts(other, "networks").iter().any(|network| networks.contains(network))
                });
                if !shares {
                    found.push((
                        format!("{variable} names `{host}`, which it does not reach"),
                        "name a service",
                    ));
                }
            }
        }
        if let Some(advertised) = variables.get("WEFT_ADVERTISE").filter(|value| host(value) != name) {
            found.push((
                format!("says that others reach it as `{advertised}`"),
                "it has the name of its service",
            ));
        }
        if let Some(path) = variables.get("WEFT_JOIN_TOKEN_FILE") {
            let secret = path.strip_prefix(SECRETS_FOLDER).unwrap_or_default();
            if !texts(&services[name], "secrets").contains(&secret) {
                found.push((
                    format!("reads its token from `{path}`, where it has none"),
                    "list it in `secrets`",
                ));
            }
        }
        found
    }
}

/// The host in `https://host:port` or in `host:port`.
fn host(address: &str) -> &str {
    let authority = address.trim().trim_start_matches("https://");
    authority.split(':').next().unwrap_or(authority)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{Checked, INIT_PATH, PATH, SCHEMA_PATH, check};
    use crate::deploy::dockerfile;
    use crate::tidy::tree::File;

    const COMPOSE: &str = include_str!("../../../deploy/compose/compose.yaml");
    const INIT: &str = include_str!("../../../deploy/compose/compose.init.yaml");
    const SCHEMA: &str = include_str!("../../../deploy/compose/compose-spec.schema.json");
    const DOCKERFILE: &str = include_str!("../../../deploy/container/Dockerfile");

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    /// With one text in place of another.
    #[track_caller]
    fn checked(from: &str, to: &str) -> Checked {
        assert!(COMPOSE.contains(from), "{from}");
        let dockerfile = dockerfile::read(&file(dockerfile::PATH, DOCKERFILE)).unwrap();
        let compose = file(PATH, &COMPOSE.replacen(from, to, 1));
        check(&compose, &file(INIT_PATH, INIT), &file(SCHEMA_PATH, SCHEMA), &dockerfile).unwrap()
    }

    #[test]
    fn every_service_starts_a_program() {
        let (findings, invocations) = checked("services:", "services:");
        assert_eq!(findings, []);
        let places: Vec<&str> = invocations
            .iter()
            .map(|invocation| invocation.place.rsplit(' ').next().unwrap_or_default())
            .collect();
        assert_eq!(places, ["cp1", "cp2", "cp3", "ctl", "n1", "n2", "n3", "cp1"]);
        let node = &invocations[4];
        assert_eq!(node.arguments, ["--insecure-listen"]);
        assert_eq!(node.variables["WEFT_API_LISTEN"], "0.0.0.0:7200");
        assert_eq!(node.variables["WEFT_DATA_DIR"], "/var/lib/weft");
        let init = &invocations[7];
        assert_eq!((init.arguments.as_slice(), init.is_whole), (["--init".to_owned()].as_slice(), true));
        assert_eq!(init.variables["WEFT_ADVERTISE"], "cp1:7100");
    }

    #[test]
    fn what_compose_or_a_cluster_would_trip_over_is_refused() {
        for (from, to, problem) in [
            ("read_only: true", "readonly: true", "readonly"),
            ("restart: unless-stopped", "restart: [always]", "is not of type"),
            ("services:", "services: [", "is not YAML"),
            ("target: ctl}", "target: clt}", "is built of `clt`"),
            ("networks: [cluster]", "networks: [clutser]", "`clutser` is none of networks"),
            ("volumes: [\"n2:", "volumes: [\"n4:", "`n4` is none of volumes"),
            ("secrets: [cp3-token]", "secrets: [cp4-token]", "`cp4-token` is none of secrets"),
            ("secrets: [n1-token]", "secrets: [n2-token]", "reads its token from `/run/secrets/n1-token`"),
            ("WEFT_ADVERTISE: n3", "WEFT_ADVERTISE: n2", "says that others reach it as `n2`"),
            ("WEFT_MEMBERS: cp1:7100,cp3", "WEFT_MEMBERS: cp1:7100,cp4", "WEFT_MEMBERS names `cp4`"),
            ("networks: [cluster, outside]", "networks: [outside]", "WEFT_CONTROL_PLANE names `cp1`"),
        ] {
            let (findings, _) = checked(from, to);
            assert!(findings.iter().any(|finding| finding.problem.contains(problem)), "{to}: {findings:?}");
        }
    }
}
