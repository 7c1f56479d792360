//! The functions of the interfaces that a component imports or exports, as a link needs them.

use std::sync::Arc;

use model::interface::InterfaceName;
use wasmtime::Engine;
use wasmtime::component::types::{ComponentInstance, ComponentItem};

use crate::link::encoding::{LinkResources, Signature};

/// One interface.
#[derive(Debug, Clone)]
pub(crate) struct LinkInterface {
    /// The names of the resources that it defines or `use`s of its provider, with the index that signatures know them by.
    pub(crate) resources: Vec<(String, usize)>,
    /// Its functions by their WIT names; what cannot be carried has the reason.
    pub(crate) functions: Vec<(String, Result<Arc<Signature>, String>)>,
}

impl LinkInterface {
    /// Reads the type of an imported or exported instance of a component with these resources, by one of the ways to name
    /// them.
    pub(crate) fn of(
        engine: &Engine,
        (interface, instance): (&InterfaceName, &ComponentInstance),
        resources: &LinkResources,
        owner: usize,
    ) -> Self {
        let found = resources.seen_by(engine, (interface, instance), owner);
        let resources = found.names().map(|(name, index)| (name.to_owned(), index)).collect();
        let functions = instance.exports(engine).filter_map(|(name, item)| match item.ty {
            ComponentItem::ComponentFunc(function) => {
                let signature = Signature::of(&function, &found);
                Some((name.to_owned(), signature.map(Arc::new).map_err(|error| error.to_string())))
            }
            _ => None,
        });
        Self { resources, functions: functions.collect() }
    }
}
