//! `ctl version`: what this program is and speaks.

use clap::Args;
use prost::Name as _;
use proto::weft;

use crate::cli::Format;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// The manifest formats that this version reads.
const MANIFEST_VERSIONS: [u32; 1] = [1];

/// Arguments of `version`.
#[derive(Debug, Args)]
pub struct VersionArguments {}

/// Prints.
pub async fn run(_: VersionArguments, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if session.format.is_structured() {
        let value = serde_json::json!({
            "version": version, "manifestVersions": MANIFEST_VERSIONS, "apis": apis(),
        });
        session.write_value(&value)?;
        return Ok(Exit::Done);
    }
    session.terminal.data_line(&format!("ctl {version}"))?;
    if session.format == Format::Wide {
        session
            .terminal
            .data_line(&format!("manifests {}", MANIFEST_VERSIONS.map(|n| n.to_string()).join(", ")))?;
        session.terminal.data_line(&format!("api {}", apis().join(", ")))?;
    }
    Ok(Exit::Done)
}

/// The packages of the API, as the messages that are built in name them.
fn apis() -> [&'static str; 6] {
    [
        weft::artifact::v1::StatRequest::PACKAGE,
        weft::event::v1::WatchRequest::PACKAGE,
        weft::graph::v1::DeployRequest::PACKAGE,
        weft::log::v1::TailRequest::PACKAGE,
        weft::node::v1::ListRequest::PACKAGE,
        weft::policy::v1::ApplyRequest::PACKAGE,
    ]
}
