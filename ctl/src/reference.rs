//! How people name things on the command line: `[namespace/]graph[/component][@revision]`.

use std::str::FromStr;

use model::id::{CANDIDATE, GraphKey, RevisionNumber};
use model::name::{ComponentName, GraphName, NamespaceName};

/// `[namespace/]graph[@revision]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphReference {
    namespace: Option<NamespaceName>,
    graph: GraphName,
    /// Behind `@`.
    pub revision: Option<RevisionNumber>,
}

/// `graph[/component]`, or `namespace/graph[/component]`.
///
/// Two parts are read as `graph/component`; where there is no such graph, as `namespace/graph`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentReference {
    parts: Vec<String>,
}

/// Why a text names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Too few or too many parts.
    #[error("write {expected}")]
    Form {
        /// The form.
        expected: &'static str,
    },
    /// A part is not a name.
    #[error("`{part}` is not a name: {problem}")]
    Name {
        /// The part.
        part: String,
        /// What is wrong.
        problem: String,
    },
    /// The part behind `@`.
    #[error("a revision is a number, as in `crm@7`")]
    Revision,
    /// What takes over by steps has no commands of its own.
    #[error("what takes over by steps is seen by `ctl rollout status {graph}`: write the graph alone")]
    Candidate {
        /// The graph.
        graph: String,
    },
}

fn name<T>(part: &str) -> Result<T, ReferenceError>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    part.parse()
        .map_err(|error: T::Err| ReferenceError::Name { part: part.to_owned(), problem: error.to_string() })
}

impl FromStr for GraphReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (text, revision) = match text.split_once('@') {
            None => (text, None),
            Some((graph, CANDIDATE)) => return Err(ReferenceError::Candidate { graph: graph.to_owned() }),
            Some((text, number)) => {
                let number: u64 = number.parse().map_err(|_| ReferenceError::Revision)?;
                if number == 0 {
                    return Err(ReferenceError::Revision);
                }
                (text, Some(RevisionNumber(number)))
            }
        };
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            [graph] => Ok(Self { namespace: None, graph: name(graph)?, revision }),
            [namespace, graph] => Ok(Self { namespace: Some(name(namespace)?), graph: name(graph)?, revision }),
            _ => Err(ReferenceError::Form { expected: "`graph` or `namespace/graph`" }),
        }
    }
}

impl GraphReference {
    /// The graph's full name, in the namespace `here` unless the reference names one.
    pub fn key(&self, here: &NamespaceName) -> GraphKey {
        GraphKey::new(self.namespace.clone().unwrap_or_else(|| here.clone()), self.graph.clone())
    }
}

impl FromStr for ComponentReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let parts: Vec<String> = text.split('/').map(str::to_owned).collect();
        let reference = Self { parts };
        if reference.readings(&NamespaceName::default_namespace())?.is_empty() {
            return Err(ReferenceError::Form { expected: "`graph/component` or `namespace/graph/component`" });
        }
        Ok(reference)
    }
}

impl ComponentReference {
    /// What this can mean, the likeliest first; never empty for a reference that was read.
    pub fn readings(
        &self,
        here: &NamespaceName,
    ) -> Result<Vec<(GraphKey, Option<ComponentName>)>, ReferenceError> {
        let parts: Vec<&str> = self.parts.iter().map(String::as_str).collect();
        match parts[..] {
            [graph] => Ok(vec![(GraphKey::new(here.clone(), name(graph)?), None)]),
            [first, second] => {
                let mut readings = Vec::new();
                // Names that Weft makes (`app--pii-firewall`) name components too.
                let component = ComponentName::try_from(second.to_owned());
                if let Ok(component) = component {
                    readings.push((GraphKey::new(here.clone(), name(first)?), Some(component)));
                }
                if let Ok(graph) = second.parse() {
                    readings.push((GraphKey::new(name(first)?, graph), None));
                }
                Ok(readings)
            }
            [namespace, graph, component] => {
                let component = ComponentName::try_from(component.to_owned()).map_err(|error| {
                    ReferenceError::Name { part: component.to_owned(), problem: error.to_string() }
                })?;
                Ok(vec![(GraphKey::new(name(namespace)?, name(graph)?), Some(component))])
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// A graph as people would type it: without the namespace if that is the default one.
pub fn short(key: &GraphKey) -> String {
    let full = key.to_string();
    if key.namespace != NamespaceName::default_namespace() {
        return full;
    }
    full.split_once('/').map_or(full.clone(), |(_, name)| name.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn graphs_are_named_with_and_without_namespace_and_revision() {
        let here: NamespaceName = "sales".parse().unwrap();
        let read = |text: &str| text.parse::<GraphReference>().map(|r| (r.key(&here).to_string(), r.revision));
        assert_eq!(read("crm").unwrap(), ("sales/crm".to_owned(), None));
        assert_eq!(read("hr/pay@7").unwrap(), ("hr/pay".to_owned(), Some(RevisionNumber(7))));
        for wrong in ["", "a/b/c", "crm@", "crm@x", "crm@0", "Crm", "a b"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        let candidate = read("hr/pay@candidate").unwrap_err().to_string();
        assert!(candidate.contains("`ctl rollout status hr/pay`"), "{candidate}");
    }

    #[test]
    fn a_short_name_leaves_out_the_default_namespace_alone() {
        for (full, expected) in [("default/crm", "crm"), ("sales/crm", "sales/crm")] {
            let key: GraphKey = full.parse().unwrap();
            assert_eq!(short(&key), expected);
            assert_eq!(short(&key.candidate()), format!("{expected}@candidate"));
        }
    }

    #[test]
    fn two_parts_are_a_component_first_and_a_graph_then() {
        let here: NamespaceName = "sales".parse().unwrap();
        let read = |text: &str| -> Vec<String> {
            let readings = text.parse::<ComponentReference>().unwrap().readings(&here).unwrap();
            readings.into_iter().map(|(key, part)| format!("{key} {part:?}")).collect()
        };
        assert_eq!(read("crm"), ["sales/crm None"]);
        assert_eq!(read("crm/app").len(), 2);
        assert!(read("crm/app")[0].starts_with("sales/crm Some"));
        assert!(read("crm/app")[1].starts_with("crm/app None"));
        assert_eq!(read("crm/app--pii").len(), 1);
        assert_eq!(read("hr/pay/app").len(), 1);
        for wrong in ["", "a/b/c/d", "A", "a/B/c"] {
            assert!(wrong.parse::<ComponentReference>().is_err(), "{wrong:?}");
        }
    }
}
