//! `ctl graph`: a graph as linked, drawn.

use std::path::Path;

use clap::{Args, ValueEnum};
use model::id::GraphKey;
use model::linked::LinkedGraph;
use model::placement::Placement;
use proto::convert::required;
use proto::weft::graph::v1 as wire;

use crate::cli::Format;
use crate::client::CallError;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lookup;
use crate::manifest::Document;
use crate::offline;
use crate::reference::{GraphReference, short};
use crate::render::linked::{dot, mermaid, tree};
use crate::session::Session;

/// Arguments of `graph`.
#[derive(Debug, Args)]
pub struct GraphArguments {
    /// A deployed graph, `[namespace/]graph`, or the file of a manifest, which is linked without policies.
    #[arg(value_name = "GRAPH|FILE")]
    pub graph: String,
    /// How it is drawn.
    #[arg(long = "format", value_enum, default_value = "tree")]
    pub drawing: Drawing,
}

/// How a graph is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Drawing {
    /// For the terminal.
    Tree,
    /// For Graphviz.
    Dot,
    /// For Markdown.
    Mermaid,
}

/// A graph, and where it is placed if it is.
type Drawn = (GraphKey, LinkedGraph, Option<Placement>);

/// Draws.
pub async fn run(arguments: GraphArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let (key, linked, placed) = if is_file(&arguments.graph) {
        from_file(Path::new(&arguments.graph), session)?
    } else {
        deployed(&arguments.graph, session).await?
    };
    match (session.format, arguments.drawing) {
        (Format::Json | Format::Yaml, _) => session.write_message(&wire::LinkedGraph::from(linked))?,
        (Format::Name, _) => session.terminal.data_line(&short(&key))?,
        (_, Drawing::Tree) => {
            let is_wide = session.format == Format::Wide;
            session.terminal.data(&tree(&key, &linked, placed.as_ref(), is_wide))?;
        }
        (_, Drawing::Dot) => session.terminal.data(&dot(&key, &linked))?,
        (_, Drawing::Mermaid) => session.terminal.data(&mermaid(&linked))?,
    }
    Ok(Exit::Done)
}

/// Names of graphs have no dot, so what has one is a file.
fn is_file(text: &str) -> bool {
    text.contains('.')
}

fn from_file(path: &Path, session: &Session<'_>) -> Result<Drawn, Failure> {
    let color = session.terminal.look().color;
    let document = Document::read(path)?;
    let manifest = document.graph(color)?;
    let linked =
        offline::link_graph(&document, &manifest, &[]).map_err(|found| document.refuse(&found, color))?;
    Ok((manifest.key().clone(), linked.graph, None))
}

async fn deployed(text: &str, session: &Session<'_>) -> Result<Drawn, Failure> {
    let reference: GraphReference = text.parse()?;
    if reference.revision.is_some() {
        let message = "only the current revision is linked: write the graph alone, or see `ctl diff`";
        return Err(Failure::Usage(message.to_owned()));
    }
    let key = reference.key(&session.namespace);
    let answer = lookup::graph(&session.client, &key, 0).await?;
    let linked = required("linked", answer.linked).map_err(CallError::Answer)?;
    let placed = answer.status.and_then(|status| status.placement).map(Placement::try_from).transpose();
    let placed = placed.map_err(CallError::Answer)?;
    Ok((key, LinkedGraph::try_from(linked).map_err(CallError::Answer)?, placed))
}
