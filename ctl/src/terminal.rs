//! The two output streams and how they look: data on stdout; progress, notes and errors on stderr.

use std::io::{self, BufRead, Write};

/// How output looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether colours may be used.
    pub color: bool,
    /// Whether a person watches stderr: progress is a spinner then, and lines carry no time.
    pub is_watched: bool,
    /// Whether a person can be asked.
    pub can_ask: bool,
    /// Columns of the terminal; `None` does not cut.
    pub width: Option<u16>,
    /// Leave out progress and notes.
    pub quiet: bool,
}

impl Look {
    /// What a pipe gets.
    pub const fn plain() -> Self {
        Self { color: false, is_watched: false, can_ask: false, width: None, quiet: false }
    }
}

/// Where a command reads and writes.
pub struct Terminal<'a> {
    stdin: &'a mut dyn BufRead,
    stdout: &'a mut dyn Write,
    stderr: &'a mut dyn Write,
    look: Look,
}

impl<'a> Terminal<'a> {
    /// A terminal of three streams.
    pub fn new(
        stdin: &'a mut dyn BufRead,
        stdout: &'a mut dyn Write,
        stderr: &'a mut dyn Write,
        look: Look,
    ) -> Self {
        Self { stdin, stdout, stderr, look }
    }

    /// How output looks.
    pub const fn look(&self) -> Look {
        self.look
    }

    /// Writes data, and makes it seen at once: readers of a followed log do not wait for a full buffer.
    pub fn data(&mut self, text: &str) -> io::Result<()> {
        self.stdout.write_all(text.as_bytes())?;
        self.stdout.flush()
    }

    /// Writes a line of data.
    pub fn data_line(&mut self, line: &str) -> io::Result<()> {
        self.data(&format!("{line}\n"))
    }

    /// Writes a note for people, unless they asked for quiet.
    pub fn note(&mut self, line: &str) -> io::Result<()> {
        if self.look.quiet { Ok(()) } else { writeln!(self.stderr, "{line}") }
    }

    /// Writes a warning.
    pub fn warning(&mut self, line: &str) -> io::Result<()> {
        let word = self.painted("33", "warning");
        writeln!(self.stderr, "{word}: {line}")
    }

    /// Writes a step of something that takes time; with the time of day where nobody watches.
    pub fn progress(&mut self, line: &str) -> io::Result<()> {
        if self.look.quiet {
            return Ok(());
        }
        if self.look.is_watched {
            return writeln!(self.stderr, "{line}");
        }
        let now = crate::clock::now_ms();
        writeln!(self.stderr, "{} {line}", crate::render::time::stamp(now))
    }

    /// Writes an error's first line.
    pub fn error(&mut self, reason: Option<&str>, message: &str) -> io::Result<()> {
        let word = match reason {
            Some(reason) => self.painted("31", &format!("error[{reason}]")),
            None => self.painted("31", "error"),
        };
        writeln!(self.stderr, "{word}: {message}")
    }

    /// Writes text as it is to stderr.
    pub fn error_text(&mut self, text: &str) -> io::Result<()> {
        self.stderr.write_all(text.as_bytes())
    }

    /// Asks, and reads the answer's line.
    pub fn ask(&mut self, question: &str) -> io::Result<String> {
        write!(self.stderr, "{question} ")?;
        self.stderr.flush()?;
        let mut answer = String::new();
        self.stdin.read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    }

    fn painted(&self, color: &str, word: &str) -> String {
        if self.look.color { format!("\u{1b}[1;{color}m{word}\u{1b}[0m") } else { word.to_owned() }
    }
}
