//! The Dockerfile: what it copies is there, its compiler is ours, and each program has an image without root.

use std::collections::BTreeMap;

use super::invocation::{Invocation, Program};
use crate::tidy::Finding;
use crate::tidy::tree::File;

/// Where it is.
pub const PATH: &str = "deploy/container/Dockerfile";
/// What the build sees of the repository: BuildKit looks for it beside the Dockerfile.
pub const IGNORE_PATH: &str = "deploy/container/Dockerfile.dockerignore";
/// What cargo reads besides the members of the workspace.
const CARGO_FILES: [&str; 2] = ["Cargo.toml", "Cargo.lock"];

/// The repository as the build sees it.
#[derive(Debug)]
pub struct Tree<'a> {
    /// The version in `rust-toolchain.toml`.
    pub toolchain: &'a str,
    /// The members of the workspace.
    pub members: &'a [String],
    /// Paths of all files.
    pub paths: &'a [&'a str],
    /// What the file beside the Dockerfile says.
    pub ignore: &'a str,
}

/// A Dockerfile, read.
#[derive(Debug)]
pub struct Dockerfile {
    stages: Vec<Stage>,
}

/// From one `FROM` to the next.
#[derive(Debug)]
struct Stage {
    name: String,
    from: String,
    instructions: Vec<Instruction>,
}

#[derive(Debug)]
struct Instruction {
    line: usize,
    keyword: String,
    rest: String,
}

impl Instruction {
    fn place(&self) -> String {
        format!("{PATH}:{}", self.line)
    }

    /// What it copies from its context or a stage: flags aside, all words but the last.
    fn sources(&self) -> Vec<&str> {
        let words: Vec<&str> = self.rest.split_whitespace().filter(|word| !word.starts_with("--")).collect();
        words.split_last().map_or(Vec::new(), |(_, sources)| sources.to_vec())
    }

    fn flag(&self, name: &str) -> Option<&str> {
        self.rest.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// The words of `["a", "b"]`; what is no such list is run by a shell.
    fn words(&self) -> Option<Vec<String>> {
        serde_json::from_str(&self.rest[self.rest.find('[')?..]).ok()
    }
}

/// Reads a Dockerfile.
pub fn read(file: &File) -> Result<Dockerfile, Finding> {
    let mut stages: Vec<Stage> = Vec::new();
    let mut begun: Option<Instruction> = None;
    for (index, line) in file.text.lines().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let (text, goes_on) =
            line.trim().strip_suffix('\\').map_or((line.trim(), false), |text| (text.trim(), true));
        let instruction = match begun.take() {
            Some(mut begun) => {
                begun.rest = format!("{} {text}", begun.rest);
                begun
            }
            None => {
                let (keyword, rest) = text.split_once(' ').unwrap_or((text, ""));
                Instruction { line: index + 1, keyword: keyword.to_owned(), rest: rest.trim().to_owned() }
            }
        };
        if goes_on {
            begun = Some(instruction);
            continue;
        }
        let wrong = |problem: &str| Finding::new(instruction.place(), problem, "see the stages beside it");
        if instruction.keyword == "FROM" {
            let stage = stage_of(&instruction.rest);
            let (from, name) = stage.ok_or_else(|| wrong("the stage has no name: `FROM image AS name`"))?;
            stages.push(Stage { name, from, instructions: vec![instruction] });
        } else {
            let stage = stages.last_mut().ok_or_else(|| wrong("stands before the first FROM"))?;
            stage.instructions.push(instruction);
        }
    }
    match begun {
        Some(instruction) => {
            Err(Finding::new(instruction.place(), "does not end", "remove the last backslash"))
        }
        None => Ok(Dockerfile { stages }),
    }
}

/// `image AS name`.
fn stage_of(rest: &str) -> Option<(String, String)> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    match words.as_slice() {
        [from, "AS", name] => Some(((*from).to_owned(), (*name).to_owned())),
        _ => None,
    }
}

impl Dockerfile {
    /// Every rule that it breaks.
    pub fn check(&self, tree: &Tree<'_>) -> Vec<Finding> {
        let mut findings = self.check_images(tree);
        findings.extend(self.check_copies(tree));
        findings.extend(Program::ALL.into_iter().flat_map(|program| self.check_program(program)));
        findings
    }

    /// The program that a target's image starts, and what its environment has.
    pub fn image(&self, target: &str) -> Option<(Program, BTreeMap<String, String>)> {
        let stage = self.stage(target)?;
        let program = Program::at(&self.last(stage, "ENTRYPOINT")?.words()?.into_iter().next()?)?;
        Some((program, self.variables(stage)))
    }

    /// How the images start programs: as parts, since what is needed besides is said by whoever runs them.
    pub fn invocations(&self) -> Vec<Invocation> {
        let mut found = Vec::new();
        for stage in &self.stages {
            for keyword in ["ENTRYPOINT", "HEALTHCHECK"] {
                let Some(instruction) = stage.instructions.iter().rfind(|found| found.keyword == keyword)
                else {
                    continue;
                };
                let Some((path, arguments)) =
                    instruction.words().and_then(|words| Some((words.first()?.clone(), words[1..].to_vec())))
                else {
                    continue;
                };
                let Some(program) = Program::at(&path) else { continue };
                let place = instruction.place();
                let variables =
                    self.variables(stage).into_iter().filter(|(name, _)| is_for(program, name)).collect();
                found.push(Invocation { place, program, arguments, variables, is_whole: false });
            }
        }
        found
    }

    fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// A stage and those below it.
    fn line<'a>(&'a self, stage: &'a Stage) -> impl Iterator<Item = &'a Stage> {
        std::iter::successors(Some(stage), |stage| self.stage(&stage.from))
    }

    /// The instruction that counts: the last of the nearest stage.
    fn last<'a>(&'a self, stage: &'a Stage, keyword: &str) -> Option<&'a Instruction> {
        self.line(stage).find_map(|stage| stage.instructions.iter().rfind(|found| found.keyword == keyword))
    }

    fn variables(&self, stage: &Stage) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        for stage in self.line(stage) {
            for instruction in stage.instructions.iter().filter(|found| found.keyword == "ENV") {
                for (name, value) in instruction.rest.split_whitespace().filter_map(|word| word.split_once('='))
                {
                    variables.entry(name.to_owned()).or_insert_with(|| value.to_owned());
                }
            }
        }
        variables
    }

    /// Versions are written, and that of the compiler is the one everybody here builds with.
    fn check_images(&self, tree: &Tree<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for stage in &self.stages {
            let Some(from) = stage.instructions.first() else { continue };
            let is_of_others = self.stage(&stage.from).is_none();
            let tag = stage.from.rsplit_once(':').map_or("", |(_, tag)| tag);
            if is_of_others && ["", "latest"].contains(&tag) {
                findings.push(Finding::new(
                    from.place(),
                    format!("`{}` has no version", stage.from),
                    "write its tag",
                ));
            }
            let written = [
                stage
                    .from
                    .strip_prefix("rust:")
                    .map(|tag| tag.split('-').next().unwrap_or_default().to_owned()),
                self.variables(stage).remove("RUSTUP_TOOLCHAIN"),
            ];
            for version in written.into_iter().flatten().filter(|version| version != tree.toolchain) {
                findings.push(Finding::new(
                    from.place(),
                    format!("builds with Rust {version}, and rust-toolchain.toml says {}", tree.toolchain),
                    "write the same version in both",
                ));
            }
        }
        findings
    }

    /// What is copied is there, and what cargo needs is copied.
    fn check_copies(&self, tree: &Tree<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut copied = Vec::new();
        let seen: Vec<&str> = tree.ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
        for (index, stage) in self.stages.iter().enumerate() {
            for copy in
                stage.instructions.iter().filter(|found| ["COPY", "ADD"].contains(&found.keyword.as_str()))
            {
                let from = copy
                    .flag("--from")
                    .map(|name| self.stages[..index].iter().find(|stage| stage.name == name));
                for source in copy.sources() {
                    let problem = match from {
                        Some(None) => Some("comes from no stage before it".to_owned()),
                        Some(Some(stage)) => {
                            (!makes(stage, source)).then(|| format!("is nothing that `{}` makes", stage.name))
                        }
                        None if !is_there(tree.paths, source) => Some("is not in the repository".to_owned()),
                        None if !seen.contains(&source) => Some(format!("is hidden by {IGNORE_PATH}")),
                        None => None,
                    };
                    if let Some(problem) = problem {
                        findings.push(Finding::new(
                            copy.place(),
                            format!("`{source}` {problem}"),
                            "copy what there is",
                        ));
                    }
                    if from.is_none() {
                        copied.push(source);
                    }
                }
            }
        }
        let needed = CARGO_FILES.into_iter().chain(tree.members.iter().map(String::as_str));
        for missing in needed.filter(|needed| !copied.contains(needed)) {
            let problem = format!("does not copy `{missing}`, which cargo reads");
            findings.push(Finding::new(PATH, problem, "copy it before the build"));
        }
        findings
    }

    /// Each program is started without a shell and without root, and told to stop by the signal that it heeds.
    fn check_program(&self, program: Program) -> Vec<Finding> {
        let name = program.name();
        let Some(stage) = self.stage(name) else {
            return vec![Finding::new(
                PATH,
                format!("there is no stage `{name}`"),
                "each program has an image",
            )];
        };
        let place = stage.instructions.first().map_or_else(|| PATH.to_owned(), Instruction::place);
        let mut findings = Vec::new();
        let mut check = |is_good: bool, problem: &str, instead: &str| {
            if !is_good {
                findings.push(Finding::new(&place, format!("the image of {name} {problem}"), instead));
            }
        };
        let has = |keyword: &str| self.last(stage, keyword);
        let user = has("USER").map(|user| user.rest.split(':').next().unwrap_or_default());
        check(user.is_some_and(|user| !["", "0", "root"].contains(&user)), "runs as root", "USER 65532:65532");
        check(
            has("STOPSIGNAL").is_some_and(|signal| signal.rest == "SIGTERM"),
            "has no STOPSIGNAL",
            "SIGTERM drains",
        );
        check(
            self.image(name).is_some_and(|(started, _)| started == program),
            "does not start it",
            &format!("ENTRYPOINT [\"{}\"]", program.path()),
        );
        let is_copied =
            |copy: &Instruction| copy.keyword == "COPY" && copy.sources().iter().any(|from| ends(from, name));
        check(
            stage.instructions.iter().any(is_copied),
            "does not have it",
            "COPY it from the stage that builds",
        );
        let is_health = |health: &Instruction| health.rest == "NONE" || health.words().is_some();
        check(
            has("HEALTHCHECK").is_none_or(is_health),
            "asks for its health by a shell",
            "CMD [\"program\", \"word\"]",
        );
        findings
    }
}

/// Whether a program reads a variable: those of an image share them.
pub fn is_for(program: Program, variable: &str) -> bool {
    variable.starts_with("CTL_") == (program == Program::Ctl)
}

fn is_there(paths: &[&str], source: &str) -> bool {
    let folder = format!("{}/", source.trim_end_matches('/'));
    paths.iter().any(|path| *path == source || path.starts_with(&folder))
}

/// Whether a stage's commands name a path, or copy its file there.
fn makes(stage: &Stage, source: &str) -> bool {
    let name = source.rsplit('/').next().unwrap_or(source);
    let runs = stage.instructions.iter().filter(|found| found.keyword == "RUN");
    runs.flat_map(|run| run.rest.split_whitespace()).any(|word| word == source || ends(word, name))
}

fn ends(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|folder| folder.ends_with('/'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{PATH, Tree, read};
    use crate::deploy::invocation::Program;
    use crate::tidy::tree::File;

    const DOCKERFILE: &str = include_str!("../../../deploy/container/Dockerfile");
    const IGNORE: &str = include_str!("../../../deploy/container/Dockerfile.dockerignore");

    /// What is found with one text in place of another.
    #[track_caller]
    fn problems(from: &str, to: &str) -> Vec<String> {
        assert!(DOCKERFILE.contains(from), "{from}");
        let file = File { path: PATH.to_owned(), text: DOCKERFILE.replacen(from, to, 1) };
        let members: Vec<String> = IGNORE
            .lines()
            .filter_map(|line| line.strip_prefix('!'))
            .filter(|name| !name.starts_with("Cargo."))
            .map(str::to_owned)
            .collect();
        let paths: Vec<String> = members.iter().map(|member| format!("{member}/src/lib.rs")).collect();
        let paths: Vec<&str> =
            paths.iter().map(String::as_str).chain(["Cargo.toml", "Cargo.lock", "docs/a.md"]).collect();
        let tree = Tree { toolchain: "1.95.0", members: &members, paths: &paths, ignore: IGNORE };
        match read(&file) {
            Ok(dockerfile) => dockerfile.check(&tree).into_iter().map(|finding| finding.problem).collect(),
            Err(finding) => vec![finding.problem],
        }
    }

    #[test]
    fn what_breaks_a_build_or_a_promise_is_refused() {
        assert_eq!(problems("USER", "USER"), Vec::<String>::new());
        for (from, to, problem) in [
            ("COPY trust trust\n", "COPY trsut trust\n", "`trsut` is not in the repository"),
            ("COPY trust trust\n", "", "does not copy `trust`, which cargo reads"),
            ("COPY trust trust\n", "COPY trust trust\nCOPY docs docs\n", "`docs` is hidden by"),
            ("rust:1.95.0", "rust:1.94.0", "builds with Rust 1.94.0, and rust-toolchain.toml says 1.95.0"),
            ("RUSTUP_TOOLCHAIN=1.95.0", "RUSTUP_TOOLCHAIN=nightly", "builds with Rust nightly"),
            ("debian12:nonroot", "debian12:latest", "has no version"),
            ("COPY --from=build /out/node-agent", "COPY --from=built /out/node-agent", "comes from no stage"),
            (
                "/out/control-plane /out/ctl",
                "/out/control-plane /out/clt",
                "`/out/clt` is nothing that `build`",
            ),
            ("USER 65532:65532\n", "", "runs as root"),
            ("USER 65532:65532\n", "USER root\n", "runs as root"),
            ("STOPSIGNAL SIGTERM\n", "", "has no STOPSIGNAL"),
            ("ENTRYPOINT [\"/usr/bin/ctl\"]", "ENTRYPOINT /usr/bin/ctl", "the image of ctl does not start it"),
            ("FROM runtime AS ctl", "FROM runtime", "the stage has no name"),
        ] {
            let found = problems(from, to);
            assert!(found.iter().any(|found| found.contains(problem)), "{to}: {found:?}");
        }
        let health = problems(
            "CMD [\"/usr/bin/ctl\", \"member\", \"list\", \"--quiet\", \"--deadline\", \"5s\"]",
            "CMD true",
        );
        assert_eq!(health, ["the image of control-plane asks for its health by a shell"]);
    }

    #[test]
    fn images_have_a_program_and_the_variables_of_the_stages_below() {
        let dockerfile = read(&File { path: PATH.to_owned(), text: DOCKERFILE.to_owned() }).unwrap();
        let (program, variables) = dockerfile.image("control-plane").unwrap();
        assert_eq!(program, Program::ControlPlane);
        assert_eq!(variables["WEFT_DATA_DIR"], "/var/lib/weft");
        assert!(dockerfile.image("build").is_none());
        let programs: Vec<&str> = dockerfile.invocations().iter().map(|found| found.program.name()).collect();
        assert_eq!(programs, ["control-plane", "ctl", "node-agent", "ctl"]);
    }
}
