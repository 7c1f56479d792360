//! `wasi:logging`: lines with a level, into the graph's log.

use model::log::{Level, LogSource};
use model::name::ComponentName;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::host::state::State;

#[derive(Debug, Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "made by lifting a guest's value")]
enum GuestLevel {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

/// Defines the interface under `name`.
pub(crate) fn offer(linker: &mut Linker<State>, name: &str, component: ComponentName) -> wasmtime::Result<()> {
    linker.instance(name)?.func_wrap(
        "log",
        move |store: StoreContextMut<'_, State>, (level, context, message): (GuestLevel, String, String)| {
            let call = &store.data().call;
            let message = if context.is_empty() { message } else { format!("{context}: {message}") };
            call.log.guest(&component, &call.request, level.into(), LogSource::Logging, &message);
            Ok(())
        },
    )
}

impl From<GuestLevel> for Level {
    fn from(level: GuestLevel) -> Self {
        match level {
            GuestLevel::Trace => Self::Trace,
            GuestLevel::Debug => Self::Debug,
            GuestLevel::Info => Self::Info,
            GuestLevel::Warn => Self::Warn,
            GuestLevel::Error | GuestLevel::Critical => Self::Error,
        }
    }
}
