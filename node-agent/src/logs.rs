//! What guests and the agent said lately, one bounded ring for each graph, and readers that follow it.
//!
//! Kept in memory only: nothing here survives the agent. A reader never slows a writer: one that falls behind the
//! ring is told how many lines it missed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use model::id::GraphKey;
use model::log::{Level, LogLine, LogSource};
use model::name::{ComponentName, NodeName};
use tokio::sync::watch;

/// The most lines of one graph: an hour at three lines a second.
pub const LINES_MAX: usize = 10_000;
/// The most bytes of one graph, so that long lines do not cost more than short ones.
pub const BYTES_MAX: usize = 4 << 20;
/// The most bytes of all graphs: a node runs a thousand of them, few of which talk much.
pub const BYTES_ALL_MAX: usize = 64 << 20;
/// The most graphs; the one that was silent longest goes first.
pub const GRAPHS_MAX: usize = 4_000;
/// What a line costs besides its text: names, numbers and the ring's slot.
const LINE_COST: usize = 256;
/// The most lines a follower takes at one time, so that it holds the lock briefly.
const PAGE_MAX: usize = 256;

/// One line, before it has a number and a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The graph.
    pub graph: GraphKey,
    /// The component; `None` where the agent speaks for the graph.
    pub component: Option<ComponentName>,
    /// The request.
    pub request: Option<String>,
    /// How grave it is.
    pub level: Level,
    /// Where it came from.
    pub source: LogSource,
    /// The text, bounded by whoever took it.
    pub message: String,
}

/// The log of one agent's life. Clones are the same log.
#[derive(Debug, Clone)]
pub struct LogBook {
    node: NodeName,
    book: Arc<Mutex<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    sequence: u64,
    bytes: usize,
    rings: BTreeMap<GraphKey, Ring>,
}

#[derive(Debug)]
struct Ring {
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
    /// Lines that went out at the front.
    gone: u64,
    /// The book's sequence when the ring was made or last written to.
    written: u64,
    /// Lines ever taken; a wake-up for followers.
    taken: watch::Sender<u64>,
}

/// Which lines a reader wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only this component's.
    pub component: Option<ComponentName>,
    /// Only these of this level or graver.
    pub least_level: Option<Level>,
    /// Only those of this request.
    pub request: Option<String>,
    /// Only those taken at or after this time, milliseconds since 1970.
    pub since_ms: u64,
}

impl Selection {
    fn takes(&self, line: &LogLine) -> bool {
        self.component.as_ref().is_none_or(|component| line.component.as_ref() == Some(component))
            && self.least_level.is_none_or(|level| line.level >= level)
            && self.request.as_ref().is_none_or(|request| line.request.as_ref() == Some(request))
            && line.time_ms >= self.since_ms
    }
}

/// Reads one graph's lines from some point on.
#[derive(Debug)]
pub struct Reader {
    book: LogBook,
    graph: GraphKey,
    selection: Selection,
    /// Lines of the ring's life that were read or skipped.
    read: u64,
    taken: watch::Receiver<u64>,
}

impl LogBook {
    /// An empty log of this node.
    pub fn new(node: NodeName) -> Self {
        Self { node, book: Arc::default() }
    }

    /// The node whose log it is.
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// Makes the graph known, so that it can be followed before its first line.
    pub fn know(&self, graph: &GraphKey) {
        self.lock().ring(&graph.base());
    }

    /// Takes a line.
    pub fn append(&self, entry: Entry) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        let mut book = self.lock();
        book.sequence += 1;
        let line = LogLine {
            sequence: book.sequence,
            time_ms,
            node: self.node.clone(),
            // What a candidate says is read with what its graph says.
            graph: entry.graph.base(),
            component: entry.component,
            request: entry.request,
            level: entry.level,
            source: entry.source,
            message: entry.message,
        };
        book.push(line);
    }

    /// Takes a line that the agent says for a graph.
    pub fn agent(&self, graph: &GraphKey, level: Level, message: impl Into<String>) {
        self.append(Entry {
            graph: graph.clone(),
            component: None,
            request: None,
            level,
            source: LogSource::Agent,
            message: message.into(),
        });
    }

    /// The last `count` lines of a graph that the selection takes (0: all that are kept), and a reader of what
    /// comes after them; `None` where the graph is not known.
    pub fn tail(
        &self,
        graph: &GraphKey,
        selection: Selection,
        count: usize,
    ) -> Option<(Vec<Arc<LogLine>>, Reader)> {
        let book = self.lock();
        let ring = book.rings.get(graph)?;
        let most = if count == 0 { usize::MAX } else { count };
        let newest_first = ring.lines.iter().rev().filter(|line| selection.takes(line)).take(most);
        let mut lines: Vec<Arc<LogLine>> = newest_first.cloned().collect();
        lines.reverse();
        let (read, taken) = (ring.taken(), ring.taken.subscribe());
        drop(book);
        Some((lines, Reader { book: self.clone(), graph: graph.clone(), selection, read, taken }))
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // A panic between two statements of `push` leaves nothing worse than a wrong count of bytes.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// The next lines that the selection takes; waits for them. `None` once the graph is forgotten.
    pub async fn next(&mut self) -> Option<Vec<Arc<LogLine>>> {
        loop {
            self.taken.borrow_and_update();
            let (lines, more) = self.page()?;
            if !lines.is_empty() {
                return Some(lines);
            }
            if !more && self.taken.changed().await.is_err() {
                return None;
            }
        }
    }

    /// What is there now, and whether there is more.
    fn page(&mut self) -> Option<(Vec<Arc<LogLine>>, bool)> {
        let book = self.book.lock();
        let ring = book.rings.get(&self.graph)?;
        let mut lines = Vec::new();
        if let Some(missed) = ring.gone.checked_sub(self.read).filter(|missed| *missed > 0) {
            self.read = ring.gone;
            lines.push(Arc::new(self.missed(missed, ring.lines.front())));
        }
        let skip = usize::try_from(self.read - ring.gone).unwrap_or(usize::MAX);
        let page = ring.lines.iter().skip(skip).take(PAGE_MAX);
        for line in page {
            self.read += 1;
            if self.selection.takes(line) {
                lines.push(Arc::clone(line));
            }
        }
        Some((lines, self.read < ring.taken()))
    }

    fn missed(&self, count: u64, next: Option<&Arc<LogLine>>) -> LogLine {
        LogLine {
            sequence: next.map_or(0, |line| line.sequence.saturating_sub(1)),
            time_ms: next.map_or(0, |line| line.time_ms),
            node: self.book.node.clone(),
            graph: self.graph.clone(),
            component: None,
            request: None,
            level: Level::Warn,
            source: LogSource::Agent,
            message: format!("{count} lines are missing here: they came faster than they were read"),
        }
    }
}

impl Book {
    fn ring(&mut self, graph: &GraphKey) -> &mut Ring {
        if !self.rings.contains_key(graph) && self.rings.len() >= GRAPHS_MAX {
            let silent = self.rings.iter().min_by_key(|(_, ring)| ring.written).map(|(key, _)| key.clone());
            if let Some(ring) = silent.and_then(|key| self.rings.remove(&key)) {
                self.bytes -= ring.bytes;
            }
        }
        let written = self.sequence;
        self.rings.entry(graph.clone()).or_insert_with(|| Ring {
            lines: VecDeque::new(),
            bytes: 0,
            gone: 0,
            written,
            taken: watch::Sender::new(0),
        })
    }

    fn push(&mut self, line: LogLine) {
        let cost = cost(&line);
        let sequence = line.sequence;
        let ring = self.ring(&line.graph);
        ring.lines.push_back(Arc::new(line));
        ring.bytes += cost;
        ring.written = sequence;
        let mut freed = 0;
        while ring.lines.len() > LINES_MAX || ring.bytes > BYTES_MAX {
            freed += ring.forget_oldest();
        }
        ring.taken.send_replace(ring.taken());
        self.bytes = self.bytes + cost - freed;
        while self.bytes > BYTES_ALL_MAX {
            // The graph that talks most pays for the room that all share.
            let Some(largest) = self.rings.values_mut().max_by_key(|ring| ring.bytes) else { break };
            self.bytes -= largest.forget_oldest();
        }
    }
}

impl Ring {
    fn taken(&self) -> u64 {
        self.gone + self.lines.len() as u64
    }

    fn forget_oldest(&mut self) -> usize {
        let Some(line) = self.lines.pop_front() else { return 0 };
        let cost = cost(&line);
        self.bytes -= cost;
        self.gone += 1;
        cost
    }
}

fn cost(line: &LogLine) -> usize {
    LINE_COST + line.message.len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    fn book() -> LogBook {
        LogBook::new("n1".parse().unwrap())
    }

    fn say(book: &LogBook, graph: &str, level: Level, message: &str) {
        book.append(Entry {
            graph: graph.parse().unwrap(),
            component: Some("app".parse().unwrap()),
            request: Some(format!("r-{message}")),
            level,
            source: LogSource::Stdout,
            message: message.to_owned(),
        });
    }

    fn texts(lines: &[Arc<LogLine>]) -> Vec<&str> {
        lines.iter().map(|line| line.message.as_str()).collect()
    }

    #[tokio::test]
    async fn tails_and_follows_what_is_selected() {
        let (book, graph) = (book(), "g".parse().unwrap());
        assert!(book.tail(&graph, Selection::default(), 0).is_none(), "no such graph");
        book.know(&graph);
        for message in ["one", "two", "three"] {
            say(&book, "g", Level::Info, message);
        }
        say(&book, "other", Level::Error, "elsewhere");
        let (lines, _) = book.tail(&graph, Selection::default(), 2).unwrap();
        assert_eq!(texts(&lines), ["two", "three"]);
        assert_eq!(lines[1].sequence, 3);

        let errors = Selection { least_level: Some(Level::Error), ..Selection::default() };
        let (lines, mut reader) = book.tail(&graph, errors, 0).unwrap();
        assert!(lines.is_empty());
        let one = Selection { request: Some("r-one".to_owned()), ..Selection::default() };
        assert_eq!(texts(&book.tail(&graph, one, 0).unwrap().0), ["one"]);
        let db = Selection { component: Some("db".parse().unwrap()), ..Selection::default() };
        assert!(book.tail(&graph, db, 0).unwrap().0.is_empty());

        let follower = tokio::spawn(async move { reader.next().await });
        say(&book, "g", Level::Info, "four");
        say(&book, "g", Level::Error, "five");
        assert_eq!(texts(&follower.await.unwrap().unwrap()), ["five"]);
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_missed() {
        let (book, graph) = (book(), "g".parse().unwrap());
        book.know(&graph);
        let (_, mut reader) = book.tail(&graph, Selection::default(), 0).unwrap();
        for number in 0..LINES_MAX + 7 {
            say(&book, "g", Level::Info, &number.to_string());
        }
        let lines = reader.next().await.unwrap();
        assert!(lines[0].message.starts_with("7 lines are missing"), "{}", lines[0].message);
        assert_eq!(lines[1].message, "7");
        let mut last = lines.last().unwrap().message.clone();
        while last != (LINES_MAX + 6).to_string() {
            last = reader.next().await.unwrap().last().unwrap().message.clone();
        }
    }

    #[test]
    fn bytes_are_bounded_for_each_and_for_all() {
        let book = book();
        let long = "x".repeat(64 << 10);
        for graph in 0..40 {
            for _ in 0..(2 * BYTES_MAX / long.len()) {
                say(&book, &format!("g{graph}"), Level::Info, &long);
            }
        }
        let book = book.lock();
        assert!(book.rings.values().all(|ring| ring.bytes <= BYTES_MAX && !ring.lines.is_empty()));
        let counted: usize = book.rings.values().flat_map(|ring| &ring.lines).map(|line| cost(line)).sum();
        assert!(book.bytes == counted && counted <= BYTES_ALL_MAX, "{counted} {}", book.bytes);
    }

    #[test]
    fn the_graph_that_was_silent_longest_is_forgotten_first() {
        let book = book();
        for graph in 0..GRAPHS_MAX {
            say(&book, &format!("g{graph}"), Level::Info, "x");
        }
        say(&book, "g0", Level::Info, "again");
        say(&book, "new", Level::Info, "x");
        let known = |name: &str| book.tail(&name.parse().unwrap(), Selection::default(), 0).is_some();
        assert!(known("g0") && known("new") && !known("g1"));
    }
}
