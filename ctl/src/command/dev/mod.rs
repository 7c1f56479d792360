//! `ctl dev`: a cluster of real processes on this machine, for one developer: the same binaries, sockets and files as
//! anywhere else, with data that survives.

mod binaries;
mod cluster;
mod folder;
mod leftover;
mod process;
mod ready;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use model::name::NodeName;
use proto::weft::node::v1 as wire;
use tokio::time::{Instant, sleep};

use crate::cli::Address;
use crate::client::Client;
use crate::command::node;
use crate::credentials;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use binaries::Binaries;
use cluster::{Cluster, Step, Stop};
use folder::Folder;
use process::{Recipe, Role};

/// The name of the control plane's process, folder and log.
const MEMBER: &str = "control-plane";
/// The most nodes: more show a developer nothing new, and each is a process that takes its share of one machine.
const NODES_MAX: u16 = 16;
/// How long an agent that is ready may take to be known to the control plane.
const JOIN_PATIENCE: Duration = Duration::from_secs(30);
/// How long an agent has to join: it is started at once.
const TOKEN_LIFETIME: Duration = Duration::from_secs(600);
/// What the control plane makes for its operators.
const OPERATOR_FILE: &str = "operator.pem";
/// How often the control plane is asked for it.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Arguments of `dev`.
#[derive(Debug, Args)]
pub struct DevArguments {
    /// A graph to deploy once the cluster is ready.
    #[arg(value_name = "GRAPH.yaml")]
    pub graph: Option<PathBuf>,
    /// Where everything is kept; a second run on it goes on where the first one ended.
    #[arg(long, value_name = "FOLDER", default_value = ".weft")]
    pub data_dir: PathBuf,
    /// How many nodes: n1, n2 and so on.
    ///
    /// Each is an agent of its own, with its own data, log, API and ingress. One that ends is started again after a
    /// pause, which grows from 200ms to 10s with each end that follows soon after a start; the others are left alone
    /// meanwhile. One that ends before all are ready ends the run. Nodes of an earlier run that are more than these
    /// keep their data and are not started.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX))
    )]
    pub nodes: u16,
    /// How many members of the control plane; only 1 is supported yet.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub members: u16,
    /// Where the API listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7100")]
    pub listen: SocketAddr,
    /// Where the first node's ingress listens, the others on the ports behind; port 0 takes a free one for each.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    pub ingress: SocketAddr,
    /// Let guests reach loopback, private and link-local addresses, where their graph's `egress` lists them.
    #[arg(long)]
    pub allow_private_egress: bool,
    /// What a child is started as; see `process`.
    #[arg(long, hide = true, requires = "program")]
    child_of: Option<u32>,
    #[arg(last = true, hide = true, requires = "child_of")]
    program: Vec<OsString>,
}

/// Runs the cluster until a signal asks to stop.
pub async fn run(arguments: DevArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    if let Some(parent) = arguments.child_of {
        return Err(process::become_program(parent, &arguments.program));
    }
    refuse_members(arguments.members)?;
    process::check_loopback("--listen", arguments.listen)?;
    process::check_loopback("--ingress", arguments.ingress)?;
    let ingress = process::ingress_addresses(arguments.ingress, arguments.nodes)?;
    if let Some(graph) = arguments.graph.as_ref().filter(|graph| !graph.is_file()) {
        return Err(Failure::refused(format!("there is no file {}", graph.display())));
    }
    let binaries = binaries::find()?;
    let folder = Folder::open(&arguments.data_dir)?;
    let mut stop = Stop::listen()?;
    leftover::end(&folder, &mut session.terminal).await?;
    let mut wanted = vec![("--listen", arguments.listen)];
    wanted.extend(ingress.iter().map(|address| ("--ingress", *address)));
    process::check_free(&wanted)?;

    let mut cluster = Cluster::new(folder);
    let ran = serve(&arguments, &ingress, &binaries, &mut cluster, &mut stop, session).await;
    // Whatever happened: nothing stays behind. Where the error stream is gone, nobody reads this.
    let _ = session.terminal.progress("stopping: requests under way may end; Ctrl-C again ends at once");
    let path = cluster.folder().path().display().to_string();
    cluster.stop(&mut stop).await;
    let _ = session.terminal.progress(&format!("stopped; the data is kept in {path}"));
    ran.map(|()| Exit::Done)
}

/// The name of a node, its process, folder and log.
fn node_name(number: u16) -> String {
    format!("n{number}")
}

fn refuse_members(members: u16) -> Result<(), Failure> {
    match members {
        1 => Ok(()),
        0 => Err(Failure::Usage("--members 0: a control plane has members".to_owned())),
        _ => Err(Failure::Refused {
            reason: Some("not_supported_yet".to_owned()),
            message: format!("--members {members}: a control plane of several members is not supported yet"),
            help: Some("leave it out: one member is started".to_owned()),
            next: None,
        }),
    }
}

async fn serve(
    arguments: &DevArguments,
    ingress: &[SocketAddr],
    binaries: &Binaries,
    cluster: &mut Cluster,
    stop: &mut Stop,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let role = Role::Member { listen: arguments.listen };
    let member = Recipe::new(MEMBER, role, &binaries.control_plane, &binaries.ctl, cluster.folder());
    if cluster.bring_up(vec![member], stop).await? == Step::Stop {
        return Ok(());
    }
    let Some(api) = cluster.api_address() else { return Ok(()) };
    let agent = |(number, address): (u16, &SocketAddr)| {
        let allow_private_egress = arguments.allow_private_egress;
        let role = Role::Agent { api, ingress: *address, allow_private_egress };
        Recipe::new(&node_name(number), role, &binaries.node_agent, &binaries.ctl, cluster.folder())
    };
    let agents: Vec<_> = (1..).zip(ingress).map(agent).collect();
    let address: Address =
        format!("https://{api}").parse().map_err(|error| Failure::refused(format!("{error}")))?;
    let operator = cluster.folder().data_of(MEMBER).join(OPERATOR_FILE);
    if let Err(error) = credentials::keep(&address, &operator) {
        let file = operator.display();
        let line = format!(
            "the credentials cannot be kept for other commands: {error}; name them: --credentials {file}"
        );
        session.terminal.warning(&line)?;
    }
    let client = Client::new(address, Some(operator), None);
    let enrolled = tokio::select! {
        enrolled = enrol(&agents, &client) => enrolled,
        () = stop.asked() => return Ok(()),
    };
    enrolled?;
    if cluster.bring_up(agents, stop).await? == Step::Stop {
        return Ok(());
    }
    let absent = tokio::select! {
        joined = joined(cluster, &client) => joined?,
        () = stop.asked() => return Ok(()),
    };
    cluster.write_state()?;
    session.terminal.data(&ready::addresses(&cluster.nodes(), api))?;
    say_more(cluster, api, session)?;
    say_what_is_not_started(arguments.nodes, cluster, &absent, session)?;
    if let Some(graph) = &arguments.graph {
        let mut deploying = deploy(graph, api, binaries, session)?;
        // What it has to say, it says itself; this only takes note of its end. Dropped with the runtime, it is ended.
        tokio::spawn(async move { deploying.wait().await });
    }
    cluster.keep(stop, &mut session.terminal).await
}

/// Gives every agent that has no identity a token to join with.
async fn enrol(agents: &[Recipe], client: &Client) -> Result<(), Failure> {
    for agent in agents.iter().filter(|agent| !agent.has_identity()) {
        let name: NodeName =
            agent.name.parse().map_err(|error| Failure::refused(format!("{}: {error}", agent.name)))?;
        let (token, _) = node::create_token(client, &name, TOKEN_LIFETIME).await?;
        credentials::write_secret(&agent.token_file(), token.reveal().as_bytes())?;
    }
    Ok(())
}

/// Waits until the control plane knows every agent where it is now; the nodes of earlier runs that are down.
async fn joined(cluster: &Cluster, client: &Client) -> Result<Vec<wire::Node>, Failure> {
    let deadline = Instant::now() + JOIN_PATIENCE;
    let nodes = cluster.nodes();
    loop {
        let list = |services: crate::client::Services| async move {
            services.nodes().list(wire::ListRequest {}).await
        };
        let known = client.read(list).await?.nodes;
        let is_here = |node: &wire::Node| {
            let description = node.description.as_ref();
            nodes.iter().any(|ours| {
                description.is_some_and(|it| {
                    it.name == ours.name && it.ingress_address == ours.ingress_address.to_string()
                })
            })
        };
        let (here, absent): (Vec<_>, Vec<_>) = known.into_iter().partition(is_here);
        if here.iter().filter(|node| node.state == "ready").count() == nodes.len() {
            return Ok(absent);
        }
        if Instant::now() > deadline {
            let seconds = JOIN_PATIENCE.as_secs();
            let message = format!("the agents run, but the control plane does not know them after {seconds} s");
            return Err(Failure::refused(message).help("their logs are in the data directory"));
        }
        sleep(ASK_EVERY).await;
    }
}

fn say_more(cluster: &Cluster, api: SocketAddr, session: &mut Session<'_>) -> Result<(), Failure> {
    session.terminal.note(&format!("data and logs: {}", cluster.folder().path().display()))?;
    if session.client.address().to_string().trim_end_matches('/') != format!("https://{api}") {
        session.terminal.note(&format!("next: export CTL_ADDR=https://{api}"))?;
    }
    Ok(())
}

/// Of an earlier run with more nodes: their data, which is left alone, and the graphs that are on them.
fn say_what_is_not_started(
    nodes: u16,
    cluster: &Cluster,
    absent: &[wire::Node],
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let mut kept = cluster.folder().node_numbers();
    kept.retain(|number| *number > nodes);
    if let Some(line) = ready::kept(&kept) {
        session.terminal.note(&line)?;
    }
    for node in absent.iter().filter(|node| !node.graphs.is_empty()) {
        let name = node.description.as_ref().map_or("?", |description| description.name.as_str());
        let graphs = node.graphs.join(", ");
        session.terminal.warning(&format!(
            "node {name} of an earlier run is not started, and {graphs} stays on it: start more --nodes, or deploy \
             anew under another name"
        ))?;
    }
    Ok(())
}

/// `ctl deploy` as a process of its own: it shows its progress while the cluster is kept running here.
fn deploy(
    graph: &PathBuf,
    api: SocketAddr,
    binaries: &Binaries,
    session: &Session<'_>,
) -> Result<tokio::process::Child, Failure> {
    let mut command = tokio::process::Command::new(&binaries.ctl);
    command.args(["--addr", &format!("https://{api}"), "--namespace", session.namespace.as_str(), "deploy"]);
    // Who develops wants to see what was written, and not a share of it.
    command.arg("--at-once").arg(graph).stdin(Stdio::null()).kill_on_drop(true);
    if session.terminal.look().quiet {
        command.arg("--quiet");
    }
    command.spawn().map_err(|error| Failure::refused(format!("`ctl deploy` cannot be started: {error}")))
}
