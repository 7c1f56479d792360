//! What one run has at hand: where to write, whom to ask, and how the answer is to look.

use std::time::Duration;

use model::name::NamespaceName;
use prost::{Message, Name};
use serde::Serialize;

use crate::cli::{Format, GlobalFlags};
use crate::client::Client;
use crate::failure::Failure;
use crate::render;
use crate::terminal::Terminal;

/// One run of `ctl`.
pub struct Session<'a> {
    /// Where to write, and whom to ask at the keyboard.
    pub terminal: Terminal<'a>,
    /// The control plane.
    pub client: Client,
    /// The namespace of names that carry none.
    pub namespace: NamespaceName,
    /// How data is written.
    pub format: Format,
    /// `--deadline`: how long the command may take; each command that waits has its own where this is left out.
    pub deadline: Option<Duration>,
}

impl<'a> Session<'a> {
    /// A session as the flags say.
    pub fn new(terminal: Terminal<'a>, flags: &GlobalFlags) -> Self {
        Self {
            terminal,
            client: Client::new(flags.address.clone(), flags.credentials.clone(), flags.deadline),
            namespace: flags.namespace.clone().unwrap_or_else(NamespaceName::default_namespace),
            format: flags.format(),
            deadline: flags.deadline,
        }
    }

    /// Writes a message of the API: as YAML if that was asked for, as JSON otherwise.
    pub fn write_message<M: Message + Name>(&mut self, message: &M) -> Result<(), Failure> {
        self.write_value(&render::message::shown(message)?)
    }

    /// Writes a value: as YAML if that was asked for, as JSON otherwise.
    pub fn write_value(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = match self.format {
            Format::Yaml => render::message::yaml(value)?,
            _ => render::message::json(value)?,
        };
        Ok(self.terminal.data(&text)?)
    }

    /// Writes a message as one of a stream: one JSON object a line, or one YAML document.
    pub fn write_item<M: Message + Name>(&mut self, message: &M) -> Result<(), Failure> {
        let shown = render::message::shown(message)?;
        let text = match self.format {
            Format::Yaml => format!("---\n{}", render::message::yaml(&shown)?),
            _ => render::message::json_line(&shown)?,
        };
        Ok(self.terminal.data(&text)?)
    }

    /// Writes a table, or a note for people if it has no rows.
    pub fn write_table(&mut self, table: &render::table::Table, if_empty: &str) -> Result<(), Failure> {
        if table.is_empty() {
            return Ok(self.terminal.note(if_empty)?);
        }
        let text = table.render(self.terminal.look().width);
        Ok(self.terminal.data(&text)?)
    }
}
