//! A control plane and node agents, as processes that can be killed and started again.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use trust::{Fingerprint, Identity, JoinToken, Keyring};

use crate::api::{Api, is_open, request_id, shown};
use crate::bundle::Bundle;
use crate::hardware::Hardware;
use crate::network::{Host, Namespace, Network};
use crate::place::Places;
use crate::process::{Process, Surroundings};
use crate::road::{Road, advertised};
use crate::seed::Choices;
use crate::traffic::Client;
use crate::wait::{SOON, until};
use crate::{built, say};

/// The lines of a log that are shown with a failure.
const LOG_LINES_SHOWN: usize = 40;
/// What the control plane makes for its operators.
pub const OPERATOR_FILE: &str = "operator.pem";
/// What a node has of its own.
pub const IDENTITY_FILE: &str = "identity.pem";
const TOKEN_FILE: &str = "join-token";
/// On a network, an ingress listens where others reach it.
const INSECURE_FLAG: &str = "--insecure-listen";
/// Agents are started at once.
const TOKEN_LIFETIME: Duration = Duration::from_secs(600);
/// How soon the control plane gives up an agent that is gone, so that tests see it.
const NODE_TIMEOUT_MS: u64 = 1_500;

/// A control plane or an agent, with what outlives its process.
#[derive(Debug)]
pub struct Member {
    name: String,
    program: &'static str,
    arguments: Vec<String>,
    /// Where it keeps what survives.
    pub data_dir: PathBuf,
    ready_file: &'static str,
    logs: PathBuf,
    surroundings: Surroundings,
    starts: usize,
    process: Option<Process>,
}

/// Where the agent of a node listens.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    api: SocketAddr,
    ingress: SocketAddr,
}

/// What is between the programs of a cluster.
#[derive(Debug, Clone)]
enum Between {
    /// This machine.
    Nothing,
    /// A road before each member of the control plane.
    Roads,
    /// A network, of which each is a host.
    Network(Network),
}

/// A control plane, the agents of n1, n2 and so on, and the folder of all.
pub struct Cluster {
    /// The control plane.
    pub control_plane: Member,
    /// The agent of n1.
    pub agent: Member,
    /// The agents of n2 and those after it.
    pub others: Vec<Member>,
    /// The other members of the control plane.
    pub members: Vec<Member>,
    /// Those before the members of the control plane, in their order.
    pub roads: Vec<Road>,
    /// Random choices of this test.
    pub choices: Choices,
    /// By member of the control plane.
    member_addresses: Vec<SocketAddr>,
    /// By node, from n1 on.
    agent_addresses: Vec<Addresses>,
    /// Dropped after the processes.
    places: Places,
    /// Dropped last: the processes write to it.
    folder: Option<TempDir>,
}

impl Cluster {
    /// Starts a control plane and one agent, and waits until the node is ready.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts both, the agent with some flags more.
    pub async fn start_with(agent_flags: &[&str]) -> Self {
        Self::start_as(1, &[], agent_flags).await
    }

    /// Starts a control plane and so many agents, and waits until all nodes are ready.
    pub async fn start_nodes(count: usize) -> Self {
        Self::start_as(count, &[], &[]).await
    }

    /// The same, all of them with some flags more.
    pub async fn start_as(count: usize, control_plane_flags: &[&str], agent_flags: &[&str]) -> Self {
        Self::start_all((1, Between::Nothing), count, control_plane_flags, agent_flags).await
    }

    /// Starts so many members of the control plane, all of which have a vote, and so many agents.
    pub async fn start_members(members: usize, nodes: usize, control_plane_flags: &[&str]) -> Self {
        Self::start_all((members, Between::Nothing), nodes, control_plane_flags, &[]).await
    }

    /// The same, where members reach each other by way of roads, of which there is one before each member.
    pub async fn start_members_on_roads(members: usize, nodes: usize) -> Self {
        Self::start_all((members, Between::Roads), nodes, &[], &[]).await
    }

    /// Starts so many members of the control plane on roads, all of which have a vote, and no agent: graphs are decided,
    /// and pend.
    pub async fn start_control_plane(members: usize, flags: &[&str], choices: Choices) -> Self {
        Self::start_members_of((members, Between::Roads), 1, flags, &[], choices).await
    }

    /// The same on a network: members are at [`Host::member`].
    pub async fn start_control_plane_in(
        network: &Network,
        members: usize,
        flags: &[&str],
        choices: Choices,
    ) -> Self {
        let between = Between::Network(network.clone());
        Self::start_members_of((members, between), 1, flags, &[], choices).await
    }

    /// Starts so many members of the control plane and so many agents on a network: they are at [`Host::member`] and
    /// [`Host::node`].
    pub async fn start_in(
        network: &Network,
        members: usize,
        nodes: usize,
        control_plane_flags: &[&str],
        choices: Choices,
    ) -> Self {
        let members = (members, Between::Network(network.clone()));
        let cluster = Self::start_members_of(members, nodes, control_plane_flags, &[INSECURE_FLAG], choices);
        cluster.await.with_agents().await
    }

    async fn start_all(
        members: (usize, Between),
        count: usize,
        control_plane_flags: &[&str],
        agent_flags: &[&str],
    ) -> Self {
        let choices = Choices::new();
        let cluster = Self::start_members_of(members, count, control_plane_flags, agent_flags, choices);
        cluster.await.with_agents().await
    }

    /// With the agents started, and all nodes ready.
    async fn with_agents(self) -> Self {
        let mut cluster = self;
        cluster.let_all_join().await;
        cluster.agents().for_each(Member::spawn);
        for agent in cluster.agents() {
            agent.listens().await;
        }
        cluster.node_ready().await;
        cluster
    }

    /// The members of the control plane, started, and the agents, which are not.
    async fn start_members_of(
        (members, between): (usize, Between),
        count: usize,
        control_plane_flags: &[&str],
        agent_flags: &[&str],
        mut choices: Choices,
    ) -> Self {
        assert!(count > 0 && members > 0, "a cluster has nodes and members");
        let folder = tempfile::Builder::new().prefix("weft-chaos-").tempdir().expect("a folder can be made");
        let has_roads = matches!(between, Between::Roads);
        let mut places = match between {
            Between::Nothing | Between::Roads => Places::machine(),
            Between::Network(network) => Places::network(network),
        };
        let mut claim = |host| places.claim(host, &mut choices);
        let member_addresses: Vec<_> = (1..=members).map(|number| claim(Host::member(number))).collect();
        let addresses = |host| Addresses { api: claim(host), ingress: claim(host) };
        let agent_addresses: Vec<_> = (1..=count).map(Host::node).map(addresses).collect();
        let mut roads = Vec::new();
        if has_roads {
            for address in &member_addresses {
                roads.push(Road::before(*address, Choices::of(choices.number())).await);
            }
        }
        let flags_of = |address: &SocketAddr| -> Vec<String> {
            let advertise = has_roads.then(|| format!("--advertise={}", advertised(*address)));
            control_plane_flags.iter().map(|&flag| flag.to_owned()).chain(advertise).collect()
        };
        let agents = agent_addresses.iter().enumerate().map(|(index, addresses)| {
            Member::agent(&node_name(index), &member_addresses, *addresses, agent_flags, folder.path())
                .within(places.namespace(Host::node(index + 1)))
        });
        let mut agents = agents.collect::<Vec<_>>().into_iter();
        let mut cluster = Self {
            control_plane: Member::control_plane(
                member_addresses[0],
                flags_of(&member_addresses[0]),
                folder.path(),
            )
            .within(places.namespace(Host::member(1))),
            agent: agents.next().expect("there is one"),
            others: agents.collect(),
            members: Vec::new(),
            roads,
            choices,
            member_addresses: member_addresses.clone(),
            agent_addresses,
            places,
            folder: Some(folder),
        };
        cluster.control_plane.start().await;
        for (index, listen) in member_addresses.iter().enumerate().skip(1) {
            let known = &member_addresses[..index];
            let folder = cluster.folder().to_owned();
            let joining = Member::joining(index + 1, *listen, known, flags_of(listen), &folder);
            let namespace = cluster.places.namespace(Host::member(index + 1));
            cluster.members.push(joining.within(namespace));
            cluster.let_member_join(index + 1).await;
        }
        cluster
    }

    /// Lets a member of the control plane join, and gives it a vote.
    pub async fn let_member_join(&mut self, number: usize) {
        let token = self.member_token().await;
        let api = self.api();
        let member = self.member(number);
        member.give_token(&token);
        member.start().await;
        until(&format!("member {number} has a vote"), SOON, async || {
            api.promote(number as u64).await.map_err(|status| status.to_string())
        })
        .await;
    }

    /// A token by which a member of the control plane may join.
    pub async fn member_token(&self) -> JoinToken {
        let token = self.new_token();
        self.api().allow_member(&token, TOKEN_LIFETIME).await.expect("an operator lets members join");
        token
    }

    /// A member of the control plane, from 1 on.
    pub fn member(&mut self, number: usize) -> &mut Member {
        match number {
            1 => &mut self.control_plane,
            number => &mut self.members[number - 2],
        }
    }

    /// Starts a member of the control plane, which does not run, with a flag more or without it.
    pub async fn start_member_with(&mut self, number: usize, flag: &str, is_given: bool) {
        let member = self.member(number);
        member.arguments.retain(|argument| argument != flag);
        if is_given {
            member.arguments.push(flag.to_owned());
        }
        member.start().await;
    }

    /// Another member of the control plane, which is not started.
    pub fn add_member(&mut self) -> usize {
        let number = self.member_addresses.len() + 1;
        let host = Host::member(number);
        let listen = self.places.claim(host, &mut self.choices);
        let folder = self.folder().to_owned();
        let joining = Member::joining(number, listen, &self.member_addresses, Vec::new(), &folder);
        self.members.push(joining.within(self.places.namespace(host)));
        self.member_addresses.push(listen);
        number
    }

    /// Starts a member of the control plane, which does not run, at another port.
    pub async fn move_member(&mut self, number: usize) {
        let listen = self.places.claim(Host::member(number), &mut self.choices);
        let before = std::mem::replace(&mut self.member_addresses[number - 1], listen).to_string();
        let member = self.member(number);
        let listens = member.arguments.iter_mut().rev().find(|argument| **argument == before);
        *listens.expect("it listened somewhere") = listen.to_string();
        member.start().await;
    }

    /// The network that it runs on, if it is one.
    pub fn network(&self) -> Option<&Network> {
        match &self.places {
            Places::Machine { .. } => None,
            Places::Network { network, .. } => Some(network),
        }
    }

    /// The API of one member of the control plane, from 1 on.
    pub fn api_of(&self, number: usize) -> Api {
        Api::new(self.member_addresses[number - 1], &self.operator())
    }

    /// Deploys by whichever of these members answers, under one request id, until one says that it is done.
    pub async fn deploy_by_any(&self, members: &[usize], bundle: &Bundle) {
        let id = request_id();
        until("a deploy is acknowledged", SOON, async || {
            let mut last = String::new();
            for member in members {
                match self.api_of(*member).deploy_as(bundle, &id).await {
                    Ok(_) => return Ok(()),
                    Err(status) if is_open(&status) => last = shown(&status),
                    Err(status) => panic!("a deploy by member {member}: {}", shown(&status)),
                }
            }
            Err(last)
        })
        .await;
    }

    /// The road to the API of a node's agent, which was told [`ADVERTISE_FLAG`](crate::road::ADVERTISE_FLAG).
    pub async fn road_to(&mut self, node: &str) -> Road {
        let agent = self.agent_api_address_of(node);
        Road::before(agent, Choices::of(self.choices.number())).await
    }

    /// Which member leads, as one says that runs.
    pub async fn leader(&self) -> usize {
        until("a member leads", SOON, async || {
            let mut last = String::new();
            for number in 1..=self.member_addresses.len() {
                match self.api_of(number).members().await {
                    Ok(answer) if answer.leader != 0 => {
                        return Ok(usize::try_from(answer.leader).expect("a small number"));
                    }
                    other => last = format!("{other:?}"),
                }
            }
            Err(last)
        })
        .await
    }

    /// Gives every agent a token to join with.
    async fn let_all_join(&mut self) {
        for index in 0..self.agent_addresses.len() {
            let name = node_name(index);
            let token = self.token(&name, TOKEN_LIFETIME).await;
            self.agent_named(&name).give_token(&token);
        }
    }

    /// A token by which a node may join.
    pub async fn token(&self, name: &str, lifetime: Duration) -> JoinToken {
        let token = self.new_token();
        self.api().allow(name, &token, lifetime).await.expect("an operator lets nodes join");
        token
    }

    /// A token of this cluster that nobody knows of yet.
    pub fn new_token(&self) -> JoinToken {
        let operator = self.operator().identity();
        let authority = operator.authorities().next().map(Fingerprint::of).expect("there is an authority");
        JoinToken::generate(authority).expect("a token can be made")
    }

    /// Who operators are.
    pub fn operator(&self) -> Keyring {
        self.control_plane.keyring(OPERATOR_FILE)
    }

    /// Who a node is, key and all: what somebody has who broke into it.
    pub fn keyring_of(&self, name: &str) -> Keyring {
        let agents = std::iter::once(&self.agent).chain(&self.others);
        let agent = agents.into_iter().find(|agent| agent.name == name);
        agent.unwrap_or_else(|| panic!("there is no node {name}")).keyring(IDENTITY_FILE)
    }

    fn agents(&mut self) -> impl Iterator<Item = &mut Member> {
        std::iter::once(&mut self.agent).chain(&mut self.others)
    }

    /// The agent of a node.
    pub fn agent_named(&mut self, name: &str) -> &mut Member {
        let found = self.agents().find(|agent| agent.name == name);
        found.unwrap_or_else(|| panic!("there is no node {name}"))
    }

    /// The control plane's API.
    pub fn api(&self) -> Api {
        Api::new(self.member_addresses[0], &self.operator())
    }

    /// Where the control plane listens.
    pub fn control_plane_address(&self) -> SocketAddr {
        self.member_addresses[0]
    }

    /// Where the members of the control plane listen.
    pub fn member_addresses(&self) -> &[SocketAddr] {
        &self.member_addresses
    }

    /// Where the API of n1's agent listens.
    pub fn agent_api_address(&self) -> SocketAddr {
        self.agent_addresses[0].api
    }

    /// Where the ingress of n1 listens.
    pub fn ingress_address(&self) -> SocketAddr {
        self.agent_addresses[0].ingress
    }

    /// Where the ingress of a node listens.
    pub fn ingress_address_of(&self, name: &str) -> SocketAddr {
        self.addresses_of(name).ingress
    }

    /// Where the API of a node's agent listens.
    pub fn agent_api_address_of(&self, name: &str) -> SocketAddr {
        self.addresses_of(name).api
    }

    fn addresses_of(&self, name: &str) -> Addresses {
        let index = (0..self.agent_addresses.len()).find(|index| node_name(*index) == name);
        self.agent_addresses[index.unwrap_or_else(|| panic!("there is no node {name}"))]
    }

    /// Asks a graph by its host at the ingress of n1, on a connection of its own.
    pub fn client(&self, host: &str) -> Client {
        Client::new(self.ingress_address(), host)
    }

    /// The folder of everything; kept if the test fails.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().expect("the folder lives as long as the cluster").path()
    }

    /// Waits until the control plane counts on every node.
    pub async fn node_ready(&self) {
        for index in 0..self.agent_addresses.len() {
            self.node_is(&node_name(index), "ready").await;
        }
    }

    /// Waits until the control plane takes a node for `ready` or `down`.
    pub async fn node_is(&self, name: &str, state: &str) {
        let api = self.api();
        until(&format!("node {name} is {state}"), SOON, async || match api.node(name).await {
            Ok(node) if node.state == state => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
}

/// How soon a silent node is given up, where a test does not say it itself.
fn node_timeout(flags: &[String]) -> Vec<String> {
    match flags.iter().any(|flag| flag.starts_with("--node-timeout-ms")) {
        true => Vec::new(),
        false => flag("node-timeout-ms", &NODE_TIMEOUT_MS).to_vec(),
    }
}

/// The name of a node, from n1 on.
fn node_name(index: usize) -> String {
    format!("n{}", index + 1)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let Some(folder) = self.folder.take() else { return };
        let folder = folder.keep();
        say(&format!("data and logs of the failed test: {}", folder.display()));
        let processes = [&mut self.control_plane, &mut self.agent].into_iter();
        for member in processes.chain(&mut self.members).chain(&mut self.others) {
            if let Some(status) = member.process.as_mut().and_then(Process::ended) {
                say(&format!("--- {} had ended by itself: {status}", member.name));
            }
            let log = member.last_log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            say(&format!("--- the end of the log of {}:\n{}", member.name, shown.join("\n")));
        }
    }
}

impl Member {
    fn new(
        name: &str,
        program: &'static str,
        ready_file: &'static str,
        flags: Vec<String>,
        folder: &Path,
    ) -> Self {
        let data_dir = folder.join(name);
        std::fs::create_dir_all(&data_dir).expect("a folder can be made");
        let mut arguments = flag("data-dir", &data_dir.display()).to_vec();
        arguments.extend(flags);
        let (name, logs) = (name.to_owned(), folder.to_owned());
        let surroundings = Surroundings::default();
        let (starts, process) = (0, None);
        Self { name, program, arguments, data_dir, ready_file, logs, surroundings, starts, process }
    }

    /// In a network namespace.
    fn within(mut self, namespace: Option<Namespace>) -> Self {
        self.surroundings.namespace = namespace;
        self
    }

    fn control_plane(listen: SocketAddr, more_flags: Vec<String>, folder: &Path) -> Self {
        let mut flags = [flag("listen", &listen).to_vec(), node_timeout(&more_flags)].concat();
        flags.push("--init".to_owned());
        flags.extend(more_flags);
        Self::new("control-plane", "control-plane", "ready.json", flags, folder)
    }

    /// A member that joins those that there are.
    fn joining(
        number: usize,
        listen: SocketAddr,
        known: &[SocketAddr],
        more_flags: Vec<String>,
        folder: &Path,
    ) -> Self {
        let name = format!("control-plane-{number}");
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        let mut flags = [
            flag("listen", &listen),
            flag("join-token-file", &folder.join(&name).join(TOKEN_FILE).display()),
            flag("members", &known.join(",")),
        ]
        .concat();
        flags.extend(node_timeout(&more_flags));
        flags.extend(more_flags);
        Self::new(&name, "control-plane", "ready.json", flags, folder)
    }

    fn agent(
        name: &str,
        control_plane: &[SocketAddr],
        addresses: Addresses,
        more_flags: &[&str],
        folder: &Path,
    ) -> Self {
        let control_plane: Vec<String> =
            control_plane.iter().map(|address| format!("https://{address}")).collect();
        let mut flags = [
            flag("name", &name),
            flag("control-plane", &control_plane.join(",")),
            flag("join-token-file", &folder.join(name).join(TOKEN_FILE).display()),
            flag("api-listen", &addresses.api),
            flag("ingress-listen", &addresses.ingress),
        ]
        .concat();
        flags.extend(more_flags.iter().map(|&flag| flag.to_owned()));
        Self::new(name, "node-agent", "agent.json", flags, folder)
    }

    fn keyring(&self, file: &str) -> Keyring {
        let path = self.data_dir.join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Keyring::new(Identity::from_pem(&text).expect("it is an identity"))
    }

    /// From its next start on it is on that hardware.
    pub fn is_on(&mut self, hardware: &Hardware) {
        self.surroundings.environment = hardware.environment().to_vec();
    }

    /// Puts a token where the agent looks for one.
    pub fn give_token(&self, token: &JoinToken) {
        std::fs::write(self.data_dir.join(TOKEN_FILE), token.reveal().as_bytes())
            .expect("a file can be written");
    }

    /// Starts it and waits until it says that it listens.
    pub async fn start(&mut self) {
        self.spawn();
        self.listens().await;
    }

    /// Starts it, without waiting.
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        self.starts += 1;
        let log = self.log_file(self.starts);
        let program = built::binary(self.program);
        let process = Process::start_in(&self.surroundings, &self.name, &program, &self.arguments, log);
        self.process = Some(process);
    }

    /// Waits until it says that it listens.
    pub async fn listens(&mut self) {
        let what = format!("{} is ready", self.name);
        until(&what, SOON, async || self.look()).await;
    }

    fn look(&mut self) -> Result<(), String> {
        let process = self.process.as_mut().expect("it was started");
        if let Some(status) = process.ended() {
            panic!("{} ended at its start with {status}:\n{}", self.name, process.log());
        }
        let path = self.data_dir.join(self.ready_file);
        let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let ready: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        // The file of the process before is there until this one has written its own.
        if ready["pid"] == process.id() { Ok(()) } else { Err(format!("{ready} is of another process")) }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// `kill -9`, then start.
    pub async fn restart(&mut self) {
        self.kill();
        self.start().await;
    }

    /// Asks it to end, without waiting.
    pub fn terminate(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::TERM);
    }

    /// The id of its process.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// How many files and sockets its process has open.
    pub fn open_files(&self) -> usize {
        self.process.as_ref().expect("it runs").open_files()
    }

    /// The memory of its process that is in use.
    pub fn memory_bytes(&self) -> u64 {
        self.process.as_ref().expect("it runs").memory_bytes()
    }

    /// Makes it stand still.
    pub fn pause(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::CONT);
    }

    /// Waits until it has ended after [`Member::terminate`].
    pub async fn end_within(&mut self, within: Duration) -> ExitStatus {
        let status = self.process.as_mut().expect("it runs").end_within(within).await;
        self.process = None;
        status
    }

    /// Whether its process lives.
    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// What its last process wrote.
    pub fn last_log(&self) -> String {
        std::fs::read_to_string(self.log_file(self.starts)).unwrap_or_default()
    }

    fn log_file(&self, start: usize) -> PathBuf {
        self.logs.join(format!("{}-{start}.log", self.name))
    }
}

fn flag(name: &str, value: &dyn Display) -> [String; 2] {
    [format!("--{name}"), value.to_string()]
}
