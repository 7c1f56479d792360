//! `ctl namespace`: what the graphs of a namespace use together, and what they may.

use std::num::ParseIntError;

use clap::{Args, Subcommand};
use model::name::NamespaceName;
use model::quota::{Measure, Quota, Usage};
use model::reserve::Priority;
use model::unit::{ByteSize, ByteSizeError};
use proto::convert::required;
use proto::weft::namespace::v1 as wire;

use crate::cli::{Format, MutationFlags};
use crate::client::{CallError, Services};
use crate::clock::now_ms;
use crate::command::why::recent;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::table::Table;
use crate::render::time;
use crate::session::Session;

/// Events shown of a namespace.
const EVENTS_SHOWN: usize = 5;

/// Arguments of `namespace`.
#[derive(Debug, Args)]
pub struct NamespaceArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: NamespaceCommand,
}

/// What to do with namespaces.
#[derive(Debug, Subcommand)]
pub enum NamespaceCommand {
    /// Lists namespaces: those that a graph is in, and those that have a quota.
    List,
    /// Shows one namespace: what its graphs use, and what they may.
    Inspect(InspectArguments),
    /// Says what the graphs of a namespace may use together, from now on.
    ///
    /// What is not named is not bounded. What they use already stays, also where that is more; nothing that would use more
    /// is deployed then.
    Quota(QuotaArguments),
}

/// Arguments of `namespace inspect`.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// The namespace.
    pub name: NamespaceName,
}

/// Arguments of `namespace quota`.
#[derive(Debug, Args)]
pub struct QuotaArguments {
    /// The namespace.
    pub name: NamespaceName,
    /// What its graphs may use.
    #[command(flatten)]
    pub bounds: Bounds,
    /// What makes it safe to repeat.
    #[command(flatten)]
    pub mutation: MutationFlags,
}

/// What the graphs of a namespace may use.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Bounds {
    /// How many graphs there may be.
    #[arg(long, value_name = "N")]
    pub graphs: Option<u64>,
    /// On how many nodes their components may run, all together; for one that runs on each node all nodes count, up to 1000.
    #[arg(long, value_name = "N")]
    pub replicas: Option<u64>,
    /// The memory limits of their components, each as often as it has replicas: `8Gi`.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<ByteSize>,
    /// How many instances may be reserved for their components, each as often as it has replicas.
    #[arg(long, value_name = "N")]
    pub reserved: Option<u64>,
    /// The highest priority that one of them may have for what is reserved for it: 0 to 100.
    #[arg(long, value_name = "PRIORITY", value_parser = priority)]
    pub priority: Option<Priority>,
    /// Nothing is bounded any more.
    #[arg(long, conflicts_with_all = ["graphs", "replicas", "memory", "reserved", "priority"])]
    pub none: bool,
}

/// A size, with or without the `B` that people put behind it.
fn size(text: &str) -> Result<ByteSize, ByteSizeError> {
    text.strip_suffix('B').unwrap_or(text).parse()
}

fn priority(text: &str) -> Result<Priority, String> {
    let number = text.parse().map_err(|error: ParseIntError| error.to_string())?;
    Priority::new(number).map_err(|error| error.to_string())
}

/// Does it.
pub async fn run(arguments: NamespaceArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    match arguments.command {
        NamespaceCommand::List => list(session).await?,
        NamespaceCommand::Inspect(arguments) => inspect(&arguments.name, session).await?,
        NamespaceCommand::Quota(arguments) => quota(arguments, session).await?,
    }
    Ok(Exit::Done)
}

async fn list(session: &mut Session<'_>) -> Result<(), Failure> {
    let call = |services: Services| async move { services.namespaces().list(wire::ListRequest {}).await };
    let answer = session.client.read(call).await?;
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&answer),
        Format::Name => {
            for namespace in &answer.namespaces {
                session.terminal.data_line(&namespace.name)?;
            }
            Ok(())
        }
        Format::Table | Format::Wide => {
            let mut table = Table::new(["NAME", "GRAPHS", "REPLICAS", "MEMORY", "RESERVED"]);
            for namespace in &answer.namespaces {
                let quota = quota_of(namespace)?;
                let shown = Measure::ALL.map(|measure| of_bound(namespace, &quota, measure, "/"));
                table.row([namespace.name.clone()].into_iter().chain(shown));
            }
            session.write_table(&table, "no graph is in any namespace, and none has a quota")
        }
    }
}

async fn inspect(name: &NamespaceName, session: &mut Session<'_>) -> Result<(), Failure> {
    let call = |services: Services| {
        let request = wire::GetRequest { name: name.to_string() };
        async move { services.namespaces().get(request).await }
    };
    let answer = session.client.read(call).await?;
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&answer),
        Format::Name => Ok(session.terminal.data_line(name.as_str())?),
        Format::Table | Format::Wide => {
            let events = recent::events(&session.client, &format!("namespace/{name}"), EVENTS_SHOWN).await?;
            let text = page(answer, session.terminal.look().width, now_ms())?;
            session.terminal.data(&text)?;
            recent::show(&events, session)
        }
    }
}

fn page(answer: wire::GetResponse, width: Option<u16>, now_ms: u64) -> Result<String, Failure> {
    let namespace = required("namespace", answer.namespace).map_err(CallError::Answer)?;
    let quota = match namespace.quota_changed_at_ms {
        0 => "no quota".to_owned(),
        at_ms => format!("its quota changed {} ago", time::age(at_ms, now_ms)),
    };
    let mut text = format!("{}  {quota}\n", namespace.name);
    let quota = quota_of(&namespace)?;
    for measure in Measure::ALL {
        text.push_str(&format!("  {:8}  {}\n", measure.word(), of_bound(&namespace, &quota, measure, " of ")));
    }
    if let Some(priority) = quota.priority {
        text.push_str(&format!("  priority  {priority} at most, of what is reserved\n"));
    }
    let mut table = Table::new(["GRAPH", "REPLICAS", "MEMORY", "RESERVED"]);
    for graph in answer.graphs {
        let used: Usage = graph.used.unwrap_or_default().into();
        let shown = [Measure::Replicas, Measure::Memory, Measure::Reserved]
            .map(|measure| measure.shown(used.of(measure)));
        table.row([graph.graph].into_iter().chain(shown));
    }
    if !table.is_empty() {
        text.push_str(&format!("\n{}", table.render(width)));
    }
    Ok(text)
}

fn quota_of(namespace: &wire::Namespace) -> Result<Quota, CallError> {
    namespace.quota.unwrap_or_default().try_into().map_err(CallError::Answer)
}

/// What is used of a measure, and of how much: `7/100`, or `7` where that is not bounded.
fn of_bound(namespace: &wire::Namespace, quota: &Quota, measure: Measure, between: &str) -> String {
    let used: Usage = namespace.used.unwrap_or_default().into();
    let used = measure.shown(used.of(measure));
    match quota.bound(measure) {
        Some(bound) => format!("{used}{between}{}", measure.shown(bound)),
        None => used,
    }
}

async fn quota(arguments: QuotaArguments, session: &mut Session<'_>) -> Result<(), Failure> {
    let QuotaArguments { name, bounds, mutation } = arguments;
    let Bounds { graphs, replicas, memory, reserved, priority, none: _ } = bounds;
    let quota = Quota { graphs, replicas, memory, reserved, priority };
    let call = |services: Services, request_id: String| {
        let request =
            wire::SetQuotaRequest { request_id, namespace: name.to_string(), quota: Some(quota.into()) };
        async move { services.namespaces().set_quota(request).await }
    };
    let answer = session.client.mutate(mutation.request_id.as_ref(), call).await?;
    let namespace = required("namespace", answer.namespace).map_err(CallError::Answer)?;
    let known = quota_of(&namespace)?;
    if known != quota {
        let is_of_earlier = known == Quota { reserved: None, priority: None, ..quota };
        let (reason, why, help) = match is_of_earlier {
            true => (
                Some("feature_level".to_owned()),
                "the member that was asked is of an earlier version, and left out what it does not know",
                Some("upgrade it, or ask another one (`--addr`)".to_owned()),
            ),
            false => (None, "another one was set meanwhile", None),
        };
        return Err(Failure::Refused {
            reason,
            message: format!("the quota of namespace {name} is now: {known}, and not: {quota}; {why}"),
            help,
            next: Some(format!("ctl namespace inspect {name}")),
        });
    }
    match session.format {
        Format::Json | Format::Yaml => session.write_message(&namespace)?,
        Format::Name => session.terminal.data_line(&namespace.name)?,
        Format::Table | Format::Wide => {}
    }
    Ok(session.terminal.note(&said(&namespace)?)?)
}

/// What a quota comes to.
fn said(namespace: &wire::Namespace) -> Result<String, CallError> {
    let (name, quota) = (&namespace.name, quota_of(namespace)?);
    if quota.is_none() {
        return Ok(format!("the graphs of namespace {name} may use what they ask for"));
    }
    let used: Usage = namespace.used.unwrap_or_default().into();
    let is_over = |measure: &Measure| quota.bound(*measure).is_some_and(|bound| used.of(*measure) > bound);
    let over: Vec<String> = Measure::ALL
        .into_iter()
        .filter(is_over)
        .map(|measure| format!("{} {}", measure.word(), measure.shown(used.of(measure))))
        .collect();
    let more = match over.is_empty() {
        true => String::new(),
        false => format!("; they use more already ({}), which stays and does not grow", over.join(", ")),
    };
    Ok(format!("the graphs of namespace {name} may use no more than: {quota}{more}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::testing::FakeNamespaces;

    fn namespace() -> wire::Namespace {
        wire::Namespace {
            name: "sales".to_owned(),
            quota: Some(wire::Quota {
                graphs: Some(20),
                memory_bytes: Some(8 << 30),
                ..wire::Quota::default()
            }),
            used: Some(wire::Usage { graphs: 2, replicas: 7, memory_bytes: 448 << 20, reserved: 12 }),
            quota_changed_at_ms: 61_000,
        }
    }

    fn graphs() -> Vec<wire::GraphUsage> {
        let used = Some(wire::Usage { graphs: 1, replicas: 3, memory_bytes: 192 << 20, reserved: 12 });
        vec![wire::GraphUsage { graph: "sales/crm".to_owned(), used }]
    }

    #[test]
    fn a_namespace_has_a_page() {
        let answer = wire::GetResponse { namespace: Some(namespace()), graphs: graphs() };
        insta::assert_snapshot!(page(answer, None, 121_000).unwrap(), @"
        sales  its quota changed 1m ago
          graphs    2 of 20
          replicas  7
          memory    448Mi of 8Gi
          reserved  12

        GRAPH      REPLICAS  MEMORY  RESERVED
        sales/crm  3         192Mi   12
        ");
        let bare = wire::Namespace { quota: None, quota_changed_at_ms: 0, ..namespace() };
        let answer = wire::GetResponse { namespace: Some(bare), graphs: Vec::new() };
        insta::assert_snapshot!(page(answer, None, 121_000).unwrap(), @"
        sales  no quota
          graphs    2
          replicas  7
          memory    448Mi
          reserved  12
        ");
    }

    #[test]
    fn what_a_quota_comes_to_is_said() {
        assert_eq!(
            said(&namespace()).unwrap(),
            "the graphs of namespace sales may use no more than: graphs 20, memory 8Gi"
        );
        let tight = wire::Quota {
            graphs: Some(2),
            replicas: Some(3),
            memory_bytes: Some(64 << 20),
            reserved: Some(4),
            priority: Some(50),
        };
        assert_eq!(
            said(&wire::Namespace { quota: Some(tight), ..namespace() }).unwrap(),
            "the graphs of namespace sales may use no more than: graphs 2, replicas 3, memory 64Mi, reserved 4, \
             priority 50; they use more already (replicas 7, memory 448Mi, reserved 12), which stays and does not grow"
        );
        assert_eq!(
            said(&wire::Namespace { quota: None, ..namespace() }).unwrap(),
            "the graphs of namespace sales may use what they ask for"
        );
    }

    #[test]
    fn quotas_are_asked_for_and_namespaces_are_listed() {
        let fake = FakeNamespaces::start(vec![namespace()], graphs());
        let listed = fake.ctl(&["namespace", "list"]);
        insta::assert_snapshot!(listed.stdout, @"
        NAME   GRAPHS  REPLICAS  MEMORY     RESERVED
        sales  2/20    7         448Mi/8Gi  12
        ");
        assert_eq!(fake.ctl(&["namespace", "list", "-q"]).stdout, "sales\n");
        let inspected = fake.ctl(&["namespace", "inspect", "sales", "-o", "json"]);
        assert!(inspected.stdout.contains("\"sales/crm\""), "{}", inspected.stdout);

        let set = fake.ctl(&["namespace", "quota", "sales", "--replicas=100", "--memory=8GiB", "--priority=0"]);
        assert_eq!(set.exit, Exit::Done, "{}", set.stderr);
        assert!(set.stderr.contains("no more than: replicas 100, memory 8Gi, priority 0"), "{}", set.stderr);
        let none = fake.ctl(&["namespace", "quota", "sales", "--none", "--request-id", "r-1"]);
        assert!(none.stderr.contains("may use what they ask for"), "{}", none.stderr);
        let asked = fake.asked();
        let quotas: Vec<_> = asked.iter().map(|request| request.quota.unwrap()).collect();
        let first = wire::Quota {
            replicas: Some(100),
            memory_bytes: Some(8 << 30),
            priority: Some(0),
            ..wire::Quota::default()
        };
        assert_eq!(quotas, [first, wire::Quota::default()]);
        assert_eq!((asked[1].request_id.as_str(), asked[1].namespace.as_str()), ("r-1", "sales"));
    }

    #[test]
    fn a_member_that_does_not_know_all_of_a_quota_is_not_believed() {
        let old = wire::Namespace { name: FakeNamespaces::KNOWS_NO_RESERVES.to_owned(), ..namespace() };
        let fake = FakeNamespaces::start(vec![old], Vec::new());
        let set = fake.ctl(&["namespace", "quota", "old", "--graphs=3", "--reserved=5"]);
        assert_eq!(set.exit, Exit::Failed, "{}", set.stderr);
        assert!(
            set.stderr.contains(
                "the quota of namespace old is now: graphs 3, and not: graphs 3, reserved 5; the member"
            ),
            "{}",
            set.stderr
        );
        assert_eq!(fake.ctl(&["namespace", "quota", "old", "--graphs=3"]).exit, Exit::Done);
    }

    #[test]
    fn a_quota_says_what_it_bounds() {
        use clap::Parser as _;
        let wrong = |line: &str| crate::cli::Cli::try_parse_from(line.split(' ')).unwrap_err().to_string();
        for (line, expected) in [
            ("ctl namespace quota sales", "required"),
            ("ctl namespace quota sales --none --graphs 3", "cannot be used with"),
            ("ctl namespace quota sales --memory 8GB", "is not a size"),
            ("ctl namespace quota sales --replicas=-1", "invalid digit"),
            ("ctl namespace quota sales --priority=101", "a priority is 0 to 100, not 101"),
            ("ctl namespace quota sales --none --priority=1", "cannot be used with"),
        ] {
            let said = wrong(line);
            assert!(said.contains(expected), "{line}: {said}");
        }
    }
}
