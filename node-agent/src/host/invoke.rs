//! One function of one component, called from outside with values written as WAVE.

use std::sync::Arc;
use std::time::Instant;

use model::interface::{InterfaceName, InterfacePattern};
use model::log::Level;
use model::name::ComponentName;
use model::report::Failure;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::wasm_wave::untyped::UntypedFuncCall;
use wasmtime::component::{ComponentExportIndex, Type, Val};

use crate::host::instance::{CallError, Prepared, until};
use crate::host::running::Running;
use crate::host::state::Call;
use crate::lease::{ISOLATED, Isolated};
use crate::traces::Trace;

/// The longest text of arguments.
const ARGUMENTS_MAX_BYTES: usize = 1 << 20;
/// The deepest nesting of a type that is looked into; WIT types are finite, and this bounds the look.
const TYPE_DEPTH_MAX: usize = 100;

/// Why a call from outside has no result.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// The graph has no such component.
    #[error("the graph has no component `{component}`; it has {known}")]
    NoComponent {
        /// What was asked for.
        component: ComponentName,
        /// What there is.
        known: String,
    },
    /// The component exports no such interface.
    #[error("component `{component}` exports no `{interface}`; it exports {known}")]
    NoInterface {
        /// The component.
        component: ComponentName,
        /// What was asked for.
        interface: String,
        /// What there is.
        known: String,
    },
    /// The interface has no such function.
    #[error("`{interface}` has no function `{function}`; it has {known}")]
    NoFunction {
        /// The interface.
        interface: String,
        /// What was asked for.
        function: String,
        /// What there is.
        known: String,
    },
    /// The function cannot be called with text.
    #[error("`{function}` cannot be called from outside: its {place} has {kind}, which has no text form")]
    NotText {
        /// The function.
        function: String,
        /// `parameter x` or `result`.
        place: String,
        /// What stands in the way.
        kind: &'static str,
    },
    /// The arguments are not what the function takes.
    #[error("the arguments do not fit `{signature}`: {message}")]
    Arguments {
        /// What it takes.
        signature: String,
        /// What is wrong.
        message: String,
    },
    /// The component does not run as a root of its own.
    #[error("component `{component}` cannot be called: {failure}")]
    Prepare {
        /// The component.
        component: ComponentName,
        /// Why.
        failure: Failure,
    },
    /// The node is cut off, and the graph stops then.
    #[error("{ISOLATED}")]
    Isolated,
    /// The node is full.
    #[error("this node has no room for the call; try again")]
    Busy,
    /// The call took too long.
    #[error("the call did not end within its deadline (request {request})")]
    Deadline {
        /// Found in the log.
        request: String,
    },
    /// The component trapped.
    #[error("the component failed (request {request})")]
    Failed {
        /// Found in the log.
        request: String,
    },
}

impl Running {
    /// Calls `function` of `interface` (a name, its version may be left out) of `component`. `arguments` are WAVE
    /// values in parentheses, `("Ada", 3)`; the result is WAVE, or empty.
    pub async fn invoke(
        &self,
        component: &ComponentName,
        interface: &str,
        function: &str,
        arguments: &str,
    ) -> Result<String, InvokeError> {
        let _pass = self.traffic.enter();
        if !self.may_serve() {
            return Err(InvokeError::Isolated);
        }
        let prepared = self.entry(component).await?;
        let found = find(&prepared, interface, function)?;
        let arguments = parse(&found, function, arguments)?;
        let id = self.host.request_id();
        let _under_way = prepared.begin();
        let Some(_room) = self.host.room(&prepared, prepared.deadline, None).await else {
            return Err(InvokeError::Busy);
        };
        if !self.may_serve() {
            return Err(InvokeError::Isolated);
        }
        let deadline = Instant::now() + prepared.deadline;
        let trace = Trace::default();
        let call = Call { request: id.clone(), log: self.log.clone(), deadline, trace };
        let called = tokio::select! {
            // The lease first: one that is over counts more than a result that came meanwhile.
            biased;
            () = self.isolated() => Err(CallError::Trap(Isolated.into())),
            called = call_function(&prepared, call, &found, &arguments) => called,
        };
        // It may have ended while the guest had the thread.
        match called
            .and_then(|text| if self.may_serve() { Ok(text) } else { Err(CallError::Trap(Isolated.into())) })
        {
            Ok(text) => Ok(text),
            Err(error) => {
                let (message, error) = match error {
                    CallError::Deadline => (
                        "the invocation's deadline passed".to_owned(),
                        InvokeError::Deadline { request: id.to_string() },
                    ),
                    CallError::Trap(trap) => (
                        format!("the invocation trapped: {trap:?}"),
                        InvokeError::Failed { request: id.to_string() },
                    ),
                };
                self.log.agent(Some(component), Some(&id), Level::Error, &message);
                Err(error)
            }
        }
    }

    /// The slice of `component`, made now if no route needed it.
    pub(crate) async fn entry(&self, component: &ComponentName) -> Result<Arc<Prepared>, InvokeError> {
        if let Some(prepared) = self.entries.get(component) {
            return Ok(prepared.clone());
        }
        let components = &self.plan.linked().components;
        if !components.contains_key(component) {
            let known = list(components.keys());
            return Err(InvokeError::NoComponent { component: component.clone(), known });
        }
        // Held while it is made, so that two callers do not both compile it.
        let mut invoked = self.invoked.lock().await;
        if let Some(prepared) = invoked.get(component) {
            return Ok(prepared.clone());
        }
        let prepared =
            self.host.prepare_slice(&self.plan, component).await.map(Arc::new).map_err(|error| {
                InvokeError::Prepare { component: component.clone(), failure: error.into() }
            })?;
        invoked.insert(component.clone(), prepared.clone());
        Ok(prepared)
    }
}

/// A function of an export.
struct Found {
    index: ComponentExportIndex,
    ty: ComponentFunc,
}

fn find(prepared: &Prepared, interface: &str, function: &str) -> Result<Found, InvokeError> {
    let component = prepared.pre.component();
    let engine = component.engine();
    let ty = component.component_type();
    let instances: Vec<(String, _)> = ty
        .exports(engine)
        .filter_map(|(name, item)| match item.ty {
            ComponentItem::ComponentInstance(instance) => Some((name.to_owned(), instance)),
            _ => None,
        })
        .collect();
    let wanted = interface.parse::<InterfacePattern>().ok();
    let matches = |name: &str| {
        name == interface
            || wanted
                .as_ref()
                .is_some_and(|wanted| name.parse::<InterfaceName>().is_ok_and(|name| wanted.matches(&name)))
    };
    let Some((name, instance)) = instances.iter().find(|(name, _)| matches(name)) else {
        return Err(InvokeError::NoInterface {
            component: prepared.root.clone(),
            interface: interface.to_owned(),
            known: list(instances.iter().map(|(name, _)| name)),
        });
    };
    let index = component
        .get_export_index(None, name)
        .and_then(|interface| component.get_export_index(Some(&interface), function));
    match (instance.get_export(engine, function).map(|item| item.ty), index) {
        (Some(ComponentItem::ComponentFunc(ty)), Some(index)) => Ok(Found { index, ty }),
        _ => Err(InvokeError::NoFunction {
            interface: name.clone(),
            function: function.to_owned(),
            known: list(instance.exports(engine).filter_map(|(name, item)| {
                matches!(item.ty, ComponentItem::ComponentFunc(_)).then(|| name.to_owned())
            })),
        }),
    }
}

fn parse(found: &Found, function: &str, arguments: &str) -> Result<Vec<Val>, InvokeError> {
    let not_text = |place: String, kind| InvokeError::NotText { function: function.to_owned(), place, kind };
    for (name, ty) in found.ty.params() {
        if let Some(kind) = without_text(&ty, 0) {
            return Err(not_text(format!("parameter `{name}`"), kind));
        }
    }
    for ty in found.ty.results() {
        if let Some(kind) = without_text(&ty, 0) {
            return Err(not_text("result".to_owned(), kind));
        }
    }
    let wrong = |message: String| InvokeError::Arguments { signature: signature(function, &found.ty), message };
    if arguments.len() > ARGUMENTS_MAX_BYTES {
        return Err(wrong(format!("they are longer than {ARGUMENTS_MAX_BYTES} bytes")));
    }
    let arguments = arguments.trim();
    // Any name will do; the parser wants one.
    let text = if arguments.starts_with('(') { format!("f{arguments}") } else { format!("f({arguments})") };
    let call = UntypedFuncCall::parse(&text).map_err(|error| wrong(error.to_string()))?;
    let types: Vec<Type> = found.ty.params().map(|(_, ty)| ty).collect();
    call.to_wasm_params::<Val>(types.iter()).map_err(|error| wrong(error.to_string()))
}

fn signature(function: &str, ty: &ComponentFunc) -> String {
    use wasmtime::component::wasm_wave::wasm::DisplayType;
    let parameters: Vec<String> =
        ty.params().map(|(name, ty)| format!("{name}: {}", DisplayType(&ty))).collect();
    format!("{function}({})", parameters.join(", "))
}

async fn call_function(
    prepared: &Prepared,
    call: Call,
    found: &Found,
    arguments: &[Val],
) -> Result<String, CallError> {
    let deadline = call.deadline;
    let mut store = prepared.store(call);
    let mut results = vec![Val::Bool(false); found.ty.results().len()];
    until(deadline, async {
        let instance = prepared.instantiate(&mut store).await?;
        let Some(function) = instance.get_func(&mut store, found.index) else {
            wasmtime::bail!("the function is gone from the instance");
        };
        function.call_async(&mut store, arguments, &mut results).await?;
        results
            .iter()
            .map(Val::to_wave)
            .collect::<wasmtime::Result<Vec<String>>>()
            .map(|texts| texts.join(", "))
    })
    .await
}

/// What in this type cannot be written down.
fn without_text(ty: &Type, depth: usize) -> Option<&'static str> {
    if depth > TYPE_DEPTH_MAX {
        return Some("a type nested too deeply");
    }
    let inner = |ty: &Type| without_text(ty, depth + 1);
    match ty {
        Type::Own(_) | Type::Borrow(_) => Some("a resource"),
        Type::Stream(_) => Some("a stream"),
        Type::Future(_) => Some("a future"),
        Type::ErrorContext => Some("an error context"),
        Type::List(list) => inner(&list.ty()),
        Type::Option(option) => inner(&option.ty()),
        Type::Record(record) => record.fields().find_map(|field| inner(&field.ty)),
        Type::Tuple(tuple) => tuple.types().find_map(|ty| inner(&ty)),
        Type::Variant(variant) => variant.cases().filter_map(|case| case.ty).find_map(|ty| inner(&ty)),
        Type::Result(result) => {
            result.ok().and_then(|ty| inner(&ty)).or_else(|| result.err().and_then(|ty| inner(&ty)))
        }
        _ => None,
    }
}

fn list(names: impl IntoIterator<Item = impl ToString>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{}`", name.to_string())).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
