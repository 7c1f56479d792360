//! Gives a fused component exactly the imports it has, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::graph::Settings;
use model::interface::InterfaceName;
use model::link::GraphVersion;
use model::log::LogSource;
use model::name::ComponentName;
use wasmtime::component::types::{self, ComponentItem};
use wasmtime::component::{Component, HasData, InstancePre, Linker, Resource, ResourceTable};
use wasmtime::{Engine, StoreContextMut};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::DynOutputStream;
use wasmtime_wasi::p2::bindings as wasi;
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi_http::p2::bindings as wasi_http;
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{RequestOptions, WasiHttp, WasiHttpView as _};

use crate::host::capabilities::sqlite::Database;
use crate::host::capabilities::{config, logging, sqlite, variables};
use crate::host::fuse::{Behind, Slot};
use crate::host::http_link;
use crate::host::remote::{self, Remotes};
use crate::host::state::State;
use crate::host::stdio::LineStream;
use crate::http_road::HttpRoad;
use crate::link::encoding::{HostResources, LinkResources};
use crate::link::session::Remote;

/// What the slots of a slice are filled with.
pub(crate) struct Offers<'a> {
    /// The settings of each component of the graph.
    pub(crate) settings: &'a BTreeMap<ComponentName, Arc<Settings>>,
    /// The databases of the graph, by capability.
    pub(crate) databases: &'a BTreeMap<ComponentName, Arc<Database>>,
    /// Which graph it is.
    pub(crate) version: &'a GraphVersion,
    /// The way to HTTP handlers on other nodes.
    pub(crate) road: &'a Arc<HttpRoad>,
}

/// Why a component cannot be linked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The node offers nothing of this name.
    #[error("this node offers no `{name}`, which {importer} imports")]
    Unknown {
        /// The import.
        name: String,
        /// Who has it.
        importer: String,
    },
    /// A capability is linked to an interface that it does not offer.
    #[error("capability `{capability}` does not offer `{interface}`, which component `{component}` imports")]
    Capability {
        /// The capability.
        capability: ComponentName,
        /// The import.
        interface: InterfaceName,
        /// Who has it.
        component: ComponentName,
    },
    /// The node's functions do not fit the import's types.
    #[error("the node's host does not fit the imports of `{component}`: {message}")]
    Mismatch {
        /// The slice's root.
        component: ComponentName,
        /// What wasmtime says.
        message: String,
    },
}

/// Links `component`, the fused slice of `root`; says whom it calls on other nodes.
pub(crate) fn link(
    engine: &Engine,
    root: &ComponentName,
    component: &Component,
    slots: &BTreeMap<String, Slot>,
    offers: &Offers<'_>,
) -> Result<(InstancePre<State>, Vec<Remote>), LinkError> {
    let wrong =
        |error: wasmtime::Error| LinkError::Mismatch { component: root.clone(), message: format!("{error:#}") };
    let mut linker = Linker::new(engine);
    let mut shared = Vec::new();
    let mut remotes = Remotes::default();
    let ty = component.component_type();
    let resources = resources(engine, &ty, slots);
    for (name, item) in ty.imports(engine) {
        match slots.get(name) {
            Some(slot) => match (&slot.behind, &item.ty) {
                (Behind::Remote(there), _) if slot.interface.is_http_handler() => {
                    http_link::offer(&mut linker, name, slot, there, offers.version, offers.road)
                        .map_err(wrong)?;
                }
                (Behind::Remote(there), ComponentItem::ComponentInstance(instance)) => {
                    remote::offer(engine, &mut linker, name, (instance, &resources), slot, there, &mut remotes)
                        .map_err(wrong)?;
                }
                _ => fill(&mut linker, name, slot, offers)?,
            },
            None => {
                let unknown = || LinkError::Unknown {
                    name: name.to_owned(),
                    importer: format!("the slice of component `{root}`"),
                };
                let path = name.parse::<InterfaceName>().map_err(|_| unknown())?.path();
                if shared.contains(&path) {
                    continue;
                }
                if offer_shared(&mut linker, &path).map_err(wrong)? {
                    shared.push(path);
                } else if !is_types_only(engine, &item.ty) {
                    return Err(unknown());
                }
            }
        }
    }
    Ok((linker.instantiate_pre(component).map_err(wrong)?, remotes.into_list()))
}

/// Whether an import has types alone, which need nobody to offer them.
fn is_types_only(engine: &Engine, import: &ComponentItem) -> bool {
    let ComponentItem::ComponentInstance(instance) = import else { return false };
    instance.exports(engine).all(|(_, item)| matches!(item.ty, ComponentItem::Type(_)))
}

/// What crosses the links of a slice to providers on other nodes. Requests to HTTP handlers are carried as that.
fn resources(engine: &Engine, ty: &types::Component, slots: &BTreeMap<String, Slot>) -> LinkResources {
    let carried = ty.imports(engine).filter_map(|(name, item)| {
        let slot = slots.get(name)?;
        match item.ty {
            ComponentItem::ComponentInstance(instance)
                if matches!(slot.behind, Behind::Remote(_)) && !slot.interface.is_http_handler() =>
            {
                Some((&slot.interface, instance))
            }
            _ => None,
        }
    });
    let carried: Vec<_> = carried.collect();
    let instances = carried.iter().map(|(interface, instance)| (*interface, instance));
    LinkResources::of(engine, instances, HostResources::of(engine, ty))
}

/// Fills one slot: an import that belongs to one component.
fn fill(linker: &mut Linker<State>, name: &str, slot: &Slot, offers: &Offers<'_>) -> Result<(), LinkError> {
    let wrong = |error: wasmtime::Error| LinkError::Mismatch {
        component: slot.component.clone(),
        message: format!("{error:#}"),
    };
    if let Behind::Capability(capability) = &slot.behind {
        let database = offers.databases.get(capability);
        return match (slot.interface.path().as_str(), database) {
            ("fermyon:spin/sqlite", Some(database)) => {
                sqlite::offer(linker, name, database.clone()).map_err(wrong)
            }
            _ => Err(LinkError::Capability {
                capability: capability.clone(),
                interface: slot.interface.clone(),
                component: slot.component.clone(),
            }),
        };
    }
    let unknown = || LinkError::Unknown {
        name: slot.interface.to_string(),
        importer: format!("component `{}`", slot.component),
    };
    let settings = offers.settings.get(&slot.component).cloned().ok_or_else(unknown)?;
    let component = &slot.component;
    let offered = match slot.interface.path().as_str() {
        "wasi:config/store" => config::offer(linker, name, settings),
        "fermyon:spin/variables" => variables::offer(linker, name, settings),
        "wasi:logging/logging" => logging::offer(linker, name, component.clone()),
        "wasi:cli/stdout" => offer_stream(linker, name, "get-stdout", component, LogSource::Stdout),
        "wasi:cli/stderr" => offer_stream(linker, name, "get-stderr", component, LogSource::Stderr),
        "wasi:http/outgoing-handler" => offer_outgoing(linker, name, settings),
        _ => return Err(unknown()),
    };
    offered.map_err(wrong)
}

fn offer_stream(
    linker: &mut Linker<State>,
    name: &str,
    function: &str,
    component: &ComponentName,
    source: LogSource,
) -> wasmtime::Result<()> {
    let component = component.clone();
    linker.instance(name)?.func_wrap(function, move |mut store: StoreContextMut<'_, State>, (): ()| {
        let state = store.data_mut();
        let call = &state.call;
        let stream = LineStream::new(call.log.clone(), component.clone(), call.request.clone(), source);
        let stream: DynOutputStream = Box::new(stream);
        Ok((state.table.push(stream)?,))
    })
}

/// The component's own egress list is in force during its own call, so that slices need not agree on one.
fn offer_outgoing(linker: &mut Linker<State>, name: &str, settings: Arc<Settings>) -> wasmtime::Result<()> {
    use wasi_http::http::outgoing_handler::Host as _;
    use wasi_http::http::types::ErrorCode;
    type Answer = Result<Resource<HostFutureIncomingResponse>, ErrorCode>;
    type Question = (Resource<HostOutgoingRequest>, Option<Resource<RequestOptions>>);
    linker.instance(name)?.func_wrap(
        "handle",
        move |mut store: StoreContextMut<'_, State>, (request, options): Question| {
            let state = store.data_mut();
            state.egress.allow(settings.clone(), state.call.trace.clone());
            let answer: Answer = match state.http().handle(request, options) {
                Ok(future) => Ok(future),
                Err(error) => Err(error.downcast()?),
            };
            Ok((answer,))
        },
    )
}

/// wasi:io works on the table alone.
struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

/// Interfaces that are the same for all components; `false` if `path` is none of them.
fn offer_shared(l: &mut Linker<State>, path: &str) -> wasmtime::Result<bool> {
    let table: fn(&mut State) -> &mut ResourceTable = |state| &mut state.table;
    match path {
        "wasi:io/error" => wasi::io::error::add_to_linker::<State, Io>(l, table)?,
        "wasi:io/poll" => wasi::io::poll::add_to_linker::<State, Io>(l, table)?,
        "wasi:io/streams" => wasi::io::streams::add_to_linker::<State, Io>(l, table)?,
        "wasi:clocks/wall-clock" => {
            wasi::clocks::wall_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
        }
        "wasi:clocks/monotonic-clock" => {
            wasi::clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
        }
        "wasi:random/random" => {
            wasi::random::random::add_to_linker::<State, WasiRandom>(l, |s| s.ctx().ctx.random())?;
        }
        "wasi:random/insecure" => {
            wasi::random::insecure::add_to_linker::<State, WasiRandom>(l, |s| s.ctx().ctx.random())?;
        }
        "wasi:random/insecure-seed" => {
            wasi::random::insecure_seed::add_to_linker::<State, WasiRandom>(l, |s| s.ctx().ctx.random())?;
        }
        "wasi:cli/environment" => {
            wasi::cli::environment::add_to_linker::<State, WasiCli>(l, State::cli)?;
        }
        "wasi:cli/exit" => wasi::cli::exit::add_to_linker::<State, WasiCli>(l, State::cli)?,
        "wasi:cli/stdin" => wasi::cli::stdin::add_to_linker::<State, WasiCli>(l, State::cli)?,
        "wasi:cli/terminal-input" => {
            wasi::cli::terminal_input::add_to_linker::<State, WasiCli>(l, State::cli)?;
        }
        "wasi:cli/terminal-output" => {
            wasi::cli::terminal_output::add_to_linker::<State, WasiCli>(l, State::cli)?;
        }
        "wasi:cli/terminal-stdin" => {
            wasi::cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
        }
        "wasi:cli/terminal-stdout" => {
            wasi::cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
        }
        "wasi:cli/terminal-stderr" => {
            wasi::cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
        }
        "wasi:filesystem/preopens" => {
            wasi::filesystem::preopens::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
        }
        "wasi:filesystem/types" => {
            wasi::filesystem::types::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
        }
        "wasi:http/types" => {
            let options = wasi_http::http::types::LinkOptions::default();
            wasi_http::http::types::add_to_linker::<State, WasiHttp>(l, &options, State::http)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}
