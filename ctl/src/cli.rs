//! The command line: flags of every command, and the tree of commands. Each command's own arguments are beside it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use model::id::RequestId;
use model::name::NamespaceName;

use crate::command::{
    access, check, cluster, completions, component, delete, deploy, dev, diff, events, explain, graph, history,
    invoke, list, logs, member, namespace, node, plan, policy, rebalance, rollback, rollout, schema, status,
    version, why,
};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Where a control plane listens unless told otherwise.
const ADDRESS_DEFAULT: &str = "https://127.0.0.1:7100";

/// Deploys and inspects graphs of WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "ctl", version, about, propagate_version = false, disable_help_subcommand = true)]
#[command(after_help = "Exit codes: 0 done; 1 failed or refused; 2 `plan --exit-code` found changes; \
                        3 the time is up and the work goes on; 4 no control plane answers; 64 wrong command line.")]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalFlags,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command; accepted anywhere on the line.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Flags of every command")]
pub struct GlobalFlags {
    /// The address of the control plane, or those of several of its members, with commas between them.
    #[arg(long = "addr", env = "CTL_ADDR", global = true, default_value = ADDRESS_DEFAULT, value_name = "URL")]
    pub address: Address,
    /// Who you are to it: the `operator.pem` of its data directory [default: a file for each address in your folder of
    /// settings, where `ctl dev` puts it].
    #[arg(long, env = "CTL_CREDENTIALS", global = true, value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// The namespace of names that carry none [default: default].
    #[arg(long, env = "CTL_NAMESPACE", global = true, value_name = "NAME")]
    pub namespace: Option<NamespaceName>,
    /// How data is written [default: table].
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// No progress, no notes; lists show names only.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Whether to use colours; NO_COLOR turns them off too.
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub color: Color,
    /// The longest the command may take: `800ms`, `5s`, `10m`.
    #[arg(long, global = true, value_parser = model::unit::parse_duration, value_name = "TIME")]
    pub deadline: Option<Duration>,
}

impl GlobalFlags {
    /// The format that was asked for.
    pub fn format(&self) -> Format {
        match self.output {
            Some(format) => format,
            None if self.quiet => Format::Name,
            None => Format::Table,
        }
    }
}

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For people, with everything.
    Wide,
    /// The API's own messages.
    Json,
    /// The same as YAML.
    Yaml,
    /// Names alone, one a line.
    Name,
}

impl Format {
    /// Whether programs read it.
    pub const fn is_structured(self) -> bool {
        matches!(self, Self::Json | Self::Yaml)
    }
}

/// Whether to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// Where a person looks.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Whether colours are used, where `by_itself` is what `auto` means here.
    pub const fn applies(self, by_itself: bool) -> bool {
        match self {
            Self::Auto => by_itself,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// The addresses of a control plane's members: `https://host:port`, or `host:port`; several with commas between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `host:port` of each; never empty.
    authorities: Vec<String>,
    text: String,
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Without TLS.
    #[error("a control plane speaks TLS only: write `https://`")]
    Plain,
    /// Everything else.
    #[error("an address is written `https://host:port`, as in {ADDRESS_DEFAULT}")]
    Form,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let authorities = text.split(',').map(|part| authority(part.trim())).collect::<Result<Vec<_>, _>>()?;
        let urls: Vec<String> = authorities.iter().map(|authority| format!("https://{authority}")).collect();
        Ok(Self { authorities, text: urls.join(",") })
    }
}

fn authority(text: &str) -> Result<String, AddressError> {
    if text.starts_with("http://") {
        return Err(AddressError::Plain);
    }
    let authority = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
    let (host, port) = authority.rsplit_once(':').ok_or(AddressError::Form)?;
    let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._[]:".contains(c));
    if !is_host || port.parse::<u16>().is_err() {
        return Err(AddressError::Form);
    }
    Ok(authority.to_owned())
}

impl Address {
    /// Host and port of the first member.
    pub fn authority(&self) -> &str {
        self.authorities.first().map_or("", String::as_str)
    }

    /// Host and port of each member.
    pub fn authorities(&self) -> &[String] {
        &self.authorities
    }

    /// The addresses as URLs.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.text)
    }
}

/// What makes a mutation safe to repeat.
#[derive(Debug, Clone, Default, Args)]
pub struct MutationFlags {
    /// Names this change: the same id is applied at most once [default: a new one].
    #[arg(long, value_parser = request_id, value_name = "ID")]
    pub request_id: Option<RequestId>,
}

fn request_id(text: &str) -> Result<RequestId, model::id::IdError> {
    RequestId::new(text)
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Deploys a graph and waits until it serves.
    Deploy(deploy::DeployArguments),
    /// Shows what a deploy would change.
    Plan(plan::PlanArguments),
    /// Checks manifests and links them, without a control plane.
    Check(check::CheckArguments),
    /// Shows where graphs stand.
    Status(status::StatusArguments),
    /// Lists graphs.
    List(list::ListArguments),
    /// Lists the revisions of a graph.
    History(history::HistoryArguments),
    /// Compares two revisions as they were written.
    Diff(diff::DiffArguments),
    /// Deletes a graph.
    Delete(delete::DeleteArguments),
    /// Deploys an earlier revision again and waits until it serves.
    Rollback(rollback::RollbackArguments),
    /// Revisions that take over by steps: shows how far one is, pauses, promotes or reverts it.
    Rollout(rollout::RolloutArguments),
    /// Changes and inspects policies.
    Policy(policy::PolicyArguments),
    /// Draws a graph as linked.
    Graph(graph::GraphArguments),
    /// Says why a graph is where it is, or is not.
    Why(why::WhyArguments),
    /// Says what a component may reach.
    Access(access::AccessArguments),
    /// Calls a function of a component.
    Invoke(invoke::InvokeArguments),
    /// Shows what components say.
    Logs(logs::LogsArguments),
    /// Shows what happened.
    Events(events::EventsArguments),
    /// The nodes: shows them, lets them join, labels, taints, drains and removes them.
    Node(node::NodeArguments),
    /// The namespaces: shows them, and bounds what their graphs use together.
    Namespace(namespace::NamespaceArguments),
    /// Moves graphs so that all nodes carry as many.
    ///
    /// What is moved answers where it was until it answers where it goes.
    Rebalance(rebalance::RebalanceArguments),
    /// The members of the control plane: shows them, lets them join, gives them a vote, takes them out.
    Member(member::MemberArguments),
    /// The cluster as a whole: backups.
    Cluster(cluster::ClusterArguments),
    /// Inspects wasm components.
    Component(component::ComponentArguments),
    /// Runs a whole cluster on this machine.
    Dev(dev::DevArguments),
    /// Explains a field of a manifest or a reason of a refusal.
    Explain(explain::ExplainArguments),
    /// Prints the JSON Schema of a manifest.
    Schema(schema::SchemaArguments),
    /// Prints a completion script for a shell.
    Completions(completions::CompletionsArguments),
    /// Prints versions.
    Version(version::VersionArguments),
}

impl Command {
    /// Does it.
    pub async fn run(self, session: &mut Session<'_>) -> Result<Exit, Failure> {
        match self {
            Self::Deploy(arguments) => deploy::run(arguments, session).await,
            Self::Plan(arguments) => plan::run(arguments, session).await,
            Self::Check(arguments) => check::run(arguments, session).await,
            Self::Status(arguments) => status::run(arguments, session).await,
            Self::List(arguments) => list::run(arguments, session).await,
            Self::History(arguments) => history::run(arguments, session).await,
            Self::Diff(arguments) => diff::run(arguments, session).await,
            Self::Delete(arguments) => delete::run(arguments, session).await,
            Self::Rollback(arguments) => rollback::run(arguments, session).await,
            Self::Rollout(arguments) => rollout::run(arguments, session).await,
            Self::Policy(arguments) => policy::run(arguments, session).await,
            Self::Graph(arguments) => graph::run(arguments, session).await,
            Self::Why(arguments) => why::run(arguments, session).await,
            Self::Access(arguments) => access::run(arguments, session).await,
            Self::Invoke(arguments) => invoke::run(arguments, session).await,
            Self::Logs(arguments) => logs::run(arguments, session).await,
            Self::Events(arguments) => events::run(arguments, session).await,
            Self::Node(arguments) => node::run(arguments, session).await,
            Self::Namespace(arguments) => namespace::run(arguments, session).await,
            Self::Rebalance(arguments) => rebalance::run(arguments, session).await,
            Self::Member(arguments) => member::run(arguments, session).await,
            Self::Cluster(arguments) => cluster::run(arguments, session).await,
            Self::Component(arguments) => component::run(arguments, session).await,
            Self::Dev(arguments) => dev::run(arguments, session).await,
            Self::Explain(arguments) => explain::run(arguments, session).await,
            Self::Schema(arguments) => schema::run(arguments, session).await,
            Self::Completions(arguments) => completions::run(arguments, session).await,
            Self::Version(arguments) => version::run(arguments, session).await,
        }
    }
}

/// Whether what the parser says was asked for: help or the version.
pub fn is_answer(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_tree_of_commands_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_accepted_anywhere() {
        for line in [
            "ctl --namespace sales -o json status crm",
            "ctl status --namespace sales crm -o json",
            "ctl status crm -o json --namespace=sales",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.global.namespace.unwrap().as_str(), "sales", "{line}");
            assert_eq!(cli.global.output, Some(Format::Json), "{line}");
        }
    }

    #[test]
    fn addresses_are_https_with_a_port() {
        for text in ["https://127.0.0.1:7100", "127.0.0.1:7100", "https://127.0.0.1:7100/"] {
            assert_eq!(text.parse::<Address>().unwrap().as_str(), "https://127.0.0.1:7100");
        }
        assert_eq!("https://[::1]:7100".parse::<Address>().unwrap().as_str(), "https://[::1]:7100");
        assert_eq!("http://a:1".parse::<Address>(), Err(AddressError::Plain));
        for text in ["", "a", "https://a", "a:b", "a:70000", "https://a/b:1", "user@a:1", ":1"] {
            assert_eq!(text.parse::<Address>(), Err(AddressError::Form), "{text:?}");
        }
    }
}
