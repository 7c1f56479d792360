//! `fermyon:spin/variables`: the component's `variables`, read-only.

use std::sync::Arc;

use model::graph::Settings;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::host::state::State;

#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "invalid-name")]
    InvalidName(String),
    #[component(name = "undefined")]
    Undefined(String),
    #[component(name = "provider")]
    Provider(String),
    #[component(name = "other")]
    Other(String),
}

/// Defines the interface under `name`.
pub(crate) fn offer(linker: &mut Linker<State>, name: &str, settings: Arc<Settings>) -> wasmtime::Result<()> {
    linker.instance(name)?.func_wrap(
        "get",
        move |_: StoreContextMut<'_, State>, (key,): (String,)| -> wasmtime::Result<(Result<String, Error>,)> {
            let value = match settings.variables.get(&key) {
                Some(value) => Ok(value.clone()),
                None if is_name(&key) => Err(Error::Undefined(format!("no variable `{key}`"))),
                None => Err(Error::InvalidName(
                    "a variable's name has lower-case letters, digits and `_`".to_owned(),
                )),
            };
            Ok((value,))
        },
    )
}

fn is_name(key: &str) -> bool {
    key.starts_with(|first: char| first.is_ascii_lowercase())
        && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}
