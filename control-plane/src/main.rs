//! `control-plane`: config, build, run, drain.

use std::io::Write as _;
use std::process::ExitCode;

use control_plane::config::{LogFormat, Program};
use control_plane::server;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let program = Program::parse();
    let (log_format, usual) = match &program {
        Program::Run(config) => (config.log_format, "info,openraft=warn"),
        // Who runs it waits for what it says in the end.
        Program::Maintain(_) => (LogFormat::Text, "warn,openraft=off"),
    };
    if let Err(error) = start_logging(log_format, usual) {
        // There is no log yet to say it in.
        clap::Error::raw(clap::error::ErrorKind::InvalidValue, format!("WEFT_LOG: {error}\n")).exit();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let code = match program {
        Program::Run(config) => match runtime.block_on(server::run(*config, asked_to_stop())) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Program::Maintain(task) => match runtime.block_on(task.run()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&error),
        },
    };
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    code
}

fn start_logging(format: LogFormat, usual: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = match std::env::var("WEFT_LOG") {
        Ok(filter) => EnvFilter::builder().parse(filter)?,
        Err(_) => EnvFilter::new(usual),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// The end of a run.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    tracing::error!("{}", whole(error));
    ExitCode::FAILURE
}

/// The end of a task, for whoever waits for it.
fn refuse(error: &dyn std::error::Error) -> ExitCode {
    // Where the error stream is gone, the number is all that can be said.
    let _ = writeln!(std::io::stderr(), "error: {}", whole(error));
    ExitCode::FAILURE
}

/// The whole chain of an error, once.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

async fn asked_to_stop() {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without signals the process runs until it is killed, which loses nothing that was acknowledged.
        _ => std::future::pending().await,
    }
}
