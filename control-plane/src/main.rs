//! `control-plane`: config, build, run, drain.

use std::process::ExitCode;

use clap::Parser as _;
use control_plane::config::{Config, LogFormat};
use control_plane::server;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(error) = start_logging(config.log_format) {
        // There is no log yet to say it in.
        clap::Error::raw(clap::error::ErrorKind::InvalidValue, format!("WEFT_LOG: {error}\n")).exit();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let ran = runtime.block_on(server::run(config, asked_to_stop()));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn start_logging(format: LogFormat) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = match std::env::var("WEFT_LOG") {
        Ok(filter) => EnvFilter::builder().parse(filter)?,
        Err(_) => EnvFilter::new("info,openraft=warn"),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
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
        // Without signals the process runs until it is killed, which loses nothing that was acknowledged.
        _ => std::future::pending().await,
    }
}
