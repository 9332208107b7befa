//! What tokens leave on disk: bytes for each token in each service's files, while it waits to be shipped and after, and the rows that stay.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement};

use crate::apart::Apart;
use crate::house::House;
use crate::load::count;
use crate::oauth::OauthClient;
use crate::{Failed, stored};

/// Some of a service's files.
struct Place {
    what: &'static str,
    dir: PathBuf,
    is_of: fn(&Path) -> bool,
}

fn places(house: &House) -> [Place; 5] {
    let layout = house.suite.layout();
    let place = |what, dir, is_of| Place { what, dir, is_of };
    [
        place("credential-issuer: its database and journal", layout.service("credential-issuer"), |_| true),
        place("policy-decision: the spool", layout.service("policy-decision"), |_| true),
        place("audit-collector: the log's segments", layout.log(), |path| path.extension().is_some_and(|e| e == "seg")),
        place("audit-collector: tiles", layout.log(), |path| path.components().any(|c| c.as_os_str() == "tile")),
        place("audit-collector: the index", layout.log(), |path| {
            path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("index"))
        }),
    ]
}

fn sizes(places: &[Place]) -> Result<Vec<i64>, Failed> {
    places.iter().map(|place| Ok(i64::try_from(stored::bytes(&place.dir, place.is_of)?)?)).collect()
}

/// Issues so many tokens by client secrets, and prints what they leave.
pub(crate) async fn measure(house: &House, apart: &Apart, clients: &[OauthClient], tokens: u32) -> Result<(), Failed> {
    let places = places(house);
    apart.cpu_at_rest().await?;
    let rows = Rows::of(house).await?;
    let (before, rows_before) = (sizes(&places)?, rows.count().await?);
    let begin = Instant::now();
    issue(clients, tokens).await?;
    let took = begin.elapsed();
    let waiting = sizes(&places)?;
    rows.until_shipped().await?;
    apart.cpu_at_rest().await?;
    let (after, rows_after) = (sizes(&places)?, rows.count().await?);

    let all = count(usize::try_from(tokens)?);
    println!(
        "\nstorage: {tokens} tokens by client secret, {:.0} /s; bytes for each token, which is MB for 1,000,000",
        all / took.as_secs_f64()
    );
    println!("  {:<46} {:>18} {:>18}", "files", "as the last came", "once all is shipped");
    for (at, place) in places.iter().enumerate() {
        let of = |sizes: &[i64]| grown(sizes, &before, at).map(|grown| grown / all);
        println!("  {:<46} {:>18.1} {:>18.1}", place.what, of(&waiting)?, of(&after)?);
    }
    println!("  rows of credential-issuer's tables that became more:");
    let mut is_any = false;
    for (table, rows) in &rows_after {
        let more = rows - rows_before.get(table).copied().unwrap_or_default();
        if more > 0 {
            is_any = true;
            println!("    {table}: {more}");
        }
    }
    if !is_any {
        println!("    none");
    }
    Ok(())
}

fn grown(sizes: &[i64], before: &[i64], at: usize) -> Result<f64, Failed> {
    let both = sizes.get(at).zip(before.get(at)).ok_or("a place that was not measured")?;
    Ok(f64::from(i32::try_from((both.0 - both.1) / 1_000)?) * 1_000.0)
}

/// So many tokens, whoever asks for them.
async fn issue(clients: &[OauthClient], tokens: u32) -> Result<(), Failed> {
    let left = Arc::new(AtomicU32::new(tokens));
    let mut callers = tokio::task::JoinSet::new();
    for client in clients {
        let (client, left) = (client.clone(), Arc::clone(&left));
        callers.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                client.token().await?;
            }
            Ok::<_, Failed>(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

/// credential-issuer's database, read beside it.
struct Rows(DatabaseConnection);

impl Rows {
    async fn of(house: &House) -> Result<Self, Failed> {
        let dir = house.suite.layout().service("credential-issuer");
        let files = std::fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
        let file = files.into_iter().map(|file| file.path()).find(|path| path.extension().is_some_and(|e| e == "db"));
        let file = file.ok_or("credential-issuer has no database")?;
        Ok(Self(Database::connect(format!("sqlite:{}?mode=ro", file.display())).await?))
    }

    async fn numbers(&self, sql: &str) -> Result<i64, Failed> {
        let row = self.0.query_one_raw(Statement::from_string(DbBackend::Sqlite, sql)).await?;
        Ok(row.ok_or("no answer")?.try_get_by_index(0)?)
    }

    /// Rows by table.
    async fn count(&self) -> Result<BTreeMap<String, i64>, Failed> {
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table'";
        let mut rows = BTreeMap::new();
        for row in self.0.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await? {
            let name: String = row.try_get_by_index(0)?;
            rows.insert(name.clone(), self.numbers(&format!("SELECT count(*) FROM \"{name}\"")).await?);
        }
        Ok(rows)
    }

    /// Waits until no event waits.
    async fn until_shipped(&self) -> Result<(), Failed> {
        let begin = Instant::now();
        while self.numbers("SELECT count(*) FROM outbox").await? > 0 {
            if begin.elapsed().as_secs() > 60 {
                return Err("the outbox is not empty after a minute".into());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(())
    }
}
