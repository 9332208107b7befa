//! `legate audit tail`: what happens, as it happens.

use std::time::Duration;

use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::audit::{IndexedEvent, TailEventsRequest};
use tonic::Status;

use super::Desk;
use super::query::question;
use crate::cli::Filter;
use crate::output::{Format, Out, event_row};
use crate::place::Service;
use crate::{Exit, Failure};

/// The wait before a line that broke is taken up again.
const AGAIN: Duration = Duration::from_millis(500);

/// Follows the log until it is interrupted. A line that breaks is taken up again where it was; one that the collector ends
/// tells the token to go on with.
pub(super) async fn tail(desk: Desk, filter: Filter, resume: Option<String>) -> Result<Exit, Failure> {
    let query = question(&desk, filter).await?;
    let audit = desk.line(Service::Audit)?;
    let format = if desk.format == Format::Json { Format::Jsonl } else { desk.format };
    let mut request = TailEventsRequest { query: Some(query), resume_token: resume.unwrap_or_default() };
    audit.show(&request);
    loop {
        let opening = audit.open(|client| {
            let request = request.clone();
            async move { QueryServiceClient::new(client).tail_events(request).await }
        });
        let mut news = match opening.await {
            Ok(line) => line.into_inner(),
            Err(failure) => {
                tell(&request.resume_token);
                return Err(failure);
            }
        };
        let ended = loop {
            match news.message().await {
                Ok(Some(said)) => {
                    show(format, &said.events)?;
                    request.resume_token = said.resume_token;
                }
                Ok(None) => break None,
                Err(status) => break Some(status),
            }
        };
        let Some(ended) = ended.filter(|status| !passes(status) || request.resume_token.is_empty()) else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        tell(&request.resume_token);
        return Err(audit.failure(&ended));
    }
}

/// Says how to go on where this tail ended.
fn tell(resume_token: &str) {
    if !resume_token.is_empty() {
        crate::output::say(&format!("go on with --resume {resume_token}"));
    }
}

/// Whether a line that ended so can be taken up again: it broke, or the collector went away.
fn passes(status: &Status) -> bool {
    status.code() == tonic::Code::Unavailable
}

fn show(format: Format, events: &[IndexedEvent]) -> Result<(), Failure> {
    let mut out = Out::stdout(format);
    for event in events {
        if out.is_table() {
            out.line(&one_line(event, format == Format::Wide))?;
        } else {
            out.items(&[event_row(event)])?;
        }
    }
    out.flush()?;
    Ok(())
}

fn one_line(event: &IndexedEvent, wide: bool) -> String {
    let row = event_row(event);
    let cells = row.cells.iter().filter(|c| (wide || !c.1) && !c.2.is_empty());
    cells.map(|c| crate::output::escape::visible(&c.2).into_owned()).collect::<Vec<_>>().join("  ")
}
