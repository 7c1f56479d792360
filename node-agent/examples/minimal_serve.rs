//! The measure for the ingress: the loop that the documentation of wasmtime-wasi-http shows, and nothing more.
//!
//! `minimal_serve [--agent-settings] COMPONENT [PROVIDER]` serves one component on a free port of loopback and prints
//! the address. With a provider, wac alone composes the two first. The engine has wasmtime's defaults with the pooling
//! allocator, as `wasmtime serve` has; `--agent-settings` turns off and on what changes the code of a call inside a
//! component in the agent's engine: concurrency, epochs, proposals of wasm.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::{TcpListener, TcpStream};
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::error::Context as _;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result, Store, bail};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{RequestOptions, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

/// As the agent's.
const TICK: Duration = Duration::from_millis(10);

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let agent_settings = arguments.first().is_some_and(|argument| argument == "--agent-settings");
    if agent_settings {
        arguments.remove(0);
    }
    let bytes = match &arguments[..] {
        [component] => read(component)?,
        [component, provider] => compose(read(component)?, read(provider)?)?,
        _ => bail!("usage: minimal_serve [--agent-settings] COMPONENT [PROVIDER]"),
    };
    let engine = engine(agent_settings)?;
    let component = Component::new(&engine, bytes)?;
    let mut linker = Linker::new(&engine);
    wasmtime_wasi_http::p2::add_to_linker_async(&mut linker)?;
    let pre = ProxyPre::new(linker.instantiate_pre(&component)?)?;
    let server = Arc::new(Server { pre, epochs: agent_settings });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        tokio::spawn(connection(server.clone(), client));
    }
}

fn read(path: &str) -> Result<Vec<u8>> {
    std::fs::read(Path::new(path)).with_context(|| format!("read {path}"))
}

fn engine(agent_settings: bool) -> Result<Engine> {
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(PoolingAllocationConfig::new()));
    if agent_settings {
        config
            .epoch_interruption(true)
            .wasm_component_model_async(false)
            .concurrency_support(false)
            .wasm_gc(false)
            .wasm_function_references(false)
            .wasm_exceptions(false)
            .wasm_threads(false)
            .wasm_memory64(false)
            .wasm_tail_call(false)
            .wasm_relaxed_simd(false)
            .cranelift_nan_canonicalization(true);
    }
    let engine = Engine::new(&config)?;
    if agent_settings {
        let ticking = engine.clone();
        std::thread::spawn(move || {
            loop {
                ticking.increment_epoch();
                std::thread::sleep(TICK);
            }
        });
    }
    Ok(engine)
}

/// Every import of `socket` that `plug` exports is given by it; the rest stays an import.
fn compose(socket: Vec<u8>, plug: Vec<u8>) -> Result<Vec<u8>> {
    let mut graph = CompositionGraph::new();
    let mut register = |name: &str, bytes: Vec<u8>| -> Result<_> {
        let package = Package::from_bytes(name, None, bytes, graph.types_mut()).map_err(wac)?;
        graph.register_package(package).map_err(wac)
    };
    let (socket, plug) = (register("bench:socket", socket)?, register("bench:plug", plug)?);
    let shared: Vec<String> = {
        let types = graph.types();
        let imports = &types[graph[socket].ty()].imports;
        let exports = &types[graph[plug].ty()].exports;
        imports.keys().filter(|name| exports.contains_key(*name)).cloned().collect()
    };
    let exports: Vec<String> = graph.types()[graph[socket].ty()].exports.keys().cloned().collect();
    let (plug, socket) = (graph.instantiate(plug), graph.instantiate(socket));
    for name in shared {
        let export = graph.alias_instance_export(plug, &name).map_err(wac)?;
        graph.set_instantiation_argument(socket, &name, export).map_err(wac)?;
    }
    for name in exports {
        let export = graph.alias_instance_export(socket, &name).map_err(wac)?;
        graph.export(export, &name).map_err(wac)?;
    }
    graph.encode(EncodeOptions { define_components: true, validate: true, processor: None }).map_err(wac)
}

fn wac(error: impl std::fmt::Display) -> wasmtime::Error {
    wasmtime::format_err!("wac: {error:#}")
}

async fn connection(server: Arc<Server>, client: TcpStream) {
    let service = service_fn(move |request| {
        let server = server.clone();
        async move { server.answer(request).await }
    });
    // A client that goes away is no failure of the measurement; the load generator counts what it got.
    let _ = http1::Builder::new().keep_alive(true).serve_connection(TokioIo::new(client), service).await;
}

struct Server {
    pre: ProxyPre<State>,
    epochs: bool,
}

impl Server {
    async fn answer(
        &self,
        request: hyper::Request<hyper::body::Incoming>,
    ) -> Result<hyper::Response<HyperOutgoingBody>> {
        let state = State {
            wasi: WasiCtx::builder().build(),
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            hooks: NoRequests,
        };
        let mut store = Store::new(self.pre.engine(), state);
        if self.epochs {
            store.set_epoch_deadline(1);
            store.epoch_deadline_async_yield_and_update(1);
        }
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
        let out = store.data_mut().http().new_response_outparam(sender)?;
        let pre = self.pre.clone();
        let task = tokio::spawn(async move {
            let proxy = pre.instantiate_async(&mut store).await?;
            proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
        });
        match receiver.await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                task.await??;
                bail!("the guest set no response")
            }
        }
    }
}

struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    hooks: NoRequests,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

/// The measured guests send none.
struct NoRequests;

type Sent = std::result::Result<
    (
        http::Response<UnsyncBoxBody<bytes::Bytes, wasmtime_wasi_http::Error>>,
        Box<dyn Future<Output = std::result::Result<(), wasmtime_wasi_http::Error>> + Send>,
    ),
    wasmtime_wasi_http::Error,
>;

impl WasiHttpHooks for NoRequests {
    fn send_request(
        &mut self,
        _: http::Request<UnsyncBoxBody<bytes::Bytes, wasmtime_wasi_http::Error>>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = std::result::Result<(), wasmtime_wasi_http::Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(async { Err(wasmtime_wasi_http::Error::HttpRequestDenied) })
    }
}
