//! `wasi:config/store`: the component's `config`, read-only.

use std::sync::Arc;

use model::graph::Settings;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::host::state::State;

/// Never made: the values are in memory.
#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

type Got<T> = wasmtime::Result<(Result<T, Error>,)>;

/// Defines the interface under `name`.
pub(crate) fn offer(linker: &mut Linker<State>, name: &str, settings: Arc<Settings>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(name)?;
    let all = settings.clone();
    interface.func_wrap(
        "get",
        move |_: StoreContextMut<'_, State>, (key,): (String,)| -> Got<Option<String>> {
            Ok((Ok(settings.config.get(&key).cloned()),))
        },
    )?;
    interface.func_wrap("get-all", move |_: StoreContextMut<'_, State>, (): ()| -> Got<Vec<(String, String)>> {
        Ok((Ok(all.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect()),))
    })
}
