//! `legate audit export --format parquet`: a directory of files, by day and namespace, written some pages at a time.
//!
//! Rows wait in memory until there are enough of them, and become one file for each day and namespace that they are of. The files of one
//! step come into being together: they are written and synced under other names, the mark beside the directory says that they are
//! there and which page comes next, and only then they get their names. Who goes on from a mark gives them those names first.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use legate_wire::audit::{EventOrder, IndexedEvent, QueryEventsRequest};

use super::Desk;
use super::audit::{PAGE, each_page};
use super::audit_export::{Mark, cut_short, mark_path};
use super::query::question;
use crate::cli::{EventExport, ExportAs};
use crate::error::USAGE;
use crate::export::{Row, write_rows};
use crate::place::Service;
use crate::{Exit, Failure};

/// Rows of one step, and their bytes.
const ROWS: usize = 50_000;
const BYTES: usize = 64 << 20;

/// Behind the name of a file that is not whole or not on record yet.
const NEW: &str = ".new";

/// What stands for no namespace, as everybody who partitions directories so has it.
const NONE: &str = "__HIVE_DEFAULT_PARTITION__";

pub(super) async fn run(desk: Desk, args: EventExport) -> Result<Exit, Failure> {
    let missing = || Failure::local(&USAGE, "--format parquet writes a directory of files: give --out DIR");
    let dir = args.out.clone().ok_or_else(missing)?;
    let mut shelf = match args.resume {
        true => Shelf::open_again(&dir)?,
        false => {
            let asked = question(&desk, args.filter).await?;
            // In the order of the log, so that the leaves of a file are those between its first and its last.
            Shelf::begin(&dir, &QueryEventsRequest { order: EventOrder::OldestFirst.into(), ..asked })?
        }
    };
    let request = QueryEventsRequest { page_size: PAGE, ..shelf.mark.question(&shelf.mark_at)? };
    let audit = desk.line(Service::Audit)?;
    let written = each_page(&audit, request, |page| {
        shelf.take(&page.events, &page.next_page_token)?;
        Ok(true)
    })
    .await;
    written.map_err(|failure| cut_short(failure, &dir))?;
    let rows = shelf.end()?;
    crate::output::say(&format!("{rows} events written to {}", dir.display()));
    Ok(Exit::Done)
}

/// An export in a directory, and its mark beside it.
#[derive(Debug)]
struct Shelf {
    dir: PathBuf,
    mark_at: PathBuf,
    mark: Mark,
    /// What waits.
    rows: Vec<Row>,
    bytes: usize,
    /// The most rows of one step.
    most: usize,
}

impl Shelf {
    fn begin(dir: &Path, request: &QueryEventsRequest) -> Result<Self, Failure> {
        let refused = |e: std::io::Error| Failure::file(dir, e);
        let mark_at = mark_path(dir);
        if mark_at.exists() {
            return Err(Failure::file(
                &mark_at,
                "an export to this directory was cut short: go on with it by --resume, or remove both",
            ));
        }
        std::fs::create_dir_all(dir).map_err(refused)?;
        if std::fs::read_dir(dir).map_err(refused)?.next().is_some() {
            return Err(Failure::file(dir, "it is not empty; nothing is overwritten"));
        }
        let mut mark = Mark::begin(ExportAs::Parquet, request)?;
        // From the first file on there is something to go on with.
        mark.keep(&mark_at, "")?;
        Ok(Self { dir: dir.to_owned(), mark_at, mark, rows: Vec::new(), bytes: 0, most: ROWS })
    }

    fn open_again(dir: &Path) -> Result<Self, Failure> {
        let mark_at = mark_path(dir);
        let mark = Mark::kept(&mark_at)?;
        if !mark.is(ExportAs::Parquet) {
            return Err(Failure::file(&mark_at, "it is of an export into a file, and this is a directory"));
        }
        let shelf = Self { dir: dir.to_owned(), mark_at, mark, rows: Vec::new(), bytes: 0, most: ROWS };
        shelf.name()?;
        // What is not on record is asked for again.
        remove_unnamed(dir).map_err(|e| Failure::file(dir, e))?;
        Ok(shelf)
    }

    /// Takes a page, and what the next one is asked for with.
    fn take(&mut self, events: &[IndexedEvent], next: &str) -> Result<(), Failure> {
        for event in events {
            let row = Row::of(event).map_err(|e| Failure::file(&self.dir, e))?;
            self.bytes += row.size();
            self.rows.push(row);
        }
        if next.is_empty() || self.rows.len() >= self.most || self.bytes >= BYTES {
            self.step(next)?;
        }
        Ok(())
    }

    fn step(&mut self, next: &str) -> Result<(), Failure> {
        let mut parts: BTreeMap<(String, String), Vec<Row>> = BTreeMap::new();
        self.mark.rows += self.rows.len() as u64;
        self.bytes = 0;
        for row in self.rows.drain(..) {
            parts.entry(row.partition()).or_default().push(row);
        }
        let mut names = Vec::with_capacity(parts.len());
        for (partition, rows) in parts {
            let name = name_of(&partition, &rows);
            let path = self.dir.join(&name);
            self.write(&path, &rows).map_err(|e| Failure::file(&path, e))?;
            names.push(name);
        }
        self.mark.pending = names;
        self.mark.keep(&self.mark_at, next)?;
        self.name()
    }

    /// Writes a file under its other name, and syncs it.
    fn write(&self, path: &Path, rows: &[Row]) -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(unnamed(path))?;
        let file = write_rows(file, rows).map_err(std::io::Error::other)?;
        file.sync_all()
    }

    /// Gives the files that are on record their names. What has its name already is left.
    fn name(&self) -> Result<(), Failure> {
        for name in &self.mark.pending {
            let path = self.dir.join(name);
            let named = || {
                match std::fs::rename(unnamed(&path), &path) {
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound && path.exists() => {}
                    other => other?,
                }
                // The file's own folder, and those that may have been made for it.
                path.ancestors().skip(1).take(4).try_for_each(|folder| match File::open(folder) {
                    Ok(folder) => folder.sync_all(),
                    Err(_) => Ok(()),
                })
            };
            named().map_err(|e| Failure::file(&path, e))?;
        }
        Ok(())
    }

    /// How many rows there are.
    fn end(self) -> Result<u64, Failure> {
        let _gone = std::fs::remove_file(&self.mark_at);
        Ok(self.mark.rows)
    }
}

fn unnamed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(NEW);
    name.into()
}

/// `day=DAY/namespace=NAMESPACE/leaves-FIRST-LAST.parquet`.
fn name_of((day, namespace): &(String, String), rows: &[Row]) -> String {
    let (first, last) = (rows.first().map_or(0, Row::leaf), rows.last().map_or(0, Row::leaf));
    let namespace = if namespace.is_empty() { NONE.to_owned() } else { escaped(namespace) };
    format!("day={day}/namespace={namespace}/leaves-{first:012}-{last:012}.parquet")
}

/// A text as a part of a path: everything but letters, digits and a few signs as `%` and two digits. A namespace of ours is as it is.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(char::from(byte)),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

fn remove_unnamed(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            remove_unnamed(&entry.path())?;
        } else if kind.is_file() && entry.file_name().to_string_lossy().ends_with(NEW) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
