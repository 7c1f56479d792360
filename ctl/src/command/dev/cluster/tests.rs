//! The loop with real processes, which are shell scripts in place of the programs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, kill_process};
use tokio::time::timeout;

use super::*;
use crate::terminal::Look;

/// Longer than anything here takes, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// Says that it is ready, at addresses that end in its number if it has one; waits to be asked to stop, and says when
/// it was. Keeps what it was started with.
const PROGRAM: &str = r#"#!/bin/sh
folder="$2"
name=$(basename "$folder")
number=
case "$name" in n*) number="${name#n}" ;; esac
echo "this is $name"
echo "$*" >> "$folder/arguments"
stop() { echo "$name" >> "$folder/../stopped"; exit 0; }
trap stop TERM
addresses="\"api_address\": \"127.0.0.1:7$number\", \"ingress_address\": \"127.0.0.1:8$number\""
for file in ready.json agent.json; do
    echo "{\"pid\": $$, $addresses}" > "$folder/$file.new"
    mv "$folder/$file.new" "$folder/$file"
done
while :; do sleep 60 & wait $!; done
"#;

/// Stands for `ctl dev --child-of PID -- PROGRAM …`.
const CTL: &str = "#!/bin/sh\nshift 4\nexec \"$@\"\n";

fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

struct Bench {
    scripts: tempfile::TempDir,
    data: tempfile::TempDir,
    stop: Stop,
}

impl Bench {
    fn new() -> Self {
        let (scripts, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Self { scripts, data, stop: Stop::listen().unwrap() }
    }

    fn cluster(&self) -> Cluster {
        Cluster::new(Folder::open(&self.data.path().join("dev")).unwrap())
    }

    fn recipe(&self, cluster: &Cluster, name: &str, program: &str) -> Recipe {
        let program = script(self.scripts.path(), &format!("program-{name}"), program);
        let ctl = script(self.scripts.path(), &format!("ctl-{name}"), CTL);
        let address = "127.0.0.1:0".parse().unwrap();
        let role = match name {
            "control-plane" => Role::Member { listen: address },
            _ => Role::Agent { api: address, ingress: address, allow_private_egress: false },
        };
        Recipe::new(name, role, &program, &ctl, cluster.folder())
    }

    async fn up(&mut self, cluster: &mut Cluster, nodes: &[&str]) {
        for names in [&["control-plane"][..], nodes] {
            let recipes = names.iter().map(|name| self.recipe(cluster, name, PROGRAM)).collect();
            let step = timeout(PATIENCE, cluster.bring_up(recipes, &mut self.stop)).await.unwrap();
            assert_eq!(step.unwrap(), Step::Done);
        }
        cluster.write_state().unwrap();
    }

    fn state(&self) -> Running {
        state(self.data.path())
    }

    /// What its programs said when they were asked to stop, in that order.
    fn stopped(&self) -> Vec<String> {
        let stopped = fs::read_to_string(self.data.path().join("dev/stopped")).unwrap();
        stopped.lines().map(str::to_owned).collect()
    }

    /// What says that something runs.
    fn left(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.data.path().join("dev")).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|e| e == "pid" || e == "json")).collect()
    }
}

fn state(data: &Path) -> Running {
    serde_json::from_slice(&fs::read(data.join("dev/dev.json")).unwrap()).unwrap()
}

/// Keeps the cluster until its state is as it should be; the state, and what was said meanwhile.
async fn keep_until(
    bench: &mut Bench,
    cluster: &mut Cluster,
    is_so: impl Fn(&Running) -> bool,
) -> (Running, String) {
    let (mut input, mut output, mut errors) = (std::io::empty(), Vec::new(), Vec::new());
    let mut terminal = Terminal::new(&mut input, &mut output, &mut errors, Look::plain());
    let data = bench.data.path();
    let is_reached = async {
        loop {
            let now = state(data);
            if is_so(&now) {
                return now;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    let now = tokio::select! {
        ended = cluster.keep(&mut bench.stop, &mut terminal) => panic!("it stopped by itself: {ended:?}"),
        now = timeout(PATIENCE, is_reached) => now.unwrap(),
    };
    (now, String::from_utf8(errors).unwrap())
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test]
async fn what_dies_is_started_again_and_agents_are_stopped_first() {
    let mut bench = Bench::new();
    let mut cluster = bench.cluster();
    bench.up(&mut cluster, &["n1", "n2"]).await;
    let before = bench.state();
    assert_eq!(before.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["n1", "n2"]);
    assert_eq!(before.api_address, "127.0.0.1:7".parse().unwrap());

    kill(before.nodes[0].pid);
    kill(before.control_plane_pid);
    let (after, said) = keep_until(&mut bench, &mut cluster, |now| {
        let is_new = now.nodes.first().is_some_and(|node| node.name == "n1" && node.pid != before.nodes[0].pid);
        is_new && now.nodes.len() == 2 && now.control_plane_pid != before.control_plane_pid
    })
    .await;
    assert_eq!(after.nodes[1].pid, before.nodes[1].pid, "what lives is left alone");
    for expected in [
        "n1 died: it was ended by signal 9; its last lines:\n  this is n1",
        "n1 runs again, its agent at 127.0.0.1:71",
        "control-plane runs again\n",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in\n{said}");
    }

    timeout(PATIENCE, cluster.stop(&mut bench.stop)).await.unwrap();
    let mut stopped = bench.stopped();
    assert_eq!(stopped.pop().as_deref(), Some("control-plane"));
    stopped.sort_unstable();
    assert_eq!(stopped, ["n1", "n2"]);
    assert!(bench.left().is_empty(), "{:?}", bench.left());
}

#[tokio::test]
async fn one_of_several_nodes_dies_alone_and_comes_back_where_it_was() {
    let mut bench = Bench::new();
    let mut cluster = bench.cluster();
    let names = ["n1", "n2", "n3"];
    bench.up(&mut cluster, &names).await;
    let before = bench.state();
    let addresses = |running: &Running| {
        let ports = |node: &RunningNode| (node.api_address.port(), node.ingress_address.port());
        running.nodes.iter().map(ports).collect::<Vec<_>>()
    };
    assert_eq!(addresses(&before), [(71, 81), (72, 82), (73, 83)]);

    kill(before.nodes[1].pid);
    let (after, said) = keep_until(&mut bench, &mut cluster, |now| {
        now.nodes.len() == 3 && now.nodes[1].pid != before.nodes[1].pid
    })
    .await;
    let mut expected = before.clone();
    expected.nodes[1].pid = after.nodes[1].pid;
    assert_eq!(after, expected, "the others are left alone");
    assert!(said.contains("n2 died") && !said.contains("n1 ") && !said.contains("n3 "), "{said}");
    let arguments = fs::read_to_string(cluster.folder().data_of("n2").join("arguments")).unwrap();
    let ingress: Vec<_> = arguments.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(ingress, ["127.0.0.1:0", "127.0.0.1:82"], "it listens where it listened");

    timeout(PATIENCE, cluster.stop(&mut bench.stop)).await.unwrap();
    assert_eq!(bench.stopped().len(), 4);

    // A run with fewer nodes: what the others left is there as it was.
    let mut cluster = bench.cluster();
    bench.up(&mut cluster, &names[..1]).await;
    assert_eq!(cluster.folder().node_numbers(), [1, 2, 3]);
    let starts = names.map(|name| {
        let arguments = fs::read_to_string(cluster.folder().data_of(name).join("arguments")).unwrap();
        arguments.lines().count()
    });
    assert_eq!(starts, [2, 2, 1]);
    timeout(PATIENCE, cluster.stop(&mut bench.stop)).await.unwrap();
}

#[tokio::test]
async fn one_of_several_nodes_that_does_not_start_ends_the_run() {
    let mut bench = Bench::new();
    let mut cluster = bench.cluster();
    let recipes = vec![
        bench.recipe(&cluster, "n1", PROGRAM),
        bench.recipe(&cluster, "n2", "#!/bin/sh\necho 'its port is taken' >&2\nexit 3\n"),
        bench.recipe(&cluster, "n3", PROGRAM),
    ];
    let failed = timeout(PATIENCE, cluster.bring_up(recipes, &mut bench.stop)).await.unwrap();
    let message = failed.unwrap_err().to_string();
    let expected = "n2 did not start: it ended with exit code 3; its last lines:\n  its port is taken";
    assert_eq!(message, expected);
    timeout(PATIENCE, cluster.stop(&mut bench.stop)).await.unwrap();
    assert!(bench.left().is_empty(), "{:?}", bench.left());
}

#[tokio::test]
async fn a_first_start_that_fails_says_why() {
    let mut bench = Bench::new();
    let mut cluster = bench.cluster();
    let recipe = bench.recipe(&cluster, "control-plane", "#!/bin/sh\necho 'the disk is full' >&2\nexit 3\n");
    let failed = timeout(PATIENCE, cluster.bring_up(vec![recipe], &mut bench.stop)).await.unwrap();
    let message = failed.unwrap_err().to_string();
    let expected =
        "control-plane did not start: it ended with exit code 3; its last lines:\n  the disk is full";
    assert_eq!(message, expected);
    timeout(PATIENCE, cluster.stop(&mut bench.stop)).await.unwrap();
}

#[tokio::test]
async fn the_file_of_an_earlier_run_says_nothing_about_this_one() {
    let mut bench = Bench::new();
    let mut cluster = bench.cluster();
    let data = cluster.folder().data_of("control-plane");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("ready.json"), r#"{"pid": 1, "api_address": "127.0.0.1:1"}"#).unwrap();
    bench.up(&mut cluster, &["n1"]).await;
    assert_eq!(cluster.api_address(), Some("127.0.0.1:7".parse().unwrap()));
    timeout(PATIENCE, cluster.stop(&mut bench.stop)).await.unwrap();
}

#[test]
fn a_process_that_dies_again_and_again_is_started_ever_more_slowly() {
    let folder = tempfile::tempdir().unwrap();
    let place = Folder::open(folder.path()).unwrap();
    let role = Role::Member { listen: "127.0.0.1:0".parse().unwrap() };
    let recipe = Recipe::new("control-plane", role, Path::new("p"), Path::new("c"), &place);
    let mut seat = Seat { recipe, pause: PAUSE_LEAST, life: Life::Over };
    let pauses: Vec<Duration> = (0..8).map(|_| seat.next_pause()).collect();
    assert_eq!(pauses[0], PAUSE_LEAST);
    assert!(pauses.is_sorted());
    assert_eq!(pauses.last(), Some(&PAUSE_MOST));
}
