//! `node-agent`: config, build, run, drain.

use std::process::ExitCode;
use std::time::Duration;

use node_agent::agent;
use node_agent::config::{self, Config, ConfigError, LogFormat};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// How long blocking work (a compilation, a statement) may take to end after everything else has.
const BLOCKING_PATIENCE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let config = match config::read(std::env::args_os()) {
        Ok(config) => config,
        Err(ConfigError::Arguments(error)) => error.exit(),
        Err(error) => {
            start_logging(LogFormat::Text, "info");
            return fail(&error);
        }
    };
    start_logging(config.log_format, &config.log_filter);
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error),
    }
}

fn run(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ran = runtime.block_on(agent::run(config, asked_to_stop()));
    runtime.shutdown_timeout(BLOCKING_PATIENCE);
    Ok(ran?)
}

fn start_logging(format: LogFormat, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
}

/// The whole chain of an error, once.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    tracing::error!("{text}");
    ExitCode::FAILURE
}

async fn asked_to_stop() {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without signals the process runs until it is killed, which loses nothing that was accepted.
        _ => std::future::pending().await,
    }
}
