//! Functions whose values go straight between the guest's memory and the link.

use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use super::{Function, begin, deadline, exchange, failed, on_loss, protocol, wrong_answer};
use crate::host::state::State;
use crate::link::encoding::{Cells, FromGuest, IN_MEMORY, ToGuest, TooLong, with_cells};
use crate::traces::Trace;

/// Makes `called` the function `name`.
pub(super) fn offer(
    linker: &mut LinkerInstance<'_, State>,
    name: &str,
    cells: Cells,
    called: &Arc<Function>,
) -> wasmtime::Result<()> {
    let called = called.clone();
    with_cells!(cells.arguments, ARGUMENTS => match cells.result {
        0 => wrap::<ARGUMENTS, 0>(linker, name, called),
        1 => wrap::<ARGUMENTS, 1>(linker, name, called),
        _ => wrap::<ARGUMENTS, { IN_MEMORY }>(linker, name, called),
    })
}

fn wrap<const ARGUMENTS: usize, const RESULT: usize>(
    linker: &mut LinkerInstance<'_, State>,
    name: &str,
    called: Arc<Function>,
) -> wasmtime::Result<()> {
    linker.func_wrap_async(name, move |store, FromGuest(arguments): FromGuest<ARGUMENTS>| {
        let called = called.clone();
        Box::new(async move {
            let (answer, trace) = call(store, &called, arguments).await?;
            Ok(ToGuest::<RESULT>::result(answer, move |error| failed(wrong_answer(&error), &called, &trace)))
        })
    })
}

/// The answer to a call, and the trace of it.
async fn call(
    mut store: StoreContextMut<'_, State>,
    called: &Function,
    arguments: Result<Vec<u8>, TooLong>,
) -> wasmtime::Result<(Vec<u8>, Trace)> {
    let mut span = begin(&store, called);
    let outcome = match arguments {
        Ok(arguments) => {
            // No handle is among them.
            let terms = (deadline(&store, called), called.idempotent);
            exchange(&mut store, called, arguments, terms, &mut span).await
        }
        Err(too_long) => Err(protocol(format!("the arguments have {too_long}"))),
    };
    let answer = match span.ended(outcome) {
        Ok(answer) => {
            span.returned(answer.len());
            answer
        }
        Err(failure) => {
            let (error, why) = on_loss(&store, called, &span, failure)?;
            called.signature.encode_error(error, why)?
        }
    };
    Ok((answer, span.trace().clone()))
}
