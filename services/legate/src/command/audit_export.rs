//! `legate audit export`: events in the form that somebody else reads, page by page, and on from where it was cut short.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use legate_wire::audit::{EventOrder, IndexedEvent, QueryEventsRequest};
use serde::{Deserialize, Serialize};

use super::Desk;
use super::audit::{PAGE, each_page};
use super::audit_send::Receiver;
use super::query::question;
use crate::cli::{EventExport, ExportAs};
use crate::error::USAGE;
use crate::export::row;
use crate::output::{Format, Out, escape::visible_json};
use crate::place::Service;
use crate::{Exit, Failure, proto};

pub(super) async fn run(desk: Desk, args: EventExport) -> Result<Exit, Failure> {
    if let Some(to) = &args.to {
        let Some(mark_at) = args.mark.clone() else {
            return Err(Failure::local(&USAGE, "--to needs --mark FILE, which says how far the receiver is"));
        };
        if !args.resume && args.form != ExportAs::Otlp {
            return Err(Failure::local(&USAGE, "--to sends by OTLP: give --format otlp"));
        }
        let receiver = Receiver::at(to, args.to_ca.as_deref())?;
        let asked = match args.resume {
            true => None,
            false => Some(QueryEventsRequest {
                order: order(args.oldest_first).into(),
                ..question(&desk, args.filter).await?
            }),
        };
        return Box::pin(super::audit_send::run(&desk, &receiver, &mark_at, asked)).await;
    }
    // Which form it is that is gone on with, the destination says.
    let is_directory = args.resume && args.out.as_deref().is_some_and(Path::is_dir);
    if args.form == ExportAs::Parquet || is_directory {
        return super::export_columns::run(desk, args).await;
    }
    let audit = desk.line(Service::Audit)?;
    let order = order(args.oldest_first);
    let Some(path) = args.out else {
        let request =
            QueryEventsRequest { page_size: PAGE, order: order.into(), ..question(&desk, args.filter).await? };
        let mut out = Out::stdout(Format::Jsonl);
        each_page(&audit, request, |page| {
            for event in &page.events {
                out.line(&visible_json(&row(args.form, event).map_err(std::io::Error::other)?))?;
            }
            out.flush()?;
            Ok(true)
        })
        .await?;
        return Ok(Exit::Done);
    };
    let mut book = match args.resume {
        true => Book::open_again(&path)?,
        false => {
            let mut request = question(&desk, args.filter).await?;
            request.order = order.into();
            Book::begin(&path, args.form, &request)?
        }
    };
    let request = QueryEventsRequest { page_size: PAGE, ..book.question()? };
    let written = each_page(&audit, request, |page| {
        book.write(&page.events)?;
        book.mark(&page.next_page_token)?;
        Ok(true)
    })
    .await;
    written.map_err(|failure| cut_short(failure, &path))?;
    let rows = book.end()?;
    crate::output::say(&format!("{rows} events written to {}", path.display()));
    Ok(Exit::Done)
}

/// That what was written of an export stays, and how to go on.
pub(super) fn cut_short(mut failure: Failure, out: &Path) -> Failure {
    failure.next = format!(
        "{} What was written stays; go on with legate audit export --out {} --resume.",
        failure.next,
        out.display()
    );
    failure
}

fn order(oldest_first: bool) -> EventOrder {
    if oldest_first { EventOrder::OldestFirst } else { EventOrder::Unspecified }
}

/// How far an export is: what was asked, and how much of its answer is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    form: ExportAs,
    /// A QueryEventsRequest as JSON, with the token of the page that is next.
    question: serde_json::Value,
    pub(super) rows: u64,
    bytes: u64,
    /// Files that are whole, and may not have their names yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) pending: Vec<String>,
}

impl Mark {
    /// Nothing is written yet of what was asked.
    pub(super) fn begin(form: ExportAs, request: &QueryEventsRequest) -> Result<Self, Failure> {
        Ok(Self { form, question: json(request)?, rows: 0, bytes: 0, pending: Vec::new() })
    }

    /// The mark of an export that was cut short.
    pub(super) fn kept(at: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(at).map_err(|e| {
            let what = format!(
                "{}: {e}; an export that ended has none, and one that began anew is not gone on with",
                at.display()
            );
            Failure::local(&USAGE, what)
        })?;
        serde_json::from_str(&text).map_err(|e| Failure::file(at, e))
    }

    /// Whether it is of an export in this form.
    pub(super) fn is(&self, form: ExportAs) -> bool {
        self.form == form
    }

    /// What was asked, from the next page on.
    pub(super) fn question(&self, at: &Path) -> Result<QueryEventsRequest, Failure> {
        let of = proto::message("legate.audit.v1.QueryEventsRequest");
        let read = prost_reflect::DynamicMessage::deserialize(of, &self.question);
        let read = read.map_err(|e| Failure::file(at, e))?;
        read.transcode_to().map_err(|e| Failure::file(at, e))
    }

    /// Everything up to the page of this token is done, on disk.
    pub(super) fn keep(&mut self, at: &Path, next: &str) -> Result<(), Failure> {
        self.question["pageToken"] = next.into();
        let refused = |e: std::io::Error| Failure::file(at, e);
        let text = serde_json::to_string(self).map_err(|e| refused(e.into()))?;
        let mut new = at.as_os_str().to_owned();
        new.push(".new");
        let written =
            File::create(&new).and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        let named = written.and_then(|()| std::fs::rename(&new, at));
        let folder = at.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        named.and_then(|()| File::open(folder)?.sync_all()).map_err(refused)
    }
}

/// An export in a file, and its mark beside it.
struct Book {
    path: PathBuf,
    to: BufWriter<File>,
    mark: Mark,
}

pub(super) fn mark_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".resume");
    name.into()
}

impl Book {
    fn begin(path: &Path, form: ExportAs, request: &QueryEventsRequest) -> Result<Self, Failure> {
        let refused = |e: std::io::Error| Failure::file(path, e);
        let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(refused)?;
        let mark = Mark::begin(form, request)?;
        Ok(Self { path: path.to_owned(), to: BufWriter::new(file), mark })
    }

    fn open_again(path: &Path) -> Result<Self, Failure> {
        let mark = Mark::kept(&mark_path(path))?;
        let refused = |e: std::io::Error| Failure::file(path, e);
        let mut file = OpenOptions::new().write(true).open(path).map_err(refused)?;
        if file.metadata().map_err(refused)?.len() < mark.bytes {
            return Err(Failure::file(path, "it is shorter than it was when it was cut short"));
        }
        // What was written behind the mark is asked for again.
        file.set_len(mark.bytes).and_then(|()| file.seek(std::io::SeekFrom::End(0))).map_err(refused)?;
        Ok(Self { path: path.to_owned(), to: BufWriter::new(file), mark })
    }

    fn question(&self) -> Result<QueryEventsRequest, Failure> {
        self.mark.question(&mark_path(&self.path))
    }

    fn write(&mut self, events: &[IndexedEvent]) -> Result<(), Failure> {
        for event in events {
            let line = row(self.mark.form, event).map_err(|e| Failure::file(&self.path, e))?;
            writeln!(self.to, "{line}").map_err(|e| Failure::file(&self.path, e))?;
            self.mark.rows += 1;
            self.mark.bytes += line.len() as u64 + 1;
        }
        Ok(())
    }

    /// Everything so far is on disk, and only then the mark says so.
    fn mark(&mut self, next: &str) -> Result<(), Failure> {
        self.sync()?;
        self.mark.keep(&mark_path(&self.path), next)
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.to.flush().and_then(|()| self.to.get_ref().sync_data()).map_err(|e| Failure::file(&self.path, e))
    }

    fn end(mut self) -> Result<u64, Failure> {
        self.sync()?;
        let _gone = std::fs::remove_file(mark_path(&self.path));
        Ok(self.mark.rows)
    }
}

fn json(request: &QueryEventsRequest) -> Result<serde_json::Value, Failure> {
    let text = proto::json(&proto::dynamic(request), false).and_then(|text| serde_json::from_str(&text));
    Ok(text.map_err(std::io::Error::other)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn event(leaf_index: u64) -> IndexedEvent {
        IndexedEvent { leaf_index, leaf_hash: vec![7; 32], ..IndexedEvent::default() }
    }

    #[test]
    fn an_export_that_was_cut_short_goes_on_where_its_mark_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let asked = QueryEventsRequest { namespace: "payments".into(), ..QueryEventsRequest::default() };
        let mut book = Book::begin(&path, ExportAs::Cloudevents, &asked).unwrap();
        assert!(Book::begin(&path, ExportAs::Jsonl, &asked).is_err(), "nothing is overwritten");
        book.write(&[event(9), event(8)]).unwrap();
        book.mark("next").unwrap();
        // Half a page more, and then the power went.
        book.write(&[event(7)]).unwrap();
        book.sync().unwrap();
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + "{\"half").unwrap();
        drop(book);

        let mut book = Book::open_again(&path).unwrap();
        let request = book.question().unwrap();
        assert_eq!((request.namespace.as_str(), request.page_token.as_str()), ("payments", "next"));
        book.write(&[event(7)]).unwrap();
        book.mark("").unwrap();
        assert_eq!(book.end().unwrap(), 3);
        let text = std::fs::read_to_string(&path).unwrap();
        let leaf = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["leafindex"].to_string();
        assert_eq!(text.lines().map(leaf).collect::<Vec<_>>(), ["\"9\"", "\"8\"", "\"7\""]);
        assert_eq!(Book::open_again(&path).err().unwrap().reason, "USAGE", "it ended");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
