//! A command line of one of our programs, as a file of `deploy/` has it.

use std::collections::BTreeMap;

/// Where packages and images put programs.
const FOLDER: &str = "/usr/bin/";

/// One of our programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// `control-plane`.
    ControlPlane,
    /// `node-agent`.
    NodeAgent,
    /// `ctl`.
    Ctl,
}

impl Program {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::ControlPlane, Self::NodeAgent, Self::Ctl];

    /// Its name, which is that of its crate too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::NodeAgent => "node-agent",
            Self::Ctl => "ctl",
        }
    }

    /// The program of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|program| program.name() == name)
    }

    /// The program at a path where programs are put.
    pub fn at(path: &str) -> Option<Self> {
        Self::named(path.strip_prefix(FOLDER)?)
    }

    /// Where it is put.
    pub fn path(self) -> String {
        format!("{FOLDER}{}", self.name())
    }
}

/// A command line with its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Where it is written: a file below the repository, and the part of it.
    pub place: String,
    /// What is run.
    pub program: Program,
    /// What it is told, without the program.
    pub arguments: Vec<String>,
    /// What it finds in its environment.
    pub variables: BTreeMap<String, String>,
    /// Whether that is all it needs to start; else it is a part, such as a line that is a suggestion.
    pub is_whole: bool,
}
