//! From what people write to what there is: which graph and component a reference means.

use model::id::GraphKey;
use model::name::{ComponentName, NamespaceName};
use proto::weft::graph::v1 as wire;

use crate::client::{CallError, Client};
use crate::failure::Failure;
use crate::reference::{ComponentReference, ReferenceError, short};

/// A graph, and perhaps one of its components, that a reference means.
#[derive(Debug, Clone)]
pub struct Found {
    /// The graph.
    pub key: GraphKey,
    /// The component, if the reference names one.
    pub component: Option<ComponentName>,
    /// The graph as it is now.
    pub graph: wire::GetResponse,
}

impl From<ReferenceError> for Failure {
    fn from(error: ReferenceError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Asks for a graph, at its current revision (0) or an earlier one.
pub async fn graph(client: &Client, key: &GraphKey, revision: u64) -> Result<wire::GetResponse, CallError> {
    let call = |services: crate::client::Services| {
        let request = wire::GetRequest { graph: key.to_string(), revision };
        async move { services.graphs().get(request).await }
    };
    client.read(call).await
}

/// Finds what `reference` means: each of its readings is tried, the likeliest first.
pub async fn component(
    client: &Client,
    here: &NamespaceName,
    reference: &ComponentReference,
) -> Result<Found, Failure> {
    let mut first_miss = None;
    for (key, component) in reference.readings(here)? {
        let graph = match graph(client, &key, 0).await {
            Ok(graph) => graph,
            Err(error) if error.is_not_found() => {
                first_miss.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(component) = &component {
            check_component(&key, component, &graph)?;
        }
        return Ok(Found { key, component, graph });
    }
    Err(match first_miss {
        Some(error) => error.into(),
        None => Failure::Usage("a reference is written `graph/component`".to_owned()),
    })
}

/// Refuses a component that a graph does not have, naming the nearest one.
fn check_component(
    key: &GraphKey,
    component: &ComponentName,
    graph: &wire::GetResponse,
) -> Result<(), Failure> {
    let components = graph.linked.as_ref().map(|linked| linked.components.as_slice()).unwrap_or_default();
    let names: Vec<&str> = components.iter().map(|component| component.name.as_str()).collect();
    if names.contains(&component.as_str()) {
        return Ok(());
    }
    let message = format!("graph {key} has no component `{component}`");
    let help = match ::graph::diagnostic::nearest(component.as_str(), names.iter().copied()) {
        Some(near) => format!("did you mean `{}/{near}`?", short(key)),
        None => format!("it has {}", names.join(", ")),
    };
    Err(Failure::Refused {
        reason: Some("unknown_component".to_owned()),
        message,
        help: Some(help),
        next: None,
    })
}
