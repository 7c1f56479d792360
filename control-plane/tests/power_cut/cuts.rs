//! The tests: each records a program, makes images of many moments, and lets the product open them.

use std::collections::hash_map::RandomState;
use std::env;
use std::hash::BuildHasher as _;
use std::io::{self, Stdout, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use control_plane::planted::Bug;
use control_plane::raft::disk::Kind;

use super::chance::Chance;
use super::image::{Disk, Kept, WAYS};
use super::member::Member;
use super::recorder::{self, Event, Recording};
use super::say;
use super::workload::Commits;

/// Images of each disk in a normal run.
const IMAGES: usize = 200;
/// Images of a whole member, which takes longer to start.
const MEMBER_IMAGES: usize = 60;
/// Images without a barrier: the first of them shows it, as a rule.
const IMAGES_WITHOUT: usize = 8;
/// Images of a member whose barrier comes too late: a third of them right behind an acknowledgement, most of which lack it.
#[cfg(debug_assertions)]
const IMAGES_UNWAITED: usize = 24;
/// How many events behind a change of names are still near it: a file is made, written in a few parts, synced, renamed.
const NEAR: usize = 5;
/// Events that are shown of a recording that went wrong.
const EVENTS_SHOWN: usize = 12;
/// One image in so many is also written to and opened again.
const GO_ON_EVERY: usize = 4;

/// A program that is cut off, and the judge of what is left.
pub trait Subject: Sync {
    /// How many steps it takes; each is acknowledged.
    fn steps(&self) -> usize;

    /// Takes the steps. Runs in the recorded process.
    fn run(&self, folder: &Path, progress: &mut Progress) -> io::Result<()>;

    /// Opens what a power cut has left as the product does, and refuses it if a step that was acknowledged is missing
    /// or something is there that was not begun. `goes_on` asks for one more write.
    fn check(&self, folder: &Path, acknowledged: usize, begun: usize, goes_on: bool) -> Result<(), String>;
}

fn subject(name: &str, seed: u64) -> Box<dyn Subject> {
    match name {
        "sled" => Box::new(Commits::new(Kind::Sled, seed)),
        "wal" => Box::new(Commits::new(Kind::Wal, seed)),
        "member-sled" => Box::new(Member::new(Kind::Sled, seed)),
        "member-wal" => Box::new(Member::new(Kind::Wal, seed)),
        "member-unwaited" => Box::new(Member::with(Kind::Wal, seed, Some(Bug::UnwaitedBarrier))),
        other => panic!("there is no {other}"),
    }
}

/// Says how far the recorded program is, where the recorder hears it.
pub struct Progress(Stdout);

impl Progress {
    /// Step `number` begins.
    pub fn begins(&mut self, number: usize) -> io::Result<()> {
        self.say("begins", number)
    }

    /// Step `number` is acknowledged.
    pub fn acknowledges(&mut self, number: usize) -> io::Result<()> {
        self.say("acknowledges", number)
    }

    fn say(&mut self, word: &str, number: usize) -> io::Result<()> {
        // Not `println!`: the test harness would keep it.
        self.0.write_all(format!("{word} {number}\n").as_bytes())?;
        self.0.flush()
    }
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn seed() -> u64 {
    number("WEFT_POWER_CUT_SEED").unwrap_or_else(|| RandomState::new().hash_one(0))
}

/// The recorded program: this test, run alone in a process of its own.
#[test]
#[ignore = "run by the other tests, in a process that is recorded"]
fn program() {
    let var = |name: &str| env::var(name).expect("set by the test that runs this");
    let subject = subject(&var("WEFT_POWER_CUT_SUBJECT"), var("WEFT_POWER_CUT_SEED").parse().unwrap());
    subject.run(Path::new(&var("WEFT_POWER_CUT_FOLDER")), &mut Progress(io::stdout())).unwrap();
}

/// Records the program; `None` if this machine cannot.
fn record(name: &str, seed: u64) -> Option<Recording> {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Command::new(env::current_exe().unwrap());
    program
        .args(["--exact", "cuts::program", "--ignored", "--nocapture", "--test-threads=1"])
        .env("WEFT_POWER_CUT_SUBJECT", name)
        .env("WEFT_POWER_CUT_SEED", seed.to_string())
        .env("WEFT_POWER_CUT_FOLDER", folder.path());
    let stopped = match recorder::start(&mut program, folder.path()) {
        Ok(stopped) => stopped,
        Err(error) => {
            say(&format!("SKIPPED: power cuts of {name}: a process cannot be traced on this machine: {error}"));
            assert!(env::var_os("WEFT_POWER_CUT_REQUIRED").is_none(), "tracing is required here: {error}");
            return None;
        }
    };
    let recording = stopped.follow().unwrap();
    assert_eq!(recording.unknown, Vec::<String>::new(), "calls that the recorder must learn");
    let written = recording.events.iter().map(|event| match event {
        Event::Write { bytes, .. } => bytes.len(),
        _ => 0,
    });
    let (count, mebibytes) = (recording.events.len(), written.sum::<usize>() >> 20);
    say(&format!("power cuts of {name}: recorded {count} events, {mebibytes} MiB written"));
    let (acknowledged, _) = said(&recording.events);
    assert_eq!(acknowledged, subject(name, seed).steps(), "the program must come to its end");
    Some(recording)
}

/// How many steps were acknowledged and begun by the end of `events`.
fn said(events: &[Event]) -> (usize, usize) {
    let last = |word: &str| {
        let lines = events.iter().rev().filter_map(|event| match event {
            Event::Said(line) => line.trim().strip_prefix(word),
            _ => None,
        });
        lines.filter_map(|rest| rest.trim().parse().ok()).next().unwrap_or(0)
    };
    (last("acknowledges"), last("begins"))
}

/// Moments of a recording, in order: a third of them right behind an acknowledgement, where nothing may be missing, and a
/// third where files are made, renamed and removed, which happens seldom and in few steps.
fn moments(events: &[Event], count: usize, chance: &mut Chance) -> Vec<usize> {
    let places =
        |is: fn(&Event) -> bool| -> Vec<usize> { (0..events.len()).filter(|at| is(&events[*at])).collect() };
    let acknowledged = places(|event| matches!(event, Event::Said(line) if line.starts_with("acknowledges")));
    let named = places(|event| matches!(event, Event::Name { .. } | Event::Unname { .. }));
    let mut moments: Vec<usize> = (0..count)
        .map(|number| match number % 3 {
            0 => acknowledged[chance.below(acknowledged.len())] + 1,
            1 => (named[chance.below(named.len())] + chance.below(NEAR)).min(events.len()),
            _ => chance.below(events.len() + 1),
        })
        .collect();
    moments.sort_unstable();
    moments
}

/// Makes `count` images of a recording and checks each; the complaints come back.
fn try_images(
    subject: &dyn Subject,
    recording: &Recording,
    seed: u64,
    count: usize,
    ignored: fn(&Event) -> bool,
) -> Vec<String> {
    let events = &recording.events;
    let moments = &moments(events, count, &mut Chance::new(seed ^ 1));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let tried = &AtomicUsize::new(0);
    let worker = |worker: usize| {
        let mut chance = Chance::new(seed.wrapping_add(worker as u64));
        let mut disk = Disk::default();
        let mut complaints = Vec::new();
        for (number, moment) in moments.iter().enumerate().skip(worker).step_by(threads) {
            disk.advance(events, *moment, ignored);
            let kept = WAYS[chance.below(WAYS.len())];
            let goes_on = number % GO_ON_EVERY == 0;
            complaints.extend(complaint(subject, &events[..*moment], &disk, kept, goes_on, &mut chance));
            tried.fetch_add(1, Ordering::SeqCst);
        }
        complaints
    };
    let complaints = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|number| scope.spawn(move || worker(number))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(tried.load(Ordering::SeqCst), count, "every image must be tried");
    complaints
}

fn complaint(
    subject: &dyn Subject,
    events: &[Event],
    disk: &Disk,
    kept: Kept,
    goes_on: bool,
    chance: &mut Chance,
) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    disk.cut(folder.path(), kept, chance).unwrap();
    let (acknowledged, begun) = said(events);
    let what = subject.check(folder.path(), acknowledged, begun, goes_on).err()?;
    let shown = events.len().saturating_sub(EVENTS_SHOWN);
    let before: Vec<String> = events[shown..].iter().map(ToString::to_string).collect();
    Some(format!("cut behind event {} keeping {kept:?}: {what}\n    {}", events.len(), before.join("\n    ")))
}

fn survives(name: &str, images: usize) {
    let seed = seed();
    let count = number("WEFT_POWER_CUT_IMAGES").map_or(images, |count| count as usize);
    say(&format!("power cuts of {name}: {count} images, seed {seed} (WEFT_POWER_CUT_SEED repeats it)"));
    let Some(recording) = record(name, seed) else { return };
    let complaints = try_images(&*subject(name, seed), &recording, seed, count, |_| false);
    assert!(
        complaints.is_empty(),
        "seed {seed}: {} of {count} images failed:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

#[test]
fn sled_keeps_what_it_acknowledged() {
    survives("sled", IMAGES);
}

#[test]
fn plain_files_keep_what_they_acknowledged() {
    survives("wal", IMAGES);
}

#[test]
fn a_member_on_sled_keeps_what_it_acknowledged() {
    survives("member-sled", MEMBER_IMAGES);
}

#[test]
fn a_member_on_plain_files_keeps_what_it_acknowledged() {
    survives("member-wal", MEMBER_IMAGES);
}

/// The test itself is tested: had the barrier been left out, images would show it.
#[test]
fn a_missing_barrier_is_seen() {
    for name in ["sled", "wal"] {
        let seed = seed();
        let Some(recording) = record(name, seed) else { return };
        let is_barrier = |event: &Event| matches!(event, Event::Sync { data_only: true, .. });
        let complaints = try_images(&*subject(name, seed), &recording, seed, IMAGES_WITHOUT, is_barrier);
        assert!(!complaints.is_empty(), "{name}, seed {seed}: without its barrier, nothing was lost");
    }
}

/// And a member that does not wait for its barrier loses what it acknowledged.
#[cfg(debug_assertions)]
#[test]
fn a_barrier_that_is_not_waited_for_is_seen() {
    let (name, seed) = ("member-unwaited", seed());
    let Some(recording) = record(name, seed) else { return };
    let complaints = try_images(&*subject(name, seed), &recording, seed, IMAGES_UNWAITED, |_| false);
    assert!(
        !complaints.is_empty(),
        "{name}, seed {seed}: its barrier was not waited for, and nothing was lost"
    );
}
