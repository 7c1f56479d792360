//! kill -9 at any moment, restart: nothing acknowledged is lost, and requests are known.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::weft::graph::v1 as graph;
use tonic::Status;

use crate::member::{Client, PATIENCE, refused};
use crate::parts;
use crate::process::{Running, say};

/// Kills of a normal run; `WEFT_KILLS` sets another number.
const KILLS: usize = 6;
/// Clients that change things meanwhile, each a graph of its own.
const CLIENTS: usize = 4;
/// The longest a member lives. The shortest is nothing: it is killed as it starts, too.
const LIFE_MAX_MS: u64 = 700;
/// A single voter elects itself: its start is reading its disk.
const START_MAX: Duration = Duration::from_secs(10);

/// What a client knows: the requests that it made, in order, with their answers if they came.
type Made = Vec<(String, Option<graph::DeployResponse>)>;

fn request(client: usize, number: usize) -> (String, graph::DeployRequest) {
    let id = format!("client-{client}-request-{number}");
    let request = graph::DeployRequest {
        request_id: id.clone(),
        manifest: parts::shop(&format!("shop-{client}"), &number.to_string()),
        artifacts: parts::shop_artifacts(),
        ..graph::DeployRequest::default()
    };
    (id, request)
}

/// Deploys one revision after another, each once, until the member is gone.
async fn work(mut client: Client, number: usize, made: Arc<Mutex<Made>>) {
    loop {
        let next = made.lock().unwrap().len();
        // The last one again, if its answer did not come.
        let unanswered = made.lock().unwrap().last().is_some_and(|(_, answer)| answer.is_none());
        let at = if unanswered { next - 1 } else { next };
        let (id, request) = request(number, at);
        if !unanswered {
            made.lock().unwrap().push((id, None));
        }
        match client.graphs.deploy(request).await {
            Ok(answer) => made.lock().unwrap()[at].1 = Some(answer.into_inner()),
            Err(status) => {
                assert!(is_gone(&status), "{status:?}");
                return;
            }
        }
    }
}

/// Whether a call ended because the process did.
fn is_gone(status: &Status) -> bool {
    proto::status::reason(status).is_none_or(|reason| reason == "member_stopped")
}

/// Refuses a state in which something is missing or was done twice.
async fn check(client: &mut Client, made: &BTreeMap<usize, Made>) {
    for (number, made) in made {
        let name = format!("default/shop-{number}");
        let answered = made.iter().filter(|(_, answer)| answer.is_some()).count() as u64;
        if answered == 0 {
            continue;
        }
        let status = client.status(&name).await.unwrap();
        let range = answered..=made.len() as u64;
        assert!(range.contains(&status.revision), "{name} is at {}, not in {range:?}", status.revision);
        // The last few, so that a run does not grow with its square.
        for (at, (_, answer)) in made.iter().enumerate().rev().take(5) {
            let Some(answer) = answer else { continue };
            assert_eq!(answer.revision, at as u64 + 1, "each request made one revision");
            let again = client.graphs.deploy(request(*number, at).1).await.unwrap().into_inner();
            assert_eq!((again.revision, again.generation), (answer.revision, answer.generation));
            let mut other = request(*number, at).1;
            other.manifest.push_str("# other\n");
            refused(client.graphs.deploy(other).await, tonic::Code::AlreadyExists, "idempotency_mismatch");
        }
    }
}

async fn survives(folder: &Path, storage: &str, seed: u64, kills: usize) {
    let flag = format!("--storage={storage}");
    let flags = ["--init", flag.as_str()];
    let made: Vec<Arc<Mutex<Made>>> = (0..CLIENTS).map(|_| Arc::default()).collect();
    let known = |made: &[Arc<Mutex<Made>>]| -> BTreeMap<usize, Made> {
        made.iter().enumerate().map(|(number, made)| (number, made.lock().unwrap().clone())).collect()
    };
    let mut random = seed;
    let mut longest = Duration::ZERO;
    for kill in 0..=kills {
        let running = Running::start(folder, &flags).await;
        longest = longest.max(running.took);
        assert!(running.took < START_MAX, "a start took {:?}", running.took);
        let mut client = running.client();
        if kill == 0 {
            client.upload_parts().await;
        }
        check(&mut client, &known(&made)).await;
        if kill == kills {
            break;
        }
        let workers: Vec<_> = made
            .iter()
            .enumerate()
            .map(|(number, made)| tokio::spawn(work(running.client(), number, made.clone())))
            .collect();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis((random >> 33) % LIFE_MAX_MS)).await;
        running.kill();
        for worker in workers {
            tokio::time::timeout(PATIENCE, worker).await.expect("it ends with the member").unwrap();
        }
        // Killed again as it starts, now and then.
        if random >> 62 == 0 {
            let mut child = crate::process::program(folder, &flags).spawn().unwrap();
            tokio::time::sleep(Duration::from_millis((random >> 20) % 60)).await;
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
    let answered: usize =
        known(&made).values().map(|made| made.iter().filter(|(_, answer)| answer.is_some()).count()).sum();
    say(&format!("kills of {storage}: {answered} deploys answered, the longest start took {longest:?}"));
    assert!(answered > kills, "the members lived too short to prove anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_kills() {
    let seed = match std::env::var("WEFT_KILLS_SEED") {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => RandomState::new().hash_one(0),
    };
    let kills = std::env::var("WEFT_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"));
    for storage in ["sled", "wal"] {
        say(&format!("kills of {storage}: seed {seed} (WEFT_KILLS_SEED repeats it)"));
        let folder = tempfile::tempdir().unwrap();
        survives(folder.path(), storage, seed, kills).await;
    }
}
