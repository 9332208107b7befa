//! Many rows at once, on each database: whatever values they have, they come back, and nothing else goes with them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;

use legate_db::testing::on_each;
use legate_db::{Db, TxError, create_tables, rows};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{DbErr, QueryOrder as _};
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "thing")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) place: i32,
    pub(crate) small: i16,
    pub(crate) large: i64,
    pub(crate) maybe: Option<i64>,
    pub(crate) is_good: bool,
    #[sea_orm(column_type = "Blob")]
    pub(crate) body: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Things)]
    }
}

struct Things;

impl MigrationName for Things {
    fn name(&self) -> &str {
        "things"
    }
}

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Things {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = "CREATE TABLE thing (name {TEXT} NOT NULL, place INTEGER NOT NULL, small SMALLINT NOT NULL, \
                     large BIGINT NOT NULL, maybe BIGINT, is_good BOOLEAN NOT NULL, body {BYTES} NOT NULL, \
                     PRIMARY KEY (name, place)) {BY_KEY};";
        create_tables(manager, table).await
    }
}

/// More than fit into one statement of either database.
const MANY: i32 = 5_000;

fn thing(place: i32) -> Model {
    let names = ["plain", "", "'quoted'", "\"{a,b}\"", "back\\slash", "NULL", "é\u{1f980}", "a,b\n$1 ?"];
    let at = usize::try_from(place).unwrap();
    Model {
        name: names[at % names.len()].to_owned(),
        place,
        small: i16::try_from(place % 100).unwrap() - 50,
        large: i64::MAX - i64::from(place),
        maybe: (place % 3 > 0).then_some(i64::from(place) - 1_000),
        is_good: place % 2 == 0,
        body: (0..at % 300).map(|n| u8::try_from(n % 256).unwrap()).collect(),
    }
}

async fn insert(db: &Db, all: Vec<Model>, conflict: Option<OnConflict>) -> Result<(), TxError<Infallible>> {
    db.tx("insert", move |tx| {
        let (all, conflict) = (all.clone(), conflict.clone());
        Box::pin(async move { Ok(rows::insert::<Entity>(tx, all, conflict.as_ref()).await?) })
    })
    .await
}

async fn remove(db: &Db, all: Vec<Model>) -> Result<(), TxError<Infallible>> {
    db.tx("remove", move |tx| {
        let all = all.clone();
        Box::pin(async move { Ok(rows::remove::<Entity>(tx, all).await?) })
    })
    .await
}

async fn all(db: &Db) -> Vec<Model> {
    let read = db.read("all", |tx| {
        Box::pin(async move { Ok::<_, TxError<Infallible>>(Entity::find().order_by_asc(Column::Place).all(tx).await?) })
    });
    read.await.unwrap()
}

#[tokio::test]
async fn rows_come_back_as_they_were_written() {
    on_each::<Migrator>(async |fixture| {
        let db = &fixture.db;
        let things: Vec<Model> = (0..MANY).map(thing).collect();
        insert(db, Vec::new(), None).await.unwrap();
        insert(db, things.clone(), None).await.unwrap();
        assert_eq!(all(db).await, things);

        // One key that is there, and nothing of the rest is written.
        let again = [thing(MANY), thing(3), thing(MANY + 1)].to_vec();
        assert!(insert(db, again, None).await.is_err());
        assert_eq!(all(db).await.len(), things.len());

        let changed = |place| Model { body: vec![9], maybe: None, large: -1, ..thing(place) };
        let key =
            OnConflict::columns([Column::Name, Column::Place]).update_columns([Column::Body, Column::Maybe]).to_owned();
        insert(db, (MANY - 10..MANY + 10).map(changed).collect(), Some(key)).await.unwrap();
        let now = all(db).await;
        assert_eq!(&now[..4_990], &things[..4_990]);
        for (place, thing) in (4_990..).zip(&now[4_990..]) {
            let large = if place < MANY { i64::MAX - i64::from(place) } else { -1 };
            assert_eq!(*thing, Model { large, ..changed(place) });
        }
        assert_eq!(now.len(), 5_010);
    })
    .await;
}

#[tokio::test]
async fn rows_go_by_their_whole_keys() {
    on_each::<Migrator>(async |fixture| {
        let db = &fixture.db;
        let things: Vec<Model> = (0..MANY).map(thing).collect();
        insert(db, things.clone(), None).await.unwrap();
        // Of one half of a key there are many others, and some were never there.
        let (mut go, stay): (Vec<_>, Vec<_>) = things.into_iter().partition(|thing| thing.place % 2 == 1);
        go.push(Model { name: "plain".into(), ..thing(2) });
        remove(db, go).await.unwrap();
        assert_eq!(all(db).await, stay);
        let found = db.read("some", |tx| {
            Box::pin(async move {
                let names = ["plain", "'quoted'", "nobody"].map(str::to_owned).to_vec();
                let find = Entity::find().filter(rows::among(tx, Column::Name, names));
                Ok::<_, TxError<Infallible>>(find.all(tx).await?.len())
            })
        });
        assert_eq!(found.await.unwrap(), stay.iter().filter(|t| ["plain", "'quoted'"].contains(&&*t.name)).count());
    })
    .await;
}
