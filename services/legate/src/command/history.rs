//! `legate agent history` and that of every other noun: what became of an object, write by write.

use legate_wire::registry::history_service_client::HistoryServiceClient;
use legate_wire::registry::{Kind, ListHistoryRequest, ListHistoryResponse};

use super::Desk;
use super::agent::{PAGE, cut, note};
use crate::cli::History;
use crate::output::{Row, history_row, write_history};
use crate::place::Service;
use crate::{Exit, Failure, proto};

pub(super) async fn history(desk: Desk, kind: Kind, ask: History) -> Result<Exit, Failure> {
    let limit = ask.limit.limit;
    let mut request = ListHistoryRequest { oldest_first: ask.oldest_first, page_size: PAGE, ..Default::default() };
    if ask.name.starts_with("agt_") || ask.name.starts_with("obj_") {
        request.id = ask.name;
    } else {
        request.kind = kind.into();
        (request.namespace, request.name) = super::declared::place(kind, &ask.name)?;
    }
    let registry = desk.line(Service::Registry)?;
    let mut whole = ListHistoryResponse::default();
    loop {
        let page = registry
            .ask(request.clone(), |c, r| async move { HistoryServiceClient::new(c).list_history(r).await })
            .await?;
        let mut entries = std::mem::take(&mut whole.entries);
        entries.extend(page.entries.iter().cloned());
        request.page_token = page.next_page_token.clone();
        whole = ListHistoryResponse { entries, ..page };
        if request.page_token.is_empty() || (limit > 0 && whole.entries.len() >= limit) {
            break;
        }
    }
    let more = cut(&mut whole.entries, limit) || !whole.next_page_token.is_empty();
    let mut out = desk.out();
    if out.is_table() {
        let note = note(whole.entries.len(), "write", more, whole.revision);
        write_history(&mut out, &whole, &note)?;
    } else {
        let rows: Vec<Row> = whole.entries.iter().map(history_row).collect();
        out.rows(&proto::dynamic(&whole), &rows, "")?;
    }
    Ok(Exit::Done)
}
