//! The last events of one object, at the end of pages that explain it.

use proto::weft::event::v1 as wire;

use crate::client::{CallError, Client, Services};
use crate::clock::now_ms;
use crate::failure::Failure;
use crate::render::table::{Table, printable};
use crate::render::time;
use crate::session::Session;

/// The last `most` events whose subject is `subject`, oldest first.
pub(in crate::command) async fn events(
    client: &Client,
    subject: &str,
    most: usize,
) -> Result<Vec<wire::Event>, CallError> {
    let call = |services: Services| {
        let request = wire::WatchRequest { subject: subject.to_owned(), ..wire::WatchRequest::default() };
        async move { services.events().watch(request).await }
    };
    let mut stream = client.stream(call).await?;
    let mut last = std::collections::VecDeque::new();
    // The control plane keeps a bounded number of events, and ends the stream behind the last one.
    while let Some(event) = stream.message().await.map_err(|status| client.error(status))? {
        last.push_back(event);
        if last.len() > most {
            last.pop_front();
        }
    }
    Ok(last.into())
}

/// Shows them under a heading; nothing if there are none.
pub(in crate::command) fn show(events: &[wire::Event], session: &mut Session<'_>) -> Result<(), Failure> {
    if events.is_empty() {
        return Ok(());
    }
    let now_ms = now_ms();
    let mut table = Table::new(["TIME", "EVENT", "MESSAGE"]);
    for event in events {
        table.row([time::moment(event.time_ms, now_ms), event.reason.clone(), printable(&event.message)]);
    }
    session.terminal.data(&format!("\n{}", table.render(session.terminal.look().width)))?;
    Ok(())
}
