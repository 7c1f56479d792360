//! What the host and its guests say of one graph, cut to a bounded length, into the agent's log.

use model::id::GraphKey;
use model::log::{Level, LogSource};
use model::name::ComponentName;

use crate::logs::{Entry, LogBook};

/// The longest line; the rest is cut.
pub const LINE_MAX_BYTES: usize = 8 << 10;

/// The voice of one graph.
#[derive(Debug, Clone)]
pub(crate) struct GraphLog {
    book: LogBook,
    graph: GraphKey,
}

impl GraphLog {
    pub(crate) fn new(book: LogBook, graph: GraphKey) -> Self {
        Self { book, graph }
    }

    /// The graph whose voice it is.
    pub(crate) fn graph(&self) -> &GraphKey {
        &self.graph
    }

    /// A line of a guest.
    pub(crate) fn guest(
        &self,
        component: &ComponentName,
        request: &str,
        level: Level,
        source: LogSource,
        line: &str,
    ) {
        self.say(Some(component), Some(request), level, source, line.trim_end_matches(['\n', '\r']));
    }

    /// A line of the agent about this graph.
    pub(crate) fn agent(
        &self,
        component: Option<&ComponentName>,
        request: Option<&str>,
        level: Level,
        message: &str,
    ) {
        self.say(component, request, level, LogSource::Agent, message);
    }

    fn say(
        &self,
        component: Option<&ComponentName>,
        request: Option<&str>,
        level: Level,
        source: LogSource,
        message: &str,
    ) {
        let end = message.floor_char_boundary(LINE_MAX_BYTES);
        self.book.append(Entry {
            graph: self.graph.clone(),
            component: component.cloned(),
            request: request.map(str::to_owned),
            level,
            source,
            message: message[..end].to_owned(),
        });
    }
}
