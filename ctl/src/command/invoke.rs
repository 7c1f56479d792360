//! `ctl invoke`: calls a function of a component with values written as WAVE.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use model::graph::{DEADLINE_DEFAULT, DEADLINE_MAX};
use proto::weft::graph::v1 as wire;

use crate::client::Services;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lookup;
use crate::reference::{ComponentReference, short};
use crate::session::Session;

/// What the way there and back may take beside the call itself.
const TRAVEL_PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `invoke`.
#[derive(Debug, Args)]
pub struct InvokeArguments {
    /// The component, `[namespace/]graph/component`.
    pub component: ComponentReference,
    /// The call, as in `acme:search/index@1.0.0#query("ada", 5)`.
    pub call: Call,
}

/// `interface#function(values)`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    interface: String,
    function: String,
    /// With the parentheses.
    arguments: String,
}

/// Why a text is no call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a call is written `interface#function(values)`, as in `acme:search/index@1.0.0#query(\"ada\", 5)`")]
pub struct CallFormError;

impl FromStr for Call {
    type Err = CallFormError;

    fn from_str(text: &str) -> Result<Self, CallFormError> {
        let (interface, call) = text.trim().split_once('#').ok_or(CallFormError)?;
        let open = call.find('(').ok_or(CallFormError)?;
        let (function, arguments) = call.split_at(open);
        if interface.is_empty() || function.trim().is_empty() || !arguments.ends_with(')') {
            return Err(CallFormError);
        }
        Ok(Self {
            interface: interface.trim().to_owned(),
            function: function.trim().to_owned(),
            arguments: arguments.to_owned(),
        })
    }
}

/// Calls. A call is not repeated: what it does in the component is not known here.
pub async fn run(arguments: InvokeArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let found = lookup::component(&session.client, &session.namespace, &arguments.component).await?;
    let Some(component) = found.component else {
        return Err(Failure::Usage(format!("name a component of {}, as in `{0}/app`", short(&found.key))));
    };
    let deadline = session.deadline.unwrap_or(DEADLINE_DEFAULT).min(DEADLINE_MAX);
    let request = wire::InvokeRequest {
        graph: found.key.to_string(),
        component: component.to_string(),
        interface: arguments.call.interface,
        function: arguments.call.function,
        arguments: arguments.call.arguments,
        deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
    };
    let patience = deadline.saturating_add(TRAVEL_PATIENCE);
    let call = |services: Services| async move { services.graphs().invoke(request).await };
    let answer = session.client.once_within(patience, call).await?;
    if session.format.is_structured() {
        session.write_message(&answer)?;
        return Ok(Exit::Done);
    }
    if !answer.result.is_empty() {
        session.terminal.data_line(&answer.result)?;
    }
    let took = Duration::from_micros(answer.elapsed_us);
    session.terminal.note(&format!("{:.1} ms on {}", took.as_secs_f64() * 1_000.0, answer.node))?;
    Ok(Exit::Done)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_an_interface_a_function_and_values() {
        let call: Call = "acme:search/index@1.0.0#query(\"a#(b)\", 5)".parse().unwrap();
        assert_eq!(call.interface, "acme:search/index@1.0.0");
        assert_eq!(call.function, "query");
        assert_eq!(call.arguments, "(\"a#(b)\", 5)");
        assert_eq!("a:b/c#f()".parse::<Call>().unwrap().arguments, "()");
        for wrong in ["", "query()", "a:b/c#f", "a:b/c#(1)", "#f()", "a:b/c#f(1"] {
            assert_eq!(wrong.parse::<Call>(), Err(CallFormError), "{wrong:?}");
        }
    }
}
